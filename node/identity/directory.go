package identity

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"github.com/diseq/diseq/internal/durable"
)

// Write writes the identity's files (see Files) to a new directory (0700), each with mode 0600. It
// fails if the directory exists, changing nothing, and leaves no part of itself behind if it is cut
// off.
func (id *Identity) Write(dir, name string) error {
	if _, err := os.Lstat(dir); !errors.Is(err, os.ErrNotExist) {
		return errors.Join(fmt.Errorf("identity: %s: %w", dir, os.ErrExist), err)
	}
	files, err := id.Files(name)
	if err != nil {
		return err
	}
	fresh := filepath.Clean(dir) + ".new"
	if err := os.RemoveAll(fresh); err != nil {
		return fmt.Errorf("identity: %w", err)
	}
	if err := durable.MakeDirectory(fresh, 0o700); err != nil {
		return fmt.Errorf("identity: %w", err)
	}
	for file, content := range files {
		if err := writeSynced(filepath.Join(fresh, file), content); err != nil {
			return fmt.Errorf("identity: %w", err)
		}
	}
	err = durable.Sync(fresh)
	if err == nil {
		err = durable.Rename(fresh, filepath.Clean(dir))
	}
	if err != nil {
		return fmt.Errorf("identity: %w", err)
	}
	return nil
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

// Load reads the two secret keys of a directory; public.json is for people and not read. Files that
// others than the node may read are refused. No error shows what is in them.
func Load(dir string) (*Identity, error) {
	files := map[string][]byte{}
	for _, name := range []string{SigningKeyFile, VRFKeyFile} {
		raw, err := readSecret(filepath.Join(dir, name))
		if err != nil {
			return nil, err
		}
		files[name] = raw
	}
	return parse(files, func(name string) string { return filepath.Join(dir, name) })
}

// ReadSigningKey reads one Ed25519 key in the form of signing.key: PKCS #8 in PEM, as openssl
// genpkey -algorithm ed25519 writes it. A file that others may read is refused.
func ReadSigningKey(path string) (ed25519.PrivateKey, error) {
	raw, err := readSecret(path)
	if err != nil {
		return nil, err
	}
	key, err := parseSigning(raw)
	if err != nil {
		return nil, fmt.Errorf("identity: %s: %w", path, err)
	}
	return key, nil
}

// maxKeyBytes bounds a key file.
const maxKeyBytes = 4096

// forbidden are the mode bits that a secret file of a user must not have for a process of another.
func forbidden(owner, process int64) os.FileMode {
	if owner == process {
		return 0o077
	}
	return 0o037
}

// readSecret reads a file that no one but its owner may read. One that belongs to another user, as
// in a mounted Kubernetes Secret, may be readable by its group: that is how the node itself gets to
// read it.
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
	owner := int64(os.Geteuid())
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		owner = int64(stat.Uid)
	}
	if mode := info.Mode().Perm(); mode&forbidden(owner, int64(os.Geteuid())) != 0 {
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
