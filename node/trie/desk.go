package trie

// desk is the writer's room for leaf pages for which there is none in the cache. They are there
// while their slot is written, and their memory is used again for the next ones.
type desk struct {
	lent []lentPage
	free []*page
}

type lentPage struct {
	page *page
	slot uint8
}

// prefetchPages is how many pages are lent before a block is applied: 6 MB. Later ones are read
// when their turn comes.
const prefetchPages = 2048

// fetch is page for the writer: a page of a slot that does not fit into the cache is lent.
func (t *Trie) fetch(id uint64, slot uint8) (*page, error) {
	if id == 0 || id > uint64(len(t.pages.entries)) {
		return nil, corrupt("pages", "page %d of %d", id, len(t.pages.entries))
	}
	if p := t.pages.get(id); p != nil {
		return p, nil
	}
	if t.pages.hasRoom() {
		return t.page(id)
	}
	p := t.desk.take(id)
	if err := t.read(p); err != nil {
		return nil, err
	}
	if !p.isLeaf() {
		return t.pages.put(p), nil
	}
	return t.lend(p, slot), nil
}

// lend makes a leaf page that is not in the cache known until its slot is written.
func (t *Trie) lend(p *page, slot uint8) *page {
	held := t.pages.lend(p)
	if held != p {
		t.desk.free = append(t.desk.free, p)
		return held
	}
	t.desk.lent = append(t.desk.lent, lentPage{p, slot})
	return p
}

// take returns an empty page.
func (d *desk) take(id uint64) *page {
	n := len(d.free)
	if n == 0 {
		p := newPage(id)
		p.leaves = make([]leaf, 0, maxEntries+1)
		return p
	}
	p := d.free[n-1]
	d.free = d.free[:n-1]
	*p = page{id: id, leaves: p.leaves[:0]}
	p.gaps = p.gapRoom[:0]
	return p
}

// giveBack frees the lent pages of all slots up to last, which are written. No reader has any: the
// caller has locked t.mu for writing.
func (t *Trie) giveBack(last uint8) {
	d := &t.desk
	kept := d.lent[:0]
	for _, l := range d.lent {
		switch {
		case l.slot > last:
			kept = append(kept, l)
		case t.pages.giveBack(l.page) && len(d.free) < prefetchPages:
			d.free = append(d.free, l.page)
		}
	}
	clear(d.lent[len(kept):])
	d.lent = kept
}
