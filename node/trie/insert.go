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

func (t *Trie) insert(l leaf) error {
	s := &t.slots[l.key[0]]
	if s.id == 0 {
		s.child = t.newLeafPage(&l)
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
	t.note(p, &l)
	p.insertLeaf(l, d)
	t.pages.resize(p)
	return t.splitUp(s, p)
}

// descend returns the leaf that key's bits lead to, with its page, and leaves
// the way there in t.hops. No leaf has more bits in common with key.
func (t *Trie) descend(c *child, key *[32]byte) (*page, *leaf, error) {
	t.hops = t.hops[:0]
	for {
		p, err := t.fetch(c.id, key[0])
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
	p, err := t.fetch(c.id, l.key[0])
	if err != nil {
		return err
	}
	t.change(p)
	at, gap := p.place(&l.key, d)
	p.insertChild(at, t.newLeafPage(&l), gap, d)
	t.pages.resize(p)
	return t.splitUp(s, p)
}

// splitUp splits p, and the pages above it on the way, while they are too large.
func (t *Trie) splitUp(s *slot, p *page) error {
	for p.len() > t.fanout {
		s.shape++
		t.change(p)
		right := t.newPage()
		d := p.split(right)
		t.change(right)
		t.pages.resize(p)
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
		t.pages.resize(above)
		p = above
	}
	return nil
}

func (t *Trie) newPage() *page {
	t.pages.entries = append(t.pages.entries, pageEntry{})
	return newPage(uint64(len(t.pages.entries)))
}

func (t *Trie) newLeafPage(l *leaf) child {
	p := t.newPage()
	p.leaves = make([]leaf, 0, 4)
	t.note(p, l)
	p.leaves = append(p.leaves, *l)
	switch {
	case p.ring != nil:
		t.pages.resize(p)
	case t.pages.hasRoom():
		t.pages.put(p)
	default:
		t.lend(p, l.key[0])
	}
	return child{id: p.id, newest: l.at()}
}

// note must come before a leaf is put into a page, so that the page may be evicted afterwards. When
// as many leaves have come as make it worth its bytes, the page is written instead.
func (t *Trie) note(p *page, l *leaf) {
	if p.ring == &t.pages.changed {
		return
	}
	e := t.pages.entry(p.id)
	if int(e.count)+1 >= t.enough() || !t.additions.push(e, l) {
		t.change(p)
	}
}

// enough is how many additions a page is written for. It holds the number of additions of all
// pages below their limit: if pages were written at k of them, each had (k-1)/2 on average.
func (t *Trie) enough() int {
	k := 2 + 2*t.additions.limit/max(len(t.pages.entries), 1)
	if t.additions.used > t.additions.limit/8*7 {
		k--
	}
	return max(k, 1)
}

// change must come before every other change of a page: it stays in memory until it is written. The
// writer writes leaf pages at the end of their slot.
func (t *Trie) change(p *page) {
	if p.ring == &t.pages.changed {
		return
	}
	t.pages.pin(p)
	if p.isLeaf() {
		t.unwritten = append(t.unwritten, p)
	}
}

// write appends the record of a changed page, whose hashes are computed, to the segments.
func (t *Trie) write(p *page) error {
	at, err := t.store.append(p.id, func(b []byte) []byte { return appendPage(b, p) })
	if err != nil {
		return err
	}
	e := t.pages.entry(p.id)
	t.store.dead(e.at)
	e.at = at
	t.additions.drop(e)
	t.pages.release(p)
	return nil
}

// writeLeaves writes the leaf pages that changed.
func (t *Trie) writeLeaves() error {
	for _, p := range t.unwritten {
		if err := t.write(p); err != nil {
			return err
		}
	}
	clear(t.unwritten)
	t.unwritten = t.unwritten[:0]
	return nil
}
