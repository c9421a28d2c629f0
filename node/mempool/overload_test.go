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
	flood := payloads(0, smallBacklog+1)
	wait := func(c *Config) { c.Set.SynchronyDeltaMS = 1000 }
	for name, test := range map[string]struct {
		configure func(*Config)
		pending   int
		// The times from the submission of what is pending until a block without any of it is
		// final, and from then until the next submission.
		block, submit time.Duration
		refused       bool
	}{
		"a flood":                            {pending: len(flood), block: time.Second, submit: backlogAge, refused: true},
		"at once":                            {pending: len(flood), block: time.Second, submit: backlogAge - time.Second},
		"few messages":                       {pending: smallBacklog, block: time.Second, submit: backlogAge},
		"no block since":                     {pending: len(flood), submit: backlogAge + time.Second},
		"no more blocks":                     {pending: len(flood), block: time.Second, submit: 2 * backlogAge},
		"a chain with a block in 10 seconds": {func(c *Config) { c.BlockInterval = 10 * time.Second }, len(flood), 10 * time.Second, 10 * time.Second, false},
		// With Delta = 1 s, a round whose leader is silent takes 7 s.
		"silent leaders, with the synchrony wait": {wait, len(flood), 2 * time.Second, 25 * time.Second, false},
		"a flood, with the synchrony wait":        {wait, len(flood), 25 * time.Second, 4 * time.Second, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var configure []func(*Config)
				if test.configure != nil {
					configure = append(configure, test.configure)
				}
				n := newNode(t, 0, 4, configure...)
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
// old: from what was ordered it knows how long the next would wait. A silent leader says nothing
// about that, with or without the synchrony wait.
//
// Promise 51.
func TestALargeFloodIsRefusedSooner(t *testing.T) {
	for name, test := range map[string]struct {
		deltaMS uint32
		pending int
		// The times until 200 messages are final, which came before those that are pending, and
		// from then until the next submission.
		block, submit time.Duration
		refused       bool
	}{
		"2,000 messages wait":                         {0, 2000, 600 * time.Millisecond, 0, true},
		"2,000 messages wait, two blocks in a second": {0, 2000, 400 * time.Millisecond, 0, false},
		"400 messages wait":                           {0, 400, 600 * time.Millisecond, 0, false},
		"a leader is silent":                          {0, 2000, 20 * time.Millisecond, 1900 * time.Millisecond, false},
		"a leader is silent, with the synchrony wait": {1000, 2000, 2 * time.Second, 14 * time.Second, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNode(t, 0, 4, func(c *Config) { c.Set.SynchronyDeltaMS = test.deltaMS })
				defer n.Close() // before the end of the bubble
				n.submit(t, payloads(0, 200)...)
				n.submit(t, payloads(200, test.pending)...)
				sleep(test.block)
				body := n.selected(t)
				n.commit(t, body)
				sleep(test.submit)
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
