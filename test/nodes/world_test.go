package nodes

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/diseq/diseq/client"
	"github.com/diseq/diseq/node"
	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/identity"
	"github.com/diseq/diseq/node/peer"
	"github.com/diseq/diseq/node/store"
	"github.com/diseq/diseq/test/oracle"
)

// spec is what a world is made with.
type spec struct {
	validators int
	threshold  uint32
	// observers are nodes without a vote, guests are peers that the test itself plays.
	observers, guests int
	// delta is the genesis document's, interval its beacon_interval, history the configuration's
	// historyHeights; 0 for the usual.
	delta             time.Duration
	interval, history uint32
	// blockBytes is the genesis document's max_block_bytes, a quarter of it max_message_bytes; 0
	// for the usual.
	blockBytes uint32
	// clock is how far a validator's clock is off.
	clock func(i int) time.Duration
}

// world is a network of whole nodes in a bubble. Its methods are for the test's own goroutine.
type world struct {
	testing.TB
	seed    uint64
	rng     *rand.Rand
	wire    *network
	dir     string
	genesis *chain.Genesis
	all     []*member
	nodes   []*member // those that a test counts on: all, at first
	guests  []*identity.Identity
	began   time.Time
	ctx     context.Context
	tasks   sync.WaitGroup
	history *oracle.History
	// kills counts the nodes killed; torn those whose copy lacks something that was written after
	// the kill.
	kills, torn int
	leave       []func() // takes guests off the wire
	// quorums are the sets of which trouble leaves enough members up; nil for that of genesis.
	quorums []quorum

	mu      sync.Mutex
	journal []string
}

// member is a node of the world through all its lives.
type member struct {
	world     *world
	index     int
	name      string
	config    node.Config
	identity  *identity.Identity
	validator bool
	clock     time.Duration
	log       *tail
	client    *client.Client
	lives     int
	life      *life // nil while it is down
	stops     bool  // it is to end by itself
	rejoins   bool  // its vote store was taken
	retired   bool  // it has left the validator set, and was stopped
}

// life is one run of a node.
type life struct {
	machine *machine
	stop    context.CancelFunc
	ended   chan struct{}
	err     error
	marks   []mark
}

// bubble runs a test of a world inside a bubble; when it fails it prints what led there.
func bubble(t *testing.T, seed uint64, s spec, test func(*world)) {
	t.Helper()
	dir := scratch(t)
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		w := &world{
			TB: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 0)), wire: newNetwork(), dir: dir, began: time.Now(), ctx: ctx,
		}
		defer func() {
			cancel()
			w.tasks.Wait()
			for _, leave := range w.leave {
				leave()
			}
			for _, m := range w.all {
				m.halt()
			}
			if w.history != nil {
				w.history.Report(w)
			}
			if t.Failed() {
				w.tell()
			}
		}()
		w.make(s)
		test(w)
	})
}

// scratch returns a directory in memory where there is one: what these tests hold does not rest on
// fsync, and the disk is slow.
func scratch(t *testing.T) string {
	t.Helper()
	if dir, err := os.MkdirTemp("/dev/shm", "diseq-nodes-"); err == nil {
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		return dir
	}
	return t.TempDir()
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// make writes the keys and documents of a network; nothing runs yet.
func (w *world) make(s spec) {
	w.Helper()
	p := chain.DefaultParameters()
	p.BeaconInterval = 32
	if s.interval > 0 {
		p.BeaconInterval = s.interval
	}
	if s.blockBytes > 0 {
		p.MaxBlockBytes, p.MaxMessageBytes = s.blockBytes, s.blockBytes/4
	}
	w.genesis = &chain.Genesis{
		Version: 1, ChainID: "nodes", TimeMS: uint64(time.Now().UnixMilli()), Threshold: s.threshold, Parameters: p,
		SynchronyDeltaMS: uint32(s.delta / time.Millisecond),
	}
	var peers node.PeersFile
	for i := range s.validators + s.observers + s.guests {
		id, err := identity.New()
		w.must(err)
		name := fmt.Sprintf("v%d", i)
		switch {
		case i >= s.validators+s.observers:
			name = fmt.Sprintf("g%d", i-s.validators-s.observers)
			w.guests = append(w.guests, id)
		case i >= s.validators:
			name = fmt.Sprintf("o%d", i-s.validators)
		}
		peers.Peers = append(peers.Peers, node.PeerEntry{Name: name, PublicKey: id.Public().PublicKey, Address: name + ":2"})
		if i < s.validators {
			w.genesis.Validators = append(w.genesis.Validators, chain.NamedValidator{Name: name, Validator: id.Public()})
		}
		if i < s.validators+s.observers {
			w.nodes = append(w.nodes, w.member(s, i, name, id))
		}
	}
	w.all, w.history = w.nodes, oracle.New(w.genesis, everything)
	for name, document := range map[string]any{"genesis.json": w.genesis, "peers.json": peers} {
		b, err := json.Marshal(document)
		w.must(err)
		w.must(os.WriteFile(filepath.Join(w.dir, name), b, 0o600))
	}
}

func (w *world) member(s spec, i int, name string, id *identity.Identity) *member {
	w.Helper()
	m := &member{world: w, index: i, name: name, config: node.DefaultConfig(), identity: id, validator: i < s.validators, log: &tail{}}
	c := &m.config
	c.Name, c.Keys, c.Data = name, filepath.Join(w.dir, name, "keys"), filepath.Join(w.dir, name, "data0")
	c.Genesis, c.Peers = filepath.Join(w.dir, "genesis.json"), filepath.Join(w.dir, "peers.json")
	c.Listen = node.Listen{Public: name + ":1", Peer: name + ":2", Operations: name + ":3"}
	if s.history > 0 {
		c.Limits.HistoryHeights = s.history
	}
	if s.clock != nil {
		m.clock = s.clock(i)
	}
	w.must(id.Write(c.Keys, name))
	w.must(os.MkdirAll(c.Data, 0o700))
	if m.validator {
		w.must(store.CreateVotes(c.Data, id.Public().PublicKey))
	}
	m.client = w.client(name, "client-"+name)
	return m
}

// client returns a client of a node that dials from a host of its own.
func (w *world) client(of, host string) *client.Client {
	w.Helper()
	c, err := client.New(of + ":1")
	w.must(err)
	transport := &http.Transport{DialContext: (&machine{network: w.wire, host: host}).Dial, IdleConnTimeout: time.Minute}
	c.HTTP, c.RetryFor = &http.Client{Transport: transport}, 2*time.Second
	w.Cleanup(transport.CloseIdleConnections)
	return c
}

// validators returns the members that vote.
func (w *world) validators() []*member { return w.all[:len(w.genesis.Validators)] }

func (w *world) note(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.journal = append(w.journal, fmt.Sprintf("%10.3fs  ", time.Since(w.began).Seconds())+fmt.Sprintf(format, args...))
}

// tell prints what led to a failure.
func (w *world) tell() {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d; again: go test ./test/nodes -run '%s' -first-seed %d\n", w.seed, w.Name(), w.seed)
	for _, line := range w.journal {
		b.WriteString(line + "\n")
	}
	for _, m := range w.all {
		fmt.Fprintf(&b, "the last lines of %s:\n%s", m.name, m.log)
	}
	w.Log(b.String())
}

// start starts members that are down and waits until they answer.
func (w *world) start(members ...*member) {
	w.Helper()
	for _, m := range members {
		w.launch(m)
	}
	for _, m := range members {
		w.eventually(time.Minute, m.name+" is ready", func() error { return m.client.Ready(w.ctx) })
	}
}

// launch starts a member that is down.
func (w *world) launch(m *member) {
	w.note("start %s (life %d)", m.name, m.lives)
	ctx, stop := context.WithCancel(context.WithoutCancel(w.ctx))
	l := &life{machine: &machine{network: w.wire, host: m.name}, stop: stop, ended: make(chan struct{})}
	m.life = l
	real := node.Machine{Listen: l.machine.Listen, Dial: l.machine.Dial}
	if m.clock != 0 {
		real.Now = func() time.Time { return time.Now().Add(m.clock) }
	}
	log := slog.New(slog.NewTextHandler(m.log, &slog.HandlerOptions{Level: slog.LevelInfo}))
	go func() {
		defer close(l.ended)
		if l.err = real.Run(ctx, m.config, "test", log); l.err != nil && !l.machine.off() && !m.stops {
			w.Errorf("%s ended by itself: %v", m.name, l.err)
		}
	}()
}

// halt ends a member's life in order, as SIGTERM does.
func (m *member) halt() {
	if m.life == nil {
		return
	}
	m.life.stop()
	<-m.life.ended
	m.life = nil
}

// eventually polls until check returns nil, for as long as within in virtual time.
func (w *world) eventually(within time.Duration, what string, check func() error) {
	w.Helper()
	deadline := time.Now().Add(within)
	for {
		err := check()
		if err == nil {
			return
		}
		if w.Failed() {
			w.FailNow()
		}
		if time.Now().After(deadline) {
			w.Fatalf("not within %v: %s: %v", within, what, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (m *member) status() *client.Status {
	m.world.Helper()
	s, err := m.client.Status(m.world.ctx)
	if err != nil {
		m.world.Fatalf("status of %s: %v", m.name, err)
	}
	return s
}

func (m *member) key() chain.PublicKey { return m.identity.Public().PublicKey }

// peers returns all members as a guest dials them.
func (w *world) peers() []peer.Peer {
	var out []peer.Peer
	for _, m := range w.all {
		out = append(out, peer.Peer{Key: m.key(), Name: m.name, Address: m.config.Listen.Peer})
	}
	return out
}

// tail keeps the last lines of a log.
type tail struct {
	mu    sync.Mutex
	lines []string
}

const tailLines = 25

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lines = append(t.lines, string(b))
	if len(t.lines) > 2*tailLines {
		t.lines = append([]string(nil), t.lines[tailLines:]...)
	}
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Join(t.lines[max(0, len(t.lines)-tailLines):], "")
}
