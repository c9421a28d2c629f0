package node

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/trie"
)

// follower brings the trie up to the final blocks, off the way to finality: headers certify its
// roots some heights later. It compares its root with the one that each header certifies, so that a
// node whose state is wrong stops rather than vote on it.
type follower struct {
	n    *Node
	open func(context.Context) (*trie.Trie, error)
	wake chan struct{}

	mu         sync.Mutex
	trie       *trie.Trie
	changed    chan struct{} // closed and renewed when height changes
	height     uint64
	newestRoot chain.Hash
	// indexed is the highest height that the pool was told is covered: after a failed write the
	// trie is behind it again.
	indexed uint64
}

// newFollower opens the trie in the data directory.
func newFollower(ctx context.Context, n *Node) (*follower, error) {
	f := &follower{n: n, changed: make(chan struct{}), wake: make(chan struct{}, 1)}
	f.open = func(ctx context.Context) (*trie.Trie, error) {
		return trie.Open(ctx, filepath.Join(n.cfg.Data, "state.db"), trie.Options{
			Chain: n.genesis.Hash(), HistoryHeights: uint64(n.cfg.Limits.HistoryHeights), CacheBytes: trieCacheBytes,
		})
	}
	t, err := f.open(ctx)
	if err != nil {
		return nil, err
	}
	f.stand(t)
	return f, nil
}

// trieCacheBytes is the memory for pages of the trie: it holds about 0.6 million messages.
const trieCacheBytes = 64 << 20

// stand makes t the trie, and its newest height the one that is computed.
func (f *follower) stand(t *trie.Trie) {
	height := t.Height()
	root, _ := t.Root(height)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.trie = t
	f.move(height, root)
}

func (f *follower) move(height uint64, root chain.Hash) {
	f.height, f.newestRoot = height, root
	f.indexed = max(f.indexed, height)
	close(f.changed)
	f.changed = make(chan struct{})
}

// current returns the trie.
func (f *follower) current() *trie.Trie {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.trie
}

// poke says that there is a new final block.
func (f *follower) poke() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// newest returns the newest height whose root is computed, and that root.
func (f *follower) newest() (uint64, chain.Hash) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.height, f.newestRoot
}

// root returns the root after a height that is computed, if it is kept.
func (f *follower) root(height uint64) (chain.Hash, bool) {
	root, ok := f.current().Root(height)
	return root, ok
}

// wait returns nil once the root of height is computed.
func (f *follower) wait(ctx context.Context, height uint64) error {
	for {
		f.mu.Lock()
		reached, changed := f.height >= height, f.changed
		f.mu.Unlock()
		if reached {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

// run appends final blocks to the trie until ctx ends. A full disk makes it wait for space.
func (f *follower) run(ctx context.Context) error {
	for {
		for height, _ := f.newest(); height < f.n.tip.Load().block.Header.Height && ctx.Err() == nil; height, _ = f.newest() {
			err := f.append(ctx, height+1)
			if err != nil && ctx.Err() == nil && f.spaceIsLow() && !errors.Is(err, errDiverged) {
				err = f.reopen(ctx, err)
			}
			if err != nil && ctx.Err() == nil {
				return fmt.Errorf("state of height %d: %w", height+1, err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-f.wake:
		}
	}
}

// minFreeForState is the free disk space, in bytes, that the trie wants after a write failed for
// lack of it.
const minFreeForState = 64 << 20

func (f *follower) spaceIsLow() bool {
	free, err := freeDisk(f.n.cfg.Data)()
	return err == nil && free < minFreeForState
}

// reopen waits for space on the disk and goes on from what the trie's file has. Until the trie is
// where it was, Lookup fails: neither it nor the pool knows the messages between.
func (f *follower) reopen(ctx context.Context, cause error) error {
	f.n.log.Error("the disk is full: the state waits for space", "err", cause)
	if err := f.current().Close(); err != nil {
		f.n.log.Debug("trie closed after a failed write", "err", err)
	}
	for f.spaceIsLow() {
		t := time.NewTimer(diskRetry)
		select {
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		case <-t.C:
		}
	}
	t, err := f.open(ctx)
	if err != nil {
		return err
	}
	f.stand(t)
	f.n.log.Info("the state goes on", "height", t.Height())
	return nil
}

func (f *follower) append(ctx context.Context, height uint64) error {
	b, err := f.n.finals.withIDs(ctx, height)
	if err != nil {
		return err
	}
	if err := f.check(&b.Header); err != nil {
		return err
	}
	leaves := make([]trie.Leaf, len(b.Messages))
	for i, m := range b.Messages {
		leaves[i] = trie.Leaf{Key: b.ids[i], Hash: trie.LeafHash(b.ids[i], m.Data), Index: uint32(i)}
	}
	root, err := f.current().Append(height, leaves)
	if err != nil {
		return err
	}
	f.mu.Lock()
	f.move(height, root)
	f.mu.Unlock()
	f.n.pool.Indexed(height)
	return nil
}

// check compares the root that a final header certifies with ours. A root that is no longer kept
// was compared before a restart.
func (f *follower) check(h *chain.Header) error {
	root, ok := f.root(h.StateHeight)
	if ok && root != h.StateRoot {
		return fmt.Errorf("%w: the final header at height %d certifies root %v of height %d, this node has %v",
			errDiverged, h.Height, h.StateRoot, h.StateHeight, root)
	}
	return nil
}

// Lookup makes the trie the pool's index of final messages.
func (f *follower) Lookup(id chain.Hash) (height uint64, index uint32, ok bool, err error) {
	f.mu.Lock()
	t, behind := f.trie, f.indexed-f.height
	f.mu.Unlock()
	if behind > 0 {
		return 0, 0, false, fmt.Errorf("the state is read again after a failed write: %d heights are missing", behind)
	}
	return t.Lookup(id)
}

// IDs calls visit with every id that the trie's file has.
func (f *follower) IDs(ctx context.Context, visit func(chain.Hash) bool) error {
	return f.current().Keys(ctx, func(key [32]byte) bool { return visit(key) })
}

// errDiverged: what this node computed is not what the network made final.
var errDiverged = errors.New("this node's state differs from the network's")
