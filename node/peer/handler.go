package peer

import (
	"context"
	"errors"

	"github.com/diseq/diseq/node/chain"
)

// ErrNotHeld says that the node does not have the batch or block that a peer asks for.
var ErrNotHeld = errors.New("not held")

// Handler is the node behind a Transport. It takes in the messages of peers and answers their
// requests.
//
// Methods are called from many goroutines at once, and may keep their arguments. The signatures
// inside are not checked yet. The argument from is the sender, not the signer; it may be an
// observer.
//
// An error that wraps chain.ErrMalformed or chain.ErrSignature says that the peer is at fault:
// honest peers pass on only messages that they have checked. The peer is then disconnected, and not
// let in again for a while. Other errors have no such effect.
type Handler interface {
	// OnBundle takes consensus messages. The calls for the votes and certificates of a peer come
	// one after another, in the order sent; calls with its proposals come beside them. While
	// OnBundle blocks, nothing more is read from the peer, which will drop its oldest messages if
	// that lasts. useless is how many of the messages were of no use whatever they say, because of
	// their height. A peer that sends too many of them is at fault. ctx ends with the connection.
	OnBundle(ctx context.Context, from chain.PublicKey, b *chain.Bundle) (useless int, err error)
	// OnPong brings the answer to a Ping, after the calls for everything that the peer sent before
	// it. lost counts the losses of messages from the peer to this node. OnAsk asks for the
	// messages that a node sends when a link opens. Both come in order with OnBundle, and should
	// not block for long.
	OnPong(from chain.PublicKey, number, lost uint64)
	OnAsk(from chain.PublicKey)
	// OnEndorsed takes the endorsement of a validator set that the peer itself makes. It comes in
	// order with OnBundle.
	OnEndorsed(from chain.PublicKey, e *chain.Endorsed) error
	// OnCommitment takes a VRF commitment. An error is sent back to the peer.
	OnCommitment(ctx context.Context, from chain.PublicKey, c *chain.Commitment) error

	// OnBatch takes the encoding of a batch that a peer pushes, not decoded yet, and returns nil
	// when it is durable here: that is the acknowledgement. An error is sent back to the peer,
	// which may push the batch again later. Calls begin in the order pushed and many of one peer
	// run at once, so that one group commit can take all of them.
	OnBatch(ctx context.Context, from chain.PublicKey, encoded []byte) error
	// OnAck reports the answer of the peer to about a batch pushed to it: err is nil when the batch
	// is durable there, otherwise a refusal; pushing it again later may help. Calls for one peer
	// come one after another and should not block for long.
	OnAck(to chain.PublicKey, hash chain.Hash, err error)

	// LinkUp reports that the node can send to a peer from now on. The node then sends its messages
	// of the current height and pushes every batch that the peer has not acknowledged. LinkDown
	// reports that it no longer can: messages that were queued or not yet acknowledged may be lost.
	// The two alternate for each peer and should not block.
	LinkUp(to chain.PublicKey)
	LinkDown(to chain.PublicKey)

	// Batch returns the encoding of a batch, or ErrNotHeld.
	Batch(ctx context.Context, hash chain.Hash) ([]byte, error)
	// FinalBlock returns the encoding of the final block at a height of 1 or above, or ErrNotHeld.
	FinalBlock(ctx context.Context, height uint64) ([]byte, error)
	// Block returns the encoding of a block, proposed or final, or ErrNotHeld.
	Block(ctx context.Context, hash chain.Hash) ([]byte, error)
	// Status signs the node's final height over nonce.
	Status(ctx context.Context, nonce chain.Hash) (*chain.Status, error)
}
