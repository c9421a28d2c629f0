package ledger

import (
	"sync"

	"github.com/diseq/diseq/node/chain"
)

// maxTreeBytes bounds the trees that are kept. The tree of a full block of tiny messages takes half
// a MiB.
const maxTreeBytes = 8 << 20

// trees are the trees of blocks that receipts were made of lately. To compute one takes longer than
// all the rest of a receipt. The zero value is empty.
type trees struct {
	mu      sync.Mutex
	known   map[uint64]*chain.MessageTree
	heights []uint64 // of known, the one that was computed first in front
	bytes   int
}

// of returns the tree of a final block.
func (t *trees) of(f *chain.FinalBlock) *chain.MessageTree {
	height := f.Header.Height
	t.mu.Lock()
	tree := t.known[height]
	t.mu.Unlock()
	if tree != nil {
		return tree
	}
	tree = chain.NewMessageTree(f.Messages)
	t.mu.Lock()
	defer t.mu.Unlock()
	if known := t.known[height]; known != nil {
		return known // another call was faster
	}
	if t.known == nil {
		t.known = map[uint64]*chain.MessageTree{}
	}
	t.known[height] = tree
	t.heights = append(t.heights, height)
	t.bytes += tree.Size()
	for t.bytes > maxTreeBytes {
		oldest := t.heights[0]
		t.heights = t.heights[1:]
		t.bytes -= t.known[oldest].Size()
		delete(t.known, oldest)
	}
	return tree
}
