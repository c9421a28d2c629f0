package node

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/diseq/diseq/node/server"
)

const testDelta = 150 * time.Millisecond

func newSynchronousNetwork(t *testing.T, n int, threshold uint32) *testNetwork {
	t.Helper()
	net := newTestNetwork(t, n, threshold)
	net.genesis.SynchronyDeltaMS = uint32(testDelta / time.Millisecond)
	writeJSON(t, net.configs[0].Genesis, net.genesis)
	return net
}

func (n *testNetwork) status(i int) server.Status {
	n.t.Helper()
	r, err := http.Get(n.urls[i] + "/v1/status")
	if err != nil {
		n.t.Fatal(err)
	}
	defer func() { _ = r.Body.Close() }()
	var s server.Status
	if err := json.NewDecoder(r.Body).Decode(&s); err != nil {
		n.t.Fatal(err)
	}
	return s
}

func (n *testNetwork) healthy(i int) bool {
	s := n.status(i).Synchrony
	return s != nil && s.Healthy
}

// With the synchrony wait messages become final, each not before 2*Delta have passed, and with one
// validator less as well. Fewer than the threshold know that they cannot tell what the others say.
//
// Promise 1.
func TestTheSynchronyWaitTakesTwoDeltaAndNoMore(t *testing.T) {
	n := newSynchronousNetwork(t, 4, 3)
	for i := range 4 {
		n.start(i)
	}
	n.eventually("all are healthy", func() bool { return n.healthy(0) && n.healthy(1) && n.healthy(2) && n.healthy(3) })
	if s := n.status(0).Synchrony; s.DeltaMS != n.genesis.SynchronyDeltaMS {
		t.Errorf("delta_ms %d, want %d", s.DeltaMS, n.genesis.SynchronyDeltaMS)
	}
	for _, data := range []string{"one", "two", "three"} {
		began := time.Now()
		if err := n.submit(0, data).Verify(n.genesis, 0); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took < 2*testDelta {
			t.Errorf("%q is final after %v, want more than %v", data, took, 2*testDelta)
		}
	}
	n.stop(3)
	n.submit(0, "four")
	n.stop(2)
	n.eventually("two of four are not healthy", func() bool { return !n.healthy(0) && !n.healthy(1) })
	n.start(2)
	n.eventually("three are", func() bool { return n.healthy(0) && n.healthy(1) && n.healthy(2) })
	n.submit(1, "five")
}

// A node that hears the others again tells that it does not vote yet: not before 2*Delta have
// passed.
//
// Promise 60.
func TestANodeTellsWhetherItHasBeenHealthyForLongEnough(t *testing.T) {
	n := newSynchronousNetwork(t, 4, 3)
	n.start(0)
	n.start(1)
	if n.settled(0) {
		t.Error("settled with two of the three that it takes")
	}
	took := make(chan time.Duration, 1) // from when it was last seen unhealthy
	go func() {
		for unhealthy := time.Now(); t.Context().Err() == nil; {
			asked := time.Now()
			switch s := n.status(0).Synchrony; {
			case s.Settled:
				took <- time.Since(unhealthy)
				return
			case !s.Healthy:
				unhealthy = asked
			}
		}
	}()
	n.start(2)
	select {
	case took := <-took:
		if took <= 2*testDelta {
			t.Errorf("settled %v after it was unhealthy, want more than %v", took, 2*testDelta)
		}
	case <-time.After(patience):
		t.Fatal("never settled")
	}
	n.stop(2)
	n.eventually("two of four are not settled", func() bool { return !n.settled(0) && !n.settled(1) })
}

func (n *testNetwork) settled(i int) bool { return n.status(i).Synchrony.Settled }

func TestOneValidatorWaitsForNobody(t *testing.T) {
	n := newSynchronousNetwork(t, 1, 1)
	n.start(0)
	if err := n.submit(0, "one").Verify(n.genesis, 0); err != nil {
		t.Fatal(err)
	}
}
