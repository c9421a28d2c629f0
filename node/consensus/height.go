package consensus

import (
	"cmp"
	"slices"

	"github.com/diseq/diseq/node/chain"
)

// height is the state of one height. A closed (committed) one is kept for a few heights: it answers
// peers that are still at it, and collects late votes.
type height struct {
	Height
	// setHash is Set's.
	setHash chain.Hash
	// self is this node's index in the set, -1 if it does not vote at this height.
	self      int
	threshold int
	// rounds are those with any state, in rising order.
	rounds  []*round
	current uint32
	blocks  map[chain.Hash]*block
	// awake: this node has something to order, or a message of the height came. T_round runs.
	awake bool
	// intervalOver: the minimum block interval has passed.
	intervalOver bool
	// attempt counts the T_retry that have passed. It rotates the order in which holders are asked.
	attempt int
	final   *chain.Certificate
	// stronger: final has more votes than the node knows of.
	stronger     bool
	contradicted bool
	committed    bool
	presence     []presence
}

// round is the state of one round.
type round struct {
	number uint32
	// statements are the leader's, at most two: the second is kept only as evidence and to show it
	// to others.
	statements []chain.Vote
	// ahead: one of them came before the round was current.
	ahead bool
	// votes holds one vote of each kind and validator, in slices of n by kind, nil until the first
	// comes.
	votes [chain.Finalize + 1][]chain.Vote
	// own are the votes that this validator cast, by kind. They stay when votes is pruned.
	own [chain.Finalize + 1]*chain.Vote
	// certificates by kind.
	certificates [chain.Finalize + 1]*chain.Certificate
	// others are notarizations of further blocks. If there are any, at least 2t-n validators are
	// Byzantine.
	others []*chain.Certificate
	// The synchrony waits: wait begins when the notarization is held with its block, leaderWait
	// before the leader proposes.
	wait, leaderWait wait
	// proposal is this validator's own; proposed is its Statement, which stays when the round is
	// pruned.
	proposal *chain.Proposal
	proposed *chain.Vote
	// accused marks the validators whose evidence was reported.
	accused   []bool
	requested bool
	timedOut  bool
	// skipped: T_round is 0, because the leader has been silent.
	skipped bool
	// A fresh proposal may be valid and its vote withheld. asked: CheckBlock was asked about that;
	// freshness is the answer.
	asked     bool
	freshness Verdict
	// pruned: far below the current round and not notarized. Its votes are gone.
	pruned bool
}

// wait is the state of a synchrony wait.
type wait uint8

const (
	notWaited wait = iota
	waiting
	waited
	// spoiled: this node was unhealthy in the meantime.
	spoiled
)

// block is a block of the height, or only its hash while the block is being fetched.
type block struct {
	*chain.Block
	hash      chain.Hash
	fetching  bool
	checking  bool
	persisted bool
	// verdict is Valid or Invalid, or 0 while it is unknown.
	verdict Verdict
	// overdue: the check of a body had no answer when T_retry fired.
	overdue bool
	// misfit: a body did not fit the header. From then on only a fetched body counts.
	misfit bool
}

// open reports whether a body for the block is taken from a proposal. An honest leader sends no
// body that does not fit, so that a leader gets one chance.
func (b *block) open() bool { return b == nil || b.Block == nil && !b.misfit }

func (h *height) n() int { return len(h.Set.Validators) }

func (h *height) leader(r uint32) int { return h.Order[int64(r)%int64(len(h.Order))] }

func (h *height) find(r uint32) (int, bool) {
	return slices.BinarySearchFunc(h.rounds, r, func(rd *round, r uint32) int { return cmp.Compare(rd.number, r) })
}

// peek returns a round to read: an empty one if it has no state.
func (h *height) peek(r uint32) *round {
	if i, ok := h.find(r); ok {
		return h.rounds[i]
	}
	return &round{number: r}
}

// round returns a round to write to.
func (h *height) round(r uint32) *round {
	i, ok := h.find(r)
	if !ok {
		h.rounds = slices.Insert(h.rounds, i, &round{number: r})
	}
	return h.rounds[i]
}

// horizon is the highest round whose votes are held: two turns of all leaders ahead. Certificates
// need no bound, because t validators signed each.
func (h *height) horizon() uint64 { return uint64(h.current) + 2*uint64(h.n()) }

// keys returns the public keys of validators.
func (h *height) keys(indices []int) []chain.PublicKey {
	keys := make([]chain.PublicKey, len(indices))
	for i, v := range indices {
		keys[i] = h.Set.Validators[v].PublicKey
	}
	return keys
}

// holders returns the validators that claim to have a block, this node excepted: those that
// notarized or finalized it, in a vote or a certificate, and the leaders that proposed it. Each
// attempt begins with another.
func (h *height) holders(hash chain.Hash, self chain.PublicKey) []chain.PublicKey {
	said := make([]bool, h.n())
	for _, rd := range h.rounds {
		for _, kind := range []chain.Kind{chain.Notarize, chain.Finalize} {
			for _, v := range rd.votes[kind] {
				if v.Kind != 0 && v.Block == hash {
					said[v.Validator] = true
				}
			}
			if cert := rd.certificate(kind, hash); cert != nil {
				for _, s := range cert.Votes {
					said[s.Validator] = true
				}
			}
		}
		for _, s := range rd.statements {
			if s.Block == hash {
				said[s.Validator] = true
			}
		}
	}
	var indices []int
	for i, ok := range said {
		if ok && h.Set.Validators[i].PublicKey != self {
			indices = append(indices, i)
		}
	}
	if len(indices) > 1 {
		first := h.attempt % len(indices)
		indices = append(indices[first:], indices[:first]...)
	}
	return h.keys(indices)
}

// bundle returns the messages that bring a peer to the state of this Core: every certificate, this
// validator's votes, and its proposal of the current round. After very many rounds it leaves out
// those that nobody can need any more: below the highest notarized round and more than two turns of
// all leaders ago.
func (h *height) bundle() chain.Bundle {
	var b chain.Bundle
	low := uint64(0)
	notarized := h.highestNotarized(h.current)
	if rd := h.peek(h.current); rd.certificates[chain.Notarize] != nil {
		notarized = rd
	}
	if notarized != nil {
		low = uint64(max(0, min(int64(notarized.number), int64(h.current)-2*int64(h.n()))))
	}
	for _, rd := range h.rounds {
		if uint64(rd.number) < low {
			continue
		}
		for _, cert := range rd.certificates {
			if cert != nil {
				b.Certificates = append(b.Certificates, cert)
			}
		}
		b.Certificates = append(b.Certificates, rd.others...)
		for _, v := range rd.own {
			if v != nil {
				b.Votes = append(b.Votes, *v)
			}
		}
		if rd.number == h.current && rd.proposal != nil {
			b.Proposals = append(b.Proposals, rd.proposal)
		}
	}
	return b
}

// votesOf returns the votes held of a peer. A peer whose records lack some of them (ErrMissingVote)
// has to learn that from the first peer that it is linked to.
func (h *height) votesOf(peer chain.PublicKey) []chain.Vote {
	i := h.Set.Index(peer)
	if i < 0 || i == h.self {
		return nil
	}
	var out []chain.Vote
	for _, rd := range h.rounds {
		for _, votes := range rd.votes {
			if votes != nil && votes[i].Kind != 0 {
				out = append(out, votes[i])
			}
		}
	}
	return out
}

// statements returns the known Statements of the rounds from the current one on, and under the
// synchrony wait of all rounds.
func (h *height) statements() []chain.Vote {
	var out []chain.Vote
	for _, rd := range h.rounds {
		if rd.number >= h.current || h.delta() > 0 {
			out = append(out, rd.statements...)
		}
	}
	return out
}

// certified reports whether a held certificate notarizes or finalizes a block.
func (h *height) certified(hash chain.Hash) bool {
	for _, rd := range h.rounds {
		if rd.certificate(chain.Notarize, hash) != nil || rd.certificate(chain.Finalize, hash) != nil {
			return true
		}
	}
	return false
}

// certificate returns the held certificate of a kind and block, or nil.
func (rd *round) certificate(kind chain.Kind, hash chain.Hash) *chain.Certificate {
	if cert := rd.certificates[kind]; cert != nil && cert.Block == hash {
		return cert
	}
	for _, cert := range rd.others {
		if cert.Kind == kind && cert.Block == hash {
			return cert
		}
	}
	return nil
}

// conflicted reports whether two blocks of the round are known: by Statements of its leader, or by
// notarizations, each of which implies a Statement.
func (rd *round) conflicted() bool {
	notarized := rd.certificates[chain.Notarize]
	return len(rd.statements) > 1 || len(rd.others) > 0 ||
		notarized != nil && len(rd.statements) > 0 && rd.statements[0].Block != notarized.Block
}

// highestNotarized returns the highest round below limit with a notarization, or nil.
func (h *height) highestNotarized(limit uint32) *round {
	i, _ := h.find(limit)
	for _, rd := range slices.Backward(h.rounds[:i]) {
		if rd.certificates[chain.Notarize] != nil {
			return rd
		}
	}
	return nil
}

// justified reports whether the held certificates justify a block in round r: every round below is
// nullified down to one that notarized this very block, or down to the first, when the block is
// fresh. With strict (R3 of the synchrony wait) no round with a notarization is passed over.
//
// It does not matter which certificates the leader sent along. They are held by now, and the safety
// argument asks only that they exist.
func (h *height) justified(r uint32, hash chain.Hash, strict bool) (ok, fresh bool) {
	i, _ := h.find(r)
	for q := int64(r) - 1; q >= 0; q-- {
		i--
		if i < 0 || int64(h.rounds[i].number) != q {
			return false, false
		}
		rd := h.rounds[i]
		if rd.certificate(chain.Notarize, hash) != nil {
			return true, false
		}
		if rd.certificates[chain.Nullify] == nil || strict && rd.certificates[chain.Notarize] != nil {
			return false, false
		}
	}
	return true, true
}

// justification returns the certificates that a proposal in round r rests on: the notarization of
// the highest round below that has one, and the nullifications since. complete is false if one is
// missing.
func (h *height) justification(r uint32) (notarization *chain.Certificate, nullifications []*chain.Certificate, complete bool) {
	from := int64(0)
	if rd := h.highestNotarized(r); rd != nil {
		notarization, from = rd.certificates[chain.Notarize], int64(rd.number)+1
	}
	low, _ := h.find(uint32(from))
	high, _ := h.find(r)
	for _, rd := range h.rounds[low:high] {
		if cert := rd.certificates[chain.Nullify]; cert != nil {
			nullifications = append(nullifications, cert)
		}
	}
	return notarization, nullifications, int64(len(nullifications)) == int64(r)-from
}

// history returns the notarizations and nullifications of the rounds below r: every proposal up to
// r rested on them.
func (h *height) history(r uint32) []*chain.Certificate {
	var out []*chain.Certificate
	for _, rd := range h.rounds {
		if rd.number >= r {
			break
		}
		for _, kind := range []chain.Kind{chain.Notarize, chain.Nullify} {
			if cert := rd.certificates[kind]; cert != nil {
				out = append(out, cert)
			}
		}
		out = append(out, rd.others...)
	}
	return out
}
