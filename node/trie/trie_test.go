package trie

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var testChain = [32]byte{0: 7, 31: 9}

type testingT interface {
	Helper()
	Fatalf(format string, args ...any)
}

func mustOpen(t testingT, path string, o Options) *Trie {
	t.Helper()
	o.Chain = testChain
	tr, err := Open(ctx, path, o)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	return tr
}

func openTest(t *testing.T, o Options) *Trie {
	t.Helper()
	tr := mustOpen(t, filepath.Join(t.TempDir(), "state"), o)
	t.Cleanup(func() { mustClose(t, tr) })
	return tr
}

func mustClose(t testingT, tr *Trie) {
	t.Helper()
	if err := tr.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
}

func mustAppend(t testingT, tr *Trie, height uint64, leaves []Leaf) [32]byte {
	t.Helper()
	root, err := tr.Append(height, leaves)
	if err != nil {
		t.Fatalf("append %d: %v", height, err)
	}
	return root
}

// flushNow writes everything up to the trie's height to disk.
func flushNow(t testingT, tr *Trie) {
	t.Helper()
	tr.writer.Lock()
	defer tr.writer.Unlock()
	if err := tr.flushAll(); err != nil {
		t.Fatalf("flush: %v", err)
	}
}

// settleNow waits for the checkpoint under way.
func settleNow(t testingT, tr *Trie) {
	t.Helper()
	tr.writer.Lock()
	defer tr.writer.Unlock()
	if err := tr.settle(true); err != nil {
		t.Fatalf("checkpoint: %v", err)
	}
}

func message(n uint64) []byte { return binary.LittleEndian.AppendUint64([]byte("message "), n) }

func messageLeaf(n uint64, index uint32) Leaf {
	key := Key(message(n))
	return Leaf{Key: key, Hash: LeafHash(key, message(n)), Index: index}
}

// block returns leaves of the messages from n on.
func block(n uint64, size int) []Leaf {
	leaves := make([]Leaf, size)
	for i := range leaves {
		leaves[i] = messageLeaf(n+uint64(i), uint32(i))
	}
	return leaves
}

func unhex(t *testing.T, s string) [32]byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != 32 {
		t.Fatalf("bad hash %q", s)
	}
	return [32]byte(b)
}

// Promise 46.
func TestVectorsOfTheProofOfConcept(t *testing.T) {
	data := []byte{1, 2, 3, 4, 5}
	key := Key(data)
	if want := unhex(t, "28dadf62a2991e506bb60a90b5afbb5df16c9d7ae0fe9d3074a75c534afa23a5"); key != want {
		t.Errorf("key = %x, want %x", key, want)
	}
	tr := openTest(t, Options{})
	root := mustAppend(t, tr, 1, []Leaf{{Key: key, Hash: LeafHash(key, data)}})
	if want := unhex(t, "af734e28830062088241d4e6a65a0a06cd8923bfaed455d2157483a5deeb1768"); root != want {
		t.Errorf("root = %x, want %x", root, want)
	}
}

func TestHashesOfAllSizesMatchTheModel(t *testing.T) {
	for n := range 1200 {
		data := make([]byte, n)
		for i := range data {
			data[i] = byte(i * 7)
		}
		key := Key(data)
		if got, want := LeafHash(key, data), modelLeafHash(key, data); got != want {
			t.Fatalf("leaf of %d bytes: %x, want %x", n, got, want)
		}
	}
}

func TestLeavesAreHashedTogetherAsAlone(t *testing.T) {
	leaves, want := make([]Leaf, 1500), make([][32]byte, 1500)
	var h LeafHasher
	for round := range 2 {
		for n := range leaves {
			data := bytes.Repeat([]byte{byte(n + round)}, n)
			leaves[n].Key = Key(data)
			h.Add(&leaves[n], data)
			want[n] = LeafHash(leaves[n].Key, data)
		}
		h.Flush()
		for n := range leaves {
			if leaves[n].Hash != want[n] {
				t.Fatalf("leaf of %d bytes: %x, want %x", n, leaves[n].Hash, want[n])
			}
		}
	}
}

func TestEmptyTrie(t *testing.T) {
	tr := openTest(t, Options{})
	for height := range uint64(3) {
		if height > 0 {
			mustAppend(t, tr, height, nil)
		}
		if n, err := tr.RootNode(height); err != nil || n != (RootNode{}) {
			t.Errorf("root at height %d = %+v, %v", height, n, err)
		}
		p, err := tr.Prove(ctx, height, [32]byte{1})
		if err != nil {
			t.Fatal(err)
		}
		if present, err := Verify([32]byte{}, [32]byte{1}, p); present || err != nil {
			t.Errorf("absence in the empty trie: %v, %v", present, err)
		}
	}
}

// drawKey draws keys that share long prefixes with others, as no hash would.
func drawKey(rt *rapid.T, known [][32]byte) [32]byte {
	var key [32]byte
	kind := rapid.IntRange(0, 3).Draw(rt, "kind")
	if kind > 0 && len(known) > 0 {
		key = rapid.SampledFrom(known).Draw(rt, "like")
		if kind == 1 {
			return key
		}
		d := rapid.IntRange(0, 255).Draw(rt, "differs")
		key[d/8] ^= 0x80 >> (d % 8)
		if kind == 2 {
			return key
		}
		rest := rapid.Uint64().Draw(rt, "rest")
		for i := d/8 + 1; i < 32; i++ {
			key[i] = byte(rest >> (i % 8 * 8))
		}
		return key
	}
	rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 0))
	for i := range key {
		key[i] = byte(rng.Uint32())
	}
	key[0] &= 0xc1 // few slots, so that they are deep
	return key
}

// Promise 36.
func TestTrieIsTheModel(t *testing.T) { rapid.Check(t, likeTheModel(inMemory(t))) }

// inMemory returns a directory in memory where there is one. Nearly all of the time would be spent
// on fsync, and the property does not rest on that: a crash is a copy of the files as the program
// sees them.
func inMemory(t testing.TB) string {
	t.Helper()
	if dir, err := os.MkdirTemp("/dev/shm", "diseq-trie-"); err == nil {
		t.Cleanup(func() { _ = os.RemoveAll(dir) }) // memory of this machine
		return dir
	}
	return t.TempDir()
}

// FuzzTrie is TestTrieIsTheModel with the fuzzer's bytes for chance.
//
// Promise 36.
func FuzzTrie(f *testing.F) {
	for seed := range uint64(8) {
		rng := rand.New(rand.NewPCG(seed, 5))
		b := make([]byte, 8000)
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		f.Add(b)
	}
	property := rapid.MakeFuzz(likeTheModel(inMemory(f)))
	f.Fuzz(property)
}

// likeTheModel drives a trie with tiny pages, cache, window and flushes, closes
// and crashes it, and compares every root and many proofs with the model.
func likeTheModel(dir string) func(rt *rapid.T) {
	return func(rt *rapid.T) {
		path, err := os.MkdirTemp(dir, "run")
		if err != nil {
			rt.Fatalf("%v", err)
		}
		defer func() { _ = os.RemoveAll(path) }() // the directory above is removed in the end
		opts := Options{
			HistoryHeights: uint64(rapid.IntRange(1, 12).Draw(rt, "window")),
			CacheBytes:     rapid.SampledFrom([]int{1, 5_000, 40_000, 1 << 20}).Draw(rt, "cache"),
			FlushLeaves:    rapid.SampledFrom([]int{1, 20, 200}).Draw(rt, "flush"),
		}
		fanout := rapid.SampledFrom([]int{2, 3, 5, maxEntries}).Draw(rt, "fanout")
		group := rapid.SampledFrom([]int{1, 7, groupLeaves}).Draw(rt, "group")
		slow := rapid.SampledFrom([]time.Duration{0, time.Hour}).Draw(rt, "slow leaf")
		segment := rapid.SampledFrom([]int64{1, 3000, segmentBytes}).Draw(rt, "segment")
		open := func(name string) *Trie {
			tr := mustOpen(rt, filepath.Join(path, name), opts)
			tr.fanout, tr.group, tr.slowLeaf = fanout, group, slow
			tr.store.bytes = segment
			return tr
		}
		name := "0"
		tr := open(name)
		defer func() { mustClose(rt, tr) }()
		m := make(model)
		blocks := [][]Leaf{nil}
		roots := [][32]byte{{}}
		var known [][32]byte
		check := func() {
			for h := range tr.height + 2 {
				root, ok := tr.Root(h)
				kept := h <= tr.height && (h == 0 || h >= tr.oldest(tr.height))
				if ok != kept || ok && root != roots[h] {
					rt.Fatalf("root at height %d of %d: %x, %v; want %x, %v", h, tr.height, root, ok, roots[min(h, tr.height)], kept)
				}
				if !kept {
					continue
				}
				key := drawKey(rt, known)
				p, err := tr.Prove(ctx, h, key)
				if err != nil {
					rt.Fatalf("prove at height %d: %v", h, err)
				}
				if want := m.prove(h, key); !reflect.DeepEqual(p, want) {
					rt.Fatalf("proof at height %d:\n%+v\nwant\n%+v", h, p, want)
				}
			}
			for _, key := range known {
				want, here := m[key]
				height, index, ok, err := tr.Lookup(key)
				if err != nil || ok != here || height != want.height || index != want.index {
					rt.Fatalf("lookup %x: %d, %d, %v, %v; want %+v", key, height, index, ok, err, want)
				}
			}
		}
		for range rapid.IntRange(1, 30).Draw(rt, "steps") {
			switch rapid.IntRange(0, 9).Draw(rt, "step") {
			case 0:
				mustClose(rt, tr)
				tr = open(name)
				if tr.height != uint64(len(blocks)-1) {
					rt.Fatalf("reopened at height %d, closed at %d", tr.height, len(blocks)-1)
				}
				check()
			case 1:
				crashed := filepath.Join(path, name)
				name = hex.EncodeToString([]byte{byte(len(blocks))}) + rapid.StringMatching("[a-z]{12}").Draw(rt, "name")
				settleNow(rt, tr)
				copyTrie(rt, crashed, filepath.Join(path, name))
				flushed := tr.flushed
				mustClose(rt, tr)
				tr = open(name)
				if tr.Height() != flushed || tr.flushed != flushed {
					rt.Fatalf("after a crash at height %d, want %d", tr.Height(), flushed)
				}
				for h := flushed + 1; h < uint64(len(blocks)); h++ {
					if root := mustAppend(rt, tr, h, blocks[h]); root != roots[h] {
						rt.Fatalf("root at height %d after a crash: %x, want %x", h, root, roots[h])
					}
				}
				check()
			case 2:
				check()
			default:
				leaves := make([]Leaf, rapid.IntRange(0, 12).Draw(rt, "size"))
				for i := range leaves {
					key := drawKey(rt, known)
					leaves[i] = Leaf{Key: key, Hash: modelLeafHash(key, nil), Index: uint32(i)}
					known = append(known, key)
				}
				height := uint64(len(blocks))
				m.append(height, leaves)
				blocks = append(blocks, leaves)
				root := mustAppend(rt, tr, height, leaves)
				if want := modelRoot(m.at(height)); root != want.Hash {
					rt.Fatalf("root at height %d: %x, want %x", height, root, want.Hash)
				}
				roots = append(roots, root)
			}
		}
		check()
		if tr.leaves != uint64(len(m)) {
			rt.Fatalf("%d leaves, want %d", tr.leaves, len(m))
		}
	}
}

// copyTrie copies what a killed process leaves behind.
func copyTrie(t testingT, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatalf("copy: %v", err)
	}
}

// Promise 36.
func TestRootDependsOnTheSetAlone(t *testing.T) {
	const n = 5000
	leaves := block(0, n)
	want := modelRoot(func() []modelLeaf {
		m := make(model)
		m.append(1, leaves)
		return m.at(1)
	}()).Hash
	for _, size := range []int{1, 7, 500, n} {
		rng := rand.New(rand.NewPCG(1, uint64(size)))
		rng.Shuffle(n, func(i, j int) { leaves[i], leaves[j] = leaves[j], leaves[i] })
		tr := openTest(t, Options{})
		var root [32]byte
		for chunk := range slices.Chunk(leaves, size) {
			root = mustAppend(t, tr, tr.Height()+1, chunk)
		}
		if root != want {
			t.Errorf("blocks of %d: root %x, want %x", size, root, want)
		}
		if again := mustAppend(t, tr, tr.Height()+1, leaves); again != want {
			t.Errorf("blocks of %d: root %x after a repeat, want %x", size, again, want)
		}
		if height, _, _, err := tr.Lookup(leaves[0].Key); height != 1 || err != nil {
			t.Errorf("blocks of %d: a repeat moved a leaf to height %d, %v", size, height, err)
		}
	}
}

// TestEveryKeyIsProvableAtEveryHeightKept also after a restart, with real
// messages and the real verifier.
//
// Promise 44.
func TestEveryKeyIsProvableAtEveryHeightKept(t *testing.T) {
	const heights, window = 3100, 40
	stride := uint64(3)
	if testing.Short() { // the race detector's run
		stride = 29
	}
	path := filepath.Join(t.TempDir(), "state")
	opts := Options{HistoryHeights: window, CacheBytes: 200_000, FlushLeaves: 300}
	tr := mustOpen(t, path, opts)
	defer func() { mustClose(t, tr) }()
	roots := [][32]byte{{}}
	for h := uint64(1); h <= heights; h++ {
		roots = append(roots, mustAppend(t, tr, h, block(h, 1)))
	}
	if files, err := filepath.Glob(filepath.Join(path, "history-*")); err != nil || len(files) > 3 {
		t.Errorf("%v, %v: those before the window are not removed", files, err)
	}
	for range 2 {
		for h := range uint64(heights + 5) {
			kept := h <= heights && (h%MilestoneHeights == 0 || h > heights-window)
			root, ok := tr.Root(h)
			if ok != kept || ok && root != roots[h] {
				t.Fatalf("root at height %d: %x, %v; want kept %v", h, root, ok, kept)
			}
			if !kept {
				if _, err := tr.Prove(ctx, h, [32]byte{}); !errors.Is(err, ErrNoSuchHeight) {
					t.Fatalf("proof at height %d: %v", h, err)
				}
				continue
			}
			for n := uint64(1); n <= heights; n += 1 + n%stride {
				proveMessage(t, tr, h, n, root, n <= h)
			}
		}
		mustClose(t, tr)
		tr = mustOpen(t, path, opts)
	}
}

// proveMessage proves message n, where message n is ordered at height n.
func proveMessage(t *testing.T, tr *Trie, height, n uint64, root [32]byte, want bool) {
	t.Helper()
	key := Key(message(n))
	p, err := tr.Prove(ctx, height, key)
	if err != nil {
		t.Fatalf("prove %d at height %d: %v", n, height, err)
	}
	if p.Leaf != nil {
		p.Leaf.Data = message(p.Leaf.Height)
	}
	if present, err := Verify(root, key, p); err != nil || present != want || p.Included() != want {
		t.Fatalf("verify %d at height %d: %v, %v; want %v", n, height, present, err, want)
	}
	if want && !pocVerify(root, p) {
		t.Fatalf("the proof of concept's verifier refuses message %d at height %d", n, height)
	}
}

func TestReadersSeeOneHeightWhileBlocksAreAppended(t *testing.T) {
	tr := openTest(t, Options{HistoryHeights: 30, CacheBytes: 50_000, FlushLeaves: 700})
	tr.fanout, tr.slowLeaf = 4, 0
	const heights = 120
	done := make(chan struct{})
	var wg sync.WaitGroup
	for reader := range 4 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(3, uint64(reader)))
			for {
				select {
				case <-done:
					return
				default:
				}
				newest := tr.Height()
				height := newest - min(newest, rng.Uint64N(25))
				n := rng.Uint64N(heights * 20)
				key := Key(message(n))
				p, err := tr.Prove(ctx, height, key)
				if errors.Is(err, ErrNoSuchHeight) {
					continue // it left the window meanwhile
				}
				if err != nil {
					t.Errorf("prove: %v", err)
					return
				}
				if p.Leaf != nil {
					p.Leaf.Data = message((p.Leaf.Height-1)*20 + uint64(p.Leaf.Index))
				}
				root, ok := tr.Root(height)
				if !ok {
					continue
				}
				if present, err := Verify(root, key, p); err != nil || present != (n < height*20) {
					t.Errorf("verify message %d at height %d: %v, %v", n, height, present, err)
					return
				}
				if h, _, ok, err := tr.Lookup(key); err != nil || ok && h != n/20+1 {
					t.Errorf("lookup: %d, %v, %v", h, ok, err)
					return
				}
			}
		})
	}
	for h := range uint64(heights) {
		mustAppend(t, tr, h+1, block(h*20, 20))
	}
	close(done)
	wg.Wait()
}

func TestHeightsMustFollowOneAnother(t *testing.T) {
	tr := openTest(t, Options{})
	for _, h := range []uint64{0, 2, 1 << 63} {
		if _, err := tr.Append(h, nil); err == nil {
			t.Errorf("height %d appended after 0", h)
		}
	}
	mustAppend(t, tr, 1, block(0, 3))
}

func TestMemoryStaysNearTheCachesLimit(t *testing.T) {
	const limit = 1 << 20
	tr := openTest(t, Options{CacheBytes: limit, FlushLeaves: 1 << 30})
	for h := range uint64(200) {
		mustAppend(t, tr, h+1, block(h*200, 200))
		_, bytes, _ := tr.pages.usage()
		if added := len(tr.additions.chunks) * chunkLen * additionLen; bytes+added > limit*11/10 { // chunks are whole
			t.Fatalf("height %d: %d bytes of pages, %d of additions, limit %d", h+1, bytes, added, limit)
		}
	}
	if want := uint64(200 * 200); tr.leaves != want {
		t.Errorf("%d leaves, want %d", tr.leaves, want)
	}
}

// Segments whose records are old are emptied and removed: the files stay near the size of what they
// hold.
func TestOldRecordsAreRemoved(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	opts := Options{CacheBytes: 60_000, FlushLeaves: 500}
	tr := mustOpen(t, path, opts)
	tr.store.bytes = 20_000
	roots := [][32]byte{{}}
	const heights, size = 300, 40
	for h := uint64(1); h <= heights; h++ {
		roots = append(roots, mustAppend(t, tr, h, block(h*size, size)))
	}
	flushNow(t, tr)
	var live, onDisk int64
	for _, s := range tr.store.byNumber {
		live += s.live
	}
	files, err := filepath.Glob(filepath.Join(path, "pages-*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		onDisk += info.Size()
	}
	if tr.store.total < 3*live || onDisk > 3*live {
		t.Errorf("%d bytes of live records, %d on disk, %d written in all", live, onDisk, tr.store.total)
	}
	mustClose(t, tr)
	tr = mustOpen(t, path, opts)
	defer func() { mustClose(t, tr) }()
	if root, ok := tr.Root(heights); !ok || root != roots[heights] {
		t.Errorf("root %x after a restart, want %x", root, roots[heights])
	}
	for h := uint64(1); h <= heights; h++ {
		if at, _, ok, err := tr.Lookup(messageLeaf(h*size, 0).Key); err != nil || !ok || at != h {
			t.Fatalf("message of height %d: %d, %v, %v", h, at, ok, err)
		}
	}
}

func TestWindowMayChangeBetweenRuns(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	tr := mustOpen(t, path, Options{HistoryHeights: 10})
	roots := [][32]byte{{}}
	grow := func(n int) {
		for range n {
			h := uint64(len(roots))
			roots = append(roots, mustAppend(t, tr, h, block(h, 1)))
		}
	}
	for _, window := range []uint64{10, 40, 5} {
		mustClose(t, tr)
		tr = mustOpen(t, path, Options{HistoryHeights: window})
		for range 50 {
			grow(1)
			for h := range roots {
				if root, ok := tr.Root(uint64(h)); ok && root != roots[h] {
					t.Fatalf("window %d: root at height %d of %d is %x, want %x", window, h, len(roots)-1, root, roots[h])
				}
			}
		}
		if _, ok := tr.Root(tr.Height() - window + 1); !ok {
			t.Errorf("window %d: oldest root is gone", window)
		}
	}
	mustClose(t, tr)
}

func TestClosedTrieSaysSo(t *testing.T) {
	tr := openTest(t, Options{})
	mustClose(t, tr)
	_, err := tr.Append(1, nil)
	_, _, _, lookup := tr.Lookup([32]byte{})
	_, prove := tr.Prove(ctx, 0, [32]byte{})
	_, root := tr.RootNode(0)
	for i, err := range []error{err, lookup, prove, root} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("call %d after close: %v", i, err)
		}
	}
}
