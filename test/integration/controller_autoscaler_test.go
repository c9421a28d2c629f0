package integration

import (
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/diseq/diseq/api/v1alpha1"
)

// An autoscaler sets one number after the other, faster than a set can change. No quorum is lost
// and nobody is stopped that a set needs; the condition names the autoscaler. When it is quiet, the
// set becomes the last one that it asked for.
//
// Promise 62.
func TestAnAutoscalerThatCannotMakeUpItsMindCostsNoQuorum(t *testing.T) {
	c := newCluster(t)
	c.apply("demo", func(n *v1alpha1.DiseqNetwork) { n.Spec.Storage.Retention.OnScaleDown = v1alpha1.DeletePolicy })
	o := audited(t, c)
	o.settle("demo")
	named := false
	for _, replicas := range []int32{6, 3, 5} {
		scale := &autoscalingv1.Scale{Spec: autoscalingv1.ScaleSpec{Replicas: replicas}}
		err := c.client.SubResource("scale").Update(t.Context(), c.network("demo"), client.WithSubResourceBody(scale),
			client.FieldOwner("kube-controller-manager"))
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			o.reconcile("demo")
			c.step(t.Context())
			c.audit(t.Context())
			o.skip(pace)
			m := condition(c.network("demo"), v1alpha1.ConditionMembershipChanging)
			if m.Status == metav1.ConditionTrue && !strings.Contains(m.Message, "kube-controller-manager") {
				t.Errorf("the autoscaler is not named: %s", m.Message)
			}
			named = named || m.Status == metav1.ConditionTrue
		}
	}
	if !named {
		t.Error("nothing changed, so that nothing was tried")
	}
	o.scale("as the autoscaler asked at last", changed)
	o.scale("rid of the others", func(*v1alpha1.DiseqNetwork) bool { return len(c.names(&appsv1.StatefulSetList{})) == 5 })
	c.kubectl("scale", "dsq", "demo", "--replicas=4")
	o.reconcile("demo")
	if m := condition(c.network("demo"), v1alpha1.ConditionMembershipChanging); m.Status != metav1.ConditionTrue || strings.Contains(m.Message, "through the scale subresource") {
		t.Errorf("a person scaled, and it says %s: %s", m.Status, m.Message)
	}
	c.checkStatements()
}
