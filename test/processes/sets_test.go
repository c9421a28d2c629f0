package processes

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
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

// command runs diseq and returns what it printed.
func command(t *testing.T, args ...string) string {
	t.Helper()
	out, ok := system.Run(args...)
	if !ok {
		t.Fatalf("diseq %v: %s", args, out)
	}
	return out
}

// Two organisations, each with a peers file of its own, first declare different targets, and
// nothing changes. Then they agree on a newcomer that starts long after it came into the set. A
// validator that loses its data while the set changes again takes part afterwards. The commands are
// those of docs/operations.md.
//
// Promise 69.
func TestTwoOrganisationsChangeTheValidatorsByHand(t *testing.T) {
	n := system.Start(t, system.Options{})
	h := n.Watch()
	genesis, ours, theirs := filepath.Join(n.Dir, "genesis.json"), filepath.Join(n.Dir, "peers.json"), filepath.Join(n.Dir, "theirs.json")
	late, address := n.Newcomer("v4")
	addPeer(t, ours, late, address)
	copied, err := os.ReadFile(ours)
	must(t, err)
	must(t, os.WriteFile(theirs, copied, 0o600))
	for _, node := range n.Nodes[2:4] {
		config, err := os.ReadFile(node.ConfigPath())
		must(t, err)
		must(t, os.WriteFile(node.ConfigPath(), bytes.Replace(config, []byte("../peers.json"), []byte("../theirs.json"), 1), 0o600))
		node.Kill()
		node.Start()
		node.AwaitReady(soon)
	}
	load := system.Load{Nodes: n.Nodes[:3], Rate: 300, Batch: 1, Size: 64}.Start(t)
	target := func(what, peers string, node *system.Node, args ...string) string {
		t.Helper()
		return command(t, append([]string{"target", what, "--genesis", genesis, "--peers", peers, "-u", node.URL}, args...)...)
	}
	public := filepath.Join(late.Dir, "keys", "public.json")
	inForce := func(generation uint32, nodes ...*system.Node) {
		t.Helper()
		for _, node := range nodes {
			system.Eventually(t, soon, fmt.Sprintf("generation %d is in force for %s", generation, node.Name), func() error {
				if s, err := node.Status(); err != nil || s.Generation != generation {
					return fmt.Errorf("%+v, %w", s, errors.Join(err, errNotYet))
				}
				return nil
			})
		}
		target("clear", ours, nodes[0])
		target("clear", theirs, nodes[0])
	}

	target("make", ours, n.Nodes[0], "--add", public, "--threshold", "4")
	target("make", theirs, n.Nodes[2], "--threshold", "4")
	system.Eventually(t, soon, "both see that they disagree", func() error {
		a, b := target("check", ours, n.Nodes[0]), target("check", theirs, n.Nodes[3])
		if !strings.Contains(a, "2 of 3 needed; by v0, v1; another target by v2, v3\n") || !strings.Contains(b, "2 of 3 needed; by v2, v3; another target by v0, v1\n") {
			return fmt.Errorf("%w: %s%s", errNotYet, a, b)
		}
		return nil
	})
	h.Await(t, soon, h.Highest()+20, n.Nodes[:4]...)
	for _, node := range n.Nodes[:4] {
		if s, err := node.Status(); err != nil || s.Generation != 0 {
			t.Errorf("two of four wanted it, and %s is %+v, %v", node.Name, s, err)
		}
	}

	// They agree. Four of the next five are there: the newcomer need not be.
	target("make", theirs, n.Nodes[2], "--add", public, "--threshold", "4")
	inForce(1, n.Nodes[:4]...)
	h.Await(t, soon, h.Highest()+300, n.Nodes[:4]...)
	late.Start()
	started := h.Highest()
	h.Watch(late)
	awaitRole(t, late, "validator")
	t.Logf("the newcomer starts at height %d, its first vote above is in block %d", started, awaitVote(t, n.Nodes[0], started, 4))

	// The set changes while a validator is away, and its volume is lost.
	away := n.Nodes[3]
	away.Kill()
	must(t, os.RemoveAll(away.DataDir()))
	up := except(n.Nodes, away)
	target("make", ours, n.Nodes[0], "--threshold", "majority")
	target("make", theirs, n.Nodes[2], "--threshold", "majority")
	inForce(2, up...)
	changed := h.Highest()
	away.Start()
	awaitRole(t, away, "validator")
	t.Logf("it comes back above height %d, its first vote is in block %d", changed, awaitVote(t, n.Nodes[0], changed, 3))
	load.Stop()

	checkpoint := filepath.Join(t.TempDir(), "checkpoint.json")
	command(t, "checkpoint", "--genesis", genesis, "-u", away.URL, "-o", checkpoint)
	receipt, err := late.Finalize("a receipt for readers with a checkpoint")
	must(t, err)
	system.Eventually(t, soon, away.Name+" has the block, too", func() error {
		s, err := away.Status()
		if err == nil && s.Height < receipt.Height {
			err = errNotYet
		}
		return err
	})
	short := filepath.Join(t.TempDir(), "receipt.json")
	must(t, os.WriteFile(short, []byte(command(t, "get", "receipt", receipt.Message.ID.String(), "--from", "2", "-u", away.URL)), 0o600))
	if out := command(t, "verify", short, "--checkpoint", checkpoint); !strings.Contains(out, "of 5 validators (threshold 3)") || len(receipt.ValidatorChanges) != 2 {
		t.Errorf("%s, %d changes in full", out, len(receipt.ValidatorChanges))
	}
	n.Audit(h, load)
}

// addPeer adds a node to a peers file, as people do with an editor.
func addPeer(t *testing.T, path string, node *system.Node, address string) {
	t.Helper()
	var public, file map[string]any
	for from, to := range map[string]*map[string]any{filepath.Join(node.Dir, "keys", "public.json"): &public, path: &file} {
		raw, err := os.ReadFile(from)
		must(t, err)
		must(t, json.Unmarshal(raw, to))
	}
	file["peers"] = append(file["peers"].([]any), map[string]any{"name": node.Name, "public_key": public["public_key"], "address": address})
	raw, err := json.Marshal(file)
	must(t, err)
	must(t, os.WriteFile(path, raw, 0o600))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
