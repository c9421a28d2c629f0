package status

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/diseq/diseq/api/v1alpha1"
	"github.com/diseq/diseq/controllers/membership"
)

// Conditions returns all conditions of a network, each with its status, reason, message, the
// generation that it is about and the time of the observation.
func Conditions(o Observation) []metav1.Condition {
	v := o.view()
	return []metav1.Condition{
		v.condition(v1alpha1.ConditionAvailable, available(v)),
		v.condition(v1alpha1.ConditionProgressing, progressing(v)),
		v.condition(v1alpha1.ConditionDegraded, degraded(v)),
		v.condition(v1alpha1.ConditionQuorumHealthy, quorumHealthy(v)),
		v.condition(v1alpha1.ConditionMembershipChanging, membershipChanging(v)),
		v.condition(v1alpha1.ConditionEvidenceFound, evidenceFound(v)),
	}
}

// view is an observation with what every condition counts.
type view struct {
	Observation
	standings membership.Standings
	n, t      int
	// caughtUp are those that count for the quorum; up are those that would if the synchrony wait
	// let them.
	caughtUp, up int
}

// view counts. Of a quorum that was there at every look the threshold counted each time, if not the
// same ones, whoever else is named.
func (o Observation) view() view {
	set := o.Network.Seen.Set
	v := view{Observation: o, standings: o.Network.Standings, n: len(set.Keys), t: set.Threshold}
	v.caughtUp, v.up = v.standings.CaughtUp(), v.standings.Up()
	if o.Network.Steady {
		v.caughtUp = max(v.caughtUp, v.t)
	}
	v.up = max(v.up, v.caughtUp)
	return v
}

// verdict is what a condition says.
type verdict struct {
	status  metav1.ConditionStatus
	reason  string
	message string
}

func yes(reason, format string, args ...any) verdict {
	return verdict{metav1.ConditionTrue, reason, fmt.Sprintf(format, args...)}
}

func no(reason, format string, args ...any) verdict {
	return verdict{metav1.ConditionFalse, reason, fmt.Sprintf(format, args...)}
}

func (v view) condition(kind string, is verdict) metav1.Condition {
	return metav1.Condition{
		Type:               kind,
		Status:             is.status,
		Reason:             is.reason,
		Message:            shorten(is.message, longest),
		ObservedGeneration: v.Generation,
		LastTransitionTime: metav1.NewTime(v.Now),
	}
}

// longest is what a message may have, in bytes: readable, and far below what the API server takes.
const longest = 2048

// shorten cuts a text after so many bytes.
func shorten(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "..."
}

// count tells how many are caught up, and who is not. Where too few are up, the others abstain
// because of that, which is no news.
func (v view) count() string {
	counted, standings := v.caughtUp, v.standings
	if v.up < v.t {
		counted = v.up
		standings = slices.DeleteFunc(slices.Clone(standings), func(s membership.Standing) bool { return s.Abstains })
	}
	text := fmt.Sprintf("%d of %d validators are ready and caught up, threshold %d", counted, v.n, v.t)
	if missing := standings.Missing(""); missing != "" {
		text += ": " + missing
	}
	return text
}

// quorum says whether messages become final.
func (v view) quorum() bool { return v.n > 0 && v.caughtUp >= v.t }

// available: at least threshold validators are ready and caught up. A problem that stops the
// operator does not stop nodes that run.
func available(v view) verdict {
	switch {
	case v.quorum() && v.caughtUp == v.n:
		return yes(AllValidatorsReady, "all %d validators are ready and caught up, threshold %d", v.n, v.t)
	case v.quorum():
		return yes(ThresholdReady, "%s", v.count())
	case v.Problem != nil:
		return no(v.Problem.Reason, "%s", v.Problem.Message)
	}
	return v.lacking()
}

// lacking tells a network that starts from one that lost its quorum, and lost pods from lost time.
func (v view) lacking() verdict {
	short := v.t - v.up
	if short <= 0 {
		short = v.t - v.caughtUp
	}
	switch {
	case v.n == 0:
		return no(Starting, "waiting for the genesis document of %d validators", v.Network.Seen.Validators)
	case !v.wasAvailable():
		return no(Starting, "waiting for %d more: %s", short, v.count())
	case v.up >= v.t:
		return no(SynchronyLost, "enough validators are up, but nothing becomes final until %d more hear the others within %v: %s",
			short, v.Network.Seen.Set.Delta, v.count())
	}
	return no(QuorumLost, "nothing becomes final until %d more are: %s", short, v.count())
}

// wasAvailable says whether the network had a quorum before. The resource remembers it.
func (v view) wasAvailable() bool {
	c := meta.FindStatusCondition(v.Old.Conditions, v1alpha1.ConditionAvailable)
	return c != nil && (c.Status == metav1.ConditionTrue || c.Reason == QuorumLost || c.Reason == SynchronyLost)
}

// quorumHealthy: one more validator may be lost.
func quorumHealthy(v view) verdict {
	switch {
	case !v.quorum():
		return v.lacking()
	case v.caughtUp > v.t:
		return yes(SpareValidators, "%d more may be lost: %s", v.caughtUp-v.t, v.count())
	case v.t == v.n:
		return no(NoSpareValidator, "no validator may be lost, ever: threshold %d of %d", v.t, v.n)
	}
	return no(NoSpareValidator, "no validator may be lost until one more is back: %s", v.count())
}

// progressing: the operator is changing something. False when it is done, and when it cannot go on.
func progressing(v view) verdict {
	switch {
	case v.Problem != nil:
		return no(v.Problem.Reason, "%s", v.Problem.Message)
	case v.Network.Seen.Paused && v.Pods.Action == membership.Pause:
		return no(Paused, "%s", v.Pods.Message)
	case v.Network.Seen.Paused:
		return no(Paused, "spec.paused is set: nothing is changed")
	}
	switch v.Pods.Action {
	case membership.Replace, membership.Restart, membership.WaitForMember:
		return yes(RollingUpdate, "%s", v.Pods.Message)
	case membership.WaitForQuorum:
		return no(WaitingForQuorum, "%s", v.Pods.Message)
	case membership.WaitForDowntime:
		return no(RestartNeedsDowntime, "%s", v.Pods.Message)
	case membership.Stuck:
		return no(UpdateStuck, "%s", v.Pods.Message)
	}
	if lost := v.withoutKey(); len(lost) > 0 {
		return no(KeyMissing, "%s", some(lost))
	}
	if made := v.made(); v.n == 0 || made < v.n {
		return yes(Creating, "%d of %d validators have their key, volume claim and StatefulSet", made, max(v.n, v.Network.Seen.Validators))
	}
	if starting := v.starting(); len(starting) > 0 {
		return yes(StartingPods, "waiting for %d of %d pods: %s", len(starting), v.n, some(starting))
	}
	if v.Set.Action == membership.Refuse {
		return no(ScalingNotSupported, "%s", v.Set.Message)
	}
	return no(UpToDate, "all %d pods have the wanted template", v.n)
}

// made counts the members that have all their objects.
func (v view) made() int {
	made := 0
	for _, s := range v.standings {
		if s.Secret && s.Volume.Exists && s.StatefulSet.Exists {
			made++
		}
	}
	return made
}

func (v view) withoutKey() []string {
	var lost []string
	for _, s := range v.standings {
		if s.InSet && !s.Secret {
			lost = append(lost, s.Name+" "+noKey)
		}
	}
	return lost
}

// starting are the pods that are missing, stopping or not ready yet. Whom Kubernetes cannot run, or
// who takes longer than a start does, is not on its way: Degraded tells of those.
func (v view) starting() []string {
	var starting []string
	for _, s := range v.standings {
		if s.Pod == nil || s.Pod.Terminating || (!s.Pod.Ready && s.Pod.Waiting == "" && v.Now.Sub(s.Pod.Since) < startTime) {
			starting = append(starting, s.Name+" "+s.Why)
		}
	}
	return starting
}

// membershipChanging: the set is being changed. This version never does.
func membershipChanging(v view) verdict {
	switch {
	case v.Set.Action == membership.Refuse:
		return no(ScalingNotSupported, "%s", v.Set.Message)
	case v.n == 0:
		return no(NoChainYet, "waiting for the genesis document of %d validators", v.Network.Seen.Validators)
	}
	return no(SetAsSpecified, "%d validators, threshold %d", v.n, v.t)
}

// evidenceFound: nodes hold evidence that a validator broke the rules. It is no part of degraded:
// evidence is kept for ever, and would hide for ever what comes later. What was found stays found
// while whoever holds it does not answer.
func evidenceFound(v view) verdict {
	var held []string
	silent := false
	for _, s := range v.standings {
		switch {
		case s.Answer == nil:
			silent = true
		case s.Answer.Evidence > 0:
			pieces := "pieces"
			if s.Answer.Evidence == 1 {
				pieces = "piece"
			}
			held = append(held, fmt.Sprintf("%s holds %d %s of evidence", s.Name, s.Answer.Evidence, pieces))
		}
	}
	old := meta.FindStatusCondition(v.Old.Conditions, v1alpha1.ConditionEvidenceFound)
	switch {
	case len(held) > 0:
		return yes(ValidatorsMisbehaved, "a validator broke the rules of voting, or runs twice: %s; `diseq get evidence` at one of them has it, "+
			"`diseq evidence verify` says against whom", some(held))
	case silent && old != nil && old.Status == metav1.ConditionTrue:
		return verdict{old.Status, old.Reason, old.Message}
	}
	return no(NoEvidence, "no validator that answers holds evidence that the rules of voting were broken")
}

// degraded: something is not as it should be. The first rule that is broken gives the reason, the
// most helpful one first; the message tells of every broken one.
func degraded(v view) verdict {
	var reason string
	var messages []string
	for _, rule := range rules {
		r, message, violated := rule(v)
		if !violated {
			continue
		}
		if reason == "" {
			reason = r
		}
		messages = append(messages, message)
	}
	if reason == "" {
		return no(AsExpected, "nothing is wrong that the operator knows of")
	}
	return yes(reason, "%s", some(slices.Compact(messages)))
}
