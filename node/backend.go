package node

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"time"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/consensus"
	"github.com/diseq/diseq/node/mempool"
	"github.com/diseq/diseq/node/server"
	"github.com/diseq/diseq/node/store"
	"github.com/diseq/diseq/node/trie"
)

// backend answers the HTTP handlers.
type backend struct{ n *Node }

var _ server.Backend = (*backend)(nil)

// Genesis returns the genesis document.
func (b *backend) Genesis() *chain.Genesis { return b.n.genesis }

// Submit accepts all of messages or none.
func (b *backend) Submit(ctx context.Context, messages []chain.Message) ([]server.SubmitResult, error) {
	results, err := b.n.pool.Submit(ctx, messages)
	if err != nil {
		return nil, poolError(err)
	}
	out := make([]server.SubmitResult, len(results))
	for i, r := range results {
		out[i] = server.SubmitResult{ID: r.ID, Final: r.State == mempool.Final}
	}
	return out, nil
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
		return fmt.Errorf("%w: %w", server.ErrStorageLow, err)
	case errors.Is(err, mempool.ErrAuthor):
		return fmt.Errorf("%w: this node is an observer; submit to a validator", server.ErrUnavailable)
	case errors.Is(err, mempool.ErrClosed):
		return fmt.Errorf("%w: the node is stopping", server.ErrUnavailable)
	case errors.Is(err, mempool.ErrEquivocation), errors.Is(err, mempool.ErrHeight), errors.Is(err, mempool.ErrBody):
		// About batches of peers and blocks: no request of a client is the cause of these.
		return fmt.Errorf("%w: %w", server.ErrUnavailable, err)
	}
	return err
}

// Wait returns nil once every id is final.
func (b *backend) Wait(ctx context.Context, ids []chain.Hash) error {
	_, err := b.n.pool.Wait(ctx, ids)
	return poolError(err)
}

// Message returns where a message stands.
func (b *backend) Message(ctx context.Context, id chain.Hash) (*server.MessageStatus, error) {
	for range 2 { // it may become final between the two looks
		r, err := b.n.pool.Status(id)
		if err != nil {
			return nil, poolError(err)
		}
		switch r.State {
		case mempool.Final:
			f, err := b.n.finals.block(ctx, r.Height)
			if err != nil {
				return nil, err
			}
			return &server.MessageStatus{ID: id, Message: f.Messages[r.Index], Final: true, Height: r.Height, Index: r.Index}, nil
		case mempool.Pending:
			if m, ok := b.n.pool.Message(id); ok {
				return &server.MessageStatus{ID: id, Message: m}, nil
			}
		default:
			return nil, fmt.Errorf("message %v: %w", id, server.ErrNotFound)
		}
	}
	return nil, fmt.Errorf("message %v: %w", id, server.ErrNotFound)
}

// Receipts returns the receipts of those messages that are final.
func (b *backend) Receipts(ctx context.Context, ids []chain.Hash) ([]*chain.Receipt, error) {
	out := make([]*chain.Receipt, len(ids))
	type place struct{ in, index int }
	places := map[uint64][]place{}
	for i, id := range ids {
		r, err := b.n.pool.Status(id)
		if err != nil {
			return nil, poolError(err)
		}
		if r.State == mempool.Final {
			places[r.Height] = append(places[r.Height], place{in: i, index: int(r.Index)})
		}
	}
	for height, wanted := range places {
		f, err := b.certified(ctx, height)
		if err != nil {
			return nil, err
		}
		indexes := make([]int, len(wanted))
		for i, w := range wanted {
			indexes[i] = w.index
		}
		receipts, err := chain.NewReceipts(f, nil, indexes...)
		if err != nil {
			return nil, err
		}
		for i, w := range wanted {
			out[w.in] = receipts[i]
		}
	}
	return out, nil
}

// certified returns a final block with the strongest certificate held.
func (b *backend) certified(ctx context.Context, height uint64) (*chain.FinalBlock, error) {
	f, err := b.n.finals.block(ctx, height)
	if err != nil {
		return nil, err
	}
	if height == 0 {
		return f, nil
	}
	c, err := b.n.store.Certificate(ctx, height)
	if err != nil {
		return nil, err
	}
	strong := *f
	strong.Certificate = *c
	return &strong, nil
}

// Block returns a final block.
func (b *backend) Block(ctx context.Context, height uint64) (*chain.FinalBlock, error) {
	if height > b.n.tip.Load().block.Header.Height {
		return nil, fmt.Errorf("block %d: %w", height, server.ErrNotFound)
	}
	return b.certified(ctx, height)
}

// Header returns the header and the certificate of a final block.
func (b *backend) Header(ctx context.Context, height uint64) (*chain.Header, *chain.Certificate, error) {
	if height > b.n.tip.Load().block.Header.Height {
		return nil, nil, fmt.Errorf("block %d: %w", height, server.ErrNotFound)
	}
	h, err := b.n.store.Header(ctx, height)
	if err != nil {
		return nil, nil, err
	}
	if height == 0 {
		return h, &chain.Certificate{}, nil
	}
	c, err := b.n.store.Certificate(ctx, height)
	return h, c, err
}

// FinalHeight returns the last final height and a channel that is closed when it rises.
func (b *backend) FinalHeight() (uint64, <-chan struct{}) { return b.n.finalHeight() }

// Pending returns the oldest pending messages.
func (b *backend) Pending(_ context.Context, limit, maxBytes int) ([]chain.Message, error) {
	return b.n.pool.Pending(limit, maxBytes), nil
}

// Commitments returns the VRF commitments held for the current and the next epoch.
func (b *backend) Commitments() []chain.Commitment { return b.n.beacon.commitments() }

// StateRoot returns the newest root computed.
func (b *backend) StateRoot() server.StateRoot {
	height, _ := b.n.follower.newest()
	out := server.StateRoot{Height: height}
	node, err := b.n.follower.current().RootNode(height)
	if err != nil {
		b.n.log.Error("newest root not at hand", "height", height, "err", err)
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
	at, _ := b.n.follower.newest()
	if height != nil {
		at = *height
	}
	p, err := b.n.follower.current().Prove(ctx, at, id)
	if errors.Is(err, trie.ErrNoSuchHeight) {
		return nil, fmt.Errorf("root of height %d: %w", at, server.ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	if p.Leaf != nil {
		f, err := b.n.finals.block(ctx, p.Leaf.Height)
		if err != nil {
			return nil, err
		}
		p.Leaf.Data = f.Messages[p.Leaf.Index].Data
	}
	out := &server.Proof{Height: at, Root: p.Root.Hash, Included: p.Included(), Proof: p}
	if out.Included {
		out.Legacy = (*trie.PoCProof)(p)
	}
	out.Header, out.Certificate, err = b.certifier(ctx, at, out.Root)
	return out, err
}

// certifier returns the first final header that certifies the root of a height, if there is one:
// states may be certified some heights later, and not each of them is.
func (b *backend) certifier(ctx context.Context, state uint64, root chain.Hash) (*chain.Header, *chain.Certificate, error) {
	top := b.n.tip.Load().block.Header.Height
	for height := state + 1; height <= min(top, state+chain.MaxStateLag); height++ {
		h, err := b.n.store.Header(ctx, height)
		if err != nil {
			return nil, nil, err
		}
		if h.StateHeight > state {
			break
		}
		if h.StateHeight == state && h.StateRoot == root {
			c, err := b.n.store.Certificate(ctx, height)
			return h, c, err
		}
	}
	return nil, nil, nil
}

func tolerance(n, t int) server.Tolerance {
	f := consensus.Tolerance(n, t)
	return server.Tolerance{Crash: f.Crash, Byzantine: f.Byzantine, ByzantineWithSynchrony: f.ByzantineWithSynchrony}
}

// Status returns the node's view of itself and of the chain.
func (b *backend) Status() server.Status {
	n := b.n
	tip, pool := n.tip.Load(), n.pool.Stats()
	state, _ := n.follower.newest()
	out := server.Status{
		ChainID: n.genesis.ChainID, Node: n.cfg.Name, PublicKey: n.self, Role: n.role(), Ready: true,
		Height: tip.block.Header.Height, BlockHash: tip.hash, BlockTimestamp: tip.block.Header.Timestamp,
		StateHeight: state, Threshold: n.set.Threshold, Validators: len(n.set.Validators), Headroom: n.headroom(),
		Tolerance: tolerance(len(n.set.Validators), int(n.set.Threshold)),
		Evidence:  n.store.EvidenceHeld(),
		Pool:      server.PoolStatus{Messages: pool.Messages, Bytes: pool.Bytes, MaxBytes: pool.MaxBytes},
		Versions:  server.Versions{Node: n.version, Protocol: chain.ProtocolVersion, Go: runtime.Version()},
	}
	if n.set.SynchronyDeltaMS != 0 {
		healthy := n.synchrony.ok.Load()
		out.Synchrony = &server.Synchrony{DeltaMS: n.set.SynchronyDeltaMS, Healthy: healthy, Settled: healthy && n.synchrony.settled.Load()}
	}
	if err := b.Ready(); err != nil {
		out.Ready, out.Reason = false, err.Error()
	}
	if !tip.seen.IsZero() {
		out.FinalizedTimestamp = uint64(tip.seen.UnixMilli())
	}
	if v := n.seq.view.Load(); v != nil && v.height == out.Height+1 {
		out.Round, out.Leader = v.round, uint32(v.order[int(v.round)%len(v.order)])
	}
	for _, p := range n.transport.Peers() {
		out.Peers = append(out.Peers, server.PeerStatus{Name: p.Name, PublicKey: p.Key, Connected: p.Up, Height: n.sync.final(p.Key)})
	}
	return out
}

// Validators returns the set in force at a height: in this version that of genesis.
func (b *backend) Validators(_ context.Context, height uint64) (*server.ValidatorsStatus, error) {
	n := b.n
	if height > n.tip.Load().block.Header.Height+1 {
		return nil, fmt.Errorf("the validators of height %d: %w", height, server.ErrNotFound)
	}
	made, missed := n.beacon.counts()
	out := &server.ValidatorsStatus{
		Height: height, Threshold: n.set.Threshold, SynchronyDeltaMS: n.set.SynchronyDeltaMS, ValidatorsHash: n.set.Hash(),
		Tolerance: tolerance(len(n.set.Validators), int(n.set.Threshold)),
	}
	for i, v := range n.genesis.Validators {
		out.Validators = append(out.Validators, server.ValidatorStatus{
			Index: uint32(i), Name: v.Name, PublicKey: v.PublicKey, VRFKey: v.VRFKey, RevealsMade: made[i], RevealsMissed: missed[i],
		})
	}
	return out, nil
}

// Evidence returns the evidence held.
func (b *backend) Evidence(ctx context.Context, limit int) ([]chain.Evidence, error) {
	return b.n.store.Evidence(ctx, limit)
}

// Ready returns nil if the node is caught up and able to serve.
func (b *backend) Ready() error {
	if !b.n.sync.settled() {
		return errors.New("just started: asking the peers how far they are")
	}
	if behind := b.n.sync.behind(); behind > farBehind {
		return fmt.Errorf("catching up: %d heights behind", behind)
	}
	height := b.n.tip.Load().block.Header.Height
	if state, _ := b.n.follower.newest(); height-state > chain.MaxStateLag {
		return fmt.Errorf("the state is %d heights behind the blocks", height-state)
	}
	return nil
}

// headroom returns the number of validators connected or heard from lately, this one included,
// minus the threshold.
func (n *Node) headroom() int {
	heard := 0
	if n.set.Index(n.self) >= 0 {
		heard++
	}
	for _, p := range n.transport.Peers() {
		if n.set.Index(p.Key) >= 0 && (p.Up || time.Since(p.LastHeard) < heardLately) {
			heard++
		}
	}
	return heard - int(n.set.Threshold)
}

// heardLately is for how long a validator counts as heard from.
const heardLately = 5 * time.Second
