package main

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/diseq/diseq/internal/clientcmd"
	"github.com/diseq/diseq/node"
	"github.com/diseq/diseq/node/identity"
	"github.com/diseq/diseq/node/store"
)

func TestTheFilesOfANetworkAreMadeOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "net")
	args := []string{"init-network", "--dir", dir, "--peer", "node{i}:7700"}
	first := succeeds(t, args...)
	genesis, err := clientcmd.ReadGenesis(filepath.Join(dir, "genesis.json"))
	must(t, err)
	if len(genesis.Validators) != 4 || genesis.Threshold != 3 || !strings.Contains(first, genesis.ChainID) {
		t.Errorf("%q: %+v", first, genesis)
	}
	for i, v := range genesis.Validators {
		d := devnet{dir: dir}
		c, err := node.LoadConfig(d.configPath(i))
		must(t, err)
		if c.Name != v.Name || c.Genesis != filepath.Join(dir, "genesis.json") || c.CreateVoteStore ||
			c.Listen != (node.Listen{Public: ":8080", Peer: ":7700", Operations: "127.0.0.1:9090"}) {
			t.Errorf("node %d: %+v", i, c)
		}
		id, err := identity.Load(c.Keys)
		must(t, err)
		if id.Public() != v.Validator {
			t.Errorf("node %d has the keys of %v, want those of %v", i, id.Public(), v.Validator)
		}
		if exists, err := store.VotesExist(c.Data); err != nil || !exists {
			t.Errorf("node %d: vote store %v, %v", i, exists, err)
		}
		peers, err := node.LoadPeers(c.Peers, v.PublicKey)
		must(t, err)
		if len(peers) != 3 || peers[0].Address == "node"+string(rune('0'+i))+":7700" {
			t.Errorf("node %d has peers %v", i, peers)
		}
	}

	before := content(t, dir)
	if again := succeeds(t, args...); again != first || !reflect.DeepEqual(content(t, dir), before) {
		t.Errorf("the second run changed the network: %q, then %q", first, again)
	}
	must(t, os.Remove(filepath.Join(dir, "peers.json")))
	must(t, os.Remove(filepath.Join(dir, "node2", "node.yaml")))
	succeeds(t, args...)
	if !reflect.DeepEqual(content(t, dir), before) {
		t.Error("what was missing was not completed as it was")
	}
}

func TestANetworkWithoutItsGenesisIsNotStartedAfresh(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "net")
	args := []string{"init-network", "--dir", dir, "--peer", "node{i}:7700"}
	succeeds(t, args...)
	genesis, err := clientcmd.ReadGenesis(filepath.Join(dir, "genesis.json"))
	must(t, err)
	blocks, err := store.Open(filepath.Join(dir, "node1", "data"), genesis, store.Options{})
	must(t, err)
	must(t, blocks.Close())
	must(t, os.Remove(filepath.Join(dir, "genesis.json")))
	before := content(t, dir)
	_, err = prepared(t, dir, nil, nil)
	if err == nil || !strings.Contains(err.Error(), "put it back") {
		t.Errorf("a chain without its genesis document: %v", err)
	}
	if !reflect.DeepEqual(content(t, dir), before) {
		t.Error("something was changed")
	}
}

func TestWrongPlacementsAreRefusedAndLeaveNothingBehind(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "net")
	for _, tt := range []struct {
		want string
		args []string
	}{
		{"--dir is required", nil},
		{"want host:port with {i}", []string{"--dir", dir}},
		{"want host:port with {i}", []string{"--dir", dir, "--peer", "node{i}"}},
		{"want host:port with {i}", []string{"--dir", dir, "--peer", ":7700"}},
		{"validators 0 and 1 would have the same address", []string{"--dir", dir, "--peer", "node:7700"}},
		{"listen.public", []string{"--dir", dir, "--peer", "node{i}:7700", "--public", "8080"}},
		{"is taken by", []string{"--dir", dir, "--peer", "node{i}:7700", "--operations", ":7700"}},
		{"--owner", []string{"--dir", dir, "--peer", "node{i}:7700", "--owner", "nonroot"}},
		{"--owner", []string{"--dir", dir, "--peer", "node{i}:7700", "--owner", "65532"}},
		{"threshold", []string{"--dir", dir, "--peer", "node{i}:7700", "--threshold", "2"}},
		{"--validators 0", []string{"--dir", dir, "--peer", "node{i}:7700", "--validators", "0"}},
	} {
		fails(t, clientcmd.ExitUsage, tt.want, append([]string{"init-network"}, tt.args...)...)
		if left := leftIn(t, dir); left > 0 {
			t.Fatalf("%q left %d files behind", tt.args, left)
		}
	}
}

// leftIn counts the files under a directory that need not exist.
func leftIn(t *testing.T, dir string) int {
	t.Helper()
	if _, err := os.Lstat(dir); os.IsNotExist(err) {
		return 0
	}
	return len(content(t, dir))
}
