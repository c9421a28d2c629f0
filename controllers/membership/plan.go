package membership

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/types"

	"github.com/diseq/diseq/node/consensus"
)

// Action is what is to be done next.
type Action string

// Actions of PlanPods; PlanSet has None and Refuse.
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
	// WaitForDowntime: a restart stops the chain even if all validators are well; the annotation
	// has to allow it.
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
	// Victims are the pods to delete, with Replace and Restart only. Each delete has to carry the
	// UID as its precondition: the pod of that name may be another one by then.
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

// PlanPods decides which pods are to be made anew because their template is not the one that is
// wanted.
func PlanPods(n Network) Decision { return planPods(n, n.Standings()) }

func planPods(n Network, standings Standings) Decision {
	p := plan{Network: n, standings: standings}
	for i := range p.standings {
		s := &p.standings[i]
		if s.Pod != nil && s.Pod.Outdated && !s.Pod.Terminating {
			p.outdated = append(p.outdated, s)
		}
	}
	switch {
	case len(p.outdated) == 0, len(n.Set.Keys) == 0:
		return Decision{Action: None}
	case n.Paused:
		return Decision{Action: Pause, Message: fmt.Sprintf("paused with %d of %d pods outdated: set spec.paused to false to update them", len(p.outdated), len(p.standings))}
	}
	if d, ok := p.replace(); ok {
		return d
	}
	return p.restart()
}

type plan struct {
	Network
	standings Standings
	outdated  []*Standing
}

// replace takes the outdated pods that take no vote away. The pod that the cache shows as not ready
// may have become ready since; so its node is asked as well, and what the node says goes before
// what the cache shows.
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

// inFlight is a validator that has to come back before another one is restarted, and what it lacks;
// nil if there is none. A pod that is deleted while the deletion before is not seen yet, or an
// image that never starts, must not take a second validator. One that is rejoining holds nothing
// up: it is back, and may have to wait for messages before it votes again; the quorum is counted
// without it.
func (p *plan) inFlight() (*Standing, string) {
	for i := range p.standings {
		s := &p.standings[i]
		switch {
		case s.InSet && s.Back && s.Pod.Fresh && !s.Pod.Outdated:
			return s, fmt.Sprintf("has been ready for less than %v", p.Set.Settling())
		case !s.InSet, s.Back && !s.Abstains:
		case s.Pod != nil && s.Pod.Outdated && !s.Pod.Terminating: // not restarted yet
		case p.AllowDowntime && s.Pod != nil && !s.Pod.Terminating && s.Answer != nil:
			// The chain may be down until the last one is restarted, as between two versions that
			// do not understand each other. Nobody catches up before. A node that answers shows at
			// least that the new template runs.
		default:
			return s, s.Why
		}
	}
	return nil, ""
}

// restart takes one pod if the chain can do without it.
func (p *plan) restart() Decision {
	victim, held := p.candidate()
	if victim == nil {
		return held
	}
	left, t := p.standings.CaughtUp(), p.Set.Threshold
	if victim.CaughtUp {
		left--
	}
	short := fmt.Sprintf("restarting %s would leave %d voting (threshold %d)", victim.Name, left, t)
	flight, lacks := p.inFlight()
	switch {
	case flight != nil && left >= t:
		return decide(waitFor(flight), nil, "restarting %s waits for %s, which %s", victim.Name, flight.Name, lacks)
	case flight != nil && flight.CaughtUp: // because names only those who do not count
		return decide(waitFor(flight), nil, "%s%s; %s %s", short, p.because(victim), flight.Name, lacks)
	case flight != nil:
		return decide(waitFor(flight), nil, "%s%s", short, p.because(victim))
	case left >= t:
		return decide(Restart, []*Standing{victim}, "restarting %s, which leaves %d voting (threshold %d)", victim.Name, left, t)
	case p.AllowDowntime:
		return decide(Restart, []*Standing{victim}, "restarting %s, which leaves %d voting (threshold %d): downtime is allowed", victim.Name, left, t)
	case consensus.Tolerance(len(p.Set.Keys), t).Crash == 0:
		return decide(WaitForDowntime, nil, "%s: every restart stops this network, allow it with the annotation %s=true", short, AllowDowntime)
	}
	return decide(WaitForQuorum, nil, "%s%s", short, p.because(victim))
}

// because tells who does not count without the victim, as the end of a sentence.
func (p *plan) because(victim *Standing) string {
	except := ""
	if victim.CaughtUp {
		except = victim.Name
	}
	if missing := p.standings.Missing(except); missing != "" {
		return ": " + missing
	}
	return "" // what is missing is not even known by name
}

// waitFor tells a pod that is on its way from one that somebody has to look at.
func waitFor(s *Standing) Action {
	if s.Pod != nil && !s.Pod.Terminating && s.Pod.Waiting != "" {
		return Stuck
	}
	return WaitForMember
}

// candidate is the next pod to restart: first one that is not caught up, since it takes the least
// away; then by serial number. If none may be touched it says why.
//
// A pod whose volume is being deleted is spared: the volume, with the validator's votes, goes as
// soon as its pod does.
func (p *plan) candidate() (*Standing, Decision) {
	var first *Standing
	held := Decision{}
	for _, s := range p.outdated {
		switch {
		case s.StatefulSet.Unobserved:
			held = decide(WaitForMember, nil, "the StatefulSet of %s does not have the new template yet", s.Name)
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

// PlanSet decides how the set of validators is to be changed. The spec may ask for another one;
// this version says that it cannot.
func PlanSet(n Network) Decision {
	have, t := len(n.Set.Keys), n.Set.Threshold
	if have == 0 || (n.Validators == have && n.Threshold == t) {
		return Decision{Action: None}
	}
	return decide(Refuse, nil, "the spec asks for threshold %d of %d validators, but the chain has %d of %d. This version cannot "+
		"change them: set spec.validators and spec.threshold back, or make another network", n.Threshold, n.Validators, t, have)
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
