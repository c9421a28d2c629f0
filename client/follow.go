package client

import (
	"context"
	"fmt"

	"github.com/diseq/diseq/node/chain"
)

// A Follower verifies what nodes say while the validator set of the chain changes. It starts from
// what the reader trusts. When a document does not verify, it asks the nodes for newer changes of
// the set, and believes a set only once the set before it has voted for it. It verifies each change
// once.
//
// A node can keep changes back from a reader, which then does not verify what a newer set signed.
// Keys of validators that have left can be stolen, and such a node can sign with them: a reader
// that was away for long starts from a newer checkpoint.
//
// Its methods may be called from any goroutine.
type Follower struct {
	client *Client
	eras   *chain.Eras
}

// Follow returns a reader that starts from a genesis document, a checkpoint, or the eras of another
// reader, which it extends.
func (c *Client) Follow(from chain.Trust) *Follower { return &Follower{client: c, eras: from.Eras()} }

// Eras returns the validator sets that are verified so far. Their [chain.Eras.Checkpoint] is what
// the reader can start from next time.
func (f *Follower) Eras() *chain.Eras { return f.eras }

// Document is what a [Follower] verifies: a *[Block], a *[Proof] or a *[chain.Receipt].
type Document interface {
	Verify(from chain.Trust, strength int) error
}

// Verify verifies a document. strength is the least number of finalize votes that the reader
// insists on; 0 means the threshold.
func (f *Follower) Verify(ctx context.Context, d Document, strength int) error {
	return f.verify(ctx, func() error { return d.Verify(f.eras, strength) })
}

// VerifyEvidence verifies a piece of evidence.
func (f *Follower) VerifyEvidence(ctx context.Context, e *chain.EvidenceDocument) error {
	return f.verify(ctx, func() error { return e.Verify(f.eras) })
}

// verify tries again if there are newer changes.
func (f *Follower) verify(ctx context.Context, check func() error) error {
	failed := check()
	if failed == nil {
		return nil
	}
	more, err := f.Update(ctx)
	if err != nil {
		return fmt.Errorf("%w; newer changes of the validator set: %w", failed, err)
	}
	if !more {
		return failed
	}
	return check()
}

// Receipt returns the receipt of a final message, verified. The receipt has the changes above the
// newest set that is known only: it proves nothing to a reader that starts from genesis.
func (f *Follower) Receipt(ctx context.Context, id chain.Hash, strength int) (*chain.Receipt, error) {
	r, err := f.client.ReceiptAbove(ctx, id, f.eras.Checkpoint().Set.Generation)
	if err != nil {
		return nil, err
	}
	if r.Message.ID != id {
		return nil, fmt.Errorf("receipt of message %v, want %v", r.Message.ID, id)
	}
	return r, f.Verify(ctx, r, strength)
}

// changesAtOnce is how many changes a reader asks for.
const changesAtOnce = 100

// Update reads the changes of the validator set that are not known yet, and verifies them. It
// reports whether there were any.
func (f *Follower) Update(ctx context.Context) (more bool, err error) {
	for {
		known := f.eras.Checkpoint().Set.Generation
		page, next, err := f.client.Changes(ctx, known+1, changesAtOnce)
		if err != nil {
			return more, err
		}
		if err := f.eras.FollowFinal(page...); err != nil {
			return more, err
		}
		now := f.eras.Checkpoint().Set.Generation
		more = more || now > known
		if next == 0 || now == known {
			return more, nil
		}
	}
}
