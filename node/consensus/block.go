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

// want returns a certified block, and requests it if it is not held.
func (c *Core) want(h *height, hash chain.Hash) *block {
	b := h.blocks[hash]
	if b == nil {
		b = &block{hash: hash}
		h.blocks[hash] = b
	}
	if b.Block == nil && !b.fetching {
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
	if h == nil || e.Height != h.Number || e.Verdict < Valid || e.Verdict > Misfit {
		return
	}
	b := h.blocks[e.Block]
	if b == nil || b.Block == nil || b.verdict == Invalid {
		return
	}
	switch e.Verdict {
	case Invalid:
		b.verdict = Invalid
		return
	case Misfit:
		c.discard(h, b)
		return
	}
	b.verdict = Valid
	if rd := h.peek(e.Round); e.Fresh && rd.asked && c.rules.candidate(rd) == e.Block {
		rd.freshness = e.Verdict
	}
}

// discard drops a block whose body does not fit its header, unless another body was found valid.
// The next rules request the block again if it is certified. Otherwise a proposal may bring it.
func (c *Core) discard(h *height, b *block) {
	if b.verdict == Valid {
		return
	}
	h.attempt++ // the holder that is asked next is another one
	b.misfits++
	b.Block, b.verdict, b.fetching, b.checking = nil, 0, false, false
	for _, rd := range h.rounds {
		if rd.asked && c.rules.candidate(rd) == b.hash {
			rd.asked, rd.freshness = false, 0
		}
	}
}

func (c *Core) fetched(e BlockFetched) {
	h := c.height
	if h == nil || e.Block == nil {
		return
	}
	if b := h.blocks[e.Block.Hash()]; b != nil && b.Block == nil {
		c.hold(h, e.Block)
	}
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
			if b.checking && b.verdict == 0 {
				b.unanswered++
			}
			if b.unanswered == maxUnanswered {
				b.unanswered, b.Block = 0, nil
			}
			b.fetching, b.checking = false, false
		}
	}
}
