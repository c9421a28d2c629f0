package consensus

import (
	"testing"
	"time"

	"github.com/diseq/diseq/node/chain"
)

const testDelta = 100 * time.Millisecond

// inWait returns validator 2 of four, healthy and settled at height 1 under the synchrony wait,
// with a notarization of round 0 and its block: it waits.
func inWait(t *testing.T) (c *Core, block *chain.Block) {
	t.Helper()
	set := testSet(4, 3)
	set.SynchronyDeltaMS = uint32(testDelta / time.Millisecond)
	c, err := New(testConfig(set, 2), nil)
	if err != nil {
		t.Fatal(err)
	}
	c.Step(Health{OK: true})
	started, err := c.StartHeight(Height{Number: 1, Set: set, Order: order(4)})
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := find[RequestResend](started); !ok {
		t.Fatal("the others are not asked what they said before the start")
	}
	block = &chain.Block{Header: chain.Header{ChainID: "test", Height: 1, Proposer: 0}}
	hears(c, chain.Bundle{Proposals: []*chain.Proposal{propose(block, 0, 0)}})
	checked := BlockChecked{Height: 1, Block: block, Fresh: true, Verdict: Valid}
	if votes := cast(c.Step(checked), chain.Notarize); votes != 0 {
		t.Fatal("a vote before 2*Delta have passed since the start")
	}
	c.Step(TimerFired{timerOf(t, started, SettleTimer)})
	if votes := cast(c.Step(checked), chain.Notarize); votes != 1 {
		t.Fatalf("%d votes to notarize when 2*Delta have passed since the start, want 1", votes)
	}
	actions := hears(c, chain.Bundle{Certificates: []*chain.Certificate{fakeCertificate(chain.Notarize, 1, 0, block.Hash(), 0, 1, 3)}})
	if cast(actions, chain.Finalize) != 0 {
		t.Fatal("a vote to finalize before the wait")
	}
	if set, ok := find[SetTimer](actions); !ok || set.Timer != (Timer{Kind: WaitTimer, Height: 1}) || set.After != 2*testDelta {
		t.Fatalf("timer %+v, want the wait's of 2*Delta", set)
	}
	return c, block
}

func propose(b *chain.Block, round uint32, leader int) *chain.Proposal {
	s := chain.Vote{Kind: chain.Propose, Height: 1, Round: round, Block: b.Hash(), Validator: uint32(leader)}
	fakeSignature(&s)
	return &chain.Proposal{Statement: s, Block: *b}
}

// cast counts the votes of a kind that leave.
func cast(actions []Action, kind chain.Kind) int {
	n := 0
	for _, a := range actions {
		if b, ok := a.(Broadcast); ok {
			for _, v := range b.Bundle.Votes {
				if v.Kind == kind {
					n++
				}
			}
		}
	}
	return n
}

func timerOf(t *testing.T, actions []Action, kind TimerKind) Timer {
	t.Helper()
	for _, a := range actions {
		if set, ok := a.(SetTimer); ok && set.Timer.Kind == kind {
			return set.Timer
		}
	}
	t.Fatalf("no timer of kind %d", kind)
	return Timer{}
}

// A message that speaks against a block while its finalize vote waits stops the vote. Without one
// the vote leaves when the wait is over.
//
// Promise 1.
func TestFinalizeVoteWaitsAndWhatSpeaksAgainstItStopsIt(t *testing.T) {
	other := &chain.Block{Header: chain.Header{ChainID: "test", Height: 1, Proposer: 0, Timestamp: 1}}
	for _, c := range []struct {
		name  string
		event func() []Event
		votes int
	}{
		{"nothing", func() []Event { return nil }, 1},
		{"a second statement", func() []Event {
			return []Event{Received{Bundle: chain.Bundle{Votes: []chain.Vote{propose(other, 0, 0).Statement}}}}
		}, 0},
		{"a second notarization", func() []Event {
			return []Event{Received{Bundle: chain.Bundle{Certificates: []*chain.Certificate{fakeCertificate(chain.Notarize, 1, 0, other.Hash(), 0, 1, 3)}}}}
		}, 0},
		{"a nullification", func() []Event {
			return []Event{Received{Bundle: chain.Bundle{Certificates: []*chain.Certificate{fakeCertificate(chain.Nullify, 1, 0, chain.Hash{}, 0, 1, 3)}}}}
		}, 0},
		{"a pause", func() []Event { return []Event{Health{}, Health{OK: true}} }, 0},
	} {
		core, _ := inWait(t)
		for _, e := range c.event() {
			if cast(core.Step(checked(core, e)), chain.Finalize) != 0 {
				t.Errorf("%s: a vote to finalize before the wait is over", c.name)
			}
		}
		if votes := cast(core.Step(TimerFired{Timer{Kind: WaitTimer, Height: 1}}), chain.Finalize); votes != c.votes {
			t.Errorf("%s: %d votes to finalize when the wait is over, want %d", c.name, votes, c.votes)
		}
	}
}

// A validator that dropped a message of a height, because it was too far behind, asks again at that
// height, and votes for nothing before 2*Delta have passed.
//
// Promise 1.
func TestWhoDroppedMessagesAsksAgainBeforeItVotes(t *testing.T) {
	for _, c := range []struct {
		name    string
		dropped uint64
		asks    bool
	}{{"nothing dropped", 0, false}, {"two heights ahead", 3, true}} {
		core, block := inWait(t)
		if c.dropped != 0 {
			hears(core, chain.Bundle{Certificates: []*chain.Certificate{fakeCertificate(chain.Notarize, c.dropped, 0, chain.Hash{7}, 0, 1, 3)}})
		}
		hears(core, chain.Bundle{Certificates: []*chain.Certificate{fakeCertificate(chain.Finalize, 1, 0, block.Hash(), 0, 1, 3)}})
		last := fakeCertificate(chain.Finalize, 2, 0, chain.Hash{5}, 0, 1, 3)
		started, err := core.StartHeight(Height{Number: 3, Parent: last.Block, Last: last, Set: core.height.Set, Order: order(4)})
		if err != nil {
			t.Fatal(err)
		}
		if _, asks := find[RequestResend](started); asks != c.asks {
			t.Errorf("%s: asks again: %v, want %v", c.name, asks, c.asks)
		}
		if core.settled == c.asks {
			t.Errorf("%s: settled: %v", c.name, core.settled)
		}
	}
}

// Nobody verified the messages that Ahead reports. They count as dropped if a validator sent them,
// and their height begins with the settle time. Those of a stranger do not count: only validators
// can make heights begin with that wait.
//
// Promise 1.
func TestWhatNobodyVerifiedCountsAsDroppedIfAValidatorSaidIt(t *testing.T) {
	stranger := chain.PublicKey{1}
	for _, c := range []struct {
		name     string
		stranger bool
		at       Ahead
		asks     bool
	}{
		{"a validator at height 3", false, Ahead{Lowest: 3, Height: 3}, true},
		{"a validator far above", false, Ahead{Lowest: 1 << 62, Height: 1 << 62}, true},
		{"a stranger at height 3", true, Ahead{Lowest: 3, Height: 3}, false},
	} {
		core, block := inWait(t)
		c.at.From = core.height.Set.Validators[3].PublicKey
		if c.stranger {
			c.at.From = stranger
		}
		if _, hinted := find[CatchUp](core.Step(c.at)); !hinted {
			t.Errorf("%s: no hint to catch up", c.name)
		}
		if !core.settled {
			t.Errorf("%s: a message of a later height ends the vote at this one", c.name)
		}
		hears(core, chain.Bundle{Certificates: []*chain.Certificate{fakeCertificate(chain.Finalize, 1, 0, block.Hash(), 0, 1, 3)}})
		last := fakeCertificate(chain.Finalize, 2, 0, chain.Hash{5}, 0, 1, 3)
		started, err := core.StartHeight(Height{Number: 3, Parent: last.Block, Last: last, Set: core.height.Set, Order: order(4)})
		if err != nil {
			t.Fatal(err)
		}
		if _, asks := find[RequestResend](started); asks != c.asks || core.settled == c.asks {
			t.Errorf("%s: asks again: %v, settled: %v; want %v and %v", c.name, asks, core.settled, c.asks, !c.asks)
		}
	}
}

// A message may be looked at, and left out as too far above, just before its height begins here.
// This node then has missed it, like one that waited too long: it asks again, and the waits under
// way are for nothing. If it asked at the start of the height, that is enough.
//
// Promise 1.
func TestWhoMissedAMessageOfItsHeightAsksAgain(t *testing.T) {
	for _, asked := range []bool{false, true} {
		c, block := inWait(t)
		if !asked {
			c.settleHeight = 0 // it settled below
		}
		hears(c, chain.Bundle{Certificates: []*chain.Certificate{fakeCertificate(chain.Notarize, 1, 0, block.Hash(), 0, 1, 3)}})
		if c.height.peek(0).wait != waiting {
			t.Fatal("no wait is under way: the test is vacuous")
		}
		_, asks := find[RequestResend](c.Step(Ahead{From: c.height.Set.Validators[3].PublicKey, Lowest: 1, Height: 7}))
		if asks == asked || c.settled != asked || (c.height.peek(0).wait == spoiled) == asked {
			t.Errorf("asked at the start: %v; asks again: %v, settled: %v, wait %v", asked, asks, c.settled, c.height.peek(0).wait)
		}
	}
}

// A peer that repeats messages of a height that is no longer held is stuck there. It gets the
// finalization, once in each period.
func TestWhoIsFarBehindIsAnswered(t *testing.T) {
	c := settledCore(t, 2)
	last := fakeCertificate(chain.Finalize, 30, 0, chain.Hash{5}, 0, 1, 3)
	if _, err := c.StartHeight(Height{Number: 31, Parent: last.Block, Last: last, Set: c.height.Set, Order: order(4)}); err != nil {
		t.Fatal(err)
	}
	peer := chain.PublicKey{1}
	for _, want := range []bool{true, false} {
		a, answers := find[AnswerFinalization](c.Step(Behind{From: peer, Height: 7}))
		if answers != want || answers && (a.Height != 7 || a.To != peer) {
			t.Errorf("answered: %v with %+v, want %v", answers, a, want)
		}
	}
	if _, answers := find[AnswerFinalization](c.Step(Behind{From: chain.PublicKey{2}, Height: 31})); answers {
		t.Error("answered about a height that is being decided")
	}
}

// Two blocks were stated in a round that others led us past; what one of them was is not forgotten
// when the other turns out to be notarized there, and it is taken in and relayed when it comes
// late.
func TestWhatSpeaksAgainstABlockIsRememberedInRoundsLongPast(t *testing.T) {
	for _, late := range []bool{false, true} {
		c, block := inWait(t)
		notarized := func(r uint32) Received {
			return Received{Bundle: chain.Bundle{Certificates: []*chain.Certificate{fakeCertificate(chain.Notarize, 1, r, block.Hash(), 0, 1, 3)}}}
		}
		c.Step(checked(c, notarized(20)))
		another := *block
		another.Header.Timestamp = 7
		stated := chain.Bundle{Votes: []chain.Vote{propose(&another, 21, 1).Statement}}
		if late {
			vote := chain.Vote{Kind: chain.Nullify, Height: 1, Round: 21, Validator: 3}
			fakeSignature(&vote)
			hears(c, chain.Bundle{Votes: []chain.Vote{vote}})
		} else {
			hears(c, stated)
		}
		c.Step(checked(c, notarized(30)))
		if !c.height.peek(21).pruned {
			t.Fatal("the round is not long past: the test is vacuous")
		}
		if late {
			if relayed := cast(hears(c, stated), chain.Propose); relayed != 1 {
				t.Errorf("%d late statements are relayed, want 1", relayed)
			}
		}
		if wait, ok := find[SetTimer](c.Step(checked(c, notarized(21)))); ok {
			t.Errorf("late %v: timer %+v: a vote to finalize is waited for", late, wait)
		}
	}
}
