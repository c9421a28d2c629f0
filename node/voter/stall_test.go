package voter

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/diseq/diseq/node/consensus"
)

// An event may wait for the voter behind a flood, a slow disk or blocks that catching up fetched.
// If it waited for more than Delta/2, the node abstains: others relied on an earlier relay.
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
		p := r.nextEvent()
		p.since = p.since.Add(-c.waited)
		if err := r.step(p); err != nil {
			t.Fatal(err)
		}
		if r.core.Settled() != c.settled {
			t.Errorf("%s: the core may vote: %v, want %v", c.name, r.core.Settled(), c.settled)
		}
	}
}

// Events of the pool do not come through the queue. An event that is handled together with one may
// have waited all the same.
//
// Promise 1.
func TestEventsThatWaitedBehindAChangeOfThePoolMakeTheNodeAbstain(t *testing.T) {
	const delta = time.Minute
	r := newSettled(t, delta)
	r.events.put(queued{event: consensus.Pool{}, since: time.Now().Add(-2 * delta / 3)})
	if err := r.step(queued{event: consensus.Pool{}, since: time.Now()}); err != nil {
		t.Fatal(err)
	}
	if r.core.Settled() {
		t.Error("the core may vote on what waited for two thirds of Delta")
	}
}

// The core learns of the end of a breach behind the breach, also when both meet the voter amid a
// group of events. The other way round, the core would abstain for ever.
//
// Promise 1.
func TestTheEndOfABreachIsToldAfterTheBreach(t *testing.T) {
	const delta = time.Minute
	r := newSettled(t, delta)
	r.events.put(queued{event: consensus.Pool{}, since: time.Now().Add(-2 * delta / 3)})
	r.Post(consensus.Health{OK: true})
	for range 2 {
		if err := r.step(queued{event: consensus.Pool{}, since: time.Now()}); err != nil {
			t.Fatal(err)
		}
	}
	r.core.Step(consensus.TimerFired{Timer: consensus.Timer{Kind: consensus.SettleTimer, Height: 1, Round: 2}})
	if !r.core.Settled() {
		t.Error("the core abstains although it was told last that all is well")
	}
}

// However a breach and its end meet a voter at work, a node that reports itself healthy votes
// again.
//
// Promise 1.
func TestABreachAmidAGroupOfEventsEnds(t *testing.T) {
	r := newSettled(t, time.Minute)
	r.synchrony.healthy.Store(true)
	for i := range 100 {
		r.synchrony.slow.Store(true)
		told := make(chan struct{})
		go func() { r.synchrony.watch(); close(told) }()
		for done := false; !done || r.events.size() > 0; {
			select {
			case <-told:
				done = true
			default:
			}
			if err := r.step(queued{event: consensus.Pool{}, since: time.Now()}); err != nil {
				t.Fatal(err)
			}
		}
		if err := r.step(queued{event: consensus.Pool{}, since: time.Now()}); err != nil {
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

// A peer that settles needs an answer within Delta of its request: the limit on how often a peer is
// answered does not delay the first answer.
//
// Promise 1.
func TestWhoAsksAgainIsAnsweredAtOnceUnlessItAsksTooOften(t *testing.T) {
	for _, delta := range []time.Duration{time.Minute, 0} {
		synctest.Test(t, func(t *testing.T) {
			r := newRoom(t, 2, 2, delta)
			peer := r.genesis.Validators[1].PublicKey
			for asked := 1; asked <= 8; asked++ {
				r.Resend(peer)
				if answered := r.events.size(); answered != min(asked, 4) {
					t.Fatalf("Delta %v: asked %d times, answered at once %d times, want %d", delta, asked, answered, min(asked, 4))
				}
			}
			time.Sleep(r.synchrony.resendPeriod())
			if answered := r.events.size(); answered != 5 {
				t.Errorf("Delta %v: answered %d times a period later, want 5", delta, answered)
			}
		})
	}
}

// A pong that comes in time and reports a loss makes the node unhealthy: it settles anew, and asks
// its peers to send again.
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

// A voter that gets a vote store, or another checkpoint, makes another core. The end of a wait that
// the first one began says nothing about the wait of the second.
//
// Promise 1.
func TestTheEndOfAWaitIsForTheCoreThatBeganIt(t *testing.T) {
	r := newRoom(t, 1, 1, time.Minute)
	var cores []*consensus.Core
	for range 2 {
		if err := r.Start(r.votes, 0); err != nil {
			t.Fatal(err)
		}
		cores = append(cores, r.core)
	}
	r.core.Step(consensus.Health{OK: true})
	over := consensus.TimerFired{Timer: consensus.Timer{Kind: consensus.SettleTimer, Height: 1, Round: 1}}
	for i, core := range cores {
		if err := r.step(queued{event: ofCore{over, core}, since: time.Now()}); err != nil {
			t.Fatal(err)
		}
		if settled := r.core.Settled(); settled != (i == 1) {
			t.Errorf("after the end of the wait of core %d: settled %v", i, settled)
		}
	}
}
