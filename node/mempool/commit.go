package mempool

import (
	"fmt"
	"slices"
	"time"

	"github.com/diseq/diseq/node/chain"
)

// Removable returns the stored batches that have no message left to order once the messages with
// these ids are final: those that the transaction of their block removes from storage. sources say
// which stored batches have the messages. It changes nothing that a caller can see;
// [Pool.Committed] has to follow when the transaction is durable.
func (p *Pool) Removable(ids []chain.Hash) (removable []chain.Hash, sources []chain.Source) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var runs runs
	var touched []*entry
	mark := func(at place) {
		e := p.pending.slots[at.slot]
		if e.marked++; e.marked == 1 {
			touched = append(touched, e)
		}
	}
	// in is a stored batch that has the message as number index.
	var in *entry
	var index uint32
	visit := func(at place) {
		mark(at)
		if e := p.pending.slots[at.slot]; in == nil && e.stored {
			in, index = e, at.index
		}
	}
	for _, id := range ids {
		in, index = nil, 0
		p.pending.all(id, visit)
		runs.add(in, int(index))
	}
	for _, e := range p.drained {
		e.leaving = true
		removable = append(removable, e.hash)
	}
	for _, e := range touched {
		if e.stored && e.marked == e.live {
			e.leaving = true
			removable = append(removable, e.hash)
		}
		e.marked = 0
	}
	return removable, runs.sources
}

// BorneOut returns a final block without the references to batches that its messages do not bear
// out: to all but those that [Pool.Removable] returned for it. The header does not bind the
// references. A peer that this node catches up from may attach 1 MiB of false ones to each block,
// which would stay on the disk, in memory, and in what this node serves. A block that was decided
// here keeps all of its references, because its messages were compared with them.
func BorneOut(f *chain.FinalBlock, removable []chain.Hash) *chain.FinalBlock {
	known := make(map[chain.Hash]bool, len(removable))
	for _, hash := range removable {
		known[hash] = true
	}
	unknown := func(r chain.BatchRef) bool { return !known[r.Hash] }
	if !slices.ContainsFunc(f.Body, unknown) {
		return f
	}
	kept := *f
	kept.Body = slices.Clip(slices.DeleteFunc(slices.Clone(f.Body), unknown))
	// The messages are parts of the bytes that the references came in, and would keep those alive.
	size := 0
	for _, m := range f.Messages {
		size += len(m.Data)
	}
	data := make([]byte, 0, size)
	kept.Messages = slices.Clone(f.Messages)
	for i, m := range f.Messages {
		data = append(data, m.Data...)
		kept.Messages[i].Data = data[len(data)-len(m.Data) : len(data) : len(data)]
	}
	return &kept
}

// Committed takes note of the next final block, whose header has the time at, whose body is refs
// and whose messages have these ids, in their order. The messages are pending no more, callers that
// wait for them are woken, and batches without a message left are dropped. It is called when the
// block is durable, with each height once and in order, in whatever way the block was obtained, and
// before the index gets the block's messages. The pool keeps ids. The error is [ErrHeight] if
// height is not the next.
func (p *Pool) Committed(height uint64, at time.Time, refs []chain.BatchRef, ids []chain.Hash) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if height != p.height+1 {
		return fmt.Errorf("%w: committed %d, the pool is at %d", ErrHeight, height, p.height)
	}
	defer p.pending.shrink(len(p.pending.first))
	p.height = height
	p.lastCommit, p.lastTime = time.Now(), at
	p.recent.append(recentBlock{height, ids})
	for i, id := range ids {
		s := standing{height, uint32(i)}
		p.recent.note(id, s)
		p.notify(id, s)
		p.pending.take(id, p.ordered)
	}
	// Nothing binds refs to a block that catching up fetched. A batch that the block orders has
	// nothing left to order, so refs to other batches are ignored.
	for _, r := range refs {
		if e := p.byHash[r.Hash]; e != nil && e.live == 0 {
			e.queue.orderedTo(e.position)
		}
	}
	kept := p.drained[:0]
	for _, e := range p.drained {
		if e.leaving {
			p.discard(e)
		} else {
			kept = append(kept, e)
		}
	}
	clear(p.drained[len(kept):])
	p.drained = kept
	for _, q := range p.queues {
		p.arm(q, p.lastCommit)
	}
	p.wakeResolvers()
	return nil
}

// ordered notes that the message at a place is final. The batch is drained with the last: then it
// leaves its queue, and the pool once it is off the disk.
func (p *Pool) ordered(at place) {
	e := p.pending.slots[at.slot]
	e.setFinal(int(at.index))
	e.queue.ordered++
	p.live--
	if e.held {
		p.held--
	}
	if e.live > 0 || !e.stored {
		return
	}
	e.drained = true
	e.ack()
	e.queue.emptied(e.position)
	e.queue.drop(e)
	p.drained = append(p.drained, e)
}

// Indexed says that the index covers the final blocks up to height.
func (p *Pool) Indexed(height uint64) {
	p.mu.Lock()
	covered := slices.Clone(p.recent.blocks[:p.recent.upTo(height)])
	p.mu.Unlock()
	for _, b := range covered {
		p.filter.add(b.ids)
	}
	// A lookup in the index before the block was in it looks in recent before the block is taken
	// off there.
	p.finality.Lock()
	defer p.finality.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.recent.drop(p.recent.upTo(height))
}
