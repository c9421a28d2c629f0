package mempool

import "github.com/diseq/diseq/node/chain"

// batchMessages is where the first message begins in the encoding of a batch: behind author,
// incarnation, number and count.
const batchMessages = 32 + 8 + 8 + 4

// runs gathers where the messages of a block are, as runs within batches.
type runs struct {
	sources []chain.Source
	// last is the batch of the newest run, and next the message behind the run.
	last *entry
	next int
}

// add appends the next message of the block: message i of a batch, which is nil if the message is
// in none. A batch that is not stored counts as none.
func (r *runs) add(e *entry, i int) {
	if e != nil && !e.stored {
		e = nil
	}
	if n := len(r.sources); n > 0 && e == r.last && (e == nil || i == r.next) {
		r.sources[n-1].Count++
		r.next++
		return
	}
	s := chain.Source{Count: 1}
	if e != nil {
		s.Batch, s.Offset = e.hash, e.offset(i)
	}
	r.sources = append(r.sources, s)
	r.last, r.next = e, i+1
}

// offset returns where message i begins in the encoding of the batch.
func (e *entry) offset(i int) int {
	if i == 0 {
		return batchMessages
	}
	// Computed once: a batch may be taken in as many runs as it has messages.
	if e.offsets == nil {
		e.offsets = make([]uint32, len(e.messages))
		at := uint32(batchMessages)
		for j := range e.messages {
			e.offsets[j] = at
			at += uint32(e.messages[j].Size())
		}
	}
	return int(e.offsets[i])
}
