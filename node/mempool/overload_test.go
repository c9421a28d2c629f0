package mempool

import (
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/diseq/diseq/node/chain"
)

// A node that is offered more than the blocks take refuses the rest after seconds, long before its
// share is full, and accepts again as soon as the backlog is ordered. It refuses nothing while no
// block is made, when it holds little, and where blocks are meant to be rare or a silent leader
// holds them up for long.
//
// Promise 51.
func TestAFloodIsRefusedBeforeTheShareIsFull(t *testing.T) {
	flood := payloads(0, smallBacklogs/4+1)
	wait := func(c *Config) { c.Set.SynchronyDeltaMS = 1000 }
	for name, test := range map[string]struct {
		configure func(*Config)
		pending   int
		// The times from the submission of what is pending until a block without any of it is
		// final, and from then until the next submission.
		block, submit time.Duration
		refused       bool
	}{
		"a flood":                            {pending: len(flood), block: 3 * time.Second, refused: true},
		"a flood, a moment later":            {pending: len(flood), block: 3 * time.Second, submit: 3 * time.Second, refused: true},
		"at once":                            {pending: len(flood), block: time.Second},
		"few messages":                       {pending: smallBacklogs / 4, block: 3 * time.Second},
		"few messages, and many for a block": {func(c *Config) { c.MaxBlockBytes = 64 << 10 }, smallBacklog + 1, 3 * time.Second, 0, true},
		"very few messages":                  {func(c *Config) { c.MaxBlockBytes = 64 << 10 }, smallBacklog, 3 * time.Second, 0, false},
		"a leader is silent":                 {pending: len(flood), block: 20 * time.Millisecond, submit: 3 * time.Second},
		"no block since":                     {pending: len(flood), submit: 3 * time.Second},
		"no more blocks":                     {pending: len(flood), block: 3 * time.Second, submit: 4 * time.Second},
		"a chain with a block in 10 seconds": {func(c *Config) { c.BlockInterval = 10 * time.Second }, len(flood), 20 * time.Second, 0, false},
		// With Delta = 1 s, a round whose leader is silent takes 7 s.
		"silent leaders, with the synchrony wait": {wait, len(flood), 27 * time.Second, 0, false},
		"a flood, with the synchrony wait":        {wait, len(flood), 29 * time.Second, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNode(t, 0, 4, func(c *Config) {
					if c.MaxBlockBytes = 1 << 20; test.configure != nil {
						test.configure(c)
					}
				})
				defer n.Close() // before the end of the bubble
				n.submit(t, flood[:test.pending]...)
				body := n.selected(t)
				if test.block > 0 {
					sleep(test.block)
					n.commit(t, Body{})
				}
				sleep(test.submit)
				_, err := n.Submit(t.Context(), payloads(1000, 2))
				full, refused := errors.AsType[*FullError](err)
				if refused != test.refused || !refused && err != nil {
					t.Fatalf("got %v, want to be refused: %v", err, test.refused)
				}
				if !refused {
					return
				}
				if full.RetryAfter != time.Second {
					t.Errorf("refused clients are asked to come back after %v, want 1s", full.RetryAfter)
				}
				n.submit(t, flood[7:9]...) // they are here already
				n.commit(t, body)
				n.submit(t, payloads(1000, 2)...)
			})
		})
	}
}

// A node that is offered many times what the blocks take does not wait until its oldest message is
// old: from what was ordered it knows how long the next would wait. A slow block and a silent
// leader say nothing about that, with or without the synchrony wait.
//
// Promise 51.
func TestALargeFloodIsRefusedSooner(t *testing.T) {
	for name, test := range map[string]struct {
		deltaMS uint32
		pending int
		// The times until 200 messages are final, which came before those that are pending; until
		// an empty block is; and until the next submission.
		first, second, submit time.Duration
		refused               bool
	}{
		"2,000 messages wait":                     {0, 2000, 300 * time.Millisecond, 300 * time.Millisecond, 0, true},
		"2,000 messages wait, many blocks":        {0, 2000, 200 * time.Millisecond, 200 * time.Millisecond, 0, false},
		"400 messages wait":                       {0, 400, 300 * time.Millisecond, 300 * time.Millisecond, 0, false},
		"one block is slow":                       {0, 2000, 1900 * time.Millisecond, 0, 0, false},
		"a leader is silent":                      {0, 2000, 20 * time.Millisecond, 20 * time.Millisecond, 1900 * time.Millisecond, false},
		"the synchrony wait":                      {1000, 2000, 3 * time.Second, 3 * time.Second, 0, false},
		"a leader is silent, the synchrony wait":  {1000, 2000, 2 * time.Second, 2 * time.Second, 14 * time.Second, false},
		"2,000 messages wait, the synchrony wait": {1000, 2000, 4 * time.Second, 4 * time.Second, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNode(t, 0, 4, func(c *Config) { c.Set.SynchronyDeltaMS = test.deltaMS })
				defer n.Close() // before the end of the bubble
				n.submit(t, payloads(0, 200)...)
				n.submit(t, payloads(200, test.pending)...)
				sleep(test.first)
				n.commit(t, n.selected(t))
				if test.second > 0 {
					sleep(test.second)
					n.commit(t, Body{})
				}
				sleep(test.submit)
				_, err := n.Submit(t.Context(), payloads(5000, 1))
				if _, refused := errors.AsType[*FullError](err); refused != test.refused || !refused && err != nil {
					t.Fatalf("got %v, want to be refused: %v", err, test.refused)
				}
			})
		})
	}
}

// A node that was held up takes the blocks that were made meanwhile in a moment. The messages that
// it accepted while it was held up waited for the node, not for the blocks, and it refuses nothing.
// If the blocks were late themselves, it does.
//
// Promise 51.
func TestANodeThatWasHeldUpRefusesNothing(t *testing.T) {
	for name, test := range map[string]struct {
		heldUp, every time.Duration // every is the time between the blocks that were made
		refused       bool
	}{
		"for less than a message may wait": {heldUp: 1500 * time.Millisecond, every: 20 * time.Millisecond},
		"for longer":                       {heldUp: 3 * time.Second, every: 20 * time.Millisecond},
		"and the blocks are slow":          {heldUp: 1500 * time.Millisecond, every: 500 * time.Millisecond, refused: true},
		"and the blocks are too slow":      {heldUp: 3 * time.Second, every: 1500 * time.Millisecond, refused: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNode(t, 0, 4)
				defer n.Close() // before the end of the bubble
				began := time.Now()
				n.commit(t, Body{})
				n.submit(t, payloads(0, 200)...)
				n.submit(t, payloads(200, 2000)...)
				sleep(test.heldUp)
				n.commitOf(t, began.Add(test.every), n.selected(t))
				n.commitOf(t, began.Add(2*test.every), Body{})
				_, err := n.Submit(t.Context(), payloads(5000, 1))
				if _, refused := errors.AsType[*FullError](err); refused != test.refused || !refused && err != nil {
					t.Fatalf("got %v, want to be refused: %v", err, test.refused)
				}
			})
		})
	}
}

// Submissions that come one after the other wait for none. Of many at once, those that come while
// a batch is written gather with those of the next moment.
func TestSubmissionsGatherWhenManyCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, 0, 4)
		defer n.Close() // before the end of the bubble
		n.storage.set(func([]chain.StoredBatch) error { sleep(time.Millisecond); return nil })
		began := time.Now()
		for i := range 10 {
			n.submit(t, payload(i))
		}
		if took := time.Since(began); took != 10*time.Millisecond || n.storage.writes != 10 {
			t.Fatalf("10 submissions one after the other took %v and %d writes, want 10ms and 10", took, n.storage.writes)
		}
		const clients, each = 10, 20
		began = time.Now()
		var running sync.WaitGroup
		for c := range clients {
			running.Go(func() {
				for i := range each {
					if _, err := n.Submit(t.Context(), payloads(1000*(c+1)+i, 1)); err != nil {
						t.Error(err)
					}
				}
			})
		}
		running.Wait()
		if took, most := time.Since(began), each*(gatherTime+time.Millisecond); took > most || n.storage.writes > 10+each+2 {
			t.Fatalf("%d clients took %v and %d writes, want at most %v and %d", clients, took, n.storage.writes-10, most, each+2)
		}
	})
}
