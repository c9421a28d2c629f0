package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"
)

// Access is how a client proves to nodes who it is, and how it knows a node when it meets one. The
// files may be replaced at any time, as cert-manager and the kubelet do: the client reads them
// again. A file that cannot be used changes nothing until it can be.
type Access struct {
	// CAFile has the certificates, in PEM, that those of nodes must lead to. Empty stands for the
	// certificates of the system.
	CAFile string
	// CertificateFile and KeyFile have the certificate of the client, with those that it leads to,
	// and its key, in PEM. Empty stands for none.
	CertificateFile, KeyFile string
	// Token returns the bearer token that requests carry; nil stands for none.
	Token TokenSource
}

// A TokenSource returns the token for a request. refused is the token that a node has refused just
// now, else empty: a source that keeps its token gets another one then. It is called from several
// goroutines at once.
type TokenSource func(ctx context.Context, refused string) (string, error)

// Use gives the client its access. It reads each file once, so that a mistake is found now, and
// fails if a token would travel in clear text: tokens are sent over https, and over http to this
// machine alone. With an access, redirects are answers: what proves the client's identity goes to
// the nodes of New and to nobody else.
func (c *Client) Use(a Access) error {
	base, ok := c.HTTP.Transport.(*http.Transport)
	if !ok {
		return fmt.Errorf("client: the transport is a %T: give it certificates itself", c.HTTP.Transport)
	}
	if (a.CertificateFile == "") != (a.KeyFile == "") {
		return errors.New("client: a certificate needs its key, and a key its certificate")
	}
	if a.Token != nil {
		for _, node := range c.nodes {
			if u, err := url.Parse(node); err != nil || u.Scheme != "https" && !loopback(u.Hostname()) {
				return errors.Join(fmt.Errorf("url %q: a token is sent over https only", node), err)
			}
		}
		if _, err := a.Token(context.Background(), ""); err != nil {
			return fmt.Errorf("client: token: %w", err)
		}
	}
	base = base.Clone()
	if base.TLSClientConfig == nil {
		base.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if a.CertificateFile != "" {
		own := &keyPair{certificate: a.CertificateFile, key: a.KeyFile}
		if _, err := own.read(nil); err != nil {
			return fmt.Errorf("client: %w", err)
		}
		base.TLSClientConfig.GetClientCertificate = own.read
	}
	c.HTTP.Transport = base
	if a.CAFile != "" {
		roots := &rootsTransport{path: a.CAFile, base: base}
		if _, err := roots.transport(); err != nil {
			return fmt.Errorf("client: %w", err)
		}
		c.HTTP.Transport = roots
	}
	c.HTTP.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	c.token = a.Token
	return nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// keyPair is a certificate with its key as two files hold it.
type keyPair struct {
	certificate, key string

	mu   sync.Mutex
	last *tls.Certificate
}

// read returns the pair for a handshake. Between the writes of the two files they do not belong
// together: the pair before stays until they do.
func (p *keyPair) read(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	pair, err := tls.LoadX509KeyPair(p.certificate, p.key)
	switch {
	case err == nil:
		p.last = &pair
	case p.last == nil:
		return nil, fmt.Errorf("certificate %s with key %s: %w", p.certificate, p.key, err)
	}
	return p.last, nil
}

const (
	// maxFile bounds a file of certificates.
	maxFile = 4 << 20
	// lookAgain is how old the content of a file of certificates may be.
	lookAgain = time.Second
)

func readFile(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it was only read
	content, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if int64(len(content)) > limit {
		return nil, fmt.Errorf("%s is longer than %d bytes", path, limit)
	}
	return content, nil
}

// rootsTransport believes the certificates that lead to those of a file, as it is now. A transport
// cannot change them, so each content of the file has its own.
type rootsTransport struct {
	path string
	// base is never used: a copy of a transport that was used shares its connections.
	base *http.Transport

	mu      sync.Mutex
	current *http.Transport
	content []byte
	read    time.Time
}

// RoundTrip implements http.RoundTripper.
func (t *rootsTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	current, err := t.transport()
	if err != nil {
		return nil, err
	}
	return current.RoundTrip(r)
}

// CloseIdleConnections is for http.Client.
func (t *rootsTransport) CloseIdleConnections() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.current != nil {
		t.current.CloseIdleConnections()
	}
}

func (t *rootsTransport) transport() (*http.Transport, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.current != nil && time.Since(t.read) < lookAgain {
		return t.current, nil
	}
	content, err := readFile(t.path, maxFile)
	t.read = time.Now()
	if t.current != nil && (err != nil || bytes.Equal(content, t.content)) {
		return t.current, nil
	}
	roots := x509.NewCertPool()
	if err == nil && !roots.AppendCertsFromPEM(content) {
		err = fmt.Errorf("%s: no certificate in PEM", t.path)
	}
	if err != nil {
		if t.current != nil {
			return t.current, nil
		}
		return nil, err
	}
	if t.current != nil {
		t.current.CloseIdleConnections()
	}
	t.current, t.content = t.base.Clone(), content
	t.current.TLSClientConfig.RootCAs = roots
	return t.current, nil
}

const (
	// maxToken bounds a token: nodes take headers of 16 KiB.
	maxToken = 12 << 10
	// tokenAge is how long a token of a file is used before the file is read again. The kubelet
	// replaces tokens minutes before they expire.
	tokenAge = 10 * time.Second
)

// TokenFile returns the token that a file holds, such as the projected token of a ServiceAccount.
// The file is read again after some seconds, and when a node refuses the token.
func TokenFile(path string) TokenSource {
	var mu sync.Mutex
	var token string
	var read time.Time
	return func(_ context.Context, refused string) (string, error) {
		mu.Lock()
		defer mu.Unlock()
		if token != "" && token != refused && time.Since(read) < tokenAge {
			return token, nil
		}
		content, err := readFile(path, maxToken)
		read = time.Now()
		next := strings.TrimSpace(string(content))
		if err == nil && (next == "" || strings.ContainsFunc(next, func(r rune) bool { return r <= ' ' || r > '~' })) {
			err = fmt.Errorf("%s: want one token, of visible ASCII without spaces", path)
		}
		switch {
		case err == nil:
			token = next
		case token == "":
			return "", err
		}
		return token, nil
	}
}
