package trie

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
)

// flush writes the trie as it was at one height, in one transaction, spread
// over the appends that follow: each writes a part, so that none stalls. A page
// that is changed before its turn is encoded first, as it was (Trie.change).
// Only the commit makes any of it visible; until then its pages stay pinned, so
// that nobody reads an older row.
type flush struct {
	state *state
	gen   uint64
	pages []*page // changed since the flush before, by id
	next  int
	step  int // pages a step
	early map[uint64][]byte
	tx    *sql.Tx
	put   *sql.Stmt
}

// advanceFlush starts a flush when enough has changed, or does a part of the
// one under way.
func (t *Trie) advanceFlush() error {
	_, _, pinned := t.cache.usage()
	if t.fl == nil && t.fresh < t.flushLeaves && t.height-t.captured < flushHeights && pinned < t.cache.limit/8*7 {
		return nil
	}
	if t.fl == nil {
		if err := t.startFlush(); err != nil {
			return err
		}
	}
	step := t.fl.step
	if pinned > t.cache.limit { // memory comes before evenness
		step = len(t.fl.pages)
	}
	return t.stepFlush(step)
}

func (t *Trie) startFlush() error {
	if err := t.store.awaitCheckpoint(); err != nil {
		return err
	}
	oldest := t.oldest(t.height)
	f := &flush{
		state: &state{
			height: t.height, leaves: t.leaves, pages: t.pages, slots: t.encodeSlots(),
			baseHeight: oldest, base: encodeFrontier(t.window(oldest)),
		},
		gen:   t.gen,
		pages: t.dirty,
		step:  max(64, len(t.dirty)/flushSteps),
		early: make(map[uint64][]byte),
	}
	slices.SortFunc(f.pages, func(a, b *page) int { return cmp.Compare(a.id, b.id) })
	for _, p := range f.pages {
		p.captured = true
	}
	t.dirty, t.fresh, t.captured = nil, 0, t.height
	t.gen++
	t.fl = f
	var err error
	if f.tx, err = t.store.write.Begin(); err != nil {
		return t.store.file.Explain("begin flush", err)
	}
	if f.put, err = f.tx.Prepare("INSERT OR REPLACE INTO page (id, body) VALUES (?, ?)"); err != nil {
		return t.store.file.Explain("prepare flush", err)
	}
	return nil
}

// stepFlush writes up to n pages, and commits after the last.
func (t *Trie) stepFlush(n int) error {
	f := t.fl
	for ; n > 0 && f.next < len(f.pages); n-- {
		p := f.pages[f.next]
		f.next++
		body := f.early[p.id]
		if p.captured {
			body = encodePage(p)
			p.captured = false
		} else {
			delete(f.early, p.id)
		}
		if _, err := f.put.Exec(p.id, body); err != nil {
			return t.store.file.Explain(fmt.Sprintf("write page %d", p.id), err)
		}
	}
	if f.next < len(f.pages) {
		return nil
	}
	return t.commitFlush()
}

func (t *Trie) commitFlush() error {
	f := t.fl
	ctx := context.Background() // half a commit helps nobody
	if err := t.writeHistory(ctx, f); err != nil {
		return err
	}
	if err := f.state.write(ctx, f.tx); err != nil {
		return t.store.file.Explain("write meta", err)
	}
	if err := errors.Join(f.put.Close(), f.tx.Commit()); err != nil {
		return t.store.file.Explain("commit flush", err)
	}
	t.fl = nil
	for _, p := range f.pages {
		if p.dirtied <= f.gen {
			p.dirtied = 0
			t.cache.unpin(p)
		}
	}
	t.mu.Lock()
	for i := range t.slots {
		t.slots[i].live = nil
	}
	for _, p := range f.pages {
		for i := range p.children {
			p.children[i].live = nil // or what is evicted could not be collected
		}
	}
	t.flushed = f.state.height
	for h := range t.milestones {
		if h <= t.flushed {
			delete(t.milestones, h)
		}
	}
	t.mu.Unlock()
	t.store.startCheckpoint()
	return nil
}

// writeHistory writes which slots changed at which height, and milestones.
func (t *Trie) writeHistory(ctx context.Context, f *flush) error {
	after, last := max(t.flushed, f.state.baseHeight), f.state.height
	changes := make(map[uint64][]byte)
	for i := range t.slots {
		for _, v := range t.slots[i].versions {
			if v.height > after && v.height <= last {
				changes[v.height] = append(append(changes[v.height], uint8(i)), v.hash[:]...)
			}
		}
	}
	if _, err := f.tx.ExecContext(ctx, "DELETE FROM change WHERE height <= ?", f.state.baseHeight); err != nil {
		return t.store.file.Explain("delete old changes", err)
	}
	for height := after + 1; height <= last; height++ {
		if c := changes[height]; c != nil {
			if _, err := f.tx.ExecContext(ctx, "INSERT INTO change (height, frontier) VALUES (?, ?)", height, seal(c)); err != nil {
				return t.store.file.Explain(fmt.Sprintf("write change at height %d", height), err)
			}
		}
	}
	for height, m := range t.milestones {
		if height <= last {
			if _, err := f.tx.ExecContext(ctx, "INSERT INTO milestone (height, frontier) VALUES (?, ?)", height, encodeFrontier(m)); err != nil {
				return t.store.file.Explain(fmt.Sprintf("write milestone %d", height), err)
			}
		}
	}
	return nil
}

func (f *flush) abandon() error {
	if f.tx == nil {
		return nil
	}
	return f.tx.Rollback()
}

// flushAll writes everything up to Height to disk, at once.
func (t *Trie) flushAll() error {
	if t.fl != nil {
		if err := t.stepFlush(len(t.fl.pages)); err != nil {
			return err
		}
	}
	if t.flushed == t.height {
		return nil
	}
	if err := t.startFlush(); err != nil {
		return err
	}
	return t.stepFlush(len(t.fl.pages))
}
