package voter

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/consensus"
	"github.com/diseq/diseq/node/ledger/ledgertest"
	"github.com/diseq/diseq/node/vrf"
)

// checkOf returns the outcome of checking a block as a fresh proposal of the round that its
// proposer leads.
func (r *room) checkOf(t *testing.T, b *chain.Block) error {
	t.Helper()
	order, err := r.cfg.Ledger.Leaders(1)
	if err != nil {
		t.Fatal(err)
	}
	round := uint32(slices.Index(order, 0))
	c := &check{holders: make(chan []chain.PublicKey, 1)}
	c.holders <- nil
	return r.checkBlock(t.Context(), c, &consensus.CheckBlock{Height: 1, Round: round, Block: b, Fresh: true})
}

// Promise 33.
func TestABlockThatBreaksARuleIsInvalid(t *testing.T) {
	r := newRoom(t, 2, 2, 0)
	build := func() chain.Block {
		b, err := r.newBlock(t.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		return *b
	}
	for _, c := range []struct {
		name, want string
		alter      func(*chain.Block)
	}{
		{"another protocol version", "protocol version 1", func(b *chain.Block) { b.Header.ProtocolVersion = 1 }},
		{"another chain", `chain "other"`, func(b *chain.Block) { b.Header.ChainID = "other" }},
		{"another parent", "parent", func(b *chain.Block) { b.Header.ParentHash[0]++ }},
		{"the parent's time", "is not later", func(b *chain.Block) { b.Header.Timestamp = r.genesis.TimeMS }},
		{"a state of its own height", "state height 1", func(b *chain.Block) { b.Header.StateHeight = 1 }},
		{"another state root", "state root", func(b *chain.Block) { b.Header.StateRoot[0]++ }},
		{"another beacon", "beacon", func(b *chain.Block) { b.Header.Beacon[0]++ }},
		{"another validator set", "validator set", func(b *chain.Block) { b.Header.ValidatorsHash[0]++ }},
		{"another next validator set", "next validator set", func(b *chain.Block) { b.Header.NextValidatorsHash[0]++ }},
		{"a commitment of another epoch", "carries the commitment of epoch 5", func(b *chain.Block) {
			b.Commitment = &chain.Commitment{Epoch: 5, Proof: []byte("x")}
			b.Header.CommitmentHash = b.Commitment.Hash()
		}},
		{"a commitment of another validator", "its committing validator is 0", func(b *chain.Block) {
			b.Commitment = &chain.Commitment{Epoch: 0, Validator: 1, Proof: []byte("x")}
			b.Header.CommitmentHash = b.Commitment.Hash()
		}},
		{"a commitment with a wrong proof", "commitment of epoch 0", func(b *chain.Block) {
			b.Commitment = &chain.Commitment{Epoch: 0, Validator: 0, Proof: make([]byte, 664)}
			b.Header.CommitmentHash = b.Commitment.Hash()
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := build()
			c.alter(&b)
			b.Sign(r.keys[0])
			err := r.checkOf(t, &b)
			if _, ok := errors.AsType[*invalidError](err); !ok || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want an invalidError with %q", err, c.want)
			}
		})
	}
	b := build()
	b.Header.Timestamp += 7 // not the one that is held already
	b.Sign(r.keys[0])
	if err := r.checkOf(t, &b); err != nil {
		t.Errorf("a block that breaks no rule: %v", err)
	}
	b.Signature[0]++
	if err := r.checkOf(t, &b); err == nil {
		t.Error("a block with a forged signature is valid")
	}
}

// The header binds the messages and not the list of batches. A liar that attaches another list, or
// another signature, must not make anybody call the block of the header invalid.
//
// Promise 33.
func TestABodyThatDoesNotFitItsHeaderSaysNothingAboutTheBlock(t *testing.T) {
	r := newRoom(t, 2, 2, 0)
	honest, err := r.newBlock(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	honest.Header.Timestamp += 7 // not the one that the room holds as its own
	honest.Sign(r.keys[0])
	forged := func(alter func(*chain.Block)) *chain.Block {
		b := *honest
		alter(&b)
		return &b
	}
	for _, c := range []struct {
		name, want string
		block      *chain.Block
	}{
		{"messages that it does not have", "has 0 messages, its header says 1", forged(func(b *chain.Block) {
			b.Header.MessagesCount = 1
			b.Sign(r.keys[0])
		})},
		{"another messages root", "messages root", forged(func(b *chain.Block) {
			b.Header.MessagesRoot[0]++
			b.Sign(r.keys[0])
		})},
		{"more batches than a body may name", "batches, at most", forged(func(b *chain.Block) {
			b.Body = make([]chain.BatchRef, chain.MaxBodyRefs+1)
		})},
		{"another signature", "signature", forged(func(b *chain.Block) { b.Signature[0]++ })},
		{"another proposer's signature", "signature", forged(func(b *chain.Block) { b.Header.Proposer = 1 - b.Header.Proposer })},
	} {
		err := r.checkOf(t, c.block)
		if _, ok := errors.AsType[*misfitError](err); !ok || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want a misfitError with %q", c.name, err, c.want)
		}
	}

	// The same header is checked again with its own body, by the check of the same name.
	r.deciding, r.checks = t.Context(), map[checkKey]*check{}
	verdict := func(b *chain.Block) consensus.Verdict {
		r.Voter.check(consensus.CheckBlock{Height: 1, Block: b})
		return r.nextEvent().event.(consensus.BlockChecked).Verdict
	}
	wrong := forged(func(b *chain.Block) { b.Body = make([]chain.BatchRef, chain.MaxBodyRefs+1) })
	if got := verdict(wrong); got != consensus.Misfit {
		t.Errorf("a body that does not fit: verdict %v", got)
	}
	if got := verdict(honest); got != consensus.Valid {
		t.Errorf("the block with its own body: verdict %v", got)
	}
	// Once it is valid here, its header is answered with the block that was found valid.
	r.Voter.check(consensus.CheckBlock{Height: 1, Round: 1, Block: wrong})
	if got := r.nextEvent().event.(consensus.BlockChecked); got.Verdict != consensus.Valid || got.Block != honest {
		t.Errorf("the header of a valid block with another body: %+v", got)
	}

	// A body that names batches which nobody has is never answered: another body replaces it.
	other := *honest
	other.Header.Timestamp++
	other.Sign(r.keys[0])
	unknown := other
	unknown.Body = []chain.BatchRef{{Author: r.genesis.Validators[1].PublicKey, Hash: chain.Hash{1}}}
	r.Voter.check(consensus.CheckBlock{Height: 1, Block: &unknown})
	if got := verdict(&other); got != consensus.Valid {
		t.Errorf("the block with its own body, after one that names unknown batches: verdict %v", got)
	}
}

// A check that runs while its height becomes final sees a part of what that changes, and once
// called the final block invalid: the node then stopped over the contradiction.
func TestACheckOfAHeightThatIsOverSaysNothing(t *testing.T) {
	r := newRoom(t, 2, 2, 0)
	b, err := r.newBlock(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	b.Header.Beacon[0]++
	b.Sign(r.keys[0])
	for _, over := range []bool{false, true} {
		ctx, cancel := context.WithCancel(t.Context())
		if over {
			cancel()
		}
		r.runCheck(ctx, &check{holders: make(chan []chain.PublicKey, 1)}, consensus.CheckBlock{Height: 1, Block: b})
		cancel()
		if e, ok := r.events.take(); ok {
			if over || e.event.(consensus.BlockChecked).Verdict != consensus.Invalid {
				t.Errorf("over: %v, answered %+v", over, e)
			}
		} else if !over {
			t.Error("no answer about an invalid block")
		}
	}
}

// Promise 34.
func TestAClockThatIsOffWithholdsVotesOnly(t *testing.T) {
	r := newRoom(t, 2, 2, 0)
	genesis := time.UnixMilli(int64(r.genesis.TimeMS))
	for _, c := range []struct {
		name    string
		clock   time.Duration // of this node, after genesis
		block   time.Duration // time of the block, after genesis
		reason  string
		liftsIn time.Duration
	}{
		{"in time", time.Second, time.Second, "", 0},
		{"a little ahead", time.Second, 2900 * time.Millisecond, "", 0},
		{"far ahead", time.Second, 10 * time.Second, ReasonClock, 7 * time.Second},
		{"our clock set back by an hour, an honest block", -time.Hour, time.Millisecond, "", 0},
		{"our clock set back by an hour, one that runs ahead", -time.Hour, time.Second, ReasonClock, time.Hour + time.Second - maxClockDrift},
		{"late", time.Hour, time.Second, "", 0},
	} {
		r.now = func() time.Time { return genesis.Add(c.clock) }
		b := chain.Block{Header: chain.Header{Height: 1, Timestamp: uint64(genesis.Add(c.block).UnixMilli())}}
		reason, lift := r.withhold(consensus.CheckBlock{Height: 1, Block: &b, Fresh: true})
		if reason != c.reason || lift != c.liftsIn {
			t.Errorf("%s: withheld for %q, lifted in %v; want %q, %v", c.name, reason, lift, c.reason, c.liftsIn)
		}
	}
}

// TestALeaderThatLeavesOutACommitmentItHasIsNotVotedFor holds that only an acknowledgement of some
// age speaks against it.
func TestALeaderThatLeavesOutACommitmentItHasIsNotVotedFor(t *testing.T) {
	r := newRoom(t, 2, 2, 0)
	x, _ := r.cfg.Ledger.Beacon().Input(0)
	output, proof, err := vrf.Prove(r.secrets[0], x)
	if err != nil {
		t.Fatal(err)
	}
	commitment := &chain.Commitment{Output: chain.VRFOutput(output), Proof: proof}
	if held, err := r.cfg.Ledger.Beacon().Offer(commitment); err != nil || !held {
		t.Fatalf("our own commitment is held: %v, %v", held, err)
	}
	leader := r.genesis.Validators[1].PublicKey
	for _, c := range []struct {
		name    string
		acked   time.Duration // ago; 0: never
		carries *chain.Commitment
		reason  string
	}{
		{"it was never told", 0, nil, ""},
		{"it was told a moment ago", commitmentGrace / 2, nil, ""},
		{"it was told", 2 * commitmentGrace, nil, ReasonCommitment},
		{"it was told, and carries it", 2 * commitmentGrace, commitment, ""},
	} {
		clear(r.acknowledged)
		if c.acked > 0 {
			r.acknowledged[leader] = c.acked
		}
		b := chain.Block{Header: chain.Header{Height: 1, Timestamp: r.genesis.TimeMS + 1, Proposer: 1}, Commitment: c.carries}
		if reason, _ := r.withhold(consensus.CheckBlock{Height: 1, Block: &b, Fresh: true}); reason != c.reason {
			t.Errorf("%s: withheld for %q, want %q", c.name, reason, c.reason)
		}
	}
	b, err := r.newBlock(t.Context(), 1)
	if err != nil || b.Commitment == nil {
		t.Errorf("a block of ours carries %v, %v; want the commitment held", b.Commitment, err)
	}
}

// Promise 35.
func TestABlockIsLaterThanItsParentWhateverTheClockSays(t *testing.T) {
	r := newRoom(t, 2, 2, 0)
	r.now = func() time.Time { return time.UnixMilli(int64(r.genesis.TimeMS)).Add(-time.Hour) }
	b, err := r.newBlock(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if want := r.genesis.TimeMS + 1; b.Header.Timestamp != want {
		t.Errorf("timestamp %d, want %d", b.Header.Timestamp, want)
	}
}

// A clock that is off, before 1970 or far in the future, makes no block that nobody can read.
func TestABlocksTimestampIsANumberThatEveryoneReads(t *testing.T) {
	r := newRoom(t, 2, 2, 0)
	r.now = func() time.Time { return time.UnixMilli(-1) }
	b, err := r.newBlock(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if want := r.genesis.TimeMS + 1; b.Header.Timestamp != want {
		t.Errorf("timestamp %d, want %d", b.Header.Timestamp, want)
	}
	r.now = func() time.Time { return time.UnixMilli(chain.MaxNumber + 1) }
	if b, err := r.newBlock(t.Context(), 1); err == nil {
		t.Errorf("a block with timestamp %d", b.Header.Timestamp)
	}
}

// A node whose trie is behind the state that its parent certifies once built blocks with that
// height and its own, older root: all others refused them.
//
// Promise 36.
func TestALeaderBehindTheCertifiedStateRepeatsIt(t *testing.T) {
	r := newRoom(t, 2, 2, 0)
	for h := uint64(1); h <= 5; h++ {
		ahead := *r.cfg.Ledger.Tip().Block
		ahead.Header.Height = h
		if h == 5 {
			ahead.Header.StateHeight, ahead.Header.StateRoot = 4, chain.Hash{42}
		}
		ledgertest.Append(t, r.cfg.Ledger, &ahead)
		if err := r.cfg.Pool.Committed(h, time.Now(), nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	b, err := r.newBlock(t.Context(), 6)
	if err != nil {
		t.Fatal(err)
	}
	if b.Header.StateHeight != 4 || b.Header.StateRoot != (chain.Hash{42}) {
		t.Errorf("state %d %v, want the parent's", b.Header.StateHeight, b.Header.StateRoot)
	}
}
