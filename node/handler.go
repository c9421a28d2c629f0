package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/consensus"
	"github.com/diseq/diseq/node/peer"
	"github.com/diseq/diseq/node/vrf"
)

// handler is what the peer transport delivers to: it checks signatures on the peers' own goroutines
// and passes on what holds.
type handler struct{ n *Node }

var _ peer.Handler = (*handler)(nil)

// reject counts input whose signature or form is wrong; the transport tells of it, with a limit on
// how often.
func (h *handler) reject(what string, err error) error {
	if err != nil && h.n.ctx.Err() == nil {
		h.n.metrics.rejected.WithLabelValues(what).Inc()
	}
	return err
}

// OnBundle checks every signature in a bundle and hands it to the core. An honest peer passes on
// only what it has checked itself.
func (h *handler) OnBundle(from chain.PublicKey, b *chain.Bundle) error {
	height := uint64(0)
	for _, c := range b.Certificates {
		if err := h.n.verifier.certificate(c); err != nil {
			return h.reject(whatCertificate, err)
		}
		height = max(height, c.Height)
		if c.Kind == chain.Finalize {
			height = max(height, c.Height+1)
		}
	}
	for _, p := range b.Proposals {
		if err := h.n.verifier.proposal(p); err != nil {
			return h.reject(whatProposal, err)
		}
		height = max(height, p.Statement.Height)
	}
	for i := range b.Votes {
		if err := h.n.verifier.vote(&b.Votes[i]); err != nil {
			return h.reject(whatVote, err)
		}
		height = max(height, b.Votes[i].Height)
	}
	h.n.sync.heard(from, height)
	h.n.seq.post(consensus.Received{From: from, Bundle: *b})
	return nil
}

// OnCommitment takes a VRF commitment.
func (h *handler) OnCommitment(_ context.Context, from chain.PublicKey, c *chain.Commitment) error {
	err := h.n.commitments.received(from, c)
	if errors.Is(err, vrf.ErrInvalid) { // an honest peer passes on only what it has verified
		err = fmt.Errorf("%w: %w", chain.ErrSignature, err)
	}
	return h.reject(whatCommitment, err)
}

// OnBatch takes a batch that a peer pushes: the pool verifies it and makes it durable.
func (h *handler) OnBatch(ctx context.Context, from chain.PublicKey, encoded []byte) error {
	return h.reject(whatBatch, h.n.pool.Receive(ctx, from, encoded))
}

// OnAck notes that a peer holds a batch durably.
func (h *handler) OnAck(to chain.PublicKey, hash chain.Hash, err error) {
	if err == nil {
		h.n.pool.Acknowledge(to, hash)
	}
}

// LinkUp sends a peer what it may have missed.
func (h *handler) LinkUp(to chain.PublicKey) {
	h.n.seq.post(consensus.LinkUp{Peer: to})
	h.n.synchrony.linkUp(to)
	h.n.commitments.linkUp(to)
	h.n.pushes.linkUp(to)
	h.n.sync.linkUp(to)
}

// LinkDown tells the synchrony wait alone: what was lost is sent again when the link opens.
func (h *handler) LinkDown(to chain.PublicKey) { h.n.synchrony.linkDown(to) }

// OnPong tells the synchrony wait how far a peer has been heard.
func (h *handler) OnPong(from chain.PublicKey, number, lost uint64) {
	h.n.synchrony.pong(from, number, lost)
}

// OnAsk sends a peer again what it may have missed of the height.
func (h *handler) OnAsk(from chain.PublicKey) { h.n.synchrony.asks(from) }

// Batch returns the encoding of a batch held.
func (h *handler) Batch(_ context.Context, hash chain.Hash) ([]byte, error) {
	if encoded, ok := h.n.pool.Batch(hash); ok {
		return encoded, nil
	}
	return nil, fmt.Errorf("batch %v: %w", hash, peer.ErrNotHeld)
}

// FinalBlock returns the encoding of the final block at a height.
func (h *handler) FinalBlock(ctx context.Context, height uint64) ([]byte, error) {
	if height == 0 || height > h.n.store.Height() {
		return nil, fmt.Errorf("block %d: %w", height, peer.ErrNotHeld)
	}
	encoded, err := h.n.store.EncodedBlocks(ctx, height, 1, 0)
	if err != nil {
		return nil, err
	}
	return encoded[0], nil
}

// Block returns the encoding of a block held, proposed or final.
func (h *handler) Block(_ context.Context, hash chain.Hash) ([]byte, error) {
	if p := h.n.prepared.get(hash); p != nil {
		return p.block.Encode(), nil
	}
	if f := h.n.finals.byHash(hash); f != nil {
		return f.Block.Encode(), nil
	}
	return nil, fmt.Errorf("block %v: %w", hash, peer.ErrNotHeld)
}

// Status signs the node's final height.
func (h *handler) Status(_ context.Context, nonce chain.Hash) (*chain.Status, error) {
	tip := h.n.tip.Load()
	s := &chain.Status{Nonce: nonce, Height: tip.block.Header.Height, Block: tip.hash}
	s.Sign(h.n.identity.Signing, h.n.genesis.ChainID)
	return s, nil
}

// pushes brings to each peer the batches that it is not known to hold: all of them when its link
// opens, what was refused or found no room later.
type pushes struct {
	n  *Node
	mu sync.Mutex
	on map[chain.PublicKey]bool
}

// pushBytes bounds what one round takes from the pool.
const pushBytes = 8 << 20

func (p *pushes) linkUp(to chain.PublicKey) { p.start(to, 0) }

// start pushes in the background, unless that is under way for the peer.
func (p *pushes) start(to chain.PublicKey, age time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.on[to] {
		return
	}
	p.on[to] = true
	p.n.tasks.Go(func() {
		for _, b := range p.n.pool.Unacknowledged(to, age, pushBytes) {
			if p.n.transport.Push(p.n.ctx, to, b.Hash, b.Data) != nil {
				break // the link is down: its opening starts again
			}
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.on, to)
	})
}
