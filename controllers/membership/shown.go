package membership

import (
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// Damping is how long a validator must have been well before it is shown as well, and how long a
// quorum must have been there before it is shown as there.
const Damping = time.Minute

// Shown is a network as status, events and metrics report it. A flapping validator keeps its
// trouble in it until that trouble has been over for the time of [Damping].
//
// It is a type of its own, so that planning on it does not compile: its standings lack validators
// that vote.
type Shown struct {
	// Seen is the network as it was observed. Decisions are made on it alone.
	Seen Network
	// Standings are the standings of its members, damped.
	Standings Standings
	// Steady says that the threshold of validators counted at every look within the time of
	// [Damping], if not always the same ones.
	Steady bool
}

// Explain returns the decision to report. If neither d nor the plan for the damped standings
// deletes a pod, that is the damped plan, so that the message does not flap. Otherwise it is d, the
// decision that was carried out.
func (s Shown) Explain(d Decision) Decision {
	damped := planPods(s.Seen, s.Standings)
	if len(d.Victims) > 0 || len(damped.Victims) > 0 {
		return d
	}
	return damped
}

// ExplainSet returns the plan to report. As long as nothing is written and the threshold did not
// count at every look, that is the plan for the damped standings: a change that waits, and one
// validator that flaps, would else be reported as two things in turn.
func (s Shown) ExplainSet(plan SetPlan) SetPlan {
	damped := planSet(s.Seen, s.Standings)
	if s.Steady || plan.writes(s.Seen) || damped.writes(s.Seen) {
		return plan
	}
	return damped
}

// Memory remembers the recent troubles of a network, so that a validator that is well at every
// other look does not change the status at every look. The zero value remembers nothing.
type Memory struct {
	troubles map[string]remembered
	// short is when fewer than the threshold last counted.
	short time.Time
	// spans are since when nodes outside of the set have been fit, or silent; looked is the time of
	// the last look.
	spans  map[string]span
	looked time.Time
}

// remembered is a trouble of a validator's pod that is still shown.
type remembered struct {
	trouble Trouble
	why     string
	pod     types.UID
	// seen is when the validator last had that trouble; worded is when why was taken.
	seen, worded time.Time
}

// Show remembers the troubles of a network as it is seen now, and returns the network as it is to
// be shown.
//
// A trouble is shown from the first look on, and until it has not been seen for the time of
// [Damping]; of several, the first one stays. Pod conditions are shown as they are: the kubelet
// damps its probes itself. Nor is anything remembered that a restart brings with it: a fresh pod,
// validators that heard too few while it was away, and the troubles of the pod that it replaced.
func (m *Memory) Show(n Network, now time.Time) Shown {
	shown := Shown{Seen: n, Standings: n.Standings()}
	if shown.Standings.CaughtUp() < n.Set.Threshold {
		m.short = now
	}
	shown.Steady = now.Sub(m.short) >= Damping

	established := 0 // validators that have been back for a while
	for i := range shown.Standings {
		if s := &shown.Standings[i]; s.InSet && s.Back && !s.Pod.Fresh {
			established++
		}
	}
	troubles := map[string]remembered{}
	for i := range shown.Standings {
		s := &shown.Standings[i]
		t, ok := m.troubles[s.Name]
		ok = ok && s.Pod != nil && s.Pod.UID == t.pod && now.Sub(t.seen) < Damping
		switch {
		case ok && s.Trouble == t.trouble:
			t.seen = now
			if now.Sub(t.worded) >= Damping {
				t.why, t.worded = n.cause(s), now
			}
		case ok:
		case s.Trouble == "", s.Pod.Fresh, s.Abstains && established < n.Set.Threshold:
			continue
		default:
			t = remembered{trouble: s.Trouble, why: n.cause(s), pod: s.Pod.UID, seen: now, worded: now}
		}
		troubles[s.Name] = t
		t.show(s)
	}
	m.troubles = troubles
	return shown
}

// cause words a trouble that is to be remembered. An unsettled validator that did not just restart
// must have been unhealthy before; that cause is reported.
func (n Network) cause(s *Standing) string {
	if s.Abstains && s.Answer.Synchrony != nil {
		return n.Set.deaf()
	}
	return s.Why
}

// show puts the trouble in the place of what the validator's node answers now. If Kubernetes
// reports something of its pod, that is shown instead.
func (t remembered) show(s *Standing) {
	if !s.CaughtUp && s.Trouble == "" {
		return
	}
	s.Trouble, s.Why, s.CaughtUp = t.trouble, t.why, false
	s.Abstains = t.trouble == Abstaining
	s.Back = s.Abstains
}
