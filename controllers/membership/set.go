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

// PlanSet decides how to change the set of validators into the one that the spec asks for.
func PlanSet(n Network) SetPlan {
	kept := SetPlan{Action: NoChain, Target: n.File.Target, Checkpoint: n.File.Checkpoint, Budget: cmp.Or(n.Budget, n.Threshold), Strict: n.Strict}
	if !n.Chain {
		return kept
	}
	if !n.Set.Known() || n.File.Target != nil && n.File.Target.Follows > n.Set.Generation {
		kept.Action, kept.Brief = SetUnknown, "set unknown"
		answers := 0
		for _, m := range n.Members {
			if m.Answer != nil {
				answers++
			}
		}
		kept.Message = fmt.Sprintf("the operator does not know the validator set yet: it reads the changes of the set from the nodes, and %d of %d "+
			"answer. Make the pods run; until then the operator only repairs", answers, len(n.Members))
		return kept
	}
	p := change{Network: n, standings: n.Standings(), standing: n.target()}
	plan := p.plan()
	if !n.Paused || plan.Action == SetKept {
		return plan
	}
	plan.Target, plan.Checkpoint, plan.Budget, plan.Strict = n.File.Target, n.File.Checkpoint, cmp.Or(n.Budget, plan.Budget), n.Strict
	plan.Grow, plan.Drop = nil, nil
	plan.Action, plan.Brief, plan.Stuck = PauseSet, "paused", true
	plan.Message = "the network is paused: set spec.paused to false to go on. " + plan.Message
	return plan
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
		plan.Action, plan.Brief, plan.Stuck = RefuseSet, "refused", true
		plan.Message = fmt.Sprintf("the spec asks for threshold %d of %d validators, and no chain can have that: allowed are %d to %d",
			p.Threshold, p.Validators, p.Validators/2+1, p.Validators)
		plan.Target, plan.Budget, plan.Strict = p.standing, max(p.Set.Threshold, p.Budget), p.Strict
		return plan
	}
	next := p.next()
	for _, name := range next.leaving {
		if p.standing != nil && p.asks(p.standing, next) || slices.Contains(p.Retire, name) {
			plan.Leaving = append(plan.Leaving, name)
		}
	}
	declared := p.declared()
	switch {
	case p.standing != nil && p.asks(p.standing, next):
		plan.Action, plan.Target = WaitForBlock, p.standing
		plan.Message, plan.Brief, plan.Stuck = p.ordering(next)
	case p.isInForce(next) && !declared:
	default:
		p.declare(&plan, next, declared)
	}
	plan.Budget, plan.Strict = p.budget(plan, next, declared)
	p.leave(&plan, next)
	return plan
}

// declare goes one step towards the target that asks for the next set. Until it is written the
// target of before stands, if there is one.
func (p *change) declare(plan *SetPlan, next nextSet, declared bool) {
	plan.Target = p.standing
	votes, ready := p.standings.CaughtUp(), p.readyOf(next)
	update, rolls := p.rolls(next)
	said := p.summary(next)
	switch {
	case p.isInForce(next):
		// The spec was edited back. The present set may be declared at any moment, and takes back
		// what was endorsed and is not in a block yet.
		plan.Action, plan.Target, plan.Brief = Declare, p.target(next), "taking back"
		plan.Message = fmt.Sprintf("declaring the present set once more, so that the set declared before does not come into force: %s", said)
	case votes < p.Set.Threshold:
		plan.Action, plan.Brief, plan.Stuck = WaitForVotes, fmt.Sprintf("needs votes %d/%d", votes, p.Set.Threshold), true
		plan.Message = fmt.Sprintf("%s: no change is possible until %d more of the %d validators vote, because %d must endorse it and %d do not count: %s. "+
			"Bring them back", said, p.Set.Threshold-votes, len(p.Set.Validators), p.Set.Threshold, len(p.Set.Validators)-votes, p.standings.Missing(""))
	case next.missing > 0:
		for i := range next.missing {
			plan.Grow = append(plan.Grow, p.nextSerial()+i)
		}
		fallthrough
	case p.joined(next) < next.missing+len(next.newcomers):
		plan.Action, plan.Brief = WaitForNewcomers, fmt.Sprintf("newcomers %d/%d", p.joined(next), next.missing+len(next.newcomers))
		lacking := ""
		lacking, plan.Stuck = p.unready(next)
		plan.Message = fmt.Sprintf("%s: %d of %d newcomers are ready%s", said, p.joined(next), next.missing+len(next.newcomers), lacking)
	case ready < p.Threshold:
		plan.Action, plan.Brief, plan.Stuck = WaitForVotes, fmt.Sprintf("needs votes %d/%d", ready, p.Threshold), true
		plan.Message = fmt.Sprintf("%s: the next set needs %d of its %d validators, and %d are caught up: %s. Bring them back", said, p.Threshold,
			p.Validators, ready, p.standings.Missing(""))
	case rolls:
		plan.Action, plan.Brief = WaitForUpdate, "after the update"
		plan.Message = fmt.Sprintf("%s: the change waits until the update of the pods is over: %s", said, update)
	default:
		plan.Action, plan.Brief = Declare, "declaring"
		plan.Message = fmt.Sprintf("%s: declaring the next set", said)
		if p.Strict && p.Budget >= p.protection(next) {
			plan.Target = p.target(next)
		}
	}
	if declared && p.standing != nil && !p.isInForce(next) {
		plan.Message += fmt.Sprintf(". Until then the set of %d validators that was declared before may come into force", len(p.standing.Validators))
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

// together are the names of all validators that are in the present set, in a set that was declared
// to follow it, or in the next one if that is declared now.
func (p *change) together(next nextSet) map[string]bool {
	names := map[string]bool{}
	add := func(validators []chain.NamedValidator) {
		for _, v := range validators {
			names[v.Name] = true
		}
	}
	add(p.Set.Validators)
	add(next.validators)
	if p.standing != nil {
		add(p.standing.Validators)
	}
	for _, s := range p.standings {
		if p.isNamed(s) {
			names[s.Name] = true
		}
	}
	return names
}

// protection is the budget under which neither the present set nor the next one can lose its quorum
// to evictions: of all their validators together, only as many may be evicted as each can do
// without.
func (p *change) protection(next nextSet) int {
	spare := min(len(p.Set.Validators)-p.Set.Threshold, p.Validators-p.Threshold)
	if t := p.standing; t != nil {
		spare = min(spare, len(t.Validators)-int(t.Threshold))
	}
	together := p.together(next)
	return len(together) - spare + p.readyBesides(func(s Standing) bool { return together[s.Name] })
}

// readyBesides is the number of other validators whose pods are ready. The pod of one that has left
// is ready for a few seconds more, and would be counted in place of one that votes.
func (p *change) readyBesides(are func(Standing) bool) int {
	n := 0
	for _, s := range p.standings {
		if s.Pod != nil && s.Pod.Ready && !are(s) {
			n++
		}
	}
	return n
}

// budget is the minAvailable that should stand. When the set has changed, it stays until the new
// set has its quorum. While a set is declared it never falls, because an earlier target of the
// generation may come into force still; and it rises by the newcomers that no target named before,
// so that no more validators may be evicted than before. Nor does it fall while newcomers have
// merely not been looked at for long enough: an operator that is killed again and again would raise
// and lower it for ever.
func (p *change) budget(plan SetPlan, next nextSet, declared bool) (least int, strict bool) {
	t := p.Set.Threshold
	switch {
	case declared && plan.Action == Declare:
		fresh := 0
		for _, s := range next.newcomers {
			if !p.isNamed(*s) {
				fresh++
			}
		}
		return min(len(p.standings), max(p.protection(next), p.Budget+fresh)), true
	case declared:
		return max(p.protection(p.ofTarget(cmp.Or(p.standing, &chain.Target{}))), p.Budget), true
	case plan.Action == Declare:
		return p.protection(next), true
	case p.standings.CaughtUp() < t && p.Strict:
		return max(p.Budget, t), true
	case p.Strict && plan.Action == WaitForNewcomers && p.Budget == p.protection(next) && p.fit(next):
		return p.Budget, true
	}
	return t + p.readyBesides(func(s Standing) bool { return s.InSet }), false
}

// checkpoint is the one that should stand in the peers file. It never goes back.
func (p *change) checkpoint() *chain.Checkpoint {
	want, have := p.Set.checkpoint(), p.File.Checkpoint
	if have != nil && (want == nil || have.Height > want.Height) {
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
