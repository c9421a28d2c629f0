package consensus

import "github.com/diseq/diseq/node/chain"

// early holds messages of the height after this one until it starts: one vote of each kind, validator and round up to two turns of
// all leaders, one certificate of each kind and round, one proposal of each validator.
type early struct {
	// height they are of, set they were checked against.
	height uint64
	set    *chain.ValidatorSet
	bundle Bundle
	held   map[earlyKey]bool
	size   int
}

type earlyKey struct {
	form      byte
	kind      chain.Kind
	round     uint32
	validator uint32
}

// maxEarlyBytes bounds the proposals held early.
const maxEarlyBytes = 16 << 20

// add reports whether there is a place for what k names: none but the first.
func (e *early) add(h *height, k earlyKey) bool {
	if e.held == nil {
		*e = early{height: h.Height.Height + 1, set: h.Set, held: make(map[earlyKey]bool)}
	}
	if e.held[k] {
		return false
	}
	e.held[k] = true
	return true
}

func (e *early) certificate(h *height, cert *chain.Certificate) {
	if cert.Check(h.n(), h.threshold) == nil && len(e.bundle.Certificates) < 8*h.n() &&
		e.add(h, earlyKey{form: 'c', kind: cert.Kind, round: cert.Round}) {
		e.bundle.Certificates = append(e.bundle.Certificates, cert)
	}
}

func (e *early) proposal(h *height, p *chain.Proposal) {
	size := 2048 + 64*len(p.Block.Body) + 72*h.n()*(1+len(p.Nullifications))
	if int64(p.Statement.Validator) >= int64(h.n()) || e.size+size > maxEarlyBytes {
		return
	}
	if e.add(h, earlyKey{form: 'p', validator: p.Statement.Validator}) {
		e.size += size
		e.bundle.Proposals = append(e.bundle.Proposals, p)
	}
}

func (e *early) vote(h *height, v chain.Vote) {
	if int64(v.Validator) < int64(h.n()) && uint64(v.Round) <= 2*uint64(h.n()) &&
		e.add(h, earlyKey{form: 'v', kind: v.Kind, round: v.Round, validator: v.Validator}) {
		e.bundle.Votes = append(e.bundle.Votes, v)
	}
}

// replay takes in what came early for the height now begun. It was checked against the set of the height below: where the
// set has changed it is let go, and T_retry brings it again.
func (c *Core) replay() {
	e := c.early
	c.early = early{}
	if e.set == nil || e.height != c.height.Height.Height || e.set.Hash() != c.height.Set.Hash() {
		return
	}
	c.received(chain.PublicKey{}, e.bundle)
}
