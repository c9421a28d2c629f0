package node

import (
	"context"
	"time"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/internal/patient"
	"github.com/diseq/diseq/node/internal/repair"
	"github.com/diseq/diseq/node/internal/trace"
	"github.com/diseq/diseq/node/peer"
	"github.com/diseq/diseq/node/verify"
)

// network is the transport as the rooms use it.
type network struct {
	*peer.Transport
	self     chain.PublicKey
	verifier *verify.Verifier
	traces   *trace.Tracer
}

// Broadcast sends a bundle to every peer.
func (n *network) Broadcast(b *chain.Bundle) {
	n.verifier.Signed(n.self, b.Votes)
	n.Transport.Broadcast(b)
	n.traces.Sent(b)
}

// Batches fetches batches from a peer, as many as one request may ask for.
func (n *network) Batches(ctx context.Context, from chain.PublicKey, hashes []chain.Hash, yield func(chain.Hash, []byte) error) error {
	return n.Transport.Batches(ctx, from, hashes[:min(len(hashes), peer.MaxFetchBatches)], yield)
}

// recently is for how long a validator counts as heard from after its last message.
const recently = 5 * time.Second

// headroom returns the number of a set's validators that are connected or were heard from recently,
// this one included, minus the threshold.
func (n *network) headroom(set *chain.ValidatorSet) int {
	heard := n.Heard(set, recently)
	if set.Index(n.self) >= 0 {
		heard++
	}
	return heard - int(set.Threshold)
}

// present returns those of the peers that push their batches themselves: connected on either way,
// and heard from recently. A peer whose machine froze keeps its connections for a while.
func present(peers []peer.PeerInfo) map[chain.PublicKey]bool {
	there := map[chain.PublicKey]bool{}
	for _, p := range peers {
		if (p.Up || p.Inbound) && time.Since(p.LastHeard) < recently {
			there[p.Key] = true
		}
	}
	return there
}

// finals are the final blocks as the ledger uses them: writes wait for space on the disk, and reads
// for a copy of a block that is damaged.
type finals struct {
	patient.Store
	*repair.Blocks
}

// replicator pushes the pool's batches to the peers. A batch for which a peer has no room is pushed
// again later.
type replicator struct{ *peer.Transport }

// Push queues a batch for every peer.
func (r replicator) Push(hash chain.Hash, encoded []byte) { r.PushBatch(hash, encoded) }
