package nodes

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/diseq/diseq/client"
)

// A validator leaves, and reveals what it owes the beacon all the same. The newcomer in its place
// reveals once it has been in the set for long enough. No epoch is missed, and a node that was
// started again counts as the others do.
//
// Promise 42.
func TestTheBeaconMissesNothingWhenTheSetChanges(t *testing.T) {
	const interval = 4
	bubble(t, *firstSeed, spec{validators: 3, threshold: 2, observers: 1, interval: interval}, func(w *world) {
		newcomers(w.nodes[3])
		w.start(w.nodes[:3]...)
		w.launch(w.nodes[3])
		w.inForce(0, "observer", w.nodes[3])
		said := 0
		say := func(n int) {
			w.Helper()
			for range n {
				said++
				_, err := w.nodes[2].client.SubmitWait(w.ctx, fmt.Append(nil, said))
				w.must(err)
			}
		}
		say(interval)
		w.declare(0, 2, w.nodes[1:]...)
		w.inForce(1, "validator", w.nodes[1:]...)
		say(6 * interval)
		// reveals are those of both sets, as a node counts them.
		reveals := func(m *member) (all []client.Validator) {
			w.Helper()
			for _, height := range []uint64{0, w.nodes[2].status().Height} {
				v, err := m.client.Validators(w.ctx, height)
				w.must(err)
				all = append(all, v.Validators...)
			}
			return all
		}
		for _, v := range reveals(w.nodes[2]) {
			if v.RevealsMade == 0 || v.RevealsMissed > 0 {
				w.Errorf("%s made %d reveals and missed %d", v.Name, v.RevealsMade, v.RevealsMissed)
			}
		}
		w.kill(w.nodes[1])
		w.launch(w.nodes[1])
		for _, m := range w.nodes {
			w.eventually(time.Minute, m.name+" counts as the others do", func() error {
				if got, want := reveals(m), reveals(w.nodes[2]); !slices.Equal(got, want) {
					return fmt.Errorf("it counts %+v, want %+v", got, want)
				}
				return nil
			})
		}
	})
}
