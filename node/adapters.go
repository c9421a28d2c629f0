package node

import (
	"context"
	"time"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/peer"
)

// network is the transport as the rooms use it.
type network struct {
	*peer.Transport
	set  *chain.ValidatorSet
	self chain.PublicKey
}

// Batches fetches batches from a peer, as many as one request may ask for.
func (n *network) Batches(ctx context.Context, from chain.PublicKey, hashes []chain.Hash, yield func(chain.Hash, []byte) error) error {
	return n.Transport.Batches(ctx, from, hashes[:min(len(hashes), peer.MaxFetchBatches)], yield)
}

// linked returns the number of other validators to which there is a link.
func (n *network) linked() int {
	count := 0
	for _, key := range n.Connected() {
		if n.set.Index(key) >= 0 {
			count++
		}
	}
	return count
}

// recently is for how long a validator counts as heard from after its last message.
const recently = 5 * time.Second

// headroom returns the number of validators that are connected or were heard from recently, this one
// included, minus the threshold.
func (n *network) headroom() int {
	heard := 0
	if n.set.Index(n.self) >= 0 {
		heard++
	}
	for _, p := range n.Peers() {
		if n.set.Index(p.Key) >= 0 && (p.Up || time.Since(p.LastHeard) < recently) {
			heard++
		}
	}
	return heard - int(n.set.Threshold)
}

// replicator pushes the pool's batches to the peers. A batch for which a peer has no room is pushed
// again later.
type replicator struct{ *peer.Transport }

// Push queues a batch for every peer.
func (r replicator) Push(hash chain.Hash, encoded []byte) { r.PushBatch(hash, encoded) }

// names are the validators' names, from the genesis document.
type names map[chain.PublicKey]string

// of returns a peer's name, or the start of its key if it is no validator.
func (n names) of(key chain.PublicKey) string {
	if name, ok := n[key]; ok {
		return name
	}
	return key.String()[:16]
}
