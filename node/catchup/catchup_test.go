package catchup

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/diseq/diseq/node/chain"
)

// As many validators as may lie do not take a node out of service; one more is honest.
//
// Promise 6.
func TestBehindIsWhatMoreSayThanMayLie(t *testing.T) {
	for _, c := range []struct {
		n, t   int
		delta  uint32
		claims []uint64
		behind uint64
	}{
		{4, 3, 0, []uint64{1000}, 0},
		{4, 3, 0, []uint64{1000, 30}, 20},
		{4, 3, 0, []uint64{1000, 30, 20}, 20},
		{4, 3, 0, []uint64{1000, 9, 9}, 0},
		{7, 5, 0, []uint64{1 << 63, 1000, 15, 12, 11, 10}, 5},
		{7, 5, 0, []uint64{1 << 63, 1000}, 0},
		{7, 5, 0, []uint64{1 << 63, 1000, 10, 9}, 0},
		{5, 3, 0, []uint64{1000, 12}, 2}, // none may lie, and one is taken to
		{5, 3, 100, []uint64{1000, 1000, 10, 10}, 0},
		{5, 3, 100, []uint64{1000, 1000, 14, 10}, 4},
		{4, 3, 100, []uint64{1000, 12}, 2}, // with two liars of four no height goes on anyway
		{1, 1, 0, nil, 0},
	} {
		set := &chain.ValidatorSet{Threshold: uint32(c.t), SynchronyDeltaMS: c.delta}
		for i := range c.n {
			set.Validators = append(set.Validators, chain.Validator{PublicKey: chain.PublicKey{byte(i)}})
		}
		claims := map[chain.PublicKey]uint64{{99}: 1 << 62} // no validator
		for i, h := range c.claims {
			claims[chain.PublicKey{byte(i + 1)}] = h
		}
		if got := behind(claims, set, 10); got != c.behind {
			t.Errorf("n=%d t=%d Delta %d ms, at 10 with claims %v: %d behind, want %d", c.n, c.t, c.delta, c.claims, got, c.behind)
		}
	}
}

// Promise 6.
func TestReadinessWaitsForTheWordOfOthersButNotForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		genesis := &chain.Genesis{Version: 1, ChainID: "catchup", Threshold: 3, Parameters: chain.DefaultParameters()}
		for i := range 4 {
			v := chain.Validator{PublicKey: chain.PublicKey{byte(i + 1)}}
			genesis.Validators = append(genesis.Validators, chain.NamedValidator{Validator: v})
		}
		h := &history{genesis: genesis}
		newCatchup := func() *Catchup { return start(t, h, &archive{}, false).Catchup }
		of := func(i int) chain.PublicKey { return genesis.Validators[i].PublicKey }

		c := newCatchup()
		c.LinkUp(of(1))
		synctest.Wait()
		if c.KnowsPeers() {
			t.Error("one answer is enough")
		}
		c.LinkUp(of(2))
		synctest.Wait()
		if !c.KnowsPeers() {
			t.Error("two answers are not enough")
		}

		c = newCatchup()
		time.Sleep(startPatience)
		if c.KnowsPeers() {
			t.Errorf("it waits for answers for less than %v", startPatience)
		}
		time.Sleep(time.Millisecond)
		if !c.KnowsPeers() {
			t.Errorf("it waits for answers for more than %v", startPatience)
		}

		c.Heard(of(1), 1000) // one alone may lie
		if c.Behind() != 0 {
			t.Errorf("%d heights behind by the claim of one, want 0", c.Behind())
		}
		c.Heard(of(2), 12)
		if c.Behind() != 11 {
			t.Errorf("%d heights behind, want 11", c.Behind())
		}
		c.disbelieve(of(2))
		if c.Behind() != 0 {
			t.Errorf("%d heights behind after a claim without blocks, want 0", c.Behind())
		}
	})
}
