package voter

import (
	"sync"

	"github.com/diseq/diseq/node/chain"
)

// prepared keeps the blocks of the height being decided that this node built or found valid, with
// their messages: commit takes them from here, and peers fetch them.
type prepared struct {
	mu     sync.Mutex
	height uint64
	blocks map[chain.Hash]*preparedBlock
	order  []chain.Hash
}

// preparedBlock is a block with its messages and their ids.
type preparedBlock struct {
	block    *chain.Block
	messages []chain.Message
	ids      []chain.Hash
}

// maxPrepared bounds the blocks kept of a height. Each is the proposal of a round's leader, so
// there are few.
const maxPrepared = 64

func (p *prepared) put(b *preparedBlock) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if h := b.block.Header.Height; h != p.height {
		if h < p.height {
			return
		}
		p.height, p.blocks, p.order = h, map[chain.Hash]*preparedBlock{}, nil
	}
	hash := b.block.Hash()
	if p.blocks[hash] != nil {
		return
	}
	if len(p.order) >= maxPrepared {
		delete(p.blocks, p.order[0])
		p.order = p.order[1:]
	}
	p.blocks[hash] = b
	p.order = append(p.order, hash)
}

func (p *prepared) get(hash chain.Hash) *preparedBlock {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.blocks[hash]
}
