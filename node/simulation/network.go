package simulation

import (
	"time"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/consensus"
)

// links are the links between nodes.
type links struct {
	w *world
	// cut has a bit for each node. Nodes with different bits do not reach each other. With oneWay,
	// those with the bit reach the others.
	cut    int
	oneWay bool
	// slow are the directed links with ten times the delay.
	slow map[[2]int]bool
}

func newLinks(w *world) links {
	l := links{w: w, slow: make(map[[2]int]bool)}
	for _, a := range w.nodes {
		for _, b := range w.nodes {
			if a != b && w.rng.Float64() < w.weather.SlowLinks {
				l.slow[[2]int{a.id, b.id}] = true
			}
		}
	}
	return l
}

// delay draws the delay of a message.
func (l *links) delay() time.Duration {
	if l.w.calm {
		return time.Duration(1+l.w.rng.IntN(20)) * time.Millisecond
	}
	d := time.Duration(1+l.w.rng.IntN(60)) * time.Millisecond
	if l.w.rng.IntN(8) == 0 {
		d *= 15
	}
	return d
}

func (l *links) between(a, b *node) time.Duration {
	if l.w.synchronous() {
		return l.synchronous(a, b)
	}
	d := l.delay()
	if !l.w.calm && l.slow[[2]int{a.id, b.id}] {
		d *= 10
	}
	return d
}

// bound is the longest delay of a message under the synchrony wait: Delta by the fastest clock.
func (w *world) bound() time.Duration {
	bound := w.Delta * time.Duration(100-w.weather.Skew) / 100
	if w.Lateness != 0 {
		bound = bound * time.Duration(w.Lateness) / 100
	}
	return bound
}

// synchronous draws the delay of a message under the synchrony wait: at most Delta, and within that
// as the coalition wants it. Mostly a message within a side arrives at once, and one to the other
// side after exactly Delta.
func (l *links) synchronous(a, b *node) time.Duration {
	d := time.Duration(1+l.w.rng.IntN(int(l.w.bound()/time.Millisecond))) * time.Millisecond
	if l.w.calm || l.w.rng.IntN(6) == 0 || a.byzantine || b.byzantine {
		return d
	}
	if l.w.coalition.side(a) == l.w.coalition.side(b) {
		return time.Millisecond / 2
	}
	return l.w.bound()
}

// reaches reports whether messages of a arrive at b.
func (l *links) reaches(a, b *node) bool {
	from, to := l.cut>>a.id&1, l.cut>>b.id&1
	return from == to || l.oneWay && from == 1
}

// linked reports whether both reach each other.
func (l *links) linked(a, b *node) bool { return l.reaches(a, b) && l.reaches(b, a) }

// shift cuts the network in another way, or joins it.
func (l *links) shift() {
	if l.w.calm {
		return
	}
	was := *l
	l.cut, l.oneWay = 0, l.w.rng.IntN(4) == 0
	if l.w.rng.IntN(2) == 0 {
		l.cut = l.w.rng.IntN(1 << len(l.w.nodes))
		l.w.faults[Partition]++
	}
	l.w.trace("the network is cut: %0*b, one way: %v", len(l.w.nodes), l.cut, l.oneWay)
	for _, a := range l.w.nodes {
		for _, b := range l.w.nodes[a.id+1:] {
			if l.linked(a, b) && !was.linked(a, b) {
				l.w.linkUp(a, b)
			}
		}
	}
}

func (w *world) linkUp(a, b *node) {
	w.on(a, w.links.delay(), func() { w.step(a, consensus.LinkUp{Peer: b.who.PublicKey}) })
	w.on(b, w.links.delay(), func() { w.step(b, consensus.LinkUp{Peer: a.who.PublicKey}) })
}

// send puts a bundle on its way. It may be lost, late or doubled.
func (w *world) send(from, to *node, b chain.Bundle) {
	if from.trouble.cut || to.trouble.cut {
		return
	}
	copies := 1
	if !w.calm && !w.synchronous() {
		if !w.links.reaches(from, to) || w.rng.Float64() < w.weather.Loss {
			w.faults[Loss]++
			return
		}
	}
	if !w.calm && (!w.synchronous() || w.sound()) && w.rng.IntN(20) == 0 {
		w.faults[Repetition]++
		copies = 2
	}
	for range copies {
		w.deliver(from.who.PublicKey, to, b, w.links.between(from, to), 0)
	}
}

// deliver delivers a bundle to a node after a time, without the parts that do not verify.
func (w *world) deliver(from chain.PublicKey, to *node, b chain.Bundle, after time.Duration, rank int) {
	w.onRanked(to, after, rank, func() {
		if !w.admits(to, w.byKey[from]) {
			return
		}
		e := to.open(w)
		rest, left := w.verified(to, b)
		handle := func() {
			if !rest.Empty() {
				w.trace("  %v receives %v", to, text(rest))
				w.step(to, consensus.Received{From: from, Bundle: rest, Set: e.hash})
			}
			if left.ahead > 0 && to.core != nil {
				w.step(to, consensus.Ahead{From: from, Lowest: left.lowest, Height: left.ahead})
			}
			if left.behind > 0 && to.core != nil {
				w.step(to, consensus.Behind{From: from, Height: left.behind})
			}
		}
		if w.Eras == nil || w.synchronous() {
			handle()
			return
		}
		// Checking takes time. The height may end meanwhile.
		w.on(to, time.Duration(w.rng.IntN(3))*time.Millisecond, handle)
	})
}

// leftOut are the heights of the parts of a bundle that a node left out, 0 if there are none: the
// lowest and the highest above its open height, and the highest that it no longer holds.
type leftOut struct{ lowest, ahead, behind uint64 }

// verified returns the parts of a bundle whose heights matter at a node and whose signatures
// verify: by the sets of their heights.
func (w *world) verified(s *node, b chain.Bundle) (out chain.Bundle, left leftOut) {
	top := uint64(len(s.store)) + 1
	// judged returns whether a message is good. The set of a height above the open one is not
	// known; there a message that does not verify is nobody's fault.
	judged := func(height uint64, verifies func() bool) bool {
		if height+consensus.RecentHeights < top {
			left.behind = max(left.behind, height)
			return false
		}
		if height <= top+1 && verifies() {
			return true
		}
		if height > top {
			left.ahead = max(left.ahead, height)
			if left.lowest == 0 || height < left.lowest {
				left.lowest = height
			}
		}
		return false
	}
	for _, c := range b.Certificates {
		if judged(c.Height, func() bool { return w.certifies(s, c) }) {
			out.Certificates = append(out.Certificates, c)
		}
	}
	for _, p := range b.Proposals {
		if !w.decodes(&p.Block) {
			continue
		}
		verifies := func() bool {
			ok := w.verifies(s, p.Statement) && (p.Notarization == nil || w.certifies(s, p.Notarization))
			for i := range p.Nullifications {
				ok = ok && w.certifies(s, &p.Nullifications[i])
			}
			return ok
		}
		if judged(p.Statement.Height, verifies) {
			out.Proposals = append(out.Proposals, p)
		}
	}
	for _, v := range b.Votes {
		if judged(v.Height, func() bool { return w.verifies(s, v) }) {
			out.Votes = append(out.Votes, v)
		}
	}
	return out, left
}

// certifies reports whether a certificate verifies at a node.
func (w *world) certifies(s *node, c *chain.Certificate) bool {
	e := s.eraAt(w, c.Height)
	if c.Check(e.n(), w.needed(e)) != nil {
		return false
	}
	for i := range c.Votes {
		if !w.verifies(s, c.Vote(i)) {
			return false
		}
	}
	return true
}

// verifies reports whether a vote verifies at a node, by the set of its own height.
func (w *world) verifies(s *node, v chain.Vote) bool {
	e := s.eraAt(w, v.Height)
	key := remembered{v, e.hash}
	if w.Mutation.CacheWithoutSet {
		key.set = chain.Hash{}
		if s.verified[key] {
			return true
		}
	}
	leaver := w.Mutation.CountLeavers && w.signedIn(s.eraAt(w, v.Height-1), v)
	if !leaver && !w.signedIn(e, v) {
		return false
	}
	if w.Mutation.CacheWithoutSet {
		s.verified[key] = true
	}
	return true
}

// signedIn reports whether the member at a vote's place signed it.
func (w *world) signedIn(e *era, v chain.Vote) bool {
	who := w.signed[v]
	return who != nil && e.at(v.Validator) == who
}

// needed is the number of votes in a certificate: with some rules taken away fewer than the
// threshold.
func (w *world) needed(e *era) int {
	if w.Mutation.CountTwice {
		return e.t() - 1
	}
	return e.t() - w.Mutation.VotesMissing
}
