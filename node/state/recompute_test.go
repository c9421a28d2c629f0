package state

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/ledger"
	"github.com/diseq/diseq/node/ledger/ledgertest"
	"github.com/diseq/diseq/node/trie"
)

// soon bounds every wait: longer than any busy machine takes.
const soon = 2 * time.Minute

// A world is a ledger whose blocks of 100 messages a Follower indexes.
type world struct {
	t         *testing.T
	cfg       Config
	indexed   atomic.Uint64
	reported  chan struct{} // after indexed has changed
	discarded chan struct{} // one for each time that the trie was
}

func newWorld(t *testing.T) *world {
	genesis := &chain.Genesis{Version: 1, ChainID: "state", Threshold: 1, Parameters: chain.DefaultParameters()}
	genesis.Validators = []chain.NamedValidator{{Validator: chain.Validator{PublicKey: chain.PublicKey{1}}}}
	w := &world{t: t, reported: make(chan struct{}, 1), discarded: make(chan struct{}, 9)}
	w.cfg = Config{
		Path: filepath.Join(t.TempDir(), "state"), HistoryHeights: 64, Genesis: genesis, Ledger: ledgertest.Open(t, genesis),
		Indexed: func(height uint64) {
			w.indexed.Store(height)
			select {
			case w.reported <- struct{}{}:
			default:
			}
		},
		Damaged:  func() { w.discarded <- struct{}{} },
		FreeDisk: func() (uint64, error) { return 1 << 40, nil }, Logger: slog.New(slog.DiscardHandler),
	}
	return w
}

// awaitReport returns when the follower has reported a height as indexed. It does so after the root
// of the height can be read.
func (w *world) awaitReport(height uint64) {
	w.t.Helper()
	late := time.After(soon)
	for w.indexed.Load() != height {
		select {
		case <-w.reported:
		case <-late:
			w.t.Fatalf("indexed to height %d; want %d", w.indexed.Load(), height)
		}
	}
}

func message(height uint64, i int) chain.Message {
	return chain.Message{Data: binary.BigEndian.AppendUint64([]byte{byte(i)}, height)}
}

// grow makes a block final.
func (w *world) grow() {
	tip := w.cfg.Ledger.Tip()
	f := &chain.FinalBlock{Block: chain.Block{Header: tip.Block.Header}}
	f.Header.Height, f.Header.ParentHash, f.Header.StateHeight = tip.Height()+1, tip.Hash, 0
	for i := range 100 {
		f.Messages = append(f.Messages, message(f.Header.Height, i))
	}
	ledgertest.Append(w.t, w.cfg.Ledger, f)
}

// follow opens and runs a Follower until the test ends.
func (w *world) follow() *Follower {
	f, err := Open(w.t.Context(), w.cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(w.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- f.Run(ctx) }()
	w.t.Cleanup(func() {
		stop()
		if err := errors.Join(<-ended, f.Close()); err != nil {
			w.t.Error(err)
		}
	})
	w.await(f)
	return f
}

func (w *world) await(f *Follower) {
	w.t.Helper()
	f.Poke()
	ctx, cancel := context.WithTimeout(w.t.Context(), soon)
	defer cancel()
	if err := f.Wait(ctx, w.cfg.Ledger.Height()); err != nil {
		w.t.Fatalf("the state does not come to height %d: %v", w.cfg.Ledger.Height(), err)
	}
}

// damage flips a bit in the files of the trie, in the page of a message that is on disk.
func (w *world) damage(key chain.Hash) {
	w.t.Helper()
	names, err := filepath.Glob(filepath.Join(w.cfg.Path, "pages-*"))
	if err != nil {
		w.t.Fatal(err)
	}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			w.t.Fatal(err)
		}
		at := bytes.Index(b, key[:])
		if at < 0 {
			continue
		}
		f, err := os.OpenFile(name, os.O_WRONLY, 0)
		if err == nil {
			_, err = f.WriteAt([]byte{b[at+20] ^ 8}, int64(at+20))
		}
		if err = errors.Join(err, f.Close()); err != nil {
			w.t.Fatal(err)
		}
		return
	}
	w.t.Fatal("the message is not on disk")
}

func id(height uint64, i int) chain.Hash {
	m := message(height, i)
	return ledger.IDs([]chain.Message{m})[0]
}

// The trie is damaged while it is open: reads are refused, the trie is computed again without a
// restart, and what it then answers is what it answered before.
func TestADamagedTrieIsComputedAgainWithoutARestart(t *testing.T) {
	const heights = 50
	for name, find := range map[string]func(f *Follower, key chain.Hash) error{
		"a lookup": func(f *Follower, key chain.Hash) error { _, _, _, err := f.Lookup(key); return err },
		"a proof": func(f *Follower, key chain.Hash) error {
			_, err := f.Prove(context.Background(), heights, key)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			for range heights {
				w.grow()
			}
			first, err := Open(t.Context(), w.cfg)
			if err != nil {
				t.Fatal(err)
			}
			for h := uint64(1); h <= heights; h++ {
				if err := first.append(t.Context(), h); err != nil {
					t.Fatal(err)
				}
			}
			_, root := first.Newest()
			if err := first.Close(); err != nil { // now all is on disk
				t.Fatal(err)
			}
			f := w.follow()
			key := id(7, 3)
			w.damage(key)
			if err := find(f, key); !errors.Is(err, trie.ErrRecomputing) {
				t.Fatalf("%s in a damaged page: %v", name, err)
			}
			select {
			case <-w.discarded:
			case <-time.After(soon):
				t.Fatal("the trie is not discarded")
			}
			w.grow()
			w.await(f)
			if height, index, ok, err := f.Lookup(key); err != nil || !ok || height != 7 || index != 3 {
				t.Errorf("lookup: %d, %d, %v, %v", height, index, ok, err)
			}
			if again, ok := f.Root(heights); !ok || again != root {
				t.Errorf("root %v of height %d, it was %v", again, heights, root)
			}
			if err := f.Recomputing(); err != nil {
				t.Error(err)
			}
			w.awaitReport(heights + 1)
			if n := len(w.discarded); n != 0 {
				t.Errorf("discarded %d times more", n)
			}
		})
	}
}

// While the trie is below its former height it says so, and answers nothing that it may not know.
func TestATrieThatIsComputedAgainAnswersOnceItIsWhole(t *testing.T) {
	w := newWorld(t)
	for range 20 {
		w.grow()
	}
	f, err := Open(t.Context(), w.cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}()
	for h := uint64(1); h <= 20; h++ {
		if err := f.append(t.Context(), h); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.reopen(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	for h := uint64(1); h <= 20; h++ {
		if _, _, _, err := f.Lookup(id(20, 0)); !errors.Is(err, trie.ErrRecomputing) {
			t.Errorf("lookup at height %d: %v", h-1, err)
		}
		if f.Recomputing() == nil {
			t.Errorf("whole at height %d", h-1)
		}
		if err := f.append(t.Context(), h); err != nil {
			t.Fatal(err)
		}
	}
	if height, _, ok, err := f.Lookup(id(20, 0)); err != nil || !ok || height != 20 {
		t.Errorf("lookup: %d, %v, %v", height, ok, err)
	}
	if err := f.Recomputing(); err != nil {
		t.Error(err)
	}
}

// A disk that is full while the trie is discarded: the file is gone first, then space is waited
// for.
func TestADiscardedTrieWaitsForSpace(t *testing.T) {
	w := newWorld(t)
	w.grow()
	var looks atomic.Int64
	w.cfg.FreeDisk = func() (uint64, error) {
		if looks.Add(1) > 1 {
			return 1 << 40, nil
		}
		return 0, nil
	}
	f, err := Open(t.Context(), w.cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.append(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if err := f.reopen(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if height, _ := f.Newest(); height != 1 || looks.Load() < 2 {
		t.Errorf("height %d after %d looks at the disk, want 1 after 2", height, looks.Load())
	}
	looks.Store(0)
	if err := f.reopen(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if height, _ := f.Newest(); height != 0 || looks.Load() != 0 {
		t.Errorf("height %d after %d looks at the disk, want 0 after none", height, looks.Load())
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// A data directory of a version that kept the trie in one SQLite file: the state is computed again,
// and the file is gone.
func TestTheTrieOfAnEarlierVersionIsComputedAgain(t *testing.T) {
	w := newWorld(t)
	for range 5 {
		w.grow()
	}
	old := filepath.Join(filepath.Dir(w.cfg.Path), oldFile)
	for _, suffix := range []string{"", "-wal", "-shm", ".lock"} {
		if err := os.WriteFile(old+suffix, []byte("SQLite format 3"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f := w.follow()
	if height, _, ok, err := f.Lookup(id(3, 7)); err != nil || !ok || height != 3 {
		t.Errorf("lookup: %d, %v, %v", height, ok, err)
	}
	if left, err := filepath.Glob(old + "*"); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}
