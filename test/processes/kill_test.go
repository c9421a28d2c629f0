package processes

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/diseq/diseq/test/system"
)

// Promise 5.
func TestOthersGoOnWhenOneIsKilledAndItCatchesUp(t *testing.T) {
	n := system.Start(t, system.Options{})
	h := n.Watch()
	load := system.Load{Nodes: n.Nodes, Rate: 2000, Batch: 20, Size: 250}.Start(t)
	for range rounds(t, 4) {
		awaitRandomMoment(t, h, 60, n.Nodes...)
		victim := n.Nodes[rand.IntN(len(n.Nodes))]
		victim.Kill()
		awaitRandomMoment(t, h, 60, except(n.Nodes, victim)...)
		t.Logf("%s killed at height %d, started again at %d", victim.Name, h.Height(victim), h.Highest())
		victim.Start()
		h.Await(t, soon, h.Highest(), victim)
	}
	load.Stop()
	r := n.Audit(h, load)
	t.Logf("%v; all final in %d blocks, finalize votes %v", load, r.Height, r.Votes)
}

// Promise 18.
func TestNothingAcceptedIsLostWhenAllAreKilledAndOneStaysDead(t *testing.T) {
	n := system.Start(t, system.Options{})
	h := n.Watch()
	var loads []*system.Ledger
	for range rounds(t, 4) {
		load := system.Load{Nodes: n.Nodes, Rate: 2000, Batch: 20, Size: 250}.Start(t)
		loads = append(loads, load)
		awaitRandomMoment(t, h, 60, n.Nodes...)
		n.Kill(n.Nodes...)
		load.Stop()
		dead := n.Nodes[rand.IntN(len(n.Nodes))]
		for _, node := range except(n.Nodes, dead) {
			node.Start()
		}
		r := n.Audit(h, loads...)
		t.Logf("all killed, %s stays dead: %v; all final at height %d", dead.Name, load, r.Height)
		dead.Start()
		dead.AwaitReady(soon)
		finalize(t, dead, "the dead one is back: "+t.Name()+load.String())
	}
	n.Audit(h, loads...)
}

// Promise 13.
func TestAllKilledInTheMiddleOfTheirRecovery(t *testing.T) {
	n := system.Start(t, system.Options{})
	h := n.Watch()
	load := system.Load{Nodes: n.Nodes, Rate: 1000, Batch: 10, Size: 250}.Start(t)
	for range rounds(t, 3) {
		awaitRandomMoment(t, h, 40, n.Nodes...)
		n.Kill(n.Nodes...)
		for _, node := range n.Nodes {
			node.Start()
		}
		// One of them answers again: some are still replaying, some may be voting.
		n.Nodes[rand.IntN(len(n.Nodes))].AwaitReady(soon)
		n.Kill(n.Nodes...)
		for _, node := range n.Nodes {
			node.Start()
		}
	}
	h.Await(t, soon, h.Highest()+1, n.Nodes...)
	load.Stop()
	r := n.Audit(h, load)
	t.Logf("%v; all final in %d blocks", load, r.Height)
}

func TestFrozenValidatorsAreDoneWithoutAndTakenBack(t *testing.T) {
	n := system.Start(t, system.Options{})
	h := n.Watch()
	load := system.Load{Nodes: n.Nodes, Rate: 500, Batch: 5, Size: 250}.Start(t)
	for range rounds(t, 2) {
		awaitRandomMoment(t, h, 30, n.Nodes...)
		order := rand.Perm(len(n.Nodes))
		one, two := n.Nodes[order[0]], n.Nodes[order[1]]
		one.Freeze()
		awaitRandomMoment(t, h, 30, except(n.Nodes, one)...)
		// With two of four silent there is no quorum of three: nothing becomes final until one is
		// back.
		two.Freeze()
		stuck := h.AwaitQuiet(t, soon, time.Second)
		one.Thaw()
		h.Await(t, soon, stuck+5, except(n.Nodes, two)...)
		two.Thaw()
		h.Await(t, soon, h.Highest()+5, n.Nodes...)
	}
	load.Stop()
	n.Audit(h, load)
}
