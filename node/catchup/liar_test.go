package catchup

import (
	"context"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/internal/wait"
)

// crowd are peers that serve one chain, each in its own way.
type crowd struct {
	archive
	// takes is the time that a peer takes for a block, 5 ms by default.
	takes map[chain.PublicKey]func(height uint64) time.Duration
	// shows is what a peer shows instead of a block.
	shows map[chain.PublicKey]func(*chain.FinalBlock) *chain.FinalBlock
	// sent counts the blocks that all of them sent.
	sent atomic.Int64
}

func (c *crowd) Blocks(ctx context.Context, from chain.PublicKey, first uint64, count int, yield func(*chain.FinalBlock) error) error {
	return c.archive.Blocks(ctx, from, first, count, func(f *chain.FinalBlock) error {
		takes := 5 * time.Millisecond
		if own := c.takes[from]; own != nil {
			takes = own(f.Header.Height)
		}
		if err := wait.For(ctx, takes); err != nil {
			return err
		}
		if own := c.shows[from]; own != nil {
			f = own(f)
		}
		c.sent.Add(1)
		return yield(f)
	})
}

// A node that lost everything is back within twice the time that it takes without the liars, though
// one of the three peers that it asks, or three of nine, show their blocks slowly, or others than
// those, and claim the highest height with every message.
//
// Promise 24.
func TestLiarsDoNotHoldUpCatchingUp(t *testing.T) {
	h := newHistory("a")
	// Each liar costs a patience once, however long the history is, and the patience may double. So
	// the history takes longer than that of three liars who are all asked first.
	h.grow(1199)
	last := uint64(len(h.blocks) - 1)
	catchUp := func(t *testing.T, c *crowd, liars, honest string) (took time.Duration) {
		synctest.Test(t, func(t *testing.T) {
			c.archive = archive{blocks: h.blocks[1:]}
			n := start(t, h, c, true)
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			for _, l := range liars {
				n.Hint(1<<40, public(l)) // it is the first to be asked
				go func() {
					for wait.For(ctx, 20*time.Millisecond) == nil {
						n.Hint(1<<40, public(l))
					}
				}()
			}
			synctest.Wait()
			began := time.Now()
			for _, l := range honest {
				n.Heard(public(l), last+1)
				n.Hint(last, public(l))
			}
			if err := n.ledger.Wait(t.Context(), last); err != nil {
				t.Fatal(err)
			}
			took = time.Since(began)
			if len(n.contradictions) > 0 {
				t.Error(<-n.contradictions)
			}
		})
		return took
	}
	always := func(d time.Duration) func(uint64) time.Duration { return func(uint64) time.Duration { return d } }
	shows := func(alter func(*chain.FinalBlock)) func(*chain.FinalBlock) *chain.FinalBlock {
		return func(f *chain.FinalBlock) *chain.FinalBlock {
			f2 := *f
			alter(&f2)
			return &f2
		}
	}
	for _, among := range []struct{ liars, honest string }{{"l", "pq"}, {"lmn", "pqrstu"}} {
		alone := catchUp(t, new(crowd), "", among.honest)
		for _, c := range []struct {
			name  string
			takes func(uint64) time.Duration
			shows func(*chain.FinalBlock) *chain.FinalBlock
		}{
			{"a block each 28 s", always(28 * time.Second), nil},
			{"nothing", always(time.Hour), nil},
			{"64 blocks a second", always(time.Second / 64), nil},
			{"a block just before the patience is over", always(firstPatience - time.Millisecond), nil},
			{"the first blocks fast, then none", func(height uint64) time.Duration {
				if height%100 < 90 {
					return 0
				}
				return time.Hour
			}, nil},
			{"forged signatures", always(0), shows(func(f *chain.FinalBlock) {
				f.Certificate.Votes = []chain.VoteSignature{{Signature: chain.Signature{1}}}
			})},
			{"other heights", always(0), shows(func(f *chain.FinalBlock) { f.Header.Height++ })},
		} {
			t.Run(among.liars+": "+c.name, func(t *testing.T) {
				crowd := &crowd{
					takes: map[chain.PublicKey]func(uint64) time.Duration{},
					shows: map[chain.PublicKey]func(*chain.FinalBlock) *chain.FinalBlock{},
				}
				for _, l := range among.liars {
					crowd.takes[public(l)], crowd.shows[public(l)] = c.takes, c.shows
				}
				took := catchUp(t, crowd, among.liars, among.honest)
				if took > 2*alone {
					t.Errorf("back after %v; without liars after %v", took, alone)
				}
			})
		}
	}
}

// A node arrives while one peer serves the chain, whatever the others do: through changes of the
// validator set, and with liars that change their ways from block to block.
//
// Promise 24.
func TestANodeArrivesWhateverThePeersDo(t *testing.T) {
	for seed := range uint64(12) {
		rng := rand.New(rand.NewPCG(seed, 0))
		h := newHistory("abc")
		for len(h.blocks) < 200 {
			if rng.IntN(40) == 0 {
				h.change([]string{"bca", "abc", "cab"}[rng.IntN(3)])
			}
			h.grow(1)
		}
		last := uint64(len(h.blocks) - 1)
		synctest.Test(t, func(t *testing.T) {
			c := &crowd{
				archive: archive{blocks: h.blocks[1:]}, takes: map[chain.PublicKey]func(uint64) time.Duration{},
				shows: map[chain.PublicKey]func(*chain.FinalBlock) *chain.FinalBlock{},
			}
			n := start(t, h, c, true)
			honest, liars := "pqrs"[:1+rng.IntN(4)], "lmn"[:rng.IntN(4)]
			var mu sync.Mutex
			roll := func(n int) int { mu.Lock(); defer mu.Unlock(); return rng.IntN(n) }
			for _, l := range liars {
				c.takes[public(l)] = func(uint64) time.Duration {
					return []time.Duration{0, 0, 0, time.Millisecond, time.Second, time.Hour}[roll(6)]
				}
				c.shows[public(l)] = func(f *chain.FinalBlock) *chain.FinalBlock {
					f2 := *f
					switch roll(8) {
					case 0:
						f2.Certificate.Votes = f.Certificate.Votes[:1]
					case 1:
						f2.Header.Height++
					case 2:
						f2.Header.ValidatorsHash = h.sets[0].Set().Hash()
					case 3:
						f2.Signature[0]++
					case 4:
						f2.Body = make([]chain.BatchRef, 9)
					}
					return &f2
				}
			}
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			var claims sync.WaitGroup
			defer claims.Wait()
			claims.Go(func() {
				for wait.For(ctx, 100*time.Millisecond) == nil {
					for _, l := range liars {
						n.Hint(last+uint64(roll(100)), public(l))
					}
					for _, l := range honest {
						n.Heard(public(l), last+1)
						n.Hint(last, public(l))
					}
				}
			})
			began := time.Now()
			arriving, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if err := n.ledger.Wait(arriving, last); err != nil || len(n.contradictions) > 0 {
				t.Errorf("seed %d, %d honest peers and %d liars: height %d of %d after %v, %d contradictions\n%s", seed, len(honest), len(liars),
					n.ledger.Height(), last, time.Since(began), len(n.contradictions), n.log)
			}
			stop()
		})
	}
}

// A peer that is slow all the time is asked all the same if there is no other, and a slow network
// does not bring every block many times.
//
// Promise 24.
func TestSlowPeersAreBetterThanNone(t *testing.T) {
	h := newHistory("a")
	h.grow(60)
	for _, peers := range []string{"p", "pqr"} {
		synctest.Test(t, func(t *testing.T) {
			c := &crowd{archive: archive{blocks: h.blocks[1:]}, takes: map[chain.PublicKey]func(uint64) time.Duration{}}
			n := start(t, h, c, true)
			for _, l := range peers {
				c.takes[public(l)] = func(uint64) time.Duration { return 3 * time.Second }
				n.Heard(public(l), 61)
			}
			began := time.Now()
			n.Hint(60, public('p'))
			if err := n.ledger.Wait(t.Context(), 60); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(began); took > 60*3*time.Second+time.Second {
				t.Errorf("%d slow peers: 60 blocks after %v, and one peer alone takes 3 s for each", len(peers), took)
			}
			if got := c.sent.Load(); got > 60*3/2 {
				t.Errorf("%d slow peers: took %d blocks for 60 heights", len(peers), got)
			}
		})
	}
}

// A peer that claims blocks with every message and shows none is asked now and then, and takes one
// line of the log.
//
// Promise 50.
func TestAPeerThatClaimsAndShowsNothingIsHardlyAsked(t *testing.T) {
	h := newHistory("a")
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int64
		n := start(t, h, &counting{asked: &asked}, true)
		for range 60 * 50 {
			n.Hint(1<<40, public('l'))
			time.Sleep(20 * time.Millisecond)
		}
		synctest.Wait()
		if lines := strings.Count(n.log.String(), "\n"); lines != 1 || asked.Load() > 60*2 {
			t.Errorf("asked %d times in a minute, and logged %d lines:\n%s", asked.Load(), lines, n.log)
		}
	})
}

// counting has no blocks, and counts how often it is asked.
type counting struct {
	archive
	asked *atomic.Int64
}

func (c *counting) Blocks(context.Context, chain.PublicKey, uint64, int, func(*chain.FinalBlock) error) error {
	c.asked.Add(1)
	return nil
}

// A short way to go is asked of one peer, and none of its blocks comes twice.
func TestAShortWayIsAskedOfOnePeer(t *testing.T) {
	h := newHistory("a")
	h.grow(20)
	synctest.Test(t, func(t *testing.T) {
		c := &crowd{archive: archive{blocks: h.blocks[1:]}}
		n := start(t, h, c, true)
		for _, l := range "pqrs" {
			n.Heard(public(l), 21)
		}
		n.Hint(20, public('p'))
		if err := n.ledger.Wait(t.Context(), 20); err != nil {
			t.Fatal(err)
		}
		if got := c.sent.Load(); got != 20 {
			t.Errorf("took %d blocks for 20 heights", got)
		}
	})
}

// Blocks that come before their turn take a bounded amount of memory, also while the peer that was
// asked for the next one is silent, and all are used in the end.
//
// Promise 50.
func TestBlocksThatComeEarlyAreBounded(t *testing.T) {
	h := newHistory("a")
	for range 100 {
		f := h.block(nil)
		f.Messages = []chain.Message{{Data: make([]byte, 1<<20)}}
		f.Header.MessagesRoot, f.Header.MessagesCount = chain.MessagesRoot(f.Messages), 1
		h.sign(f)
		h.add(f)
	}
	synctest.Test(t, func(t *testing.T) {
		silent := public('l')
		goOn := make(chan struct{})
		c := &crowd{archive: archive{blocks: h.blocks[1:]}, takes: map[chain.PublicKey]func(uint64) time.Duration{}}
		n := start(t, h, c, true, func(cfg *Config) {
			cfg.WaitState = func(ctx context.Context, _ uint64) error {
				select {
				case <-goOn:
				case <-ctx.Done():
				}
				return ctx.Err()
			}
		})
		c.takes[silent] = func(uint64) time.Duration { return time.Hour }
		n.Hint(100, silent)
		synctest.Wait()
		for _, l := range "pqr" {
			n.Hint(100, public(l))
		}
		time.Sleep(time.Minute)
		// One of each call waits for room, and the next one for the state.
		if got := c.sent.Load(); got > maxAheadBytes>>20+maxCalls+2 {
			t.Errorf("%d blocks of 1 MiB are held", got)
		}
		close(goOn)
		if err := n.ledger.Wait(t.Context(), 100); err != nil {
			t.Fatal(err)
		}
		if got := c.sent.Load(); got > 100+2*firstSpan {
			t.Errorf("took %d blocks for 100 heights", got)
		}
	})
}
