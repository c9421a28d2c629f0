package peer

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"time"

	"github.com/diseq/diseq/node/chain"
)

// newCertificate wraps a signing key in a self-signed certificate. Only the key matters: peers know
// each other by keys, so that nothing reads the name, the issuer or the dates.
func newCertificate(key ed25519.PrivateKey) (tls.Certificate, error) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "diseq"},
		NotBefore:    time.Unix(0, 0),
		NotAfter:     time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), // RFC 5280: no expiry
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("peer: certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// newTLS returns a configuration for either side. verify decides about the other side's key.
//
// The check is in VerifyConnection, since VerifyPeerCertificate is skipped when a session resumes;
// that none resumes is ensured thrice: no tickets, no cache, and a resumed session is refused.
func newTLS(certificate tls.Certificate, verify func(chain.PublicKey) error) *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		Certificates:           []tls.Certificate{certificate},
		NextProtos:             []string{"h2"},
		ClientAuth:             tls.RequireAnyClientCert,
		InsecureSkipVerify:     true, // no authority: VerifyConnection pins the key
		SessionTicketsDisabled: true,
		VerifyConnection: func(state tls.ConnectionState) error {
			key, err := peerKey(state)
			if err != nil {
				return err
			}
			return verify(key)
		},
	}
}

// peerKey returns the key that the other side has proved to hold.
func peerKey(state tls.ConnectionState) (chain.PublicKey, error) {
	if state.Version != tls.VersionTLS13 {
		return chain.PublicKey{}, fmt.Errorf("peer speaks %s, want TLS 1.3", tls.VersionName(state.Version))
	}
	if state.DidResume {
		return chain.PublicKey{}, errors.New("peer resumed a session")
	}
	if state.NegotiatedProtocol != "h2" {
		return chain.PublicKey{}, fmt.Errorf("peer negotiated protocol %q, want h2", state.NegotiatedProtocol)
	}
	if n := len(state.PeerCertificates); n != 1 {
		return chain.PublicKey{}, fmt.Errorf("peer sent %d certificates, want 1", n)
	}
	key, ok := state.PeerCertificates[0].PublicKey.(ed25519.PublicKey)
	if !ok || len(key) != ed25519.PublicKeySize {
		return chain.PublicKey{}, fmt.Errorf("peer has a key of type %v, want Ed25519", state.PeerCertificates[0].PublicKeyAlgorithm)
	}
	return chain.PublicKey(key), nil
}
