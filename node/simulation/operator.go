package simulation

import (
	"slices"
	"time"

	"github.com/diseq/diseq/node/chain"
)

// Eras describe how the set changes while the chain runs.
type Eras struct {
	// Script are the sets that follow, in their order. Without it the seed draws them.
	Script []Turn
	// Idle: nobody submits anything after the network has calmed down.
	Idle bool
}

// Turn is a set of a script. It keeps as many members as it can, in their order.
type Turn struct {
	N, T int
	// Absent newcomers are never started.
	Absent int
}

// operator plays the people, or the operator, that start nodes, declare targets and stop nodes.
type operator struct {
	// turn is the number of changes for which plans were made, plans are the targets written since
	// then.
	turn    int
	plans   []*target
	serial  int
	scripts int
	// last: the last change was planned.
	last       bool
	checkpoint chain.Checkpoint
}

// operate looks at the chain from time to time, and plans.
func (w *world) operate() {
	op := &w.operator
	if turn := turns(w.chain); turn != op.turn {
		op.turn, op.plans = turn, nil
	}
	w.retire()
	switch {
	case w.violation != nil || op.last && len(op.plans) == 0:
	case len(op.plans) == 0 && (w.calm || w.rng.IntN(2) == 0):
		w.plan()
		op.last = op.last || w.calm && (len(op.plans) > 0 || w.Eras.Script != nil)
	case len(op.plans) == 1 && w.Eras.Script == nil && !w.calm && w.rng.IntN(15) == 0:
		w.plan() // the target is edited
	}
	w.after(w.operateInterval(), w.operate)
}

func (w *world) operateInterval() time.Duration {
	if w.synchronous() {
		return 4 * w.Delta
	}
	return 150 * time.Millisecond
}

// plan draws a next set, starts its newcomers, and declares it as the target, to one validator
// after the other.
func (w *world) plan() {
	op, e := &w.operator, w.open()
	var next *era
	absent := 0
	if script := w.Eras.Script; script == nil {
		next = w.draw(e)
	} else if op.scripts < len(script) {
		turn := script[op.scripts]
		op.scripts++
		next, absent = w.scripted(e, turn), turn.Absent
	}
	if next == nil {
		return
	}
	op.serial++
	goal := &target{next: next.next, hash: next.next.Hash(), turn: op.turn, serial: op.serial}
	op.plans = append(op.plans, goal)
	w.trace("planned: %v", next)
	longest := 800 * time.Millisecond
	if w.synchronous() {
		longest = 10 * w.Delta
	}
	if w.calm {
		longest /= 10
	}
	for i, who := range slices.Backward(next.places) {
		who.named = op.turn
		if len(next.places)-i <= absent {
			continue
		}
		for _, s := range w.nodes {
			if s.who == who && s.off {
				// Some start long after they are named.
				w.after(w.within(longest*time.Duration(1+4*w.rng.IntN(2))), func() { w.boot(s) })
			}
		}
	}
	for _, s := range w.nodes {
		w.after(w.within(longest), func() { w.declare(s, goal) })
	}
}

// boot starts the node of a newcomer.
func (w *world) boot(s *node) {
	if s.who.retired || !s.off {
		return
	}
	s.off = false
	if !s.byzantine || !w.coalition.liesLow {
		w.start(s)
	}
}

// declare writes a target into a node's peers file.
func (w *world) declare(s *node, goal *target) {
	if s.target != nil && s.target.serial >= goal.serial {
		return
	}
	s.target = goal
	if s.core != nil {
		w.endorse(s)
		w.poll(s)
	}
}

// scripted returns the set of a turn.
func (w *world) scripted(e *era, turn Turn) *era {
	members := slices.Clone(e.places[:min(turn.N, e.n())])
	for len(members) < turn.N {
		members = append(members, w.newcomer(false))
	}
	return w.nextEra(e, turn.T, members)
}

func (w *world) nextEra(e *era, t int, members []*identity) *era {
	generation := e.set.Generation + 1
	if w.Mutation.NoGeneration {
		generation = 0
	}
	return newEra(generation, t, w.Delta, members)
}

// newcomer makes a validator whose nodes are not started yet.
func (w *world) newcomer(byzantine bool) *identity {
	who := w.enlist(byzantine)
	for second := range 2 {
		if second == 0 || byzantine {
			s := w.newNode(who, second == 1)
			s.off, s.checkpoint = true, w.operator.checkpoint
			w.nodes = append(w.nodes, s)
			w.coalition.meets(s)
		}
	}
	return who
}

// maxMembers is the size of the largest set that is drawn.
const maxMembers = 7

// draw draws the next set: larger, smaller, with others in some places, with another threshold,
// with all others, of one alone. Each set is within its tolerance, mostly with as many Byzantine
// members as it withstands. Heights can go on in it.
func (w *world) draw(e *era) *era {
	for range 30 {
		n, keep := e.n(), e.n()
		switch w.rng.IntN(8) {
		case 0, 1:
			n += 1 + w.rng.IntN(3)
		case 2:
			n -= 1 + w.rng.IntN(n)
			keep = n
		case 3:
			keep -= 1 + w.rng.IntN(n)
		case 4:
			keep = 0
		case 5:
			if n = 1; e.n() == 1 {
				n = 4
			}
			keep = 1
		case 6:
			n, keep = 1+w.rng.IntN(maxMembers), w.rng.IntN(n+1)
		}
		if n < 1 || n > maxMembers || keep > n {
			continue
		}
		if next := w.drawn(e, n, n/2+1+w.rng.IntN(n-n/2), keep); next != nil {
			return next
		}
	}
	return nil
}

func (w *world) drawn(e *era, n, t, keep int) *era {
	members := slices.Clone(e.places)
	w.rng.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
	members = members[:keep]
	shape := newEra(0, t, w.Delta, members)
	fresh := 0
	for shape.places = slices.Clone(members); shape.n() < n; fresh++ {
		shape.places = append(shape.places, nil)
	}
	bound := shape.withstands(w)
	if w.calm || w.rng.IntN(3) != 0 {
		bound = min(bound, max(0, n-t-w.Wiped)) // the others suffice for heights to go on
	}
	here := count(members, func(who *identity) bool { return who.byzantine })
	out := count(members, func(who *identity) bool { return !who.byzantine && w.out(who) })
	byzantine := 0
	if w.Byzantine > 0 {
		byzantine = min(fresh, bound-here)
	}
	if here > bound || n-out-here-byzantine < min(t, n-bound) || out > 0 && t == n {
		return nil
	}
	for i := range fresh {
		members = append(members, w.newcomer(i < byzantine))
	}
	w.rng.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
	return w.nextEra(e, t, members)
}

// out reports whether a validator does not vote for a long time: its vote store is lost, or its
// machine.
func (w *world) out(who *identity) bool {
	s := w.nodeOf(who)
	return s.wiped || s.away || s.voteFrom > uint64(len(w.chain))+1
}

// spares reports whether the open set, and each planned one, can do without a member: the others
// that vote are as many as the threshold.
func (w *world) spares(s *node) bool {
	needs := func(e *chain.NextSet) bool {
		others, member := 0, false
		for _, v := range e.Validators {
			who := w.byKey[v.PublicKey]
			member = member || who == s.who
			if who != s.who && !who.byzantine && !w.out(who) {
				others++
			}
		}
		return member && others < int(e.Threshold)
	}
	for _, goal := range w.operator.plans {
		if needs(goal.next) {
			return false
		}
	}
	return !needs(w.open().next)
}

// retire stops those that have left, by the rules of membership: every member of the next set whose
// node runs is above the change, at least its threshold, and the peers file has the checkpoint.
// Newcomers that were named in vain go when the generation has moved. The coalition gets their
// keys.
func (w *world) retire() {
	op := &w.operator
	if op.turn == 0 || w.rng.IntN(3) == 0 {
		return
	}
	last := len(w.chain) - 1
	for w.chain[last].block.Change == nil {
		last--
	}
	height := uint64(last) + 1
	running, above := 0, 0
	open := w.open()
	for _, who := range open.places {
		switch s := w.nodeOf(who); {
		case who.byzantine:
			running, above = running+1, above+1 // it says so
		case s.core == nil:
		case uint64(len(s.store)) > height:
			running, above = running+1, above+1
		default:
			running++
		}
	}
	if above < running || above < open.t() {
		return
	}
	if op.checkpoint.Height < height {
		w.writeCheckpoint(chain.Checkpoint{Height: height, Hash: w.chain[last].cert.Block})
		return
	}
	for _, who := range w.people {
		if !who.retired && !open.has(who) && who.named < op.turn && (w.calm || w.rng.IntN(2) == 0) {
			w.stop(who)
		}
	}
}

// writeCheckpoint writes the checkpoint into the peers file, which all nodes read. One that is
// below it starts anew, because it must not vote up to there.
func (w *world) writeCheckpoint(c chain.Checkpoint) {
	w.trace("checkpoint at height %d", c.Height)
	w.operator.checkpoint = c
	for _, s := range w.nodes {
		if s.byzantine || w.Mutation.NoCheckpoint {
			continue
		}
		s.checkpoint = c
		if s.core != nil && uint64(len(s.store)) < c.Height {
			w.restart(s)
		}
	}
}

// stop stops the nodes of a validator for good.
func (w *world) stop(who *identity) {
	w.trace("%v is stopped; its key is stolen", who)
	w.faults[Theft]++
	who.retired, who.stolen = true, true
	for _, s := range w.nodes {
		if s.who == who {
			s.kill()
			s.off = true
		}
	}
}

// restart starts a node's process anew. Nothing is lost.
func (w *world) restart(s *node) {
	s.durable = len(s.store)
	s.kill()
	w.start(s)
}

// resolved reports whether all that was planned has come about: the last change is final, and those
// that left are stopped.
func (w *world) resolved() bool {
	if slices.ContainsFunc(w.Eras.Script, func(turn Turn) bool { return turn.Absent > turn.N-turn.T }) {
		return true // the change is never to be final
	}
	op, open := &w.operator, w.open()
	return op.last && op.turn == turns(w.chain) && len(op.plans) == 0 && !slices.ContainsFunc(w.people, func(who *identity) bool {
		return !who.retired && !open.has(who) && who.named < op.turn
	})
}

// lives reports whether the honest members of a set that vote suffice for heights to go on.
func (w *world) lives(e *era) bool {
	return count(e.places, func(who *identity) bool { return !who.byzantine && !w.out(who) }) >= e.t()
}

// unresolved says what has not come about.
func (w *world) unresolved() string {
	switch {
	case w.Eras == nil || w.resolved():
		return ""
	case len(w.operator.plans) > 0:
		return ": the planned change is not final"
	}
	return ": not all that left have been stopped"
}
