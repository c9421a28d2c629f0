package trie

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// keyPages is how many pages are read in one transaction: one that lasts keeps the log from being
// cut.
const keyPages = 256

// Keys calls visit with every key that is on disk, in no particular order and some of them twice,
// until visit returns false. That is every key up to the height that Open found, at least: a trie
// that Open found below Options.Until fails with ErrRecomputing, also later. It reads the whole
// file once.
func (t *Trie) Keys(ctx context.Context, visit func(key [32]byte) bool) error {
	if t.partial {
		return fmt.Errorf("%w: not all keys are on disk", ErrRecomputing)
	}
	for next := uint64(1); ; {
		pages, err := t.pagesFrom(ctx, next)
		switch {
		case err != nil:
			return t.noted(err)
		case len(pages) == 0 && next > t.opened:
			return nil
		case len(pages) == 0:
			return t.noted(t.missing(next))
		}
		for _, p := range pages {
			if p.id != next {
				return t.noted(t.missing(next))
			}
			for i := range p.leaves {
				if !visit(p.leaves[i].key) {
					return nil
				}
			}
			// A page that is split meanwhile leaves some of its keys to a new one, whose id is
			// higher: none is missed.
			next++
		}
	}
}

// missing is the damage of a page without a row. The ids of pages follow one another, and the keys
// of a missing page would look new.
func (t *Trie) missing(id uint64) error { return t.store.file.Corrupt("page %d is missing", id) }

func (t *Trie) pagesFrom(ctx context.Context, id uint64) (pages []*page, err error) {
	t.mu.RLock()
	err = t.readable()
	t.mu.RUnlock()
	if err != nil {
		return nil, err
	}
	rows, err := t.store.read.QueryContext(ctx, "SELECT id, body FROM page WHERE id >= ? ORDER BY id LIMIT ?", id, keyPages)
	if err != nil {
		return nil, t.store.file.Explain("read pages", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var body sql.RawBytes
		if err := rows.Scan(&id, &body); err != nil {
			return nil, t.store.file.Explain("read pages", err)
		}
		p, err := decodePage(id, body)
		if err != nil {
			return nil, t.store.file.Corrupt("page %d: %w", id, err)
		}
		pages = append(pages, p)
	}
	if err := rows.Err(); err != nil {
		return nil, t.store.file.Explain("read pages", err)
	}
	return pages, nil
}
