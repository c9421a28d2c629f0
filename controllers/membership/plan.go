package membership

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/types"

	"github.com/diseq/diseq/node/consensus"
)

// Action is what is to be done next.
type Action string

const (
	// None: nothing is to be done.
	None Action = "None"
	// Replace: the victims are to be deleted, all at once. None of them votes.
	Replace Action = "Replace"
	// Restart: the victim, exactly one, is to be deleted.
	Restart Action = "Restart"
	// WaitForMember: what was restarted has to come back before the next one goes.
	WaitForMember Action = "WaitForMember"
	// WaitForQuorum: a restart would take the last votes that the chain needs.
	WaitForQuorum Action = "WaitForQuorum"
	// WaitForDowntime: a restart stops the chain even if all validators are well; the annotation has to allow it.
	WaitForDowntime Action = "WaitForDowntime"
	// Stuck: an update that only a person can help on.
	Stuck Action = "Stuck"
	// Pause: there would be something to do, and the network is paused.
	Pause Action = "Pause"
	// Refuse: the spec asks for what this version cannot do.
	Refuse Action = "Refuse"
)

// Decision is what is to be done next, and why.
type Decision struct {
	Action Action
	// Victims are the pods to delete, with Replace and Restart only. Each delete has to carry the UID as its precondition: the pod
	// of that name may be another one by then.
	Victims []Victim
	// Message says why, with numbers. It fits a condition and an event. Empty with None.
	Message string
}

// Victim is a pod that is to be deleted. Its StatefulSet makes a new one.
type Victim struct {
	// Member is the validator's name.
	Member string
	Pod    string
	UID    types.UID
}

// AllowDowntime is the annotation that lets restarts stop the chain, with the value "true".
const AllowDowntime = "diseq.io/allow-downtime"

// PlanPods decides which pods are to be made anew because their template is not the one that is wanted.
func PlanPods(n Network) Decision {
	p := plan{Network: n, standings: n.Standings()}
	for i := range p.standings {
		s := &p.standings[i]
		if s.Pod != nil && s.Pod.Outdated && !s.Pod.Terminating {
			p.outdated = append(p.outdated, s)
		}
	}
	switch {
	case len(p.outdated) == 0:
		return Decision{Action: None}
	case n.Paused:
		return Decision{Action: Pause, Message: fmt.Sprintf("paused with %d of %d pods outdated", len(p.outdated), len(p.standings))}
	}
	if d, ok := p.replace(); ok {
		return d
	}
	if d, ok := p.inFlight(); ok {
		return d
	}
	return p.restart()
}

type plan struct {
	Network
	standings Standings
	outdated  []*Standing
}

// replace takes the outdated pods that take no vote away. The pod that the cache shows as not ready may have become ready since; so
// its node is asked as well, and what the node says goes before what the cache shows.
func (p *plan) replace() (Decision, bool) {
	var victims []*Standing
	for _, s := range p.outdated {
		if !s.Pod.Ready && (s.Answer == nil || !s.Answer.Ready) && !s.StatefulSet.Unobserved {
			victims = append(victims, s)
		}
	}
	if len(victims) == 0 {
		return Decision{}, false
	}
	return decide(Replace, victims, "replacing %s: not ready, with an outdated template", names(victims)), true
}

// inFlight waits for what was restarted before. A pod that is deleted twice in a row because the first deletion is not seen yet, or
// an image that never starts, must not take a second validator. A member that is rejoining holds nothing up: it is back, and may
// have to wait for messages before it votes again; the quorum is counted without it.
func (p *plan) inFlight() (Decision, bool) {
	for i := range p.standings {
		s := &p.standings[i]
		if s.Pod != nil && s.Pod.Outdated && !s.Pod.Terminating {
			continue // not restarted yet
		}
		up := s.Back
		if p.AllowDowntime {
			// The chain may be down until the last one is restarted, as between two versions that do not understand each other: then
			// nobody catches up before. A node that answers shows at least that the new template runs.
			up = s.Pod != nil && !s.Pod.Terminating && s.Answer != nil
		}
		if up {
			continue
		}
		action := WaitForMember
		if s.Pod != nil && !s.Pod.Terminating && s.Pod.Waiting != "" {
			action = Stuck
		}
		return decide(action, nil, "%d outdated %s for %s, which %s", len(p.outdated), pods(len(p.outdated), "waits", "wait"), s.Name, s.Why), true
	}
	return Decision{}, false
}

// restart takes one pod if the chain can do without it.
func (p *plan) restart() Decision {
	victim, held := p.candidate()
	if victim == nil {
		return held
	}
	caughtUp := p.standings.CaughtUp()
	left := caughtUp
	if victim.CaughtUp {
		left--
	}
	t := p.Set.Threshold
	switch {
	case left >= t:
		return decide(Restart, []*Standing{victim}, "restarting %s, which leaves %d of threshold %d", victim.Name, left, t)
	case p.AllowDowntime:
		return decide(Restart, []*Standing{victim}, "restarting %s, which leaves %d of threshold %d: downtime is allowed",
			victim.Name, left, t)
	case consensus.Tolerance(len(p.Set.Keys), t).Crash == 0:
		return decide(WaitForDowntime, nil, "restarting %s would leave %d of threshold %d, as any restart does with %d validators: "+
			"allow it with the annotation %s=true", victim.Name, left, t, len(p.Set.Keys), AllowDowntime)
	}
	d := decide(WaitForQuorum, nil, "restarting %s would leave %d of threshold %d", victim.Name, left, t)
	if missing := p.standings.Missing(victim.Name); missing != "" {
		d.Message += ": " + missing
	} else if victim.Why != "" {
		d.Message += ": " + victim.Name + " " + victim.Why
	}
	return d
}

// candidate is the next pod to restart: first one that is not caught up, since it takes the least away; then by serial number. If
// none may be touched it says why.
//
// A pod whose volume is being deleted is spared: the volume, with the validator's votes, goes as soon as its pod does.
func (p *plan) candidate() (*Standing, Decision) {
	var first *Standing
	held := Decision{}
	for _, s := range p.outdated {
		switch {
		case s.StatefulSet.Unobserved:
			held = decide(WaitForMember, nil, "the StatefulSet of %s has not taken the new template yet", s.Name)
		case s.Volume.Terminating:
			if held.Action == "" {
				held = decide(Stuck, nil, "restarting %s would lose its volume, which is being deleted", s.Name)
			}
		case first == nil, first.CaughtUp && !s.CaughtUp:
			first = s
		}
	}
	return first, held
}

// PlanSet decides how the set of validators is to be changed. The spec may ask for another one; this version says that it cannot.
func PlanSet(n Network) Decision {
	have, t := len(n.Set.Keys), n.Set.Threshold
	if have == 0 || (n.Validators == have && n.Threshold == t) {
		return Decision{Action: None}
	}
	return decide(Refuse, nil, "the spec asks for threshold %d of %d validators, the chain has %d of %d: "+
		"this version cannot change the set of a running network", n.Threshold, n.Validators, t, have)
}

func decide(action Action, victims []*Standing, format string, args ...any) Decision {
	d := Decision{Action: action, Message: fmt.Sprintf(format, args...)}
	for _, s := range victims {
		d.Victims = append(d.Victims, Victim{Member: s.Name, Pod: s.Pod.Name, UID: s.Pod.UID})
	}
	return d
}

func names(standings []*Standing) string {
	texts := make([]string, len(standings))
	for i, s := range standings {
		texts[i] = s.Name
	}
	return strings.Join(texts, ", ")
}

func pods(n int, one, more string) string {
	if n == 1 {
		return "pod " + one
	}
	return "pods " + more
}
