package voter

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/ledger"
)

// A leader waits less above a small block, and a chain that is slow on purpose stays slow.
func TestTheIntervalIsShorterAboveASmallBlock(t *testing.T) {
	for _, c := range []struct {
		minimum  time.Duration
		messages uint32
		want     time.Duration
	}{
		{20 * time.Millisecond, 0, 5 * time.Millisecond},
		{20 * time.Millisecond, smallBlock, 5 * time.Millisecond},
		{20 * time.Millisecond, smallBlock + 1, 20 * time.Millisecond},
		{8 * time.Millisecond, 1, 2 * time.Millisecond},
		{time.Second, 1, time.Second - mostSpared},
		{0, 1, 0},
	} {
		if got := interval(c.minimum, &chain.Header{MessagesCount: c.messages}); got != c.want {
			t.Errorf("minimum %v above %d messages: %v, want %v", c.minimum, c.messages, got, c.want)
		}
	}
}

// awaitTip returns the tip once a height is final.
func (r *room) awaitTip(t *testing.T, height uint64) *ledger.Tip {
	t.Helper()
	if err := r.cfg.Ledger.Wait(t.Context(), height); err != nil {
		t.Fatal(err)
	}
	return r.cfg.Ledger.Tip()
}

// A block that only certifies a root waits, so that a message which comes meanwhile is in it and
// not behind it.
func TestAMessageDoesNotWaitForAnEmptyBlock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(t, 1, 1, 0)
		r.start(t, r.votes, 0)
		for height := uint64(1); height < 4; height++ {
			r.submit(t, fmt.Sprint("message ", height))
			submitted := time.Now()
			tip := r.awaitTip(t, height)
			if tip.Block.Header.MessagesCount != 1 {
				t.Fatalf("block %d has %d messages, want that one", height, tip.Block.Header.MessagesCount)
			}
			if took := time.Since(submitted); took > 20*time.Millisecond {
				t.Errorf("message %d was final after %v", height, took)
			}
			<-time.After(emptyPause / 2)
		}
		last := r.cfg.Ledger.Tip().Block.Header.Time()
		if empty := r.awaitTip(t, 4).Block.Header; empty.MessagesCount != 0 || empty.Time().Sub(last) < emptyPause {
			t.Errorf("block 4 has %d messages and came %v after block 3, want none and %v at least",
				empty.MessagesCount, empty.Time().Sub(last), emptyPause)
		}
	})
}

// A change of the validator set is urgent, and so is the block after it.
func TestAChangeOfTheSetDoesNotWaitForMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoomOf(t, 0, 1, 1, 0)
		r.linked.Store(true)
		r.start(t, r.votes, 0)
		r.submit(t, "one")
		r.awaitTip(t, 1)
		r.change.Store(r.endorse(1, r.members, 0))
		r.changed <- struct{}{}
		asked := time.Now()
		if tip := r.awaitTip(t, 2); tip.Block.Change == nil {
			t.Fatal("block 2 has no change")
		}
		r.change.Store(nil)
		r.awaitTip(t, 3)
		if took := time.Since(asked); took >= emptyPause {
			t.Errorf("the change and the block after it took %v", took)
		}
	})
}
