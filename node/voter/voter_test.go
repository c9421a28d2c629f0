package voter

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/consensus"
)

// start runs the voter until the test ends, in a bubble of virtual time. It returns a channel with
// the error of Run.
func (r *room) start(t *testing.T, votes Votes, from uint64) <-chan error {
	t.Helper()
	if err := r.Start(votes, from); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		ended <- r.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-stopped
	})
	return ended
}

// submit puts a message into the pool.
func (r *room) submit(t *testing.T, data string) {
	t.Helper()
	if _, err := r.cfg.Pool.Submit(t.Context(), []chain.Message{{Data: []byte(data)}}); err != nil {
		t.Fatal(err)
	}
}

// A vote that left and is not on disk would be forgotten by a crash, and the validator could
// contradict it.
//
// Promise 12.
func TestAVoteIsOnDiskBeforeItLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(t, 1, 1, 0)
		r.start(t, r.votes, 0)
		r.submit(t, "one")
		if err := r.cfg.Ledger.Wait(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		entries := r.journal.all()
		sent := 0
		for i, entry := range entries {
			if vote, ok := strings.CutPrefix(entry, "send "); ok {
				sent++
				if !slices.Contains(entries[:i], "write "+vote) {
					t.Errorf("%q left before it was written: %q", vote, entries)
				}
			}
		}
		if sent < 3 {
			t.Errorf("%d votes left, want a proposal and two votes at least: %q", sent, entries)
		}
		if r.votes.pruned < 1 {
			t.Errorf("records are pruned up to height %d, want 1: the block is final", r.votes.pruned)
		}
	})
}

// A vote store that cannot be written stops the voter, and the vote does not leave.
func TestAVoteThatCannotBeWrittenEndsTheVoter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(t, 1, 1, 0)
		r.votes.err = errors.New("broken disk")
		ended := r.start(t, r.votes, 0)
		r.submit(t, "one")
		if err := <-ended; !errors.Is(err, r.votes.err) {
			t.Errorf("the voter ends with %v, want %v", err, r.votes.err)
		}
		if entries := r.journal.all(); len(entries) > 0 {
			t.Errorf("%q left although nothing could be written", entries)
		}
	})
}

// A validator without a vote store does not vote until it has one again, and then not below the
// height that it may vote from.
//
// Promise 16.
func TestAValidatorWithoutAVoteStoreVotesFromTheHeightOfItsNewOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(t, 1, 1, 0)
		r.start(t, nil, Never)
		r.submit(t, "one")
		synctest.Wait()
		if r.VotesFrom() != Never || len(r.journal.all()) > 0 {
			t.Errorf("it may vote from height %d and sent %q, want nothing sent", r.VotesFrom(), r.journal.all())
		}
		r.VoteAgain(t.Context(), r.votes, 1)
		if err := r.cfg.Ledger.Wait(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		if r.VotesFrom() != 1 {
			t.Errorf("it may vote from height %d, want 1", r.VotesFrom())
		}
	})
}

// A contradiction that catching up found ends the voter.
//
// Promise 8.
func TestAContradictionEndsTheVoter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(t, 1, 1, 0)
		ended := r.start(t, r.votes, 0)
		fork := errors.New("two final blocks")
		r.failures <- fork
		if err := <-ended; !errors.Is(err, fork) {
			t.Errorf("the voter ends with %v, want %v", err, fork)
		}
	})
}

// A validator that lacks a batch of a final block asks its signers for the block. They have none of
// the batches any more. If they gave the block all the same, it would not catch up, and would wait
// for ever when the height above needs its vote.
//
// Promise 5.
func TestAFinalBlockIsNotGivenAsAProposal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(t, 1, 1, 0)
		r.start(t, r.votes, 0)
		r.submit(t, "a message")
		if err := r.cfg.Ledger.Wait(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		tip := r.cfg.Ledger.Tip()
		if b := r.Block(tip.Hash); b != nil {
			t.Errorf("block %v at height %d is final, and is given to peers as one that is being decided", tip.Hash, b.Header.Height)
		}
	})
}

// A block that was found valid becomes final after more rounds than the blocks of which are kept:
// the pool still has its batches, and the node goes on.
//
// Promise 5.
func TestABlockOfARoundLongPastBecomesFinal(t *testing.T) {
	r := newRoom(t, 1, 1, 0)
	r.submit(t, "one")
	if err := r.Start(r.votes, 0); err != nil {
		t.Fatal(err)
	}
	b, err := r.newBlock(t.Context(), 1)
	if err != nil || b.Header.MessagesCount != 1 {
		t.Fatalf("%+v, %v", b, err)
	}
	for i := range maxPrepared {
		other := *b
		other.Header.Timestamp += uint64(i + 1)
		r.prepared.put(&preparedBlock{block: &other})
	}
	if r.Block(b.Hash()) != nil {
		t.Fatal("all blocks of the height are kept")
	}
	final := &chain.Certificate{Kind: chain.Finalize, Height: 1, Block: b.Hash()}
	wrong := *b
	wrong.Body = nil
	if err := r.commit(consensus.Commit{Block: &wrong, Finalization: final}); err == nil {
		t.Error("committed with messages that are not the block's")
	}
	if err := r.commit(consensus.Commit{Block: b, Finalization: final}); err != nil {
		t.Fatal(err)
	}
	if tip := r.cfg.Ledger.Tip(); tip.Height() != 1 || string(tip.Block.Messages[0].Data) != "one" {
		t.Errorf("at height %d with %d messages", tip.Height(), len(tip.Block.Messages))
	}
}
