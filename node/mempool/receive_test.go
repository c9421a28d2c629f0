package mempool

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/diseq/diseq/node/chain"
)

func TestReceiveRefusesWithTheReason(t *testing.T) {
	good, _ := batch(1, 1, 1, message("a"))
	forged := append([]byte(nil), good...)
	forged[len(forged)-1] ^= 1
	stranger, _ := batch(99, 1, 1, message("a"))
	long, _ := batch(1, 1, 1, chain.Message{Data: make([]byte, 1<<10+1)})
	zero, _ := batch(1, 1, 0, message("a"))
	none, _ := batch(1, 1, 1)
	for _, c := range []struct {
		name    string
		encoded []byte
		want    error
	}{
		{"nothing", nil, chain.ErrMalformed},
		{"a torn batch", good[:len(good)-1], chain.ErrMalformed},
		{"more than a block", make([]byte, 64<<10+batchOverhead+1), chain.ErrMalformed},
		{"a forged signature", forged, chain.ErrSignature},
		{"an unknown author", stranger, ErrAuthor},
		{"a message beyond the limit", long, chain.ErrMalformed},
		{"number 0", zero, chain.ErrMalformed},
		{"no messages", none, chain.ErrMalformed},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := newNode(t, 0, 4)
			wantError(t, n.Receive(t.Context(), author(1), c.encoded), c.want)
			wantError(t, n.ReceiveFetched(t.Context(), author(1), c.encoded), c.want)
			if s := n.Stats(); s.Batches != 0 || s.Bytes != 0 || n.storage.len() != 0 {
				t.Fatalf("left in the pool: %+v", s)
			}
		})
	}
}

func TestReceiveIsDurableOnceWhoeverBringsIt(t *testing.T) {
	n := newNode(t, 0, 4)
	encoded, ref := batch(1, 1, 1, message("a"))
	for _, from := range []int{1, 1, 2, 3} {
		if err := n.Receive(t.Context(), author(from), encoded); err != nil {
			t.Fatal(err)
		}
	}
	if n.storage.writes != 1 {
		t.Fatalf("written %d times, want once", n.storage.writes)
	}
	if got, ok := n.Batch(ref.Hash); !ok || string(got) != string(encoded) {
		t.Fatal("the batch is not served to peers")
	}
	for i := 1; i < 4; i++ {
		if got := n.Unacknowledged(author(i), 0, 1<<20); got != nil {
			t.Fatalf("the batch would be relayed to node %d, which has it", i)
		}
	}
}

func TestABatchReceivedOverSeveralLinksAtOnceIsStoredOnce(t *testing.T) {
	n := newNode(t, 0, 4)
	const batches = 50
	for number := range uint64(batches) {
		encoded, _ := batch(1, 1, number+1, message("%d", number))
		var running sync.WaitGroup
		for range 8 {
			running.Go(func() {
				if err := n.Receive(t.Context(), author(1), encoded); err != nil {
					t.Error(err)
				}
			})
		}
		running.Wait()
	}
	if n.storage.writes != batches || n.Stats().Batches != batches {
		t.Fatalf("%d writes and %d batches, want %d", n.storage.writes, n.Stats().Batches, batches)
	}
}

// Promise 19.
func TestARepeatedBatchIsAcknowledgedOnlyWhenDurable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, 0, 4)
		gate := make(chan struct{})
		broken := errors.New("disk broken")
		n.storage.set(func([]chain.StoredBatch) error { <-gate; return broken })
		encoded, ref := batch(1, 1, 1, message("a"))
		errs := make(chan error, 2)
		for range 2 {
			go func() { errs <- n.Receive(t.Context(), author(1), encoded) }()
			synctest.Wait()
		}
		if len(errs) != 0 {
			t.Fatal("acknowledged before it was durable")
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		wantError(t, n.Receive(ctx, author(1), encoded), context.Canceled)
		if _, ok := n.Batch(ref.Hash); ok {
			t.Fatal("served before it was durable")
		}
		if len(n.selected(t).Refs) != 0 {
			t.Fatal("selected before it was durable")
		}
		close(gate)
		wantError(t, <-errs, broken)
		wantError(t, <-errs, broken)
		if s := n.Stats(); s.Batches != 0 || s.Bytes != 0 || s.Messages != 0 || len(n.pending.first) != 0 {
			t.Fatalf("left in the pool: %+v", s)
		}
		n.storage.set(nil)
		if err := n.Receive(t.Context(), author(1), encoded); err != nil {
			t.Fatal(err)
		}
		wantTexts(t, "selected", n.selected(t).Messages, "a")
	})
}

// Promise 32.
func TestEachAuthorFillsItsShareOnly(t *testing.T) {
	n := newNode(t, 0, 4, func(c *Config) { c.MaxPoolMessages = 8 })
	n.receive(t, 1, 1, 1, message("a"), message("b"))
	more, ref := batch(1, 1, 2, message("c"))
	wantError(t, n.Receive(t.Context(), author(1), more), ErrShare)
	n.receive(t, 2, 1, 1, message("d"), message("e"))
	n.submit(t, message("f"), message("g"))

	// A block may refer to it all the same.
	if err := n.ReceiveFetched(t.Context(), author(2), more); err != nil {
		t.Fatal(err)
	}
	if _, missing, err := n.Resolve(t.Context(), 0, []chain.BatchRef{ref}); err != nil || missing != nil {
		t.Fatalf("missing %v, error %v", missing, err)
	}
	for len(n.selected(t).Refs) > 0 {
		n.commit(t, n.selected(t))
	}
	n.receive(t, 1, 1, 3, message("h"), message("i"))
	if got := testutil.ToFloat64(n.metrics.refused.WithLabelValues("share")); got != 1 {
		t.Fatalf("counted %v refusals", got)
	}
}

// Promise 50.
func TestFetchedBatchesAreBoundedToo(t *testing.T) {
	n := newNode(t, 0, 4, func(c *Config) { c.MaxPoolBytes = 4 * 5 << 10 })
	bytes := 0
	for number := uint64(1); ; number++ {
		m := message("%d", number)
		m.Data = append(m.Data, make([]byte, 1000)...)
		encoded, _ := batch(1, 1, number, m)
		err := n.ReceiveFetched(t.Context(), author(1), encoded)
		if errors.Is(err, ErrShare) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		bytes += len(encoded)
	}
	if limit := 4*5<<10 + fetchedBlocks*64<<10; bytes > limit || bytes < limit-2000 {
		t.Fatalf("took %d bytes, the limit is %d", bytes, limit)
	}
}

func TestABatchOfFinalMessagesIsAcknowledgedAndNotKept(t *testing.T) {
	n := newNode(t, 0, 4)
	n.submit(t, message("a"), message("b"))
	n.commit(t, n.selected(t))
	writes := n.storage.writes
	n.receive(t, 1, 1, 1, message("b"), message("a"))
	if n.storage.writes != writes || n.Stats().Batches != 0 {
		t.Fatal("a batch with nothing left to order was kept")
	}
	// The next of the author is not held up by it.
	n.receive(t, 1, 1, 2, message("c"))
	wantTexts(t, "selected", n.selected(t).Messages, "c")

	// If a block refers to such a batch everyone must find it again after a crash, until the block
	// is final.
	encoded, ref := batch(1, 1, 3, message("a"))
	if err := n.ReceiveFetched(t.Context(), author(1), encoded); err != nil {
		t.Fatal(err)
	}
	body, missing, err := n.Resolve(t.Context(), 1, []chain.BatchRef{ref})
	if err != nil || missing != nil || len(body.Messages) != 0 || len(body.Refs) != 1 {
		t.Fatalf("resolved %+v, missing %v, error %v", body, missing, err)
	}
	if !n.storage.has(ref.Hash) {
		t.Fatal("the batch is not durable")
	}
	n.commit(t, n.selected(t))
	if n.storage.len() != 0 || n.Stats().Batches != 0 || n.Stats().Bytes != 0 {
		t.Fatalf("%d batches left on disk, %+v in memory", n.storage.len(), n.Stats())
	}
}

// A peer that pushes old batches again and again makes this node verify each of them. It has to
// wait for their acknowledgements, and other peers do not.
//
// Promise 50.
func TestBatchesOfFinalMessagesAreTakenAtABoundedRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, 0, 4)
		n.submit(t, message("a"))
		n.commit(t, n.selected(t))
		number := uint64(0)
		push := func(from, batches int) time.Duration {
			began := time.Now()
			for range batches {
				number++
				encoded, _ := batch(1, 1, number, message("a"))
				if err := n.Receive(t.Context(), author(from), encoded); err != nil {
					t.Fatal(err)
				}
			}
			return time.Since(began)
		}
		if took := push(2, repeatsAtOnce); took != 0 {
			t.Errorf("the batches of a peer that was behind took %v", took)
		}
		if took := push(2, 2*repeatsPerSecond).Round(100 * time.Millisecond); took != 2*time.Second {
			t.Errorf("%d more batches took %v, want 2s", 2*repeatsPerSecond, took)
		}
		if took := push(3, 10); took != 0 {
			t.Errorf("another peer waited for %v", took)
		}
		n.Close() // before the end of the bubble
	})
}

func TestOfAnEquivocatingAuthorTwoBatchesOfANumberAreKept(t *testing.T) {
	n := newNode(t, 0, 4)
	n.receive(t, 1, 1, 1, message("a"))
	n.receive(t, 1, 1, 1, message("b"))
	third, _ := batch(1, 1, 1, message("c"))
	wantError(t, n.Receive(t.Context(), author(1), third), ErrEquivocation)
	if got := testutil.ToFloat64(n.metrics.equivocations); got != 1 {
		t.Fatalf("counted %v equivocations, want 1", got)
	}
	// A block that refers to it is not held up.
	if err := n.ReceiveFetched(t.Context(), author(1), third); err != nil {
		t.Fatal(err)
	}
	wantTexts(t, "selected", n.selected(t).Messages, "a", "b", "c")
	n.commit(t, n.selected(t))
	if len(n.queues[1].byPosition) != 0 {
		t.Fatal("positions are still held")
	}
}

func TestUnacknowledgedFindsWhatAPeerMayLack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, 0, 4)
		n.submit(t, message("a"))
		n.submit(t, message("b"))
		of2 := n.receive(t, 2, 1, 1, message("c"))
		hashes := func(batches []chain.StoredBatch) (out []chain.Hash) {
			for _, b := range batches {
				out = append(out, b.Hash)
			}
			return out
		}
		a, b := n.storage.batches[0].Hash, n.storage.batches[1].Hash
		want := func(what string, got []chain.StoredBatch, want ...chain.Hash) {
			t.Helper()
			if g := hashes(got); len(g) != len(want) {
				t.Fatalf("%s: %d batches, want %d", what, len(g), len(want))
			} else {
				for i := range g {
					if g[i] != want[i] {
						t.Fatalf("%s: batch %d is another", what, i)
					}
				}
			}
		}
		want("a link that opens", n.Unacknowledged(author(1), 0, 1<<20), a, b)
		want("too early", n.Unacknowledged(author(1), relayAfter, 1<<20))
		want("a small budget", n.Unacknowledged(author(1), 0, 1), a)
		n.Acknowledge(author(1), a)
		want("after an acknowledgement", n.Unacknowledged(author(1), 0, 1<<20), b)
		want("to itself", n.Unacknowledged(author(0), 0, 1<<20))
		want("to a stranger", n.Unacknowledged(author(9), 0, 1<<20))
		synctest.Wait()
		sleep((1 + relayTurns) * relayAfter)
		want("later", n.Unacknowledged(author(1), relayAfter, 1<<20), b, of2.Hash)
		want("to its author", n.Unacknowledged(author(2), relayAfter, 1<<20), a, b)
		n.commit(t, n.selected(t))
		want("after the commit", n.Unacknowledged(author(1), 0, 1<<20))
	})
}

// The batch of an author that is there is passed on by nobody, however long it waits: a network
// with more than it can order would send each batch from every node to every other. When the author
// falls silent, one node after the other passes on what it left.
//
// Promise 50.
func TestOnlyTheBatchesOfSilentAuthorsArePassedOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size = 4
		present := map[chain.PublicKey]bool{author(0): true}
		nodes := make([]*testNode, size)
		for i := range nodes {
			nodes[i] = newNode(t, i, size, func(c *Config) { c.Present = func() map[chain.PublicKey]bool { return present } })
		}
		for i := 1; i < size; i++ {
			nodes[i].receive(t, 0, 1, 1, message("a"))
		}
		passing := func() (count int) {
			for i := 1; i < size; i++ {
				for j := 1; j < size; j++ {
					if i != j && len(nodes[i].Unacknowledged(author(j), 0, 1<<20)) > 0 {
						count++
						break
					}
				}
			}
			return count
		}
		sleep((1 + relayTurns) * relayAfter)
		if got := passing(); got != 0 {
			t.Fatalf("%d nodes pass on the batch of an author that is there", got)
		}
		delete(present, author(0))
		if got := passing(); got != size-1 {
			t.Fatalf("%d nodes pass on the old batch of a silent author, want all %d", got, size-1)
		}

		// Of a fresh batch each has its turn. The author's own comes to nothing.
		for i := 1; i < size; i++ {
			nodes[i].receive(t, 0, 1, 2, message("b"))
			nodes[i].commit(t, Body{IDs: ids(message("a"))})
		}
		for before, turns := 0, 0; turns < size; turns++ {
			sleep(relayAfter)
			now := passing()
			if now > before+1 || now < turns {
				t.Fatalf("after %d turns %d nodes pass the batch on, and %d before", turns+1, now, before)
			}
			before = now
		}
		if got := passing(); got != size-1 {
			t.Fatalf("%d nodes pass the batch on after all turns, want %d", got, size-1)
		}
	})
}

// Promise 37.
func FuzzReceive(f *testing.F) {
	good, _ := batch(1, 1, 1, message("a"), message("b"))
	f.Add(good)
	own, _ := batch(0, 1<<60, 7, message("c"))
	f.Add(own)
	repeat, _ := batch(1, 1, 2, message("a"), message("a"))
	f.Add(repeat)
	f.Add(good[:60])
	f.Fuzz(func(t *testing.T, encoded []byte) {
		n := newNode(t, 0, 4)
		errFirst := n.Receive(t.Context(), author(1), encoded)
		errAgain := n.ReceiveFetched(t.Context(), author(2), encoded)
		if (errFirst == nil) != (errAgain == nil) {
			t.Fatalf("first %v, then %v", errFirst, errAgain)
		}
		if s := n.Stats(); errFirst != nil {
			if s.Batches != 0 || s.Bytes != 0 || n.storage.len() != 0 {
				t.Fatalf("refused with %v, but left in the pool: %+v", errFirst, s)
			}
			return
		}
		b, err := chain.DecodeBatch(encoded, 64<<10)
		if err != nil {
			t.Fatalf("took what is no batch: %v", err)
		}
		ref := chain.BatchRef{Author: b.Author, Hash: b.Hash(testChain)}
		body, missing, err := n.Resolve(t.Context(), 0, []chain.BatchRef{ref, ref})
		if err != nil || missing != nil {
			t.Fatalf("missing %v, error %v", missing, err)
		}
		n.commit(t, body)
		if s := n.Stats(); s.Batches != 0 || s.Bytes != 0 || s.Messages != 0 || n.storage.len() != 0 {
			t.Fatalf("left after the commit: %+v", s)
		}
	})
}
