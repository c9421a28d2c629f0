package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/diseq/diseq/node/chain"
)

// source returns the source of count messages of a batch from first on.
func source(t testing.TB, b chain.StoredBatch, first, count int) chain.Source {
	t.Helper()
	decoded, err := chain.DecodeBatch(b.Data, len(b.Data))
	must(t, err)
	return chain.Source{Batch: b.Hash, Offset: 52 + encodedSize(decoded.Messages[:first]), Count: count}
}

// waitingIn returns the hashes of the batches that wait, in their order.
func waitingIn(t testing.TB, s *Store) (out []chain.Hash) {
	t.Helper()
	must(t, s.PendingBatches(t.Context(), func(b chain.StoredBatch) error { out = append(out, b.Hash); return nil }))
	return out
}

func logFiles(t testing.TB, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, logName+"-*.log"))
	must(t, err)
	return files
}

func logSize(t testing.TB, dir string) (size int64) {
	t.Helper()
	for _, path := range logFiles(t, dir) {
		info, err := os.Stat(path)
		must(t, err)
		size += info.Size()
	}
	return size
}

// readBack fails unless the blocks are read as they were committed, in every way.
func readBack(t testing.TB, s *Store, blocks []*chain.FinalBlock) {
	t.Helper()
	if s.Height() != uint64(len(blocks)) {
		t.Fatalf("height %d, want %d", s.Height(), len(blocks))
	}
	encoded, err := s.EncodedBlocks(t.Context(), 1, len(blocks), 1<<30)
	must(t, err)
	if len(encoded) != len(blocks) {
		t.Fatalf("%d blocks, want %d", len(encoded), len(blocks))
	}
	for i, want := range blocks {
		if !bytes.Equal(encoded[i], want.Encode()) {
			t.Errorf("the encoding of block %d is not what was committed", i+1)
		}
		got, err := s.Block(t.Context(), uint64(i+1))
		must(t, err)
		if !bytes.Equal(got.Encode(), want.Encode()) {
			t.Errorf("block %d is not what was committed", i+1)
		}
	}
}

func TestABlockTakesItsMessagesFromTheLog(t *testing.T) {
	c := newChain("store")
	dir := dataDir(t)
	s := c.open(t, dir)
	const size = 1000
	one, two := payloads(20, size, 0), payloads(20, size, 100)
	for i := range one {
		one[i].Timestamp, two[i].Data = uint32(i), two[i].Data[:9+i] // of many sizes
	}
	a, b := c.batch(1, one...), c.batch(2, two...)
	must(t, s.AddBatches(t.Context(), []chain.StoredBatch{a, b}))
	brought := payloads(60, size, 200) // too large for a row
	first := logSize(t, dir)
	var blocks []*chain.FinalBlock
	for _, commit := range []struct {
		messages []chain.Message
		sources  []chain.Source
		remove   []chain.Hash
		writes   int // bytes of the log, without the heads of records
	}{
		{one, []chain.Source{source(t, a, 0, 20)}, nil, 0},
		{slices.Concat(two[5:10], two[:5]), []chain.Source{source(t, b, 5, 5), source(t, b, 0, 5)}, nil, 0},
		{slices.Concat(brought[:10], two[10:15], brought[10:20], one[:1]), []chain.Source{{Count: 10}, source(t, b, 10, 5), {Batch: chain.Hash{9}, Count: 10}, source(t, a, 0, 1)}, []chain.Hash{a.Hash}, 20 * (size + 8)},
		{two[15:], []chain.Source{source(t, b, 15, 5)}, []chain.Hash{b.Hash}, 0},
		{brought[20:30], nil, nil, 0},
		{brought[20:], []chain.Source{{Count: 1}}, nil, 40 * (size + 8)},
		{nil, nil, nil, 0},
		{one, []chain.Source{source(t, a, 0, 20)}, nil, 0}, // from a batch that has left: as if it were in none
	} {
		before := logSize(t, dir)
		f := c.next(commit.messages...)
		must(t, s.Commit(t.Context(), chain.Commit{Block: f, Sources: commit.sources, Remove: commit.remove}))
		blocks = append(blocks, f)
		if wrote := logSize(t, dir) - before - int64(commit.writes); wrote < 0 || wrote > 100 {
			t.Errorf("block %d: %d bytes of the log besides the %d of messages that it did not have", len(blocks), wrote, commit.writes)
		}
		readBack(t, s, blocks)
	}
	if first < 20*size || first > 21*size+20*40 {
		t.Errorf("the batches take %d bytes of the log", first)
	}
	must(t, s.Close())
	s = c.open(t, dir)
	readBack(t, s, blocks)
	if n := len(waitingIn(t, s)); n != 0 {
		t.Errorf("%d batches wait, want none", n)
	}
}

// The bytes that a row refers to are compared with the block first, so that wrong sources lose
// nothing.
func TestWrongSourcesLoseNothing(t *testing.T) {
	c := newChain("store")
	var log strings.Builder
	s, err := Open(dataDir(t), c.genesis, Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	must(t, err)
	defer func() { must(t, s.Close()) }()
	messages := payloads(10, 100, 0)
	b := c.batch(1, messages...)
	must(t, s.AddBatches(t.Context(), []chain.StoredBatch{b}))
	var blocks []*chain.FinalBlock
	for _, wrong := range [][]chain.Source{
		{source(t, b, 1, 3)}, {{Batch: b.Hash, Offset: 51, Count: 3}}, {{Batch: b.Hash, Offset: 1 << 40, Count: 3}}, {{Batch: b.Hash, Offset: -9, Count: 3}},
		{{Batch: b.Hash, Offset: 52, Count: -1}}, {{Batch: b.Hash, Offset: 52, Count: 4}}, {{Batch: b.Hash, Offset: 52, Count: 0}}, {source(t, b, 0, 3), source(t, b, 3, 1)},
	} {
		f := c.next(messages[:3]...)
		must(t, s.Commit(t.Context(), chain.Commit{Block: f, Sources: wrong}))
		blocks = append(blocks, f)
	}
	readBack(t, s, blocks)
	if n := strings.Count(log.String(), "level=ERROR"); n != 2 {
		t.Errorf("%d blocks are said to have wrong sources, want 2:\n%s", n, log.String())
	}
}

// Batches are added, and taken in another order, while segments begin and end. After a loss of
// power at any step the blocks are there, and exactly those batches wait that no block has taken.
//
// Promise 12.
func TestBatchesAndBlocksSurviveACrashAtEveryStep(t *testing.T) {
	c := newChain("store")
	dir := dataDir(t)
	s, err := Open(dir, c.genesis, Options{segmentBytes: 5000})
	must(t, err)
	defer func() { must(t, s.Close()) }()
	var blocks []*chain.FinalBlock
	var batches, wait []chain.StoredBatch
	check := func(step string) {
		t.Helper()
		r, err := Open(crash(t, dir), c.genesis, Options{segmentBytes: 5000})
		must(t, err)
		readBack(t, r, blocks)
		var want []chain.Hash
		for _, b := range wait {
			want = append(want, b.Hash)
		}
		if got := waitingIn(t, r); !slices.Equal(got, want) {
			t.Fatalf("%s %d: %d batches wait, want %d", step, len(blocks), len(got), len(want))
		}
		must(t, r.Close())
	}
	for n := range uint64(24) {
		b := c.batch(n+1, payloads(3, 200, n*10)...)
		batches = append(batches, b)
		wait = append(wait, b)
		must(t, s.AddBatches(t.Context(), batches[n:]))
		check("batch")
		// The newest goes first, or the oldest, or none.
		commit := chain.Commit{Block: c.next()}
		at := []int{len(wait) - 1, 0, -1, len(wait) / 2}[n%4]
		if at >= 0 {
			taken := wait[at]
			decoded, err := chain.DecodeBatch(taken.Data, len(taken.Data))
			must(t, err)
			c.tip = blocksTip(c, blocks)
			commit = chain.Commit{Block: c.next(decoded.Messages...), Sources: []chain.Source{source(t, taken, 0, 3)}, Remove: []chain.Hash{taken.Hash}}
			wait = slices.Delete(wait, at, at+1)
		}
		must(t, s.Commit(t.Context(), commit))
		blocks = append(blocks, commit.Block)
		check("block")
	}
	if len(logFiles(t, dir)) < 3 {
		t.Error("all is in one segment or two")
	}
}

func blocksTip(c *testChain, blocks []*chain.FinalBlock) chain.Header {
	if len(blocks) == 0 {
		return c.genesis.Header()
	}
	return blocks[len(blocks)-1].Header
}

// A failed transaction takes no batch.
func TestAFailedCommitTakesNoBatch(t *testing.T) {
	c := newChain("store")
	dir := dataDir(t)
	s := c.open(t, dir)
	b := c.batch(1, payloads(1, 100, 1)...)
	must(t, s.AddBatches(t.Context(), []chain.StoredBatch{b}))
	one, two := c.next(), c.next()
	if err := s.Commit(t.Context(), chain.Commit{Block: two, Remove: []chain.Hash{b.Hash}}); err == nil {
		t.Fatal("a block without the one below is committed")
	}
	must(t, s.Commit(t.Context(), chain.Commit{Block: one}))
	for range 2 {
		if got := waitingIn(t, s); !slices.Equal(got, []chain.Hash{b.Hash}) {
			t.Errorf("waiting are %v", got)
		}
		must(t, s.Close())
		s = c.open(t, dir)
	}
	must(t, s.Commit(t.Context(), chain.Commit{Block: two, Remove: []chain.Hash{b.Hash, b.Hash}}))
	if got := waitingIn(t, s); got != nil {
		t.Errorf("waiting are %v", got)
	}
}

// logged makes a data directory with 20 blocks of a batch each and two batches that wait.
func logged(t testing.TB, c *testChain, dir string) (blocks []*chain.FinalBlock, wait []chain.StoredBatch) {
	t.Helper()
	s, err := Open(dir, c.genesis, Options{segmentBytes: 20_000})
	must(t, err)
	for n := range uint64(20) {
		messages := payloads(4, 500, n*10)
		b := c.batch(n+1, messages...)
		must(t, s.AddBatches(t.Context(), []chain.StoredBatch{b}))
		f := c.next(messages...)
		must(t, s.Commit(t.Context(), chain.Commit{Block: f, Sources: []chain.Source{source(t, b, 0, 4)}, Remove: []chain.Hash{b.Hash}}))
		blocks = append(blocks, f)
		if n == 10 || n == 18 {
			wait = append(wait, c.batch(n+100, payloads(1, 500, n+1000)...))
			must(t, s.AddBatches(t.Context(), wait[len(wait)-1:]))
		}
	}
	must(t, s.Close())
	return blocks, wait
}

func damageLog(t testing.TB, dir string, what []byte) {
	t.Helper()
	for _, path := range logFiles(t, dir) {
		b, err := os.ReadFile(path)
		must(t, err)
		if at := bytes.Index(b, what); at >= 0 {
			b[at] ^= 1
			must(t, os.WriteFile(path, b, 0o600))
			return
		}
	}
	t.Fatalf("the log does not have %x", what)
}

// Promise 21.
func TestADamagedLogIsNamedAndABlockInItReplaced(t *testing.T) {
	c := newChain("store")
	dir := dataDir(t)
	blocks, _ := logged(t, c, dir)
	damageLog(t, dir, chain.EncodeMessages(blocks[victim-1].Messages)[4:])
	s := c.open(t, dir)
	_, err := s.Block(t.Context(), victim)
	isNamed(t, "block", err)
	if !strings.Contains(fmt.Sprint(err), logName+"-0") || strings.Contains(fmt.Sprint(err), blocksName) {
		t.Errorf("%v: want the file that has the messages", err)
	}
	_, err = s.EncodedBlocks(t.Context(), 1, 20, 1<<30)
	isNamed(t, "range", err)
	must(t, s.Replace(t.Context(), blocks[victim-1]))
	readBack(t, s, blocks)
	for name, damage := range map[string]string{
		"places of another block": "UPDATE blocks SET places = (SELECT places FROM blocks WHERE height = 9) WHERE height = 5",
		"places cut short":        "UPDATE blocks SET places = x'00' WHERE height = 5",
		"no places":               "UPDATE blocks SET places = NULL WHERE height = 5",
	} {
		execute(t, s.file.Path, damage)
		if _, err := s.Block(t.Context(), 5); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
	must(t, s.Replace(t.Context(), blocks[4]))
	readBack(t, s, blocks)
}

// Promise 21.
func TestADirectoryWithAnotherLogIsRefusedAndNotChanged(t *testing.T) {
	c := newChain("store")
	dir := dataDir(t)
	_, wait := logged(t, c, dir)
	foreign := dataDir(t)
	logged(t, newChain("other"), foreign)
	for name, tt := range map[string]struct {
		change func(dir string)
		want   error
	}{
		"a batch that waits is damaged": {func(dir string) { damageLog(t, dir, wait[0].Data) }, ErrCorrupt},
		"another chain": {func(dir string) {
			for _, path := range logFiles(t, foreign) {
				b, err := os.ReadFile(path)
				must(t, err)
				must(t, os.WriteFile(filepath.Join(dir, filepath.Base(path)), b, 0o600))
			}
		}, ErrWrongChain},
		"a newer version": {func(dir string) {
			path := logFiles(t, dir)[0]
			b, err := os.ReadFile(path)
			must(t, err)
			b[11]++
			binary.BigEndian.PutUint32(b[68:], crc32.Checksum(b[:68], castagnoli))
			must(t, os.WriteFile(path, b, 0o600))
		}, ErrNewerSchema},
		"no log":                  {func(dir string) { removeLog(t, dir) }, ErrCorrupt},
		"the log is cut short":    {func(dir string) { files := logFiles(t, dir); must(t, os.Truncate(files[len(files)-1], 100)) }, ErrCorrupt},
		"the log lacks a segment": {func(dir string) { must(t, os.Remove(logFiles(t, dir)[0])) }, ErrCorrupt},
		"the mark is in no record": {func(dir string) {
			execute(t, filepath.Join(dir, blocksName), "UPDATE log SET durable_to = durable_to - 3")
		}, ErrCorrupt},
	} {
		t.Run(name, func(t *testing.T) {
			changed := crash(t, dir)
			tt.change(changed)
			before := content(t, changed)
			s, err := Open(changed, c.genesis, Options{})
			if err == nil {
				must(t, s.Close())
			}
			if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), logName+"-") {
				t.Errorf("open: %v; want %v that names the log", err, tt.want)
			}
			if !reflect.DeepEqual(content(t, changed), before) {
				t.Error("opening changed a file")
			}
		})
	}
}

// Promise 21.
func TestAPositionBehindTheLogIsRefused(t *testing.T) {
	c := newChain("store")
	dir := dataDir(t)
	logged(t, c, dir)
	for _, wrong := range []string{"scan_from = durable_to + 1", "scan_from = -1"} {
		changed := crash(t, dir)
		execute(t, filepath.Join(changed, blocksName), "UPDATE log SET "+wrong)
		if _, err := Open(changed, c.genesis, Options{}); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), blocksName) {
			t.Errorf("%s: %v; want %v that names %s", wrong, err, ErrCorrupt, blocksName)
		}
	}
}

func removeLog(t testing.TB, dir string) {
	t.Helper()
	for _, path := range logFiles(t, dir) {
		must(t, os.Remove(path))
	}
}

// A directory of the schema before the log: its blocks stay where they are, and its batches wait in
// the log.
func TestADirectoryWithoutALogIsTakenOver(t *testing.T) {
	c := newChain("store")
	dir := dataDir(t)
	s := c.open(t, dir)
	var blocks []*chain.FinalBlock
	for n := range uint64(10) {
		blocks = append(blocks, c.next(payloads(2, 1000, n)...))
		must(t, s.Commit(t.Context(), chain.Commit{Block: blocks[n]}))
	}
	must(t, s.Close())
	path := filepath.Join(dir, blocksName)
	execute(t, path, "ALTER TABLE blocks DROP COLUMN places; DROP TABLE log; DROP TABLE ordered; PRAGMA user_version = 3")
	var batches []chain.StoredBatch
	for n := range uint64(3) {
		b := c.batch(n+1, payloads(1, 2<<20, n)...)
		b.Incarnation = ^uint64(0) - n
		batches = append(batches, b)
		execute(t, path, "INSERT INTO batches (hash, author, incarnation, number, sum, batch) VALUES (?, ?, ?, ?, ?, ?)",
			b.Hash[:], b.Author[:], int64(b.Incarnation), int64(b.Number), checksum(b.Number, b.Hash[:], b.Author[:], b.Data), b.Data)
	}
	waits := func() {
		t.Helper()
		var got []chain.StoredBatch
		must(t, s.PendingBatches(t.Context(), func(b chain.StoredBatch) error { got = append(got, b); return nil }))
		if !reflect.DeepEqual(got, batches) {
			t.Errorf("%d batches wait, not the %d that did", len(got), len(batches))
		}
	}
	must(t, WithView(t.Context(), dir, func(v *View) error {
		var got []chain.StoredBatch
		err := v.Batches(t.Context(), func(b chain.StoredBatch) error { got = append(got, b); return nil })
		if n, counted := v.Waiting(t.Context()); err != nil || counted != nil || n != len(batches) || !reflect.DeepEqual(got, batches) {
			t.Errorf("a view has %d batches that wait, counts %d, %v, %v", len(got), n, err, counted)
		}
		if f, err := v.Block(t.Context(), 10); err != nil || f.Hash() != blocks[9].Hash() {
			t.Errorf("a view has block %v, %v", f, err)
		}
		return nil
	}))
	// The second time the rows are still there, as when the first was cut off.
	before, err := os.ReadFile(path)
	must(t, err)
	for range 2 {
		s = c.open(t, dir)
		readBack(t, s, blocks)
		waits()
		must(t, s.Close())
		s = c.open(t, dir)
		waits()
		must(t, s.Close())
		must(t, os.WriteFile(path, before, 0o600))
		removeLog(t, dir)
	}
	s = c.open(t, dir)
	b := c.batch(9, payloads(1, 100, 9)...)
	must(t, s.AddBatches(t.Context(), []chain.StoredBatch{b}))
	must(t, s.Commit(t.Context(), chain.Commit{Block: c.next(payloads(1, 100, 9)...), Sources: []chain.Source{source(t, b, 0, 1)}, Remove: []chain.Hash{b.Hash}}))
	waits()
}

// A log that is left from another blocks.db holds up nothing, and its batches do not come back.
func TestALogThatBlocksDoNotKnowIsPassedOver(t *testing.T) {
	c := newChain("store")
	dir := dataDir(t)
	logged(t, c, dir)
	must(t, os.Remove(filepath.Join(dir, blocksName)))
	c.tip = c.genesis.Header()
	s := c.open(t, dir)
	if got := waitingIn(t, s); got != nil {
		t.Errorf("waiting are %v", got)
	}
	b := c.batch(1, payloads(1, 100, 9)...)
	must(t, s.AddBatches(t.Context(), []chain.StoredBatch{b}))
	s = c.open(t, crash(t, dir))
	if got := waitingIn(t, s); !slices.Equal(got, []chain.Hash{b.Hash}) {
		t.Errorf("waiting are %v", got)
	}
	readBack(t, s, nil)
}
