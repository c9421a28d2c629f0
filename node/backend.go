package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"time"

	"github.com/diseq/diseq/node/catchup"
	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/consensus"
	"github.com/diseq/diseq/node/internal/patient"
	"github.com/diseq/diseq/node/internal/repair"
	"github.com/diseq/diseq/node/internal/trace"
	"github.com/diseq/diseq/node/ledger"
	"github.com/diseq/diseq/node/mempool"
	"github.com/diseq/diseq/node/server"
	"github.com/diseq/diseq/node/state"
	"github.com/diseq/diseq/node/store"
	"github.com/diseq/diseq/node/target"
	"github.com/diseq/diseq/node/trie"
	"github.com/diseq/diseq/node/voter"
)

// backend answers the HTTP handlers and the metrics' gauges.
type backend struct {
	name, version string
	self          chain.PublicKey
	genesis       *chain.Genesis
	log           *slog.Logger

	network *network
	store   *store.Store
	ledger  *ledger.Ledger
	blocks  *repair.Blocks
	state   *state.Follower
	pool    *mempool.Pool
	catchup *catchup.Catchup
	voter   *voter.Voter
	target  *target.Follower
	disk    *patient.Writer
	// freeDisk returns the free space of the disk of the data directory.
	freeDisk func() (uint64, error)
	// checkpoint returns that of the peers file, zero without one.
	checkpoint func() chain.Checkpoint
	// unrecorded says that the node was started with a vote store that waits for its record.
	unrecorded bool
	traces     *trace.Tracer
}

// awaitsRecord says that the node may vote as soon as the peers file records its vote store.
func (b *backend) awaitsRecord() bool { return b.unrecorded && b.voter.VotesFrom() == voter.Never }

var _ server.Backend = (*backend)(nil)

// Genesis returns the genesis document.
func (b *backend) Genesis() *chain.Genesis { return b.genesis }

// Submit accepts all of messages or none. Only a validator takes them, and for a while one that has
// left.
func (b *backend) Submit(ctx context.Context, messages []chain.Message, kept func()) ([]server.SubmitResult, error) {
	if b.role() == roleObserver && !b.pool.Leaving() {
		return nil, poolError(mempool.ErrAuthor)
	}
	if b.ended() {
		return nil, fmt.Errorf("%w: this validator has lost its vote store, and every block needs the votes of all validators: nothing "+
			"becomes final any more", server.ErrUnavailable)
	}
	accepted := b.traces.Submit(ctx, messages)
	results, err := b.pool.SubmitThen(ctx, messages, kept)
	accepted(err)
	if err != nil {
		return nil, b.readError(poolError(err))
	}
	return submitResults(results), nil
}

// poolError puts the pool's errors in the server's terms. Each exported error of the pool has one,
// so that none of them is an internal error to a client.
func poolError(err error) error {
	if full, ok := errors.AsType[*mempool.FullError](err); ok {
		return &server.FullError{RetryAfter: full.RetryAfter}
	}
	_, long := errors.AsType[*mempool.TooLargeError](err)
	switch {
	case long, errors.Is(err, mempool.ErrTooMany):
		return &server.RequestError{TooLarge: true, Reason: strings.TrimPrefix(err.Error(), "mempool: ")}
	case errors.Is(err, mempool.ErrEmpty):
		return &server.RequestError{Reason: strings.TrimPrefix(err.Error(), "mempool: ")}
	case errors.Is(err, mempool.ErrShare):
		return &server.FullError{RetryAfter: time.Second}
	case errors.Is(err, mempool.ErrStorageLow), errors.Is(err, store.ErrDiskFull):
		return fmt.Errorf("%w: %s", server.ErrStorageLow, strings.TrimPrefix(err.Error(), mempool.ErrStorageLow.Error()+": "))
	case errors.Is(err, mempool.ErrAuthor):
		return fmt.Errorf("%w: this node is an observer; submit to a validator", server.ErrUnavailable)
	case errors.Is(err, mempool.ErrLeft):
		return fmt.Errorf("%w: this node has left the validator set, and the messages are not final yet; submit them again, to a validator",
			server.ErrUnavailable)
	case errors.Is(err, mempool.ErrClosed):
		return fmt.Errorf("%w: the node is stopping", server.ErrUnavailable)
	case errors.Is(err, mempool.ErrEquivocation), errors.Is(err, mempool.ErrHeight), errors.Is(err, mempool.ErrBody):
		// About batches of peers and blocks: no request of a client is the cause of these.
		return fmt.Errorf("%w: %w", server.ErrUnavailable, err)
	}
	return err
}

// repairPatience is for how long a request waits for a damaged block to be replaced by a copy.
const repairPatience = 5 * time.Second

// readError puts damage in the server's terms: this node repairs itself, and another can answer.
func (b *backend) readError(err error) error {
	if errors.Is(err, server.ErrUnavailable) {
		return err // said already
	}
	if errors.Is(err, trie.ErrRecomputing) || errors.Is(err, store.ErrCorrupt) {
		b.blocks.Note(err)
		return fmt.Errorf("%w: %w; try again, or ask another node", server.ErrUnavailable, err)
	}
	return err
}

// Wait returns once every id is final, or ctx ends.
func (b *backend) Wait(ctx context.Context, ids []chain.Hash) ([]server.SubmitResult, error) {
	results, err := b.pool.Wait(ctx, ids)
	return submitResults(results), b.readError(poolError(err))
}

func submitResults(results []mempool.Result) []server.SubmitResult {
	out := make([]server.SubmitResult, len(results))
	for i, r := range results {
		out[i] = server.SubmitResult{ID: r.ID, Final: r.State == mempool.Final}
	}
	return out
}

// Message returns a message and whether it is pending or final.
func (b *backend) Message(ctx context.Context, id chain.Hash) (*server.MessageStatus, error) {
	ctx, cancel := context.WithTimeout(ctx, repairPatience)
	defer cancel()
	for range 2 { // it may become final between the two reads
		r, err := b.pool.Status(id)
		if err != nil {
			return nil, b.readError(poolError(err))
		}
		switch r.State {
		case mempool.Final:
			f, err := b.ledger.Block(ctx, r.Height)
			if err != nil {
				return nil, b.readError(err)
			}
			m := f.Messages[r.Index]
			m.Data = bytes.Clone(m.Data) // an answer does not keep the block in memory
			return &server.MessageStatus{ID: id, Message: m, Final: true, Height: r.Height, Index: r.Index}, nil
		case mempool.Pending:
			if m, ok := b.pool.Message(id); ok {
				return &server.MessageStatus{ID: id, Message: m}, nil
			}
		default:
			return nil, fmt.Errorf("message %v: %w", id, server.ErrNotFound)
		}
	}
	return nil, fmt.Errorf("message %v: %w", id, server.ErrNotFound)
}

// Receipts returns the receipts of those messages that are final.
func (b *backend) Receipts(ctx context.Context, ids []chain.Hash, from uint32) ([]*chain.Receipt, error) {
	ctx, cancel := context.WithTimeout(ctx, repairPatience)
	defer cancel()
	places := make([]ledger.Place, len(ids))
	for i, id := range ids {
		r, err := b.pool.Status(id)
		if err != nil {
			return nil, b.readError(poolError(err))
		}
		if r.State == mempool.Final {
			places[i] = ledger.Place{Height: r.Height, Index: int(r.Index)}
		}
	}
	made := b.traces.Receipts(ids)
	receipts, err := b.ledger.Receipts(ctx, places, from)
	made(err)
	return receipts, b.readError(err)
}

// Block returns a final block.
func (b *backend) Block(ctx context.Context, height uint64) (*chain.FinalBlock, error) {
	if height > b.ledger.Height() {
		return nil, fmt.Errorf("block %d: %w", height, server.ErrNotFound)
	}
	ctx, cancel := context.WithTimeout(ctx, repairPatience)
	defer cancel()
	f, err := b.ledger.Certified(ctx, height)
	return f, b.readError(err)
}

// Messages returns the messages of a final block, and their ids: those of a block that is in memory
// are known.
func (b *backend) Messages(ctx context.Context, height uint64) ([]chain.Message, []chain.Hash, error) {
	if height > b.ledger.Height() {
		return nil, nil, fmt.Errorf("block %d: %w", height, server.ErrNotFound)
	}
	ctx, cancel := context.WithTimeout(ctx, repairPatience)
	defer cancel()
	f, err := b.ledger.WithIDs(ctx, height)
	if err != nil {
		return nil, nil, b.readError(err)
	}
	return f.Messages, f.IDs, nil
}

// Head returns a final block without its messages, and its certificate.
func (b *backend) Head(ctx context.Context, height uint64) (*chain.Block, *chain.Certificate, error) {
	if height > b.ledger.Height() {
		return nil, nil, fmt.Errorf("block %d: %w", height, server.ErrNotFound)
	}
	ctx, cancel := context.WithTimeout(ctx, repairPatience)
	defer cancel()
	h, err := b.ledger.Head(ctx, height)
	if err != nil {
		return nil, nil, b.readError(err)
	}
	if height == 0 {
		return h, &chain.Certificate{}, nil
	}
	c, err := b.ledger.Certificate(ctx, height)
	return h, c, b.readError(err)
}

// FinalHeight returns the last final height and a channel that is closed when it rises.
func (b *backend) FinalHeight() (uint64, <-chan struct{}) { return b.ledger.Final() }

// Pending returns the oldest pending messages.
func (b *backend) Pending(_ context.Context, limit, maxBytes int) ([]chain.Message, error) {
	return b.pool.Pending(limit, maxBytes), nil
}

// Commitments returns the verified VRF commitments for the current and the next epoch.
func (b *backend) Commitments() []chain.Commitment { return b.ledger.Beacon().Commitments() }

// StateRoot returns the newest root computed.
func (b *backend) StateRoot() server.StateRoot {
	height, _ := b.state.Newest()
	out := server.StateRoot{Height: height}
	node, err := b.state.RootNode(height)
	if err != nil {
		b.log.Error("state root not read", "height", height, "err", err)
		return out
	}
	out.Hash, out.Left, out.Right = optional(node.Hash), optional(node.Left), optional(node.Right)
	return out
}

func optional(h chain.Hash) *chain.Hash {
	if h.IsZero() {
		return nil
	}
	return &h
}

// Prove returns a trie proof.
func (b *backend) Prove(ctx context.Context, id chain.Hash, height *uint64) (*server.Proof, error) {
	ctx, cancel := context.WithTimeout(ctx, repairPatience)
	defer cancel()
	at, _ := b.state.Newest()
	if height != nil {
		at = *height
	}
	p, err := b.state.Prove(ctx, at, id)
	if errors.Is(err, trie.ErrNoSuchHeight) {
		return nil, fmt.Errorf("root of height %d: %w", at, server.ErrNotFound)
	}
	if err != nil {
		return nil, b.readError(err)
	}
	if p.Leaf != nil {
		f, err := b.ledger.Block(ctx, p.Leaf.Height)
		if err != nil {
			return nil, b.readError(err)
		}
		p.Leaf.Data = bytes.Clone(f.Messages[p.Leaf.Index].Data)
	}
	out := &server.Proof{Height: at, Root: p.Root.Hash, Included: p.Included(), Proof: p}
	if out.Included {
		out.Legacy = (*trie.PoCProof)(p)
	}
	out.Header, out.Certificate, err = b.ledger.Certifier(ctx, at, out.Root)
	return out, b.readError(err)
}

func tolerance(n, t int) server.Tolerance {
	f := consensus.Tolerance(n, t)
	return server.Tolerance{Crash: f.Crash, Byzantine: f.Byzantine, ByzantineWithSynchrony: f.ByzantineWithSynchrony}
}

// Status returns the node's view of itself and of the chain.
func (b *backend) Status() server.Status {
	tip, pool := b.ledger.Tip(), b.pool.Stats()
	set, _ := b.ledger.Sets().At(tip.Height() + 1) // not the open one, which may be a height ahead
	state, _ := b.state.Newest()
	out := server.Status{
		ChainID: b.genesis.ChainID, Node: b.name, PublicKey: b.self, Role: b.role(), Ready: true,
		Height: tip.Height(), BlockHash: tip.Hash, BlockTimestamp: tip.Block.Header.Timestamp,
		StateHeight: state, Generation: set.Generation, Threshold: set.Threshold, Validators: len(set.Validators),
		Headroom: b.network.headroom(set), Tolerance: tolerance(len(set.Validators), int(set.Threshold)),
		Evidence: b.store.EvidenceHeld(),
		Pool:     server.PoolStatus{Messages: pool.Messages, Bytes: pool.Bytes, MaxBytes: pool.MaxBytes},
		Versions: server.Versions{Node: b.version, Protocol: chain.ProtocolVersion, Go: runtime.Version()},
	}
	if pool.Left {
		out.Pool.HeldMessages = &pool.Held
	}
	if set.SynchronyDeltaMS != 0 {
		health := b.voter.Health()
		out.Synchrony = &server.Synchrony{DeltaMS: set.SynchronyDeltaMS, Healthy: health.Healthy, Settled: health.Settled}
	}
	if from := b.voter.VotesFrom(); from != voter.Never {
		out.VoteStore, out.VotesFromHeight = true, &from
	} else {
		out.VoteStore = b.awaitsRecord()
	}
	declared := b.target.Status()
	out.Target = (*server.TargetStatus)(declared.Target)
	for _, e := range declared.Endorsements {
		out.Endorsements = append(out.Endorsements, server.EndorsementStatus(e))
	}
	if c := b.checkpoint(); c.Height > 0 {
		out.Checkpoint = &c
	}
	out.CaughtUp, out.StorageLow = b.caughtUp() == nil, b.storageLow() != nil
	if err := b.Ready(); err != nil {
		out.Ready, out.Reason = false, err.Error()
	}
	if !tip.Seen.IsZero() {
		out.FinalizedTimestamp = uint64(tip.Seen.UnixMilli())
	}
	if v := b.voter.View(); v != nil && v.Height == out.Height+1 {
		out.Round, out.Leader = v.Round, uint32(v.Leader)
	}
	for _, p := range b.network.Peers() {
		last := b.catchup.Final(p.Key)
		out.Peers = append(out.Peers, server.PeerStatus{Name: p.Name, PublicKey: p.Key, Connected: p.Up, Height: last, Useless: p.Useless})
	}
	return out
}

// Validators returns the set in force at a height.
func (b *backend) Validators(_ context.Context, height uint64) (*server.ValidatorsStatus, error) {
	set, ok := b.ledger.Sets().Named(height)
	if !ok {
		return nil, fmt.Errorf("the validators of height %d: %w", height, server.ErrNotFound)
	}
	reveals := b.ledger.Beacon().Reveals()
	out := &server.ValidatorsStatus{
		Height: height, Generation: set.Generation, Threshold: set.Threshold, SynchronyDeltaMS: set.SynchronyDeltaMS,
		ValidatorsHash: set.Set().Hash(), Tolerance: tolerance(len(set.Validators), int(set.Threshold)),
	}
	for i, v := range set.Validators {
		r := reveals[v.PublicKey]
		out.Validators = append(out.Validators, server.ValidatorStatus{
			Index: uint32(i), Name: v.Name, PublicKey: v.PublicKey, VRFKey: v.VRFKey, RevealsMade: r.Made, RevealsMissed: r.Missed,
		})
	}
	return out, nil
}

// Changes returns the changes of the validator set with the final blocks that carry them.
func (b *backend) Changes(ctx context.Context, from uint32, limit int) ([]chain.FinalChange, error) {
	ctx, cancel := context.WithTimeout(ctx, repairPatience)
	defer cancel()
	changes, err := b.ledger.Changes(ctx, from, limit)
	return changes, b.readError(err)
}

// Evidence returns the stored evidence, oldest first, with the changes up to the set of its height.
func (b *backend) Evidence(ctx context.Context, limit int, from uint32) ([]*chain.EvidenceDocument, error) {
	found, err := b.store.Evidence(ctx, limit)
	if err != nil {
		return nil, b.readError(err)
	}
	out := make([]*chain.EvidenceDocument, len(found))
	for i := range found {
		e := &found[i]
		changes, err := b.ledger.ChangesTo(ctx, min(e.First.Height, b.ledger.Height()+1), from)
		if err != nil {
			return nil, b.readError(err)
		}
		out[i] = e.Document(changes)
	}
	return out, nil
}

// farBehind is the lag, in heights, from which on a node is not ready.
const farBehind = 10

// Ready returns nil if the node has caught up and, on a validator, has room for messages. A node
// that could vote and is not in the set is about to join, or has left: no client should submit to
// it.
func (b *backend) Ready() error {
	if err := b.caughtUp(); err != nil {
		return err
	}
	waits := b.awaitsRecord()
	switch observes := b.role() == roleObserver; {
	case observes && (waits || b.voter.VotesFrom() != voter.Never):
		return errors.New("has a vote store, but is not in the validator set in force: takes no messages")
	case waits:
		return errors.New("its vote store is new: the first vote waits until the peers file records the store")
	}
	return b.storageLow()
}

// storageLow returns why the node cannot store messages, nil if it can. An observer stores none.
func (b *backend) storageLow() error {
	if err := b.pool.Accepting(); errors.Is(err, mempool.ErrStorageLow) {
		return errors.New(strings.TrimPrefix(err.Error(), "mempool: "))
	}
	return b.disk.Waiting()
}

// caughtUp returns nil if the node is not behind its peers and can write votes.
func (b *backend) caughtUp() error {
	if !b.catchup.KnowsPeers() {
		return errors.New("just started: asking the peers for their heights")
	}
	if c := b.checkpoint(); b.ledger.Height() < c.Height {
		return fmt.Errorf("catching up: height %d, the checkpoint of the peers file is at height %d", b.ledger.Height(), c.Height)
	}
	if behind := b.catchup.Behind(); behind > farBehind {
		return fmt.Errorf("catching up: %d heights behind", behind)
	}
	if err := b.blocks.Reason(); err != nil {
		return err
	}
	if err := b.state.Recomputing(); err != nil {
		return err
	}
	state, _ := b.state.Newest() // before the height, which is never below it
	if height := b.ledger.Height(); height-state > chain.MaxStateLag {
		return fmt.Errorf("the state is %d heights behind the blocks", height-state)
	}
	return b.disk.Waiting()
}

// The roles of a node.
const (
	roleValidator = "validator"
	roleObserver  = "observer"
	roleRejoining = "rejoining"
)

// ended says that no block can become final any more, as far as this node can tell by itself: it
// lost its vote store, and without its vote the others are too few. They cannot be enough again,
// because to rejoin it needs the blocks that they decide.
func (b *backend) ended() bool {
	set, _ := b.ledger.Sets().At(b.ledger.Height() + 1)
	return b.role() == roleRejoining && len(set.Validators)-1 < int(set.Threshold)
}

// role is what the node is at the next height.
func (b *backend) role() string {
	next := b.ledger.Height() + 1
	set, _ := b.ledger.Sets().At(next)
	switch {
	case set.Index(b.self) < 0:
		return roleObserver
	case next < b.voter.VotesFrom() && !b.awaitsRecord():
		return roleRejoining
	default:
		return roleValidator
	}
}
