package consensus

import (
	"testing"

	"github.com/diseq/diseq/node/chain"
)

// The set may change from one height to the next: indices are those of the height, what was learned
// of a validator follows its key, and what came early, checked against the old set, is let go.
func TestSetChangesBetweenHeights(t *testing.T) {
	old := testSet(4, 3)
	c, err := New(testConfig(old, 1), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.StartHeight(Height{Number: 1, Set: old, Order: order(4)}); err != nil {
		t.Fatal(err)
	}
	c.height.presence[3].missed = 7
	c.height.presence[0].missed = 5
	early := chain.Vote{Kind: chain.Nullify, Height: 2, Validator: 2}
	fakeSignature(&early)
	hears(c, chain.Bundle{Votes: []chain.Vote{early}})
	final := fakeCertificate(chain.Finalize, 1, 0, chain.Hash{1}, 1, 2, 3)

	// Validator 0 leaves: each of the others moves down by one. A new one comes.
	set := &chain.ValidatorSet{Threshold: 3, Validators: append([]chain.Validator(nil), testSet(5, 3).Validators[1:]...)}
	actions, err := c.StartHeight(Height{Number: 2, Set: set, Order: order(4), Parent: final.Block, Last: final})
	if err != nil {
		t.Fatal(err)
	}
	if c.height.self != 0 {
		t.Errorf("own index %d, want 0", c.height.self)
	}
	if p := c.height.presence; p[2].missed != 7 || p[3].missed != 0 || p[0].missed != 0 {
		t.Errorf("presence %+v, want that of old validator 3 at 2 and nothing else", p)
	}
	if c.height.awake || len(c.height.rounds) != 0 {
		t.Errorf("a vote checked against the old set is taken in: %+v", actions)
	}
	// It is heard of under its new index.
	vote := chain.Vote{Kind: chain.Nullify, Height: 2, Validator: 2}
	fakeSignature(&vote)
	hears(c, chain.Bundle{Votes: []chain.Vote{vote}})
	if p := c.height.presence[2]; p.missed != 0 || p.heard == 0 {
		t.Errorf("presence %+v after a vote", p)
	}
}

// Without a change the same vote, early, is taken in.
func TestEarlyVoteOfTheSameSetIsTakenIn(t *testing.T) {
	set := testSet(4, 3)
	c, err := New(testConfig(set, 1), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.StartHeight(Height{Number: 1, Set: set, Order: order(4)}); err != nil {
		t.Fatal(err)
	}
	early := chain.Vote{Kind: chain.Nullify, Height: 2, Validator: 2}
	hears(c, chain.Bundle{Votes: []chain.Vote{early}})
	final := fakeCertificate(chain.Finalize, 1, 0, chain.Hash{1}, 1, 2, 3)
	if _, err := c.StartHeight(Height{Number: 2, Set: testSet(4, 3), Order: order(4), Parent: final.Block, Last: final}); err != nil {
		t.Fatal(err)
	}
	if !c.height.awake || c.height.peek(0).votes[chain.Nullify] == nil {
		t.Error("an early vote is lost")
	}
}
