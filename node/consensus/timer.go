package consensus

import (
	"time"

	"github.com/diseq/diseq/node/chain"
)

// roundTimeout is T_round: a function of the round alone. Round 0 takes longer by the minimum block
// interval, because its leader waits that long. A chain that is slow on purpose must not lose every
// first round.
//
// Under the synchrony wait T_round is at least 7*Delta: two for the leader, one each for proposal,
// votes and finalize votes to arrive, two for the wait.
func (c *Config) roundTimeout(r uint32, delta time.Duration) time.Duration {
	d := max(c.RoundTimeout, 7*delta)
	if r == 0 {
		return d + c.MinBlockInterval
	}
	longest := max(c.MaxRoundTimeout, d)
	for ; r > 0 && d < longest; r-- {
		d += d / 2
	}
	return min(d, longest)
}

// startRound starts T_round of the current round, if the height is awake.
func (c *Core) startRound(h *height) {
	if !h.awake || h.self < 0 || h.final != nil {
		return
	}
	after := c.cfg.roundTimeout(h.current, h.delta())
	if rd := h.round(h.current); c.skips(h, h.leader(h.current)) {
		rd.skipped = true
		after = 0
	}
	c.emit(SetTimer{Timer: Timer{Kind: RoundTimer, Height: h.Number, Round: h.current}, After: after})
}

func (c *Core) fired(t Timer) {
	h := c.height
	if t.Kind == SettleTimer {
		if c.settling && t.Round == uint32(c.settles) {
			c.settled, c.settling = true, false
			c.dropped.resent()
		}
		return
	}
	if h == nil || t.Height != h.Number {
		return
	}
	switch t.Kind {
	case RoundTimer:
		if t.Round == h.current {
			c.timeout(h)
		}
	case RetryTimer:
		c.newPeriod()
		c.rules.repeat(c, h)
	case IntervalTimer:
		h.intervalOver = true
	case WaitTimer:
		if rd := h.peek(t.Round); rd.wait == waiting {
			rd.wait = waited
		}
	case ProposeTimer:
		if rd := h.peek(t.Round); rd.leaderWait == waiting {
			rd.leaderWait = waited
		}
	}
}

// timeout leaves the current round: by its notarization, if there is one, otherwise by a vote to
// nullify.
func (c *Core) timeout(h *height) {
	rd := h.round(h.current)
	if !h.awake || h.self < 0 || h.final != nil || rd.timedOut {
		return
	}
	leader := &h.presence[h.leader(h.current)]
	if rd.skipped && leader.missed == 0 {
		// A message of the leader came after the round had started.
		rd.skipped = false
		after := c.cfg.roundTimeout(h.current, h.delta())
		c.emit(SetTimer{Timer: Timer{Kind: RoundTimer, Height: h.Number, Round: h.current}, After: after})
		return
	}
	rd.timedOut = true
	if leader.heard < c.entries {
		leader.missed++
	}
	cert := rd.certificates[chain.Notarize]
	if cert != nil {
		c.forward(cert)
	}
	if c.rules.mayNullify(rd) {
		c.cast(h, chain.Nullify, rd.number, chain.Hash{})
	}
	if cert != nil && h.current == rd.number {
		c.enter(h, rd.number+1)
	}
}

// mayNullify is E2 for a vote to nullify. A notarized round is left by its notarization.
func (honest) mayNullify(rd *round) bool {
	return rd.certificates[chain.Notarize] == nil && rd.own[chain.Finalize] == nil && rd.own[chain.Nullify] == nil
}

// repeat sends again everything that may have been lost, and asks again for missing blocks.
func (honest) repeat(c *Core, h *height) {
	h.attempt++
	c.repeatRequests(h)
	c.emit(SetTimer{Timer: Timer{Kind: RetryTimer, Height: h.Number}, After: c.cfg.RetryInterval})
	b := c.everything(h)
	if !b.Empty() {
		c.emit(Broadcast{b})
	}
}

// everything returns all that the others may lack: the highest finalization, and the messages that
// decide this height.
func (c *Core) everything(h *height) chain.Bundle {
	b := h.bundle()
	if last := c.last(); last != nil {
		b.Certificates = append([]*chain.Certificate{last}, b.Certificates...)
	}
	return b
}

// last returns the finalization of the block below, as strong as known.
func (c *Core) last() *chain.Certificate {
	if below := c.closed(c.height.Number - 1); below != nil {
		return below.final
	}
	return c.height.Last
}

// presence records when a validator was last heard.
type presence struct {
	// heard is the count of rounds entered when a message of it last came, 0 for never.
	heard uint64
	// missed counts the rounds it led, up to the last, without any message of it until T_round.
	missed int
}

// hear records that a message of validator i of a height came.
func (c *Core) hear(h *height, i int) {
	key := h.Set.Validators[i].PublicKey
	now := c.height
	if i >= now.n() || now.Set.Validators[i].PublicKey != key {
		i = now.Set.Index(key)
	}
	if i >= 0 {
		now.presence[i] = presence{heard: c.entries}
	}
}

// silentLedRounds is the number of rounds led in silence after which a leader is skipped.
const silentLedRounds = 2

// skips reports whether a leader is skipped at once: it was silent in the last rounds that it led,
// and enough others to decide without it were heard since the round before the last.
func (c *Core) skips(h *height, leader int) bool {
	if leader == h.self || h.presence[leader].missed < silentLedRounds {
		return false
	}
	others := 0
	for i, p := range h.presence {
		if i == h.self || i != leader && p.heard != 0 && p.heard+2 >= c.entries {
			others++
		}
	}
	return others >= h.threshold
}

// inherit copies presence into the next height's set.
func (h *height) inherit(from *height) {
	h.presence = make([]presence, h.n())
	if from == nil {
		return
	}
	for i, v := range h.Set.Validators {
		j := i
		if j >= from.n() || from.Set.Validators[j].PublicKey != v.PublicKey {
			j = from.Set.Index(v.PublicKey)
		}
		if j >= 0 {
			h.presence[i] = from.presence[j]
		}
	}
}
