package status

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/diseq/diseq/controllers/membership"
	"github.com/diseq/diseq/controllers/nodeclient"
)

// startTime is how long a pod may take to become ready before that counts as wrong: pulling the
// image, attaching the volume, starting, asking the peers.
const startTime = 2 * time.Minute

// scheduleTime is how long the scheduler may find no place for a pod before that counts as wrong: a
// volume may have to be made first.
const scheduleTime = 20 * time.Second

// noKey ends the sentence about a validator without its Secret.
const noKey = "is in the genesis document and has lost its key Secret, which is never made again"

// rule is one thing that can be wrong.
type rule func(view) (reason, message string, violated bool)

// rules in the order in which they give Degraded its reason: what somebody has to do comes before
// what heals by itself.
var rules = []rule{
	func(v view) (string, string, bool) {
		if v.Problem == nil {
			return "", "", false
		}
		return v.Problem.Reason, v.Problem.Message, true
	},
	each(KeyMissing, func(_ view, s membership.Standing) string {
		if !s.InSet || s.Secret {
			return ""
		}
		return noKey
	}),
	each(WrongIdentity, func(_ view, s membership.Standing) string {
		if wrong, ok := errors.AsType[*nodeclient.IdentityError](s.Silence); ok {
			return wrong.Error()
		}
		return ""
	}),
	each(WrongSet, func(v view, s membership.Standing) string {
		if s.Answer == nil || v.n == 0 {
			return ""
		}
		runs, wanted := set(s.Answer.Threshold, s.Answer.Validators, s.Answer.Delta()), set(v.t, v.n, v.Network.Seen.Set.Delta)
		if runs == wanted {
			return ""
		}
		return fmt.Sprintf("runs with %s, the genesis document has %s", runs, wanted)
	}),
	each(VolumeBeingDeleted, func(_ view, s membership.Standing) string {
		if s.Pod == nil || s.Pod.Terminating || !s.Pod.Scheduled || !s.Volume.Terminating {
			return "" // without a running pod the claim goes at once and is made anew
		}
		return "loses its volume, whose claim was deleted, as soon as its pod stops"
	}),
	waiting(ImagePullFailed),
	waiting(CrashLooping),
	waiting(Unschedulable),
	waiting(PodFailed),
	each(Rejoining, func(_ view, s membership.Standing) string {
		if s.InSet && s.Answer != nil && s.Answer.Role == nodeclient.RoleRejoining {
			return "is rejoining without its votes and votes again when that is safe"
		}
		return ""
	}),
	each(NotAnswering, func(_ view, s membership.Standing) string {
		if s.Trouble != membership.Silent {
			return ""
		}
		return s.Why
	}),
	each(NotReady, func(v view, s membership.Standing) string {
		if s.Pod == nil || s.Pod.Ready || s.Pod.Waiting != "" || s.Pod.Since.IsZero() || v.Now.Sub(s.Pod.Since) < startTime {
			return ""
		}
		return s.Why
	}),
	each(Behind, func(_ view, s membership.Standing) string {
		if s.Trouble != membership.Behind || s.Pod.Fresh {
			return "" // who has just been started may fall behind once more
		}
		return s.Why
	}),
	each(Abstaining, func(v view, s membership.Standing) string {
		if s.Trouble != membership.Abstaining || s.Pod.Fresh || v.up < v.t {
			return "" // it has just been started, or there are too few to hear
		}
		return s.Why
	}),
	each(NotVoting, func(_ view, s membership.Standing) string {
		if !s.InSet || !s.Back || s.CaughtUp || s.Abstains || s.Answer.Role == nodeclient.RoleRejoining {
			return ""
		}
		return s.Why
	}),
}

// set tells of a validator set.
func set(t, n int, delta time.Duration) string {
	text := fmt.Sprintf("threshold %d of %d validators", t, n)
	if delta > 0 {
		text += fmt.Sprintf(" and the synchrony wait of %v", delta)
	}
	return text
}

// each is the rule that is broken when wrong has something to say of a member. The sentence begins
// with the member's name.
func each(reason string, wrong func(view, membership.Standing) string) rule {
	return func(v view) (string, string, bool) {
		var texts []string
		for _, s := range v.standings {
			if text := wrong(v, s); text != "" {
				texts = append(texts, s.Name+" "+text)
			}
		}
		return reason, some(texts), len(texts) > 0
	}
}

// causes are what Kubernetes calls the reasons why a pod does not run, by ours. Any other cause is
// PodFailed.
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

// waiting is the rule that is broken by pods that do not run because of the reason.
func waiting(reason string) rule {
	return each(reason, func(v view, s membership.Standing) string {
		if s.Pod == nil || s.Pod.Ready || s.Pod.Terminating || s.Pod.Waiting == "" {
			return ""
		}
		if cmp.Or(causes[s.Pod.Waiting], PodFailed) != reason {
			return ""
		}
		if reason == Unschedulable && v.Now.Sub(s.Pod.Since) < scheduleTime {
			return ""
		}
		text := "does not run: " + s.Pod.Waiting
		if s.Pod.Message != "" {
			text += " (" + shorten(s.Pod.Message, 256) + ")"
		}
		return text
	})
}

// some joins texts, the first few of them.
func some(texts []string) string {
	const most = 5
	if len(texts) <= most {
		return strings.Join(texts, "; ")
	}
	return fmt.Sprintf("%s; and %d more", strings.Join(texts[:most], "; "), len(texts)-most)
}
