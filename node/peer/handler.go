package peer

import (
	"context"
	"errors"

	"github.com/diseq/diseq/node/chain"
)

// ErrNotHeld is what a Handler's providers return for what the node does not have.
var ErrNotHeld = errors.New("not held")

// Handler is the node behind a Transport: it takes in what peers send and provides what they ask
// for.
//
// Methods are called from many goroutines at once. Whatever they are given is theirs to keep. The
// signatures inside are not checked yet, and from is who sent it, not who signed it; from may be an
// observer.
//
// An error that wraps chain.ErrMalformed or chain.ErrSignature says that the peer is at fault:
// honest peers pass on only what they have checked. It is then disconnected, and not let in again
// for a while. Other errors have no such effect.
type Handler interface {
	// OnBundle takes consensus messages. The calls for what a peer sends with Broadcast and Send
	// come one after another, in the order sent, but those with its proposals come beside them.
	// While OnBundle blocks, nothing more is read from the peer, which will drop its oldest
	// messages if that lasts.
	OnBundle(from chain.PublicKey, b *chain.Bundle) error
	// OnPong brings the answer to a Ping, after the calls for everything that the peer sent before
	// it. lost counts how often anything was lost that the peer had for this node. OnAsk says that
	// the peer wants what is sent when a link opens. Both come in order with OnBundle, and should
	// not block for long.
	OnPong(from chain.PublicKey, number, lost uint64)
	OnAsk(from chain.PublicKey)
	// OnCommitment takes a VRF commitment. An error is told to the sender.
	OnCommitment(ctx context.Context, from chain.PublicKey, c *chain.Commitment) error

	// OnBatch takes the encoding of a batch that a peer pushes, not decoded yet, and returns nil
	// when it is durable here: that is the acknowledgement. An error is told to the sender, who may
	// push it again later. Calls begin in the order pushed and many of one peer run at once, so a
	// group commit can take all of them.
	OnBatch(ctx context.Context, from chain.PublicKey, encoded []byte) error
	// OnAck reports what the peer to says about a batch pushed to it: err is nil when the batch is
	// durable there, else a refusal; pushing it again later may help. Calls for one peer come one
	// after another and should not block for long.
	OnAck(to chain.PublicKey, hash chain.Hash, err error)

	// LinkUp reports that the node can send to a peer from now on. The node then sends what it
	// holds of its height and pushes every batch that the peer has not acknowledged. LinkDown
	// reports that it no longer can: what was queued or not yet acknowledged may be lost. The two
	// alternate for each peer and should not block.
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
