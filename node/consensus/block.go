package consensus

import (
	"slices"

	"github.com/diseq/diseq/node/chain"
)

// hold keeps a block of the height. It rejects a block of another chain, height or parent at once;
// the node judges the rest.
func (c *Core) hold(h *height, in *chain.Block) *block {
	hash := in.Hash()
	b := h.blocks[hash]
	if b == nil {
		b = &block{hash: hash}
		h.blocks[hash] = b
	}
	if b.Block == nil {
		b.Block = in
	}
	if in.Header.ChainID != c.cfg.ChainID || in.Header.Height != h.Number || in.Header.ParentHash != h.Parent {
		b.verdict = Invalid
	}
	return b
}

// want returns a certified block. It requests the block if it is not held, or if the check of the
// body that is held takes long: another holder's body may be a better one.
func (c *Core) want(h *height, hash chain.Hash) *block {
	b := h.blocks[hash]
	if b == nil {
		b = &block{hash: hash}
		h.blocks[hash] = b
	}
	if !b.fetching && b.verdict == 0 && (b.Block == nil || b.overdue) {
		b.fetching = true
		c.emit(FetchBlock{Height: h.Number, Block: hash, Holders: h.holders(hash, c.cfg.PublicKey)})
	}
	return b
}

// check reports whether a block is held and valid and, when it is fresh, not to be withheld in
// round r. It asks the node for a verdict that it lacks.
func (c *Core) check(h *height, r uint32, b *block, fresh bool) bool {
	switch {
	case b.Block == nil || b.verdict == Invalid:
		return false
	case fresh:
		rd := h.round(r)
		if rd.freshness == 0 && !rd.asked {
			rd.asked, b.checking = true, true
			c.ask(h, r, b, true)
		}
		return rd.freshness == Valid
	case b.verdict == 0 && !b.checking:
		b.checking = true
		c.ask(h, r, b, false)
	}
	return b.verdict == Valid
}

func (c *Core) ask(h *height, r uint32, b *block, fresh bool) {
	c.emit(CheckBlock{Height: h.Number, Round: r, Block: b.Block, Fresh: fresh, Holders: h.holders(b.hash, c.cfg.PublicKey)})
}

func (c *Core) checked(e BlockChecked) {
	h := c.height
	if h == nil || e.Block == nil || e.Height != h.Number || e.Verdict < Valid || e.Verdict > Misfit {
		return
	}
	b := h.blocks[e.Block.Hash()]
	if b == nil || b.verdict == Invalid {
		return
	}
	switch e.Verdict {
	case Invalid:
		b.verdict = Invalid
		return
	case Misfit:
		c.rules.misfit(c, h, b, e.Block)
		return
	}
	if b.verdict != Valid {
		b.Block = nil // another body may have come since
		if c.hold(h, e.Block).verdict == Invalid {
			return
		}
		b.verdict = Valid
	}
	if rd := h.peek(e.Round); e.Fresh && rd.asked && c.rules.candidate(rd) == b.hash {
		rd.freshness = e.Verdict
	}
}

// misfit drops a body that does not fit its header. It says nothing about the block. A certified
// block is fetched again, from the next holder at T_retry.
func (honest) misfit(c *Core, h *height, b *block, body *chain.Block) {
	if b.verdict == 0 && sameBody(b.Block, body) {
		b.misfit = true
		c.drop(h, b)
	}
}

// drop drops the body of a block that was not found valid. The next rules ask for the check of
// another body.
func (c *Core) drop(h *height, b *block) {
	b.Block, b.checking, b.persisted = nil, false, false
	for _, rd := range h.rounds {
		if rd.asked && c.rules.candidate(rd) == b.hash {
			rd.asked, rd.freshness = false, 0
		}
	}
}

// sameBody reports whether two blocks with one header are alike in what the header does not bind.
func sameBody(a, b *chain.Block) bool {
	return a == b || a != nil && b != nil && a.Signature == b.Signature && slices.Equal(a.Body, b.Body)
}

// fetched holds a certified block from a peer. It replaces a body that was not found valid yet,
// because that one may name batches that no validator has.
func (c *Core) fetched(e BlockFetched) {
	h := c.height
	if h == nil || e.Block == nil {
		return
	}
	b := h.blocks[e.Block.Hash()]
	if b == nil || b.verdict != 0 || sameBody(b.Block, e.Block) || !h.certified(b.hash) {
		return
	}
	c.drop(h, b)
	c.hold(h, e.Block)
}

// repeatRequests lets the next rules ask again, at T_retry, for blocks and verdicts that have not
// come.
func (c *Core) repeatRequests(h *height) {
	var seen []chain.Hash
	for _, rd := range h.rounds {
		if rd.number == h.current && rd.asked && rd.freshness != Valid {
			rd.asked, rd.freshness = false, 0
		}
		for _, kind := range []chain.Kind{chain.Notarize, chain.Finalize} {
			cert := rd.certificates[kind]
			if cert == nil || h.blocks[cert.Block] == nil || slices.Contains(seen, cert.Block) {
				continue
			}
			seen = append(seen, cert.Block)
			b := h.blocks[cert.Block]
			b.overdue = b.checking
			b.fetching, b.checking = false, false
		}
	}
}
