package consensus

import "github.com/diseq/diseq/node/chain"

// early holds messages of the next height until it starts: votes of each kind, validator and round
// up to two turns of all leaders, certificates of each kind and round, one proposal of each
// validator. Of votes and certificates for different blocks it holds two. The second is evidence,
// or forbids a vote.
type early struct {
	// height is that of the messages, set the hash of the set that they were checked against: that
	// of the height below.
	height uint64
	set    chain.Hash
	bundle chain.Bundle
	held   map[earlyKey][]chain.Hash
	size   int
}

type earlyKey struct {
	form      byte
	kind      chain.Kind
	round     uint32
	validator uint32
}

func voteKey(v chain.Vote) earlyKey {
	return earlyKey{form: 'v', kind: v.Kind, round: v.Round, validator: v.Validator}
}

// maxEarlyBytes bounds the proposals held early.
const maxEarlyBytes = 16 << 20

// hasRoom reports whether there is room for a message with key k about a block.
func (e *early) hasRoom(k earlyKey, block chain.Hash) bool {
	held := e.held[k]
	return len(held) == 0 || len(held) == 1 && held[0] != block && k.form != 'p'
}

// add takes the room, if there is any.
func (e *early) add(h *height, k earlyKey, block chain.Hash) bool {
	if e.held == nil {
		*e = early{height: h.Number + 1, set: h.setHash, held: make(map[earlyKey][]chain.Hash)}
	}
	if !e.hasRoom(k, block) {
		return false
	}
	e.held[k] = append(e.held[k], block)
	return true
}

// certificate keeps a certificate. It reports false if there was no room for it.
func (e *early) certificate(h *height, cert *chain.Certificate) bool {
	k := earlyKey{form: 'c', kind: cert.Kind, round: cert.Round}
	if cert.Check(h.n(), h.threshold) != nil || !e.hasRoom(k, cert.Block) {
		return true
	}
	if len(e.bundle.Certificates) >= 8*h.n() {
		return false
	}
	e.add(h, k, cert.Block)
	e.bundle.Certificates = append(e.bundle.Certificates, cert)
	return true
}

func (e *early) proposal(h *height, p *chain.Proposal) {
	size := 2048 + 64*len(p.Block.Body) + 72*h.n()*(1+len(p.Nullifications))
	if change := p.Block.Change; change != nil {
		size += change.Size()
	}
	if int64(p.Statement.Validator) >= int64(h.n()) || e.size+size > maxEarlyBytes {
		return
	}
	if e.add(h, earlyKey{form: 'p', validator: p.Statement.Validator}, p.Statement.Block) {
		e.size += size
		e.bundle.Proposals = append(e.bundle.Proposals, p)
		return
	}
	e.vote(h, p.Statement)
}

// vote keeps a vote or a Statement. It reports false for a Statement of a round too far ahead,
// which counts as dropped: others relay a Statement once, whereas a signer repeats its vote.
func (e *early) vote(h *height, v chain.Vote) bool {
	if int64(v.Validator) >= int64(h.n()) {
		return true
	}
	if uint64(v.Round) > 2*uint64(h.n()) {
		return v.Kind != chain.Propose
	}
	if e.add(h, voteKey(v), v.Block) {
		e.bundle.Votes = append(e.bundle.Votes, v)
	}
	return true
}

// fits reports whether these messages can be handled at a height.
func (e *early) fits(h *height) bool {
	return e.held != nil && e.height == h.Number && e.set == h.setHash
}

// replay handles the early messages of the height that has just begun. They were checked against
// the set of the height below. If the set has changed they are dropped: enterEra has asked for them
// again.
func (c *Core) replay() {
	e := c.early
	c.early = early{}
	if !e.fits(c.height) {
		return
	}
	c.received(chain.PublicKey{}, e.bundle, e.set)
}
