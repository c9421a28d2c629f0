package catchup

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/diseq/diseq/node/chain"
)

// Only blocks that verify and follow the chain are handed over. A final block on another than this
// node's is a contradiction; a block that does not verify is the peer's fault.
//
// Promise 24.
func TestOnlyBlocksThatVerifyAndFollowAreHandedOver(t *testing.T) {
	h := newHistory("a")
	h.grow(2)
	one, two := h.blocks[1], h.blocks[2]
	altered := func(alter func(*chain.FinalBlock)) *chain.FinalBlock {
		f := *two
		f.Certificate.Votes = append([]chain.VoteSignature(nil), two.Certificate.Votes...)
		alter(&f)
		return &f
	}
	forged := altered(func(f *chain.FinalBlock) { f.Certificate.Votes[0].Signature[0]++ })
	elsewhere := altered(func(f *chain.FinalBlock) { f.Header.ParentHash = chain.Hash{1}; h.sign(f) })
	for _, c := range []struct {
		name          string
		blocks        []*chain.FinalBlock
		height        uint64
		contradiction bool
	}{
		{"two good blocks", []*chain.FinalBlock{one, two}, 2, false},
		{"a forged certificate", []*chain.FinalBlock{one, forged}, 1, false},
		{"a height left out", []*chain.FinalBlock{two}, 0, false},
		{"another block below", []*chain.FinalBlock{one, elsewhere}, 1, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := start(t, h, &archive{blocks: c.blocks}, true)
				peer := chain.PublicKey{9}
				n.Hint(2, peer)
				synctest.Wait()
				if n.ledger.Height() != c.height {
					t.Errorf("caught up to height %d, want %d", n.ledger.Height(), c.height)
				}
				if contradiction := len(n.contradictions) > 0; contradiction != c.contradiction {
					t.Errorf("a contradiction: %v, want %v", contradiction, c.contradiction)
				}
				believed := n.Final(peer) > 0
				if faultless := c.height == 2; believed != faultless {
					t.Errorf("the peer's claim is believed: %v, want %v", believed, faultless)
				}
			})
		})
	}
}

// A node that is several eras behind comes through all of them by one hint of a peer that it has
// never heard of: each block is verified by the set of its own height.
//
// Promise 24.
// Promise 72.
func TestANodeThatIsErasBehindArrives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHistory("abcd")
		h.grow(3)
		h.change("efgh") // all at once
		h.change("hgfe") // the same, in other places
		h.grow(300)      // more than one request asks for
		h.change("h")
		h.change("hijk")
		h.grow(1)
		n := start(t, h, &archive{blocks: h.blocks[1:]}, true)
		last := uint64(len(h.blocks) - 1)
		n.Hint(last, public('k'))
		synctest.Wait()
		if n.ledger.Height() != last || n.ledger.Sets().Open().Generation != 4 {
			t.Errorf("arrived at height %d in generation %d, want %d in 4", n.ledger.Height(), n.ledger.Sets().Open().Generation, last)
		}
		if len(n.contradictions) > 0 {
			t.Error(<-n.contradictions)
		}
		if n.Behind() != 0 {
			t.Errorf("%d heights behind at the end", n.Behind())
		}
	})
}

// A node whose set left long ago knows none of those that say how far they are. It is not ready
// while one of them shows blocks without end, and a claim alone changes nothing.
//
// Promise 6.
func TestANodeThatIsErasBehindIsNotReadyOnTheWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHistory("abc")
		h.change("def")
		h.grow(600)
		last := uint64(len(h.blocks) - 1)
		stop, goOn := make(chan struct{}, 1), make(chan struct{})
		calls := 0
		n := start(t, h, &archive{blocks: h.blocks[1:]}, true, func(c *Config) {
			c.WaitState = func(context.Context, uint64) error {
				if calls++; calls == 20 || calls == 257 {
					stop <- struct{}{}
					<-goOn
				}
				return nil
			}
		})
		n.Heard(public('d'), last+1)
		n.Heard(public('e'), last+1)
		n.Heard(public('f'), last+1)
		if by := n.Behind(); by != 0 {
			t.Errorf("%d heights behind by the word of strangers", by)
		}
		n.Hint(last, public('d'))
		for range 2 {
			<-stop
			synctest.Wait()
			if by := n.Behind(); by != last-n.ledger.Height() {
				t.Errorf("%d heights behind at height %d of %d", by, n.ledger.Height(), last)
			}
			goOn <- struct{}{}
		}
		synctest.Wait()
		if by := n.Behind(); by != 0 || n.ledger.Height() != last {
			t.Errorf("%d heights behind at height %d of %d", by, n.ledger.Height(), last)
		}
	})
}

// The set that a final block names for the next height follows from its change, which the sets up
// to that height allow. Another block is final by faulty signers: the node ends.
//
// Promise 8.
func TestAFinalBlockWithAnInvalidChangeIsAContradiction(t *testing.T) {
	for name, block := range map[string]func(h *history) *chain.FinalBlock{
		"a set without a change": func(h *history) *chain.FinalBlock {
			f := h.block(nil)
			f.Header.NextValidatorsHash = chain.Hash{1}
			h.sign(f)
			return f
		},
		"another set than the change": func(h *history) *chain.FinalBlock {
			f := h.block(h.next("ae"))
			f.Header.NextValidatorsHash = f.Header.ValidatorsHash
			h.sign(f)
			return f
		},
		"too few endorsements": func(h *history) *chain.FinalBlock {
			c := h.next("ae")
			c.Endorsements = c.Endorsements[:1]
			return h.block(c)
		},
		"a validator that had left": func(h *history) *chain.FinalBlock { return h.block(h.next("acd")) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHistory("abc")
				h.grow(2)
				h.change("ab")
				good := uint64(len(h.blocks) - 1)
				n := start(t, h, &archive{blocks: append(h.blocks[1:], block(h))}, true)
				n.Hint(9, public('b'))
				synctest.Wait()
				if n.ledger.Height() != good || len(n.contradictions) == 0 {
					t.Errorf("at height %d with %d contradictions, want %d and one", n.ledger.Height(), len(n.contradictions), good)
				}
			})
		})
	}
}

// Members of the era before sign nothing that counts at a height of the next one, whatever set the
// block names.
//
// Promise 10.
// Promise 72.
func TestACertificateOfTheEraBeforeDoesNotCount(t *testing.T) {
	for _, names := range []string{"its own set", "the set before"} {
		synctest.Test(t, func(t *testing.T) {
			h := newHistory("abc")
			h.change("abd")
			f := h.block(nil)
			h.sets = append(h.sets, h.sets[0]) // a, b and c sign
			if names == "the set before" {
				f.Header.ValidatorsHash = h.sets[0].Set().Hash()
			}
			h.sign(f)
			n := start(t, h, &archive{blocks: append(h.blocks[1:], f)}, true)
			n.Hint(2, public('c'))
			synctest.Wait()
			if n.ledger.Height() != 1 || len(n.contradictions) > 0 {
				t.Errorf("the block names %s: at height %d with %d contradictions", names, n.ledger.Height(), len(n.contradictions))
			}
		})
	}
}

// Keys of members that left can be stolen, and enough of them make blocks final that are on another
// chain. They cannot end a node that is below the checkpoint: the node goes on with another peer.
// The block that the checkpoint names is another matter: if its parent is not here, this node
// itself is on the wrong chain.
//
// Promise 8.
// Promise 71.
func TestThievesDoNotEndANodeBelowTheCheckpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHistory("abc")
		h.grow(9)
		h.change("de") // height 10
		h.grow(5)
		forged := *h.blocks[6]
		forged.Header.ParentHash = chain.Hash{1}
		h.sets = append(h.sets, h.sets[0])
		h.sign(&forged)
		thief, honest := public('c'), public('e')
		peers := &liars{archive{blocks: h.blocks[1:]}, map[chain.PublicKey][]*chain.FinalBlock{thief: {&forged}}}
		checkpoint := chain.Checkpoint{Height: 10, Hash: h.blocks[10].Hash()}
		n := start(t, h, peers, true, func(c *Config) { c.Checkpoint = func() chain.Checkpoint { return checkpoint } })
		n.reach(t, h, 5)
		n.Hint(100, thief)
		n.Hint(15, honest)
		time.Sleep(time.Minute) // the thief may be asked alone first, and a pause follows
		synctest.Wait()
		if n.ledger.Height() != 15 || len(n.contradictions) > 0 || n.Final(thief) != 0 {
			t.Errorf("at height %d with %d contradictions; the thief is believed to be at %d", n.ledger.Height(), len(n.contradictions), n.Final(thief))
		}

		n = start(t, h, peers, true, func(c *Config) { c.Checkpoint = func() chain.Checkpoint { return checkpoint } })
		checkpoint = chain.Checkpoint{Height: 6, Hash: forged.Hash()}
		n.reach(t, h, 5)
		n.Hint(100, thief)
		synctest.Wait()
		if len(n.contradictions) != 1 {
			t.Error("the parent of the checkpoint is another block, and the node goes on")
		}
	})
}

// liars are peers of which some show blocks of their own.
type liars struct {
	archive
	blocks map[chain.PublicKey][]*chain.FinalBlock
}

func (l *liars) Blocks(ctx context.Context, from chain.PublicKey, first uint64, count int, yield func(*chain.FinalBlock) error) error {
	if own, ok := l.blocks[from]; ok {
		return (&archive{blocks: own}).Blocks(ctx, from, first, count, yield)
	}
	return l.archive.Blocks(ctx, from, first, count, yield)
}
