package mempool

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/diseq/diseq/node/chain"
)

// sleep lets d pass on the clock of a synctest bubble.
func sleep(d time.Duration) { <-time.After(d) }

func TestSelectTakesTheOldestOfAllAuthorsFirst(t *testing.T) {
	n := newNode(t, 0, 4)
	n.receive(t, 1, 1, 1, message("a"))
	n.submit(t, message("b"))
	n.receive(t, 2, 1, 1, message("c"))
	n.receive(t, 1, 1, 2, message("d"))
	n.submit(t, message("e"))
	wantTexts(t, "selected", n.selected(t).Messages, "a", "b", "c", "d", "e")
	wantTexts(t, "pending", n.Pending(3, 1<<20), "a", "b", "c")
	wantTexts(t, "pending", n.Pending(9, 2), "a", "b")
}

// Promise 28.
func TestSelectKeepsTheNumbersOfAnAuthorInOrder(t *testing.T) {
	n := newNode(t, 0, 4)
	n.receive(t, 1, 1, 3, message("3"))
	n.receive(t, 1, 1, 1, message("1"))
	n.receive(t, 1, 2, 1, message("new 1"))
	n.receive(t, 1, 1, 2, message("2"))
	wantTexts(t, "selected", n.selected(t).Messages, "1", "2", "3", "new 1")
}

// Promise 29.
func TestAGapIsWaitedForAndThenPassed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, 0, 4)
		ready := func() bool {
			select {
			case <-n.Ready():
				return true
			default:
				return false
			}
		}
		n.receive(t, 1, 1, 1, message("1"))
		n.commit(t, n.selected(t))
		ready()
		n.receive(t, 1, 1, 3, message("3"))
		n.receive(t, 1, 1, 4, message("4"))
		n.receive(t, 2, 1, 1, message("other"))
		wantTexts(t, "before", n.selected(t).Messages, "other")
		n.commit(t, n.selected(t))
		ready()
		if n.HasPending() {
			t.Fatal("there is nothing to order yet")
		}
		sleep(holeWait - time.Millisecond)
		if len(n.selected(t).Refs) != 0 || ready() {
			t.Fatal("the gap was passed too early")
		}
		sleep(time.Millisecond)
		synctest.Wait()
		if !ready() || !n.HasPending() {
			t.Fatal("no one was told that the gap may be passed")
		}
		wantTexts(t, "after", n.selected(t).Messages, "3", "4")
		// The missing batch, when it comes, comes before the rest.
		n.receive(t, 1, 1, 2, message("2"))
		wantTexts(t, "filled", n.selected(t).Messages, "2", "3", "4")
		n.commit(t, n.selected(t))
		n.receive(t, 1, 1, 2, message("another 2"))
		wantTexts(t, "late", n.selected(t).Messages, "another 2")
	})
}

// Clients were promised an order, so a leader does not pass a number only because it has seen no
// batch of the author yet: it has just started, or the link over which the first one comes opened
// late. It knows where an author goes on once a block has one of its batches. Its own it has on
// disk.
//
// Promise 28.
func TestALeaderThatHasJustStartedPassesNoGapSooner(t *testing.T) {
	for name, tt := range map[string]struct {
		height  uint64
		ordered []position // of another author, before
		within  time.Duration
	}{
		"a chain from its beginning":       {0, nil, holeWait},
		"a node that has started again":    {7, nil, holeWait},
		"an author that has started again": {7, []position{{1, 1}}, holeWait},
		"a block with the batch before":    {7, []position{{2, 4}}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNode(t, 0, 4, func(c *Config) { c.Height = tt.height })
				for _, p := range tt.ordered {
					n.receive(t, 1, p.incarnation, p.number, message("before"))
					_, ref := batch(1, p.incarnation, p.number, message("before"))
					n.commit(t, Body{Refs: []chain.BatchRef{ref}, IDs: ids(message("before"))})
				}
				n.receive(t, 1, 2, 5, message("5"))
				if tt.within > 0 {
					sleep(tt.within - time.Millisecond)
					if n.HasPending() {
						t.Fatalf("the gap was passed in less than %v", tt.within)
					}
					sleep(time.Millisecond)
				}
				wantTexts(t, "selected", n.selected(t).Messages, "5")
			})
		})
	}
	t.Run("batches of its own", func(t *testing.T) {
		storage, index := &memoryStorage{}, &memoryIndex{ids: map[chain.Hash]standing{}}
		n := openNode(t, 0, 4, storage, index)
		n.submit(t, message("1"))
		n.submit(t, message("2"))
		first := n.selected(t)
		n.commit(t, Body{Refs: first.Refs[:1], IDs: first.IDs[:1]})
		n.Close()
		n = openNode(t, 0, 4, storage, index, func(c *Config) { c.Height = 1 })
		wantTexts(t, "selected", n.selected(t).Messages, "2")
	})
}

func TestSelectIsBoundedByTheBlock(t *testing.T) {
	n := newNode(t, 0, 4, func(c *Config) { c.MaxBlockBytes = 4 << 10 })
	for i := range uint64(20) {
		n.receive(t, 1, 1, i+1, chain.Message{Data: append(make([]byte, 991), byte(i))})
	}
	sizes := []int{}
	for {
		b := n.selected(t)
		if len(b.Refs) == 0 {
			break
		}
		sizes = append(sizes, len(b.Messages))
		n.commit(t, b)
	}
	if !slices.Equal(sizes, []int{4, 4, 4, 4, 4}) {
		t.Fatalf("blocks of %v messages of 1000 bytes in 4096", sizes)
	}
	n.submit(t, message("a"), message("b"))
	n.receive(t, 1, 1, 21, message("c"))
	b, err := n.Select(5, 10)
	if err != nil || len(b.Refs) != 0 {
		t.Fatalf("selected %v in 10 bytes, error %v", b, err)
	}
	b, err = n.Select(5, 18)
	if err != nil || len(b.Refs) != 1 {
		t.Fatalf("selected %v in 18 bytes, error %v", b, err)
	}
}

// Promise 27.
func TestEveryNodeResolvesABodyAlike(t *testing.T) {
	leader, voter := newNode(t, 0, 4), newNode(t, 1, 4)
	both := []*testNode{leader, voter}
	for _, n := range both {
		n.receive(t, 2, 1, 1, message("a"), message("b"), message("a"))
	}
	first := leader.selected(t)
	for _, n := range both {
		n.commit(t, first)
		n.receive(t, 3, 1, 1, message("c"), message("d"))
	}
	// The leader holds repeats of pending and of final messages.
	leader.receive(t, 2, 1, 2, message("b"), message("d"), message("e"), message("e"))
	leader.receive(t, 2, 1, 3, message("e"), message("f"))
	want := leader.selected(t)
	wantTexts(t, "selected", want.Messages, "c", "d", "e", "f")

	done, cancel := context.WithCancel(t.Context())
	cancel()
	_, missing, err := voter.Resolve(done, 1, append(want.Refs, want.Refs...))
	if err != nil || !slices.Equal(missing, want.Refs[1:]) {
		t.Fatalf("missing %v, error %v; want the two that the voter lacks, once", missing, err)
	}
	for _, r := range missing {
		encoded, _ := leader.Batch(r.Hash)
		if err := voter.ReceiveFetched(t.Context(), author(0), encoded); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range both {
		got, missing, err := n.Resolve(t.Context(), 1, want.Refs)
		if err != nil || missing != nil {
			t.Fatalf("missing %v, error %v", missing, err)
		}
		wantTexts(t, "resolved", got.Messages, texts(want.Messages)...)
		if !slices.Equal(got.IDs, want.IDs) || !slices.Equal(got.Refs, want.Refs) {
			t.Fatal("ids or references differ")
		}
		for i, m := range got.Messages {
			if m.ID() != got.IDs[i] {
				t.Fatalf("id %d is not the message's", i)
			}
		}
	}
	// References that stand twice change nothing.
	got, _, err := voter.Resolve(t.Context(), 1, append(slices.Clone(want.Refs), want.Refs...))
	if err != nil {
		t.Fatal(err)
	}
	wantTexts(t, "resolved", got.Messages, texts(want.Messages)...)
}

// Promise 33.
func TestResolveRefusesWhatNoBlockMayHave(t *testing.T) {
	n := newNode(t, 0, 4, func(c *Config) { c.MaxBlockBytes = 2 << 10 })
	large := func(i int) chain.Message { return chain.Message{Data: append(make([]byte, 899), byte(i))} }
	a := n.receive(t, 1, 1, 1, large(0), large(1))
	b := n.receive(t, 1, 1, 2, large(2), large(0))
	c := n.receive(t, 1, 1, 3, large(1), large(0))
	for _, r := range []struct {
		name   string
		parent uint64
		refs   []chain.BatchRef
		want   error
	}{
		{"two batches of three blocks' worth", 0, []chain.BatchRef{a, b}, ErrBody},
		{"repeats without end", 0, []chain.BatchRef{a, c, b}, ErrBody},
		{"another author", 0, []chain.BatchRef{{Author: author(2), Hash: a.Hash}}, ErrBody},
		{"too many references", 0, slices.Repeat([]chain.BatchRef{a}, chain.MaxBodyRefs+1), ErrBody},
		{"another parent", 1, []chain.BatchRef{a}, ErrHeight},
		{"repeats", 0, []chain.BatchRef{a, c}, nil},
	} {
		t.Run(r.name, func(t *testing.T) {
			_, _, err := n.Resolve(t.Context(), r.parent, r.refs)
			wantError(t, err, r.want)
		})
	}
	_, err := n.Select(1, 1<<20)
	wantError(t, err, ErrHeight)
}

func TestResolveWaitsForBatchesOnTheirWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, 0, 4)
		encoded, ref := batch(1, 1, 1, message("a"))
		type answer struct {
			body    Body
			missing []chain.BatchRef
			err     error
		}
		answers := make(chan answer, 1)
		resolve := func(ctx context.Context) {
			go func() {
				var a answer
				a.body, a.missing, a.err = n.Resolve(ctx, n.height, []chain.BatchRef{ref})
				answers <- a
			}()
			synctest.Wait()
		}
		ctx, cancel := context.WithTimeout(t.Context(), pushTime/2)
		defer cancel()
		resolve(ctx)
		n.receive(t, 2, 1, 1, message("other"))
		if a := <-answers; a.err != nil || !slices.Equal(a.missing, []chain.BatchRef{ref}) {
			t.Fatalf("got %+v, want the reference as missing", a)
		}
		resolve(t.Context())
		if err := n.Receive(t.Context(), author(1), encoded); err != nil {
			t.Fatal(err)
		}
		if a := <-answers; a.err != nil || a.missing != nil || len(a.body.IDs) != 1 {
			t.Fatalf("got %+v, want the message", a)
		}
		// A block that becomes final ends the wait.
		ref.Hash[0] ^= 1
		resolve(t.Context())
		n.commit(t, Body{})
		wantError(t, (<-answers).err, ErrHeight)
		resolve(t.Context())
		n.Close()
		wantError(t, (<-answers).err, ErrClosed)
	})
}

// A batch of a block counts as missing, and is fetched, when it is not on its way: not while it is
// being written, and later if its author's batches arrive. Otherwise a busy network would send
// each batch twice.
func TestABatchOnItsWayIsNotMissing(t *testing.T) {
	type answer struct {
		missing []chain.BatchRef
		err     error
		took    time.Duration
	}
	resolve := func(t *testing.T, n *testNode, refs ...chain.BatchRef) <-chan answer {
		answers := make(chan answer, 1)
		go func() {
			began := time.Now()
			_, missing, err := n.Resolve(t.Context(), 0, refs)
			answers <- answer{missing, err, time.Since(began)}
		}()
		return answers
	}
	want := func(t *testing.T, got answer, took time.Duration, missing ...chain.BatchRef) {
		t.Helper()
		if got.err != nil || !slices.Equal(got.missing, missing) || got.took != took {
			t.Fatalf("missing %v after %v (%v), want %v after %v", got.missing, got.took, got.err, missing, took)
		}
	}
	// pushAll has node 1 push a batch every 20 ms, the first after as long.
	pushAll := func(t *testing.T, n *testNode, count int) {
		for i := range count {
			sleep(20 * time.Millisecond)
			n.receive(t, 1, 1, uint64(i+1), message("message %d", i))
		}
	}
	_, fourth := batch(1, 1, 4, message("message 3"))
	_, ninth := batch(1, 1, 9, message("message 8"))
	_, quiet := batch(2, 1, 1, message("of a quiet author"))
	for name, test := range map[string]func(*testing.T, *testNode){
		"its author is quiet": func(t *testing.T, n *testNode) {
			want(t, <-resolve(t, n, quiet), pushTime, quiet)
		},
		"its author's batches arrive, and it with them": func(t *testing.T, n *testNode) {
			answers := resolve(t, n, fourth)
			pushAll(t, n, 4)
			want(t, <-answers, 80*time.Millisecond)
		},
		"its author's batches arrive without it": func(t *testing.T, n *testNode) {
			answers := resolve(t, n, ninth)
			pushAll(t, n, 8)
			want(t, <-answers, pushLimit, ninth)
		},
		"the batches of another arrive": func(t *testing.T, n *testNode) {
			answers := resolve(t, n, fourth, quiet)
			pushAll(t, n, 4)
			want(t, <-answers, pushTime, quiet)
		},
		"its author's batches cease to arrive": func(t *testing.T, n *testNode) {
			answers := resolve(t, n, ninth)
			pushAll(t, n, 2)
			want(t, <-answers, 40*time.Millisecond+pushTime, ninth)
		},
		"it is being written": func(t *testing.T, n *testNode) {
			n.storage.set(func([]chain.StoredBatch) error { sleep(time.Hour); return nil })
			encoded, ref := batch(1, 1, 1, message("a"))
			go func() { _ = n.Receive(t.Context(), author(1), encoded) }()
			synctest.Wait()
			want(t, <-resolve(t, n, ref), time.Hour)
		},
		"it could not be written": func(t *testing.T, n *testNode) {
			n.storage.set(func([]chain.StoredBatch) error { sleep(time.Second); return errors.New("broken") })
			encoded, ref := batch(1, 1, 1, message("a"))
			go func() { _ = n.Receive(t.Context(), author(1), encoded) }()
			synctest.Wait()
			want(t, <-resolve(t, n, ref), time.Second, ref)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNode(t, 0, 4)
				test(t, n)
				n.Close() // before the end of the bubble
			})
		})
	}
}

func TestABatchEmptiedByAnothersLeavesTheOrderAsItIs(t *testing.T) {
	n := newNode(t, 0, 4)
	n.receive(t, 1, 1, 2, message("x")) // number 1 is on its way
	n.receive(t, 2, 1, 1, message("x"))
	n.receive(t, 1, 1, 3, message("3"))
	n.commit(t, n.selected(t))
	if b := n.selected(t); len(b.Refs) != 0 {
		t.Fatalf("selected %q before number 1", texts(b.Messages))
	}
	n.receive(t, 1, 1, 1, message("1"))
	wantTexts(t, "selected", n.selected(t).Messages, "1")
}

// Nothing binds the list of batches to a final block that catching up fetched.
func TestABatchThatAListNamesWithoutItsMessagesLeavesTheOrderAsItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, 0, 4)
		b := n.receive(t, 1, 1, 2, message("2")) // number 1 is on its way
		n.commit(t, Body{Refs: []chain.BatchRef{b}, IDs: ids(message("another"))})
		if got := n.selected(t); len(got.Refs) != 0 {
			t.Fatalf("selected %q before number 1", texts(got.Messages))
		}
	})
}
