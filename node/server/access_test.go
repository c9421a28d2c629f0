package server

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/diseq/diseq/node/access"
	"github.com/diseq/diseq/node/chain"
)

// controlled is a directory with an access file, and the control that reads it.
type controlled struct {
	t       *testing.T
	dir     string
	control *access.Control
}

// interval is how often files are looked at in tests.
const interval = 10 * time.Millisecond

// secret is the token of a client.
func secret(client string) string { return client + strings.Repeat("-token", 8) }

func (c *controlled) write(name string, content []byte) {
	c.t.Helper()
	path := filepath.Join(c.dir, name)
	if err := os.WriteFile(path+".new", content, 0o600); err != nil {
		c.t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		c.t.Fatal(err)
	}
}

// control opens access control with clients that have tokens, each in the file of its name.
func control(t *testing.T, file string, clients []string, change ...func(*access.Config)) *controlled {
	t.Helper()
	c := &controlled{t: t, dir: t.TempDir()}
	for _, client := range clients {
		c.write(client, []byte(secret(client)))
	}
	c.write("access.json", []byte(file))
	cfg := access.Config{Files: access.Files{Access: filepath.Join(c.dir, "access.json")}, ChainID: "test", Stderr: io.Discard, Interval: interval}
	for _, f := range change {
		f(&cfg)
	}
	var err error
	if c.control, err = access.Open(cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.control.Close)
	return c
}

// watch reads the files again until the test ends.
func (c *controlled) watch() {
	ctx, cancel := context.WithCancel(context.Background())
	var watching sync.WaitGroup
	watching.Go(func() { c.control.Watch(ctx) })
	c.t.Cleanup(func() { cancel(); watching.Wait() })
}

func as(client string) http.Header { return http.Header{"Authorization": {"Bearer " + secret(client)}} }

const everyRight = `{"clients":[
  {"name":"submitter","token":{"file":"submitter"},"allow":["Submit"]},
  {"name":"reader","token":{"file":"reader"},"allow":["Read"]},
  {"name":"observer","token":{"file":"observer"},"allow":["Observe"]},
  {"name":"nobody","token":{"file":"nobody"}}]}`

// Every route of the public listener is decided on: it needs a right, any right, or none.
// Promise 84.
func TestEveryRouteNeedsItsRight(t *testing.T) {
	const open, anyRight = "open", "any"
	needs := map[string]string{
		"POST /schedule": "Submit", "GET /get/pool": "Read", "GET /get/commitments": "Read", "GET /get/block/{height}": "Read",
		"GET /get/height": anyRight, "GET /get/state_root_hash": "Read", "POST /merkle_proof": "Read", "POST /commit": open,
		"POST /propose": open, "POST /v1/messages": "Submit", "GET /v1/messages/{id}": "Read", "GET /v1/messages/{id}/receipt": "Read",
		"GET /v1/proofs/{id}": "Read", "GET /v1/blocks/{height}": "Read", "GET /v1/blocks": "Read", "GET /v1/stream": "Read",
		"GET /v1/evidence": "Read", "GET /v1/genesis": anyRight, "GET /v1/status": anyRight, "GET /v1/validators": anyRight,
		"GET /v1/changes": anyRight, "GET /openapi.yaml": open, "GET /healthz": open, "GET /readyz": open,
	}
	c := control(t, everyRight, []string{"submitter", "reader", "observer", "nobody"})
	s := New(Options{Backend: newFake(t), Access: c.control})
	routes := s.publicRoutes()
	if len(routes) != len(needs) {
		t.Errorf("%d routes, %d decided on", len(routes), len(needs))
	}
	rights := map[string]string{"submitter": "Submit", "reader": "Read", "observer": "Observe"}
	for _, r := range routes {
		need, ok := needs[r.pattern]
		if !ok {
			t.Errorf("%s: not decided on", r.pattern)
			continue
		}
		method, path, _ := strings.Cut(r.pattern, " ")
		path = strings.NewReplacer("{height}", "0", "{id}", strings.Repeat("0", 64)).Replace(path)
		for _, client := range []string{"", "submitter", "reader", "observer", "nobody", "stranger"} {
			q := request{method: method, path: path, header: as(client)}
			if client == "" {
				q.header = nil
			}
			if r.pattern == "GET /v1/stream" {
				q.method = http.MethodHead // without an end
			}
			admitted := need == open || rights[client] != "" && (need == anyRight || need == rights[client])
			want := 0
			switch {
			case admitted:
			case client == "" || client == "stranger":
				want = http.StatusUnauthorized
			default:
				want = http.StatusForbidden
			}
			got := do(t, s.Public(), q)
			refused := got.status == http.StatusUnauthorized || got.status == http.StatusForbidden && need != open
			if refused == admitted || want != 0 && got.status != want {
				t.Errorf("%s as %q: %d %s", r.pattern, client, got.status, got.body)
			}
			if (got.status == http.StatusUnauthorized) != (got.header.Get("WWW-Authenticate") == "Bearer") {
				t.Errorf("%s as %q: WWW-Authenticate %q", r.pattern, client, got.header.Get("WWW-Authenticate"))
			}
		}
	}
	if got := do(t, s.Public(), request{method: http.MethodPost, path: "/v1/messages", header: as("reader")}); got.errorCode(t) != "forbidden" ||
		!strings.Contains(got.body, "the right Submit") {
		t.Errorf("forbidden: %s", got.body)
	}
	if got := do(t, s.Public(), request{path: "/v1/blocks"}); got.errorCode(t) != "unauthenticated" {
		t.Errorf("unauthenticated: %s", got.body)
	}
	if got := do(t, s.Operations(), request{path: "/v1/status"}); got.status != http.StatusOK || !strings.Contains(got.body, `"access":{"sha256":"`) {
		t.Errorf("the operations listener: %d %s", got.status, got.body)
	}
}

// Peers, versions and the name of the node are for clients with the right Observe.
func TestStatusIsShortWithoutTheRightToObserve(t *testing.T) {
	c := control(t, everyRight, []string{"submitter", "reader", "observer", "nobody"})
	h := New(Options{Backend: newFake(t), Access: c.control}).Public()
	long := decode[map[string]any](t, do(t, h, request{path: "/v1/status", header: as("observer")}))
	short := decode[map[string]any](t, do(t, h, request{path: "/v1/status", header: as("reader")}))
	if long["versions"] == nil || long["access"] == nil || long["node"] != "node-0" {
		t.Errorf("in full: %v", long)
	}
	if len(short) != 10 || short["chain_id"] != "test" {
		t.Errorf("short: %v", short)
	}
	for name, value := range short {
		if fmt.Sprint(long[name]) != fmt.Sprint(value) {
			t.Errorf("%s is %v, in full %v", name, value, long[name])
		}
	}
	if doc := readDocument(t); doc.check(map[string]any{"$ref": "#/components/schemas/ShortStatus"}, any(short)) != nil {
		t.Error(doc.check(map[string]any{"$ref": "#/components/schemas/ShortStatus"}, any(short)))
	}
}

// full refuses submissions in ways of the test's choice.
type choosy struct {
	*fake
	fail atomic.Pointer[error]
}

func (c *choosy) Submit(ctx context.Context, messages []chain.Message, kept func()) ([]SubmitResult, error) {
	if err := c.fail.Load(); err != nil {
		return nil, *err
	}
	return c.fake.Submit(ctx, messages, kept)
}

// A submission beyond the quota of its client is refused with the time after which it is worth a
// retry. One that the node refuses by itself costs nothing; one whose client goes away does.
// Promise 85.
func TestSubmissionsCountAgainstTheQuota(t *testing.T) {
	c := control(t, `{"anonymous":{"allow":["Submit"],"limits":{"bytesPerDay":10}},
	  "clients":[{"name":"small","token":{"file":"small"},"allow":["Submit"],"limits":{"bytesPerDay":100}}]}`, []string{"small"})
	b := &choosy{fake: newFake(t)}
	s := New(Options{Backend: b, Access: c.control})
	submit := func(header http.Header, n int) answer {
		return do(t, s.Public(), request{
			method: http.MethodPost, path: "/v1/messages", contentType: "application/octet-stream", body: strings.Repeat("x", n), header: header,
		})
	}
	if got := submit(as("small"), 30); got.status != http.StatusAccepted {
		t.Fatalf("within the quota: %d %s", got.status, got.body)
	}
	var full error = &FullError{RetryAfter: time.Second}
	b.fail.Store(&full)
	for range 3 {
		if got := submit(as("small"), 70); got.errorCode(t) != "pool_full" {
			t.Fatalf("a full pool: %s", got.body)
		}
	}
	b.fail.Store(nil)
	if got := submit(as("small"), 71); got.status != http.StatusTooManyRequests || got.errorCode(t) != "quota" || got.header.Get("Retry-After") == "" ||
		!strings.Contains(got.body, "client small has 70 of 100 bytes a day left") {
		t.Errorf("beyond the quota: %d %s", got.status, got.body)
	}
	b.finalize(slices.Clone(b.pending)...)
	for range 5 {
		if got := submit(as("small"), 30); got.status != http.StatusAccepted || !strings.Contains(got.body, `"final"`) {
			t.Errorf("a message that is final already: %d %s", got.status, got.body)
		}
	}
	away := fmt.Errorf("submit: %w", context.Canceled)
	b.fail.Store(&away)
	submit(as("small"), 70)
	b.fail.Store(nil)
	if got := submit(as("small"), 1); got.errorCode(t) != "quota" {
		t.Errorf("after a submission whose client went away: %d %s", got.status, got.body)
	}
	if got := submit(nil, 11); got.errorCode(t) != "quota" || !strings.Contains(got.body, "the address 192.0.2.1/32 has 10 of 10") {
		t.Errorf("anonymous beyond the quota: %s", got.body)
	}
	legacy := request{method: http.MethodPost, path: "/schedule", contentType: jsonType, body: `{"data":[1,2,3,4,5,6,7,8],"timestamp":0}`}
	if got := do(t, s.Public(), legacy); got.status != http.StatusOK {
		t.Errorf("the proof of concept's route within the quota: %d %s", got.status, got.body)
	}
	legacy.body = `{"data":[1,2,3],"timestamp":0}`
	if got := do(t, s.Public(), legacy); got.status != http.StatusTooManyRequests || got.header.Get("Retry-After") == "" {
		t.Errorf("the proof of concept's route beyond it: %d %s", got.status, got.body)
	}
	if got := s.metrics.rejected.WithLabelValues("quota"); got == nil {
		t.Error("not counted")
	}
}

// The last of the disk and of the pool is for clients with a name: strangers cannot take the node
// from them.
// Promise 85.
func TestAReserveIsLeftForNamedClients(t *testing.T) {
	const mib = 1 << 20
	free, used := int64(3000*mib), int64(0)
	c := control(t, `{"anonymous":{"allow":["Submit"]},"reserve":{"disk":"1024Mi","share":40},
	  "clients":[{"name":"named","token":{"file":"named"},"allow":["Submit"]}]}`, []string{"named"}, func(c *access.Config) {
		c.FreeDisk = func() (uint64, error) { return uint64(atomic.LoadInt64(&free)), nil }
		c.MinFreeDisk = 512 * mib
		c.Pool = func() (int64, int64) { return atomic.LoadInt64(&used), 1000 }
	})
	h := New(Options{Backend: newFake(t), Access: c.control}).Public()
	submit := func(header http.Header, text string) answer {
		return do(t, h, request{method: http.MethodPost, path: "/v1/messages", contentType: "application/octet-stream", body: text, header: header})
	}
	if got := submit(nil, "a"); got.status != http.StatusAccepted {
		t.Fatalf("with room: %s", got.body)
	}
	atomic.StoreInt64(&used, 600)
	if got := submit(nil, "b"); got.errorCode(t) != "quota" || !strings.Contains(got.body, "40 percent of this node's pool") {
		t.Errorf("a pool filled to its reserve: %s", got.body)
	}
	if got := submit(as("named"), "b"); got.status != http.StatusAccepted {
		t.Errorf("a named client then: %s", got.body)
	}
	atomic.StoreInt64(&used, 0)
	// The last look at the disk may count for a second: this is another control.
	atomic.StoreInt64(&free, 1535*mib)
	again, err := access.Open(access.Config{
		Files: access.Files{Access: filepath.Join(c.dir, "access.json")}, ChainID: "test", MinFreeDisk: 512 * mib,
		FreeDisk: func() (uint64, error) { return uint64(atomic.LoadInt64(&free)), nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	h = New(Options{Backend: newFake(t), Access: again}).Public()
	if got := submit(nil, "c"); got.status != http.StatusServiceUnavailable || got.errorCode(t) != "storage_low" || got.header.Get("Retry-After") == "" {
		t.Errorf("a disk filled to its reserve: %d %s", got.status, got.body)
	}
	if got := submit(as("named"), "c"); got.status != http.StatusAccepted {
		t.Errorf("a named client then: %s", got.body)
	}
}

// An audit line says who did what, and never has a credential.
// Promise 84.
func TestAuditLinesNameTheClientAndNoCredential(t *testing.T) {
	c := control(t, strings.Replace(everyRight, "{", `{"audit":{"file":"audit.log"},`, 1), []string{"submitter", "reader", "observer", "nobody"})
	s := New(Options{Backend: newFake(t), Access: c.control})
	q := request{method: http.MethodPost, path: "/v1/messages", contentType: batchType, body: batchOf("one", "three"), header: as("submitter")}
	if got := do(t, s.Public(), q); got.status != http.StatusAccepted {
		t.Fatal(got.body)
	}
	q.header = as("reader")
	do(t, s.Public(), q)
	q.header = as("stranger")
	do(t, s.Public(), q)
	do(t, s.Public(), request{path: "/v1/blocks/0", header: as("reader")})
	do(t, s.Public(), request{path: "/healthz"})
	c.control.Close()
	raw, err := os.ReadFile(filepath.Join(c.dir, "audit.log"))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(raw, []byte("-token")) {
		t.Errorf("a credential in %s", raw)
	}
	var lines []access.Record
	for line := range bytes.Lines(raw) {
		var r access.Record
		if err := json.Unmarshal(line, &r); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		if time.Since(r.Time) > time.Hour || r.Address != "192.0.2.1" {
			t.Errorf("line %s", line)
		}
		r.Time, r.Address = time.Time{}, ""
		lines = append(lines, r)
	}
	one, three := chain.Message{Data: []byte("one")}.ID(), chain.Message{Data: []byte("three")}.ID()
	ids := sha256.Sum256(slices.Concat(one[:], three[:]))
	want := []access.Record{
		{
			Client: "submitter", Proof: access.ByToken, Route: "POST /v1/messages", Status: 202, Messages: 2, Bytes: 8,
			First: one.String(), IDs: hex.EncodeToString(ids[:]),
		},
		{Client: "reader", Proof: access.ByToken, Route: "POST /v1/messages", Status: 403, Code: "forbidden"},
		{Proof: access.ByToken, Route: "POST /v1/messages", Status: 401, Code: "unauthenticated"},
		{Client: "reader", Proof: access.ByToken, Route: "GET /v1/blocks/{height}", Status: 200},
	}
	if !slices.Equal(lines, want) {
		t.Errorf("lines %+v\nwant %+v", lines, want)
	}
}

// A client with as many connections as it may have is refused on one more, which is closed. When
// one of the others is closed it may come again.
func TestConnectionsOfAClientAreCounted(t *testing.T) {
	c := control(t, `{"clients":[{"name":"two","token":{"file":"two"},"allow":["Read"],"limits":{"connections":2,"streams":1}},
	  {"name":"other","token":{"file":"other"},"allow":["Read"]}]}`, []string{"two", "other"})
	url, _ := listen(t, New(Options{Backend: newFake(t), Access: c.control}))
	type connection struct {
		net.Conn
		r *bufio.Reader
	}
	get := func(k *connection, client, path string) *http.Response {
		t.Helper()
		send(t, k, "GET "+path+" HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer "+secret(client)+"\r\n\r\n")
		resp, err := http.ReadResponse(k.r, nil)
		if err != nil {
			t.Fatal(err)
		}
		if path != "/v1/stream" || resp.StatusCode != http.StatusOK {
			if _, err := io.Copy(io.Discard, resp.Body); err != nil {
				t.Fatal(err)
			}
		}
		return resp
	}
	connect := func() *connection {
		k := dial(t, url)
		return &connection{k, bufio.NewReader(k)}
	}
	first, second, third := connect(), connect(), connect()
	for range 2 {
		for _, k := range []*connection{first, second} {
			if got := get(k, "two", "/v1/genesis"); got.StatusCode != http.StatusOK {
				t.Fatal(got.Status)
			}
		}
	}
	got := get(third, "two", "/v1/genesis")
	if got.StatusCode != http.StatusTooManyRequests || !got.Close || got.Header.Get("Retry-After") == "" {
		t.Errorf("one connection too many: %s, closes %v", got.Status, got.Close)
	}
	// A connection counts for the client that used it last.
	if got := get(first, "other", "/v1/genesis"); got.StatusCode != http.StatusOK {
		t.Errorf("another client: %s", got.Status)
	}
	fourth := connect()
	if got := get(fourth, "two", "/v1/stream"); got.StatusCode != http.StatusOK {
		t.Errorf("after a connection went to another client: %s", got.Status)
	}
	if got := get(second, "two", "/v1/stream"); got.StatusCode != http.StatusTooManyRequests {
		t.Errorf("a second stream: %s", got.Status)
	}
	_ = fourth.Close()
	for deadline := time.Now().Add(patience); ; {
		got := get(second, "two", "/v1/stream")
		if got.StatusCode == http.StatusOK {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("a stream after the first was closed: %s", got.Status)
		}
	}
}

// An open stream ends when the file takes its client's right away, and its token is of no use any
// more. A change that leaves the right as it was does not disturb it.
// Promise 84.
func TestAStreamEndsWithItsRight(t *testing.T) {
	c := control(t, everyRight, []string{"submitter", "reader", "observer", "nobody"})
	f := newFake(t)
	url, _ := listen(t, New(Options{Backend: f, Access: c.control}))
	c.watch()
	stream := bufio.NewReader(open(t, url+"/v1/stream?from=0", as("reader")).Body)
	next := func() (string, error) { return stream.ReadString('\n') }
	if _, err := next(); err != nil {
		t.Fatal(err)
	}
	before := c.control.Status().SHA256
	c.write("access.json", []byte(strings.Replace(everyRight, `{"name":"nobody","token":{"file":"nobody"}}`, `{"name":"new","token":{"file":"nobody"}}`, 1)))
	await(t, func() bool { return c.control.Status().SHA256 != before })
	f.finalize(chain.Message{Data: []byte("one")})
	if line, err := next(); err != nil {
		t.Fatalf("after a change that does not concern it: %q, %v", line, err)
	}
	c.write("access.json", []byte(strings.Replace(everyRight, `"allow":["Read"]`, `"allow":["Submit"]`, 1)))
	if line, err := next(); !errors.Is(err, io.EOF) || line != "" {
		t.Errorf("after its right is gone: %q, %v; want a proper end", line, err)
	}
	if got := open(t, url+"/v1/stream", as("reader")); got.StatusCode != http.StatusForbidden {
		t.Errorf("again: %s", got.Status)
	}
}

// await waits until something is so.
func await(t *testing.T, so func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !so(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("waited in vain")
		}
	}
}

// issuing is an authority for certificates of a node.
type issuing struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func (a *issuing) issue(t *testing.T, serial int64) (certificate, key []byte) {
	t.Helper()
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(serial), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"node"},
	}
	signer, parent := a.key, a.cert
	if parent == nil {
		c.IsCA, c.BasicConstraintsValid, c.Subject = true, true, pkix.Name{CommonName: "authority"}
		a.key = own
		signer, parent = own, c
	}
	raw, err := x509.CreateCertificate(rand.Reader, c, parent, &own.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert == nil {
		if a.cert, err = x509.ParseCertificate(raw); err != nil {
			t.Fatal(err)
		}
	}
	private, err := x509.MarshalPKCS8PrivateKey(own)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})
}

// A certificate is replaced while clients send requests on old and on new connections: none fails,
// and new connections get the new one within 2 s. A pair of files that do not fit changes nothing.
// Promise 86.
func TestACertificateIsReplacedUnderLoad(t *testing.T) {
	ca := &issuing{}
	ca.issue(t, 1)
	c := &controlled{t: t, dir: t.TempDir()}
	install := func(serial int64) {
		certificate, key := ca.issue(t, serial)
		// As a volume of Kubernetes does: a link moves from the old directory to the new one.
		dir := fmt.Sprintf("data-%d", serial)
		if err := os.Mkdir(filepath.Join(c.dir, dir), 0o700); err != nil {
			t.Fatal(err)
		}
		c.write(filepath.Join(dir, "tls.crt"), certificate)
		c.write(filepath.Join(dir, "tls.key"), key)
		if err := os.Symlink(dir, filepath.Join(c.dir, "link")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(c.dir, "link"), filepath.Join(c.dir, "data")); err != nil {
			t.Fatal(err)
		}
	}
	install(2)
	var err error
	files := &access.TLS{Certificate: filepath.Join(c.dir, "data", "tls.crt"), Key: filepath.Join(c.dir, "data", "tls.key")}
	if c.control, err = access.Open(access.Config{Files: access.Files{TLS: files}, ChainID: "test", Interval: interval}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.control.Close)
	plain, _ := listen(t, New(Options{Backend: newFake(t), Access: c.control}))
	c.watch()
	url := "https://" + strings.TrimPrefix(plain, "http://") + "/get/height"
	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)
	get := func(client *http.Client) (serial int64, err error) {
		resp, err := client.Get(url)
		if err != nil {
			return 0, err
		}
		defer func() { _ = resp.Body.Close() }()
		body, err := io.ReadAll(resp.Body)
		if err == nil && (resp.StatusCode != http.StatusOK || string(body) != "1") {
			err = fmt.Errorf("%s %s", resp.Status, body)
		}
		return resp.TLS.PeerCertificates[0].SerialNumber.Int64(), err
	}
	client := func(keep bool) *http.Client {
		tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "node"}, DisableKeepAlives: !keep}
		t.Cleanup(tr.CloseIdleConnections)
		return &http.Client{Transport: tr}
	}
	var newest, failed atomic.Int64
	stop := make(chan struct{})
	var load sync.WaitGroup
	for i := range 4 {
		client := client(i%2 == 0)
		load.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				serial, err := get(client)
				if err != nil {
					failed.Add(1)
					t.Errorf("a request failed: %v", err)
					return
				}
				if newest.Load() < serial {
					newest.Store(serial)
				}
			}
		})
	}
	await(t, func() bool { return newest.Load() == 2 })
	for serial := int64(3); serial < 5; serial++ {
		install(serial)
		await(t, func() bool { return newest.Load() == serial || failed.Load() > 0 })
	}
	// The next pair does not fit.
	certificate, _ := ca.issue(t, 9)
	c.write(filepath.Join("data-4", "tls.crt"), certificate)
	await(t, func() bool { return c.control.Status().Certificate.Problem != "" })
	if serial, err := get(client(false)); err != nil || serial != 4 {
		t.Errorf("with files that do not fit: certificate %d, %v", serial, err)
	}
	close(stop)
	load.Wait()
	if got, err := http.Get(plain + "/get/height"); err != nil || got.StatusCode != http.StatusBadRequest {
		t.Errorf("plain HTTP: %v, %v", got, err)
	}
}
