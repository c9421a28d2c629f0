package mempool

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/diseq/diseq/node/chain"
)

// Body is the content of a block: the batches that it refers to, and their messages in order,
// except each one that is final already or comes earlier in the block. IDs has the id of each
// message. All of it is shared with the pool.
type Body struct {
	Refs     []chain.BatchRef
	Messages []chain.Message
	IDs      []chain.Hash
}

// grossBlocks bounds the batches that a body refers to, skipped messages included, in blocks of the
// largest size. Without it a leader could have every validator fetch batches without end whose
// messages are all final.
const grossBlocks = 2

// Select returns the body of a block on top of height parent: the batches that came first to this
// node, those of an author in the order of their numbers, as many as fit in maxBytes, which should
// be the chain's max_block_bytes. It takes time in proportion to the size of the body. The error is
// [ErrHeight] if parent is not the pool's height.
func (p *Pool) Select(parent uint64, maxBytes int) (Body, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if parent != p.height {
		return Body{}, fmt.Errorf("%w: select above %d, the pool is at %d", ErrHeight, parent, p.height)
	}
	maxBytes = min(maxBytes, p.cfg.MaxBlockBytes)
	var chosen []*entry
	bytes, gross, count := 0, 0, 0
	p.oldest(true, func(e *entry) bool {
		bytes += e.liveBytes
		gross += e.bytes
		if bytes > maxBytes || gross > grossBlocks*p.cfg.MaxBlockBytes || len(chosen) == chain.MaxBodyRefs {
			return false
		}
		chosen = append(chosen, e)
		count += e.live
		return true
	})
	return p.body(chosen, count), nil
}

// For how long a batch that a block refers to is waited for before it counts as missing. Mostly its
// author pushed it before the block, and it arrives a moment after. While the author's batches
// arrive, it is likely to be among those behind them: to fetch it as well would double the traffic
// when there is most of it. An author that brings everything but this batch costs pushLimit.
const (
	pushTime  = 30 * time.Millisecond
	pushLimit = 100 * time.Millisecond
)

// Resolve returns the body of a block on top of height parent that has these references. Every node
// that is at parent and holds the batches durably gets the same. A body may name batches of every
// author that is in the set of its height or was in an earlier one.
//
// Resolve waits for batches that are not here, as long as they may be on their way: see pushTime.
// One that is here and not yet durable is waited for without a limit. When the first batch counts
// as missing, or when ctx is done, Resolve returns those that are missing then, each once, without
// a body. The error is [ErrHeight] if the pool's height is or becomes another than parent,
// [ErrBody] if no valid block has such a body, [ErrClosed].
func (p *Pool) Resolve(ctx context.Context, parent uint64, refs []chain.BatchRef) (Body, []chain.BatchRef, error) {
	if len(refs) > chain.MaxBodyRefs {
		return Body{}, nil, fmt.Errorf("%w: %d batches, at most %d allowed", ErrBody, len(refs), chain.MaxBodyRefs)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for began := time.Now(); ; {
		if parent != p.height {
			return Body{}, nil, fmt.Errorf("%w: resolve above %d, the pool is at %d", ErrHeight, parent, p.height)
		}
		if p.closed {
			return Body{}, nil, ErrClosed
		}
		if i := slices.IndexFunc(refs, func(r chain.BatchRef) bool { return !p.ever[r.Author] }); i >= 0 {
			return Body{}, nil, fmt.Errorf("%w: a batch of %v, which is in no set up to this height", ErrBody, refs[i].Author)
		}
		absent := p.absent(refs)
		if len(absent) == 0 {
			body, err := p.resolve(refs)
			return body, nil, err
		}
		if ctx.Err() != nil {
			return Body{}, absent, nil
		}
		missing, next := p.missing(absent, began, time.Now())
		if len(missing) > 0 {
			return Body{}, missing, nil
		}
		p.awaitArrival(ctx, next)
	}
}

// absent returns the references to batches that are not durable here.
func (p *Pool) absent(refs []chain.BatchRef) []chain.BatchRef {
	var absent []chain.BatchRef
	var seen map[chain.BatchRef]bool
	for _, r := range refs {
		if e := p.byHash[r.Hash]; (e == nil || !e.stored) && !seen[r] {
			if seen == nil {
				seen = map[chain.BatchRef]bool{}
			}
			seen[r] = true
			absent = append(absent, r)
		}
	}
	return absent
}

// missing returns those of the absent batches that are not on their way any more, for a wait that
// has begun at a time. If there are none, next is when there may be some, zero for never: then all
// are being written.
func (p *Pool) missing(absent []chain.BatchRef, began, now time.Time) (missing []chain.BatchRef, next time.Time) {
	for _, r := range absent {
		if p.byHash[r.Hash] != nil {
			continue
		}
		until := began.Add(pushTime)
		if q := p.byAuthor[r.Author]; q != nil {
			limit := began.Add(pushLimit)
			if q.arriving > 0 {
				until = limit
			} else if busy := q.heard.Add(pushTime); busy.After(until) {
				until = busy
			}
			if until.After(limit) {
				until = limit
			}
		}
		switch {
		case !until.After(now):
			missing = append(missing, r)
		case next.IsZero() || until.Before(next):
			next = until
		}
	}
	return missing, next
}

// awaitArrival gives the lock back until a batch is stored, a block committed, ctx done, or a time
// has come that is not zero.
func (p *Pool) awaitArrival(ctx context.Context, until time.Time) {
	if p.arrivals == nil {
		p.arrivals = make(chan struct{})
	}
	arrivals := p.arrivals
	var late <-chan time.Time
	if !until.IsZero() {
		timer := time.NewTimer(time.Until(until))
		defer timer.Stop()
		late = timer.C
	}
	p.mu.Unlock()
	defer p.mu.Lock()
	select {
	case <-arrivals:
	case <-late:
	case <-ctx.Done():
	case <-p.done:
	}
}

func (p *Pool) resolve(refs []chain.BatchRef) (Body, error) {
	entries := make([]*entry, 0, len(refs))
	seen := make(map[*entry]bool, len(refs))
	gross, count := 0, 0
	for _, r := range refs {
		e := p.byHash[r.Hash]
		if author := e.queue.author; author != r.Author {
			return Body{}, fmt.Errorf("%w: batch %v is of %v, not of %v", ErrBody, r.Hash, author, r.Author)
		}
		if seen[e] {
			continue
		}
		seen[e] = true
		entries = append(entries, e)
		gross += e.bytes
		count += e.live
	}
	if limit := grossBlocks * p.cfg.MaxBlockBytes; gross > limit {
		return Body{}, fmt.Errorf("%w: batches of %d bytes, at most %d allowed", ErrBody, gross, limit)
	}
	body := p.body(entries, count)
	bytes := 0
	for _, m := range body.Messages {
		bytes += m.Size()
	}
	if bytes > p.cfg.MaxBlockBytes {
		return Body{}, fmt.Errorf("%w: messages of %d bytes, at most %d allowed", ErrBody, bytes, p.cfg.MaxBlockBytes)
	}
	body.Refs = refs
	return body, nil
}

// body lists the count messages that entries have left, less repeats.
func (p *Pool) body(entries []*entry, count int) Body {
	b := Body{
		Refs:     make([]chain.BatchRef, len(entries)),
		Messages: make([]chain.Message, 0, count),
		IDs:      make([]chain.Hash, 0, count),
	}
	// An id that stands once in the pool cannot be repeated: only shared batches are looked at.
	var seen map[chain.Hash]bool
	for i, e := range entries {
		b.Refs[i] = chain.BatchRef{Author: e.queue.author, Hash: e.hash}
		if e.live == len(e.ids) && !e.shared {
			b.Messages = append(b.Messages, e.messages...)
			b.IDs = append(b.IDs, e.ids...)
			continue
		}
		for j, id := range e.ids {
			if e.isFinal(j) || seen[id] {
				continue
			}
			if e.shared {
				if seen == nil {
					seen = map[chain.Hash]bool{}
				}
				seen[id] = true
			}
			b.Messages = append(b.Messages, e.messages[j])
			b.IDs = append(b.IDs, id)
		}
	}
	return b
}

// cursor is how far a walk has come in one author's queue.
type cursor struct {
	next int
	// last is the last position taken.
	last position
	// head is the next batch of the author, nil if there is none that may be taken.
	head *entry
}

// oldest visits the stored batches, the first to come first, each author's in the order of their
// numbers, until visit returns false. With complete set, an author's queue ends at a gap whose wait
// is not over.
func (p *Pool) oldest(complete bool, visit func(*entry) bool) {
	now := time.Now()
	cursors := make([]cursor, len(p.queues))
	advance := func(i int) {
		c, q := &cursors[i], p.queues[i]
		c.head = nil
		for ; c.next < len(q.entries); c.next++ {
			e := q.entries[c.next]
			if e.drained {
				continue
			}
			last := q.bases[e.position.incarnation]
			if c.last.incarnation == e.position.incarnation {
				last = max(last, c.last.number)
			}
			if !complete || e.wait(last, now) == 0 {
				c.head = e
			}
			return
		}
	}
	for i := range cursors {
		advance(i)
	}
	for {
		first, sequence := -1, uint64(math.MaxUint64)
		for i := range cursors {
			if e := cursors[i].head; e != nil && e.sequence < sequence {
				first, sequence = i, e.sequence
			}
		}
		if first < 0 || !visit(cursors[first].head) {
			return
		}
		c := &cursors[first]
		c.last = c.head.position
		c.next++
		advance(first)
	}
}

// Pending returns the oldest pending messages, at most limit and with at most maxBytes of data in
// all.
func (p *Pool) Pending(limit, maxBytes int) []chain.Message {
	p.mu.Lock()
	defer p.mu.Unlock()
	var messages []chain.Message
	seen := map[chain.Hash]bool{}
	p.oldest(false, func(e *entry) bool {
		for i, id := range e.ids {
			if e.isFinal(i) || seen[id] {
				continue
			}
			m := e.messages[i]
			if len(messages) == limit || len(m.Data) > maxBytes {
				return false
			}
			seen[id] = true
			maxBytes -= len(m.Data)
			messages = append(messages, m)
		}
		return true
	})
	return messages
}
