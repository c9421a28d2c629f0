package trie

import (
	"fmt"
	"slices"
	"sort"
)

// RootNode is the trie's root at some height: its hash and those of its two
// sides (keys whose first bit is 0, and 1). The zero hash stands for a side, or
// a trie, without keys.
type RootNode struct {
	Hash, Left, Right [32]byte
}

// frontier holds the hashes of the trie's top as a heap: node 1 is the root,
// 2i and 2i+1 are the sides of node i, 256+b is the subtree of the keys with
// first byte b. A node with one empty side has the other side's hash, as in a
// Patricia trie there is no branch; an empty one has the zero hash.
type frontier [2 * slotCount][32]byte

func (f *frontier) set(slot uint8, hash [32]byte) { f[slotCount+int(slot)] = hash }

// rehash computes the nodes above the slots named, each once.
func (f *frontier) rehash(slots []uint8) {
	var stale [slotCount]bool
	for _, s := range slots {
		stale[(slotCount+int(s))/2] = true
	}
	for i := slotCount - 1; i > 0; i-- {
		if stale[i] {
			f.node(i)
			stale[i/2] = true
		}
	}
}

func (f *frontier) rehashAll() {
	for i := slotCount - 1; i > 0; i-- {
		f.node(i)
	}
}

func (f *frontier) node(i int) {
	left, right := &f[2*i], &f[2*i+1]
	switch {
	case i == 1:
		f[1] = rootHash(left, right)
	case *left == zero:
		f[i] = *right
	case *right == zero:
		f[i] = *left
	default:
		f[i] = branchHash(uint8(depth(i)), left, right)
	}
}

func (f *frontier) root() RootNode { return RootNode{Hash: f[1], Left: f[2], Right: f[3]} }

// depth returns the bit on which node i splits.
func depth(i int) int {
	d := 0
	for ; i > 1; i /= 2 {
		d++
	}
	return d
}

// version is a slot's hash from a height on.
type version struct {
	height uint64
	hash   [32]byte
}

// record notes the slot's hash at height, and drops versions that no height
// from base on needs.
func (s *slot) record(height, base uint64) {
	s.versions = append(s.versions, version{height, s.hash})
	n := versionAt(s.versions, base)
	if n > 0 && (n > 32 || n > len(s.versions)/2) {
		s.versions = slices.Delete(s.versions, 0, n)
	}
}

// versionAt returns the index of the version in force at height, -1 for none.
func versionAt(v []version, height uint64) int {
	return sort.Search(len(v), func(i int) bool { return v[i].height > height }) - 1
}

// oldest returns the first height of the window that ends with height.
func (t *Trie) oldest(height uint64) uint64 {
	return max(t.floor, height-min(height, t.history-1))
}

func (t *Trie) keeps(height uint64) bool {
	return height <= t.height && (height >= t.oldest(t.height) || height%MilestoneHeights == 0)
}

// frontierAt returns the trie's top as it was at a height that is kept.
func (t *Trie) frontierAt(height uint64) (*frontier, error) {
	if height > t.height && height <= t.until {
		return nil, fmt.Errorf("%w: height %d of %d", ErrRecomputing, t.height, t.until)
	}
	if !t.keeps(height) {
		return nil, fmt.Errorf("%w: %d (newest %d)", ErrNoSuchHeight, height, t.height)
	}
	if height < t.oldest(t.height) && height > 0 {
		if f := t.milestones[height]; f != nil {
			return f, nil
		}
		return t.milestone(height)
	}
	return t.window(height), nil
}

// window is frontierAt for a height of the window, or 0.
func (t *Trie) window(height uint64) *frontier {
	f := new(frontier)
	if height == t.height {
		*f = t.frontier
		return f
	}
	for i := range t.slots {
		if v := t.slots[i].versions; len(v) > 0 {
			if n := versionAt(v, height); n >= 0 {
				f.set(uint8(i), v[n].hash)
			}
		}
	}
	f.rehashAll()
	return f
}

// Root returns the root at height, all zeros for the empty trie. It is not ok
// when the height is not kept any more, or not computed yet.
func (t *Trie) Root(height uint64) (root [32]byte, ok bool) {
	n, err := t.RootNode(height)
	return n.Hash, err == nil
}

// RootNode returns the root at height with the hashes of its sides, or
// ErrNoSuchHeight. Below Options.Until it answers for the heights that are
// computed.
func (t *Trie) RootNode(height uint64) (RootNode, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.closed {
		return RootNode{}, ErrClosed
	}
	if height == t.height {
		return t.frontier.root(), nil
	}
	f, err := t.frontierAt(height)
	if err != nil {
		return RootNode{}, t.noted(err)
	}
	return f.root(), nil
}
