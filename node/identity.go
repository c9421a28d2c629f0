package node

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/vrf"
)

// The files of an identity in its directory. The first two are secret.
const (
	signingKeyFile = "signing.key"
	vrfKeyFile     = "vrf.key"
	publicKeysFile = "public.json"
)

// Identity is who a node is: the key that it signs votes, batches and connections with, and the key that its part of the
// beacon is proved with. Printing it shows its public half only.
type Identity struct {
	Signing ed25519.PrivateKey
	VRF     vrf.SecretKey
}

// NewIdentity draws an identity from the system's source of randomness.
func NewIdentity() (*Identity, error) {
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

// Format writes the public key, whatever the verb.
func (id Identity) Format(f fmt.State, _ rune) {
	_, _ = fmt.Fprintf(f, "identity %v", id.Public().PublicKey) // fmt.State reports no errors
}

// LogValue returns the public key.
func (id Identity) LogValue() slog.Value { return slog.StringValue(id.Public().PublicKey.String()) }

// Write writes the identity to a new directory (0700) with files 0600: signing.key (Ed25519, PKCS #8 in PEM), vrf.key (hex)
// and public.json ({"name","public_key","vrf_key"}). It fails if the directory exists, changing nothing, and leaves no part of
// itself behind if it is cut off.
func (id *Identity) Write(dir, name string) error {
	if _, err := os.Lstat(dir); !errors.Is(err, os.ErrNotExist) {
		return errors.Join(fmt.Errorf("identity: %s: %w", dir, os.ErrExist), err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(id.Signing)
	if err != nil {
		return fmt.Errorf("identity: %w", err)
	}
	public, err := json.MarshalIndent(chain.GenesisValidator{Name: name, Validator: id.Public()}, "", "  ")
	if err != nil {
		return fmt.Errorf("identity: %w", err)
	}
	secret := id.VRF.Bytes()
	fresh := filepath.Clean(dir) + ".new"
	if err := os.RemoveAll(fresh); err != nil {
		return fmt.Errorf("identity: %w", err)
	}
	if err := os.MkdirAll(fresh, 0o700); err != nil {
		return fmt.Errorf("identity: %w", err)
	}
	for file, content := range map[string][]byte{
		signingKeyFile: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}),
		vrfKeyFile:     []byte(hex.EncodeToString(secret[:]) + "\n"),
		publicKeysFile: append(public, '\n'),
	} {
		if err := writeSynced(filepath.Join(fresh, file), content); err != nil {
			return fmt.Errorf("identity: %w", err)
		}
	}
	if err := os.Rename(fresh, dir); err != nil {
		return fmt.Errorf("identity: %w", err)
	}
	return syncDirectory(filepath.Dir(filepath.Clean(dir)))
}

func writeSynced(path string, content []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func syncDirectory(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// LoadIdentity reads the two secret keys of a directory. Files that others than the node may read are refused. No error
// shows what is in them.
func LoadIdentity(dir string) (*Identity, error) {
	raw, err := readSecret(filepath.Join(dir, signingKeyFile))
	if err != nil {
		return nil, err
	}
	block, rest := pem.Decode(raw)
	if block == nil || block.Type != "PRIVATE KEY" || len(strings.TrimSpace(string(rest))) > 0 {
		return nil, fmt.Errorf("identity: %s: want one PEM block \"PRIVATE KEY\"", filepath.Join(dir, signingKeyFile))
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	signing, ok := parsed.(ed25519.PrivateKey)
	if err != nil || !ok {
		return nil, fmt.Errorf("identity: %s: no Ed25519 key in PKCS #8", filepath.Join(dir, signingKeyFile))
	}
	if raw, err = readSecret(filepath.Join(dir, vrfKeyFile)); err != nil {
		return nil, err
	}
	scalar, err := hex.DecodeString(strings.TrimSpace(string(raw)))
	if err != nil {
		return nil, fmt.Errorf("identity: %s: want 64 hex digits", filepath.Join(dir, vrfKeyFile))
	}
	secret, err := vrf.ParseSecretKey(scalar)
	if err != nil {
		return nil, fmt.Errorf("identity: %s: %w", filepath.Join(dir, vrfKeyFile), err)
	}
	return &Identity{Signing: signing, VRF: secret}, nil
}

// maxKeyBytes bounds a key file.
const maxKeyBytes = 4096

// readSecret reads a file that no one but its owner may read. One that belongs to another user, as in a mounted Kubernetes
// Secret, may be readable by its group: that is how the node itself gets to read it.
func readSecret(path string) (out []byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	forbidden := os.FileMode(0o077)
	if owner, ok := info.Sys().(*syscall.Stat_t); ok && int64(owner.Uid) != int64(os.Geteuid()) {
		forbidden = 0o037
	}
	if mode := info.Mode().Perm(); mode&forbidden != 0 {
		return nil, fmt.Errorf("identity: %s has mode %04o: others may read or change it, want 0600", path, mode)
	}
	if out, err = io.ReadAll(io.LimitReader(f, maxKeyBytes+1)); err != nil {
		return nil, fmt.Errorf("identity: %s: %w", path, err)
	}
	if len(out) > maxKeyBytes {
		return nil, fmt.Errorf("identity: %s is longer than %d bytes", path, maxKeyBytes)
	}
	return out, nil
}
