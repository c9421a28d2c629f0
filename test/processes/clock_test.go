package processes

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/diseq/diseq/client"
	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/identity"
	"github.com/diseq/diseq/node/store"
	"github.com/diseq/diseq/test/system"
)

// rewriteGenesis gives a network that does not run another genesis document, with vote stores that
// are new for it: no node has signed anything on the new chain.
func rewriteGenesis(t *testing.T, n *system.Network, change func(*chain.Genesis)) {
	t.Helper()
	change(n.Genesis)
	b, err := json.Marshal(n.Genesis)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(n.Dir, "genesis.json"), b, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, v := range n.Nodes {
		identity, err := identity.Load(filepath.Join(v.Dir, "keys"))
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.RemoveAll(v.DataDir()), store.CreateVotes(v.DataDir(), identity.Public().PublicKey)); err != nil {
			t.Fatal(err)
		}
	}
}

// A chain whose newest block is an hour ahead of every clock is what a network finds whose clocks
// were set back.
//
// Promise 35.
func TestNetworkGoesOnWhenItsClocksAreBehindItsChain(t *testing.T) {
	n := system.Start(t, system.Options{})
	n.Kill(n.Nodes...)
	ahead := time.Now().Add(time.Hour)
	rewriteGenesis(t, n, func(g *chain.Genesis) { g.TimeMS = uint64(ahead.UnixMilli()) })
	for _, v := range n.Nodes {
		v.Start()
	}
	for _, v := range n.Nodes {
		v.AwaitReady(soon)
	}
	h := n.Watch()
	load := system.Load{Nodes: n.Nodes, Rate: 200, Batch: 2, Size: 100}.Start(t)
	h.Await(t, soon, 20, n.Nodes...)
	// A clock behind the chain is seen where an operator looks.
	at, err := n.Nodes[0].Metric("diseq_block_timestamp_seconds ")
	if by := at - float64(time.Now().Unix()); err != nil || by < (30*time.Minute).Seconds() {
		t.Errorf("diseq_block_timestamp_seconds is %v s ahead of the time: %v; the last final block is an hour ahead", by, err)
	}
	n.Kill(n.Nodes[1])
	n.Nodes[1].Start()
	h.Await(t, soon, h.Highest()+5, n.Nodes...)
	load.Stop()
	r := n.Audit(h, load)
	// The chain's time is no faster than it must be: it waits for the clocks.
	last := n.Genesis.TimeMS
	err = n.Nodes[0].Blocks(t.Context(), 1, false, func(b *client.Block) bool {
		if b.Header.Timestamp != last+1 {
			t.Errorf("block %d has time %d, the block below %d: it runs away from the clocks", b.Header.Height, b.Header.Timestamp, last)
		}
		last = b.Header.Timestamp
		return b.Header.Height < r.Height
	})
	if err != nil {
		t.Fatal(err)
	}
}
