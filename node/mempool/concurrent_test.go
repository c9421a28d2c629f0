package mempool

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/diseq/diseq/node/chain"
)

// Three nodes at once take submissions that partly repeat each other's, push to each other, order,
// commit, index and wait, while the set changes with each block: for the race detector, and for
// what only shows when nothing waits for anything.
func TestConcurrentUse(t *testing.T) {
	const nodes, clients, requests = 3, 4, 25
	type push struct {
		hash    chain.Hash
		encoded []byte
	}
	links := make([]chan push, nodes)
	all := make([]*testNode, nodes)
	for i := range all {
		links[i] = make(chan push, nodes*clients*requests)
		all[i] = newNode(t, i, nodes, func(c *Config) {
			c.Set.Threshold, c.AckWait = nodes-1, time.Minute
			c.Replicator = pushes(func(hash chain.Hash, encoded []byte) { links[i] <- push{hash, encoded} })
		})
	}
	ctx, stop := context.WithCancel(t.Context())
	fail := func(format string, args ...any) {
		t.Errorf(format, args...)
		stop() // the waiting calls would wait for ever
	}
	var background, submitters sync.WaitGroup
	for i := range all {
		background.Go(func() {
			for {
				select {
				case p := <-links[i]:
					for j := range all {
						if j == i {
							continue
						}
						if err := all[j].Receive(ctx, author(i), p.encoded); err != nil {
							fail("%v", err)
							return
						}
						all[i].Acknowledge(author(j), p.hash)
					}
				case <-ctx.Done():
					return
				}
			}
		})
	}
	times := map[chain.Hash]int{}
	background.Go(func() {
		for height := uint64(1); ctx.Err() == nil; height++ {
			leader := all[height%nodes]
			body, err := leader.Select(height-1, 1<<20)
			if err != nil {
				fail("%v", err)
				return
			}
			for _, id := range body.IDs {
				times[id]++
			}
			for _, n := range all {
				if n != leader {
					// On a busy machine a batch may be on its way for longer than Resolve waits.
					got, missing, err := n.Resolve(ctx, height-1, body.Refs)
					for missing != nil && ctx.Err() == nil {
						got, missing, err = n.Resolve(ctx, height-1, body.Refs)
					}
					if ctx.Err() != nil {
						return
					}
					if err != nil || len(got.IDs) != len(body.IDs) {
						fail("resolved %d messages of %d, error %v", len(got.IDs), len(body.IDs), err)
						return
					}
				}
			}
			// One validator more comes and goes, each time another one.
			set := setOf(0, 1, 2, nodes+int(height))
			if height%2 == 0 {
				set = setOf(2, 1, 0)
			}
			set.Threshold--
			for _, n := range all {
				removable, _ := n.Removable(body.IDs)
				n.storage.remove(removable)
				n.SetMembers(set)
				n.SetPeers(keys(nodes + int(height)))
				if err := n.Committed(height, time.Now(), body.Refs, body.IDs); err != nil {
					fail("%v", err)
					return
				}
				n.indexed(recentBlock{height, body.IDs})
			}
		}
	})
	for i := range all {
		for c := range clients {
			submitters.Go(func() {
				for r := range requests {
					common := message("common %d", c*requests+r) // from every node
					own := message("own %d %d %d", i, c, r)
					results, err := all[i].Submit(ctx, []chain.Message{common, own, common})
					if err != nil {
						fail("%v", err)
						return
					}
					if results, err = all[i].Wait(ctx, []chain.Hash{results[0].ID, results[1].ID}); err != nil {
						fail("%v", err)
						return
					}
					for _, want := range results {
						if got, err := all[i].Status(want.ID); err != nil || got != want || got.State != Final {
							fail("status %+v, error %v; waited for %+v", got, err, want)
						}
					}
					_ = all[i].Stats()
					_ = all[i].Pending(10, 1000)
					_ = all[i].HasPending()
					_ = all[i].Unacknowledged(author((i+1)%nodes), 0, 1<<10)
				}
			})
		}
	}
	submitters.Wait()
	stop()
	background.Wait()
	if len(times) != clients*requests*(nodes+1) {
		t.Errorf("%d messages were ordered, want %d", len(times), clients*requests*(nodes+1))
	}
	for id, n := range times {
		if n != 1 {
			t.Errorf("message %v was ordered %d times", id, n)
		}
	}
}
