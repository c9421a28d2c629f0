package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/diseq/diseq/internal/clientcmd"
)

// threeForms checks that JSON and YAML of a command hold the same, and that the table is for
// people.
func threeForms(t *testing.T, args ...string) {
	t.Helper()
	form := func(name string) string {
		o := diseq(t, "", append(args, "-o", name)...)
		if o.code != 0 {
			t.Errorf("%q -o %s: exit code %d: %s", args, name, o.code, o.stderr)
		}
		return o.stdout
	}
	var a, b any
	must(t, json.Unmarshal([]byte(form("json")), &a))
	must(t, yaml.Unmarshal([]byte(form("yaml")), &b))
	if !reflect.DeepEqual(a, b) {
		t.Errorf("%q: JSON has\n%v\nYAML has\n%v", args, a, b)
	}
	table := form("table")
	if table == "" || json.Valid([]byte(table)) || strings.ContainsAny(table, "\x1b\t\x07") {
		t.Errorf("%q: the table is\n%s", args, table)
	}
}

func TestWhatIsListedOrShownHasThreeForms(t *testing.T) {
	t.Setenv("DISEQ_CONTEXTS", filepath.Join(t.TempDir(), "contexts.json"))
	threeForms(t, "version")
	threeForms(t, "context")
	succeeds(t, "context", "set", "demo", "-u", "http://demo.example:1")
	threeForms(t, "context")

	// A node that would like to write elsewhere on the terminal.
	answer := func(body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(body)) }
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", answer(`{"chain_id":"c","node":"v0\u001b[2J","role":"validator","height":7,
		"peers":[{"name":"v1\u0007","connected":true,"height":7},{"name":"v2","connected":false,"height":3}]}`))
	mux.HandleFunc("GET /v1/validators", answer(`{"height":8,"threshold":3,"validators":[{"index":0,"name":"v0"},{"index":1,"name":"v1\u001b"}]}`))
	mux.HandleFunc("GET /v1/changes", answer(`{"changes":[],"next":null}`))
	mux.HandleFunc("GET /v1/evidence", answer(`{"evidence":[]}`))
	mux.HandleFunc("GET /readyz", answer("ok"))
	server := httptest.NewServer(mux)
	defer server.Close()
	for _, what := range []string{"status", "validators", "changes", "evidence", "ready"} {
		threeForms(t, "get", what, "-u", server.URL)
	}
	if table := succeeds(t, "get", "status", "-o", "table", "-u", server.URL); !strings.Contains(table, "v0?[2J") ||
		!strings.Contains(table, "NAME   PUBLIC_KEY") {
		t.Errorf("the table of a status is\n%s", table)
	}
	w := newWorkbench(t, 4, 3)
	succeeds(t, "context", "remove", "demo")
	o := diseq(t, "", w.args("make", "--add", w.public(4), "--peers", w.peers)...)
	if o.code != 0 {
		t.Fatal(o.stderr)
	}
	threeForms(t, w.args("check", "--peers", w.peers)...)
}

// Every command that lists or shows something takes the flag in the same way.
func TestTheFlagOutputIsTheSameEverywhere(t *testing.T) {
	listing := 0
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
		flag := cmd.Flag("output")
		if flag == nil || flag.Value.Type() != "form" || !cmd.Runnable() {
			return
		}
		listing++
		path := strings.Fields(cmd.CommandPath())[1:]
		if out := diseq(t, "", append(append([]string{cobra.ShellCompNoDescRequestCmd}, path...), "-o", "")...).stdout; !strings.HasPrefix(
			out, "table\njson\nyaml\n") {
			t.Errorf("%s: the completions of -o are %q", cmd.CommandPath(), out)
		}
		fails(t, clientcmd.ExitUsage, "want table, json or yaml", append(path, "-o", "xml")...)
	}
	walk(newRoot())
	if listing < 15 {
		t.Errorf("%d commands have the flag", listing)
	}
	fails(t, clientcmd.ExitUsage, "contradict each other", "bench", "--json", "-o", "yaml")
}

// Without a terminal the network is printed once.
func TestTopWithoutATerminalPrintsTheNetworkOnce(t *testing.T) {
	answer := func(body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(body)) }
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", answer(`{"chain_id":"c","node":"v0\u001b[2J","role":"observer","ready":true,"height":7,"headroom":1}`))
	mux.HandleFunc("GET /v1/blocks", answer(`{"blocks":[],"next":8}`))
	mux.HandleFunc("GET /v1/validators", answer(`{"generation":0,"validators":[]}`))
	server := httptest.NewServer(mux)
	defer server.Close()
	out := succeeds(t, "top", "-u", server.URL+",http://127.0.0.1:1")
	for _, want := range []string{"chain c  height 7  1 of 2 nodes answer", "v0?[2J", "observer", "away", "does not answer: ", "connection refused"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
	o := diseq(t, "", "top", "-u", "http://127.0.0.1:1", "-o", "json")
	if o.code != clientcmd.ExitFailure || !json.Valid([]byte(o.stdout)) || !strings.Contains(o.stderr, "no node answers: see that they run") {
		t.Errorf("%+v", o)
	}
	fails(t, clientcmd.ExitUsage, "url", "top", "-u", "ftp://x")
}
