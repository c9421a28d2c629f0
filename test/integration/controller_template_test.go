package integration

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/diseq/diseq/api/v1alpha1"
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
	c.edit("demo", func(n *v1alpha1.DiseqNetwork) { n.Spec.PodTemplate.Containers[0].EnvFrom[0].SecretRef.Name = "logs" })
	o.settle("demo")
	if c.get("demo-v0-0", after); after.UID == pod.UID || len(after.Spec.Containers) != 2 || after.Spec.Containers[1].Name != "thief" {
		t.Errorf("the pod has %d containers after the correction", len(after.Spec.Containers))
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
