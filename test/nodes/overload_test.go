package nodes

import (
	"context"
	"encoding/binary"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/diseq/diseq/client"
	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/test/oracle"
)

// flood is clients that submit messages at a rate to all nodes, whatever the nodes answer, but for
// the pauses that they ask for.
type flood struct {
	world *world
	book  *oracle.Ledger
	// accepted counts messages, refused requests.
	accepted, refused atomic.Int64
	next              atomic.Uint64
}

// request submits count messages of 250 bytes at once, and returns how long to pause.
func (f *flood) request(c *client.Client, count int) time.Duration {
	messages := make([][]byte, count)
	for i := range messages {
		messages[i] = make([]byte, 250)
		binary.BigEndian.PutUint64(messages[i], f.next.Add(1))
		f.book.Sent(chain.Message{Data: messages[i]}.ID())
	}
	_, err := c.Submit(f.world.ctx, messages...)
	if refused, ok := errors.AsType[*client.Error](err); ok && refused.Status == http.StatusTooManyRequests && refused.RetryAfter > 0 {
		f.refused.Add(1)
		return refused.RetryAfter
	}
	if err != nil {
		f.world.Errorf("a request of the flood: %v", err)
		return time.Second
	}
	f.accepted.Add(int64(count))
	for _, m := range messages {
		f.book.Accepted(chain.Message{Data: m}.ID(), oracle.Acceptance{Answered: time.Now()})
	}
	return 0
}

// run submits at a rate, in messages a second of all clients together, for a time.
func (f *flood) run(rate float64, duration time.Duration) {
	const clients, count = 4, 20 // to each node; messages a request
	ctx, cancel := context.WithTimeout(f.world.ctx, duration)
	defer cancel()
	every := time.Duration(float64(time.Second) * float64(count*clients*len(f.world.nodes)) / rate)
	var running sync.WaitGroup
	for i, m := range f.world.nodes {
		for j := range clients {
			c := f.world.client(m.name, "flood-"+m.name)
			c.RetryFor = 0
			running.Go(func() {
				due := time.Now().Add(every * time.Duration(i*clients+j) / time.Duration(clients*len(f.world.nodes)))
				for {
					select {
					case <-ctx.Done():
						return
					case <-time.After(time.Until(due)):
					}
					due = due.Add(every)
					if pause := f.request(c, count); pause > 0 {
						due = time.Now().Add(pause)
					}
				}
			})
		}
	}
	running.Wait()
}

// final returns how many messages are final at the first node.
func (f *flood) final() (count int) {
	height := f.world.nodes[0].status().Height
	for next := uint64(1); next <= height; {
		blocks, after, err := f.world.nodes[0].client.Blocks(f.world.ctx, next, 100)
		f.world.must(err)
		for i := range blocks {
			count += int(blocks[i].Header.MessagesCount)
		}
		next = after
	}
	return count
}

// A network that is offered twice what it orders goes on to order as much, refuses the rest with a
// time to come back after, holds no more than seconds' worth, and serves the next client at once
// when the flood is over. The sizes of blocks and the latency make it slow; time is virtual.
//
// Promise 26.
// Promise 51.
func TestAFloodOfTwiceTheMostIsOrderedAtTheMost(t *testing.T) {
	bubble(t, *firstSeed, spec{validators: 4, threshold: 3, blockBytes: 16 << 10}, func(w *world) {
		for _, a := range w.nodes {
			for _, b := range w.nodes {
				w.wire.set(way{a.name, b.name}, condition{latency: 20 * time.Millisecond})
			}
		}
		w.start(w.nodes...)
		f := &flood{world: w, book: oracle.NewLedger()}
		settled := func() error {
			for _, m := range w.nodes {
				if n := m.status().Pool.Messages; n > 0 {
					return errors.New("messages are pending")
				}
			}
			return nil
		}
		const probe = 2000
		for range probe / 500 {
			f.request(w.nodes[0].client, 500)
		}
		began, before := time.Now(), f.final()
		w.eventually(time.Minute, "the probe is final", settled)
		most := float64(f.final()-before) / time.Since(began).Seconds()

		before = f.final()
		began = time.Now()
		pending := 0
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			f.run(2*most, 10*time.Second)
		}()
		for open := true; open; {
			select {
			case <-ended:
				open = false
			case <-time.After(100 * time.Millisecond):
				pending = max(pending, w.nodes[0].status().Pool.Messages)
			}
		}
		rate := float64(f.final()-before) / time.Since(began).Seconds()
		w.note("the most is %.0f/s; in the flood %.0f/s, %d pending, %d requests refused", most, rate, pending, f.refused.Load())
		if rate < 0.9*most {
			w.Errorf("in a flood %.0f messages a second are final, want %.0f", rate, most)
		}
		if float64(pending) > 4*most || f.refused.Load() == 0 {
			w.Errorf("%d messages are pending, and %d requests were refused, at %.0f/s", pending, f.refused.Load(), most)
		}
		w.eventually(5*time.Second, "the backlog is ordered", settled)
		if pause := f.request(w.nodes[1].client, 1); pause > 0 {
			w.Errorf("after the flood a client is asked to come back after %v", pause)
		}
		l := &load{world: w, stop: func() {}, book: f.book}
		w.audit(l)
	})
}
