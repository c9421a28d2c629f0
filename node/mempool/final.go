package mempool

import (
	"context"
	"fmt"

	"github.com/diseq/diseq/node/chain"
)

// standing is a final message's block and its place there.
type standing struct {
	height uint64
	index  uint32
}

// recentBlock is a final block that the index does not cover yet.
type recentBlock struct {
	height uint64
	ids    []chain.Hash
}

// lookup returns the standings in the index, by the places of the ids in ids. The caller has locked
// finality for reading, and unlocks it only after it has combined the answer with recent: see
// final.
func (p *Pool) lookup(ids []chain.Hash) (map[int]standing, error) {
	var known map[int]standing
	lookups := 0
	for _, i := range p.filter.candidates(ids) {
		height, index, ok, err := p.cfg.Index.Lookup(ids[i])
		if err != nil {
			return nil, fmt.Errorf("mempool: look up message %v: %w", ids[i], err)
		}
		lookups++
		if ok {
			if known == nil {
				known = map[int]standing{}
			}
			known[i] = standing{height, index}
		}
	}
	p.metrics.lookups.Add(float64(lookups))
	return known, nil
}

// final returns the standing of the message with that id, the i-th of those looked up, if it is
// final at a height up to the pool's.
func (p *Pool) final(id chain.Hash, i int, known map[int]standing) (standing, bool) {
	if s, ok := p.recent.find(id); ok {
		return s, true
	}
	s, ok := known[i]
	return s, ok && s.height <= p.height
}

// results returns the states of the messages with these ids. The caller has locked mu.
func (p *Pool) results(ids []chain.Hash, known map[int]standing) []Result {
	results := make([]Result, len(ids))
	for i, id := range ids {
		results[i].ID = id
		if s, ok := p.final(id, i, known); ok {
			results[i] = Result{id, Final, s.height, s.index}
		} else if _, ok := p.pending.find(id); ok {
			results[i].State = Pending
		}
	}
	return results
}

// Status returns the state of a message.
func (p *Pool) Status(id chain.Hash) (Result, error) {
	p.finality.RLock()
	defer p.finality.RUnlock()
	ids := []chain.Hash{id}
	known, err := p.lookup(ids)
	if err != nil {
		return Result{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.results(ids, known)[0], nil
}

// Message returns a pending message.
func (p *Pool) Message(id chain.Hash) (chain.Message, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	at, ok := p.pending.find(id)
	if !ok {
		return chain.Message{}, false
	}
	return p.pending.slots[at.slot].messages[at.index], true
}

// waiting is one id that a call of Wait waits for: the i-th.
type waiting struct {
	call *waitCall
	i    int
}

type waitCall struct {
	results []Result
	left    int
	done    chan struct{}
}

// Wait returns when every message is final, or with ctx's error when ctx is done. Either way the
// results have the state of each message. A message is final here once its block is handed to
// [Pool.Committed]. Wait also waits for ids that the pool has never seen.
func (p *Pool) Wait(ctx context.Context, ids []chain.Hash) ([]Result, error) {
	call, err := p.startWaiting(ids)
	if err != nil {
		return nil, err
	}
	select {
	case <-call.done:
		return call.results, nil
	case <-ctx.Done():
		err = ctx.Err()
	case <-p.done:
		err = ErrClosed
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if call.left == 0 {
		return call.results, nil
	}
	for i := range call.results {
		r := &call.results[i]
		if r.State == Final {
			continue
		}
		p.stopWaiting(r.ID, call)
		r.State = Unknown
		if _, ok := p.pending.find(r.ID); ok {
			r.State = Pending
		}
	}
	return call.results, err
}

func (p *Pool) startWaiting(ids []chain.Hash) (*waitCall, error) {
	p.finality.RLock()
	defer p.finality.RUnlock()
	known, err := p.lookup(ids)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	call := &waitCall{results: p.results(ids, known), done: make(chan struct{})}
	for i, r := range call.results {
		if r.State != Final {
			p.waiters[r.ID] = append(p.waiters[r.ID], waiting{call, i})
			call.left++
		}
	}
	if call.left == 0 {
		close(call.done)
	}
	return call, nil
}

// stopWaiting removes the entries of call for id.
func (p *Pool) stopWaiting(id chain.Hash, call *waitCall) {
	all := p.waiters[id]
	kept := all[:0]
	for _, w := range all {
		if w.call != call {
			kept = append(kept, w)
		}
	}
	clear(all[len(kept):])
	if len(kept) == 0 {
		delete(p.waiters, id)
	} else {
		p.waiters[id] = kept
	}
}

// notify hands a final message's standing to the calls that wait for it.
func (p *Pool) notify(id chain.Hash, s standing) {
	waiters, ok := p.waiters[id]
	if !ok {
		return
	}
	for _, w := range waiters {
		w.call.results[w.i] = Result{id, Final, s.height, s.index}
		if w.call.left--; w.call.left == 0 {
			close(w.call.done)
		}
	}
	delete(p.waiters, id)
}

// fillFilter reads the ids of the index into the filter. Until it is done every id is looked up in
// the index.
func (p *Pool) fillFilter(ctx context.Context) {
	chunk := make([]chain.Hash, 0, 1024)
	err := p.cfg.Index.IDs(ctx, func(id chain.Hash) bool {
		if chunk = append(chunk, id); len(chunk) == cap(chunk) {
			p.filter.add(chunk)
			chunk = chunk[:0]
		}
		return ctx.Err() == nil
	})
	switch {
	case ctx.Err() != nil:
	case err != nil:
		p.cfg.Logger.Error("the filter of known ids could not be filled: every new message is looked up on disk", "err", err)
	default:
		p.filter.add(chunk)
		p.filter.finish()
	}
}
