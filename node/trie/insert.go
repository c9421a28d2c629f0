package trie

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"
)

// inOrder returns the leaves sorted by key, equal ones as they came, so that
// neighbours in the trie follow one another.
func inOrder(leaves []Leaf) []*Leaf {
	type ref struct {
		prefix uint64
		leaf   int
	}
	refs := make([]ref, len(leaves))
	for i := range leaves {
		refs[i] = ref{binary.BigEndian.Uint64(leaves[i].Key[:]), i}
	}
	slices.SortFunc(refs, func(a, b ref) int {
		if c := cmp.Compare(a.prefix, b.prefix); c != 0 {
			return c
		}
		return cmp.Or(bytes.Compare(leaves[a.leaf].Key[:], leaves[b.leaf].Key[:]), cmp.Compare(a.leaf, b.leaf))
	})
	sorted := make([]*Leaf, len(refs))
	for i, r := range refs {
		sorted[i] = &leaves[r.leaf]
	}
	return sorted
}

// hop is a stack page on the way to a leaf.
type hop struct {
	page   *page
	at     int
	tested uint8
}

// load is page for the writer.
func (t *Trie) load(c *child) (*page, error) {
	if c.live != nil && c.live.dirtied != 0 {
		return c.live, nil
	}
	p, err := t.page(c.id, &c.hash)
	if err == nil && p.dirtied != 0 {
		c.live = p
	}
	return p, err
}

func (t *Trie) insert(l leaf) error {
	s := &t.slots[l.key[0]]
	if s.id == 0 {
		s.child = t.newLeafPage(l)
		t.leaves++
		t.fresh++
		return nil
	}
	p, like, err := t.descend(&s.child, &l.key)
	if err != nil || like.key == l.key {
		return err
	}
	t.leaves++
	t.fresh++
	height := l.at()
	s.hash, s.newest = zero, height
	// The branch for the new leaf lies in p, unless the leaf differs from all
	// of p's in a bit before the last one tested on the way.
	d := firstDifference(&like.key, &l.key)
	if n := len(t.hops); n > 0 && d < t.hops[n-1].tested {
		for n > 1 && d < t.hops[n-2].tested {
			n--
		}
		t.hops = t.hops[:n-1]
		t.touch(height)
		s.shape++
		return t.insertBeside(s, l, d)
	}
	t.touch(height)
	t.change(p)
	p.insertLeaf(l, d)
	t.cache.resize(p)
	return t.splitUp(s, p)
}

// descend returns the leaf that key's bits lead to, with its page, and leaves
// the way there in t.hops. No leaf has more bits in common with key.
func (t *Trie) descend(c *child, key *[32]byte) (*page, *leaf, error) {
	t.hops = t.hops[:0]
	for {
		p, err := t.load(c)
		if err != nil {
			return nil, nil, err
		}
		at, tested := p.descend(key)
		if p.isLeaf() {
			return p, &p.leaves[at], nil
		}
		if n := len(t.hops); n > 0 && len(p.gaps) == 0 { // a split can leave one child alone
			tested = t.hops[n-1].tested
		}
		t.hops = append(t.hops, hop{p, at, tested})
		c = &p.children[at]
	}
}

// touch marks the pages on the way for hashing again.
func (t *Trie) touch(height uint64) {
	for _, h := range t.hops {
		t.change(h.page)
		h.page.touch(h.at)
		h.page.children[h.at].newest = height
	}
}

// insertBeside adds l as a page of its own, at the branch on bit d within the
// stack page below the last hop. Such pages stay small, but they are rare: they
// need a subtree of a whole page that is one-sided at its top.
func (t *Trie) insertBeside(s *slot, l leaf, d uint8) error {
	c := &s.child
	if n := len(t.hops); n > 0 {
		c = &t.hops[n-1].page.children[t.hops[n-1].at]
	}
	p, err := t.load(c)
	if err != nil {
		return err
	}
	t.change(p)
	at, gap := p.place(&l.key, d)
	p.insertChild(at, t.newLeafPage(l), gap, d)
	t.cache.resize(p)
	return t.splitUp(s, p)
}

// splitUp splits p, and the pages above it on the way, while they are too large.
func (t *Trie) splitUp(s *slot, p *page) error {
	for p.len() > t.fanout {
		s.shape++
		right := t.newPage()
		d := p.split(right)
		t.change(right)
		t.cache.resize(p)
		upper := child{id: right.id, newest: right.newest()}
		lower := child{id: p.id, newest: p.newest()}
		n := len(t.hops) - 1
		if n < 0 {
			top := t.newPage()
			top.children = []child{lower, upper}
			top.gaps, top.inner = append(top.gaps, d), [][32]byte{zero}
			t.change(top)
			s.child = child{newest: s.newest, id: top.id}
			return nil
		}
		above, at := t.hops[n].page, t.hops[n].at
		t.hops = t.hops[:n]
		above.children[at] = lower
		above.insertChild(at+1, upper, at, d)
		t.cache.resize(above)
		p = above
	}
	return nil
}

func (t *Trie) newPage() *page {
	t.pages++
	return newPage(t.pages)
}

func (t *Trie) newLeafPage(l leaf) child {
	p := t.newPage()
	p.leaves = append(make([]leaf, 0, 4), l)
	t.change(p)
	return child{id: p.id, newest: l.at()}
}

// change must come before every change of a page: a flush under way still
// needs the page as it was captured.
func (t *Trie) change(p *page) {
	if p.dirtied == t.gen {
		return
	}
	if p.captured {
		t.fl.early[p.id] = encodePage(p)
		p.captured = false
	}
	p.dirtied = t.gen
	t.dirty = append(t.dirty, p)
	t.cache.pin(p)
}

// rehash computes the hashes of changed pages from below.
func (t *Trie) rehash(c *child) error {
	if c.hash != zero {
		return nil
	}
	p, err := t.load(c)
	if err != nil {
		return err
	}
	for i := range p.children {
		if err := t.rehash(&p.children[i]); err != nil {
			return err
		}
	}
	c.hash = p.hash()
	return nil
}
