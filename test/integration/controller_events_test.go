package integration

import (
	"slices"
	"strings"
	"testing"

	autoscalingv1 "k8s.io/api/autoscaling/v1"

	"github.com/diseq/diseq/api/v1alpha1"
)

// since are the events after the first so many.
func (o *operator) since(from int) []string { return slices.Clone(o.events.events[from:]) }

// Somebody scales a paused network. The API server takes that, so that kubectl says "scaled". A
// Warning says that it does not happen, once for each wish. The scale subresource has what is asked
// for and what is there.
func TestScalingAPausedNetworkIsAWarning(t *testing.T) {
	c := newCluster(t)
	c.apply("demo", func(n *v1alpha1.DiseqNetwork) { n.Spec.Paused = false })
	o := newOperator(t, c)
	o.settle("demo")
	reported := len(o.events.events)
	c.edit("demo", func(n *v1alpha1.DiseqNetwork) { n.Spec.Paused = true })
	for range 3 {
		o.reconcile("demo")
	}
	for _, e := range o.since(reported) {
		if strings.HasPrefix(e, "Warning ") {
			t.Errorf("paused as asked for: %s", e)
		}
	}
	for _, replicas := range []string{"6", "7"} {
		reported = len(o.events.events)
		c.kubectl("scale", "dsq", "demo", "--replicas="+replicas)
		for range 5 {
			o.reconcile("demo")
			o.skip(pace)
		}
		if got := o.since(reported); len(got) != 1 || !strings.HasPrefix(got[0], "Warning Paused MembershipChanging: ") ||
			!strings.Contains(got[0], "of "+replicas) {
			t.Errorf("scaled to %s while paused: %q", replicas, got)
		}
	}
	scale := &autoscalingv1.Scale{}
	if err := c.client.SubResource("scale").Get(t.Context(), c.network("demo"), scale); err != nil {
		t.Fatal(err)
	}
	if scale.Spec.Replicas != 7 || scale.Status.Replicas != 4 {
		t.Errorf("the scale subresource has %d of %d", scale.Status.Replicas, scale.Spec.Replicas)
	}
}

// An update of the whole network, from one image to another, makes no Warning. Its restarts are
// Normal, one for each validator.
func TestAnUpdateMakesNoWarning(t *testing.T) {
	c := newCluster(t)
	c.apply("demo")
	o := newOperator(t, c)
	o.settle("demo")
	reported := len(o.events.events)
	c.edit("demo", toImage("diseq:next"))
	o.settle("demo")
	restarts := 0
	for _, e := range o.since(reported) {
		if strings.HasPrefix(e, "Warning ") {
			t.Errorf("a planned restart: %s", e)
		}
		if strings.HasPrefix(e, "Normal Restarting ") {
			restarts++
		}
	}
	if restarts != 4 || len(o.since(reported)) > 8 {
		t.Errorf("%d restarts in %q", restarts, o.since(reported))
	}
}

// The birth of a network and its growth are reported, each step once and none as a Warning.
func TestBirthAndGrowthAreReportedOnce(t *testing.T) {
	c := newCluster(t)
	c.apply("demo")
	o := newOperator(t, c)
	o.settle("demo")
	c.edit("demo", withValidators(5))
	o.scale("grown", changed)
	for _, reason := range []string{"GenesisMade", "TargetDeclared", "SetChanged"} {
		var found []string
		for _, e := range o.since(0) {
			if strings.HasPrefix(e, "Normal "+reason+" ") {
				found = append(found, e)
			}
		}
		if len(found) != 1 {
			t.Errorf("%s: %q", reason, found)
		}
		if reason == "SetChanged" && !strings.Contains(strings.Join(found, ""), "5 validators, threshold 3, generation 1; joined: demo-v4") {
			t.Errorf("the change is reported as %q", found)
		}
	}
	for _, e := range o.since(0) {
		if strings.HasPrefix(e, "Warning ") {
			t.Errorf("nothing was wrong: %s", e)
		}
	}
}
