package store

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/diseq/diseq/hack/skipped"
	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/internal/sqlitefile"
)

func TestABlockReadsBackAsItWasCommitted(t *testing.T) {
	c := newChain("store")
	dir := dataDir(t)
	s := c.open(t, dir)
	one := c.next(payloads(3, 10, 0)...)
	one.Commitment = &chain.Commitment{Epoch: 1, Proof: []byte{1}}
	one.Header.CommitmentHash = one.Commitment.Hash()
	one.Body = []chain.BatchRef{{Author: c.key(), Hash: chain.Hash{9}}}
	one.Certificate = c.finalize(one.Header, 3)
	c.tip = one.Header
	two := c.next()
	two.Header.CommitmentHash = chain.Hash{}
	two.Certificate = c.finalize(two.Header, 3)
	c.tip = two.Header
	y := [32]byte{5}
	earlier := []*chain.Certificate{{Kind: chain.Nullify, Height: 1, Votes: []chain.VoteSignature{{Validator: 2}}}, {Kind: chain.Notarize, Height: 1, Round: 1, Block: chain.Hash{4}, Votes: make([]chain.VoteSignature, 1)}}
	epochs := []chain.Epoch{{Number: 0, Beacon: c.genesis.Hash()}, {Number: 1, Beacon: chain.Hash{1}}}
	must(t, s.Commit(t.Context(), chain.Commit{Block: one, Epochs: epochs, Justification: earlier}))
	must(t, s.Commit(t.Context(), chain.Commit{Block: two, Epochs: []chain.Epoch{{Number: 1, Beacon: chain.Hash{1}, Output: &y}}}))
	// an output that is known stays
	must(t, s.Commit(t.Context(), chain.Commit{Block: c.next(), Epochs: epochs[1:]}))

	for range 2 { // before and after it is closed and opened again
		if s.Height() != 3 {
			t.Fatalf("height %d, want 3", s.Height())
		}
		got, err := s.Block(t.Context(), 1)
		must(t, err)
		if !reflect.DeepEqual(got, one) {
			t.Errorf("block 1 is %+v, want %+v", got, one)
		}
		encoded, err := s.EncodedBlocks(t.Context(), 1, 10, 1<<20)
		must(t, err)
		if len(encoded) != 3 || !bytes.Equal(encoded[0], one.Encode()) || !bytes.Equal(encoded[1], two.Encode()) {
			t.Errorf("encoded blocks differ from FinalBlock.Encode")
		}
		h, err := s.Head(t.Context(), 2)
		must(t, err)
		if !bytes.Equal(h.Encode(), two.Block.Encode()) {
			t.Errorf("block 2 without messages is %+v", h)
		}
		just, err := s.Justification(t.Context(), 1)
		must(t, err)
		if !reflect.DeepEqual(just, earlier) {
			t.Errorf("justification %+v, want %+v", just, earlier)
		}
		if just, err := s.Justification(t.Context(), 2); just != nil || err != nil {
			t.Errorf("justification of a block without one: %v, %v", just, err)
		}
		found, err := s.Epochs(t.Context(), 0, 10)
		must(t, err)
		if want := []chain.Epoch{epochs[0], {Number: 1, Beacon: chain.Hash{1}, Output: &y}}; !reflect.DeepEqual(found, want) {
			t.Errorf("epochs %+v, want %+v", found, want)
		}
		must(t, s.Close())
		s = c.open(t, dir)
	}
	if found, err := s.Epochs(t.Context(), 2, 1); len(found) != 0 || err != nil {
		t.Errorf("epoch that has not begun: %v, %v", found, err)
	}
	genesis, err := s.Block(t.Context(), 0)
	must(t, err)
	if genesis.Header != c.genesis.Header() {
		t.Errorf("block 0 is %+v", genesis)
	}
	if _, err := s.Block(t.Context(), 4); !errors.Is(err, ErrNotFound) {
		t.Errorf("block above the newest: %v", err)
	}
}

// Promise 20.
func TestCommitRefusesWhatDoesNotFollow(t *testing.T) {
	c := newChain("store")
	s := c.open(t, dataDir(t))
	one, two, three := c.next(), c.next(), c.next()
	must(t, s.Commit(t.Context(), chain.Commit{Block: one}))
	other := *two
	other.Header.ParentHash = chain.Hash{1}
	other.Certificate = c.finalize(other.Header, 3)
	foreign := *two
	foreign.Header.ChainID = "other"
	foreign.Certificate = c.finalize(foreign.Header, 3)
	unproven := *two
	unproven.Certificate = one.Certificate
	for name, f := range map[string]*chain.FinalBlock{
		"a height that is there": one, "a height too high": three, "another parent": &other, "another chain": &foreign,
		"a certificate of another block": &unproven,
	} {
		if err := s.Commit(t.Context(), chain.Commit{Block: f}); err == nil {
			t.Errorf("committed %s", name)
		}
	}
	if s.Height() != 1 {
		t.Fatalf("height %d after refused commits, want 1", s.Height())
	}
	must(t, s.Commit(t.Context(), chain.Commit{Block: two}))
}

func TestEncodedBlocksStaysWithinItsBounds(t *testing.T) {
	c := newChain("store")
	s := c.open(t, dataDir(t))
	for range 5 {
		must(t, s.Commit(t.Context(), chain.Commit{Block: c.next(payloads(1, 1000, 0)...)}))
	}
	one, err := s.EncodedBlocks(t.Context(), 1, 1, 0)
	must(t, err)
	size := len(one[0])
	for _, tt := range []struct {
		from         uint64
		count, bytes int
		want         int
	}{{1, 10, 1 << 20, 5}, {1, 2, 1 << 20, 2}, {1, 10, 2*size + 1, 2}, {1, 10, 1, 1}, {5, 10, 1 << 20, 1}, {6, 10, 1 << 20, 0}, {1, 0, 1 << 20, 0}} {
		got, err := s.EncodedBlocks(t.Context(), tt.from, tt.count, tt.bytes)
		must(t, err)
		if len(got) != tt.want {
			t.Errorf("from %d, count %d, %d bytes: %d blocks, want %d", tt.from, tt.count, tt.bytes, len(got), tt.want)
		}
	}
	if _, err := s.EncodedBlocks(t.Context(), 0, 1, 1); err == nil {
		t.Error("genesis has an encoding")
	}
	if _, err := s.Head(t.Context(), 1<<63); err == nil || errors.Is(err, ErrNotFound) {
		t.Errorf("height 2^63: %v", err)
	}
}

func TestBatchesStayInTheOrderOfTheirArrivalUntilABlockTakesThem(t *testing.T) {
	c := newChain("store")
	dir := dataDir(t)
	s := c.open(t, dir)
	var batches []chain.StoredBatch
	for n := range uint64(6) {
		batches = append(batches, c.batch(n+1, payloads(1, 1<<20, n)...)) // more than one page
	}
	must(t, s.AddBatches(t.Context(), batches[3:]))
	must(t, s.AddBatches(t.Context(), batches))
	want := append(append([]chain.StoredBatch{}, batches[3:]...), batches[:3]...)
	pending := func() (out []chain.StoredBatch) {
		t.Helper()
		must(t, s.PendingBatches(t.Context(), func(b chain.StoredBatch) error { out = append(out, b); return nil }))
		return out
	}
	if got := pending(); !reflect.DeepEqual(got, want) {
		t.Fatalf("pending: %d batches in another order", len(got))
	}
	must(t, s.Commit(t.Context(), chain.Commit{Block: c.next(), Remove: []chain.Hash{want[0].Hash, {1}}}))
	must(t, s.Commit(t.Context(), chain.Commit{Block: c.next(), Remove: []chain.Hash{want[1].Hash}}))
	must(t, s.Close())
	s = c.open(t, dir)
	if got := pending(); !reflect.DeepEqual(got, want[2:]) {
		t.Fatalf("pending after a restart: %d batches, want %d", len(got), len(want)-2)
	}
	stop := errors.New("stop")
	if err := s.PendingBatches(t.Context(), func(chain.StoredBatch) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("yield's error: %v", err)
	}
}

func TestOnlyAStrongerCertificateOfTheSameBlockReplacesOne(t *testing.T) {
	c := newChain("store")
	dir := dataDir(t)
	s := c.open(t, dir)
	f := c.next()
	strong := c.finalize(f.Header, 4)
	s.Strengthen(&strong) // ahead of its block: it waits
	must(t, s.Commit(t.Context(), chain.Commit{Block: f}))
	weak := c.finalize(f.Header, 3)
	s.Strengthen(&weak)
	second := c.next()
	must(t, s.Commit(t.Context(), chain.Commit{Block: second}))
	other := second.Header
	other.Timestamp++
	foreign := c.finalize(other, 4)
	s.Strengthen(&foreign)
	must(t, s.Close())
	s = c.open(t, dir)
	for height, want := range map[uint64]int{1: 4, 2: 3} {
		got, err := s.Certificate(t.Context(), height)
		must(t, err)
		if got.Strength() != want {
			t.Errorf("block %d has strength %d, want %d", height, got.Strength(), want)
		}
		b, err := s.Block(t.Context(), height)
		must(t, err)
		if b.Certificate.Block != b.Hash() {
			t.Errorf("block %d has the certificate of another block", height)
		}
	}
}

func TestAStrongerCertificateIsWrittenWithoutAnotherTransaction(t *testing.T) {
	c := newChain("store")
	s := c.open(t, dataDir(t))
	f := c.next()
	must(t, s.Commit(t.Context(), chain.Commit{Block: f}))
	strong := c.finalize(f.Header, 4)
	s.Strengthen(&strong)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		got, err := s.Certificate(t.Context(), 1)
		must(t, err)
		if got.Strength() == 4 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the certificate still has strength %d", got.Strength())
		}
	}
}

func TestEvidenceIsKeptOnceAndBoundedForEachValidator(t *testing.T) {
	c, dir := newChain("store"), dataDir(t)
	s := c.open(t, dir)
	evidence := func(validator int, round uint32) chain.Evidence {
		a := chain.Vote{Kind: chain.Notarize, Height: 1, Round: round, Block: chain.Hash{1}, Validator: uint32(validator)}
		b := a
		b.Block = chain.Hash{2}
		a.Sign(c.keys[validator], c.genesis.ChainID)
		b.Sign(c.keys[validator], c.genesis.ChainID)
		e, ok := chain.NewEvidence(c.genesis.ChainID, c.genesis.Set(), a, b)
		if !ok {
			t.Fatal("no evidence")
		}
		return e
	}
	for i := range uint32(EvidencePerValidator + 5) {
		added, err := s.AddEvidence(t.Context(), evidence(0, i))
		must(t, err)
		if added != (i < EvidencePerValidator) {
			t.Fatalf("piece %d: added %v", i, added)
		}
	}
	for _, want := range []bool{true, false} {
		added, err := s.AddEvidence(t.Context(), evidence(1, 0))
		must(t, err)
		if added != want {
			t.Errorf("another validator's: added %v, want %v", added, want)
		}
	}
	held, err := s.Evidence(t.Context(), 1000)
	must(t, err)
	if len(held) != EvidencePerValidator+1 || !reflect.DeepEqual(held[0], evidence(0, 0)) {
		t.Errorf("%d pieces held", len(held))
	}
	must(t, held[0].Verify(c.genesis.ChainID, c.genesis.Set()))
	if n := s.EvidenceHeld(); n != EvidencePerValidator+1 {
		t.Errorf("%d pieces counted, want %d", n, EvidencePerValidator+1)
	}
	must(t, s.Close())
	if n := c.open(t, dir).EvidenceHeld(); n != EvidencePerValidator+1 {
		t.Errorf("%d pieces counted when opened again, want %d", n, EvidencePerValidator+1)
	}
}

func TestMetaIsKept(t *testing.T) {
	c := newChain("store")
	s := c.open(t, dataDir(t))
	for _, value := range []string{"a", "", "b"} {
		must(t, s.PutMeta(t.Context(), "incarnation", []byte(value)))
		got, err := s.Meta(t.Context(), "incarnation")
		must(t, err)
		if got == nil || string(got) != value {
			t.Errorf("value %q, want %q", got, value)
		}
	}
	if got, err := s.Meta(t.Context(), "none"); got != nil || err != nil {
		t.Errorf("a key without a value: %q, %v", got, err)
	}
	if s.PutMeta(t.Context(), "", nil) == nil || s.PutMeta(t.Context(), "k", make([]byte, maxMetaValue+1)) == nil {
		t.Error("an empty key or an oversized value was kept")
	}
}

// Every connection syncs each commit: a pragma set once on a pool would hold for its first
// connection only.
//
// Promise 20.
func TestEveryConnectionIsFullySynchronous(t *testing.T) {
	c := newChain("store")
	dir := dataDir(t)
	must(t, CreateVotes(dir, c.key()))
	s := c.open(t, dir)
	v := c.openVotes(t, s)
	expect := func(name string, synchronous int, journal string) {
		t.Helper()
		if synchronous != 2 || journal != "wal" {
			t.Errorf("%s: synchronous %d, journal %s; want 2 (FULL), wal", name, synchronous, journal)
		}
	}
	for name, w := range map[string]*sqlitefile.Writer{"blocks writer": s.writer.out, "votes writer": v.out} {
		var synchronous int
		var journal string
		must(t, w.QueryRow(&sqlitefile.Statement{SQL: "PRAGMA synchronous"}, nil, &synchronous))
		must(t, w.QueryRow(&sqlitefile.Statement{SQL: "PRAGMA journal_mode"}, nil, &journal))
		expect(name, synchronous, journal)
	}
	// all at once: four connections
	for _, name := range []string{"reader 1", "reader 2", "reader 3", "reader 4"} {
		conn, err := s.reads.Conn(t.Context())
		must(t, err)
		defer func() { must(t, conn.Close()) }()
		var synchronous int
		var journal string
		must(t, conn.QueryRowContext(t.Context(), "PRAGMA synchronous").Scan(&synchronous))
		must(t, conn.QueryRowContext(t.Context(), "PRAGMA journal_mode").Scan(&journal))
		expect(name, synchronous, journal)
		if _, err := conn.ExecContext(t.Context(), "DELETE FROM blocks"); err == nil {
			t.Errorf("%s writes", name)
		}
	}
}

func TestAnOperationThatFailsDoesNotTakeOthersWithIt(t *testing.T) {
	c := newChain("store")
	s := c.open(t, dataDir(t))
	one, two := c.next(), c.next()
	failure := errors.New("this one fails")
	good := func(b chain.StoredBatch) *operation {
		return &operation{done: make(chan error, 1), run: func(tx *transaction) error {
			return tx.exec(putMeta, itoa(int(b.Number)), b.Data)
		}}
	}
	bad := good(c.batch(2, payloads(1, 9, 2)...))
	inner := bad.run
	bad.run = func(tx *transaction) error { return errors.Join(inner(tx), failure) }
	group := []*operation{good(c.batch(1, payloads(1, 9, 1)...)), bad, good(c.batch(3, payloads(1, 9, 3)...))}

	must(t, s.Commit(t.Context(), chain.Commit{Block: one}))
	// The three are queued while the writer is held up, so that they share the next transaction.
	held, let := make(chan struct{}), make(chan struct{})
	first := &operation{done: make(chan error, 1), run: func(*transaction) error { close(held); <-let; return nil }}
	must(t, s.writer.enqueue(t.Context(), first))
	<-held
	for _, op := range group {
		must(t, s.writer.enqueue(t.Context(), op))
	}
	close(let)
	for i, want := range []error{nil, failure, nil} {
		if err := <-group[i].done; !errors.Is(err, want) || (want == nil && err != nil) {
			t.Errorf("operation %d: %v, want %v", i, err, want)
		}
	}
	for number, want := range []bool{1: true, 2: false, 3: true} {
		value, err := s.Meta(t.Context(), itoa(number))
		must(t, err)
		if (value != nil) != want {
			t.Errorf("operation %d has written %v, want %v", number, value != nil, want)
		}
	}
	must(t, s.Commit(t.Context(), chain.Commit{Block: two}))
}

func TestManyCallersAtOnce(t *testing.T) {
	c := newChain("store")
	s := c.open(t, dataDir(t))
	var wg sync.WaitGroup
	for caller := range uint64(8) {
		wg.Go(func() {
			for i := range uint64(20) {
				if err := s.AddBatches(t.Context(), []chain.StoredBatch{c.batch(i+1, payloads(1, 100, caller*100+i)...)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	blocks := make([]*chain.FinalBlock, 20)
	for i := range blocks {
		blocks[i] = c.next(payloads(5, 100, uint64(i))...)
	}
	for i, f := range blocks {
		must(t, s.Commit(t.Context(), chain.Commit{Block: f}))
		if got := s.Height(); got != uint64(i+1) {
			t.Errorf("height %d after block %d", got, i+1)
		}
	}
	wg.Wait()
	count := 0
	must(t, s.PendingBatches(t.Context(), func(chain.StoredBatch) error { count++; return nil }))
	if count != 8*20 {
		t.Errorf("%d batches, want 160", count)
	}
}

func TestAClosedStoreRefuses(t *testing.T) {
	c := newChain("store")
	s := c.open(t, dataDir(t))
	must(t, s.Close())
	if err := s.PutMeta(t.Context(), "k", nil); !errors.Is(err, ErrClosed) {
		t.Errorf("write: %v", err)
	}
	if _, err := s.Meta(t.Context(), "k"); err == nil {
		t.Error("read from a closed store")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s = c.open(t, s.dir)
	if err := s.PutMeta(ctx, "k", nil); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("write with a context that has ended: %v", err)
	}
}

// A file that stays open keeps its space, its log, and a directory that cannot be unmounted.
func TestCloseLeavesNoFileOpenAndNoLog(t *testing.T) {
	c := newChain("store")
	dir := dataDir(t)
	must(t, CreateVotes(dir, c.key()))
	s := c.open(t, dir)
	v := c.openVotes(t, s)
	must(t, s.Commit(t.Context(), chain.Commit{Block: c.next()}))
	must(t, v.Append(chain.Record{Height: 1}))
	must(t, v.Close())
	must(t, s.Close())
	must(t, s.Close())
	for name := range content(t, dir) {
		if name != blocksName && name != votesName {
			t.Errorf("%s is left", name)
		}
	}
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		skipped.Test(t, "no list of open files here: %v", err)
	}
	for _, fd := range open {
		if to, err := os.Readlink(filepath.Join("/proc/self/fd", fd.Name())); err == nil && strings.HasPrefix(to, dir) {
			t.Errorf("%s is open", to)
		}
	}
}

func TestMetricsAreRegisteredOnce(t *testing.T) {
	c := newChain("store")
	r := prometheus.NewRegistry()
	s, err := Open(dataDir(t), c.genesis, Options{Registerer: r})
	must(t, err)
	must(t, s.Commit(t.Context(), chain.Commit{Block: c.next()}))
	got, err := r.Gather()
	must(t, err)
	if len(got) != 2 || got[1].GetMetric()[0].GetHistogram().GetSampleCount() == 0 {
		t.Errorf("metrics %v", got)
	}
	must(t, s.Close())
}

// execute runs a statement on a file through a connection of its own, with the file open or not.
func execute(t testing.TB, path, statement string, args ...any) {
	t.Helper()
	db, err := (&sqlitefile.File{Path: path}).OpenWriting(1, nil)
	must(t, err)
	_, err = db.Exec(statement, args...)
	must(t, errors.Join(err, db.Close()))
}

// content returns the bytes of every file of a directory but the lock and SQLite's shared memory,
// which holds nothing.
func content(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == lockName || strings.HasSuffix(path, "-shm") {
			return err
		}
		b, err := os.ReadFile(path)
		out[d.Name()] = string(b)
		return err
	}))
	return out
}

// crash copies the files of a directory in use, as a machine that loses its power leaves them.
func crash(t *testing.T, from string) string {
	t.Helper()
	to := dataDir(t)
	must(t, os.MkdirAll(to, 0o700))
	for name, b := range content(t, from) {
		must(t, os.WriteFile(filepath.Join(to, name), []byte(b), 0o600))
	}
	return to
}

// Promise 12.
func TestWhatWasAcknowledgedSurvivesACrash(t *testing.T) {
	c := newChain("store")
	dir := dataDir(t)
	must(t, CreateVotes(dir, c.key()))
	s := c.open(t, dir)
	v := c.openVotes(t, s)
	var batches []chain.StoredBatch
	for n := range uint64(20) {
		batches = append(batches, c.batch(n+1, payloads(2, 100, n)...))
		must(t, s.AddBatches(t.Context(), batches[n:]))
		must(t, s.Commit(t.Context(), chain.Commit{Block: c.next(payloads(3, 5000, n)...), Remove: []chain.Hash{batches[n/2].Hash}}))
		must(t, v.Append(chain.Record{Height: n + 1, Round: 1, Kind: 2, Data: []byte{byte(n)}}))
		if n%5 != 4 {
			continue
		}
		after := crash(t, dir)
		r := c.open(t, after)
		if r.Height() != n+1 {
			t.Fatalf("height %d after a crash, want %d", r.Height(), n+1)
		}
		pending := 0
		must(t, r.PendingBatches(t.Context(), func(chain.StoredBatch) error { pending++; return nil }))
		if want := int(n+1) - int(n/2+1); pending != want {
			t.Errorf("%d batches after a crash, want %d", pending, want)
		}
		records, err := c.openVotes(t, r).Load()
		must(t, err)
		if len(records) != int(n+1) {
			t.Errorf("%d records after a crash, want %d", len(records), n+1)
		}
	}
}

// A log that was cut anywhere loses whole transactions from its end, never a part of one.
//
// Promise 20.
func TestALogThatWasCutLosesWholeTransactions(t *testing.T) {
	c := newChain("store")
	dir := dataDir(t)
	s := c.open(t, dir)
	for n := range uint64(10) {
		b := c.batch(n+1, payloads(1, 100, n)...)
		must(t, s.AddBatches(t.Context(), []chain.StoredBatch{b}))
		must(t, s.Commit(t.Context(), chain.Commit{Block: c.next(payloads(1, 9000, n)...), Remove: []chain.Hash{b.Hash}}))
	}
	log := filepath.Join(dir, blocksName+"-wal")
	whole, err := os.Stat(log)
	must(t, err)
	for cut := int64(0); cut < whole.Size(); cut += whole.Size()/23 + 1 {
		after := crash(t, dir)
		must(t, os.Truncate(filepath.Join(after, blocksName+"-wal"), cut))
		r := c.open(t, after)
		pending := 0
		must(t, r.PendingBatches(t.Context(), func(chain.StoredBatch) error { pending++; return nil }))
		if want := 10 - int(r.Height()); pending != want {
			t.Errorf("log cut at %d: %d batches wait at height %d, want %d", cut, pending, r.Height(), want)
		}
		for h := uint64(1); h <= r.Height(); h++ {
			if _, err := r.Block(t.Context(), h); err != nil {
				t.Errorf("log cut at %d: %v", cut, err)
			}
		}
	}
}

// Promise 21.
func TestOpenFailsClearlyAndChangesNothing(t *testing.T) {
	c := newChain("store")
	made := dataDir(t)
	must(t, CreateVotes(made, c.key()))
	s := c.open(t, made)
	v := c.openVotes(t, s)
	must(t, v.Append(chain.Record{Height: 1, Kind: 1, Data: make([]byte, 3000)}))
	for n := range uint64(40) {
		must(t, s.Commit(t.Context(), chain.Commit{Block: c.next(payloads(2, 3000, n)...)}))
	}
	logged := crash(t, made) // with a write-ahead log
	for _, w := range []*sqlitefile.Writer{s.writer.out, v.out} {
		must(t, w.QueryRow(&sqlitefile.Statement{SQL: "PRAGMA wal_checkpoint(TRUNCATE)"}, nil, new(int), new(int), new(int)))
	}
	plain := crash(t, made) // without one

	sqlite := func(statement string) func(*testing.T, string) {
		return func(t *testing.T, path string) {
			execute(t, path, statement)
		}
	}
	overwrite := func(at int64, with string) func(*testing.T, string) {
		return func(t *testing.T, path string) {
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			must(t, err)
			_, err = f.WriteAt([]byte(with), at)
			must(t, errors.Join(err, f.Close()))
		}
	}
	other := newChain("other")
	for _, tt := range []struct {
		name   string
		file   string
		damage func(*testing.T, string)
		chain  *testChain
		want   error
	}{
		{"another chain", blocksName, nil, other, ErrWrongChain},
		{"another chain's votes", votesName, sqlite("UPDATE validator SET genesis_hash = x'00'"), c, ErrWrongChain},
		{"another validator's votes", votesName, sqlite("UPDATE validator SET public_key = x'00'"), c, ErrWrongIdentity},
		{"no votes", votesName, func(t *testing.T, path string) { must(t, os.Remove(path)); _ = os.Remove(path + "-wal") }, c, ErrNoVoteStore},
		{"blocks of protocol version 1", blocksName, sqlite("DROP TABLE changes; PRAGMA user_version = 2"), c, ErrOldProtocol},
		{"blocks of protocol version 1 and another genesis hash", blocksName,
			sqlite("UPDATE chain SET genesis_hash = x'00'; DROP TABLE changes; PRAGMA user_version = 1"), c, ErrOldProtocol},
		{"newer blocks", blocksName, sqlite("PRAGMA user_version = 99"), c, ErrNewerSchema},
		{"newer votes", votesName, sqlite("PRAGMA user_version = 99"), c, ErrNewerSchema},
		{"empty blocks", blocksName, func(t *testing.T, path string) { must(t, os.Truncate(path, 0)) }, c, ErrCorrupt},
		{"empty votes", votesName, func(t *testing.T, path string) { must(t, os.Truncate(path, 0)) }, c, ErrCorrupt},
		{"no database", blocksName, overwrite(0, "SQLite format 4"), c, ErrCorrupt},
		{"another application", votesName, sqlite("PRAGMA application_id = 1"), c, ErrCorrupt},
		{"blocks cut short", blocksName, func(t *testing.T, path string) { must(t, os.Truncate(path, 20000)) }, c, ErrCorrupt},
		{"votes cut short", votesName, func(t *testing.T, path string) { must(t, os.Truncate(path, 5000)) }, c, ErrCorrupt},
		{"page overwritten", blocksName, overwrite(blocksSchemaPage, strings.Repeat("x", 8192)), c, ErrCorrupt},
		{"newest block changed", blocksName, sqlite("UPDATE blocks SET messages = zeroblob(length(messages)) WHERE height = 40"), c, ErrCorrupt},
		{"block missing", blocksName, sqlite("DELETE FROM blocks WHERE height = 38"), c, ErrCorrupt},
		{"blocks renumbered", blocksName, sqlite("UPDATE blocks SET height = height + 1000"), c, ErrCorrupt},
		{"certificate missing", blocksName, sqlite("DELETE FROM certificates WHERE height = 40"), c, ErrCorrupt},
		{"chain not named", blocksName, sqlite("DELETE FROM chain"), c, ErrCorrupt},
		{"vote changed", votesName, sqlite("UPDATE records SET round = 1"), c, ErrCorrupt},
		{"validator not named", votesName, sqlite("DELETE FROM validator"), c, ErrCorrupt},
	} {
		for state, from := range map[string]string{"closed": plain, "with a log": logged} {
			t.Run(tt.name+" "+state, func(t *testing.T) {
				dir := crash(t, from)
				if tt.damage != nil {
					if state == "with a log" && !strings.Contains(tt.name, "another chain") && tt.want == ErrCorrupt {
						t.Skip("the log would repair it, or SQLite would move it on the way")
					}
					tt.damage(t, filepath.Join(dir, tt.file))
				}
				before := content(t, dir)
				s, err := Open(dir, tt.chain.genesis, Options{})
				if err == nil && tt.file == votesName {
					var v *Votes
					blocks := content(t, dir)
					before[blocksName], before[blocksName+"-wal"] = blocks[blocksName], blocks[blocksName+"-wal"]
					if v, err = s.OpenVotes(c.key()); err == nil {
						err = v.Close()
					}
					if got := content(t, dir); got[votesName] != before[votesName] || got[votesName+"-wal"] != before[votesName+"-wal"] {
						t.Error("the vote store changed")
					}
					must(t, s.Close())
				} else if err == nil {
					must(t, s.Close())
				}
				if !errors.Is(err, tt.want) {
					t.Fatalf("open: %v, want %v", err, tt.want)
				}
				if tt.want == ErrCorrupt && !strings.Contains(err.Error(), tt.file) {
					t.Errorf("the error does not name the file: %v", err)
				}
				if tt.file == blocksName && !reflect.DeepEqual(content(t, dir), before) {
					t.Error("opening changed a file")
				}
			})
		}
	}
}

// blocksSchemaPage is where the third page of blocks.db starts.
const blocksSchemaPage = 2 * 8192

// Promise 23.
func TestADirectoryInUseIsRefused(t *testing.T) {
	c := newChain("store")
	dir := dataDir(t)
	s := c.open(t, dir)
	must(t, s.PutMeta(t.Context(), "k", []byte("v")))
	before := content(t, dir)
	if _, err := Open(dir, c.genesis, Options{}); !errors.Is(err, ErrLocked) {
		t.Errorf("second open: %v", err)
	}
	if err := CreateVotes(dir, c.key()); !errors.Is(err, ErrLocked) {
		t.Errorf("vote store in a directory in use: %v", err)
	}
	if !reflect.DeepEqual(content(t, dir), before) {
		t.Error("a refused open changed a file")
	}
	must(t, s.Close())
	c.open(t, dir)
}

// The changes of the validator set are read without their blocks, and a damaged one is read from
// its block. If that is damaged too, nothing tells which set came next.
//
// Promise 21.
func TestADamagedChangeIsReadFromItsBlock(t *testing.T) {
	c := newChain("store")
	dir := dataDir(t)
	s := c.open(t, dir)
	if got, err := s.Changes(t.Context()); err != nil || got != nil {
		t.Errorf("changes of an empty chain: %v, %v", got, err)
	}
	var want []chain.StoredChange
	for height := uint64(1); height <= 12; height++ {
		if height%2 == 1 {
			must(t, s.Commit(t.Context(), chain.Commit{Block: c.next()}))
			continue
		}
		f := c.change(uint32(height/2), 3+uint32(height/2)%2)
		must(t, s.Commit(t.Context(), chain.Commit{Block: f}))
		want = append(want, chain.StoredChange{Height: height, Change: f.Change})
	}
	reads := func(when string) {
		t.Helper()
		if got, err := s.Changes(t.Context()); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v; want %+v", when, got, err, want)
		}
	}
	reads("as written")
	must(t, s.Close())
	s = c.open(t, dir)
	reads("opened again")
	execute(t, s.file.Path, "UPDATE blocks SET block = block || x'00' WHERE height = 2")
	reads("a block is damaged")
	execute(t, s.file.Path, "UPDATE changes SET change = change || x'00' WHERE height = 4; UPDATE changes SET sum = 1 WHERE height = 6")
	reads("two rows are damaged")
	execute(t, s.file.Path, "UPDATE changes SET change = x'' WHERE height = 2")
	if got, err := s.Changes(t.Context()); !errors.Is(err, ErrCorrupt) {
		t.Errorf("row and block are damaged: %v, %v", got, err)
	}
}

// A flipped bit in an old block, which opening does not look at, is reported by whoever reads the
// block.
//
// Promise 21.
func TestAChangedRowIsNeverServed(t *testing.T) {
	c := newChain("store")
	dir := dataDir(t)
	s := c.open(t, dir)
	for n := range uint64(20) {
		must(t, s.Commit(t.Context(), chain.Commit{Block: c.next(payloads(1, 100, n)...)}))
	}
	for _, q := range []string{
		"UPDATE blocks SET messages = CAST(replace(CAST(messages AS TEXT), x'05', x'06') AS BLOB) || x'00' WHERE height = 3",
		"UPDATE blocks SET block = block || x'00' WHERE height = 4",
		"UPDATE certificates SET certificate = zeroblob(length(certificate)) WHERE height = 5",
	} {
		execute(t, s.file.Path, q)
	}
	for h := uint64(3); h <= 5; h++ {
		if _, err := s.Block(t.Context(), h); !errors.Is(err, ErrCorrupt) {
			t.Errorf("block %d: %v", h, err)
		}
	}
	if _, err := s.EncodedBlocks(t.Context(), 1, 10, 1<<20); !errors.Is(err, ErrCorrupt) {
		t.Errorf("blocks: %v", err)
	}
	if _, err := s.Head(t.Context(), 4); !errors.Is(err, ErrCorrupt) {
		t.Errorf("head 4: %v", err)
	}
	if _, err := s.Certificate(t.Context(), 5); !errors.Is(err, ErrCorrupt) {
		t.Errorf("certificate 5: %v", err)
	}
}

func TestAFullDiskLosesNothing(t *testing.T) {
	c := newChain("store")
	s := c.open(t, dataDir(t))
	must(t, s.Commit(t.Context(), chain.Commit{Block: c.next(payloads(1, 1000, 1)...)}))
	var pages int
	must(t, s.writer.out.QueryRow(&sqlitefile.Statement{SQL: "PRAGMA page_count"}, nil, &pages))
	limit := func(n int) {
		must(t, s.writer.out.QueryRow(&sqlitefile.Statement{SQL: "PRAGMA max_page_count = " + itoa(n)}, nil, new(int)))
	}
	limit(pages + 2)
	f := c.next(payloads(1, inlineBytes-100, 2)...)
	if err := s.Commit(t.Context(), chain.Commit{Block: f}); !errors.Is(err, ErrDiskFull) {
		t.Fatalf("commit on a full disk: %v", err)
	}
	if s.Height() != 1 {
		t.Fatalf("height %d after a failed commit, want 1", s.Height())
	}
	if _, err := s.Block(t.Context(), 1); err != nil {
		t.Errorf("block 1: %v", err)
	}
	limit(1 << 20)
	must(t, s.Commit(t.Context(), chain.Commit{Block: f}))
}

// On a file system that is really full, which SQLite learns from the kernel in other ways.
//
// Promise 22.
func TestAFullFileSystemLosesNothing(t *testing.T) {
	if os.Getuid() != 0 {
		skipped.Test(t, "mounting a small file system takes root")
	}
	dir := t.TempDir()
	if out, err := exec.CommandContext(t.Context(), "mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", dir).CombinedOutput(); err != nil {
		skipped.Test(t, "cannot mount a tmpfs here: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
	c := newChain("store")
	must(t, CreateVotes(dir, c.key()))
	s := c.open(t, dir)
	v := c.openVotes(t, s)
	ballast := filepath.Join(dir, "ballast")
	must(t, os.WriteFile(ballast, make([]byte, 5<<20), 0o600))
	var failed error
	height, votes := uint64(0), 0
	var f *chain.FinalBlock
	for failed == nil {
		f = c.next(payloads(1, 60000, height)...)
		if failed = s.Commit(t.Context(), chain.Commit{Block: f}); failed == nil {
			height++
		}
	}
	if !errors.Is(failed, ErrDiskFull) {
		t.Fatalf("commit on a full file system: %v", failed)
	}
	number := uint64(0)
	var b chain.StoredBatch
	for failed = nil; failed == nil; {
		number++
		b = c.batch(number, payloads(1, 20000, number)...)
		failed = s.AddBatches(t.Context(), []chain.StoredBatch{b})
	}
	if !errors.Is(failed, ErrDiskFull) {
		t.Fatalf("batch on a full file system: %v", failed)
	}
	for failed = nil; failed == nil; {
		if failed = v.Append(chain.Record{Height: 1, Kind: 1, Data: make([]byte, 2000)}); failed == nil {
			votes++
		}
	}
	if !errors.Is(failed, ErrDiskFull) {
		t.Fatalf("vote on a full file system: %v", failed)
	}
	if s.Height() != height {
		t.Fatalf("height %d, want %d", s.Height(), height)
	}
	must(t, os.Remove(ballast))
	must(t, s.Commit(t.Context(), chain.Commit{Block: f}))
	must(t, s.AddBatches(t.Context(), []chain.StoredBatch{b}))
	must(t, v.Append(chain.Record{Height: 1, Kind: 1}))
	must(t, v.Close())
	must(t, s.Close())
	s = c.open(t, dir)
	if n := len(waitingIn(t, s)); n != int(number) {
		t.Errorf("%d batches wait after a restart, want %d", n, number)
	}
	records, err := c.openVotes(t, s).Load()
	must(t, err)
	if s.Height() != height+1 || len(records) != votes+1 {
		t.Errorf("height %d with %d votes after a restart, want %d with %d", s.Height(), len(records), height+1, votes+1)
	}
}

func TestACreationThatWasCutOffIsStartedAgain(t *testing.T) {
	c := newChain("store")
	dir := dataDir(t)
	must(t, os.MkdirAll(dir, 0o700))
	for _, suffix := range []string{"", "-wal", "-journal"} {
		must(t, os.WriteFile(filepath.Join(dir, blocksName+".new"+suffix), []byte("half"), 0o600))
	}
	s := c.open(t, dir)
	must(t, s.Commit(t.Context(), chain.Commit{Block: c.next()}))
	for name := range content(t, dir) {
		if strings.Contains(name, ".new") {
			t.Errorf("%s is left", name)
		}
	}
	info, err := os.Stat(filepath.Join(dir, blocksName))
	must(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, want 0600", info.Mode().Perm())
	}
}

func FuzzBatchesAndMetaReadBackAsWritten(f *testing.F) {
	c := newChain("store")
	s, err := Open(dataDir(f), c.genesis, Options{})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = s.Close() })
	f.Add([]byte("data"), uint64(1), uint64(2), "key")
	f.Add([]byte{0}, uint64(1<<63), ^uint64(0), "'; DROP TABLE batches; --")
	f.Fuzz(func(t *testing.T, data []byte, incarnation, number uint64, key string) {
		if len(data) == 0 {
			return
		}
		b := chain.StoredBatch{Hash: chain.Hash{1}, Author: c.key(), Incarnation: incarnation, Number: number, Data: data}
		must(t, s.AddBatches(t.Context(), []chain.StoredBatch{b}))
		var got []chain.StoredBatch
		must(t, s.PendingBatches(t.Context(), func(b chain.StoredBatch) error { got = append(got, b); return nil }))
		if want := []chain.StoredBatch{b}; !reflect.DeepEqual(got, want) {
			t.Errorf("batches %+v, want %+v", got, want)
		}
		must(t, s.writer.submit(t.Context(), 0, func(tx *transaction) error {
			tx.left, tx.marks = append(tx.left, s.pending.leave([]chain.Hash{b.Hash})...), true
			return nil
		}))
		if s.PutMeta(t.Context(), key, data) != nil {
			return // out of its bounds
		}
		value, err := s.Meta(t.Context(), key)
		must(t, err)
		if !bytes.Equal(value, data) {
			t.Errorf("meta %q is %x, want %x", key, value, data)
		}
	})
}
