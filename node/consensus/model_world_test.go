package consensus

import (
	"cmp"
	"fmt"
	"slices"
	"testing"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/internal/mutation"
)

// modelCase is one world to be searched. Validators 0 to byzantine-1 are Byzantine.
type modelCase struct {
	name                    string
	n, threshold, byzantine int
	order                   []int
	rules                   mutation.Rules
	// Further powers of the adversary: crash a validator, hold up the answers about blocks, deliver
	// two messages at once, deliver single votes.
	crashes, late, pairs, votes bool
	// rounds are how many rounds messages are of, 0 for all of the model.
	rounds uint32
	// forks: two blocks can be final.
	forks bool
	// whole tells states of a validator apart by all that it holds; plain makes no classes of them,
	// and takes no validators for alike.
	whole, plain bool
}

// model is a world with all that its validators may come to.
type model struct {
	modelCase
	t          *testing.T
	set        *chain.ValidatorSet
	blocks     [modelBlocks]*chain.Block
	hashes     [modelBlocks]chain.Hash
	index      map[chain.Hash]int
	events     []modelEvent
	validators []*automaton
	// alike is the first of those honest validators that lead no round: all of them are one
	// automaton.
	alike int
	// certificates is every certificate that there may be, contradictions the pairs that must not
	// both be, finals those of final blocks.
	certificates           voteSet
	contradictions, finals []voteSet
}

// modelEvent is something that may happen to a validator, by the adversary's choice.
type modelEvent struct {
	name string
	// event returns the event for validator self; nil stands for a start from the records.
	event func(self int) Event
	// It may happen once certificates can be formed, other validators but one fewer than make a
	// certificate have cast votes, and an honest leader has made a proposal.
	certificates, votes, proposals voteSet
}

// voteSet is a set of what may be said: of each kind, of the rounds, of the blocks.
type voteSet uint32

const (
	modelRounds = 2
	// modelBlocks counts the blocks: two fresh ones of each round, 0A, 0B, 1A and 1B. An honest
	// leader makes one.
	modelBlocks = 2 * modelRounds
)

func blockName(i int) string { return fmt.Sprintf("%d%c", i/2, 'A'+i%2) }

func said(kind chain.Kind, r uint32, block int) voteSet {
	return 1 << (((int(kind)-1)*modelRounds+int(r))*modelBlocks + block)
}

// own is what a message of validator self says, nothing if it is of another or not part of the
// model.
func (m *model) own(v chain.Vote, self int) voteSet {
	if v.Round >= modelRounds || int(v.Validator) != self {
		return 0
	}
	return said(v.Kind, v.Round, m.index[v.Block])
}

func newModel(t *testing.T, c modelCase) *model {
	m := &model{modelCase: c, t: t, set: testSet(c.n, c.threshold), index: make(map[chain.Hash]int)}
	for i := range m.blocks {
		if leader := m.order[i/2]; i%2 == 0 || leader < m.byzantine {
			m.blocks[i] = &chain.Block{Header: chain.Header{ChainID: "test", Height: 1, Proposer: uint32(leader), Timestamp: uint64(i)}}
			m.hashes[i] = m.blocks[i].Hash()
			m.index[m.hashes[i]] = i
		}
	}
	m.rounds = cmp.Or(m.rounds, modelRounds)
	m.addMessages()
	if m.pairs {
		m.addPairs()
	}
	for r := range m.rounds {
		m.add(fmt.Sprint("T_round of ", r), TimerFired{Timer{Kind: RoundTimer, Height: 1, Round: r}})
	}
	if m.late {
		m.addAnswers()
	}
	if m.crashes {
		m.events = append(m.events, modelEvent{name: "crash and restart"})
	}
	m.addContradictions()
	m.addValidators()
	return m
}

func (m *model) add(name string, e Event) {
	m.events = append(m.events, modelEvent{name: name, event: func(int) Event { return e }})
}

// addMessages makes every certificate and every proposal of the model. A Byzantine leader proposes
// every block that there may be, its own and another's, whatever justifies it; an honest one what
// it has sent.
func (m *model) addMessages() {
	for r := range m.rounds {
		m.addCertificate(chain.Nullify, r, 0)
		for i, b := range m.blocks {
			if b == nil || i/2 > int(r) {
				continue
			}
			m.addCertificate(chain.Notarize, r, i)
			m.addCertificate(chain.Finalize, r, i)
			s := chain.Vote{Kind: chain.Propose, Height: 1, Round: r, Block: m.hashes[i], Validator: uint32(m.order[r])}
			fakeSignature(&s)
			var sent voteSet
			if m.order[r] >= m.byzantine {
				sent = said(chain.Propose, r, i)
			}
			proposal := &chain.Proposal{Statement: s, Block: *b}
			m.add(fmt.Sprintf("proposal of %s in %d", blockName(i), r), Received{Bundle: chain.Bundle{Proposals: []*chain.Proposal{proposal}}})
			m.events[len(m.events)-1].proposals = sent
			if m.late {
				m.add(fmt.Sprintf("statement of %s in %d", blockName(i), r), Received{Bundle: chain.Bundle{Votes: []chain.Vote{s}}})
				m.events[len(m.events)-1].proposals = sent
			}
		}
	}
}

// addCertificate makes a certificate, and the votes of one validator fewer. Whose they are makes no
// difference to who receives them; those for different blocks begin with different validators, so
// that they can come together.
func (m *model) addCertificate(kind chain.Kind, r uint32, block int) {
	name := fmt.Sprintf("%v %d", kind, r)
	if kind != chain.Nullify {
		name = fmt.Sprintf("%v %s in %d", kind, blockName(block), r)
	}
	certificate := func(self int) *chain.Certificate {
		var signers []int
		for v := range m.n {
			if v != self && len(signers) < m.threshold {
				signers = append(signers, v)
			}
		}
		return fakeCertificate(kind, 1, r, m.hashOf(kind, block), signers...)
	}
	x := said(kind, r, block)
	m.certificates |= x
	m.events = append(m.events, modelEvent{
		name: "certificate of " + name, certificates: x,
		event: func(self int) Event {
			return Received{Bundle: chain.Bundle{Certificates: []*chain.Certificate{certificate(self)}}}
		},
	})
	if m.votes {
		m.events = append(m.events, modelEvent{name: "votes of " + name, votes: x, event: func(self int) Event {
			cert, votes := certificate(self), []chain.Vote(nil)
			for i := range m.threshold - 1 {
				votes = append(votes, cert.Vote((i+block/2+block%2)%m.threshold))
			}
			return Received{Bundle: chain.Bundle{Votes: votes}}
		}})
	}
}

func (m *model) hashOf(kind chain.Kind, block int) (hash chain.Hash) {
	if kind != chain.Nullify {
		hash = m.hashes[block]
	}
	return hash
}

// addPairs makes bundles of every two messages.
func (m *model) addPairs() {
	single := m.events
	for i, a := range single {
		for _, b := range single[i+1:] {
			m.events = append(m.events, modelEvent{
				name: a.name + " with " + b.name, certificates: a.certificates | b.certificates, proposals: a.proposals | b.proposals,
				event: func(self int) Event {
					x, y := a.event(self).(Received).Bundle, b.event(self).(Received).Bundle
					return Received{Bundle: chain.Bundle{
						Certificates: slices.Concat(x.Certificates, y.Certificates), Proposals: slices.Concat(x.Proposals, y.Proposals),
					}}
				},
			})
		}
	}
}

// addAnswers makes the possible answers to a Core's requests for blocks, and T_retry, at which it
// requests them again.
func (m *model) addAnswers() {
	m.add("T_retry", TimerFired{Timer{Kind: RetryTimer, Height: 1}})
	for i, b := range m.blocks {
		if b == nil {
			continue
		}
		m.add("fetched "+blockName(i), BlockFetched{Block: b})
		for r := range uint32(modelRounds) {
			for _, verdict := range []Verdict{Valid, Withheld} {
				checked := BlockChecked{Height: 1, Round: r, Block: m.blocks[i], Fresh: true, Verdict: verdict}
				m.add(fmt.Sprint("checked ", blockName(i), " fresh in ", r, ": ", verdict), checked)
			}
		}
		m.add("checked "+blockName(i), BlockChecked{Height: 1, Block: m.blocks[i], Verdict: Valid})
	}
	for r := range uint32(modelRounds) {
		if m.order[r] >= m.byzantine {
			m.add("built "+blockName(freshBlock(r)), BlockBuilt{Round: r, Block: m.blocks[freshBlock(r)]})
		}
	}
}

// held is the certificates that a validator holds.
func (m *model) held(h *height) (held voteSet) {
	for r := range uint32(modelRounds) {
		rd := h.peek(r)
		for _, cert := range slices.Concat(rd.certificates[:], rd.others) {
			if cert != nil {
				held |= said(cert.Kind, r, m.index[cert.Block])
			}
		}
	}
	return held
}

// excluded reports whether certificates are not delivered together.
func (m *model) excluded(certificates voteSet) bool {
	return !m.forks && slices.ContainsFunc(m.contradictions, func(pair voteSet) bool { return certificates&pair == pair })
}

func freshBlock(r uint32) int { return int(2 * r) }

// addContradictions lists the certificates that the argument for safety excludes: two notarizations
// in a round; with a finalization, a nullification of its round, a notarization of another block in
// it or later, or another finalization.
func (m *model) addContradictions() {
	type certificate struct {
		kind  chain.Kind
		round uint32
		block int
	}
	var all []certificate
	for kind := chain.Notarize; kind <= chain.Finalize; kind++ {
		for r := range uint32(modelRounds) {
			for i := range modelBlocks {
				if m.certificates&said(kind, r, i) != 0 {
					all = append(all, certificate{kind, r, i})
				}
			}
		}
	}
	for _, a := range all {
		for _, b := range all {
			pair := said(a.kind, a.round, a.block) | said(b.kind, b.round, b.block)
			other := a.block != b.block
			switch {
			case a.kind == chain.Finalize && b.kind == chain.Finalize && other && a.block < b.block:
				m.finals = append(m.finals, pair)
				m.contradictions = append(m.contradictions, pair)
			case a.kind == chain.Finalize && b.kind == chain.Nullify && a.round == b.round,
				a.kind == chain.Finalize && b.kind == chain.Notarize && a.round <= b.round && other,
				a.kind == chain.Notarize && b.kind == chain.Notarize && a.round == b.round && a.block < b.block:
				m.contradictions = append(m.contradictions, pair)
			}
		}
	}
}

// addValidators makes the automata, those that lead a round first.
func (m *model) addValidators() {
	var rest []*automaton
	for v := m.byzantine; v < m.n; v++ {
		switch {
		case slices.Contains(m.order[:modelRounds], v):
			m.validators = append(m.validators, newAutomaton(m, v))
		case rest == nil:
			rest = append(rest, newAutomaton(m, v))
		default:
			rest = append(rest, rest[0])
		}
	}
	m.alike = len(m.validators)
	m.validators = append(m.validators, rest...)
	if m.plain {
		m.alike = len(m.validators)
	}
}

// breaks returns which of E1 to E3 the votes of one validator break together, or that it proposed
// two blocks in a round.
func breaks(sent voteSet) chain.Rule {
	for r := range uint32(modelRounds) {
		var votes []chain.Vote
		for kind := chain.Notarize; kind <= chain.Propose; kind++ {
			for i := range modelBlocks {
				if sent&said(kind, r, i) != 0 {
					votes = append(votes, chain.Vote{Kind: kind, Round: r, Block: chain.Hash{byte(i)}})
				}
			}
		}
		for i, a := range votes {
			for _, b := range votes[i+1:] {
				if rule := chain.Conflict(a, b); rule != "" {
					return rule
				}
			}
		}
	}
	return ""
}
