package node

import (
	"strings"
	"testing"
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
	n := newTestNetwork(t, 4, 3).openNode(0)
	b := &backend{n}
	peers := n.set.Validators[1:]
	wantNotReady := func(want string) {
		t.Helper()
		if err := b.Ready(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("readiness: %v, want an error with %q", err, want)
		}
	}
	wantReady := func() {
		t.Helper()
		if err := b.Ready(); err != nil {
			t.Error(err)
		}
	}

	n.sync.started = time.Now().Add(time.Hour) // no time passes here
	wantNotReady("just started")
	n.sync.asked[peers[0].PublicKey] = true
	wantNotReady("just started")
	n.sync.asked[peers[1].PublicKey] = true
	wantReady()
	clear(n.sync.asked)
	n.sync.started = time.Now().Add(-settling - time.Second)
	wantReady()

	n.sync.heard(peers[0].PublicKey, 1000) // one alone may lie
	wantReady()
	n.sync.heard(peers[1].PublicKey, 12)
	wantNotReady("11 heights behind")
	n.sync.forget(peers[1].PublicKey) // it had nothing to show
	wantReady()
}
