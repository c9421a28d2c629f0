package server

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/diseq/diseq/node/chain"
)

// fake is a node that makes a block when told to, with real signatures, so that what the server
// answers can be verified.
type fake struct {
	genesis *chain.Genesis
	keys    []ed25519.PrivateKey

	mu sync.Mutex
	// next is the set in force; changed in its time by those of changes.
	next    *chain.NextSet
	changes []chain.FinalChange
	blocks  []*chain.FinalBlock
	changed chan struct{}
	pending []chain.Message
	reads   map[uint64]int // calls of Block

	failure     error // of every method that can fail
	submitError error
	notReady    error
	commitments []chain.Commitment
	proof       *Proof
	root        StateRoot
	evidence    []chain.Evidence

	votesFrom    *uint64
	target       *TargetStatus
	endorsements []EndorsementStatus
	checkpoint   *chain.Checkpoint
}

func newFake(tb testing.TB) *fake {
	tb.Helper()
	f := &fake{changed: make(chan struct{}), reads: map[uint64]int{}}
	g := &chain.Genesis{Version: 1, ChainID: "test", TimeMS: 1_700_000_000_123, Threshold: 3, Parameters: chain.DefaultParameters()}
	for i := range 4 {
		key := ed25519.NewKeyFromSeed(slices.Repeat([]byte{byte(i + 1)}, ed25519.SeedSize))
		f.keys = append(f.keys, key)
		g.Validators = append(g.Validators, chain.NamedValidator{
			Name: fmt.Sprintf("node-%d", i), Validator: chain.Validator{PublicKey: chain.PublicKeyOf(key), VRFKey: chain.VRFKey{31: byte(i + 1)}},
		})
	}
	if err := g.Validate(); err != nil {
		tb.Fatal(err)
	}
	f.genesis, f.next = g, g.First()
	f.blocks = []*chain.FinalBlock{{Block: chain.Block{Header: g.Header()}}}
	return f
}

// finalize makes messages the next block, with votes of as many validators as the threshold.
func (f *fake) finalize(messages ...chain.Message) *chain.FinalBlock {
	return f.finalizeWith(nil, messages...)
}

// replace makes a block that changes the validator set to one with another threshold.
func (f *fake) replace(threshold uint32) *chain.FinalBlock {
	next := chain.NextSet{Generation: f.next.Generation + 1, Threshold: threshold, Validators: f.next.Validators}
	change := &chain.Change{Next: next}
	for i := range f.next.Threshold {
		e := chain.Endorse(f.keys[i], f.genesis.ChainID, &next)
		change.Endorsements = append(change.Endorsements, chain.Endorsement{Validator: i, Signature: e.Signature})
	}
	return f.finalizeWith(change)
}

func (f *fake) finalizeWith(change *chain.Change, messages ...chain.Message) *chain.FinalBlock {
	f.mu.Lock()
	defer f.mu.Unlock()
	threshold := f.next.Threshold
	parent := &f.blocks[len(f.blocks)-1].Header
	h := *parent
	h.Height++
	h.ParentHash = parent.Hash()
	h.Timestamp = parent.Timestamp + 1000
	h.Proposer = 2
	h.MessagesRoot, h.MessagesCount = chain.MessagesRoot(messages), uint32(len(messages))
	h.ValidatorsHash, h.ChangeHash = parent.NextValidatorsHash, chain.Hash{}
	if change != nil {
		f.next = &change.Next
		h.ChangeHash, h.NextValidatorsHash = change.Hash(), f.next.Set().Hash()
	}
	block := &chain.FinalBlock{Block: chain.Block{Header: h, Change: change}, Messages: messages}
	block.Sign(f.keys[2])
	block.Certificate = chain.Certificate{Kind: chain.Finalize, Height: h.Height, Block: h.Hash()}
	for i := range threshold {
		block.Certificate.Votes = append(block.Certificate.Votes, f.vote(h.Height, h.Hash(), i))
	}
	f.blocks = append(f.blocks, block)
	if change != nil {
		final, err := chain.NewFinalChange(&block.Block, &block.Certificate)
		if err != nil {
			panic(err)
		}
		f.changes = append(f.changes, *final)
	}
	f.pending = slices.DeleteFunc(f.pending, func(m chain.Message) bool {
		return slices.ContainsFunc(messages, func(done chain.Message) bool { return m.ID() == done.ID() })
	})
	close(f.changed)
	f.changed = make(chan struct{})
	return block
}

func (f *fake) vote(height uint64, hash chain.Hash, validator uint32) chain.VoteSignature {
	v := chain.Vote{Kind: chain.Finalize, Height: height, Block: hash, Validator: validator}
	v.Sign(f.keys[validator], f.genesis.ChainID)
	return chain.VoteSignature{Validator: validator, Signature: v.Signature}
}

func (f *fake) Genesis() *chain.Genesis { return f.genesis }

func (f *fake) Submit(ctx context.Context, messages []chain.Message, kept func()) ([]SubmitResult, error) {
	kept()
	if f.failure != nil || f.submitError != nil {
		return nil, fmt.Errorf("fake: %w", errorOr(f.submitError, f.failure))
	}
	results := make([]SubmitResult, len(messages))
	for i, m := range messages {
		results[i].ID = m.ID()
		known, err := f.Message(ctx, results[i].ID)
		if err == nil {
			results[i].Final = known.Final
			continue
		}
		f.mu.Lock()
		f.pending = append(f.pending, m)
		f.mu.Unlock()
	}
	return results, nil
}

func errorOr(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

func (f *fake) Wait(ctx context.Context, ids []chain.Hash) ([]SubmitResult, error) {
	results := make([]SubmitResult, len(ids))
	for {
		f.mu.Lock()
		changed := f.changed
		f.mu.Unlock()
		if f.failure != nil {
			return nil, f.failure
		}
		f.mu.Lock()
		left := 0
		for i, id := range ids {
			block, _ := f.find(id)
			if results[i] = (SubmitResult{ID: id, Final: block != nil}); block == nil {
				left++
			}
		}
		f.mu.Unlock()
		if left == 0 {
			return results, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return results, ctx.Err()
		}
	}
}

func (f *fake) find(id chain.Hash) (block *chain.FinalBlock, index int) {
	for _, b := range f.blocks {
		for i, m := range b.Messages {
			if m.ID() == id {
				return b, i
			}
		}
	}
	return nil, 0
}

func (f *fake) Message(_ context.Context, id chain.Hash) (*MessageStatus, error) {
	if f.failure != nil {
		return nil, f.failure
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if b, i := f.find(id); b != nil {
		return &MessageStatus{ID: id, Message: b.Messages[i], Final: true, Height: b.Header.Height, Index: uint32(i)}, nil
	}
	for _, m := range f.pending {
		if m.ID() == id {
			return &MessageStatus{ID: id, Message: m}, nil
		}
	}
	return nil, fmt.Errorf("message %v: %w", id, ErrNotFound)
}

// entries are the changes below a height, to generations above from.
func (f *fake) entries(height uint64, from uint32) (out []chain.ValidatorSetChange) {
	for i := range f.changes {
		if c := &f.changes[i]; c.Header.Height < height && c.Next.Generation > from {
			entry, err := c.Entry()
			if err != nil {
				panic(err)
			}
			out = append(out, entry)
		}
	}
	return out
}

func (f *fake) Changes(_ context.Context, from uint32, limit int) ([]chain.FinalChange, error) {
	if f.failure != nil {
		return nil, f.failure
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	rest := f.changes[min(int(from)-1, len(f.changes)):]
	return rest[:min(limit, len(rest))], nil
}

func (f *fake) Receipts(_ context.Context, ids []chain.Hash, from uint32) ([]*chain.Receipt, error) {
	if f.failure != nil {
		return nil, f.failure
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make([]*chain.Receipt, len(ids))
	for i, id := range ids {
		if b, index := f.find(id); b != nil {
			var err error
			receipts, err := chain.NewReceipts(b, f.entries(b.Header.Height, from), index)
			if err != nil {
				return nil, err
			}
			out[i] = receipts[0]
		}
	}
	return out, nil
}

func (f *fake) Block(_ context.Context, height uint64) (*chain.FinalBlock, error) {
	if f.failure != nil {
		return nil, f.failure
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if height >= uint64(len(f.blocks)) {
		return nil, fmt.Errorf("height %d is not final: %w", height, ErrNotFound)
	}
	f.reads[height]++
	return f.blocks[height], nil
}

func (f *fake) Messages(ctx context.Context, height uint64) ([]chain.Message, []chain.Hash, error) {
	b, err := f.Block(ctx, height)
	if err != nil {
		return nil, nil, err
	}
	ids := make([]chain.Hash, len(b.Messages))
	for i, m := range b.Messages {
		ids[i] = m.ID()
	}
	return b.Messages, ids, nil
}

func (f *fake) Head(_ context.Context, height uint64) (*chain.Block, *chain.Certificate, error) {
	if f.failure != nil {
		return nil, nil, f.failure
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if height >= uint64(len(f.blocks)) {
		return nil, nil, fmt.Errorf("height %d is not final: %w", height, ErrNotFound)
	}
	b := f.blocks[height]
	certificate := b.Certificate
	return &b.Block, &certificate, nil
}

func (f *fake) FinalHeight() (uint64, <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return uint64(len(f.blocks) - 1), f.changed
}

func (f *fake) Pending(_ context.Context, limit, maxBytes int) ([]chain.Message, error) {
	if f.failure != nil {
		return nil, f.failure
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	size := 0
	for i, m := range f.pending {
		if size += len(m.Data); i >= limit || size > maxBytes {
			return slices.Clone(f.pending[:i]), nil
		}
	}
	return slices.Clone(f.pending), nil
}

func (f *fake) Commitments() []chain.Commitment { return f.commitments }

func (f *fake) StateRoot() StateRoot { return f.root }

func (f *fake) Prove(_ context.Context, _ chain.Hash, height *uint64) (*Proof, error) {
	if f.failure != nil {
		return nil, f.failure
	}
	if f.proof == nil || height != nil && *height != f.proof.Height {
		return nil, fmt.Errorf("no root is kept: %w", ErrNotFound)
	}
	return f.proof, nil
}

func (f *fake) Status() Status {
	height, _ := f.FinalHeight()
	return Status{
		ChainID: f.genesis.ChainID, Node: "node-0", Role: "validator", Height: height, Threshold: 3, Validators: 4,
		Tolerance: Tolerance{Crash: 1, Byzantine: 1, ByzantineWithSynchrony: 2}, Versions: Versions{Protocol: chain.ProtocolVersion},
		Evidence: len(f.evidence), Generation: f.next.Generation, VoteStore: true, VotesFromHeight: f.votesFrom, Target: f.target,
		Endorsements: f.endorsements, Checkpoint: f.checkpoint,
	}
}

func (f *fake) Validators(_ context.Context, height uint64) (*ValidatorsStatus, error) {
	if f.failure != nil {
		return nil, f.failure
	}
	if last, _ := f.FinalHeight(); height > last+1 {
		return nil, fmt.Errorf("validators of height %d: %w", height, ErrNotFound)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	set := f.genesis.First()
	for i := range f.changes {
		if f.changes[i].Header.Height < height {
			set = &f.changes[i].Next
		}
	}
	out := &ValidatorsStatus{Height: height, Generation: set.Generation, Threshold: set.Threshold, ValidatorsHash: set.Set().Hash()}
	for i, v := range set.Validators {
		out.Validators = append(out.Validators, ValidatorStatus{Index: uint32(i), Name: v.Name, PublicKey: v.PublicKey, VRFKey: v.VRFKey})
	}
	return out, nil
}

func (f *fake) Evidence(_ context.Context, limit int, from uint32) (out []*chain.EvidenceDocument, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, e := range f.evidence[:min(limit, len(f.evidence))] {
		out = append(out, e.Document(f.entries(e.First.Height, from)))
	}
	return out, f.failure
}

func (f *fake) Ready() error { return f.notReady }

// request is what tests send; answer what they look at.
type request struct {
	method, path, contentType, body string
	header                          http.Header
}

type answer struct {
	status int
	header http.Header
	body   string
}

func do(tb testing.TB, h http.Handler, q request) answer {
	tb.Helper()
	method := q.method
	if method == "" {
		method = http.MethodGet
	}
	r := httptest.NewRequestWithContext(tb.Context(), method, q.path, strings.NewReader(q.body))
	maps.Copy(r.Header, q.header)
	if q.contentType != "" {
		r.Header.Set("Content-Type", q.contentType)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	body, err := io.ReadAll(w.Result().Body)
	if err != nil {
		tb.Fatal(err)
	}
	return answer{w.Code, w.Result().Header, string(body)}
}

// errorCode returns the code of an error of /v1.
func (a answer) errorCode(tb testing.TB) string {
	tb.Helper()
	var e struct {
		Error struct{ Code, Message string }
	}
	if err := json.Unmarshal([]byte(a.body), &e); err != nil || e.Error.Code == "" || e.Error.Message == "" {
		tb.Fatalf("answer %q is no error of /v1: %v", a.body, err)
	}
	return e.Error.Code
}

// decode reads a JSON answer.
func decode[T any](tb testing.TB, a answer) T {
	tb.Helper()
	var v T
	if err := json.Unmarshal([]byte(a.body), &v); err != nil {
		tb.Fatalf("answer %q: %v", a.body, err)
	}
	return v
}

const jsonType = "application/json"

func testLogger(w io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(w, nil)) }

// requests is how many requests are counted for a route and a status.
func requests(s *Server, route, code string) float64 {
	return testutil.ToFloat64(s.metrics.requests.WithLabelValues(route, code))
}
