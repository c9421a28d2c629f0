package access

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"
)

// TLS names the files of the public listener's TLS.
type TLS struct {
	// Certificate is the node's certificate with the certificates that lead to its authority, Key
	// its private key, both in PEM.
	Certificate string `json:"certificate"`
	Key         string `json:"key"`
	// ClientCA has the authorities of clients' certificates, in PEM. Without it, no client is asked
	// for a certificate.
	ClientCA string `json:"clientCA,omitempty"`
	// MinVersion is "1.3", which an empty text stands for, or "1.2".
	MinVersion string `json:"minVersion,omitempty"`
}

// Validate checks every field; it does not read the files.
func (t *TLS) Validate() error {
	for _, p := range []struct{ field, value string }{{"certificate", t.Certificate}, {"key", t.Key}} {
		if p.value == "" {
			return fmt.Errorf("%s: want a path", p.field)
		}
	}
	if t.MinVersion != "" && t.MinVersion != "1.3" && t.MinVersion != "1.2" {
		return fmt.Errorf("minVersion %q: want \"1.3\" or \"1.2\"", t.MinVersion)
	}
	return nil
}

// Files are the files of node.yaml that concern the public listener. Relative paths are relative to
// the directory of node.yaml.
type Files struct {
	// TLS names the files of TLS; nil serves plain HTTP.
	TLS *TLS `json:"tls,omitempty"`
	// Access is the access file, see File; without one, everybody may do everything.
	Access string `json:"access,omitempty"`
}

// Validate checks every field; it does not read the files.
func (f *Files) Validate() error {
	if f.TLS == nil {
		return nil
	}
	if err := f.TLS.Validate(); err != nil {
		return fmt.Errorf("tls.%w", err)
	}
	if f.TLS.ClientCA != "" && f.Access == "" {
		return errors.New("tls.clientCA: certificates of clients decide nothing without `access`, the file that says who may do what")
	}
	return nil
}

// Resolve makes relative paths relative to dir.
func (f *Files) Resolve(dir string) {
	paths := []*string{&f.Access}
	if f.TLS != nil {
		paths = append(paths, &f.TLS.Certificate, &f.TLS.Key, &f.TLS.ClientCA)
	}
	for _, p := range paths {
		if *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(dir, *p)
		}
	}
}

// material is what one reading of the TLS files gave.
type material struct {
	config *tls.Config
	// authorities are the certificates of the client CA, by their hash.
	authorities map[[sha256.Size]byte]bool
}

func (m *material) expires() time.Time { return m.config.Certificates[0].Leaf.NotAfter }

// load reads the TLS files.
func (t *TLS) load(r *reading) (*material, error) {
	certificate, err := r.file(t.Certificate)
	if err != nil {
		return nil, fmt.Errorf("tls.certificate: %w", err)
	}
	key, err := r.file(t.Key)
	if err != nil {
		return nil, fmt.Errorf("tls.key: %w", err)
	}
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		return nil, fmt.Errorf("tls: certificate %s and key %s: %w", t.Certificate, t.Key, err)
	}
	m := &material{authorities: map[[sha256.Size]byte]bool{}}
	m.config = &tls.Config{
		Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS13, NextProtos: []string{"http/1.1"},
		// A resumed session would carry an identity past the end of its certificate.
		SessionTicketsDisabled: true,
	}
	if t.MinVersion == "1.2" {
		m.config.MinVersion = tls.VersionTLS12
	}
	if t.ClientCA != "" {
		raw, err := r.file(t.ClientCA)
		if err != nil {
			return nil, fmt.Errorf("tls.clientCA: %w", err)
		}
		if err := m.trust(raw); err != nil {
			return nil, fmt.Errorf("tls.clientCA %s: %w", t.ClientCA, err)
		}
	}
	return m, nil
}

// trust takes over the authorities of clients' certificates.
func (m *material) trust(raw []byte) error {
	pool := x509.NewCertPool()
	for block, rest := pem.Decode(raw); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			return fmt.Errorf("a block %q: want certificates alone", block.Type)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return err
		}
		pool.AddCert(c)
		m.authorities[sha256.Sum256(c.Raw)] = true
	}
	if len(m.authorities) == 0 {
		return errors.New("no certificate in PEM")
	}
	m.config.ClientCAs, m.config.ClientAuth = pool, tls.VerifyClientCertIfGiven
	return nil
}

// believes reports whether the certificate of a connection is still good: the connection may be
// older than the authorities in force.
func (m *material) believes(state *tls.ConnectionState, now time.Time) bool {
	for _, chain := range state.VerifiedChains {
		good := len(chain) > 0 && m.authorities[sha256.Sum256(chain[len(chain)-1].Raw)]
		for _, c := range chain {
			good = good && !now.After(c.NotAfter)
		}
		if good {
			return true
		}
	}
	return false
}

// namesOf returns the identities of a certificate, in the form of Certificate.identity: URIs alone
// if there are any, else DNS names, else the common name.
func namesOf(c *x509.Certificate) (names []string) {
	for _, u := range c.URIs {
		names = append(names, "uri "+u.String())
	}
	if len(names) > 0 {
		return names
	}
	for _, d := range c.DNSNames {
		names = append(names, "dns "+strings.ToLower(d))
	}
	if len(names) > 0 {
		return names
	}
	return []string{"cn " + c.Subject.CommonName}
}
