package peer

import (
	"errors"
	"slices"
	"sync"

	"github.com/diseq/diseq/node/chain"
)

var (
	// ErrLinkDown is returned when there is no link to a peer at the moment, or none to that key at
	// all.
	ErrLinkDown = errors.New("no link to the peer")
	errFull     = errors.New("the peer's queue is full")
)

// itemQueue holds the certificates and votes that wait for one peer. When it is full the oldest
// give way: the newest are worth more, and T_retry sends again what is still of use.
type itemQueue struct {
	maxItems, maxBytes int
	ready              chan struct{} // holds a token if there may be items

	mu    sync.Mutex
	open  bool
	items []item
	bytes int
	// lost counts what gave way, and the times that the queue was closed.
	lost uint64
}

func newItemQueue(s settings) *itemQueue {
	return &itemQueue{maxItems: s.queueItems, maxBytes: s.queueBytes, ready: make(chan struct{}, 1)}
}

// set opens or closes the queue, empty. A closed queue takes nothing: who opens the link says
// everything again.
func (q *itemQueue) set(open bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !open {
		q.lost++
	}
	q.open, q.items, q.bytes = open, nil, 0
}

// losses returns how often anything was lost.
func (q *itemQueue) losses() uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.lost
}

// count goes on counting losses from where the queue of the link before stood.
func (q *itemQueue) count(lost uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.lost = lost
}

// push appends items and returns what had to give way.
func (q *itemQueue) push(items ...item) (dropped []item) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.open || len(items) == 0 {
		return nil
	}
	q.items = append(q.items, items...)
	for _, i := range items {
		q.bytes += len(i.encoded)
	}
	n := 0
	for n < len(q.items)-1 && (len(q.items)-n > q.maxItems || q.bytes > q.maxBytes) {
		q.bytes -= len(q.items[n].encoded)
		n++
	}
	if n > 0 {
		q.lost += uint64(n)
		dropped = slices.Clone(q.items[:n])
		q.items = slices.Delete(q.items, 0, n)
	}
	wake(q.ready)
	return dropped
}

// take removes items of at most size bytes from the front, at least one if there is any.
func (q *itemQueue) take(size int) []item {
	q.mu.Lock()
	defer q.mu.Unlock()
	n, bytes := 0, 0
	for n < min(len(q.items), maxFrameItems) && (n == 0 || bytes+len(q.items[n].encoded) <= size) {
		bytes += len(q.items[n].encoded)
		n++
	}
	taken := slices.Clone(q.items[:n])
	q.items = slices.Delete(q.items, 0, n)
	q.bytes -= bytes
	if len(q.items) > 0 {
		wake(q.ready)
	}
	return taken
}

// pushed is a batch on its way to one peer.
type pushed struct {
	sequence uint64
	hash     chain.Hash
	encoded  []byte
}

// pushWindow holds the batches that wait for one peer or for its acknowledgement. A full window
// takes no more: unlike a vote, a batch does not become useless, so the node has to know that this
// one was not sent.
type pushWindow struct {
	maxBytes, maxCount int
	ready              chan struct{} // holds a token if there may be batches to send

	mu       sync.Mutex
	open     bool
	sequence uint64
	waiting  []*pushed
	held     map[chain.Hash]struct{} // waiting or unacknowledged
	unacked  map[uint64]*pushed
	bytes    int
	room     chan struct{} // closed when there is room again; nil if nobody waits
}

func newPushWindow(s settings) *pushWindow {
	return &pushWindow{maxBytes: s.pushBytes, maxCount: s.pushCount, ready: make(chan struct{}, 1)}
}

// set opens or closes the window, empty, and wakes the callers that wait for room.
func (w *pushWindow) set(open bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.open, w.waiting, w.bytes = open, nil, 0
	w.held, w.unacked = make(map[chain.Hash]struct{}), make(map[uint64]*pushed)
	w.announceRoom()
}

func (w *pushWindow) announceRoom() {
	if w.room != nil {
		close(w.room)
		w.room = nil
	}
}

// offer takes a batch, unless it is under way already. When the window is full it returns errFull
// and a channel that is closed when it is worth another try.
func (w *pushWindow) offer(hash chain.Hash, encoded []byte) (<-chan struct{}, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.open {
		return nil, ErrLinkDown
	}
	if _, ok := w.held[hash]; ok {
		return nil, nil
	}
	if len(w.held) > 0 && (len(w.held) >= w.maxCount || w.bytes+len(encoded) > w.maxBytes) {
		if w.room == nil {
			w.room = make(chan struct{})
		}
		return w.room, errFull
	}
	w.held[hash] = struct{}{}
	w.waiting = append(w.waiting, &pushed{hash: hash, encoded: encoded})
	w.bytes += len(encoded)
	wake(w.ready)
	return nil, nil
}

// next numbers the oldest waiting batch, which is then unacknowledged; nil if none waits.
func (w *pushWindow) next() *pushed {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.waiting) == 0 {
		w.waiting = nil
		return nil
	}
	p := w.waiting[0]
	w.waiting[0], w.waiting = nil, w.waiting[1:]
	w.sequence++
	p.sequence = w.sequence
	w.unacked[p.sequence] = p
	return p
}

// acknowledged makes room; false if no batch of that number is unacknowledged.
func (w *pushWindow) acknowledged(sequence uint64) (chain.Hash, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p, ok := w.unacked[sequence]
	if !ok {
		return chain.Hash{}, false
	}
	delete(w.unacked, sequence)
	delete(w.held, p.hash)
	w.bytes -= len(p.encoded)
	w.announceRoom()
	return p.hash, true
}

func (w *pushWindow) size() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.bytes
}

// wake leaves a token for the one goroutine that waits on c.
func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
