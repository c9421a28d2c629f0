package voter

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/diseq/diseq/node/chain"
)

// The block of height h is durable before the first record of h+1. A newcomer has no record of the
// finalization of h, because it was no member of that set: its vote would rest on nothing.
//
// Promise 12.
func TestABlockIsDurableBeforeTheFirstVoteAboveIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(t, 1, 1, 0)
		apply := r.cfg.Apply
		r.cfg.Apply = func(f *chain.FinalBlock, ids []chain.Hash, justification []*chain.Certificate) error {
			err := apply(f, ids, justification) // the block is on disk when it returns
			r.journal.add("stored %d", f.Header.Height)
			return err
		}
		r.start(t, r.votes, 0)
		for height := range uint64(3) {
			r.submit(t, fmt.Sprint("message ", height))
			if err := r.cfg.Ledger.Wait(t.Context(), height+1); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		entries, above := r.journal.all(), 0
		for i, entry := range entries {
			var kind string
			var height uint64
			if n, _ := fmt.Sscanf(entry, "write %s %d", &kind, &height); n != 2 || height < 2 {
				continue
			}
			above++
			if !slices.Contains(entries[:i], fmt.Sprint("stored ", height-1)) {
				t.Errorf("%q before the block below is stored: %q", entry, entries)
			}
		}
		if above == 0 {
			t.Errorf("no vote above height 1: %q", entries)
		}
	})
}
