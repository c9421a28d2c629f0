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
	known   map[uint64]*blockTree
	heights []uint64 // of known, the one that was asked for first in front
	bytes   int
}

// blockTree is the tree of a block. All clients that waited for the block ask for it in the same
// moment: the first call computes it, and the others wait for that.
type blockTree struct {
	compute sync.Once
	tree    *chain.MessageTree
	// bytes is the tree's size, which counts once the tree is there.
	bytes int
}

// of returns the tree of a final block.
func (t *trees) of(f *chain.FinalBlock) *chain.MessageTree {
	height := f.Header.Height
	b := t.at(height)
	b.compute.Do(func() {
		b.tree = chain.NewMessageTree(f.Messages)
		t.computed(height, b)
	})
	return b.tree
}

// at returns the place of a block's tree.
func (t *trees) at(height uint64) *blockTree {
	t.mu.Lock()
	defer t.mu.Unlock()
	if b := t.known[height]; b != nil {
		return b
	}
	if t.known == nil {
		t.known = map[uint64]*blockTree{}
	}
	b := new(blockTree)
	t.known[height] = b
	t.heights = append(t.heights, height)
	return b
}

// computed counts a tree, unless it was given up meanwhile, and gives up the oldest ones while all
// take too much.
func (t *trees) computed(height uint64, b *blockTree) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.known[height] != b {
		return
	}
	b.bytes = b.tree.Size()
	t.bytes += b.bytes
	for t.bytes > maxTreeBytes {
		oldest := t.heights[0]
		t.heights = t.heights[1:]
		t.bytes -= t.known[oldest].bytes
		delete(t.known, oldest)
	}
}
