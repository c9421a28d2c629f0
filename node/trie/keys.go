package trie

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
)

// keyBytes is how much is read at once.
const keyBytes = 1 << 20

// Keys calls visit with every key that was there when it was called, in no particular order, until
// visit returns false. A trie that Open found below Options.Until fails with ErrRecomputing, also
// later. It reads all segments once.
func (t *Trie) Keys(ctx context.Context, visit func(key [32]byte) bool) error {
	if t.partial {
		return fmt.Errorf("%w: not all keys are on disk", ErrRecomputing)
	}
	w, err := t.snapshot()
	if err != nil {
		return err
	}
	defer t.readers.Add(-1)
	for _, key := range w.keys {
		if !visit(key) {
			return nil
		}
	}
	for _, r := range w.records {
		if err := ctx.Err(); err != nil {
			return err
		}
		record, err := w.read(r)
		if err != nil {
			return t.noted(err)
		}
		if record[0] != kindLeaves {
			continue
		}
		_, leaves, err := splitLeaves(record[1:])
		if err != nil {
			return t.noted(corrupt(segmentName(r.at.segment()), "page %d: %w", r.id, err))
		}
		for ; len(leaves) > 0; leaves = leaves[leafLen:] {
			if !visit([32]byte(leaves)) {
				return nil
			}
		}
	}
	return nil
}

// reading is the trie as it was at one moment.
type reading struct {
	store    *segments
	segments map[uint32]*segment
	active   uint32
	written  int64  // bytes of the active segment that are in its file
	buffer   []byte // those that follow
	keys     [][32]byte
	records  []placed // in the order of the files
	window   []byte   // bytes of a segment's file, from offset
	number   uint32
	offset   int64
}

// snapshot returns the trie as it is now. Its segments stay until readers is decreased.
func (t *Trie) snapshot() (*reading, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if err := t.readable(); err != nil {
		return nil, err
	}
	t.readers.Add(1)
	w := &reading{store: t.store, segments: maps.Clone(t.store.byNumber), buffer: slices.Clone(t.store.buffer)}
	if s := t.store.active; s != nil {
		w.active, w.written = s.number, s.size-int64(len(w.buffer))
	}
	w.records = make([]placed, 0, len(t.pages.entries))
	w.keys = make([][32]byte, 0, t.additions.used)
	for i := range t.pages.entries {
		e := &t.pages.entries[i]
		if e.at != 0 {
			w.records = append(w.records, placed{e.at, uint64(i + 1)})
		}
		t.additions.each(e, func(l *leaf) { w.keys = append(w.keys, l.key) })
	}
	slices.SortFunc(w.records, func(a, b placed) int { return cmp.Compare(a.at, b.at) })
	return w, nil
}

// read returns a record, without its checksum, which is checked.
func (w *reading) read(r placed) ([]byte, error) {
	number, from, to := r.at.segment(), r.at.offset(), r.at.offset()+int64(r.at.length())
	var b []byte
	switch seg := w.segments[number]; {
	case seg == nil:
		return nil, corrupt(segmentName(number), "the segment of page %d is missing", r.id)
	case number == w.active && from >= w.written:
		b = w.buffer[from-w.written : to-w.written]
	default:
		if number != w.number || from < w.offset || to > w.offset+int64(len(w.window)) {
			if err := w.load(seg, from); err != nil {
				return nil, w.store.failed(seg, r.id, err)
			}
		}
		if to > w.offset+int64(len(w.window)) {
			return nil, w.store.failed(seg, r.id, io.ErrUnexpectedEOF)
		}
		b = w.window[from-w.offset : to-w.offset]
	}
	if err := w.store.check(r.id, r.at, b); err != nil {
		return nil, err
	}
	return b[:len(b)-4], nil
}

// load reads on in a segment's file.
func (w *reading) load(seg *segment, from int64) error {
	if w.window == nil {
		w.window = make([]byte, keyBytes)
	}
	n, err := seg.file.ReadAt(w.window[:keyBytes], from)
	w.window, w.number, w.offset = w.window[:n], seg.number, from
	if errors.Is(err, io.EOF) && n > 0 {
		return nil
	}
	return err
}
