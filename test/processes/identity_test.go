package processes

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/diseq/diseq/client"
	"github.com/diseq/diseq/test/system"
)

// voters returns, for each height from one to another, whether the finalization that node holds has
// validator's vote.
func voters(t *testing.T, node *system.Node, from, to uint64, validator int) []bool {
	t.Helper()
	var out []bool
	err := node.Blocks(t.Context(), from, false, func(b *client.Block) bool {
		voted := false
		for _, v := range b.Certificate.Votes {
			voted = voted || v.Validator == uint32(validator)
		}
		out = append(out, voted)
		return b.Header.Height < to
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// awaitVote waits for a final block above from in whose certificate validator has a vote, and
// returns its height.
func awaitVote(t *testing.T, node *system.Node, from uint64, validator int) uint64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	var height uint64
	err := node.Blocks(ctx, from+1, false, func(b *client.Block) bool {
		for _, v := range b.Certificate.Votes {
			if v.Validator == uint32(validator) {
				height = b.Header.Height
			}
		}
		return height == 0
	})
	if err != nil {
		t.Fatalf("validator %d has no vote above height %d: %v", validator, from, err)
	}
	return height
}

func awaitRole(t *testing.T, node *system.Node, role string) {
	t.Helper()
	system.Eventually(t, soon, node.Name+" is "+role, func() error {
		s, err := node.Status()
		if err == nil && s.Role != role {
			err = fmt.Errorf("its role is %q at height %d", s.Role, s.Height)
		}
		return err
	})
}

func TestFourthValidatorThatFirstStartsAfterAThousandBlocksJoinsAndVotes(t *testing.T) {
	n := system.Start(t, system.Options{Start: 3})
	h := n.Watch()
	late := n.Nodes[3]
	// Blocks follow one another at their shortest interval as long as there is something to order.
	load := system.Load{Nodes: n.Nodes[:3], Rate: 300, Batch: 1, Size: 64}.Start(t)
	h.Await(t, 10*time.Minute, 1000, n.Nodes[:3]...)
	late.Start()
	joined := h.Highest()
	h.Await(t, soon, joined, late)
	awaitRole(t, late, "validator")
	voted := awaitVote(t, n.Nodes[0], joined, late.Index)
	load.Stop()
	r := n.Audit(h, load)
	if slices.Contains(voters(t, n.Nodes[0], 1, 1000, late.Index), true) {
		t.Errorf("%s has votes among the first 1000 blocks: it did not run then", late.Name)
	}
	t.Logf("started at height %d, its first vote above is in block %d; %d blocks", joined, voted, r.Height)
}

// Promise 16.
func TestWipedValidatorRejoinsAndVotesFromTheThirdHeightOn(t *testing.T) {
	n := system.Start(t, system.Options{})
	h := n.Watch()
	load := system.Load{Nodes: n.Nodes, Rate: 500, Batch: 5, Size: 100}.Start(t)
	awaitRandomMoment(t, h, 40, n.Nodes...)
	load.Stop()
	wiped := n.Nodes[2]
	n.Audit(h, load)
	// The network is idle then: nothing that the node has voted for is still to become final.
	before := h.AwaitQuiet(t, soon, time.Second)
	wiped.Kill()
	if err := os.RemoveAll(wiped.DataDir()); err != nil {
		t.Fatal(err)
	}
	wiped.Start()
	// Nothing is ordered: there is no third height above, and it stays what it is. Its vote store
	// comes back at that height.
	awaitRole(t, wiped, "rejoining")
	system.Eventually(t, soon, "it has all blocks", func() error {
		s, err := wiped.Status()
		if err == nil && s.Height < before {
			err = fmt.Errorf("it is at height %d of %d", s.Height, before)
		}
		return err
	})
	awaitRole(t, wiped, "rejoining")
	if _, err := os.Stat(filepath.Join(wiped.DataDir(), "votes.db")); err == nil {
		t.Error("it has a vote store, and did not come to the height from which it may vote")
	}
	load2 := system.Load{Nodes: n.Nodes, Rate: 500, Batch: 5, Size: 100}.Start(t)
	voted := awaitVote(t, n.Nodes[0], before, wiped.Index)
	awaitRole(t, wiped, "validator")
	load2.Stop()
	n.Audit(h, load, load2)
	if voted < before+3 {
		t.Errorf("wiped at height %d, it votes at %d: below the third above", before, voted)
	}
	t.Logf("wiped at height %d, its first vote above is in block %d", before, voted)
}
