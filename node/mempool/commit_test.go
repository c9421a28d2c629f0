package mempool

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/diseq/diseq/node/chain"
)

func ids(messages ...chain.Message) []chain.Hash {
	out := make([]chain.Hash, len(messages))
	for i, m := range messages {
		out[i] = m.ID()
	}
	return out
}

func TestABlockObtainedByCatchUpReleasesItsMessagesWhereverTheyAre(t *testing.T) {
	n := newNode(t, 0, 4)
	n.submit(t, message("a"), message("b"))
	n.receive(t, 1, 1, 1, message("c"), message("a"))
	block := ids(message("x"), message("b"), message("a"))
	got, sources := n.Removable(block)
	if !slices.Equal(got, []chain.Hash{n.storage.batches[0].Hash}) {
		t.Fatalf("removable are %v, want this node's batch", got)
	}
	// Each message lies apart: x in no batch, b behind a in this node's.
	own := n.storage.batches[0].Hash
	if want := []chain.Source{{Count: 1}, {Batch: own, Offset: 52 + 9, Count: 1}, {Batch: own, Offset: 52, Count: 1}}; !slices.Equal(sources, want) {
		t.Fatalf("sources are %v, want %v", sources, want)
	}
	if got := n.selected(t); len(got.Messages) != 3 {
		t.Fatal("asking what is removable changed something")
	}
	n.commit(t, Body{IDs: block})
	wantTexts(t, "selected", n.selected(t).Messages, "c")
	if r, err := n.Status(message("x").ID()); err != nil || r.State != Final || r.Height != 1 || r.Index != 0 {
		t.Fatalf("x stands at %+v, error %v", r, err)
	}
	if s := n.Stats(); s.Messages != 1 || s.Batches != 1 {
		t.Fatalf("%+v, want one message in one batch", s)
	}
	wantError(t, n.Committed(1, time.Now(), nil, nil), ErrHeight)
	wantError(t, n.Committed(3, time.Now(), nil, nil), ErrHeight)
}

func TestABatchStillBeingStoredIsRemovedByALaterBlock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, 0, 4)
		gate := make(chan struct{})
		n.storage.set(func([]chain.StoredBatch) error { <-gate; return nil })
		encoded, _ := batch(1, 1, 1, message("a"))
		received := make(chan error, 1)
		go func() { received <- n.Receive(t.Context(), author(1), encoded) }()
		synctest.Wait()
		block := ids(message("a"))
		if got, _ := n.Removable(block); got != nil {
			t.Fatalf("%v is to be removed before it is there", got)
		}
		n.commit(t, Body{IDs: block})
		close(gate)
		if err := <-received; err != nil {
			t.Fatal(err)
		}
		if n.HasPending() || n.Stats().Messages != 0 || n.storage.len() != 1 {
			t.Fatalf("%+v with %d batches on disk", n.Stats(), n.storage.len())
		}
		n.commit(t, Body{})
		if n.Stats().Batches != 0 || n.storage.len() != 0 {
			t.Fatalf("%+v with %d batches on disk", n.Stats(), n.storage.len())
		}
	})
}

func TestDrainedBatchesBehindOneThatWaitsAreLetGo(t *testing.T) {
	n := newNode(t, 0, 4)
	n.receive(t, 1, 1, 1, message("waits"))
	for i := range uint64(1000) {
		n.receive(t, 1, 1, i+2, message("%d", i))
		n.commit(t, Body{IDs: ids(message("%d", i))})
	}
	if q := n.queues[1]; len(q.entries) > 3 {
		t.Fatalf("the queue has %d entries for one batch", len(q.entries))
	}
	wantTexts(t, "selected", n.selected(t).Messages, "waits")
}

func TestStatusAndMessage(t *testing.T) {
	n := newNode(t, 0, 4)
	state := func(want Result) {
		t.Helper()
		want.ID = message("a").ID()
		if got, err := n.Status(want.ID); err != nil || got != want {
			t.Fatalf("got %+v, error %v; want %+v", got, err, want)
		}
		if m, ok := n.Message(want.ID); ok != (want.State == Pending) || ok && string(m.Data) != "a" {
			t.Fatalf("the pending message is %q, %v", m.Data, ok)
		}
	}
	state(Result{State: Unknown})
	n.submit(t, message("a"))
	state(Result{State: Pending})
	body := n.selected(t)
	// The index may get a block early; the message is final here with the block.
	n.index.add(1, body.IDs)
	n.filter.add(body.IDs)
	state(Result{State: Pending})
	n.commit(t, body)
	state(Result{State: Final, Height: 1})
	n.indexed(recentBlock{1, body.IDs})
	state(Result{State: Final, Height: 1})
	n.index.err = errors.New("disk broken")
	_, err := n.Status(message("a").ID())
	wantError(t, err, n.index.err)
	_, err = n.Submit(t.Context(), []chain.Message{message("a")})
	wantError(t, err, n.index.err)
	_, err = n.Wait(t.Context(), ids(message("a")))
	wantError(t, err, n.index.err)
	encoded, _ := batch(1, 1, 1, message("a"))
	wantError(t, n.Receive(t.Context(), author(1), encoded), n.index.err)
	for s, want := range map[State]string{Unknown: "unknown", Pending: "pending", Final: "final"} {
		if s.String() != want {
			t.Fatalf("state %d is called %q, want %q", s, s, want)
		}
	}
}

func TestWaitReturnsWhenAllAreFinal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, 0, 4)
		a, b, x := message("a"), message("b"), message("x")
		n.submit(t, a, b)
		n.commit(t, Body{IDs: ids(b)})
		type answer struct {
			results []Result
			err     error
		}
		wait := func(ctx context.Context, ids []chain.Hash) <-chan answer {
			answers := make(chan answer, 1)
			go func() {
				results, err := n.Wait(ctx, ids)
				answers <- answer{results, err}
			}()
			synctest.Wait()
			return answers
		}
		if got := <-wait(t.Context(), ids(b)); got.err != nil || got.results[0].State != Final {
			t.Fatalf("for a final message: %+v", got)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		all, never := wait(t.Context(), ids(a, b, a)), wait(ctx, ids(a, x))
		n.commit(t, n.selected(t))
		got := <-all
		want := []Result{{a.ID(), Final, 2, 0}, {b.ID(), Final, 1, 0}, {a.ID(), Final, 2, 0}}
		if got.err != nil || !slices.Equal(got.results, want) {
			t.Fatalf("got %+v, want %+v", got, want)
		}
		n.submit(t, message("y"))
		late := wait(ctx, ids(message("y"), x, x))
		got = <-never
		if want := []Result{{a.ID(), Final, 2, 0}, {ID: x.ID()}}; !errors.Is(got.err, context.DeadlineExceeded) || !slices.Equal(got.results, want) {
			t.Fatalf("got %+v, want %+v and the deadline's error", got, want)
		}
		if got = <-late; got.results[0].State != Pending || got.results[1].State != Unknown {
			t.Fatalf("got %+v, want pending and unknown", got)
		}
		if len(n.waiters) != 0 {
			t.Fatalf("%d ids are still waited for", len(n.waiters))
		}
		closing := wait(t.Context(), ids(x))
		n.Close()
		wantError(t, (<-closing).err, ErrClosed)
	})
}

// Promise 30.
func TestOpenContinuesWhereThePoolWasLeft(t *testing.T) {
	synctest.Test(t, testOpenContinues)
}

func testOpenContinues(t *testing.T) {
	storage, index := &memoryStorage{}, &memoryIndex{ids: map[chain.Hash]standing{}}
	n := openNode(t, 0, 4, storage, index)
	n.submit(t, message("a"))
	n.submit(t, message("b"))
	n.receive(t, 1, 1, 7, message("c"))
	n.receive(t, 2, 1, 1, message("gone"))
	n.Close()

	// One batch is of an author that is none any more; one was indexed, one only committed, before
	// the node went down.
	index.add(1, ids(message("gone")))
	index.add(2, ids(message("older")))
	n = openNode(t, 0, 2, storage, index, func(c *Config) { c.Height = 2 })
	_, before := n.Select(3, 1<<20)
	wantError(t, before, ErrHeight)
	if err := n.Committed(3, time.Now(), nil, ids(message("a"))); err != nil {
		t.Fatal(err)
	}
	wantTexts(t, "selected", n.selected(t).Messages, "b")
	sleep(holeWait) // number 7 of the other author may not be its next
	wantTexts(t, "selected", n.selected(t).Messages, "b", "c")
	if got := n.Unacknowledged(author(1), 0, 1<<20); len(got) != 1 {
		t.Fatalf("%d batches for the peer, want 1", len(got))
	}
	for text, want := range map[string]Result{
		"a": {State: Final, Height: 3}, "b": {State: Pending}, "gone": {State: Final, Height: 1}, "older": {State: Final, Height: 2},
	} {
		want.ID = message("%s", text).ID()
		if got := n.submit(t, message("%s", text))[0]; got != want {
			t.Fatalf("%s: %+v, want %+v", text, got, want)
		}
	}
	n.submit(t, message("d"))
	last, err := chain.DecodeBatch(storage.batches[len(storage.batches)-1].Data, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	first, err := chain.DecodeBatch(storage.batches[0].Data, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if last.Number != 1 || last.Incarnation <= first.Incarnation {
		t.Fatalf("batch %d of incarnation %d after incarnation %d", last.Number, last.Incarnation, first.Incarnation)
	}
	n.commit(t, n.selected(t))
	if storage.len() != 1 {
		t.Fatalf("%d batches left on disk, want only that of the former author", storage.len())
	}
}

func TestOpenRefusesWhatCannotWork(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"no key":            func(c *Config) { c.Key = nil },
		"no set":            func(c *Config) { c.Set = nil },
		"no validators":     func(c *Config) { c.Set = setOf() },
		"an author twice":   func(c *Config) { c.Set = setOf(0, 0) },
		"too many authors":  func(c *Config) { c.Set = setOf(span(0, 101)...) },
		"small blocks":      func(c *Config) { c.MaxBlockBytes = c.MaxMessageBytes },
		"a negative pool":   func(c *Config) { c.MaxPoolBytes = -1 },
		"no threshold":      func(c *Config) { c.Set.Threshold = 0 },
		"a threshold above": func(c *Config) { c.Set.Threshold = 5 },
		"no storage":        func(c *Config) { c.Storage = nil },
		"an unreadable row": func(c *Config) { c.Storage = &memoryStorage{batches: []chain.StoredBatch{{Data: []byte("x")}}} },
		"an index error": func(c *Config) {
			encoded, ref := batch(1, 1, 1, message("a"))
			c.Storage = &memoryStorage{batches: []chain.StoredBatch{{Hash: ref.Hash, Data: encoded}}}
			c.Index = &memoryIndex{err: errors.New("disk broken")}
		},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := Config{
				Key: testKey(0), ChainID: testChain, MaxMessageBytes: 1 << 10, MaxBlockBytes: 64 << 10, Set: setOf(span(0, 4)...),
				Storage: &memoryStorage{}, Index: &memoryIndex{}, Replicator: pushes(func(chain.Hash, []byte) {}),
			}
			change(&cfg)
			if p, err := Open(t.Context(), cfg); err == nil {
				p.Close()
				t.Fatal("opened")
			}
		})
	}
}

func TestTheFilterKeepsNewMessagesFromTheIndex(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		index := &memoryIndex{ids: map[chain.Hash]standing{}}
		var old []chain.Message
		for i := range 5000 {
			old = append(old, message("old %d", i))
		}
		index.add(1, ids(old...))
		n := openNode(t, 0, 1, &memoryStorage{}, index, func(c *Config) { c.Height = 1 })
		synctest.Wait() // the filter is filled
		var fresh []chain.Message
		for i := range 5000 {
			fresh = append(fresh, message("new %d", i))
		}
		n.submit(t, fresh...)
		if index.lookups > 25 {
			t.Fatalf("%d of 5000 new messages were looked up in the index", index.lookups)
		}
		for _, r := range n.submit(t, old...) {
			if r.State != Final || r.Height != 1 {
				t.Fatalf("an old message stands at %+v", r)
			}
		}
		if got := testutil.ToFloat64(n.metrics.lookups); got < 5000 {
			t.Fatalf("counted %v lookups", got)
		}
	})
}

func TestUntilTheFilterIsFilledEveryIDIsLookedUp(t *testing.T) {
	f := newFilter(1<<10, 1<<30)
	all := make([]chain.Hash, 10_000)
	for i := range all {
		all[i] = message("%d", i).ID()
	}
	if got := f.candidates(all); len(got) != len(all) {
		t.Fatalf("%d of %d ids would be looked up", len(got), len(all))
	}
	f.add(all)
	f.finish()
	if got := f.candidates(all); len(got) != len(all) {
		t.Fatalf("%d of %d ids that were added are found", len(got), len(all))
	}
	others := make([]chain.Hash, 10_000)
	for i := range others {
		others[i] = message("other %d", i).ID()
	}
	if got := f.candidates(others); len(got) > 150 {
		t.Fatalf("%d of 10000 ids that were not added are found", len(got))
	}
	if len(f.layers) != 3 { // 1, 4 and 16 Ki
		t.Fatalf("%d layers", len(f.layers))
	}
}

func TestTheFilterKeepsToItsMemory(t *testing.T) {
	const limit = 4 << 20 // bits
	f := newFilter(1<<14, limit)
	f.finish()
	ids := make([]chain.Hash, 1<<14)
	for round := range 64 {
		for i := range ids {
			ids[i] = message("%d", round<<14+i).ID()
		}
		f.add(ids)
		if got := f.candidates(ids); len(got) != len(ids) {
			t.Fatalf("%d of %d ids that were added are found", len(got), len(ids))
		}
	}
	if f.size() > limit/8 {
		t.Fatalf("%d bytes, the limit is %d", f.size(), limit/8)
	}
}
