package membership

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/types"

	"github.com/diseq/diseq/node/chain"
)

// SetAction is how far the set of validators is from the one that the spec asks for.
type SetAction string

// Actions of PlanSet.
const (
	// NoChain: there is no genesis document yet.
	NoChain SetAction = "NoChain"
	// SetUnknown: nodes have to answer before the operator knows the set in force.
	SetUnknown SetAction = "SetUnknown"
	// SetKept: the set is the one that the spec asks for, and no other validator runs.
	SetKept SetAction = "SetKept"
	// RefuseSet: the spec asks for a set that no chain can have.
	RefuseSet SetAction = "RefuseSet"
	// WaitForNewcomers: newcomers are started, and have to catch up as observers.
	WaitForNewcomers SetAction = "WaitForNewcomers"
	// WaitForVotes: fewer validators than the threshold vote, of the present set or of the next
	// one. No change is possible.
	WaitForVotes SetAction = "WaitForVotes"
	// WaitForUpdate: pods are being restarted for an update.
	WaitForUpdate SetAction = "WaitForUpdate"
	// Declare: the next set is to be declared, after the budget protects both sets.
	Declare SetAction = "Declare"
	// WaitForBlock: the next set is declared, and waits for endorsements and a block.
	WaitForBlock SetAction = "WaitForBlock"
	// WaitForLeavers: the set is the one that the spec asks for, and validators outside of it are
	// not stopped yet.
	WaitForLeavers SetAction = "WaitForLeavers"
	// PauseSet: there is something to do, but the network is paused.
	PauseSet SetAction = "PauseSet"
	// HibernateSet: there is something to do, or nobody knows whether there is, but the network is
	// hibernated: a change needs its nodes.
	HibernateSet SetAction = "HibernateSet"
)

// SetPlan is what should stand for the set of validators. Each part is compared with what stands,
// and written if it differs, so that an operator that dies in between is followed by one that makes
// the rest.
type SetPlan struct {
	Action SetAction
	// Message gives the reason, with names and numbers; Brief is the same in a few words. Both are
	// empty with SetKept.
	Message, Brief string
	// Stuck says that the change goes on only if a person helps.
	Stuck bool
	// Unknown are the names of spec.retire that no validator has.
	Unknown []string
	// Next is the number of validators and the threshold that is aimed at.
	Next, Threshold int
	// Leaving are the members of the set of which it is certain that they leave, and the validators
	// outside of it that are to be stopped.
	Leaving []string
	// Grow are the serial numbers of the validators to make.
	Grow []int
	// Target and Checkpoint are those that the peers file should have; nil for none.
	Target     *chain.Target
	Checkpoint *chain.Checkpoint
	// Budget is the minAvailable that the PodDisruptionBudget should have. With Strict a pod that
	// is not ready is evicted only if the budget allows it: the pods of newcomers are never ready,
	// and the next set needs them.
	Budget int
	Strict bool
	// Drop are the validators to stop.
	Drop []Leaver
}

// Leaver is a validator to stop: its StatefulSet and its entry in the peers file go, and its Secret
// is marked.
//
// A validator that left the set first loses its StatefulSet, then its entry. Any other validator
// first loses its entry: the peers file is written only over the one that was seen, so that no
// target names the validator meanwhile.
type Leaver struct {
	// Member is the validator's name.
	Member string
	// StatefulSet is the UID of its StatefulSet, the precondition of the deletion; empty if it is
	// gone already.
	StatefulSet types.UID
	// Spent says that it was in the set.
	Spent bool
	// KeepVolume says that the volume stays, whatever the retention policy: it may hold messages
	// that are not final.
	KeepVolume bool
}

// writes says whether the plan makes or stops a validator, or changes the target.
func (plan *SetPlan) writes(n Network) bool {
	return len(plan.Grow)+len(plan.Drop) > 0 || plan.Target != n.File.Target
}

// say sets what the plan reports.
func (plan *SetPlan) say(action SetAction, stuck bool, brief, format string, args ...any) {
	plan.Action, plan.Stuck, plan.Brief, plan.Message = action, stuck, brief, fmt.Sprintf(format, args...)
}

// PlanSet decides how to change the set of validators into the one that the spec asks for.
func PlanSet(n Network) SetPlan { return planSet(n, n.Standings()) }

// planSet is the plan for standings that may be damped.
func planSet(n Network, standings Standings) SetPlan {
	kept := SetPlan{
		Action: NoChain, Target: n.File.Target, Checkpoint: n.File.Checkpoint, Budget: cmp.Or(n.Budget, n.Threshold), Strict: n.Strict,
	}
	unknown := !n.Set.Known() || n.File.Target != nil && n.File.Target.Follows > n.Set.Generation
	switch {
	case !n.Chain:
		return kept
	case unknown && n.asleep():
		kept.say(HibernateSet, false, "hibernated",
			"the network is hibernated, and the operator reads the validator set from the nodes when they run again")
		return kept
	case unknown:
		kept.say(SetUnknown, true, "set unknown", "the operator does not know the validator set yet: it reads the changes of the set from the "+
			"nodes, and %d of %d answer. Make the pods run; until then the operator only repairs", n.answers(), len(n.Members))
		return kept
	}
	p := change{Network: n, standings: standings, standing: n.target()}
	plan := p.plan()
	if !n.Paused && !n.Hibernated {
		return plan
	}
	plan.Target, plan.Checkpoint, plan.Grow, plan.Drop = n.File.Target, n.File.Checkpoint, nil, nil
	plan.Budget, plan.Strict = cmp.Or(n.Budget, plan.Budget), n.Strict
	switch {
	case plan.Action == SetKept:
	case n.Paused:
		plan.say(PauseSet, true, "paused", "the network is paused: set spec.paused to false to go on. %s", plan.Message)
	case plan.Action == WaitForLeavers, plan.Action == RefuseSet:
		plan.say(HibernateSet, false, "hibernated", "%s. %s", hibernated, plan.Message)
	default:
		plan.say(HibernateSet, false, "hibernated", "%s. %s", hibernated, p.summary(p.next()))
	}
	return plan
}

// hibernated says why no change of the set goes on, and what to do.
const hibernated = "the network is hibernated, and a change of the set needs its nodes: set spec.hibernated to false to go on"

// asleep says that no node is to run, and that the operator may see to it.
func (n Network) asleep() bool { return n.Hibernated && !n.Paused }

// answers is the number of nodes that answer.
func (n Network) answers() int {
	count := 0
	for _, m := range n.Members {
		if m.Answer != nil {
			count++
		}
	}
	return count
}

// change is one look at a change of the set.
type change struct {
	Network
	standings Standings
	// standing is the target that stands; nil if there is none.
	standing *chain.Target
}

// plan decides, for a set that is known.
func (p *change) plan() SetPlan {
	plan := SetPlan{Action: SetKept, Next: p.Validators, Threshold: p.Threshold, Checkpoint: p.checkpoint(), Unknown: p.unknown()}
	if p.Threshold > p.Validators || 2*p.Threshold <= p.Validators {
		plan.say(RefuseSet, true, "refused", "the spec asks for threshold %d of %d validators, and no chain can have that: allowed are %d to %d",
			p.Threshold, p.Validators, p.Validators/2+1, p.Validators)
		plan.Target, plan.Budget, plan.Strict = p.standing, max(p.Set.Threshold, p.Budget), p.Strict
		return plan
	}
	next := p.next()
	stands := p.standing != nil && p.asks(p.standing, next)
	for _, name := range next.leaving {
		if stands || slices.Contains(p.Retire, name) {
			plan.Leaving = append(plan.Leaving, name)
		}
	}
	switch {
	case stands:
		plan.Target = p.standing
		p.ordering(&plan, next)
	case !p.isInForce(next):
		p.prepare(&plan, next)
	case p.declared():
		// The spec was edited back. The present set may be declared at any moment, and takes back
		// what was endorsed and is not in a block yet.
		plan.Target = p.target(next)
		plan.say(Declare, false, "taking back",
			"declaring the present set once more, so that the set declared before does not come into force: %s", p.summary(next))
	}
	plan.Budget, plan.Strict = p.budget(plan, next)
	p.leave(&plan, next)
	return plan
}

// prepare goes one step towards the target that asks for the next set. Until that is written the
// target of before stands, if there is one.
func (p *change) prepare(plan *SetPlan, next nextSet) {
	plan.Target = p.standing
	said, t, n := p.summary(next), p.Set.Threshold, len(p.Set.Validators)
	votes, joined, all, ready := p.standings.CaughtUp(), p.joined(next), next.missing+len(next.newcomers), p.readyOf(next)
	update, rolls := p.rolls(next)
	switch {
	case votes < t:
		plan.say(WaitForVotes, true, fmt.Sprintf("needs votes %d/%d", votes, t),
			"%s: no change is possible until %d more of the %d validators vote, because %d must endorse it and %d do not count: %s. "+
				"Bring them back", said, t-votes, n, t, n-votes, p.standings.Missing(""))
	case joined < all:
		for i := range next.missing {
			plan.Grow = append(plan.Grow, p.nextSerial()+i)
		}
		lacking, stuck := p.unready(next)
		plan.say(WaitForNewcomers, stuck, fmt.Sprintf("newcomers %d/%d", joined, all),
			"%s: %d of %d newcomers are ready%s", said, joined, all, lacking)
	case ready < p.Threshold:
		plan.say(WaitForVotes, true, fmt.Sprintf("needs votes %d/%d", ready, p.Threshold),
			"%s: the next set needs %d of its %d validators, and %d are caught up: %s. Bring them back",
			said, p.Threshold, p.Validators, ready, p.standings.Missing(""))
	case rolls:
		plan.say(WaitForUpdate, false, "after the update", "%s: the change waits until the update of the pods is over: %s", said, update)
	default:
		plan.say(Declare, false, "declaring", "%s: declaring the next set", said)
		if p.Strict && p.Budget >= p.protection(next) {
			plan.Target = p.target(next)
		}
	}
	if p.standing != nil {
		plan.Message += fmt.Sprintf(". Until then the set of %d validators that was declared before may come into force",
			len(p.standing.Validators))
	}
}

// fit says that all newcomers are there and fit, if some not for long enough yet.
func (p *change) fit(next nextSet) bool {
	return next.missing == 0 && !slices.ContainsFunc(next.newcomers, func(s *Standing) bool { return s.Unfit != "" })
}

// joined is the number of newcomers that are ready to be named.
func (p *change) joined(next nextSet) int {
	ready := 0
	for _, s := range next.newcomers {
		if s.ready() {
			ready++
		}
	}
	return ready
}

// readyOf is the number of members of the next set that could vote in it now.
func (p *change) readyOf(next nextSet) int {
	ready := p.joined(next)
	for _, v := range next.validators {
		if p.Set.Has(v.PublicKey) && p.byName(v.Name).CaughtUp {
			ready++
		}
	}
	return ready
}

// rolls says whether an update of the pods is under way, and how far it is. An update that waits
// for a validator that is to leave does not hold the change up: the change is the cure.
func (p *change) rolls(next nextSet) (string, bool) {
	d, flight := planUpdate(p.Network, p.standings)
	switch d.Action {
	case Restart, Replace:
		return d.Message, true
	case WaitForMember:
		return d.Message, flight == nil || !slices.Contains(next.leaving, flight.Name)
	}
	return "", false
}

// checkpoint is the one that should stand in the peers file. It never goes back. That of a new
// change waits until the threshold of the new set reports its block. Up to the checkpoint nodes
// sign nothing. If one node alone had the block, and died with its disk, the others could never
// decide that height.
func (p *change) checkpoint() *chain.Checkpoint {
	want, have := p.Set.checkpoint(), p.File.Checkpoint
	if want == nil || have != nil && have.Height > want.Height {
		return have
	}
	at := 0
	for i := range p.standings {
		if s := &p.standings[i]; s.InSet && s.Answer != nil && s.Answer.Height >= want.Height {
			at++
		}
	}
	if at < p.Set.Threshold {
		return have
	}
	return want
}

// nextSerial is the serial number of the next newcomer: above all that are known, whatever the
// observation lacks.
func (p *change) nextSerial() int {
	next := p.NextSerial
	for _, s := range p.standings {
		next = max(next, s.Serial+1)
	}
	return next
}

// unknown are the names of spec.retire that no validator has, or had.
func (p *change) unknown() []string {
	var out []string
	for _, name := range p.Retire {
		serial, err := strconv.Atoi(strings.TrimPrefix(name, p.Name+"-v"))
		if err != nil || serial >= p.nextSerial() {
			out = append(out, name)
		}
	}
	return out
}
