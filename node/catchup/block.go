package catchup

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/internal/tasks"
)

// ErrNoCopy is wrapped by Block when no peer that this node reaches has shown a block that could be
// used.
var ErrNoCopy = errors.New("no peer has shown the block")

// blockLead is how long the first peer that is asked for one block has before the next one is asked
// as well.
const blockLead = time.Second

// Block fetches the final block of a height, at most that of the last final one, until use takes a
// copy of a peer. Each copy is verified by its certificate; whether it fits this node's chain is
// for use to judge. It has no references to batches: nothing binds them, and a height that was
// final before needs none. use is called on the caller's goroutine.
func (c *Catchup) Block(ctx context.Context, height uint64, use func(*chain.FinalBlock) error) error {
	failed := fmt.Errorf("block %d: %w", height, ErrNoCopy)
	get := func(ctx context.Context, from chain.PublicKey) (*chain.FinalBlock, error) {
		return c.one(ctx, from, height)
	}
	if tasks.Race(ctx, c.cfg.Network.Connected(), blockLead, get, func(from chain.PublicKey, f *chain.FinalBlock, err error) bool {
		if err == nil {
			err = use(f)
		}
		if err != nil {
			failed = fmt.Errorf("%w; %s: %w", failed, c.cfg.Name(from), err)
		}
		return err == nil
	}) {
		return nil
	}
	return failed
}

func (c *Catchup) one(ctx context.Context, from chain.PublicKey, height uint64) (found *chain.FinalBlock, err error) {
	ctx, cancel := context.WithTimeout(ctx, blockTimeout)
	defer cancel()
	set, ok := c.cfg.Ledger.Sets().At(height)
	if !ok {
		return nil, fmt.Errorf("the validator set of height %d is not known", height)
	}
	err = c.cfg.Network.Blocks(ctx, from, height, 1, func(f *chain.FinalBlock) error {
		if f.Header.Height != height {
			return fmt.Errorf("block at height %d, want height %d", f.Header.Height, height)
		}
		if err := c.cfg.Verifier.Final(f, set); err != nil {
			return err
		}
		copied := *f
		copied.Body = nil
		found = &copied
		return nil
	})
	if err == nil && found == nil {
		err = errors.New("it has no such block")
	}
	return found, err
}
