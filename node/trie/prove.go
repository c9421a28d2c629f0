package trie

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

const (
	// walkPages is how many pages a proof of an older height may look at before it lets an Append
	// in between.
	walkPages = 64
	// walkAttempts is how often such a proof starts again because an Append moved pages, before it
	// keeps appends waiting.
	walkAttempts = 3
)

var errMoved = errors.New("trie: pages moved")

// Prove returns the proof of key at a height that Root answers for: of
// inclusion if the key was there, of absence if not. Its last leaf's Data is
// left for the caller to fill in, from the block named by Leaf.Height and
// Leaf.Index; without it the proof does not verify. A proof at the newest
// height reads at most a few pages; one at an older height reads again those
// pages of 1/256 of the trie that have changed since.
func (t *Trie) Prove(ctx context.Context, height uint64, key [32]byte) (*Proof, error) {
	if height != t.Height() {
		select {
		case t.walks <- struct{}{}:
			defer func() { <-t.walks }()
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	for attempt := 1; ; attempt++ {
		p, err := t.prove(ctx, height, &key, attempt < walkAttempts)
		if !errors.Is(err, errMoved) {
			return p, t.noted(err)
		}
	}
}

func (t *Trie) prove(ctx context.Context, height uint64, key *[32]byte, polite bool) (*Proof, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if err := t.readable(); err != nil {
		return nil, err
	}
	f, err := t.frontierAt(height)
	if err != nil {
		return nil, err
	}
	p := &Proof{Key: *key, Height: height, Root: f.root()}
	i := 2 + int(bit(key, 0))
	if f[i] == zero {
		return p, nil
	}
	side := i == 3
	for i < slotCount {
		left, right := 2*i, 2*i+1
		if f[left] == zero || f[right] == zero { // no branch: the only way on
			i = left
			if f[left] == zero {
				i = right
			}
			continue
		}
		d := depth(i)
		p.Branches = append(p.Branches, Branch{IsRight: side, Bit: uint8(d), Hash: f[i], Left: f[left], Right: f[right]})
		i = left + int(bit(key, d))
		side = i == right
	}
	s := &t.slots[i-slotCount]
	w := &walk{trie: t, ctx: ctx, height: height, slot: s, shape: s.shape, polite: polite}
	if err := w.prove(s.child, side, key, p); err != nil {
		return nil, err
	}
	if err := p.fold(); err != nil {
		return nil, corrupt("pages", "proof at height %d of key %x: %w", height, *key, err)
	}
	return p, nil
}

// walk reads one slot as it was at a height. Now and then it lets go of the
// trie's lock; leaves that come meanwhile are newer than height and left out as
// all others, and should pages have been split or added, it gives up.
type walk struct {
	trie   *Trie
	ctx    context.Context
	height uint64
	slot   *slot
	shape  uint64
	polite bool
	looked int
}

// entry is a leaf, or the part of a page's subtree, that was there at the height.
type entry struct {
	hash [32]byte
	gap  uint8 // to the entry before it
	page child // not for leaves
	leaf *leaf
}

// entries returns what was in the page at the height, in order.
func (w *walk) entries(id uint64) ([]entry, error) {
	if err := w.breathe(); err != nil {
		return nil, err
	}
	// The proof as a whole is checked in the end.
	p, err := w.trie.page(id)
	if err != nil {
		return nil, err
	}
	list := make([]entry, 0, p.len())
	gap := uint8(keyBits - 1) // smallest since the last entry
	if p.isLeaf() {
		for i := range p.leaves {
			if i > 0 {
				gap = min(gap, p.gaps[i-1])
			}
			if p.leaves[i].at() <= w.height {
				l := p.leaves[i]
				list = append(list, entry{hash: l.hash, gap: gap, leaf: &l})
				gap = keyBits - 1
			}
		}
		return list, nil
	}
	// Below, the lock may be let go.
	children, gaps := slices.Clone(p.children), slices.Clone(p.gaps)
	for i, c := range children {
		if i > 0 {
			gap = min(gap, gaps[i-1])
		}
		hash := c.hash
		if c.newest > w.height {
			below, err := w.entries(c.id)
			if err != nil {
				return nil, err
			}
			if len(below) == 0 {
				continue
			}
			hash = foldEntries(below)
		}
		list = append(list, entry{hash: hash, gap: gap, page: c})
		gap = keyBits - 1
	}
	return list, nil
}

func foldEntries(list []entry) [32]byte {
	var f fold
	for i := range list {
		if i > 0 {
			f.gap(list[i].gap)
		}
		f.add(&list[i].hash)
	}
	return f.sum()
}

// breathe is called before each page.
func (w *walk) breathe() error {
	if w.looked++; w.looked%walkPages != 0 {
		return nil
	}
	if err := w.ctx.Err(); err != nil || !w.polite {
		return err
	}
	t := w.trie
	t.mu.RUnlock()
	t.mu.RLock()
	if t.closed {
		return ErrClosed
	}
	if w.slot.shape != w.shape {
		return errMoved
	}
	return nil
}

// prove appends to p the way from the top of the page c to the leaf where key
// is, or would be.
func (w *walk) prove(c child, side bool, key *[32]byte, p *Proof) error {
	for {
		list, err := w.entries(c.id)
		if err != nil {
			return err
		}
		if len(list) == 0 {
			return corrupt("pages", "page %d has nothing at height %d", c.id, w.height)
		}
		for len(list) > 1 {
			m := 1
			for i := 2; i < len(list); i++ {
				if list[i].gap < list[m].gap {
					m = i
				}
			}
			d := list[m].gap
			left, right := foldEntries(list[:m]), foldEntries(list[m:])
			p.Branches = append(p.Branches, Branch{IsRight: side, Bit: d, Hash: branchHash(d, &left, &right), Left: left, Right: right})
			side = bit(key, int(d)) == 1
			if side {
				list = list[m:]
			} else {
				list = list[:m]
			}
		}
		if l := list[0].leaf; l != nil {
			p.Leaf = &ProofLeaf{IsRight: side, Key: l.key, Hash: l.hash, Height: l.at(), Index: l.index}
			return nil
		}
		c = list[0].page
	}
}

// fold checks that the proof's hashes lead from its leaf to its root.
func (p *Proof) fold() error {
	if p.Leaf == nil {
		return nil
	}
	h, side := p.Leaf.Hash, p.Leaf.IsRight
	for i := len(p.Branches) - 1; i >= 0; i-- {
		b := &p.Branches[i]
		if b.child(side) != h {
			return fmt.Errorf("branch %d: child is %x, want %x", i, b.child(side), h)
		}
		h, side = b.Hash, b.IsRight
	}
	if p.Root.child(side) != h {
		return fmt.Errorf("root: child is %x, want %x", p.Root.child(side), h)
	}
	return nil
}
