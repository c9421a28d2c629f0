package controllers

import (
	"crypto/ed25519"
	"fmt"
	"strings"
	"testing"

	"github.com/diseq/diseq/controllers/nodeclient"
	"github.com/diseq/diseq/node/chain"
)

// forge makes the changes of a chain with the keys of validators named a, b, c, ...
type forge struct {
	genesis *chain.Genesis
	keys    map[string]ed25519.PrivateKey
}

func newForge(members string) *forge {
	f := &forge{genesis: &chain.Genesis{Version: 1, ChainID: "demo-0123abcd", TimeMS: 1, Parameters: chain.DefaultParameters()},
		keys: map[string]ed25519.PrivateKey{}}
	first := f.set(0, 0, members)
	f.genesis.Validators, f.genesis.Threshold = first.Validators, first.Threshold
	return f
}

// set is a set of validators, each named by a letter; threshold 0 is the majority.
func (f *forge) set(generation, threshold uint32, members string) *chain.NextSet {
	s := &chain.NextSet{Generation: generation, Threshold: threshold}
	for _, m := range members {
		name := string(m)
		if f.keys[name] == nil {
			f.keys[name] = ed25519.NewKeyFromSeed(fmt.Appendf(nil, "%032d", m))
		}
		s.Validators = append(s.Validators, chain.NamedValidator{Name: name, Validator: chain.Validator{
			PublicKey: chain.PublicKeyOf(f.keys[name]), VRFKey: chain.VRFKey{31: byte(m)}}})
	}
	if threshold == 0 {
		s.Threshold = uint32(len(s.Validators)/2 + 1)
	}
	return s
}

// change is one at a height from a set to the next, signed by validators of the old one.
func (f *forge) change(height uint64, from, to *chain.NextSet, signers string) nodeclient.Change {
	c := chain.Change{Next: *to}
	header := chain.Header{
		ProtocolVersion: chain.ProtocolVersion, ChainID: f.genesis.ChainID, Height: height, Timestamp: 2,
		ValidatorsHash: from.Set().Hash(), NextValidatorsHash: to.Set().Hash(),
	}
	for i, v := range from.Validators {
		if strings.Contains(signers, v.Name) {
			c.Endorsements = append(c.Endorsements,
				chain.Endorsement{Validator: uint32(i), Signature: chain.Endorse(f.keys[v.Name], f.genesis.ChainID, to).Signature})
		}
	}
	header.ChangeHash = c.Hash()
	certificate := chain.Certificate{Kind: chain.Finalize, Height: height, Block: header.Hash()}
	for i, v := range from.Validators {
		if strings.Contains(signers, v.Name) {
			vote := chain.Vote{Kind: chain.Finalize, Height: height, Block: header.Hash(), Validator: uint32(i)}
			vote.Sign(f.keys[v.Name], f.genesis.ChainID)
			certificate.Votes = append(certificate.Votes, chain.VoteSignature{Validator: uint32(i), Signature: vote.Signature})
		}
	}
	return nodeclient.Change{
		Header: header, Certificate: chain.ReceiptCertificate{Certificate: certificate, Strength: certificate.Strength()},
		Next: *to, Endorsements: c.Endorsements,
	}
}

// Promise 62.
func TestTheOperatorBelievesTheVotesOfTheSetBeforeAndNobodyElse(t *testing.T) {
	f := newForge("abcd")
	first, second, third := f.genesis.First(), f.set(1, 0, "abcdefg"), f.set(2, 0, "abe")
	grown, shrunk := f.change(10, first, second, "abc"), f.change(20, second, third, "defg")
	at := func(c nodeclient.Change) *chain.Checkpoint {
		return &chain.Checkpoint{Height: c.Header.Height, Hash: c.Header.Hash()}
	}
	// The keys of those that left sign another history, later.
	stolen := f.change(11, first, f.set(1, 0, "abcdh"), "bcd")

	h := newHistory(f.genesis)
	for _, c := range []nodeclient.Change{grown, shrunk} {
		if err := h.extend(&c, at(shrunk)); err != nil {
			t.Fatal(err)
		}
	}
	if e := h.newest(); e.set.Generation != 2 || e.height != 20 || e.hash != shrunk.Header.Hash() || !h.reaches(at(grown)) || !h.reaches(at(shrunk)) {
		t.Errorf("the newest set is %+v", e)
	}
	if !h.known(second.Validators[6].PublicKey) || h.known(chain.PublicKeyOf(ed25519.NewKeyFromSeed(make([]byte, 32)))) {
		t.Error("the keys of former members are not known, or others are")
	}

	for _, tt := range []struct {
		name       string
		after      []nodeclient.Change
		change     nodeclient.Change
		checkpoint *chain.Checkpoint
		want       string
	}{
		{"too few votes", nil, f.change(10, first, second, "ab"), nil, "has 2 votes, the threshold is 3"},
		{"votes of the next set", []nodeclient.Change{grown}, f.change(20, first, third, "abcd"), nil, "is of validator set"},
		{"a generation left out", nil, f.change(10, first, third, "abc"), nil, "generation 2"},
		{"at the height of the one before", []nodeclient.Change{grown}, f.change(10, second, third, "abcd"), nil, "the one before in block 10"},
		{"a name that comes back", []nodeclient.Change{grown, shrunk}, f.change(30, third, f.set(3, 0, "abeg"), "abe"), nil, "named g"},
		{"other names than the header's", nil, func() nodeclient.Change {
			c := f.change(10, first, second, "abc")
			c.Next.Validators = append([]chain.NamedValidator(nil), c.Next.Validators...)
			c.Next.Validators[4].Name = "x"
			return c
		}(), nil, "names another change"},
		{"another block at the checkpoint's height", nil, f.change(10, first, f.set(1, 0, "abc"), "abc"), at(grown), "leads past the checkpoint"},
		{"past the checkpoint", nil, stolen, at(grown), "leads past the checkpoint"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHistory(f.genesis)
			for _, c := range tt.after {
				if err := h.extend(&c, nil); err != nil {
					t.Fatal(err)
				}
			}
			eras := len(h.eras)
			if err := h.extend(&tt.change, tt.checkpoint); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
			if len(h.eras) != eras {
				t.Error("the set was taken all the same")
			}
		})
	}
}
