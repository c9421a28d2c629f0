package integration

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/diseq/diseq/api/v1alpha1"
	"github.com/diseq/diseq/test/integration/harness"
)

// change is what somebody does to an object with kubectl.
type change struct {
	name   string
	kind   client.Object
	object string
	// patch is a merge patch, or a strategic one if the API merges the list by a key.
	patch     string
	strategic bool
}

func (c *cluster) by(manager string, changes ...change) {
	c.t.Helper()
	for _, ch := range changes {
		object := ch.kind.DeepCopyObject().(client.Object)
		object.SetName(ch.object)
		object.SetNamespace(c.namespace)
		kind := types.MergePatchType
		if ch.strategic {
			kind = types.StrategicMergePatchType
		}
		if err := c.client.Patch(c.t.Context(), object, client.RawPatch(kind, []byte(ch.patch)), client.FieldOwner(manager)); err != nil {
			c.t.Fatalf("%s: %v", ch.name, err)
		}
	}
}

// content is an object without what every write changes.
func (c *cluster) content(kind client.Object, name string) map[string]any {
	c.t.Helper()
	object := kind.DeepCopyObject().(client.Object)
	c.get(name, object)
	object.SetManagedFields(nil)
	object.SetResourceVersion("")
	object.SetGeneration(0)
	tree, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
	if err != nil {
		c.t.Fatal(err)
	}
	delete(tree, "status")
	return tree
}

func container(patch string) string {
	return `{"spec":{"template":{"spec":{"containers":[{"name":"node",` + patch + `}]}}}}`
}

func podSpec(patch string) string { return `{"spec":{"template":{"spec":{` + patch + `}}}}` }

// reverted are changes of what runs, or of who reaches it.
func reverted() []change {
	var (
		service = &corev1.Service{}
		budget  = &policyv1.PodDisruptionBudget{}
		policy  = &networkingv1.NetworkPolicy{}
		set     = &appsv1.StatefulSet{}
		file    = &corev1.ConfigMap{}
		account = &corev1.ServiceAccount{}
	)
	return []change{
		{"a key more in the selector of the clients' Service", service, "demo", `{"spec":{"selector":{"track":"blue"}}}`, false},
		{"an address that leads to the Service", service, "demo", `{"spec":{"externalIPs":["192.0.2.7"]}}`, false},
		{"a port more", service, "demo", `{"spec":{"ports":[{"name":"operations","port":9090,"targetPort":"operations"}]}}`, true},
		{"another port of the pods", service, "demo", `{"spec":{"ports":[{"port":8080,"targetPort":9090}]}}`, true},
		{"pods that are not ready", service, "demo", `{"spec":{"publishNotReadyAddresses":true}}`, false},
		{"a name instead of pods", service, "demo", `{"spec":{"type":"ExternalName","externalName":"example.org"}}`, false},
		{"the Service on every machine", service, "demo", `{"spec":{"type":"NodePort"}}`, false},
		{"the peers' names elsewhere", service, "demo-peers", `{"spec":{"selector":{"track":"blue"},"publishNotReadyAddresses":false}}`, false},
		{"a budget by its other field", budget, "demo", `{"spec":{"minAvailable":null,"maxUnavailable":4}}`, false},
		{"a budget of other pods", budget, "demo", `{"spec":{"selector":{"matchExpressions":[{"key":"track","operator":"Exists"}]}}}`, false},
		{"a budget of ready pods", budget, "demo", `{"spec":{"unhealthyPodEvictionPolicy":"IfHealthyBudget"}}`, false},
		{"everybody is let in", policy, "demo-default-deny", `{"spec":{"ingress":[{}],"egress":[{}]}}`, false},
		{"peers from elsewhere", policy, "demo-peers", `{"spec":{"ingress":[{"ports":[{"port":7700}]}]}}`, false},
		{"other pods' policy", policy, "demo-clients", `{"spec":{"podSelector":{"matchLabels":{"track":"blue"}}}}`, false},
		{"only one direction", policy, "demo-default-deny", `{"spec":{"policyTypes":["Ingress"]}}`, false},
		{"a file more", file, "demo-config", `{"data":{"more.yaml":"x"},"binaryData":{"b":"eA=="}}`, false},
		{"another configuration", file, "demo-config", `{"data":{"node.yaml":"x"}}`, false},
		{"a token in the pod", account, "demo-v0", `{"automountServiceAccountToken":null}`, false},
		{"another owner of the keys", &corev1.Secret{}, "demo-v0",
			`{"metadata":{"ownerReferences":[{"apiVersion":"v1","kind":"ConfigMap","name":"x","uid":"0000"}]}}`, false},
		{"another owner of the chain", &corev1.PersistentVolumeClaim{}, "demo-v0",
			`{"metadata":{"ownerReferences":[{"apiVersion":"v1","kind":"ConfigMap","name":"x","uid":"0000"}]}}`, false},
		{"no pod", set, "demo-v0", `{"spec":{"replicas":0}}`, false},
		{"another order of updates", set, "demo-v0", `{"spec":{"updateStrategy":{"type":"RollingUpdate","rollingUpdate":{"partition":1}}}}`, false},
		{"a claim that goes with the set", set, "demo-v0", `{"spec":{"persistentVolumeClaimRetentionPolicy":{"whenDeleted":"Delete"}}}`, false},
		{"a slower start", set, "demo-v0", `{"spec":{"minReadySeconds":600}}`, false},
		{"a container more", set, "demo-v0", podSpec(`"containers":[{"name":"more","image":"more:v1"}]`), true},
		{"a container before", set, "demo-v0", podSpec(`"initContainers":[{"name":"first","image":"first:v1"}]`), true},
		{"a volume more", set, "demo-v0", podSpec(`"volumes":[{"name":"host","hostPath":{"path":"/"}}]`), true},
		{"a volume of something else", set, "demo-v0", podSpec(`"volumes":[{"name":"scratch","emptyDir":{"medium":"Memory"}}]`), true},
		{"the network of the machine", set, "demo-v0", podSpec(`"hostNetwork":true,"hostPID":true,"dnsPolicy":"Default"`), true},
		{"users of the machine", set, "demo-v0", podSpec(`"hostUsers":false`), true},
		{"another account", set, "demo-v0", podSpec(`"serviceAccountName":"default","automountServiceAccountToken":true`), true},
		{"another machine", set, "demo-v0", podSpec(`"nodeSelector":{"disk":"slow"},"tolerations":[{"operator":"Exists"}]`), true},
		{"another spread", set, "demo-v0", podSpec(`"topologySpreadConstraints":[{"maxSkew":1,"topologyKey":"zone","whenUnsatisfiable":"DoNotSchedule"}]`), true},
		{"an affinity", set, "demo-v0", podSpec(`"affinity":{"nodeAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":` +
			`{"nodeSelectorTerms":[{"matchExpressions":[{"key":"x","operator":"Exists"}]}]}}}`), true},
		{"root", set, "demo-v0", podSpec(`"securityContext":{"runAsNonRoot":false,"supplementalGroups":[0],"sysctls":[{"name":"a","value":"b"}]}`), true},
		{"a shorter end", set, "demo-v0", podSpec(`"terminationGracePeriodSeconds":1,"schedulerName":"mine"`), true},
		{"another image", set, "demo-v0", container(`"image":"other:v1"`), true},
		{"another program", set, "demo-v0", container(`"command":["sh"],"workingDir":"/tmp"`), true},
		{"other arguments", set, "demo-v0", container(`"args":["node","--more"]`), true},
		{"variables", set, "demo-v0", container(`"env":[{"name":"GODEBUG","valueFrom":{"fieldRef":{"fieldPath":"metadata.name"}}}],"envFrom":[{"configMapRef":{"name":"x"}}]`), true},
		{"no probe of its life", set, "demo-v0", container(`"livenessProbe":null`), true},
		{"another probe", set, "demo-v0", container(`"readinessProbe":{"periodSeconds":60,"successThreshold":2},"lifecycle":{"preStop":{"sleep":{"seconds":5}}}`), true},
		{"a port of the container", set, "demo-v0", container(`"ports":[{"name":"debug","containerPort":6060}]`), true},
		{"more rights", set, "demo-v0", container(`"securityContext":{"capabilities":{"add":["NET_ADMIN"]},"readOnlyRootFilesystem":null}`), true},
		{"limits", set, "demo-v0", container(`"resources":{"limits":{"memory":"2Gi"}}`), true},
		{"a place to write", set, "demo-v0", container(`"volumeMounts":[{"name":"scratch","mountPath":"/var"}]`), true},
	}
}

// left are changes that others may make.
func left() []change {
	service, set := &corev1.Service{}, &appsv1.StatefulSet{}
	return []change{
		{"session affinity", service, "demo", `{"spec":{"sessionAffinity":"ClientIP"}}`, false},
		{"traffic policies", service, "demo", `{"spec":{"internalTrafficPolicy":"Local","trafficDistribution":"PreferSameZone"}}`, false},
		{"address families", service, "demo", `{"spec":{"ipFamilyPolicy":"PreferDualStack"}}`, false},
		{"annotations, labels and finalizers of a cloud", service, "demo",
			`{"metadata":{"annotations":{"cloud/lb":"x"},"labels":{"cloud":"x"},"finalizers":["cloud.example/lb"]}}`, false},
		{"a restart by kubectl", set, "demo-v0",
			`{"spec":{"template":{"metadata":{"annotations":{"someone.example/note":"x"}}}}}`, true},
		{"secrets of an account", &corev1.ServiceAccount{}, "demo-v0", `{"imagePullSecrets":[{"name":"pull"}]}`, false},
	}
}

// A change that decides what runs, or who reaches it, is put back by one look, also if an apply
// cannot do it. The event names the fields and who changed them. A field that is left to others
// stays, and costs no write.
//
// Promise 79.
func TestWhateverChangesWhatRunsOrWhoReachesItIsPutBack(t *testing.T) {
	c := newCluster(t)
	c.apply("demo", withValidators(1))
	o := newOperator(t, c)
	o.settle("demo")
	c.by("kubectl-edit", left()...)
	o.settle("demo")
	wrote := o.journal.count()
	o.reconcile("demo")
	if o.journal.count() != wrote {
		t.Errorf("what others may change is written to: %v", o.journal.writes[wrote:])
	}
	if s := c.content(&corev1.Service{}, "demo"); s["spec"].(map[string]any)["sessionAffinity"] != "ClientIP" {
		t.Errorf("what others may change is not left to them: %v", s)
	}
	c.by("kubectl-edit", change{"", &corev1.Service{}, "demo", `{"metadata":{"finalizers":null}}`, false})

	for _, ch := range reverted() {
		t.Run(ch.name, func(t *testing.T) {
			before := c.content(ch.kind, ch.object)
			c.by("kubectl-edit", ch)
			if after := c.content(ch.kind, ch.object); reflect.DeepEqual(before, after) {
				t.Fatal("it changes nothing")
			}
			told, wrote := len(o.events.events), o.journal.count()
			o.reconcile("demo")
			after := c.content(ch.kind, ch.object)
			// The API server allocates another address to a Service that had none for a while.
			for _, tree := range []map[string]any{before, after} {
				if spec, ok := tree["spec"].(map[string]any); ok && ch.object == "demo" {
					delete(spec, "clusterIP")
					delete(spec, "clusterIPs")
					delete(spec, "ipFamilies")
					delete(spec, "ipFamilyPolicy")
					delete(spec, "internalTrafficPolicy")
					delete(spec, "trafficDistribution")
				}
			}
			if !reflect.DeepEqual(before, after) {
				t.Errorf("it was\n%v\nand is\n%v", before, after)
			}
			removes := strings.Contains(ch.patch, ":null}") // nobody owns what is not there
			if events := strings.Join(o.events.events[told:], "\n"); !strings.Contains(events, "Normal Reverted") ||
				!removes && !strings.Contains(events, "kubectl-edit") {
				t.Errorf("told: %s", events)
			}
			if n := o.journal.count() - wrote; n > 3 {
				t.Errorf("%d writes: %v", n, o.journal.writes[wrote:])
			}
			wrote = o.journal.count()
			c.step(t.Context())
			o.skip(10 * time.Minute) // the next change of the object comes late enough
			o.reconcile("demo")
			if writes := o.journal.writes[wrote:]; slices.ContainsFunc(writes, func(w string) bool { return !strings.HasPrefix(w, "patch status") }) {
				t.Errorf("one look later it writes %v", writes)
			}
			if t.Failed() {
				t.Log(describe(c.network("demo")))
			}
		})
	}
}

// A ConfigMap that somebody made immutable can never be changed again. The condition says so, and
// what to do; done, the network goes on.
func TestAConfigMapThatSomebodyMadeImmutableIsReplacedByDeletingIt(t *testing.T) {
	c := newCluster(t)
	c.apply("demo", withValidators(1))
	o := newOperator(t, c)
	o.settle("demo")
	c.by("kubectl-edit", change{"immutable", &corev1.ConfigMap{}, "demo-peers", `{"immutable":true}`, false})
	n := o.until("demo", "degraded", func(n *v1alpha1.DiseqNetwork) bool {
		return condition(n, v1alpha1.ConditionDegraded).Reason == "WriteRefused"
	})
	if d := condition(n, v1alpha1.ConditionDegraded); !strings.Contains(d.Message, "ConfigMap demo-peers was made immutable") ||
		!strings.Contains(d.Message, "Delete it") {
		t.Errorf("Degraded: %s", d.Message)
	}
	c.delete(&corev1.ConfigMap{}, "demo-peers")
	o.settle("demo")
	made := &corev1.ConfigMap{}
	if c.get("demo-peers", made); made.Immutable != nil {
		t.Error("the new one is immutable, too")
	}
}

// The selector of the clients' Service gets a key more: no pod has it, and no client reaches the
// network. It is as it was within seconds, without anybody's help, and the pods run on.
//
// Promise 79.
func TestClientsThatAnotherSelectorCutsOffAreBackWithinSeconds(t *testing.T) {
	c := newCluster(t)
	runManager(t, c, harness.Config())
	c.apply("demo")
	c.wait("demo", "settled", settled)
	pods := c.pods()
	selected := func() int {
		service, reached := &corev1.Service{}, &corev1.PodList{}
		c.get("demo", service)
		if err := c.client.List(t.Context(), reached, c.in(), client.MatchingLabels(service.Spec.Selector)); err != nil {
			t.Fatal(err)
		}
		return len(reached.Items)
	}
	if selected() != 4 {
		t.Fatalf("the Service leads to %d pods", selected())
	}
	c.by("kubectl-edit", change{"one key more", &corev1.Service{}, "demo", `{"spec":{"selector":{"track":"blue"}}}`, false})
	began := time.Now()
	for selected() != 4 {
		if time.Since(began) > patience {
			t.Fatal("clients are cut off")
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Logf("clients were cut off for %v", time.Since(began))
	for {
		events := &eventsv1.EventList{}
		if err := c.client.List(t.Context(), events, c.in()); err != nil {
			t.Fatal(err)
		}
		if slices.ContainsFunc(events.Items, func(e eventsv1.Event) bool {
			return e.Reason == "Reverted" && strings.Contains(e.Note, "spec.selector.track (by kubectl-edit)")
		}) {
			break
		}
		if time.Since(began) > patience {
			t.Fatal("no event tells of it")
		}
		time.Sleep(50 * time.Millisecond)
	}
	if after := c.pods(); !reflect.DeepEqual(pods, after) {
		t.Errorf("pods were replaced: %v, then %v", pods, after)
	}
}

// Admission rewrites every StatefulSet whenever it is written: the image comes from a mirror, the
// requests are others, a sidecar is added. That holds nothing up: the network settles, costs no
// write, is updated, and drift is put back. The status says what is rewritten. A new operator takes
// it as it is, too.
//
// Promise 79.
func TestAdmissionThatRewritesEveryStatefulSetHoldsNothingUp(t *testing.T) {
	c := newCluster(t)
	c.rewrite(`!object.spec.template.spec.containers[0].image.startsWith("mirror.example/") ? [
		JSONPatch{op: "replace", path: "/spec/template/spec/containers/0/image",
			value: "mirror.example/" + object.spec.template.spec.containers[0].image},
		JSONPatch{op: "replace", path: "/spec/template/spec/containers/0/imagePullPolicy", value: "Always"},
		JSONPatch{op: "replace", path: "/spec/template/spec/containers/0/resources/requests", value: {"cpu": "7m", "memory": "7Mi"}}
	] : []`, `!object.spec.template.spec.containers.exists(c, c.name == "mesh") ? [
		JSONPatch{op: "add", path: "/spec/template/spec/containers/-",
			value: Object.spec.template.spec.containers{name: "mesh", image: "mesh:v1",
				securityContext: Object.spec.template.spec.containers.securityContext{allowPrivilegeEscalation: false,
					capabilities: Object.spec.template.spec.containers.securityContext.capabilities{drop: ["ALL"]}}}}
	] : []`)
	c.apply("demo")
	o := newOperator(t, c)
	n := o.settle("demo")
	if p := condition(n, v1alpha1.ConditionProgressing); !strings.Contains(p.Message, "admission rewrites") ||
		!strings.Contains(p.Message, "StatefulSet spec.template.spec.containers[node].image") || !strings.Contains(p.Message, "containers[mesh]") {
		t.Errorf("Progressing: %s", p.Message)
	}
	quiet := func(o *operator, what string) {
		t.Helper()
		before := o.journal.count()
		for range 3 {
			o.reconcile("demo")
			c.step(t.Context())
		}
		if writes := o.journal.writes[before:]; len(writes) > 0 {
			t.Errorf("%s: it writes %v", what, writes)
		}
	}
	quiet(o, "rewritten by admission")
	quiet(newOperator(t, c), "a new operator")
	running := func(image string) {
		t.Helper()
		for pod, got := range c.images() {
			if got != image {
				t.Errorf("%s runs %s, want %s", pod, got, image)
			}
		}
	}
	running("mirror.example/" + testImage)

	c.edit("demo", toImage("diseq:next"))
	before := o.journal.count()
	o.settle("demo")
	running("mirror.example/diseq:next")
	applies := 0
	for _, w := range o.journal.writes[before:] {
		if strings.HasPrefix(w, "apply StatefulSet") {
			applies++
		}
	}
	if applies != 4 {
		t.Errorf("the update took %d applies of 4 StatefulSets", applies)
	}
	quiet(o, "updated")

	set := &appsv1.StatefulSet{}
	c.by("kubectl-edit",
		change{"another image", set, "demo-v1", container(`"image":"other:v1"`), true},
		change{"a sidecar of somebody's", set, "demo-v1", podSpec(`"containers":[{"name":"more","image":"more:v1"}]`), true},
		change{"no pod", set, "demo-v2", `{"spec":{"replicas":0}}`, false})
	o.reconcile("demo")
	o.reconcile("demo")
	c.get("demo-v1", set)
	if has := fmt.Sprintf("%d containers, %s", len(set.Spec.Template.Spec.Containers), set.Spec.Template.Spec.Containers[0].Image); has != "2 containers, mirror.example/diseq:next" {
		t.Errorf("the template has %s", has)
	}
	if c.get("demo-v2", set); *set.Spec.Replicas != 1 {
		t.Error("demo-v2 has no pod")
	}
	o.settle("demo")
	quiet(o, "put back")
}

// rewrite makes admission change each StatefulSet of the namespace that is written, by CEL
// expressions of JSON patches.
func (c *cluster) rewrite(expressions ...string) {
	c.t.Helper()
	name := c.namespace + "-rewrite"
	fail, never := admissionv1.Fail, admissionv1.NeverReinvocationPolicy
	policy := &admissionv1.MutatingAdmissionPolicy{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: admissionv1.MutatingAdmissionPolicySpec{
		MatchConstraints: &admissionv1.MatchResources{
			NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: c.namespace}},
			ResourceRules: []admissionv1.NamedRuleWithOperations{{RuleWithOperations: admissionv1.RuleWithOperations{
				Operations: []admissionv1.OperationType{admissionv1.Create, admissionv1.Update},
				Rule:       admissionv1.Rule{APIGroups: []string{"apps"}, APIVersions: []string{"v1"}, Resources: []string{"statefulsets"}},
			}}},
		},
		FailurePolicy: &fail, ReinvocationPolicy: never,
	}}
	for _, e := range expressions {
		policy.Spec.Mutations = append(policy.Spec.Mutations, admissionv1.Mutation{
			PatchType: admissionv1.PatchTypeJSONPatch, JSONPatch: &admissionv1.JSONPatch{Expression: e}})
	}
	binding := &admissionv1.MutatingAdmissionPolicyBinding{ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: admissionv1.MutatingAdmissionPolicyBindingSpec{PolicyName: name}}
	for _, o := range []client.Object{policy, binding} {
		if err := c.client.Create(c.t.Context(), o); err != nil {
			c.t.Fatal(err)
		}
		c.t.Cleanup(func() {
			if err := c.client.Delete(context.Background(), o); err != nil {
				c.t.Error(err)
			}
		})
	}
	// The API server learns of it after a moment.
	began := time.Now()
	for {
		labels := map[string]string{"probe": "x"}
		set := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Name: "probe", Namespace: c.namespace}, Spec: appsv1.StatefulSetSpec{
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "node", Image: "probe:v1"}}}},
		}}
		err := c.client.Create(c.t.Context(), set, client.DryRunAll)
		if err == nil && set.Spec.Template.Spec.Containers[0].Image != "probe:v1" {
			return
		}
		if time.Since(began) > patience {
			c.t.Fatalf("admission rewrites nothing: %v", err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}
