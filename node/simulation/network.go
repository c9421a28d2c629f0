package simulation

import (
	"time"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/consensus"
)

// links are the ways between nodes.
type links struct {
	w *world
	// cut has a bit for each node: those with different bits do not reach each other.
	cut int
	// slow are the directed links on which everything takes ten times as long.
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

// delay is how long a message takes.
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
	if l.w.Delta > 0 {
		return l.synchronous(a, b)
	}
	d := l.delay()
	if !l.w.calm && l.slow[[2]int{a.id, b.id}] {
		d *= 10
	}
	return d
}

// synchronous is how long a message takes under the synchrony wait: at most Delta, and within that as the coalition likes it. Mostly
// that is at once on a side, and exactly Delta to the other.
func (l *links) synchronous(a, b *node) time.Duration {
	d := time.Duration(1+l.w.rng.IntN(int(l.w.Delta/time.Millisecond))) * time.Millisecond
	if l.w.calm || l.w.rng.IntN(6) == 0 || a.byzantine || b.byzantine {
		return d
	}
	if l.w.coalition.side(a) == l.w.coalition.side(b) {
		return time.Millisecond / 2
	}
	return l.w.Delta
}

func (l *links) connected(a, b *node) bool { return (l.cut>>a.id)&1 == (l.cut>>b.id)&1 }

// shift cuts the network in another way, or joins it.
func (l *links) shift() {
	if l.w.calm {
		return
	}
	was := *l
	l.cut = 0
	if l.w.rng.IntN(2) == 0 {
		l.cut = l.w.rng.IntN(1 << len(l.w.nodes))
	}
	l.w.trace("the network is cut: %0*b", len(l.w.nodes), l.cut)
	for _, a := range l.w.nodes {
		for _, b := range l.w.nodes[a.id+1:] {
			if l.connected(a, b) && !was.connected(a, b) {
				l.w.linkUp(a, b)
			}
		}
	}
}

func (w *world) linkUp(a, b *node) {
	w.on(a, w.links.delay(), func() { w.step(a, consensus.LinkUp{Peer: w.key(b)}) })
	w.on(b, w.links.delay(), func() { w.step(b, consensus.LinkUp{Peer: w.key(a)}) })
}

// send puts a bundle on its way: it may be lost, late or doubled.
func (w *world) send(from, to *node, b consensus.Bundle) {
	if from.trouble.cut || to.trouble.cut {
		return
	}
	copies := 1
	if !w.calm && w.Delta == 0 {
		if !w.links.connected(from, to) || w.rng.Float64() < w.weather.Loss {
			return
		}
		if w.rng.IntN(20) == 0 {
			copies = 2
		}
	}
	for range copies {
		w.deliver(w.key(from), to, b, w.links.between(from, to), 0)
	}
}

// deliver hands a bundle to a node after a time, without what does not verify.
func (w *world) deliver(from chain.PublicKey, to *node, b consensus.Bundle, after time.Duration, rank int) {
	w.onRanked(to, after, rank, func() {
		rest := w.verified(b)
		if w.weather.Screen {
			var actions []consensus.Action
			rest, actions = to.core.Screen(from, rest)
			w.perform(to, actions)
			if to.core == nil {
				return
			}
		}
		if !rest.Empty() {
			w.trace("  %v receives %v", to, text(rest))
			w.step(to, consensus.Received{From: from, Bundle: rest})
		}
	})
}

// verified is what remains of a bundle when its signatures have been checked.
func (w *world) verified(b consensus.Bundle) consensus.Bundle {
	var out consensus.Bundle
	certificate := func(c *chain.Certificate) bool {
		if c.Check(w.N, w.needed()) != nil {
			return false
		}
		for i := range c.Votes {
			if !w.signed[c.Vote(i)] {
				return false
			}
		}
		return true
	}
	for _, c := range b.Certificates {
		if certificate(c) {
			out.Certificates = append(out.Certificates, c)
		}
	}
	for _, p := range b.Proposals {
		ok := w.signed[p.Statement] && (p.Notarization == nil || certificate(p.Notarization))
		for i := range p.Nullifications {
			ok = ok && certificate(&p.Nullifications[i])
		}
		if ok {
			out.Proposals = append(out.Proposals, p)
		}
	}
	for _, v := range b.Votes {
		if w.signed[v] {
			out.Votes = append(out.Votes, v)
		}
	}
	return out
}

// needed is how many votes a certificate has: with some mutations fewer than the threshold.
func (w *world) needed() int {
	if w.Mutation.CountTwice {
		return w.T - 1
	}
	return w.T - w.Mutation.VotesMissing
}
