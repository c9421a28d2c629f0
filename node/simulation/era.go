package simulation

import (
	"slices"
	"time"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/consensus"
)

// era is the heights of one validator set.
type era struct {
	set  *chain.ValidatorSet
	next *chain.NextSet
	hash chain.Hash
	// places are the members in the order of the set.
	places []*identity
}

// newEra makes an era of a set. Its members take their places in the given order.
func newEra(generation uint32, t int, delta time.Duration, members []*identity) *era {
	next := &chain.NextSet{Generation: generation, Threshold: uint32(t), SynchronyDeltaMS: uint32(delta / time.Millisecond)}
	for _, who := range members {
		next.Validators = append(next.Validators, who.NamedValidator)
	}
	set := next.Set()
	return &era{set: set, next: next, hash: set.Hash(), places: members}
}

func (e *era) n() int { return len(e.places) }
func (e *era) t() int { return int(e.set.Threshold) }

// has reports whether a validator is a member.
func (e *era) has(who *identity) bool { return slices.Contains(e.places, who) }

// at returns the member at a place, nil if the set has no such place.
func (e *era) at(place uint32) *identity {
	if int64(place) >= int64(len(e.places)) {
		return nil
	}
	return e.places[place]
}

// byzantine is the number of members that belong to the coalition from the start.
func (e *era) byzantine() int {
	return count(e.places, func(who *identity) bool { return who.byzantine })
}

// withstands is how many Byzantine members the set promises to withstand.
func (e *era) withstands(w *world) int {
	tolerance := consensus.Tolerance(e.n(), e.t())
	if w.synchronous() {
		return tolerance.ByzantineWithSynchrony - w.Partitioned
	}
	return tolerance.Byzantine
}

func count[T any](of []T, fits func(T) bool) int {
	n := 0
	for _, x := range of {
		if fits(x) {
			n++
		}
	}
	return n
}

// genesis makes the first set.
func (w *world) genesis() *era {
	members := make([]*identity, 0, w.N)
	for range w.N {
		members = append(members, w.enlist(len(w.people) < w.Byzantine))
	}
	return newEra(0, w.T, w.Delta, members)
}

// enlist makes a validator that no set knows yet.
func (w *world) enlist(byzantine bool) *identity {
	who := newIdentity(len(w.people), w.Keys, w.Eras != nil)
	who.byzantine = byzantine
	w.people = append(w.people, who)
	w.byKey[who.PublicKey] = who
	return who
}

// nodeOf returns the process of a validator, of a Byzantine one the first.
func (w *world) nodeOf(who *identity) *node {
	return w.nodes[slices.IndexFunc(w.nodes, func(s *node) bool { return s.who == who })]
}

// eraAt returns the era of a height in the chain that most see: by the blocks that an honest
// validator has, else by those of the coalition's processes.
func (w *world) eraAt(height uint64) *era {
	if w.Eras == nil || height <= 1 {
		return w.first
	}
	below := height - 2
	if below < uint64(len(w.chain)) {
		return w.chain[below].after
	}
	for _, s := range w.nodes {
		if s.byzantine && below < uint64(len(s.store)) {
			return s.store[below].after
		}
	}
	if len(w.chain) == 0 {
		return w.first
	}
	return w.chain[len(w.chain)-1].after
}

// open returns the era of the height above the last final one.
func (w *world) open() *era { return w.eraAt(uint64(len(w.chain)) + 1) }

// eraAt returns the era of a height by the node's own blocks: of a height above the open one, whose
// set nobody knows, that of the open one.
func (s *node) eraAt(w *world, height uint64) *era {
	below := min(height, uint64(len(s.store))+1)
	if w.Eras == nil || below <= 1 {
		return w.first
	}
	return s.store[below-2].after
}

// open returns the era of a node's open height.
func (s *node) open(w *world) *era { return s.eraAt(w, uint64(len(s.store))+1) }

// turn is the number of changes in a node's chain.
func (s *node) turn() int { return turns(s.store) }

func turns(blocks []stored) int {
	if len(blocks) == 0 {
		return 0
	}
	return blocks[len(blocks)-1].turn
}

// put appends a final block to a node's chain.
func (w *world) put(s *node, b *chain.Block, cert *chain.Certificate) {
	turn := s.turn()
	if b.Change != nil {
		turn++
	}
	s.store = append(s.store, stored{block: b, cert: cert, after: w.successor(s.open(w), b), turn: turn})
}

// successor returns the era that follows a block of an era.
func (w *world) successor(e *era, b *chain.Block) *era {
	if b.Change == nil {
		return e
	}
	hash := b.Change.Next.Hash()
	if known := w.eras[hash]; known != nil {
		return known
	}
	next := &b.Change.Next
	members := make([]*identity, len(next.Validators))
	for i, v := range next.Validators {
		members[i] = w.byKey[v.PublicKey]
	}
	w.eras[hash] = newEra(next.Generation, int(next.Threshold), w.Delta, members)
	return w.eras[hash]
}
