package trie

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"slices"
)

// maxEntries is how many leaves or children a page holds before it is split at
// its topmost branch. A leaf page keeps no inner hashes, so every change of it
// costs up to maxEntries-1 hashes; smaller pages cost more rows and memory.
const maxEntries = 32

// leaf is a message in a page: 76 bytes, so that a million of them are 76 MB.
type leaf struct {
	key, hash [32]byte
	index     uint32
	height    [2]uint32 // low, high; a uint64 would pad the struct to 80 bytes
}

func newLeaf(l *Leaf, height uint64) leaf {
	return leaf{key: l.Key, hash: l.Hash, index: l.Index, height: [2]uint32{uint32(height), uint32(height >> 32)}}
}

func (l *leaf) at() uint64 { return uint64(l.height[1])<<32 | uint64(l.height[0]) }

// child is a page seen from above.
type child struct {
	hash   [32]byte // of the page's subtree; zero until computed again
	newest uint64   // height of its newest leaf
	id     uint64   // 0: no page
}

// page is a subtree of the trie cut off at most maxEntries nodes below its top:
// a leaf page holds leaves, a stack page the pages below it. Its entries are in
// the order of their keys, and gaps[i] is the first bit in which entries i and
// i+1 differ. That is the whole shape: the branch at gap i has as its left side
// all entries down to the next smaller gap before i, as its right side all up to
// the next smaller gap after it. Gaps within one subtree have one minimum, its
// topmost branch.
type page struct {
	id       uint64
	leaves   []leaf
	children []child
	gaps     []uint8
	// inner[i] is the hash of the branch at gap i, zero until computed again.
	// Only stack pages keep them: in leaf pages they would cost 32 bytes a
	// message.
	inner [][32]byte

	cacheEntry
}

func (p *page) isLeaf() bool { return p.children == nil }

func (p *page) len() int {
	if p.isLeaf() {
		return len(p.leaves)
	}
	return len(p.children)
}

// memory returns about how many bytes the page occupies.
func (p *page) memory() int {
	const fixed = 320 // the struct, the cache's map entry, allocation classes
	return fixed + cap(p.leaves)*76 + cap(p.children)*48 + cap(p.inner)*32 + cap(p.gaps)
}

// top returns the gap of the topmost branch over entries lo to hi-1.
func (p *page) top(lo, hi int) int {
	m := lo
	for i := lo + 1; i < hi-1; i++ {
		if p.gaps[i] < p.gaps[m] {
			m = i
		}
	}
	return m
}

// descend follows key's bits to one entry, testing only the bits at which the
// page branches, and returns it with the last bit tested. If an entry holds
// the key, it is this one.
func (p *page) descend(key *[32]byte) (at int, tested uint8) {
	lo, hi := 0, p.len()
	for hi-lo > 1 {
		m := p.top(lo, hi)
		tested = p.gaps[m]
		if bit(key, int(tested)) == 0 {
			hi = m + 1
		} else {
			lo = m + 1
		}
	}
	return lo, tested
}

// edge follows key's bits like descend to the first branch that tests a bit
// beyond at, and returns the entries below it. A key that differs from all of
// them in bit at belongs beside them.
func (p *page) edge(key *[32]byte, at uint8) (lo, hi int) {
	lo, hi = 0, p.len()
	for hi-lo > 1 {
		m := p.top(lo, hi)
		if p.gaps[m] > at {
			break
		}
		if bit(key, int(p.gaps[m])) == 0 {
			hi = m + 1
		} else {
			lo = m + 1
		}
	}
	return lo, hi
}

// touch forgets the hashes of all branches above entry at.
func (p *page) touch(at int) {
	p.children[at].hash = zero
	lo, hi := 0, p.len()
	for hi-lo > 1 {
		m := p.top(lo, hi)
		p.inner[m] = zero
		if at <= m {
			hi = m + 1
		} else {
			lo = m + 1
		}
	}
}

// search returns where key is among the leaves, or would be.
func (p *page) search(key *[32]byte) (at int, found bool) {
	return slices.BinarySearchFunc(p.leaves, key, func(l leaf, key *[32]byte) int {
		return bytes.Compare(l.key[:], key[:])
	})
}

// diverges returns the bit in which key, not in the page, first differs from
// the leaf most like it; at is what search answered.
func (p *page) diverges(key *[32]byte, at int) uint8 {
	var d uint8
	if at > 0 {
		d = firstDifference(&p.leaves[at-1].key, key)
	}
	if at < len(p.leaves) {
		d = max(d, firstDifference(key, &p.leaves[at].key))
	}
	return d
}

// insertLeaf puts l at position at, which search answered.
func (p *page) insertLeaf(at int, l leaf) {
	p.leaves = insertEntry(p.leaves, at, l)
	p.gaps = slices.Insert(p.gaps, max(at-1, 0), 0)
	for i := max(at-1, 0); i <= at && i < len(p.gaps); i++ {
		p.gaps[i] = firstDifference(&p.leaves[i].key, &p.leaves[i+1].key)
	}
}

// insertChild puts c at position at; the new gap, of bit d, lies at index gap.
func (p *page) insertChild(at int, c child, gap int, d uint8) {
	p.children = insertEntry(p.children, at, c)
	p.gaps = slices.Insert(p.gaps, gap, d)
	p.inner = slices.Insert(p.inner, gap, zero)
	p.touch(at)
}

// split cuts the page at its topmost branch: it keeps the left side, right
// gets the rest. It returns the bit they differ in.
func (p *page) split(right *page) uint8 {
	m := p.top(0, p.len())
	d := p.gaps[m]
	if p.isLeaf() {
		right.leaves, p.leaves = clone(p.leaves[m+1:]), clone(p.leaves[:m+1])
	} else {
		right.children, p.children = clone(p.children[m+1:]), clone(p.children[:m+1])
		right.inner, p.inner = clone(p.inner[m+1:]), clone(p.inner[:m])
	}
	right.gaps, p.gaps = clone(p.gaps[m+1:]), clone(p.gaps[:m])
	return d
}

// newest returns the height of the newest leaf below the page.
func (p *page) newest() uint64 {
	var h uint64
	for i := range p.leaves {
		h = max(h, p.leaves[i].at())
	}
	for i := range p.children {
		h = max(h, p.children[i].newest)
	}
	return h
}

// hash returns the hash of the page's subtree. It writes to inner, so that only
// who may change the page calls it.
func (p *page) hash() [32]byte {
	if !p.isLeaf() {
		return p.branch(0, len(p.children))
	}
	var f fold
	for i := range p.leaves {
		if i > 0 {
			f.gap(p.gaps[i-1])
		}
		f.add(&p.leaves[i].hash)
	}
	return f.sum()
}

func (p *page) branch(lo, hi int) [32]byte {
	if hi-lo == 1 {
		return p.children[lo].hash
	}
	m := p.top(lo, hi)
	if p.inner[m] == zero {
		left, right := p.branch(lo, m+1), p.branch(m+1, hi)
		p.inner[m] = branchHash(p.gaps[m], &left, &right)
	}
	return p.inner[m]
}

// fold hashes a subtree from its entries in key order: add, gap, add, ... A
// branch is complete, and hashed, when a smaller gap follows.
type fold struct {
	hashes [maxEntries + 2][32]byte
	gaps   [maxEntries + 2]uint8
	n      int // hashes held; gaps[i] is between hashes i and i+1
}

func (f *fold) add(h *[32]byte) {
	f.hashes[f.n] = *h
	f.n++
}

func (f *fold) gap(d uint8) {
	for f.n > 1 && f.gaps[f.n-2] > d {
		f.join()
	}
	f.gaps[f.n-1] = d
}

func (f *fold) join() {
	f.hashes[f.n-2] = branchHash(f.gaps[f.n-2], &f.hashes[f.n-2], &f.hashes[f.n-1])
	f.n--
}

func (f *fold) sum() [32]byte {
	for f.n > 1 {
		f.join()
	}
	return f.hashes[0]
}

// firstDifference returns the first bit in which two different keys differ.
func firstDifference(a, b *[32]byte) uint8 {
	for i := 0; i < 32; i += 8 {
		if x := binary.BigEndian.Uint64(a[i:]) ^ binary.BigEndian.Uint64(b[i:]); x != 0 {
			return uint8(i*8 + bits.LeadingZeros64(x))
		}
	}
	return keyBits - 1
}

// insertEntry is slices.Insert with room for four more instead of twice as
// many: most of the memory is in these slices.
func insertEntry[E any](s []E, at int, e E) []E {
	if len(s) == cap(s) {
		s = append(make([]E, 0, len(s)+4), s...)
	}
	return slices.Insert(s, at, e)
}

func clone[E any](s []E) []E {
	return append(make([]E, 0, len(s)+2), s...)
}
