package node

import (
	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/guests"
	"github.com/diseq/diseq/node/peer"
	"github.com/diseq/diseq/node/peersfile"
)

// PeersFile is the peers file.
type PeersFile = peersfile.File

// PeerEntry is an entry of the peers file.
type PeerEntry = peersfile.Entry

// LoadPeers reads a peers file; the node leaves out itself.
func LoadPeers(path string, self chain.PublicKey) ([]peer.Peer, error) {
	file, err := peersfile.Read(path)
	if err != nil {
		return nil, err
	}
	return guests.Named(file, self), nil
}
