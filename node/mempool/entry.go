package mempool

import (
	"bytes"
	"maps"
	"math/bits"
	"slices"
	"time"

	"github.com/diseq/diseq/node/chain"
)

// batchOverhead is the size of an encoded batch without messages (docs/protocol.md, batch): author,
// incarnation, number, count, signature.
const batchOverhead = 32 + 8 + 8 + 4 + 64

// position is a batch's place among those of its author.
type position struct{ incarnation, number uint64 }

func (a position) compare(b position) int {
	switch {
	case a.incarnation < b.incarnation, a.incarnation == b.incarnation && a.number < b.number:
		return -1
	case a == b:
		return 0
	default:
		return 1
	}
}

// nodes is a set of members by their seats.
type nodes [seats / 64]uint64

func (s *nodes) add(i int)      { s[i/64] |= 1 << (i % 64) }
func (s *nodes) has(i int) bool { return s[i/64]&(1<<(i%64)) != 0 }
func (s *nodes) count() int     { return bits.OnesCount64(s[0]) + bits.OnesCount64(s[1]) }

// without takes the members of o away.
func (s *nodes) without(o nodes) {
	for i := range s {
		s[i] &^= o[i]
	}
}

// entry is a batch in the pool. It is first formed (own batches only) and written; once it is
// stored it stands in its author's queue until the last of its messages is final.
type entry struct {
	queue    *queue // its author's
	position position
	slot     uint32
	hash     chain.Hash
	encoded  []byte
	messages []chain.Message
	ids      []chain.Hash
	// offsets are where the messages begin in encoded; nil until that is asked.
	offsets []uint32

	// bytes is the size of all messages, liveBytes and live are of those that are not final. final
	// is nil while none is.
	bytes, liveBytes, live int
	final                  []bool
	// marked counts the messages that the block about to be committed makes final.
	marked int
	// shared says that an id of the batch was elsewhere in the pool, or twice in the batch, at some
	// time. A body with this batch has to be searched for repeats.
	shared bool

	// stored is set once the batch is durable; arrived, sequence, since, the pool's height,
	// sinceTime, the time of the block there, and before, the messages of the author that were
	// ordered, are of that moment. written is closed then, or when writing the batch failed with
	// err.
	stored    bool
	arrived   time.Time
	sequence  uint64
	since     uint64
	sinceTime time.Time
	before    int
	written   chan struct{}
	err       error

	// held says that the batch was here when this node left the set.
	held bool

	// holders are the members, this node not counted, that are known to hold the batch durably. To
	// have pushed it shows nothing of its author, which may still be writing it. acknowledged is
	// closed when they are enough, or when the batch is final; it is nil for batches of other
	// authors.
	holders      nodes
	acknowledged chan struct{}

	// twin is another batch of the same position: the author equivocated.
	twin *entry
	// drained is set when no message is left to order; leaving when the batch's removal from the
	// disk is under way.
	drained, leaving bool
}

func (e *entry) asStored() chain.StoredBatch {
	return chain.StoredBatch{
		Hash: e.hash, Author: e.queue.author, Incarnation: e.position.incarnation, Number: e.position.number, Data: e.encoded,
	}
}

// isFinal reports whether message i is final.
func (e *entry) isFinal(i int) bool { return i < len(e.final) && e.final[i] }

// setFinal takes message i off the messages that are left to order.
func (e *entry) setFinal(i int) {
	if len(e.final) < len(e.ids) {
		// The first, or a batch that is being formed has grown since.
		e.final = append(e.final, make([]bool, len(e.ids)-len(e.final))...)
	}
	e.final[i] = true
	e.live--
	e.liveBytes -= e.messages[i].Size()
}

// ack closes acknowledged, once.
func (e *entry) ack() bool {
	if e.acknowledged == nil {
		return false
	}
	select {
	case <-e.acknowledged:
		return false
	default:
		close(e.acknowledged)
		return true
	}
}

// holeWait is how long a missing number holds up the batches after it. A node that has just started
// does not know which numbers are final, and waits as long: to pass one that is on its way would
// break the order that clients were promised. A block of another leader tells it the number.
const holeWait = 2 * time.Second

// queue has an author's stored batches by position, and the room that the author takes of the pool.
type queue struct {
	author chain.PublicKey
	own    bool // this node's
	// entries includes drained ones, which are dropped when they come to the front or are half of
	// it.
	entries []*entry
	drained int
	// byPosition finds a batch, whether stored or being stored.
	byPosition map[position]*entry
	// bases has, by incarnation, the number that the next one has to follow. None means that no
	// batch is known to be ordered.
	bases map[uint64]uint64
	// bytes and messages are the author's share in use, batches the number of its batches.
	bytes             int64
	messages, batches int
	// ordered counts the author's messages that became final here.
	ordered int
	// heard is when the author last pushed a batch that was not here, arriving the number of them
	// that are being verified or written.
	heard    time.Time
	arriving int
	// equivocated is set once the author was reported for it.
	equivocated bool
	// timer wakes the leader when the wait for the hole before the front is over.
	timer *time.Timer
}

// insert puts a stored batch in its place.
func (q *queue) insert(e *entry) {
	if n := len(q.entries); n == 0 || q.entries[n-1].position.compare(e.position) <= 0 {
		q.entries = append(q.entries, e)
		return
	}
	i, _ := slices.BinarySearchFunc(q.entries, e, func(a, b *entry) int { return a.position.compare(b.position) })
	q.entries = slices.Insert(q.entries, i, e)
}

// drop notes that e, which stands in entries, has drained.
func (q *queue) drop(e *entry) {
	q.drained++
	if front := q.entries[0]; front == e || front.drained || q.drained*2 > len(q.entries) {
		q.compact()
	}
}

func (q *queue) compact() {
	n := 0
	for n < len(q.entries) && q.entries[n].drained {
		q.entries[n] = nil
		n++
	}
	q.entries, q.drained = q.entries[n:], q.drained-n
	if q.drained*2 > len(q.entries) {
		q.entries, q.drained = slices.DeleteFunc(q.entries, func(e *entry) bool { return e.drained }), 0
	}
}

// maxIncarnations bounds the incarnations of an author whose numbers are followed, which are the
// newest.
const maxIncarnations = 64

// orderedTo notes that a block refers to the batch at p: what is missing before it was given up by
// its leader.
func (q *queue) orderedTo(p position) {
	if p.number <= q.bases[p.incarnation] {
		return
	}
	q.bases[p.incarnation] = p.number
	if len(q.bases) > maxIncarnations {
		delete(q.bases, slices.Min(slices.Collect(maps.Keys(q.bases))))
	}
}

// emptied notes that nothing is left to order of the batch at p, though maybe no block refers to
// it: its messages came by other batches. That says nothing about the batches before it.
func (q *queue) emptied(p position) {
	if p.number-1 == q.bases[p.incarnation] {
		q.orderedTo(p)
	}
}

// wait returns how long e has to wait before it may be ordered when its author's last batch of the
// incarnation is number last (0 if there is none): not at all if it is next, late or this node's,
// else until those between had their time to come.
func (e *entry) wait(last uint64, now time.Time) time.Duration {
	if e.position.number-1 <= last || e.queue.own {
		return 0
	}
	return max(0, holeWait-now.Sub(e.arrived))
}

// frontWait returns how long the first batch has to wait.
func (q *queue) frontWait(now time.Time) time.Duration {
	e := q.entries[0]
	return e.wait(q.bases[e.position.incarnation], now)
}

// find returns the batch with that encoding at p.
func (q *queue) find(p position, encoded []byte) *entry {
	for e := q.byPosition[p]; e != nil; e = e.twin {
		if bytes.Equal(e.encoded, encoded) {
			return e
		}
	}
	return nil
}

// add makes e found by its position; crowded reports whether two others are there already.
func (q *queue) add(e *entry) {
	e.twin = q.byPosition[e.position]
	q.byPosition[e.position] = e
}

func (q *queue) crowded(p position) bool {
	e := q.byPosition[p]
	return e != nil && e.twin != nil
}

// remove undoes add.
func (q *queue) remove(e *entry) {
	if first := q.byPosition[e.position]; first != e {
		for ; first != nil; first = first.twin {
			if first.twin == e {
				first.twin = e.twin
			}
		}
	} else if e.twin != nil {
		q.byPosition[e.position] = e.twin
	} else {
		delete(q.byPosition, e.position)
	}
}
