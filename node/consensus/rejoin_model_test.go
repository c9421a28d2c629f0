package consensus

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/diseq/diseq/node/chain"
)

// rejoinModel is one history of a chain over a few eras, and of a validator that lost its vote
// store in it. The model draws histories, answers and their order. It drives Rejoining as a node
// does, and knows what the node cannot: which heights the validator may have voted at.
type rejoinModel struct {
	rng *rand.Rand
	// eras are the sets that decide, firsts their first heights.
	eras   []*chain.ValidatorSet
	firsts []uint64
	// top is the last final height. When the store was lost, it was lost.
	top, lost uint64
	// floors are the final heights that the others had stored by then.
	floors map[chain.PublicKey]uint64
	// liars answer what they like: Byzantine validators, and thieves with the keys of all that left
	// before the checkpoint.
	liars      map[chain.PublicKey]bool
	checkpoint uint64
}

// rejoiner is the one that lost its vote store.
var rejoiner = modelKey(0)

func modelKey(i int) chain.PublicKey { return chain.PublicKey{0: byte(i + 1)} }

// rejoinControl takes a rule of rejoining away.
type rejoinControl struct {
	name string
	// withoutOwn: its own height is not among the answers. keepAsking: it keeps the answers of an
	// era that is over. anywhere: it asks below the checkpoint. sooner is how many heights sooner
	// it votes, fewer how many answers fewer it waits for.
	withoutOwn, keepAsking, anywhere bool
	sooner                           uint64
	fewer                            uint32
}

// newRejoinModel draws a history.
func newRejoinModel(seed uint64) *rejoinModel {
	m := &rejoinModel{rng: rand.New(rand.NewPCG(seed, 5)), floors: map[chain.PublicKey]uint64{}, liars: map[chain.PublicKey]bool{}}
	m.drawEras()
	m.lost = uint64(m.rng.IntN(int(m.top) + 1))
	current := m.rng.IntN(len(m.eras))
	m.checkpoint = m.firsts[current] - 1
	for i := range 1 + m.rng.IntN(modelKeys) {
		m.corrupt(modelKey(1+i), current)
	}
	for k := range modelKeys {
		if key := modelKey(1 + k); !slices.ContainsFunc(m.eras[current:], func(s *chain.ValidatorSet) bool { return s.Index(key) >= 0 }) {
			m.liars[key] = true
		}
	}
	for h := uint64(1); h <= m.lost; h++ {
		m.finalize(h)
	}
	return m
}

// modelKeys is how many others there are.
const modelKeys = 9

// drawEras draws up to four eras. The validator that will lose its store is in the sets of some
// that follow one another: nobody comes back.
func (m *rejoinModel) drawEras() {
	count := 1 + m.rng.IntN(4)
	enters := m.rng.IntN(count)
	leaves := enters + 1 + m.rng.IntN(count-enters)
	first := uint64(1)
	for e := range count {
		n := 1 + m.rng.IntN(5)
		set := &chain.ValidatorSet{Generation: uint32(e), Threshold: uint32(n/2 + 1 + m.rng.IntN(n-n/2))}
		keys := m.rng.Perm(modelKeys)[:n]
		for i, k := range keys {
			key := modelKey(1 + k)
			if i == 0 && e >= enters && e < leaves {
				key = rejoiner
			}
			set.Validators = append(set.Validators, chain.Validator{PublicKey: key})
		}
		m.eras, m.firsts = append(m.eras, set), append(m.firsts, first)
		first += 1 + uint64(m.rng.IntN(7))
	}
	m.top = first - 1 + uint64(m.rng.IntN(6))
}

// corrupt makes a validator Byzantine if every era from the checkpoint on bears it: b < 2t-n. The
// validator that lost its store is silent, not Byzantine.
func (m *rejoinModel) corrupt(key chain.PublicKey, current int) {
	m.liars[key] = true
	for _, set := range m.eras[current:] {
		b := 0
		for _, v := range set.Validators {
			if m.liars[v.PublicKey] {
				b++
			}
		}
		if b >= 2*int(set.Threshold)-len(set.Validators) {
			delete(m.liars, key)
			return
		}
	}
}

// finalize makes a height final by t of its validators: the liars, the one that will lose its
// store, and of the rest as few as are needed. One that votes to finalize has stored the block
// below.
func (m *rejoinModel) finalize(height uint64) {
	set := m.setAt(height)
	voters := slices.Clone(set.Validators)
	m.rng.Shuffle(len(voters), func(i, j int) { voters[i], voters[j] = voters[j], voters[i] })
	if m.rng.IntN(4) != 0 {
		slices.SortStableFunc(voters, func(a, b chain.Validator) int { return m.rank(a.PublicKey) - m.rank(b.PublicKey) })
	}
	for _, v := range voters[:set.Threshold] {
		m.floors[v.PublicKey] = max(m.floors[v.PublicKey], height-1)
	}
}

func (m *rejoinModel) rank(key chain.PublicKey) int {
	if key == rejoiner || m.liars[key] {
		return 0
	}
	return 1
}

// setAt returns the set that decides a height.
func (m *rejoinModel) setAt(height uint64) *chain.ValidatorSet {
	e := len(m.firsts) - 1
	for m.firsts[e] > max(1, height) {
		e--
	}
	return m.eras[e]
}

// mayHaveVoted reports whether the validator may have voted at a height at or above first.
func (m *rejoinModel) mayHaveVoted(first uint64) bool {
	for h := first; h <= m.lost+1; h++ {
		if m.setAt(h).Index(rejoiner) >= 0 {
			return true
		}
	}
	return false
}

// answer is what one of the others says: an honest one its final height, which is not below what it
// had stored when the store was lost.
func (m *rejoinModel) answer(key chain.PublicKey) uint64 {
	low := m.floors[key]
	if m.liars[key] {
		low = 0
	}
	if m.rng.IntN(3) != 0 {
		return low
	}
	return low + uint64(m.rng.IntN(int(m.top-low)+1))
}

// ask begins to ask, with the rules that the control leaves.
func (m *rejoinModel) ask(tip uint64, c rejoinControl) *Rejoining {
	r := &Rejoining{Self: rejoiner, Height: tip, Set: m.asked(tip+1, c), Answers: map[chain.PublicKey]uint64{}}
	if c.withoutOwn {
		r.Height = 0
	}
	return r
}

func (m *rejoinModel) asked(height uint64, c rejoinControl) *chain.ValidatorSet {
	set := *m.setAt(height)
	set.Threshold -= min(c.fewer, set.Threshold)
	return &set
}

// play lets the validator catch up from any height to the top, with answers between. It returns the
// first height at which it votes; ok is false if it has not come to one.
func (m *rejoinModel) play(c rejoinControl) (first uint64, ok bool) {
	tip := uint64(0)
	if m.rng.IntN(2) == 0 {
		tip = uint64(m.rng.IntN(int(m.lost) + 1)) // it lost its vote store alone
	}
	if !c.anywhere {
		tip = max(tip, m.checkpoint)
	}
	r := m.ask(tip, c)
	setAt := func(height uint64) *chain.ValidatorSet { return m.asked(height, c) }
	for quiet := 0; quiet < 60; {
		if m.rng.IntN(3) == 0 && tip < m.top {
			tip++
		} else {
			quiet++
			key := modelKey(1 + m.rng.IntN(modelKeys))
			if _, known := r.Answers[key]; !known {
				r.Answers[key] = m.answer(key)
			}
		}
		if m.rng.IntN(3) == 0 {
			continue // several things happen before the node looks again
		}
		first, counts := r.VotesFrom(tip)
		first -= min(first, c.sooner)
		switch step := r.Step(tip, setAt); {
		case step == RejoinVotes, c.keepAsking && counts && first <= tip+1:
			return first, true
		case step == RejoinAsksAgain && !c.keepAsking:
			r = m.ask(tip, c)
		}
	}
	return 0, false
}

// A validator that lost its vote store votes at no height at which it may have voted, whichever
// eras the chain went through since, whoever answers and in which order, while thieves have the
// keys of all that left before the checkpoint.
//
// Promise 16.
func TestRejoiningAcrossErasVotesNowhereTwice(t *testing.T) {
	seeds := uint64(60_000)
	if testing.Short() {
		seeds = 6_000
	}
	voted, later := 0, 0
	for seed := range seeds {
		m := newRejoinModel(seed)
		first, ok := m.play(rejoinControl{})
		if ok && m.mayHaveVoted(first) {
			t.Fatalf("seed %d: it votes from %d: %s", seed, first, m)
		}
		if ok {
			voted++
			if m.setAt(first) != m.setAt(m.lost+1) {
				later++
			}
		}
	}
	if voted < int(seeds)/4 || later < int(seeds)/40 {
		t.Errorf("of %d validators %d vote again, %d of them in a later era: the model is vacuous", seeds, voted, later)
	}
}

// Each rule of rejoining is needed: without it the model finds a validator that votes where it may
// have voted.
//
// Promise 16.
func TestRejoiningNeedsEveryRule(t *testing.T) {
	for _, c := range []rejoinControl{
		{name: "its own height is not among the answers", withoutOwn: true},
		{name: "it does not ask again in another era", keepAsking: true},
		{name: "it asks below the checkpoint", anywhere: true},
		{name: "it votes two heights above the answers", sooner: 1},
		{name: "t-1 answers are enough", fewer: 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(2_000) {
				m := newRejoinModel(seed)
				if first, ok := m.play(c); ok && m.mayHaveVoted(first) {
					t.Logf("seed %d: it votes from %d: %s", seed, first, m)
					return
				}
			}
			t.Error("the model sees nothing")
		})
	}
}

func (m *rejoinModel) String() string {
	s := fmt.Sprintf("store lost at %d of %d, checkpoint %d", m.lost, m.top, m.checkpoint)
	for i, set := range m.eras {
		s += fmt.Sprintf("; from %d t=%d of", m.firsts[i], set.Threshold)
		for _, v := range set.Validators {
			s += fmt.Sprintf(" %d", v.PublicKey[0]-1)
			if m.liars[v.PublicKey] {
				s += "!"
			}
		}
	}
	return s
}
