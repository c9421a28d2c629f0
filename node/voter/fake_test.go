package voter

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/internal/tasks"
	"github.com/diseq/diseq/node/ledger/ledgertest"
	"github.com/diseq/diseq/node/mempool"
	"github.com/diseq/diseq/node/vrf"
)

// journal is what a voter wrote and sent, in order.
type journal struct {
	mu      sync.Mutex
	entries []string
}

func (j *journal) add(format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.entries = append(j.entries, fmt.Sprintf(format, args...))
}

func (j *journal) all() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.entries)
}

// fakeNetwork is a Network whose peers are connected and answer nothing.
type fakeNetwork struct {
	journal *journal
	peers   []chain.PublicKey
}

func (n *fakeNetwork) Broadcast(b *chain.Bundle) {
	for _, p := range b.Proposals {
		n.journal.add("send %v %d", p.Statement.Kind, p.Statement.Height)
	}
	for _, vote := range b.Votes {
		n.journal.add("send %v %d", vote.Kind, vote.Height)
	}
}

func (n *fakeNetwork) Send(_ chain.PublicKey, b *chain.Bundle) { n.Broadcast(b) }
func (n *fakeNetwork) Ask()                                    {}
func (n *fakeNetwork) Ping(chain.PublicKey, uint64)            {}
func (n *fakeNetwork) Connected() []chain.PublicKey            { return n.peers }

var errNotHeld = errors.New("not held")

func (n *fakeNetwork) Batches(context.Context, chain.PublicKey, []chain.Hash, func(chain.Hash, []byte) error) error {
	return errNotHeld
}

func (n *fakeNetwork) Block(context.Context, chain.PublicKey, chain.Hash) (*chain.Block, error) {
	return nil, errNotHeld
}

// fakeState is a State that stays at the empty trie of genesis.
type fakeState struct{}

func (fakeState) Newest() (uint64, chain.Hash)          { return 0, chain.Hash{} }
func (fakeState) Root(height uint64) (chain.Hash, bool) { return chain.Hash{}, height == 0 }

func (fakeState) Wait(ctx context.Context, height uint64) error {
	if height == 0 {
		return nil
	}
	<-ctx.Done()
	return ctx.Err()
}

// fakeVotes is a vote store in memory. err fails every write.
type fakeVotes struct {
	journal *journal
	err     error
	records []chain.Record
	pruned  uint64
}

func (v *fakeVotes) Load() ([]chain.Record, error) { return v.records, nil }
func (v *fakeVotes) Prune(height uint64)           { v.pruned = height }

func (v *fakeVotes) Append(records ...chain.Record) error {
	if v.err != nil {
		return v.err
	}
	for _, r := range records {
		vote, err := chain.DecodeVote(r.Data)
		if p, notProposal := chain.DecodeProposal(r.Data); notProposal == nil {
			vote, err = p.Statement, nil
		}
		if err == nil {
			v.journal.add("write %v %d", vote.Kind, vote.Height)
		}
	}
	v.records = append(v.records, records...)
	return nil
}

// memoryBatches is a pool's Storage in memory, noIndex an Index without messages, noPeers a
// Replicator without peers.
type (
	memoryBatches struct{ meta []byte }
	noIndex       struct{}
	noPeers       struct{}
)

func (s *memoryBatches) AddBatches(context.Context, []chain.StoredBatch) error { return nil }
func (s *memoryBatches) PendingBatches(context.Context, func(chain.StoredBatch) error) error {
	return nil
}

func (s *memoryBatches) PutMeta(_ context.Context, _ string, value []byte) error {
	s.meta = value
	return nil
}
func (s *memoryBatches) Meta(context.Context, string) ([]byte, error) { return s.meta, nil }
func (noIndex) Lookup(chain.Hash) (uint64, uint32, bool, error)       { return 0, 0, false, nil }
func (noIndex) IDs(context.Context, func(chain.Hash) bool) error      { return nil }
func (noPeers) Push(chain.Hash, []byte)                               {}

// room is a voter with everything that it uses in memory: validator 0 of a chain of its own.
type room struct {
	*Voter
	genesis *chain.Genesis
	// members are the validators of genesis and the node itself, with their keys.
	members []chain.NamedValidator
	keys    []ed25519.PrivateKey
	secrets []vrf.SecretKey
	journal *journal
	votes   *fakeVotes
	// now is the voter's clock, acknowledged for how long each peer has had the commitment of epoch
	// 0.
	now          func() time.Time
	acknowledged map[chain.PublicKey]time.Duration
	// change is the one that the voter has to order, linked whether it reaches the next set.
	change     atomic.Pointer[chain.Change]
	changed    chan struct{}
	linked     atomic.Bool
	checkpoint atomic.Pointer[chain.Checkpoint]
	finals     chan *chain.FinalBlock
	failures   chan error
}

// newRoom returns a voter of a chain with n validators and a Delta; nothing runs yet.
func newRoom(t *testing.T, n int, threshold uint32, delta time.Duration) *room {
	t.Helper()
	return newRoomOf(t, 0, n, threshold, delta)
}

// newRoomOf returns the room of a node: validator self, or an observer if there are not as many.
func newRoomOf(t *testing.T, self, n int, threshold uint32, delta time.Duration) *room {
	t.Helper()
	r := &room{
		genesis: &chain.Genesis{
			Version: 1, ChainID: "room-1", TimeMS: uint64(time.Now().UnixMilli()), Threshold: threshold,
			SynchronyDeltaMS: uint32(delta / time.Millisecond), Parameters: chain.DefaultParameters(),
		},
		journal: new(journal), now: time.Now, acknowledged: map[chain.PublicKey]time.Duration{},
		finals: make(chan *chain.FinalBlock, 16), failures: make(chan error), changed: make(chan struct{}, 1),
	}
	r.checkpoint.Store(&chain.Checkpoint{})
	r.genesis.Parameters.BeaconInterval = 8
	for i := range max(n, self+1) {
		key := ed25519.NewKeyFromSeed([]byte(strings.Repeat(string(rune('a'+i)), ed25519.SeedSize)))
		secret, err := vrf.NewSecretKey(strings.NewReader(strings.Repeat(string(rune('a'+i)), 256)))
		if err != nil {
			t.Fatal(err)
		}
		r.keys, r.secrets = append(r.keys, key), append(r.secrets, secret)
		r.members = append(r.members, chain.NamedValidator{
			Name:      fmt.Sprint("v", i),
			Validator: chain.Validator{PublicKey: chain.PublicKeyOf(key), VRFKey: chain.VRFKey(secret.Public())},
		})
	}
	r.genesis.Validators = r.members[:n]
	var peers []chain.PublicKey
	for i, v := range r.genesis.Validators {
		if i != self {
			peers = append(peers, v.PublicKey)
		}
	}
	r.votes = &fakeVotes{journal: r.journal}
	final := ledgertest.Open(t, r.genesis)
	unanimous := *r.genesis.Set() // n-t is 0: no submission waits for peers
	unanimous.Threshold = uint32(n)
	pool, err := mempool.Open(t.Context(), mempool.Config{
		Key: r.keys[self], ChainID: r.genesis.ChainID, MaxMessageBytes: int(r.genesis.Parameters.MaxMessageBytes),
		MaxBlockBytes: int(r.genesis.Parameters.MaxBlockBytes), Set: &unanimous, Storage: new(memoryBatches), Index: noIndex{},
		Replicator: noPeers{},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	group := tasks.New(ctx)
	t.Cleanup(func() {
		cancel()
		pool.Close()
		group.Wait()
	})
	counter := func() prometheus.Counter { return prometheus.NewCounter(prometheus.CounterOpts{}) }
	r.Voter = New(Config{
		Genesis: r.genesis, Key: r.keys[self], Ledger: final, Pool: pool,
		Network: &fakeNetwork{journal: r.journal, peers: peers}, State: fakeState{}, Apply: r.apply,
		Finals: r.finals, Contradictions: r.failures, CatchUp: func(uint64, chain.PublicKey) {},
		VerifyBlock: (*chain.Block).VerifySignature,
		HasCommitment: func(peer chain.PublicKey, _ uint64, age time.Duration) bool {
			had, ok := r.acknowledged[peer]
			return ok && had >= age
		},
		Change: r.change.Load, Changed: r.changed, Linked: func(*chain.NextSet) bool { return r.linked.Load() },
		Checkpoint: func() chain.Checkpoint { return *r.checkpoint.Load() },
		Evidence:   func(chain.Evidence) {}, Now: func() time.Time { return r.now() }, Tasks: group,
		Metrics: Metrics{
			Waits: counter(), Breaches: counter(), InvalidBlocks: counter(), Misfits: counter(),
			Withheld: prometheus.NewCounterVec(prometheus.CounterOpts{}, []string{"reason"}),
		},
		Name: chain.PublicKey.String, Logger: slog.New(slog.DiscardHandler),
	})
	return r
}

// apply does what the node does of a block that the voter needs.
func (r *room) apply(f *chain.FinalBlock, ids []chain.Hash, justification []*chain.Certificate) error {
	tip, err := r.cfg.Ledger.Append(context.Background(), f, ids, nil, nil, justification)
	if err != nil {
		return err
	}
	if err := r.cfg.Pool.Committed(f.Header.Height, f.Header.Time(), f.Body, ids); err != nil {
		return err
	}
	r.cfg.Ledger.Publish(tip)
	return nil
}

// nextEvent waits for the next event of the queue and takes it.
func (r *room) nextEvent() queued {
	for {
		<-r.events.ready
		if e, ok := r.events.take(); ok {
			return e
		}
	}
}

// newSettled returns the voter of a chain with one validator and a Delta, whose core may vote.
func newSettled(t *testing.T, delta time.Duration) *room {
	t.Helper()
	r := newRoom(t, 1, 1, delta)
	if err := r.Start(r.votes, 0); err != nil {
		t.Fatal(err)
	}
	r.settle(1)
	if !r.core.Settled() {
		t.Fatal("the core does not vote to begin with")
	}
	return r
}
