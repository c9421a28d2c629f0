package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/identity"
	"github.com/diseq/diseq/node/server"
	"github.com/diseq/diseq/node/store"
)

// testNetwork is four whole nodes in this process, on loopback ports and real files.
type testNetwork struct {
	t       *testing.T
	genesis *chain.Genesis
	configs []Config
	urls    []string
	stops   []func()
}

// nextPort counts through ports below those that the kernel gives to outgoing connections: of one
// that it gave us, and that we let go until the node listens, another node's connection could take
// hold meanwhile.
var nextPort = 10_000 + rand.IntN(1_000)

func freeAddress(t *testing.T) string {
	t.Helper()
	for range 500 {
		nextPort++
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", nextPort))
		if err != nil {
			continue
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		return l.Addr().String()
	}
	t.Fatal("no port is free")
	return ""
}

func newTestNetwork(t *testing.T, n int, threshold uint32) *testNetwork {
	t.Helper()
	dir := t.TempDir()
	g := &chain.Genesis{Version: 1, ChainID: "test", TimeMS: uint64(time.Now().UnixMilli()), Threshold: threshold, Parameters: chain.DefaultParameters()}
	g.Parameters.BeaconInterval = 8
	net := &testNetwork{t: t, genesis: g, stops: make([]func(), n)}
	var peers PeersFile
	for i := range n {
		name := fmt.Sprintf("v%d", i)
		id, err := identity.New()
		if err != nil {
			t.Fatal(err)
		}
		c := DefaultConfig()
		c.Name = name
		c.Keys, c.Data = filepath.Join(dir, name, "keys"), filepath.Join(dir, name, "data")
		c.Genesis, c.Peers = filepath.Join(dir, "genesis.json"), filepath.Join(dir, "peers.json")
		c.Listen = Listen{Public: freeAddress(t), Peer: freeAddress(t), Operations: freeAddress(t)}
		if err := id.Write(c.Keys, name); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(c.Data, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := store.CreateVotes(c.Data, id.Public().PublicKey); err != nil {
			t.Fatal(err)
		}
		g.Validators = append(g.Validators, chain.NamedValidator{Name: name, Validator: id.Public()})
		peers.Peers = append(peers.Peers, PeerEntry{Name: name, PublicKey: id.Public().PublicKey, Address: c.Listen.Peer})
		net.configs = append(net.configs, c)
		net.urls = append(net.urls, "http://"+c.Listen.Public)
	}
	writeJSON(t, filepath.Join(dir, "genesis.json"), g)
	writeJSON(t, filepath.Join(dir, "peers.json"), peers)
	t.Cleanup(func() {
		for i := range net.stops {
			net.stop(i)
		}
	})
	return net
}

func writeJSON(t *testing.T, path string, v any) {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func (n *testNetwork) start(i int) {
	n.t.Helper()
	n.begin(i, http.StatusOK)
}

// begin starts node i and waits until /readyz answers with that code.
func (n *testNetwork) begin(i, code int) {
	n.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	logger := slog.New(slog.DiscardHandler)
	if os.Getenv("DISEQ_TEST_LOG") != "" {
		logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})).With("node", i)
	}
	go func() {
		defer close(done)
		done <- Machine{}.Run(ctx, n.configs[i], "test", logger)
	}()
	n.stops[i] = func() {
		cancel()
		if err := <-done; err != nil {
			n.t.Errorf("node %d: %v", i, err)
		}
		n.stops[i] = nil
	}
	n.eventually(fmt.Sprintf("node %d answers /readyz with %d", i, code), func() bool {
		select {
		case err := <-done:
			n.t.Fatalf("node %d: %v", i, err)
		default:
		}
		r, err := http.Get(n.urls[i] + "/readyz")
		if err != nil {
			return false
		}
		return r.Body.Close() == nil && r.StatusCode == code
	})
}

func (n *testNetwork) stop(i int) {
	if n.stops[i] != nil {
		n.stops[i]()
	}
}

// open opens node i without running it.
func (n *testNetwork) open(i int) *Node {
	n.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	node, err := open(ctx, Machine{}, n.configs[i], "test", slog.New(slog.DiscardHandler))
	if err != nil {
		cancel()
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() {
		cancel()
		if err := node.close(); err != nil {
			n.t.Error(err)
		}
	})
	return node
}

// role opens node i and returns its role at the next height.
func (n *testNetwork) role(i int) string {
	n.t.Helper()
	node := n.open(i)
	if err := node.startVoter(); err != nil {
		n.t.Fatal(err)
	}
	return node.backend.role()
}

// patience bounds every wait of these tests: it is only used up when something is broken.
const patience = 2 * time.Minute

func (n *testNetwork) eventually(what string, ok func() bool) {
	n.t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline.C:
			n.t.Fatalf("not within %v: %s", patience, what)
		case <-tick.C:
		}
	}
}

// submit sends a message, again when it takes longer than a node waits, and returns its receipt.
func (n *testNetwork) submit(i int, data string) (receipt *chain.Receipt) {
	n.t.Helper()
	n.eventually(fmt.Sprintf("%q is final", data), func() bool {
		receipt = n.submitOnce(i, data)
		return receipt != nil
	})
	return receipt
}

// submitOnce returns nil for a message that is accepted and not final.
func (n *testNetwork) submitOnce(i int, data string) *chain.Receipt {
	n.t.Helper()
	r, err := http.Post(n.urls[i]+"/v1/messages?wait=final&timeout=20s", "application/octet-stream", bytes.NewBufferString(data))
	if err != nil {
		n.t.Fatal(err)
	}
	defer func() { _ = r.Body.Close() }()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		n.t.Fatal(err)
	}
	var answer struct {
		Results []struct {
			Receipt *chain.Receipt `json:"receipt"`
		} `json:"results"`
	}
	if r.StatusCode == http.StatusAccepted {
		return nil
	}
	if err := json.Unmarshal(body, &answer); err != nil || r.StatusCode != http.StatusOK || len(answer.Results) != 1 {
		n.t.Fatalf("%s: %s, %v", r.Status, body, err)
	}
	return answer.Results[0].Receipt
}

// Promise 43.
func TestFourNodesOrderAMessageAndItsReceiptVerifies(t *testing.T) {
	n := newTestNetwork(t, 4, 3)
	for i := range 4 {
		n.start(i)
	}
	for i := range 20 {
		r := n.submit(i%4, fmt.Sprintf("message %d", i))
		if err := r.Verify(n.genesis, 0); err != nil {
			t.Fatal(err)
		}
	}
}

// A validator whose blocks are older than its votes has forgotten the votes in between: it must not
// vote there again.
//
// Promise 15.
func TestVotesAheadOfTheBlocksAreRefused(t *testing.T) {
	n := newTestNetwork(t, 1, 1)
	n.start(0)
	for i := range 3 {
		n.submit(0, fmt.Sprintf("message %d", i))
	}
	n.stop(0)
	for _, name := range []string{"blocks.db", "state"} {
		if err := os.RemoveAll(filepath.Join(n.configs[0].Data, name)); err != nil {
			t.Fatal(err)
		}
	}
	err := Machine{}.Run(t.Context(), n.configs[0], "test", slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "the blocks end at height 0") {
		t.Fatalf("error %v, want one that says where the blocks end", err)
	}
}

// A node that is asked to stop while it still opens its files ends without an error.
func TestANodeMayBeStoppedWhileItStarts(t *testing.T) {
	n := newTestNetwork(t, 1, 1)
	n.start(0)
	for i := range 5 {
		n.submit(0, fmt.Sprintf("message %d", i))
	}
	n.stop(0)
	for i := range 40 {
		ctx, stop := context.WithCancel(t.Context())
		timer := time.AfterFunc(time.Duration(i/2)*time.Millisecond, stop)
		if i == 0 {
			stop() // before it starts
		}
		if err := (Machine{}).Run(ctx, n.configs[0], "test", slog.New(slog.DiscardHandler)); err != nil {
			t.Errorf("stopped %d ms after its start, the node ended with: %v", i/2, err)
		}
		timer.Stop()
		stop()
	}
}

// Promise 15.
func TestAVoteStoreIsMadeOnlyOnAFirstVolume(t *testing.T) {
	for _, c := range []struct {
		name    string
		stated  bool
		present []string
		role    string
	}{
		{"a first volume", true, nil, roleValidator},
		{"a new file system", true, []string{"lost+found"}, roleValidator},
		{"a first start that was cut off", true, []string{"LOCK", "votes.db.new-1"}, roleValidator},
		{"not stated", false, nil, roleRejoining},
		{"stated, but blocks are there", true, []string{"LOCK", "something"}, roleRejoining},
	} {
		n := newTestNetwork(t, 4, 3)
		cfg := &n.configs[0]
		cfg.Data = t.TempDir()
		cfg.CreateVoteStore = c.stated
		for _, name := range c.present {
			if err := os.WriteFile(filepath.Join(cfg.Data, name), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if got := n.role(0); got != c.role {
			t.Errorf("%s: the node is %s, want %s", c.name, got, c.role)
		}
	}
}

// An emptied data directory looks like a first one, and the statement may be there still. The peers
// file knows who had a vote store.
//
// Promise 58.
func TestAVoteStoreIsNotMadeAgainInAnEmptiedDirectory(t *testing.T) {
	for _, c := range []struct {
		name string
		made []int // by the peers file
		role string
	}{
		{"the peers file does not know", nil, roleValidator},
		{"others have made theirs", []int{1, 2, 3}, roleValidator},
		{"it was made before", []int{0}, roleRejoining},
	} {
		n := newTestNetwork(t, 4, 3)
		cfg := &n.configs[0]
		cfg.Data, cfg.CreateVoteStore = t.TempDir(), true
		var peers PeersFile
		for i, v := range n.genesis.Validators {
			peers.Peers = append(peers.Peers, PeerEntry{Name: v.Name, PublicKey: v.PublicKey, VoteStore: slices.Contains(c.made, i)})
		}
		writeJSON(t, cfg.Peers, peers)
		if got := n.role(0); got != c.role {
			t.Errorf("%s: the node is %s, want %s", c.name, got, c.role)
		}
	}
	n := newTestNetwork(t, 4, 3)
	cfg := n.configs[0]
	cfg.Data, cfg.CreateVoteStore, cfg.Peers = t.TempDir(), true, filepath.Join(t.TempDir(), "none.json")
	err := Machine{}.Run(t.Context(), cfg, "test", slog.New(slog.DiscardHandler))
	if exists, _ := store.VotesExist(cfg.Data); err == nil || exists {
		t.Errorf("without a peers file: %v, a vote store is there: %v", err, exists)
	}
}

// With t = n a lost vote store ends the chain, and its node knows that. It promises nothing more;
// the others cannot know.
func TestAValidatorThatKnowsThatTheChainHasEndedAcceptsNothing(t *testing.T) {
	for _, c := range []struct {
		threshold uint32
		accepts   bool
	}{{3, false}, {2, true}} {
		n := newTestNetwork(t, 3, c.threshold)
		n.configs[0].Data = t.TempDir()
		opened := n.open(0)
		if err := opened.startVoter(); err != nil {
			t.Fatal(err)
		}
		if opened.backend.role() != roleRejoining || opened.backend.ended() == c.accepts {
			t.Errorf("threshold %d of 3: the role is %s, ended is %v", c.threshold, opened.backend.role(), opened.backend.ended())
		}
		if c.accepts {
			continue // its answer takes as long as the others are away
		}
		_, err := opened.backend.Submit(t.Context(), []chain.Message{{Data: []byte("never final")}}, func() {})
		if !errors.Is(err, server.ErrUnavailable) || !strings.Contains(err.Error(), "lost its vote store") {
			t.Errorf("threshold %d of 3: submitting is answered %v", c.threshold, err)
		}
	}
}

// The writer of the peers file can rely on it: a validator whose vote store the file does not
// record has never voted. Before the record the node has the store, says so, and takes no part.
//
// Promise 58.
func TestANodeVotesOnlyWhenThePeersFileRecordsItsVoteStore(t *testing.T) {
	n := newTestNetwork(t, 1, 1)
	cfg := &n.configs[0]
	cfg.Data, cfg.CreateVoteStore, cfg.VoteWhenRecorded = t.TempDir(), true, true
	waits := func() {
		t.Helper()
		n.begin(0, http.StatusServiceUnavailable)
		n.eventually("the node shows its vote store", func() bool {
			r, err := http.Get(n.urls[0] + "/v1/status")
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = r.Body.Close() }()
			var s server.Status
			if err := json.NewDecoder(r.Body).Decode(&s); err != nil {
				t.Fatal(err)
			}
			return s.VoteStore && !s.Ready && s.CaughtUp && s.Role == roleValidator && s.VotesFromHeight == nil && s.Height == 0
		})
	}
	waits()
	r, err := http.Post(n.urls[0]+"/v1/messages", "application/octet-stream", strings.NewReader("waits"))
	if err != nil || r.Body.Close() != nil || r.StatusCode != http.StatusAccepted {
		t.Fatalf("%v, %v", r, err)
	}
	n.stop(0)
	opened, err := open(t.Context(), Machine{}, *cfg, "test", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	records, err := opened.votes.Load()
	if err := errors.Join(err, opened.close()); err != nil || len(records) > 0 || opened.ledger.Height() > 0 {
		t.Fatalf("%d votes before the record, height %d, %v", len(records), opened.ledger.Height(), err)
	}
	waits() // also after a restart
	v := n.genesis.Validators[0]
	writeJSON(t, cfg.Peers, PeersFile{Peers: []PeerEntry{{Name: v.Name, PublicKey: v.PublicKey, Address: cfg.Listen.Peer, VoteStore: true}}})
	n.submit(0, "waits")
	n.stop(0)
	n.start(0)
	n.submit(0, "goes on")
}

// TestAnIdleNetworkMakesNoBlocks submits one message and sees the blocks that certify its state,
// and none after them.
//
// Promise 54.
func TestAnIdleNetworkMakesNoBlocks(t *testing.T) {
	n := newTestNetwork(t, 4, 3)
	for i := range 4 {
		n.start(i)
	}
	n.submit(0, "one")
	latest := func() chain.Header {
		r, err := http.Get(n.urls[1] + "/v1/blocks/latest?messages=false")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = r.Body.Close() }()
		var b struct {
			Header chain.Header `json:"header"`
		}
		if err := json.NewDecoder(r.Body).Decode(&b); err != nil {
			t.Fatal(err)
		}
		return b.Header
	}
	var certifies chain.Header
	n.eventually("the state of the message is certified", func() bool {
		certifies = latest()
		return certifies.StateHeight >= 1
	})
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for range 10 {
		<-tick.C
		if h := latest(); h.Height != certifies.Height {
			t.Fatalf("block %d, of state %d, follows block %d, which certifies state %d", h.Height, h.StateHeight, certifies.Height, certifies.StateHeight)
		}
	}
}

// A node serves once it knows how far the others are, and not while it is far behind them.
func TestANodeIsReadyUnlessItIsFarBehind(t *testing.T) {
	network := newTestNetwork(t, 4, 3)
	n := network.open(0)
	wantNotReady := func(want string) {
		t.Helper()
		if err := n.backend.Ready(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("readiness: %v, want an error with %q", err, want)
		}
	}
	wantNotReady("just started")
	network.eventually("the node is ready alone", func() bool { return n.backend.Ready() == nil })
	for _, v := range n.genesis.Validators[1:3] {
		n.catchup.Heard(v.PublicKey, 12)
	}
	wantNotReady("11 heights behind")
	n.readPeers(&PeersFile{Checkpoint: &chain.Checkpoint{Height: 5, Hash: chain.Hash{1}}})
	wantNotReady("the checkpoint of the peers file is at height 5")
}
