package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/diseq/diseq/api/v1alpha1"
	"github.com/diseq/diseq/controllers/resources"
	"github.com/diseq/diseq/test/integration/harness"
)

// byPolicy says whether an admission policy refused a request.
func byPolicy(err error) bool {
	return err != nil && strings.Contains(err.Error(), "ValidatingAdmissionPolicy") && strings.Contains(err.Error(), "denied request")
}

// operatorsSet is a StatefulSet as the operator makes it.
func operatorsSet(t *testing.T, namespace string, change ...func(*appsv1.StatefulSet)) *appsv1.StatefulSet {
	t.Helper()
	network := &v1alpha1.DiseqNetwork{ObjectMeta: metav1.ObjectMeta{Name: "demo", Namespace: namespace, UID: "0a1b2c3d-0000-4000-8000-000000000001"}}
	configuration, err := resources.StatefulSet(network, builtFor, 0, true)
	if err != nil {
		t.Fatal(err)
	}
	set := &appsv1.StatefulSet{}
	decode(t, configuration, set)
	for _, f := range change {
		f(set)
	}
	return set
}

// An attempt is a write of somebody who holds the operator's token.
type attempt struct {
	what string
	try  func(t *testing.T, k client.Client, namespace string) error
}

func creation(what string, of func(t *testing.T, namespace string) client.Object) attempt {
	return attempt{what, func(t *testing.T, k client.Client, namespace string) error {
		return k.Create(t.Context(), of(t, namespace), client.DryRunAll)
	}}
}

func labelled(name, namespace string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Namespace: namespace, Labels: map[string]string{"diseq.io/network": "demo"}}
}

// labelling is a patch of an object that an administrator has made, after which it is labelled.
func labelling(what string, of func(t *testing.T, namespace string) client.Object, patch string) attempt {
	return attempt{what, func(t *testing.T, k client.Client, namespace string) error {
		theirs := of(t, namespace)
		if err := harness.Client(t).Create(t.Context(), theirs); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = harness.Client(t).Delete(context.Background(), theirs, client.GracePeriodSeconds(0)) })
		return k.Patch(t.Context(), theirs, client.RawPatch(types.StrategicMergePatchType, []byte(patch)), client.DryRunAll)
	}}
}

func deletion(what string, of func(t *testing.T, namespace string) client.Object) attempt {
	return attempt{what, func(t *testing.T, k client.Client, namespace string) error {
		theirs := of(t, namespace)
		if err := harness.Client(t).Create(t.Context(), theirs); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = harness.Client(t).Delete(context.Background(), theirs, client.GracePeriodSeconds(0)) })
		return k.Delete(t.Context(), theirs, client.DryRunAll)
	}}
}

func theirPod(_ *testing.T, namespace string) client.Object {
	restricted := &corev1.SecurityContext{
		AllowPrivilegeEscalation: new(false), RunAsNonRoot: new(true),
		Capabilities:   &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "demo-v0-0", Namespace: namespace},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "bank", Image: "bank:v1", SecurityContext: restricted}}},
	}
}

const label = `{"metadata": {"labels": {"diseq.io/network": "demo"}}`

// attempts are what the rights of the operator's account allow and the operator never does.
func attempts() []attempt {
	set := func(change func(*appsv1.StatefulSet)) func(*testing.T, string) client.Object {
		return func(t *testing.T, namespace string) client.Object { return operatorsSet(t, namespace, change) }
	}
	pod := func(change func(*corev1.PodSpec)) func(*testing.T, string) client.Object {
		return set(func(s *appsv1.StatefulSet) { change(&s.Spec.Template.Spec) })
	}
	node := func(change func(*corev1.SecurityContext)) func(*testing.T, string) client.Object {
		return pod(func(p *corev1.PodSpec) { change(p.Containers[0].SecurityContext) })
	}
	secret := func(change func(*corev1.Secret)) func(*testing.T, string) client.Object {
		return func(_ *testing.T, namespace string) client.Object {
			s := &corev1.Secret{ObjectMeta: labelled("demo-v0", namespace), Immutable: new(true)}
			change(s)
			return s
		}
	}
	service := func(change func(*corev1.Service)) func(*testing.T, string) client.Object {
		return func(_ *testing.T, namespace string) client.Object {
			s := &corev1.Service{ObjectMeta: labelled("demo", namespace), Spec: corev1.ServiceSpec{
				Selector: map[string]string{"diseq.io/network": "demo"}, Ports: []corev1.ServicePort{{Port: 8080}},
			}}
			change(s)
			return s
		}
	}
	configMap := func(name string) func(*testing.T, string) client.Object {
		return func(_ *testing.T, namespace string) client.Object {
			return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace}, Data: map[string]string{"mapUsers": "[]"}}
		}
	}
	opaque := func(_ *testing.T, namespace string) client.Object {
		return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "demo-v0", Namespace: namespace}, Data: map[string][]byte{"a": []byte("b")}}
	}
	claim := func(_ *testing.T, namespace string) client.Object {
		return &corev1.PersistentVolumeClaim{
			ObjectMeta: metav1.ObjectMeta{Name: "demo-v0", Namespace: namespace},
			Spec: corev1.PersistentVolumeClaimSpec{
				AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
				Resources:   corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}},
			},
		}
	}
	return []attempt{
		creation("a Secret that gets the token of an account", secret(func(s *corev1.Secret) {
			s.Type, s.Annotations = corev1.SecretTypeServiceAccountToken, map[string]string{corev1.ServiceAccountNameKey: "default"}
		})),
		creation("a Secret of another name", secret(func(s *corev1.Secret) { s.Name = "bank" })),
		creation("a Secret without a label", secret(func(s *corev1.Secret) { s.Labels = nil })),
		creation("a Secret that can change", secret(func(s *corev1.Secret) { s.Immutable = nil })),
		labelling("the data of a Secret", opaque, label+`, "data": {"a": "Yw=="}}`),
		labelling("a ConfigMap with the name of somebody else", configMap("aws-auth"), label+`}`),
		labelling("a ConfigMap of somebody else with a name of a network", configMap("demo-config"), label+`, "data": {"mapUsers": "me"}}`),
		labelling("the image of a pod", theirPod, label+`, "spec": {"containers": [{"name": "bank", "image": "evil:v1"}]}}`),
		labelling("the labels of a pod", theirPod, label+`}`),
		deletion("a pod", theirPod),
		deletion("a claim", claim),
		deletion("a StatefulSet", func(t *testing.T, namespace string) client.Object {
			return operatorsSet(t, namespace, func(s *appsv1.StatefulSet) { s.Labels, s.OwnerReferences = nil, nil })
		}),
		deletion("an account", func(_ *testing.T, namespace string) client.Object {
			return &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "demo-v0", Namespace: namespace}}
		}),
		creation("a StatefulSet of another name", set(func(s *appsv1.StatefulSet) { s.Name = "bank" })),
		creation("two pods", set(func(s *appsv1.StatefulSet) { s.Spec.Replicas = new(int32(2)) })),
		creation("pods of another network", set(func(s *appsv1.StatefulSet) {
			s.Spec.Template.Labels["diseq.io/network"] = "other"
			s.Spec.Selector.MatchLabels["diseq.io/network"] = "other"
		})),
		creation("the account of somebody else", pod(func(p *corev1.PodSpec) { p.ServiceAccountName = "default" })),
		creation("a token", pod(func(p *corev1.PodSpec) { p.AutomountServiceAccountToken = new(true) })),
		creation("the network of the worker", pod(func(p *corev1.PodSpec) { p.HostNetwork = true })),
		creation("the processes of the worker", pod(func(p *corev1.PodSpec) { p.HostPID = true })),
		creation("a path of the worker", pod(func(p *corev1.PodSpec) {
			p.Volumes = append(p.Volumes, corev1.Volume{Name: "root", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/"}}})
		})),
		creation("a volume of a server", pod(func(p *corev1.PodSpec) {
			p.Volumes = append(p.Volumes, corev1.Volume{Name: "nfs", VolumeSource: corev1.VolumeSource{NFS: &corev1.NFSVolumeSource{Server: "a", Path: "/"}}})
		})),
		creation("the keys of another validator", pod(func(p *corev1.PodSpec) {
			for i := range p.Volumes {
				if p.Volumes[i].Name == "keys" {
					p.Volumes[i].Secret.SecretName = "demo-v1"
				}
			}
		})),
		creation("a privileged container", node(func(s *corev1.SecurityContext) { s.AllowPrivilegeEscalation, s.Privileged = nil, new(true) })),
		creation("an escalation", node(func(s *corev1.SecurityContext) { s.AllowPrivilegeEscalation = new(true) })),
		creation("root", node(func(s *corev1.SecurityContext) { s.RunAsNonRoot, s.RunAsUser = new(false), new(int64(0)) })),
		creation("a capability", node(func(s *corev1.SecurityContext) { s.Capabilities.Add = []corev1.Capability{"SYS_ADMIN"} })),
		creation("a port of the worker", pod(func(p *corev1.PodSpec) { p.Containers[0].Ports[0].HostPort = 8080 })),
		creation("a privileged init container", pod(func(p *corev1.PodSpec) {
			p.InitContainers = []corev1.Container{{Name: "a", Image: "a", SecurityContext: &corev1.SecurityContext{Privileged: new(true)}}}
		})),
		creation("an account with a token", func(_ *testing.T, namespace string) client.Object {
			return &corev1.ServiceAccount{ObjectMeta: labelled("demo-v0", namespace)}
		}),
		creation("a Service with addresses of its own", service(func(s *corev1.Service) { s.Spec.ExternalIPs = []string{"192.0.2.1"} })),
		creation("a Service that leads elsewhere", service(func(s *corev1.Service) { s.Spec.Selector = map[string]string{"app": "bank"} })),
		creation("a Service of another host", service(func(s *corev1.Service) {
			s.Spec = corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "bank.example"}
		})),
		creation("a policy that opens every pod", func(_ *testing.T, namespace string) client.Object {
			return &networkingv1.NetworkPolicy{ObjectMeta: labelled("demo-clients", namespace), Spec: networkingv1.NetworkPolicySpec{
				PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}, Ingress: []networkingv1.NetworkPolicyIngressRule{{}},
			}}
		}),
		creation("a budget that stops every drain", func(_ *testing.T, namespace string) client.Object {
			return &policyv1.PodDisruptionBudget{ObjectMeta: labelled("demo", namespace), Spec: policyv1.PodDisruptionBudgetSpec{Selector: &metav1.LabelSelector{}}}
		}),
	}
}

// The role of the operator's account allows each of these attempts: RBAC knows no content. The
// policy refuses them.
//
// Promise 89.
func TestTheOperatorsAccountWritesObjectsOfNetworksAlone(t *testing.T) {
	k := harness.ClientFor(t, harness.AsOperator(t))
	open, held := harness.Namespace(t), harness.Namespace(t)
	if _, err := harness.Kubectl(t, "label", "namespace", open, harness.Unheld+"="); err != nil {
		t.Fatal(err)
	}
	all := attempts()
	eventually(t, "the policy is in force", func() bool { return byPolicy(all[0].try(t, k, held)) })
	for _, a := range all {
		t.Run(a.what, func(t *testing.T) {
			if err := a.try(t, k, open); err != nil {
				t.Errorf("without the policy it is refused as well, so that the test shows nothing: %v", err)
			}
			if err := a.try(t, k, held); !byPolicy(err) {
				t.Errorf("the policy lets it pass: %v", err)
			}
		})
	}
	if err := k.Create(t.Context(), operatorsSet(t, metav1.NamespaceSystem), client.DryRunAll); !byPolicy(err) {
		t.Errorf("a StatefulSet in kube-system: %v", err)
	}
	if err := k.Create(t.Context(), operatorsSet(t, held), client.DryRunAll); err != nil {
		t.Errorf("the operator's own StatefulSet is refused: %v", err)
	}
}

// Pods with the labels of a network get its clients' traffic and reach its peers.
//
// Promise 90.
func TestNobodyElseMakesPodsOfANetwork(t *testing.T) {
	open, held := harness.Namespace(t), harness.Namespace(t)
	harness.Bind(t, "pods", held)
	admin, operator := harness.Client(t), harness.ClientFor(t, harness.AsOperator(t))
	controller := harness.ClientFor(t, impersonate("system:serviceaccount:kube-system:statefulset-controller", "system:masters"))
	pod := func(namespace string, change ...func(*corev1.Pod)) *corev1.Pod {
		p := theirPod(t, namespace).(*corev1.Pod)
		p.Labels = resources.PodLabels("demo", "demo-v0")
		p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "StatefulSet", Name: "demo-v0", UID: "1", Controller: new(true)}}
		for _, f := range change {
			f(p)
		}
		return p
	}
	set := func(namespace string) *appsv1.StatefulSet { return operatorsSet(t, namespace) }
	eventually(t, "the policy is in force", func() bool { return byPolicy(admin.Create(t.Context(), pod(held), client.DryRunAll)) })
	if err := admin.Create(t.Context(), pod(open), client.DryRunAll); err != nil {
		t.Errorf("without the policy a pod is refused as well: %v", err)
	}
	for what, err := range map[string]error{
		"a person's StatefulSet": admin.Create(t.Context(), set(held), client.DryRunAll),
		"the controller's pod of another owner": controller.Create(t.Context(), pod(held, func(p *corev1.Pod) {
			p.OwnerReferences[0].Name = "bank"
		}), client.DryRunAll),
		"the controller's pod of another validator": controller.Create(t.Context(), pod(held, func(p *corev1.Pod) {
			p.Labels["diseq.io/validator"] = "demo-v1"
		}), client.DryRunAll),
		"the controller's pod without an owner": controller.Create(t.Context(), pod(held, func(p *corev1.Pod) { p.OwnerReferences = nil }), client.DryRunAll),
	} {
		if !byPolicy(err) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for what, err := range map[string]error{
		"the operator's StatefulSet": operator.Create(t.Context(), set(held), client.DryRunAll),
		"the controller's pod":       controller.Create(t.Context(), pod(held), client.DryRunAll),
		"a pod without labels":       admin.Create(t.Context(), pod(held, func(p *corev1.Pod) { p.Labels = nil }), client.DryRunAll),
		"another StatefulSet": admin.Create(t.Context(), operatorsSet(t, held, func(s *appsv1.StatefulSet) {
			s.Spec.Template.Labels = map[string]string{"app": "bank"}
			s.Spec.Selector.MatchLabels = s.Spec.Template.Labels
		}), client.DryRunAll),
	} {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}

	// A pod that is there does not join. One of the network goes on: anybody may annotate it, and
	// take its labels away, which the operator puts back.
	stranger := theirPod(t, held)
	if err := admin.Create(t.Context(), stranger); err != nil {
		t.Fatal(err)
	}
	patch := func(o client.Object, text string) error {
		return admin.Patch(t.Context(), o, client.RawPatch(types.MergePatchType, []byte(text)), client.DryRunAll)
	}
	if err := patch(stranger, label+`}`); !byPolicy(err) {
		t.Errorf("a pod joins the network: %v", err)
	}
	if err := admin.Delete(t.Context(), stranger, client.GracePeriodSeconds(0)); err != nil {
		t.Fatal(err)
	}
	own := pod(held)
	if err := controller.Create(t.Context(), own); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		`{"metadata": {"annotations": {"a": "b"}}}`, `{"metadata": {"labels": {"diseq.io/network": null}}}`, `{"metadata": {"labels": {"a": "b"}}}`,
	} {
		if err := patch(own.DeepCopy(), text); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
	if err := patch(own.DeepCopy(), `{"metadata": {"labels": {"diseq.io/network": "other"}}}`); !byPolicy(err) {
		t.Errorf("a pod joins another network: %v", err)
	}
}

// kubectl apply says at once what the operator would say in the status.
func TestASpecBeyondTheLimitsIsRefusedAtOnce(t *testing.T) {
	namespace := harness.Namespace(t)
	harness.Bind(t, "specs", namespace)
	k := harness.Client(t)
	network := func(spec v1alpha1.DiseqNetworkSpec) *v1alpha1.DiseqNetwork {
		return &v1alpha1.DiseqNetwork{ObjectMeta: metav1.ObjectMeta{Name: "demo", Namespace: namespace}, Spec: spec}
	}
	try := func(spec v1alpha1.DiseqNetworkSpec) error {
		return k.Create(t.Context(), network(spec), client.DryRunAll)
	}
	eventually(t, "the policy is in force", func() bool { return byPolicy(try(v1alpha1.DiseqNetworkSpec{Image: "evil:v1"})) })
	beside := func(image string) []v1alpha1.Container { return []v1alpha1.Container{{Name: "beside", Image: image}} }
	images, err := resources.Images(resources.ImagesOf("diseq:dev"))
	if err != nil {
		t.Fatal(err)
	}
	// The operator's own check, with the same limits, decides as the policy does.
	allowed := &resources.Allowed{NodeImages: images, SidecarImages: images}
	for what, spec := range map[string]v1alpha1.DiseqNetworkSpec{
		"nothing":             {},
		"a tag":               {Image: "diseq:v2"},
		"a digest":            {Image: "diseq@sha256:00"},
		"no tag":              {Image: "diseq"},
		"another repository":  {Image: "evil:v1"},
		"a longer repository": {Image: "diseq-evil:v1"},
		"one below it":        {Image: "diseq/evil"},
		"one beside it":       {Image: "a/diseq"},
		"a registry":          {Image: "diseq:5000/evil"},
		"no digest":           {Image: "diseq@evil/a"},
		"a container":         {PodTemplate: v1alpha1.PodTemplate{Containers: beside("evil:v1")}},
		"an init container":   {PodTemplate: v1alpha1.PodTemplate{InitContainers: beside("evil:v1")}},
		"the node's image":    {PodTemplate: v1alpha1.PodTemplate{Containers: beside("diseq:v2")}},
		"a note":              {PodTemplate: v1alpha1.PodTemplate{Annotations: map[string]string{"team": "a"}}},
		"an annotation":       {PodTemplate: v1alpha1.PodTemplate{Annotations: map[string]string{"k8s.v1.cni.cncf.io/networks": "a"}}},
		"of the account":      {PodTemplate: v1alpha1.PodTemplate{ServiceAccountAnnotations: map[string]string{"iam.amazonaws.com/role": "a"}}},
		"of the Service":      {Service: v1alpha1.Service{Annotations: map[string]string{"a": "b", "example.com/a": "b"}}},
		"a label":             {PodTemplate: v1alpha1.PodTemplate{Labels: map[string]string{"app": "bank"}}},
	} {
		refused := allowed.Check(network(spec))
		err := try(spec)
		if byPolicy(err) != (refused != nil) || err != nil && !byPolicy(err) {
			t.Errorf("%s: the policy says %v, the operator %v", what, err, refused)
		}
		if refused != nil && err != nil {
			flag := refused.Error()[strings.LastIndex(refused.Error(), "--"):]
			if !strings.Contains(err.Error(), flag) {
				t.Errorf("%s: the policy says %v, without %s", what, err, flag)
			}
		}
	}
	if err := k.Create(t.Context(), network(v1alpha1.DiseqNetworkSpec{})); err != nil {
		t.Fatal(err)
	}
	if _, err := harness.Kubectl(t, "-n", namespace, "annotate", "dsq/demo", "diseq.io/restart=now"); err != nil {
		t.Error(err)
	}
}

// A network that is protected is deleted by the right to unprotect it, which editors lack.
//
// Promise 90.
func TestAProtectedNetworkIsDeletedByTwoRights(t *testing.T) {
	namespace := harness.Namespace(t)
	harness.Bind(t, "protection", namespace)
	admin := harness.Client(t)
	editor, owner := harness.ClientFor(t, as(t, namespace, "editor")), harness.ClientFor(t, as(t, namespace, "admin"))
	n := &v1alpha1.DiseqNetwork{ObjectMeta: metav1.ObjectMeta{Name: "demo", Namespace: namespace}}
	n.Spec.DeletionProtection = true
	if err := admin.Create(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the policy is in force", func() bool { return byPolicy(owner.Delete(t.Context(), n, client.DryRunAll)) })
	edit := func(k client.Client, spec string, options ...client.PatchOption) error {
		return k.Patch(t.Context(), n.DeepCopy(), client.RawPatch(types.MergePatchType, []byte(`{"spec": `+spec+`}`)), options...)
	}
	const unprotect, erase = `{"deletionProtection": false}`, `{"storage": {"retention": {"onDelete": "Delete"}}}`
	for what, err := range map[string]error{
		"an editor deletes it":                 editor.Delete(t.Context(), n, client.DryRunAll),
		"an editor unprotects it":              edit(editor, unprotect, client.DryRunAll),
		"an editor lets its keys go":           edit(editor, erase, client.DryRunAll),
		"an administrator's deletion, at once": admin.Delete(t.Context(), n, client.DryRunAll),
	} {
		if !byPolicy(err) || !strings.Contains(err.Error(), "unprotect") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := edit(editor, `{"validators": 5}`); err != nil {
		t.Errorf("an editor scales it: %v", err)
	}
	if err := edit(owner, erase, client.DryRunAll); err != nil {
		t.Errorf("an admin lets its keys go: %v", err)
	}
	if err := edit(owner, unprotect); err != nil {
		t.Errorf("an admin unprotects it: %v", err)
	}
	if err := editor.Delete(t.Context(), n); err != nil {
		t.Errorf("an editor deletes it after that: %v", err)
	}
}

// as binds a user to one of the roles for people.
func as(t *testing.T, namespace, role string) *rest.Config {
	t.Helper()
	user := fmt.Sprintf("%s-of-%s", role, namespace)
	err := harness.Client(t).Create(t.Context(), &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: role, Namespace: namespace},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "diseq-operator-diseqnetwork-" + role},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: user}},
	})
	if err != nil {
		t.Fatal(err)
	}
	c := impersonate(user, "system:authenticated")
	harness.AwaitRight(t, c, authorizationv1.ResourceAttributes{Namespace: namespace, Group: "diseq.io", Resource: "diseqnetworks", Verb: "delete"})
	return c
}

func impersonate(user string, groups ...string) *rest.Config {
	c := harness.Config()
	c.Impersonate = rest.ImpersonationConfig{UserName: user, Groups: groups}
	return c
}

func decode(t *testing.T, configuration, into any) {
	t.Helper()
	raw, err := json.Marshal(configuration)
	if err == nil {
		err = json.Unmarshal(raw, into)
	}
	if err != nil {
		t.Fatal(err)
	}
}
