package node

import (
	"context"
	"time"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/internal/disk"
)

// poolReplicator pushes the pool's batches to the peers.
type poolReplicator struct{ n *Node }

// Push queues a batch for every peer. For whom there is no room it is pushed again later.
func (r poolReplicator) Push(hash chain.Hash, encoded []byte) { r.n.transport.PushBatch(hash, encoded) }

// freeDisk returns what measures the free space, in bytes, of the disk that a directory is on.
func freeDisk(dir string) func() (uint64, error) {
	return func() (uint64, error) { return disk.Free(dir) }
}

// repushInterval is how often batches that a peer refused, or that found no room on the way, are
// pushed again.
const repushInterval = time.Second

func (n *Node) repush(ctx context.Context) {
	t := time.NewTicker(repushInterval)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		if !n.pool.HasPending() {
			continue
		}
		for _, p := range n.transport.Peers() {
			if p.Up {
				n.pushes.start(p.Key, repushInterval)
			}
		}
	}
}
