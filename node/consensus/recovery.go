package consensus

import (
	"errors"
	"fmt"
	"math"

	"github.com/diseq/diseq/node/chain"
)

// readOwn returns this validator's votes among the records of a height. Votes of another validator,
// or votes that contradict each other, prove that the records are not this validator's own. It must
// not vote on top of them.
func (c *Core) readOwn(h *height, records []chain.Record) ([]chain.Vote, error) {
	var own []chain.Vote
	add := func(v chain.Vote) error {
		if index := h.Set.Index(c.cfg.PublicKey); index < 0 || int64(v.Validator) != int64(index) {
			return fmt.Errorf("restored %v vote at height %d is of validator %d, not of %v", v.Kind, v.Height, v.Validator, c.cfg.PublicKey)
		}
		for _, o := range own {
			if rule := c.rules.conflict(o, v); rule != "" {
				return fmt.Errorf("restored votes at height %d round %d break %s together", v.Height, v.Round, rule)
			}
		}
		own = append(own, v)
		return nil
	}
	for _, r := range records {
		switch r.Kind {
		case chain.RecordVote:
			v, err := chain.DecodeVote(r.Data)
			if err != nil {
				return nil, err
			}
			if err := add(v); err != nil {
				return nil, err
			}
		case chain.RecordProposal:
			p, err := chain.DecodeProposal(r.Data)
			if err != nil {
				return nil, err
			}
			if err := add(p.Statement); err != nil {
				return nil, err
			}
		}
	}
	return own, nil
}

// ErrMissingVote is wrapped by the error of New when the records are known to lack a vote that this
// validator has signed.
var ErrMissingVote = errors.New("the vote store lacks a vote that this validator has signed")

// checkOwn looks at a vote with this validator's key. A vote is durable before it is sent. A vote
// that the records lack therefore means a restored older vote store, or a second process with the
// same key. Either may break E1 to E3 unnoticed, so this validator stops before anything else
// leaves.
func (c *Core) checkOwn(h *height, v chain.Vote) {
	if !c.restoring && c.missing == nil && c.rules.missing(h, v) {
		kept := v // only this one escapes to the heap
		c.missing = &kept
	}
}

func (honest) missing(h *height, v chain.Vote) bool {
	if h.self < 0 || int64(v.Validator) != int64(h.self) {
		return false
	}
	rd := h.peek(v.Round)
	recorded := rd.proposed
	if v.Kind != chain.Propose {
		recorded = rd.own[v.Kind]
	}
	return recorded == nil || recorded.Block != v.Block
}

func (honest) conflict(a, b chain.Vote) chain.Rule { return chain.Conflict(a, b) }

// stop records the missing vote, so that no process votes on top of these records again.
func (c *Core) stop() []Action {
	record := chain.Record{Height: math.MaxInt64, Kind: chain.RecordMissingVote, Data: c.missing.Encode()}
	return []Action{Persist{[]chain.Record{record}}, Contradiction{Reason: missingText(*c.missing)}}
}

func missingText(v chain.Vote) string {
	return fmt.Sprintf("a %v vote at height %d round %d is signed with this validator's key, but its vote store lacks it: "+
		"the store is an older copy, or another process uses the key", v.Kind, v.Height, v.Round)
}

// restore loads the records of a height: blocks and certificates as if they had just been learned,
// but without sending anything; then this validator's own votes, which it tallies again. The
// current round becomes the highest one in which it voted, and the certificates lead on from there.
//
// Blocks are checked anew, so that the node has their messages in the way that any check ensures.
func (c *Core) restore(h *height, records []chain.Record, own []chain.Vote) {
	c.restoring = true
	for _, r := range records {
		// New has decoded each of them.
		switch r.Kind {
		case chain.RecordBlock:
			if b, err := chain.DecodeBlock(r.Data); err == nil {
				c.hold(h, b).persisted = true
			}
		case chain.RecordCertificate:
			if cert, err := chain.DecodeCertificate(r.Data); err == nil {
				c.learn(h, cert)
			}
		case chain.RecordProposal:
			if p, err := chain.DecodeProposal(r.Data); err == nil {
				c.restoreProposal(h, p)
			}
		}
	}
	c.restoring = false
	for _, v := range own {
		h.current = max(h.current, v.Round)
		rd := h.round(v.Round)
		if v.Kind == chain.Propose {
			rd.statements, rd.proposed = append(rd.statements, v), &v
			continue
		}
		if h.self >= 0 {
			rd.own[v.Kind] = &v
		}
		if c.tally(h, v) {
			c.form(h, v)
		}
	}
}

func (c *Core) restoreProposal(h *height, p *chain.Proposal) {
	c.hold(h, &p.Block).persisted = true
	for i := range p.Nullifications {
		c.learn(h, &p.Nullifications[i])
	}
	if p.Notarization != nil {
		c.learn(h, p.Notarization)
	}
	if h.self >= 0 {
		h.round(p.Statement.Round).proposal = p
	}
}
