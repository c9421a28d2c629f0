package server

import (
	"container/list"
	"context"
	"encoding/base64"
	"encoding/hex"
	"strconv"
	"sync"

	"github.com/diseq/diseq/node/chain"
)

// cacheBytes bounds the encoded blocks that are kept.
const cacheBytes = 16 << 20

// blockCache has the "messages" of final blocks as JSON, by height: the part of a block that is
// large and never changes. A block is encoded once however many read it, also while it is being
// encoded. The least recently read go first.
type blockCache struct {
	limit int

	mu      sync.Mutex
	size    int
	entries map[uint64]*list.Element // of *encodedBlock
	recent  *list.List               // most recently read first
}

// encodedBlock is one entry. json and err may be read once done is closed.
type encodedBlock struct {
	height uint64
	done   chan struct{}
	json   []byte
	err    error
	// size is what the entry counts in the cache: 0 until it is encoded. The cache's lock guards
	// it.
	size int
}

func newBlockCache(limit int) *blockCache {
	return &blockCache{limit: limit, entries: map[uint64]*list.Element{}, recent: list.New()}
}

// messages returns the encoded messages of the block at height. The caller must not change them.
func (c *blockCache) messages(ctx context.Context, b Backend, height uint64) ([]byte, error) {
	c.mu.Lock()
	if e, ok := c.entries[height]; ok {
		c.recent.MoveToFront(e)
		c.mu.Unlock()
		entry := e.Value.(*encodedBlock)
		select {
		case <-entry.done:
			return entry.json, entry.err
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	entry := &encodedBlock{height: height, done: make(chan struct{})}
	e := c.recent.PushFront(entry)
	c.entries[height] = e
	c.mu.Unlock()

	// Others wait for this: it must not fail because this reader goes away.
	block, err := b.Block(context.WithoutCancel(ctx), height)
	if err != nil {
		entry.err = err
	} else {
		entry.json = encodeMessages(block.Messages)
	}
	c.mu.Lock()
	if err != nil {
		c.drop(e) // the next one tries again
	} else {
		entry.size = len(entry.json)
		c.size += entry.size
		c.evict()
	}
	c.mu.Unlock()
	close(entry.done)
	return entry.json, entry.err
}

// evict drops entries from the least recently read on until the limit holds. Entries still being
// encoded count nothing yet.
func (c *blockCache) evict() {
	for e := c.recent.Back(); e != nil && c.size > c.limit; {
		previous := e.Prev()
		if size := e.Value.(*encodedBlock).size; size > 0 {
			c.size -= size
			c.drop(e)
		}
		e = previous
	}
}

func (c *blockCache) drop(e *list.Element) {
	c.recent.Remove(e)
	delete(c.entries, e.Value.(*encodedBlock).height)
}

// encodeMessages writes [{"id","data","timestamp"},...].
func encodeMessages(messages []chain.Message) []byte {
	const perMessage = len(`{"id":"","data":"","timestamp":4294967295},`) + 64
	size := 2
	for _, m := range messages {
		size += perMessage + base64.StdEncoding.EncodedLen(len(m.Data))
	}
	out := append(make([]byte, 0, size), '[')
	for i, m := range messages {
		if i > 0 {
			out = append(out, ',')
		}
		id := m.ID()
		out = append(out, `{"id":"`...)
		out = hex.AppendEncode(out, id[:])
		out = append(out, `","data":"`...)
		out = base64.StdEncoding.AppendEncode(out, m.Data)
		out = append(out, `","timestamp":`...)
		out = strconv.AppendUint(out, uint64(m.Timestamp), 10)
		out = append(out, '}')
	}
	return append(out, ']')
}
