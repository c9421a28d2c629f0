package nodes

import (
	"testing"
	"time"
)

// For an hour in which nobody says anything there is no block; the next message is final as soon as
// the first.
//
// Promise 54.
func TestAnIdleNetworkSleepsForAnHourAndWakesAtOnce(t *testing.T) {
	bubble(t, *firstSeed, spec{validators: 4, threshold: 3}, func(w *world) {
		w.start(w.nodes...)
		say := func(data string) {
			begun := time.Now()
			r, err := w.nodes[1].client.SubmitWait(w.ctx, []byte(data))
			w.must(err)
			if took := time.Since(begun); took > 200*time.Millisecond {
				w.Errorf("%q is final after %v", data, took)
			}
			w.must(r[0].Receipt.Verify(w.genesis, 0))
		}
		say("before")
		time.Sleep(5 * time.Second)
		before := w.nodes[0].status()
		if before.StateHeight == 0 {
			w.Fatalf("the state of the message is not certified at height %d", before.Height)
		}
		asleep := time.Hour
		if testing.Short() {
			asleep = time.Minute
		}
		for _, pause := range []time.Duration{10 * time.Second, asleep} {
			time.Sleep(pause)
			for _, m := range w.nodes {
				if s := m.status(); s.Height != before.Height || !s.Ready {
					w.Fatalf("%s is at height %d, %v ago it was %d; ready: %v %s", m.name, s.Height, pause, before.Height, s.Ready, s.Reason)
				}
			}
		}
		say("after")
	})
}
