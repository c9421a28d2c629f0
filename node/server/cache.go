package server

import (
	"container/list"
	"context"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/internal/seats"
)

const (
	// cacheBytes bounds the encoded blocks that are kept while nobody reads them.
	cacheBytes = 16 << 20
	// maxEncoded is the longest encoding that is kept. A block of tiny messages takes many times
	// its size as JSON: it is kept as it is, and encoded anew for each reader.
	maxEncoded = 8 << 20
)

// blockCache has the "messages" of final blocks, by height: the part of a block that is large and
// never changes. A block is encoded once however many read it, also while it is being encoded.
//
// Blocks that are being read hold a seat each, whoever reads them. A block that all its readers
// read too slowly gives way: its readers are cut off. Of the others the least recently read go
// first.
type blockCache struct {
	limit   int
	backend Backend
	answers *seats.Limiter
	load    func(ctx context.Context, key string) (release func(), err error)
	cutOff  func(*response)

	mu      sync.Mutex
	size    int // of the entries in recent
	entries map[uint64]*cached
	recent  *list.List // of *cached that nobody reads, most recently read first
}

// cached is one entry. The cache's lock guards it; json and messages do not change once ready is
// closed.
type cached struct {
	cache  *blockCache
	height uint64
	// ready is closed when the entry holds its seat, or err says why not.
	ready chan struct{}
	err   error
	// One of the two has the messages.
	json     []byte
	messages []chain.Message
	size     int

	// seat is nil while nobody reads the entry, place its place in recent then.
	seat    *seats.Seat
	place   *list.Element
	readers map[*reading]struct{}
}

// reading is one reader of an entry. idleFrom is when it counts as idle.
type reading struct {
	entry    *cached
	w        *response // nil for one that is not cut off
	idleFrom time.Time
	stop     func()
}

func newBlockCache(limit int, s *Server) *blockCache {
	return &blockCache{
		limit: limit, backend: s.backend, answers: s.answers, load: s.load, cutOff: s.cutOff,
		entries: map[uint64]*cached{}, recent: list.New(),
	}
}

// read begins to read the messages of the block at height. The caller ends it with close.
func (c *blockCache) read(ctx context.Context, w http.ResponseWriter, key string, height uint64) (*reading, error) {
	rw, _ := w.(*response)
	for {
		c.mu.Lock()
		e := c.entries[height]
		if e != nil && e.seat != nil {
			r := e.join(rw)
			c.mu.Unlock()
			r.watch()
			return r, nil
		}
		mine := e == nil || e.place != nil
		if mine {
			// Nobody reads it, so it counts in no seat: whoever comes first takes one.
			if e == nil {
				e = &cached{cache: c, height: height, readers: map[*reading]struct{}{}}
				c.entries[height] = e
			} else {
				c.size -= e.size
				c.recent.Remove(e.place)
				e.place = nil
			}
			e.ready, e.err = make(chan struct{}), nil
		}
		ready := e.ready
		c.mu.Unlock()
		if mine {
			// Others wait for this: it must not fail because this reader goes away.
			r, err := c.prepare(context.WithoutCancel(ctx), e, rw, key)
			if err != nil {
				return nil, err
			}
			r.watch()
			return r, nil
		}
		select {
		case <-ready:
			c.mu.Lock()
			err := e.err
			c.mu.Unlock()
			if err != nil {
				return nil, err
			}
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// prepare reads and encodes a block, unless that was done before, and takes a seat for it. While it
// waits for the seat it keeps its turn, so that few blocks wait.
func (c *blockCache) prepare(ctx context.Context, e *cached, rw *response, key string) (*reading, error) {
	release, err := c.load(ctx, key)
	defer release()
	if err == nil && e.json == nil && e.messages == nil {
		var messages []chain.Message
		var ids []chain.Hash
		if messages, ids, err = c.backend.Messages(ctx, e.height); err == nil {
			e.json, e.messages, e.size = encoded(messages, ids)
		}
	}
	turn := &turn{entry: e}
	if err == nil {
		turn.seat, err = c.answers.Take(ctx, seats.Claim{Key: key, Weight: int64(e.size), Wait: busyWait, GiveWay: turn.end})
		if err != nil {
			err = busy(err, busyAnswers)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	defer close(e.ready)
	if err != nil {
		e.err = err
		delete(c.entries, e.height) // the next one tries again
		return nil, err
	}
	e.seat = turn.seat
	return e.join(rw), nil
}

// turn is the time for which an entry holds a seat.
type turn struct {
	entry *cached
	seat  *seats.Seat
}

// end cuts the readers off; the last of them releases the seat. A reader that comes from now
// on begins anew.
func (t *turn) end() {
	e, c := t.entry, t.entry.cache
	c.mu.Lock()
	if e.seat != t.seat {
		c.mu.Unlock()
		return // it was released meanwhile
	}
	delete(c.entries, e.height)
	var readers []*response
	for r := range e.readers {
		readers = append(readers, r.w)
	}
	c.mu.Unlock()
	for _, w := range readers {
		c.cutOff(w)
	}
}

// join adds a reader.
func (e *cached) join(rw *response) *reading {
	r := &reading{entry: e, w: rw, idleFrom: time.Now().Add(rateGrace)}
	e.readers[r] = struct{}{}
	return r
}

func (r *reading) watch() {
	if r.w == nil {
		r.IdleFrom(time.Time{})
		return
	}
	r.stop = r.w.watch(r)
}

// IdleFrom says when the reader counts as idle. The entry does when all of its readers do.
func (r *reading) IdleFrom(t time.Time) {
	e := r.entry
	e.cache.mu.Lock()
	defer e.cache.mu.Unlock()
	r.idleFrom = t
	if _, reads := e.readers[r]; reads {
		e.rest()
	}
}

// rest tells the entry's seat when all of its readers count as idle.
func (e *cached) rest() {
	var last time.Time
	for r := range e.readers {
		if r.idleFrom.IsZero() {
			last = time.Time{}
			break
		}
		if r.idleFrom.After(last) {
			last = r.idleFrom
		}
	}
	e.seat.IdleFrom(last)
}

// close ends the reading. An entry that nobody reads any more is kept while there is room.
func (r *reading) close() {
	if r.stop != nil {
		r.stop()
	}
	e, c := r.entry, r.entry.cache
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(e.readers, r)
	if len(e.readers) > 0 {
		e.rest()
		return
	}
	e.seat.Release()
	e.seat = nil
	if c.entries[e.height] != e {
		return // it gave way
	}
	c.size += e.size
	e.place = c.recent.PushFront(e)
	for c.size > c.limit {
		last := c.recent.Back()
		oldest := c.recent.Remove(last).(*cached)
		c.size -= oldest.size
		delete(c.entries, oldest.height)
	}
}

// writeTo writes the messages as a JSON array.
func (r *reading) writeTo(w http.ResponseWriter) error {
	e := r.entry
	if e.messages == nil {
		_, err := w.Write(e.json)
		return err
	}
	out := append(make([]byte, 0, 2*chunkBytes), '[')
	for i, m := range e.messages {
		if i > 0 {
			out = append(out, ',')
		}
		if out = appendMessage(out, m, m.ID()); len(out) >= chunkBytes {
			if _, err := w.Write(out); err != nil {
				return err
			}
			out = out[:0]
		}
	}
	_, err := w.Write(append(out, ']'))
	return err
}

// perMessage is what a message takes as JSON beside its data.
const perMessage = len(`{"id":"","data":"","timestamp":4294967295},`) + 64

// encoded returns messages as JSON, or as they are if that would be too long, and the memory that
// they take.
func encoded(messages []chain.Message, ids []chain.Hash) (json []byte, plain []chain.Message, size int) {
	length := 2
	for _, m := range messages {
		length += perMessage + base64.StdEncoding.EncodedLen(len(m.Data))
	}
	if memory := memoryOf(messages); length > maxEncoded && memory < length {
		return nil, messages, memory
	}
	json = encodeMessages(messages, ids, length)
	return json, nil, len(json)
}

// memoryOf is what messages take in memory.
func memoryOf(messages []chain.Message) (size int) {
	const header = 32
	for _, m := range messages {
		size += header + len(m.Data)
	}
	return size
}

// encodeMessages writes [{"id","data","timestamp"},...], which takes at most length bytes.
func encodeMessages(messages []chain.Message, ids []chain.Hash, length int) []byte {
	out := append(make([]byte, 0, length), '[')
	for i, m := range messages {
		if i > 0 {
			out = append(out, ',')
		}
		out = appendMessage(out, m, ids[i])
	}
	return append(out, ']')
}

func appendMessage(out []byte, m chain.Message, id chain.Hash) []byte {
	out = append(out, `{"id":"`...)
	out = hex.AppendEncode(out, id[:])
	out = append(out, `","data":"`...)
	out = base64.StdEncoding.AppendEncode(out, m.Data)
	out = append(out, `","timestamp":`...)
	out = strconv.AppendUint(out, uint64(m.Timestamp), 10)
	return append(out, '}')
}
