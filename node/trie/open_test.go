package trie

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
)

var ctx = context.Background()

// closedTrie returns the path of a closed trie with 2,000 messages.
func closedTrie(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "state")
	tr := mustOpen(t, path, Options{})
	mustAppend(t, tr, 1, block(0, 2000))
	mustClose(t, tr)
	return path
}

// contents returns what is in a directory.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		out[e.Name()] = string(b)
	}
	return out
}

// Promise 21.
func TestFilesThatAreRefusedAreNotChanged(t *testing.T) {
	pages, history := segmentName(1), historyName(0)
	flip := func(at int) func(b []byte) []byte {
		return func(b []byte) []byte { b[(at+len(b))%len(b)] ^= 0x10; return b }
	}
	// body changes the checkpoint after its head, and puts the checksum right.
	body := func(change func(b []byte) []byte) func(b []byte) []byte {
		return func(b []byte) []byte {
			return append(b[:checkpointHead:checkpointHead], seal(change(b[checkpointHead:len(b)-4]))...)
		}
	}
	const counts, files = 24, 4 + 12 + 4 + 16
	for _, tc := range []struct {
		name   string
		file   string // "" none
		change func(b []byte) []byte
		chain  [32]byte
		want   error
	}{
		{"other chain", "", nil, [32]byte{1}, ErrWrongChain},
		{"newer version", checkpointName, func(b []byte) []byte {
			b[8]++
			return append(seal(b[:checkpointHead-4:checkpointHead-4]), b[checkpointHead:]...)
		}, testChain, ErrNewerSchema},
		{"no checkpoint", checkpointName, func([]byte) []byte { return []byte("something else") }, testChain, ErrCorrupt},
		{"empty checkpoint", checkpointName, func([]byte) []byte { return nil }, testChain, ErrCorrupt},
		{"damaged head", checkpointName, flip(20), testChain, ErrCorrupt},
		{"damaged checkpoint", checkpointName, flip(checkpointHead + 400), testChain, ErrCorrupt},
		{"torn checkpoint", checkpointName, func(b []byte) []byte { return b[:len(b)/2] }, testChain, ErrCorrupt},
		{"too short", checkpointName, body(func(b []byte) []byte { return b[:len(b)-9] }), testChain, ErrCorrupt},
		{"too long", checkpointName, body(func(b []byte) []byte { return append(b, 0) }), testChain, ErrCorrupt},
		{"only its counts", checkpointName, body(func(b []byte) []byte { return b[:counts] }), testChain, ErrCorrupt},
		{"more pages", checkpointName, body(func(b []byte) []byte { b[16] += 9; return b }), testChain, ErrCorrupt},
		{"far more pages", checkpointName, body(func(b []byte) []byte { b[23] = 0x80; return b }), testChain, ErrCorrupt},
		{"a page in no segment", checkpointName, body(func(b []byte) []byte {
			b[counts+files+slotCount*childRow+7] = 9
			return b
		}), testChain, ErrCorrupt},
		{"a page nowhere", checkpointName, body(func(b []byte) []byte {
			clear(b[counts+files+slotCount*childRow:][:8])
			return b
		}), testChain, ErrCorrupt},
		{"a wrong slot", checkpointName, body(func(b []byte) []byte { b[counts+files] ^= 1; return b }), testChain, ErrCorrupt},
		{"damaged history", history, flip(-20), testChain, ErrCorrupt},
		{"damaged base", history, flip(100), testChain, ErrCorrupt},
		{"torn history", history, func(b []byte) []byte { return b[:len(b)-1] }, testChain, ErrCorrupt},
		{"no history", history, func([]byte) []byte { return nil }, testChain, ErrCorrupt},
		{"torn segment", pages, func(b []byte) []byte { return b[:len(b)-1] }, testChain, ErrCorrupt},
		{"segment of another trie", pages, flip(9), testChain, ErrCorrupt},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := closedTrie(t)
			if tc.file != "" {
				b, err := os.ReadFile(filepath.Join(path, tc.file))
				if err == nil {
					err = os.WriteFile(filepath.Join(path, tc.file), tc.change(b), 0o600)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			before := contents(t, path)
			tr, err := Open(ctx, path, Options{Chain: tc.chain})
			if err == nil {
				mustClose(t, tr)
			}
			if !errors.Is(err, tc.want) {
				t.Fatalf("open: %v, want %v", err, tc.want)
			}
			if errors.Is(err, ErrCorrupt) && !strings.Contains(err.Error(), tc.file) {
				t.Errorf("the error does not name %s: %v", tc.file, err)
			}
			if !maps.Equal(before, contents(t, path)) {
				t.Error("the files were changed")
			}
		})
	}
	for _, name := range []string{pages, history} {
		t.Run("missing "+name, func(t *testing.T) {
			path := closedTrie(t)
			if err := os.Remove(filepath.Join(path, name)); err != nil {
				t.Fatal(err)
			}
			if _, err := Open(ctx, path, Options{Chain: testChain}); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), name) {
				t.Errorf("open: %v", err)
			}
		})
	}
}

// A start cuts off the writes of a killed process after its last checkpoint. If a disk has lost
// some of them, that changes nothing.
func TestATrieIsAsAtItsLastCheckpoint(t *testing.T) {
	const last = 60
	dir := t.TempDir()
	opts := Options{CacheBytes: 30_000, FlushLeaves: 1 << 30, HistoryHeights: 8}
	whole := filepath.Join(dir, "whole")
	tr := mustOpen(t, whole, opts)
	defer func() { mustClose(t, tr) }()
	m := make(model)
	for h := uint64(1); h <= last; h++ {
		leaves := block(h*10, 10)
		m.append(h, leaves)
		mustAppend(t, tr, h, leaves)
		if h == 40 {
			flushNow(t, tr)
		}
	}
	tr.mu.Lock()
	if err := errors.Join(tr.store.flush(), tr.files.history.flush()); err != nil {
		t.Error(err)
	}
	tr.mu.Unlock()
	kept := filepath.Join(dir, "kept")
	copyTrie(t, whole, kept)
	at40, err := os.ReadFile(filepath.Join(whole, checkpointName))
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(path string) error{
		"all is there": func(string) error { return nil },
		"a checkpoint not yet renamed": func(path string) error {
			return os.WriteFile(filepath.Join(path, checkpointName+newSuffix), at40[:len(at40)-5], 0o600)
		},
		"segments and history to come": func(path string) error {
			return errors.Join(os.WriteFile(filepath.Join(path, segmentName(2)), []byte("torn"), 0o600),
				os.WriteFile(filepath.Join(path, historyName(50)), nil, 0o600))
		},
		"the tail is lost": func(path string) error {
			seg := tr.store.active
			b, err := os.ReadFile(filepath.Join(path, segmentName(seg.number)))
			if err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(path, segmentName(seg.number)), b[:len(b)-4000], 0o600)
		},
		"the tail is zeros": func(path string) error {
			name := filepath.Join(path, segmentName(tr.store.active.number))
			b, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			clear(b[len(b)-4000:])
			return os.WriteFile(name, b, 0o600)
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "state")
			copyTrie(t, kept, path)
			if err := change(path); err != nil {
				t.Fatal(err)
			}
			again := mustOpen(t, path, opts)
			defer func() { mustClose(t, again) }()
			if again.Height() != 40 {
				t.Fatalf("height %d, want 40", again.Height())
			}
			for h := uint64(41); h <= last; h++ {
				if root, want := mustAppend(t, again, h, block(h*10, 10)), modelRoot(m.at(h)).Hash; root != want {
					t.Fatalf("root at height %d: %x, want %x", h, root, want)
				}
			}
			for n := range uint64(20) {
				key := Key(message(n * 17))
				p, err := again.Prove(ctx, last, key)
				if err != nil {
					t.Fatal(err)
				}
				if want := m.prove(last, key); !reflect.DeepEqual(p, want) {
					t.Errorf("proof %+v, want %+v", p, want)
				}
			}
		})
	}
}

// A disk without space fails an append, and the trie goes on from its last checkpoint.
func TestATrieOnAFullDiskGoesOnFromItsCheckpoint(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	tr := mustOpen(t, path, Options{FlushLeaves: 50})
	mustAppend(t, tr, 1, block(0, 60))
	settleNow(t, tr)
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err)
	}
	was := tr.files.history.last().file
	tr.files.history.last().file = full
	if _, err := tr.Append(2, block(60, 60)); !errors.Is(err, syscall.ENOSPC) || errors.Is(err, ErrCorrupt) {
		t.Errorf("append on a full disk: %v", err)
	}
	if _, err := tr.Append(2, nil); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("append after a failed one: %v", err)
	}
	if err := errors.Join(was.Close()); err != nil {
		t.Error(err)
	}
	if err := tr.Close(); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("close after a failed append: %v", err)
	}
	tr = mustOpen(t, path, Options{})
	defer func() { mustClose(t, tr) }()
	if tr.Height() != 1 {
		t.Fatalf("height %d, want 1", tr.Height())
	}
	mustAppend(t, tr, 2, block(60, 60))
	proveMessageAt(t, tr, 2, Key(message(77)))
}

// Promise 23.
func TestFileInUseIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
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
	for name, change := range map[string]func(b []byte, records []placed){
		"zeros": func(b []byte, _ []placed) { clear(b[headerLen:]) },
		"bit rot": func(b []byte, records []placed) {
			for _, r := range records {
				b[r.at.offset()+40] ^= 1
			}
		},
		// records whose own bytes are whole, in the place of another one of the same length
		"swapped": func(b []byte, records []placed) {
			was := bytes.Clone(b)
			for i, r := range records {
				for _, other := range append(records[i+1:len(records):len(records)], records[:i]...) {
					if n := r.at.length(); other.at.length() == n {
						copy(b[r.at.offset():][:n], was[other.at.offset():])
						break
					}
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := closedTrie(t)
			tr := mustOpen(t, path, Options{})
			records := tr.recordsIn(tr.store.active)
			damageFile(t, filepath.Join(path, segmentName(1)), func(b []byte) { change(b, records) })
			if err := tr.Keys(ctx, func([32]byte) bool { return true }); !errors.Is(err, ErrCorrupt) {
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

// Promise 21.
func TestADamagedMilestoneIsFound(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	tr := mustOpen(t, path, Options{HistoryHeights: 1})
	defer func() { mustClose(t, tr) }()
	for h := uint64(1); h <= MilestoneHeights+1; h++ {
		mustAppend(t, tr, h, block(h%50, 1))
	}
	flushNow(t, tr)
	if _, err := tr.RootNode(MilestoneHeights); err != nil {
		t.Fatal(err)
	}
	damageFile(t, filepath.Join(path, milestonesName), func(b []byte) { b[len(b)/2] ^= 1 })
	if _, err := tr.RootNode(MilestoneHeights); !errors.Is(err, ErrCorrupt) || !isClosed(tr.Damaged()) {
		t.Errorf("root at a damaged milestone: %v", err)
	}
}

func TestOpenSaysWhatIsInTheWay(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(ctx, file, Options{}); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("a file as a directory: %v", err)
	}
	if _, err := Open(ctx, filepath.Join(dir, "missing", "state"), Options{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("in a missing directory: %v", err)
	}
	if _, err := Open(ctx, filepath.Join(dir, "state"), Options{HistoryHeights: 1 << 17}); err == nil {
		t.Error("opened with a history of 131,072 heights")
	}
	odd := filepath.Join(dir, "odd ?%20#name")
	tr := mustOpen(t, odd, Options{})
	mustClose(t, tr)
	if _, err := os.Stat(odd); err != nil {
		t.Errorf("directory of an odd name: %v", err)
	}
}

// hashPage computes the hashes that a page keeps.
func hashPage(p *page) {
	j := new(joins)
	if p.isLeaf() {
		j.leaves(p)
	}
	j.run()
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
	hashPage(p)
	f.Add(appendPage(nil, p))
	f.Add(appendPage(nil, &page{
		children: []child{{hash: [32]byte{1}, newest: 1, id: 2}, {hash: [32]byte{2}, newest: 3, id: 4}},
		gaps:     []uint8{9},
	}))
	f.Fuzz(func(t *testing.T, b []byte) {
		named := 0
		if err := decodeFrontier(b, func(uint8, [32]byte) { named++ }); err == nil && slotRow*named != len(b) {
			t.Errorf("%d slots read of %d bytes", named, len(b))
		}
		p := newPage(1)
		if err := decodePage(p, b, 1); err != nil || p.isLeaf() && !p.measure() {
			return
		}
		if got := appendPage(nil, p); !bytes.Equal(got, b) {
			t.Errorf("decoded %x, encoded %x", b, got)
		}
		hashPage(p)
		for i := range 256 {
			key := [32]byte{byte(i)}
			p.descend(&key)
			p.edge(&key, uint8(i))
		}
	})
}
