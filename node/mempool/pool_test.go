package mempool

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/diseq/diseq/node/chain"
)

const testChain = "test-chain"

// testKey returns the key of node i.
func testKey(i int) ed25519.PrivateKey {
	seed := sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(i)))
	return ed25519.NewKeyFromSeed(seed[:])
}

// tb is what helpers need of a test, be it one of testing or of rapid.
type tb interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
	Cleanup(f func())
	Context() context.Context
}

func author(i int) chain.PublicKey { return chain.PublicKeyOf(testKey(i)) }

// span returns the numbers from first on, n of them.
func span(first, n int) []int {
	numbers := make([]int, n)
	for i := range numbers {
		numbers[i] = first + i
	}
	return numbers
}

// setOf returns a set of nodes of which all have to sign: it asks for no acknowledgements.
func setOf(nodes ...int) *chain.ValidatorSet {
	s := &chain.ValidatorSet{Threshold: uint32(len(nodes))}
	for _, i := range nodes {
		s.Validators = append(s.Validators, chain.Validator{PublicKey: author(i)})
	}
	return s
}

func message(format string, args ...any) chain.Message {
	return chain.Message{Data: fmt.Appendf(nil, format, args...)}
}

func texts(messages []chain.Message) []string {
	out := make([]string, len(messages))
	for i, m := range messages {
		out[i] = string(m.Data)
	}
	return out
}

// memoryStorage is a Storage in memory that outlives pools.
type memoryStorage struct {
	mu      sync.Mutex
	batches []chain.StoredBatch
	meta    []byte
	writes  int
	// before is called at the start of each AddBatches, outside mu; its error fails the write.
	before func([]chain.StoredBatch) error
}

func (s *memoryStorage) AddBatches(_ context.Context, batches []chain.StoredBatch) error {
	s.mu.Lock()
	before := s.before
	s.mu.Unlock()
	if before != nil {
		if err := before(batches); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writes++
	for _, b := range batches {
		if !s.has(b.Hash) {
			s.batches = append(s.batches, b)
		}
	}
	return nil
}

func (s *memoryStorage) has(hash chain.Hash) bool {
	return slices.ContainsFunc(s.batches, func(b chain.StoredBatch) bool { return b.Hash == hash })
}

func (s *memoryStorage) PendingBatches(_ context.Context, visit func(chain.StoredBatch) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range s.batches {
		if err := visit(b); err != nil {
			return err
		}
	}
	return nil
}

func (s *memoryStorage) PutMeta(_ context.Context, _ string, value []byte) error {
	s.meta = value
	return nil
}

func (s *memoryStorage) Meta(context.Context, string) ([]byte, error) { return s.meta, nil }

// checkSources fails unless the messages with these ids are where the sources say.
func (s *memoryStorage) checkSources(t tb, ids []chain.Hash, sources []chain.Source) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	encoded := map[chain.Hash][]byte{}
	for _, b := range s.batches {
		encoded[b.Hash] = b.Data
	}
	for _, source := range sources {
		run := ids[:source.Count]
		ids = ids[source.Count:]
		if source.Batch == (chain.Hash{}) {
			continue
		}
		at := encoded[source.Batch][source.Offset:]
		for _, id := range run {
			size := 8 + binary.BigEndian.Uint32(at[4:])
			if got := (chain.Message{Data: at[8:size]}).ID(); got != id {
				t.Fatalf("message %v is where %v should be", got, id)
			}
			at = at[size:]
		}
	}
	if len(ids) > 0 {
		t.Fatalf("%d messages have no source", len(ids))
	}
}

func (s *memoryStorage) remove(hashes []chain.Hash) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.batches = slices.DeleteFunc(s.batches, func(b chain.StoredBatch) bool { return slices.Contains(hashes, b.Hash) })
}

func (s *memoryStorage) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.batches)
}

func (s *memoryStorage) set(before func([]chain.StoredBatch) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before = before
}

// memoryIndex is an Index in memory.
type memoryIndex struct {
	mu      sync.Mutex
	ids     map[chain.Hash]standing
	lookups int
	err     error
}

func (x *memoryIndex) Lookup(id chain.Hash) (uint64, uint32, bool, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.lookups++
	s, ok := x.ids[id]
	return s.height, s.index, ok, x.err
}

func (x *memoryIndex) IDs(_ context.Context, visit func(chain.Hash) bool) error {
	x.mu.Lock()
	ids := slices.Collect(maps.Keys(x.ids))
	x.mu.Unlock()
	for _, id := range ids {
		if !visit(id) {
			return nil
		}
	}
	return nil
}

func (x *memoryIndex) add(height uint64, ids []chain.Hash) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for i, id := range ids {
		x.ids[id] = standing{height, uint32(i)}
	}
}

// pushes is a Replicator that hands each batch to a function.
type pushes func(hash chain.Hash, encoded []byte)

func (f pushes) Push(hash chain.Hash, encoded []byte) { f(hash, encoded) }

// testNode is a pool with what it stands on.
type testNode struct {
	*Pool
	storage *memoryStorage
	index   *memoryIndex
	mu      sync.Mutex
	pushed  [][]byte
}

// newNode opens the pool of node i of n. It waits for no acknowledgements unless configure says so.
func newNode(t tb, i, n int, configure ...func(*Config)) *testNode {
	t.Helper()
	return openNode(t, i, n, &memoryStorage{}, &memoryIndex{ids: map[chain.Hash]standing{}}, configure...)
}

func openNode(t tb, i, n int, storage *memoryStorage, index *memoryIndex, configure ...func(*Config)) *testNode {
	t.Helper()
	node := &testNode{storage: storage, index: index}
	cfg := Config{
		Key: testKey(i), ChainID: testChain, MaxMessageBytes: 1 << 10, MaxBlockBytes: 64 << 10, Set: setOf(span(0, n)...),
		Storage: storage, Index: index,
		Replicator: pushes(func(_ chain.Hash, encoded []byte) {
			node.mu.Lock()
			defer node.mu.Unlock()
			node.pushed = append(node.pushed, encoded)
		}),
	}
	for _, c := range configure {
		c(&cfg)
	}
	pool, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	node.Pool = pool
	return node
}

// pushedBatches returns the encodings pushed so far.
func (n *testNode) pushedBatches() [][]byte {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.pushed)
}

func (n *testNode) submit(t tb, messages ...chain.Message) []Result {
	t.Helper()
	results, err := n.Submit(t.Context(), messages)
	if err != nil {
		t.Fatal(err)
	}
	return results
}

// commit makes a body final, as a node does.
func (n *testNode) commit(t tb, b Body) {
	t.Helper()
	n.commitOf(t, time.Now(), b)
}

// commitOf makes the body of a block of that time final.
func (n *testNode) commitOf(t tb, at time.Time, b Body) {
	t.Helper()
	removable, sources := n.Removable(b.IDs)
	n.storage.checkSources(t, b.IDs, sources)
	n.storage.remove(removable)
	if err := n.Committed(n.height+1, at, b.Refs, b.IDs); err != nil {
		t.Fatal(err)
	}
}

// indexed lets the index catch up.
func (n *testNode) indexed(blocks ...recentBlock) {
	for _, b := range blocks {
		n.index.add(b.height, b.ids)
		n.Indexed(b.height)
	}
}

func (n *testNode) selected(t tb) Body {
	t.Helper()
	b, err := n.Select(n.height, n.cfg.MaxBlockBytes)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// batch returns a signed batch of node i.
func batch(i int, incarnation, number uint64, messages ...chain.Message) (encoded []byte, ref chain.BatchRef) {
	b := &chain.Batch{Incarnation: incarnation, Number: number, Messages: messages}
	b.Sign(testKey(i), testChain)
	return b.Encode(), chain.BatchRef{Author: b.Author, Hash: b.Hash(testChain)}
}

// receive takes a batch of node i from its author.
func (n *testNode) receive(t tb, i int, incarnation, number uint64, messages ...chain.Message) chain.BatchRef {
	t.Helper()
	encoded, ref := batch(i, incarnation, number, messages...)
	if err := n.Receive(t.Context(), author(i), encoded); err != nil {
		t.Fatal(err)
	}
	return ref
}

func wantTexts(t tb, what string, got []chain.Message, want ...string) {
	t.Helper()
	if !slices.Equal(texts(got), want) {
		t.Fatalf("%s: got %q, want %q", what, texts(got), want)
	}
}

func wantError(t tb, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Fatalf("got error %v, want %v", got, want)
	}
}
