package trie

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// damageFile changes the bytes of a file that is open.
func damageFile(t *testing.T, path string, change func(b []byte)) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	change(b)
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteAt(b, 0)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

func isClosed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

// A disk damages the file while the node runs. The trie reports the damage, and computed again from
// the same blocks it is the same.
//
// Promise 21.
func TestATrieThatIsDamagedWhileOpenIsComputedAgain(t *testing.T) {
	const heights, size = 40, 100
	key := Key(message(3))
	for name, change := range map[string]func([]byte){
		// a bit of the record that holds the message
		"a flipped bit": func(b []byte) { b[bytes.Index(b, key[:])+20] ^= 0x10 },
		// a block of the disk, as it is when a write was lost
		"a zeroed block": func(b []byte) {
			at := bytes.Index(b, key[:]) / 4096 * 4096
			clear(b[at:min(at+4096, len(b))])
		},
		"a torn tail": func(b []byte) { clear(b[bytes.Index(b, key[:])/4096*4096:]) },
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "state")
			tr := mustOpen(t, path, Options{})
			roots := make([][32]byte, heights+1)
			for h := uint64(1); h <= heights; h++ {
				roots[h] = mustAppend(t, tr, h, block(h*size, size))
			}
			mustAppend(t, tr, heights+1, []Leaf{messageLeaf(3, 0)})
			mustClose(t, tr) // now all is in the file
			tr = mustOpen(t, path, Options{})
			if isClosed(tr.Damaged()) {
				t.Fatal("damaged from the start")
			}
			damageFile(t, filepath.Join(path, segmentName(1)), change)
			if _, _, _, err := tr.Lookup(key); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("lookup: %v", err)
			}
			if !isClosed(tr.Damaged()) {
				t.Error("the owner is not notified")
			}
			mustClose(t, tr)

			tr = mustOpen(t, path, Options{Discard: true, Until: heights})
			defer func() { mustClose(t, tr) }()
			for h := uint64(1); h <= heights; h++ {
				if tr.Height() != h-1 {
					t.Fatalf("height %d before block %d", tr.Height(), h)
				}
				if _, _, _, err := tr.Lookup(key); !errors.Is(err, ErrRecomputing) {
					t.Fatalf("lookup at height %d: %v", h-1, err)
				}
				if _, err := tr.Prove(ctx, h-1, key); !errors.Is(err, ErrRecomputing) {
					t.Fatalf("proof at height %d: %v", h-1, err)
				}
				if _, err := tr.RootNode(heights); !errors.Is(err, ErrRecomputing) {
					t.Fatalf("root of height %d at height %d: %v", heights, h-1, err)
				}
				if root := mustAppend(t, tr, h, block(h*size, size)); root != roots[h] {
					t.Fatalf("root at height %d is %x, it was %x", h, root, roots[h])
				}
				if root, ok := tr.Root(h); !ok || root != roots[h] {
					t.Fatalf("no root at height %d, which is computed", h)
				}
			}
			proveMessageAt(t, tr, heights, Key(message(size+7)))
			if _, err := tr.RootNode(heights + 1); !errors.Is(err, ErrNoSuchHeight) {
				t.Errorf("root above all: %v", err)
			}
			if isClosed(tr.Damaged()) {
				t.Error("the trie that was computed again is damaged")
			}
		})
	}
}

func proveMessageAt(t *testing.T, tr *Trie, height uint64, key [32]byte) {
	t.Helper()
	p, err := tr.Prove(ctx, height, key)
	if err != nil {
		t.Fatalf("prove: %v", err)
	}
	if !p.Included() {
		t.Errorf("message %x is not included at height %d", key, height)
	}
}

// After a write that failed the file is behind what callers have seen.
func TestATrieBehindAnEarlierOneAnswersNothingUntilItIsThere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	tr := mustOpen(t, path, Options{})
	mustAppend(t, tr, 1, block(0, 5))
	mustClose(t, tr)
	tr = mustOpen(t, path, Options{Until: 2})
	defer func() { mustClose(t, tr) }()
	key := Key(message(5)) // of block 2
	if _, _, ok, err := tr.Lookup(key); !errors.Is(err, ErrRecomputing) {
		t.Errorf("lookup of a message that the file lacks: %v, %v", ok, err)
	}
	mustAppend(t, tr, 2, block(5, 5))
	// Not all keys are on disk: a reader that took them for all would order the others again.
	if err := tr.Keys(ctx, func([32]byte) bool { return true }); !errors.Is(err, ErrRecomputing) {
		t.Errorf("keys: %v", err)
	}
	if height, _, ok, err := tr.Lookup(key); err != nil || !ok || height != 2 {
		t.Errorf("lookup: %d, %v, %v", height, ok, err)
	}
}
