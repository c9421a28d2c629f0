package mempool

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/time/rate"

	"github.com/diseq/diseq/node/chain"
)

// fetchedBlocks is how many blocks' worth of fetched batches the pool takes beyond all shares.
const fetchedBlocks = 8

// repeatsPerSecond and repeatsAtOnce bound the batches of one peer that have nothing left to order.
// A peer may have as many under way as the latter.
const (
	repeatsPerSecond = 200
	repeatsAtOnce    = 1024
)

// Receive takes a batch that the peer from pushed, its own or another's. When it returns nil the
// batch may be acknowledged: it is durable here, or every message in it is final. The pool keeps
// encoded, which must not be changed any more.
//
// Errors: [ErrShare] and [ErrStorageLow], after which the peer may try again later;
// [chain.ErrMalformed], [chain.ErrSignature], [ErrAuthor] and [ErrEquivocation], which are the
// peer's or the author's fault; [ErrClosed], those of Storage and Index.
func (p *Pool) Receive(ctx context.Context, from chain.PublicKey, encoded []byte) error {
	return p.received(p.receive(ctx, from, encoded, false))
}

// ReceiveFetched takes a batch that a proposed block refers to. It is like Receive, but regardless
// of the author's share and of the free disk space, so that these hold up no block. Its author may
// have left the set at any time before. A bound on such batches remains.
func (p *Pool) ReceiveFetched(ctx context.Context, from chain.PublicKey, encoded []byte) error {
	return p.received(p.receive(ctx, from, encoded, true))
}

func (p *Pool) received(err error) error {
	if err != nil {
		p.metrics.refuse(err)
	}
	return err
}

func (p *Pool) receive(ctx context.Context, from chain.PublicKey, encoded []byte, fetched bool) error {
	b, err := chain.DecodeBatch(encoded, p.cfg.MaxBlockBytes)
	if err != nil {
		return err
	}
	if !fetched {
		if err := p.space.check(); err != nil {
			return err
		}
	}
	held, q, err := p.find(b, encoded, fetched)
	switch {
	case held != nil:
		return p.acknowledgeAgain(ctx, held, from)
	case err != nil:
		return err
	}
	if from == b.Author && !fetched {
		defer p.arriving(q)()
	}
	// The expensive part, outside every lock.
	hash, err := b.Verify(p.cfg.ChainID, p.cfg.MaxMessageBytes)
	if err != nil {
		return err
	}
	e, held, err := p.admit(hash, encoded, b, from, fetched)
	switch {
	case held != nil:
		return p.acknowledgeAgain(ctx, held, from)
	case err != nil:
		return err
	case e == nil:
		p.metrics.repeated.Inc()
		return p.repeats(from).Wait(ctx)
	}
	// This is not cancelled: the pool must know whether the batch is on disk.
	err = p.cfg.Storage.AddBatches(context.WithoutCancel(ctx), []chain.StoredBatch{
		{Hash: hash, Author: b.Author, Incarnation: b.Incarnation, Number: b.Number, Data: encoded},
	})
	p.mu.Lock()
	if err != nil {
		p.fail(e, err)
	} else {
		p.enqueue(e)
	}
	p.mu.Unlock()
	if err != nil {
		return fmt.Errorf("mempool: store batch %v: %w", hash, err)
	}
	p.metrics.received.Add(float64(len(e.ids)))
	p.signal()
	return nil
}

// find returns the batch if it is here already, else the queue that it may come to (nil for a new
// one), or an error if it may not come.
func (p *Pool) find(b *chain.Batch, encoded []byte, fetched bool) (held *entry, q *queue, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	q = p.byAuthor[b.Author]
	if q != nil {
		if held := q.find(position{b.Incarnation, b.Number}, encoded); held != nil {
			return held, nil, nil
		}
	}
	return nil, q, p.room(b, fetched)
}

// arriving notes that the author of a queue pushes a batch; its result is called when the batch is
// stored or refused.
func (p *Pool) arriving(q *queue) (arrived func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	q.heard = time.Now()
	q.arriving++
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		q.arriving--
		if q.arriving == 0 {
			// A wait for another batch of this author looks anew how long it is still to last.
			p.wakeResolvers()
		}
	}
}

// admit registers a verified batch, to be stored, and returns its entry. If the batch is there
// already, it returns that one as held. If nothing is left to order of it, it returns neither.
func (p *Pool) admit(
	hash chain.Hash, encoded []byte, b *chain.Batch, from chain.PublicKey, fetched bool,
) (taken, held *entry, err error) {
	e := newEntry(nil, hash, encoded, b)
	p.finality.RLock()
	defer p.finality.RUnlock()
	known, err := p.lookup(e.ids)
	if err != nil {
		return nil, nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if held := p.byHash[e.hash]; held != nil {
		return nil, held, nil
	}
	if !fetched && p.allFinal(e.ids, known) {
		if q := p.byAuthor[b.Author]; q != nil {
			q.emptied(e.position)
		}
		return nil, nil, nil
	}
	// The set may have changed since find.
	if err := p.room(b, fetched); err != nil {
		return nil, nil, err
	}
	q := p.queue(b.Author)
	e.queue = q
	if q == p.own {
		e.acknowledged = make(chan struct{})
	}
	if from != b.Author || fetched {
		p.addHolder(e, from)
	}
	if other := q.byPosition[e.position]; other != nil {
		p.metrics.equivocations.Inc()
		if !q.equivocated {
			q.equivocated = true
			p.cfg.Logger.Warn("a validator signed two batches with the same number",
				"author", q.author, "incarnation", e.position.incarnation, "number", e.position.number,
				"hash", e.hash, "other", other.hash)
		}
	}
	p.register(e, known)
	return e, nil, nil
}

// repeats returns what bounds the batches of final messages that a peer pushes: each was verified
// for nothing. An honest peer that is behind pushes some; the acknowledgements of more have to
// wait, and with them the peer.
func (p *Pool) repeats(from chain.PublicKey) *rate.Limiter {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.repeated[from]
	if l == nil {
		l = rate.NewLimiter(repeatsPerSecond, repeatsAtOnce)
		p.repeated[from] = l
	}
	return l
}

func (p *Pool) allFinal(ids []chain.Hash, known map[int]standing) bool {
	for i, id := range ids {
		if _, ok := p.final(id, i, known); !ok {
			return false
		}
	}
	return true
}

// room returns why b may not come, nil if it may.
func (p *Pool) room(b *chain.Batch, fetched bool) error {
	if p.closed {
		return ErrClosed
	}
	if !p.ever[b.Author] || !fetched && !p.pushes(b.Author) {
		return fmt.Errorf("batch of %v: %w", b.Author, ErrAuthor)
	}
	bytes := int64(b.Size() + batchOverhead)
	if fetched {
		if limit := p.capacity + p.carried + fetchedBlocks*int64(p.cfg.MaxBlockBytes); p.bytes+bytes > limit {
			return fmt.Errorf("%w: %d bytes of all authors, the limit for fetched batches is %d", ErrShare, p.bytes, limit)
		}
		return nil
	}
	q := p.byAuthor[b.Author]
	if q.bytes+bytes > p.shareBytes || q.messages+len(b.Messages) > p.shareMessages {
		return fmt.Errorf("%w: %d of %d bytes, %d of %d messages", ErrShare, q.bytes, p.shareBytes, q.messages, p.shareMessages)
	}
	if q.crowded(position{b.Incarnation, b.Number}) {
		return fmt.Errorf("batch %d of %v: %w", b.Number, b.Author, ErrEquivocation)
	}
	return nil
}

// acknowledgeAgain answers for a batch that is in the pool already, once it is durable.
func (p *Pool) acknowledgeAgain(ctx context.Context, held *entry, from chain.PublicKey) error {
	p.metrics.repeated.Inc()
	select {
	case <-held.written:
	case <-ctx.Done():
		return ctx.Err()
	}
	if held.err != nil {
		return fmt.Errorf("mempool: store batch %v: %w", held.hash, held.err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if from != held.queue.author {
		p.addHolder(held, from)
	}
	return nil
}
