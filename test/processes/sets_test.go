package processes

import (
	"math/rand/v2"
	"testing"

	"github.com/diseq/diseq/test/system"
)

// reshape changes the validators with diseq devnet while it kills random nodes: newcomers, leavers,
// and those that lead. Each is started again at once: where all validators are needed, none may
// stay away.
func reshape(t *testing.T, n *system.Network, h *system.History, args ...string) (kills int) {
	t.Helper()
	ended := n.Reshape(args...)
	for !ended() {
		h.Watch(n.Refresh()...)
		if victim := n.Nodes[rand.IntN(len(n.Nodes))]; victim.KillIfRunning() {
			victim.Start()
			kills++
		}
		next := h.Highest() + 3 + rand.Uint64N(40)
		system.Eventually(t, soon, "some blocks are made, or the change is done", func() error {
			if h.Highest() < next && !ended() {
				return errNotYet
			}
			return nil
		})
	}
	h.Watch(n.Refresh()...)
	return kills
}

// The network grows, replaces validators, shrinks and is replaced as a whole, under load, while its
// nodes are killed. Nothing that was accepted is lost, by whomever it was accepted.
//
// Promise 73.
func TestTheValidatorsChangeUnderLoadWhileNodesAreKilled(t *testing.T) {
	n := system.Start(t, system.Options{})
	h := n.Watch()
	first := n.Nodes[0]
	var loads []*system.Ledger
	for step, c := range []struct {
		args []string
		want int
	}{
		{[]string{"add", "--count", "3"}, 7}, {[]string{"replace", "v1"}, 7},
		{[]string{"remove", "v0", "v2", "v3", "v4"}, 3}, {[]string{"replace", "v5", "v6", "v7"}, 3},
	} {
		load := system.Load{Nodes: n.Nodes, Rate: 500, Batch: 5, Size: 250, Clients: 16}.Start(t)
		loads = append(loads, load)
		kills := reshape(t, n, h, c.args...)
		if len(n.Nodes) != c.want {
			t.Fatalf("%v: %d nodes are left, want %d", c.args, len(n.Nodes), c.want)
		}
		load.Stop()
		after := system.Load{Nodes: n.Nodes, Rate: 500, Batch: 5, Size: 250}.Start(t)
		loads = append(loads, after)
		h.Await(t, soon, h.Highest()+20, n.Nodes...)
		after.Stop()
		for _, node := range n.Nodes {
			s, err := node.Status()
			if err != nil || s.Generation != uint32(step+1) || s.Validators != c.want || s.Role != "validator" {
				t.Errorf("%v: %s is %+v, %v", c.args, node.Name, s, err)
			}
		}
		t.Logf("%v: %d nodes killed; %v", c.args, kills, load)
	}
	if first.Running() {
		t.Errorf("%s has left and runs still", first.Name)
	}
	order := n.Audit(h, loads...)
	t.Logf("%d blocks, finalize votes %v", order.Height, order.Votes)
}
