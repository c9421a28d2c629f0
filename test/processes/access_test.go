package processes

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/diseq/diseq/test/system"
)

// A node that is closed serves the clients that its access file names, each with its rights and
// within its limits, and nobody else. A token that is replaced is of no use any more. The lines of
// the audit say who did what.
// Promise 84.
func TestAClosedNodeServesItsClientsAlone(t *testing.T) {
	n := system.Start(t, system.Options{Validators: 1, Threshold: 1})
	const file = `{"clients":[
	  {"name":"payments","token":{"file":"payments"},"allow":["Submit"],"limits":{"bytesPerDay":20}},
	  {"name":"auditor","token":{"file":"auditor"},"allow":["Read","Observe"]},
	  {"name":"ledger","certificate":{"commonName":"client"},"allow":["Submit","Read"]}],"audit":{"file":"audit.log"}}`
	closed := n.CloseTo(file, "payments", "auditor", "stranger")
	as := func(token string, args ...string) (string, bool) {
		args = append(args, "-u", n.Nodes[0].URL, "--ca-file", closed.Path("ca.crt"))
		switch token {
		case "":
		case "client":
			args = append(args, "--client-cert", closed.Path("client.crt"), "--client-key", closed.Path("client.key"))
		default:
			args = append(args, "--token-file", closed.Path(token))
		}
		return system.Run(args...)
	}
	refused := func(why, token string, args ...string) {
		t.Helper()
		if out, ok := as(token, args...); ok || !strings.Contains(out, why) {
			t.Errorf("as %q: succeeds %v with %s; want a refusal with %q", token, ok, out, why)
		}
	}
	done := func(token string, args ...string) string {
		t.Helper()
		out, ok := as(token, args...)
		if !ok {
			t.Fatalf("as %q: %s", token, out)
		}
		return out
	}
	message := func(text string) (path string) {
		path = filepath.Join(t.TempDir(), "message")
		must(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	done("payments", "submit", "--wait", message("ten bytes."))
	done("client", "submit", message("by the ledger"))
	if out := done("auditor", "get", "block", "1"); !strings.Contains(out, "messages") {
		t.Errorf("a block: %s", out)
	}
	refused("quota", "payments", "submit", message("eleven bytes"))
	refused("the right Submit", "auditor", "submit", message("by the auditor"))
	refused("the right Read", "payments", "get", "block", "1")
	refused("bearer token", "", "submit", message("by nobody"))
	refused("not that of a client", "stranger", "submit", message("by a stranger"))

	old, err := os.ReadFile(closed.Path("auditor"))
	must(t, err)
	closed.Write("stranger", string(old))
	closed.Write("auditor", system.NewToken())
	system.Eventually(t, soon, "the new token is accepted", func() error {
		if out, ok := as("auditor", "get", "block", "1"); !ok {
			return errorText(out)
		}
		return nil
	})
	refused("not that of a client", "stranger", "get", "block", "1")

	lines, err := os.ReadFile(closed.Path("audit.log"))
	must(t, err)
	if bytes.Contains(lines, bytes.TrimSpace(old)) {
		t.Error("a token is in the audit lines")
	}
	submitted := map[string]int{}
	for line := range bytes.Lines(lines) {
		var record struct {
			Client, Proof string
			Messages      int
		}
		must(t, json.Unmarshal(line, &record))
		submitted[record.Client+" by "+record.Proof] += record.Messages
	}
	if submitted["payments by token"] != 1 || submitted["ledger by certificate"] != 1 {
		t.Errorf("messages by client: %v in\n%s", submitted, lines)
	}
}

type errorText string

func (e errorText) Error() string { return string(e) }
