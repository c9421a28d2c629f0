package integration

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/diseq/diseq/api/v1alpha1"
	"github.com/diseq/diseq/controllers/membership"
)

func waiting(delta time.Duration) func(*v1alpha1.DiseqNetwork) {
	return func(n *v1alpha1.DiseqNetwork) {
		n.Spec.Consensus.Synchrony = &v1alpha1.Synchrony{Delta: metav1.Duration{Duration: delta}}
	}
}

func TestTheSynchronyWaitIsInTheGenesisDocumentAndInTheStatus(t *testing.T) {
	c := newCluster(t)
	c.apply("demo", waiting(250*time.Millisecond))
	c.apply("other")
	o := newOperator(t, c)
	n, other := o.settle("demo"), o.settle("other")
	if d := c.chainOf(t.Context(), "demo").genesis.SynchronyDeltaMS; d != 250 {
		t.Errorf("the genesis document has a Delta of %d ms", d)
	}
	if d := n.Status.SynchronyDelta; d == nil || d.Duration != 250*time.Millisecond {
		t.Errorf("the status has a Delta of %v", d)
	}
	if d, ms := other.Status.SynchronyDelta, c.chainOf(t.Context(), "other").genesis.SynchronyDeltaMS; d != nil || ms != 0 {
		t.Errorf("without the wait there is a Delta of %v, in the genesis document of %d ms", d, ms)
	}
}

// Promise 65.
func TestANetworkWithTheSynchronyWaitIsResumedWithTheSameDeltaOnly(t *testing.T) {
	c := newCluster(t)
	c.apply("demo", waiting(100*time.Millisecond))
	o := newOperator(t, c)
	born := o.settle("demo")
	c.remove("demo")
	c.apply("demo", waiting(101*time.Millisecond))
	n := o.until("demo", "refused", func(n *v1alpha1.DiseqNetwork) bool {
		return condition(n, v1alpha1.ConditionProgressing).Reason == "RetainedGenesisMismatch"
	})
	if m := condition(n, v1alpha1.ConditionProgressing).Message; !strings.Contains(m, "synchrony delta 100 ms") || !strings.Contains(m, "synchrony delta 101 ms") {
		t.Errorf("the message does not name both: %s", m)
	}
	c.remove("demo")
	c.apply("demo", waiting(100*time.Millisecond))
	if again := o.settle("demo"); again.Status.GenesisHash != born.Status.GenesisHash {
		t.Errorf("genesis hash %s, was %s", again.Status.GenesisHash, born.Status.GenesisHash)
	}
}

// A validator that does not hear the others in time does not vote, whatever its pod looks like:
// none of the others may go.
//
// Promise 60.
func TestNoPodIsRestartedWhileTheSynchronyWaitKeepsAnotherFromVoting(t *testing.T) {
	c := newCluster(t)
	c.apply("demo", waiting(100*time.Millisecond))
	o := newOperator(t, c)
	o.settle("demo")
	c.deaf["demo-v1"] = true
	c.step(t.Context())
	c.edit("demo", toImage("diseq:next"))
	for range 10 {
		o.reconcile("demo")
		c.step(t.Context())
	}
	for pod, image := range c.images() {
		if (image == "diseq:next") != (pod == "demo-v1-0") {
			t.Errorf("%s runs %s while demo-v1 abstains", pod, image)
		}
	}
	n := c.network("demo")
	if d := condition(n, v1alpha1.ConditionDegraded); d.Reason != "Abstaining" || !strings.Contains(d.Message, "demo-v1 abstains") {
		t.Errorf("Degraded %+v", d)
	}
	if a := condition(n, v1alpha1.ConditionAvailable); a.Reason != "ThresholdReady" || n.Status.ReadyValidators != 3 {
		t.Errorf("%d ready, Available %+v", n.Status.ReadyValidators, a)
	}
	c.deaf["demo-v2"] = true
	o.until("demo", "without time", func(n *v1alpha1.DiseqNetwork) bool {
		a := condition(n, v1alpha1.ConditionAvailable)
		return a.Status == metav1.ConditionFalse && a.Reason == "SynchronyLost"
	})
	// It votes again: the update goes on at once, whatever is still shown.
	clear(c.deaf)
	c.step(t.Context())
	o.until("demo", "rolled", func(*v1alpha1.DiseqNetwork) bool {
		images := c.images()
		return len(images) == 4 && !slices.ContainsFunc(slices.Collect(maps.Values(images)), func(i string) bool { return i != "diseq:next" })
	})
	o.skip(membership.Damping)
	o.settle("demo")
}

// The API server sends no event when a validator votes again. As long as one abstains, the operator
// looks at the network every few seconds, with something to do and without.
func TestANetworkInWhichAValidatorAbstainsIsLookedAtSoonAgain(t *testing.T) {
	c := newCluster(t)
	c.apply("demo", waiting(100*time.Millisecond))
	o := newOperator(t, c)
	o.settle("demo")
	again := func() time.Duration {
		result, err := o.Reconcile(t.Context(), reconcile.Request{NamespacedName: types.NamespacedName{Namespace: c.namespace, Name: "demo"}})
		if err != nil {
			t.Fatal(err)
		}
		c.step(t.Context())
		return result.RequeueAfter
	}
	if after := again(); after < 10*time.Second || after > 12*time.Second {
		t.Errorf("with nothing to wait for, again after %v", after)
	}
	c.deaf["demo-v1"] = true
	c.step(t.Context())
	for _, change := range []func(){
		func() {},
		func() { c.edit("demo", toImage("diseq:next")) },
		func() { c.deaf["demo-v2"], c.deaf["demo-v3"] = true, true },
	} {
		change()
		for range 4 {
			if after := again(); after <= 0 || after > 3*time.Second {
				t.Errorf("again after %v:\n%s", after, describe(c.network("demo")))
			}
		}
	}
}

// A validator that hears the others in time at every other look is reported once, and is shown as
// well after a while.
//
// Promise 64.
func TestAFlappingValidatorCostsNoWriteALook(t *testing.T) {
	c := newCluster(t)
	c.apply("demo", waiting(100*time.Millisecond))
	o := newOperator(t, c)
	o.settle("demo")
	before, told := o.journal.count(), len(o.events.events)
	for i := range 20 {
		c.deaf["demo-v1"] = i%2 == 0
		c.step(t.Context())
		o.skip(2 * time.Second)
		o.reconcile("demo")
	}
	n := c.network("demo")
	if d := condition(n, v1alpha1.ConditionDegraded); d.Reason != "Abstaining" || settled(n) {
		t.Errorf("Degraded %+v", d)
	}
	if wrote, told := o.journal.count()-before, len(o.events.events)-told; wrote != 1 || told > 3 {
		t.Errorf("%d writes, events %v", wrote, o.events.events)
	}
	o.skip(membership.Damping)
	if o.settle("demo"); o.journal.count()-before != 2 {
		t.Errorf("%d writes", o.journal.count()-before)
	}
}

// Evidence that nodes found against a validator reaches the user of kubectl once, and stays while
// the nodes are silent.
func TestEvidenceIsReportedOnceAndStays(t *testing.T) {
	c := newCluster(t)
	c.apply("demo")
	o := newOperator(t, c)
	n := o.settle("demo")
	if e := condition(n, v1alpha1.ConditionEvidenceFound); e.Status != metav1.ConditionFalse || e.Reason != "NoEvidence" {
		t.Errorf("without evidence: %+v", e)
	}
	c.evidence["demo-v2"] = 1
	is := func(n *v1alpha1.DiseqNetwork) bool {
		e := condition(n, v1alpha1.ConditionEvidenceFound)
		return e.Status == metav1.ConditionTrue && e.Reason == "ValidatorsMisbehaved" && strings.Contains(e.Message, "demo-v2")
	}
	n = o.until("demo", "told of the evidence", is)
	if !settled(n) {
		t.Errorf("evidence degrades the network:\n%s", describe(n))
	}
	c.silent["demo-v2"] = true
	n = o.until("demo", "one down", func(n *v1alpha1.DiseqNetwork) bool { return n.Status.ReadyValidators == 3 })
	if !is(n) {
		t.Errorf("with its holder silent: %+v", condition(n, v1alpha1.ConditionEvidenceFound))
	}
	told := 0
	for _, e := range o.events.events {
		if strings.Contains(e, "ValidatorsMisbehaved") {
			told++
			if !strings.Contains(e, "Warning") {
				t.Errorf("it is told as %s", e)
			}
		}
	}
	if told != 1 {
		t.Errorf("told %d times, want once: %v", told, o.events.events)
	}
}
