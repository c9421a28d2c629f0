package consensus

import (
	"slices"
	"time"

	"github.com/diseq/diseq/node/chain"
)

// perform carries actions out in their order; the process may die before each of them.
func (c *cluster) perform(s *slot, actions []Action) {
	for _, a := range actions {
		if !c.calm && c.rng.Float64() < c.crash {
			c.crashNow(s)
			return
		}
		c.act(s, a)
		if s.core == nil || c.err != nil {
			return
		}
	}
}

func (c *cluster) act(s *slot, a Action) {
	switch a := a.(type) {
	case Persist:
		for _, r := range a.Records {
			// The way through the encoding is part of the test.
			r, err := DecodeRecord(r.Encode())
			if err != nil {
				c.fail("%w", err)
			}
			s.records = append(s.records, r)
		}
	case Broadcast:
		for _, o := range c.slots {
			if o != s {
				// The process may die half-way through.
				if !c.calm && c.rng.Float64() < c.crash {
					c.crashNow(s)
					return
				}
				c.send(s, o, a.Bundle)
			}
		}
	case Send:
		for _, o := range c.slots {
			if o != s && c.key(o) == a.To {
				c.send(s, o, a.Bundle)
			}
		}
	case SetTimer:
		c.on(s, a.After, func() { c.step(s, TimerFired{a.Timer}) })
	case CheckBlock:
		c.checkBlock(s, a)
	case FetchBlock:
		c.fetchBlock(s, a)
	case RequestBlock:
		c.on(s, time.Millisecond, func() { c.build(s, a) })
	case Commit:
		c.commit(s, a)
	case Strengthen:
		c.verify(s, a.Finalization)
		if i := a.Finalization.Height - 1; i < uint64(len(s.store)) {
			if a.Finalization.Strength() <= s.store[i].cert.Strength() {
				c.fail("node %d: height %d was strengthened to %d votes, it has %d", s.id, i+1, a.Finalization.Strength(),
					s.store[i].cert.Strength())
			}
			s.store[i].cert = a.Finalization
		}
	case AnswerFinalization:
		if a.Height <= uint64(len(s.store)) {
			for _, o := range c.slots {
				if o != s && c.key(o) == a.To {
					c.send(s, o, Bundle{Certificates: []*chain.Certificate{s.store[a.Height-1].cert}})
				}
			}
		}
	case CatchUp:
		c.on(s, c.delay(), func() { c.catchUp(s, a) })
	case EvidenceFound:
		v := a.Evidence.First.Validator
		c.accused[v] = true
		if !c.signed[a.Evidence.First] || !c.signed[a.Evidence.Second] {
			c.fail("evidence of votes that validator %d never signed", v)
		}
		if int(v) >= c.twins && !c.mayLie() {
			c.fail("evidence against honest validator %d: %+v", v, a.Evidence)
		}
	case Contradiction:
		if !c.mayLie() {
			c.fail("node %d: %s", s.id, a.Reason)
		}
	}
}

// mayLie reports whether the run is a control, in which honest validators may break rules.
func (c *cluster) mayLie() bool { return c.unsafe != unsafe{} || c.amnesia || c.twins >= 2*c.t-c.n }

func (c *cluster) checkBlock(s *slot, a CheckBlock) {
	s.known[a.Block.Hash()] = a.Block
	verdict := Valid
	if a.Fresh && !c.calm && c.rng.IntN(20) == 0 {
		verdict = Withheld
	}
	d := time.Duration(c.rng.IntN(5)) * time.Millisecond
	if !c.calm && c.rng.IntN(10) == 0 {
		d *= 100
	}
	c.on(s, d, func() {
		c.step(s, BlockChecked{Height: a.Height, Round: a.Round, Block: a.Block.Hash(), Fresh: a.Fresh, Verdict: verdict})
	})
}

func (c *cluster) fetchBlock(s *slot, a FetchBlock) {
	if len(a.Holders) == 0 {
		return
	}
	for _, o := range c.slots {
		if o != s && o.core != nil && c.key(o) == a.Holders[0] && c.connected(s, o) && o.known[a.Block] != nil {
			b := o.known[a.Block]
			c.on(s, c.delay(), func() { c.step(s, BlockFetched{b}) })
		}
	}
}

func (c *cluster) build(s *slot, a RequestBlock) {
	if a.Height != uint64(len(s.store)+1) {
		return
	}
	c.stamp++
	b := &chain.Block{Header: chain.Header{
		ChainID: "test", Height: a.Height, Timestamp: c.stamp, Proposer: uint32(s.validator),
	}}
	if a.Height > 1 {
		b.Header.ParentHash = s.store[a.Height-2].cert.Block
	}
	if s.pending {
		b.Header.MessagesCount = 1
	}
	s.known[b.Hash()] = b
	c.step(s, BlockBuilt{Round: a.Round, Block: b})
}

func (c *cluster) verify(s *slot, cert *chain.Certificate) {
	if err := cert.Check(c.n, c.t-c.unsafe.threshold); err != nil {
		c.fail("node %d: %w", s.id, err)
	}
	for i := range cert.Votes {
		if !c.signed[cert.Vote(i)] {
			c.fail("node %d: a certificate holds a vote that nobody signed: %+v", s.id, cert.Vote(i))
		}
	}
}

func (c *cluster) commit(s *slot, a Commit) {
	height := a.Block.Header.Height
	c.verify(s, a.Finalization)
	c.commits[height] = append(c.commits[height], a)
	if hash := a.Block.Hash(); a.Finalization.Block != hash || height != uint64(len(s.store)+1) {
		c.fail("node %d: commit of block %v of height %d by %+v", s.id, hash, height, a.Finalization)
	}
	if held, ok := c.final[height]; ok && held != a.Finalization.Block {
		c.forked = height
		c.fail("%w at height %d: node %d commits %v, another has %v", errFork, height, s.id, a.Finalization.Block, held)
		return
	}
	c.final[height] = a.Finalization.Block
	s.store = append(s.store, stored{a.Block, a.Finalization})
	if a.Block.Header.MessagesCount > 0 {
		s.pending = false
		s.core.Step(Pool{})
	}
	// The next height begins before the block is on disk: the records carry it until then.
	c.on(s, time.Duration(c.rng.IntN(30))*time.Millisecond, func() {
		s.durable = max(s.durable, int(height))
		s.records = slices.DeleteFunc(s.records, func(r Record) bool { return r.Height <= uint64(s.durable) })
	})
	c.on(s, 0, func() {
		if uint64(len(s.store)) == height {
			c.startHeight(s)
		}
	})
}

func (c *cluster) catchUp(s *slot, a CatchUp) {
	for _, o := range c.slots {
		if o == s || o.core == nil || c.key(o) != a.From || !c.connected(s, o) || len(o.store) <= len(s.store) {
			continue
		}
		for _, b := range o.store[len(s.store):] {
			c.verify(s, b.cert)
			s.store = append(s.store, b)
		}
		s.durable = len(s.store)
		c.startHeight(s)
		return
	}
}
