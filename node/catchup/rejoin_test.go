package catchup

import (
	"context"
	"math"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/diseq/diseq/node/chain"
)

// rejoin runs Rejoin and returns a channel with its result.
func (n *node) rejoin(t *testing.T) <-chan uint64 {
	t.Helper()
	result := make(chan uint64, 1)
	go func() {
		first, err := n.Rejoin(t.Context())
		if err == nil {
			result <- first
		}
	}()
	synctest.Wait()
	return result
}

func wantFirst(t *testing.T, result <-chan uint64, want uint64) {
	t.Helper()
	time.Sleep(rejoinInterval)
	synctest.Wait()
	select {
	case first := <-result:
		if first != want {
			t.Errorf("votes again from %d, want %d", first, want)
		}
	default:
		t.Errorf("does not vote again, want from %d", want)
	}
}

func as(letter rune) func(*Config) { return func(c *Config) { c.Self = public(letter) } }

func wantNone(t *testing.T, what string, result <-chan uint64) {
	t.Helper()
	time.Sleep(10 * rejoinInterval)
	synctest.Wait()
	if len(result) > 0 {
		t.Errorf("%s: votes again from %d", what, <-result)
	}
}

// A validator that lost its vote store votes again from the third height above the highest answer
// that it can check, and above its own height. It makes its vote store when it has come there.
//
// Promise 16.
func TestAValidatorRejoinsAtTheThirdHeight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHistory("abcd")
		h.grow(20)
		a := &archive{
			heights: map[chain.PublicKey]uint64{public('b'): 5, public('c'): 7, public('d'): math.MaxUint64, public('e'): 4},
			asked:   map[chain.PublicKey]int{}, connected: []chain.PublicKey{public('b'), public('d'), public('e')},
		}
		n := start(t, h, a, false, as('a'))
		n.reach(t, h, 6)
		result := n.rejoin(t)
		wantNone(t, "one answer, and one that nobody can show", result)
		a.connect(public('c'))
		wantNone(t, "one block that is not here", result)
		n.reach(t, h, 7)
		wantNone(t, "an answer of a stranger", result)
		if d, e := a.requests(public('d')), a.requests(public('e')); d != 1 || e != 0 {
			t.Errorf("a validator is asked %d times, want once; a stranger %d times", d, e)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		h := newHistory("abcd")
		h.grow(20)
		a := &archive{
			heights:   map[chain.PublicKey]uint64{public('b'): 5, public('c'): 7, public('d'): 4},
			connected: []chain.PublicKey{public('b'), public('c'), public('d')},
		}
		n := start(t, h, a, false, as('a'))
		n.reach(t, h, 4)
		result := n.rejoin(t)
		n.reach(t, h, 8)
		wantNone(t, "the height below", result)
		n.reach(t, h, 9)
		wantFirst(t, result, 10)
	})
	synctest.Test(t, func(t *testing.T) {
		h := newHistory("abcd")
		h.grow(20)
		a := &archive{
			heights:   map[chain.PublicKey]uint64{public('b'): 0, public('c'): 0, public('d'): 0},
			connected: []chain.PublicKey{public('b'), public('c'), public('d')},
		}
		n := start(t, h, a, false, as('a'))
		n.reach(t, h, 8)
		result := n.rejoin(t)
		n.reach(t, h, 9)
		wantNone(t, "all others report less than this node has", result)
		n.reach(t, h, 20)
		wantFirst(t, result, 11) // the third height above its own
	})
}

// The answers of the members of an era are good for that era. When the chain enters another one
// first, the members of that one are asked, also those that have answered before.
//
// Promise 16.
func TestAValidatorThatRejoinsAsksEachEraAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHistory("abcd")
		h.grow(6)
		h.change("bcae") // height 7
		h.grow(20)
		a := &archive{
			heights: map[chain.PublicKey]uint64{public('b'): 5, public('c'): 5, public('d'): 5, public('e'): 0},
			asked:   map[chain.PublicKey]int{}, connected: []chain.PublicKey{public('b'), public('c'), public('d')},
		}
		n := start(t, h, a, false, as('a'))
		n.reach(t, h, 5)
		result := n.rejoin(t)
		wantNone(t, "its first height is not there", result)
		n.reach(t, h, 7)
		wantNone(t, "the era of its first height is another", result)
		if b, d := a.requests(public('b')), a.requests(public('d')); b != 2 || d != 1 {
			t.Errorf("a member that stays is asked %d times, want 2; one that left %d times, want 1", b, d)
		}
		n.reach(t, h, 20)
		wantNone(t, "two answers of the new era, and it needs three", result)
		a.connect(public('e'))
		wantFirst(t, result, 10) // the third height above its own when it asked
	})
}

// A validator asks nobody below the checkpoint: whoever answers there may be a thief of keys that
// nobody watches any more. It does not ask either before it is a member or after it left.
//
// Promise 16.
// Promise 71.
func TestAValidatorRejoinsAboveTheCheckpointAndInTheSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHistory("bcd")
		h.grow(2)
		h.change("abcd") // height 3
		h.grow(20)
		var checkpoint atomic.Uint64 // the height
		a := &archive{
			heights: map[chain.PublicKey]uint64{public('b'): 1, public('c'): 1, public('d'): 1},
			asked:   map[chain.PublicKey]int{}, connected: []chain.PublicKey{public('b'), public('c'), public('d')},
		}
		n := start(t, h, a, false, as('a'), func(c *Config) {
			c.Checkpoint = func() chain.Checkpoint { return chain.Checkpoint{Height: checkpoint.Load()} }
		})
		result := n.rejoin(t)
		n.reach(t, h, 2)
		wantNone(t, "before it is a member", result)
		checkpoint.Store(10)
		n.reach(t, h, 9)
		wantNone(t, "below the checkpoint", result)
		for _, peer := range a.Connected() {
			if a.requests(peer) > 0 {
				t.Errorf("asked %v", peer)
			}
		}
		n.reach(t, h, 10)
		wantNone(t, "just asked", result)
		checkpoint.Store(14) // the peers file has changed
		n.reach(t, h, 12)
		wantNone(t, "below the new checkpoint", result)
		n.reach(t, h, 14)
		synctest.Wait()
		n.reach(t, h, 20)
		wantFirst(t, result, 17)
	})
}

// mute is an archive of which some peers never answer.
type mute struct {
	archive
	silent map[chain.PublicKey]bool
}

func (m *mute) Status(ctx context.Context, from chain.PublicKey, nonce chain.Hash) (*chain.Status, error) {
	if m.silent[from] {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return m.archive.Status(ctx, from, nonce)
}

// Validators that are silent when they are asked for their heights hold up nobody who answers.
//
// Promise 16.
func TestSilentValidatorsDoNotHoldUpRejoining(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHistory("abcdefg")
		h.grow(20)
		m := &mute{silent: map[chain.PublicKey]bool{public('b'): true, public('c'): true}}
		m.connected, m.heights = []chain.PublicKey{public('b'), public('c')}, map[chain.PublicKey]uint64{}
		for _, l := range "defg" {
			m.connected, m.heights[public(l)] = append(m.connected, public(l)), 5
		}
		n := start(t, h, m, false, as('a'))
		n.reach(t, h, 9)
		result := n.rejoin(t)
		n.reach(t, h, 20)
		began := time.Now()
		if first := <-result; first != 12 || time.Since(began) > statusTimeout {
			t.Errorf("votes again from %d after %v", first, time.Since(began))
		}
	})
}
