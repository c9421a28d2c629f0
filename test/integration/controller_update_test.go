package integration

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/diseq/diseq/api/v1alpha1"
	"github.com/diseq/diseq/controllers/membership"
)

func toImage(image string) func(*v1alpha1.DiseqNetwork) {
	return func(n *v1alpha1.DiseqNetwork) { n.Spec.Image = image }
}

// images are those of the pods, by pod.
func (c *cluster) images() map[string]string {
	c.t.Helper()
	pods := &corev1.PodList{}
	if err := c.client.List(c.t.Context(), pods, c.in()); err != nil {
		c.t.Fatal(err)
	}
	images := map[string]string{}
	for _, p := range pods.Items {
		images[p.Name] = p.Spec.Containers[0].Image
	}
	return images
}

// ready counts the pods that are ready.
func (c *cluster) ready() int {
	c.t.Helper()
	pods := &corev1.PodList{}
	if err := c.client.List(c.t.Context(), pods, c.in()); err != nil {
		c.t.Fatal(err)
	}
	n := 0
	for _, p := range pods.Items {
		if p.DeletionTimestamp == nil && podReady(&p) {
			n++
		}
	}
	return n
}

// Promise 60.
func TestAnImageIsRolledOneValidatorAtATime(t *testing.T) {
	c := newCluster(t)
	c.slow = 2
	c.apply("demo")
	o := newOperator(t, c)
	o.settle("demo")
	c.edit("demo", toImage("diseq:next"))
	for step := range 80 {
		o.reconcile("demo")
		if ready := c.ready(); ready < 3 {
			t.Fatalf("step %d: %d of threshold 3 validators are ready", step, ready)
		}
		c.step(t.Context())
		if n := c.network("demo"); settled(n) {
			break
		}
	}
	n := o.settle("demo")
	for pod, image := range c.images() {
		if image != "diseq:next" {
			t.Errorf("%s runs %s", pod, image)
		}
	}
	if reason := condition(n, v1alpha1.ConditionProgressing).Reason; reason != "UpToDate" {
		t.Errorf("Progressing for %s", reason)
	}
	deletes := 0
	for _, w := range o.journal.writes {
		if strings.HasPrefix(w, "delete Pod") {
			deletes++
		}
	}
	if deletes != 4 {
		t.Errorf("%d pods were deleted to roll 4", deletes)
	}
	c.checkStatements()
}

// With one validator too far behind, three are just the threshold; none of them may go. The laggard
// itself takes no vote away.
//
// Promise 60.
func TestNoPodIsRestartedThatTheQuorumNeeds(t *testing.T) {
	c := newCluster(t)
	c.apply("demo")
	o := newOperator(t, c)
	o.settle("demo")
	c.height = 1000
	c.behind["demo-v1"] = 100
	c.step(t.Context())
	c.edit("demo", toImage("diseq:next"))
	for range 10 {
		o.reconcile("demo")
		c.step(t.Context())
	}
	for pod, image := range c.images() {
		if (image == "diseq:next") != (pod == "demo-v1-0") {
			t.Errorf("%s runs %s while demo-v1 is behind", pod, image)
		}
	}
	progressing := condition(c.network("demo"), v1alpha1.ConditionProgressing)
	if !strings.Contains(progressing.Message, "demo-v1") || !strings.Contains(progressing.Message, "100 blocks behind") {
		t.Errorf("Progressing does not say what is waited for: %+v", progressing)
	}
	delete(c.behind, "demo-v1")
	c.step(t.Context())
	o.skip(membership.Damping)
	o.settle("demo")
}

// Promise 60.
func TestABadImageCostsOneValidatorAndIsRepaired(t *testing.T) {
	c := newCluster(t)
	c.apply("demo")
	o := newOperator(t, c)
	o.settle("demo")
	c.edit("demo", toImage("diseq:bad"))
	o.until("demo", "degraded by the image", func(n *v1alpha1.DiseqNetwork) bool {
		return condition(n, v1alpha1.ConditionDegraded).Reason == "ImagePullFailed"
	})
	for range 10 {
		o.reconcile("demo")
		c.step(t.Context())
	}
	n := c.network("demo")
	if ready := c.ready(); ready != 3 || condition(n, v1alpha1.ConditionAvailable).Status != metav1.ConditionTrue {
		t.Errorf("a bad image left %d validators:\n%s", ready, describe(n))
	}
	c.edit("demo", toImage("diseq:good"))
	o.settle("demo")
}

// A network that never ran, since its first image was wrong, comes up with the right one: pods that
// are not ready take no vote away.
//
// Promise 61.
func TestANetworkBornWithABadImageComesUpWithTheRightOne(t *testing.T) {
	c := newCluster(t)
	c.apply("demo", toImage("diseq:bad"))
	o := newOperator(t, c)
	o.until("demo", "degraded by the image", func(n *v1alpha1.DiseqNetwork) bool {
		return condition(n, v1alpha1.ConditionDegraded).Reason == "ImagePullFailed"
	})
	c.edit("demo", toImage("diseq:good"))
	o.settle("demo")
	c.checkStatements()
}

// With t = n every restart stops the chain, which the user has to allow.
//
// Promise 60.
func TestWithoutSpareValidatorsAnUpdateNeedsTheAnnotation(t *testing.T) {
	c := newCluster(t)
	c.apply("demo", withValidators(2))
	o := newOperator(t, c)
	o.settle("demo")
	c.edit("demo", toImage("diseq:next"))
	o.until("demo", "waiting to be allowed downtime", func(n *v1alpha1.DiseqNetwork) bool {
		p := condition(n, v1alpha1.ConditionProgressing)
		return p.Status == metav1.ConditionFalse && p.Reason == "RestartNeedsDowntime"
	})
	for range 5 {
		o.reconcile("demo")
		c.step(t.Context())
	}
	for pod, image := range c.images() {
		if image == "diseq:next" {
			t.Errorf("%s was restarted without leave", pod)
		}
	}
	c.edit("demo", func(n *v1alpha1.DiseqNetwork) {
		n.Annotations = map[string]string{"diseq.io/allow-downtime": "true"}
	})
	o.settle("demo")
	for pod, image := range c.images() {
		if image != "diseq:next" {
			t.Errorf("%s runs %s", pod, image)
		}
	}
}

// Promise 68.
func TestAPausedNetworkIsReportedAndNotTouched(t *testing.T) {
	c := newCluster(t)
	c.apply("demo")
	o := newOperator(t, c)
	o.settle("demo")
	before := o.journal.count()
	c.edit("demo", func(n *v1alpha1.DiseqNetwork) { n.Spec.Paused, n.Spec.Image = true, "diseq:next" })
	for range 5 {
		o.reconcile("demo")
		c.step(t.Context())
	}
	for _, w := range o.journal.writes[before:] {
		if !strings.HasPrefix(w, "patch status") {
			t.Errorf("a paused network was written to: %s", w)
		}
	}
	if p := condition(c.network("demo"), v1alpha1.ConditionProgressing); p.Reason != "Paused" || p.Status != metav1.ConditionFalse {
		t.Errorf("Progressing %+v", p)
	}
	c.edit("demo", func(n *v1alpha1.DiseqNetwork) { n.Spec.Paused = false })
	o.settle("demo")
}

// A lost quorum changes nothing but what repairs it: no pod that runs is deleted, a missing one
// comes back.
//
// Promise 61.
func TestUnderALostQuorumOnlyRepairsAreMade(t *testing.T) {
	c := newCluster(t)
	c.apply("demo")
	o := newOperator(t, c)
	o.settle("demo")
	c.silent["demo-v0"], c.silent["demo-v1"] = true, true
	c.step(t.Context())
	c.edit("demo", toImage("diseq:next"))
	for range 8 {
		o.reconcile("demo")
		c.step(t.Context())
	}
	n := c.network("demo")
	if a := condition(n, v1alpha1.ConditionAvailable); a.Reason != "QuorumLost" || !strings.Contains(a.Message, "demo-v0") {
		t.Errorf("Available %+v", a)
	}
	for pod, image := range c.images() {
		if image == "diseq:next" {
			t.Errorf("%s was restarted under a lost quorum", pod)
		}
	}
	if err := c.client.Delete(t.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: c.namespace, Name: "demo-v0-0"}},
		client.GracePeriodSeconds(0)); err != nil {
		t.Fatal(err)
	}
	delete(c.silent, "demo-v0")
	delete(c.silent, "demo-v1")
	o.settle("demo")
}
