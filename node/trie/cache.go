package trie

import "sync"

// cache holds pages by id. Clean pages are evicted, least recently used first,
// while the whole is over its limit; pages with changes that are not on disk
// are pinned and stay.
type cache struct {
	mu          sync.Mutex
	pages       map[uint64]*page
	recent      page // ring of clean pages: next is the newest, prev the oldest
	limit       int
	bytes       int
	pinnedBytes int
}

// cacheEntry is the cache's and the flush's part of a page.
type cacheEntry struct {
	prev, next *page // in the ring while clean
	size       int   // bytes accounted for

	// Both belong to the writer.
	dirtied  uint64 // flush generation of the last change; 0: as on disk
	captured bool   // a flush under way has still to write it as it is now
}

func newCache(limit int) *cache {
	c := &cache{pages: make(map[uint64]*page), limit: limit}
	c.recent.prev, c.recent.next = &c.recent, &c.recent
	return c
}

// get returns a page of the cache, or nil, and notes its use.
func (c *cache) get(id uint64) *page {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.pages[id]
	if p != nil && p.next != nil && c.recent.next != p {
		c.unlink(p)
		c.link(p)
	}
	return p
}

// put adds a page read from disk and returns the one in the cache: another reader
// may have been faster.
func (c *cache) put(p *page) *page {
	c.mu.Lock()
	defer c.mu.Unlock()
	if held := c.pages[p.id]; held != nil {
		return held
	}
	c.pages[p.id] = p
	p.size = p.memory()
	c.bytes += p.size
	c.link(p)
	c.evict()
	return p
}

// pin keeps a page of the cache, or a new one, from eviction.
func (c *cache) pin(p *page) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p.next != nil {
		c.unlink(p)
		c.pinnedBytes += p.size
		return
	}
	if c.pages[p.id] != p { // new, or evicted since it was looked up
		c.pages[p.id] = p
		p.size = p.memory()
		c.bytes += p.size
		c.pinnedBytes += p.size
	}
}

// resize accounts for the growth of a pinned page.
func (c *cache) resize(p *page) {
	c.mu.Lock()
	defer c.mu.Unlock()
	grown := p.memory() - p.size
	p.size += grown
	c.bytes += grown
	c.pinnedBytes += grown
}

// unpin makes a page that is on disk now evictable again.
func (c *cache) unpin(p *page) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pinnedBytes -= p.size
	c.link(p)
	c.evict()
}

// usage returns the number of pages, their bytes, and the bytes pinned.
func (c *cache) usage() (pages, bytes, pinned int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.pages), c.bytes, c.pinnedBytes
}

func (c *cache) evict() {
	for c.bytes > c.limit && c.recent.prev != &c.recent {
		p := c.recent.prev
		c.unlink(p)
		c.bytes -= p.size
		delete(c.pages, p.id)
	}
}

func (c *cache) link(p *page) {
	p.prev, p.next = &c.recent, c.recent.next
	p.prev.next, p.next.prev = p, p
}

func (c *cache) unlink(p *page) {
	p.prev.next, p.next.prev = p.next, p.prev
	p.prev, p.next = nil, nil
}
