package voter

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/consensus"
	"github.com/diseq/diseq/node/internal/wait"
	"github.com/diseq/diseq/node/ledger"
)

const (
	// maxClockDrift is how far ahead of this node's clock a block's time may be before the vote is
	// withheld.
	maxClockDrift = 2 * time.Second
	// commitmentGrace is for how long a leader must have had a commitment before a block without it
	// costs the leader this node's vote.
	commitmentGrace = time.Second
)

// The reasons for which votes are withheld, as metrics and logs name them.
const (
	ReasonClock      = "clock"
	ReasonCommitment = "missing commitment"
	ReasonLinks      = "links to the next validator set"
)

// linkInterval is how often a voter looks whether it is linked to the next set.
const linkInterval = 50 * time.Millisecond

// invalidError says that a block breaks a rule that every node judges alike.
type invalidError struct{ err error }

func (e *invalidError) Error() string { return e.err.Error() }

func invalid(format string, args ...any) error { return &invalidError{fmt.Errorf(format, args...)} }

// misfitError says that a body or a signature does not fit its header. The header does not bind
// them, so that this says nothing about the header's block: a peer may have attached others.
type misfitError struct{ err error }

func (e *misfitError) Error() string { return e.err.Error() }

// checkKey names a check: a block may be checked as a fresh proposal of a round and, later, as
// proposed again.
type checkKey struct {
	block chain.Hash
	round uint32
	fresh bool
}

// check is one under way, or answered. One that failed for a reason of this node's own ended
// without an answer: the core asks again at T_retry.
type check struct {
	body    []chain.BatchRef
	cancel  context.CancelFunc
	holders chan []chain.PublicKey
	failed  atomic.Bool
}

// check starts checking a block, or tells the check under way which other validators have the
// messages.
func (v *Voter) check(a consensus.CheckBlock) {
	key := checkKey{block: a.Block.Hash(), round: a.Round, fresh: a.Fresh}
	c := v.checks[key]
	if c != nil && !slices.Equal(c.body, a.Block.Body) {
		c.cancel() // the core has dropped that body
		c = nil
	}
	if c == nil || c.failed.Load() {
		ctx, cancel := context.WithCancel(v.deciding)
		c = &check{body: a.Block.Body, cancel: cancel, holders: make(chan []chain.PublicKey, 1)}
		v.checks[key] = c
		v.cfg.Tasks.Go(func(context.Context) {
			defer cancel()
			v.runCheck(ctx, c, a)
		})
	}
	select {
	case <-c.holders:
	default:
	}
	c.holders <- a.Holders // does not block: only Run's goroutine fills it
}

func (v *Voter) runCheck(ctx context.Context, c *check, a consensus.CheckBlock) {
	hash := a.Block.Hash()
	err := v.checkBlock(ctx, c, &a)
	answer := consensus.BlockChecked{Height: a.Height, Round: a.Round, Block: a.Block, Fresh: a.Fresh, Verdict: consensus.Valid}
	if err != nil {
		_, invalid := errors.AsType[*invalidError](err)
		_, misfit := errors.AsType[*misfitError](err)
		if !invalid {
			c.failed.Store(true) // the core asks again, for a misfit with another body
		}
		if ctx.Err() != nil {
			return // the chain has grown, and the check may have seen a part of that
		}
		switch {
		case invalid:
			v.cfg.Metrics.InvalidBlocks.Inc()
			v.log.Warn("invalid block", "height", a.Height, "round", a.Round, "block", hash, "err", err)
			answer.Verdict = consensus.Invalid
		case misfit:
			v.cfg.Metrics.Misfits.Inc()
			v.log.Warn("dropped the body of a block: it does not fit the header; a certified block is fetched from another validator",
				"height", a.Height, "round", a.Round, "block", hash, "proposer", a.Block.Header.Proposer, "err", err)
			answer.Verdict = consensus.Misfit
		default:
			v.log.Error("block not checked: this node withholds its vote until the check works", "height", a.Height,
				"block", hash, "err", err)
			return
		}
		v.Post(answer)
		return
	}
	for last := ""; a.Fresh; {
		reason, lift := v.withhold(a)
		if reason == "" {
			break
		}
		if reason != last {
			v.log.Warn("vote withheld from a valid block", "height", a.Height, "round", a.Round, "block", hash, "reason", reason)
			v.cfg.Metrics.Withheld.WithLabelValues(reason).Inc()
			answer.Verdict, last = consensus.Withheld, reason
			v.Post(answer)
		}
		if lift <= 0 || wait.For(ctx, lift) != nil {
			return
		}
	}
	answer.Verdict = consensus.Valid
	v.Post(answer)
}

// withhold returns why the vote for a valid, fresh block is withheld, if it is, and after what time
// the reason may be gone (0: not in this round).
func (v *Voter) withhold(a consensus.CheckBlock) (reason string, lift time.Duration) {
	h := &a.Block.Header
	if c := v.cfg.Ledger.Beacon().ForBlock(h.Height); c != nil && a.Block.Commitment == nil {
		set, ok := v.cfg.Ledger.Sets().At(h.Height)
		if !ok || int64(h.Proposer) >= int64(len(set.Validators)) {
			return "", 0 // the chain has grown, and nobody waits for the answer
		}
		leader := set.Validators[h.Proposer].PublicKey
		if leader != v.self && v.cfg.HasCommitment(leader, c.Epoch, commitmentGrace) {
			return ReasonCommitment, 0
		}
	}
	// The chain itself may be ahead of this node's clock, which was set back. Then an honest leader
	// makes its block 1 ms later than the parent, and no block may be later than that: the chain's
	// time must not run away.
	if h.Timestamp != v.cfg.Ledger.Tip().Block.Header.Timestamp+1 {
		if ahead := h.Time().Sub(v.cfg.Now()); ahead > maxClockDrift {
			return ReasonClock, ahead - maxClockDrift
		}
	}
	// Nothing brings a chain back whose new validators are not there.
	if c := a.Block.Change; c != nil && !v.cfg.Linked(&c.Next) {
		return ReasonLinks, linkInterval
	}
	return "", 0
}

// checkBlock returns nil for a block that follows the final chain in every rule (docs/protocol.md,
// what makes a block valid) and whose messages are durable here, an invalidError for one that
// breaks a rule, and a misfitError for one whose body or signature is not the header's. It waits
// for what is missing. It replaces the block by one of the same header that was found valid before:
// this one may have another body.
func (v *Voter) checkBlock(ctx context.Context, c *check, a *consensus.CheckBlock) error {
	b := a.Block
	if p := v.prepared.get(b.Hash()); p != nil {
		a.Block = p.block
		return v.checkProposer(a)
	}
	tip := v.cfg.Ledger.Tip()
	if tip.Height()+1 != b.Header.Height {
		return fmt.Errorf("the chain is at height %d, the block is for %d", tip.Height(), b.Header.Height)
	}
	if err := v.checkHeader(tip, b); err != nil {
		return err
	}
	if err := v.checkProposer(a); err != nil {
		return err
	}
	if err := v.cfg.Ledger.Beacon().Check(b); err != nil {
		return invalid("%w", err)
	}
	p, err := v.resolve(ctx, c, b)
	if err != nil {
		return err
	}
	if err := b.Header.CheckMessages(p.messages); err != nil {
		return &misfitError{err}
	}
	if err := v.cfg.State.Wait(ctx, b.Header.StateHeight); err != nil {
		return err
	}
	root, ok := v.cfg.State.Root(b.Header.StateHeight)
	if !ok {
		return fmt.Errorf("the root of height %d is not kept", b.Header.StateHeight)
	}
	if root != b.Header.StateRoot {
		return invalid("state root %v of height %d, want %v", b.Header.StateRoot, b.Header.StateHeight, root)
	}
	v.prepared.put(p)
	return nil
}

// checkHeader compares a header with the final block below it.
func (v *Voter) checkHeader(tip *ledger.Tip, b *chain.Block) error {
	h, parent := &b.Header, &tip.Block.Header
	switch {
	case h.ProtocolVersion != chain.ProtocolVersion:
		return invalid("protocol version %d, want %d", h.ProtocolVersion, chain.ProtocolVersion)
	case h.ChainID != v.cfg.Genesis.ChainID:
		return invalid("chain %q, want %q", h.ChainID, v.cfg.Genesis.ChainID)
	case h.ParentHash != tip.Hash:
		return invalid("parent %v, want %v", h.ParentHash, tip.Hash)
	case h.Timestamp <= parent.Timestamp:
		return invalid("timestamp %d is not later than the parent's %d", h.Timestamp, parent.Timestamp)
	case h.StateHeight < parent.StateHeight || h.StateHeight >= h.Height || h.Height-h.StateHeight > chain.MaxStateLag:
		return invalid("state height %d at height %d, the parent has %d", h.StateHeight, h.Height, parent.StateHeight)
	case h.ValidatorsHash != parent.NextValidatorsHash:
		return invalid("validator set %v, the parent names %v", h.ValidatorsHash, parent.NextValidatorsHash)
	}
	return v.checkChange(b)
}

// checkChange checks a block's change of the validator set, or that there is none. The verdict
// rests on the chain alone, never on targets or links, so that it is the same on every node and in
// every round.
func (v *Voter) checkChange(b *chain.Block) error {
	next := b.Header.ValidatorsHash
	if b.Change != nil {
		if err := v.cfg.Ledger.Sets().Check(b.Change, b.Header.Height); err != nil {
			return invalid("change of the validator set: %w", err)
		}
		next = b.Change.Next.Set().Hash()
	}
	if b.Header.NextValidatorsHash != next {
		return invalid("next validator set %v, want %v", b.Header.NextValidatorsHash, next)
	}
	return nil
}

// checkProposer checks the first proposer's signature and, for a fresh block, that the proposer is
// the round's leader.
func (v *Voter) checkProposer(a *consensus.CheckBlock) error {
	set, err := v.setOf(a.Block.Header.Height)
	if err != nil {
		return err
	}
	if err := v.cfg.VerifyBlock(a.Block, set); errors.Is(err, chain.ErrSignature) {
		return &misfitError{err}
	} else if err != nil {
		return invalid("%w", err)
	}
	if !a.Fresh {
		return nil
	}
	order, err := v.cfg.Ledger.Leaders(a.Height)
	if err != nil {
		return err
	}
	if leader := order[int(a.Round)%len(order)]; int(a.Block.Header.Proposer) != leader {
		return invalid("proposer %d, round %d is led by %d", a.Block.Header.Proposer, a.Round, leader)
	}
	return nil
}
