package voter

import (
	"context"
	"math/rand/v2"
	"testing"
	"testing/synctest"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/consensus"
)

// fromPeer is an event of a peer with a number of messages, which its first vote names.
func fromPeer(peer byte, number, messages int) consensus.Event {
	votes := make([]chain.Vote, messages)
	votes[0].Height = uint64(number)
	return consensus.Received{From: chain.PublicKey{peer}, Bundle: chain.Bundle{Votes: votes}}
}

// ownEvent is an event of the node itself with a number.
func ownEvent(number int) consensus.Event {
	return consensus.TimerFired{Timer: consensus.Timer{Height: uint64(number)}}
}

// A peer that fills its lane makes an event of another peer wait for one of its own, and no longer.
// It waits for room itself.
//
// Promise 50.
func TestAFloodOfOnePeerHoldsUpNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		q := newQueue()
		const liars, frames = 3, 100
		posted := make([]int, liars)
		for liar := range liars {
			go func() {
				for i := range frames {
					q.add(ctx, fromPeer(byte(liar+1), i, laneMessages/4))
					posted[liar]++
				}
			}()
		}
		synctest.Wait()
		for liar, n := range posted {
			if n != 4 {
				t.Errorf("liar %d has %d events in the queue, want 4: %d messages", liar, n, laneMessages)
			}
		}
		for round := range 20 {
			q.add(ctx, fromPeer(9, round, 1))
			synctest.Wait()
			for taken := 1; ; taken++ {
				e, ok := q.take()
				if !ok {
					t.Fatal("the honest peer's event is lost")
				}
				synctest.Wait() // the liars fill their lanes again
				if r := e.event.(consensus.Received); r.From == (chain.PublicKey{9}) {
					break
				}
				if taken > liars {
					t.Fatalf("round %d: %d events of liars came first, want %d at most", round, taken, liars)
				}
			}
		}
		cancel()
	})
}

// The events of a peer keep their order. An own event comes after all that were queued before it,
// and before all later ones: the end of a synchrony wait rests on that. Nothing is lost.
//
// Promise 1.
func TestOwnEventsKeepTheirPlace(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		q := newQueue()
		type mark struct{ number, peer int }
		var added []mark
		for number := range 60 {
			m := mark{number, rng.IntN(6)}
			added = append(added, m)
			if m.peer == 0 {
				q.add(t.Context(), ownEvent(number))
			} else {
				q.add(t.Context(), fromPeer(byte(m.peer), number, 1))
			}
		}
		var took []mark
		for {
			e, ok := q.take()
			if !ok {
				break
			}
			switch e := e.event.(type) {
			case consensus.TimerFired:
				took = append(took, mark{int(e.Timer.Height), 0})
			case consensus.Received:
				took = append(took, mark{int(e.Bundle.Votes[0].Height), int(e.From[0])})
			}
		}
		if len(took) != len(added) || q.size() != 0 {
			t.Fatalf("%d events taken of %d", len(took), len(added))
		}
		for i, a := range took {
			for _, b := range took[i+1:] {
				if (a.peer == 0 || b.peer == 0 || a.peer == b.peer) && a.number > b.number {
					t.Fatalf("event %d of %d comes before event %d of %d (0: the node itself)", a.number, a.peer, b.number, b.peer)
				}
			}
		}
	}
}

// A flood of reports how far a peer is takes the place of one.
//
// Promise 50.
func TestReportsOfHeightsAreMerged(t *testing.T) {
	q := newQueue()
	peer := chain.PublicKey{1}
	for h := range uint64(10_000) {
		q.add(t.Context(), consensus.Ahead{From: peer, Lowest: 20_000 - h, Height: h + 30_000})
	}
	for h := range uint64(10_000) {
		q.add(t.Context(), consensus.Behind{From: peer, Height: 1 + h%100})
	}
	q.add(t.Context(), consensus.Ahead{From: chain.PublicKey{2}, Lowest: 3, Height: 3})
	if n := q.size(); n != 3 {
		t.Fatalf("%d events wait, want 3", n)
	}
	want := []consensus.Event{
		consensus.Ahead{From: peer, Lowest: 10_001, Height: 39_999}, consensus.Ahead{From: chain.PublicKey{2}, Lowest: 3, Height: 3},
		consensus.Behind{From: peer, Height: 100},
	}
	for _, w := range want {
		if e, _ := q.take(); e.event != w {
			t.Errorf("%+v, want %+v", e.event, w)
		}
	}
}

// An event that waits for room gives up when the node stops.
func TestPostEndsWithTheNode(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	q := newQueue()
	q.add(ctx, fromPeer(1, 0, laneMessages))
	over := make(chan struct{})
	go func() {
		q.add(ctx, fromPeer(1, 1, 1))
		close(over)
	}()
	cancel()
	<-over
	if n := q.size(); n != 1 {
		t.Errorf("%d events wait, want 1", n)
	}
}

// Run takes events in groups that share an fsync. None is lost where a group ends.
func TestNoEventIsLostBetweenGroups(t *testing.T) {
	r := newRoom(t, 1, 1, 0)
	if err := r.Start(r.votes, 0); err != nil {
		t.Fatal(err)
	}
	told := map[chain.PublicKey]bool{}
	r.cfg.CatchUp = func(_ uint64, from chain.PublicKey) { told[from] = true }
	const events = 5*groupedEvents + 3
	for i := range events {
		r.Post(consensus.Ahead{From: chain.PublicKey{byte(i), byte(i >> 8)}, Lowest: 9, Height: 9})
	}
	for {
		q, ok := r.events.take()
		if !ok {
			break
		}
		if err := r.step(q); err != nil {
			t.Fatal(err)
		}
	}
	if len(told) != events {
		t.Errorf("the core has heard %d peers of %d", len(told), events)
	}
}

// BenchmarkQueue is an event of one of a hundred peers through the queue.
func BenchmarkQueue(b *testing.B) {
	q := newQueue()
	e := consensus.Ahead{}
	i := 0
	for b.Loop() {
		e.From = chain.PublicKey{byte(i % 100)}
		q.add(b.Context(), e)
		if i++; i%100 == 0 {
			for _, ok := q.take(); ok; _, ok = q.take() {
			}
		}
	}
}
