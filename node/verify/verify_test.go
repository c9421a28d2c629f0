package verify

import (
	"crypto/ed25519"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/diseq/diseq/node/chain"
)

const chainID = "verify"

var sender = chain.PublicKey{7}

func key(letter byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed([]byte(strings.Repeat(string(letter), ed25519.SeedSize)))
}

// eras is a chain whose set changes: the set of letters[i] decides the heights from first[i] on.
// All of a set but one have to sign.
type eras struct {
	tip     uint64
	letters []string
	first   []uint64
	sets    []*chain.ValidatorSet
}

// newEras returns a chain of abcd up to height 4 and of dbce from 5 on, and the name of the set
// that comes next: ecbd. The members that stay change places.
func newEras(tip uint64) *eras {
	e := &eras{tip: tip, letters: []string{"abcd", "dbce", "ecbd"}, first: []uint64{0, 5, 8}}
	for generation, letters := range e.letters {
		set := &chain.ValidatorSet{Generation: uint32(generation), Threshold: uint32(len(letters) - 1)}
		for _, l := range []byte(letters) {
			set.Validators = append(set.Validators, chain.Validator{PublicKey: chain.PublicKeyOf(key(l)), VRFKey: chain.VRFKey{31: l}})
		}
		e.sets = append(e.sets, set)
	}
	return e
}

func (e *eras) generation(height uint64) (g int) {
	for g+1 < len(e.first) && e.first[g+1] <= height {
		g++
	}
	return g
}

func (e *eras) height() uint64 { return e.tip }

func (e *eras) setAt(height uint64) (*chain.ValidatorSet, bool) {
	return e.sets[e.generation(height)], height <= e.tip+1
}

// vote is by the validator with a letter, at its place in the set of a generation.
func (e *eras) vote(kind chain.Kind, height uint64, generation int, letter byte) chain.Vote {
	v := chain.Vote{Kind: kind, Height: height, Validator: uint32(strings.IndexByte(e.letters[generation], letter))}
	if kind != chain.Nullify {
		v.Block = chain.Hash{1}
	}
	v.Sign(key(letter), chainID)
	return v
}

// certificate is by the first three of the set of a generation.
func (e *eras) certificate(kind chain.Kind, height uint64, generation int) *chain.Certificate {
	c := &chain.Certificate{Kind: kind, Height: height}
	for _, l := range []byte(e.letters[generation][:3]) {
		v := e.vote(kind, height, generation, l)
		c.Block, c.Votes = v.Block, append(c.Votes, chain.VoteSignature{Validator: v.Validator, Signature: v.Signature})
	}
	return c
}

// proposal is by the second of the set of a generation, in round 1.
func (e *eras) proposal(height uint64, generation int) *chain.Proposal {
	letter := e.letters[generation][1]
	p := &chain.Proposal{
		Block:          chain.Block{Header: chain.Header{ChainID: chainID, Height: height, Proposer: 1}},
		Nullifications: []chain.Certificate{*e.certificate(chain.Nullify, height, generation)},
	}
	p.Block.Sign(key(letter))
	p.Statement = chain.Vote{Kind: chain.Propose, Height: height, Round: 1, Block: p.Block.Hash(), Validator: 1}
	p.Statement.Sign(key(letter), chainID)
	return p
}

// Each message is judged by the set of its own height, whatever the open height is. One above the
// open height the open set stands in: what it does not verify is left out, and nobody is to blame.
// Further above, and far below, everything is left out.
//
// Promise 10.
// Promise 72.
func TestAMessageIsJudgedByTheSetOfItsHeight(t *testing.T) {
	const passed, blame, ahead, behind = "passed on", "the sender's fault", "left out as ahead", "left out as behind"
	e := newEras(6) // 7 is open
	for _, c := range []struct {
		name       string
		height     uint64
		generation int
		want       string
	}{
		{"height 0 is genesis", 0, 0, "left out"},
		{"a height that is held no longer", 2, 0, behind},
		{"and the set after it", 2, 1, behind},
		{"the last one held, of the era before", 3, 0, passed},
		{"and the set after it", 3, 1, blame},
		{"the first of the era", 5, 1, passed},
		{"and the set before it", 5, 0, blame},
		{"the open height", 7, 1, passed},
		{"and the set before it", 7, 0, blame},
		{"above, and the set changes", 8, 2, ahead},
		{"above, and the set before stays on", 8, 1, passed},
		{"far above, and the set stays", 9, 1, ahead},
		{"far above, and the set changes", 1 << 60, 2, ahead},
	} {
		vote := e.vote(chain.Notarize, c.height, c.generation, 'd')
		for kind, b := range map[string]*chain.Bundle{
			KindCertificate: {Certificates: []*chain.Certificate{e.certificate(chain.Finalize, c.height, c.generation)}},
			KindProposal:    {Proposals: []*chain.Proposal{e.proposal(c.height, c.generation)}},
			KindVote:        {Votes: []chain.Vote{vote}},
		} {
			v := New(chainID, e.height, e.setAt)
			for range 2 { // the second time the votes are known
				r, wrong, err := v.Bundle(t.Context(), sender, b)
				got := "left out"
				switch {
				case err != nil:
					got = blame
				case !r.Bundle.Empty():
					got = passed
				case r.Ahead == c.height && r.Lowest == c.height && r.Behind == 0 && r.Ahead > 0:
					got = ahead
				case r.Behind == c.height && r.Ahead == 0 && r.Behind > 0:
					got = behind
				}
				if got != c.want || err != nil && wrong != kind || err == nil && r.Set != e.sets[1].Hash() {
					t.Errorf("%s: %s is %s, want %s: %+v, %q, %v", c.name, kind, got, c.want, r, wrong, err)
				}
			}
		}
	}
}

// Messages of heights that do not matter are left out before a signature is checked: forged ones
// are left out as well, and none is remembered. So it costs their sender more than this node to
// repeat them.
//
// Promise 50.
func TestMessagesOfHeightsThatDoNotMatterAreNotChecked(t *testing.T) {
	e := newEras(20) // 21 is open: 17 to 22 matter
	for _, c := range []struct {
		height         uint64
		ahead, useless bool
	}{{1, false, true}, {16, false, true}, {17, false, false}, {22, true, false}, {23, true, true}, {1 << 62, true, true}} {
		vote := e.vote(chain.Notarize, c.height, 2, 'd')
		vote.Signature[0]++
		certificate, proposal := e.certificate(chain.Finalize, c.height, 2), e.proposal(c.height, 2)
		certificate.Votes[1].Signature[0]++
		proposal.Statement.Signature[0]++
		for _, b := range []*chain.Bundle{
			{Votes: []chain.Vote{vote}}, {Certificates: []*chain.Certificate{certificate}}, {Proposals: []*chain.Proposal{proposal}},
		} {
			v := New(chainID, e.height, e.setAt)
			r, _, err := v.Bundle(t.Context(), sender, b)
			if c.useless && (err != nil || r.Useless != 1 || len(v.new) > 0) {
				t.Errorf("height %d: %d left out by their height and %d votes remembered, %v", c.height, r.Useless, len(v.new), err)
			}
			if !c.useless && (r.Useless != 0 || (err == nil) != c.ahead) {
				t.Errorf("height %d: left out by its height, or not looked at: %+v, %v", c.height, r, err)
			}
			if err == nil && (r.Ahead == c.height) != c.ahead || r.Behind != 0 && c.ahead || !r.Bundle.Empty() {
				t.Errorf("height %d: %+v", c.height, r)
			}
		}
	}
}

// The certificates of the others bring back the votes of this node, which need no check. Of what it
// sends, only votes in its own place are remembered.
func TestVotesThatThisNodeSignedAreKnown(t *testing.T) {
	e := newEras(4)
	v := New(chainID, e.height, e.setAt)
	own, of, later := e.vote(chain.Notarize, 5, 1, 'd'), e.vote(chain.Notarize, 5, 1, 'b'), e.vote(chain.Notarize, 6, 1, 'd')
	v.Signed(chain.PublicKeyOf(key('d')), []chain.Vote{own, of, later})
	for name, c := range map[string]struct {
		vote chain.Vote
		want bool
	}{"its own": {own, true}, "one of another": {of, false}, "one of a height whose set is not known": {later, false}} {
		if v.at(5).known(c.vote) != c.want {
			t.Errorf("%s: known is %v, want %v", name, !c.want, c.want)
		}
	}
}

// A vote names a place in a set. One of height h+1 that a leaver signed verifies as long as h is
// open. It is not remembered for the newcomer that has the place at h+1, who would take it for a
// vote that it has forgotten, and stop.
//
// Promise 10.
// Promise 72.
func TestAVoteOfALeaverDoesNotPassForTheNewcomersInItsPlace(t *testing.T) {
	e := newEras(3) // 4 is open, 5 is of the next set
	v := New(chainID, e.height, e.setAt)
	forged := e.vote(chain.Notarize, 5, 0, 'a')
	if r, _, err := v.Bundle(t.Context(), sender, &chain.Bundle{Votes: []chain.Vote{forged}}); err != nil || len(r.Bundle.Votes) != 1 || r.Set != e.sets[0].Hash() {
		t.Fatalf("not passed on early: %+v, %v", r, err)
	}
	e.tip = 4
	if r, _, err := v.Bundle(t.Context(), sender, &chain.Bundle{Votes: []chain.Vote{forged}}); err == nil {
		t.Errorf("%+v: the vote of a leaver counts for the newcomer", r.Bundle)
	}
	certificate := e.certificate(chain.Notarize, 5, 0) // by a, b and c at places 0, 1 and 2: d is at 0 now
	if r, _, err := v.Bundle(t.Context(), sender, &chain.Bundle{Certificates: []*chain.Certificate{certificate}}); err == nil {
		t.Errorf("%+v: a certificate with the vote of a leaver counts", r.Bundle)
	}
}

// An honest peer that is a height ahead says the finalization of the open height and votes of the
// next set in one bundle. The finalization is taken, the rest is a hint.
//
// Promise 72.
func TestTheRestOfABundleIsTaken(t *testing.T) {
	e := newEras(3) // 4 is open, 5 is of the next set
	v := New(chainID, e.height, e.setAt)
	b := &chain.Bundle{
		Certificates: []*chain.Certificate{e.certificate(chain.Nullify, 9, 2), e.certificate(chain.Finalize, 4, 0), e.certificate(chain.Notarize, 5, 1)},
		Proposals:    []*chain.Proposal{e.proposal(5, 1), e.proposal(4, 0)},
		Votes: []chain.Vote{
			e.vote(chain.Notarize, 5, 1, 'd'), e.vote(chain.Notarize, 5, 1, 'b'), e.vote(chain.Notarize, 4, 0, 'd'), e.vote(chain.Notarize, 3, 0, 'a'),
		},
	}
	r, _, err := v.Bundle(t.Context(), sender, b)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Bundle.Certificates) != 1 || r.Bundle.Certificates[0] != b.Certificates[1] || len(r.Bundle.Proposals) != 1 ||
		r.Bundle.Proposals[0] != b.Proposals[1] || len(r.Bundle.Votes) != 2 || r.Bundle.Votes[0] != b.Votes[2] {
		t.Errorf("passed on: %+v", r.Bundle)
	}
	if r.Height != 5 || r.Lowest != 5 || r.Ahead != 9 {
		t.Errorf("the peer is at %d by what verified, and at %d to %d by the rest; want 5, and 5 to 9", r.Height, r.Lowest, r.Ahead)
	}

	// A message at or below the open height is the sender's fault, whatever stands beside it.
	b.Votes[3].Signature[0]++
	if r, wrong, err := v.Bundle(t.Context(), sender, b); err == nil || wrong != KindVote || !r.Bundle.Empty() {
		t.Errorf("passed on %+v, wrong is %q: %v", r, wrong, err)
	}
}

// The parts of a proposal are each judged by the set of their height.
//
// Promise 10.
func TestThePartsOfAProposal(t *testing.T) {
	e := newEras(5) // 6 is open
	for name, c := range map[string]struct {
		alter         func(p *chain.Proposal)
		passed, blame bool
	}{
		"a good one":               {func(*chain.Proposal) {}, true, false},
		"the statement":            {func(p *chain.Proposal) { p.Statement.Signature[0]++ }, false, true},
		"the block":                {func(p *chain.Proposal) { p.Block.Signature[0]++ }, false, true},
		"a proposer beyond":        {func(p *chain.Proposal) { p.Block.Header.Proposer = 4 }, false, true},
		"a nullification":          {func(p *chain.Proposal) { p.Nullifications[0].Votes[2].Signature[0]++ }, false, true},
		"a notarization":           {func(p *chain.Proposal) { p.Notarization = e.certificate(chain.Notarize, 6, 0) }, false, true},
		"a good notarization":      {func(p *chain.Proposal) { p.Notarization = e.certificate(chain.Notarize, 6, 1) }, true, false},
		"one of the era before":    {func(p *chain.Proposal) { p.Notarization = e.certificate(chain.Notarize, 4, 0) }, true, false},
		"one of the era to come":   {func(p *chain.Proposal) { p.Notarization = e.certificate(chain.Notarize, 7, 2) }, false, false},
		"one that is far above":    {func(p *chain.Proposal) { p.Notarization = e.certificate(chain.Notarize, 8, 2) }, false, false},
		"one vote short of enough": {func(p *chain.Proposal) { p.Nullifications[0].Votes = p.Nullifications[0].Votes[:2] }, false, true},
	} {
		p := e.proposal(6, 1)
		c.alter(p)
		r, _, err := New(chainID, e.height, e.setAt).Bundle(t.Context(), sender, &chain.Bundle{Proposals: []*chain.Proposal{p}})
		if passed := len(r.Bundle.Proposals) > 0; passed != c.passed || (err != nil) != c.blame {
			t.Errorf("%s: passed on %v with error %v", name, passed, err)
		}
	}
}

// The votes that are remembered are bounded.
//
// Promise 50.
func TestRememberedVotesAreBounded(t *testing.T) {
	e := newEras(3)
	v := New(chainID, e.height, e.setAt)
	j := v.at(4)
	for round := range uint32(3 * remembered) {
		j.remember(chain.Vote{Round: round})
		if n := len(v.new) + len(v.old); n > 2*remembered {
			t.Fatalf("%d votes are remembered", n)
		}
	}
	if !j.known(chain.Vote{Round: 3*remembered - 1}) || j.known(chain.Vote{}) {
		t.Error("the newest is forgotten, or the oldest is not")
	}
}

// A block whose signature verified needs no second check, before the vote for it. Another
// signature, another header or another set does. The memory of blocks is bounded.
//
// Promise 50.
func TestABlockIsCheckedOnceWithOneSignatureAndSet(t *testing.T) {
	e := newEras(5) // 6 is open
	v := New(chainID, e.height, e.setAt)
	p := e.proposal(6, 1)
	if _, _, err := v.Bundle(t.Context(), sender, &chain.Bundle{Proposals: []*chain.Proposal{p}}); err != nil {
		t.Fatal(err)
	}
	set := *e.sets[1]
	set.Validators = slices.Clone(set.Validators)
	set.Validators[1] = set.Validators[0]
	signed, timed := p.Block, p.Block
	signed.Signature[0]++
	timed.Header.Timestamp++
	for name, c := range map[string]struct {
		block *chain.Block
		set   *chain.ValidatorSet
	}{"another signature": {&signed, e.sets[1]}, "another header": {&timed, e.sets[1]}, "another set": {&p.Block, &set}} {
		for range 2 {
			if err := v.Block(c.block, c.set); !errors.Is(err, chain.ErrSignature) {
				t.Errorf("%s: got %v, want %v", name, err, chain.ErrSignature)
			}
		}
	}
	// A set never changes. Here it does, to show that there is no second check.
	e.sets[1].Validators[1] = e.sets[1].Validators[0]
	if err := v.Block(&p.Block, e.sets[1]); err != nil {
		t.Errorf("the block of the proposal was checked again: %v", err)
	}
	for height := range uint64(2 * rememberedBlocks) {
		b := e.proposal(height, 2).Block
		if err := v.Block(&b, e.sets[2]); err != nil || len(v.blocks) > rememberedBlocks {
			t.Fatalf("got %v, and %d blocks are remembered", err, len(v.blocks))
		}
	}
}
