package integration

import (
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// Converged and without traffic the operator writes nothing, however often it looks, but once a
// minute that it looked. An operator that has just started does not either.
//
// Promise 64.
func TestAConvergedNetworkCostsNoWrite(t *testing.T) {
	c := newCluster(t)
	c.apply("demo")
	o := newOperator(t, c)
	o.settle("demo")
	before := o.journal.count()
	for range 2 {
		o.reconcile("demo")
		c.step(t.Context())
	}
	if o.journal.count() != before {
		t.Errorf("a converged network was written to: %v", o.journal.writes[before:])
	}
	seen := c.network("demo").Status.LastObserved
	for i := range 3 { // minutes
		o.skip(time.Minute)
		for range 3 {
			o.reconcile("demo")
		}
		if wrote := o.journal.writes[before:]; len(wrote) != i+1 || wrote[i] != "patch status *v1alpha1.DiseqNetwork demo" {
			t.Errorf("after %d minutes: %v", i+1, wrote)
		}
	}
	if now := c.network("demo").Status.LastObserved; now.Sub(seen.Time) < 2*time.Minute {
		t.Errorf("it was last observed at %v, three minutes ago at %v", now, seen)
	}
	another := newOperator(t, c)
	another.skip(3 * time.Minute)
	for range 2 {
		another.reconcile("demo")
		c.step(t.Context())
	}
	if another.journal.count() != 0 {
		t.Errorf("a new operator wrote to a converged network: %v", another.journal.writes)
	}
	if events := another.events.events; len(events) != 0 {
		t.Errorf("a new operator told of what is old: %v", events)
	}
}

// Under traffic heights change all the time. They are written so often that the one that is shown
// is at most ten seconds old, not with every look.
//
// Promise 64.
func TestTrafficCostsAtMostAWriteInSevenSeconds(t *testing.T) {
	c := newCluster(t)
	c.apply("demo")
	o := newOperator(t, c)
	o.settle("demo")
	before, began := o.journal.count(), time.Now().Add(o.late)
	for range 30 {
		o.skip(time.Second)
		c.height += 17
		c.step(t.Context())
		result, err := o.Reconcile(t.Context(), reconcile.Request{NamespacedName: types.NamespacedName{Namespace: c.namespace, Name: "demo"}})
		if err != nil {
			t.Fatal(err)
		}
		if n := c.network("demo"); n.Status.Height < int64(c.height) && result.RequeueAfter > 10*time.Second {
			t.Errorf("height %d is shown at %d, and for %v more", n.Status.Height, c.height, result.RequeueAfter)
		}
	}
	took := time.Now().Add(o.late).Sub(began)
	if wrote := o.journal.count() - before; wrote > 1+int(took/(6*time.Second)) || wrote < int(took/(10*time.Second)) {
		t.Errorf("%d writes within %v: %v", wrote, took, o.journal.writes[before:])
	}
}
