package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/diseq/diseq/internal/clientcmd"
	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/store"
)

type outcome struct {
	code           int
	stdout, stderr string
}

// diseq runs the command as a shell would.
func diseq(t *testing.T, stdin string, args ...string) outcome {
	t.Helper()
	var out, errs bytes.Buffer
	code := run(t.Context(), args, strings.NewReader(stdin), &out, &errs)
	return outcome{code: code, stdout: out.String(), stderr: errs.String()}
}

// succeeds returns the output of a command that must succeed without a word on the standard error.
func succeeds(t *testing.T, args ...string) string {
	t.Helper()
	o := diseq(t, "", args...)
	if o.code != 0 || o.stderr != "" {
		t.Fatalf("diseq %q: exit code %d: %s", args, o.code, o.stderr)
	}
	return o.stdout
}

// fails checks the exit code and that the error is one line that holds want; nothing is printed
// besides.
func fails(t *testing.T, code int, want string, args ...string) {
	t.Helper()
	o := diseq(t, "", args...)
	if o.code != code || o.stdout != "" || strings.Count(o.stderr, "\n") != 1 || !strings.Contains(o.stderr, want) {
		t.Errorf("diseq %q: exit code %d, stdout %q, stderr %q; want %d and one line with %q", args, o.code, o.stdout, o.stderr, code, want)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestEveryCommandHasHelpWithAnExample(t *testing.T) {
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		if cmd.Name() != "help" && cmd.Name() != "completion" {
			path := strings.Fields(cmd.CommandPath())[1:]
			help := succeeds(t, append(path, "--help")...)
			if !strings.Contains(help, "Examples:") || cmd.Short == "" {
				t.Errorf("%s: no example or no description", cmd.CommandPath())
			}
			for _, sub := range cmd.Commands() {
				walk(sub)
			}
		}
	}
	walk(newRoot())
	if help := succeeds(t, "submit", "--help"); !strings.Contains(help, "one message, for ever") || !strings.Contains(help, "nonce") {
		t.Error("submit --help does not say that equal payloads are one message")
	}
	if v := succeeds(t, "version"); !strings.HasPrefix(v, "diseq "+version) || !strings.Contains(v, runtime.Version()) {
		t.Errorf("version: %q", v)
	}
}

func TestAnErrorOfSeveralLinesBecomesOne(t *testing.T) {
	for in, want := range map[string]string{
		"a": "a", "a\nb": "a; b", "yaml: unmarshal errors:\n  line 8: x\r\n\n  line 9: y\n": "yaml: unmarshal errors: line 8: x; line 9: y",
	} {
		if got := clientcmd.OneLine(errors.New(in)); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
}

func TestWrongCallsEndWithExitCode2(t *testing.T) {
	dir := t.TempDir()
	genesis := filepath.Join(dir, "genesis.json")
	newNetwork(t, 4, 3).write(t, genesis)
	for _, tt := range []struct {
		want string
		args []string
	}{
		{"unknown command", []string{"frobnicate"}},
		{"unknown flag", []string{"submit", "--frobnicate", "-"}},
		{"accepts 1 arg", []string{"submit"}},
		{"--config is required: diseq init makes", []string{"node"}},
		{"--dir is required", []string{"init"}},
		{"--dir is required", []string{"devnet"}},
		{"--chain-id and --threshold", []string{"genesis", "x"}},
		{"requires at least 1 arg", []string{"genesis"}},
		{"one of --genesis and --checkpoint", []string{"verify", "x"}},
		{"one of --genesis and --checkpoint", []string{"verify", "x", "--genesis", genesis, "--checkpoint", genesis}},
		{"one of --genesis and --checkpoint", []string{"checkpoint"}},
		{"generation \"0\"", []string{"get", "changes", "0"}},
		{"--strength 101", []string{"verify", "x", "--genesis", genesis, "--strength", "101"}},
		{"url", []string{"submit", "-u", "ftp://x", "-"}},
		{"--timeout", []string{"submit", "--timeout", "0s", "-"}},
		{"hex digits", []string{"get", "message", "abc"}},
		{"height \"-1\"", []string{"get", "block", "-u", "http://127.0.0.1:1", "--", "-1"}},
		{"name the thing to get: block, changes, evidence, genesis, message,", []string{"get"}},
		{"say what to do with it: find, verify", []string{"evidence"}},
		{"--batch 0", []string{"bench", "--batch", "0"}},
		{"--size 10", []string{"bench", "--size", "10"}},
		{"--rate -1", []string{"bench", "--rate", "-1"}},
		{"at most 8 MiB", []string{"bench", "--batch", "10000", "--size", "1000"}},
		{"--connections 0", []string{"bench", "--connections", "0"}},
		{"threshold 2 with 4 validators", []string{"devnet", "--dir", filepath.Join(dir, "a"), "--threshold", "2"}},
		{"--validators 0", []string{"devnet", "--dir", filepath.Join(dir, "b"), "--validators", "0"}},
		{"--validators 1000000", []string{"devnet", "--dir", filepath.Join(dir, "b"), "--validators", "1000000", "--http", "127.0.0.1:1"}},
		{"want host:port", []string{"devnet", "--dir", filepath.Join(dir, "c"), "--http", "x"}},
		{"want a port", []string{"devnet", "--dir", filepath.Join(dir, "d"), "--http", "127.0.0.1:65535"}},
		{"--start 2", []string{"devnet", "--dir", filepath.Join(dir, "e"), "--start", "2"}},
		{"--round-timeout", []string{"devnet", "--dir", filepath.Join(dir, "f"), "--round-timeout", "1us"}},
	} {
		fails(t, clientcmd.ExitUsage, tt.want, tt.args...)
	}
	entries, err := filepath.Glob(filepath.Join(dir, "[abcdf]", "*"))
	must(t, err)
	if len(entries) > 0 {
		t.Errorf("wrong calls left %v behind", entries)
	}
}

func TestFailuresEndWithExitCode1AndOneLine(t *testing.T) {
	dir := t.TempDir()
	fails(t, clientcmd.ExitFailure, "no such file", "node", "--config", filepath.Join(dir, "none.yaml"))
	fails(t, clientcmd.ExitFailure, "connection refused: no node listens there: start one, or name others with --url", "get", "-u", "http://127.0.0.1:1", "status")
	fails(t, clientcmd.ExitFailure, "connection refused", "tail", "-u", "http://127.0.0.1:1")
	fails(t, clientcmd.ExitFailure, "no node listens there", "bench", "-u", "http://127.0.0.1:1")
	fails(t, clientcmd.ExitFailure, "no such file", "submit", filepath.Join(dir, "none"))
	fails(t, clientcmd.ExitFailure, "no such file", "submit", "--lines", filepath.Join(dir, "none"))
	empty := filepath.Join(dir, "empty")
	must(t, os.WriteFile(empty, nil, 0o600))
	fails(t, clientcmd.ExitFailure, "is empty", "submit", empty)
	genesis := filepath.Join(dir, "genesis.json")
	newNetwork(t, 4, 3).write(t, genesis)
	fails(t, clientcmd.ExitFailure, empty+": genesis: malformed", "verify", genesis, "--genesis", empty)
	fails(t, clientcmd.ExitFailure, empty+": receipt: malformed", "verify", empty, "--genesis", genesis)
	fails(t, clientcmd.ExitFailure, empty+": genesis: malformed", "evidence", "verify", genesis, "--genesis", empty)
	config := filepath.Join(dir, "node.yaml")
	for content, want := range map[string]string{
		"name: x\nlisten: {publik: ':1'}\n":              "publik",
		"name: ''\n":                                     "name",
		"name: x\nlisten: {peer: nonsense}\n":            "listen.peer",
		"name: x\nlogLevel: loud\n":                      "logLevel",
		"name: x\nlogFormat: xml\n":                      "logFormat",
		"name: x\nlimits: {maxPoolBytes: lots}\n":        "lots",
		"name: x\nlimits: {maxPoolBytes: 1}\n":           "limits.maxPoolBytes",
		"name: x\nlimits: {historyHeights: 1}\n":         "limits.historyHeights",
		"name: x\npprof: maybe\n":                        "pprof",
		"name: x\nlisten: {peer: '127.0.0.1:18080'}\n":   "taken by listen.public",
		"name: x\nname: y\n":                             "name",
		"name: x\ngenesis: ''\n":                         "genesis",
		"name: x\nlisten: {operations: '127.0.0.1:x'}\n": "listen.operations",
	} {
		must(t, os.WriteFile(config, []byte(content), 0o600))
		fails(t, clientcmd.ExitFailure, want, "node", "--config", config)
	}
}

// network is a chain with the keys of its validators.
type network struct {
	genesis *chain.Genesis
	keys    []ed25519.PrivateKey
}

func newNetwork(t *testing.T, n int, threshold uint32) *network {
	t.Helper()
	w := &network{genesis: &chain.Genesis{Version: 1, ChainID: "cli", TimeMS: 1, Threshold: threshold, Parameters: chain.DefaultParameters()}}
	for i := range n {
		key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{byte(i + 1)}, ed25519.SeedSize))
		w.keys = append(w.keys, key)
		w.genesis.Validators = append(w.genesis.Validators, chain.NamedValidator{
			Name: fmt.Sprintf("v%d", i), Validator: chain.Validator{PublicKey: chain.PublicKeyOf(key), VRFKey: chain.VRFKey{byte(i + 1)}},
		})
	}
	must(t, w.genesis.Validate())
	return w
}

func (w *network) write(t *testing.T, path string) {
	t.Helper()
	b, err := json.Marshal(w.genesis)
	must(t, err)
	must(t, os.WriteFile(path, b, 0o600))
}

func (w *network) vote(i int, kind chain.Kind, round uint32, block chain.Hash) chain.Vote {
	v := chain.Vote{Kind: kind, Height: 1, Round: round, Block: block, Validator: uint32(i)}
	v.Sign(w.keys[i], w.genesis.ChainID)
	return v
}

// block makes the final block 1 with the given number of votes.
func (w *network) block(votes int, messages ...chain.Message) *chain.FinalBlock {
	f := &chain.FinalBlock{Messages: messages}
	f.Header = w.genesis.Header()
	f.Header.Height, f.Header.Timestamp = 1, 2
	f.Header.MessagesCount, f.Header.MessagesRoot = uint32(len(messages)), chain.MessagesRoot(messages)
	f.Certificate = chain.Certificate{Kind: chain.Finalize, Height: 1, Block: f.Hash()}
	for i := range votes {
		v := w.vote(i, chain.Finalize, 0, f.Hash())
		f.Certificate.Votes = append(f.Certificate.Votes, chain.VoteSignature{Validator: v.Validator, Signature: v.Signature})
	}
	return f
}

// Promise 43.
func TestVerifySaysYesToAReceiptAndNoToAForgedOne(t *testing.T) {
	dir := t.TempDir()
	w := newNetwork(t, 4, 3)
	genesis, path := filepath.Join(dir, "genesis.json"), filepath.Join(dir, "receipt.json")
	w.write(t, genesis)
	messages := []chain.Message{{Data: []byte("one")}, {Data: []byte("two")}, {Data: []byte("three")}}
	receipts, err := chain.NewReceipts(w.block(3, messages...), nil, 1)
	must(t, err)
	b, err := json.Marshal(receipts[0])
	must(t, err)
	must(t, os.WriteFile(path, b, 0o600))
	out := succeeds(t, "verify", path, "--genesis", genesis)
	if !strings.Contains(out, "unless 2 or more validators are malicious\n") || !strings.Contains(out, messages[1].ID().String()) || strings.Count(out, "\n") != 1 {
		t.Errorf("verify says %q", out)
	}
	if o := diseq(t, string(b), "verify", "-", "--genesis", genesis, "--strength", "3"); o.code != 0 {
		t.Errorf("from the standard input: %q", o.stderr)
	}
	fails(t, clientcmd.ExitFailure, "strength 3, 4 asked for", "verify", path, "--genesis", genesis, "--strength", "4")

	other := filepath.Join(dir, "other.json")
	stranger := newNetwork(t, 4, 3)
	stranger.genesis.ChainID = "other"
	stranger.write(t, other)
	fails(t, clientcmd.ExitFailure, `"other"`, "verify", path, "--genesis", other)
	for from, to := range map[string]string{`"height":1`: `"height":2`, `"index":1`: `"index":2`, `dHdv`: `dHdw`, `"version":1`: `"version":2`, `{`: `<`} {
		must(t, os.WriteFile(path, bytes.Replace(b, []byte(from), []byte(to), 1), 0o600))
		fails(t, clientcmd.ExitFailure, "diseq verify: ", "verify", path, "--genesis", genesis)
	}
}

func TestVerifyGivesOneVerdictForEachReceiptOfAFile(t *testing.T) {
	dir := t.TempDir()
	w := newNetwork(t, 4, 3)
	genesis, path := filepath.Join(dir, "genesis.json"), filepath.Join(dir, "receipts.jsonl")
	w.write(t, genesis)
	messages := []chain.Message{{Data: []byte("one")}, {Data: []byte("two")}, {Data: []byte("three")}}
	receipts, err := chain.NewReceipts(w.block(3, messages...), nil, 0, 1, 2)
	must(t, err)
	var lines [3]string
	for i, r := range receipts {
		b, err := json.Marshal(r)
		must(t, err)
		lines[i] = string(b)
	}
	var indented bytes.Buffer
	must(t, json.Indent(&indented, []byte(lines[1]), "", "  "))
	forged := strings.Replace(lines[1], `"height":1`, `"height":2`, 1)
	for _, tt := range []struct {
		name, file string
		want       []string // each verdict holds its part
		failure    string
	}{
		{"as submit prints them", lines[0] + "\n" + lines[1] + "\n" + lines[2] + "\n", []string{"number 0", "number 1", "number 2"}, ""},
		{"blank lines, carriage returns, no last line feed", "\n" + lines[0] + "\r\n\n" + lines[1], []string{"number 0", "number 1"}, ""},
		{"one indented", indented.String(), []string{"number 1"}, ""},
		{"indented among lines", lines[0] + "\n" + indented.String() + "\n" + lines[2] + "\n", []string{"number 0", "number 1", "number 2"}, ""},
		{"one forged", lines[0] + "\n" + forged + "\n" + lines[2] + "\n", []string{"number 0", "line 2: not verified", "number 2"}, "1 of 3"},
		{"the first forged", forged + "\n\n" + lines[2] + "\n", []string{"line 1: not verified", "number 2"}, "1 of 2"},
		{"one torn", lines[0][:50] + "\n" + lines[1] + "\n", []string{"line 1: receipt: malformed", "number 1"}, "1 of 2"},
		{"a word in between", lines[0] + "\nword\n" + lines[2], []string{"number 0", "line 2: receipt: malformed", "number 2"}, "1 of 3"},
		{"two on a line", lines[0] + lines[1] + "\n" + lines[2], []string{"line 1: receipt: malformed", "number 2"}, "1 of 2"},
		{"only a forged one", forged, nil, "not verified: "},
	} {
		must(t, os.WriteFile(path, []byte(tt.file), 0o600))
		o := diseq(t, "", "verify", path, "--genesis", genesis)
		verdicts := strings.Split(strings.TrimSuffix(o.stdout, "\n"), "\n")
		if o.stdout == "" {
			verdicts = nil
		}
		if (o.code == 0) != (tt.failure == "") || !strings.Contains(o.stderr, tt.failure) || len(verdicts) != len(tt.want) {
			t.Errorf("%s: exit code %d, %q, verdicts %q", tt.name, o.code, o.stderr, verdicts)
			continue
		}
		for i, want := range tt.want {
			if !strings.Contains(verdicts[i], want) {
				t.Errorf("%s: verdict %q, want %q", tt.name, verdicts[i], want)
			}
		}
	}
}

func TestEvidenceNamesWhoBrokeWhichRule(t *testing.T) {
	dir := t.TempDir()
	w := newNetwork(t, 4, 3)
	genesis, path := filepath.Join(dir, "genesis.json"), filepath.Join(dir, "evidence.json")
	w.write(t, genesis)
	a, b := chain.Hash{1}, chain.Hash{2}
	var pieces []chain.Evidence
	for _, pair := range [][2]chain.Vote{
		{w.vote(0, chain.Notarize, 0, a), w.vote(0, chain.Notarize, 0, b)}, {w.vote(1, chain.Nullify, 1, chain.Hash{}), w.vote(1, chain.Finalize, 1, a)},
		{w.vote(2, chain.Finalize, 2, a), w.vote(2, chain.Notarize, 2, b)}, {w.vote(3, chain.Propose, 3, a), w.vote(3, chain.Propose, 3, b)},
	} {
		e, ok := chain.NewEvidence(w.genesis.ChainID, w.genesis.Set(), pair[0], pair[1])
		if !ok {
			t.Fatal("no evidence")
		}
		pieces = append(pieces, e)
	}
	write := func(v any) {
		b, err := json.Marshal(v)
		must(t, err)
		must(t, os.WriteFile(path, b, 0o600))
	}
	for _, form := range []any{pieces, map[string]any{"evidence": pieces}} {
		write(form)
		out := succeeds(t, "evidence", "verify", path, "--genesis", genesis)
		for i, rule := range []string{"E1", "E2", "E3", "propose"} {
			if !strings.Contains(out, fmt.Sprintf("validator %d (v%d, %v) broke rule %s at height 1 round %d", i, i, pieces[i].PublicKey, rule, i)) {
				t.Errorf("rule %s is not in %q", rule, out)
			}
		}
	}
	write(pieces[0])
	succeeds(t, "evidence", "verify", path, "--genesis", genesis)
	write([]chain.Evidence{})
	if out := succeeds(t, "evidence", "verify", path, "--genesis", genesis); !strings.Contains(out, "no validator is accused") {
		t.Errorf("of nothing: %q", out)
	}
	framed := pieces[0]
	framed.PublicKey = pieces[1].PublicKey
	write(framed)
	fails(t, clientcmd.ExitFailure, "not evidence", "evidence", "verify", path, "--genesis", genesis)
	for _, text := range []string{"", "{", "[1]", `{"evidence":3}`, `{"first":{"kind":"wish"}}`} {
		must(t, os.WriteFile(path, []byte(text), 0o600))
		fails(t, clientcmd.ExitFailure, "evidence.json", "evidence", "verify", path, "--genesis", genesis)
	}
}

// With the neutral element as a key, a constant is a signature of every vote. No reader starts from
// a genesis document with such a validator, so nothing is proven against it or by it.
//
// Promise 11.
func TestNothingIsProvenAgainstAWeakKey(t *testing.T) {
	dir := t.TempDir()
	w := newNetwork(t, 4, 3)
	genesis, path := filepath.Join(dir, "genesis.json"), filepath.Join(dir, "evidence.json")
	w.genesis.Validators[0] = chain.NamedValidator{Name: "v0", Validator: chain.Validator{PublicKey: chain.PublicKey{1}, VRFKey: chain.VRFKey{9}}}
	w.write(t, genesis)
	forged := func(block byte) chain.Vote {
		return chain.Vote{Kind: chain.Notarize, Height: 1, Block: chain.Hash{block}, Signature: chain.Signature{1}}
	}
	e, ok := chain.NewEvidence(w.genesis.ChainID, w.genesis.Set(), forged(1), forged(2))
	if !ok || e.Verify(w.genesis.ChainID, w.genesis.Set()) != nil {
		t.Fatal("the forged votes do not verify, so nothing is tested")
	}
	b, err := json.Marshal(e)
	must(t, err)
	must(t, os.WriteFile(path, b, 0o600))
	fails(t, clientcmd.ExitFailure, "small order", "evidence", "verify", path, "--genesis", genesis)
}

// logWriter calls seen with each record of a log.
type logWriter func(record string)

func (w logWriter) Write(record []byte) (int, error) {
	w(string(record))
	return len(record), nil
}

func TestANodeLogsThatItStopped(t *testing.T) {
	dir := t.TempDir()
	succeeds(t, "init", "--dir", dir, "--name", "v0")
	succeeds(t, "genesis", "--chain-id", "a", "--threshold", "1", "-o", filepath.Join(dir, "genesis.json"), filepath.Join(dir, "keys", "public.json"))
	must(t, os.WriteFile(filepath.Join(dir, "peers.json"), []byte(`{"peers":[]}`), 0o600))
	config := filepath.Join(dir, "node.yaml")
	content, err := os.ReadFile(config)
	must(t, err)
	must(t, os.WriteFile(config, []byte(strings.NewReplacer("18080", "0", "18180", "0", "18280", "0").Replace(string(content))), 0o600))
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var last string
	code := run(ctx, []string{"node", "--config", config}, strings.NewReader(""), io.Discard, logWriter(func(record string) {
		if last = record; strings.Contains(record, "node started") {
			stop()
		}
	}))
	if code != 0 || !strings.Contains(last, "node stopped") {
		t.Errorf("exit code %d, the log ends with %q", code, last)
	}
}

func TestFlagsOfANodeOverrideItsConfigurationFile(t *testing.T) {
	for _, tt := range []struct {
		name, file string
		flags      []string
		wantName   string
		wantVotes  bool
	}{
		{"only the file", "name: v0\ncreateVoteStore: true\n", nil, "v0", true},
		{"only the flags", "", []string{"--name", "v0", "--create-vote-store"}, "v0", true},
		{"both", "name: v0\ncreateVoteStore: false\n", []string{"--name", "v1", "--create-vote-store"}, "v1", true},
		{"turned off", "createVoteStore: true\n", []string{"--name", "v1", "--create-vote-store=false"}, "v1", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			succeeds(t, "init", "--dir", dir, "--name", "v0")
			must(t, os.RemoveAll(filepath.Join(dir, "data")))
			succeeds(t, "genesis", "--chain-id", "a", "--threshold", "1", "-o", filepath.Join(dir, "genesis.json"), filepath.Join(dir, "keys", "public.json"))
			must(t, os.WriteFile(filepath.Join(dir, "peers.json"), []byte(`{"peers":[]}`), 0o600))
			config := filepath.Join(dir, "node.yaml")
			listen := "listen: {public: '127.0.0.1:0', peer: '127.0.0.1:0', operations: '127.0.0.1:0'}\n"
			must(t, os.WriteFile(config, []byte(tt.file+listen), 0o600))
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			var started string
			code := run(ctx, append([]string{"node", "--config", config}, tt.flags...), strings.NewReader(""), io.Discard, logWriter(func(record string) {
				if strings.Contains(record, "node started") {
					started = record
					stop()
				}
			}))
			if code != 0 || !strings.Contains(started, "name="+tt.wantName+" ") {
				t.Errorf("exit code %d, the log says %q, want the name %s", code, started, tt.wantName)
			}
			if exists, err := store.VotesExist(filepath.Join(dir, "data")); exists != tt.wantVotes || err != nil {
				t.Errorf("vote store: %v, %v, want %v", exists, err, tt.wantVotes)
			}
		})
	}
	dir := t.TempDir()
	config := filepath.Join(dir, "node.yaml")
	must(t, os.WriteFile(config, []byte("logLevel: info\n"), 0o600))
	fails(t, clientcmd.ExitFailure, `name ""`, "node", "--config", config)
	fails(t, clientcmd.ExitFailure, "want 1 to 63 bytes", "node", "--config", config, "--name", strings.Repeat("n", 64))
}

func TestAnEndedContextStopsWhatRuns(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out, errs bytes.Buffer
	if code := run(ctx, []string{"get", "-u", "http://127.0.0.1:1", "status"}, strings.NewReader(""), &out, &errs); code != clientcmd.ExitFailure {
		t.Errorf("exit code %d", code)
	}
}
