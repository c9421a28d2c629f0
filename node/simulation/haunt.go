package simulation

import (
	"slices"
	"time"

	"github.com/diseq/diseq/node/chain"
)

// This file has what the coalition does about changes of the set. It has the keys of its own
// members, of its newcomers that no set has yet, and of all whose nodes were stopped.

// proposedSet is a next set that somebody endorsed, with the endorsements that the coalition heard.
type proposedSet struct {
	next         *chain.NextSet
	endorsements map[*identity]chain.Endorsed
}

// heard notes an honest validator's endorsement.
func (c *coalition) heard(next *chain.NextSet, who *identity, e chain.Endorsed) {
	i := slices.IndexFunc(c.sets, func(p *proposedSet) bool { return p.next.Hash() == e.Next })
	if i < 0 {
		i = len(c.sets)
		c.sets = append(c.sets, &proposedSet{next: next, endorsements: make(map[*identity]chain.Endorsed)})
	}
	c.sets[i].endorsements[who] = e
}

// change returns a change for a block of the coalition's height, nil for none: mostly the newest
// that enough endorsed. Now and then it is an old one, or one that too few endorsed.
func (c *coalition) change(below []stored) *chain.Change {
	if c.w.Eras == nil || len(c.sets) == 0 || c.scheme != usher && c.w.rng.IntN(3) == 0 {
		return nil
	}
	p := c.sets[len(c.sets)-1]
	wild := c.scheme != usher && (!c.w.synchronous() || c.noisy) && c.w.rng.IntN(3) != 0
	if wild {
		p = c.sets[c.w.rng.IntN(len(c.sets))]
	}
	out := &chain.Change{Next: *p.next}
	for i, who := range c.era.places {
		e, ok := p.endorsements[who]
		if !ok && who.owned() {
			e, ok = chain.Endorse(who.key, chainID, p.next), true
			p.endorsements[who] = e
		}
		if ok {
			out.Endorsements = append(out.Endorsements, chain.Endorsement{Validator: uint32(i), Signature: e.Signature})
		}
	}
	fits := c.w.endorsedBy(c.era, out) == nil && identities(c.w.first, below[:c.height-1]).Check(c.era.next, &out.Next) == nil
	switch {
	case !fits && !wild:
		return nil
	case !fits:
		c.w.faults[BadChange]++
	}
	return out
}

// withOtherChange returns a block with another change than its header names: it lacks an
// endorsement.
func withOtherChange(b *chain.Block) *chain.Block {
	other := *b
	change := *b.Change
	change.Endorsements = slices.Clone(change.Endorsements[:max(0, len(change.Endorsements)-1)])
	other.Change = &change
	return &other
}

// decodes reports whether a block can be read: the header names the change that it carries.
func (w *world) decodes(b *chain.Block) bool {
	if b.CheckChange() == nil || w.Mutation.UnboundChange {
		return true
	}
	w.faults[BadChange]++
	return false
}

// meets makes a newcomer known to the coalition.
func (c *coalition) meets(s *node) {
	if !s.byzantine {
		c.victims, c.sides = append(c.victims, s), append(c.sides, c.w.rng.IntN(max(1, c.parts)))
	}
}

// seat gives each side a member of the set, as far as there are enough.
func (c *coalition) seat() {
	if c.w.Eras == nil {
		return
	}
	side := 0
	for _, i := range c.w.rng.Perm(len(c.victims)) {
		if side < c.parts && c.era.has(c.victims[i].who) {
			c.sides[i] = side
			side++
		}
	}
}

// matters reports whether an honest node is worth an attack: its validator is a member.
func (c *coalition) matters(s *node) bool {
	return c.w.Eras == nil || c.era.has(s.who) ||
		!slices.ContainsFunc(c.victims, func(o *node) bool { return c.era.has(o.who) })
}

// first returns the peer key of the coalition's first member.
func (c *coalition) first() (chain.PublicKey, bool) {
	if len(c.members) == 0 {
		return chain.PublicKey{}, false
	}
	return c.era.places[c.members[0]].PublicKey, true
}

// before returns the era before a height's own: the last other one below.
func (c *coalition) before() *era {
	for i := min(len(c.w.chain), int(c.height)-1) - 1; i >= 0; i-- {
		if c.w.chain[i].block.Change != nil {
			return c.w.eraAt(uint64(i) + 1)
		}
	}
	return c.w.first
}

// signer returns the identity with which the coalition votes for a place, nil if there is none. If
// votes of leavers count, that may be the one that had the place before.
func (c *coalition) signer(place uint32) *identity {
	if c.owns(place) {
		return c.era.at(place)
	}
	if !c.w.Mutation.CountLeavers {
		return nil
	}
	if who := c.w.eraAt(c.height - min(1, c.height)).at(place); who != nil && who.owned() {
		return who
	}
	return nil
}

// haunt sends votes of those that have left, or that are to come, at the places of their own sets:
// at once, and again a little later, when the next height may have begun.
func (c *coalition) haunt() {
	height := c.height + uint64(c.w.rng.IntN(2))
	e := [...]*era{c.era, c.before()}[c.w.rng.IntN(2)]
	kind, block := chain.Kind(1+c.w.rng.IntN(3)), chain.Hash{}
	if sc := c.scene(0); kind != chain.Nullify {
		block = chain.Hash{1}
		if len(sc.seen) > 0 && height == c.height {
			block = sc.seen[c.w.rng.IntN(len(sc.seen))]
		}
	}
	var b chain.Bundle
	for i, who := range e.places {
		if who.owned() {
			v := chain.Vote{Kind: kind, Height: height, Block: block, Validator: uint32(i)}
			c.w.sign(who, &v)
			b.Votes = append(b.Votes, v)
		}
	}
	if b.Empty() {
		return
	}
	c.w.faults[OldVote] += len(b.Votes)
	side := c.anySide()
	c.to(side, b)
	for range 2 {
		c.w.after(c.w.within(500*time.Millisecond), func() { c.to(side, b) })
	}
}

// prowl looks for nodes whose open set the coalition has enough keys of, and misleads them.
func (c *coalition) prowl() {
	for _, s := range c.victims {
		if s.core != nil && c.w.rng.IntN(2) == 0 {
			c.approach(s)
		}
	}
	c.w.after(c.w.operateInterval(), c.prowl)
}

// approach misleads a node over the first link that it admits.
func (c *coalition) approach(s *node) {
	if s.byzantine || count(s.open(c.w).places, (*identity).owned) < s.open(c.w).t() && !c.w.Mutation.OwnSetCertifies {
		return
	}
	for _, who := range c.w.people {
		if who.owned() && c.w.admits(s, who) && c.mislead(s, who) {
			return
		}
	}
}

// mislead gives a node final blocks that the coalition made by itself. It needs the keys of enough
// members of the node's open set. Those of members that left are enough for whoever is still there.
func (c *coalition) mislead(s *node, by *identity) bool {
	if s.byzantine || !by.owned() || c.w.rng.IntN(4) == 0 {
		return false
	}
	blocks := slices.Clone(s.store)
	for range 1 + c.w.rng.IntN(3) {
		e, height := s.open(c.w), uint64(len(blocks))+1
		if len(blocks) > 0 {
			e = blocks[len(blocks)-1].after
		}
		b, ok := c.forge(e, height, blocks)
		if !ok {
			break
		}
		blocks = append(blocks, b)
	}
	if len(blocks) == len(s.store) {
		return false
	}
	c.w.faults[Forged]++
	c.w.trace("coalition forges up to height %d for %v", len(blocks), s)
	c.w.take(s, blocks[len(s.store):])
	return true
}

// forge makes a final block with stolen keys.
func (c *coalition) forge(e *era, height uint64, below []stored) (stored, bool) {
	w := c.w
	signers, change := e, (*chain.Change)(nil)
	if w.Mutation.OwnSetCertifies {
		// The votes are those of the set that the block itself brings.
		signers = w.usurpers(e)
		if signers == nil {
			return stored{}, false
		}
		change = &chain.Change{Next: *signers.next}
	}
	if count(signers.places, (*identity).owned) < signers.t() {
		return stored{}, false
	}
	b := w.newBlock(e, height, 0, below, uint64(began+w.now.Milliseconds()), change)
	cert := &chain.Certificate{Kind: chain.Finalize, Height: height, Block: b.Hash()}
	for i, who := range signers.places {
		if who.owned() {
			v := chain.Vote{Kind: chain.Finalize, Height: height, Block: cert.Block, Validator: uint32(i)}
			w.sign(who, &v)
			cert.Votes = append(cert.Votes, chain.VoteSignature{Validator: v.Validator, Signature: v.Signature})
		}
	}
	return stored{block: b, cert: cert, after: w.successor(e, b)}, true
}

// usurpers returns a set of the coalition's own, nil if it has no keys.
func (w *world) usurpers(e *era) *era {
	var members []*identity
	for _, who := range w.people {
		if who.owned() {
			members = append(members, who)
		}
	}
	if len(members) == 0 {
		return nil
	}
	return w.nextEra(e, len(members), members)
}

// changed reports whether the last final block changes the set.
func (c *coalition) changed() bool {
	last := len(c.w.chain) - 1
	return last >= 0 && uint64(last)+2 == c.height && c.w.chain[last].block.Change != nil
}

// ushers begins to usher, mostly, if the coalition leads the height and has a change to order. The
// prey is an honest member of the next set; another one has to be there.
func (c *coalition) ushers() bool {
	if c.w.Eras == nil || !c.leads(0) || c.w.rng.IntN(4) == 0 {
		return false
	}
	below, ok := c.below()
	if !ok {
		return false
	}
	was := c.scheme
	c.scheme = usher
	change := c.change(below)
	var may []int
	if change != nil {
		next := change.Next.Set()
		for i, s := range c.victims {
			if s.core != nil && next.Index(s.who.PublicKey) >= 0 {
				may = append(may, i)
			}
		}
	}
	if len(may) < 2 {
		c.scheme = was
		return false
	}
	c.parts, c.heights = 2, 1
	clear(c.sides)
	i := may[c.w.rng.IntN(len(may))]
	c.sides[i], c.prey = 1, c.victims[i]
	return true
}

// admit shows the prey the hidden block when the others have voted at the next height. Their
// messages have come and gone by then.
func (c *coalition) admit(p *chain.Proposal) {
	if p == nil {
		return
	}
	prey, b := c.prey, chain.Bundle{Proposals: []*chain.Proposal{p}}
	c.w.after(c.grid(c.pick(9, 10, 11, 12, 14, 16)), func() {
		c.w.deliver(c.w.signed[p.Statement].PublicKey, prey, b, 0, -1)
	})
}
