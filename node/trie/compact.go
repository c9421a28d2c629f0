package trie

import (
	"cmp"
	"slices"
)

// moving is a segment whose live records move to the active one.
type moving struct {
	records []placed
	next    int
}

// placed is a page's record.
type placed struct {
	at location
	id uint64
}

// compact moves live records, while the segments have more dead bytes than live ones, out of the
// one that has the fewest: twice as many bytes as were appended since the last call, so that it
// keeps up and no block waits for long.
func (t *Trie) compact() error {
	budget := 2 * (t.store.total - t.compacted)
	defer func() { t.compacted = t.store.total }()
	for budget > 0 {
		if t.moving == nil {
			victim := t.store.victim()
			if victim == nil {
				return nil
			}
			t.moving = &moving{records: t.recordsIn(victim)}
		}
		m := t.moving
		for ; budget > 0 && m.next < len(m.records); m.next++ {
			r := m.records[m.next]
			if t.pages.entry(r.id).at != r.at {
				continue
			}
			if err := t.move(r); err != nil {
				return err
			}
			budget -= int64(r.at.length())
		}
		if m.next == len(m.records) {
			t.moving = nil
		}
	}
	return nil
}

// victim returns the segment to empty, or nil.
func (s *segments) victim() *segment {
	var live, size int64
	var victim *segment
	for _, seg := range s.byNumber {
		if seg.live == 0 && seg != s.active {
			continue // the next checkpoint lets it go
		}
		live += seg.live
		size += seg.size
		if seg != s.active && (victim == nil || seg.live < victim.live) {
			victim = seg
		}
	}
	if size-live <= live+2*s.bytes {
		return nil
	}
	return victim
}

// recordsIn returns the live records of a segment as they lie.
func (t *Trie) recordsIn(seg *segment) []placed {
	var list []placed
	for i := range t.pages.entries {
		if at := t.pages.entries[i].at; at.segment() == seg.number {
			list = append(list, placed{at, uint64(i + 1)})
		}
	}
	slices.SortFunc(list, func(a, b placed) int { return cmp.Compare(a.at, b.at) })
	return list
}

// move appends the record of a page anew.
func (t *Trie) move(r placed) error {
	var at location
	err := t.store.read(r.id, r.at, func(record []byte) (err error) {
		at, err = t.store.append(r.id, func(b []byte) []byte { return append(b, record...) })
		return err
	})
	if err != nil {
		return err
	}
	t.store.dead(r.at)
	t.pages.entry(r.id).at = at
	return nil
}
