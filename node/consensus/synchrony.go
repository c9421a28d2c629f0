package consensus

import (
	"slices"
	"time"

	"github.com/diseq/diseq/node/chain"
)

// The synchrony wait (docs/consensus.md): while messages between correct validators arrive within
// Delta, agreement holds with fewer than t Byzantine validators. A vote to finalize then says more
// than that its signer holds a notarization. For more than 2*Delta the signer received nothing that
// speaks against the block, and would have received it. R1, each certificate is forwarded once, is
// in learn.

// delta is the chain's Delta. 0 turns the wait off.
func (h *height) delta() time.Duration {
	return time.Duration(h.Set.SynchronyDeltaMS) * time.Millisecond
}

// relay is R2: a validator sends each new Statement to all others, once.
func (c *Core) relay(h *height, s chain.Vote) {
	if h.delta() > 0 && h.self >= 0 && !c.restoring {
		c.out.bundle.Votes = append(c.out.bundle.Votes, s)
	}
}

// relayAgain is R2 for a Statement that came rounds ahead. Some of the others may have been a round
// behind when it was relayed, and had no room for it. All must know a Statement that gets a vote.
func (c *Core) relayAgain(h *height, rd *round, block chain.Hash) {
	if i := slices.IndexFunc(rd.statements, func(s chain.Vote) bool { return s.Block == block }); rd.ahead && i >= 0 {
		c.relay(h, rd.statements[i])
	}
}

// waitedFor reports whether the synchrony wait after the notarization of a round is over, with
// nothing received that speaks against it. The wait begins when the notarization and its block are
// held. That is never before the notarization was first held.
func (c *Core) waitedFor(h *height, rd *round) bool {
	if h.delta() == 0 {
		return true
	}
	if c.rules.refuted(rd) || rd.wait == spoiled {
		return false
	}
	if rd.wait == notWaited {
		if !c.healthy {
			rd.wait = spoiled
			return false
		}
		rd.wait = waiting
		c.emit(SetTimer{Timer: Timer{Kind: WaitTimer, Height: h.Number, Round: rd.number}, After: c.rules.wait(h)})
	}
	return rd.wait == waited
}

func (honest) wait(h *height) time.Duration { return 2 * h.delta() }

// refuted is the rule stop: a nullification of the round is held, or a second block of it is known.
func (honest) refuted(rd *round) bool {
	return rd.certificates[chain.Nullify] != nil || rd.conflicted()
}

// leaderWaited reports whether the leader of the current round may propose. If it holds no
// notarization of the round before, it first waits until every validator's could have arrived.
func (c *Core) leaderWaited(h *height) bool {
	if h.delta() == 0 || h.current == 0 || h.peek(h.current - 1).certificates[chain.Notarize] != nil {
		return true
	}
	rd := h.round(h.current)
	if rd.leaderWait == notWaited {
		rd.leaderWait = waiting
		c.emit(SetTimer{Timer: Timer{Kind: ProposeTimer, Height: h.Number, Round: h.current}, After: 2 * h.delta()})
	}
	return rd.leaderWait == waited
}

// onHealth handles the node's report of its health.
func (c *Core) onHealth(h *height, ok bool) {
	switch {
	case !ok:
		c.rules.unhealthy(c, h)
	case !c.healthy:
		c.healthy = true
		c.settle(h)
	}
}

// unhealthy spoils every wait under way: this node may not have received a message that speaks
// against the block.
func (honest) unhealthy(c *Core, h *height) {
	c.unsettle()
	for _, rd := range h.rounds {
		if rd.wait == waiting {
			rd.wait = spoiled
		}
	}
}

// missed spoils every wait under way and settles anew: a message of this height did not reach the
// Core, because its caller looked at it before the height began. Those who sent it send it again.
// If the Core began to settle at this height, it has asked for that already.
func (c *Core) missed(h *height) {
	if (c.settling || c.settled) && c.settleHeight == h.Number {
		return
	}
	healthy := c.healthy
	c.rules.unhealthy(c, h)
	c.healthy = healthy
	c.settle(h)
}

func (c *Core) unsettle() { c.healthy, c.settled, c.settling = false, false, false }

// dropped remembers messages that were dropped because this node was too far behind: the highest
// height of them, and the highest since the others were last asked to send again.
type dropped struct{ highest, sinceSettle uint64 }

func (d *dropped) add(height uint64) {
	d.highest, d.sinceSettle = max(d.highest, height), max(d.sinceSettle, height)
}

func (honest) incomplete(h *height, dropped dropped) bool { return h.Number <= dropped.highest }

// resent clears the drops from before the settle time. In that time every honest peer has sent its
// messages for its current height again, and heights never decrease. Older messages of later
// heights came again, or they were lies. Without this, one message of a height that no chain
// reaches would make every height begin with a wait.
func (d *dropped) resent() { d.highest = d.sinceSettle }

// enterEra asks the others for all that they have said of this height. While this node was still
// below it, the set was not known here, and nothing that they said could be verified. Under the
// synchrony wait the node settles first, also if it was settling already: votes for another block
// may be among what is gone. That holds for every node, not for newcomers alone, and also for one
// that skipped the first height of the era.
func (honest) enterEra(c *Core, _, h *height) {
	c.settled, c.settling = false, false
	if h.delta() == 0 {
		c.emit(RequestResend{})
	}
}

// Settled reports whether this node has been healthy for long enough to notarize: for 2*Delta, in
// which the others sent their messages again. It is always false without the synchrony wait, which
// alone asks for it.
func (c *Core) Settled() bool { return c.settled }

// settle begins the wait before the first Notarize after a start, after a time of ill health, after
// a change of the set, or at a height of which messages were dropped because this node was too far
// behind. It asks the others to send their messages again, so that this validator knows them before
// it votes. Without that, a coalition can hide a block from a validator until the others are two
// heights ahead. The validator would then vote for a second block, although all others know the
// first.
func (c *Core) settle(h *height) {
	if h.delta() == 0 || !c.healthy || c.settled || c.settling {
		return
	}
	c.settling = true
	c.settles, c.settleHeight = c.settles+1, h.Number
	c.dropped.sinceSettle = 0
	c.emit(RequestResend{})
	c.emit(SetTimer{Timer: Timer{Kind: SettleTimer, Height: h.Number, Round: uint32(c.settles)}, After: 2 * h.delta()})
}
