package simulation

import (
	"math"
	"slices"
	"time"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/consensus"
)

// This file has how a node gets from one era to another: links, blocks that it catches up with, the
// checkpoint, and rejoining.

// admits reports whether a node takes messages from a validator: one of its peers file, or of the
// sets of its tip and of its open height. Below its checkpoint the peers file alone counts, because
// the keys of those who left may be stolen.
func (w *world) admits(s *node, who *identity) bool {
	if w.Eras == nil || !who.retired {
		return true
	}
	return !s.below() && (s.open(w).has(who) || s.eraAt(w, uint64(len(s.store))).has(who))
}

// loses reports whether the network loses a message between two nodes.
func (w *world) loses(from, to *node) bool {
	if from.trouble.cut || to.trouble.cut {
		return true
	}
	return !w.calm && !w.synchronous() && (!w.links.reaches(from, to) || w.rng.Float64() < w.weather.Loss)
}

// voted reports whether a node could vote at a height.
func (w *world) voted(s *node, height uint64) bool {
	return s.eraAt(w, height).has(s.who) && height >= w.votesFrom(s)
}

// votesFrom is the first height at which a node may vote.
func (w *world) votesFrom(s *node) uint64 {
	if s.wiped {
		return math.MaxUint64
	}
	return max(s.voteFrom, s.checkpoint.Height+1)
}

// believe informs the oracle of a final block that a node is about to get. A node shows no block
// while it is below its checkpoint. At the checkpoint it shows all of them.
func (w *world) believe(s *node, cert *chain.Certificate) {
	if cert.Height < s.checkpoint.Height {
		return
	}
	if cert.Height == s.checkpoint.Height {
		for _, b := range s.store {
			w.sawFinal(s, b.cert)
		}
	}
	w.sawFinal(s, cert)
}

// strays reports whether a final block contradicts the node's checkpoint. The node then stops. It
// fetches its blocks anew.
func (w *world) strays(s *node, cert *chain.Certificate) bool {
	if w.Eras == nil || cert.Height != s.checkpoint.Height || cert.Block == s.checkpoint.Hash {
		return false
	}
	w.fetchAnew(s)
	return true
}

// diverges reports whether a peer's blocks do not build on the node's own. Below the checkpoint
// that shows who was misled.
func (w *world) diverges(s, o *node) bool {
	if w.Eras == nil || len(s.store) == 0 || o.store[len(s.store)-1].cert.Block == s.store[len(s.store)-1].cert.Block {
		return false
	}
	if s.below() {
		w.fetchAnew(s)
	}
	return true
}

// fetchAnew removes the blocks of a node that was misled, and starts it again.
func (w *world) fetchAnew(s *node) {
	w.trace("%v was misled below its checkpoint", s)
	w.faults[Misled]++
	s.kill()
	s.store, s.durable = nil, 0
	w.after(w.within(100*time.Millisecond), func() { w.start(s) })
}

// extend notes the blocks that an honest validator is the first to have.
func (w *world) extend(s *node) {
	if w.Eras == nil || s.byzantine || s.below() {
		return
	}
	for i := len(w.chain); i < len(s.store) && w.violation == nil; i++ {
		b := s.store[i]
		if b.block.Change != nil {
			w.sawChange(b, w.chain)
		}
		w.chain = append(w.chain, b)
	}
}

// rejoin lets a node that has lost its vote store ask the others of the set of its open height,
// above its checkpoint. Meanwhile it observes.
func (w *world) rejoin(s *node) {
	again := func() { w.on(s, 200*time.Millisecond, func() { w.rejoin(s) }) }
	tip := uint64(len(s.store))
	if s.below() || !s.open(w).has(s.who) {
		s.rejoining = nil
		again()
		return
	}
	if s.rejoining == nil {
		s.rejoining = &consensus.Rejoining{
			Self: s.who.PublicKey, Height: tip, Set: s.open(w).set, Answers: make(map[chain.PublicKey]uint64),
		}
	}
	for _, o := range w.nodes {
		switch {
		case o.second || o.who == s.who || w.rng.IntN(2) == 0 || s.rejoining.Shown(tip) >= s.open(w).t():
		case o.who.owned():
			s.rejoining.Answers[o.who.PublicKey] = 0
		case o.core != nil && w.links.linked(s, o):
			s.rejoining.Answers[o.who.PublicKey] = uint64(len(o.store))
		}
	}
	switch s.rejoining.Step(tip, func(height uint64) *chain.ValidatorSet { return s.eraAt(w, height).set }) {
	case consensus.RejoinVotes:
		s.voteFrom, _ = s.rejoining.VotesFrom(tip)
		s.wiped = false
		w.trace("%v rejoins: it votes from height %d", s, s.voteFrom)
		w.restart(s)
	case consensus.RejoinAsksAgain:
		s.rejoining = nil
		again()
	default:
		again()
	}
}

// loseable reports whether a member may lose its vote store: it can ask others, and the others
// suffice for heights to go on.
func (w *world) loseable(s *node) bool {
	return !s.byzantine && w.open().has(s.who) && s.open(w).has(s.who) && !s.below() && w.spares(s) && w.healable(w.open().next) &&
		!slices.ContainsFunc(w.operator.plans, func(goal *target) bool { return !w.healable(goal.next) })
}

// healable reports whether a set has enough others to ask.
func (w *world) healable(next *chain.NextSet) bool { return int(next.Threshold) < len(next.Validators) }

// lose takes a node's machine away until the network calms down.
func (w *world) lose(s *node) {
	if w.calm || s.core == nil || s.byzantine || !w.spares(s) {
		return
	}
	w.trace("%v is away", s)
	w.faults[Away]++
	s.kill()
	s.away = true
}

// reachesThrough reports whether a node is linked to enough of the set that a block brings.
func (w *world) reachesThrough(s *node, b *chain.Block) bool {
	return b.Change == nil || w.reachesNext(s, &b.Change.Next)
}

// whenLinked answers the check of a change as soon as the node is linked to enough of the next set.
func (w *world) whenLinked(s *node, a consensus.CheckBlock, answer func()) {
	w.on(s, w.gossipInterval()/4, func() {
		switch {
		case uint64(len(s.store))+1 != a.Height:
		case w.reachesThrough(s, a.Block):
			answer()
		default:
			w.whenLinked(s, a, answer)
		}
	})
}
