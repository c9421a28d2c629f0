package main

import (
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/diseq/diseq/internal/clientcmd"
)

// closedNode answers the status over TLS to who has the token "secret", and takes no messages.
func closedNode(t *testing.T) (url, ca, token string) {
	t.Helper()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		refuse := func(status int, code, message string) {
			w.WriteHeader(status)
			_, _ = fmt.Fprintf(w, `{"error":{"code":%q,"message":%q}}`, code, message)
		}
		switch {
		case r.Header.Get("Authorization") != "Bearer secret":
			refuse(http.StatusUnauthorized, "unauthenticated", "no credential")
		case r.Method == http.MethodPost:
			w.Header().Set("Retry-After", "120")
			refuse(http.StatusTooManyRequests, "quota", "bytesPerDay of client payments is used up")
		case r.URL.Path == "/v1/status":
			_, _ = fmt.Fprint(w, `{"chain_id":"demo","ready":true,"height":7,"validators":4}`)
		case r.URL.Path == "/v1/changes":
			_, _ = fmt.Fprint(w, `{"changes":[],"next":null}`)
		default:
			refuse(http.StatusForbidden, "forbidden", "client payments lacks the right Observe")
		}
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	dir := t.TempDir()
	ca, token = filepath.Join(dir, "ca.crt"), filepath.Join(dir, "token")
	must(t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600))
	must(t, os.WriteFile(token, []byte("secret\n"), 0o600))
	return server.URL, ca, token
}

func TestACommandProvesWhoItIs(t *testing.T) {
	t.Setenv("DISEQ_CONTEXTS", filepath.Join(t.TempDir(), "contexts.json"))
	url, ca, token := closedNode(t)
	succeeds(t, "get", "changes", "-u", url, "--ca-file", ca, "--token-file", token)
	fails(t, clientcmd.ExitFailure, "prove who you are with --token-file", "get", "changes", "-u", url, "--ca-file", ca)
	fails(t, clientcmd.ExitFailure, "--ca-file names the certificates", "get", "changes", "-u", url, "--token-file", token)
	status := succeeds(t, "get", "status", "-u", url, "--ca-file", ca, "--token-file", token)
	if !strings.Contains(status, `"height": 7`) || strings.Contains(status, "public_key") {
		t.Errorf("a short status is shown as %s", status)
	}
	fails(t, clientcmd.ExitFailure, "lacks the right Observe", "get", "genesis", "-u", url, "--ca-file", ca, "--token-file", token)
	fails(t, clientcmd.ExitFailure, "prove who you are", "bench", "-u", url, "--ca-file", ca)
	plain := strings.Replace(url, "https:", "http:", 1)
	fails(t, clientcmd.ExitFailure, "HTTPS server: the node serves over TLS: https://", "get", "changes", "-u", plain)
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	fails(t, clientcmd.ExitFailure, "without TLS: http://", "get", "changes", "-u", strings.Replace(server.URL, "http:", "https:", 1))
	fails(t, clientcmd.ExitFailure, "sent over https only", "get", "changes", "-u", "http://node.example", "--token-file", token)
	fails(t, clientcmd.ExitFailure, "needs its key", "get", "changes", "-u", url, "--client-cert", ca)
	message := filepath.Join(t.TempDir(), "message")
	must(t, os.WriteFile(message, []byte("x"), 0o600))
	// The quota comes back after the time that the command has.
	o := diseq(t, "", "submit", message, "-u", url, "--ca-file", ca, "--token-file", token, "--timeout", "10s")
	if o.code != clientcmd.ExitFailure || o.stderr != "diseq submit: the node answered 429 quota: bytesPerDay of client payments is used up; "+
		"there is room again in 2m0s\n" {
		t.Errorf("exit code %d: %s", o.code, o.stderr)
	}
}

func TestTheEnvironmentAndContextsNameNodesAndFiles(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("DISEQ_CONTEXTS", filepath.Join(dir, "diseq", "contexts.json"))
	url, ca, token := closedNode(t)
	for name, value := range map[string]string{"DISEQ_URL": "http://127.0.0.1:1," + url, "DISEQ_CA_FILE": ca, "DISEQ_TOKEN_FILE": token} {
		t.Setenv(name, value)
	}
	succeeds(t, "get", "changes")
	fails(t, clientcmd.ExitFailure, "none", "get", "changes", "--ca-file", filepath.Join(dir, "none"))
	for _, name := range []string{"DISEQ_URL", "DISEQ_CA_FILE", "DISEQ_TOKEN_FILE"} {
		t.Setenv(name, "")
		for _, command := range []string{"get", "submit", "bench", "target make"} {
			if help := succeeds(t, append(strings.Fields(command), "--help")...); !strings.Contains(help, "($"+name+")") {
				t.Errorf("%s --help does not name %s", command, name)
			}
		}
	}

	t.Chdir(filepath.Dir(ca))
	succeeds(t, "context", "set", "pay", "-u", url, "--ca-file", "ca.crt", "--token-file", "token")
	succeeds(t, "context", "set", "open", "-u", "http://127.0.0.1:1")
	t.Chdir(dir)
	succeeds(t, "get", "changes") // the first context is the current one
	if out := succeeds(t, "context"); !strings.Contains(out, "*") || !strings.Contains(out, "pay") || !strings.Contains(out, token) ||
		strings.Contains(out, "secret") {
		t.Errorf("the contexts are %s", out)
	}
	// The token of a context is for the nodes of the context.
	fails(t, clientcmd.ExitFailure, "unknown authority", "get", "changes", "-u", url)
	fails(t, clientcmd.ExitFailure, "prove who you are", "get", "changes", "-u", url, "--ca-file", ca)
	t.Setenv("DISEQ_CONTEXT", "pay")
	fails(t, clientcmd.ExitFailure, "unknown authority", "get", "changes", "--node", url)
	succeeds(t, "context", "use", "open")
	succeeds(t, "get", "changes") // DISEQ_CONTEXT comes before the current one
	t.Setenv("DISEQ_CONTEXT", "")
	fails(t, clientcmd.ExitFailure, "127.0.0.1:1", "get", "changes", "--timeout", "1s")
	t.Setenv("DISEQ_URL", "http://127.0.0.1:1")
	succeeds(t, "get", "changes", "--context", "pay") // a flag comes before the environment
	t.Setenv("DISEQ_URL", "")

	fails(t, clientcmd.ExitUsage, `no context "none"`, "get", "changes", "--context", "none")
	fails(t, clientcmd.ExitUsage, `no context "none"`, "context", "use", "none")
	fails(t, clientcmd.ExitUsage, `no context "none"`, "context", "remove", "none")
	fails(t, clientcmd.ExitUsage, "without spaces", "context", "set", "a b")
	fails(t, clientcmd.ExitUsage, "http://host:port", "context", "set", "a", "-u", "ftp://x")
	fails(t, clientcmd.ExitFailure, "none", "context", "set", "a", "-u", url, "--token-file", "none")
	succeeds(t, "context", "remove", "open")
	succeeds(t, "context", "set", "pay", "-u", url)
	if out := succeeds(t, "context"); strings.Contains(out, "open") || strings.Contains(out, "token") || !strings.Contains(out, "*") {
		t.Errorf("the contexts are %s", out)
	}
	must(t, os.WriteFile(os.Getenv("DISEQ_CONTEXTS"), []byte(`{"contexts":[],"note":1}`), 0o600))
	fails(t, clientcmd.ExitFailure, "/note", "get", "changes")
}
