package mempool

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/diseq/diseq/node/chain"
)

// Pool is a node's pool of pending messages. Its methods may be called concurrently.
type Pool struct {
	cfg     Config
	metrics *metrics
	public  chain.PublicKey

	filter *filter
	space  space

	// finality is held for reading from before an id is looked up in the index until it is
	// registered or found final, and for writing when ids are taken off recent: an id on its way
	// from recent to the index is never missed. It is taken before mu.
	finality sync.RWMutex

	mu     sync.Mutex
	closed bool
	height uint64
	// recent has the final blocks from the index's height to height, pending the messages that are
	// not final.
	recent     recent
	lastCommit time.Time
	// lastTime is the time of the block at height, as its header says.
	lastTime time.Time
	pending  places
	byHash   map[chain.Hash]*entry
	members
	// queues has one for each author that may push or has a batch here. own is this node's, nil
	// while it was never a member.
	queues   []*queue
	byAuthor map[chain.PublicKey]*queue
	own      *queue
	// drained are stored batches without a message left to order, still on disk.
	drained  []*entry
	bytes    int64
	live     int
	sequence uint64
	// arrivals is closed when a batch is stored or not, or a block committed; nil while no call
	// waits for it.
	arrivals chan struct{}
	waiters  map[chain.Hash][]waiting
	// repeated is of each peer that pushed a batch of final messages.
	repeated map[chain.PublicKey]*rate.Limiter

	// forming are the batches that submissions go to while the writer is busy, gathered the number
	// of these submissions; formed wakes it.
	forming  []*entry
	gathered int
	formed   chan struct{}
	// incarnation and last, a number, are of the last batch signed; the writer's own.
	incarnation, last uint64

	ready   chan struct{}
	done    chan struct{}
	stop    context.CancelFunc
	running sync.WaitGroup
}

// Open loads the batches in storage and starts the pool. The blocks above Config.Height have to
// follow with [Pool.Committed] before messages are submitted or received. Every opening begins a
// new incarnation of this node's batches, so that no number is given twice after any loss.
func Open(ctx context.Context, cfg Config) (*Pool, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	p := &Pool{
		cfg:      cfg,
		public:   chain.PublicKeyOf(cfg.Key),
		filter:   newFilter(firstLayer, uint64(cfg.MaxFilterBytes)*8),
		height:   cfg.Height,
		lastTime: cfg.Time,
		recent:   newRecent(),
		space:    space{free: cfg.FreeDisk, logger: cfg.Logger},
		pending:  newPlaces(),
		byHash:   map[chain.Hash]*entry{},
		byAuthor: map[chain.PublicKey]*queue{},
		waiters:  map[chain.Hash][]waiting{},
		repeated: map[chain.PublicKey]*rate.Limiter{},
		formed:   make(chan struct{}, 1),
		ready:    make(chan struct{}, 1),
		done:     make(chan struct{}),
	}
	p.init(cfg.Former)
	p.SetMembers(cfg.Set)
	p.metrics = newMetrics(cfg.Registerer, p)
	if err := p.restore(ctx); err != nil {
		return nil, fmt.Errorf("mempool: restore: %w", err)
	}
	background, stop := context.WithCancel(context.Background())
	p.stop = stop
	p.running.Go(p.write)
	p.running.Go(func() { p.fillFilter(background) })
	return p, nil
}

// restore takes in the batches in storage.
func (p *Pool) restore(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.beginIncarnation(ctx); err != nil {
		return err
	}
	err := p.cfg.Storage.PendingBatches(ctx, func(s chain.StoredBatch) error {
		b, err := chain.DecodeBatch(s.Data, p.cfg.MaxBlockBytes)
		if err != nil {
			return fmt.Errorf("batch %v: %w", s.Hash, err)
		}
		if !p.ever[b.Author] {
			p.cfg.Logger.Warn("the author of a stored batch is not one of this chain: the batch is left on disk", "hash", s.Hash, "author", b.Author)
			return nil
		}
		if p.byHash[s.Hash] != nil {
			return nil
		}
		e := newEntry(p.queue(b.Author), s.Hash, s.Data, b)
		known, err := p.lookup(e.ids)
		if err != nil {
			return err
		}
		p.register(e, known)
		if e.queue == p.own {
			e.acknowledged = make(chan struct{})
		}
		p.enqueue(e)
		return nil
	})
	if q := p.own; q != nil {
		// Of this node's own batches none can be missing.
		for _, e := range q.entries {
			if _, ok := q.bases[e.position.incarnation]; !ok {
				q.bases[e.position.incarnation] = e.position.number - 1
			}
		}
	}
	if p.left() {
		p.hold() // which batches came before it left is not recorded
	}
	return err
}

// beginIncarnation chooses this opening's incarnation: the time, but above the last one whatever
// the clock did meanwhile.
func (p *Pool) beginIncarnation(ctx context.Context) error {
	last, err := p.cfg.Storage.Meta(ctx, incarnationName)
	if err != nil {
		return err
	}
	p.incarnation = uint64(time.Now().UnixNano())
	if len(last) == 8 {
		p.incarnation = max(p.incarnation, binary.BigEndian.Uint64(last)+1)
	} else if last != nil {
		return fmt.Errorf("%q has %d bytes, want 8", incarnationName, len(last))
	}
	return p.cfg.Storage.PutMeta(ctx, incarnationName, binary.BigEndian.AppendUint64(nil, p.incarnation))
}

// incarnationName is where the last incarnation is kept in storage.
const incarnationName = "mempool/incarnation"

func newEntry(q *queue, hash chain.Hash, encoded []byte, b *chain.Batch) *entry {
	return &entry{
		queue: q, position: position{b.Incarnation, b.Number}, hash: hash, encoded: encoded, messages: b.Messages,
		ids: chain.IDs(b.Messages), bytes: b.Size(), written: make(chan struct{}),
	}
}

// Close stops the pool once all submitted messages are durable; Open finds them again. Storage has
// to be open until then.
func (p *Pool) Close() {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return
	}
	p.closed = true
	close(p.done)
	for _, q := range p.queues {
		if q.timer != nil {
			q.timer.Stop()
		}
	}
	p.mu.Unlock()
	p.stop()
	p.running.Wait()
}

// Ready is signalled when there may be something new for a leader to order. A reader asks
// [Pool.HasPending] then.
func (p *Pool) Ready() <-chan struct{} { return p.ready }

func (p *Pool) signal() {
	select {
	case p.ready <- struct{}{}:
	default:
	}
}

// HasPending reports whether Select would return a message now.
func (p *Pool) HasPending() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	return slices.ContainsFunc(p.queues, func(q *queue) bool {
		return len(q.entries) > 0 && q.frontWait(now) == 0
	})
}

// Stats is how full the pool is.
type Stats struct {
	// Messages is the number of messages that are not final, Batches that of the batches in the
	// pool, Bytes the room that these take of MaxBytes.
	Messages, Batches int
	Bytes, MaxBytes   int64
	// Left is set on a node that was a member and is none any more. Held is then the number of
	// messages that were in the pool when it left and are not final: nothing that a client was
	// promised is lost with this node once Held is 0.
	Left bool
	Held int
}

// Stats returns how full the pool is.
func (p *Pool) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := Stats{Messages: p.live, Bytes: p.bytes, MaxBytes: p.capacity, Left: p.left(), Held: p.held}
	for _, q := range p.queues {
		s.Batches += q.batches
	}
	return s
}

// register makes e and its messages known, except those that are final: in known (the ids that the
// index has) or recent.
func (p *Pool) register(e *entry, known map[int]standing) {
	p.pending.takeSlot(e)
	e.live, e.liveBytes = len(e.ids), e.bytes
	p.live += e.live
	for i, id := range e.ids {
		if _, ok := p.final(id, i, known); ok {
			e.setFinal(i)
			p.live--
			continue
		}
		p.pending.add(e, i, id)
	}
	p.byHash[e.hash] = e
	e.queue.add(e)
	p.charge(e.queue, len(e.ids), int64(e.bytes+batchOverhead), 1)
}

func (p *Pool) charge(q *queue, messages int, bytes int64, batches int) {
	q.messages += messages
	q.bytes += bytes
	q.batches += batches
	p.bytes += bytes
}

// enqueue queues e, which is durable now.
func (p *Pool) enqueue(e *entry) {
	p.sequence++
	e.stored, e.arrived, e.sequence = true, time.Now(), p.sequence
	e.since, e.sinceTime, e.before = p.height, p.lastTime, e.queue.ordered
	close(e.written)
	p.acknowledge(e)
	if e.live == 0 {
		e.queue.emptied(e.position)
		e.drained = true
		p.drained = append(p.drained, e)
		e.ack()
	} else {
		e.queue.insert(e)
		p.arm(e.queue, e.arrived)
	}
	p.wakeResolvers()
}

// fail takes e out again after it could not be stored.
func (p *Pool) fail(e *entry, err error) {
	for i, id := range e.ids {
		if !e.isFinal(i) {
			p.pending.remove(e, i, id)
			p.live--
		}
	}
	if e.held {
		p.held -= e.live
	}
	e.err = err
	close(e.written)
	p.discard(e)
	p.wakeResolvers() // it has to be fetched
}

// discard releases the room that e takes of the pool; its ids have no place any more.
func (p *Pool) discard(e *entry) {
	if e.encoded != nil {
		e.queue.remove(e)
		delete(p.byHash, e.hash)
	}
	p.charge(e.queue, -len(e.ids), -int64(e.bytes+batchOverhead), -1)
	p.pending.freeSlot(e)
	p.dropQueue(e.queue)
}

// arm has Ready signalled when the wait for the hole before the front of q is over.
func (p *Pool) arm(q *queue, now time.Time) {
	if p.closed || len(q.entries) == 0 {
		return
	}
	d := q.frontWait(now)
	switch {
	case d == 0:
	case q.timer == nil:
		q.timer = time.AfterFunc(d, p.signal)
	default:
		q.timer.Reset(d)
	}
}

func (p *Pool) wakeResolvers() {
	if p.arrivals != nil {
		close(p.arrivals)
		p.arrivals = nil
	}
}
