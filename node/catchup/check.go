package catchup

import (
	"context"
	"fmt"

	"github.com/diseq/diseq/node/chain"
)

// checkChange checks the set that a verified final block names for the next height against the set
// of its own and all those before. A block that breaks these rules and is final all the same has
// enough signers that are faulty.
func (c *Catchup) checkChange(ctx context.Context, f *chain.FinalBlock, set *chain.ValidatorSet) error {
	h := &f.Header
	next, err := h.ValidatorsHash, error(nil)
	if f.Change != nil {
		next = f.Change.Next.Set().Hash()
		// The blocks handed over before are final here in a moment. The change is judged by the
		// sets up to it.
		if err := c.cfg.Ledger.Wait(ctx, h.Height-1); err != nil {
			return err
		}
		err = c.cfg.Ledger.Sets().Check(f.Change, h.Height)
	}
	if err == nil && h.NextValidatorsHash != next {
		err = fmt.Errorf("the header names validator set %v for the next height, the chain leads to %v", h.NextValidatorsHash, next)
	}
	if err == nil {
		return nil
	}
	return c.contradict(ctx, f, fmt.Errorf(
		"contradiction: block %v is final at height %d and its change of the set of generation %d is invalid here: %w",
		f.Hash(), h.Height, set.Generation, err))
}

// contradict reports that a verified final block cannot be on this node's chain, which ends the
// node, and returns the error. Below the checkpoint that proves nothing: thieves of old keys sign
// such blocks. Then the block is no more than a lie of the peer that showed it.
func (c *Catchup) contradict(ctx context.Context, f *chain.FinalBlock, err error) error {
	if at := c.checkpoint(); f.Header.Height < at.Height || f.Header.Height == at.Height && f.Hash() != at.Hash {
		c.cfg.Logger.Warn("a peer shows another chain below the checkpoint: its blocks are refused. "+
			"If all peers show that chain, this node followed a forged one: keep its data directory and start it on an empty one",
			"height", f.Header.Height, "checkpoint", at.Height, "err", err)
		return err
	}
	select {
	case c.cfg.Contradictions <- err:
	case <-ctx.Done():
	}
	return err
}
