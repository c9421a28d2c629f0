package consensus

import (
	"math"
	"testing"

	"github.com/diseq/diseq/node/chain"
)

// A validator that lost its vote store counts the answers of t others of the era in which it asks,
// about heights that it has seen, and its own height. It votes in that era or asks again.
//
// Promise 16.
func TestALostVoteStoreIsJudgedByTheAnswersOfOneEra(t *testing.T) {
	set := func(threshold uint32, members ...byte) *chain.ValidatorSet {
		s := &chain.ValidatorSet{Threshold: threshold}
		for _, m := range members {
			s.Validators = append(s.Validators, chain.Validator{PublicKey: chain.PublicKey{m}})
		}
		return s
	}
	old, next := set(3, 1, 2, 3, 4), set(3, 1, 5, 6, 7)
	// Heights up to 20 belong to the old set.
	at := func(height uint64) *chain.ValidatorSet {
		if height <= 20 {
			return old
		}
		return next
	}
	for _, c := range []struct {
		name    string
		set     *chain.ValidatorSet
		height  uint64
		answers map[byte]uint64
		tip     uint64
		first   uint64
		step    RejoinStep
	}{
		{"nobody has answered", old, 5, nil, 5, 0, RejoinWaits},
		{"one answer short", old, 5, map[byte]uint64{2: 9, 3: 9}, 15, 0, RejoinWaits},
		{"its own answer does not count", old, 5, map[byte]uint64{1: 9, 2: 9, 3: 9}, 15, 0, RejoinWaits},
		{"nor that of a stranger", old, 5, map[byte]uint64{2: 9, 3: 9, 7: 9}, 15, 0, RejoinWaits},
		{"nor a height that nobody showed", old, 5, map[byte]uint64{2: 9, 3: 9, 4: math.MaxUint64}, 15, 0, RejoinWaits},
		{"the chain is not there", old, 5, map[byte]uint64{2: 7, 3: 9, 4: 8}, 10, 12, RejoinWaits},
		{"the chain is there", old, 5, map[byte]uint64{2: 7, 3: 9, 4: 8}, 11, 12, RejoinVotes},
		{"an answer that is not shown does not raise it", old, 5, map[byte]uint64{2: 7, 3: 9, 4: 8, 5: 50}, 11, 12, RejoinVotes},
		{"its own height is above the answers", old, 12, map[byte]uint64{2: 7, 3: 9, 4: 8}, 14, 15, RejoinVotes},
		{"the last height of the era", old, 17, map[byte]uint64{2: 16, 3: 16, 4: 16}, 19, 20, RejoinVotes},
		{"it came to its height, and the era ended since", old, 17, map[byte]uint64{2: 16, 3: 16, 4: 16}, 30, 20, RejoinVotes},
		{"the era ends below its height", old, 18, map[byte]uint64{2: 16, 3: 16, 4: 16}, 20, 21, RejoinAsksAgain},
		{"the era ends before the answers", old, 18, map[byte]uint64{2: 16}, 20, 0, RejoinAsksAgain},
		{"the era may still end", old, 18, map[byte]uint64{2: 16, 3: 16, 4: 16}, 19, 21, RejoinWaits},
		{"the next era asks its own members", next, 20, map[byte]uint64{2: 16, 3: 16, 4: 16}, 22, 0, RejoinWaits},
		{"who are behind", next, 20, map[byte]uint64{5: 0, 6: 0, 7: 20}, 22, 23, RejoinVotes},
	} {
		r := Rejoining{Self: chain.PublicKey{1}, Height: c.height, Set: c.set, Answers: map[chain.PublicKey]uint64{}}
		for m, h := range c.answers {
			r.Answers[chain.PublicKey{m}] = h
		}
		if first, ok := r.VotesFrom(c.tip); first != c.first || ok != (c.first > 0) {
			t.Errorf("%s: votes from %d (%v), want %d", c.name, first, ok, c.first)
		}
		if step := r.Step(c.tip, at); step != c.step {
			t.Errorf("%s: step %d, want %d", c.name, step, c.step)
		}
	}
}
