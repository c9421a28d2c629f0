package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/diseq/diseq/internal/clientcmd"
	"github.com/diseq/diseq/node"
	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/identity"
	"github.com/diseq/diseq/node/peersfile"
	"github.com/diseq/diseq/node/store"
)

func printed(format string, v any) string { return fmt.Sprintf(format, v) }

// prepared returns a network's files as `devnet` makes them, with nothing started.
func prepared(t *testing.T, dir string, given map[string]bool, change func(*devnet)) (*devnet, error) {
	t.Helper()
	d := &devnet{
		validators: 4, threshold: 3, dir: dir, http: "127.0.0.1:18080", parameters: chain.DefaultParameters(),
		changed: func(flag string) bool { return given[flag] },
	}
	if change != nil {
		change(d)
	}
	return d, d.prepare(t.Context())
}

func TestADevnetIsMadeOnceAndContinued(t *testing.T) {
	dir := t.TempDir()
	first, err := prepared(t, dir, nil, nil)
	must(t, err)
	before := content(t, dir)
	again, err := prepared(t, dir, map[string]bool{"validators": true, "threshold": true}, nil)
	must(t, err)
	if !reflect.DeepEqual(again.genesis, first.genesis) || !reflect.DeepEqual(content(t, dir), before) {
		t.Error("the second start has another network")
	}
	for i, n := range again.nodes {
		c := n.config
		loaded, err := node.LoadConfig(again.configPath(i))
		must(t, err)
		if loaded.Data != filepath.Join(again.nodeDir(i), "data") || loaded.Listen != c.Listen || loaded.CreateVoteStore {
			t.Errorf("node %d: %+v", i, loaded)
		}
		if c.Listen.Public != fmt.Sprintf("127.0.0.1:%d", 18080+i) {
			t.Errorf("node %d serves on %s", i, c.Listen.Public)
		}
		peers, err := node.LoadPeers(loaded.Peers, first.genesis.Validators[i].PublicKey)
		must(t, err)
		if len(peers) != 3 {
			t.Errorf("node %d has %d peers, want 3", i, len(peers))
		}
	}
	// Flags left out agree with what is there.
	if _, err := prepared(t, dir, nil, func(d *devnet) { d.validators, d.threshold = 7, 5 }); err != nil {
		t.Error(err)
	}
	for flag, change := range map[string]func(*devnet){
		"validators": func(d *devnet) { d.validators = 7 }, "threshold": func(d *devnet) { d.threshold = 4 },
		"beacon-interval": func(d *devnet) { d.parameters.BeaconInterval = 1 },
	} {
		if _, err := prepared(t, dir, map[string]bool{flag: true}, change); err == nil || !strings.Contains(err.Error(), flag) {
			t.Errorf("another --%s: %v", flag, err)
		}
	}
	moved, err := prepared(t, dir, nil, func(d *devnet) { d.http = "127.0.0.1:19080" })
	must(t, err)
	if moved.nodes[1].config.Listen.Public != "127.0.0.1:19081" || moved.nodes[1].config.Listen.Peer != first.nodes[1].config.Listen.Peer {
		t.Errorf("moved to %+v", moved.nodes[1].config.Listen)
	}
}

func TestANetworkWhoseNodesRunKeepsItsAddresses(t *testing.T) {
	dir := t.TempDir()
	d, err := prepared(t, dir, nil, nil)
	must(t, err)
	running, err := store.Open(filepath.Join(d.nodeDir(2), "data"), d.genesis, store.Options{})
	must(t, err)
	before := content(t, dir)
	_, err = prepared(t, dir, nil, func(d *devnet) { d.http = "127.0.0.1:19080" })
	if err == nil || !strings.Contains(err.Error(), "v2 runs already") {
		t.Errorf("a second start: %v", err)
	}
	if !reflect.DeepEqual(content(t, dir), before) {
		t.Error("a second start changed something under a running node")
	}
	must(t, running.Close())
	if _, err := prepared(t, dir, nil, nil); err != nil {
		t.Error(err)
	}
}

// Nodes that were added belong to the network, those that have left do not, and a target and a
// checkpoint outlive a restart.
func TestADevnetIsContinuedWithTheNodesThatItHas(t *testing.T) {
	dir := t.TempDir()
	first, err := prepared(t, dir, nil, nil)
	must(t, err)
	for _, i := range []int{4, 6} {
		_, err := initValidator(first.nodeDir(i), nodeName(i))
		must(t, err)
	}
	must(t, os.MkdirAll(first.nodeDir(7), 0o755)) // an addition that was cut off
	for _, i := range []int{1, 5} {
		must(t, os.MkdirAll(first.nodeDir(i), 0o755))
		must(t, os.WriteFile(filepath.Join(first.nodeDir(i), goneFile), nil, 0o600))
	}
	peers := filepath.Join(dir, "peers.json")
	target := &chain.Target{Follows: 3, Threshold: 1, Validators: first.genesis.Validators[:1]}
	must(t, editPeers(peers, func(f *peersfile.File) {
		f.Target, f.Checkpoint = target, &chain.Checkpoint{Height: 7, Hash: chain.Hash{1}}
	}))
	again, err := prepared(t, dir, nil, nil)
	must(t, err)
	var names []string
	for _, n := range again.nodes {
		names = append(names, n.name+" "+n.config.Listen.Public)
	}
	if got := strings.Join(names, ", "); got != "v0 127.0.0.1:18080, v2 127.0.0.1:18082, v3 127.0.0.1:18083, v4 127.0.0.1:18084, v6 127.0.0.1:18086" {
		t.Errorf("the nodes are %s", got)
	}
	file, err := peersfile.Read(peers)
	must(t, err)
	if len(file.Peers) != 5 || !reflect.DeepEqual(file.Target, target) || file.Checkpoint == nil || file.Checkpoint.Height != 7 {
		t.Errorf("the peers file is %+v", file)
	}
	if count, err := again.count(); err != nil || count != 7 {
		t.Errorf("the network has had %d nodes, %v; want 7", count, err)
	}
	fails(t, clientcmd.ExitFailure, "start it with diseq devnet --dir", "devnet", "add", "--dir", dir)
	fails(t, clientcmd.ExitUsage, "--dir is required", "devnet", "remove", "v1")
	fails(t, clientcmd.ExitUsage, "--count 0", "devnet", "add", "--dir", dir, "--count", "0")
}

func TestAWrongNumberToStartLeavesNothingBehind(t *testing.T) {
	dir := t.TempDir()
	for _, start := range []int{-1, 2, 5} {
		if _, err := prepared(t, dir, nil, func(d *devnet) { d.start = start }); err == nil || !strings.Contains(err.Error(), "--start") {
			t.Errorf("--start %d: %v", start, err)
		}
	}
	if left := content(t, dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// Promise 15.
func TestALostVoteStoreIsNotMadeAgain(t *testing.T) {
	dir := t.TempDir()
	first, err := prepared(t, dir, nil, nil)
	must(t, err)
	data := filepath.Join(first.nodeDir(1), "data")
	must(t, os.RemoveAll(data))
	_, err = prepared(t, dir, nil, nil)
	must(t, err)
	if exists, err := store.VotesExist(data); exists || err != nil {
		t.Errorf("vote store: %v, %v", exists, err)
	}
}

func TestACreationThatWasCutOffIsTakenUp(t *testing.T) {
	dir := t.TempDir()
	first, err := prepared(t, dir, nil, nil)
	must(t, err)
	must(t, os.Remove(filepath.Join(dir, "genesis.json")))
	must(t, os.RemoveAll(first.nodeDir(3)))
	must(t, os.RemoveAll(filepath.Join(first.nodeDir(2), "keys")))
	second, err := prepared(t, dir, nil, nil)
	must(t, err)
	for i, v := range second.genesis.Validators {
		same := v == first.genesis.Validators[i]
		if same != (i < 2) {
			t.Errorf("validator %d is the same: %v", i, same)
		}
		id, err := identity.Load(filepath.Join(second.nodeDir(i), "keys"))
		must(t, err)
		if id.Public() != v.Validator {
			t.Errorf("validator %d has other keys than the genesis document", i)
		}
	}
}

func TestPortsAreFreeDistinctAndOutsideTheRangeOfClients(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer func() { must(t, taken.Close()) }()
	p := portPicker{low: firstPort, high: firstPort + 18000} // most of what there is to pick from
	defer p.close()
	seen := map[string]bool{}
	for _, wish := range []string{"", taken.Addr().String(), fmt.Sprintf("127.0.0.1:%d", firstPort+5), "10.0.0.1:31000", "nonsense"} {
		address, err := p.pick(wish)
		must(t, err)
		_, port, err := net.SplitHostPort(address)
		must(t, err)
		if n, _ := strconv.Atoi(port); n < p.high || n >= lastPort || seen[address] || address == wish {
			t.Errorf("wish %q: picked %s", wish, address)
		}
		seen[address] = true
	}
	address, err := p.pick("")
	must(t, err)
	if other, err := p.pick(address); err != nil || other == address {
		t.Errorf("%s was picked twice: %v", address, err)
	}
	p.close()
	again := portPicker{}
	defer again.close()
	if kept, err := again.pick(address); err != nil || kept != address {
		t.Errorf("a free port was not kept: %s instead of %s, %v", kept, address, err)
	}
}

// A network that grows gives its newcomers the ports for clients that follow, so no node has one of
// them for its peers.
func TestThePortsOfNewcomersAreLeft(t *testing.T) {
	d := &devnet{port: firstPort + 100}
	p := d.ports(4)
	defer p.close()
	for i := range 1004 {
		if p.take(d.port + i) {
			t.Fatalf("the port of node %d is given to another listener", i)
		}
	}
}

func TestTheRestartCommandIsQuotedForAShell(t *testing.T) {
	for in, want := range map[string]string{"/a/b-c.d_1": "/a/b-c.d_1", "/a b": "'/a b'", "it's": `'it'\''s'`, "": "''", "$x": "'$x'"} {
		if got := shellQuote(in); got != want {
			t.Errorf("%q is quoted as %s, want %s", in, got, want)
		}
	}
}
