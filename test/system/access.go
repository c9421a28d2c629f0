package system

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Closed is the directory of a network that was closed: what its clients need.
type Closed struct {
	network *Network
	dir     string
}

// CloseTo closes the public listeners of all nodes with an access file: they speak TLS, and take
// client certificates. Each of tokens is the name of a file in the directory of the access file.
// The nodes are started again, by this test.
func (n *Network) CloseTo(access string, tokens ...string) *Closed {
	n.tb.Helper()
	c := &Closed{network: n, dir: filepath.Join(n.Dir, "access")}
	n.must(os.MkdirAll(c.dir, 0o700))
	c.issue()
	for _, token := range tokens {
		c.Write(token, NewToken())
	}
	c.Write("access.json", access)
	for _, node := range n.Nodes {
		config, err := os.ReadFile(node.ConfigPath())
		n.must(err)
		config = append(config, "\naccess: ../access/access.json\n"+
			"tls: {certificate: ../access/node.crt, key: ../access/node.key, clientCA: ../access/ca.crt}\n"...)
		n.must(os.WriteFile(node.ConfigPath(), config, 0o600))
		node.Kill()
		node.Start()
		node.URL = strings.Replace(node.URL, "http://", "https://", 1)
		Eventually(n.tb, readyWithin, node.Name+" is ready", func() error { return node.GetOperations("/readyz", nil) })
	}
	return c
}

// NewToken returns a random token.
func NewToken() string { return rand.Text() + rand.Text() }

// Path is that of a file: ca.crt, client.crt and client.key (common name "client"), a token, or
// access.json.
func (c *Closed) Path(name string) string { return filepath.Join(c.dir, name) }

// Write replaces a file.
func (c *Closed) Write(name, content string) {
	c.network.tb.Helper()
	c.network.must(os.WriteFile(c.Path(name)+".new", []byte(content), 0o600))
	c.network.must(os.Rename(c.Path(name)+".new", c.Path(name)))
}

// issue makes an authority, and certificates of the nodes and of a client.
func (c *Closed) issue() {
	var authority *x509.Certificate
	var authorityKey *ecdsa.PrivateKey
	for i, name := range []string{"ca", "node", "client"} {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		c.network.must(err)
		template := &x509.Certificate{
			SerialNumber: big.NewInt(int64(i + 1)), Subject: pkix.Name{CommonName: name}, KeyUsage: x509.KeyUsageDigitalSignature,
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		}
		if name == "node" {
			template.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
		}
		if authority == nil {
			template.IsCA, template.BasicConstraintsValid, template.KeyUsage = true, true, x509.KeyUsageCertSign
			authority, authorityKey = template, key
		}
		raw, err := x509.CreateCertificate(rand.Reader, template, authority, &key.PublicKey, authorityKey)
		c.network.must(err)
		private, err := x509.MarshalPKCS8PrivateKey(key)
		c.network.must(err)
		c.Write(name+".crt", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw})))
		c.Write(name+".key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})))
	}
}
