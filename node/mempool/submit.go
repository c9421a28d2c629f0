package mempool

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/diseq/diseq/node/chain"
)

// The size of this node's batches. A message that is larger is a batch of its own.
const (
	maxBatchBytes    = 512 << 10
	maxBatchMessages = 8192
)

// Submit accepts all of messages or none, and returns the state of each: pending from now on,
// pending already, or final before. When it returns nil, the pending messages are durable on this
// node's disk. They are durable on those of Config.Acknowledgements peers as well, unless too few
// answer in time (see Config.AckWait). The pool keeps the messages: their data must not be changed
// any more.
//
// A node that left the set a moment ago still accepts messages, and returns only once they are
// final: its disk may be deleted, and members that acknowledge may be about to leave, too.
//
// Errors: [ErrEmpty], [EmptyError], [TooLargeError], [ErrTooMany], [FullError], [ErrStorageLow],
// [ErrAuthor], [ErrLeft], [ErrClosed], those of Storage and Index. When ctx ends first its error is
// returned. After that and after [ErrLeft], the messages may or may not have been accepted.
func (p *Pool) Submit(ctx context.Context, messages []chain.Message) ([]Result, error) {
	return p.SubmitThen(ctx, messages, func() {})
}

// SubmitThen is Submit, and calls kept once the messages that the pool keeps count in its bounds,
// and none of the others is needed any more: what follows is the wait for disks.
func (p *Pool) SubmitThen(ctx context.Context, messages []chain.Message, kept func()) ([]Result, error) {
	err := p.validate(messages)
	if err != nil {
		p.metrics.reject(err)
		return nil, err
	}
	ids := chain.IDs(messages)
	results, awaited, member, err := p.accept(messages, ids)
	if err != nil {
		p.metrics.reject(err)
		return nil, err
	}
	kept()
	for _, e := range awaited {
		select {
		case <-e.written:
			if e.err != nil {
				p.metrics.reject(e.err)
				return nil, fmt.Errorf("mempool: store a batch: %w", e.err)
			}
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if !member {
		return p.awaitFinal(ctx, ids)
	}
	return results, p.awaitPeers(ctx, awaited)
}

// leaverWait bounds the wait of a node that left until messages are final.
const leaverWait = 10 * time.Second

// awaitFinal returns once all messages are final.
func (p *Pool) awaitFinal(ctx context.Context, ids []chain.Hash) ([]Result, error) {
	waiting, cancel := context.WithTimeout(ctx, leaverWait)
	defer cancel()
	results, err := p.Wait(waiting, ids)
	if err != nil && waiting.Err() != nil && ctx.Err() == nil {
		err = ErrLeft
		p.metrics.reject(err)
	}
	if err != nil {
		return nil, err
	}
	return results, nil
}

// validate checks messages as far as the limits go, without looking at the pool.
func (p *Pool) validate(messages []chain.Message) error {
	now := p.limits.Load()
	if !now.accepts() {
		return errObserver
	}
	if len(messages) == 0 {
		return ErrEmpty
	}
	size := 0
	for i, m := range messages {
		if len(m.Data) == 0 {
			return &EmptyError{Index: i}
		}
		if len(m.Data) > p.cfg.MaxMessageBytes {
			return &TooLargeError{Index: i, Size: len(m.Data), Limit: p.cfg.MaxMessageBytes}
		}
		size += len(m.Data)
	}
	if len(messages) > MaxSubmitMessages || size > MaxSubmitBytes {
		return fmt.Errorf("%w: at most %d messages and %d bytes are accepted", ErrTooMany, MaxSubmitMessages, MaxSubmitBytes)
	}
	if n := len(messages); n > now.shareMessages || p.taken(n, size+8*n) > now.shareBytes {
		return fmt.Errorf("%w: it exceeds this node's share of the pool (at most %d messages and %d bytes)",
			ErrTooMany, now.shareMessages, now.shareBytes)
	}
	return p.space.check()
}

// Leaving reports whether this node left the set a moment ago and still accepts messages.
func (p *Pool) Leaving() bool {
	now := p.limits.Load()
	return !now.member && now.accepts()
}

// Accepting returns nil if clients should submit to this node while there is room in the pool, else
// why they should not: [ErrAuthor] on an observer, [ErrStorageLow].
func (p *Pool) Accepting() error {
	if !p.limits.Load().member {
		return ErrAuthor
	}
	return p.space.writable()
}

// Own returns how many bytes the messages of this node's clients take of its share of the pool.
func (p *Pool) Own() (used, share int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.own.bytes, p.shareBytes
}

// accept puts the new ones of messages into the batches being formed. It returns the batches that
// have to be durable before the submission may be answered, and whether this node is a member.
func (p *Pool) accept(messages []chain.Message, ids []chain.Hash) (results []Result, awaited []*entry, member bool, err error) {
	p.finality.RLock()
	defer p.finality.RUnlock()
	known, err := p.lookup(ids)
	if err != nil {
		return nil, nil, false, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, nil, false, ErrClosed
	}
	if !p.limits.Load().accepts() { // it has left since validate
		return nil, nil, false, errObserver
	}
	if !p.fits(messages, ids, known) {
		return nil, nil, false, &FullError{RetryAfter: p.retryAfter()}
	}
	results = make([]Result, len(messages))
	accepted := 0
	for i, id := range ids {
		if s, ok := p.final(id, i, known); ok {
			results[i] = Result{id, Final, s.height, s.index}
			continue
		}
		results[i] = Result{ID: id, State: Pending}
		e := p.vouching(id)
		if e == nil {
			e = p.form(messages[i], id, len(messages)-i)
			accepted++
		}
		// Consecutive messages are mostly in the same batch.
		if (!e.stored || e.queue == p.own) && (len(awaited) == 0 || awaited[len(awaited)-1] != e) && !slices.Contains(awaited, e) {
			awaited = append(awaited, e)
		}
	}
	p.metrics.accepted.Add(float64(accepted))
	p.metrics.known.Add(float64(len(messages) - accepted))
	if accepted > 0 {
		p.gathered++
		select {
		case p.formed <- struct{}{}:
		default:
		}
	}
	return results, awaited, p.member, nil
}

// fits reports whether this node's share has room for the new ones of messages, and this node time.
func (p *Pool) fits(messages []chain.Message, ids []chain.Hash, known map[int]standing) bool {
	q := p.own
	overloaded := p.overloaded(time.Now())
	fits := func(n, bytes int) bool {
		return !overloaded && q.messages+n <= p.shareMessages && q.bytes+p.taken(n, bytes) <= p.shareBytes
	}
	bytes := 0
	for _, m := range messages {
		bytes += m.Size()
	}
	if fits(len(messages), bytes) {
		return true
	}
	// A known message takes no room.
	fresh := make(map[chain.Hash]struct{})
	bytes = 0
	for i, id := range ids {
		if _, ok := p.final(id, i, known); ok || p.vouching(id) != nil {
			continue
		}
		if _, ok := fresh[id]; !ok {
			fresh[id] = struct{}{}
			bytes += messages[i].Size()
		}
	}
	return len(fresh) == 0 || fits(len(fresh), bytes)
}

// spareBatches are the batches that a submission may begin beyond those that it fills.
const spareBatches = 2

// taken returns the most room that n messages of so many bytes take of the pool. Two consecutive
// batches hold more than one may.
func (p *Pool) taken(n, bytes int) int64 {
	return int64(bytes) + int64(spareBatches+2*bytes/p.batchBytes()+n/maxBatchMessages)*batchOverhead
}

func (p *Pool) batchBytes() int { return min(maxBatchBytes, p.cfg.MaxBlockBytes) }

// retryAfter is short while blocks are being made: each makes room.
func (p *Pool) retryAfter() time.Duration {
	if time.Since(p.lastCommit) < 5*time.Second {
		return time.Second
	}
	return 5 * time.Second
}

// vouching returns a batch that holds the message of that id safely: one of this node's, or one
// that as many peers hold as would have to acknowledge this node's. If there is none, the message
// goes into a batch of this node too, and the order skips the repeat.
func (p *Pool) vouching(id chain.Hash) *entry {
	var found *entry
	p.pending.all(id, func(at place) {
		if e := p.pending.slots[at.slot]; found == nil && p.vouches(e) {
			found = e
		}
	})
	return found
}

func (p *Pool) vouches(e *entry) bool {
	return e.queue == p.own || e.holders.count() >= p.needed()
}

// form appends a message to the newest batch being formed, or begins one for so many.
func (p *Pool) form(m chain.Message, id chain.Hash, expected int) *entry {
	var e *entry
	if n := len(p.forming); n > 0 {
		e = p.forming[n-1]
	}
	if e == nil || len(e.ids) == maxBatchMessages || e.bytes+m.Size() > p.batchBytes() {
		expected = min(expected, maxBatchMessages, 1+p.batchBytes()/m.Size())
		e = &entry{
			queue: p.own, written: make(chan struct{}), acknowledged: make(chan struct{}),
			messages: make([]chain.Message, 0, expected), ids: make([]chain.Hash, 0, expected),
		}
		p.pending.takeSlot(e)
		p.forming = append(p.forming, e)
		p.charge(p.own, 0, batchOverhead, 1)
	}
	e.messages = append(e.messages, m)
	e.ids = append(e.ids, id)
	p.pending.add(e, len(e.ids)-1, id)
	size := m.Size()
	e.bytes += size
	e.liveBytes += size
	e.live++
	p.live++
	if e.held {
		p.held++
	}
	p.charge(p.own, 1, int64(size), 0)
	return e
}

// ackWaits is how many times Config.AckWait a submission waits for peers that there is a link to.
const ackWaits = 10

// awaitPeers waits until enough peers hold the batches: for Config.AckWait after they were stored,
// and again as long as there are links to as many peers, which then are only slow.
func (p *Pool) awaitPeers(ctx context.Context, awaited []*entry) error {
	for _, e := range awaited {
		if e.acknowledged == nil { // of another author
			continue
		}
		for round := time.Duration(1); ; round++ {
			err := p.awaitAcknowledgement(ctx, e, round*p.cfg.AckWait-time.Since(e.arrived))
			if err == nil {
				break
			}
			if !errors.Is(err, errSlow) {
				return err
			}
			if round == ackWaits || p.cfg.Linked == nil || p.cfg.Linked() < p.acknowledgements() {
				p.metrics.unacknowledged.Inc()
				break
			}
		}
	}
	return nil
}

var errSlow = errors.New("not acknowledged in time")

func (p *Pool) awaitAcknowledgement(ctx context.Context, e *entry, left time.Duration) error {
	select {
	case <-e.acknowledged:
		return nil
	default:
	}
	timer := time.NewTimer(left)
	defer timer.Stop()
	select {
	case <-e.acknowledged:
	case <-timer.C:
		return errSlow
	case <-p.done: // it is durable here: the pool can say no more
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// gatherTime is the least time between the writes of batches that several submissions gather in.
// Each batch costs every node a signature check and a write (docs/decisions/0115).
const gatherTime = 4 * time.Millisecond

// write makes the batches that were formed durable, all of them at once. Submissions that arrive
// meanwhile wait for the next turn. A submission that comes alone waits for no other.
func (p *Pool) write() {
	began, several := time.Time{}, false
	for closed := false; !closed; {
		select {
		case <-p.formed:
			if several {
				closed = p.gather(time.Until(began.Add(gatherTime)))
			}
		case <-p.done:
			closed = true
		}
		p.mu.Lock()
		formed := p.forming
		several = p.gathered > 1
		p.forming, p.gathered = nil, 0
		p.mu.Unlock()
		if began = time.Now(); len(formed) > 0 {
			p.store(formed)
		}
	}
}

// gather waits for more submissions, unless there is a full batch. It reports whether the pool was
// closed meanwhile.
func (p *Pool) gather(wait time.Duration) (closed bool) {
	p.mu.Lock()
	full := len(p.forming) > 1
	p.mu.Unlock()
	if full || wait <= 0 {
		return false
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return false
	case <-p.done:
		return true
	}
}

// store makes the batches that were formed durable. They leave for the peers at the same time: all
// disks write them at once, and a submission waits for the slowest instead of for one after the
// other. A number that a peer has seen belongs to this opening of the pool, whatever becomes of the
// write, because every opening begins a new incarnation.
func (p *Pool) store(formed []*entry) {
	stored, err := p.number(formed)
	if err == nil {
		for i, s := range stored {
			if p.cfg.Formed != nil {
				p.cfg.Formed(s.Hash, formed[i].ids)
			}
			p.cfg.Replicator.Push(s.Hash, s.Data)
		}
		// This is not cancelled: without the answer it would be open which numbers are used up.
		err = p.cfg.Storage.AddBatches(context.Background(), stored)
	}
	p.space.wrote(err)
	p.mu.Lock()
	for _, e := range formed {
		if err != nil {
			p.fail(e, err)
		} else {
			p.enqueue(e)
		}
	}
	p.mu.Unlock()
	if err != nil {
		// The peers have the batches, and they may be on this disk all the same. So the messages
		// may be ordered. The numbers are used up.
		p.cfg.Logger.Error("submitted messages could not be stored: they are refused", "batches", len(formed), "err", err)
		return
	}
	p.signal()
}

// number gives the batches that were formed their numbers and signatures, and makes them known by
// those.
func (p *Pool) number(formed []*entry) ([]chain.StoredBatch, error) {
	stored := make([]chain.StoredBatch, len(formed))
	signed := make([]*chain.Batch, len(formed))
	for i, e := range formed {
		p.last++
		b := &chain.Batch{Incarnation: p.incarnation, Number: p.last, Messages: e.messages}
		hash := b.Sign(p.cfg.Key, p.cfg.ChainID)
		stored[i] = chain.StoredBatch{Hash: hash, Author: p.public, Incarnation: b.Incarnation, Number: b.Number, Data: b.Encode()}
		// From here on the messages alias the encoding, so that the buffers they came in can go.
		var err error
		if signed[i], err = chain.DecodeBatch(stored[i].Data, p.cfg.MaxBlockBytes); err != nil {
			return nil, err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, e := range formed {
		e.hash, e.encoded, e.messages = stored[i].Hash, stored[i].Data, signed[i].Messages
		e.position = position{signed[i].Incarnation, signed[i].Number}
		p.byHash[e.hash] = e
		p.own.add(e)
	}
	return stored, nil
}
