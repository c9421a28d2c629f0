package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/diseq/diseq/client"
	"github.com/diseq/diseq/internal/clientcmd"
	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/peersfile"
)

// workbench is a directory with a genesis document, the public.json of others, and no changes of
// the validators.
type workbench struct {
	dir, genesis, changes, peers string
	*network
}

func newWorkbench(t *testing.T, n int, threshold uint32) *workbench {
	t.Helper()
	dir := t.TempDir()
	w := &workbench{
		dir: dir, genesis: filepath.Join(dir, "genesis.json"), changes: filepath.Join(dir, "changes.json"),
		peers: filepath.Join(dir, "peers.json"), network: newNetwork(t, 10, 6),
	}
	for i, v := range w.network.genesis.Validators {
		b, err := json.Marshal(chain.ProveIdentity(w.keys[i], v, ""))
		must(t, err)
		must(t, os.WriteFile(filepath.Join(dir, v.Name+".json"), b, 0o600))
	}
	w.network.genesis.Validators, w.network.genesis.Threshold = w.network.genesis.Validators[:n], threshold
	w.write(t, w.genesis)
	must(t, os.WriteFile(w.changes, []byte(`{"changes":[],"next":null}`), 0o600))
	must(t, os.WriteFile(w.peers, []byte(`{"peers":[]}`), 0o640))
	return w
}

func (w *workbench) args(command string, args ...string) []string {
	return append([]string{"target", command, "--genesis", w.genesis, "--changes", w.changes}, args...)
}

func (w *workbench) public(i int) string { return filepath.Join(w.dir, fmt.Sprintf("v%d.json", i)) }

func TestATargetIsMadeOfThePresentValidators(t *testing.T) {
	for _, c := range []struct {
		n         int
		threshold uint32
		args      []string
		want      string
		t         uint32
		report    []string
	}{
		{4, 3, []string{"--add", "v4", "--add", "v5", "--add", "v6", "--threshold", "two-thirds"}, "v0 v1 v2 v3 v4 v5 v6", 5, []string{
			"generation 0 -> 1, hash ", "come        v4, v5, v6\n", "stay        v0, v1, v2, v3\n", "validators  4 -> 7, threshold 3 -> 5",
			"1 -> 2 down, 1 -> 2 Byzantine on any network, 2 -> 4 with", "from 3 of the present 4 validators, and 5 of the next 7 up",
		}},
		{7, 5, []string{"--remove", "v1", "--remove", "v0", "--remove", "v6", "--remove", "v3"}, "v2 v4 v5", 3, []string{
			"leave       v0, v1, v3, v6\n", "warning: no validator may fail: the threshold equals the number of validators (3 of 3)",
			"warning: 5 validators must vote for the change and 3 of the present ones stay",
		}},
		{4, 3, []string{"--add", "v4"}, "v0 v1 v2 v3 v4", 4, nil},
		{7, 4, []string{"--remove", "v6", "--remove", "v5"}, "v0 v1 v2 v3 v4", 3, nil},
		{4, 3, []string{"--replace", "v2=v7"}, "v0 v1 v7 v3", 3, []string{"come        v7\n", "leave       v2\n", "threshold 3 -> 3"}},
		{4, 3, []string{"--threshold", "4"}, "v0 v1 v2 v3", 4, []string{"warning: no validator may fail"}},
		{7, 5, []string{"--threshold", "majority"}, "v0 v1 v2 v3 v4 v5 v6", 4, []string{"warning: fewer Byzantine validators are tolerated on any network than now: 0, not 2"}},
		{1, 1, []string{"--replace", "v0=v1"}, "v1", 1, []string{"warning: no present validator stays"}},
		{4, 3, []string{"--keep"}, "v0 v1 v2 v3", 3, []string{"warning: the validators and the threshold stay as they are"}},
	} {
		w := newWorkbench(t, c.n, c.threshold)
		args := c.args
		for i, a := range args {
			if name, file, ok := strings.Cut(a, "="); ok {
				args[i] = name + "=" + filepath.Join(w.dir, file+".json")
			} else if i > 0 && args[i-1] == "--add" {
				args[i] = filepath.Join(w.dir, a+".json")
			}
		}
		o := diseq(t, "", w.args("make", args...)...)
		if o.code != 0 {
			t.Fatalf("%v: %s", args, o.stderr)
		}
		var target chain.Target
		must(t, json.Unmarshal([]byte(o.stdout), &target))
		var got []string
		for _, v := range target.Validators {
			got = append(got, v.Name)
		}
		if strings.Join(got, " ") != c.want || target.Threshold != c.t || target.Follows != 0 {
			t.Errorf("%v: target %v, threshold %d, follows %d; want %s, %d, 0", args, got, target.Threshold, target.Follows, c.want, c.t)
		}
		if hash := target.Next(0).Hash().String(); !strings.Contains(o.stderr, "hash "+hash) {
			t.Errorf("%v: the report does not name hash %s:\n%s", args, hash, o.stderr)
		}
		for _, want := range c.report {
			if !strings.Contains(o.stderr, want) {
				t.Errorf("%v: the report lacks %q:\n%s", args, want, o.stderr)
			}
		}
		o = diseq(t, "", w.args("make", append(args, "--peers", w.peers)...)...)
		file, err := peersfile.Read(w.peers)
		must(t, err)
		if o.code != 0 || o.stdout != "" || !reflect.DeepEqual(file.Target, &target) {
			t.Errorf("%v: written %+v, want %+v: %+v", args, file.Target, target, o)
		}
		if out := succeeds(t, w.args("check", "--peers", w.peers)...); out != o.stderr {
			t.Errorf("%v: check says %s, make said %s", args, out, o.stderr)
		}
	}
}

func TestATargetThatTheChainDoesNotAllowIsRefused(t *testing.T) {
	w := newWorkbench(t, 5, 4)
	for want, args := range map[string][]string{
		"say what changes":                   {},
		"or --keep to take back":             {"--keep", "--threshold", "4"},
		`"v9" is not a validator`:            {"--remove", "v9"},
		"want NAME=FILE":                     {"--replace", "v1"},
		"want a number from 3 to 5":          {"--threshold", "2"},
		"from 3 to 5, majority":              {"--threshold", "6"},
		"majority or two-thirds":             {"--threshold", "most"},
		"each name once":                     {"--replace", "v1=" + w.public(2)},
		"validator set of 0, allowed":        {"--remove", "v0,v1,v2,v3,v4", "--threshold", "0"},
		"threshold 4 with 3 validators, all": {"--remove", "v0,v1", "--threshold", "4"},
	} {
		o := diseq(t, "", w.args("make", append(args, "--peers", w.peers)...)...)
		if o.code != clientcmd.ExitUsage && o.code != clientcmd.ExitFailure || !strings.Contains(o.stderr, want) && !strings.Contains(o.stderr, "want a number from") {
			t.Errorf("%v: %+v, want %q", args, o, want)
		}
	}
	all := newWorkbench(t, 4, 4)
	fails(t, clientcmd.ExitUsage, "4 of 4, is neither majority nor two-thirds: say with --threshold which one 5 validators", all.args("make", "--add", all.public(4))...)
	fails(t, clientcmd.ExitUsage, "--genesis is required", "target", "make", "--keep")
	fails(t, clientcmd.ExitUsage, "--peers is required", w.args("check")...)
	fails(t, clientcmd.ExitFailure, "diseq target make --peers writes a target", w.args("check", "--peers", w.peers)...)
	if raw, err := os.ReadFile(w.peers); err != nil || string(raw) != `{"peers":[]}` {
		t.Errorf("refused targets changed the peers file: %s, %v", raw, err)
	}
}

// Where the set has changed, a target follows the newest set, and who has left does not come back.
func TestATargetFollowsTheNewestSet(t *testing.T) {
	w, dir := newChanging(t), t.TempDir() // v0 has left
	genesis, changes, peers := filepath.Join(dir, "genesis.json"), filepath.Join(dir, "changes.json"), filepath.Join(dir, "peers.yaml")
	w.write(t, genesis)
	page, err := json.Marshal(map[string]any{"changes": []*chain.FinalChange{w.final(t)}, "next": nil})
	must(t, err)
	must(t, os.WriteFile(changes, page, 0o600))
	const text = "# who is where\npeers:\n- name: v1 # ours\n  public_key: "
	must(t, os.WriteFile(peers, []byte(text+w.genesis.Validators[1].PublicKey.String()+"\n"), 0o600))
	left := filepath.Join(dir, "v0.json")
	b, err := json.Marshal(chain.ProveIdentity(w.keys[0], w.genesis.Validators[0], ""))
	must(t, err)
	must(t, os.WriteFile(left, b, 0o600))
	args := func(command string, more ...string) []string {
		return append([]string{"target", command, "--genesis", genesis, "--changes", changes, "--peers", peers}, more...)
	}
	fails(t, clientcmd.ExitUsage, "another identity, or to one that has left", args("make", "--add", left, "--threshold", "3")...)
	fails(t, clientcmd.ExitUsage, `"v0" is not a validator of generation 1: those are v1, v2, v3`, args("make", "--remove", "v0", "--threshold", "2")...)
	if o := diseq(t, "", args("make", "--remove", "v3")...); o.code != 0 {
		t.Fatal(o.stderr)
	}
	read := func() (*peersfile.File, string) {
		t.Helper()
		file, err := peersfile.Read(peers)
		must(t, err)
		raw, err := os.ReadFile(peers)
		must(t, err)
		if !strings.Contains(string(raw), "# who is where\n") || !strings.Contains(string(raw), "name: v1 # ours\n") {
			t.Errorf("the comments are gone:\n%s", raw)
		}
		return file, string(raw)
	}
	file, _ := read()
	if file.Target == nil || file.Target.Follows != 1 || file.Target.Threshold != 2 || len(file.Target.Validators) != 2 || len(file.Peers) != 1 {
		t.Errorf("the file is %+v", file)
	}
	fails(t, clientcmd.ExitFailure, "is not in force: take it back", args("clear")...)
	// The target of the set that is in force.
	must(t, editPeers(peers, func(f *peersfile.File) { f.Target = &chain.Target{Threshold: 2, Validators: w.next.Validators} }))
	fails(t, clientcmd.ExitFailure, "in force since block 1", args("check")...)
	if out := succeeds(t, args("clear")...); !strings.Contains(out, "checkpoint at block 1, "+w.first.Hash().String()+", generation 1") {
		t.Errorf("clear says %q", out)
	}
	file, raw := read()
	if file.Target != nil || file.Checkpoint == nil || file.Checkpoint.Height != 1 || file.Checkpoint.Hash != w.first.Hash() {
		t.Errorf("the file is %s", raw)
	}
	must(t, editPeers(peers, func(f *peersfile.File) { f.Checkpoint.Height = 9 }))
	fails(t, clientcmd.ExitFailure, "its checkpoint is at height 9", args("clear")...)
	// A change that t members did not vote for.
	w.first.Certificate.Votes = w.first.Certificate.Votes[:2]
	page, err = json.Marshal(map[string]any{"changes": []*chain.FinalChange{w.final(t)}, "next": nil})
	must(t, err)
	must(t, os.WriteFile(changes, page, 0o600))
	fails(t, clientcmd.ExitFailure, "2 votes, the threshold is 3", args("make", "--keep")...)
}

func TestATargetSaysWhoHasAgreed(t *testing.T) {
	w := newWorkbench(t, 4, 3)
	validators := w.network.genesis.Validators
	target := chain.Target{Threshold: 4, Validators: validators}
	must(t, editPeers(w.peers, func(f *peersfile.File) { f.Target = &target }))
	status := client.Status{ChainID: w.network.genesis.ChainID, PublicKey: validators[0].PublicKey, Endorsements: []client.Endorsement{
		{PublicKey: validators[0].PublicKey, Hash: target.Next(0).Hash()}, {PublicKey: validators[2].PublicKey, Hash: chain.Hash{1}},
	}, Peers: []client.Peer{{PublicKey: validators[1].PublicKey, Connected: true}, {PublicKey: validators[2].PublicKey}}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/changes", func(out http.ResponseWriter, _ *http.Request) {
		out.Header().Set("Content-Type", "application/json")
		_, _ = out.Write([]byte(`{"changes":[],"next":null}`)) // a test that needs it fails without
	})
	mux.HandleFunc("GET /v1/status", func(out http.ResponseWriter, _ *http.Request) {
		out.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(out).Encode(status) // a test that needs it fails without
	})
	server := httptest.NewServer(mux)
	defer server.Close()
	out := succeeds(t, "target", "check", "--genesis", w.genesis, "--peers", w.peers, "-u", server.URL)
	for _, want := range []string{
		"endorsed    1 of 3 needed; by v0; another target by v2; nothing from v1, v3\n",
		"warning: the node that was asked has no link to v2, v3: the change waits until 4 of the next 4 are up\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("check lacks %q:\n%s", want, out)
		}
	}
	status.ChainID = "other"
	fails(t, clientcmd.ExitFailure, `the node is of chain "other"`, "target", "check", "--genesis", w.genesis, "--peers", w.peers, "-u", server.URL)
}

// The file is replaced whole, keeps its mode, and is left alone if somebody else writes it
// meanwhile.
func TestThePeersFileIsEditedWholeOrNotAtAll(t *testing.T) {
	dir := t.TempDir()
	path, link := filepath.Join(dir, "peers.json"), filepath.Join(dir, "link.json")
	key := chain.PublicKey{26}
	must(t, os.WriteFile(path, []byte(`{"peers":[{"name":"a","public_key":"`+key.String()+`","address":"a:1","vote_store":true}]}`), 0o640))
	must(t, os.Symlink(path, link))
	must(t, editPeers(link, func(f *peersfile.File) { f.Checkpoint = &chain.Checkpoint{Height: 3, Hash: chain.Hash{1}} }))
	info, err := os.Lstat(link)
	must(t, err)
	file, err := peersfile.Read(path)
	must(t, err)
	mode, err := os.Stat(path)
	must(t, err)
	if info.Mode()&os.ModeSymlink == 0 || mode.Mode().Perm() != 0o640 || file.Checkpoint == nil || len(file.Peers) != 1 || !file.Peers[0].VoteStore {
		t.Errorf("%v, %v, %+v", info.Mode(), mode.Mode(), file)
	}
	before, err := os.ReadFile(path)
	must(t, err)
	if err := editPeers(path, func(f *peersfile.File) { f.Peers[0].Name = "" }); err == nil {
		t.Error("a file that nodes cannot use is written")
	}
	err = editPeers(path, func(*peersfile.File) { must(t, os.WriteFile(path, append(before, '\n'), 0o600)) })
	if err == nil || !strings.Contains(err.Error(), "changed meanwhile") {
		t.Errorf("a file that somebody else wrote: %v", err)
	}
	if now, err := os.ReadFile(path); err != nil || string(now) != string(before)+"\n" {
		t.Errorf("the file is %s, %v", now, err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*.new")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
