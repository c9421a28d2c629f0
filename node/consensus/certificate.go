package consensus

import (
	"fmt"
	"slices"

	"github.com/diseq/diseq/node/chain"
)

// cast signs and keeps a vote of this validator. The vote leaves once it is durable, together with
// its block. The certificates that it rests on became durable when they were learned.
func (c *Core) cast(h *height, kind chain.Kind, r uint32, hash chain.Hash) {
	v := chain.Vote{Kind: kind, Height: h.Number, Round: r, Block: hash, Validator: uint32(h.self)}
	c.cfg.Sign(&v)
	h.round(r).own[kind] = &v
	if b := h.blocks[hash]; b != nil && b.Block != nil && !b.persisted {
		b.persisted = true
		c.persist(h, r, chain.RecordBlock, b.Encode)
	}
	c.persist(h, r, chain.RecordVote, v.Encode)
	c.out.bundle.Votes = append(c.out.bundle.Votes, v)
	if c.tally(h, v) {
		c.form(h, v)
	}
}

// receiveVote handles a vote of another validator and reports whether it was new.
func (c *Core) receiveVote(h *height, v chain.Vote) bool {
	if int64(v.Validator) >= int64(h.n()) || v.Kind < chain.Notarize || v.Kind > chain.Propose || uint64(v.Round) > h.horizon() {
		return false
	}
	c.checkOwn(h, v)
	c.hear(h, int(v.Validator))
	if v.Kind == chain.Propose {
		return c.receiveStatement(h, v)
	}
	if !c.tally(h, v) {
		return false
	}
	c.form(h, v)
	return true
}

// tally keeps a vote, one of a kind for each validator and round, and reports whether it was new. A
// vote that contradicts one held becomes evidence.
func (c *Core) tally(h *height, v chain.Vote) bool {
	rd := h.round(v.Round)
	if rd.pruned {
		return false
	}
	c.accuse(h, rd, v)
	votes := rd.votes[v.Kind]
	if votes == nil {
		votes = make([]chain.Vote, h.n())
		rd.votes[v.Kind] = votes
	}
	if votes[v.Validator].Kind != 0 {
		return false
	}
	votes[v.Validator] = v
	return true
}

// accuse reports evidence if a vote breaks a rule with one held, once for each validator and round.
func (c *Core) accuse(h *height, rd *round, v chain.Vote) {
	for _, votes := range rd.votes {
		if votes == nil || votes[v.Validator].Kind == 0 || chain.Conflict(votes[v.Validator], v) == "" {
			continue
		}
		c.report(h, rd, votes[v.Validator], v)
	}
}

func (c *Core) report(h *height, rd *round, a, b chain.Vote) {
	if rd.accused == nil {
		rd.accused = make([]bool, h.n())
	}
	if rd.accused[a.Validator] {
		return
	}
	if e, ok := chain.NewEvidence(c.cfg.ChainID, h.Set, a, b); ok {
		rd.accused[a.Validator] = true
		c.emit(EvidenceFound{e})
	}
}

// form makes a certificate once a vote completes one. A vote for a block that is already final
// strengthens its finalization.
func (c *Core) form(h *height, v chain.Vote) {
	rd := h.round(v.Round)
	if held := rd.certificate(v.Kind, v.Block); held != nil {
		if v.Kind == chain.Finalize {
			c.strengthen(h, held)
		}
		return
	}
	if c.rules.count(h, rd.votes[v.Kind], v.Block) < h.threshold {
		return
	}
	cert := &chain.Certificate{Kind: v.Kind, Height: v.Height, Round: v.Round, Block: v.Block}
	for _, other := range rd.votes[v.Kind] {
		if other.Kind != 0 && other.Block == v.Block {
			cert.Votes = append(cert.Votes, chain.VoteSignature{Validator: other.Validator, Signature: other.Signature})
		}
	}
	c.learn(h, cert)
}

func (honest) threshold(set *chain.ValidatorSet) int { return int(set.Threshold) }

func (honest) count(_ *height, votes []chain.Vote, block chain.Hash) int {
	n := 0
	for i := range votes {
		if votes[i].Kind != 0 && votes[i].Block == block {
			n++
		}
	}
	return n
}

func (honest) accepts(h *height, cert *chain.Certificate) bool {
	return cert.Height == h.Number && cert.Check(h.n(), h.threshold) == nil
}

// keep leaves the first certificate of a kind in its place. The rules look at that one.
func (honest) keep(rd *round, cert *chain.Certificate) {
	if rd.certificates[cert.Kind] == nil {
		rd.certificates[cert.Kind] = cert
	} else {
		rd.others = append(rd.others, cert)
	}
}

// learn handles a certificate. A new one is made durable and forwarded. Its votes serve as evidence
// and as strength, whatever else their signers said.
func (c *Core) learn(h *height, cert *chain.Certificate) {
	if !c.rules.accepts(h, cert) {
		return
	}
	rd := h.round(cert.Round)
	held := rd.certificates[cert.Kind]
	for i := range cert.Votes {
		v := cert.Vote(i)
		c.checkOwn(h, v)
		if c.tally(h, v) {
			c.hear(h, int(v.Validator))
		}
	}
	if held == nil || cert.Kind == chain.Notarize && rd.certificate(cert.Kind, cert.Block) == nil {
		c.rules.keep(rd, cert)
		if !h.committed {
			c.persist(h, cert.Round, chain.RecordCertificate, cert.Encode)
			c.forward(cert)
		}
	}
	if cert.Kind != chain.Finalize {
		return
	}
	switch {
	case h.final == nil:
		h.final = cert
	case h.final.Block != cert.Block:
		c.contradict(h, fmt.Sprintf("two blocks are final at height %d", cert.Height), h.final, cert)
	case held != nil && held.Block == cert.Block:
		c.strengthen(h, cert)
	}
}

func (c *Core) forward(cert *chain.Certificate) {
	if !c.restoring && !slices.Contains(c.out.bundle.Certificates, cert) {
		c.out.bundle.Certificates = append(c.out.bundle.Certificates, cert)
	}
}

// strengthen merges all known votes for the final block into its finalization: those in it, those
// in cert, and those that came alone.
func (c *Core) strengthen(h *height, cert *chain.Certificate) {
	final := h.final
	if cert.Round != final.Round || cert.Block != final.Block {
		return
	}
	signatures := make([]*chain.VoteSignature, h.n())
	for _, source := range [][]chain.VoteSignature{cert.Votes, final.Votes} {
		for i := range source {
			signatures[source[i].Validator] = &source[i]
		}
	}
	for _, v := range h.peek(final.Round).votes[chain.Finalize] {
		if v.Kind != 0 && v.Block == final.Block && signatures[v.Validator] == nil {
			signatures[v.Validator] = &chain.VoteSignature{Validator: v.Validator, Signature: v.Signature}
		}
	}
	all := *final
	all.Votes = nil
	for _, s := range signatures {
		if s != nil {
			all.Votes = append(all.Votes, *s)
		}
	}
	if len(all.Votes) == len(final.Votes) {
		return
	}
	h.final = &all
	h.round(final.Round).certificates[chain.Finalize] = &all
	if !h.committed {
		return
	}
	h.stronger = true
	if len(all.Votes) == h.n() {
		c.reportStrength(h)
	}
}

// reportStrength reports votes that came after the commit. It does so at once when all are there,
// otherwise with the next height or T_retry, so that a large set does not write its finalization
// once a vote.
func (c *Core) reportStrength(h *height) {
	if h.stronger {
		h.stronger = false
		c.emit(Strengthen{h.final})
	}
}

func (c *Core) contradict(h *height, reason string, certs ...*chain.Certificate) {
	if !h.contradicted {
		h.contradicted = true
		c.emit(Contradiction{Reason: reason, Certificates: certs})
	}
}
