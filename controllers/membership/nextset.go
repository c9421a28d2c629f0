package membership

import (
	"cmp"
	"slices"

	"github.com/diseq/diseq/node/chain"
)

// nextSet is the set that is aimed at.
type nextSet struct {
	// validators has those of its members that exist.
	validators []chain.NamedValidator
	// newcomers are the members that are not in the set in force; missing are as many as have no
	// Secret yet.
	newcomers []*Standing
	missing   int
	// leaving are the names of the members of the set in force that are not in the next one.
	leaving []string
}

// next chooses the set that is aimed at. A target that stands and does what the spec asks for
// remains as it is, whatever has become of its members since: who leaves is fixed with the target.
func (p *change) next() nextSet {
	if t := p.standing; t != nil && p.satisfies(t) {
		return p.ofTarget(t)
	}
	var next nextSet
	var stays []*Standing
	for _, v := range p.Set.Validators {
		if slices.Contains(p.Retire, v.Name) {
			next.leaving = append(next.leaving, v.Name)
		} else {
			stays = append(stays, p.byName(v.Name))
		}
	}
	if more := len(stays) - p.Validators; more > 0 {
		leavers := slices.Clone(stays)
		slices.SortStableFunc(leavers, leavesBefore)
		for _, s := range leavers[:more] {
			next.leaving = append(next.leaving, s.Name)
		}
	}
	for _, v := range p.Set.Validators {
		if !slices.Contains(next.leaving, v.Name) {
			next.validators = append(next.validators, v)
		}
	}
	wanted := p.Validators - len(next.validators)
	newcomers := p.candidates()
	next.newcomers = newcomers[:min(wanted, len(newcomers))]
	next.missing = wanted - len(next.newcomers)
	slices.SortFunc(next.newcomers, func(a, b *Standing) int { return cmp.Compare(a.Serial, b.Serial) })
	for _, s := range next.newcomers {
		next.validators = append(next.validators, chain.NamedValidator{Name: s.Name, Validator: s.Validator})
	}
	return next
}

// leavesBefore orders the validators that may leave: first those that do not count, then by serial
// number, the highest first.
func leavesBefore(a, b *Standing) int {
	if a.CaughtUp != b.CaughtUp {
		if b.CaughtUp {
			return -1
		}
		return 1
	}
	return cmp.Or(cmp.Compare(b.Serial, a.Serial), cmp.Compare(b.Name, a.Name))
}

// ofTarget is the next set that a target asks for.
func (p *change) ofTarget(t *chain.Target) nextSet {
	next := nextSet{validators: t.Validators}
	for _, v := range t.Validators {
		if !p.Set.Has(v.PublicKey) {
			next.newcomers = append(next.newcomers, p.byName(v.Name))
		}
	}
	for _, v := range p.Set.Validators {
		if !slices.ContainsFunc(t.Validators, func(o chain.NamedValidator) bool { return o.PublicKey == v.PublicKey }) {
			next.leaving = append(next.leaving, v.Name)
		}
	}
	return next
}

// satisfies says whether a target does what the spec asks for. A newcomer that is merely not seen
// does not make the planner replace the target: a cache may lag.
func (p *change) satisfies(t *chain.Target) bool {
	if len(t.Validators) != p.Validators || int(t.Threshold) != p.Threshold {
		return false
	}
	return !slices.ContainsFunc(t.Validators, func(v chain.NamedValidator) bool {
		s := p.byName(v.Name)
		return slices.Contains(p.Retire, v.Name) || !p.Set.Has(v.PublicKey) && (s.Retired || s.Spent || s.lost())
	})
}

// byName is the standing of a validator; one that is not among the members counts as down.
func (p *change) byName(name string) *Standing {
	for i := range p.standings {
		if p.standings[i].Name == name {
			return &p.standings[i]
		}
	}
	return &Standing{Member: Member{Name: name, Serial: -1}, Why: "is not there", Unfit: "is not there"}
}

// candidates are the validators outside of the set that may come into it: first those that a target
// named already, then those that are nearer to it, then by serial number.
func (p *change) candidates() []*Standing {
	var out []*Standing
	for i := range p.standings {
		if s := &p.standings[i]; p.mayJoin(s) {
			out = append(out, s)
		}
	}
	slices.SortStableFunc(out, func(a, b *Standing) int {
		return cmp.Or(cmp.Compare(p.distance(a), p.distance(b)), cmp.Compare(a.Serial, b.Serial))
	})
	return out
}

// mayJoin says whether a validator may come into the set, now or when it is fit. A validator
// without an entry in the peers file that has a StatefulSet is being stopped.
func (p *change) mayJoin(s *Standing) bool {
	return !s.InSet && !s.Spent && !s.Retired && s.Secret && s.PublicKey != (chain.PublicKey{}) && !s.lost() &&
		(s.Listed || !s.StatefulSet.Exists) && !slices.Contains(p.Retire, s.Name) && !p.hasName(s.Name)
}

// hasName says whether the set in force has a validator of a name.
func (p *change) hasName(name string) bool {
	return slices.ContainsFunc(p.Set.Validators, func(v chain.NamedValidator) bool { return v.Name == name })
}

// distance is how far a newcomer is from the set: the lower, the sooner it can be there.
func (p *change) distance(s *Standing) int {
	switch {
	case p.named(&s.Member):
		return 0
	case s.ready():
		return 1
	case s.Unfit == "":
		return 2
	case s.Answer != nil:
		return 3
	case s.Pod != nil && s.Pod.Waiting == "":
		return 4
	}
	return 5
}

// declared says that a set of the next generation has been declared, so that members of the present
// set may have endorsed it: an endorsement cannot be taken back.
func (p *change) declared() bool {
	return p.standing != nil || slices.ContainsFunc(p.standings, p.isNamed)
}

// isNamed says that a validator outside of the set was named in a target of the present generation.
func (p *change) isNamed(s Standing) bool { return !s.InSet && p.named(&s.Member) }

// asks says whether a target asks for the next set.
func (p *change) asks(t *chain.Target, next nextSet) bool {
	return next.missing == 0 && int(t.Threshold) == p.Threshold && sameMembers(t.Validators, next.validators)
}

// isInForce says whether the next set is the one in force.
func (p *change) isInForce(next nextSet) bool {
	return next.missing == 0 && p.Threshold == p.Set.Threshold && sameMembers(p.Set.Validators, next.validators)
}

func sameMembers(a, b []chain.NamedValidator) bool {
	return len(a) == len(b) && !slices.ContainsFunc(a, func(v chain.NamedValidator) bool { return !slices.Contains(b, v) })
}

// target is the target that asks for the next set.
func (p *change) target(next nextSet) *chain.Target {
	return &chain.Target{Follows: p.Set.Generation, Threshold: uint32(p.Threshold), Validators: slices.Clone(next.validators)}
}
