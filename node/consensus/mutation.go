package consensus

import (
	"slices"
	"time"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/internal/mutation"
)

// rules returns the rules of a validator that lacks those that Mutation names.
func (c *Config) rules() rules {
	if c.Mutation == (mutation.Rules{}) {
		return honest{}
	}
	return mutated{m: c.Mutation}
}

// mutated are the honest rules without some. Each method keeps the rest of one rule. The methods
// that are not here are honest.
type mutated struct {
	honest
	m mutation.Rules
}

func (r mutated) threshold(set *chain.ValidatorSet) int {
	return r.honest.threshold(set) - r.m.VotesMissing
}

func (r mutated) count(h *height, votes []chain.Vote, block chain.Hash) int {
	n := r.honest.count(h, votes, block)
	if r.m.CountTwice && h.self >= 0 && votes[h.self].Kind != 0 && votes[h.self].Block == block {
		n++
	}
	return n
}

func (r mutated) accepts(h *height, cert *chain.Certificate) bool {
	if r.m.CountTwice {
		return cert.Height == h.Number && cert.Check(h.n(), h.threshold-1) == nil
	}
	return r.honest.accepts(h, cert)
}

func (r mutated) keep(rd *round, cert *chain.Certificate) {
	first := rd.certificates[cert.Kind]
	r.honest.keep(rd, cert)
	if r.m.NotarizeTwice && first != nil {
		rd.certificates[cert.Kind], rd.others[len(rd.others)-1] = cert, first
	}
}

func (r mutated) votable(rd *round, block chain.Hash) bool {
	return r.honest.votable(rd, block) || (r.m.NotarizeTwice || r.m.VoteInConflict) && len(rd.statements) > 0
}

func (r mutated) candidate(rd *round) chain.Hash {
	if len(rd.statements) == 2 && (rd.own[chain.Notarize] != nil || r.m.VoteInConflict) {
		return rd.statements[1].Block
	}
	return r.honest.candidate(rd)
}

func (r mutated) justified(h *height, number uint32, block chain.Hash) (ok, fresh bool) {
	ok, fresh = h.justified(number, block, h.delta() > 0 && !r.m.PassOver)
	return ok || r.m.VoteUnjustified, ok && fresh
}

func (r mutated) mayNotarize(h *height, rd *round, settled bool) bool {
	own := rd.own[chain.Notarize]
	again := r.m.NotarizeTwice && len(rd.statements) == 2 && own != nil && own.Block == rd.statements[0].Block
	return (own == nil || again) && rd.own[chain.Finalize] == nil &&
		(h.delta() == 0 || (settled || r.m.VoteUnsettled) && (!rd.conflicted() || r.m.VoteInConflict))
}

func (r mutated) mayNullify(rd *round) bool {
	return r.honest.mayNullify(rd) || r.m.NullifyAndFinalize && rd.own[chain.Nullify] == nil
}

func (r mutated) mayFinalize(h *height, rd *round, block chain.Hash) bool {
	notarized, nullified, finalized := rd.own[chain.Notarize], rd.own[chain.Nullify], rd.own[chain.Finalize]
	if r.m.NotarizeTwice {
		return h.self >= 0 && nullified == nil && (finalized == nil || finalized.Block != block)
	}
	return h.self >= 0 && finalized == nil && (nullified == nil || r.m.NullifyAndFinalize) &&
		(notarized == nil || notarized.Block == block || r.m.FinalizeAnother)
}

func (r mutated) wait(h *height) time.Duration {
	if r.m.QuarterWait {
		return r.honest.wait(h) / 4
	}
	return r.honest.wait(h)
}

func (r mutated) refuted(rd *round) bool {
	return rd.certificates[chain.Nullify] != nil && !r.m.FinalizeNullified || rd.conflicted() && !r.m.FinalizeInConflict
}

func (r mutated) unhealthy(c *Core, h *height) {
	switch {
	case r.m.IgnoreHealth:
	case r.m.KeepWaiting:
		c.unsettle()
	default:
		r.honest.unhealthy(c, h)
	}
}

func (r mutated) incomplete(h *height, dropped dropped) bool {
	return !r.m.ForgetDrops && r.honest.incomplete(h, dropped)
}

func (r mutated) judged(now, h *height, set chain.Hash) bool {
	return r.m.AnySet || r.honest.judged(now, h, set)
}

func (r mutated) enterEra(c *Core, from, h *height) {
	newcomer := from.Set.Index(c.cfg.PublicKey) < 0 && h.self >= 0
	if !r.m.ForgetEra && (newcomer || !r.m.NewcomersSettle) {
		r.honest.enterEra(c, from, h)
	}
}

func (r mutated) ahead(c *Core, e Ahead) {
	if !r.m.IgnoreAhead {
		r.honest.ahead(c, e)
	}
}

func (r mutated) sentBy(h *height, from chain.PublicKey, p *chain.Proposal) bool {
	return r.m.AnyBody || r.honest.sentBy(h, from, p)
}

func (r mutated) misfit(c *Core, h *height, b *block, body *chain.Block) {
	if r.m.MisfitInvalid {
		b.verdict = Invalid
		return
	}
	r.honest.misfit(c, h, b, body)
}

func (r mutated) missing(h *height, v chain.Vote) bool {
	return !r.m.VoteForgetful && !r.m.NotarizeTwice && r.honest.missing(h, v)
}

func (r mutated) conflict(a, b chain.Vote) chain.Rule {
	if r.m != (mutation.Rules{VoteForgetful: true}) {
		return ""
	}
	return r.honest.conflict(a, b)
}

func (r mutated) repeat(c *Core, h *height) {
	if !r.m.KeepSilent {
		r.honest.repeat(c, h)
	}
}

func (r mutated) leave(records []chain.Record, bundle chain.Bundle, others []Action) []Action {
	if r.m.ForgetCertificates {
		records = slices.DeleteFunc(records, func(record chain.Record) bool { return record.Kind == chain.RecordCertificate })
	}
	if r.m.Hoard {
		bundle.Certificates = nil
	}
	if r.m.NoRelay {
		bundle.Votes = slices.DeleteFunc(bundle.Votes, func(v chain.Vote) bool { return v.Kind == chain.Propose })
	}
	if r.m.AskNobody {
		others = slices.DeleteFunc(others, func(a Action) bool { return a == RequestResend{} })
	}
	actions := r.honest.leave(records, bundle, others)
	if r.m.SendFirst && len(actions) > 1 && len(records) > 0 && !bundle.Empty() {
		actions[0], actions[1] = actions[1], actions[0]
	}
	return actions
}
