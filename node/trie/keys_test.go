package trie

import (
	"errors"
	"path/filepath"
	"testing"
)

// TestKeysMissesNoneThatWasThereAtOpen visits the keys while blocks are appended and flushed
// between the pages read.
func TestKeysMissesNoneThatWasThereAtOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	tr := mustOpen(t, path, Options{})
	const blocks, size = 40, 500
	for h := uint64(1); h <= blocks; h++ {
		mustAppend(t, tr, h, block((h-1)*size, size))
	}
	mustClose(t, tr)

	tr = mustOpen(t, path, Options{})
	seen, height := map[[32]byte]bool{}, uint64(blocks)
	err := tr.Keys(t.Context(), func(key [32]byte) bool {
		seen[key] = true
		if len(seen)%2000 == 0 && height < blocks+8 {
			height++
			mustAppend(t, tr, height, block((height-1)*size, size))
			flushNow(t, tr)
		}
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	if height == blocks {
		t.Fatal("nothing was appended meanwhile")
	}
	for n := range uint64(blocks * size) {
		if l := messageLeaf(n, 0); !seen[l.Key] {
			t.Fatalf("message %d is not among %d keys", n, len(seen))
		}
	}

	visits := 0
	if err := tr.Keys(t.Context(), func([32]byte) bool { visits++; return visits < 10 }); err != nil || visits != 10 {
		t.Errorf("%d visits, %v; want an end after 10", visits, err)
	}
	mustClose(t, tr)
	if err := tr.Keys(t.Context(), func([32]byte) bool { return true }); !errors.Is(err, ErrClosed) {
		t.Errorf("of a closed trie: %v", err)
	}
}

// The keys of a missing record would look new: the pool would order their messages again.
func TestKeysOfADamagedRecordAreMissed(t *testing.T) {
	for name, at := range map[string]func(n int) int{
		"the first": func(int) int { return headerLen },
		"between":   func(n int) int { return n / 2 },
		"the last":  func(n int) int { return n - 1 },
	} {
		t.Run(name, func(t *testing.T) {
			path := closedTrie(t)
			damageFile(t, filepath.Join(path, segmentName(1)), func(b []byte) { b[at(len(b))] ^= 1 })
			tr := mustOpen(t, path, Options{})
			defer func() { mustClose(t, tr) }()
			if err := tr.Keys(ctx, func([32]byte) bool { return true }); !errors.Is(err, ErrCorrupt) || !isClosed(tr.Damaged()) {
				t.Errorf("keys: %v", err)
			}
		})
	}
}
