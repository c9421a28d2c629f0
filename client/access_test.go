package client

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/diseq/diseq/node/chain"
)

// authority signs the certificates of a test.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func certificatePEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "test"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	must(t, err)
	certificate, err := x509.ParseCertificate(der)
	must(t, err)
	return &authority{certificate, key}
}

// issue returns a certificate of a name, good for both sides at 127.0.0.1, and its key.
func (a *authority) issue(t *testing.T, name string) (certificate, key []byte) {
	t.Helper()
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, &own.PublicKey, a.key)
	must(t, err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(own)
	must(t, err)
	return certificatePEM(der), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.certificate)
	return pool
}

// closedNode is a node that serves over TLS and notes the name of each client.
type closedNode struct {
	*httptest.Server
	config atomic.Pointer[tls.Config]
	names  chan string
}

// use has the node show a certificate of one authority and ask for one of another.
func (n *closedNode) use(t *testing.T, own, clients *authority) {
	t.Helper()
	pair, err := tls.X509KeyPair(own.issue(t, "node"))
	must(t, err)
	n.config.Store(&tls.Config{
		Certificates: []tls.Certificate{pair}, ClientCAs: clients.pool(), ClientAuth: tls.VerifyClientCertIfGiven, MinVersion: tls.VersionTLS13,
	})
}

func newClosedNode(t *testing.T, own, clients *authority) *closedNode {
	t.Helper()
	n := &closedNode{names: make(chan string, 100)}
	n.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := r.Header.Get("Authorization")
		if certificates := r.TLS.PeerCertificates; len(certificates) > 0 {
			name = certificates[0].Subject.CommonName
		}
		n.names <- name
		if name == "" {
			refuse(w, http.StatusUnauthorized, "unauthenticated")
			return
		}
		answer(w, http.StatusOK, changesPage{Changes: []chain.FinalChange{}})
	}))
	n.TLS = &tls.Config{
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return n.config.Load(), nil }, MinVersion: tls.VersionTLS13,
	}
	n.Config.ErrorLog = log.New(io.Discard, "", 0)
	n.use(t, own, clients)
	n.StartTLS()
	t.Cleanup(n.Close)
	return n
}

func write(t *testing.T, path string, content []byte) string {
	t.Helper()
	must(t, os.WriteFile(path, content, 0o600))
	return path
}

// files are those of an Access in a directory.
func (a *authority) files(t *testing.T, dir, name string) Access {
	t.Helper()
	certificate, key := a.issue(t, name)
	return Access{
		CertificateFile: write(t, filepath.Join(dir, "tls.crt"), certificate), KeyFile: write(t, filepath.Join(dir, "tls.key"), key),
	}
}

func newClient(t *testing.T, url string) *Client {
	t.Helper()
	c, err := New(url)
	must(t, err)
	t.Cleanup(c.HTTP.CloseIdleConnections)
	c.Retrying = func(reason error, _ time.Duration) { t.Errorf("the request is repeated: %v", reason) }
	return c
}

func TestAClientProvesWhoItIsWithACertificate(t *testing.T) {
	nodes, clients := newAuthority(t), newAuthority(t)
	n := newClosedNode(t, nodes, clients)
	dir := t.TempDir()
	access := clients.files(t, dir, "payments")
	access.CAFile = write(t, filepath.Join(dir, "ca.crt"), certificatePEM(nodes.certificate.Raw))

	c := newClient(t, n.URL)
	must(t, c.Use(access))
	if _, _, err := c.Changes(t.Context(), 1, 1); err != nil {
		t.Fatal(err)
	}
	if name := <-n.names; name != "payments" {
		t.Errorf("the node sees %q", name)
	}

	c = newClient(t, n.URL)
	must(t, c.Use(Access{CAFile: access.CAFile}))
	if _, err := c.Submit(t.Context(), []byte("x")); !Unauthenticated(err) || Forbidden(err) {
		t.Errorf("without a certificate: %v", err)
	}

	// Repeating what a certificate ends would only hide the mistake for half a minute.
	c = newClient(t, n.URL)
	if _, err := c.Submit(t.Context(), []byte("x")); err == nil || !strings.Contains(err.Error(), "unknown authority") {
		t.Errorf("a node of an authority that is not trusted: %v", err)
	}
	stranger := newAuthority(t).files(t, t.TempDir(), "payments")
	stranger.CAFile = access.CAFile
	c = newClient(t, n.URL)
	must(t, c.Use(stranger))
	if _, err := c.Submit(t.Context(), []byte("x")); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a certificate of a stranger: %v", err)
	}
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	c = newClient(t, strings.Replace(plain.URL, "http:", "https:", 1))
	if _, err := c.Submit(t.Context(), []byte("x")); err == nil || !strings.Contains(err.Error(), "HTTP response to HTTPS client") {
		t.Errorf("a node without TLS: %v", err)
	}
}

// cert-manager and the kubelet replace files in place. A client that runs goes on.
func TestCertificatesAreReplacedWhileAClientRuns(t *testing.T) {
	nodes, clients := newAuthority(t), newAuthority(t)
	n := newClosedNode(t, nodes, clients)
	dir := t.TempDir()
	access := clients.files(t, dir, "first")
	access.CAFile = write(t, filepath.Join(dir, "ca.crt"), certificatePEM(nodes.certificate.Raw))
	c := newClient(t, n.URL)
	must(t, c.Use(access))
	roots, ok := c.HTTP.Transport.(*rootsTransport)
	if !ok {
		t.Fatalf("transport %T", c.HTTP.Transport)
	}
	// look has the client read the file now, and open a new connection.
	look := func() {
		roots.mu.Lock()
		roots.read = time.Time{}
		roots.mu.Unlock()
		c.HTTP.CloseIdleConnections()
		n.CloseClientConnections()
	}
	for i, step := range []struct {
		want   string
		change func()
	}{
		{"first", func() {}},
		{"second", func() { clients.files(t, dir, "second") }},
		{"second", func() { write(t, access.CertificateFile, []byte("half a certificate")) }},
		{"third", func() { clients.files(t, dir, "third") }},
		{"third", func() { write(t, access.CAFile, []byte("half an authority")) }},
		{"third", func() {
			nodes = newAuthority(t)
			n.use(t, nodes, clients)
			write(t, access.CAFile, certificatePEM(nodes.certificate.Raw))
		}},
		{"third", func() { must(t, os.Remove(access.CAFile)) }},
	} {
		step.change()
		look()
		if _, _, err := c.Changes(t.Context(), 1, 1); err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
		if name := <-n.names; name != step.want {
			t.Errorf("step %d: the node sees %q, want %q", i, name, step.want)
		}
	}
	// The authority of the nodes changes, and the file does not: the old content must not be
	// believed for longer than it is there.
	n.use(t, newAuthority(t), clients)
	look()
	if _, _, err := c.Changes(t.Context(), 1, 1); err == nil || !strings.Contains(err.Error(), "unknown authority") {
		t.Errorf("a node of another authority: %v", err)
	}
}

// A token expires while the client runs, and its file has the next one.
func TestARefusedTokenIsReadAgain(t *testing.T) {
	path := write(t, filepath.Join(t.TempDir(), "token"), []byte("one\n"))
	var sent []string
	accepted := "one"
	c := serve(t, map[string]http.HandlerFunc{"/": func(w http.ResponseWriter, r *http.Request) {
		sent = append(sent, r.Header.Get("Authorization"))
		if sent[len(sent)-1] != "Bearer "+accepted {
			w.Header().Set("WWW-Authenticate", "Bearer")
			refuse(w, http.StatusUnauthorized, "unauthenticated")
			return
		}
		answer(w, http.StatusOK, changesPage{Changes: []chain.FinalChange{}})
	}})
	must(t, c.Use(Access{Token: TokenFile(path)}))
	status := func(want string, failed bool) {
		t.Helper()
		sent = nil
		_, _, err := c.Changes(t.Context(), 1, 1)
		if got := strings.Join(sent, ", "); got != want || Unauthenticated(err) != failed || !failed && err != nil {
			t.Errorf("sent %s: %v; want %s", got, err, want)
		}
	}
	status("Bearer one", false)
	accepted = "two"
	status("Bearer one", true) // the file has no other
	write(t, path, []byte("  two \r\n"))
	status("Bearer one, Bearer two", false)
	status("Bearer two", false)
	must(t, os.Remove(path))
	accepted = "three"
	status("Bearer two", true)
	write(t, path, []byte("three"))
	status("Bearer two, Bearer three", false)
}

func TestATokenFileHasOneToken(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{
		"empty": "\n", "two": "one two", "a line break": "one\ntwo", "a header": "a\r\nHost: b", "not ASCII": "tökén",
		"too long": strings.Repeat("x", maxToken+1),
	} {
		path := write(t, filepath.Join(dir, "token"), []byte(content))
		if token, err := TokenFile(path)(t.Context(), ""); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: token %.20q, %v", name, token, err)
		} else if len(content) > 3 && strings.Contains(err.Error(), content) {
			t.Errorf("%s: the error shows the content: %v", name, err)
		}
	}
	if _, err := TokenFile(filepath.Join(dir, "none"))(t.Context(), ""); err == nil {
		t.Error("a token without a file")
	}
	path := write(t, filepath.Join(dir, "token"), []byte("one"))
	source := TokenFile(path)
	for _, content := range []string{"one", "", "no token"} { // the file is being written
		write(t, path, []byte(content))
		if token, err := source(t.Context(), "one"); token != "one" || err != nil {
			t.Errorf("with %q in the file: %q, %v", content, token, err)
		}
	}
}

func TestATokenIsNotSentInClearText(t *testing.T) {
	token := TokenFile(write(t, filepath.Join(t.TempDir(), "token"), []byte("secret")))
	for url, want := range map[string]bool{
		"http://node.example:8080": false, "10.0.0.1:8080": false, "http://localhost.example": false, "http://127.0.0.1.example": false,
		"https://node.example": true, "http://127.0.0.1:1": true, "http://[::1]:1": true, "localhost:1": true,
	} {
		c, err := New(url)
		must(t, err)
		if err := c.Use(Access{Token: token}); (err == nil) != want {
			t.Errorf("%s: %v", url, err)
		}
	}
	c, err := New("https://a.example", "http://b.example")
	must(t, err)
	if err := c.Use(Access{Token: token}); err == nil || !strings.Contains(err.Error(), "b.example") {
		t.Errorf("one of two nodes without TLS: %v", err)
	}
}

// A node, or whoever is in its place, sends the client elsewhere.
func TestAccessIsNotCarriedToWhereARedirectLeads(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("%s %s with %q", r.Method, r.URL, r.Header.Get("Authorization"))
	}))
	defer elsewhere.Close()
	c := serve(t, map[string]http.HandlerFunc{"/": func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, elsewhere.URL+r.URL.Path, http.StatusTemporaryRedirect)
	}})
	must(t, c.Use(Access{Token: TokenFile(write(t, filepath.Join(t.TempDir(), "token"), []byte("secret")))}))
	if _, err := c.Submit(t.Context(), []byte("x")); err == nil || !strings.Contains(err.Error(), "307") {
		t.Errorf("error %v", err)
	}
	if _, _, err := c.Changes(t.Context(), 1, 1); err == nil {
		t.Error("the redirect is followed")
	}
}

func TestMistakesInAnAccessAreFoundAtOnce(t *testing.T) {
	dir := t.TempDir()
	empty := write(t, filepath.Join(dir, "empty"), nil)
	good := newAuthority(t).files(t, dir, "a")
	for name, access := range map[string]Access{
		"no such authority":            {CAFile: filepath.Join(dir, "none")},
		"an authority of nothing":      {CAFile: empty},
		"a key alone":                  {KeyFile: good.KeyFile},
		"a certificate alone":          {CertificateFile: good.CertificateFile},
		"a certificate of nothing":     {CertificateFile: empty, KeyFile: good.KeyFile},
		"the key of another":           {CertificateFile: good.CertificateFile, KeyFile: newAuthority(t).files(t, t.TempDir(), "b").KeyFile},
		"a token of nothing":           {Token: TokenFile(empty)},
		"a token that is not there":    {Token: TokenFile(filepath.Join(dir, "none"))},
		"an authority that is too big": {CAFile: write(t, filepath.Join(dir, "big"), bytes.Repeat([]byte("x"), maxFile+1))},
	} {
		c, err := New("https://node.example")
		must(t, err)
		if err := c.Use(access); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

func TestRefusalsOfAccessAreToldApart(t *testing.T) {
	refusal, after := "", ""
	statuses := map[string]int{"unauthenticated": 401, "forbidden": 403, "quota": 429, "pool_full": 429}
	c := serve(t, map[string]http.HandlerFunc{"/": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", after)
		refuse(w, statuses[refusal], refusal)
	}})
	c.RetryFor = 0
	for code, want := range map[string]string{
		"unauthenticated": "the node answered 401 unauthenticated: for a reason",
		"forbidden":       "the node answered 403 forbidden: for a reason",
		"quota":           "the node answered 429 quota: for a reason; there is room again in 12h0m0s",
		"pool_full":       "the node answered 429 pool_full: for a reason",
	} {
		if refusal, after = code, ""; statuses[code] == 429 {
			after = "43200"
		}
		_, err := c.Submit(t.Context(), []byte("x"))
		if err == nil || err.Error() != want {
			t.Errorf("error %q, want %q", err, want)
		}
		if Unauthenticated(err) != (code == "unauthenticated") || Forbidden(err) != (code == "forbidden") || Quota(err) != (code == "quota") {
			t.Errorf("%s is taken for another refusal", code)
		}
	}
}
