package consensus

import (
	"slices"

	"github.com/diseq/diseq/node/chain"
)

// Screen looks at a bundle before its signatures are checked. It returns what is worth checking, to be given to Step as Received once
// checked, and what is to be done at once. What it leaves out is held already, out of place, or of a height that takes
// nothing any more: with n validators that all forward a certificate, n-1 copies are never verified.
//
// from is the peer that sent the bundle, by an authenticated link: word for word repetition counts as a sign of its life.
func (c *Core) Screen(from chain.PublicKey, b Bundle) (Bundle, []Action) {
	var rest Bundle
	if c.height == nil {
		return rest, nil
	}
	for _, cert := range b.Certificates {
		h := c.place(from, cert.Height)
		if h == nil && c.isNext(cert.Height) && c.early.lacks(earlyKey{form: 'c', kind: cert.Kind, round: cert.Round}, cert.Block) ||
			h != nil && h.lacks(cert) {
			rest.Certificates = append(rest.Certificates, cert)
		}
	}
	for _, p := range b.Proposals {
		h := c.place(from, p.Statement.Height)
		if h == nil && c.isNext(p.Statement.Height) && (c.early.lacks(earlyKey{form: 'p', validator: p.Statement.Validator}, p.Statement.Block) ||
			c.early.lacks(voteKey(p.Statement), p.Statement.Block)) {
			rest.Proposals = append(rest.Proposals, p)
		}
		if h != nil {
			h.screenProposal(p, &rest)
		}
	}
	for _, v := range b.Votes {
		h := c.place(from, v.Height)
		switch {
		case h == nil:
			if c.isNext(v.Height) && c.early.lacks(voteKey(v), v.Block) {
				rest.Votes = append(rest.Votes, v)
			}
		case h.lacksVote(v):
			rest.Votes = append(rest.Votes, v)
		default:
			c.screened(h, from, v)
		}
	}
	return rest, c.flush()
}

// screened handles a vote that says nothing new: its sender is alive, and if the height is committed, stuck at it.
func (c *Core) screened(h *height, from chain.PublicKey, v chain.Vote) {
	if int64(v.Validator) >= int64(h.n()) || h.Set.Validators[v.Validator].PublicKey != from {
		return
	}
	c.hear(h, int(v.Validator))
	if h.committed {
		c.answer(from, v.Height)
	}
}

// lacks reports whether a certificate says anything new: of a committed height, only about the round that decided it.
func (h *height) lacks(cert *chain.Certificate) bool {
	if cert.Height != h.Height.Height || cert.Check(h.n(), h.threshold) != nil ||
		h.committed && cert.Kind != chain.Finalize && cert.Round != h.final.Round {
		return false
	}
	held := h.peek(cert.Round).certificate(cert.Kind, cert.Block)
	if held == nil {
		return true
	}
	return cert.Kind == chain.Finalize && slices.ContainsFunc(cert.Votes, func(s chain.VoteSignature) bool {
		return !slices.ContainsFunc(held.Votes, func(o chain.VoteSignature) bool { return o.Validator == s.Validator })
	})
}

// lacksVote reports whether a vote is new: not held, or evidence against its signer.
func (h *height) lacksVote(v chain.Vote) bool {
	if int64(v.Validator) >= int64(h.n()) || v.Kind < chain.Notarize || v.Kind > chain.Propose || uint64(v.Round) > h.horizon() {
		return false
	}
	rd := h.peek(v.Round)
	if rd.old && (v.Kind != chain.Propose || h.passed(rd)) {
		return false
	}
	if v.Kind == chain.Propose {
		return !h.committed && int64(v.Validator) == int64(h.leader(v.Round)) && len(rd.statements) < 2 &&
			!slices.ContainsFunc(rd.statements, func(o chain.Vote) bool { return o.Block == v.Block })
	}
	votes := rd.votes[v.Kind]
	if votes == nil || votes[v.Validator].Kind == 0 {
		return true
	}
	return votes[v.Validator].Block != v.Block && (rd.accused == nil || !rd.accused[v.Validator])
}

// screenProposal adds a proposal to rest without the certificates that are held; if its block is held, the certificates alone.
func (h *height) screenProposal(p *chain.Proposal, rest *Bundle) {
	if h.committed || int64(p.Statement.Validator) != int64(h.leader(p.Statement.Round)) {
		return
	}
	short := *p
	short.Notarization, short.Nullifications = nil, nil
	var certs []*chain.Certificate
	for i := range p.Nullifications {
		if h.lacks(&p.Nullifications[i]) {
			short.Nullifications = append(short.Nullifications, p.Nullifications[i])
			certs = append(certs, &p.Nullifications[i])
		}
	}
	if p.Notarization != nil && h.lacks(p.Notarization) {
		short.Notarization = p.Notarization
		certs = append(certs, p.Notarization)
	}
	if b := h.blocks[p.Statement.Block]; b != nil && b.Block != nil && !h.lacksVote(p.Statement) {
		rest.Certificates = append(rest.Certificates, certs...)
		return
	}
	rest.Proposals = append(rest.Proposals, &short)
}
