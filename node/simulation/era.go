package simulation

import (
	"slices"
	"time"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/consensus"
)

// era is the heights of one validator set.
type era struct {
	set *chain.ValidatorSet
	// places are the members in the order of the set.
	places []*identity
	hash   chain.Hash
}

func newEra(set *chain.ValidatorSet, members []*identity) *era {
	set.Validators = nil
	for _, who := range members {
		set.Validators = append(set.Validators, who.Validator)
	}
	return &era{set: set, places: members, hash: set.Hash()}
}

func (e *era) n() int { return len(e.places) }
func (e *era) t() int { return int(e.set.Threshold) }

// has reports whether the set has a validator.
func (e *era) has(who *identity) bool { return slices.Contains(e.places, who) }

// at returns the member at a place, nil if the set has no such place.
func (e *era) at(place uint32) *identity {
	if int64(place) >= int64(len(e.places)) {
		return nil
	}
	return e.places[place]
}

// byzantine is the number of members that belong to the coalition.
func (e *era) byzantine() int {
	count := 0
	for _, who := range e.places {
		if who.byzantine {
			count++
		}
	}
	return count
}

// tolerance is what the set withstands.
func (e *era) tolerance() consensus.FaultTolerance { return consensus.Tolerance(e.n(), e.t()) }

// eraAt returns the era of a height.
func (w *world) eraAt(uint64) *era { return w.first }

// eraAt returns the era of a height by the node's own blocks.
func (s *node) eraAt(w *world, height uint64) *era { return w.eraAt(height) }

// genesis makes the first set.
func (w *world) genesis() *era {
	e := validators(w.N, w.T, w.Keys)
	e.set.SynchronyDeltaMS = uint32(w.Delta / time.Millisecond)
	return newEra(e.set, e.places)
}

// nodeOf returns the process of a validator.
func (w *world) nodeOf(who *identity) *node {
	return w.nodes[slices.IndexFunc(w.nodes, func(s *node) bool { return s.who == who })]
}
