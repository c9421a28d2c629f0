package node

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/diseq/diseq/node/catchup"
	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/consensus"
	"github.com/diseq/diseq/node/gossip"
	"github.com/diseq/diseq/node/internal/metrics"
	"github.com/diseq/diseq/node/internal/repair"
	"github.com/diseq/diseq/node/internal/trace"
	"github.com/diseq/diseq/node/ledger"
	"github.com/diseq/diseq/node/mempool"
	"github.com/diseq/diseq/node/peer"
	"github.com/diseq/diseq/node/store"
	"github.com/diseq/diseq/node/target"
	"github.com/diseq/diseq/node/verify"
	"github.com/diseq/diseq/node/voter"
	"github.com/diseq/diseq/node/vrf"
)

// handler is what the peer transport delivers to. It checks signatures on the goroutines that read
// from the peers, and passes on what verifies.
type handler struct {
	ctx      context.Context // ends when the node stops
	chainID  string
	key      ed25519.PrivateKey
	rejected *prometheus.CounterVec
	waited   prometheus.Counter

	verifier *verify.Verifier
	// heard notes the height that a peer is at, post passes an event to the consensus core.
	heard func(from chain.PublicKey, height uint64)
	post  func(context.Context, consensus.Event)

	ledger      *ledger.Ledger
	store       *store.Store
	blocks      *repair.Blocks
	pool        *mempool.Pool
	voter       *voter.Voter
	catchup     *catchup.Catchup
	commitments *gossip.Commitments
	pushes      *gossip.Pushes
	target      *target.Follower
	traces      *trace.Tracer
}

var _ peer.Handler = (*handler)(nil)

// reject counts input with a wrong signature or form. The transport logs it, with a limit on how
// often.
func (h *handler) reject(kind string, err error) error {
	if err != nil && h.ctx.Err() == nil {
		h.rejected.WithLabelValues(kind).Inc()
	}
	return err
}

// OnBundle checks every signature in a bundle and passes what verified to the core. It also tells
// the core of messages that show the peer ahead or behind. Those are not checked.
func (h *handler) OnBundle(ctx context.Context, from chain.PublicKey, b *chain.Bundle) (useless int, err error) {
	r, wrong, err := h.verifier.Bundle(ctx, from, b)
	h.waited.Add(r.Waited.Seconds())
	if err != nil {
		return 0, h.reject(wrong, err)
	}
	if !r.Bundle.Empty() {
		h.heard(from, r.Height)
		h.traces.Received(&r.Bundle)
		h.post(ctx, consensus.Received{From: from, Bundle: r.Bundle, Set: r.Set})
	}
	if r.Ahead > 0 {
		h.post(ctx, consensus.Ahead{From: from, Lowest: r.Lowest, Height: r.Ahead})
	}
	if r.Behind > 0 {
		h.post(ctx, consensus.Behind{From: from, Height: r.Behind})
	}
	return r.Useless, nil
}

// OnCommitment takes a VRF commitment.
func (h *handler) OnCommitment(_ context.Context, from chain.PublicKey, c *chain.Commitment) error {
	err := h.commitments.Receive(from, c)
	if errors.Is(err, vrf.ErrInvalid) { // an honest peer passes on only commitments that verify
		err = fmt.Errorf("%w: %w", chain.ErrSignature, err)
	}
	return h.reject(metrics.KindCommitment, err)
}

// OnEndorsed takes a peer's own endorsement of the next validator set.
func (h *handler) OnEndorsed(from chain.PublicKey, e *chain.Endorsed) error {
	return h.reject(metrics.KindEndorsed, h.target.Receive(from, e))
}

// OnBatch takes a batch that a peer pushes: the pool verifies it and makes it durable.
func (h *handler) OnBatch(ctx context.Context, from chain.PublicKey, encoded []byte) error {
	return h.reject(metrics.KindBatch, h.pool.Receive(ctx, from, encoded))
}

// OnAck notes that a peer has made a batch durable.
func (h *handler) OnAck(to chain.PublicKey, hash chain.Hash, err error) {
	if err == nil {
		h.pool.Acknowledge(to, hash)
	}
}

// LinkUp sends a peer what it may have missed.
func (h *handler) LinkUp(to chain.PublicKey) {
	h.voter.LinkUp(to)
	h.commitments.LinkUp(to)
	h.pushes.LinkUp(to)
	h.target.LinkUp(to)
	h.catchup.LinkUp(to)
}

// LinkDown matters to the synchrony wait alone: everything lost is sent again when the link opens.
func (h *handler) LinkDown(to chain.PublicKey) { h.voter.LinkDown(to) }

// OnPong tells the synchrony wait that everything a peer sent before the pong has been delivered.
func (h *handler) OnPong(from chain.PublicKey, number, lost uint64) { h.voter.Pong(from, number, lost) }

// OnAsk sends a peer again what it may have missed of the height.
func (h *handler) OnAsk(from chain.PublicKey) { h.voter.Resend(from) }

// Batch returns the encoding of a batch in the pool.
func (h *handler) Batch(_ context.Context, hash chain.Hash) ([]byte, error) {
	if encoded, ok := h.pool.Batch(hash); ok {
		return encoded, nil
	}
	return nil, fmt.Errorf("batch %v: %w", hash, peer.ErrNotHeld)
}

// FinalBlock returns the encoding of the final block at a height.
func (h *handler) FinalBlock(ctx context.Context, height uint64) ([]byte, error) {
	if height == 0 || height > h.store.Height() {
		return nil, fmt.Errorf("block %d: %w", height, peer.ErrNotHeld)
	}
	encoded, err := h.store.EncodedBlocks(ctx, height, 1, 0)
	if err != nil {
		h.blocks.Note(err) // another peer has the block: this one need not wait
		return nil, err
	}
	return encoded[0], nil
}

// Block returns the encoding of a block that this node built or found valid at the height that it
// is deciding. It returns no final block, because nothing checks the list of batches of one that
// catching up fetched. A peer that needs a final block catches up.
func (h *handler) Block(_ context.Context, hash chain.Hash) ([]byte, error) {
	if b := h.voter.Block(hash); b != nil {
		return b.Encode(), nil
	}
	return nil, fmt.Errorf("block %v: %w", hash, peer.ErrNotHeld)
}

// Status signs the node's final height.
func (h *handler) Status(_ context.Context, nonce chain.Hash) (*chain.Status, error) {
	tip := h.ledger.Tip()
	s := &chain.Status{Nonce: nonce, Height: tip.Height(), Block: tip.Hash}
	s.Sign(h.key, h.chainID)
	return s, nil
}
