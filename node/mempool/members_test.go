package mempool

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/diseq/diseq/node/chain"
)

func keys(nodes ...int) (out []chain.PublicKey) {
	for _, i := range nodes {
		out = append(out, author(i))
	}
	return out
}

// unacknowledged returns the texts of what is pushed to a node.
func (n *testNode) unacknowledged(t tb, by int) (out []string) {
	t.Helper()
	sleep(relayAfter)
	for _, s := range n.Unacknowledged(author(by), 0, 1<<20) {
		b, err := chain.DecodeBatch(s.Data, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, texts(b.Messages)...)
	}
	return out
}

// Thousands of validators come and go, a hundred at a time, each of them known to hold a batch that
// waits all the while. A newcomer is not taken for the member whose seat it has now.
func TestSeatsAreUsedAgainByNewcomers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size = chain.MaxValidators
		n := newNode(t, 0, size)
		n.submit(t, message("a"))
		hash := n.storage.batches[0].Hash
		for era := range 30 {
			for i := range size {
				n.Acknowledge(author(era*size+i), hash)
			}
			if got := n.pending.slots[0].holders.count(); got != min(size, size-1+era) {
				t.Fatalf("era %d: %d members are known to hold the batch", era, got)
			}
			n.SetMembers(setOf(span((era+1)*size, size)...))
			if got := n.pending.slots[0].holders.count(); got != 0 {
				t.Fatalf("era %d: %d newcomers are said to hold what they never had", era, got)
			}
		}
		n.SetMembers(setOf(span(30*size+size/2, size)...))
		if got := len(n.unacknowledged(t, 31*size)); got != 1 {
			t.Fatalf("%d batches are pushed to a newcomer, want 1", got)
		}
		if len(n.queues) != size+1 {
			t.Fatalf("%d queues, want one for each member and this node's own", len(n.queues))
		}
	})
}

// An author may lose a batch that it has pushed, in a crash that comes before its own write. A
// member that holds the batch orders it. A leaver does not, and the author may be the only member
// left.
//
// Promise 73.
func TestALeaverGivesABatchToItsAuthorAsWell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, 0, 4)
		n.receive(t, 1, 1, 1, message("a"))
		sleep((1 + relayTurns) * relayAfter)
		if got := n.unacknowledged(t, 1); len(got) > 0 {
			t.Errorf("a member pushes %q to the author", got)
		}
		n.SetMembers(setOf(1))
		if got := fmt.Sprint(n.unacknowledged(t, 1)); got != "[a]" {
			t.Errorf("a node that left pushes %v to the author, want [a]", got)
		}
		n.Acknowledge(author(1), n.storage.batches[0].Hash)
		if got := n.unacknowledged(t, 1); len(got) > 0 {
			t.Errorf("%q are pushed again, and the author has them", got)
		}
	})
}

// A batch that a leaver holds lacks a holder: it is pushed to the newcomers, and a
// submission waits for them.
//
// Promise 18.
// Promise 73.
func TestAHolderThatLeftCountsNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, 0, 4, func(c *Config) { c.Set.Threshold, c.AckWait = 2, time.Hour })
		answered := make(chan error, 1)
		go func() {
			_, err := n.Submit(t.Context(), []chain.Message{message("a")})
			answered <- err
		}()
		synctest.Wait()
		hash := n.storage.batches[0].Hash
		n.Acknowledge(author(1), hash)
		set := setOf(0, 4, 5, 6)
		set.Threshold = 2
		n.SetMembers(set)
		n.Acknowledge(author(2), hash) // it left as well
		n.Acknowledge(author(4), hash)
		synctest.Wait()
		if len(answered) != 0 {
			t.Fatal("answered, and one member of four holds the batch")
		}
		if got := fmt.Sprint(n.unacknowledged(t, 4), n.unacknowledged(t, 5), n.unacknowledged(t, 1)); got != "[] [a] []" {
			t.Fatalf("pushed to a holder, to one that lacks it and to one that left: %v", got)
		}
		n.Acknowledge(author(5), hash)
		if err := <-answered; err != nil {
			t.Fatal(err)
		}

		// A set that asks for less answers what waits.
		go func() {
			_, err := n.Submit(t.Context(), []chain.Message{message("b")})
			answered <- err
		}()
		synctest.Wait()
		n.Acknowledge(author(6), n.storage.batches[1].Hash)
		set = setOf(0, 5, 6)
		set.Threshold = 2
		n.SetMembers(set)
		if err := <-answered; err != nil {
			t.Fatal(err)
		}
	})
}

// A newcomer that is a height ahead pushes before its receiver has the block that made it a member.
// It is refused like a stranger, and pushed again, because it was not acknowledged.
//
// Promise 73.
func TestABatchOfANewcomerThatComesTooEarlyIsPushedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		newcomer, old := newNode(t, 4, 4), newNode(t, 0, 4)
		next := setOf(0, 1, 2, 4)
		newcomer.SetMembers(next)
		newcomer.submit(t, message("a"))
		push := func() error {
			for _, b := range newcomer.Unacknowledged(author(0), 0, 1<<20) {
				if err := old.Receive(t.Context(), author(4), b.Data); err != nil {
					return err
				}
				newcomer.Acknowledge(author(0), b.Hash)
			}
			return nil
		}
		wantError(t, push(), ErrAuthor)
		old.SetMembers(next)
		if err := push(); err != nil {
			t.Fatal(err)
		}
		wantTexts(t, "selected", old.selected(t).Messages, "a")
		if newcomer.unacknowledged(t, 0) != nil {
			t.Fatal("it is pushed once more")
		}
	})
}

// The batches of authors that left are ordered, whether they came before or are fetched for a
// block. They are taken by a push only as long as the author is in the peers file. Nobody orders
// what a key wrote that was in no set.
//
// Promise 73.
func TestBatchesOfAuthorsThatLeftStayValid(t *testing.T) {
	n := newNode(t, 0, 4)
	n.receive(t, 1, 1, 1, message("before"))
	n.SetPeers(keys(1, 3, 77))
	n.SetMembers(setOf(0, 3, 4, 5))
	n.receive(t, 1, 1, 2, message("in the peers file"))
	gone, fetched := batch(2, 1, 1, message("fetched"))
	wantError(t, n.Receive(t.Context(), author(2), gone), ErrAuthor)
	if err := n.ReceiveFetched(t.Context(), author(3), gone); err != nil {
		t.Fatal(err)
	}
	stranger, never := batch(77, 1, 1, message("a stranger"))
	wantError(t, n.Receive(t.Context(), author(77), stranger), ErrAuthor)
	wantError(t, n.ReceiveFetched(t.Context(), author(3), stranger), ErrAuthor)
	_, _, err := n.Resolve(t.Context(), 0, []chain.BatchRef{fetched, never})
	wantError(t, err, ErrBody)

	body, missing, err := n.Resolve(t.Context(), 0, []chain.BatchRef{fetched})
	if err != nil || missing != nil {
		t.Fatalf("missing %v, error %v", missing, err)
	}
	wantTexts(t, "resolved", body.Messages, "fetched")
	sleep(holeWait)
	wantTexts(t, "selected", n.selected(t).Messages, "before", "in the peers file", "fetched")
	n.SetPeers(nil)
	late, _ := batch(1, 1, 3, message("late"))
	wantError(t, n.Receive(t.Context(), author(1), late), ErrAuthor)
	n.commit(t, n.selected(t))
	if len(n.queues) != 4 || n.Stats().Batches != 0 {
		t.Fatalf("%d queues and %+v: authors that left are still kept", len(n.queues), n.Stats())
	}
}

// The pool of a node that left keeps the batches of all authors that it held. Held says how many of
// their messages are not final, also after a restart, and later batches do not count.
//
// Promise 73.
func TestANodeThatLeftHoldsItsMessagesUntilTheyAreFinal(t *testing.T) {
	storage, index := &memoryStorage{}, &memoryIndex{ids: map[chain.Hash]standing{}}
	n := openNode(t, 0, 4, storage, index)
	n.submit(t, message("own"))
	n.receive(t, 1, 1, 1, message("another's"))
	if s := n.Stats(); s.Left || s.Held != 0 {
		t.Fatalf("a member is said to have left: %+v", s)
	}
	next := setOf(1, 2, 3)
	n.SetMembers(next)
	n.receive(t, 2, 1, 1, message("later"))
	wantError(t, n.Accepting(), ErrAuthor)
	if s := n.Stats(); !s.Left || s.Held != 2 || s.Messages != 3 {
		t.Fatalf("%+v, want 2 held of 3 messages", s)
	}
	body := n.selected(t)
	n.commit(t, Body{Refs: body.Refs[:1], IDs: body.IDs[:1]})
	if s := n.Stats(); s.Held != 1 {
		t.Fatalf("%+v, want 1 held", s)
	}
	n.Close()

	n = openNode(t, 0, 3, storage, index, func(c *Config) { c.Set, c.Former, c.Height = next, keys(0), 1 })
	sleep(holeWait)
	if s := n.Stats(); !s.Left || s.Held != 2 {
		t.Fatalf("%+v after a restart, want all that was on disk to be held", s)
	}
	n.commit(t, n.selected(t))
	if s := n.Stats(); !s.Left || s.Held != 0 {
		t.Fatalf("%+v, want nothing held", s)
	}
}

// Clients come to a node that left until they notice. For a minute it takes their messages, and
// answers once these are final: whatever acknowledges them may leave next. Messages that are not
// final in time are answered with an error. A restart ends this, and so does the minute.
//
// Promise 73.
func TestANodeThatLeftAnswersWhenMessagesAreFinal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		storage, index := &memoryStorage{}, &memoryIndex{ids: map[chain.Hash]standing{}}
		n := openNode(t, 0, 4, storage, index)
		next := setOf(1, 2, 3)
		n.SetMembers(next)
		type answer struct {
			results []Result
			err     error
		}
		answers := make(chan answer, 1)
		submit := func(text string) {
			go func() {
				results, err := n.Submit(t.Context(), []chain.Message{message("%s", text)})
				answers <- answer{results, err}
			}()
			synctest.Wait()
		}
		submit("a")
		if len(n.pushedBatches()) != 1 {
			t.Fatalf("%d batches are pushed, want 1", len(n.pushedBatches()))
		}
		for i := 1; i < 4; i++ {
			n.Acknowledge(author(i), storage.batches[0].Hash)
		}
		synctest.Wait()
		if s := n.Stats(); len(answers) != 0 || s.Held != 0 || !n.Leaving() {
			t.Fatalf("%d answers, and all members only acknowledged; %+v", len(answers), s)
		}
		n.commit(t, n.selected(t))
		got := <-answers
		if got.err != nil || got.results[0] != (Result{message("a").ID(), Final, 1, 0}) {
			t.Fatalf("%+v", got)
		}
		submit("a") // once more
		if got = <-answers; got.err != nil || got.results[0].State != Final {
			t.Fatalf("%+v", got)
		}
		begun := time.Now()
		submit("never final")
		if got = <-answers; !errors.Is(got.err, ErrLeft) || time.Since(begun) != leaverWait {
			t.Fatalf("%+v after %v", got, time.Since(begun))
		}
		sleep(leaverAccepts)
		submit("too late")
		if got = <-answers; !errors.Is(got.err, ErrAuthor) || n.Leaving() {
			t.Fatalf("%+v after a minute", got)
		}
		n.Close()

		n = openNode(t, 0, 3, storage, index, func(c *Config) { c.Set, c.Former, c.Height = next, keys(0), 1 })
		submit("after a restart")
		if got = <-answers; !errors.Is(got.err, ErrAuthor) || n.Leaving() {
			t.Fatalf("%+v after a restart", got)
		}
	})
}

// A message that comes after its node left may gather in a batch that was begun before: it is held
// like the others of the batch.
//
// Promise 73.
func TestAMessageInABatchBegunBeforeItsNodeLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, 0, 4)
		gate := make(chan struct{})
		n.storage.set(func([]chain.StoredBatch) error { <-gate; return nil })
		errs := make(chan error, 3)
		submit := func(text string) {
			go func() {
				_, err := n.Submit(t.Context(), []chain.Message{message("%s", text)})
				errs <- err
			}()
			synctest.Wait()
		}
		submit("being written")
		submit("gathers")
		n.SetMembers(setOf(1, 2, 3))
		submit("after it left")
		if held := n.Stats().Held; held != 3 {
			t.Fatalf("%d messages held, want 3", held)
		}
		close(gate)
		synctest.Wait()
		n.commit(t, n.selected(t))
		for range 3 {
			if err := <-errs; err != nil {
				t.Fatal(err)
			}
		}
		if s := n.Stats(); s.Held != 0 || s.Messages != 0 {
			t.Fatalf("%+v, want nothing held", s)
		}
	})
}

// A submission that waits for acknowledgements while its node leaves needs one holder more: the
// node does not count among those of which n-t may be lost.
//
// Promise 18.
// Promise 73.
func TestASubmissionUnderWayWhenItsNodeLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, 0, 4, func(c *Config) { c.Set.Threshold, c.AckWait = 3, time.Hour })
		answered := make(chan error, 1)
		go func() {
			_, err := n.Submit(t.Context(), []chain.Message{message("a")})
			answered <- err
		}()
		synctest.Wait()
		hash := n.storage.batches[0].Hash
		set := setOf(4, 5, 6, 7)
		set.Threshold = 3
		n.SetMembers(set)
		n.Acknowledge(author(4), hash)
		synctest.Wait()
		if len(answered) != 0 {
			t.Fatal("answered, and the loss of one member loses the message")
		}
		n.Acknowledge(author(5), hash)
		if err := <-answered; err != nil {
			t.Fatal(err)
		}
	})
}

// A write that fails while its node leaves is not waited for.
//
// Promise 73.
func TestAFailedWriteIsNotHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, 0, 4)
		gate := make(chan struct{})
		n.storage.set(func([]chain.StoredBatch) error { <-gate; return errors.New("disk broken") })
		go func() { _, _ = n.Submit(t.Context(), []chain.Message{message("a")}) }()
		synctest.Wait()
		n.SetMembers(setOf(1, 2, 3))
		if held := n.Stats().Held; held != 1 {
			t.Fatalf("%d messages held while one is being written, want 1", held)
		}
		close(gate)
		synctest.Wait()
		if held := n.Stats().Held; held != 0 {
			t.Fatalf("%d messages held, and none is on disk", held)
		}
	})
}

// Shares follow the number of authors that may push, belong to keys, and never fall below the room
// for a message of the largest size: a hundred validators with messages of 4 MiB have 400 MiB, not
// 256.
//
// Promise 32.
func TestSharesFollowTheSet(t *testing.T) {
	const largest = 4 << 20
	n := newNode(t, 0, 4, func(c *Config) {
		c.MaxMessageBytes, c.MaxBlockBytes, c.MaxPoolBytes, c.MaxPoolMessages = largest, 16<<20, DefaultMaxPoolBytes, 40
	})
	big := func(text string) chain.Message {
		return chain.Message{Data: fmt.Appendf(make([]byte, largest-1), "%1.1s", text)}
	}
	n.receive(t, 1, 1, 1, big("a"))
	n.receive(t, 1, 1, 2, big("b"))
	for _, c := range []struct {
		members, peers, of []int
		share, capacity    int64
		messages           int
	}{
		{span(0, 4), nil, nil, 64 << 20, 256 << 20, 10},
		{span(0, 4), span(1, 3), nil, 64 << 20, 256 << 20, 10},
		{span(1, 3), span(0, 9), nil, 64 << 20, 256 << 20, 10}, // 0 left and is in the peers file
		{span(1, 8), nil, nil, 32 << 20, 256 << 20, 5},
		{span(1, 8), span(0, 9), nil, (256 << 20) / 9, 256 << 20, 4},
		{span(1, 100), nil, nil, largest + minShareRoom, 100 * (largest + minShareRoom), 1},
		{span(100, 100), span(0, 200), nil, largest + minShareRoom, 200 * (largest + minShareRoom), 1},
	} {
		n.SetMembers(setOf(c.members...))
		n.SetPeers(keys(c.peers...))
		if n.shareBytes != c.share || n.capacity != c.capacity || n.shareMessages != c.messages || n.Stats().MaxBytes != c.capacity {
			t.Errorf("%d members: shares of %d bytes and %d messages in %d, want %d, %d, %d",
				len(c.members), n.shareBytes, n.shareMessages, n.capacity, c.share, c.messages, c.capacity)
		}
	}
	// Author 1 has more than its share now. It is refused until the rest is ordered, and nobody
	// else is: a newcomer's share is fresh.
	n.receive(t, 150, 1, 1, big("c"))
	more, _ := batch(1, 1, 3, big("d"))
	wantError(t, n.Receive(t.Context(), author(1), more), ErrShare)
	second, _ := batch(150, 1, 2, message("e"))
	wantError(t, n.Receive(t.Context(), author(150), second), ErrShare)
	for len(n.selected(t).Refs) > 0 {
		n.commit(t, n.selected(t))
	}
	if err := n.Receive(t.Context(), author(1), more); err != nil {
		t.Fatal(err)
	}
}

// Right after a full replacement a pool may hold what the old set left and what the new one pushes.
// That holds up no block: the bound on fetched batches lies above both.
//
// Promise 50.
// Promise 73.
func TestWhatMembersLeftBehindHoldsUpNoBlock(t *testing.T) {
	n := newNode(t, 0, 4, func(c *Config) { c.MaxPoolBytes = 4 * 5 << 10 })
	fill := func(first int) {
		t.Helper()
		for i := first; i < first+4; i++ {
			for number := uint64(1); number <= 4; number++ {
				m := message("%d %d", i, number)
				m.Data = append(m.Data, make([]byte, 1000)...)
				if i == 0 {
					n.submit(t, m)
				} else {
					n.receive(t, i, 1, number, m)
				}
			}
		}
	}
	fill(0)
	n.SetMembers(setOf(4, 5, 6, 7))
	fill(4)
	fetched := 0
	for number := uint64(5); ; number++ {
		m := message("%d", number)
		m.Data = append(m.Data, make([]byte, 1000)...)
		encoded, _ := batch(5, 1, number, m)
		err := n.ReceiveFetched(t.Context(), author(5), encoded)
		if errors.Is(err, ErrShare) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		fetched += len(encoded)
	}
	if least := fetchedBlocks * 64 << 10; fetched < least-2000 || n.Stats().Bytes > 2*4*5<<10+int64(least) {
		t.Fatalf("took %d bytes for blocks, at least %d must fit; the pool has %d", fetched, least, n.Stats().Bytes)
	}
}
