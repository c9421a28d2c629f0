package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/consensus"
	"github.com/diseq/diseq/node/mempool"
	"github.com/diseq/diseq/node/peer"
)

const (
	// maxClockDrift is how far ahead of our clock a block's time may be before we withhold our
	// vote.
	maxClockDrift = 2 * time.Second
	// commitmentGrace is how long a leader must have been able to have a commitment before its lack
	// withholds our vote.
	commitmentGrace = time.Second
	// fetchTimeout bounds one attempt to get something from one peer.
	fetchTimeout = 5 * time.Second
)

// invalidError says that a block breaks a rule that every node judges alike.
type invalidError struct{ err error }

func (e *invalidError) Error() string { return e.err.Error() }

func invalid(format string, args ...any) error { return &invalidError{fmt.Errorf(format, args...)} }

// build makes a new block on the final chain and hands it to the core.
func (s *sequencer) build(ctx context.Context, a consensus.RequestBlock) {
	b, err := s.n.buildBlock(ctx, a.Height)
	if err != nil {
		if ctx.Err() == nil {
			s.n.log.Warn("no block built", "height", a.Height, "round", a.Round, "err", err)
		}
		return
	}
	s.post(consensus.BlockBuilt{Round: a.Round, Block: b})
}

func (n *Node) buildBlock(ctx context.Context, height uint64) (*chain.Block, error) {
	tip := n.tip.Load()
	parent := &tip.block.Header
	if height != parent.Height+1 {
		return nil, fmt.Errorf("asked for a block at height %d on height %d", height, parent.Height)
	}
	// The trie may be behind, but not by more than a header may be.
	if err := n.follower.wait(ctx, height-min(height, chain.MaxStateLag)); err != nil {
		return nil, err
	}
	stateHeight, stateRoot := n.follower.newest()
	// others are further: what is certified already is certified again
	if stateHeight < parent.StateHeight {
		stateHeight, stateRoot = parent.StateHeight, parent.StateRoot
	}
	beacon, err := n.beacon.at(height)
	if err != nil {
		return nil, err
	}
	selection, err := n.pool.Select(parent.Height, int(n.genesis.Parameters.MaxBlockBytes))
	if err != nil {
		return nil, err
	}
	commitment := n.beacon.forBlock(height)
	set := n.set.Hash()
	b := &chain.Block{
		Header: chain.Header{
			ProtocolVersion: chain.ProtocolVersion, ChainID: n.genesis.ChainID, Height: height, ParentHash: tip.hash,
			Timestamp: max(uint64(n.now().UnixMilli()), parent.Timestamp+1), Proposer: uint32(n.set.Index(n.self)),
			MessagesRoot: chain.MessagesRoot(selection.Messages), MessagesCount: uint32(len(selection.Messages)),
			StateHeight: stateHeight, StateRoot: stateRoot, Beacon: beacon,
			ValidatorsHash: set, NextValidatorsHash: set,
		},
		Commitment: commitment,
		Body:       selection.Refs,
	}
	if commitment != nil {
		b.Header.CommitmentHash = commitment.Hash()
	}
	b.Sign(n.identity.Signing)
	n.prepared.put(&preparedBlock{block: b, messages: selection.Messages, ids: selection.IDs})
	return b, nil
}

// checkKey names a check: a block may be checked as a fresh proposal of a round and, later, as
// proposed again.
type checkKey struct {
	block chain.Hash
	round uint32
	fresh bool
}

// check is one under way, or answered. One that failed for a reason of this node's own has ended
// without an answer: the core asks again at T_retry.
type check struct {
	holders chan []chain.PublicKey
	failed  atomic.Bool
}

// check starts checking a block, or tells the check under way whom else to ask for messages.
func (s *sequencer) check(a consensus.CheckBlock) {
	key := checkKey{block: a.Block.Hash(), round: a.Round, fresh: a.Fresh}
	c := s.checks[key]
	if c == nil || c.failed.Load() {
		c = &check{holders: make(chan []chain.PublicKey, 1)}
		s.checks[key] = c
		ctx := s.deciding
		s.n.tasks.Go(func() { s.runCheck(ctx, c, a) })
	}
	select {
	case <-c.holders:
	default:
	}
	c.holders <- a.Holders // free: only the core's goroutine fills it
}

func (s *sequencer) runCheck(ctx context.Context, c *check, a consensus.CheckBlock) {
	answer := consensus.BlockChecked{Height: a.Height, Round: a.Round, Block: a.Block.Hash(), Fresh: a.Fresh, Verdict: consensus.Valid}
	if err := s.n.checkBlock(ctx, c, a); err != nil {
		if _, ok := errors.AsType[*invalidError](err); !ok {
			if ctx.Err() == nil {
				s.n.log.Error("block not checked", "height", a.Height, "block", answer.Block, "err", err)
			}
			c.failed.Store(true)
			return
		}
		if ctx.Err() != nil {
			return // judged by a chain that has grown meanwhile
		}
		s.n.metrics.rejected.WithLabelValues(whatBlock).Inc()
		s.n.log.Warn("invalid block", "height", a.Height, "round", a.Round, "block", answer.Block, "err", err)
		answer.Verdict = consensus.Invalid
		s.post(answer)
		return
	}
	if a.Fresh {
		if reason, lift := s.n.withhold(a); reason != "" {
			s.n.log.Warn("vote withheld", "height", a.Height, "round", a.Round, "block", answer.Block, "reason", reason)
			s.n.metrics.withheld.WithLabelValues(reason).Inc()
			answer.Verdict = consensus.Withheld
			s.post(answer)
			if lift <= 0 {
				return
			}
			t := time.NewTimer(lift)
			defer t.Stop()
			select {
			case <-ctx.Done():
				return
			case <-t.C:
			}
			answer.Verdict = consensus.Valid
		}
	}
	s.post(answer)
}

// withhold returns why a vote for a valid, fresh block is withheld, if it is, and after what time
// that passes (0: not in this round).
func (n *Node) withhold(a consensus.CheckBlock) (reason string, lift time.Duration) {
	h := &a.Block.Header
	if c := n.beacon.forBlock(h.Height); c != nil && a.Block.Commitment == nil {
		if leader := n.set.Validators[h.Proposer].PublicKey; leader != n.self && n.commitments.told(leader, c.Epoch, commitmentGrace) {
			return reasonCommitment, 0
		}
	}
	// Where the chain itself is ahead of our clock (set back, perhaps everywhere) a block may be
	// the least bit later than its parent, which an honest leader makes it, and no more: the
	// chain's time must not run away.
	if h.Timestamp == n.tip.Load().block.Header.Timestamp+1 {
		return "", 0
	}
	if ahead := time.UnixMilli(int64(min(h.Timestamp, 1<<53))).Sub(n.now()); ahead > maxClockDrift {
		return reasonClock, ahead - maxClockDrift
	}
	return "", 0
}

// checkBlock returns nil for a block that follows the final chain in every rule (docs/protocol.md,
// what makes a block valid) and whose messages are durable here; an invalidError for one that
// breaks a rule. It waits for what is missing.
func (n *Node) checkBlock(ctx context.Context, c *check, a consensus.CheckBlock) error {
	b := a.Block
	if n.prepared.get(b.Hash()) != nil {
		return n.checkProposer(a)
	}
	tip := n.tip.Load()
	if tip.block.Header.Height+1 != b.Header.Height {
		return fmt.Errorf("the chain is at height %d, the block is for %d", tip.block.Header.Height, b.Header.Height)
	}
	if err := n.checkHeader(tip, b); err != nil {
		return err
	}
	if err := n.checkProposer(a); err != nil {
		return err
	}
	if err := n.beacon.check(b); err != nil {
		return invalid("%w", err)
	}
	p, err := n.resolve(ctx, c, b)
	if err != nil {
		return err
	}
	if err := b.Header.CheckMessages(p.messages); err != nil {
		return invalid("%w", err)
	}
	if err := n.follower.wait(ctx, b.Header.StateHeight); err != nil {
		return err
	}
	root, ok := n.follower.root(b.Header.StateHeight)
	if !ok {
		return fmt.Errorf("the root of height %d is not kept", b.Header.StateHeight)
	}
	if root != b.Header.StateRoot {
		return invalid("state root %v of height %d, want %v", b.Header.StateRoot, b.Header.StateHeight, root)
	}
	n.prepared.put(p)
	return nil
}

// checkHeader holds a header against the final block below it.
func (n *Node) checkHeader(tip *tip, b *chain.Block) error {
	h, parent := &b.Header, &tip.block.Header
	switch {
	case h.ProtocolVersion != chain.ProtocolVersion:
		return invalid("protocol version %d, want %d", h.ProtocolVersion, chain.ProtocolVersion)
	case h.ChainID != n.genesis.ChainID:
		return invalid("chain %q, want %q", h.ChainID, n.genesis.ChainID)
	case h.ParentHash != tip.hash:
		return invalid("parent %v, want %v", h.ParentHash, tip.hash)
	case h.Timestamp <= parent.Timestamp:
		return invalid("timestamp %d is not later than the parent's %d", h.Timestamp, parent.Timestamp)
	case h.StateHeight < parent.StateHeight || h.StateHeight >= h.Height || h.Height-h.StateHeight > chain.MaxStateLag:
		return invalid("state height %d at height %d, the parent has %d", h.StateHeight, h.Height, parent.StateHeight)
	case h.ValidatorsHash != parent.NextValidatorsHash || h.NextValidatorsHash != h.ValidatorsHash:
		return invalid("validator sets %v and %v, the parent names %v", h.ValidatorsHash, h.NextValidatorsHash, parent.NextValidatorsHash)
	}
	return nil
}

// checkProposer checks the first proposer's signature and, of a fresh block, that it is the round's
// leader.
func (n *Node) checkProposer(a consensus.CheckBlock) error {
	if err := a.Block.VerifySignature(n.set); err != nil {
		return invalid("%w", err)
	}
	if !a.Fresh {
		return nil
	}
	order, err := n.beacon.leaders(a.Height)
	if err != nil {
		return err
	}
	if leader := order[int(a.Round)%len(order)]; int(a.Block.Header.Proposer) != leader {
		return invalid("proposer %d, round %d is led by %d", a.Block.Header.Proposer, a.Round, leader)
	}
	return nil
}

// batchesOnTheWay is how long batches that are not held are waited for before they are asked for:
// mostly they were pushed before the block that refers to them and arrive a moment after it.
const batchesOnTheWay = 30 * time.Millisecond

// resolve returns a block's messages, fetching the batches that are not held from whoever voted for
// the block.
func (n *Node) resolve(ctx context.Context, c *check, b *chain.Block) (*preparedBlock, error) {
	holders := <-c.holders
	for {
		body, missing, err := n.resolveNow(ctx, b)
		if err != nil {
			return nil, err
		}
		if len(missing) == 0 {
			return &preparedBlock{block: b, messages: body.Messages, ids: body.IDs}, nil
		}
		if slices.ContainsFunc(n.askable(holders), func(h chain.PublicKey) bool { return n.fetchBatches(ctx, h, missing) }) {
			continue
		}
		// Nobody had them all: the core names other holders at T_retry.
		t := time.NewTimer(consensus.DefaultRetryInterval)
		select {
		case <-ctx.Done():
			t.Stop()
			return nil, ctx.Err()
		case holders = <-c.holders:
		case <-t.C:
		}
		t.Stop()
	}
}

func (n *Node) resolveNow(ctx context.Context, b *chain.Block) (mempool.Body, []chain.BatchRef, error) {
	waiting, cancel := context.WithTimeout(ctx, batchesOnTheWay)
	defer cancel()
	body, missing, err := n.pool.Resolve(waiting, b.Header.Height-1, b.Body)
	if errors.Is(err, mempool.ErrBody) {
		err = invalid("%w", err)
	}
	if err == nil && len(missing) > 0 {
		err = ctx.Err()
	}
	return body, missing, err
}

// askable returns whom to ask for something: the holders named, this node left out, or every peer
// if there are none.
func (n *Node) askable(holders []chain.PublicKey) []chain.PublicKey {
	holders = slices.DeleteFunc(slices.Clone(holders), func(k chain.PublicKey) bool { return k == n.self })
	if len(holders) > 0 {
		return holders
	}
	for _, p := range n.transport.Peers() {
		if p.Up {
			holders = append(holders, p.Key)
		}
	}
	return holders
}

// fetchBatches gets batches from one peer and takes them into the pool; false if there were none to
// be had.
func (n *Node) fetchBatches(ctx context.Context, from chain.PublicKey, refs []chain.BatchRef) bool {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	hashes := make([]chain.Hash, len(refs))
	for i, r := range refs {
		hashes[i] = r.Hash
	}
	count := 0
	err := n.transport.Batches(ctx, from, hashes[:min(len(hashes), peer.MaxFetchBatches)], func(_ chain.Hash, encoded []byte) error {
		count++
		return n.pool.ReceiveFetched(ctx, from, encoded)
	})
	if err != nil {
		n.log.Debug("batches not fetched", "from", n.peerName(from), "batches", len(hashes), "err", err)
	}
	return err == nil && count > 0
}

// fetch gets a block that others have certified. If no one has it as a proposal any more it is
// final there: then catching up brings it.
func (s *sequencer) fetch(a consensus.FetchBlock) {
	ctx := s.deciding
	s.n.tasks.Go(func() {
		for _, holder := range s.n.askable(a.Holders) {
			fetching, cancel := context.WithTimeout(ctx, fetchTimeout)
			b, err := s.n.transport.Block(fetching, holder, a.Block)
			cancel()
			if err == nil {
				s.post(consensus.BlockFetched{Block: b})
				return
			}
			if ctx.Err() != nil {
				return
			}
			s.n.log.Debug("block not fetched", "height", a.Height, "block", a.Block, "from", s.n.peerName(holder), "err", err)
			s.n.sync.hint(a.Height, holder)
		}
	})
}
