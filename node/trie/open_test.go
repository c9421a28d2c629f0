package trie

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

var ctx = context.Background()

// closedFile returns the path of a closed trie with 2,000 messages.
func closedFile(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "state.db")
	tr := mustOpen(t, path, Options{})
	mustAppend(t, tr, 1, block(0, 2000))
	mustClose(t, tr)
	return path
}

func execute(t *testing.T, path, statement string, args ...any) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err == nil {
		_, err = db.Exec(statement, args...)
	}
	if err = errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
}

// Promise 21.
func TestFilesThatAreRefusedAreNotChanged(t *testing.T) {
	overwrite := func(t *testing.T, path string, at, n int) {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for i := range n {
			b[at+i] ^= 0x5a
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, tc := range []struct {
		name   string
		change func(t *testing.T, path string)
		chain  [32]byte
		want   error
	}{
		{"other chain", func(*testing.T, string) {}, [32]byte{1}, ErrWrongChain},
		{"newer schema", func(t *testing.T, path string) { execute(t, path, "PRAGMA user_version = 2") }, testChain, ErrNewerSchema},
		{"other application", func(t *testing.T, path string) { execute(t, path, "PRAGMA application_id = 5") }, testChain, ErrCorrupt},
		{"no database", func(t *testing.T, path string) { overwrite(t, path, 0, 64) }, testChain, ErrCorrupt},
		{"damaged schema page", func(t *testing.T, path string) { overwrite(t, path, 100, 3900) }, testChain, ErrCorrupt},
		{"no meta row", func(t *testing.T, path string) { execute(t, path, "DELETE FROM meta") }, testChain, ErrCorrupt},
		{"damaged slots", func(t *testing.T, path string) {
			execute(t, path, "UPDATE meta SET slots = zeroblob(length(slots))")
		}, testChain, ErrCorrupt},
		{"damaged base", func(t *testing.T, path string) { execute(t, path, "UPDATE meta SET base = x'00'") }, testChain, ErrCorrupt},
		{"damaged change", func(t *testing.T, path string) {
			execute(t, path, "UPDATE change SET frontier = x'00000000ff'")
		}, testChain, ErrCorrupt},
		{"missing change", func(t *testing.T, path string) { execute(t, path, "DELETE FROM change") }, testChain, ErrCorrupt},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := closedFile(t)
			tc.change(t, path)
			before, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			tr, err := Open(ctx, path, Options{Chain: tc.chain})
			if err == nil {
				mustClose(t, tr)
			}
			if !errors.Is(err, tc.want) {
				t.Fatalf("open: %v, want %v", err, tc.want)
			}
			after, err := os.ReadFile(path)
			if err != nil || !bytes.Equal(before, after) {
				t.Errorf("the file was changed (%v)", err)
			}
		})
	}
}

// Promise 23.
func TestFileInUseIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	tr := mustOpen(t, path, Options{})
	if _, err := Open(ctx, path, Options{Chain: testChain}); !errors.Is(err, ErrLocked) {
		t.Fatalf("second open: %v", err)
	}
	mustAppend(t, tr, 1, block(0, 5))
	mustClose(t, tr)
	mustClose(t, mustOpen(t, path, Options{}))
}

// Promise 21.
func TestDamagedPagesAreFound(t *testing.T) {
	for name, statement := range map[string]string{
		"missing":    "DELETE FROM page",
		"empty":      "UPDATE page SET body = x''",
		"bit rot":    "UPDATE page SET body = CAST(substr(body, 1, 40) || x'00112233' || substr(body, 45) AS BLOB)",
		"swapped":    "UPDATE page SET body = (SELECT body FROM page p WHERE p.id = (page.id + 1) % 256 + 1)",
		"other kind": "UPDATE page SET body = CAST(x'07' || substr(body, 2) AS BLOB)",
	} {
		t.Run(name, func(t *testing.T) {
			path := closedFile(t)
			execute(t, path, statement)
			tr := mustOpen(t, path, Options{})
			if err := tr.Keys(ctx, func([32]byte) bool { return true }); !errors.Is(err, ErrCorrupt) && name != "swapped" {
				t.Errorf("keys: %v", err)
			}
			if _, err := tr.Prove(ctx, 1, Key(message(3))); !errors.Is(err, ErrCorrupt) {
				t.Errorf("prove: %v", err)
			}
			if _, err := tr.Append(2, block(5000, 300)); !errors.Is(err, ErrCorrupt) {
				t.Errorf("append: %v", err)
			}
			if _, err := tr.Append(2, nil); !errors.Is(err, ErrCorrupt) {
				t.Errorf("append after a failed one: %v", err)
			}
			if err := tr.Close(); !errors.Is(err, ErrCorrupt) {
				t.Errorf("close after a failed append: %v", err)
			}
		})
	}
}

func TestOpenSaysWhatIsInTheWay(t *testing.T) {
	dir := t.TempDir()
	if _, err := Open(ctx, dir, Options{}); err == nil {
		t.Error("opened a directory")
	}
	if _, err := Open(ctx, filepath.Join(dir, "missing", "state.db"), Options{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("in a missing directory: %v", err)
	}
	if _, err := Open(ctx, filepath.Join(dir, "state.db"), Options{HistoryHeights: 1 << 17}); err == nil {
		t.Error("opened with a history of 131,072 heights")
	}
	odd := filepath.Join(dir, "odd ?%20#name.db")
	tr := mustOpen(t, odd, Options{})
	mustClose(t, tr)
	if _, err := os.Stat(odd); err != nil {
		t.Errorf("file of an odd name: %v", err)
	}
}

// Promise 37.
func FuzzDecodePage(f *testing.F) {
	leaves := block(0, 5)
	p := newPage(1)
	p.leaves = []leaf{newLeaf(&leaves[0], 3)}
	for _, l := range leaves[1:] {
		at, _ := p.descend(&l.Key)
		p.insertLeaf(newLeaf(&l, 3), firstDifference(&p.leaves[at].key, &l.Key))
	}
	f.Add(encodePage(p)[:1+5*leafLen])
	f.Add(encodePage(&page{
		children: []child{{hash: [32]byte{1}, newest: 1, id: 2}, {hash: [32]byte{2}, newest: 3, id: 4}},
		gaps:     []uint8{9}, inner: make([][32]byte, 1),
	}))
	tr := mustOpen(f, f.TempDir()+"/state.db", Options{})
	mustAppend(f, tr, 1, leaves)
	f.Add(bytes.Clone(tr.encodeSlots())[:slotCount*childRow])
	mustClose(f, tr)
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < 1<<16 {
			b = seal(bytes.Clone(b)) // or nothing passes the checksum
		}
		if slots, err := decodeSlots(b); err == nil {
			again := Trie{}
			for i := range slots {
				again.slots[i].child = slots[i]
			}
			if got := again.encodeSlots(); !bytes.Equal(got, b) {
				t.Errorf("slots %x, encoded %x", b, got)
			}
		}
		named := 0
		if err := decodeFrontier(b, func(uint8, [32]byte) { named++ }); err == nil && slotRow*named != len(b)-4 {
			t.Errorf("%d slots read of %d bytes", named, len(b))
		}
		p, err := decodePage(1, b)
		if err != nil {
			return
		}
		if got := encodePage(p); !bytes.Equal(got, b) {
			t.Errorf("decoded %x, encoded %x", b, got)
		}
		p.hash()
		for i := range 256 {
			key := [32]byte{byte(i)}
			p.descend(&key)
			p.edge(&key, uint8(i))
		}
	})
}
