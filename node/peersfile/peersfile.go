// Package peersfile reads the peers file: where the other nodes are.
//
// People write it, or the operator does. A node reads it again when it changes, without a restart.
// The package promises that a file which it returns is well-formed in every entry. It does not
// judge whether what the file declares can be done: that rests on the chain.
package peersfile

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/internal/wait"
	"github.com/diseq/diseq/node/internal/yamlfile"
)

// Entry is a peer as the peers file shows it.
type Entry struct {
	Name      string          `json:"name"`
	PublicKey chain.PublicKey `json:"public_key"`
	// Address is the host:port of the peer's peer listener; empty for one that is only let in.
	Address string `json:"address,omitempty"`
	// VoteStore says that the peer has made its vote store. It never makes one again: in the
	// node's own entry, this overrides the node's configuration.
	VoteStore bool `json:"vote_store,omitempty"`
	// NamedFor is the generation of the last validator set that a target proposed with this peer.
	// Nodes do not read it: it reminds the operator which nodes must not be stopped yet.
	NamedFor uint32 `json:"named_for,omitempty"`
}

// File is the peers file, JSON or YAML. It may name the node itself, so that all nodes can share
// one.
type File struct {
	Peers []Entry `json:"peers"`
	// Target is the validator set that the node's operator wants to come next.
	Target *chain.Target `json:"target,omitempty"`
	// Checkpoint is the header of the last change of the validator set that the writer knows.
	Checkpoint *chain.Checkpoint `json:"checkpoint,omitempty"`

	path     string
	modified time.Time // before it was read
}

const (
	// maxPeers bounds the entries of a file.
	maxPeers = 1000
	// maxName bounds a name, in bytes.
	maxName = 63
)

// Read reads a peers file and checks every entry.
func Read(path string) (*File, error) {
	file := &File{path: path, modified: modified(path)}
	raw, err := yamlfile.Read(path)
	if err != nil {
		return nil, fmt.Errorf("peers: %w", err)
	}
	if err := yamlfile.Unmarshal(raw, file); err != nil {
		return nil, fmt.Errorf("peers %s: %w", path, err)
	}
	if err := file.check(); err != nil {
		return nil, fmt.Errorf("peers %s: %w", path, err)
	}
	return file, nil
}

func (f *File) check() error {
	if len(f.Peers) > maxPeers {
		return fmt.Errorf("%d peers, allowed are %d", len(f.Peers), maxPeers)
	}
	if c := f.Checkpoint; c != nil && (c.Height == 0 || c.Height > chain.MaxNumber || c.Hash.IsZero()) {
		return fmt.Errorf("checkpoint at height %d with hash %v: want the height, from 1 on, and the hash of a block", c.Height, c.Hash)
	}
	if t := f.Target; t != nil && len(t.Validators) > chain.MaxValidators {
		return fmt.Errorf("target with %d validators, allowed are %d", len(t.Validators), chain.MaxValidators)
	}
	seen := map[chain.PublicKey]int{}
	for i, p := range f.Peers {
		if p.Name == "" || len(p.Name) > maxName {
			return fmt.Errorf("peers[%d].name %q: want 1 to %d bytes", i, p.Name, maxName)
		}
		if j, ok := seen[p.PublicKey]; ok || p.PublicKey == (chain.PublicKey{}) {
			return fmt.Errorf("peers[%d].public_key %v: empty, or that of peers[%d]", i, p.PublicKey, j)
		}
		// Anyone could connect as the owner of a weak key.
		if err := p.PublicKey.Validate(); err != nil {
			return fmt.Errorf("peers[%d].public_key %v: %w", i, p.PublicKey, err)
		}
		seen[p.PublicKey] = i
		if p.Address == "" {
			continue
		}
		if _, err := CheckAddress(p.Address); err != nil {
			return fmt.Errorf("peers[%d].address: %w", i, err)
		}
	}
	return nil
}

// TrustedUpTo returns the checkpoint, zero without one.
func (f *File) TrustedUpTo() chain.Checkpoint {
	if f.Checkpoint == nil {
		return chain.Checkpoint{}
	}
	return *f.Checkpoint
}

// Keys returns the keys of all entries.
func (f *File) Keys() []chain.PublicKey {
	keys := make([]chain.PublicKey, len(f.Peers))
	for i, p := range f.Peers {
		keys[i] = p.PublicKey
	}
	return keys
}

// MadeVoteStore reports whether the file says of a node that it has made its vote store.
func (f *File) MadeVoteStore(key chain.PublicKey) bool {
	return slices.ContainsFunc(f.Peers, func(p Entry) bool { return p.PublicKey == key && p.VoteStore })
}

// CheckAddress checks host:port with a numeric port.
func CheckAddress(address string) (port uint64, err error) {
	_, p, err := net.SplitHostPort(address)
	if err == nil {
		port, err = strconv.ParseUint(p, 10, 16)
	}
	if err != nil {
		return 0, fmt.Errorf("address %q: want host:port with a port from 0 to 65535", address)
	}
	return port, nil
}

// interval is how often Watch looks whether the file has changed.
const interval = 2 * time.Second

// Watch calls apply with each new content of the file, until ctx ends. A content that cannot be
// read changes nothing.
func (f *File) Watch(ctx context.Context, apply func(*File), log *slog.Logger) {
	last := f.modified
	for wait.For(ctx, interval) == nil {
		now := modified(f.path)
		if now.Equal(last) {
			continue
		}
		last = now
		file, err := Read(f.path)
		if err != nil {
			log.Error("the peers file changed and cannot be used: what it said before stays in force", "err", err)
			continue
		}
		log.Info("the peers file changed", "peers", len(file.Peers))
		apply(file)
	}
}

func modified(path string) time.Time {
	info, err := os.Stat(path)
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}
