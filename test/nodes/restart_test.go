package nodes

import (
	"testing"
	"time"
)

// All nodes are killed at one instant under load, twice. The first time one of them stays dead:
// what was answered 202 is final without it.
//
// Promise 18.
// Promise 24.
func TestWhatWasAcceptedSurvivesTheDeathOfAllThoughOneStaysDead(t *testing.T) {
	eachSeed(t, "3 of 4", spec{validators: 4, threshold: 3}, allDie)
}

func allDie(w *world) {
	all := w.nodes
	for _, a := range all {
		for _, b := range all {
			if a != b {
				// messages that are answered before others have them have time to be lost
				w.slow(a.name, b.name, 50*time.Millisecond)
			}
		}
	}
	w.start(all...)
	dead := all[w.rng.IntN(len(all))]
	first := w.newLoad(20 * time.Millisecond)
	time.Sleep(time.Duration(500+w.rng.IntN(1000)) * time.Millisecond)
	w.kill(all...)
	first.end()

	w.nodes = nil
	for _, m := range all {
		if m != dead {
			w.nodes = append(w.nodes, m)
		}
	}
	w.note("%s stays dead", dead.name)
	w.start(w.nodes...)
	height := w.audit(first)

	w.nodes = all
	w.start(dead)
	second := w.goOn(first, 20*time.Millisecond)
	time.Sleep(time.Second)
	w.kill(all...)
	for _, i := range w.rng.Perm(len(all)) {
		w.launch(all[i])
		time.Sleep(time.Duration(w.rng.IntN(2000)) * time.Millisecond)
	}
	if again := w.audit(second); again <= height || second.count() <= first.count() {
		w.Errorf("height %d after %d, %d messages after %d: nothing came after the restart", again, height, second.count(), first.count())
	}
	w.count(second, w.highest())
}
