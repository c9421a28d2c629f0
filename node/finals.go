package node

import (
	"context"
	"sync"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/store"
)

// finals gives access to final blocks, the newest from memory: streams, receipts and the trie all
// read them just after they were written.
type finals struct {
	store *store.Store

	mu      sync.Mutex
	blocks  map[uint64]finalBlock
	heights map[chain.Hash]uint64
	oldest  uint64
	bytes   int
}

// finalBlock is a final block with the ids of its messages.
type finalBlock struct {
	*chain.FinalBlock
	ids []chain.Hash
}

// maxFinalsBytes bounds the messages held in memory.
const maxFinalsBytes = 24 << 20

// maxFinalsCount bounds the blocks held in memory.
const maxFinalsCount = 512

func newFinals(s *store.Store) *finals {
	return &finals{store: s, blocks: map[uint64]finalBlock{}, heights: map[chain.Hash]uint64{}}
}

func blockSize(b *chain.FinalBlock) int {
	n := 0
	for _, m := range b.Messages {
		n += m.Size()
	}
	return n
}

// put holds the newest final block and lets the oldest ones go.
func (f *finals) put(hash chain.Hash, b *chain.FinalBlock, ids []chain.Hash) {
	f.mu.Lock()
	defer f.mu.Unlock()
	h := b.Header.Height
	if len(f.blocks) == 0 {
		f.oldest = h
	}
	f.blocks[h], f.heights[hash] = finalBlock{b, ids}, h
	f.bytes += blockSize(b)
	for len(f.blocks) > 1 && (f.bytes > maxFinalsBytes || len(f.blocks) > maxFinalsCount) {
		old := f.blocks[f.oldest]
		f.bytes -= blockSize(old.FinalBlock)
		delete(f.blocks, f.oldest)
		delete(f.heights, old.Hash())
		f.oldest++
	}
}

// block returns a final block. Its certificate is the one that made it final; the store may hold a
// stronger one by now.
func (f *finals) block(ctx context.Context, height uint64) (*chain.FinalBlock, error) {
	f.mu.Lock()
	b, ok := f.blocks[height]
	f.mu.Unlock()
	if ok {
		return b.FinalBlock, nil
	}
	return f.store.Block(ctx, height)
}

// withIDs returns a final block with the ids of its messages.
func (f *finals) withIDs(ctx context.Context, height uint64) (finalBlock, error) {
	f.mu.Lock()
	b, ok := f.blocks[height]
	f.mu.Unlock()
	if ok {
		return b, nil
	}
	stored, err := f.store.Block(ctx, height)
	if err != nil {
		return finalBlock{}, err
	}
	return finalBlock{stored, messageIDs(stored.Messages)}, nil
}

// byHash returns one of the newest final blocks.
func (f *finals) byHash(hash chain.Hash) *chain.FinalBlock {
	f.mu.Lock()
	defer f.mu.Unlock()
	if h, ok := f.heights[hash]; ok {
		return f.blocks[h].FinalBlock
	}
	return nil
}
