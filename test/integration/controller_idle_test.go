package integration

import (
	"testing"
	"time"
)

// Converged and without traffic the operator writes nothing, however often it looks; an operator
// that has just started does not either.
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
	another := newOperator(t, c)
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

// Under traffic heights change all the time; they are written once a minute, not with every look.
//
// Promise 64.
func TestTrafficCostsAtMostAWriteAMinute(t *testing.T) {
	c := newCluster(t)
	c.apply("demo")
	o := newOperator(t, c)
	o.settle("demo")
	before, began := o.journal.count(), time.Now()
	for range 10 {
		c.height += 17
		c.step(t.Context())
		o.reconcile("demo")
	}
	if wrote, took := o.journal.count()-before, time.Since(began); wrote > 1+int(took/time.Minute) {
		t.Errorf("%d writes within %v: %v", wrote, took, o.journal.writes[before:])
	}
}
