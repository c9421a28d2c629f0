package catchup

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/diseq/diseq/node/chain"
)

// shelves are peers that answer a request for one block with whatever they have.
type shelves struct {
	Network
	order  []chain.PublicKey
	blocks map[chain.PublicKey]*chain.FinalBlock
}

func (s *shelves) Connected() []chain.PublicKey { return s.order }

func (s *shelves) Blocks(_ context.Context, from chain.PublicKey, _ uint64, _ int, yield func(*chain.FinalBlock) error) error {
	if f := s.blocks[from]; f != nil {
		return yield(f)
	}
	return nil
}

// A damaged block is fetched from the first peer whose block verifies by the set of its height: no
// peer's word counts.
func TestABlockIsFetchedFromWhicheverPeerShowsIt(t *testing.T) {
	h := newHistory("a")
	h.grow(6)
	h.change("b")
	h.grow(1)
	good := h.blocks[7]
	good.Body = make([]chain.BatchRef, 9) // that nothing binds
	unsigned, altered := *good, *good
	unsigned.Certificate.Votes = slices.Clone(good.Certificate.Votes)
	unsigned.Certificate.Votes[0].Signature[3] ^= 1
	altered.Messages = []chain.Message{{Data: []byte("another")}}
	peers := &shelves{blocks: map[chain.PublicKey]*chain.FinalBlock{{1}: &unsigned, {2}: &altered, {3}: h.blocks[8], {5}: good}}
	c := start(t, h, peers, false, func(c *Config) { c.Name = func(k chain.PublicKey) string { return string('a' + rune(k[0])) } })
	c.reach(t, h, 8)
	peers.order = []chain.PublicKey{{1}, {2}, {3}, {4}}
	var got *chain.FinalBlock
	use := func(f *chain.FinalBlock) error { got = f; return nil }
	err := c.Block(t.Context(), 7, use)
	if !errors.Is(err, ErrNoCopy) {
		t.Errorf("fetched from peers of which none has it: %v", err)
	}
	for _, name := range []string{"; b: ", "; c: ", "; d: ", "; e: "} {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("the error does not tell what peer %s answered: %v", name, err)
		}
	}
	peers.order = append(peers.order, chain.PublicKey{5})
	if err := c.Block(t.Context(), 7, use); err != nil || got.Hash() != good.Hash() || len(got.Body) > 0 {
		t.Errorf("fetched %v, %v", got, err)
	}
	if err := c.Block(t.Context(), 10, use); err == nil {
		t.Error("fetched a height of a set that is not known")
	}
	// A copy that is of no use to the caller is not the last word.
	peers.order, peers.blocks[chain.PublicKey{6}] = append(peers.order, chain.PublicKey{6}), good
	tried := 0
	err = c.Block(t.Context(), 7, func(*chain.FinalBlock) error { tried++; return errors.New("does not fit") })
	if !errors.Is(err, ErrNoCopy) || tried != 2 {
		t.Errorf("tried %d copies: %v", tried, err)
	}
}

// A peer that is silent when it is asked for a damaged block costs a moment.
func TestASilentPeerDoesNotHoldUpARepair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHistory("a")
		h.grow(3)
		c := &crowd{archive: archive{blocks: h.blocks[1:]}, takes: map[chain.PublicKey]func(uint64) time.Duration{
			public('p'): func(uint64) time.Duration { return time.Hour },
		}}
		c.connected = []chain.PublicKey{public('p'), public('q')}
		n := start(t, h, c, false)
		began := time.Now()
		err := n.Block(t.Context(), 1, func(*chain.FinalBlock) error { return nil })
		if took := time.Since(began); err != nil || took > 2*blockLead {
			t.Errorf("after %v: %v", took, err)
		}
	})
}
