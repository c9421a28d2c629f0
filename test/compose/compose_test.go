// Package compose runs compose.yaml on a Docker engine, from an image that hack/image made, and
// tests the promises of that file: four nodes on 8080 to 8083 that agree, keys that only their node
// sees, a chain that outlives its containers.
//
// `make compose-test` runs it. That target starts an engine if none answers, and makes the image
// and docker compose. Without them the tests fail; they skip nothing.
package compose

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/diseq/diseq/client"
	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/test/system"
)

// soon bounds the wait for anything that should take seconds.
const soon = 2 * time.Minute

// project differs from the project of a person who uses compose.yaml, but the ports are the same.
const project = "diseq-test"

// nodes are what compose.yaml publishes.
func nodes() []*system.Node {
	out := make([]*system.Node, 4)
	for i := range out {
		out[i] = &system.Node{Index: i, Name: fmt.Sprintf("node%d", i), URL: fmt.Sprintf("http://127.0.0.1:%d", 8080+i)}
	}
	return out
}

// output runs a command in the repository's root and returns what it printed.
func output(name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), soon)
	defer cancel()
	c := exec.CommandContext(ctx, name, args...)
	c.Dir = "../.."
	var stdout, stderr bytes.Buffer
	c.Stdout, c.Stderr = &stdout, &stderr
	if err := c.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, stderr.String())
	}
	return strings.TrimSpace(stdout.String()), nil
}

func docker(t *testing.T, args ...string) string {
	t.Helper()
	out, err := output("docker", args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// composed runs docker compose, the plugin's standalone form, on compose.yaml.
func composed(args ...string) (string, error) {
	program := os.Getenv("DOCKER_COMPOSE")
	if program == "" {
		return "", errors.New("DOCKER_COMPOSE does not name the program docker-compose: run make compose-test")
	}
	return output(program, append([]string{"--progress", "quiet", "-p", project}, args...)...)
}

func compose(t *testing.T, args ...string) string {
	t.Helper()
	out, err := composed(args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// A container is the part of docker inspect that these tests check.
type container struct {
	ID           string
	RestartCount int
	State        struct {
		Pid    int
		Status string
		Health struct{ Status string }
	}
	HostConfig struct {
		ReadonlyRootfs bool
		CapAdd         []string
		CapDrop        []string
		SecurityOpt    []string
		PortBindings   map[string][]struct{ HostIP, HostPort string }
	}
	Config struct{ User string }
	Mounts []struct{ Name, Destination string }
}

func inspect(t *testing.T, service string) container {
	t.Helper()
	var out []container
	id := compose(t, "ps", "--all", "--quiet", service)
	if err := json.Unmarshal([]byte(docker(t, "inspect", id)), &out); err != nil {
		t.Fatal(err)
	}
	return out[0]
}

func start(t *testing.T) {
	t.Helper()
	compose(t, "up", "--detach", "--wait", "--wait-timeout", "100", "--no-build")
}

// hashes returns the hash of each block that a node has.
func hashes(node *system.Node) (out []chain.Hash, err error) {
	var count int
	if err := node.Get("/get/height", &count); err != nil {
		return nil, err
	}
	for h := range count {
		var b client.Block
		if err := node.Get(fmt.Sprintf("/v1/blocks/%d?messages=false", h), &b); err != nil {
			return nil, err
		}
		out = append(out, b.HeaderHash)
	}
	return out, nil
}

// agree waits until every node continues the chain that is given, all alike, and returns it.
func agree(t *testing.T, from []chain.Hash) (reached []chain.Hash) {
	t.Helper()
	system.Eventually(t, soon, "all nodes have one chain", func() error {
		for i, n := range nodes() {
			have, err := hashes(n)
			if err != nil {
				return err
			}
			want := from
			if i > 0 {
				want = reached
			}
			for h := range min(len(have), len(want)) {
				if have[h] != want[h] {
					t.Fatalf("%s has block %v at height %d, want %v", n.Name, have[h], h, want[h])
				}
			}
			if len(have) < len(want) {
				return fmt.Errorf("%s has %d blocks, want %d", n.Name, len(have), len(want))
			}
			if i == 0 {
				reached = have
			}
		}
		return nil
	})
	return reached
}

// submit submits a message to a node, waits until it is final, and verifies its receipt with the
// genesis document alone.
func submit(t *testing.T, node *system.Node, genesis *chain.Genesis, message string) {
	t.Helper()
	system.Eventually(t, soon, fmt.Sprintf("%q is final at %s", message, node.Name), func() error {
		var answer struct{ Results []system.Result }
		if err := node.Post("/v1/messages?wait=final&timeout=5s", "application/octet-stream", []byte(message), &answer); err != nil {
			return err
		}
		if len(answer.Results) != 1 || answer.Results[0].Receipt == nil {
			return fmt.Errorf("answered %+v", answer)
		}
		if err := answer.Results[0].Receipt.Verify(genesis, 0); err != nil {
			t.Fatalf("receipt of %q: %v", message, err)
		}
		return nil
	})
}

func TestTheLocalNetworkOfComposeYAML(t *testing.T) {
	if _, err := output("docker", "version"); err != nil {
		t.Fatalf("no engine answers; run make compose-test: %v", err)
	}
	docker(t, "load", "--input", filepath.Join("bin", "images", "diseq.tar"))
	compose(t, "down", "--volumes") // the leftovers of a run that was cut off
	t.Cleanup(func() {
		if t.Failed() {
			logs, err := composed("logs", "--tail", "40")
			t.Logf("%s\n%v", logs, err)
		}
		if out, err := composed("down", "--volumes"); err != nil {
			t.Errorf("%s: %v", out, err)
		}
	})

	begun := time.Now()
	start(t)
	t.Logf("four healthy nodes after %.1f s", time.Since(begun).Seconds())
	var genesis chain.Genesis
	if err := nodes()[0].Get("/v1/genesis", &genesis); err != nil {
		t.Fatal(err)
	}

	t.Run("the flow of the proof of concept", func(t *testing.T) {
		system.ProofOfConceptFlow(t, nodes()[0], genesis.Threshold, soon)
	})
	t.Run("every node takes messages", func(t *testing.T) {
		for _, n := range nodes() {
			submit(t, n, &genesis, "through "+n.Name)
		}
	})
	t.Run("containers have what they need and no more", confined)
	t.Run("a second up changes nothing", func(t *testing.T) {
		before, chain := inspect(t, "node0"), agree(t, nil)
		start(t)
		if after := inspect(t, "node0"); after.ID != before.ID || after.State.Pid != before.State.Pid {
			t.Errorf("node0 was %+v and is %+v", before, after)
		}
		agree(t, chain)
	})
	t.Run("a node that is killed comes back", func(t *testing.T) { killed(t, &genesis) })
	t.Run("down and up continue the chain", func(t *testing.T) {
		chain := agree(t, nil)
		compose(t, "down")
		if left := docker(t, "ps", "--all", "--quiet", "--filter", "label=com.docker.compose.project="+project); left != "" {
			t.Errorf("containers left: %s", left)
		}
		start(t)
		agree(t, chain)
		submit(t, nodes()[3], &genesis, "after down and up")
		if now := agree(t, chain); len(now) <= len(chain) {
			t.Errorf("%d blocks, want more than %d", len(now), len(chain))
		}
	})
	t.Run("down with the volumes leaves nothing", func(t *testing.T) {
		compose(t, "down", "--volumes")
		for _, kind := range []string{"volume", "network"} {
			if left := docker(t, kind, "ls", "--quiet", "--filter", "label=com.docker.compose.project="+project); left != "" {
				t.Errorf("%ss left: %s", kind, left)
			}
		}
		start(t)
		var other chain.Genesis
		if err := nodes()[0].Get("/v1/genesis", &other); err != nil || other.ChainID == genesis.ChainID {
			t.Errorf("chain %q after %q: %v", other.ChainID, genesis.ChainID, err)
		}
	})
}

func confined(t *testing.T) {
	init := inspect(t, "init")
	if init.State.Status != "exited" {
		t.Errorf("init is %s", init.State.Status)
	}
	for i, n := range nodes() {
		c := inspect(t, n.Name)
		h := c.HostConfig
		if c.Config.User != "65532:65532" || !h.ReadonlyRootfs || len(h.CapAdd) != 0 || len(h.CapDrop) != 1 || len(h.SecurityOpt) != 1 {
			t.Errorf("%s: %+v", n.Name, c)
		}
		if c.State.Health.Status != "healthy" {
			t.Errorf("%s is %s", n.Name, c.State.Health.Status)
		}
		if len(h.PortBindings) != 1 || h.PortBindings["8080/tcp"][0].HostIP != "127.0.0.1" {
			t.Errorf("%s publishes %v", n.Name, h.PortBindings)
		}
		for _, m := range c.Mounts {
			if m.Name != project+"_network" && m.Name != fmt.Sprintf("%s_node%d", project, i) {
				t.Errorf("%s sees %s on %s", n.Name, m.Name, m.Destination)
			}
		}
	}
	// In the shared volume, the mount points of the other volumes belong to the engine.
	for _, c := range []string{"node0", "network"} {
		dir := docker(t, "volume", "inspect", "--format", "{{.Mountpoint}}", project+"_"+c)
		err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
			if err != nil || info.IsDir() && c == "network" {
				return err
			}
			owner := info.Sys().(*syscall.Stat_t)
			if owner.Uid != 65532 || owner.Gid != 65532 {
				t.Errorf("%s is of %d:%d", path, owner.Uid, owner.Gid)
			}
			if filepath.Ext(path) == ".key" && info.Mode().Perm() != 0o600 {
				t.Errorf("%s has mode %v", path, info.Mode())
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
}

// killed kills a node's process as a crash would. After docker kill, the engine would not start the
// container again.
func killed(t *testing.T, genesis *chain.Genesis) {
	before, chain := inspect(t, "node1"), agree(t, nil)
	if err := syscall.Kill(before.State.Pid, syscall.SIGKILL); err != nil {
		t.Fatalf("process %d of node1: %v", before.State.Pid, err)
	}
	submit(t, nodes()[2], genesis, "while node1 is away, or nearly")
	system.Eventually(t, soon, "node1 is healthy again", func() error {
		c := inspect(t, "node1")
		if c.RestartCount != before.RestartCount+1 || c.State.Pid == before.State.Pid || c.State.Health.Status != "healthy" {
			return fmt.Errorf("restarted %d times, %s, %s", c.RestartCount, c.State.Status, c.State.Health.Status)
		}
		return nil
	})
	agree(t, chain)

	compose(t, "kill", "node1") // and stays away
	submit(t, nodes()[3], genesis, "three of four go on")
	start(t)
	agree(t, chain)
	submit(t, nodes()[1], genesis, "node1 takes messages again")
}
