package store

import (
	"slices"
	"sync"

	"github.com/diseq/diseq/node/chain"
)

// A waiting batch is in the log and not taken by a block.
type waiting struct {
	hash chain.Hash
	// position is of the batch's record in the log, length that of the record's content.
	position int64
	length   int
	// leaving is set while the transaction that takes the batch is under way, gone once it is on
	// disk.
	leaving, gone bool
}

// pending are the batches that wait, in the order of their positions.
type pending struct {
	mu     sync.Mutex
	byHash map[chain.Hash]*waiting
	order  []*waiting
	gone   int // of order
}

func newPending() *pending { return &pending{byHash: map[chain.Hash]*waiting{}} }

// add takes in a batch, unless one with its hash waits already.
func (p *pending) add(w *waiting) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.byHash[w.hash] != nil {
		return
	}
	p.byHash[w.hash] = w
	p.order = append(p.order, w)
}

// new returns those of batches that do not wait yet.
func (p *pending) new(batches []chain.StoredBatch) []chain.StoredBatch {
	p.mu.Lock()
	defer p.mu.Unlock()
	known := func(b chain.StoredBatch) bool { return p.byHash[b.Hash] != nil }
	if !slices.ContainsFunc(batches, known) {
		return batches
	}
	return slices.DeleteFunc(slices.Clone(batches), known)
}

// place returns the position and the length of a batch's record.
func (p *pending) place(hash chain.Hash) (position int64, length int, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.byHash[hash]
	if w == nil {
		return 0, 0, false
	}
	return w.position, w.length, true
}

// leave marks the batches with these hashes, as far as they wait, and returns them.
func (p *pending) leave(hashes []chain.Hash) (leaving []*waiting) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, hash := range hashes {
		if w := p.byHash[hash]; w != nil && !w.leaving {
			w.leaving = true
			leaving = append(leaving, w)
		}
	}
	return leaving
}

// stay undoes leave.
func (p *pending) stay(leaving []*waiting) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, w := range leaving {
		w.leaving = false
	}
}

// remove drops batches that left.
func (p *pending) remove(left []*waiting) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, w := range left {
		delete(p.byHash, w.hash)
		w.gone = true
	}
	p.gone += len(left)
	first := 0
	for first < len(p.order) && p.order[first].gone {
		p.order[first] = nil
		first++
	}
	p.order, p.gone = p.order[first:], p.gone-first
	if p.gone*2 > len(p.order) {
		p.order, p.gone = slices.DeleteFunc(p.order, func(w *waiting) bool { return w.gone }), 0
	}
}

// oldest returns the position of the oldest batch that waits and does not leave, or end if there is
// none below it.
func (p *pending) oldest(end int64) int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, w := range p.order {
		if !w.leaving && !w.gone {
			return min(w.position, end)
		}
	}
	return end
}

// all returns the batches that wait.
func (p *pending) all() []waiting {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make([]waiting, 0, len(p.order)-p.gone)
	for _, w := range p.order {
		if !w.gone {
			out = append(out, *w)
		}
	}
	return out
}
