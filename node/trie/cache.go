package trie

import (
	"sync"
	"sync/atomic"
)

// pageEntry is what is known of a page without reading it. Readers hold Trie.mu; all but the
// pointer changes only while it is held for writing.
type pageEntry struct {
	held  atomic.Pointer[page] // the page, while it is in memory
	at    location             // its newest record in the segments, 0: none yet
	added uint32               // the newest of the leaves that the record lacks; 0: none
	count uint32               // how many these are
}

// pages holds the entries of all pages, and pages in memory up to a limit. A leaf page can be
// dropped at any time: its record and the leaves added since make it again. So can a stack page
// that is as its record; one with changes stays until the writer has written it.
type pages struct {
	entries []pageEntry // by id-1
	limit   int         // bytes

	mu      sync.Mutex
	bytes   int
	held    int
	leaves  ring
	stacks  ring
	changed ring
	lent    ring // pages that the writer reads for the block at hand alone; not in bytes
}

// ring is a list of pages: next of the head is the newest, prev the oldest.
type ring struct {
	head  page
	bytes int
}

// cacheEntry is the cache's part of a page.
type cacheEntry struct {
	prev, next *page
	ring       *ring // nil: not in the cache
	size       int   // bytes accounted for
	lent       bool  // the writer's room: it goes back there, and not to a ring of the cache
}

func newPages(limit int) *pages {
	c := &pages{limit: limit}
	for _, r := range []*ring{&c.leaves, &c.stacks, &c.changed, &c.lent} {
		r.head.prev, r.head.next = &r.head, &r.head
	}
	return c
}

func (c *pages) entry(id uint64) *pageEntry { return &c.entries[id-1] }

// get returns a page that is in memory, or nil.
func (c *pages) get(id uint64) *page { return c.entries[id-1].held.Load() }

// hasRoom reports whether a leaf page may stay in memory. Keys are random, so that no page is used
// more than another: pages that are there stay, and those that are read do not displace them.
func (c *pages) hasRoom() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.room()
}

func (c *pages) room() bool { return c.bytes+largestPage <= c.limit }

// put adds a page that was read, unless there is no room, and returns the one in the cache: another
// reader may have been faster.
func (c *pages) put(p *page) *page {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.entry(p.id)
	if held := e.held.Load(); held != nil {
		return held
	}
	if p.isLeaf() && !c.room() {
		return p
	}
	c.link(p, c.home(p))
	c.evict()
	return p
}

// lend makes a page that was read in the writer's room known, until it is returned.
func (c *pages) lend(p *page) *page {
	c.mu.Lock()
	defer c.mu.Unlock()
	if held := c.entry(p.id).held.Load(); held != nil {
		return held
	}
	p.lent = true
	c.link(p, &c.lent)
	return p
}

// giveBack makes a page that was lent unknown again. It reports whether the page is free.
func (c *pages) giveBack(p *page) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p.ring == &c.lent {
		c.unlink(p)
	}
	return p.ring == nil
}

// pin keeps a page, also a new one, until release.
func (c *pages) pin(p *page) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p.ring != nil {
		c.unlink(p)
	}
	c.link(p, &c.changed)
}

// release makes a page that was written evictable again.
func (c *pages) release(p *page) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.unlink(p)
	if p.lent {
		c.link(p, &c.lent)
		return
	}
	if p.isLeaf() && !c.room() {
		return
	}
	c.link(p, c.home(p))
	c.evict()
}

// resize accounts for the growth of a page.
func (c *pages) resize(p *page) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p.ring == nil {
		return // evicted since it was looked up
	}
	grown := p.memory() - p.size
	p.size += grown
	c.account(p.ring, grown)
}

// oldestChanged returns the page that has been pinned for longest, or nil.
func (c *pages) oldestChanged() *page {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p := c.changed.head.prev; p != &c.changed.head {
		return p
	}
	return nil
}

// usage returns the number of pages in memory, their bytes, and the bytes pinned.
func (c *pages) usage() (held, bytes, pinned int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.held, c.bytes, c.changed.bytes
}

func (c *pages) home(p *page) *ring {
	if p.isLeaf() {
		return &c.leaves
	}
	return &c.stacks
}

// evict drops pages while they take more than the limit: the oldest, as none is used more than
// another. Leaf pages go first, as each stack page is on the way to many of them.
func (c *pages) evict() {
	for c.bytes > c.limit {
		r := &c.leaves
		if r.bytes <= c.limit/8 && c.stacks.bytes > 0 {
			r = &c.stacks
		}
		p := r.head.prev
		if p == &r.head {
			return
		}
		c.unlink(p)
	}
}

func (c *pages) link(p *page, r *ring) {
	p.prev, p.next = &r.head, r.head.next
	p.prev.next, p.next.prev = p, p
	p.ring, p.size = r, p.memory()
	c.account(r, p.size)
	c.held++
	c.entry(p.id).held.Store(p)
}

func (c *pages) account(r *ring, bytes int) {
	r.bytes += bytes
	if r != &c.lent {
		c.bytes += bytes
	}
}

func (c *pages) unlink(p *page) {
	p.prev.next, p.next.prev = p.next, p.prev
	c.account(p.ring, -p.size)
	c.held--
	p.prev, p.next, p.ring = nil, nil, nil
	c.entry(p.id).held.Store(nil)
}
