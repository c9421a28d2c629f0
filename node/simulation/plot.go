package simulation

import (
	"time"

	"github.com/diseq/diseq/node/chain"
)

// scheme is how the coalition attacks the synchrony wait at a height. Each is a shape that breaks a
// wait without one of its rules. The moments are left to chance, on a grid of Delta/2, because an
// attack can only gain something at the ends of waits. The coalition shows its votes to finalize
// late or never: it keeps finalizations until two of them contradict each other.
type scheme int

const (
	// improvise draws for each round the messages to each side and their times.
	improvise scheme = iota
	// divide shows each side a block of its own in one round, and continues with the second side's
	// block in the next round.
	divide
	// overtake shows one side a block just as the other gives the round up, and leads the other
	// past it.
	overtake
	// ladder leads sides from round to round, each past the notarizations of the others, for as
	// long as members lead.
	ladder
	// ambush waits for a validator that was paused or killed, and shows it another block than the
	// others hold when it comes back. Or it makes a validator stop just before that validator
	// forwards a notarization.
	ambush
	// strand hides a block from a validator until the others are two heights ahead. When the
	// validator has caught up, strand shows it another block than the one of the others, whose
	// messages the validator had no room for.
	strand
	// usher hides a block that changes the set from a member of the next set. Until that one has
	// caught up it can verify nothing that the others say at the next height. Then usher shows it
	// another block than theirs.
	usher
)

// strandHeights is how many heights strand takes. A validator that is one height behind still keeps
// the messages it receives.
const strandHeights = 3

// at schedules an action at this height. Actions at one time are ordered by rank: certificates are
// made last, so that they contain the votes that a proposal shown at that time causes.
func (c *coalition) at(d time.Duration, rank int, do func()) {
	height := c.height
	c.w.ranked(max(d, 0), rank, func() {
		if c.height == height {
			do()
		}
	})
}

// grid returns a time on the grid, now and then a little before or after it, because the order at
// an instant matters.
func (c *coalition) grid(halves int) time.Duration {
	d := time.Duration(halves) * c.w.bound() / 2
	if c.w.rng.IntN(4) == 0 {
		d += time.Duration(c.w.rng.IntN(3)-1) * time.Millisecond / 2
	}
	return d
}

func (c *coalition) pick(halves ...int) int { return halves[c.w.rng.IntN(len(halves))] }

// leads reports whether a member leads a round.
func (c *coalition) leads(r uint32) bool { return c.owns(uint32(c.order[int(r)%len(c.order)])) }

// plot draws the actions in a round, from the first moment at which an honest validator may be in
// it.
func (c *coalition) plot(r uint32) {
	sc := c.scene(r)
	if sc.plotted || !c.w.synchronous() || len(c.members) == 0 || r > 12 {
		return
	}
	sc.plotted = true
	var begin time.Duration
	if c.height == 1 && r == 0 {
		// nobody votes before that
		begin = 2*c.w.Delta*time.Duration(100+c.w.weather.Skew)/100 + startSpread
	}
	switch {
	case c.scheme == improvise:
		c.at(begin, 0, func() { c.improvise(r) })
	case c.scheme == divide && c.fits(r):
		c.at(begin, 0, func() { c.divide(r) })
	case c.scheme == ladder && c.fits(r):
		c.at(begin, 0, func() { c.ladder(r) })
	case c.scheme == ambush && c.fits(r):
		c.at(begin, 0, func() { c.ambush(r) })
	case (c.scheme == strand || c.scheme == usher) && r == 0:
		c.at(begin, 0, c.strand)
	}
}

// hint handles a vote that points at a round to plot for. With improvise the plot starts as soon as
// the round can be reached, with any other scheme once it is entered.
func (c *coalition) hint(v chain.Vote) {
	sc := c.scene(v.Round)
	votes := len(sc.votes[v.Kind][v.Block]) + len(c.members)
	gaveUp := v.Kind == chain.Nullify && !c.owns(v.Validator)
	switch {
	case !c.w.synchronous():
	case c.scheme == improvise:
		c.plot(v.Round)
		if (v.Kind == chain.Notarize || v.Kind == chain.Nullify) && votes >= c.era.t() {
			c.plot(v.Round + 1)
		}
	case gaveUp && !c.overtake(v) && !c.fits(v.Round) && votes >= c.era.t() && !sc.passed:
		// The scheme has no use for this round, so the coalition lets it be nullified.
		sc.passed = true
		c.at(0, 2, func() {
			c.certify(chain.Nullify, v.Round, 0, everyone)
			c.at(0, 2, func() { c.plot(v.Round + 1) })
		})
	}
}

// fits reports whether members lead two rounds in a row: the block that the second side sees in the
// first round continues in the second.
func (c *coalition) fits(r uint32) bool { return c.leads(r) && c.leads(r+1) }

func (c *coalition) improvise(r uint32) {
	rng := c.w.rng
	// The first side sees its block at the beginning of the round, or just before it gives the
	// round up.
	show := c.pick(0, 0, 0, 1, 2, 11, 12, 13, 14)
	for side := range c.parts {
		c.at(c.grid(show), 0, func() { c.propose(r, side) })
		if rng.IntN(5) != 0 {
			c.at(c.grid(show+c.pick(0, 0, 0, 0, 1, 2, 3, 4, 5)), 2, func() { c.certify(chain.Notarize, r, side, side) })
		}
		if rng.IntN(2) == 0 {
			c.at(c.grid(show+rng.IntN(24)), 2, func() { c.certify(chain.Nullify, r, side, side) })
		}
		if rng.IntN(4) == 0 {
			c.at(c.grid(show+rng.IntN(10)), 2, func() { c.certify(chain.Notarize, r, side, (side+1)%c.parts) })
		}
		if rng.IntN(12) == 0 {
			c.at(c.grid(4+rng.IntN(20)), 2, func() { c.certify(chain.Finalize, r, side, c.anySide()) })
		}
		show += c.pick(0, 1, 1, 2, 2, 3, 3, 4, 30)
	}
}

// divide gives the first side its notarization at the start, and shows the second side another
// block up to a little more than Delta later. R2, R4 and the length of the wait decide whether the
// first side learns of it before its wait is over.
func (c *coalition) divide(r uint32) {
	first := c.w.rng.IntN(c.parts)
	second := (first + 1) % c.parts
	start := c.grid(c.pick(0, 0, 1, 2))
	c.at(start, 0, func() { c.lure(r, first) })
	c.at(start, 2, func() { c.certify(chain.Notarize, r, first, first) })
	c.at(start+c.grid(c.pick(1, 2, 2, 2, 3)), 0, func() { c.lure(r, second) })
	c.at(start+c.grid(c.pick(3, 4, 5, 6)), 2, func() { c.goOn(r, second, c.scene(r).led[second]) })
}

// overtake acts on the first honest vote to give up a round that a member leads. It shows the other
// side a block of that round, and leads the signer past it, about when the other side's wait ends.
// R1 and R3 prevent the fork.
func (c *coalition) overtake(v chain.Vote) bool {
	r := v.Round
	sc := c.scene(r)
	if c.scheme != overtake || !c.fits(r) || sc.led != [maxParts]*chain.Proposal{} {
		return false
	}
	gaveUp := c.side(c.w.nodeOf(c.era.places[v.Validator]))
	other := (gaveUp + 1) % c.parts
	start := c.grid(c.pick(0, 0, 0, 1))
	c.at(start, 0, func() { c.lure(r, other) })
	c.at(start, 2, func() { c.certify(chain.Notarize, r, other, other) })
	c.at(start+c.grid(c.pick(1, 2, 3, 4, 5)), 2, func() { c.goOn(r, gaveUp, nil) })
	return true
}

// ladder divides, and then continues with one side after the other.
func (c *coalition) ladder(r uint32) {
	c.divide(r)
	at := 5
	for q := r; c.leads(q+1) && q < r+4; q++ {
		side := c.w.rng.IntN(c.parts)
		at += c.pick(1, 2, 3, 4, 5, 6)
		c.at(c.grid(at), 2, func() {
			with := c.scene(q).led[side]
			if c.w.rng.IntN(3) == 0 {
				with = nil
			}
			c.goOn(q, side, with)
		})
	}
}

// strand hurries: blocks of honest leaders become final as well. It keeps only the finalization of
// the last height.
func (c *coalition) strand() {
	const others, prey = 0, 1
	last := strandHeights
	if c.scheme == usher {
		last = 2
	}
	if c.leads(0) {
		c.lure(0, others)
	}
	for halves := range 12 {
		c.at(c.grid(halves), 2, func() {
			c.certify(chain.Notarize, 0, others, others)
			if c.heights < last {
				c.certify(chain.Finalize, 0, others, others)
			}
		})
	}
	if c.scheme == usher && c.heights < last {
		c.admit(c.scene(0).led[others])
	}
	if c.heights < last || !c.leads(0) {
		return
	}
	var arrives func()
	arrives = func() {
		if uint64(len(c.prey.store))+1 < c.height {
			c.at(c.w.Delta/4, 0, arrives)
			return
		}
		c.lure(0, prey)
		c.at(0, 2, func() { c.certify(chain.Notarize, 0, prey, prey) })
	}
	arrives()
}

// pickPrey chooses one validator that fits as the prey and puts it on a side of its own.
func (c *coalition) pickPrey(fits func(*node) bool) {
	var may []int
	for i, s := range c.victims {
		if fits(s) && c.matters(s) {
			may = append(may, i)
		}
	}
	c.parts = 2
	clear(c.sides)
	i := may[c.w.rng.IntN(len(may))]
	c.sides[i], c.prey = 1, c.victims[i]
}

// ambush either hits the prey while the others are about to finalize, and shows it another block
// when it comes back. Or it gives the prey the notarization that the others must not receive, and
// stops the prey before it forwards it.
func (c *coalition) ambush(r uint32) {
	start := c.grid(c.pick(0, 0, 1))
	first, second, back := 0, 1, start+c.grid(c.pick(3, 4, 5, 6, 7, 8, 10))
	if c.w.pausable(c.prey) && c.w.rng.IntN(2) == 0 {
		first, second = 1, 0
		c.at(start, 1, func() { c.prey.trouble.stops = max(back-start, 1) })
		c.at(back-c.grid(c.pick(0, 1, 1, 2)), 0, func() { c.show(r, second) })
	} else {
		hit := start + c.grid(c.pick(0, 1, 2))
		c.at(hit, 0, func() { c.w.interrupt(c.prey, max(back-hit, 1)) })
		shown := back
		if c.w.pausable(c.prey) {
			shown = hit + time.Duration(c.w.rng.Int64N(int64(max(back-hit, 1)))) // it waits there
		}
		c.at(shown, 1, func() { c.show(r, second) })
	}
	c.at(start, 0, func() { c.lure(r, first) })
	c.at(start, 2, func() { c.certify(chain.Notarize, r, first, first) })
	c.at(back+c.grid(c.pick(0, 1, 2)), 2, func() { c.certify(chain.Notarize, r, second, second) })
	c.at(back+c.grid(c.pick(1, 2, 3, 4)), 2, func() { c.goOn(r, second, c.scene(r).led[second]) })
}

// show lures a side, once.
func (c *coalition) show(r uint32, side int) {
	if c.scene(r).led[side] == nil {
		c.lure(r, side)
	}
}

// lure shows a side a block that no other side sees.
func (c *coalition) lure(r uint32, side int) {
	sc := c.scene(r)
	sc.led[side] = c.proposal(r, uint32(c.order[int(r)%len(c.order)]), func(uint32, chain.Hash) bool { return false })
	if p := sc.led[side]; p != nil {
		c.to(side, chain.Bundle{Proposals: []*chain.Proposal{p}})
	}
}

// goOn leads a side into the round after r: with a block notarized in r, or past it without one.
func (c *coalition) goOn(r uint32, side int, with *chain.Proposal) {
	leader := uint32(c.order[int(r+1)%len(c.order)])
	next := c.scene(r + 1)
	next.plotted = true
	if next.led[side] == nil {
		next.led[side] = c.proposal(r+1, leader, func(_ uint32, block chain.Hash) bool {
			return with != nil && block == with.Statement.Block
		})
	}
	if p := next.led[side]; p != nil {
		c.to(side, chain.Bundle{Proposals: []*chain.Proposal{p}})
		c.at(0, 2, func() { c.certify(chain.Notarize, r+1, side, side) })
	}
}

// propose shows a side the proposal of a round that a member leads.
func (c *coalition) propose(r uint32, side int) {
	leader := c.order[int(r)%len(c.order)]
	sc := c.scene(r)
	if !c.leads(r) {
		return
	}
	if sc.led[side] == nil {
		if other := sc.led[(side+1)%c.parts]; other != nil && c.w.rng.Float64() < c.unity {
			sc.led[side] = other
		} else {
			sc.led[side] = c.proposal(r, uint32(leader), c.either)
		}
	}
	if p := sc.led[side]; p != nil {
		c.to(side, chain.Bundle{Proposals: []*chain.Proposal{p}})
	}
}

// certify shows a side the certificate that the known votes and the coalition's make.
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
		c.to(to, chain.Bundle{Certificates: []*chain.Certificate{cert}})
	}
}

// exploit shows all victims two finalizations that contradict each other, as soon as it has them. A
// single one it keeps for a while. Then it lets the height become final, and tries at the next one.
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
				c.to(0, chain.Bundle{Certificates: []*chain.Certificate{first}})
				c.to(1, chain.Bundle{Certificates: []*chain.Certificate{cert}})
			}
		}
	}
	if first != nil && c.w.synchronous() && !c.concludes {
		c.concludes = true
		c.at(10*c.w.Delta, 2, func() { c.to(everyone, chain.Bundle{Certificates: []*chain.Certificate{first}}) })
	}
}
