package integration

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/diseq/diseq/api/v1alpha1"
	"github.com/diseq/diseq/controllers/membership"
	"github.com/diseq/diseq/controllers/resources"
	"github.com/diseq/diseq/test/integration/harness"
)

// The Secrets of another network's validators are as closed as those of one's own, and a mistake in
// the template costs no pod.
//
// Promise 80.
func TestATemplateWithTheKeysOfAnotherNetworkIsRefusedAndThePodsRunOn(t *testing.T) {
	c := newCluster(t)
	c.apply("demo", withValidators(1))
	c.apply("other", withValidators(1))
	o := newOperator(t, c)
	o.settle("other")
	o.settle("demo")
	pod := &corev1.Pod{}
	c.get("demo-v0-0", pod)
	c.edit("demo", func(n *v1alpha1.DiseqNetwork) {
		n.Spec.PodTemplate.Containers = []v1alpha1.Container{{
			Name: "thief", Image: "thief:v1", EnvFrom: []v1alpha1.EnvFromSource{{SecretRef: &v1alpha1.ObjectRef{Name: "other-v0"}}},
		}}
	})
	n := o.until("demo", "refused", func(n *v1alpha1.DiseqNetwork) bool {
		return condition(n, v1alpha1.ConditionDegraded).Reason == "InvalidSpec"
	})
	const want = "spec.podTemplate.containers.thief names the Secret other-v0, which holds the keys of a validator of network other"
	if d := condition(n, v1alpha1.ConditionDegraded); !strings.Contains(d.Message, want) {
		t.Errorf("Degraded: %s", d.Message)
	}
	if a := condition(n, v1alpha1.ConditionAvailable); a.Status != metav1.ConditionTrue {
		t.Errorf("Available %+v", a)
	}
	after := &corev1.Pod{}
	if c.get("demo-v0-0", after); after.UID != pod.UID {
		t.Error("the pod was replaced")
	}
	c.edit("demo", func(n *v1alpha1.DiseqNetwork) {
		n.Spec.PodTemplate.Containers[0].EnvFrom[0].SecretRef.Name = "logs"
		n.Annotations = map[string]string{membership.AllowDowntime: "true"} // the network has one validator
	})
	o.settle("demo")
	if c.get("demo-v0-0", after); after.UID == pod.UID || len(after.Spec.Containers) != 2 || after.Spec.Containers[1].Name != "thief" {
		t.Errorf("the pod has %d containers after the correction:\n%s", len(after.Spec.Containers), describe(c.network("demo")))
	}
}

// An editor of a network cannot roll an image over the validators, whose keys are mounted there,
// unless the administrator allows the image. Nothing of such a spec is carried out.
//
// Promise 88.
func TestAnImageThatTheAdministratorDoesNotAllowRunsNowhere(t *testing.T) {
	c := newCluster(t)
	images, err := resources.Images("diseq:.*")
	if err != nil {
		t.Fatal(err)
	}
	o := newOperatorFor(t, c, resources.Operator{
		NodeImage: testImage, Namespace: "diseq-system",
		Allowed: &resources.Allowed{NodeImages: images, SidecarImages: images},
	})
	refused := func(n *v1alpha1.DiseqNetwork) bool {
		return condition(n, v1alpha1.ConditionDegraded).Reason == "InvalidSpec"
	}
	c.apply("stillborn", withValidators(1), func(n *v1alpha1.DiseqNetwork) { n.Spec.Image = "evil:v1" })
	n := o.until("stillborn", "refused", refused)
	if d := condition(n, v1alpha1.ConditionDegraded); !strings.Contains(d.Message, "spec.image is evil:v1") {
		t.Errorf("Degraded: %s", d.Message)
	}
	secret := &corev1.Secret{}
	if err := c.client.Get(t.Context(), client.ObjectKey{Namespace: c.namespace, Name: "stillborn-v0"}, secret); !apierrors.IsNotFound(err) {
		t.Errorf("it has a key: %v", err)
	}

	c.apply("demo", withValidators(1))
	o.settle("demo")
	pod, service, set := &corev1.Pod{}, &corev1.Service{}, &appsv1.StatefulSet{}
	c.get("demo-v0-0", pod)
	c.get("demo", service)
	c.get("demo-v0", set)
	c.edit("demo", func(n *v1alpha1.DiseqNetwork) {
		n.Spec.Image = "evil:v1"
		n.Spec.Service.Annotations = map[string]string{"external-dns.alpha.kubernetes.io/hostname": "bank.example"}
		n.Spec.PodTemplate.ServiceAccountAnnotations = map[string]string{"iam.amazonaws.com/role": "admin"}
	})
	n = o.until("demo", "refused", refused)
	for range 3 {
		o.reconcile("demo")
		c.step(t.Context())
	}
	if a := condition(n, v1alpha1.ConditionAvailable); a.Status != metav1.ConditionTrue {
		t.Errorf("Available %+v", a)
	}
	podNow, serviceNow, setNow, account := &corev1.Pod{}, &corev1.Service{}, &appsv1.StatefulSet{}, &corev1.ServiceAccount{}
	c.get("demo-v0-0", podNow)
	c.get("demo", serviceNow)
	c.get("demo-v0", setNow)
	c.get("demo-v0", account)
	if podNow.UID != pod.UID || setNow.Generation != set.Generation || serviceNow.ResourceVersion != service.ResourceVersion {
		t.Error("the pod, its StatefulSet or the Service was changed")
	}
	if _, has := account.Annotations["iam.amazonaws.com/role"]; has {
		t.Errorf("the account has the annotations %v", account.Annotations)
	}
	c.edit("demo", func(n *v1alpha1.DiseqNetwork) {
		n.Spec.Image, n.Spec.Service.Annotations, n.Spec.PodTemplate.ServiceAccountAnnotations = "diseq:v2", nil, nil
		n.Annotations = map[string]string{membership.AllowDowntime: "true"} // the network has one validator
	})
	o.settle("demo")
	if c.get("demo-v0-0", podNow); podNow.Spec.Containers[0].Image != "diseq:v2" {
		t.Errorf("the pod runs %s after the correction", podNow.Spec.Containers[0].Image)
	}
}

func TestResizesAreShown(t *testing.T) {
	c := newCluster(t)
	c.apply("demo", withValidators(1))
	o := newOperator(t, c)
	o.settle("demo")
	claim := &corev1.PersistentVolumeClaim{}
	c.get("demo-v0", claim)
	claim.Status.Phase = corev1.ClaimBound
	claim.Status.Capacity = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("5Gi")}
	claim.Status.AllocatedResourceStatuses = map[corev1.ResourceName]corev1.ClaimResourceStatus{
		corev1.ResourceStorage: corev1.PersistentVolumeClaimControllerResizeInProgress,
	}
	if err := harness.Client(t).Status().Update(t.Context(), claim); err != nil {
		t.Fatal(err)
	}
	n := o.until("demo", "growing", func(n *v1alpha1.DiseqNetwork) bool {
		return condition(n, v1alpha1.ConditionProgressing).Reason == "Resizing"
	})
	m := member(n, "demo-v0")
	if m.VolumeSize == nil || m.VolumeSize.String() != "5Gi" || len(m.Resizes) != 1 || m.Resizes[0] != "its volume grows from 5Gi to 10Gi: the storage is growing" {
		t.Errorf("status %v, %q", m.VolumeSize, m.Resizes)
	}
	c.get("demo-v0", claim)
	claim.Status.Conditions = []corev1.PersistentVolumeClaimCondition{
		{Type: corev1.PersistentVolumeClaimControllerResizeError, Status: corev1.ConditionTrue, Message: "quota exceeded"},
	}
	if err := harness.Client(t).Status().Update(t.Context(), claim); err != nil {
		t.Fatal(err)
	}
	n = o.until("demo", "failed", func(n *v1alpha1.DiseqNetwork) bool {
		return condition(n, v1alpha1.ConditionDegraded).Reason == "ResizeFailed"
	})
	if d := condition(n, v1alpha1.ConditionDegraded); !strings.Contains(d.Message, "quota exceeded") {
		t.Errorf("Degraded: %s", d.Message)
	}
	c.get("demo-v0", claim)
	claim.Status = corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimBound, Capacity: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("10Gi")}}
	if err := harness.Client(t).Status().Update(t.Context(), claim); err != nil {
		t.Fatal(err)
	}
	n = o.until("demo", "grown", func(n *v1alpha1.DiseqNetwork) bool {
		return condition(n, v1alpha1.ConditionDegraded).Status == metav1.ConditionFalse
	})
	if m := member(n, "demo-v0"); m.VolumeSize.String() != "10Gi" || len(m.Resizes) > 0 || condition(n, v1alpha1.ConditionProgressing).Reason != "UpToDate" {
		t.Errorf("status %v, %q, %s", m.VolumeSize, m.Resizes, condition(n, v1alpha1.ConditionProgressing).Reason)
	}
}

// Each change of the spec that the rules admit is one that the API server takes, whatever the
// Service was before.
func TestTheServiceFollowsTheSpec(t *testing.T) {
	k := harness.Client(t)
	network := createNetwork(t, k, "demo", v1alpha1.DiseqNetworkSpec{Validators: 1})
	specs := map[string]v1alpha1.Service{
		"plain":            {Type: corev1.ServiceTypeClusterIP},
		"affinity":         {Type: corev1.ServiceTypeClusterIP, SessionAffinity: new(corev1.ServiceAffinityClientIP)},
		"a node port":      {Type: corev1.ServiceTypeNodePort, NodePort: new(int32(30991)), ExternalTrafficPolicy: new(corev1.ServiceExternalTrafficPolicyLocal)},
		"any node port":    {Type: corev1.ServiceTypeNodePort},
		"a load balancer":  {Type: corev1.ServiceTypeLoadBalancer},
		"its ranges":       {Type: corev1.ServiceTypeLoadBalancer, LoadBalancerSourceRanges: []string{"192.0.2.0/24"}, ExternalTrafficPolicy: new(corev1.ServiceExternalTrafficPolicyLocal)},
		"of a class":       {Type: corev1.ServiceTypeLoadBalancer, LoadBalancerClass: new("example.com/lb"), AllocateLoadBalancerNodePorts: new(false)},
		"families":         {Type: corev1.ServiceTypeClusterIP, IPFamilyPolicy: new(corev1.IPFamilyPolicyPreferDualStack), IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol}},
		"with other notes": {Type: corev1.ServiceTypeClusterIP, Labels: map[string]string{"a": "b"}, Annotations: map[string]string{"c": "d"}},
	}
	class := func(s v1alpha1.Service) string {
		if s.LoadBalancerClass == nil {
			return ""
		}
		return *s.LoadBalancerClass
	}
	for from, before := range specs {
		for to, after := range specs {
			if before.Type == after.Type && after.Type == corev1.ServiceTypeLoadBalancer && class(before) != class(after) {
				continue // refused by a rule of the resource
			}
			for _, spec := range []v1alpha1.Service{before, after} {
				network.Spec.Service = spec
				configuration := resources.ClientsService(network)
				if err := tryApply(t, k, configuration); err != nil {
					t.Fatalf("from %q to %q: %v", from, to, err)
				}
				if !resources.Current(live(t, k, configuration), resources.ClientsService(network)) {
					t.Errorf("from %q to %q: not current", from, to)
				}
			}
			if err := k.Delete(t.Context(), &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "demo", Namespace: network.Namespace}}, client.PropagationPolicy(metav1.DeletePropagationBackground)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// A platform that assigns ids from a range of the namespace refuses those of the image, as an SCC
// of OpenShift does. It takes the pods without ids.
func TestAPlatformThatAssignsIdsTakesThePodsWithoutThem(t *testing.T) {
	k := harness.Client(t)
	network := createNetwork(t, k, "demo", v1alpha1.DiseqNetworkSpec{Validators: 1})
	apply(t, k, resources.ServiceAccount(network, 0))
	const inRange = "[object.spec.?securityContext.?runAsUser, object.spec.?securityContext.?runAsGroup, object.spec.?securityContext.?fsGroup]" +
		".all(id, !id.hasValue() || id.value() >= 1000650000) && " +
		"object.spec.containers.all(c, [c.?securityContext.?runAsUser, c.?securityContext.?runAsGroup].all(id, !id.hasValue() || id.value() >= 1000650000))"
	metadata := metav1.ObjectMeta{Name: network.Namespace + "-ids"}
	policy := &admissionv1.ValidatingAdmissionPolicy{ObjectMeta: metadata, Spec: admissionv1.ValidatingAdmissionPolicySpec{
		MatchConstraints: &admissionv1.MatchResources{ResourceRules: []admissionv1.NamedRuleWithOperations{{RuleWithOperations: admissionv1.RuleWithOperations{
			Operations: []admissionv1.OperationType{admissionv1.Create},
			Rule:       admissionv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods"}},
		}}}},
		Validations: []admissionv1.Validation{{Expression: inRange, Message: "must be in the ranges: [1000650000, 1000659999]"}},
	}}
	binding := &admissionv1.ValidatingAdmissionPolicyBinding{ObjectMeta: metadata, Spec: admissionv1.ValidatingAdmissionPolicyBindingSpec{
		PolicyName: policy.Name, ValidationActions: []admissionv1.ValidationAction{admissionv1.Deny},
		MatchResources: &admissionv1.MatchResources{NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: network.Namespace}}},
	}}
	for _, o := range []client.Object{policy, binding} {
		if err := k.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = k.Delete(context.Background(), o) })
	}
	try := func(security *v1alpha1.PodSecurityContext) error {
		network.Spec.PodTemplate.SecurityContext = security
		set, err := resources.StatefulSet(network, builtFor, 0, true)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := json.Marshal(set.Spec.Template)
		if err != nil {
			t.Fatal(err)
		}
		var template corev1.PodTemplateSpec
		if err := json.Unmarshal(raw, &template); err != nil {
			t.Fatal(err)
		}
		pod := &corev1.Pod{ObjectMeta: template.ObjectMeta, Spec: template.Spec}
		pod.Name, pod.Namespace = "demo-v0-0", network.Namespace
		return k.Create(t.Context(), pod, client.DryRunAll)
	}
	// The API server takes a moment until the policy is in force.
	eventually(t, "a platform that refuses the ids of the image", func() bool {
		err := try(nil)
		return apierrors.IsInvalid(err) || apierrors.IsForbidden(err)
	})
	if err := try(&v1alpha1.PodSecurityContext{IDs: v1alpha1.PlatformIDs}); err != nil {
		t.Errorf("pods without ids are refused: %v", err)
	}
	if err := try(&v1alpha1.PodSecurityContext{RunAsUser: new(int64(1000650000)), RunAsGroup: new(int64(1000650000)), FSGroup: new(int64(1000650000))}); err != nil {
		t.Errorf("pods with ids of the range are refused: %v", err)
	}
}
