package membership

import (
	"cmp"

	"github.com/diseq/diseq/node/chain"
)

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
func (p *change) budget(plan SetPlan, next nextSet) (least int, strict bool) {
	t, declared := p.Set.Threshold, p.declared()
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
