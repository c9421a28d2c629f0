package node

import (
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/consensus"
	"github.com/diseq/diseq/node/verify"
)

// signers are four validators that remember what they signed.
type signers struct {
	genesis *chain.Genesis
	keys    []ed25519.PrivateKey
	votes   map[chain.Vote]bool
	blocks  map[signedBlock]bool
}

type signedBlock struct {
	hash      chain.Hash
	signature chain.Signature
}

func newSigners() *signers {
	s := &signers{
		genesis: &chain.Genesis{Version: 1, ChainID: "bundles", Threshold: 3, Parameters: chain.DefaultParameters()},
		votes:   map[chain.Vote]bool{}, blocks: map[signedBlock]bool{},
	}
	for i := range 4 {
		key := ed25519.NewKeyFromSeed([]byte(strings.Repeat(string(rune('a'+i)), ed25519.SeedSize)))
		s.keys = append(s.keys, key)
		s.genesis.Validators = append(s.genesis.Validators, chain.NamedValidator{
			Name: fmt.Sprint("v", i), Validator: chain.Validator{PublicKey: chain.PublicKeyOf(key), VRFKey: chain.VRFKey{31: byte(i + 1)}},
		})
	}
	return s
}

// vote signs a vote, whatever it says, if its validator is one.
func (s *signers) vote(v *chain.Vote) {
	if int64(v.Validator) < int64(len(s.keys)) {
		v.Sign(s.keys[v.Validator], s.genesis.ChainID)
		s.votes[*v] = true
	}
}

func (s *signers) certificate(c *chain.Certificate) {
	for i := range c.Votes {
		v := c.Vote(i)
		s.vote(&v)
		c.Votes[i].Signature = v.Signature
	}
}

func (s *signers) block(b *chain.Block) {
	if int64(b.Header.Proposer) < int64(len(s.keys)) {
		b.Sign(s.keys[b.Header.Proposer])
		s.blocks[signedBlock{b.Hash(), b.Signature}] = true
	}
}

// holds reports whether the validators that a bundle names signed everything in it, and a threshold
// of them each certificate.
func (s *signers) holds(b *chain.Bundle) bool {
	certificates, votes := slices.Clone(b.Certificates), slices.Clone(b.Votes)
	for _, p := range b.Proposals {
		votes = append(votes, p.Statement)
		if p.Notarization != nil {
			certificates = append(certificates, p.Notarization)
		}
		for i := range p.Nullifications {
			certificates = append(certificates, &p.Nullifications[i])
		}
		if !s.blocks[signedBlock{p.Block.Hash(), p.Block.Signature}] {
			return false
		}
	}
	for _, c := range certificates {
		of := map[uint32]bool{}
		for i := range c.Votes {
			votes = append(votes, c.Vote(i))
			of[c.Votes[i].Validator] = true
		}
		if len(of) < int(s.genesis.Threshold) {
			return false
		}
	}
	return !slices.ContainsFunc(votes, func(v chain.Vote) bool { return !s.votes[v] })
}

// FuzzOnBundle has a peer send a certificate, a proposal and a vote, each with the validators'
// signatures or without. A message that its validators did not sign does not reach the core, and
// changes nothing that is known of the peer's height. A signed one reaches the core unchanged.
//
// Promise 37.
func FuzzOnBundle(f *testing.F) {
	s := newSigners()
	var events []consensus.Event
	var heard map[chain.PublicKey]uint64
	h := &handler{
		ctx: f.Context(), rejected: newMetrics().rejected,
		heard: func(from chain.PublicKey, height uint64) { heard[from] = height },
		post:  func(e consensus.Event) { events = append(events, e) },
	}

	const signVote, signCertificate, signStatement, signBlock, signNotarization, signNullifications = 1, 2, 4, 8, 16, 32
	vote := chain.Vote{Kind: chain.Notarize, Height: 5, Block: chain.Hash{1}, Validator: 2}
	finalization := &chain.Certificate{Kind: chain.Finalize, Height: 4, Block: chain.Hash{2}, Votes: []chain.VoteSignature{{}, {Validator: 1}, {Validator: 3}}}
	nullification := *finalization
	nullification.Kind, nullification.Round, nullification.Block = chain.Nullify, 1, chain.Hash{}
	p := &chain.Proposal{Block: chain.Block{Header: chain.Header{
		ProtocolVersion: chain.ProtocolVersion, ChainID: s.genesis.ChainID, Height: 4, MessagesRoot: chain.EmptyMessagesRoot(), Proposer: 1,
	}}}
	p.Statement = chain.Vote{Kind: chain.Propose, Height: 4, Round: 2, Block: p.Block.Hash(), Validator: 3}
	p.Notarization = &chain.Certificate{Kind: chain.Notarize, Height: 4, Block: p.Block.Hash(), Votes: slices.Clone(finalization.Votes)}
	p.Nullifications = []chain.Certificate{nullification}
	const all = 63
	for _, lacking := range []uint8{0, signVote, signCertificate, signStatement, signBlock, signNotarization, signNullifications, all} {
		f.Add(finalization.Encode(), p.Encode(), vote.Encode(), all-lacking)
	}
	f.Add(finalization.Encode(), []byte{}, []byte{}, uint8(signCertificate))
	f.Fuzz(func(t *testing.T, certificate, proposal, vote []byte, sign uint8) {
		// The signatures of one input do not count for the next; its seeds are signed anew.
		clear(s.votes)
		clear(s.blocks)
		events, heard, h.verifier = nil, map[chain.PublicKey]uint64{}, verify.New(s.genesis)
		b, height := &chain.Bundle{}, uint64(0)
		if c, err := chain.DecodeCertificate(certificate); err == nil {
			if sign&signCertificate != 0 {
				s.certificate(c)
			}
			b.Certificates, height = append(b.Certificates, c), c.Height
			if c.Kind == chain.Finalize {
				height++
			}
		}
		if p, err := chain.DecodeProposal(proposal); err == nil {
			if sign&signStatement != 0 {
				s.vote(&p.Statement)
			}
			if sign&signBlock != 0 {
				s.block(&p.Block)
			}
			if sign&signNotarization != 0 && p.Notarization != nil {
				s.certificate(p.Notarization)
			}
			for i := range p.Nullifications {
				if sign&signNullifications != 0 {
					s.certificate(&p.Nullifications[i])
				}
			}
			b.Proposals, height = append(b.Proposals, p), max(height, p.Statement.Height)
		}
		if v, err := chain.DecodeVote(vote); err == nil {
			if sign&signVote != 0 {
				s.vote(&v)
			}
			b.Votes, height = append(b.Votes, v), max(height, v.Height)
		}
		said, err := json.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		holds := s.holds(b)
		for again := range 2 { // the second time the votes are known
			from := chain.PublicKey{byte(again)}
			if err := h.OnBundle(from, b); (err == nil) != holds {
				t.Errorf("time %d: %s is signed by whom it names: %v; the node says %v", again+1, said, holds, err)
			}
			if len(events) != map[bool]int{true: again + 1}[holds] {
				t.Errorf("time %d: the core has %d events after %s, which holds: %v", again+1, len(events), said, holds)
			} else if holds {
				got, ok := events[again].(consensus.Received)
				passed, err := json.Marshal(got.Bundle)
				if !ok || got.From != from || err != nil || string(passed) != string(said) {
					t.Errorf("the core has %+v, want %s", events[again], said)
				}
			}
			if want := map[bool]uint64{true: height}[holds]; heard[from] != want {
				t.Errorf("the peer is taken to be at height %d after %s, want %d", heard[from], said, want)
			}
		}
	})
}
