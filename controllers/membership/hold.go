package membership

import (
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// Hold is for how long a validator has to have been well before it is shown so again, and a quorum
// there.
const Hold = time.Minute

// Memory is what a network is still shown with although it may be over, so that a validator that is
// well at every other look is no news at every look. Its zero value remembers nothing. It is for
// what people are told, and for nothing that is done: see [Memory.Hold].
type Memory struct {
	held map[string]Held
	// short is when fewer than the threshold last counted.
	short time.Time
}

// Held is what a validator is shown with until it was well, or had another trouble, for the time of
// [Hold].
type Held struct {
	Trouble Trouble
	Why     string
	pod     types.UID
	// seen is when it last had that trouble; told is when Why was taken.
	seen, told time.Time
}

// Hold takes note of a network as it is seen now, and returns it as it is to be shown. Decisions
// are made on what is seen: what is shown lacks validators that vote.
//
// A trouble is shown from the first look on and until it has not been seen for the time of Hold,
// and of several the first one. What Kubernetes tells of a pod is shown as it is: probes are
// counted before they count. Nor is held what a start brings with it: a pod that is fresh, those
// that heard too few while it was away, and what its pod of before was shown with.
func (m *Memory) Hold(n Network, now time.Time) Network {
	standings := n.Standings()
	if standings.CaughtUp() < n.Set.Threshold {
		m.short = now
	}
	n.Steady = now.Sub(m.short) >= Hold

	settled := 0
	for i := range standings {
		if s := &standings[i]; s.InSet && s.Back && !s.Pod.Fresh {
			settled++
		}
	}
	held := map[string]Held{}
	for i := range standings {
		s := &standings[i]
		why := s.Why
		if s.Abstains && s.Answer.Synchrony != nil {
			// who has not just been started and hears the others for a while was deaf before that
			// while
			why = n.Set.deaf()
		}
		h, ok := m.held[s.Name]
		ok = ok && s.Pod != nil && s.Pod.UID == h.pod && now.Sub(h.seen) < Hold
		switch {
		case ok && s.Trouble == h.Trouble:
			h.seen = now
			if now.Sub(h.told) >= Hold {
				h.Why, h.told = why, now
			}
		case ok:
		case s.Trouble == "", s.Pod.Fresh, s.Abstains && settled < n.Set.Threshold:
			continue
		default:
			h = Held{Trouble: s.Trouble, Why: why, pod: s.Pod.UID, seen: now, told: now}
		}
		held[s.Name] = h
	}
	m.held = held

	n.Members = slices.Clone(n.Members)
	for i := range n.Members {
		n.Members[i].Held = held[n.Members[i].Name]
	}
	return n
}
