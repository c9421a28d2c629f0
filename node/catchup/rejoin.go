package catchup

import (
	"context"
	"crypto/rand"
	"time"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/consensus"
	"github.com/diseq/diseq/node/internal/tasks"
)

// rejoinInterval is how often the validators that have not answered are asked.
const rejoinInterval = time.Second

// Rejoin returns the first height at which a validator that lost its vote store may vote again,
// once that height is the open one or below it: then the vote store may be made. It asks the other
// validators of an era how far they are, and asks anew when the era ends before that height
// (consensus.md, Rejoining). Below the checkpoint it asks nobody, and while this node is not in the
// set neither.
func (c *Catchup) Rejoin(ctx context.Context) (first uint64, err error) {
	for {
		r, err := c.beginRejoin(ctx)
		if err != nil {
			return 0, err
		}
		if first, err := c.rejoinIn(ctx, r); first > 0 || err != nil {
			return first, err
		}
	}
}

// beginRejoin waits until there is somebody to ask.
func (c *Catchup) beginRejoin(ctx context.Context) (*consensus.Rejoining, error) {
	for {
		height, higher := c.cfg.Ledger.Final()
		set, _ := c.cfg.Ledger.Sets().At(height + 1)
		if !c.below(height) && set.Index(c.cfg.Self) >= 0 {
			threshold := int(set.Threshold)
			if others := len(set.Validators) - 1; others < threshold {
				c.cfg.Logger.Error("cannot rejoin: the threshold equals the number of validators, so a lost vote store is final",
					"answers_needed", threshold, "other_validators", others)
			}
			return &consensus.Rejoining{Self: c.cfg.Self, Height: height, Set: set, Answers: map[chain.PublicKey]uint64{}}, nil
		}
		if err := untilHigher(ctx, higher); err != nil {
			return nil, err
		}
	}
}

// checkpoint returns that of the peers file, the zero value for none.
func (c *Catchup) checkpoint() chain.Checkpoint {
	if c.cfg.Checkpoint == nil {
		return chain.Checkpoint{}
	}
	return c.cfg.Checkpoint()
}

// below reports whether a height is below the checkpoint.
func (c *Catchup) below(height uint64) bool { return height < c.checkpoint().Height }

// rejoinIn asks the members of one era. It returns 0 if they are not to be asked any more. The
// nonce is fresh, so that no answer is one of an earlier time.
func (c *Catchup) rejoinIn(ctx context.Context, r *consensus.Rejoining) (first uint64, err error) {
	var nonce chain.Hash
	if _, err := rand.Read(nonce[:]); err != nil {
		return 0, err
	}
	setAt := func(height uint64) *chain.ValidatorSet {
		set, _ := c.cfg.Ledger.Sets().At(height)
		return set
	}
	var said [3]uint64
	var asked time.Time
	for {
		if time.Since(asked) >= rejoinInterval {
			c.askHeights(ctx, nonce, r)
			asked = time.Now()
		}
		tip, higher := c.cfg.Ledger.Final()
		first, _ := r.VotesFrom(tip)
		switch step := r.Step(tip, setAt); {
		case c.below(tip) || step == consensus.RejoinAsksAgain:
			c.cfg.Logger.Info("rejoining: the validators have changed, or the checkpoint is higher: asking again", "height", tip)
			return 0, nil
		case step == consensus.RejoinVotes:
			return first, nil
		}
		if now := [3]uint64{uint64(len(r.Answers)), uint64(r.Shown(tip)), first}; now != said {
			said = now
			c.cfg.Logger.Info("rejoining: waiting for answers of other validators, for their blocks, and for the first height to vote at",
				"answers", now[0], "with_block", now[1], "needed", r.Set.Threshold, "votes_from_height", first)
		}
		if err := untilHigher(ctx, higher); err != nil {
			return 0, err
		}
	}
}

// untilHigher waits for a block, and not longer than until the others are asked again.
func untilHigher(ctx context.Context, higher <-chan struct{}) error {
	timer := time.NewTimer(rejoinInterval)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-higher:
	case <-timer.C:
	}
	return nil
}

// askHeights asks the connected validators of the era that have not answered yet for their final
// heights, all at once: one that is silent holds up no other.
func (c *Catchup) askHeights(ctx context.Context, nonce chain.Hash, r *consensus.Rejoining) {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	var asked []chain.PublicKey
	for _, from := range c.cfg.Network.Connected() {
		if _, ok := r.Answers[from]; !ok && from != c.cfg.Self && r.Set.Index(from) >= 0 {
			asked = append(asked, from)
		}
	}
	get := func(ctx context.Context, from chain.PublicKey) (*chain.Status, error) {
		return c.cfg.Network.Status(ctx, from, nonce)
	}
	tasks.Race(ctx, asked, 0, get, func(from chain.PublicKey, s *chain.Status, err error) bool {
		switch {
		case err != nil:
			c.cfg.Logger.Debug("status request failed", "from", c.cfg.Name(from), "err", err)
		case s.Validator == from:
			r.Answers[from] = s.Height
			c.Hint(s.Height, from)
		}
		return false
	})
}
