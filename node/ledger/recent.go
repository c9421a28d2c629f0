package ledger

import (
	"sync"

	"github.com/diseq/diseq/node/chain"
)

// recent keeps the newest final blocks in memory: streams, receipts and the trie all read them just
// after they were written.
type recent struct {
	mu     sync.Mutex
	blocks map[uint64]Identified
	// stronger has the finalizations that came after the blocks, with more votes.
	stronger map[uint64]*chain.Certificate
	oldest   uint64
	bytes    int
}

// Identified is a final block with the ids of its messages.
type Identified struct {
	*chain.FinalBlock
	IDs []chain.Hash
}

const (
	// maxRecentBytes bounds the messages kept in memory.
	maxRecentBytes = 24 << 20
	// maxRecentBlocks bounds the blocks kept in memory.
	maxRecentBlocks = 512
)

func newRecent() *recent {
	return &recent{blocks: map[uint64]Identified{}, stronger: map[uint64]*chain.Certificate{}}
}

func blockSize(b *chain.FinalBlock) int {
	n := 0
	for _, m := range b.Messages {
		n += m.Size()
	}
	return n
}

// put adds the newest final block and drops the oldest ones.
func (r *recent) put(b *chain.FinalBlock, ids []chain.Hash) {
	r.mu.Lock()
	defer r.mu.Unlock()
	h := b.Header.Height
	if len(r.blocks) == 0 {
		r.oldest = h
	}
	r.blocks[h] = Identified{b, ids}
	r.bytes += blockSize(b)
	for len(r.blocks) > 1 && (r.bytes > maxRecentBytes || len(r.blocks) > maxRecentBlocks) {
		r.bytes -= blockSize(r.blocks[r.oldest].FinalBlock)
		delete(r.blocks, r.oldest)
		delete(r.stronger, r.oldest)
		r.oldest++
	}
}

func (r *recent) block(height uint64) (Identified, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	b, ok := r.blocks[height]
	return b, ok
}

// certificate returns the strongest finalization of a block that is kept, or nil.
func (r *recent) certificate(height uint64) *chain.Certificate {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.stronger[height]; c != nil {
		return c
	}
	if b, ok := r.blocks[height]; ok {
		return &b.Certificate
	}
	return nil
}

// strengthen keeps a finalization of a block that is kept, if it has more votes for that block.
func (r *recent) strengthen(c *chain.Certificate) {
	r.mu.Lock()
	defer r.mu.Unlock()
	b, ok := r.blocks[c.Height]
	if !ok || b.Certificate.Block != c.Block {
		return
	}
	strongest := &b.Certificate
	if held := r.stronger[c.Height]; held != nil {
		strongest = held
	}
	if len(c.Votes) > len(strongest.Votes) {
		r.stronger[c.Height] = c
	}
}
