package mempool

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/diseq/diseq/node/chain"
)

func TestSubmitRefusesWithTheReason(t *testing.T) {
	large := chain.Message{Data: make([]byte, 1<<10+1)}
	many := make([]chain.Message, MaxSubmitMessages+1)
	for i := range many {
		many[i] = message("%d", i)
	}
	for _, c := range []struct {
		name     string
		messages []chain.Message
		check    func(error) bool
		reason   string
	}{
		{"no message", nil, func(err error) bool { return errors.Is(err, ErrEmpty) }, "empty"},
		{"an empty message", []chain.Message{message("a"), {}}, func(err error) bool {
			e, ok := errors.AsType[*EmptyError](err)
			return ok && e.Index == 1 && errors.Is(err, ErrEmpty)
		}, "empty"},
		{"a large message", []chain.Message{message("a"), message("b"), large}, func(err error) bool {
			e, ok := errors.AsType[*TooLargeError](err)
			return ok && *e == TooLargeError{Index: 2, Size: 1<<10 + 1, Limit: 1 << 10}
		}, "too_large"},
		{"many messages", many, func(err error) bool { return errors.Is(err, ErrTooMany) }, "too_many"},
	} {
		t.Run(c.name, func(t *testing.T) {
			registry := prometheus.NewRegistry()
			n := newNode(t, 0, 4, func(c *Config) { c.Registerer = registry })
			if _, err := n.Submit(t.Context(), c.messages); !c.check(err) {
				t.Fatalf("got %v", err)
			}
			if s := n.Stats(); s.Messages != 0 || s.Bytes != 0 || n.storage.writes != 0 {
				t.Fatalf("the pool has %+v after a refused request", s)
			}
			if got := testutil.ToFloat64(n.metrics.rejected.WithLabelValues(c.reason)); got != 1 {
				t.Fatalf("counted %v rejections for %q, want 1", got, c.reason)
			}
		})
	}
}

func TestSubmitRefusesMoreThanTheBytesOfARequest(t *testing.T) {
	n := newNode(t, 0, 1, func(c *Config) { c.MaxMessageBytes, c.MaxBlockBytes = 4<<20, 5<<20 })
	var messages []chain.Message
	for i := range 3 {
		m := chain.Message{Data: make([]byte, 4<<20-1)}
		m.Data[0] = byte(i)
		messages = append(messages, m)
	}
	_, err := n.Submit(t.Context(), messages)
	wantError(t, err, ErrTooMany)
	n.submit(t, messages[:2]...)
}

func TestAnObserverAcceptsNoMessages(t *testing.T) {
	n := newNode(t, 7, 4)
	_, err := n.Submit(t.Context(), []chain.Message{message("a")})
	wantError(t, err, ErrAuthor)
}

// Promise 18.
func TestSubmitIsDurableBeforeItReturns(t *testing.T) {
	n := newNode(t, 0, 4)
	results := n.submit(t, message("a"), message("b"))
	if n.storage.len() != 1 {
		t.Fatalf("%d batches are stored, want 1", n.storage.len())
	}
	for i, text := range []string{"a", "b"} {
		if want := (Result{ID: message("%s", text).ID(), State: Pending}); results[i] != want {
			t.Fatalf("result %d is %+v, want %+v", i, results[i], want)
		}
	}
}

// Promise 25.
func TestAResubmissionIsAnsweredWithWhatIsKnown(t *testing.T) {
	n := newNode(t, 0, 4)
	again := func(text string, want Result) {
		t.Helper()
		want.ID = message("%s", text).ID()
		before := n.storage.writes
		if got := n.submit(t, message("%s", text))[0]; got != want {
			t.Fatalf("%s: %+v, want %+v", text, got, want)
		}
		if n.storage.writes != before {
			t.Fatalf("%s was stored again", text)
		}
	}
	n.submit(t, message("a"), message("b"), message("a"))
	again("a", Result{State: Pending})
	if b := n.selected(t); len(b.IDs) != 2 {
		t.Fatalf("selected %q, want a and b once", texts(b.Messages))
	}
	n.receive(t, 1, 1, 1, message("c"))
	again("c", Result{State: Pending})

	body := n.selected(t)
	n.commit(t, body)
	again("b", Result{State: Final, Height: 1, Index: 1})
	n.indexed(recentBlock{1, body.IDs})
	again("b", Result{State: Final, Height: 1, Index: 1})
	again("c", Result{State: Final, Height: 1, Index: 2})
	if len(n.recent.standings) != 0 {
		t.Fatalf("%d ids are still kept aside from the index", len(n.recent.standings))
	}
}

func TestARepeatOfWhatIsBeingStoredWaitsForIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, 0, 4)
		gate := make(chan struct{})
		n.storage.set(func([]chain.StoredBatch) error { <-gate; return nil })
		answered := make(chan string, 2)
		for _, name := range []string{"first", "second"} {
			go func() {
				if _, err := n.Submit(t.Context(), []chain.Message{message("a")}); err != nil {
					t.Error(err)
				}
				answered <- name
			}()
			synctest.Wait()
		}
		if len(answered) != 0 {
			t.Fatalf("%s was answered before the message was durable", <-answered)
		}
		close(gate)
		synctest.Wait()
		if len(answered) != 2 {
			t.Fatalf("%d of 2 submissions were answered", len(answered))
		}
		if n.storage.writes != 1 {
			t.Fatalf("stored %d times, want once", n.storage.writes)
		}
	})
}

func TestSubmissionsGatherWhileTheDiskIsBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, 0, 4)
		gate := make(chan struct{})
		n.storage.set(func([]chain.StoredBatch) error { <-gate; return nil })
		var running sync.WaitGroup
		for i := range 50 {
			running.Go(func() {
				if _, err := n.Submit(t.Context(), []chain.Message{message("%d", i)}); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		close(gate)
		running.Wait()
		if n.storage.writes != 2 || n.storage.len() != 2 {
			t.Fatalf("%d batches in %d writes, want the first alone and the others together", n.storage.len(), n.storage.writes)
		}
		body := n.selected(t)
		for i, m := range body.Messages {
			if string(m.Data) != string(message("%d", i).Data) {
				t.Fatalf("ordered %q, want the order of submission", texts(body.Messages))
			}
		}
	})
}

func TestALargeRequestIsSplitIntoConsecutiveBatchesOfOneWrite(t *testing.T) {
	n := newNode(t, 0, 1, func(c *Config) { c.MaxBlockBytes = 16 << 10 })
	var messages []chain.Message
	for i := range 200 {
		m := message("%04d", i)
		m.Data = append(m.Data, make([]byte, 1000)...)
		messages = append(messages, m)
	}
	n.submit(t, messages...)
	if n.storage.writes != 1 {
		t.Fatalf("%d writes, want 1", n.storage.writes)
	}
	if n.storage.len() < 10 {
		t.Fatalf("%d batches: not split", n.storage.len())
	}
	for i, s := range n.storage.batches {
		b, err := chain.DecodeBatch(s.Data, 16<<10)
		if err != nil {
			t.Fatal(err)
		}
		if hash, err := b.Verify(testChain, 1<<10); err != nil || hash != s.Hash {
			t.Fatalf("batch %d: hash %v, stored as %v, error %v", i, hash, s.Hash, err)
		}
		if b.Number != uint64(i+1) {
			t.Fatalf("batch %d has number %d", i, b.Number)
		}
	}
	var ordered []chain.Message
	for len(ordered) < len(messages) {
		b := n.selected(t)
		if len(b.Messages) == 0 {
			t.Fatalf("only %d messages were ordered", len(ordered))
		}
		ordered = append(ordered, b.Messages...)
		n.commit(t, b)
	}
	if !slices.Equal(texts(ordered), texts(messages)) {
		t.Fatal("the order of the request was not kept")
	}
	if s := n.Stats(); s.Bytes != 0 || s.Batches != 0 || s.Messages != 0 || n.storage.len() != 0 {
		t.Fatalf("the pool is left with %+v, the disk with %d batches", s, n.storage.len())
	}
}

// Promise 31.
func TestAFullShareRefusesTheWholeRequestAndTakesItLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, 0, 4, func(c *Config) { c.MaxPoolMessages = 40 })
		var messages []chain.Message
		for i := range 10 {
			messages = append(messages, message("%d", i))
		}
		n.submit(t, messages[:8]...)
		fresh := []chain.Message{message("x"), message("y"), message("z")}
		_, err := n.Submit(t.Context(), fresh)
		full, ok := errors.AsType[*FullError](err)
		if !ok || full.RetryAfter != 5*time.Second {
			t.Fatalf("got %v, want to be told to retry in 5 s while no block is made", err)
		}
		if s := n.Stats(); s.Messages != 8 {
			t.Fatalf("%d messages pending after a refusal, want 8", s.Messages)
		}
		// A known message takes no room, nor does a repeat.
		n.submit(t, messages[0], messages[1], messages[2], messages[8], messages[8], messages[9])
		if _, err = n.Submit(t.Context(), fresh[:1]); err == nil {
			t.Fatal("an eleventh message was accepted in a share of ten")
		}
		n.commit(t, n.selected(t))
		n.submit(t, fresh...)
		_, err = n.Submit(t.Context(), append(messages[:0:0], message("p"), message("q"), message("r"), message("s"), message("t"), message("u"),
			message("v"), message("w")))
		if full, ok = errors.AsType[*FullError](err); !ok || full.RetryAfter != time.Second {
			t.Fatalf("got %v, want to be told to retry in 1 s while blocks are made", err)
		}
		_, err = n.Submit(t.Context(), append(messages, fresh...))
		wantError(t, err, ErrTooMany) // eleven never fit
	})
}

func TestAFullShareCountsBytes(t *testing.T) {
	n := newNode(t, 0, 4, func(c *Config) { c.MaxPoolBytes = 4 * 20 << 10 })
	accepted := 0
	for i := range 100 {
		m := message("%03d", i)
		m.Data = append(m.Data, make([]byte, 997)...)
		_, err := n.Submit(t.Context(), []chain.Message{m})
		if _, full := errors.AsType[*FullError](err); full {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		accepted++
	}
	if s := n.Stats(); s.Bytes > 20<<10 || accepted < 16 {
		t.Fatalf("accepted %d messages of 1000 bytes, %d bytes in a share of %d", accepted, s.Bytes, 20<<10)
	}
}

// Promise 22.
func TestLowStorageRefusesSubmissionsAndPushedBatchesOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		free, asked := uint64(MinFreeDisk-1), 0
		n := newNode(t, 0, 4, func(c *Config) {
			c.FreeDisk = func() (uint64, error) { asked++; return free, nil }
		})
		for range 3 {
			_, err := n.Submit(t.Context(), []chain.Message{message("a")})
			wantError(t, err, ErrStorageLow)
		}
		encoded, ref := batch(1, 1, 1, message("b"))
		wantError(t, n.Receive(t.Context(), author(1), encoded), ErrStorageLow)
		if asked != 1 {
			t.Fatalf("the disk was looked at %d times within a second", asked)
		}
		if err := n.ReceiveFetched(t.Context(), author(1), encoded); err != nil {
			t.Fatalf("a batch of a proposed block: %v", err)
		}
		body, missing, err := n.Resolve(t.Context(), 0, []chain.BatchRef{ref})
		if err != nil || missing != nil || len(body.IDs) != 1 {
			t.Fatalf("resolved %v, missing %v, error %v", body, missing, err)
		}
		free = MinFreeDisk
		time.Sleep(time.Second)
		n.submit(t, message("a"))
		free, asked = 0, 0
		time.Sleep(time.Second)
		n.space.free = func() (uint64, error) { return 0, errors.New("no answer") }
		n.submit(t, message("c"))
	})
}

// A node that cannot store messages says so before a client tries, and however the room is missing:
// below MinFreeDisk, or with space on the disk that a quota does not give. An observer never
// accepts.
//
// Promise 22.
func TestANodeWithoutRoomSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var free atomic.Uint64
		free.Store(MinFreeDisk)
		n := newNode(t, 0, 4, func(c *Config) { c.FreeDisk = func() (uint64, error) { return free.Load(), nil } })
		if err := n.Accepting(); err != nil {
			t.Fatalf("a node with room: %v", err)
		}
		free.Store(100 << 20)
		time.Sleep(spaceChecked)
		if err := n.Accepting(); !errors.Is(err, ErrStorageLow) || !strings.Contains(err.Error(), "100 MiB are free on the disk, 512 MiB must be") {
			t.Errorf("without room: %v", err)
		}
		free.Store(MinFreeDisk)
		time.Sleep(spaceChecked)
		if err := n.Accepting(); err != nil {
			t.Errorf("with room again: %v", err)
		}

		n.storage.set(func([]chain.StoredBatch) error { return errors.New("quota exceeded") })
		if _, err := n.Submit(t.Context(), []chain.Message{message("a")}); err == nil {
			t.Fatal("a message that could not be written was accepted")
		}
		if err := n.Accepting(); !errors.Is(err, ErrStorageLow) || !strings.Contains(err.Error(), "quota exceeded") {
			t.Errorf("after a failed write: %v", err)
		}
		n.storage.set(nil)
		n.submit(t, message("b"))
		if err := n.Accepting(); err != nil {
			t.Errorf("after a write that worked: %v", err)
		}

		observer := newNode(t, 4, 4)
		if err := observer.Accepting(); !errors.Is(err, ErrAuthor) {
			t.Errorf("an observer: %v", err)
		}
	})
}

// Promise 30.
func TestAFailedWriteIsToldAndItsNumberIsNotUsedAgain(t *testing.T) {
	synctest.Test(t, testAFailedWrite)
}

func testAFailedWrite(t *testing.T) {
	n := newNode(t, 0, 4)
	n.submit(t, message("a"))
	broken := errors.New("disk broken")
	var failed []chain.StoredBatch
	n.storage.set(func(batches []chain.StoredBatch) error { failed = batches; return broken })
	_, err := n.Submit(t.Context(), []chain.Message{message("b"), message("c")})
	wantError(t, err, broken)
	if s := n.Stats(); s.Messages != 1 || s.Batches != 1 || len(n.pending.first) != 1 {
		t.Fatalf("left in the pool: %+v", s)
	}
	n.storage.set(nil)
	n.submit(t, message("c"))
	b, err := chain.DecodeBatch(n.storage.batches[1].Data, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	f, err := chain.DecodeBatch(failed[0].Data, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if b.Incarnation != f.Incarnation || b.Number != f.Number+1 {
		t.Fatalf("after batch %d of incarnation %d failed, the next is %d of %d", f.Number, f.Incarnation, b.Number, b.Incarnation)
	}
	// Nobody else makes up for it, so it does not hold up those that follow.
	wantTexts(t, "selected", n.selected(t).Messages, "a", "c")
	if len(n.pushedBatches()) != 3 {
		t.Fatalf("%d batches were pushed, want 3", len(n.pushedBatches()))
	}
	// The peers have the batch that failed. It comes back from them like one of another author.
	if err := n.Receive(t.Context(), author(1), failed[0].Data); err != nil {
		t.Fatal(err)
	}
	wantTexts(t, "selected", n.selected(t).Messages, "a", "b", "c")
}

// Promise 18.
func TestSubmitWaitsLongerForPeersThatAreLinked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		linked := 2
		n := newNode(t, 0, 7, func(c *Config) {
			c.Set.Threshold -= 2
			c.Linked = func() int { return linked }
		})
		start := time.Now()
		n.submit(t, message("a"))
		if d := time.Since(start); d != ackWaits*DefaultAckWait {
			t.Errorf("answered after %v with slow peers, want %v", d, ackWaits*DefaultAckWait)
		}
		linked = 1
		start = time.Now()
		n.submit(t, message("b"))
		if d := time.Since(start); d != DefaultAckWait {
			t.Errorf("answered after %v with too few links, want %v", d, DefaultAckWait)
		}
	})
}

// Promise 18.
func TestSubmitWaitsForAcknowledgements(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, 0, 7, func(c *Config) { c.Set.Threshold = 5 })
		start := time.Now()
		answered := make(chan time.Duration, 1)
		submit := func(text string) {
			go func() {
				if _, err := n.Submit(t.Context(), []chain.Message{message("%s", text)}); err != nil {
					t.Error(err)
				}
				answered <- time.Since(start)
			}()
			synctest.Wait()
		}
		submit("a")
		hash := n.storage.batches[0].Hash
		time.Sleep(30 * time.Millisecond)
		n.Acknowledge(author(1), hash)
		n.Acknowledge(author(1), hash)
		n.Acknowledge(author(0), hash)  // itself
		n.Acknowledge(author(99), hash) // no validator
		synctest.Wait()
		if len(answered) != 0 {
			t.Fatal("answered with one acknowledgement of two")
		}
		n.Acknowledge(author(2), hash)
		if d := <-answered; d != 30*time.Millisecond {
			t.Fatalf("answered after %v, want 30ms", d)
		}

		start = time.Now()
		submit("b")
		time.Sleep(time.Second)
		if d := <-answered; d != DefaultAckWait {
			t.Fatalf("answered after %v without acknowledgements, want %v", d, DefaultAckWait)
		}
		start = time.Now()
		submit("b")
		if d := <-answered; d != 0 {
			t.Fatalf("a repeat was answered after %v, though its batch had its wait", d)
		}

		// A batch that is final needs no acknowledgement.
		start = time.Now()
		submit("c")
		time.Sleep(10 * time.Millisecond)
		n.commit(t, n.selected(t))
		if d := <-answered; d != 10*time.Millisecond {
			t.Fatalf("answered after %v, want when the message was final", d)
		}

		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		_, err := n.Submit(ctx, []chain.Message{message("d")})
		wantError(t, err, context.DeadlineExceeded)
	})
}

// Promise 18.
func TestAMessageHeldByTooFewPeersIsTakenIntoAnOwnBatchToo(t *testing.T) {
	n := newNode(t, 0, 7, func(c *Config) { c.Set.Threshold, c.AckWait = 5, time.Nanosecond })
	ref := n.receive(t, 1, 1, 1, message("a"))
	n.submit(t, message("a"))
	if n.storage.len() != 2 {
		t.Fatalf("%d batches stored, want another one with the message", n.storage.len())
	}
	n.submit(t, message("a"))
	if n.storage.len() != 2 {
		t.Fatal("the message was taken a third time")
	}
	body := n.selected(t)
	wantTexts(t, "selected", body.Messages, "a")
	if len(body.Refs) != 2 {
		t.Fatalf("the body refers to %d batches", len(body.Refs))
	}
	n.commit(t, body)
	if n.storage.len() != 0 || n.Stats().Batches != 0 {
		t.Fatal("a batch was left behind")
	}

	// With enough known holders the peer's batch will do. Its author is not one of them: a batch is
	// pushed before it is durable.
	ref = n.receive(t, 1, 1, 2, message("b"))
	n.Acknowledge(author(2), ref.Hash)
	n.Acknowledge(author(3), ref.Hash)
	n.submit(t, message("b"))
	if n.storage.len() != 1 {
		t.Fatal("a message that two peers hold was taken again")
	}
	ref = n.receive(t, 1, 1, 3, message("c"))
	n.Acknowledge(author(2), ref.Hash)
	n.submit(t, message("c"))
	if n.storage.len() != 3 {
		t.Fatal("a message that one peer holds, and the author may hold, was not taken")
	}
}

// A batch leaves while it is being written. The answer waits for this disk and for those of the
// peers, in whatever order they come.
//
// Promise 18.
func TestABatchIsPushedBeforeItIsDurableAndAnsweredAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, 0, 4, func(c *Config) { c.Set.Threshold = 3 })
		gate := make(chan struct{})
		n.storage.set(func([]chain.StoredBatch) error { <-gate; return nil })
		answered := make(chan error, 1)
		go func() {
			_, err := n.Submit(t.Context(), []chain.Message{message("a")})
			answered <- err
		}()
		synctest.Wait()
		pushed := n.pushedBatches()
		if len(pushed) != 1 {
			t.Fatalf("%d batches are pushed while the disk writes, want 1", len(pushed))
		}
		b, err := chain.DecodeBatch(pushed[0], 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		hash := b.Hash(testChain)
		n.Acknowledge(author(1), hash)
		synctest.Wait()
		if len(answered) > 0 {
			t.Fatal("answered before the batch was durable here")
		}
		if _, ok := n.Batch(hash); ok {
			t.Error("a batch that is not durable here is given to a peer that needs it for a vote")
		}
		if body := n.selected(t); len(body.Refs) != 0 {
			t.Error("a batch that is not durable here is proposed")
		}
		close(gate)
		if err := <-answered; err != nil {
			t.Fatal(err)
		}
		wantTexts(t, "selected", n.selected(t).Messages, "a")
	})
}

func TestCloseMakesDurableWhatWasSubmitted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, 0, 4)
		gate := make(chan struct{})
		n.storage.set(func([]chain.StoredBatch) error { <-gate; return nil })
		var running sync.WaitGroup
		for i := range 2 {
			running.Go(func() {
				if _, err := n.Submit(t.Context(), []chain.Message{message("%d", i)}); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		running.Go(n.Close)
		synctest.Wait()
		_, err := n.Submit(t.Context(), []chain.Message{message("x")})
		wantError(t, err, ErrClosed)
		close(gate)
		running.Wait()
		if n.storage.len() != 2 {
			t.Fatalf("%d batches stored, want 2", n.storage.len())
		}
		n.Close()
	})
}

func TestARequestAboveTheShareOfAHundredValidatorsNeverFits(t *testing.T) {
	n := newNode(t, 0, 100, func(c *Config) {
		c.MaxMessageBytes, c.MaxBlockBytes, c.MaxPoolBytes = 64<<10, 4<<20, DefaultMaxPoolBytes
	})
	messages := make([]chain.Message, 45)
	for i := range messages {
		messages[i] = chain.Message{Data: fmt.Appendf(make([]byte, 60<<10), "%d", i)}
	}
	_, err := n.Submit(t.Context(), messages)
	wantError(t, err, ErrTooMany)
	if !strings.Contains(err.Error(), "this node's share of the pool (at most 10485 messages and 2684354 bytes)") {
		t.Errorf("the error does not name the limits: %v", err)
	}
	n.submit(t, messages[:40]...)
}
