package consensus

import (
	"testing"
	"time"

	"github.com/diseq/diseq/node/chain"
)

// settledCore returns a validator of four that is healthy and settled at height 1 under the
// synchrony wait.
func settledCore(t *testing.T, self int) *Core {
	t.Helper()
	set := testSet(4, 3)
	set.SynchronyDeltaMS = uint32(testDelta / time.Millisecond)
	c, err := New(testConfig(set, self), nil)
	if err != nil {
		t.Fatal(err)
	}
	c.Step(Health{OK: true})
	started, err := c.StartHeight(Height{Number: 1, Set: set, Order: order(4)})
	if err != nil {
		t.Fatal(err)
	}
	c.Step(TimerFired{timerOf(t, started, SettleTimer)})
	return c
}

// sent are the bundles that leave.
func sent(actions []Action) (out []Event) {
	for _, a := range actions {
		if b, ok := a.(Broadcast); ok {
			out = append(out, Received{Bundle: b.Bundle})
		}
	}
	return out
}

// A Statement that came rounds ahead was relayed when it came, to validators that may have been a
// round behind and had no place for it. So it leaves again with the vote: whoever waits for another
// block of the round hears of it in time.
//
// Promise 1.
func TestVoteLeavesWithItsStatement(t *testing.T) {
	// led by validator 1; the horizon of who is in round 1, and beyond that of who is in round 0
	const far = 1 + 2*4
	voter, waiter := settledCore(t, 2), settledCore(t, 3)
	block := func(stamp uint64) *chain.Block {
		return &chain.Block{Header: chain.Header{ChainID: "test", Height: 1, Proposer: 1, Timestamp: stamp}}
	}
	shown, waitedFor := block(1), block(2)
	pass := func(c *Core, round uint32) {
		hears(c, chain.Bundle{Certificates: []*chain.Certificate{fakeCertificate(chain.Nullify, 1, round, chain.Hash{}, others(c.height.self)...)}})
	}
	check := func(b *chain.Block) Event {
		return BlockChecked{Height: 1, Round: far, Block: b, Fresh: true, Verdict: Valid}
	}

	pass(voter, 0)
	relayed := sent(hears(voter, chain.Bundle{Votes: []chain.Vote{propose(shown, far, 1).Statement}}))
	if len(relayed) != 1 {
		t.Fatalf("%d bundles relay the statement, want 1", len(relayed))
	}
	waiter.Step(checked(waiter, relayed[0]))
	for round := range uint32(far) {
		pass(voter, round)
		pass(waiter, round)
	}
	hears(waiter, chain.Bundle{Proposals: []*chain.Proposal{propose(waitedFor, far, 1)}})
	if cast(waiter.Step(check(waitedFor)), chain.Notarize) != 1 {
		t.Fatal("no vote for the block shown to the one")
	}
	hears(waiter, chain.Bundle{Certificates: []*chain.Certificate{fakeCertificate(chain.Notarize, 1, far, waitedFor.Hash(), 0, 1, 3)}})
	if waiter.height.peek(far).wait != waiting {
		t.Fatal("no wait begins")
	}
	hears(voter, chain.Bundle{Proposals: []*chain.Proposal{propose(shown, far, 1)}})
	voted := voter.Step(check(shown))
	if cast(voted, chain.Notarize) != 1 {
		t.Fatal("no vote for the block shown to the other")
	}
	for _, e := range sent(voted) {
		waiter.Step(checked(waiter, e))
	}
	if cast(waiter.Step(TimerFired{Timer{Kind: WaitTimer, Height: 1, Round: far}}), chain.Finalize) != 0 {
		t.Error("a vote to finalize, although a correct validator voted for another block of the round and said so")
	}
}

// A Statement of the next height that there is no place for counts as dropped: who starts that
// height asks again.
//
// Promise 1.
func TestStatementTooFarAheadOfTheNextHeightCountsAsDropped(t *testing.T) {
	for _, c := range []struct {
		name    string
		kind    chain.Kind
		round   uint32
		dropped uint64
	}{
		{"a statement in time", chain.Propose, 2 * 4, 0},
		{"a statement too far ahead", chain.Propose, 2*4 + 1, 2},
		{"a vote too far ahead: nothing rests on it", chain.Notarize, 2*4 + 1, 0},
	} {
		core := settledCore(t, 2)
		v := chain.Vote{Kind: c.kind, Height: 2, Round: c.round, Block: chain.Hash{1}, Validator: c.round % 4}
		fakeSignature(&v)
		hears(core, chain.Bundle{Votes: []chain.Vote{v}})
		if core.dropped.highest != c.dropped {
			t.Errorf("%s: dropped up to height %d, want %d", c.name, core.dropped.highest, c.dropped)
		}
	}
}
