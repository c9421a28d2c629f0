package catchup

import (
	"context"
	"crypto/rand"
	"time"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/internal/wait"
)

const (
	// rejoinSkip is how many heights above the highest reported one a validator that lost its vote
	// store stays silent: it voted at most at F+1 (F: the highest final height then), and one
	// honest of the t that answer reports at least F-1 (consensus.md, Rejoining).
	rejoinSkip = 3
	// rejoinInterval is how often the validators that have not answered are asked.
	rejoinInterval = time.Second
)

// Rejoin returns the first height at which a validator that lost its vote store may vote again. It
// asks the other validators how far they are, until as many as the threshold have answered and this
// node has the blocks that they reported. The nonce is fresh, so that no answer is an old one.
func (c *Catchup) Rejoin(ctx context.Context) (first uint64, err error) {
	var nonce chain.Hash
	if _, err := rand.Read(nonce[:]); err != nil {
		return 0, err
	}
	threshold := int(c.cfg.Set.Threshold)
	if others := len(c.cfg.Set.Validators) - 1; others < threshold {
		c.cfg.Logger.Error("cannot rejoin: the threshold equals the number of validators, so a lost vote store is final",
			"answers_needed", threshold, "other_validators", others)
	}
	heights := map[chain.PublicKey]uint64{}
	for {
		c.askHeights(ctx, nonce, heights)
		// An answer counts once this node has the block that it names. A height that no validator
		// can show would silence this validator for ever, or, at the end of the numbers, not at
		// all.
		highest, shown := uint64(0), 0
		for _, h := range heights {
			if h <= c.cfg.Ledger.Height() {
				highest, shown = max(highest, h), shown+1
			}
		}
		if shown >= threshold {
			return highest + rejoinSkip, nil
		}
		c.cfg.Logger.Info("rejoining: waiting for the answers of other validators, and for the blocks that they report",
			"answers", len(heights), "with_block", shown, "needed", threshold)
		if err := wait.For(ctx, rejoinInterval); err != nil {
			return 0, err
		}
	}
}

// askHeights asks each connected validator that has not answered yet for its final height.
func (c *Catchup) askHeights(ctx context.Context, nonce chain.Hash, heights map[chain.PublicKey]uint64) {
	for _, from := range c.cfg.Network.Connected() {
		if _, ok := heights[from]; ok || c.cfg.Set.Index(from) < 0 {
			continue
		}
		asking, cancel := context.WithTimeout(ctx, statusTimeout)
		s, err := c.cfg.Network.Status(asking, from, nonce)
		cancel()
		if err != nil {
			c.cfg.Logger.Debug("status request failed", "from", c.cfg.Name(from), "err", err)
			continue
		}
		if s.Validator == from {
			heights[from] = s.Height
			c.Hint(s.Height, from)
		}
	}
}
