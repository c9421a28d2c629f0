package peer

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/diseq/diseq/node/chain"
)

// patience bounds every wait of these tests: it is only used up when something is broken.
const patience = time.Minute

// TestMain fails if goroutines are left when every test has closed what it opened.
func TestMain(m *testing.M) {
	before := runtime.NumGoroutine()
	code := m.Run()
	if fuzzing := flag.Lookup("test.fuzz"); fuzzing != nil && fuzzing.Value.String() != "" {
		os.Exit(code) // the fuzzing engine has goroutines of its own
	}
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	for runtime.NumGoroutine() > before && time.Now().Before(deadline) {
		<-tick.C
	}
	tick.Stop()
	if n := runtime.NumGoroutine(); code == 0 && n > before {
		stacks := make([]byte, 1<<20)
		fmt.Fprintf(os.Stderr, "%d goroutines are left, %d before the tests\n%s\n", n, before, stacks[:runtime.Stack(stacks, true)])
		code = 1
	}
	os.Exit(code)
}

// testKey returns the key of the node of that number.
func testKey(i int) ed25519.PrivateKey {
	seed := sha256.Sum256(fmt.Appendf(nil, "node %d", i))
	return ed25519.NewKeyFromSeed(seed[:])
}

func publicKey(i int) chain.PublicKey { return chain.PublicKeyOf(testKey(i)) }

// testGenesis returns a chain of n validators.
func testGenesis(n int) *chain.Genesis {
	g := &chain.Genesis{Version: 1, ChainID: "test", TimeMS: 1, Threshold: uint32(n/2 + 1), Parameters: chain.DefaultParameters()}
	for i := range n {
		g.Validators = append(g.Validators, chain.NamedValidator{
			Name:      fmt.Sprintf("node-%d", i),
			Validator: chain.Validator{PublicKey: publicKey(i), VRFKey: chain.VRFKey(sha256.Sum256(fmt.Appendf(nil, "vrf %d", i)))},
		})
	}
	return g
}

// testSettings are impatient.
func testSettings() settings {
	s := defaultSettings()
	s.minBackoff, s.maxBackoff, s.refusedBackoff = 5*time.Millisecond, 50*time.Millisecond, 50*time.Millisecond
	// no peer is slow, only the machine may be
	s.handshakeTimeout, s.callTimeout = patience, patience
	s.minPenalty, s.maxPenalty = time.Hour, time.Hour // no test waits for one to end
	s.logInterval = time.Hour
	return s
}

type delivery[T any] struct {
	peer  chain.PublicKey
	value T
}

// recorder is a Handler that passes on what it is given and serves what it holds.
type recorder struct {
	bundles     chan delivery[*chain.Bundle]
	commitments chan delivery[*chain.Commitment]
	endorsed    chan delivery[*chain.Endorsed]
	batches     chan delivery[[]byte]
	acks        chan delivery[ack]
	ups, downs  chan chain.PublicKey

	key ed25519.PrivateKey

	pongs chan pong
	asks  chan chain.PublicKey

	guard    sync.Mutex
	onBundle func(chain.PublicKey, *chain.Bundle) (int, error)
	onBatch  func(context.Context, []byte) error
	held     map[chain.Hash][]byte
	blocks   map[chain.Hash][]byte
	final    map[uint64][]byte
}

type pong struct {
	from         chain.PublicKey
	number, lost uint64
}

type ack struct {
	hash chain.Hash
	err  error
}

func newRecorder(key ed25519.PrivateKey) *recorder {
	return &recorder{
		bundles: make(chan delivery[*chain.Bundle], 1<<16), commitments: make(chan delivery[*chain.Commitment], 64),
		endorsed: make(chan delivery[*chain.Endorsed], 64),
		batches:  make(chan delivery[[]byte], 1<<16), acks: make(chan delivery[ack], 1<<16),
		ups: make(chan chain.PublicKey, 1024), downs: make(chan chain.PublicKey, 1024),
		pongs: make(chan pong, 1024), asks: make(chan chain.PublicKey, 1024),
		key: key, held: map[chain.Hash][]byte{}, blocks: map[chain.Hash][]byte{}, final: map[uint64][]byte{},
	}
}

func (r *recorder) OnBundle(_ context.Context, from chain.PublicKey, b *chain.Bundle) (int, error) {
	r.guard.Lock()
	f := r.onBundle
	r.guard.Unlock()
	if f != nil {
		return f(from, b)
	}
	r.bundles <- delivery[*chain.Bundle]{from, b}
	return 0, nil
}

func (r *recorder) OnCommitment(_ context.Context, from chain.PublicKey, c *chain.Commitment) error {
	r.commitments <- delivery[*chain.Commitment]{from, c}
	if c.Epoch == 0 {
		return fmt.Errorf("epoch %d is over", c.Epoch)
	}
	return nil
}

// OnEndorsed takes the hash zero for a forged signature.
func (r *recorder) OnEndorsed(from chain.PublicKey, e *chain.Endorsed) error {
	if e.Next == (chain.Hash{}) {
		return chain.ErrSignature
	}
	r.endorsed <- delivery[*chain.Endorsed]{from, e}
	return nil
}

func (r *recorder) OnBatch(ctx context.Context, from chain.PublicKey, encoded []byte) error {
	r.guard.Lock()
	f := r.onBatch
	r.guard.Unlock()
	if f != nil {
		if err := f(ctx, encoded); err != nil {
			return err
		}
	}
	r.batches <- delivery[[]byte]{from, encoded}
	return nil
}

func (r *recorder) OnPong(from chain.PublicKey, number, lost uint64) {
	r.pongs <- pong{from, number, lost}
}

func (r *recorder) OnAsk(from chain.PublicKey) { r.asks <- from }

func (r *recorder) OnAck(to chain.PublicKey, hash chain.Hash, err error) {
	r.acks <- delivery[ack]{to, ack{hash, err}}
}
func (r *recorder) LinkUp(to chain.PublicKey)   { r.ups <- to }
func (r *recorder) LinkDown(to chain.PublicKey) { r.downs <- to }

func lookup[K comparable](r *recorder, m map[K][]byte, key K) ([]byte, error) {
	r.guard.Lock()
	defer r.guard.Unlock()
	if b, ok := m[key]; ok {
		return b, nil
	}
	return nil, ErrNotHeld
}

func (r *recorder) Batch(_ context.Context, hash chain.Hash) ([]byte, error) {
	return lookup(r, r.held, hash)
}
func (r *recorder) FinalBlock(_ context.Context, height uint64) ([]byte, error) {
	return lookup(r, r.final, height)
}
func (r *recorder) Block(_ context.Context, hash chain.Hash) ([]byte, error) {
	return lookup(r, r.blocks, hash)
}
func (r *recorder) Status(_ context.Context, nonce chain.Hash) (*chain.Status, error) {
	s := &chain.Status{Nonce: nonce, Height: 7, Block: chain.Hash{1}}
	s.Sign(r.key, "test")
	return s, nil
}

// syncBuffer is a log that tests read.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// node is a Transport under test.
type node struct {
	*Transport
	*recorder
	peer     Peer
	log      *syncBuffer
	registry *prometheus.Registry
	listener net.Listener
}

type option func(*Config, *settings)

// newNode returns node i of a chain, listening and not started.
func newNode(t testing.TB, i int, genesis *chain.Genesis, options ...option) *node {
	t.Helper()
	return newNodeAt(t, i, "127.0.0.1:0", genesis, options...)
}

func newNodeAt(t testing.TB, i int, address string, genesis *chain.Genesis, options ...option) *node {
	t.Helper()
	var listener net.Listener
	// of a port that was let go a connection may have taken hold
	eventually(t, "nobody else has "+address, func() bool {
		var err error
		listener, err = net.Listen("tcp", address)
		return err == nil
	})
	log := &syncBuffer{}
	name := fmt.Sprintf("node-%d", i)
	registry := prometheus.NewRegistry()
	config := Config{
		Key: testKey(i), Genesis: genesis, Name: name, Version: "test-1",
		Logger: slog.New(slog.NewTextHandler(log, nil)), Registerer: registry,
	}
	s := testSettings()
	for _, o := range options {
		o(&config, &s)
	}
	r := newRecorder(config.Key)
	transport, err := newTransport(config, r, s)
	if err != nil {
		t.Fatal(err)
	}
	n := &node{
		Transport: transport, recorder: r, log: log, registry: registry, listener: listener,
		peer: Peer{Key: chain.PublicKeyOf(config.Key), Name: name, Address: listener.Addr().String()},
	}
	t.Cleanup(func() {
		n.Close()
		_ = listener.Close() // for a node that was never started
	})
	return n
}

// start starts nodes that all know each other, and waits until every link is up.
func start(t testing.TB, nodes ...*node) {
	t.Helper()
	var peers []Peer
	for _, n := range nodes {
		peers = append(peers, n.peer)
	}
	for _, n := range nodes {
		n.Start(n.listener, peers)
	}
	for _, n := range nodes {
		for range len(nodes) - 1 {
			receive(t, n.ups)
		}
	}
}

// pair returns two started nodes with links both ways.
func pair(t testing.TB, options ...option) (a, b *node) {
	t.Helper()
	genesis := testGenesis(2)
	a, b = newNode(t, 0, genesis, options...), newNode(t, 1, genesis, options...)
	start(t, a, b)
	return a, b
}

func receive[T any](t testing.TB, c <-chan T) T {
	t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case v := <-c:
		return v
	case <-timer.C:
		t.Fatalf("no %T within %v", *new(T), patience)
		panic("unreachable")
	}
}

// eventually polls, for a state that no event reports.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); <-tick.C {
		if ok() {
			return
		}
	}
	t.Fatalf("%s: not within %v", what, patience)
}

// metric returns the sum over the samples of a metric that have all the labels given
// ("name=value").
func (n *node) metric(t testing.TB, name string, labels ...string) float64 {
	t.Helper()
	families, err := n.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			have := map[string]bool{}
			for _, l := range m.GetLabel() {
				have[l.GetName()+"="+l.GetValue()] = true
			}
			all := true
			for _, l := range labels {
				all = all && have[l]
			}
			if all {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

func (n *node) rejected(t testing.TB, reason string) float64 {
	t.Helper()
	return n.metric(t, "diseq_peer_rejected_total", "reason="+reason)
}

func testVote(i int, height uint64) chain.Vote {
	v := chain.Vote{Kind: chain.Notarize, Height: height, Block: chain.Hash{1}, Validator: uint32(i)}
	v.Sign(testKey(i), "test")
	return v
}

func testCertificate(height uint64) *chain.Certificate {
	c := &chain.Certificate{Kind: chain.Finalize, Height: height, Block: chain.Hash{2}}
	for i := range 3 {
		c.Votes = append(c.Votes, chain.VoteSignature{Validator: uint32(i)})
	}
	return c
}

func testBlock(height uint64) *chain.Block {
	b := &chain.Block{Header: chain.Header{ProtocolVersion: chain.ProtocolVersion, ChainID: "test", Height: height, MessagesRoot: chain.EmptyMessagesRoot()}}
	b.Sign(testKey(0))
	return b
}

func testProposal(height uint64) *chain.Proposal {
	p := &chain.Proposal{Block: *testBlock(height)}
	p.Statement = chain.Vote{Kind: chain.Propose, Height: height, Block: p.Block.Hash()}
	p.Statement.Sign(testKey(0), "test")
	return p
}

// testBatch returns a batch of node i with a message of that many bytes, its hash and its encoding.
func testBatch(i int, number uint64, size int) (*chain.Batch, chain.Hash, []byte) {
	b := &chain.Batch{Incarnation: 1, Number: number, Messages: []chain.Message{{Data: bytes.Repeat([]byte{byte(number)}, size)}}}
	b.Sign(testKey(i), "test")
	return b, b.Hash("test"), b.Encode()
}

func (n *node) logged(parts ...string) bool {
	text := n.log.String()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			return false
		}
	}
	return true
}
