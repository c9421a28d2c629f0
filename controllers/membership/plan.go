package membership

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/types"

	"github.com/diseq/diseq/node/consensus"
)

// Action is the next step.
type Action string

// Actions of PlanPods; PlanSet has None and Refuse.
const (
	// None: there is nothing to do.
	None Action = "None"
	// Replace: delete the victims, all at once. None of them votes.
	Replace Action = "Replace"
	// Restart: delete the victim, exactly one.
	Restart Action = "Restart"
	// WaitForMember: a restarted validator must come back before the next one is restarted.
	WaitForMember Action = "WaitForMember"
	// WaitForQuorum: a restart would take the last votes that the chain needs.
	WaitForQuorum Action = "WaitForQuorum"
	// WaitForDowntime: a restart stops the chain even if all validators are well; the annotation
	// must allow it.
	WaitForDowntime Action = "WaitForDowntime"
	// Stuck: the update goes on only if a person helps.
	Stuck Action = "Stuck"
	// Pause: there is something to do, but the network is paused.
	Pause Action = "Pause"
	// Refuse: the spec asks for a set that this version cannot make.
	Refuse Action = "Refuse"
)

// Decision is the next step, and the reason for it.
type Decision struct {
	Action Action
	// Victims are the pods to delete, with Replace and Restart only. Each delete must carry the UID
	// as its precondition: the pod of that name may be another one by then.
	Victims []Victim
	// Message gives the reason, with numbers. It fits a condition and an event. Empty with None.
	Message string
}

// Victim is a pod to delete. Its StatefulSet makes a new one.
type Victim struct {
	// Member is the validator's name.
	Member string
	Pod    string
	UID    types.UID
}

// AllowDowntime is the annotation that allows restarts to stop the chain, with the value "true".
const AllowDowntime = "diseq.io/allow-downtime"

// PlanPods decides which pods to delete because their template is not the wanted one.
func PlanPods(n Network) Decision { return planPods(n, n.Standings()) }

// planPods is the plan for standings that may be damped.
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
		return decide(Pause, nil, "paused with %d of %d pods outdated: set spec.paused to false to update them",
			len(p.outdated), len(p.standings))
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

// replace chooses the outdated pods whose deletion takes no vote away. A pod that the cache shows
// as not ready may have become ready since. So the node's own answer counts, if there is one.
func (p *plan) replace() (Decision, bool) {
	var victims []*Standing
	for _, s := range p.outdated {
		if !s.Pod.Ready && (s.Answer == nil || !s.Answer.TakesPart()) && !s.StatefulSet.Unobserved {
			victims = append(victims, s)
		}
	}
	if len(victims) == 0 {
		return Decision{}, false
	}
	return decide(Replace, victims, "replacing %s: not ready, with an outdated template", names(victims)), true
}

// inFlight is a validator that must come back before another one is restarted, and why it is not
// back; nil if there is none. The planner may not see the last deletion yet, and an image may never
// start: neither may cost a second validator. A rejoining validator stops no restart. It is back,
// it may have to wait for messages before it votes again, and the quorum is counted without it.
func (p *plan) inFlight() (*Standing, string) {
	for i := range p.standings {
		s := &p.standings[i]
		switch {
		case s.InSet && s.Back && s.Pod.Fresh && !s.Pod.Outdated:
			return s, fmt.Sprintf("has been ready for less than %v", p.Set.Settling())
		case !s.InSet, s.Back && !s.Abstains:
		case s.Pod != nil && s.Pod.Outdated && !s.Pod.Terminating: // not restarted yet
		case p.AllowDowntime && s.Pod != nil && !s.Pod.Terminating && s.Answer != nil:
			// The chain may be down until the last pod is restarted, for example between two
			// versions that refuse each other. No node catches up before. A node that answers shows
			// at least that the new template runs.
		default:
			return s, s.Why
		}
	}
	return nil, ""
}

// restart chooses one pod if the chain can do without it.
func (p *plan) restart() Decision {
	victim, instead := p.candidate()
	if victim == nil {
		return instead
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
	case flight != nil && flight.CaughtUp: // because names only validators that do not count
		return decide(waitFor(flight), nil, "%s%s; %s %s", short, p.because(victim), flight.Name, lacks)
	case flight != nil:
		return decide(waitFor(flight), nil, "%s%s", short, p.because(victim))
	case left >= t:
		return decide(Restart, []*Standing{victim}, "restarting %s, which leaves %d voting (threshold %d)", victim.Name, left, t)
	case p.AllowDowntime:
		return decide(Restart, []*Standing{victim}, "restarting %s, which leaves %d voting (threshold %d): downtime is allowed",
			victim.Name, left, t)
	case consensus.Tolerance(len(p.Set.Keys), t).Crash == 0:
		return decide(WaitForDowntime, nil, "%s: every restart stops this network, allow it with the annotation %s=true", short, AllowDowntime)
	}
	return decide(WaitForQuorum, nil, "%s%s", short, p.because(victim))
}

// because names the validators besides the victim that do not count, as the end of a sentence.
func (p *plan) because(victim *Standing) string {
	except := ""
	if victim.CaughtUp {
		except = victim.Name
	}
	if missing := p.standings.Missing(except); missing != "" {
		return ": " + missing
	}
	return "" // the missing validators are not even known by name
}

// waitFor distinguishes a pod that is on its way from one that needs a person.
func waitFor(s *Standing) Action {
	if s.Pod != nil && !s.Pod.Terminating && s.Pod.Waiting != "" {
		return Stuck
	}
	return WaitForMember
}

// candidate is the next pod to restart: first one that is not caught up, since its restart costs
// the least, then by serial number. If no pod may be restarted, it returns the decision that says
// why.
//
// A pod whose volume is being deleted is spared: the volume, with the validator's votes, is lost as
// soon as the pod stops.
func (p *plan) candidate() (*Standing, Decision) {
	var first *Standing
	instead := Decision{}
	for _, s := range p.outdated {
		switch {
		case s.StatefulSet.Unobserved:
			instead = decide(WaitForMember, nil, "the StatefulSet of %s does not have the new template yet", s.Name)
		case s.Volume.Terminating:
			if instead.Action == "" {
				instead = decide(Stuck, nil, "restarting %s would lose its volume, which is being deleted", s.Name)
			}
		case first == nil, first.CaughtUp && !s.CaughtUp:
			first = s
		}
	}
	return first, instead
}

// PlanSet decides how to change the set of validators. If the spec asks for another set, this
// version refuses.
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
