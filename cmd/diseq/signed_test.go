package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"io"
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

// final is a node that makes the messages of each request final at once.
func (w *network) final(t *testing.T) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		var messages []chain.Message
		var places []int
		for len(body) > 0 {
			size, n := binary.Uvarint(body)
			messages = append(messages, chain.Message{Data: body[n : n+int(size)]})
			places = append(places, len(places))
			body = body[n+int(size):]
		}
		receipts, err := chain.NewReceipts(w.block(3, messages...), nil, places...)
		if err != nil {
			t.Error(err)
		}
		var answer struct {
			Results []client.Result `json:"results"`
		}
		for _, receipt := range receipts {
			answer.Results = append(answer.Results, client.Result{ID: receipt.Message.ID, Status: "final", Receipt: receipt})
		}
		if err := json.NewEncoder(out).Encode(answer); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// keyFiles writes the key of a seed as openssl does, and its public half.
func keyFiles(t *testing.T, seed byte) (private, public string, key chain.PublicKey) {
	t.Helper()
	dir := t.TempDir()
	private, public = filepath.Join(dir, "author.key"), filepath.Join(dir, "author.pub")
	own := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize))
	der, err := x509.MarshalPKCS8PrivateKey(own)
	must(t, err)
	must(t, os.WriteFile(private, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600))
	der, err = x509.MarshalPKIXPublicKey(own.Public())
	must(t, err)
	must(t, os.WriteFile(public, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o600))
	return private, public, chain.PublicKeyOf(own)
}

// Promise 82.
func TestAMessageIsSignedAndItsAuthorVerified(t *testing.T) {
	w := newNetwork(t, 4, 3)
	node := w.final(t)
	dir := t.TempDir()
	genesis, orders, receipts := filepath.Join(dir, "genesis.json"), filepath.Join(dir, "orders.txt"), filepath.Join(dir, "receipts.jsonl")
	w.write(t, genesis)
	must(t, os.WriteFile(orders, []byte("order 1\norder 2\n"), 0o600))
	key, public, author := keyFiles(t, 50)
	_, otherPublic, other := keyFiles(t, 51)
	out := succeeds(t, "submit", "-u", node, "--lines", "--wait", "--sign-with", key, "--chain-id", "cli", orders)
	must(t, os.WriteFile(receipts, []byte(out), 0o600))
	for _, named := range []string{author.String(), public} {
		verdicts := succeeds(t, "verify", receipts, "--genesis", genesis, "--author", named)
		if strings.Count(verdicts, ", signed by "+author.String()+", is number ") != 2 {
			t.Errorf("verify says %s", verdicts)
		}
	}
	succeeds(t, "verify", receipts, "--genesis", genesis)
	succeeds(t, "verify", receipts, "--genesis", genesis, "--author", other.String(), "--author", public)
	verdicts := diseq(t, "", "verify", receipts, "--genesis", genesis, "--author", otherPublic)
	if verdicts.code != clientcmd.ExitFailure || strings.Count(verdicts.stdout, "not the author that you named") != 2 {
		t.Errorf("another author: exit code %d, %s", verdicts.code, verdicts.stdout)
	}
	// The whole input as one message, for another chain, and not signed at all.
	for want, flags := range map[string][]string{
		"":                       {"--sign-with", key, "--chain-id", "cli"},
		`signed for chain "abc"`: {"--sign-with", key, "--chain-id", "abc"},
		"not a signed message":   nil,
	} {
		receipt := succeeds(t, append([]string{"submit", "-u", node, "--wait", orders}, flags...)...)
		o := diseq(t, receipt, "verify", "-", "--genesis", genesis, "--author", public)
		if (o.code == 0) != (want == "") || !strings.Contains(o.stderr, want) {
			t.Errorf("%q: exit code %d: %s%s", flags, o.code, o.stdout, o.stderr)
		}
	}
}

func TestWrongKeysOfAuthorsAreRefused(t *testing.T) {
	w := newNetwork(t, 4, 3)
	dir := t.TempDir()
	genesis, message := filepath.Join(dir, "genesis.json"), filepath.Join(dir, "message")
	w.write(t, genesis)
	must(t, os.WriteFile(message, []byte("x"), 0o600))
	key, public, author := keyFiles(t, 50)
	fails(t, clientcmd.ExitUsage, "go together", "submit", message, "--sign-with", key)
	fails(t, clientcmd.ExitUsage, "go together", "submit", message, "--chain-id", "cli")
	fails(t, clientcmd.ExitUsage, "1 to 64 bytes", "submit", message, "--sign-with", key, "--chain-id", strings.Repeat("x", 65))
	fails(t, clientcmd.ExitFailure, "want one PEM block", "submit", message, "--sign-with", public, "--chain-id", "cli")
	must(t, os.Chmod(key, 0o644))
	fails(t, clientcmd.ExitFailure, "want 0600", "submit", message, "--sign-with", key, "--chain-id", "cli")
	fails(t, clientcmd.ExitFailure, "want 64 hex digits or a file", "verify", message, "--genesis", genesis, "--author", author.String()[1:])
	fails(t, clientcmd.ExitFailure, "want one PEM block", "verify", message, "--genesis", genesis, "--author", key)
	fails(t, clientcmd.ExitFailure, "small order", "verify", message, "--genesis", genesis, "--author", "01"+strings.Repeat("00", 31))
	block, err := json.Marshal(map[string]string{"header_hash": ""})
	must(t, err)
	must(t, os.WriteFile(message, block, 0o600))
	fails(t, clientcmd.ExitFailure, "a block or a proof shows no author", "verify", message, "--genesis", genesis, "--author", public)
}
