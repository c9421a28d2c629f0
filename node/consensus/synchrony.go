package consensus

import (
	"slices"
	"time"

	"github.com/diseq/diseq/node/chain"
)

// The synchrony wait (docs/consensus.md): while messages between correct validators arrive within
// Delta, agreement holds with fewer than t Byzantine validators. A Finalize vote then says more
// than that its signer holds a notarization: that for more than 2*Delta it heard of nothing that
// speaks against the block, and would have. R1, each certificate is forwarded once, is in learn.

// delta is the chain's Delta; 0 turns the wait off.
func (h *height) delta() time.Duration {
	return time.Duration(h.Set.SynchronyDeltaMS) * time.Millisecond
}

// relay is R2: whoever learns of a statement tells all others, once.
func (c *Core) relay(h *height, s chain.Vote) {
	if h.delta() > 0 && h.self >= 0 && !c.restoring {
		c.out.bundle.Votes = append(c.out.bundle.Votes, s)
	}
}

// relayAgain is R2 for a statement that came rounds ahead: some of those to whom it was relayed
// then may have been a round behind and had no place for it. What is voted for has to be known to
// all.
func (c *Core) relayAgain(h *height, rd *round, block chain.Hash) {
	if i := slices.IndexFunc(rd.statements, func(s chain.Vote) bool { return s.Block == block }); rd.ahead && i >= 0 {
		c.relay(h, rd.statements[i])
	}
}

// waitedFor reports whether the synchrony wait after the notarization of a round is over, with
// nothing heard that speaks against it. The wait begins when the notarization and its block are
// held, which is never before the notarization was first held.
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

// leaderWaited reports whether the leader of the current round may propose: on a round of which it
// holds no notarization it first gives every validator's the time to arrive.
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

// unhealthy spoils every wait under way: something may have been said that this node did not hear.
func (honest) unhealthy(c *Core, h *height) {
	c.unsettle()
	for _, rd := range h.rounds {
		if rd.wait == waiting {
			rd.wait = spoiled
		}
	}
}

func (c *Core) unsettle() { c.healthy, c.settled, c.settling = false, false, false }

// dropped is what had to be dropped because this node was too far behind: the highest height of it,
// and the highest since the others were last asked what they had said.
type dropped struct{ height, again uint64 }

func (d *dropped) add(height uint64) {
	d.height, d.again = max(d.height, height), max(d.again, height)
}

func (honest) incomplete(h *height, dropped dropped) bool { return h.Number <= dropped.height }

// resent: each of the others has said once more what it says at the height that it is at, which
// is never below one that it was at. What it said before of heights still to come it has said
// again, or it was a lie: one message of a height that no chain reaches must not make every height
// begin with a wait.
func (d *dropped) resent() { d.height = d.again }

// Settled reports whether this node has been healthy for long enough to notarize: since 2*Delta,
// with all heard again that was said before. Always false without the synchrony wait, where nothing
// waits for it.
func (c *Core) Settled() bool { return c.settled }

// settle begins the wait before the first Notarize after a start, after a time of ill health, or at
// a height of which messages were dropped because this node was too far behind: what others said
// meanwhile has to be heard first, so they are asked to say it again. Without that a coalition that
// keeps a block from a validator until the others are two heights on has it vote for what they know
// better.
func (c *Core) settle(h *height) {
	if h.delta() == 0 || !c.healthy || c.settled || c.settling {
		return
	}
	c.settling = true
	c.settles++
	c.dropped.again = 0
	c.emit(RequestResend{})
	c.emit(SetTimer{Timer: Timer{Kind: SettleTimer, Height: h.Number, Round: uint32(c.settles)}, After: 2 * h.delta()})
}
