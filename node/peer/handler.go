package peer

import (
	"context"
	"errors"

	"github.com/diseq/diseq/node/chain"
)

// ErrNotHeld is what a Handler's providers return for what the node does not have.
var ErrNotHeld = errors.New("not held")

// Handler is the node behind a Transport: it takes in what peers send and provides what they ask for.
//
// Methods are called from many goroutines at once; those about one peer's consensus frames come one after another, in
// the order sent. Whatever they are given is theirs to keep. The signatures inside are not checked yet, and from is who
// sent it, not who signed it; from may be an observer.
//
// OnVote, OnCertificate, OnRetry, OnProposal and OnCommitment should only queue. Blocking one of them for long stops
// the reading from that peer, and it will then drop its oldest frames.
type Handler interface {
	// OnVote takes a vote of any kind; kind Propose is a leader's statement.
	OnVote(from chain.PublicKey, v chain.Vote)
	// OnCertificate takes a certificate that a peer forwards.
	OnCertificate(from chain.PublicKey, c *chain.Certificate)
	// OnRetry takes what a peer sends when a link opens and at every T_retry.
	OnRetry(from chain.PublicKey, r *Retry)
	// OnProposal takes a proposal. It is acknowledged to the sender when OnProposal returns.
	OnProposal(from chain.PublicKey, p *chain.Proposal)
	// OnCommitment takes a VRF commitment. An error is told to the sender.
	OnCommitment(from chain.PublicKey, c *chain.Commitment) error

	// OnBatch takes a batch that a peer pushes, in the order pushed; encoded is its canonical encoding, which b's
	// messages alias. It returns as soon as the batch is queued. ack must be called once, from any goroutine: with nil when
	// the batch is durable, otherwise with why it is not taken. Until then the batch counts against the peer's
	// window, so a handler that never calls ack ends up receiving no more.
	OnBatch(from chain.PublicKey, b *chain.Batch, encoded []byte, ack func(error))
	// OnAck reports what the peer to says about a batch pushed to it: err is nil when the batch is durable there, else a
	// refusal; pushing it again later may help. Calls for one peer come one after another and should only queue.
	OnAck(to chain.PublicKey, hash chain.Hash, err error)

	// LinkUp reports that the node can send to a peer from now on. The node then sends its Retry and pushes every batch
	// that the peer has not acknowledged. LinkDown reports that it no longer can: what was queued or not yet
	// acknowledged may be lost. The two alternate for each peer and should only queue.
	LinkUp(to chain.PublicKey)
	LinkDown(to chain.PublicKey)

	// Batch returns the encoding of a batch held, or ErrNotHeld.
	Batch(ctx context.Context, hash chain.Hash) ([]byte, error)
	// FinalBlock returns the encoding of the final block at a height of 1 or above, or ErrNotHeld.
	FinalBlock(ctx context.Context, height uint64) ([]byte, error)
	// Block returns the encoding of a block held, proposed or final, or ErrNotHeld.
	Block(ctx context.Context, hash chain.Hash) ([]byte, error)
	// Status signs the node's final height over nonce.
	Status(ctx context.Context, nonce chain.Hash) (*chain.Status, error)
}
