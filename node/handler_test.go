package node

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/consensus"
	"github.com/diseq/diseq/node/internal/metrics"
	"github.com/diseq/diseq/node/verify"
)

// signers are validators of a chain whose set changes: abcd up to height 4, dbce from 5 to 8. 8 is
// the open height; ecbd come above it, which the node cannot know. They remember what they signed.
type signers struct {
	sets   [3]*chain.ValidatorSet
	votes  map[signedVote]bool
	blocks map[signedBlock]bool
}

type signedVote struct {
	set  *chain.ValidatorSet
	vote chain.Vote
}

type signedBlock struct {
	set       *chain.ValidatorSet
	hash      chain.Hash
	signature chain.Signature
}

const (
	bundleChain = "bundles"
	openHeight  = 8
)

func newSigners() *signers {
	s := &signers{votes: map[signedVote]bool{}, blocks: map[signedBlock]bool{}}
	for generation, letters := range []string{"abcd", "dbce", "ecbd"} {
		set := &chain.ValidatorSet{Generation: uint32(generation), Threshold: 3}
		for _, l := range letters {
			set.Validators = append(set.Validators, chain.Validator{PublicKey: chain.PublicKeyOf(s.key(l)), VRFKey: chain.VRFKey{31: byte(l)}})
		}
		s.sets[generation] = set
	}
	return s
}

func (s *signers) key(letter rune) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed([]byte(strings.Repeat(string(letter), ed25519.SeedSize)))
}

// keyOf returns the key at a place in a set, nil if there is none.
func (s *signers) keyOf(set *chain.ValidatorSet, validator uint32) ed25519.PrivateKey {
	if int64(validator) >= int64(len(set.Validators)) {
		return nil
	}
	return s.key(rune(set.Validators[validator].VRFKey[31]))
}

// at returns the set that decides a height, next the one above the open height if next is set.
func (s *signers) at(height uint64, next bool) *chain.ValidatorSet {
	switch {
	case height < 5:
		return s.sets[0]
	case height > openHeight && next:
		return s.sets[2]
	default:
		return s.sets[1]
	}
}

// setAt is what a node at the open height knows.
func (s *signers) setAt(height uint64) (*chain.ValidatorSet, bool) {
	return s.at(height, false), height <= openHeight
}

// vote signs a vote, whatever it says, if its validator is one.
func (s *signers) vote(v *chain.Vote, next bool) {
	set := s.at(v.Height, next)
	if key := s.keyOf(set, v.Validator); key != nil {
		v.Sign(key, bundleChain)
		s.votes[signedVote{set, *v}] = true
		// A validator with the same place in both sets signs for both.
		if open := s.at(v.Height, false); open != set && string(s.keyOf(open, v.Validator)) == string(key) {
			s.votes[signedVote{open, *v}] = true
		}
	}
}

func (s *signers) certificate(c *chain.Certificate, next bool) {
	for i := range c.Votes {
		v := c.Vote(i)
		s.vote(&v, next)
		c.Votes[i].Signature = v.Signature
	}
}

func (s *signers) block(b *chain.Block, next bool) {
	set := s.at(b.Header.Height, next)
	if key := s.keyOf(set, b.Header.Proposer); key != nil {
		b.Sign(key)
		s.blocks[signedBlock{set, b.Hash(), b.Signature}] = true
		if open := s.at(b.Header.Height, false); open != set && string(s.keyOf(open, b.Header.Proposer)) == string(key) {
			s.blocks[signedBlock{open, b.Hash(), b.Signature}] = true
		}
	}
}

// item is one message of a bundle: votes and certificates with their heights, and a block.
type item struct {
	votes        []chain.Vote
	certificates []*chain.Certificate
	block        *chain.Block
}

// holds reports whether the validators that a message names signed everything in it, and a
// threshold of them each certificate, all by the sets that the node knows. height is its highest.
func (s *signers) holds(i item) (holds bool, height uint64) {
	holds = true
	for _, c := range i.certificates {
		of := map[uint32]bool{}
		for j := range c.Votes {
			i.votes = append(i.votes, c.Vote(j))
			of[c.Votes[j].Validator] = true
		}
		holds = holds && len(of) >= 3
		height = max(height, c.Height)
	}
	for _, v := range i.votes {
		holds = holds && s.votes[signedVote{s.at(v.Height, false), v}]
		height = max(height, v.Height)
	}
	if i.block != nil {
		height = max(height, i.block.Header.Height)
		holds = holds && s.blocks[signedBlock{s.at(i.block.Header.Height, false), i.block.Hash(), i.block.Signature}]
	}
	return holds, height
}

// FuzzOnBundle has a peer send a certificate, a proposal and a vote, each with the validators'
// signatures or without. Above the open height the next set signs, or the open one. A message that
// the validators of its height did not sign does not reach the core, and changes nothing that is
// known of the peer's height. A signed one reaches the core unchanged. A message above the open
// height that does not verify is not the peer's fault, and shows it ahead. So does any message
// further above; one that is too old shows it behind.
//
// Promise 37.
// Promise 72.
func FuzzOnBundle(f *testing.F) {
	s := newSigners()
	var events []consensus.Event
	var heard map[chain.PublicKey]uint64
	h := &handler{
		ctx: f.Context(), rejected: metrics.New().Rejected, waited: metrics.New().Waited,
		heard: func(from chain.PublicKey, height uint64) { heard[from] = height },
		post:  func(_ context.Context, e consensus.Event) { events = append(events, e) },
	}

	const signVote, signCertificate, signStatement, signBlock, signNotarization, signNullifications, next = 1, 2, 4, 8, 16, 32, 64
	const all = 63
	if verify.Kept != consensus.RecentHeights {
		f.Fatalf("the verifier checks %d heights below the open one, the core holds %d", verify.Kept, consensus.RecentHeights)
	}
	for _, above := range []uint64{0, 1, 2, 3, 4, 5, 6, 12} {
		vote := chain.Vote{Kind: chain.Notarize, Height: 4 + above, Block: chain.Hash{1}, Validator: 2}
		finalization := &chain.Certificate{
			Kind: chain.Finalize, Height: 3 + above, Block: chain.Hash{2}, Votes: []chain.VoteSignature{{}, {Validator: 1}, {Validator: 3}},
		}
		nullification := *finalization
		nullification.Kind, nullification.Round, nullification.Block = chain.Nullify, 1, chain.Hash{}
		p := &chain.Proposal{Block: chain.Block{Header: chain.Header{
			ProtocolVersion: chain.ProtocolVersion, ChainID: bundleChain, Height: 3 + above, MessagesRoot: chain.EmptyMessagesRoot(), Proposer: 1,
		}}}
		p.Statement = chain.Vote{Kind: chain.Propose, Height: 3 + above, Round: 2, Block: p.Block.Hash(), Validator: 3}
		p.Notarization = &chain.Certificate{Kind: chain.Notarize, Height: 3 + above, Block: p.Block.Hash(), Votes: slices.Clone(finalization.Votes)}
		p.Nullifications = []chain.Certificate{nullification}
		for _, lacking := range []uint8{0, signVote, signCertificate, signStatement, signBlock, signNotarization, signNullifications, all} {
			f.Add(finalization.Encode(), p.Encode(), vote.Encode(), all-lacking)
		}
		f.Add(finalization.Encode(), p.Encode(), vote.Encode(), uint8(all|next))
		f.Add(finalization.Encode(), []byte{}, []byte{}, uint8(signCertificate))
	}
	f.Fuzz(func(t *testing.T, certificate, proposal, vote []byte, sign uint8) {
		// The signatures of one input do not count for the next; its seeds are signed anew.
		clear(s.votes)
		clear(s.blocks)
		events, heard, h.verifier = nil, map[chain.PublicKey]uint64{}, verify.New(bundleChain, func() uint64 { return openHeight - 1 }, s.setAt)
		next := sign&next != 0
		b := &chain.Bundle{}
		if c, err := chain.DecodeCertificate(certificate); err == nil {
			if sign&signCertificate != 0 {
				s.certificate(c, next)
			}
			b.Certificates = append(b.Certificates, c)
		}
		if p, err := chain.DecodeProposal(proposal); err == nil {
			if sign&signStatement != 0 {
				s.vote(&p.Statement, next)
			}
			if sign&signBlock != 0 {
				s.block(&p.Block, next)
			}
			if sign&signNotarization != 0 && p.Notarization != nil {
				s.certificate(p.Notarization, next)
			}
			for i := range p.Nullifications {
				if sign&signNullifications != 0 {
					s.certificate(&p.Nullifications[i], next)
				}
			}
			b.Proposals = append(b.Proposals, p)
		}
		if v, err := chain.DecodeVote(vote); err == nil {
			if sign&signVote != 0 {
				s.vote(&v, next)
			}
			b.Votes = append(b.Votes, v)
		}
		want := s.expect(b)
		for again := range 2 { // the second time the votes are known
			events = nil
			from := chain.PublicKey{byte(again)}
			useless, err := h.OnBundle(t.Context(), from, b)
			if (err != nil) != want.blame {
				t.Fatalf("time %d: %s is the peer's fault: %v; the node says %v", again+1, show(b), want.blame, err)
			}
			if useless != want.useless {
				t.Errorf("time %d: %d messages are of no use in %s, want %d", again+1, useless, show(b), want.useless)
			}
			var expected []consensus.Event
			if !want.passed.Empty() {
				expected = append(expected, consensus.Received{From: from, Bundle: want.passed, Set: s.sets[1].Hash()})
			}
			if want.ahead > 0 {
				expected = append(expected, consensus.Ahead{From: from, Lowest: want.lowest, Height: want.ahead})
			}
			if want.behind > 0 {
				expected = append(expected, consensus.Behind{From: from, Height: want.behind})
			}
			if !reflect.DeepEqual(events, expected) {
				t.Errorf("time %d: the core has %+v, want %+v, after %s", again+1, events, expected, show(b))
			}
			if heard[from] != want.height {
				t.Errorf("the peer is taken to be at height %d after %s, want %d", heard[from], show(b), want.height)
			}
		}
	})
}

func show(b *chain.Bundle) string {
	said, _ := json.Marshal(b)
	return string(said)
}

// expected is what a node makes of a bundle.
type expected struct {
	passed                        chain.Bundle
	height, lowest, ahead, behind uint64
	useless                       int
	blame                         bool
}

// expect says what a node has to make of a bundle with at most one message of each form. Of what is
// as high as a message that did not verify, or higher, nothing is looked at.
func (s *signers) expect(b *chain.Bundle) (e expected) {
	unknown := uint64(0)
	passes := func(i item) bool {
		holds, height := s.holds(i)
		switch {
		case height > openHeight+1:
			e.useless++
		case height+consensus.RecentHeights < openHeight:
			e.useless++
			e.behind = max(e.behind, height)
			return false
		case unknown > 0 && height >= unknown:
		case holds:
			return true
		case height <= openHeight:
			e.blame = true
			return false
		default:
			unknown = height
		}
		e.ahead = max(e.ahead, height)
		if e.lowest == 0 || height < e.lowest {
			e.lowest = height
		}
		return false
	}
	for _, c := range b.Certificates {
		if passes(item{certificates: []*chain.Certificate{c}}) {
			e.passed.Certificates = append(e.passed.Certificates, c)
			e.height = c.Height
			if c.Kind == chain.Finalize {
				e.height++
			}
		}
	}
	for _, p := range b.Proposals {
		i := item{votes: []chain.Vote{p.Statement}, block: &p.Block}
		if p.Notarization != nil {
			i.certificates = append(i.certificates, p.Notarization)
		}
		for j := range p.Nullifications {
			i.certificates = append(i.certificates, &p.Nullifications[j])
		}
		if passes(i) {
			e.passed.Proposals, e.height = append(e.passed.Proposals, p), max(e.height, p.Statement.Height)
		}
	}
	for _, v := range b.Votes {
		if passes(item{votes: []chain.Vote{v}}) {
			e.passed.Votes, e.height = append(e.passed.Votes, v), max(e.height, v.Height)
		}
	}
	if e.blame {
		return expected{blame: true}
	}
	return e
}
