package ledger

import (
	"fmt"
	"sort"
	"sync"

	"github.com/diseq/diseq/node/chain"
)

// Sets is the history of the validator sets: that of the genesis document, and one more for each
// final block that carries a change. The set that decides a height is known once the block below is
// final. Its methods may be called from any goroutine. The sets that they return are shared and
// must not be changed. The set of one generation is always the same pointer.
type Sets struct {
	chainID string

	mu  sync.RWMutex
	tip uint64
	// eras has the sets by generation.
	eras       []era
	identities *chain.Identities
	names      map[chain.PublicKey]string
}

// era is the heights that one set decides.
type era struct {
	// first is the first height.
	first uint64
	named *chain.NextSet
	set   *chain.ValidatorSet
	hash  chain.Hash
}

func newSets(g *chain.Genesis) *Sets {
	first := g.First()
	s := &Sets{chainID: g.ChainID, identities: chain.NewIdentities(first), names: map[chain.PublicKey]string{}}
	s.begin(0, *first)
	return s
}

// begin puts a set in force from a height on.
func (s *Sets) begin(first uint64, next chain.NextSet) {
	named := &next // without the endorsements beside it
	set := named.Set()
	s.eras = append(s.eras, era{first: first, named: named, set: set, hash: set.Hash()})
	s.identities.Add(named)
	for _, v := range named.Validators {
		s.names[v.PublicKey] = v.Name
	}
}

// follows reports why the block above the tip cannot be: its change does not lead to the set that
// its header names as the next one.
func (s *Sets) follows(b *chain.Block) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if b.Change == nil {
		return nil
	}
	height, open := b.Header.Height, s.eras[len(s.eras)-1].set
	if next := b.Change.Next.Set(); next.Generation != open.Generation+1 || next.Hash() != b.Header.NextValidatorsHash {
		return fmt.Errorf("block %d changes the validators to set %v of generation %d; its header names %v, and generation %d is in force",
			height, next.Hash(), next.Generation, b.Header.NextValidatorsHash, open.Generation)
	}
	return nil
}

// apply follows a final block.
func (s *Sets) apply(b *chain.Block) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tip = b.Header.Height
	if b.Change != nil {
		s.begin(s.tip+1, b.Change.Next)
	}
}

// restore takes over the changes of the store, in rising order, at the final block with this
// header.
func (s *Sets) restore(tip *chain.Header, changes []chain.StoredChange) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tip = tip.Height
	for _, c := range changes {
		last := s.eras[len(s.eras)-1]
		if c.Height < last.first || c.Height > tip.Height || c.Change.Next.Generation != last.set.Generation+1 {
			return fmt.Errorf("stored change of height %d to generation %d, after generation %d of height %d",
				c.Height, c.Change.Next.Generation, last.set.Generation, last.first)
		}
		s.begin(c.Height+1, c.Change.Next)
	}
	if last := s.eras[len(s.eras)-1]; last.hash != tip.NextValidatorsHash {
		return fmt.Errorf("block %d names validator set %v as the next one, the stored changes lead to %v of generation %d",
			tip.Height, tip.NextValidatorsHash, last.hash, last.set.Generation)
	}
	return nil
}

// at returns the era of a height. Height 0 counts as 1.
func (s *Sets) at(height uint64) (era, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if height > s.tip+1 {
		return era{}, false
	}
	return s.eras[s.generation(height)], true
}

// generation returns the place in eras of the set of a height.
func (s *Sets) generation(height uint64) int {
	return max(0, sort.Search(len(s.eras), func(i int) bool { return s.eras[i].first > height })-1)
}

// At returns the set that decides a height, at most one above the last final height; 0 counts as 1.
// Above that it returns false: the set is not decided yet.
func (s *Sets) At(height uint64) (*chain.ValidatorSet, bool) {
	e, ok := s.at(height)
	return e.set, ok
}

// Named is At, with the names of the members.
func (s *Sets) Named(height uint64) (*chain.NextSet, bool) {
	e, ok := s.at(height)
	return e.named, ok
}

// Open returns the set that decides the height above the last final one: the newest set. Append
// puts it in force, before Publish shows the tip.
func (s *Sets) Open() *chain.ValidatorSet {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.eras[len(s.eras)-1].set
}

// ByGeneration returns the set of a generation, and the height of the block that carried the change
// to it: 0 for that of genesis.
func (s *Sets) ByGeneration(generation uint32) (set *chain.NextSet, height uint64, ok bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if int64(generation) >= int64(len(s.eras)) {
		return nil, 0, false
	}
	e := s.eras[generation]
	return e.named, e.first - min(e.first, 1), true
}

// Check reports why a change is not valid in the block of a height, at most one above the last
// final height.
func (s *Sets) Check(c *chain.Change, height uint64) error {
	e, ok := s.at(height)
	if !ok {
		return fmt.Errorf("the validator set of height %d is not decided yet", height)
	}
	if err := c.Verify(s.chainID, e.set); err != nil {
		return err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	identities := s.identities
	if e.set.Generation+1 < uint32(len(s.eras)) { // an era that is over: without what came later
		identities = chain.NewIdentities(s.eras[0].named)
		for _, earlier := range s.eras[1 : e.set.Generation+1] {
			identities.Add(earlier.named)
		}
	}
	return identities.Check(e.named, &c.Next)
}

// NameOf returns the name of a validator that is or was a member of a set, or the start of the key
// of any other node.
func (s *Sets) NameOf(key chain.PublicKey) string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if name, ok := s.names[key]; ok {
		return name
	}
	return key.String()[:16]
}
