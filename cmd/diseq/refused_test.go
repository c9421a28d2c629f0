package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/diseq/diseq/internal/clientcmd"
	"github.com/diseq/diseq/internal/document/documenttest"
)

const refusedFile = "../../node/chain/testdata/refused.json"

// A document that another program reads differently ends a command with exit code 1.
//
// Promise 43.
func TestRefusedDocumentsAreRefused(t *testing.T) {
	dir := t.TempDir()
	genesis, path := filepath.Join(dir, "genesis.json"), filepath.Join(dir, "document.json")
	g := documenttest.Read(t, refusedFile, "genesis").Accepted[0]
	must(t, os.WriteFile(genesis, g.Bytes(), 0o600))
	// a receipt of the same chain, to verify with genesis documents
	receipt := filepath.Join(dir, "receipt.json")
	r := documenttest.Read(t, refusedFile, "receipt").Accepted[0]
	must(t, os.WriteFile(receipt, r.Bytes(), 0o600))
	checkpoint, short := filepath.Join(dir, "checkpoint.json"), filepath.Join(dir, "short.json")
	must(t, os.WriteFile(checkpoint, documenttest.Read(t, refusedFile, "checkpoint").Accepted[0].Bytes(), 0o600))
	must(t, os.WriteFile(short, documenttest.Read(t, refusedFile, "receipt from checkpoint").Accepted[0].Bytes(), 0o600))
	samples := documenttest.Read(t, refusedFile, "receipt", "block", "proof", "changes", "evidence", "genesis", "identity",
		"checkpoint", "receipt from checkpoint")
	documenttest.Check(t, samples, func(s documenttest.Sample) error {
		if s.Kind == "evidence" && s.Why == "a list" {
			return errors.New("a list of evidence is read as such")
		}
		if s.Why == "of the genesis document" {
			return nil // the receipt here is of a later set
		}
		must(t, os.WriteFile(path, s.Bytes(), 0o600))
		args := map[string][]string{
			"receipt": {"verify", path, "--genesis", genesis}, "block": {"verify", path, "--genesis", genesis},
			"changes": {"verify", path, "--genesis", genesis}, "receipt from checkpoint": {"verify", path, "--checkpoint", checkpoint},
			"checkpoint": {"verify", short, "--checkpoint", path},
			"proof":      {"verify", path, "--genesis", genesis}, "evidence": {"evidence", "verify", path, "--genesis", genesis},
			"genesis": {"verify", receipt, "--genesis", path}, "identity": {"genesis", "--chain-id", "refused", "--threshold", "1", path},
		}[s.Kind]
		o := diseq(t, "", args...)
		if o.code == 0 && o.stdout != "" {
			return nil
		}
		if o.code != clientcmd.ExitFailure || strings.Contains(o.stdout, "verified: ") || o.stderr == "" {
			t.Errorf("%s (%s): exit code %d, stdout %q, stderr %q", s.Kind, s.Why, o.code, o.stdout, o.stderr)
		}
		return errors.New(o.stderr)
	})
}

// A receipt names the set that made its block final, which need not be genesis'. The figures are
// those of that set.
func TestTheVerdictIsAboutTheSetInForce(t *testing.T) {
	dir := t.TempDir()
	genesis, path := filepath.Join(dir, "genesis.json"), filepath.Join(dir, "receipt.json")
	must(t, os.WriteFile(genesis, documenttest.Read(t, refusedFile, "genesis").Accepted[0].Bytes(), 0o600))
	found := false
	for _, r := range documenttest.Read(t, refusedFile, "receipt").Accepted {
		if !strings.Contains(r.Why, "the set of validators has changed") {
			continue
		}
		found = true
		must(t, os.WriteFile(path, r.Bytes(), 0o600))
		out := succeeds(t, "verify", path, "--genesis", genesis)
		if !strings.Contains(out, "final by 4 of 4 validators (threshold 4)") || !strings.Contains(out, "unless 4 or more validators are malicious\n") {
			t.Errorf("verify says %q", out)
		}
	}
	if !found {
		t.Fatal("no receipt of a changed set")
	}
}

func TestBlocksAndProofsAreVerified(t *testing.T) {
	dir := t.TempDir()
	genesis, path := filepath.Join(dir, "genesis.json"), filepath.Join(dir, "lines.jsonl")
	must(t, os.WriteFile(genesis, documenttest.Read(t, refusedFile, "genesis").Accepted[0].Bytes(), 0o600))
	var lines []byte
	for _, s := range documenttest.Read(t, refusedFile, "block", "proof").Accepted {
		lines = append(append(lines, s.Bytes()...), '\n')
	}
	must(t, os.WriteFile(path, lines, 0o600))
	out := succeeds(t, "verify", path, "--genesis", genesis)
	for _, want := range []string{
		"verified: block 1 of chain refused is ", "with 3 messages, final by 3 of 4 validators (threshold 3); no other block",
		"verified: block 0 of chain refused is ", " is in one of the blocks up to 1 of chain refused, by the state root in block 2, final by 3 of 4",
		" is in none of the blocks up to 1 of chain refused",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("verify says %q, want %q", out, want)
		}
	}
}
