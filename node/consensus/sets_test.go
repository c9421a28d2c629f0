package consensus

import (
	"slices"
	"testing"

	"github.com/diseq/diseq/node/chain"
)

// The set may change from one height to the next: indices are those of the height, presence follows
// the key and starts anew for a newcomer, and early messages, checked against the old set, are
// dropped.
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
	set := successor(old, 3, testSet(5, 3).Validators[1:]...)
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

// successor is a set that follows another.
func successor(of *chain.ValidatorSet, threshold uint32, members ...chain.Validator) *chain.ValidatorSet {
	return &chain.ValidatorSet{
		Generation: of.Generation + 1, Threshold: threshold, SynchronyDeltaMS: of.SynchronyDeltaMS, Validators: slices.Clone(members),
	}
}

// A message counts if it was checked against the set of its own height. Of a closed height that is
// so, too, if the caller's open height is the Core's. Above the open height only what was checked
// against the open set is kept.
//
// Promise 72.
func TestAMessageIsJudgedByTheSetOfItsHeight(t *testing.T) {
	older := testSet(4, 3)
	below, open := successor(older, 3, older.Validators...), testSet(4, 3)
	open.Generation = 2
	above := successor(open, 3, open.Validators...)
	for _, c := range []struct {
		height uint64
		counts map[*chain.ValidatorSet]bool
	}{
		{1, map[*chain.ValidatorSet]bool{older: true, open: true}},
		{2, map[*chain.ValidatorSet]bool{below: true, open: true}},
		{3, map[*chain.ValidatorSet]bool{open: true}},
		{4, map[*chain.ValidatorSet]bool{open: true}},
	} {
		for _, set := range []*chain.ValidatorSet{nil, older, below, open, above} {
			core, err := New(testConfig(older, 0), nil)
			if err != nil {
				t.Fatal(err)
			}
			var last *chain.Certificate
			for i, s := range []*chain.ValidatorSet{older, below, open} {
				h := Height{Number: uint64(i + 1), Set: s, Order: order(4), Last: last}
				if last != nil {
					h.Parent = last.Block
				}
				if _, err := core.StartHeight(h); err != nil {
					t.Fatal(err)
				}
				if i == 2 {
					break
				}
				b := &chain.Block{Header: chain.Header{ChainID: "test", Height: h.Number, ParentHash: h.Parent, Proposer: 0}}
				last = fakeCertificate(chain.Finalize, h.Number, 0, b.Hash(), 1, 2, 3)
				hears(core, chain.Bundle{Certificates: []*chain.Certificate{last}})
				core.Step(BlockFetched{b})
				if _, ok := find[Commit](core.Step(BlockChecked{Height: h.Number, Block: b, Verdict: Valid})); !ok {
					t.Fatalf("height %d is not final: the test is vacuous", h.Number)
				}
			}
			v := chain.Vote{Kind: chain.Nullify, Height: c.height, Validator: 1}
			fakeSignature(&v)
			e := Received{From: older.Validators[1].PublicKey, Bundle: chain.Bundle{Votes: []chain.Vote{v}}}
			if set != nil {
				e.Set = set.Hash()
			}
			core.Step(e)
			counted := len(core.early.bundle.Votes) > 0
			for _, h := range append(slices.Clone(core.recent), core.height) {
				counted = counted || h.Number == c.height && h.peek(0).votes[chain.Nullify] != nil && h.peek(0).votes[chain.Nullify][1].Kind != 0
			}
			if counted != c.counts[set] {
				t.Errorf("a vote of height %d, checked against set %+v, counts: %v, want %v", c.height, set, counted, c.counts[set])
			}
		}
	}
}

// A node votes at the heights whose set has it, by its place in that set, and nowhere else. That
// holds also for a node with a vote store, before it enters and after it left. It needs no restart.
//
// Promise 70.
func TestANodeVotesWhereTheSetHasIt(t *testing.T) {
	people := testSet(6, 6).Validators
	first := testSet(4, 3)
	second := successor(first, 3, people[5], people[1], people[4], people[2])
	third := successor(second, 2, people[4], people[1], people[2])
	fourth := successor(third, 2, people[1], people[2], people[3])
	var signed []chain.Vote
	cfg := testConfig(first, 0)
	cfg.PublicKey = people[4].PublicKey
	cfg.Sign = func(v *chain.Vote) {
		fakeSignature(v)
		signed = append(signed, *v)
	}
	core, err := New(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, at := range []struct {
		set   *chain.ValidatorSet
		place int
	}{{first, -1}, {second, 2}, {third, 0}, {fourth, -1}} {
		signed = nil
		h := Height{Number: uint64(i + 1), Set: at.set, Order: order(len(at.set.Validators))}
		if i > 0 {
			h.Last = fakeCertificate(chain.Finalize, uint64(i), 0, chain.Hash{byte(i)}, 1, 2, 3)
			h.Parent = h.Last.Block
		}
		if _, err := core.StartHeight(h); err != nil {
			t.Fatal(err)
		}
		core.Step(Pool{Pending: true})
		actions := core.Step(TimerFired{Timer{Kind: RoundTimer, Height: h.Number}})
		persist, persists := find[Persist](actions)
		if at.place < 0 {
			if len(signed) != 0 || persists {
				t.Errorf("height %d: it is not in the set, and signs %+v, persists %+v", h.Number, signed, persist)
			}
			continue
		}
		if len(signed) != 1 || int(signed[0].Validator) != at.place || !persists {
			t.Errorf("height %d: signed %+v, persisted %v, want one vote of validator %d", h.Number, signed, persists, at.place)
		}
		again, err := New(cfg, persist.Records)
		if err == nil {
			_, err = again.StartHeight(h)
		}
		if err != nil {
			t.Errorf("height %d: a restart: %v", h.Number, err)
		}
		h.Set, h.Order = fourth, order(3)
		if again, err = New(cfg, persist.Records); err == nil {
			_, err = again.StartHeight(h)
		}
		if err == nil {
			t.Errorf("height %d: the vote is restored under a set that does not have this node", h.Number)
		}
	}
}
