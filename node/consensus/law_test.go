package consensus

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/diseq/diseq/node/chain"
)

// law holds what a core does to the rules of docs/consensus.md. It sees what goes in and what comes
// out, over crashes, and shares nothing with the core but the types of package chain.
type law struct {
	cfg    *Config
	broken *breach
	// own are the votes made here, received those that came: no other can be in a certificate.
	own, received map[chain.Vote]bool
	// sent are the own votes that left.
	sent []chain.Vote
	// disk are the own votes that are durable, certificates what else is, of this height.
	disk         map[chain.Vote]bool
	certificates map[at][]chain.Hash
	// sets are the sets that decided, finals what they decided, and at which strength it is known.
	sets   map[uint64]*chain.ValidatorSet
	finals map[uint64]*chain.Certificate

	// The height, and what was learned of it since it was begun or begun again.
	Height
	self int
	// running is false from a crash to the next start. entered: the height below had another set,
	// and the others are to be asked what they said of this one.
	running, entered bool
	told             map[chain.Hash]bool
	// bodies are the blocks, with all that the header does not bind, that were found valid at this
	// height in any life. condemned are those that were found invalid, headers all that came.
	bodies    map[string]bool
	condemned map[chain.Hash]bool
	headers   map[chain.Hash]*chain.Header
	fresh     map[uint32][]chain.Hash
	// heard are the blocks stated in a round, rivals those heard in the calls before, shown those
	// that we have told others of. waits are the synchrony waits before a vote to finalize or a
	// proposal that are over (true) or running.
	heard, rivals, shown map[uint32][]chain.Hash
	waits                map[at]bool

	// troubled are those that were answered, or made us ask, since T_retry or the start of the
	// height.
	troubled map[troubled]bool

	// The wait after a start: dropped is the highest height of which a message was passed over,
	// again the highest since the others were asked last.
	settled, settling bool
	settles           uint32
	dropped, again    uint64

	// strange is a vote that somebody made with our key: nothing more is done after it. stopped
	// says that nothing is.
	strange *chain.Vote
	stopped bool
}

// breach is a rule that was broken.
type breach struct{ rule, what string }

func (b *breach) Error() string { return b.rule + ": " + b.what }

// troubled is a peer and what was done for it.
type troubled struct {
	what string
	peer chain.PublicKey
}

// once: nobody makes the node do a thing for it again and again.
func (l *law) once(what string, peer chain.PublicKey) {
	if l.troubled[troubled{what, peer}] {
		l.breaks("bounded", "%s for %v again", what, peer)
	}
	l.troubled[troubled{what, peer}] = true
}

// at names the certificates of a kind in a round.
type at struct {
	kind  chain.Kind
	round uint32
}

func newLaw(cfg *Config) *law {
	return &law{
		cfg: cfg, own: make(map[chain.Vote]bool), received: make(map[chain.Vote]bool), disk: make(map[chain.Vote]bool),
		certificates: make(map[at][]chain.Hash), sets: make(map[uint64]*chain.ValidatorSet), finals: make(map[uint64]*chain.Certificate),
		condemned: make(map[chain.Hash]bool), headers: make(map[chain.Hash]*chain.Header),
	}
}

func (l *law) breaks(rule, format string, args ...any) {
	if l.broken == nil {
		l.broken = &breach{rule, fmt.Sprintf(format, args...)}
	}
}

func (l *law) delta() time.Duration { return time.Duration(l.Set.SynchronyDeltaMS) * time.Millisecond }

func (l *law) leader(r uint32) int { return l.Order[int(int64(r)%int64(len(l.Order)))] }

// final is the finalization by which a height was committed.
func (l *law) final(height uint64) *chain.Certificate { return l.finals[height] }

// A node that does not vote has no records of the height: it fetches the height again.
func (l *law) crash() {
	l.settled, l.settling, l.dropped, l.again = false, false, 0, 0
	l.running = false
	if l.self < 0 {
		delete(l.finals, l.Number)
	}
}

// below is the finalization that a height begins on after catching up.
func (l *law) below(cert *chain.Certificate, set *chain.ValidatorSet) {
	l.sets[cert.Height], l.finals[cert.Height] = set, cert
	l.knows(cert)
}

func (l *law) begins(h Height) {
	if h.Number != l.Number {
		clear(l.certificates)
		l.bodies = make(map[string]bool)
	}
	l.entered = l.running && l.Set.Hash() != h.Set.Hash()
	l.running = true
	if l.entered { // the messages that came of this height were checked against the set below
		maps.DeleteFunc(l.received, func(v chain.Vote, _ bool) bool { return v.Height >= h.Number })
	}
	l.Height, l.self = h, -1
	if h.Number >= l.cfg.VoteFrom {
		l.self = h.Set.Index(l.cfg.PublicKey)
	}
	l.sets[h.Number] = h.Set
	l.told, l.fresh = make(map[chain.Hash]bool), make(map[uint32][]chain.Hash)
	l.heard, l.rivals, l.shown = make(map[uint32][]chain.Hash), make(map[uint32][]chain.Hash), make(map[uint32][]chain.Hash)
	l.waits, l.troubled = make(map[at]bool), make(map[troubled]bool)
	if h.Number <= l.dropped || l.entered {
		l.settled, l.settling = false, false
	}
}

// signs is called for every signature that the core makes.
func (l *law) signs(v chain.Vote) {
	if v.Height != l.Number || l.self < 0 || int(v.Validator) != l.self {
		l.breaks("who votes", "validator %d of height %d signs %+v", l.self, l.Number, v)
	}
	l.own[v] = true
}

func (l *law) known(v chain.Vote) bool { return l.own[v] || l.received[v] }

func (l *law) knows(cert *chain.Certificate) {
	for i := range cert.Votes {
		l.received[cert.Vote(i)] = true
	}
}

// judged reports whether a message of a height was checked against that height's set. No set is
// known above the present height: messages that were checked against the present set count.
func (l *law) judged(height uint64, set chain.Hash) bool {
	return l.Set.Hash() == set || height < l.Number && l.sets[height] != nil && l.sets[height].Hash() == set
}

// counts is what there is to learn from a bundle: nothing that was checked against another set than
// that of its height, and no proposal that was passed on by another than its leader.
func (l *law) counts(e Received) (b chain.Bundle) {
	for _, cert := range e.Bundle.Certificates {
		if l.judged(cert.Height, e.Set) {
			b.Certificates = append(b.Certificates, cert)
		}
	}
	for _, p := range e.Bundle.Proposals {
		if l.judged(p.Statement.Height, e.Set) && l.Set.Index(e.From) == int(p.Statement.Validator) {
			b.Proposals = append(b.Proposals, p)
		}
	}
	for _, v := range e.Bundle.Votes {
		if l.judged(v.Height, e.Set) {
			b.Votes = append(b.Votes, v)
		}
	}
	return b
}

// passes takes note of what is too far above to be kept.
func (l *law) passes(b chain.Bundle) {
	note := func(height uint64) {
		if height > l.Number+1 {
			l.dropped, l.again = max(l.dropped, height), max(l.again, height)
		}
	}
	for _, cert := range b.Certificates {
		note(cert.Height)
	}
	for _, p := range b.Proposals {
		note(p.Statement.Height)
	}
	for _, v := range b.Votes {
		note(v.Height)
	}
}

// waitsFor says what a timer's wait comes before.
var waitsFor = map[TimerKind]chain.Kind{WaitTimer: chain.Finalize, ProposeTimer: chain.Propose}

// happens takes an event in, before the core does.
func (l *law) happens(e Event) {
	switch e := e.(type) {
	case Received:
		bundle := l.counts(e)
		l.passes(bundle)
		for _, cert := range bundle.Certificates {
			l.knows(cert)
		}
		for _, p := range bundle.Proposals {
			l.hears(p.Statement)
			l.sees(&p.Block)
			for i := range p.Nullifications {
				l.knows(&p.Nullifications[i])
			}
			if p.Notarization != nil {
				l.knows(p.Notarization)
			}
		}
		for _, v := range bundle.Votes {
			l.hears(v)
		}
	case Health:
		if !e.OK {
			l.settled, l.settling = false, false
			for of, over := range l.waits {
				if !over && of.kind == chain.Finalize {
					delete(l.waits, of)
				}
			}
		}
	case TimerFired:
		of := at{waitsFor[e.Timer.Kind], e.Timer.Round}
		if _, waiting := l.waits[of]; waiting && e.Timer.Height == l.Number {
			l.waits[of] = true
		}
		if e.Timer.Kind == RetryTimer && e.Timer.Height == l.Number {
			clear(l.troubled)
		}
		if e.Timer.Kind == SettleTimer && l.settling && e.Timer.Round == l.settles {
			// Messages of later heights came again, or they were not true.
			l.settled, l.settling, l.dropped = true, false, l.again
		}
	case BlockChecked:
		if e.Height != l.Number {
			return
		}
		l.sees(e.Block)
		hash := e.Block.Hash()
		if e.Verdict == Valid || e.Verdict == Withheld {
			l.told[hash], l.bodies[string(e.Block.Encode())] = true, true
		}
		if e.Verdict == Invalid {
			l.condemned[hash] = true
		}
		if e.Verdict == Valid && e.Fresh {
			l.fresh[e.Round] = append(l.fresh[e.Round], hash)
		}
	case BlockFetched:
		l.sees(e.Block)
	case BlockBuilt:
		l.sees(e.Block)
		l.told[e.Block.Hash()], l.bodies[string(e.Block.Encode())] = true, true
		l.fresh[e.Round] = append(l.fresh[e.Round], e.Block.Hash())
	}
}

// sees takes note of the header of a block that came.
func (l *law) sees(b *chain.Block) { l.headers[b.Hash()] = &b.Header }

// breaksRule reports whether a final block is invalid: it was found so, or does not follow.
func (l *law) breaksRule(block chain.Hash) bool {
	h := l.headers[block]
	return l.condemned[block] || h != nil && (h.ParentHash != l.Parent || h.Height != l.Number)
}

// fits holds a block that is stored, sent or committed to being found valid with this very body.
func (l *law) fits(b *chain.Block) {
	if b.Header.Height == l.Number && !l.bodies[string(b.Encode())] {
		l.breaks("body", "block %v has a body that nobody found valid", b.Hash())
	}
}

func (l *law) hears(v chain.Vote) {
	l.received[v] = true
	near := v.Height == l.Number && int64(v.Round) <= 2*int64(len(l.Set.Validators))
	if near && l.self >= 0 && !l.cfg.Mutation.NotarizeTwice && int64(v.Validator) == int64(l.self) && !l.own[v] {
		l.strange = &v
	}
	if v.Kind == chain.Propose && v.Height == l.Number && int(v.Validator) == l.leader(v.Round) {
		l.heard[v.Round] = append(l.heard[v.Round], v.Block)
	}
}

// asked looks at all that one call asks for, before it is carried out.
func (l *law) asked(e Event, actions []Action) {
	var persist Persist
	var broadcast Broadcast
	var retried, commit, asks, settles bool
	for i, a := range actions {
		switch a := a.(type) {
		case Persist:
			if i != 0 {
				l.breaks("durable", "what is to be durable is asked for after %T", actions[0])
			}
			persist = a
		case Broadcast:
			if broadcast.Bundle.Empty() {
				broadcast = a // the second, at a start, repeats
			}
		case SetTimer:
			settles = settles || a.Timer.Kind == SettleTimer
			retried = retried || a.Timer.Kind == RetryTimer && a.Timer.Height == l.Number && a.After == l.cfg.RetryInterval
		case RequestResend:
			asks = true
		case Commit:
			commit = true
		case Contradiction:
			l.stopped = l.stopped || len(a.Certificates) == 0
			if len(a.Certificates) == 1 && !l.breaksRule(a.Certificates[0].Block) {
				l.breaks("misfit", "block %v is called invalid, and its header breaks no rule", a.Certificates[0].Block)
			}
		}
	}
	if l.stopped {
		l.stops(actions)
		return
	}
	// the very same vote may have been cast in this call
	if l.strange != nil && !l.own[*l.strange] {
		l.breaks("forgotten", "%+v was made with our key by another, and we go on", l.strange)
	}
	if waits := settles || l.delta() == 0 && l.entered; waits != asks {
		l.breaks("settled", "the others are asked: %v, and waited for: %v, at a change of the set: %v", asks, settles, l.entered)
	}
	l.entered = false
	if a, ok := e.(Ahead); ok && a.Height > l.Number+1 && !l.troubled[troubled{"catch up", a.From}] {
		if _, asks := find[CatchUp](actions); !asks {
			l.breaks("catch up", "not to height %d at %d", a.Height, l.Number)
		}
	}
	if fired, ok := e.(TimerFired); ok && !retried && fired.Timer.Kind == RetryTimer && fired.Timer.Height == l.Number {
		l.breaks("T_retry", "it is not asked for again")
	}
	for _, s := range broadcast.Bundle.Votes {
		if s.Kind == chain.Propose {
			l.shows(s)
		}
	}
	for _, p := range broadcast.Bundle.Proposals {
		l.shows(p.Statement)
	}
	// The records are in the order in which things were learned and done.
	for _, r := range persist.Records {
		l.records(r, broadcast.Bundle)
		if v, err := chain.DecodeVote(r.Data); r.Kind == chain.RecordVote && err == nil {
			l.votes(v, commit)
		}
		if p, err := chain.DecodeProposal(r.Data); r.Kind == chain.RecordProposal && err == nil {
			l.proposes(p.Statement)
			l.fits(&p.Block)
		}
		if b, err := chain.DecodeBlock(r.Data); r.Kind == chain.RecordBlock && err == nil {
			l.fits(b)
		}
	}
	// In one call a vote may come before the last event that it needs.
	for r, blocks := range l.heard {
		if int64(r) <= 2*int64(len(l.Set.Validators)) {
			l.rivals[r] = slices.Clone(blocks)
		}
	}
}

// stops holds a core that finds a vote of its own that it does not know to doing nothing else but
// keep that vote.
func (l *law) stops(actions []Action) {
	persist, ok := actions[0].(Persist)
	if len(actions) != 2 || !ok || len(persist.Records) != 1 || persist.Records[0].Kind != chain.RecordMissingVote {
		l.breaks("forgotten", "it stops with %+v", actions)
		return
	}
	v, err := chain.DecodeVote(persist.Records[0].Data)
	if err != nil || !l.received[v] || l.disk[v] {
		l.breaks("forgotten", "it stops for %+v, which is durable or never came: %v", v, err)
	}
}

func (l *law) shows(s chain.Vote) { l.shown[s.Round] = append(l.shown[s.Round], s.Block) }

// records looks at what is to be durable: it can be read back, and a certificate is forwarded at
// once (R1).
func (l *law) records(r chain.Record, sent chain.Bundle) {
	if err := checkRecord(r); err != nil || r.Height != l.Number || l.self < 0 {
		l.breaks("record", "%+v at height %d: %v", r, l.Number, err)
		return
	}
	if r.Kind != chain.RecordCertificate {
		return
	}
	cert, err := chain.DecodeCertificate(r.Data)
	if err != nil {
		l.breaks("record", "%v", err)
		return
	}
	l.certificate(cert)
	l.certificates[at{cert.Kind, cert.Round}] = append(l.certificates[at{cert.Kind, cert.Round}], cert.Block)
	if !slices.ContainsFunc(sent.Certificates, func(o *chain.Certificate) bool { return slices.Equal(o.Encode(), r.Data) }) {
		l.breaks("R1", "%v certificate of round %d is not forwarded", cert.Kind, cert.Round)
	}
}

// has reports whether a certificate is durable.
func (l *law) has(kind chain.Kind, r uint32, block chain.Hash) bool {
	return slices.Contains(l.certificates[at{kind, r}], block)
}

// votes holds a vote that is being made to the rules of making one.
func (l *law) votes(v chain.Vote, commit bool) {
	r := v.Round
	if r > 0 && v.Kind != chain.Finalize &&
		len(l.certificates[at{chain.Notarize, r - 1}])+len(l.certificates[at{chain.Nullify, r - 1}])+len(l.certificates[at{chain.Notarize, r}]) == 0 {
		l.breaks("rests on", "round %d was entered, and no certificate that leads there is durable", r)
	}
	switch v.Kind {
	case chain.Notarize:
		l.notarizes(v)
	case chain.Finalize:
		// A block that is already final gets this vote only to make it stronger.
		if l.valid(v); !commit || !l.has(chain.Finalize, r, v.Block) {
			l.finalizes(v)
		}
	}
}

func (l *law) finalizes(v chain.Vote) {
	r := v.Round
	if !l.has(chain.Notarize, r, v.Block) {
		l.breaks("rests on", "a vote to finalize in round %d, and the notarization is not durable", r)
	}
	if l.delta() == 0 {
		return
	}
	if !l.waits[at{chain.Finalize, r}] {
		l.breaks("2*Delta", "a vote to finalize in round %d without a wait", r)
	}
	if l.rival(v) || len(l.certificates[at{chain.Nullify, r}]) > 0 {
		l.breaks("against", "a vote to finalize in round %d, and something is known that speaks against it", r)
	}
}

// rival reports whether another block is known of a vote's round.
func (l *law) rival(v chain.Vote) bool {
	another := func(b chain.Hash) bool { return b != v.Block }
	return slices.ContainsFunc(l.rivals[v.Round], another) || slices.ContainsFunc(l.certificates[at{chain.Notarize, v.Round}], another)
}

// proposes holds a proposal that is being made to the leader's wait.
func (l *law) proposes(s chain.Vote) {
	if l.leader(s.Round) != l.self {
		l.breaks("who votes", "validator %d proposes in round %d, which %d leads", l.self, s.Round, l.leader(s.Round))
	}
	if l.delta() > 0 && s.Round > 0 && len(l.certificates[at{chain.Notarize, s.Round - 1}]) == 0 && !l.waits[at{chain.Propose, s.Round}] {
		l.breaks("2*Delta", "a proposal in round %d without a wait", s.Round)
	}
}

func (l *law) valid(v chain.Vote) {
	if !l.told[v.Block] {
		l.breaks("valid", "a vote to %v for block %v, which nobody said is valid", v.Kind, v.Block)
	}
}

func (l *law) notarizes(v chain.Vote) {
	ok, fresh, over := l.justified(v.Round, v.Block)
	if !ok {
		l.breaks("justified", "block %v in round %d is voted for without a justification", v.Block, v.Round)
	}
	if ok && fresh && !slices.Contains(l.fresh[v.Round], v.Block) {
		l.breaks("valid", "a vote in round %d for fresh block %v, which nobody said is to be voted for", v.Round, v.Block)
	}
	l.valid(v)
	ours := chain.Vote{Kind: chain.Propose, Height: v.Height, Round: v.Round, Block: v.Block, Validator: v.Validator}
	fakeSignature(&ours)
	if !slices.Contains(l.heard[v.Round], v.Block) && !l.own[ours] {
		l.breaks("proposed", "block %v in round %d is voted for, and nobody proposed it", v.Block, v.Round)
	}
	if l.delta() == 0 {
		return
	}
	if !l.own[ours] && !slices.Contains(l.shown[v.Round], v.Block) {
		l.breaks("R2", "block %v in round %d is voted for, and its statement was not relayed", v.Block, v.Round)
	}
	if over {
		l.breaks("R3", "block %v in round %d is voted for over a notarization of another", v.Block, v.Round)
	}
	if l.rival(v) {
		l.breaks("R4", "block %v in round %d is voted for, and another is known", v.Block, v.Round)
	}
	if !l.settled {
		l.breaks("settled", "block %v in round %d is voted for before the others were heard", v.Block, v.Round)
	}
}

// justified reports whether the durable certificates justify a block in a round, whether it is
// fresh there, and whether a notarization is passed over.
func (l *law) justified(r uint32, block chain.Hash) (ok, fresh, over bool) {
	for q := r; q > 0; {
		q--
		if l.has(chain.Notarize, q, block) {
			return true, false, over
		}
		over = over || len(l.certificates[at{chain.Notarize, q}]) > 0
		if len(l.certificates[at{chain.Nullify, q}]) == 0 {
			return false, false, over
		}
	}
	return true, true, over
}

// certificate holds one that the core made, kept or sent to what a certificate is.
func (l *law) certificate(cert *chain.Certificate) {
	set := l.sets[cert.Height]
	if set == nil {
		l.breaks("threshold", "a certificate of height %d, of which nothing is known", cert.Height)
		return
	}
	voters := make(map[uint32]bool)
	for i := range cert.Votes {
		v := cert.Vote(i)
		if !l.known(v) {
			l.breaks("threshold", "%v certificate of round %d with a vote that was never cast: %+v", cert.Kind, cert.Round, v)
		}
		if int(v.Validator) < len(set.Validators) {
			voters[v.Validator] = true
		}
	}
	if len(voters) < int(set.Threshold) || len(voters) != len(cert.Votes) {
		l.breaks("threshold", "%v certificate of round %d by %d of %d validators, with %d votes, threshold %d",
			cert.Kind, cert.Round, len(voters), len(set.Validators), len(cert.Votes), set.Threshold)
	}
}

// done looks at an action that is carried out.
func (l *law) done(a Action) {
	switch a := a.(type) {
	case Persist:
		for _, r := range a.Records {
			switch r.Kind {
			case chain.RecordVote:
				if v, err := chain.DecodeVote(r.Data); err == nil {
					l.disk[v] = true
				}
			case chain.RecordProposal:
				if p, err := chain.DecodeProposal(r.Data); err == nil {
					l.disk[p.Statement] = true
				}
			}
		}
	case Broadcast:
		l.leaves(a.Bundle)
	case Send:
		l.leaves(l.without(a.Bundle, a.To))
	case SetTimer:
		l.timer(a)
	case Commit:
		l.commits(a)
	case Strengthen:
		l.certificate(a.Finalization)
		held := l.finals[a.Finalization.Height]
		if held == nil || held.Block != a.Finalization.Block || len(held.Votes) >= len(a.Finalization.Votes) {
			l.breaks("final", "finalization %+v grows to %+v", held, a.Finalization)
		}
		l.finals[a.Finalization.Height] = a.Finalization
	case EvidenceFound:
		e := a.Evidence
		if !l.known(e.First) || !l.known(e.Second) || e.Rule == "" || chain.Conflict(e.First, e.Second) != e.Rule {
			l.breaks("evidence", "%+v", e)
		}
	case CatchUp:
		l.once("catch up", a.From)
		if a.Height <= l.Number {
			l.breaks("catch up", "to height %d at %d", a.Height, l.Number)
		}
	case AnswerFinalization:
		l.once("answer", a.To)
		if a.Height >= l.Number {
			l.breaks("answer", "about height %d at %d", a.Height, l.Number)
		}
	case RequestBlock:
		if l.self < 0 || l.leader(a.Round) != l.self {
			l.breaks("who votes", "validator %d is asked for a block of round %d, which %d leads", l.self, a.Round, l.leader(a.Round))
		}
	}
}

func (l *law) commits(a Commit) {
	cert, height := a.Finalization, l.Number
	l.certificate(cert)
	for _, o := range a.Justification {
		l.certificate(o)
	}
	held := l.finals[height]
	if cert.Kind != chain.Finalize || cert.Block != a.Block.Hash() || cert.Height != height ||
		a.Block.Header.ParentHash != l.Parent || held != nil && held.Block != cert.Block {
		l.breaks("final", "height %d: %+v after %+v", height, a, held)
	}
	l.fits(a.Block)
	if !l.told[cert.Block] {
		l.breaks("valid", "block %v is final, and nobody said it is valid", cert.Block)
	}
	if held == nil || len(held.Votes) < len(cert.Votes) {
		l.finals[height] = cert
	}
}

func (l *law) timer(a SetTimer) {
	wait := 2 * l.delta()
	longest := max(l.cfg.MaxRoundTimeout, 7*l.delta()) + l.cfg.MinBlockInterval
	switch a.Timer.Kind {
	case WaitTimer, ProposeTimer, SettleTimer:
		if a.After != wait || wait == 0 {
			l.breaks("2*Delta", "a wait of %v, want %v", a.After, wait)
		}
	case RoundTimer:
		if a.After < 0 || a.After > longest {
			l.breaks("T_round", "%v, want at most %v", a.After, longest)
		}
	}
	switch a.Timer.Kind {
	case WaitTimer, ProposeTimer:
		l.waits[at{waitsFor[a.Timer.Kind], a.Timer.Round}] = false
	case SettleTimer:
		l.settling, l.settles, l.again = true, a.Timer.Round, 0
	}
}

// without is a bundle without the votes that were heard of the one it is for: they are told what
// they voted for.
func (l *law) without(b chain.Bundle, peer chain.PublicKey) chain.Bundle {
	b.Votes = slices.DeleteFunc(slices.Clone(b.Votes), func(v chain.Vote) bool {
		set := l.sets[v.Height]
		return set != nil && set.Index(peer) == int(v.Validator) && l.received[v]
	})
	return b
}

// leaves holds what is sent to E1 to E3, and to being durable before.
func (l *law) leaves(b chain.Bundle) {
	for _, cert := range b.Certificates {
		l.certificate(cert)
	}
	votes := slices.Clone(b.Votes)
	for _, p := range b.Proposals {
		votes = append(votes, p.Statement)
		l.fits(&p.Block)
		for i := range p.Nullifications {
			l.certificate(&p.Nullifications[i])
		}
		if p.Notarization != nil {
			l.certificate(p.Notarization)
		}
	}
	for _, v := range votes {
		if !l.known(v) {
			l.breaks("who votes", "nobody cast %+v", v)
		}
		// Statements that were heard are relayed, one that another made with our key among them;
		// else what leaves is our own.
		proposed := slices.ContainsFunc(b.Proposals, func(p *chain.Proposal) bool { return p.Statement == v })
		if v.Kind == chain.Propose && l.received[v] && !proposed {
			continue
		}
		if !l.own[v] {
			l.breaks("who votes", "a vote of another leaves: %+v", v)
		}
		if slices.Contains(l.sent, v) {
			continue
		}
		for _, o := range l.sent {
			if rule := chain.Conflict(o, v); rule != "" {
				l.breaks(string(rule), "%+v and %+v", o, v)
			}
		}
		if !l.disk[v] {
			l.breaks("durable", "%+v leaves before it is on the disk", v)
		}
		l.sent = append(l.sent, v)
	}
}
