package simulation

import (
	"time"

	"github.com/diseq/diseq/node/consensus"
)

// trouble is what keeps a node from hearing the others in time under the synchrony wait. A node notices: it is told of its ill health as
// package node would, some time after a cut began, and first thing after a pause. A wait that was cut into never ends.
type trouble struct {
	cut, paused bool
	// cuts counts the times that it was cut off.
	cuts int
	// missed is what happened to it while it was paused.
	missed []func()
}

// trouble brings each partitioned validator into trouble again and again, until the calm.
func (w *world) trouble() {
	if w.Delta == 0 {
		return
	}
	for _, s := range w.nodes {
		if s.byzantine || s.validator >= w.Byzantine+w.Partitioned {
			continue
		}
		for at := w.some(5); at < w.weather.Storm; at += w.some(12) {
			w.after(at, func() { w.strike(s) })
		}
	}
}

// some is a time of up to so many Delta.
func (w *world) some(deltas int) time.Duration {
	return time.Duration(1 + w.rng.Int64N(int64(deltas)*int64(w.Delta)))
}

func (w *world) strike(s *node) {
	if w.calm || s.core == nil || s.trouble.cut || s.trouble.paused {
		return
	}
	lasts := w.some(8)
	switch w.rng.IntN(3) {
	case 0:
		w.crash(s)
		return
	case 1:
		w.trace("%v is cut off", s)
		s.trouble.cut = true
		s.trouble.cuts++
		w.on(s, min(lasts, w.some(2)), func() {
			if s.trouble.cut {
				w.feel(s, false)
			}
		})
	case 2:
		w.trace("%v is paused", s)
		s.trouble.paused = true
	}
	life := s.life
	w.after(lasts, func() {
		if s.life == life {
			w.mend(s)
		}
	})
}

// mend ends a node's trouble.
func (w *world) mend(s *node) {
	was := s.trouble
	s.trouble = trouble{cuts: was.cuts}
	if s.core == nil || !was.cut && !was.paused {
		return
	}
	w.trace("%v is well again", s)
	w.feel(s, false)
	w.feel(s, true)
	for _, do := range was.missed {
		do()
	}
	for _, o := range w.nodes {
		if o != s && was.cut && o.core != nil {
			w.linkUp(s, o)
		}
	}
}

// feel tells a node of its health.
func (w *world) feel(s *node, ok bool) {
	if s.core != nil {
		w.step(s, consensus.Health{OK: ok})
	}
}
