package repair

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/internal/tasks"
	"github.com/diseq/diseq/node/store"
)

// soon bounds every wait: longer than any busy machine takes.
const soon = 2 * time.Minute

// A world is a store of 20 blocks on disk and the peers that have them all.
type world struct {
	*Blocks
	t      *testing.T
	path   string
	blocks []*chain.FinalBlock
	key    ed25519.PrivateKey
	found  *prometheus.CounterVec
	log    *bytes.Buffer
	// answers are what one peer after the other answers; then one has the block itself.
	answers chan func(height uint64) (*chain.FinalBlock, error)
	// over says that the validators of all heights have left.
	over bool
}

const victim = 5

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{
		t: t, path: filepath.Join(t.TempDir(), "data"), key: ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)),
		found: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "found"}, []string{"what"}), log: new(bytes.Buffer),
		answers: make(chan func(uint64) (*chain.FinalBlock, error), 9),
	}
	genesis := &chain.Genesis{Version: 1, ChainID: "repair", Threshold: 1, Parameters: chain.DefaultParameters()}
	genesis.Validators = []chain.NamedValidator{{Name: "a", Validator: chain.Validator{PublicKey: chain.PublicKeyOf(w.key)}}}
	open := func() *store.Store {
		s, err := store.Open(w.path, genesis, store.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := open()
	w.blocks = []*chain.FinalBlock{{Block: chain.Block{Header: genesis.Header()}}}
	for h := uint64(1); h <= 20; h++ {
		f := w.next(w.blocks[h-1], byte(h))
		w.blocks = append(w.blocks, f)
		if err := s.Commit(t.Context(), chain.Commit{Block: f}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil { // now all is in the file
		t.Fatal(err)
	}
	s = open()
	ctx, stop := context.WithCancel(context.Background())
	group := tasks.New(ctx)
	w.Blocks = New(Config{
		Store: s, Tasks: group, Over: func(uint64) bool { return w.over }, Found: w.found, Logger: slog.New(slog.NewTextHandler(w.log, nil)),
	})
	t.Cleanup(func() {
		stop()
		group.Wait()
		if err := s.Close(); err != nil {
			t.Log(err) // a file that is broken may refuse its last checkpoint
		}
	})
	return w
}

func (w *world) next(parent *chain.FinalBlock, content byte) *chain.FinalBlock {
	f := &chain.FinalBlock{Messages: []chain.Message{{Data: bytes.Repeat([]byte{content, 0xd1}, 10_000)}}}
	f.Header = parent.Header
	f.Header.Height++
	f.Header.ParentHash = parent.Header.Hash()
	f.Header.MessagesCount, f.Header.MessagesRoot = 1, chain.MessagesRoot(f.Messages)
	f.Sign(w.key)
	v := chain.Vote{Kind: chain.Finalize, Height: f.Header.Height, Block: f.Header.Hash()}
	v.Sign(w.key, "repair")
	f.Certificate = chain.Certificate{Kind: chain.Finalize, Height: v.Height, Block: v.Block, Votes: []chain.VoteSignature{{Signature: v.Signature}}}
	return f
}

// start begins to repair.
func (w *world) start() {
	w.Start(func(_ context.Context, height uint64, use func(*chain.FinalBlock) error) error {
		for {
			select {
			case answer := <-w.answers:
				f, err := answer(height)
				if err != nil {
					return err
				}
				if use(f) == nil {
					return nil
				}
			default:
				return use(w.blocks[height])
			}
		}
	})
}

// change changes bytes of blocks.db while it is open.
func (w *world) change(change func(b []byte)) {
	w.t.Helper()
	path := filepath.Join(w.path, "blocks.db")
	b, err := os.ReadFile(path)
	if err != nil {
		w.t.Fatal(err)
	}
	change(b)
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteAt(b, 0)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		w.t.Fatal(err)
	}
}

// damage flips a bit in the messages of the victim.
func (w *world) damage() {
	w.t.Helper()
	w.change(func(b []byte) {
		b[bytes.Index(b, bytes.Repeat([]byte{victim, 0xd1}, 500))+9] ^= 2
	})
}

func (w *world) context() context.Context {
	ctx, cancel := context.WithTimeout(w.t.Context(), soon)
	w.t.Cleanup(cancel)
	return ctx
}

func (w *world) counted(what string) float64 {
	return testutil.ToFloat64(w.found.WithLabelValues(what))
}

func TestAReaderOfADamagedBlockGetsItOnceACopyIsThere(t *testing.T) {
	w := newWorld(t)
	asked, answer := make(chan struct{}), make(chan struct{})
	w.answers <- func(uint64) (*chain.FinalBlock, error) {
		close(asked)
		<-answer
		return nil, errors.New("no peer is up")
	}
	w.start()
	w.damage()
	if err := w.Reason(); err != nil {
		t.Fatalf("damage that nobody has found yet: %v", err)
	}
	type result struct {
		f   *chain.FinalBlock
		err error
	}
	results := make(chan result, 3)
	for range cap(results) {
		go func() {
			f, err := w.Block(w.context(), victim)
			results <- result{f, err}
		}()
	}
	select {
	case <-asked:
	case <-time.After(soon):
		t.Fatal("no peer is asked")
	}
	if err := w.Reason(); err == nil || !strings.Contains(err.Error(), "block 5 is damaged") {
		t.Errorf("reason %v", err)
	}
	if _, err := w.Block(w.context(), victim+1); err != nil {
		t.Errorf("another block: %v", err)
	}
	impatient, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.Block(impatient, victim); err == nil {
		t.Error("read before there is a copy")
	}
	close(answer)
	for range cap(results) {
		if r := <-results; r.err != nil || !bytes.Equal(r.f.Encode(), w.blocks[victim].Encode()) {
			t.Errorf("block %v, %v", r.f, r.err)
		}
	}
	if err := w.Reason(); err != nil {
		t.Errorf("repaired, and yet %v", err)
	}
	if n := w.counted(WhatBlock); n != 1 {
		t.Errorf("counted %v times, want once", n)
	}
	if n := strings.Count(w.log.String(), "level=ERROR"); n != 1 || !strings.Contains(w.log.String(), "damaged block replaced") {
		t.Errorf("logged:\n%s", w.log)
	}
}

// A reader that does not wait learns which block is damaged, and the repair goes on without it.
func TestTheRepairGoesOnWithoutAReader(t *testing.T) {
	w := newWorld(t)
	w.start()
	w.damage()
	_, err := w.cfg.Store.EncodedBlocks(t.Context(), victim, 1, 0)
	if damaged, ok := errors.AsType[*store.DamagedBlockError](err); !ok || damaged.Height != victim {
		t.Fatalf("read: %v", err)
	}
	select {
	case <-w.Note(err):
	case <-time.After(soon):
		t.Fatal("no copy is stored")
	}
	encoded, err := w.cfg.Store.EncodedBlocks(t.Context(), victim, 1, 0)
	if err != nil || !bytes.Equal(encoded[0], w.blocks[victim].Encode()) {
		t.Errorf("read again: %v", err)
	}
}

func TestBeforeItIsStartedDamageIsAnError(t *testing.T) {
	w := newWorld(t)
	w.damage()
	if _, err := w.Block(w.context(), victim); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("read: %v", err)
	}
	if n := w.counted(WhatBlock); n != 0 {
		t.Errorf("counted %v times", n)
	}
}

// A peer shows another final block, whose certificate verifies: that is a fork, and the node must
// not go on.
func TestAnotherFinalBlockEndsTheNode(t *testing.T) {
	w := newWorld(t)
	w.answers <- func(height uint64) (*chain.FinalBlock, error) { return w.next(w.blocks[height-1], 99), nil }
	w.start()
	w.damage()
	w.Note(&store.DamagedBlockError{Height: victim, Err: store.ErrCorrupt})
	if err := w.Run(w.context()); !errors.Is(err, store.ErrContradicts) {
		t.Errorf("ended with %v", err)
	}
}

// The keys of validators that left may have been stolen. Another block that they sign for a height
// of their era is refused, and the next peer is asked.
//
// Promise 71.
func TestAnotherBlockOfAnEraThatIsOverIsNotBelieved(t *testing.T) {
	w := newWorld(t)
	w.over = true
	w.answers <- func(height uint64) (*chain.FinalBlock, error) { return w.next(w.blocks[height-1], 99), nil }
	w.start()
	w.damage()
	f, err := w.Block(w.context(), victim)
	if err != nil || !bytes.Equal(f.Encode(), w.blocks[victim].Encode()) {
		t.Errorf("block %v, %v", f, err)
	}
}

func TestAFileThatTakesNoWritesEndsTheNode(t *testing.T) {
	w := newWorld(t)
	w.start()
	w.change(func(b []byte) { clear(b[8192:]) }) // all but the schema
	w.Note(&store.DamagedBlockError{Height: victim, Err: store.ErrCorrupt})
	if err := w.Run(w.context()); !errors.Is(err, store.ErrMalformed) {
		t.Errorf("ended with %v", err)
	}
}

func TestLastingDamageKeepsTheNodeFromBeingReady(t *testing.T) {
	w := newWorld(t)
	w.start()
	for range 3 {
		if w.Note(store.ErrCorrupt) != nil {
			t.Error("it is going to be repaired")
		}
	}
	if err := w.Reason(); err == nil || !strings.Contains(err.Error(), "file is damaged") {
		t.Errorf("reason %v", err)
	}
	if n := w.counted(WhatDatabase); n != 1 {
		t.Errorf("counted %v times, want once", n)
	}
	if w.Note(errors.New("another error")) != nil {
		t.Error("an error that is no damage is going to be repaired")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.Run(ctx); err != nil {
		t.Errorf("ended with %v", err)
	}
}
