package node

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/internal/wait"
	"github.com/diseq/diseq/node/internal/yamlfile"
	"github.com/diseq/diseq/node/peer"
)

// PeerEntry is a peer as the peers file shows it.
type PeerEntry struct {
	Name      string          `json:"name"`
	PublicKey chain.PublicKey `json:"public_key"`
	// Address is the host:port of the peer's peer listener; empty for one that is only let in.
	Address string `json:"address,omitempty"`
	// VoteStore says that the peer has made its vote store. It never makes one again: in the
	// node's own entry, this overrides CreateVoteStore.
	VoteStore bool `json:"vote_store,omitempty"`
}

// PeersFile is the peers file, JSON or YAML. It may name the node itself, so that all nodes can
// share one.
type PeersFile struct {
	Peers []PeerEntry `json:"peers"`
}

// maxPeers bounds the peers file.
const maxPeers = 1000

// LoadPeers reads a peers file; the node leaves out itself.
func LoadPeers(path string, self chain.PublicKey) ([]peer.Peer, error) {
	entries, err := readPeers(path)
	if err != nil {
		return nil, err
	}
	out := make([]peer.Peer, 0, len(entries))
	for _, p := range entries {
		if p.PublicKey != self {
			out = append(out, peer.Peer{Key: p.PublicKey, Name: p.Name, Address: p.Address})
		}
	}
	return out, nil
}

// madeVoteStore reports whether the peers file says of the node itself that it has made its vote
// store.
func madeVoteStore(path string, self chain.PublicKey) (bool, error) {
	entries, err := readPeers(path)
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(entries, func(p PeerEntry) bool { return p.PublicKey == self && p.VoteStore }), nil
}

// readPeers reads a peers file and checks every entry.
func readPeers(path string) ([]PeerEntry, error) {
	raw, err := yamlfile.Read(path)
	if err != nil {
		return nil, fmt.Errorf("peers: %w", err)
	}
	var file PeersFile
	if err := yamlfile.Unmarshal(raw, &file); err != nil {
		return nil, fmt.Errorf("peers %s: %w", path, err)
	}
	if len(file.Peers) > maxPeers {
		return nil, fmt.Errorf("peers %s: %d peers, allowed are %d", path, len(file.Peers), maxPeers)
	}
	seen := map[chain.PublicKey]int{}
	for i, p := range file.Peers {
		if p.Name == "" || len(p.Name) > 63 {
			return nil, fmt.Errorf("peers %s: peers[%d].name %q: want 1 to 63 bytes", path, i, p.Name)
		}
		if j, ok := seen[p.PublicKey]; ok || p.PublicKey == (chain.PublicKey{}) {
			return nil, fmt.Errorf("peers %s: peers[%d].public_key %v: empty, or that of peers[%d]", path, i, p.PublicKey, j)
		}
		seen[p.PublicKey] = i
		if p.Address != "" {
			if _, err := checkAddress(p.Address); err != nil {
				return nil, fmt.Errorf("peers %s: peers[%d].address: %w", path, i, err)
			}
		}
	}
	return file.Peers, nil
}

// peersInterval is how often the node looks whether the peers file has changed.
const peersInterval = 2 * time.Second

// watchPeers applies changes of the peers file without a restart, until ctx ends. A file that
// cannot be read changes nothing.
func watchPeers(ctx context.Context, path string, self chain.PublicKey, apply func([]peer.Peer), log *slog.Logger) {
	last := modified(path)
	for wait.For(ctx, peersInterval) == nil {
		now := modified(path)
		if now.Equal(last) {
			continue
		}
		last = now
		peers, err := LoadPeers(path, self)
		if err != nil {
			log.Error("the peers file changed and cannot be used: the peers stay as they were", "err", err)
			continue
		}
		log.Info("the peers file changed", "peers", len(peers))
		apply(peers)
	}
}

func modified(path string) time.Time {
	info, err := os.Stat(path)
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}
