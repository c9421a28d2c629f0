package status

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/diseq/diseq/api/v1alpha1"
	"github.com/diseq/diseq/controllers/membership"
	"github.com/diseq/diseq/controllers/nodeclient"
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
		v.condition(v1alpha1.ConditionAccessReady, accessReady(v)),
		v.condition(v1alpha1.ConditionReady, ready(v)),
		v.condition(v1alpha1.ConditionReconciling, reconciling(v)),
		v.condition(v1alpha1.ConditionStalled, stalled(v)),
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
	// found gets each member that violates a policy; nil if nobody wants to know.
	found func(reason string, s membership.Standing, text string)
}

// view counts. A steady quorum counts as the threshold, although more validators may be shown as
// missing: at every look the threshold counted, if not the same validators each time.
func (o Observation) view() view {
	set := o.Network.Seen.Set
	v := view{Observation: o, standings: o.Network.Standings, n: len(set.Validators), t: set.Threshold}
	if (o.Network.Seen.Chain || v.lost()) && !set.Known() {
		v.n, v.t = int(o.Old.Validators), int(o.Old.Threshold)
	}
	v.caughtUp, v.up = v.standings.CaughtUp(), v.standings.Up()
	if o.Network.Steady {
		v.caughtUp = max(v.caughtUp, v.t)
	}
	v.up = max(v.up, v.caughtUp)
	return v
}

// lost says that the network had its genesis document, and that nobody has it now.
func (v view) lost() bool { return !v.Network.Seen.Chain && v.GenesisHash != "" }

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

// longest is the limit of a message in bytes: readable, and far below the API server's own limit.
const longest = 2048

// shorten cuts a text after most bytes.
func shorten(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "..."
}

// count says how many validators are caught up, and names the others. If too few are up, those that
// are up abstain for that reason, so that they are not named.
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

// counted says whether a validator is in the set in force. While that is not known, all are.
func (v view) counted(s membership.Standing) bool { return s.InSet || !v.Network.Seen.Set.Known() }

// wanted is the number of validators that must have their objects.
func (v view) wanted() int {
	switch {
	case v.Network.Seen.Set.Known():
		return v.n
	case v.Network.Seen.Chain, v.lost():
		return len(v.standings)
	}
	return v.Network.Seen.Validators
}

// hibernated says that no node is to run. A paused network goes on as it is.
func (v view) hibernated() bool {
	return v.Network.Seen.Hibernated && (!v.Network.Seen.Paused || len(v.running()) == 0)
}

// running are the members whose pods are there, stopping ones included.
func (v view) running() (names []string) {
	for _, s := range v.standings {
		if s.Pod != nil {
			names = append(names, s.Name)
		}
	}
	return names
}

// quorum says whether messages become final now.
func (v view) quorum() bool { return v.n > 0 && v.caughtUp >= v.t }

// available: at least threshold validators are ready and caught up, and one of them accepts
// messages. It follows the nodes alone: a problem of the operator neither makes it False nor takes
// the place of the reason for which it is.
func available(v view) verdict {
	full := v.standings.Full()
	switch {
	case v.quorum() && len(full) > 0 && len(full) == v.standings.CaughtUp():
		return no(SubmissionsRefused, "every submission is refused until 1 of %d validators has room on its disk for messages: "+
			"increase spec.storage.size", v.n)
	case v.quorum() && len(full) > 0:
		return yes(ThresholdReady, "%s; no room for messages: %s", v.count(), firstFew(full))
	case v.quorum() && v.caughtUp == v.n:
		return yes(AllValidatorsReady, "all %d validators are ready and caught up, threshold %d", v.n, v.t)
	case v.quorum():
		return yes(ThresholdReady, "%s", v.count())
	}
	return v.lacking()
}

// lacking says why there is no quorum. It distinguishes a network that starts from one that lost
// its quorum, and missing pods from late messages.
func (v view) lacking() verdict {
	short := v.t - v.up
	if short <= 0 {
		short = v.t - v.caughtUp
	}
	switch {
	case v.hibernated():
		return no(Hibernated, "spec.hibernated is true: nothing becomes final until it is false. Keys, volumes and chain are kept")
	case v.lost() && v.wasAvailable():
		return no(QuorumLost, "the genesis document is not there, so that the operator cannot ask the nodes; those that run go on without it")
	case !v.Network.Seen.Chain:
		return no(Starting, "waiting for the genesis document of %d validators", v.Network.Seen.Validators)
	case !v.Network.Seen.Set.Known() && v.wasAvailable():
		return no(QuorumLost, "%s: %s", v.Set.Message, v.absent())
	case !v.Network.Seen.Set.Known():
		return no(Starting, "%s: %s", v.Set.Message, v.absent())
	case v.storesLost() != "":
		return no(VoteStoresLost, "%s", v.storesLost())
	case v.entered() >= v.t:
		return no(Starting, "the set has just changed, and Kubernetes has to find the pods of its new validators ready: %s", v.count())
	case !v.wasAvailable():
		return no(Starting, "waiting for %d more to be ready: %s", short, v.count())
	case v.up >= v.t:
		return no(SynchronyLost, "enough validators are up, but nothing becomes final until %d more hear the others within %v: %s",
			short, v.Network.Seen.Set.Delta, v.count())
	}
	return no(QuorumLost, "nothing becomes final until %d more are ready: %s", short, v.count())
}

// wasAvailable says whether the network had a quorum before, by the conditions that it has. Earlier
// operators put their problems in the place of the reason; the height says more then.
func (v view) wasAvailable() bool {
	c := meta.FindStatusCondition(v.Old.Conditions, v1alpha1.ConditionAvailable)
	return c != nil && (c.Status == metav1.ConditionTrue || c.Reason == Starting && v.Old.SetGeneration > 0 ||
		slices.Contains([]string{QuorumLost, VoteStoresLost, SynchronyLost, SubmissionsRefused}, c.Reason) ||
		slices.Contains(problemReasons, c.Reason) && v.Old.Height > 0)
}

// entered is the number of validators that count, with those of a set that has just changed whose
// nodes vote and whose pods are not ready yet: the budget is still that of the change.
func (v view) entered() int {
	if v.Network.Seen.Set.Generation == 0 || !v.Network.Seen.Strict {
		return v.caughtUp
	}
	entered := v.caughtUp
	for _, s := range v.standings {
		if s.InSet && !s.CaughtUp && s.Pod != nil && !s.Pod.Ready && s.Answer != nil && s.Answer.TakesPart() &&
			s.Answer.Role == nodeclient.RoleValidator {
			entered++
		}
	}
	return entered
}

// absent says why validators do not answer.
func (v view) absent() string {
	var texts []string
	for _, s := range v.standings {
		if s.Answer == nil {
			texts = append(texts, s.Name+" "+s.Why)
		}
	}
	return firstFew(texts)
}

// quorumHealthy: one more validator may fail. A machine or a zone may carry several validators, so
// that the message says how many of these may fail.
func quorumHealthy(v view) verdict {
	switch {
	case !v.quorum() || v.hibernated():
		return v.lacking()
	case v.caughtUp > v.t:
		reason, domains := v.spareDomains()
		return yes(reason, "%d more may fail%s: %s", v.caughtUp-v.t, domains, v.count())
	case v.t == v.n:
		return no(NoSpareValidator, "no validator may fail: the threshold equals the number of validators (%d of %d)", v.t, v.n)
	}
	return no(NoSpareValidator, "no validator may fail until one more is back: %s", v.count())
}

// progressing: the operator is changing something. False when it is done, and when it cannot go on.
// A problem with one object does not stop an update of the pods.
func progressing(v view) verdict {
	reason, problems := v.stopping()
	rolls := v.Pods.Action == membership.Replace || v.Pods.Action == membership.Restart || v.Pods.Action == membership.WaitForMember
	if reason != "" {
		if rolls && !v.Network.Seen.Paused && !v.hibernated() {
			return yes(RollingUpdate, "%s. Besides: %s", v.Pods.Message, problems)
		}
		return no(reason, "%s", problems)
	}
	switch {
	case v.Network.Seen.Paused && v.Pods.Action == membership.Pause:
		return no(Paused, "%s", v.Pods.Message)
	case v.Network.Seen.Paused:
		return no(Paused, "spec.paused is true: the operator changes nothing until it is false")
	case v.hibernated() && len(v.running()) > 0:
		return yes(Hibernating, "spec.hibernated is true: waiting for %d nodes to stop: %s", len(v.running()), firstFew(v.running()))
	case v.hibernated() && !v.Network.Seen.Chain:
		return no(Hibernated, "spec.hibernated is true: the network is made when it is false")
	case v.hibernated():
		return no(Hibernated, "spec.hibernated is true: no node runs. When it is false, all start at once, and the chain goes on")
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
	if reason, message, violated := keyMissing(v); violated {
		return no(reason, "%s", message)
	}
	if made := v.made(); made < v.wanted() {
		return yes(Creating, "%d of %d validators have their key, volume claim and StatefulSet", made, v.wanted())
	}
	if starting := v.starting(); len(starting) > 0 {
		return yes(StartingPods, "waiting for %d of %d pods: %s", len(starting), v.wanted(), firstFew(starting))
	}
	switch changing := membershipChanging(v); {
	case changing.status == metav1.ConditionFalse:
		return v.upToDate()
	case v.Set.Stuck || changing.status == metav1.ConditionUnknown:
		return no(changing.reason, "%s", changing.message)
	default:
		return yes(ChangingSet, "%s", changing.message)
	}
}

// upToDate: all pods run what is wanted. Their volumes may still grow.
func (v view) upToDate() verdict {
	if resizes := v.resizes(false); len(resizes) > 0 {
		return yes(Resizing, "waiting for resizes: %s", firstFew(resizes))
	}
	return no(UpToDate, "all %d pods have the wanted template%s", v.n, v.rewritten())
}

// stopping are the problems that keep the operator from going on: the reason of the most serious
// one, and the messages of all, in the order of [policies].
func (v view) stopping() (reason, message string) {
	problems := slices.SortedStableFunc(slices.Values(v.Problems), func(a, b *Problem) int { return cmp.Compare(rank(a), rank(b)) })
	messages := make([]string, 0, len(problems))
	for _, p := range problems {
		reason, messages = cmp.Or(reason, p.Reason), append(messages, p.Message)
	}
	return reason, firstFew(messages)
}

// rank is the place of a problem among [problemReasons]: the more serious, the lower.
func rank(p *Problem) int {
	if i := slices.Index(problemReasons, p.Reason); i >= 0 {
		return i
	}
	return len(problemReasons)
}

// rewritten names the fields that admission rewrites, as the end of a sentence. Nothing is wrong
// with that: admission may inject a sidecar, or pull the image from another registry.
func (v view) rewritten() string {
	if len(v.Rewritten) == 0 {
		return ""
	}
	return "; the cluster's admission rewrites " + firstFew(v.Rewritten)
}

// made counts the members that have all their objects.
func (v view) made() int {
	made := 0
	for _, s := range v.standings {
		if v.counted(s) && s.Secret && s.Volume.Exists && s.StatefulSet.Exists {
			made++
		}
	}
	return made
}

// starting are the pods that are missing, stopping or not ready yet. A pod that Kubernetes cannot
// make or run, or that takes longer than a start does, is not among them: Degraded names it.
func (v view) starting() []string {
	var starting []string
	for _, s := range v.standings {
		if v.counted(s) && s.NoPod == "" &&
			(s.Pod == nil || s.Pod.Terminating || !s.Pod.Ready && s.Pod.Waiting == "" && v.Now.Sub(s.Pod.Since) < startTime) {
			starting = append(starting, s.Name+" "+s.Why)
		}
	}
	return starting
}

// membershipChanging: the set is not the one that the spec asks for, or validators outside of it
// still run. It is there from the birth of a network on, so that kubectl can wait for it.
func membershipChanging(v view) verdict {
	switch v.Set.Action {
	case membership.NoChain:
		if v.lost() {
			return verdict{metav1.ConditionUnknown, SetUnknown, "the genesis document is not there, and the validator set follows from it"}
		}
		return no(NoChainYet, "waiting for the genesis document of %d validators", v.Network.Seen.Validators)
	case membership.SetUnknown:
		return verdict{metav1.ConditionUnknown, SetUnknown, v.Set.Message}
	case membership.SetKept:
		text := fmt.Sprintf("%d validators, threshold %d", v.n, v.t)
		if len(v.Set.Unknown) > 0 {
			text += "; spec.retire has names that no validator of this network has: " + firstFew(v.Set.Unknown)
		}
		return no(SetAsSpecified, "%s", text)
	case membership.HibernateSet:
		if !v.Network.Seen.Set.Known() {
			return verdict{metav1.ConditionUnknown, Hibernated, v.Set.Message}
		}
	}
	text := v.Set.Message
	if v.Autoscaler != "" {
		text += fmt.Sprintf(". The number of validators was set by %s through the scale subresource. Do not let an autoscaler set it: "+
			"each validator that joins gets a new key and a new volume", v.Autoscaler)
	}
	return yes(changes[v.Set.Action], "%s", text)
}

// changes are the reasons for the actions of a change.
var changes = map[membership.SetAction]string{
	membership.RefuseSet:        InvalidSpec,
	membership.WaitForNewcomers: WaitingForNewcomers,
	membership.WaitForVotes:     WaitingForVotes,
	membership.WaitForUpdate:    WaitingForUpdate,
	membership.Declare:          WaitingForBlock,
	membership.WaitForBlock:     WaitingForBlock,
	membership.WaitForLeavers:   WaitingForLeavers,
	membership.PauseSet:         Paused,
	membership.HibernateSet:     Hibernated,
}

// evidenceFound: nodes hold evidence that a validator broke the voting rules. It is not part of
// Degraded: evidence is kept for ever, and would hide later problems for ever. The condition stays
// True while the node with the evidence does not answer.
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
		return yes(ValidatorsMisbehaved, "a validator broke the voting rules, or runs twice: %s. Run `diseq get evidence` on one of these "+
			"nodes, then `diseq evidence verify` to see which validator is at fault", firstFew(held))
	case silent && old != nil && old.Status == metav1.ConditionTrue:
		return verdict{old.Status, old.Reason, old.Message}
	}
	return no(NoEvidence, "no validator that answers holds evidence of a broken voting rule")
}

// degraded: a policy is violated. The first one gives the reason; the message has those of all.
func degraded(v view) verdict {
	if v.hibernated() {
		v.standings = nil // nodes that are stopped on purpose lack nothing
	}
	var reason string
	var messages []string
	for _, violatedBy := range policies {
		r, message, violated := violatedBy(v)
		if !violated {
			continue
		}
		if reason == "" {
			reason = r
		}
		messages = append(messages, message)
	}
	if reason == "" {
		return no(AsExpected, "no problems detected")
	}
	return yes(reason, "%s", firstFew(slices.Compact(messages)))
}
