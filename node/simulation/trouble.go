package simulation

import (
	"math/rand/v2"
	"slices"
	"time"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/consensus"
)

// trouble is the state of a node that cannot hear the others. A paused node stands still, as in a
// long garbage collection: its events wait and are handled in order when it goes on. Under the
// synchrony wait a node learns of its ill health as a real node does: some time after it was cut
// off, and before anything else after a pause. A wait that was interrupted never ends.
type trouble struct {
	cut, paused bool
	// stops is the length of the pause that begins when the node next forwards certificates alone.
	// The certificates leave when it goes on.
	stops time.Duration
	// cuts counts how often it was cut off.
	cuts int
	// missed holds the events that came while it was paused, and the messages that it was about to
	// send.
	missed []func()
}

// trouble plans the pauses, power cuts and cut-offs of the storm.
func (w *world) trouble() {
	switch {
	case w.synchronous():
		for _, s := range w.nodes {
			if !s.byzantine && s.who.number < w.Byzantine+w.Partitioned {
				for at := w.some(5); at < w.weather.Storm; at += w.some(12) {
					w.after(at, func() { w.strike(s) })
				}
			}
			if w.pausable(s) || w.killable(s) {
				for at := w.some(12); at < w.weather.Storm; at += w.some(30) {
					w.after(at, func() { w.interrupt(s, w.some(8)) })
				}
			}
		}
	default:
		for _, s := range w.nodes {
			for at := w.pauseIn(); at < w.weather.Storm; at += w.pauseIn() {
				w.after(at, func() { w.pause(s, time.Duration(w.rng.IntN(1500))*time.Millisecond) })
			}
			for at := w.within(time.Second); w.Delta > 0 && at < w.weather.Storm; at += w.within(time.Second) {
				// true or not: on any network no rule relies on it
				w.after(at, func() { w.feel(s, w.rng.IntN(2) == 0) })
			}
		}
		for _, s := range w.nodes {
			if !s.byzantine && s.who.number < w.Byzantine+w.Wiped && w.Eras == nil {
				for at := w.within(time.Second); at < w.weather.Storm; at += w.within(2 * time.Second) {
					w.after(at, func() { w.wipe(s) })
				}
			}
		}
		if w.Eras != nil {
			w.troubleAcrossEras()
		}
		for at := time.Duration(0); w.weather.PowerCuts && at < w.weather.Storm; {
			at += w.within(3 * time.Second)
			w.after(at, w.powerCut)
		}
	}
}

// troubleAcrossEras plans the loss of machines and of vote stores. It strikes whoever is a member
// at that time.
func (w *world) troubleAcrossEras() {
	for at := w.within(4 * time.Second); at < w.weather.Storm; at += w.within(4 * time.Second) {
		w.after(at, func() { w.lose(w.nodes[w.rng.IntN(len(w.nodes))]) })
	}
	for at := w.within(time.Second); w.Wiped > 0 && at < w.weather.Storm; at += w.within(2 * time.Second) {
		w.after(at, func() {
			open := w.open()
			w.wipe(w.nodeOf(open.places[w.rng.IntN(open.n())]))
		})
	}
}

// within returns a time up to longest.
func (w *world) within(longest time.Duration) time.Duration {
	return time.Duration(1 + w.rng.Int64N(int64(longest)))
}

// some returns a time up to so many Delta.
func (w *world) some(deltas int) time.Duration { return w.within(time.Duration(deltas) * w.Delta) }

func (w *world) pauseIn() time.Duration {
	if w.weather.Pauses == 0 {
		return w.weather.Storm
	}
	return w.within(2 * w.weather.Pauses)
}

// powerCut stops all honest validators at once.
func (w *world) powerCut() {
	if w.calm {
		return
	}
	w.faults[PowerCut]++
	for _, s := range w.nodes {
		if !s.byzantine && s.core != nil {
			w.crash(s)
		}
	}
}

// pausable validators stand still at times; killable ones are killed and start again. They notice,
// and abstain as the synchrony wait requires. Their earlier messages have left. Agreement under the
// wait holds with fewer than T Byzantine validators, however many others are paused, or with one
// that is killed: they do not count as Byzantine.
func (w *world) pausable(s *node) bool {
	return !s.byzantine && s.who.number < w.Byzantine+w.Paused
}

func (w *world) killable(s *node) bool {
	return !s.byzantine && s.who.number < w.Byzantine+w.Killed
}

// interrupt pauses a pausable node, and kills any other for that time.
func (w *world) interrupt(s *node, lasts time.Duration) {
	switch {
	case w.calm || s.core == nil || s.trouble.paused:
	case w.pausable(s):
		w.pause(s, lasts)
	default:
		w.crashFor(s, lasts)
	}
}

// strike brings trouble to a partitioned validator, which need not notice.
func (w *world) strike(s *node) {
	if w.calm || s.core == nil || s.trouble.cut || s.trouble.paused {
		return
	}
	lasts := w.some(8)
	switch w.rng.IntN(4) {
	case 0:
		w.crash(s)
	case 1:
		w.cutOff(s, lasts)
	case 2:
		w.pause(s, lasts)
	case 3:
		s.trouble.stops = lasts
	}
}

// cutOff cuts a node off from all others. It may not notice, because the nodes that answer it may
// be Byzantine.
func (w *world) cutOff(s *node, lasts time.Duration) {
	w.trace("%v is cut off", s)
	w.faults[CutOff]++
	s.trouble.cut = true
	s.trouble.cuts++
	if w.rng.IntN(3) != 0 {
		w.on(s, min(lasts, w.some(2)), func() {
			if s.trouble.cut {
				w.feel(s, false)
			}
		})
	}
	w.mendIn(s, lasts)
}

func (w *world) pause(s *node, lasts time.Duration) {
	if w.calm || s.core == nil || s.trouble.paused {
		return
	}
	w.trace("%v is paused", s)
	w.faults[Pause]++
	s.trouble.paused, s.trouble.stops = true, 0
	w.mendIn(s, lasts)
}

func (w *world) mendIn(s *node, d time.Duration) {
	life := s.life
	w.after(d, func() {
		if s.life == life {
			w.mend(s)
		}
	})
}

// mend ends a node's trouble.
func (w *world) mend(s *node) {
	was := s.trouble
	s.trouble = trouble{cuts: was.cuts, missed: was.missed}
	if s.core == nil || !was.cut && !was.paused {
		return
	}
	w.trace("%v is well again", s)
	if was.paused || w.rng.IntN(3) != 0 || w.calm {
		w.feel(s, false)
	}
	w.feel(s, true)
	w.handleMissed(s)
	for _, o := range w.nodes {
		if o != s && was.cut && o.core != nil {
			w.linkUp(s, o)
		}
	}
}

// handleMissed handles the missed events one after the other, each with all that follows from it.
// Later events come after them.
func (w *world) handleMissed(s *node) {
	if s.core == nil || s.trouble.paused || len(s.trouble.missed) == 0 {
		return
	}
	do := s.trouble.missed[0]
	s.trouble.missed = s.trouble.missed[1:]
	do()
	life := s.life
	w.ranked(0, 3, func() {
		if s.life != life || s.trouble.paused || len(s.trouble.missed) == 0 {
			return
		}
		s.trouble.paused = true
		w.after(time.Microsecond, func() {
			if s.life == life {
				s.trouble.paused = false
				w.handleMissed(s)
			}
		})
	})
}

// feel reports its health to a node.
func (w *world) feel(s *node, ok bool) {
	if s.core != nil {
		w.step(s, consensus.Health{OK: ok})
	}
}

// stalls reports whether a node that is to stop at its next forwards stops at this bundle.
func (w *world) stalls(s *node, b chain.Bundle) bool {
	if s.trouble.stops == 0 || len(b.Certificates) == 0 || len(b.Votes) > 0 || len(b.Proposals) > 0 {
		return false
	}
	w.pause(s, s.trouble.stops)
	return s.trouble.paused
}

// crash kills a node; in the storm it comes back after a while.
func (w *world) crash(s *node) { w.crashFor(s, time.Duration(w.rng.IntN(1500))*time.Millisecond) }

func (w *world) crashFor(s *node, d time.Duration) {
	w.trace("%v crashes", s)
	w.faults[Crash]++
	s.kill()
	switch {
	case w.Amnesia:
		s.records = nil
	case w.LastWriteLost:
		s.records = s.records[:len(s.records)-s.lastWrite]
	}
	s.lastWrite = 0
	w.after(d, func() {
		if !w.calm {
			w.start(s)
		}
	})
}

// mayCrash reports whether the node dies here. Every call is a step at which it might.
func (w *world) mayCrash(s *node) bool {
	if w.calm {
		return false
	}
	if w.steps++; w.steps == w.CrashAt {
		if w.CrashAll {
			w.powerCut()
		}
		if s.core != nil {
			w.crash(s)
		}
		return true
	}
	if w.weather.Crash == 0 || w.rng.Float64() >= w.weather.Crash {
		return false
	}
	w.crash(s)
	return true
}

// torn returns the records that remain of a torn write: some of them, from the beginning.
func torn(rng *rand.Rand, records []chain.Record) []chain.Record {
	return slices.Clone(records[:rng.IntN(len(records)+1)])
}
