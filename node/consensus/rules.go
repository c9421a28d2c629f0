package consensus

import (
	"fmt"
	"math"
	"slices"

	"github.com/diseq/diseq/node/chain"
)

// This file applies "Rules of a validator" in docs/consensus.md. A change of a rule changes that
// page and adds a transcript to testdata.

// advance applies the rules of a validator until none of them changes anything.
func (c *Core) advance() {
	h := c.height
	if h == nil {
		return
	}
	for !h.committed {
		if h.final != nil {
			c.commit(h)
			return
		}
		if !c.enterNext(h) && !c.finalize(h) && !c.notarize(h) && !c.propose(h) {
			return
		}
	}
}

// wake starts T_round at a height, once.
func (c *Core) wake(h *height) {
	if !h.awake {
		h.awake = true
		c.startRound(h)
	}
}

// enterNext enters the highest round above the current one that the held certificates lead to. A
// nullification leads to the round after it, a notarization to its own round. A notarized round
// leads to the next one if this validator has nullified it, or if the next leader has justified a
// proposal with it.
func (c *Core) enterNext(h *height) bool {
	target := h.current
	first, _ := h.find(h.current)
	for _, rd := range h.rounds[first:] {
		if rd.number == math.MaxUint32 {
			break
		}
		if rd.certificates[chain.Nullify] != nil {
			target = max(target, rd.number+1)
			continue
		}
		if rd.certificates[chain.Notarize] == nil {
			continue
		}
		target = max(target, rd.number)
		if target == rd.number && (rd.own[chain.Nullify] != nil || c.proposed(h, rd.number+1)) {
			target++
		}
	}
	if target == h.current {
		return false
	}
	c.enter(h, target)
	return true
}

// proposed reports whether the leader of round r has made a proposal that the held certificates
// justify.
func (c *Core) proposed(h *height, r uint32) bool {
	rd := h.peek(r)
	if len(rd.statements) == 0 {
		return false
	}
	if b := h.blocks[rd.statements[0].Block]; b == nil || b.Block == nil {
		return false
	}
	ok, _ := c.rules.justified(h, r, rd.statements[0].Block)
	return ok
}

func (c *Core) enter(h *height, r uint32) {
	h.current = r
	c.entries++
	h.prune()
	c.startRound(h)
}

// prune drops the state of rounds far below that can no longer matter: votes of a round without a
// notarization, two turns of all leaders ago, and blocks proposed in a nullified round that were
// neither notarized nor voted for here. Statements stay while they may speak against a block.
func (h *height) prune() {
	for _, rd := range h.rounds {
		if rd.number >= h.current {
			return
		}
		if rd.certificates[chain.Notarize] != nil || rd.pruned {
			continue
		}
		if rd.certificates[chain.Nullify] != nil && len(rd.statements) > 0 && !h.needs(rd.statements[0].Block) {
			delete(h.blocks, rd.statements[0].Block)
		}
		if uint64(rd.number)+2*uint64(h.n()) < uint64(h.current) {
			statements := rd.statements
			if h.passed(rd) {
				statements = nil
			}
			*rd = round{
				number: rd.number, own: rd.own, proposed: rd.proposed, certificates: rd.certificates, timedOut: rd.timedOut, pruned: true,
				statements: statements,
			}
		}
	}
}

// passed reports whether the Statements of a round far below have become useless: without the wait
// always, with it once the round is nullified.
func (h *height) passed(rd *round) bool {
	return h.delta() == 0 || rd.certificates[chain.Nullify] != nil
}

// needs reports whether a block may still be voted for, proposed or committed, or has this
// validator's vote.
func (h *height) needs(hash chain.Hash) bool {
	return h.certified(hash) || slices.ContainsFunc(h.rounds, func(rd *round) bool {
		own := rd.own[chain.Notarize]
		return own != nil && own.Block == hash || rd.number >= h.current && len(rd.statements) > 0 && rd.statements[0].Block == hash
	})
}

// finalize votes to finalize each notarized block for which the rules allow it and which is valid.
func (c *Core) finalize(h *height) bool {
	for _, rd := range h.rounds {
		cert := rd.certificates[chain.Notarize]
		if cert == nil {
			continue
		}
		b := c.want(h, cert.Block)
		if !c.rules.mayFinalize(h, rd, cert.Block) || !c.check(h, rd.number, b, false) || !c.waitedFor(h, rd) {
			continue
		}
		c.cast(h, chain.Finalize, rd.number, cert.Block)
		return true
	}
	return false
}

// mayFinalize is E2 and E3 for a vote to finalize.
func (honest) mayFinalize(h *height, rd *round, block chain.Hash) bool {
	notarized := rd.own[chain.Notarize]
	return h.self >= 0 && rd.own[chain.Finalize] == nil && rd.own[chain.Nullify] == nil &&
		(notarized == nil || notarized.Block == block)
}

// notarize votes for the proposal of the current round. A round that this validator nullified may
// still be notarized.
func (c *Core) notarize(h *height) bool {
	rd := h.peek(h.current)
	if len(rd.statements) == 0 || !c.rules.mayNotarize(h, rd, c.settled) {
		return false
	}
	hash := c.rules.candidate(rd)
	b := h.blocks[hash]
	if b == nil || b.Block == nil {
		return false
	}
	ok, fresh := c.rules.justified(h, rd.number, hash)
	if !ok || fresh && int64(b.Header.Proposer) != int64(h.leader(rd.number)) || !c.check(h, rd.number, b, fresh) || h.self < 0 {
		return false
	}
	c.relayAgain(h, rd, hash)
	c.cast(h, chain.Notarize, rd.number, hash)
	return true
}

// mayNotarize is E1, and E3 for a vote to notarize. Under the synchrony wait it is also R4 and the
// rule settle.
func (honest) mayNotarize(h *height, rd *round, settled bool) bool {
	return rd.own[chain.Notarize] == nil && rd.own[chain.Finalize] == nil &&
		(h.delta() == 0 || settled && !rd.conflicted())
}

// votable accepts only the block of the first Statement known.
func (honest) votable(rd *round, block chain.Hash) bool {
	return len(rd.statements) > 0 && rd.statements[0].Block == block
}

// candidate returns the block of the first Statement known.
func (honest) candidate(rd *round) chain.Hash { return rd.statements[0].Block }

// justified is R3 under the synchrony wait.
func (honest) justified(h *height, r uint32, block chain.Hash) (ok, fresh bool) {
	return h.justified(r, block, h.delta() > 0)
}

// propose makes this validator's proposal of the current round: the last notarized block, or a new
// one.
func (c *Core) propose(h *height) bool {
	rd := h.peek(h.current)
	if h.self < 0 || !h.awake || h.leader(h.current) != h.self || len(rd.statements) != 0 || rd.closed() {
		return false
	}
	notarization, _, complete := h.justification(h.current)
	if !complete || !c.leaderWaited(h) {
		return false
	}
	if notarization != nil {
		// Valid, and not only held: an honest leader sends no body that may not fit.
		b := h.blocks[notarization.Block]
		if b == nil || !c.check(h, notarization.Round, b, false) {
			return false
		}
		c.sendProposal(h, b)
		return true
	}
	if rd.requested || h.current == 0 && !h.intervalOver && !c.pool.Full {
		return false
	}
	h.round(h.current).requested = true
	c.emit(RequestBlock{Height: h.Number, Round: h.current})
	return false
}

// closed reports whether any certificate of the round is held.
func (rd *round) closed() bool { return rd.certificates != [chain.Finalize + 1]*chain.Certificate{} }

// built handles the new block for this leader, if the height and round are still those that asked
// for it.
func (c *Core) built(e BlockBuilt) {
	h := c.height
	if h == nil || h.committed || e.Block == nil || e.Round != h.current || e.Block.Header.Height != h.Number {
		return
	}
	rd := h.peek(h.current)
	notarization, _, complete := h.justification(h.current)
	if !rd.requested || len(rd.statements) != 0 || rd.closed() || notarization != nil || !complete {
		return
	}
	b := c.hold(h, e.Block)
	if b.verdict == Invalid || int64(e.Block.Header.Proposer) != int64(h.self) {
		return
	}
	b.verdict = Valid
	h.round(h.current).freshness = Valid
	c.sendProposal(h, b)
}

func (c *Core) sendProposal(h *height, b *block) {
	rd := h.round(h.current)
	s := chain.Vote{Kind: chain.Propose, Height: h.Number, Round: rd.number, Block: b.hash, Validator: uint32(h.self)}
	c.cfg.Sign(&s)
	notarization, nullifications, _ := h.justification(rd.number)
	p := &chain.Proposal{Statement: s, Block: *b.Block, Notarization: notarization}
	// The others have those that are left out: every T_retry brings them all certificates.
	for _, cert := range nullifications[max(0, len(nullifications)-chain.MaxJustification):] {
		p.Nullifications = append(p.Nullifications, *cert)
	}
	rd.proposal, rd.proposed = p, &s
	rd.statements = append(rd.statements, s)
	b.persisted = true
	c.persist(h, rd.number, chain.RecordProposal, p.Encode)
	c.out.bundle.Proposals = append(c.out.bundle.Proposals, p)
}

// commit commits the block of a finalization. This validator's own vote to finalize still adds to
// the strength.
func (c *Core) commit(h *height) {
	cert := h.final
	b := c.want(h, cert.Block)
	if b.verdict == Invalid {
		c.contradict(h, fmt.Sprintf("the final block %v at height %d is invalid here", cert.Block, cert.Height), cert)
		return
	}
	if !c.check(h, cert.Round, b, false) {
		return
	}
	if c.rules.mayFinalize(h, h.peek(cert.Round), cert.Block) {
		c.cast(h, chain.Finalize, cert.Round, cert.Block)
	}
	h.committed = true
	c.emit(Commit{Block: b.Block, Finalization: h.final, Justification: h.history(cert.Round)})
}
