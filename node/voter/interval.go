package voter

import (
	"context"
	"time"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/consensus"
)

// The minimum block interval gives a block time to fill. Where there is little to fill it with, to
// wait costs time and saves nothing (decision 0103).
const (
	// smallBlock is the largest number of messages of a small block.
	smallBlock = 8
	// mostSpared bounds what a leader spares of the interval above a small block. A chain that is
	// slow on purpose stays slow.
	mostSpared = 15 * time.Millisecond
	// emptyPause is how much longer a leader waits for a message if it has none to order. The root
	// of a state may be certified later, and a message that comes meanwhile need not wait for the
	// end of an empty block.
	emptyPause = 100 * time.Millisecond
)

// interval returns how long the leader of round 0 waits after the time of the block below.
func interval(minimum time.Duration, below *chain.Header) time.Duration {
	if below.MessagesCount > smallBlock {
		return minimum
	}
	return max(minimum/4, minimum-mostSpared)
}

// awaitMessages returns once there is something to order that is urgent, or the time is up in which
// an empty block may wait for it. A later round does not wait, nor does a chain with the synchrony
// wait, where T_round has no time to spare.
func (v *Voter) awaitMessages(ctx context.Context, a consensus.RequestBlock) error {
	set, err := v.setOf(a.Height)
	if err != nil {
		return err
	}
	if a.Round > 0 || set.SynchronyDeltaMS > 0 {
		return nil
	}
	roundTimeout := time.Duration(v.cfg.Genesis.Parameters.RoundTimeoutMS) * time.Millisecond
	pause := time.NewTimer(min(emptyPause, roundTimeout/4))
	defer pause.Stop()
	for !v.urgent() {
		select {
		case <-v.urgency:
		case <-pause.C:
			return nil
		case <-ctx.Done():
			v.noteUrgency() // this may have taken what the build of the next height waits for
			return ctx.Err()
		}
	}
	return nil
}

// urgent reports whether a block is to be made for more than the root of a state.
func (v *Voter) urgent() bool {
	return v.cfg.Pool.HasPending() || v.cfg.Ledger.Tip().Block.Change != nil || v.cfg.Change() != nil
}

// noteUrgency makes awaitMessages look again.
func (v *Voter) noteUrgency() {
	select {
	case v.urgency <- struct{}{}:
	default:
	}
}
