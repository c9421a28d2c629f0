package simulation

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/consensus"
)

// The violations that the oracle sees, wrapped by Result.Violation.
var (
	// ErrFork: two blocks are final at a height.
	ErrFork = errors.New("fork")
	// ErrCertificate: a validator accepted or sent an invalid certificate.
	ErrCertificate = errors.New("invalid certificate")
	// ErrRule: an honest validator broke E1, E2 or E3, or proposed twice.
	ErrRule = errors.New("an honest validator broke a rule")
	// ErrDurable: a vote left before it was on disk.
	ErrDurable = errors.New("a vote left before it was durable")
	// ErrInnocent: evidence accuses an honest validator.
	ErrInnocent = errors.New("evidence against an honest validator")
	// ErrUnpunished: a fork convicts fewer than 2t-n validators.
	ErrUnpunished = errors.New("a fork convicts too few validators")
	// ErrBody: an honest validator commits or proposes a block with a body that does not fit.
	ErrBody = errors.New("a body that does not fit its header is believed")
	// ErrContradiction: an honest validator stops over a contradiction.
	ErrContradiction = errors.New("an honest validator stops")
	// ErrChange: a change of the set is final that too few endorsed, or one that brings back a
	// validator that has left.
	ErrChange = errors.New("a change of the set without its endorsements")
	// ErrStalled: heights stop in the calm.
	ErrStalled = errors.New("stalled")
)

// oracle is the record of a run.
type oracle struct {
	// signed has the signer of each vote that was signed. No others verify.
	signed map[chain.Vote]*identity
	// byzantine are the votes of the coalition. bad are the blocks that honest validators found
	// invalid.
	byzantine map[sentKey][]chain.Vote
	bad       map[chain.Hash]bool
	// sent are the votes that left an honest validator.
	sent map[sentKey][]chain.Vote
	// final is the one block of each height.
	final map[uint64]chain.Hash
	// held are the certificates of a height that honest validators persisted.
	held map[uint64][]*chain.Certificate
	// finalizers are the honest validators that voted to finalize a block in a round.
	finalizers map[chain.Vote]map[uint32]bool
	accused    map[*identity]bool
	evidence   []chain.Evidence
	forked     uint64
	// counted is the highest height whose rounds are in allRounds.
	counted uint64
	// allRounds is the number of rounds of all heights. rounds and calmRounds are the most that one
	// height took.
	allRounds, rounds, calmRounds int
	violation                     error
	// archive are the endorsements that honest validators made, verdicts the changes that were
	// checked.
	archive  map[endorsement]chain.Endorsed
	verdicts map[verdict]error
}

type sentKey struct {
	who    *identity
	height uint64
	round  uint32
}

func newOracle() oracle {
	return oracle{
		signed: make(map[chain.Vote]*identity), byzantine: make(map[sentKey][]chain.Vote), bad: make(map[chain.Hash]bool),
		sent: make(map[sentKey][]chain.Vote), final: make(map[uint64]chain.Hash),
		held: make(map[uint64][]*chain.Certificate), finalizers: make(map[chain.Vote]map[uint32]bool), accused: make(map[*identity]bool),
		archive: make(map[endorsement]chain.Endorsed), verdicts: make(map[verdict]error),
	}
}

// violate ends the run.
func (w *world) violate(format string, args ...any) {
	if w.violation == nil {
		w.violation = fmt.Errorf("at %v: "+format, append([]any{w.now}, args...)...)
		w.trace("VIOLATION %v", w.violation)
	}
}

func (w *world) sawCertificate(s *node, cert *chain.Certificate) {
	e := s.eraAt(w, cert.Height)
	if err := cert.Check(e.n(), e.t()-w.Mutation.VotesMissing); err != nil {
		w.violate("%w: %v: %w", ErrCertificate, s, err)
	}
	for i := range cert.Votes {
		if !w.signedIn(e, cert.Vote(i)) {
			w.violate("%w: %v holds a vote that nobody signed: %+v", ErrCertificate, s, cert.Vote(i))
		}
	}
	if w.bad[cert.Block] && count(e.places, (*identity).owned) < e.t() {
		w.violate("%w: %v holds %s of a block that is invalid", ErrCertificate, s, certificateText(cert))
	}
}

// sawSent checks a message that leaves a node against the rules.
func (w *world) sawSent(s *node, b chain.Bundle) {
	if s.byzantine {
		return
	}
	for _, cert := range b.Certificates {
		w.sawCertificate(s, cert)
	}
	votes := b.Votes
	for _, p := range b.Proposals {
		votes = append(slices.Clip(votes), p.Statement)
		if !fits(&p.Block) {
			w.violate("%w: %v proposes %s", ErrBody, s, short(p.Statement.Block))
		}
		if p.Notarization != nil {
			w.sawCertificate(s, p.Notarization)
		}
		for i := range p.Nullifications {
			w.sawCertificate(s, &p.Nullifications[i])
		}
	}
	for _, v := range votes {
		if w.signed[v] == s.who {
			w.sawVote(s, v)
		}
	}
}

func (w *world) sawVote(s *node, v chain.Vote) {
	k := sentKey{s.who, v.Height, v.Round}
	if slices.Contains(w.sent[k], v) {
		return
	}
	for _, o := range w.sent[k] {
		// A run that looks for forks ignores the rule that was broken on the way.
		if rule := chain.Conflict(o, v); rule != "" && (w.lawful() || w.LastWriteLost || rule == chain.RuleE3 && w.Mutation.FinalizeAnother) {
			w.violate("%w: %v %v: %s and %s", ErrRule, s, rule, voteText(o), voteText(v))
		}
	}
	w.sent[k] = append(w.sent[k], v)
	if v.Kind == chain.Finalize {
		of := chain.Vote{Kind: v.Kind, Height: v.Height, Round: v.Round, Block: v.Block}
		if w.finalizers[of] == nil {
			w.finalizers[of] = make(map[uint32]bool)
		}
		w.finalizers[of][v.Validator] = true
	}
	encoded := v.Encode()
	if !slices.ContainsFunc(s.records, func(r chain.Record) bool {
		return r.Kind == chain.RecordVote && slices.Equal(r.Data, encoded) ||
			r.Kind == chain.RecordProposal && slices.Equal(r.Data[:len(encoded)], encoded)
	}) {
		w.violate("%w: %v sends %s", ErrDurable, s, voteText(v))
	}
	if lacking := w.lacking(s, v); lacking != "" {
		w.violate("%w: %v sends %s, which rests on %s", ErrDurable, s, voteText(v), lacking)
	}
}

// lacking returns the first thing that a vote rests on and that is not on the disk of its
// validator, "" if there is none: the block, the notarization, a certificate by which the round
// before was left, the finalization of the height below.
func (w *world) lacking(s *node, v chain.Vote) string {
	if w.Mutation.ForgetCertificates || w.Mutation.SendFirst || w.Amnesia || w.LastWriteLost {
		return "" // these options lose records on purpose
	}
	durable := ground{
		block: v.Kind == chain.Nullify, entered: v.Round == 0, below: uint64(s.durable)+1 >= v.Height || v.Height == s.voteFrom,
	}
	for _, r := range s.records {
		durable.record(r, v)
	}
	switch {
	case !durable.below:
		return "the finalization below"
	case !durable.block:
		return "the block"
	case !durable.entered:
		return "a certificate of the round before"
	case v.Kind == chain.Finalize && !durable.notarized:
		return "the notarization"
	}
	return ""
}

// ground says which of those are there: the block, a certificate that leads into the round, the
// finalization below, the notarization.
type ground struct{ block, entered, below, notarized bool }

func (g *ground) record(r chain.Record, v chain.Vote) {
	switch r.Kind {
	case chain.RecordBlock:
		b, err := chain.DecodeBlock(r.Data)
		g.block = g.block || err == nil && b.Hash() == v.Block && fits(b)
	case chain.RecordProposal:
		p, err := chain.DecodeProposal(r.Data)
		g.block = g.block || err == nil && p.Statement.Block == v.Block && fits(&p.Block)
	case chain.RecordCertificate:
		if c, err := chain.DecodeCertificate(r.Data); err == nil {
			g.certificate(c, v)
		}
	}
}

func (g *ground) certificate(c *chain.Certificate, v chain.Vote) {
	switch {
	case c.Height == v.Height-1 && c.Kind == chain.Finalize:
		g.below = true
	case c.Height != v.Height:
	// a finalization counts as well
	case c.Kind != chain.Nullify && c.Round == v.Round && c.Block == v.Block:
		g.notarized, g.entered = true, true
	case c.Kind == chain.Notarize && c.Round == v.Round, c.Kind != chain.Finalize && c.Round+1 == v.Round:
		g.entered = true
	}
}

func (w *world) sawCommit(s *node, a consensus.Commit) {
	height := a.Block.Header.Height
	if s.byzantine {
		return
	}
	w.sawCertificate(s, a.Finalization)
	if hash := a.Block.Hash(); a.Finalization.Block != hash || height != uint64(len(s.store)+1) {
		w.violate("%v commits block %v above height %d by %s", s, hash, len(s.store), certificateText(a.Finalization))
	}
	if !fits(a.Block) {
		w.violate("%w: %v commits %s", ErrBody, s, short(a.Finalization.Block))
	}
	w.held[height] = append(w.held[height], a.Justification...)
	if !w.strays(s, a.Finalization) {
		w.believe(s, a.Finalization)
	}
	rounds := int(a.Finalization.Round) + 1
	if w.counted < height {
		w.counted = height
		w.allRounds += rounds
	}
	w.rounds = max(w.rounds, rounds)
	if w.calm && height > w.calmFrom+1 {
		w.calmRounds = max(w.calmRounds, rounds)
		if n := w.eraAt(height).n(); rounds > calmRounds(n) && w.live() && w.intact() && (w.Eras == nil || w.lives(w.eraAt(height))) {
			w.violate("%w: height %d took %d rounds in the calm, at most %d are promised", ErrStalled, height, rounds, calmRounds(n))
		}
	}
}

// sawFinal detects forks. The blocks that a Byzantine validator considers final do not count.
func (w *world) sawFinal(s *node, cert *chain.Certificate) {
	if s.byzantine {
		return
	}
	w.held[cert.Height] = append(w.held[cert.Height], cert)
	held, ok := w.final[cert.Height]
	if ok && held != cert.Block {
		if w.Graded {
			if w.forked == 0 {
				w.after(gradedPatience, func() { w.violate("%w at height %d", ErrFork, w.forked) })
			}
			w.forked = cert.Height
			return
		}
		w.forked = cert.Height
		if err := w.convict(); err != nil {
			w.violate("%w; %w at height %d: %v has %s, another %s", err, ErrFork, cert.Height, s, short(cert.Block), short(held))
		}
		w.violate("%w at height %d: %v has %s, another %s", ErrFork, cert.Height, s, short(cert.Block), short(held))
	}
	w.final[cert.Height] = cert.Block
}

// gradedPatience is how long finalizations may grow stronger after a fork.
const gradedPatience = 3 * time.Second

// disagreement returns the greatest strength at which two blocks of a height can be shown to be
// final: with the votes of honest validators, and of the whole coalition for both.
func (w *world) disagreement() int {
	strongest := make(map[uint64]map[chain.Hash]int)
	for of, by := range w.finalizers {
		if strongest[of.Height] == nil {
			strongest[of.Height] = make(map[chain.Hash]int)
		}
		strongest[of.Height][of.Block] = max(strongest[of.Height][of.Block], len(by)+w.eraAt(of.Height).byzantine())
	}
	worst := 0
	for height, blocks := range strongest {
		first, second := 0, 0
		for _, strength := range blocks {
			if strength > first {
				first, second = strength, first
			} else {
				second = max(second, strength)
			}
		}
		if second >= w.eraAt(height).t() {
			worst = max(worst, second)
		}
	}
	return worst
}

func (w *world) sawEvidence(s *node, e chain.Evidence) {
	// A validator may be misled about the set of a height. Its evidence convicts the signer.
	who := w.signed[e.First]
	if !w.accused[who] {
		w.evidence = append(w.evidence, e)
	}
	w.accused[who] = true
	if who == nil || w.signed[e.Second] != who || w.Keys && e.Verify(chainID, s.eraAt(w, e.First.Height).set) != nil {
		w.violate("%w: %v shows %s and %s, which nobody signed", w.forged(), s, voteText(e.First), voteText(e.Second))
		return
	}
	if !who.owned() && w.lawful() {
		w.violate("%w: %v accuses %v of %s: %s and %s", ErrInnocent, s, who, e.Rule, voteText(e.First), voteText(e.Second))
	}
}

// forged is the violation of a validator that takes votes which do not verify: without the rules of
// verifying, evidence consists of such votes too.
func (w *world) forged() error {
	if m := w.Mutation; m.AnySet || m.CacheWithoutSet || m.CountLeavers {
		return ErrCertificate
	}
	return ErrInnocent
}

func (w *world) sawContradiction(s *node, a consensus.Contradiction) {
	if s.byzantine {
		return
	}
	if s.below() {
		w.fetchAnew(s)
		return
	}
	if len(a.Certificates) == 2 && a.Certificates[0].Height <= s.checkpoint.Height {
		return // stolen keys are enough for that
	}
	if w.sound() || w.Mutation.MisfitInvalid || w.Mutation.UnboundChange || w.Mutation.CacheWithoutSet {
		w.violate("%w: %v: %s", ErrContradiction, s, a.Reason)
	}
	if len(a.Certificates) == 2 {
		w.sawFinal(s, a.Certificates[0])
		w.sawFinal(s, a.Certificates[1])
	}
}

// convict gives the certificates that honest validators kept to a judge. Together with the evidence
// that they found themselves, at least 2t-n validators must have broken E1, E2 or E3, and none of
// them an honest one that keeps these rules.
func (w *world) convict() error {
	if !w.judged() {
		return nil
	}
	e := w.eraAt(w.forked)
	h := consensus.Height{Number: w.forked, Set: e.set, Order: make([]int, e.n())}
	for i := range h.Order {
		h.Order[i] = i
	}
	if w.forked > 1 {
		h.Parent = w.final[w.forked-1]
		h.Last = &chain.Certificate{Kind: chain.Finalize, Height: w.forked - 1, Block: h.Parent}
	}
	judge, err := consensus.New(consensus.Config{
		ChainID: chainID, PublicKey: chain.PublicKey{1}, RoundTimeout: 1e9, MaxRoundTimeout: 1e9, RetryInterval: 1e9,
	}, nil)
	if err == nil {
		_, err = judge.StartHeight(h)
	}
	if err != nil {
		return err
	}
	for _, a := range judge.Step(consensus.Received{Set: e.hash, Bundle: chain.Bundle{Certificates: w.held[w.forked]}}) {
		if found, ok := a.(consensus.EvidenceFound); ok {
			w.evidence = append(w.evidence, found.Evidence)
			w.accused[e.at(found.Evidence.First.Validator)] = true
		}
	}
	for who := range w.accused {
		if !who.owned() && w.lawful() {
			return fmt.Errorf("%w: %v", ErrInnocent, who)
		}
	}
	if len(w.accused) < 2*e.t()-e.n() {
		return fmt.Errorf("%w: %d, want %d", ErrUnpunished, len(w.accused), 2*e.t()-e.n())
	}
	return nil
}
