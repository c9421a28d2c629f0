package server

import (
	"bytes"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/diseq/diseq/node/chain"
)

var update = flag.Bool("update", false, "write testdata/without_access.txt anew")

// A node without an access file and without TLS answers byte for byte as nodes did before there was
// access control: the file was written by such a node. A credential changes nothing.
// Promise 83.
func TestWithoutAccessNothingChanges(t *testing.T) {
	f := newFake(t)
	h := New(Options{Backend: f}).Public()
	f.finalize(chain.Message{Data: []byte("one"), Timestamp: 7})
	var got bytes.Buffer
	for _, q := range []request{
		{path: "/get/height"},
		{path: "/get/block/1"},
		{path: "/get/pool"},
		{path: "/get/state_root_hash"},
		{method: http.MethodPost, path: "/schedule", contentType: jsonType, body: `{"data":[1,2],"timestamp":3}`},
		{method: http.MethodPost, path: "/schedule", contentType: jsonType, body: `{"data":[],"timestamp":3}`},
		{method: http.MethodPost, path: "/merkle_proof", contentType: jsonType, body: `[]`},
		{method: http.MethodPost, path: "/commit"},
		{method: http.MethodPost, path: "/v1/messages", contentType: jsonType, body: `{"data":"YQ=="}`},
		{method: http.MethodPost, path: "/v1/messages", contentType: jsonType, body: `{"data":`},
		{path: "/v1/messages/" + chain.Message{Data: []byte("one")}.ID().String()},
		{path: "/v1/messages/" + chain.Message{Data: []byte("none")}.ID().String()},
		{path: "/v1/blocks/1"},
		{path: "/v1/blocks?from=0&limit=1"},
		{path: "/v1/status"},
		{path: "/v1/validators"},
		{path: "/v1/genesis"},
		{path: "/v1/none"},
		{path: "/healthz"},
		{path: "/readyz"},
	} {
		plain := do(t, h, q)
		q.header = http.Header{"Authorization": {"Bearer of-nobody"}}
		if with := do(t, h, q); with.status != plain.status || with.body != plain.body {
			t.Errorf("%s %s: %d %s with a credential, %d %s without", q.method, q.path, with.status, with.body, plain.status, plain.body)
		}
		fmt.Fprintf(&got, "%s %s %s\n%d %s%s\n%s\n\n", q.method, q.path, q.body, plain.status, plain.header.Get("Content-Type"),
			plain.header.Get("WWW-Authenticate"), plain.body)
	}
	golden := filepath.Join("testdata", "without_access.txt")
	if *update {
		if err := os.WriteFile(golden, got.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Errorf("answers differ from %s:\n%s", golden, got.Bytes())
	}
}
