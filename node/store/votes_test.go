package store

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"testing"

	"github.com/diseq/diseq/node/chain"
)

func itoa(n int) string { return strconv.Itoa(n) }

func TestVotesAreKeptInOrderAndPrunedByHeight(t *testing.T) {
	c := newChain("store")
	dir := dataDir(t)
	must(t, CreateVotes(dir, c.key()))
	s := c.open(t, dir)
	v := c.openVotes(t, s)
	var want []chain.Record
	for h := uint64(1); h <= 5; h++ {
		records := []chain.Record{{Height: h, Round: 1 << 31, Kind: 255, Data: []byte{byte(h)}}, {Height: h, Kind: 3, Data: make([]byte, 100_000)}}
		must(t, v.Append(records...))
		want = append(want, records...)
	}
	load := func() []chain.Record {
		t.Helper()
		got, err := v.Load()
		must(t, err)
		return got
	}
	if !reflect.DeepEqual(load(), want) {
		t.Fatal("records differ")
	}
	v.Prune(3)
	if len(load()) != 10 {
		t.Fatal("Prune deleted by itself")
	}
	last := chain.Record{Height: 6}
	must(t, v.Append(last))
	want = append(want[6:], last)
	for range 2 {
		if !reflect.DeepEqual(load(), want) {
			t.Fatal("records differ after pruning")
		}
		must(t, v.Close())
		must(t, s.Close())
		s = c.open(t, dir)
		v = c.openVotes(t, s)
	}
	must(t, v.Close())
	if err := v.Append(last); !errors.Is(err, ErrClosed) {
		t.Errorf("append after close: %v", err)
	}
	if _, err := v.Load(); !errors.Is(err, ErrClosed) {
		t.Errorf("load after close: %v", err)
	}
}

// Promise 12.
func TestAnAppendIsAllOrNothing(t *testing.T) {
	c := newChain("store")
	dir := dataDir(t)
	must(t, CreateVotes(dir, c.key()))
	v := c.openVotes(t, c.open(t, dir))
	if err := v.Append(chain.Record{Height: 1, Data: []byte{1}}, chain.Record{Height: 1 << 63}); err == nil {
		t.Fatal("a height above 2^63 was kept")
	}
	records, err := v.Load()
	must(t, err)
	if len(records) != 0 {
		t.Errorf("%d records of a failed append", len(records))
	}
	must(t, v.Append(chain.Record{Height: 1, Data: []byte{1}}))
}

// Promise 15.
func TestTheVoteStoreIsCreatedOnceOnPurpose(t *testing.T) {
	c := newChain("store")
	dir := dataDir(t)
	s := c.open(t, dir)
	if _, err := s.OpenVotes(c.key()); !errors.Is(err, ErrNoVoteStore) {
		t.Fatalf("open without one: %v", err)
	}
	if exists, err := VotesExist(dir); exists || err != nil {
		t.Fatalf("a vote store was made by the way: %v, %v", exists, err)
	}
	must(t, s.RecreateVotes(c.key(), 42))
	if err := s.RecreateVotes(c.key(), 42); !errors.Is(err, ErrExists) {
		t.Errorf("created twice: %v", err)
	}
	for range 2 {
		v := c.openVotes(t, s)
		if v.FirstHeight() != 42 {
			t.Errorf("first height %d, want 42", v.FirstHeight())
		}
		must(t, v.Append(chain.Record{Height: 42, Data: []byte{1}}))
		must(t, v.Close())
	}
	must(t, s.Close())
	before := content(t, dir)
	if err := CreateVotes(dir, c.key()); !errors.Is(err, ErrExists) {
		t.Errorf("created again: %v", err)
	}
	if !reflect.DeepEqual(content(t, dir), before) {
		t.Error("a refused creation changed a file")
	}
}

// Promise 17.
func TestAVoteStoreBelongsToTheChainItFirstOpenedWith(t *testing.T) {
	c, other := newChain("store"), newChain("other")
	dir := dataDir(t)
	must(t, CreateVotes(dir, c.key()))
	s := c.open(t, dir)
	if _, err := s.OpenVotes(chain.PublicKey{1}); !errors.Is(err, ErrWrongIdentity) {
		t.Errorf("another validator: %v", err)
	}
	v := c.openVotes(t, s)
	if v.FirstHeight() != 0 {
		t.Errorf("first height %d, want 0", v.FirstHeight())
	}
	must(t, v.Close())
	must(t, s.Close())
	elsewhere := crash(t, dir)
	for _, suffix := range []string{"", "-wal", "-shm"} {
		_ = os.Remove(filepath.Join(elsewhere, blocksName+suffix)) // they may not exist
	}
	o := other.open(t, elsewhere)
	if _, err := o.OpenVotes(c.key()); !errors.Is(err, ErrWrongChain) {
		t.Errorf("another chain: %v", err)
	}
}

func FuzzVoteRecordsReadBackAsWritten(f *testing.F) {
	c := newChain("store")
	dir := dataDir(f)
	if err := CreateVotes(dir, c.key()); err != nil {
		f.Fatal(err)
	}
	s, err := Open(dir, c.genesis, Options{})
	if err != nil {
		f.Fatal(err)
	}
	v, err := s.OpenVotes(c.key())
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _, _ = v.Close(), s.Close() })
	f.Add(uint64(1), uint32(2), uint8(3), []byte("vote"))
	f.Add(uint64(1<<63-1), ^uint32(0), uint8(255), []byte{})
	f.Fuzz(func(t *testing.T, height uint64, round uint32, kind uint8, data []byte) {
		v.Prune(1<<63 - 1)
		must(t, v.Append(chain.Record{Height: 0})) // empties the store
		want := chain.Record{Height: height, Round: round, Kind: chain.RecordKind(kind), Data: append([]byte(nil), data...)}
		if err := v.Append(want); (err == nil) != (height < 1<<63) {
			t.Fatalf("append: %v", err)
		} else if err != nil {
			return
		}
		got, err := v.Load()
		must(t, err)
		if len(got) == 0 || !reflect.DeepEqual(got[len(got)-1], want) {
			t.Errorf("loaded %+v, want %+v at the end", got, want)
		}
	})
}

// A relative path once became the host of a file: URL.
func TestARelativeDirectoryIsTaken(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := CreateVotes("v0", chain.PublicKey{1}); err != nil {
		t.Fatal(err)
	}
	if ok, err := VotesExist("v0"); err != nil || !ok {
		t.Fatalf("made: %v, %v", ok, err)
	}
}
