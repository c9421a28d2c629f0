package chain

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"
)

// Promise 25.
func TestMessageIDIsTheTrieKeyOfTheProofOfConcept(t *testing.T) {
	const want = "28dadf62a2991e506bb60a90b5afbb5df16c9d7ae0fe9d3074a75c534afa23a5"
	if got := (Message{Data: []byte{1, 2, 3, 4, 5}, Timestamp: 9}).ID().String(); got != want {
		t.Errorf("id %s, want %s", got, want)
	}
}

func TestMessagesRootAndPathAgreeWithTheReferenceTree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		messages := testMessages(rapid.IntRange(1, 3*rootGroup).Draw(t, "count"))
		var stored []tlog.Hash
		reader := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
			out := make([]tlog.Hash, len(indexes))
			for i, x := range indexes {
				out[i] = stored[x]
			}
			return out, nil
		})
		for i, m := range messages {
			leaf := append([]byte{byte(m.Timestamp), byte(m.Timestamp >> 8), byte(m.Timestamp >> 16), byte(m.Timestamp >> 24)}, m.Data...)
			hashes, err := tlog.StoredHashes(int64(i), leaf, reader)
			if err != nil {
				t.Fatal(err)
			}
			stored = append(stored, hashes...)
		}
		want, err := tlog.TreeHash(int64(len(messages)), reader)
		if err != nil {
			t.Fatal(err)
		}
		if got := MessagesRoot(messages); got != Hash(want) {
			t.Fatalf("root %v, the reference has %v", got, want)
		}
		index := rapid.IntRange(0, len(messages)-1).Draw(t, "index")
		path := newMessageTree(messages).path(index)
		proof, err := tlog.ProveRecord(int64(len(messages)), int64(index), reader)
		if err != nil {
			t.Fatal(err)
		}
		if len(proof) != len(path) {
			t.Fatalf("path of %d hashes, the reference has %d", len(path), len(proof))
		}
		for i := range proof {
			if Hash(proof[i]) != path[i] {
				t.Fatalf("hash %d of the path is %v, the reference has %v", i, path[i], proof[i])
			}
		}
		root, err := rootFromPath(merkleLeaf(messages[index]), uint64(index), uint64(len(messages)), path)
		if err != nil || root != Hash(want) {
			t.Fatalf("path leads to %v, %v; want %v", root, err, want)
		}
		if other := rapid.IntRange(0, len(messages)+10).Draw(t, "other"); other != index {
			if root, err := rootFromPath(merkleLeaf(messages[index]), uint64(other), uint64(len(messages)), path); err == nil && root == Hash(want) {
				t.Fatalf("the path of index %d also proves index %d", index, other)
			}
		}
	})
}

// Promise 43.
func TestAReceiptVerifiesFromGenesisAlone(t *testing.T) {
	n := newNetwork(t, 4, 3)
	for index := range 5 {
		r := n.receipt(t, n.finalBlock(5), index)
		text, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		read, err := ReadReceipt(bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		if err := read.Verify(n.Genesis, 3); err != nil {
			t.Error(err)
		}
		if err := read.Verify(n.Genesis, 4); err == nil || !strings.Contains(err.Error(), "strength 3, 4 asked for") {
			t.Errorf("insisting on 4 votes: %v", err)
		}
	}
}

// TestEveryFieldOfAReceiptCounts alters each leaf of the receipt's JSON in turn.
//
// Promise 43.
func TestEveryFieldOfAReceiptCounts(t *testing.T) {
	n := newNetwork(t, 4, 3)
	r := n.receipt(t, n.finalBlock(5), 2)
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	altered := 0
	var walk func(path string, v any, set func(any), root any)
	walk = func(path string, v any, set func(any), root any) {
		try := func(x any) {
			set(x)
			defer set(v)
			b, err := json.Marshal(root)
			if err != nil {
				t.Fatal(err)
			}
			altered++
			if read, err := ReadReceipt(bytes.NewReader(b)); err == nil && read.Verify(n.Genesis, 0) == nil {
				t.Errorf("a receipt with %s = %v instead of %v verifies", path, x, v)
			}
		}
		switch x := v.(type) {
		case map[string]any:
			for k, e := range x {
				walk(path+"."+k, e, func(y any) { x[k] = y }, root)
			}
		case []any:
			for i, e := range x {
				walk(path+"[]", e, func(y any) { x[i] = y }, root)
			}
			if len(x) > 0 {
				try(x[:len(x)-1])
				try(append(append([]any{}, x...), x[0]))
			}
		case string:
			if c := x[0]; c == 'a' {
				try("b" + x[1:])
			} else {
				try("a" + x[1:])
			}
		case float64:
			try(x + 1)
		}
	}
	var root any
	if err := json.Unmarshal(text, &root); err != nil {
		t.Fatal(err)
	}
	walk("receipt", root, func(any) {}, root)
	if _, err := NewReceipts(n.finalBlock(5), nil, 5); err == nil {
		t.Error("a receipt of message 5 of a block of 5")
	}
	if altered < 30 {
		t.Errorf("only %d fields were altered", altered)
	}
}

// Promise 7.
func TestEvidenceNamesTheRuleBroken(t *testing.T) {
	n := newNetwork(t, 4, 3)
	a, b := Hash{1}, Hash{2}
	for _, c := range []struct {
		name          string
		first, second Vote
		want          Rule
	}{
		{"two blocks notarized", n.vote(Notarize, 5, 1, a, 2), n.vote(Notarize, 5, 1, b, 2), RuleE1},
		{"two blocks finalized", n.vote(Finalize, 5, 1, a, 2), n.vote(Finalize, 5, 1, b, 2), RuleE1},
		{"nullified and finalized", n.vote(Finalize, 5, 1, a, 2), n.vote(Nullify, 5, 1, Hash{}, 2), RuleE2},
		{"finalized one, notarized another", n.vote(Finalize, 5, 1, a, 2), n.vote(Notarize, 5, 1, b, 2), RuleE3},
		{"two blocks proposed", n.vote(Propose, 5, 1, a, 2), n.vote(Propose, 5, 1, b, 2), RulePropose},
		{"the same vote", n.vote(Notarize, 5, 1, a, 2), n.vote(Notarize, 5, 1, a, 2), ""},
		{"notarized and finalized", n.vote(Notarize, 5, 1, a, 2), n.vote(Finalize, 5, 1, a, 2), ""},
		{"notarized and nullified", n.vote(Notarize, 5, 1, a, 2), n.vote(Nullify, 5, 1, Hash{}, 2), ""},
		{"proposed one, notarized another", n.vote(Propose, 5, 1, a, 2), n.vote(Notarize, 5, 1, b, 2), ""},
		{"another round", n.vote(Notarize, 5, 1, a, 2), n.vote(Notarize, 5, 2, b, 2), ""},
		{"another height", n.vote(Notarize, 5, 1, a, 2), n.vote(Notarize, 6, 1, b, 2), ""},
		{"another validator", n.vote(Notarize, 5, 1, a, 2), n.vote(Notarize, 5, 1, b, 3), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, ok := NewEvidence(n.ChainID, n.set, c.first, c.second)
			f, _ := NewEvidence(n.ChainID, n.set, c.second, c.first)
			if ok != (c.want != "") || e.Rule != c.want || e != f {
				t.Fatalf("rule %q, turned round %q; want %q both ways", e.Rule, f.Rule, c.want)
			}
			if !ok {
				return
			}
			if err := e.Verify(n.ChainID, n.set); err != nil {
				t.Error(err)
			}
			e.Second.Signature[3] ^= 1
			if err := e.Verify(n.ChainID, n.set); !errors.Is(err, ErrSignature) {
				t.Errorf("with a forged signature: %v", err)
			}
		})
	}
}

// Promise 11.
func TestASignatureMeansOneThing(t *testing.T) {
	n := newNetwork(t, 4, 3)
	v := n.vote(Notarize, 5, 1, Hash{1}, 2)
	if err := v.Verify(n.ChainID, n.set); err != nil {
		t.Fatal(err)
	}
	for name, alter := range map[string]func(*Vote){
		"kind": func(v *Vote) { v.Kind = Finalize }, "height": func(v *Vote) { v.Height++ }, "round": func(v *Vote) { v.Round++ },
		"block": func(v *Vote) { v.Block[0]++ }, "validator": func(v *Vote) { v.Validator = 1 },
	} {
		w := v
		alter(&w)
		if err := w.Verify(n.ChainID, n.set); !errors.Is(err, ErrSignature) {
			t.Errorf("vote with another %s: %v", name, err)
		}
	}
	if err := v.Verify("other-chain", n.set); !errors.Is(err, ErrSignature) {
		t.Errorf("vote of another chain: %v", err)
	}
	v.Validator = 4
	if err := v.Verify(n.ChainID, n.set); err == nil {
		t.Error("vote of a validator that is not in the set verifies")
	}
}

// Promise 10.
func TestACertificateNeedsTheThreshold(t *testing.T) {
	n := newNetwork(t, 4, 3)
	c := n.certificate(Notarize, 1, 0, Hash{1}, 0, 3)
	if err := c.Verify(n.ChainID, n.set); err == nil || !strings.Contains(err.Error(), "2 votes, the threshold is 3") {
		t.Errorf("with 2 of 3 votes: %v", err)
	}
	c = n.certificate(Notarize, 1, 0, Hash{1}, 0, 1, 3)
	if err := c.Verify(n.ChainID, n.set); err != nil {
		t.Error(err)
	}
	c.Votes[2].Validator = 2
	if err := c.Verify(n.ChainID, n.set); !errors.Is(err, ErrSignature) {
		t.Errorf("with a vote put under another name: %v", err)
	}
}

// Promise 33.
func TestAFinalBlockIsCheckedAgainstItsHeader(t *testing.T) {
	n := newNetwork(t, 4, 3)
	if err := n.finalBlock(3).Verify(n.ChainID, n.set); err != nil {
		t.Fatal(err)
	}
	for name, alter := range map[string]func(*FinalBlock){
		"a message less":  func(f *FinalBlock) { f.Messages = f.Messages[:2] },
		"another message": func(f *FinalBlock) { f.Messages = append(f.Messages[:2:2], Message{Data: []byte("x")}) },
		"another timestamp": func(f *FinalBlock) {
			f.Messages = append(f.Messages[:2:2], Message{Data: f.Messages[2].Data, Timestamp: 77})
		},
		"another header":         func(f *FinalBlock) { f.Header.Timestamp++ },
		"another chain":          func(f *FinalBlock) { f.Header.ChainID = "other" },
		"another set":            func(f *FinalBlock) { f.Header.ValidatorsHash[0]++ },
		"a notarization":         func(f *FinalBlock) { f.Certificate = n.certificate(Notarize, 1, 0, f.Hash(), 0, 1, 2) },
		"too few votes":          func(f *FinalBlock) { f.Certificate = n.certificate(Finalize, 1, 0, f.Hash(), 0, 1) },
		"votes of another block": func(f *FinalBlock) { f.Certificate = n.certificate(Finalize, 1, 0, Hash{5}, 0, 1, 2) },
	} {
		f := n.finalBlock(3)
		alter(f)
		if err := f.Verify(n.ChainID, n.set); err == nil {
			t.Errorf("%s: verifies", name)
		}
	}
	f := n.finalBlock(3)
	if err := f.VerifySignature(n.set); err != nil {
		t.Error(err)
	}
	f.Signature[0]++
	if err := f.VerifySignature(n.set); !errors.Is(err, ErrSignature) {
		t.Errorf("with another proposer's signature: %v", err)
	}
}

func TestABatchIsItsAuthors(t *testing.T) {
	n := newNetwork(t, 4, 3)
	b := &Batch{Incarnation: 7, Number: 1, Messages: testMessages(3)}
	b.Sign(n.keys[0], n.ChainID)
	if _, err := b.Verify(n.ChainID, 100); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Verify("other", 100); !errors.Is(err, ErrSignature) {
		t.Errorf("on another chain: %v", err)
	}
	if _, err := b.Verify(n.ChainID, 5); !errors.Is(err, ErrMalformed) {
		t.Errorf("with a message above the limit: %v", err)
	}
	b.Number = 2
	if _, err := b.Verify(n.ChainID, 100); !errors.Is(err, ErrSignature) {
		t.Errorf("with another number: %v", err)
	}
	b.Number = 0
	if _, err := b.Verify(n.ChainID, 100); !errors.Is(err, ErrMalformed) {
		t.Errorf("without a number: %v", err)
	}
}

func TestGenesisNamesWhatIsWrong(t *testing.T) {
	for _, c := range []struct {
		want  string
		alter func(*Genesis)
	}{
		{"version 2", func(g *Genesis) { g.Version = 2 }},
		{`chain_id "Bad Name"`, func(g *Genesis) { g.ChainID = "Bad Name" }},
		{"threshold 2 with 4 validators, allowed are 3 to 4", func(g *Genesis) { g.Threshold = 2 }},
		{"threshold 5 with 4 validators", func(g *Genesis) { g.Threshold = 5 }},
		{"threshold 4294967295", func(g *Genesis) { g.Threshold = 1<<32 - 1 }},
		{"validator set of 0", func(g *Genesis) { g.Validators = []NamedValidator{} }},
		{"share the key", func(g *Genesis) { g.Validators[1].PublicKey = g.Validators[0].PublicKey }},
		{"share the key", func(g *Genesis) { g.Validators[1].VRFKey = g.Validators[0].VRFKey }},
		{"empty key", func(g *Genesis) { g.Validators[1].PublicKey = PublicKey{} }},
		{`named "v0"`, func(g *Genesis) { g.Validators[1].Name = "v0" }},
		{"parameters.beacon_interval is 0", func(g *Genesis) { g.Parameters.BeaconInterval = 0 }},
		{"parameters.max_block_bytes is 100", func(g *Genesis) { g.Parameters.MaxBlockBytes = 100 }},
		{"parameters.max_round_timeout_ms is 1", func(g *Genesis) { g.Parameters.MaxRoundTimeoutMS = 1 }},
		{"synchrony_delta_ms 9, allowed are 0", func(g *Genesis) { g.SynchronyDeltaMS = 9 }},
		{"synchrony_delta_ms 60001, allowed are 0", func(g *Genesis) { g.SynchronyDeltaMS = 60_001 }},
	} {
		g := newNetwork(t, 4, 3).Genesis
		c.alter(g)
		text, err := json.Marshal(g)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ReadGenesis(bytes.NewReader(text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error %v, want one with %q", err, c.want)
		}
	}
	g := newNetwork(t, 4, 3).Genesis
	text, _ := json.Marshal(g)
	read, err := ReadGenesis(bytes.NewReader(text))
	if err != nil || !reflect.DeepEqual(g, read) || read.Hash() != g.Hash() {
		t.Errorf("read back %+v, %v", read, err)
	}
	for _, bad := range []string{"", "{}x", `{"version":1,"chainid":"x"}`, string(text) + "{}", string(text) + "}", string(text) + "]", `"` + strings.Repeat("x", maxGenesisBytes)} {
		if _, err := ReadGenesis(strings.NewReader(bad)); err == nil {
			t.Errorf("%.40q is accepted", bad)
		}
	}
}

// Promise 16.
func TestAStatusAnswersOneAsker(t *testing.T) {
	n := newNetwork(t, 4, 3)
	s := &Status{Nonce: Hash{1}, Height: 9, Block: Hash{2}}
	s.Sign(n.keys[1], n.ChainID)
	if err := s.Verify(n.ChainID, Hash{1}); err != nil {
		t.Fatal(err)
	}
	if err := s.Verify(n.ChainID, Hash{2}); err == nil {
		t.Error("answers another nonce")
	}
	s.Height++
	if err := s.Verify(n.ChainID, Hash{1}); !errors.Is(err, ErrSignature) {
		t.Errorf("with another height: %v", err)
	}
}
