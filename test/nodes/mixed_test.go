package nodes

import (
	"fmt"
	"os"
	"testing"
	"time"
)

// totals are what a long run shows at its end.
var totals struct {
	runs, kills, accepted, answers int
	heights                        uint64
}

// Partitions, slow and lost connections, kills in the midst of work of as many as may be down, then of all: what was answered 202 is
// final exactly once, in the same order everywhere, and every stream brings every height once.
func TestWhatWasAcceptedIsFinalOnceAndInOneOrderThroughAllFaults(t *testing.T) {
	for seed := *firstSeed; seed < *firstSeed+*seeds; seed++ {
		for _, size := range []struct {
			validators int
			threshold  uint32
		}{{4, 3}, {7, 5}} {
			name := fmt.Sprintf("%d of %d, seed %d", size.threshold, size.validators, seed)
			ok := t.Run(name, func(t *testing.T) {
				begun := time.Now()
				bubble(t, seed, spec{validators: size.validators, threshold: size.threshold}, mixed)
				if *seeds > 1 {
					fmt.Fprintf(os.Stderr, "%s: %v\n", name, time.Since(begun).Round(time.Millisecond))
				}
			})
			if !ok {
				return
			}
		}
	}
}

func mixed(w *world) {
	w.start(w.nodes...)
	var streams []*stream
	for _, m := range w.nodes {
		streams = append(streams, w.follow(m))
	}
	l := w.newLoad(100 * time.Millisecond)
	w.trouble(20)
	w.start(w.down()...)
	w.kill(w.nodes...)
	for _, i := range w.rng.Perm(len(w.nodes)) {
		w.launch(w.nodes[i])
		time.Sleep(time.Duration(w.rng.IntN(500)) * time.Millisecond)
	}
	time.Sleep(2 * time.Second)
	height := w.audit(l)
	w.caughtUp(height, streams...)
	if l.count() == 0 || height == 0 {
		w.Errorf("%d messages accepted, %d heights: nothing was shown", l.count(), height)
	}
	w.count(l, height)
}

// count adds a run to the totals.
func (w *world) count(l *load, height uint64) {
	totals.runs++
	totals.kills += w.kills
	totals.accepted += l.count()
	totals.answers += l.answers
	totals.heights += height
	w.Logf("%d heights, %d messages, %d answers, %d kills, %v of virtual time", height, l.count(), l.answers, w.kills,
		time.Since(w.began).Round(time.Second))
}

// down returns the members that are.
func (w *world) down() []*member {
	var out []*member
	for _, m := range w.nodes {
		if m.life == nil {
			out = append(out, m)
		}
	}
	return out
}
