package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/diseq/diseq/api/v1alpha1"
	"github.com/diseq/diseq/controllers/resources"
	"github.com/diseq/diseq/controllers/status"
	"github.com/diseq/diseq/internal/clientcmd"
)

// operator changes the status of the network at each look of the command at it, step by step.
func operator(t *testing.T, steps ...func(n *v1alpha1.DiseqNetwork)) interceptor.Funcs {
	looks := -1 // the first look is before the request
	return interceptor.Funcs{Get: func(
		ctx context.Context, c ctrl.WithWatch, key ctrl.ObjectKey, o ctrl.Object, options ...ctrl.GetOption,
	) error {
		if _, ok := o.(*v1alpha1.DiseqNetwork); ok {
			if looks >= 0 && looks < len(steps) {
				n := &v1alpha1.DiseqNetwork{}
				must(t, c.Get(ctx, key, n))
				steps[looks](n)
				must(t, c.Status().Update(ctx, n))
			}
			looks++
		}
		return c.Get(ctx, key, o, options...)
	}}
}

// Replace names the validators in spec.retire, keeps the names that are there, and waits for the
// set that the spec asks for.
func TestReplace(t *testing.T) {
	w := newWorld(t, operator(t,
		func(*v1alpha1.DiseqNetwork) {},
		func(n *v1alpha1.DiseqNetwork) {
			n.Generation = 1 // the fake API server counts no generations
			condition(n, v1alpha1.ConditionMembershipChanging, metav1.ConditionTrue, status.WaitingForNewcomers, "demo-v4 is started")
		},
		func(*v1alpha1.DiseqNetwork) {},
		func(n *v1alpha1.DiseqNetwork) {
			n.Status.SetGeneration = 1
			n.Status.Members = append(n.Status.Members, v1alpha1.Member{Name: "demo-v4"})
			condition(n, v1alpha1.ConditionMembershipChanging, metav1.ConditionFalse, status.SetAsSpecified, "as specified")
		},
	), network(func(n *v1alpha1.DiseqNetwork) {
		n.Spec.Retire = []string{"demo-v9"}
		condition(n, v1alpha1.ConditionMembershipChanging, metav1.ConditionTrue, status.WaitingForLeavers, "demo-v9 goes")
	}))
	out := w.succeeds("replace", "demo-v2")
	if want := `demo: asked for others in the place of demo-v2
waiting: WaitingForLeavers: demo-v9 goes
waiting: WaitingForNewcomers: demo-v4 is started
demo: demo-v2 left, demo-v4 joined; the set has 4 validators, generation 1
`; out != want {
		t.Errorf("replace says\n%s\nwant\n%s", out, want)
	}
	n := network()
	must(t, w.refresh(t.Context(), n))
	if !slices.Equal(n.Spec.Retire, []string{"demo-v9", "demo-v2"}) {
		t.Errorf("spec.retire is %v", n.Spec.Retire)
	}
}

func TestReplaceRefusesWhatCannotBe(t *testing.T) {
	w := newWorld(t, interceptor.Funcs{}, network(func(n *v1alpha1.DiseqNetwork) {
		n.Status.Members[0].Phase, n.Status.ReadyValidators = v1alpha1.MemberRetired, 2
	}))
	w.fails(clientcmd.ExitUsage, []string{`"demo" is not the name of a validator`}, "replace", "demo")
	w.fails(clientcmd.ExitUsage, []string{"of two networks"}, "replace", "demo-v1", "other-v1")
	w.fails(clientcmd.ExitFailure, []string{"demo has no validator demo-v7"}, "replace", "demo-v7")
	w.fails(clientcmd.ExitFailure, []string{"demo-v0 has left already"}, "replace", "demo-v0")
	w.fails(clientcmd.ExitFailure, []string{"cannot change now: 2 validators vote, and a change needs 3", "--force"}, "replace", "demo-v1")
	n := network()
	must(t, w.refresh(t.Context(), n))
	if n.Spec.Retire != nil {
		t.Errorf("spec.retire is %v", n.Spec.Retire)
	}
	w.succeeds("replace", "demo-v1", "--force", "--wait=false")
	must(t, w.refresh(t.Context(), n))
	if !slices.Equal(n.Spec.Retire, []string{"demo-v1"}) {
		t.Errorf("with --force spec.retire is %v", n.Spec.Retire)
	}
}

// A restart of a network is over when its status has the request.
func TestRestartOfANetwork(t *testing.T) {
	request := fmt.Sprint(now.UnixMilli())
	w := newWorld(t, operator(t,
		func(*v1alpha1.DiseqNetwork) {},
		func(n *v1alpha1.DiseqNetwork) {
			condition(n, v1alpha1.ConditionProgressing, metav1.ConditionFalse, status.RestartNeedsDowntime, "every restart stops the chain")
		},
		func(n *v1alpha1.DiseqNetwork) {
			if n.Annotations[resources.RestartAnnotation] != request {
				t.Errorf("the annotations are %v", n.Annotations)
			}
			n.Status.Restarted = request
		},
	), network())
	out := w.succeeds("restart", "demo")
	if want := `demo: asked for a restart of all validators
waiting: the operator has not seen it yet
waiting: RestartNeedsDowntime: every restart stops the chain
demo: restarted all validators
`; out != want {
		t.Errorf("restart says\n%s\nwant\n%s", out, want)
	}
}

// A restart of one validator is over when its pod was made after the request, and is ready.
func TestRestartOfAValidator(t *testing.T) {
	var w *world
	restarted := func(*v1alpha1.DiseqNetwork) {
		set := statefulSet(1)
		must(t, w.refresh(t.Context(), set))
		p := pod(1, "", nil)
		must(t, w.refresh(t.Context(), p))
		p.Annotations = map[string]string{resources.ValidatorRestartAnnotation: set.Annotations[resources.RestartAnnotation]}
		must(t, w.Update(t.Context(), p))
	}
	w = newWorld(t, operator(t, func(*v1alpha1.DiseqNetwork) {}, restarted), network(), statefulSet(0), statefulSet(1), pod(0, "", nil), pod(1, "", nil))
	w.succeeds("restart", "demo", "--validator", "demo-v1")
	var sets appsv1.StatefulSetList
	must(t, w.List(t.Context(), &sets))
	for _, s := range sets.Items {
		if got := s.Annotations[resources.RestartAnnotation]; (got != "") != (s.Name == "demo-v1") {
			t.Errorf("%s has the request %q", s.Name, got)
		}
	}
	w.fails(clientcmd.ExitUsage, []string{"--validator other-v1: not a validator of demo"}, "restart", "demo", "--validator", "other-v1")
	w.fails(clientcmd.ExitFailure, []string{`"demo-v7" not found`}, "restart", "demo", "--validator", "demo-v0,demo-v7")
	set := statefulSet(0)
	must(t, w.refresh(t.Context(), set))
	if set.Annotations != nil {
		t.Errorf("a mistake restarts demo-v0: %v", set.Annotations)
	}
}

// A command that waits too long says what for, and how to go on.
func TestWaitingEnds(t *testing.T) {
	w := newWorld(t, interceptor.Funcs{}, network(func(n *v1alpha1.DiseqNetwork) {
		condition(n, v1alpha1.ConditionProgressing, metav1.ConditionFalse, status.WaitingForQuorum, "demo-v1 has to come back first")
	}))
	o := w.run("", "restart", "--timeout", (50 * time.Millisecond).String())
	if o.code != clientcmd.ExitFailure || !strings.Contains(o.stderr, "still asked for; the operator waits: WaitingForQuorum: demo-v1 has to come back first") {
		t.Errorf("%+v", o)
	}
}
