// Package guests decides which peers a node lets in, and which of them it dials.
//
// They are the peers of the peers file and, above the file's checkpoint, the members of both sets
// at the tip: the set that decided the last final block, and the one that decides the next. Below
// the checkpoint the keys of old members may be stolen, and the file alone is trusted.
package guests

import (
	"sync"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/ledger"
	"github.com/diseq/diseq/node/peer"
	"github.com/diseq/diseq/node/peersfile"
)

// List is the list of guests of one node. Its methods may be called from any goroutine.
type List struct {
	self   chain.PublicKey
	ledger *ledger.Ledger
	admit  func([]peer.Peer)

	mu   sync.Mutex
	file *peersfile.File
	// last and open are the sets whose members are on the list: nil below the checkpoint.
	last, open *chain.NextSet
}

// New returns the list of a node with that key. It calls admit with all guests, the node itself
// left out, each time that they change.
func New(self chain.PublicKey, l *ledger.Ledger, file *peersfile.File, admit func([]peer.Peer)) *List {
	g := &List{self: self, ledger: l, admit: admit, file: file}
	g.last, g.open = g.members()
	return g
}

// Read takes over a peers file.
func (g *List) Read(file *peersfile.File) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.file = file
	g.last, g.open = g.members()
	g.admit(g.peers())
}

// Advance follows the chain. It is called for each final block.
func (g *List) Advance() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if last, open := g.members(); last != g.last || open != g.open {
		g.last, g.open = last, open
		g.admit(g.peers())
	}
}

// Peers returns all guests.
func (g *List) Peers() []peer.Peer {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.peers()
}

// File returns the peers file that was read last.
func (g *List) File() *peersfile.File {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.file
}

// Checkpoint returns that of the peers file, zero without one.
func (g *List) Checkpoint() chain.Checkpoint {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.file.TrustedUpTo()
}

// members returns the set that decided the last final block and the one above it.
func (g *List) members() (last, open *chain.NextSet) {
	height := g.ledger.Height()
	if height < g.file.TrustedUpTo().Height {
		return nil, nil
	}
	last, _ = g.ledger.Sets().Named(height)
	open, _ = g.ledger.Sets().Named(height + 1)
	return last, open
}

// peers returns those of the file, and the members without an entry: no address is known of them.
func (g *List) peers() []peer.Peer {
	out, known := Named(g.file, g.self), map[chain.PublicKey]bool{g.self: true}
	for _, p := range out {
		known[p.Key] = true
	}
	for _, set := range []*chain.NextSet{g.open, g.last} {
		if set == nil {
			continue
		}
		for _, v := range set.Validators {
			if !known[v.PublicKey] {
				known[v.PublicKey] = true
				out = append(out, peer.Peer{Key: v.PublicKey, Name: v.Name})
			}
		}
	}
	return out
}

// Named returns the peers of a file, without the node itself.
func Named(file *peersfile.File, self chain.PublicKey) []peer.Peer {
	out := make([]peer.Peer, 0, len(file.Peers))
	for _, p := range file.Peers {
		if p.PublicKey != self {
			out = append(out, peer.Peer{Key: p.PublicKey, Name: p.Name, Address: p.Address})
		}
	}
	return out
}
