// Package identity is who a node is: the key that it signs votes, batches and connections with, and
// the key that its part of the beacon is proved with.
//
// It makes an identity, writes it as files, and reads it back. The same three files are a directory
// of a node (see Write and Load) and the data of a Kubernetes Secret (see Files and Parse). It
// promises that a secret key is shown by nothing but Files and Write: not by printing or logging an
// identity, and by no error.
//
// It does not make vote stores: an identity may exist before anybody knows where its node will keep
// them.
package identity

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/diseq/diseq/internal/document"
	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/vrf"
)

// The files of an identity. The first two are secret.
const (
	SigningKeyFile = "signing.key"
	VRFKeyFile     = "vrf.key"
	PublicFile     = "public.json"
)

// Identity is the two secret keys of a node. Printing it shows its public half only.
type Identity struct {
	Signing ed25519.PrivateKey
	VRF     vrf.SecretKey
}

// New draws an identity from the system's source of randomness.
func New() (*Identity, error) {
	_, signing, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	secret, err := vrf.NewSecretKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	return &Identity{Signing: signing, VRF: secret}, nil
}

// Public returns the public half: what a genesis document names.
func (id Identity) Public() chain.Validator {
	return chain.Validator{PublicKey: chain.PublicKeyOf(id.Signing), VRFKey: chain.VRFKey(id.VRF.Public())}
}

// Publish returns what others need of the identity, with a proof that its owner made it: for one
// chain, or for any if chainID is empty.
func (id Identity) Publish(name, chainID string) chain.PublicIdentity {
	return chain.ProveIdentity(id.Signing, chain.NamedValidator{Name: name, Validator: id.Public()}, chainID)
}

// Format writes the public key, whatever the verb.
func (id Identity) Format(f fmt.State, _ rune) {
	_, _ = fmt.Fprintf(f, "identity %v", id.Public().PublicKey) // fmt.State reports no errors
}

// LogValue returns the public key.
func (id Identity) LogValue() slog.Value { return slog.StringValue(id.Public().PublicKey.String()) }

// errMarshal answers encoding/json: Files alone writes an identity.
var errMarshal = errors.New("identity: an identity is not encoded whole, use Files")

// MarshalJSON fails: a structured log would show the secret keys.
func (Identity) MarshalJSON() ([]byte, error) { return nil, errMarshal }

// Files returns the content of the identity's files by their names: signing.key (Ed25519, PKCS #8
// in PEM), vrf.key (64 hex digits) and public.json (see [chain.PublicIdentity]), where name is what
// people call the node.
func (id *Identity) Files(name string) (map[string][]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(id.Signing)
	if err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	public, err := json.MarshalIndent(id.Publish(name, ""), "", "  ")
	if err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	secret := id.VRF.Bytes()
	return map[string][]byte{
		SigningKeyFile: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}),
		VRFKeyFile:     []byte(hex.EncodeToString(secret[:]) + "\n"),
		PublicFile:     append(public, '\n'),
	}, nil
}

// Parse is the inverse of Files. public.json may be missing; if it is there its keys must be those
// of the secret files, so that files of two identities are not taken for one. Its proof is for
// those who have not the secret files. No error shows what is in the secret files.
func Parse(files map[string][]byte) (*Identity, error) {
	return parse(files, func(name string) string { return name })
}

// parse calls a file in errors what shown says.
func parse(files map[string][]byte, shown func(name string) string) (*Identity, error) {
	for _, name := range []string{SigningKeyFile, VRFKeyFile} {
		if _, ok := files[name]; !ok {
			return nil, fmt.Errorf("identity: %s is missing", shown(name))
		}
	}
	signing, err := parseSigning(files[SigningKeyFile])
	if err != nil {
		return nil, fmt.Errorf("identity: %s: %w", shown(SigningKeyFile), err)
	}
	secret, err := parseVRF(files[VRFKeyFile])
	if err != nil {
		return nil, fmt.Errorf("identity: %s: %w", shown(VRFKeyFile), err)
	}
	id := &Identity{Signing: signing, VRF: secret}
	if raw, ok := files[PublicFile]; ok {
		var public chain.PublicIdentity
		if err := document.Unmarshal(raw, &public); err != nil {
			return nil, fmt.Errorf("identity: %s: %w", shown(PublicFile), err)
		}
		if own := id.Public(); public.Validator().Validator != own {
			return nil, fmt.Errorf("identity: %s names the keys %v and %v, the secret files hold those of %v and %v",
				shown(PublicFile), public.PublicKey, public.VRFKey, own.PublicKey, own.VRFKey)
		}
	}
	return id, nil
}

func parseSigning(raw []byte) (ed25519.PrivateKey, error) {
	block, rest := pem.Decode(raw)
	if block == nil || block.Type != "PRIVATE KEY" || len(strings.TrimSpace(string(rest))) > 0 {
		return nil, errors.New(`want one PEM block "PRIVATE KEY"`)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	signing, ok := parsed.(ed25519.PrivateKey)
	if err != nil || !ok {
		return nil, errors.New("no Ed25519 key in PKCS #8")
	}
	return signing, nil
}

func parseVRF(raw []byte) (vrf.SecretKey, error) {
	scalar, err := hex.DecodeString(strings.TrimSpace(string(raw)))
	if err != nil {
		return vrf.SecretKey{}, errors.New("want 64 hex digits")
	}
	return vrf.ParseSecretKey(scalar)
}
