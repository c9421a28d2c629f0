package node

import (
	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/peer"
	"github.com/diseq/diseq/node/peersfile"
)

// PeersFile is the peers file, PeerEntry one of its entries.
type (
	PeersFile = peersfile.File
	PeerEntry = peersfile.Entry
)

// LoadPeers reads a peers file; the node leaves out itself.
func LoadPeers(path string, self chain.PublicKey) ([]peer.Peer, error) {
	file, err := peersfile.Read(path)
	if err != nil {
		return nil, err
	}
	return dialled(file, self), nil
}

// dialled returns the peers of a file, without the node itself.
func dialled(file *peersfile.File, self chain.PublicKey) []peer.Peer {
	out := make([]peer.Peer, 0, len(file.Peers))
	for _, p := range file.Peers {
		if p.PublicKey != self {
			out = append(out, peer.Peer{Key: p.PublicKey, Name: p.Name, Address: p.Address})
		}
	}
	return out
}
