package membership

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"

	"github.com/diseq/diseq/node/consensus"
)

// Action is the next step.
type Action string

// Actions of PlanPods.
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
	// WaitForChange: the set of validators is being changed, and no pod that votes is restarted
	// meanwhile.
	WaitForChange Action = "WaitForChange"
	// WaitForSet: the operator does not know the set of validators until nodes answer.
	WaitForSet Action = "WaitForSet"
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

// PlanPods decides which pods to delete because their template is not the wanted one, or because a
// person asks for their restart.
func PlanPods(n Network) Decision { return planPods(n, n.Standings()) }

// planPods is the plan for standings that may be damped.
func planPods(n Network, standings Standings) Decision {
	d, _ := planUpdate(n, standings)
	return d
}

// planUpdate returns also the validator that the decision waits for, nil if there is none.
func planUpdate(n Network, standings Standings) (Decision, *Standing) {
	p := plan{Network: n, standings: standings}
	for i := range p.standings {
		s := &p.standings[i]
		if s.Pod != nil && s.Pod.Outdated && !s.Pod.Terminating {
			p.outdated = append(p.outdated, s)
		}
	}
	switch {
	case len(p.outdated) == 0, !n.Chain, n.asleep(): // all pods are stopped
		return Decision{Action: None}, nil
	case n.Paused:
		return decide(Pause, nil, "paused with %d of %d pods outdated: set spec.paused to false to update them",
			len(p.outdated), len(p.standings)), nil
	}
	if d, ok := p.replace(); ok {
		return d, nil
	}
	return p.restart()
}

type plan struct {
	Network
	standings Standings
	outdated  []*Standing
}

// replace chooses the outdated pods whose deletion takes no vote away. A pod that the cache shows
// as not ready may have become ready since. So the node's own answer counts, if there is one. A
// validator outside of the set is never ready: see needed.
func (p *plan) replace() (Decision, bool) {
	var victims []*Standing
	for _, s := range p.outdated {
		if !s.Pod.Ready && (s.Answer == nil || !s.Answer.TakesPart()) && !s.StatefulSet.Unobserved && !p.needed(s) {
			victims = append(victims, s)
		}
	}
	if len(victims) == 0 {
		return Decision{}, false
	}
	why := "with an outdated template"
	if !slices.ContainsFunc(victims, func(s *Standing) bool { return !s.Pod.Asked }) {
		why = "and a restart is asked for"
	}
	return decide(Replace, victims, "replacing %s: not ready, %s", names(victims), why), true
}

// needed says that the pod of a validator outside of the set has to go on running: the next set may
// need its vote at any moment, or it has left the set and waits until it may stop.
func (p *plan) needed(s *Standing) bool {
	switch {
	case s.InSet || !p.Set.Known() || s.Answer == nil:
		return false
	case s.Spent:
		return true
	}
	return s.Unfit == "" && p.named(&s.Member)
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

// restart chooses one pod if the chain can do without it. It returns also the validator that it
// waits for instead, nil if there is none.
func (p *plan) restart() (Decision, *Standing) {
	victim, instead := p.candidate()
	switch {
	case !p.Set.Known():
		return decide(WaitForSet, nil, "%d of %d pods are outdated: those that run are restarted when enough nodes have answered for the "+
			"operator to know the validator set", len(p.outdated), len(p.standings)), nil
	case victim == nil:
		return instead, nil
	case p.target() != nil:
		return decide(WaitForChange, nil, "restarting %s waits until the change of the validator set is over", victim.Name), nil
	}
	flight, lacks := p.inFlight()
	return p.restartOf(victim, flight, lacks), flight
}

// restartOf decides whether the pod of the victim may be deleted, with a validator in flight or
// none.
func (p *plan) restartOf(victim, flight *Standing, lacks string) Decision {
	left, t := p.standings.CaughtUp(), p.Set.Threshold
	if victim.CaughtUp {
		left--
	}
	short := fmt.Sprintf("restarting %s would leave %d voting (threshold %d)", victim.Name, left, t)
	switch {
	case flight != nil && left >= t:
		return decide(waitFor(flight), nil, "restarting %s waits for %s, which %s", victim.Name, flight.Name, lacks)
	case flight != nil && flight.CaughtUp: // because names only validators that do not count
		return decide(waitFor(flight), nil, "%s%s; %s %s", short, p.because(victim), flight.Name, lacks)
	case flight != nil:
		return decide(waitFor(flight), nil, "%s%s", short, p.because(victim))
	case left >= t:
		return decide(Restart, []*Standing{victim}, "restarting %s%s, which leaves %d voting (threshold %d)",
			victim.Name, victim.Pod.cause(), left, t)
	case p.AllowDowntime:
		return decide(Restart, []*Standing{victim}, "restarting %s%s, which leaves %d voting (threshold %d): downtime is allowed",
			victim.Name, victim.Pod.cause(), left, t)
	case consensus.Tolerance(len(p.Set.Validators), t).Crash == 0:
		return decide(WaitForDowntime, nil, "%s: every restart stops this network, allow it with the annotation %s=true", short, AllowDowntime)
	}
	return decide(WaitForQuorum, nil, "%s%s", short, p.because(victim))
}

// cause says that a restart was asked for, if it was.
func (p *Pod) cause() string {
	if p.Asked {
		return " as asked"
	}
	return ""
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
	if s.Pod != nil && !s.Pod.Terminating && s.Pod.Waiting != "" || s.Pod == nil && s.NoPod != "" {
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
	instead := Decision{Action: None}
	for _, s := range p.outdated {
		switch {
		case !s.InSet: // it takes no vote away, and is replaced when nothing needs it
		case s.StatefulSet.Unobserved:
			instead = decide(WaitForMember, nil, "the StatefulSet of %s does not have the new template yet", s.Name)
		case s.Volume.Terminating:
			if instead.Action == None {
				instead = decide(Stuck, nil, "restarting %s would lose its volume, which is being deleted", s.Name)
			}
		case first == nil, first.CaughtUp && !s.CaughtUp:
			first = s
		}
	}
	return first, instead
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
