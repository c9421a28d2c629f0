package trie

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"slices"
	"sort"
)

const (
	// maxEntries is how many leaves or children a page holds before it is split
	// at its topmost branch. Smaller pages cost more memory, larger ones more
	// hashes and bytes for each change.
	maxEntries = 32
	// A leaf page keeps the hashes of its subtrees at keptDepth alone: those of
	// all its branches would cost 32 bytes a message.
	keptDepth  = 2
	keptHashes = 1 << keptDepth
)

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
	gapRoom  [maxEntries]uint8
	// of a stack page: the hash of the branch at gap i, zero until computed again
	inner [][32]byte
	kept  [keptHashes]kept // of a leaf page

	cacheEntry
}

func newPage(id uint64) *page {
	p := &page{id: id}
	p.gaps = p.gapRoom[:0] // within the page: a search waits for memory
	return p
}

// kept is the hash of the subtree of entries lo to hi-1; hi is 0 if there is none.
type kept struct {
	lo, hi uint8
	hash   [32]byte
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
	const fixed = 420 // the struct, allocation classes
	return fixed + cap(p.leaves)*76 + cap(p.children)*48 + cap(p.inner)*32
}

// largestPage is the memory of a leaf page with as many leaves as it may have.
const largestPage = 420 + maxEntries*76

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
	// One pass over the gaps. At a bit that is 0 the way goes left: all deeper branches that follow
	// are on the right, and none of them is on the way.
	deepest := keyBits
	for i, d := range p.gaps {
		if int(d) > deepest {
			continue
		}
		if bit(key, int(d)) == 1 {
			at, deepest = i+1, keyBits
		} else {
			deepest = int(d)
		}
	}
	if at > 0 {
		tested = p.gaps[at-1]
	}
	if at < len(p.gaps) {
		tested = max(tested, p.gaps[at])
	}
	return at, tested
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

// touch clears the hashes of all branches above entry at: on either side those with a smaller gap
// than any between.
func (p *page) touch(at int) {
	p.children[at].hash = zero
	for i, least := at-1, keyBits; i >= 0; i-- {
		if d := int(p.gaps[i]); d < least {
			least, p.inner[i] = d, zero
		}
	}
	for i, least := at, keyBits; i < len(p.gaps); i++ {
		if d := int(p.gaps[i]); d < least {
			least, p.inner[i] = d, zero
		}
	}
}

// insertLeaf puts l, which first differs from the leaf that descend led to in
// bit d, in its place.
func (p *page) insertLeaf(l leaf, d uint8) {
	at, gap := p.place(&l.key, d)
	p.leaves = insertEntry(p.leaves, at, l)
	p.gaps = slices.Insert(p.gaps, gap, d)
	p.shift(at)
}

// shift moves the hashes kept to where their leaves are after one was inserted, and drops the one
// of the subtree that it is in.
func (p *page) shift(at int) {
	for i := range p.kept {
		switch k := &p.kept[i]; {
		case int(k.lo) >= at && k.hi > 0:
			k.lo++
			k.hi++
		case int(k.hi) > at:
			*k = kept{}
		}
	}
}

// place returns the position of a new entry that branches off on bit d, and
// that of its gap.
func (p *page) place(key *[32]byte, d uint8) (at, gap int) {
	lo, hi := p.edge(key, d)
	if bit(key, int(d)) == 1 {
		return hi, hi - 1
	}
	return lo, lo
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
	p.kept = [keptHashes]kept{}
	if p.isLeaf() {
		right.leaves, p.leaves = clone(p.leaves[m+1:]), clone(p.leaves[:m+1])
	} else {
		right.children, p.children = clone(p.children[m+1:]), clone(p.children[:m+1])
		right.inner, p.inner = clone(p.inner[m+1:]), clone(p.inner[:m])
	}
	right.gaps, p.gaps = append(right.gaps, p.gaps[m+1:]...), p.gaps[:m]
	return d
}

// add puts l in its place by its key. The gaps are those of before: measure comes after the last.
func (p *page) add(l *leaf) {
	at := sort.Search(len(p.leaves), func(i int) bool { return bytes.Compare(p.leaves[i].key[:], l.key[:]) >= 0 })
	if at < len(p.leaves) && p.leaves[at].key == l.key {
		return
	}
	p.leaves = insertEntry(p.leaves, at, *l)
	p.shift(at)
}

// measure computes the gaps of a leaf page, and reports whether its keys are in order.
func (p *page) measure() bool {
	p.gaps = p.gaps[:0]
	for i := range len(p.leaves) - 1 {
		a, b := &p.leaves[i].key, &p.leaves[i+1].key
		d := firstDifference(a, b)
		if bit(a, int(d)) >= bit(b, int(d)) {
			return false
		}
		p.gaps = append(p.gaps, d)
	}
	return true
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

// insertEntry is slices.Insert with room for what the allocator gives anyway,
// instead of twice as many: most of the memory is in these slices.
func insertEntry[E any](s []E, at int, e E) []E {
	if len(s) == cap(s) {
		s = append(slices.Grow([]E(nil), len(s)+1), s...)
	}
	return slices.Insert(s, at, e)
}

func clone[E any](s []E) []E {
	return append(slices.Grow([]E{}, len(s)), s...)
}
