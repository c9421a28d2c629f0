package consensus

import (
	"slices"

	"github.com/diseq/diseq/node/chain"
)

// received handles a bundle that was checked with set as that of the open height. Certificates come
// first: the rounds that they lead to decide which other messages are near enough to be kept.
func (c *Core) received(from chain.PublicKey, b chain.Bundle, set chain.Hash) {
	for _, cert := range b.Certificates {
		if h := c.place(from, cert.Height, set); h != nil {
			c.wakeBy(h)
			c.learn(h, cert)
		} else if c.isNext(cert.Height, set) {
			if !c.early.certificate(c.height, cert) {
				c.dropped.add(cert.Height)
			}
			if !c.height.committed {
				c.hint(from, cert.Height)
			}
		}
	}
	c.advance()
	for _, p := range b.Proposals {
		if !c.rules.sentBy(c.height, from, p) {
			continue
		}
		if h := c.place(from, p.Statement.Height, set); h != nil {
			c.receiveProposal(h, p)
		} else if c.isNext(p.Statement.Height, set) {
			c.early.proposal(c.height, p)
		}
	}
	for _, v := range b.Votes {
		if h := c.place(from, v.Height, set); h != nil {
			if int64(v.Validator) < int64(h.n()) {
				c.wakeBy(h)
			}
			if !c.receiveVote(h, v) && h.committed {
				// A message of a committed height may have crossed with ours. A sender that repeats
				// it is stuck at that height.
				c.answer(from, v.Height)
			}
		} else if c.isNext(v.Height, set) && !c.early.vote(c.height, v) {
			c.dropped.add(v.Height)
		}
	}
}

// wakeBy wakes the height of a message.
func (c *Core) wakeBy(h *height) {
	if h == c.height && !h.committed {
		c.wake(h)
	}
}

// place returns the state of the height of a message, or nil. A peer at a height long past is
// answered with its finalization. A message of a height far above makes this node catch up. A
// message that was checked against another set than that of its height has no place: enterEra asks
// for it again.
func (c *Core) place(from chain.PublicKey, number uint64, set chain.Hash) *height {
	now := c.height
	h := now
	switch {
	case number > now.Number+1:
		if c.rules.judged(now, now, set) {
			c.dropped.add(number)
		}
		c.hint(from, number)
		return nil
	case number > now.Number:
		return nil
	case number < now.Number:
		if h = c.closed(number); h == nil {
			c.answer(from, number)
			return nil
		}
	}
	if !c.rules.judged(now, h, set) {
		return nil
	}
	return h
}

// isNext reports whether a message is of the height above, and was checked against the open
// height's set.
func (c *Core) isNext(number uint64, set chain.Hash) bool {
	return number == c.height.Number+1 && c.rules.judged(c.height, c.height, set)
}

// judged: a message of a closed height was checked against that height's own set if the caller's
// open height was that height, or the one that the Core is at.
func (honest) judged(now, h *height, set chain.Hash) bool {
	return h.setHash == set || h != now && now.setHash == set
}

// ahead asks for the blocks that the peer seems to have. A peer that is one height above repeats
// the finalization of this height, which verifies here. So a change does not make every node that
// is a moment behind fetch the block.
//
// A message counts as dropped if a validator sent it. Nobody checked its signature: a member can
// sign anything, and the synchrony wait rests on nothing that others send. If this Core has come to
// the height of such a message meanwhile, it has missed it like one that waited too long.
func (honest) ahead(c *Core, e Ahead) {
	h := c.height
	if h.Set.Index(e.From) >= 0 && e.Height >= h.Number {
		c.dropped.add(e.Height)
		if e.Lowest <= h.Number && h.delta() > 0 && !h.committed {
			c.missed(h)
		}
	}
	if e.Height > h.Number+1 {
		c.hint(e.From, e.Height)
	}
}

// answer sends a finalization to a peer that is still at its height, once in each period.
func (c *Core) answer(from chain.PublicKey, number uint64) {
	if c.answered[from] || from == (chain.PublicKey{}) || number == 0 {
		return
	}
	c.answered[from] = true
	h := c.closed(number)
	if number == c.height.Number {
		h = c.height
	}
	if h == nil {
		c.emit(AnswerFinalization{To: from, Height: number})
		return
	}
	c.emit(Send{To: from, Bundle: chain.Bundle{Certificates: []*chain.Certificate{h.final}}})
}

func (c *Core) hint(from chain.PublicKey, number uint64) {
	if !c.hinted[from] {
		c.hinted[from] = true
		c.emit(CatchUp{Height: number, From: from})
	}
}

// sentBy reports whether a proposal came over the link of the validator that made it. No honest
// validator passes on another's proposal. A liar would, with a body that does not fit, and the
// leader's own body would come too late. The zero key stands for messages that were kept for this
// height. They passed this test when they came.
func (honest) sentBy(h *height, from chain.PublicKey, p *chain.Proposal) bool {
	i := p.Statement.Validator
	return from == (chain.PublicKey{}) || int64(i) < int64(h.n()) && h.Set.Validators[i].PublicKey == from
}

// receiveProposal learns the certificates of a proposal, then keeps its Statement and its block.
// Unless the block is certified, its header names the leader as proposer, so that no leader
// attaches a body to the block of another.
func (c *Core) receiveProposal(h *height, p *chain.Proposal) {
	s := p.Statement
	hash := p.Block.Hash()
	if s.Kind != chain.Propose || s.Block != hash || int64(s.Validator) != int64(h.leader(s.Round)) {
		return
	}
	c.checkOwn(h, s)
	if h.committed {
		return
	}
	c.wakeBy(h)
	for i := range p.Nullifications {
		c.learn(h, &p.Nullifications[i])
	}
	if p.Notarization != nil {
		c.learn(h, p.Notarization)
	}
	if h.certified(hash) && h.blocks[hash].open() {
		c.hold(h, &p.Block)
	}
	c.advance()
	if h.committed || uint64(s.Round) > h.horizon() {
		return
	}
	c.hear(h, int(s.Validator))
	c.receiveStatement(h, s)
	if !h.blocks[hash].open() || uint64(s.Round) > uint64(h.current)+blockHorizon {
		return
	}
	if rd := h.peek(s.Round); c.rules.votable(rd, hash) && !rd.pruned && p.Block.Header.Proposer == s.Validator {
		c.hold(h, &p.Block)
	}
}

// blockHorizon is how many rounds ahead the block of a proposal is kept although its certificates
// do not lead there. The certificates of an honest leader's proposal do.
const blockHorizon = 8

// receiveStatement keeps a leader's Statement and reports whether it was new. A second one of the
// round is evidence. No honest validator votes for it.
func (c *Core) receiveStatement(h *height, s chain.Vote) bool {
	if int64(s.Validator) != int64(h.leader(s.Round)) {
		return false
	}
	rd := h.round(s.Round)
	same := func(o chain.Vote) bool { return o.Block == s.Block }
	if rd.pruned && h.passed(rd) || len(rd.statements) == 2 || slices.ContainsFunc(rd.statements, same) {
		return false
	}
	rd.statements = append(rd.statements, s)
	rd.ahead = rd.ahead || s.Round > h.current
	c.relay(h, s)
	if len(rd.statements) == 2 {
		c.report(h, rd, rd.statements[0], s)
	}
	return true
}
