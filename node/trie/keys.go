package trie

import (
	"context"
	"database/sql"
	"errors"
	"math"
)

// keyPages is how many pages are read in one transaction: one that lasts keeps the log from being
// cut.
const keyPages = 256

// Keys calls visit with every key that is on disk, in no particular order and some of them twice,
// until visit returns false. That is every key up to the height that Open found, at least. It reads
// the whole file once.
func (t *Trie) Keys(ctx context.Context, visit func(key [32]byte) bool) error {
	for next := int64(0); next < math.MaxInt64; {
		pages, err := t.pagesFrom(ctx, next)
		if err != nil {
			return t.noted(err)
		}
		next = math.MaxInt64
		for _, p := range pages {
			for i := range p.leaves {
				if !visit(p.leaves[i].key) {
					return nil
				}
			}
			// A page that is split meanwhile leaves some of its keys to a new one, whose id is
			// higher: none is missed.
			next = int64(p.id) + 1
		}
	}
	return nil
}

func (t *Trie) pagesFrom(ctx context.Context, id int64) (pages []*page, err error) {
	t.mu.RLock()
	closed := t.closed
	t.mu.RUnlock()
	if closed {
		return nil, ErrClosed
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
		p, err := decodePage(uint64(id), body)
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
