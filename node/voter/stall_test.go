package voter

import (
	"testing"
	"time"

	"github.com/diseq/diseq/node/consensus"
)

// What has waited for the sequencer for more than Delta/2, behind a flood, a slow disk or blocks
// that catching up brought, is handled by a node that abstains: others relied on its being relayed
// long before.
//
// Promise 1.
func TestEventsThatWaitedForTheSequencerMakeTheNodeAbstain(t *testing.T) {
	const delta = time.Minute // no clock of the test comes near it
	for _, c := range []struct {
		name    string
		waited  time.Duration
		settled bool
	}{{"handled at once", 0, true}, {"after a third of Delta", delta / 3, true}, {"after two thirds of Delta", 2 * delta / 3, false}} {
		r := newSettled(t, delta)
		r.Post(consensus.Pool{})
		p := <-r.events
		p.since = p.since.Add(-c.waited)
		if err := r.step(p); err != nil {
			t.Fatal(err)
		}
		if r.core.Settled() != c.settled {
			t.Errorf("%s: the core may vote: %v, want %v", c.name, r.core.Settled(), c.settled)
		}
	}
}

// Events of the pool do not come through the queue. What is handled together with one may have
// waited all the same.
//
// Promise 1.
func TestEventsThatWaitedBehindAChangeOfThePoolMakeTheNodeAbstain(t *testing.T) {
	const delta = time.Minute
	r := newSettled(t, delta)
	r.events <- queued{consensus.Pool{}, time.Now().Add(-2 * delta / 3)}
	if err := r.step(queued{consensus.Pool{}, time.Now()}); err != nil {
		t.Fatal(err)
	}
	if r.core.Settled() {
		t.Error("the core may vote on what waited for two thirds of Delta")
	}
}

// What the watchdog says once all is well again comes behind the breach, also when both meet the
// sequencer amid a group of events: told the other way round, the core abstains for ever.
//
// Promise 1.
func TestTheEndOfABreachIsToldAfterTheBreach(t *testing.T) {
	const delta = time.Minute
	r := newSettled(t, delta)
	r.events <- queued{consensus.Pool{}, time.Now().Add(-2 * delta / 3)}
	r.Post(consensus.Health{OK: true})
	for range 2 {
		if err := r.step(queued{consensus.Pool{}, time.Now()}); err != nil {
			t.Fatal(err)
		}
	}
	r.core.Step(consensus.TimerFired{Timer: consensus.Timer{Kind: consensus.SettleTimer, Height: 1, Round: 2}})
	if !r.core.Settled() {
		t.Error("the core abstains although it was told last that all is well")
	}
}

// However a breach and its end meet a sequencer that is at work, a node that takes itself for
// healthy votes again.
//
// Promise 1.
func TestABreachAmidAGroupOfEventsEnds(t *testing.T) {
	r := newSettled(t, time.Minute)
	r.synchrony.healthy.Store(true)
	for i := range 100 {
		r.synchrony.slow.Store(true)
		told := make(chan struct{})
		go func() { r.synchrony.watch(); close(told) }()
		for done := false; !done || len(r.events) > 0; {
			select {
			case <-told:
				done = true
			default:
			}
			if err := r.step(queued{consensus.Pool{}, time.Now()}); err != nil {
				t.Fatal(err)
			}
		}
		if err := r.step(queued{consensus.Pool{}, time.Now()}); err != nil {
			t.Fatal(err)
		}
		if !r.synchrony.healthy.Load() {
			t.Fatal("one validator of one is not healthy")
		}
		for settles := range uint32(2*i + 4) {
			r.core.Step(consensus.TimerFired{Timer: consensus.Timer{Kind: consensus.SettleTimer, Height: 1, Round: settles}})
		}
		if !r.core.Settled() {
			t.Fatalf("breach %d: the node is healthy, its core does not know", i)
		}
	}
}

// settle ends the given number of waits of the core for its own health.
func (r *room) settle(waits uint32) {
	r.core.Step(consensus.Health{OK: true})
	for wait := range waits + 1 {
		r.core.Step(consensus.TimerFired{Timer: consensus.Timer{Kind: consensus.SettleTimer, Height: 1, Round: wait}})
	}
}

// Who settles counts on an answer within Delta of having been asked: the limit on how often a peer
// is answered does not delay the first.
//
// Promise 1.
func TestWhoAsksAgainIsAnsweredAtOnceUnlessItAsksTooOften(t *testing.T) {
	r := newRoom(t, 2, 2, time.Minute)
	peer := r.genesis.Validators[1].PublicKey
	for asked := 1; asked <= 8; asked++ {
		r.Resend(peer)
		if answered := len(r.events); answered != min(asked, 4) {
			t.Fatalf("asked %d times, answered at once %d times, want %d", asked, answered, min(asked, 4))
		}
	}
}

// A ping that comes back in time, with word that something was lost, is none with nothing lost: the
// node settles anew, and asks.
//
// Promise 1.
func TestALossThatAPongTellsOfMakesTheNodeAbstain(t *testing.T) {
	r := newRoom(t, 2, 2, time.Minute)
	s, peer := r.synchrony, r.genesis.Validators[1].PublicKey
	s.linkUp(peer)
	for i, c := range []struct {
		lost    uint64
		healthy bool
	}{{7, true}, {7, true}, {8, false}, {8, true}} {
		s.mu.Lock()
		s.ping(peer, s.links[peer])
		number := s.links[peer].number
		s.mu.Unlock()
		s.pong(peer, number, c.lost)
		if s.healthy.Load() != c.healthy {
			t.Errorf("pong %d tells of %d losses: healthy %v, want %v", i, c.lost, s.healthy.Load(), c.healthy)
		}
	}
}
