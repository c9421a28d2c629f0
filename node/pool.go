package node

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/mempool"
	"github.com/diseq/diseq/node/store"
)

// poolStorage keeps the pool's batches in the store: the two packages know nothing of each other,
// but mean the same.
type poolStorage struct{ *store.Store }

// AddBatches makes batches durable.
func (s poolStorage) AddBatches(ctx context.Context, batches []mempool.StoredBatch) error {
	rows := make([]store.Batch, len(batches))
	for i, b := range batches {
		rows[i] = store.Batch(b)
	}
	return s.Store.AddBatches(ctx, rows)
}

// PendingBatches calls yield with every batch stored, in the order of their arrival.
func (s poolStorage) PendingBatches(ctx context.Context, yield func(mempool.StoredBatch) error) error {
	return s.Store.PendingBatches(ctx, func(b store.Batch) error { return yield(mempool.StoredBatch(b)) })
}

// poolReplicator pushes the pool's batches to the peers.
type poolReplicator struct{ n *Node }

// Push queues a batch for every peer. For whom there is no room it is pushed again later.
func (r poolReplicator) Push(hash chain.Hash, encoded []byte) { r.n.transport.PushBatch(hash, encoded) }

// freeDisk returns what measures the free space, in bytes, of the disk that a directory is on.
func freeDisk(dir string) func() (uint64, error) {
	return func() (uint64, error) {
		var s unix.Statfs_t
		if err := unix.Statfs(dir, &s); err != nil {
			return 0, fmt.Errorf("free space of %s: %w", dir, err)
		}
		return s.Bavail * uint64(s.Bsize), nil
	}
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
