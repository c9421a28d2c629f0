package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/diseq/diseq/client"
	"github.com/diseq/diseq/internal/clientcmd"
	"github.com/diseq/diseq/node/chain"
)

// changing is a chain whose validators change at height 1, from four of them to the last three.
type changing struct {
	*network
	next   *chain.NextSet
	first  *chain.FinalBlock
	second *chain.FinalBlock
}

func newChanging(t *testing.T) *changing {
	t.Helper()
	w := &changing{network: newNetwork(t, 4, 3)}
	w.next = &chain.NextSet{Generation: 1, Threshold: 2, Validators: w.genesis.Validators[1:]}
	change := &chain.Change{Next: *w.next}
	for i := range uint32(3) {
		change.Endorsements = append(change.Endorsements, chain.Endorsement{
			Validator: i, Signature: chain.Endorse(w.keys[i], w.genesis.ChainID, w.next).Signature,
		})
	}
	sign := func(f *chain.FinalBlock, from, votes int) *chain.FinalBlock {
		f.Sign(w.keys[from])
		f.Certificate = chain.Certificate{Kind: chain.Finalize, Height: f.Header.Height, Block: f.Hash()}
		for i := range votes {
			v := chain.Vote{Kind: chain.Finalize, Height: f.Header.Height, Block: f.Hash(), Validator: uint32(i)}
			v.Sign(w.keys[from+i], w.genesis.ChainID)
			f.Certificate.Votes = append(f.Certificate.Votes, chain.VoteSignature{Validator: uint32(i), Signature: v.Signature})
		}
		return f
	}
	f := &chain.FinalBlock{Block: chain.Block{Header: w.genesis.Header(), Change: change}}
	genesis := w.genesis.Header()
	f.Header.Height, f.Header.ParentHash, f.Header.Timestamp = 1, genesis.Hash(), genesis.Timestamp+20
	f.Header.ChangeHash, f.Header.NextValidatorsHash = change.Hash(), w.next.Set().Hash()
	w.first = sign(f, 0, 3)
	g := &chain.FinalBlock{Block: chain.Block{Header: f.Header}, Messages: []chain.Message{{Data: []byte("one")}}}
	g.Header.Height, g.Header.ParentHash, g.Header.Timestamp = 2, f.Hash(), f.Header.Timestamp+20
	g.Header.ChangeHash, g.Header.ValidatorsHash = chain.Hash{}, g.Header.NextValidatorsHash
	g.Header.MessagesRoot, g.Header.MessagesCount = chain.MessagesRoot(g.Messages), 1
	w.second = sign(g, 1, 2)
	return w
}

func (w *changing) final(t *testing.T) *chain.FinalChange {
	t.Helper()
	c, err := chain.NewFinalChange(&w.first.Block, &w.first.Certificate)
	must(t, err)
	return c
}

func shown(f *chain.FinalBlock) *client.Block {
	b := &client.Block{
		Header: f.Header, HeaderHash: f.Hash(), Signature: &f.Signature, Change: f.Change,
		Certificate: &chain.ReceiptCertificate{Certificate: f.Certificate, Strength: f.Certificate.Strength()}, Messages: []chain.ReceiptMessage{},
	}
	for _, m := range f.Messages {
		b.Messages = append(b.Messages, chain.ReceiptMessage{ID: m.ID(), Message: m})
	}
	return b
}

// serve answers as a node of the chain.
func (w *changing) serve(t *testing.T) string {
	t.Helper()
	answer := func(v any) http.HandlerFunc {
		return func(out http.ResponseWriter, _ *http.Request) {
			out.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(out).Encode(v) // a test that needs it fails without
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/blocks/latest", answer(shown(w.second)))
	mux.HandleFunc("GET /v1/changes", func(out http.ResponseWriter, r *http.Request) {
		changes := []*chain.FinalChange{w.final(t)}
		if r.URL.Query().Get("from") != "1" {
			changes = []*chain.FinalChange{}
		}
		answer(map[string]any{"changes": changes, "next": nil})(out, r)
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server.URL
}

// A checkpoint follows from the genesis document, whatever the node says. Readers that start from
// it verify what the new validators signed, and nothing below it.
//
// Promise 43.
func TestACheckpointIsVerifiedBeforeItIsWritten(t *testing.T) {
	w, dir := newChanging(t), t.TempDir()
	genesis, path := filepath.Join(dir, "genesis.json"), filepath.Join(dir, "checkpoint.json")
	w.write(t, genesis)
	node := w.serve(t)
	succeeds(t, "checkpoint", "-u", node, "--genesis", genesis, "-o", path)
	f, err := os.Open(path)
	must(t, err)
	c, err := chain.ReadCheckpoint(f)
	must(t, err)
	must(t, f.Close())
	if c.Height != 1 || c.Hash != w.first.Hash() || c.Set.Generation != 1 || c.Set.Hash() != w.next.Set().Hash() {
		t.Errorf("the checkpoint is %+v", c)
	}
	again := succeeds(t, "checkpoint", "-u", node, "--checkpoint", path)
	if raw, err := os.ReadFile(path); err != nil || string(raw) != again {
		t.Errorf("from the checkpoint the checkpoint is %s, was %s: %v", again, raw, err)
	}

	blocks := filepath.Join(dir, "blocks.jsonl")
	lines := func(documents ...any) {
		var out []byte
		for _, d := range documents {
			b, err := json.Marshal(d)
			must(t, err)
			out = append(append(out, b...), '\n')
		}
		must(t, os.WriteFile(blocks, out, 0o600))
	}
	lines(shown(w.second))
	if out := succeeds(t, "verify", blocks, "--checkpoint", path); !strings.Contains(out, "final by 2 of 3 validators (threshold 2)") {
		t.Errorf("with the checkpoint: %q", out)
	}
	fails(t, clientcmd.ExitFailure, "the set in force is", "verify", blocks, "--genesis", genesis)
	lines(shown(w.first), shown(w.second))
	out := succeeds(t, "verify", blocks, "--genesis", genesis)
	if !strings.Contains(out, "final by 3 of 4 validators") || !strings.Contains(out, "above block 1 there are 3 validators, threshold 2, generation 1\n") ||
		!strings.Contains(out, "final by 2 of 3 validators (threshold 2)") {
		t.Errorf("every block since genesis: %q", out)
	}
	o := diseq(t, "", "verify", blocks, "--checkpoint", path)
	if o.code != clientcmd.ExitFailure || !strings.Contains(o.stdout, "at or below the checkpoint that is trusted") || !strings.Contains(o.stdout, "final by 2 of 3") {
		t.Errorf("a block below the checkpoint: %+v", o)
	}
	must(t, os.WriteFile(blocks, []byte(succeeds(t, "get", "-u", node, "changes")), 0o600))
	if out := succeeds(t, "verify", blocks, "--genesis", genesis); !strings.Contains(out, "verified: 1 changes of the validators of chain ") {
		t.Errorf("changes: %q", out)
	}

	// A node that signs its newest block with the keys of the set before.
	w.second.Certificate = w.first.Certificate
	fails(t, clientcmd.ExitFailure, "not verified", "checkpoint", "-u", w.serve(t), "--genesis", genesis)
	w.first.Certificate.Votes = w.first.Certificate.Votes[:2]
	fails(t, clientcmd.ExitFailure, "2 votes, the threshold is 3", "checkpoint", "-u", w.serve(t), "--genesis", genesis)
}

// The key of a validator that has left is convicted, with the changes that the evidence brings.
//
// Promise 7.
func TestEvidenceConvictsAKeyThatHasLeft(t *testing.T) {
	w, dir := newChanging(t), t.TempDir()
	genesis, path := filepath.Join(dir, "genesis.json"), filepath.Join(dir, "evidence.json")
	w.write(t, genesis)
	entry, err := w.final(t).Entry()
	must(t, err)
	guilty := func(set *chain.ValidatorSet, height uint64, member, at int) chain.Evidence {
		vote := func(block byte) chain.Vote {
			v := chain.Vote{Kind: chain.Finalize, Height: height, Block: chain.Hash{block}, Validator: uint32(at)}
			v.Sign(w.keys[member], w.genesis.ChainID)
			return v
		}
		e, ok := chain.NewEvidence(w.genesis.ChainID, set, vote(1), vote(2))
		if !ok {
			t.Fatal("no evidence")
		}
		return e
	}
	left, stayed := guilty(w.genesis.Set(), 1, 0, 0), guilty(w.next.Set(), 2, 3, 2)
	write := func(pieces ...*chain.EvidenceDocument) {
		b, err := json.Marshal(map[string]any{"evidence": pieces})
		must(t, err)
		must(t, os.WriteFile(path, b, 0o600))
	}
	write(left.Document(nil), stayed.Document([]chain.ValidatorSetChange{entry}))
	out := succeeds(t, "evidence", "verify", path, "--genesis", genesis)
	for _, want := range []string{
		"validator 0 (v0, ", "at height 1 round 0: it voted twice in a round; the validators have changed since, generation 1 came with block 1\n",
		"validator 2 (v3, ", "at height 2 round 0: it voted twice in a round\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("the verdict %q lacks %q", out, want)
		}
	}
	write(stayed.Document(nil))
	fails(t, clientcmd.ExitFailure, "piece 0 is not evidence", "evidence", "verify", path, "--genesis", genesis)
}
