package simulation

import (
	"time"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/consensus"
)

// plot is how the coalition attacks the synchrony wait: for each round it draws when to show what to which side, on a grid of Delta/2 from
// the first moment that an honest validator may be in the round, for it is at the ends of waits that something can be gained. What it
// signs is shown late or never: finalizations it keeps until two of them contradict each other.
func (c *coalition) plot(r uint32) {
	sc := c.scene(r)
	if sc.plotted || c.w.Delta == 0 || len(c.members) == 0 || r > 12 {
		return
	}
	sc.plotted = true
	rng, height := c.w.rng, c.height
	// A certificate is made last of what happens at a time: of the votes that a proposal shown at that time brings.
	at := func(d time.Duration, rank int, do func()) {
		c.w.ranked(max(d, 0), rank, func() {
			if c.height == height {
				do()
			}
		})
	}
	// grid is a time on the grid; now and then it is a little before or after, for much depends on what comes first.
	grid := func(half int) time.Duration {
		d := time.Duration(half) * c.w.Delta / 2
		if rng.IntN(3) == 0 {
			d += time.Duration(rng.IntN(3)-1) * time.Millisecond / 2
		}
		return d
	}
	pick := func(halves ...int) int { return halves[rng.IntN(len(halves))] }
	// The first side is shown its block at the beginning of the round, or just before it is given up.
	show := pick(0, 0, 0, 1, 2, 11, 12, 13, 14)
	for side := range 2 {
		at(grid(show), 0, func() { c.propose(r, side) })
		if rng.IntN(5) != 0 {
			at(grid(show+pick(0, 0, 0, 0, 1, 2, 3, 4, 5)), 2, func() { c.certify(chain.Notarize, r, side, side) })
		}
		if rng.IntN(2) == 0 {
			at(grid(show+rng.IntN(24)), 2, func() { c.certify(chain.Nullify, r, side, side) })
		}
		if rng.IntN(4) == 0 {
			at(grid(show+rng.IntN(10)), 2, func() { c.certify(chain.Notarize, r, side, 1-side) })
		}
		if rng.IntN(12) == 0 {
			at(grid(4+rng.IntN(20)), 2, func() { c.certify(chain.Finalize, r, side, rng.IntN(3)) })
		}
		show += pick(0, 1, 1, 2, 2, 3, 3, 4, 30)
	}
}

// propose shows the proposal of a round that a member leads to a side.
func (c *coalition) propose(r uint32, side int) {
	leader := c.order[int(r)%len(c.order)]
	sc := c.scene(r)
	if leader >= c.w.Byzantine {
		return
	}
	if sc.led[side] == nil {
		if other := sc.led[1-side]; other != nil && c.w.rng.Float64() < c.unity {
			sc.led[side] = other
		} else {
			sc.led[side] = c.proposal(r, uint32(leader))
		}
	}
	if p := sc.led[side]; p != nil {
		c.to(side, consensus.Bundle{Proposals: []*chain.Proposal{p}})
	}
}

// certify shows a side the certificate that the votes known and the coalition's make.
func (c *coalition) certify(kind chain.Kind, r uint32, about, to int) {
	sc := c.scene(r)
	block := chain.Hash{}
	if kind != chain.Nullify {
		switch {
		case sc.led[about] != nil:
			block = sc.led[about].Statement.Block
		case len(sc.seen) > 0:
			block = sc.seen[c.w.rng.IntN(len(sc.seen))]
		default:
			return
		}
	}
	if cert := c.certificate(kind, r, block); cert != nil {
		c.to(to, consensus.Bundle{Certificates: []*chain.Certificate{cert}})
	}
}

// exploit shows everyone two finalizations that contradict each other, as soon as there are any.
func (c *coalition) exploit() {
	var first *chain.Certificate
	for r := range c.top + 1 {
		sc := c.rounds[r]
		if sc == nil {
			continue
		}
		for _, block := range sc.seen {
			if len(sc.votes[chain.Finalize][block]) == 0 {
				continue
			}
			cert := c.certificate(chain.Finalize, r, block)
			switch {
			case cert == nil:
			case first == nil:
				first = cert
			case first.Block != block:
				c.to(0, consensus.Bundle{Certificates: []*chain.Certificate{first}})
				c.to(1, consensus.Bundle{Certificates: []*chain.Certificate{cert}})
			}
		}
	}
}
