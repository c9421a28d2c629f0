package main

import (
	"cmp"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/diseq/diseq/api/v1alpha1"
	"github.com/diseq/diseq/controllers/status"
)

// operatorAway is an age of the status that shows that no operator looks: it renews the status once
// a minute.
const operatorAway = 3 * time.Minute

// A view is a network with what its screen needs.
type view struct {
	*v1alpha1.DiseqNetwork
	// workers are the workers of the pods, by the validator; empty if they are not known.
	workers map[string]string
	now     time.Time
	out     strings.Builder
}

// screen draws a network.
func screen(network *v1alpha1.DiseqNetwork, workers map[string]string, now time.Time) string {
	v := &view{DiseqNetwork: network, workers: workers, now: now}
	v.head()
	if len(network.Status.Conditions) == 0 {
		v.line("The operator has not looked at this network yet. If that lasts, see whether it runs:")
		v.line("  kubectl get pods -A -l app.kubernetes.io/name=diseq-operator")
		return v.out.String()
	}
	v.validators()
	v.tolerated()
	v.operator()
	v.wrong()
	return v.out.String()
}

func (v *view) line(format string, args ...any) { fmt.Fprintf(&v.out, format+"\n", args...) }

func (v *view) condition(name string) metav1.Condition {
	if c := meta.FindStatusCondition(v.Status.Conditions, name); c != nil {
		return *c
	}
	return metav1.Condition{Type: name, Status: metav1.ConditionUnknown, Reason: "Unknown", Message: "the operator has not said"}
}

func (v *view) age(t *metav1.Time) string {
	return duration.HumanDuration(max(0, v.now.Sub(t.Time))) + " ago"
}

func (v *view) head() {
	s := &v.Status
	v.line("%s in %s: chain %s", v.Name, v.Namespace, cmp.Or(s.ChainID, "not made yet"))
	if len(s.Conditions) == 0 {
		return
	}
	available := v.condition(v1alpha1.ConditionAvailable)
	word := "not available"
	if available.Status == metav1.ConditionTrue {
		word = "available"
	}
	v.line("  %s: %s", word, available.Message)
	if s.FinalizedTime != nil {
		v.line("  block %d became final %s", s.Height, v.age(s.FinalizedTime))
	}
	switch {
	case s.LastObserved == nil:
	case v.now.Sub(s.LastObserved.Time) > operatorAway:
		v.line("  THIS IS OLD: the operator looked %s. See \"the operator is away\" in docs/operations.md", v.age(s.LastObserved))
	case s.ObservedGeneration < v.Generation:
		v.line("  seen by the operator %s, before the last edit of the spec", v.age(s.LastObserved))
	default:
		v.line("  seen by the operator %s", v.age(s.LastObserved))
	}
}

func (v *view) validators() {
	s := &v.Status
	text := "none of them counts now"
	if s.ReadyValidators > 0 {
		text = fmt.Sprintf("%d vote now", s.ReadyValidators)
	}
	v.line("\nVALIDATORS  %d in the set of generation %d, %d must sign, %s", s.Validators, s.SetGeneration, s.Threshold, text)
	table := tabwriter.NewWriter(&v.out, 0, 0, 3, ' ', 0)
	row := func(cells ...string) { _, _ = fmt.Fprintln(table, "  "+strings.Join(cells, "\t")) } // Flush reports errors
	row("NAME", "PHASE", "VOTES", "HEIGHT", "BEHIND", "WORKER", "WHY NOT")
	var retired []string
	for _, m := range s.Members {
		if m.Phase == v1alpha1.MemberRetired {
			retired = append(retired, m.Name)
			continue
		}
		behind := "-"
		if d := s.Height - m.Height; d > 0 {
			behind = fmt.Sprint(d)
		}
		row(m.Name, string(m.Phase), votes(m), fmt.Sprint(m.Height), behind, cmp.Or(v.workers[m.Name], "-"), cmp.Or(m.Reason, "-"))
	}
	_ = table.Flush() // a strings.Builder takes everything
	if len(retired) > 0 {
		v.line("  retired, with their volumes kept: %s", strings.Join(retired, ", "))
	}
}

// votes says whether a member votes; a dash is for one that is not in the set.
func votes(m v1alpha1.Member) string {
	switch {
	case m.Ready:
		return "yes"
	case m.Phase == v1alpha1.MemberValidator, m.Phase == v1alpha1.MemberRejoining:
		return "no"
	}
	return "-"
}

func (v *view) tolerated() {
	s := &v.Status
	if s.Tolerance == nil {
		return
	}
	v.line("\nTOLERATED")
	now := fmt.Sprintf("%d more may fail while messages still become final", s.DisruptionsAllowed)
	if s.DisruptionsAllowed == 0 {
		now = "no more may fail: the next failure stops the chain"
	}
	if c := v.condition(v1alpha1.ConditionAvailable); c.Status != metav1.ConditionTrue {
		now = "nothing becomes final"
	} else if d := s.FailureDomains; d != nil && d.Machines != nil {
		now += fmt.Sprintf("; %d of the %d machines may fail", d.Machines.MayFail, d.Machines.InUse)
		if len(d.Machines.Critical) > 0 {
			now += fmt.Sprintf(" (without %s the chain stops)", strings.Join(d.Machines.Critical, " or "))
		}
	}
	v.line("  now        %s", now)
	design := fmt.Sprintf("%d of %d may be down; no fork with %d Byzantine", s.Tolerance.Crash, s.Validators, s.Tolerance.Byzantine)
	if s.SynchronyDelta != nil {
		design += fmt.Sprintf(", or with %d while messages arrive within %v", s.Tolerance.ByzantineWithSynchrony, s.SynchronyDelta.Duration)
	}
	v.line("  by design  %s", design)
}

func (v *view) operator() {
	v.line("\nOPERATOR")
	switch c := v.condition(v1alpha1.ConditionProgressing); {
	case c.Status == metav1.ConditionTrue:
		v.line("  works (%s): %s", c.Reason, c.Message)
	case c.Reason == status.UpToDate, c.Reason == status.Hibernated:
		v.line("  has nothing to do (%s): %s", c.Reason, c.Message)
	default:
		v.line("  waits (%s): %s", c.Reason, c.Message)
	}
	switch c := v.condition(v1alpha1.ConditionMembershipChanging); {
	case c.Status == metav1.ConditionFalse && c.Reason == status.SetAsSpecified:
	case c.Status == metav1.ConditionFalse:
		v.line("  the set does not change (%s): %s", c.Reason, c.Message)
	default:
		v.line("  the set changes, %s (%s): %s", cmp.Or(v.Status.Change, "begun"), c.Reason, c.Message)
	}
}

// wrong lists the conditions that are not as one wishes. The head has Available already.
func (v *view) wrong() {
	var found []metav1.Condition
	for _, want := range []struct {
		condition string
		status    metav1.ConditionStatus
	}{
		{v1alpha1.ConditionDegraded, metav1.ConditionFalse},
		{v1alpha1.ConditionQuorumHealthy, metav1.ConditionTrue}, {v1alpha1.ConditionAccessReady, metav1.ConditionTrue},
		{v1alpha1.ConditionEvidenceFound, metav1.ConditionFalse},
	} {
		c := v.condition(want.condition)
		if c.Status != want.status && c.Message != v.condition(v1alpha1.ConditionAvailable).Message {
			found = append(found, c)
		}
	}
	if len(found) == 0 {
		return
	}
	v.line("\nWRONG  (what to do: docs/operations.md#kubernetes-conditions-and-reasons)")
	for _, c := range found {
		since := duration.HumanDuration(max(0, v.now.Sub(c.LastTransitionTime.Time)))
		v.line("  %s is %s for %s (%s): %s", c.Type, c.Status, since, c.Reason, c.Message)
	}
}
