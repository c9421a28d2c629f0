package node

import (
	"strings"
	"testing"
	"time"
)

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
