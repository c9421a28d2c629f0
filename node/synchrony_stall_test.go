package node

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
		n := openSettled(t, delta)
		n.seq.post(consensus.Pool{})
		p := <-n.seq.events
		p.at = p.at.Add(-c.waited)
		if err := n.seq.step(p); err != nil {
			t.Fatal(err)
		}
		if n.seq.core.Settled() != c.settled {
			t.Errorf("%s: the core may vote: %v, want %v", c.name, n.seq.core.Settled(), c.settled)
		}
	}
}

// Events of the pool do not come through the queue. What is handled together with one may have
// waited all the same.
//
// Promise 1.
func TestEventsThatWaitedBehindAChangeOfThePoolMakeTheNodeAbstain(t *testing.T) {
	const delta = time.Minute
	n := openSettled(t, delta)
	n.seq.events <- posted{consensus.Pool{}, time.Now().Add(-2 * delta / 3)}
	if err := n.seq.step(posted{consensus.Pool{}, time.Now()}); err != nil {
		t.Fatal(err)
	}
	if n.seq.core.Settled() {
		t.Error("the core may vote on what waited for two thirds of Delta")
	}
}

// What the watchdog says once all is well again comes behind the breach, also when both meet the
// sequencer amid a group of events: told the other way round, the core abstains for ever.
//
// Promise 1.
func TestTheEndOfABreachIsToldAfterTheBreach(t *testing.T) {
	const delta = time.Minute
	n := openSettled(t, delta)
	n.seq.events <- posted{consensus.Pool{}, time.Now().Add(-2 * delta / 3)}
	n.seq.post(consensus.Health{OK: true})
	for range 2 {
		if err := n.seq.step(posted{consensus.Pool{}, time.Now()}); err != nil {
			t.Fatal(err)
		}
	}
	n.seq.core.Step(consensus.TimerFired{Timer: consensus.Timer{Kind: consensus.SettleTimer, Height: 1, Round: 2}})
	if !n.seq.core.Settled() {
		t.Error("the core abstains although it was told last that all is well")
	}
}

// However a breach and its end meet a sequencer that is at work, a node that takes itself for
// healthy votes again.
//
// Promise 1.
func TestABreachAmidAGroupOfEventsEnds(t *testing.T) {
	n := openSettled(t, time.Minute)
	n.synchrony.ok.Store(true)
	for i := range 100 {
		n.synchrony.slow.Store(true)
		told := make(chan struct{})
		go func() { n.synchrony.watch(); close(told) }()
		for done := false; !done || len(n.seq.events) > 0; {
			select {
			case <-told:
				done = true
			default:
			}
			if err := n.seq.step(posted{consensus.Pool{}, time.Now()}); err != nil {
				t.Fatal(err)
			}
		}
		if err := n.seq.step(posted{consensus.Pool{}, time.Now()}); err != nil {
			t.Fatal(err)
		}
		if !n.synchrony.ok.Load() {
			t.Fatal("one validator of one is not healthy")
		}
		for settles := range uint32(2*i + 4) {
			n.seq.core.Step(consensus.TimerFired{Timer: consensus.Timer{Kind: consensus.SettleTimer, Height: 1, Round: settles}})
		}
		if !n.seq.core.Settled() {
			t.Fatalf("breach %d: the node is healthy, its core does not know", i)
		}
	}
}

// openSettled opens a node whose core may vote.
func openSettled(t *testing.T, delta time.Duration) *Node {
	t.Helper()
	net := newTestNetwork(t, 1, 1)
	net.genesis.SynchronyDeltaMS = uint32(delta / time.Millisecond)
	writeJSON(t, net.configs[0].Genesis, net.genesis)
	n := net.openNode(0)
	if err := n.seq.restart(n.votes.Load(), 0); err != nil {
		t.Fatal(err)
	}
	n.seq.core.Step(consensus.Health{OK: true})
	n.seq.core.Step(consensus.TimerFired{Timer: consensus.Timer{Kind: consensus.SettleTimer, Height: 1, Round: 1}})
	if !n.seq.core.Settled() {
		t.Fatal("the core does not vote to begin with")
	}
	return n
}

// Who settles counts on an answer within Delta of having been asked: the limit on how often a peer
// is answered does not delay the first.
//
// Promise 1.
func TestWhoAsksAgainIsAnsweredAtOnceUnlessItAsksTooOften(t *testing.T) {
	net := newTestNetwork(t, 2, 2)
	net.genesis.SynchronyDeltaMS = uint32(time.Minute / time.Millisecond)
	writeJSON(t, net.configs[0].Genesis, net.genesis)
	n := net.openNode(0)
	peer := net.genesis.Validators[1].PublicKey
	for asked := 1; asked <= 8; asked++ {
		n.synchrony.asks(peer)
		if answered := len(n.seq.events); answered != min(asked, 4) {
			t.Fatalf("asked %d times, answered at once %d times, want %d", asked, answered, min(asked, 4))
		}
	}
}

// A ping that comes back in time, with word that something was lost, is none with nothing lost: the
// node settles anew, and asks.
//
// Promise 1.
func TestALossThatAPongTellsOfMakesTheNodeAbstain(t *testing.T) {
	net := newTestNetwork(t, 2, 2)
	net.genesis.SynchronyDeltaMS = uint32(time.Minute / time.Millisecond)
	writeJSON(t, net.configs[0].Genesis, net.genesis)
	n := net.openNode(0)
	s, peer := n.synchrony, net.genesis.Validators[1].PublicKey
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
		if s.ok.Load() != c.healthy {
			t.Errorf("pong %d tells of %d losses: healthy %v, want %v", i, c.lost, s.ok.Load(), c.healthy)
		}
	}
}
