package consensus

import "github.com/diseq/diseq/node/chain"

// The events that a hostile run draws from its bytes: most are about the height and the round that
// the core is in, or few could matter.

func (p *hostile) event() Event {
	switch p.pick(16) {
	case 0:
		return Pool{Pending: p.pick(2) == 0, Full: p.pick(2) == 0}
	case 1:
		return LinkUp{Peer: p.someone()}
	case 2, 3, 4:
		if len(p.timers) > 0 && p.pick(8) != 0 {
			return TimerFired{p.timers[len(p.timers)-1-p.pick(min(6, len(p.timers)))]}
		}
		return TimerFired{Timer{Kind: TimerKind(p.pick(8)), Height: p.at(), Round: p.round()}}
	case 5:
		return BlockFetched{p.block()}
	case 6, 7:
		if len(p.checks) > 0 {
			asked := p.checks[len(p.checks)-1-p.pick(min(3, len(p.checks)))]
			return BlockChecked{
				Height: asked.Height, Round: asked.Round, Block: asked.Block, Fresh: asked.Fresh,
				Verdict: []Verdict{Valid, Valid, Valid, Valid, Valid, Withheld, Invalid, Misfit}[p.pick(8)],
			}
		}
		return BlockChecked{
			Height: p.height, Round: p.round(), Block: p.block(), Fresh: p.pick(2) == 0,
			Verdict: []Verdict{Valid, Valid, Valid, Valid, Withheld, Invalid, Misfit, 0, 9}[p.pick(9)],
		}
	case 8:
		return BlockBuilt{Round: p.round(), Block: p.block()}
	case 9:
		return Health{OK: p.pick(4) != 0}
	case 10:
		if p.pick(2) == 0 {
			from, height := p.someone(), p.at()
			if height < p.height {
				return Behind{From: from, Height: height}
			}
			return Ahead{From: from, Lowest: max(p.height, height/2), Height: height}
		}
		// messages that were checked against another set: of the height before, or of none
		e := Received{From: p.someone(), Bundle: p.bundle(), Set: p.other[p.pick(len(p.other))]}
		if len(e.Bundle.Proposals) > 0 {
			e.From = p.set.Validators[e.Bundle.Proposals[0].Statement.Validator].PublicKey
		}
		return e
	}
	e := Received{From: p.someone(), Bundle: p.bundle(), Set: p.set.Hash()}
	if len(e.Bundle.Proposals) > 0 && p.pick(8) != 7 {
		e.From = p.set.Validators[e.Bundle.Proposals[0].Statement.Validator].PublicKey // mostly not passed on by another
	}
	return e
}

func (p *hostile) someone() chain.PublicKey { return p.set.Validators[p.pick(p.n())].PublicKey }

func (p *hostile) round() uint32 {
	current := p.cores[0].height.current
	switch p.pick(32) {
	case 0:
		return []uint32{1 << 31, 1<<32 - 1, 1<<32 - 2, 1000}[p.pick(4)]
	case 1, 2, 3, 4, 5, 6, 7:
		return current + uint32(p.pick(4)) - min(current, uint32(p.pick(3)))
	case 8, 9, 10, 11:
		return current - min(current, 1)
	}
	return current
}

func (p *hostile) at() uint64 {
	switch p.pick(16) {
	case 0:
		return p.height + 1
	case 1:
		return max(1, p.height-1)
	case 2:
		return []uint64{1, p.height + 2, 1<<64 - 1, max(1, p.height-6)}[p.pick(4)]
	}
	return p.height
}

// block is one of a few, at times with another body.
func (p *hostile) block() *chain.Block {
	b := p.blocks[[]int{0, 0, 0, 0, 1, 1, 2, 3, 4}[p.pick(9)]]
	if p.pick(8) == 7 {
		other := *b
		other.Body = []chain.BatchRef{{Hash: chain.Hash{byte(p.pick(2))}}}
		return &other
	}
	return b
}

func (p *hostile) vote() chain.Vote {
	v := chain.Vote{
		Kind: chain.Kind(1 + p.pick(4)), Height: p.at(), Round: p.round(), Validator: uint32(p.pick(p.n())),
	}
	if v.Kind != chain.Nullify {
		v.Block = p.block().Hash()
	}
	fakeSignature(&v)
	return v
}

// strange reports whether a vote is made with the core's key, and is none that left it. All is over
// with one, so that few are drawn.
func (p *hostile) strange(v chain.Vote) bool {
	return p.law.self >= 0 && p.set.Validators[v.Validator].PublicKey == p.cfg.PublicKey && !p.law.disk[v]
}

// certificate is one of almost all validators, or of just enough.
func (p *hostile) certificate() *chain.Certificate {
	v := p.vote()
	if v.Kind == chain.Propose {
		v.Kind = chain.Notarize
	}
	signers := int(p.set.Threshold)
	if p.pick(2) == 0 {
		signers = p.n()
	}
	return p.signed(v, signers)
}

// signed is a certificate of some validators that stand next to each other, less the core if it has
// not signed: one too few, if there are no others.
func (p *hostile) signed(v chain.Vote, signers int) *chain.Certificate {
	cert := &chain.Certificate{Kind: v.Kind, Height: v.Height, Round: v.Round, Block: v.Block}
	first := p.pick(p.n() - signers + 1)
	for i := first; i < p.n() && len(cert.Votes) < signers; i++ {
		v.Validator = uint32(i)
		fakeSignature(&v)
		if !p.strange(v) || p.pick(64) == 63 {
			cert.Votes = append(cert.Votes, chain.VoteSignature{Validator: v.Validator, Signature: v.Signature})
		}
	}
	return cert
}

// broken is not a certificate: it has a vote too few, or one twice.
func (p *hostile) broken() *chain.Certificate {
	cert := p.certificate()
	if len(cert.Votes) == 0 {
		return cert
	}
	if p.pick(2) == 0 {
		return p.signed(cert.Vote(0), int(p.set.Threshold)-1)
	}
	cert.Votes = append(cert.Votes[1:], cert.Votes[len(cert.Votes)-1])
	return cert
}

func (p *hostile) proposal() *chain.Proposal {
	r, block := p.round(), p.block()
	s := chain.Vote{
		Kind: chain.Propose, Height: p.at(), Round: r, Block: block.Hash(), Validator: uint32(p.cores[0].height.leader(r)),
	}
	fakeSignature(&s)
	proposal := &chain.Proposal{Statement: s, Block: *block}
	for range p.pick(3) {
		cert := p.certificate()
		if cert.Kind == chain.Notarize {
			proposal.Notarization = cert
		} else {
			proposal.Nullifications = append(proposal.Nullifications, *cert)
		}
	}
	return proposal
}

func (p *hostile) bundle() chain.Bundle {
	var b chain.Bundle
	for range 1 + p.pick(3) {
		switch p.pick(8) {
		case 0, 1:
			b.Certificates = append(b.Certificates, p.certificate())
		case 2:
			if p.pick(4) == 0 {
				b.Certificates = append(b.Certificates, p.broken())
			}
		case 3, 4:
			if v := p.vote(); !p.strange(v) || p.pick(16) == 15 {
				b.Votes = append(b.Votes, v)
			}
		default:
			if proposal := p.proposal(); !p.strange(proposal.Statement) || p.pick(16) == 15 {
				b.Proposals = append(b.Proposals, proposal)
			}
		}
	}
	return b
}
