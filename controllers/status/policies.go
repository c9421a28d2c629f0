package status

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/diseq/diseq/controllers/membership"
	"github.com/diseq/diseq/controllers/nodeclient"
)

// startTime is how long a pod may take to become ready before that counts as wrong: pulling the
// image, attaching the volume, starting, asking the peers.
const startTime = membership.StartTime

// scheduleTime is how long the scheduler may find no place for a pod before that counts as wrong: a
// volume may have to be made first.
const scheduleTime = 20 * time.Second

// A policy is one thing that a network must not have. If it is violated, Degraded is True with the
// reason; the message names every member that violates it.
type policy func(view) (reason, message string, violated bool)

// policies in the order in which they give Degraded its reason. First come those by which a
// validator does not work and that need a person. Then come the problems of the operator, which
// stop no node that runs; an object that cannot be changed must not hide a container that is
// killed. Those that heal by themselves come last.
var policies = []policy{
	problemWith(KeyMismatch),
	keyMissing,
	voteStoresLost,
	wrongIdentity,
	wrongSet,
	volumeBeingDeleted,
	imagePullFailed,
	crashLooping,
	unschedulable,
	podMissing,
	podFailed,
	storageLow,
	statefulSetIgnored,
	notAnswering,
	notReady,
	resizeFailed,
	problemWith(RetainedGenesisMismatch),
	problemWith(NameConflict),
	problemWith(InvalidSpec),
	problemWith(AccessFilesMissing),
	problemWith(WriteRefused),
	problemWith(ChangeContested),
	problemWith(VolumeCannotGrow),
	otherProblem,
	rejoining,
	behind,
	abstaining,
	notVoting,
}

// problemReasons are the reasons of problems, the most serious one first. It is the order that they
// have among the policies.
var problemReasons = []string{
	KeyMismatch, KeyMissing, RetainedGenesisMismatch, NameConflict, InvalidSpec, AccessFilesMissing, WriteRefused, ChangeContested,
	VolumeCannotGrow,
}

// problemWith: the operator met problems with a reason, which it cannot solve.
func problemWith(reason string) policy {
	return func(v view) (string, string, bool) {
		messages := v.problems(reason)
		return reason, firstFew(messages), len(messages) > 0
	}
}

// otherProblem: the operator met a problem whose reason has no rank.
func otherProblem(v view) (reason, message string, violated bool) {
	i := slices.IndexFunc(v.Problems, func(p *Problem) bool { return !slices.Contains(problemReasons, p.Reason) })
	if i < 0 {
		return "", "", false
	}
	return problemWith(v.Problems[i].Reason)(v)
}

// problems are the messages of the problems with a reason.
func (v view) problems(reason string) (messages []string) {
	for _, p := range v.Problems {
		if p.Reason == reason {
			messages = append(messages, p.Message)
		}
	}
	return messages
}

// keyMissing: a validator of the set has no key Secret. The operator's own problem says more than
// what is seen of the member.
func keyMissing(v view) (reason, message string, violated bool) {
	if messages := v.problems(KeyMissing); len(messages) > 0 {
		return KeyMissing, firstFew(messages), true
	}
	return v.members(KeyMissing, func(s membership.Standing) string {
		if !s.InSet || s.Secret {
			return ""
		}
		return "has lost its key Secret: restore it from a backup, because no key is made twice"
	})
}

// wrongIdentity: a node with another key or chain answers at a validator's address.
func wrongIdentity(v view) (reason, message string, violated bool) {
	return v.members(WrongIdentity, func(s membership.Standing) string {
		if wrong, ok := errors.AsType[*nodeclient.IdentityError](s.Silence); ok {
			return "has another node at its address: " + wrong.Error()
		}
		return ""
	})
}

// wrongSet: a node runs with another set than the chain has. Nodes that are before or behind a
// change of the set are not compared, except by the Delta that no change alters.
func wrongSet(v view) (reason, message string, violated bool) {
	set := v.Network.Seen.Set
	return v.members(WrongSet, func(s membership.Standing) string {
		if s.Answer == nil || !set.Known() || s.Answer.Generation != set.Generation && s.Answer.Delta() == set.Delta {
			return ""
		}
		runs, wanted := setText(s.Answer.Threshold, s.Answer.Validators, s.Answer.Delta()), setText(v.t, v.n, set.Delta)
		if runs == wanted {
			return ""
		}
		return fmt.Sprintf("runs with %s, but the chain has %s", runs, wanted)
	})
}

// setText describes a validator set.
func setText(t, n int, delta time.Duration) string {
	text := fmt.Sprintf("threshold %d of %d validators", t, n)
	if delta > 0 {
		text += fmt.Sprintf(" and the synchrony wait of %v", delta)
	}
	return text
}

// volumeBeingDeleted: somebody deleted the claim of a pod that uses it. Without a running pod the
// claim goes at once, and the operator makes a new one.
func volumeBeingDeleted(v view) (reason, message string, violated bool) {
	return v.members(VolumeBeingDeleted, func(s membership.Standing) string {
		if !v.counted(s) || s.Pod == nil || s.Pod.Terminating || !s.Pod.Scheduled || !s.Volume.Terminating {
			return ""
		}
		return "will lose its volume and the votes on it when its pod stops, because the volume claim was deleted"
	})
}

func imagePullFailed(v view) (reason, message string, violated bool) {
	return v.notRunning(ImagePullFailed, 0)
}

func crashLooping(v view) (reason, message string, violated bool) {
	return v.notRunning(CrashLooping, 0)
}

func unschedulable(v view) (reason, message string, violated bool) {
	return v.notRunning(Unschedulable, scheduleTime)
}

func podFailed(v view) (reason, message string, violated bool) {
	return v.notRunning(PodFailed, 0)
}

// podMissing: for longer than a start takes nobody has made a validator's pod. A network without
// this policy looks as if the pod were on its way, for ever.
func podMissing(v view) (reason, message string, violated bool) {
	return v.members(PodMissing, func(s membership.Standing) string {
		if v.outside(s) || s.Pod != nil || s.NoPod == "" {
			return ""
		}
		return "has had no pod for 2 minutes: " + s.NoPod
	})
}

// statefulSetIgnored: for longer than a start takes the controller of StatefulSets has not looked
// at a change of one. Neither updates nor repairs reach the pod before it does.
func statefulSetIgnored(v view) (reason, message string, violated bool) {
	return v.members(StatefulSetIgnored, func(s membership.Standing) string {
		if v.outside(s) || !s.StatefulSet.Ignored {
			return ""
		}
		return "has a StatefulSet whose last change its controller has not looked at for 2 minutes: see whether the cluster's " +
			"kube-controller-manager runs"
	})
}

// causes maps the reasons of Kubernetes for which a pod does not run to those of this package. The
// reason for any other cause is PodFailed.
var causes = map[string]string{
	"ErrImagePull":                ImagePullFailed,
	"ImagePullBackOff":            ImagePullFailed,
	"InvalidImageName":            ImagePullFailed,
	"ErrImageNeverPull":           ImagePullFailed,
	"ImageInspectError":           ImagePullFailed,
	"RegistryUnavailable":         ImagePullFailed,
	"SignatureValidationFailed":   ImagePullFailed,
	"CrashLoopBackOff":            CrashLooping,
	corev1.PodReasonUnschedulable: Unschedulable,
}

// notRunning: Kubernetes has not been able to run a pod for longer than the grace period, for a
// cause with this reason.
func (v view) notRunning(of string, grace time.Duration) (reason, message string, violated bool) {
	return v.members(of, func(s membership.Standing) string {
		if v.outside(s) || s.Pod == nil || s.Pod.Ready || s.Pod.Terminating || s.Pod.Waiting == "" ||
			cmp.Or(causes[s.Pod.Waiting], PodFailed) != of || grace > 0 && v.Now.Sub(s.Pod.Since) < grace {
			return ""
		}
		text := "does not run: " + s.Pod.Waiting
		if s.Pod.Message != "" {
			text += " (" + s.Pod.Message + ")"
		}
		return text
	})
}

// outside says that no trouble of the pod or the disk of a validator counts: it has left the set,
// or it is not in it yet and answers. The pod of a newcomer is never ready, so that Kubernetes does
// not tell whether it runs.
func (v view) outside(s membership.Standing) bool {
	return !v.counted(s) && (s.Spent || s.Answer != nil)
}

// storageLow: a validator has no room on its disk for messages. It votes, and refuses submissions.
func storageLow(v view) (reason, message string, violated bool) {
	return v.members(StorageLow, func(s membership.Standing) string {
		if v.outside(s) || s.Answer == nil || !s.Answer.StorageLow {
			return ""
		}
		return "accepts no messages: " + cmp.Or(s.Answer.Reason, "it has no room on its disk") + "; increase spec.storage.size"
	})
}

// rejoining: a validator lost its vote store and does not vote until that is safe.
func rejoining(v view) (reason, message string, violated bool) {
	if v.storesLost() != "" {
		return "", "", false
	}
	return v.members(Rejoining, func(s membership.Standing) string {
		if s.InSet && s.Answer != nil && s.Answer.Role == nodeclient.RoleRejoining {
			return "is rejoining without its earlier votes, and votes again as soon as that is safe"
		}
		return ""
	})
}

// voteStoresLost: none of the validators that are rejoining can vote again.
func voteStoresLost(v view) (reason, message string, violated bool) {
	message = v.storesLost()
	return VoteStoresLost, message, message != ""
}

// storesLost says what the loss of more vote stores than n - t means; empty while fewer are lost.
// Those who are left are fewer than the threshold, and rejoining needs new blocks.
func (v view) storesLost() string {
	var lost []string
	for _, s := range v.standings {
		if s.InSet && s.Answer != nil && s.Answer.Role == nodeclient.RoleRejoining {
			lost = append(lost, s.Name)
		}
	}
	if v.n == 0 || len(lost) <= v.n-v.t || v.hibernated() {
		return ""
	}
	return fmt.Sprintf("%d of %d validators have lost their vote stores (%s), and with threshold %d at most %d may: no block becomes "+
		"final, so that none of them can vote again. Submit nothing: a 202 of this network promises nothing any more. If volumes of these "+
		"validators still exist, bring them back. Otherwise the chain has ended at height %d. Its blocks and receipts stay valid, and a new "+
		"network under another name goes on: keep the volumes and keys of this one", len(lost), v.n, firstFew(lost), v.t, v.n-v.t,
		v.Network.Seen.Height())
}

// notAnswering: the node of a ready pod does not answer the operator.
func notAnswering(v view) (reason, message string, violated bool) {
	return v.members(NotAnswering, func(s membership.Standing) string {
		if s.Trouble != membership.Silent {
			return ""
		}
		return s.Why
	})
}

// notReady: a pod that Kubernetes runs has not been ready for longer than a start takes, for
// another reason than room for messages.
func notReady(v view) (reason, message string, violated bool) {
	return v.members(NotReady, func(s membership.Standing) string {
		if !v.counted(s) || s.Pod == nil || s.Pod.Ready || s.Back || s.Pod.Waiting != "" || s.Pod.Since.IsZero() ||
			v.Now.Sub(s.Pod.Since) < startTime {
			return ""
		}
		return s.Why
	})
}

// behind: a node believes itself ready and is behind the others. One that has just been started may
// fall behind once more, so that is not reported.
func behind(v view) (reason, message string, violated bool) {
	return v.members(Behind, func(s membership.Standing) string {
		if s.Trouble != membership.Behind || s.Pod.Fresh {
			return ""
		}
		return s.Why
	})
}

// abstaining: the synchrony wait keeps a validator from voting. A validator that has just been
// started abstains as a rule, and so do all of them when too few are up: neither is reported.
func abstaining(v view) (reason, message string, violated bool) {
	return v.members(Abstaining, func(s membership.Standing) string {
		if s.Trouble != membership.Abstaining || s.Pod.Fresh || v.up < v.t {
			return ""
		}
		return s.Why
	})
}

// notVoting: a node of the set is well and does not vote, for no reason that another policy has.
func notVoting(v view) (reason, message string, violated bool) {
	return v.members(NotVoting, func(s membership.Standing) string {
		if !s.InSet || !s.Back || s.CaughtUp || s.Abstains || s.Answer.Role == nodeclient.RoleRejoining {
			return ""
		}
		return s.Why
	})
}

// resizeFailed: a volume or a pod cannot get the size that somebody asked for.
func resizeFailed(v view) (reason, message string, violated bool) {
	texts := v.resizes(true)
	return ResizeFailed, firstFew(texts), len(texts) > 0
}

// resizes are the resizes that failed, or those that go on.
func (v view) resizes(failed bool) (texts []string) {
	for _, s := range v.standings {
		var of []string
		for _, r := range s.Resizes() {
			if r.Failed == failed {
				of = append(of, r.Text)
			}
		}
		if len(of) > 0 {
			texts = append(texts, s.Name+": "+strings.Join(of, ", "))
		}
	}
	return texts
}

// members applies a policy to each member. wrong says how a member violates it, as the end of a
// sentence that begins with its name; it is empty if the member does not.
func (v view) members(of string, wrong func(membership.Standing) string) (reason, message string, violated bool) {
	var texts []string
	for _, s := range v.standings {
		if text := wrong(s); text != "" {
			texts = append(texts, s.Name+" "+text)
			if v.found != nil {
				v.found(of, s, s.Name+" "+text)
			}
		}
	}
	return of, firstFew(texts), len(texts) > 0
}

// firstFew joins the first few texts.
func firstFew(texts []string) string {
	const most = 5
	if len(texts) <= most {
		return strings.Join(texts, "; ")
	}
	return fmt.Sprintf("%s; and %d more", strings.Join(texts[:most], "; "), len(texts)-most)
}
