package simulation

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/consensus"
)

// This file has what a node does about changes of the validator set, besides consensus: declared
// targets, endorsements, the rules by which a change is valid and by which the vote for it is
// withheld.

// target is a declared target: the next set, and the number of changes below it.
type target struct {
	next *chain.NextSet
	hash chain.Hash
	turn int
	// serial orders the targets by when they were written.
	serial int
}

// wanted returns the node's target if it is one of its open era and may follow it, else nil.
func (w *world) wanted(s *node) *target {
	if s.target == nil || s.target.turn != s.turn() || s.identities(w).Check(s.open(w).next, s.target.next) != nil {
		return nil
	}
	return s.target
}

// identities returns all that were members in a node's chain.
func (s *node) identities(w *world) *chain.Identities { return identities(w.first, s.store) }

func identities(first *era, blocks []stored) *chain.Identities {
	all := chain.NewIdentities(first.next)
	for _, b := range blocks {
		if b.block.Change != nil {
			all.Add(&b.block.Change.Next)
		}
	}
	return all
}

// endorsement names an endorsement that an honest validator made: of what, and in which era.
type endorsement struct {
	who  *identity
	next chain.Hash
	turn int
}

// gossip sends a node's endorsement to all others, again and again for as long as it runs.
func (w *world) gossip(s *node) {
	w.endorse(s)
	w.poll(s)
	w.on(s, w.gossipInterval(), func() { w.gossip(s) })
}

func (w *world) gossipInterval() time.Duration {
	if w.synchronous() {
		return 4 * w.Delta
	}
	return 300 * time.Millisecond
}

// endorse sends a member's endorsement of its target over its own links. An endorsement is not
// persisted, and a validator that lost its vote store may endorse.
func (w *world) endorse(s *node) {
	goal := w.wanted(s)
	if goal == nil || !s.open(w).has(s.who) {
		return
	}
	e, ok := w.archive[endorsement{s.who, goal.hash, goal.turn}]
	if !ok {
		e = chain.Endorse(s.who.key, chainID, goal.next)
		w.trace("%v endorses %s", s, short(goal.hash))
		w.archive[endorsement{s.who, goal.hash, goal.turn}] = e
		w.coalition.heard(goal.next, s.who, e)
	}
	s.endorsed[s.who] = e
	for _, o := range w.nodes {
		if o != s && !o.off && !w.loses(s, o) {
			w.on(o, w.links.between(s, o), func() {
				if w.admits(o, s.who) {
					o.endorsed[s.who] = e
					w.poll(o)
				}
			})
		}
	}
}

// change returns the change that a node would order: its own target, with the endorsements of at
// least the threshold, while it is linked to enough of the next set.
func (w *world) change(s *node) *chain.Change {
	goal := w.wanted(s)
	if goal == nil {
		return nil
	}
	c := &chain.Change{Next: *goal.next}
	for i, who := range s.open(w).places {
		if e, ok := s.endorsed[who]; ok && e.Next == goal.hash {
			c.Endorsements = append(c.Endorsements, chain.Endorsement{Validator: uint32(i), Signature: e.Signature})
		}
	}
	if len(c.Endorsements) < s.open(w).t()-w.Mutation.EndorsementsMissing || !w.reachesNext(s, goal.next) {
		return nil
	}
	return c
}

// near is how many heights a validator of the next set may be behind.
const near = 10

// reachesNext reports whether a node is linked to the threshold of a next set, itself included,
// each of them near its own height.
func (w *world) reachesNext(s *node, next *chain.NextSet) bool {
	if w.Mutation.OrderUnlinked {
		return true
	}
	linked := 0
	for _, v := range next.Validators {
		if w.reaches(s, w.byKey[v.PublicKey]) {
			linked++
		}
	}
	return linked >= int(next.Threshold)
}

func (w *world) reaches(s *node, who *identity) bool {
	if who == s.who || who.owned() {
		return true // the coalition says whatever suits it
	}
	o := w.nodeOf(who)
	return o.core != nil && !o.trouble.cut && !s.trouble.cut && w.links.linked(s, o) && len(o.store)+near >= len(s.store)
}

// poll tells a node's core whether there is something to order: a message, a change, or the height
// after a change, which shows that the new set is there.
func (w *world) poll(s *node) {
	if w.Eras == nil || s.core == nil {
		return
	}
	if pending := w.pending(s); pending != s.pooled {
		s.pooled = pending
		w.step(s, consensus.Pool{Pending: pending})
	}
}

func (w *world) pending(s *node) bool {
	changed := len(s.store) > 0 && s.store[len(s.store)-1].block.Change != nil && !w.Mutation.SleepAfterChange
	return s.pending || changed || w.change(s) != nil
}

// checkSets checks the parts of a header that are about validator sets, and the change that the
// block carries: by the chain alone, so that every node comes to the same end.
func (w *world) checkSets(s *node, b *chain.Block) error {
	e := s.eraAt(w, b.Header.Height)
	next := e.hash
	if b.Change != nil {
		next = b.Change.Next.Set().Hash()
	}
	if b.Header.ValidatorsHash != e.hash || b.Header.NextValidatorsHash != next {
		return errors.New("the header names other validator sets")
	}
	if b.Change == nil {
		return nil
	}
	if err := w.endorsedBy(e, b.Change); err != nil {
		return err
	}
	return s.identities(w).Check(e.next, &b.Change.Next)
}

// verdict names a verified change.
type verdict struct{ change, set chain.Hash }

// endorsedBy checks a change against the set in force, once for all nodes.
func (w *world) endorsedBy(e *era, c *chain.Change) error {
	key := verdict{c.Hash(), e.hash}
	if err, ok := w.verdicts[key]; ok {
		return err
	}
	err := c.Verify(chainID, e.set)
	if w.Mutation.EndorsementsMissing > 0 || w.Mutation.NoGeneration {
		err = w.endorsedLaxly(e, c)
	}
	w.verdicts[key] = err
	return err
}

// endorsedLaxly is chain.Change.Verify without some of its rules.
func (w *world) endorsedLaxly(e *era, c *chain.Change) error {
	last := int64(-1)
	for _, o := range c.Endorsements {
		who := e.at(o.Validator)
		if int64(o.Validator) <= last || who == nil {
			return errors.New("indices do not rise")
		}
		last = int64(o.Validator)
		made := chain.Endorsed{Generation: c.Next.Generation, Next: c.Next.Hash(), Signature: o.Signature}
		if err := made.Verify(chainID, who.PublicKey); err != nil {
			return err
		}
	}
	switch {
	case len(c.Endorsements) < e.t()-w.Mutation.EndorsementsMissing:
		return errors.New("too few endorsements")
	case !w.Mutation.NoGeneration && c.Next.Generation != e.set.Generation+1:
		return errors.New("another generation")
	}
	return c.Next.Validate()
}

// sawChange checks a change that has become final. At least the threshold of the set must have
// endorsed it while that very set was in force, and nobody may come back. The coalition may endorse
// anything.
func (w *world) sawChange(b stored, below []stored) {
	e, turn := w.eraAt(b.block.Header.Height), turns(below)
	w.faults[SetChange]++
	c := b.block.Change
	w.trace("the set changes above height %d to %s", b.block.Header.Height, w.successor(e, b.block))
	endorsed := 0
	for _, o := range c.Endorsements {
		who := e.at(o.Validator)
		if _, ok := w.archive[endorsement{who, c.Next.Hash(), turn}]; ok || who.owned() {
			endorsed++
		}
	}
	if endorsed < e.t() {
		w.violate("%w: of %d of %d members, above height %d", ErrChange, endorsed, e.t(), b.block.Header.Height)
	}
	if err := identities(w.first, below).Check(e.next, &c.Next); err != nil {
		w.violate("%w: %w", ErrChange, err)
	}
}

// String names an era by its members in a transcript.
func (e *era) String() string {
	return fmt.Sprintf("generation %d, t=%d of %v", e.set.Generation, e.t(), slices.Clone(e.places))
}
