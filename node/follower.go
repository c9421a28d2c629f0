package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/trie"
)

// follower brings the trie up to the final blocks, off the way to finality: headers certify its roots some heights later.
// It compares its root with the one that each header certifies, so that a node whose state is wrong stops
// rather than vote on it.
type follower struct {
	n    *Node
	trie *trie.Trie

	mu         sync.Mutex
	changed    chan struct{} // closed and renewed when height rises
	height     uint64
	newestRoot chain.Hash
	wake       chan struct{}
	// appended counts heights, between looks at the free space; run alone uses it.
	appended int
}

func newFollower(n *Node, t *trie.Trie) *follower {
	f := &follower{n: n, trie: t, changed: make(chan struct{}), wake: make(chan struct{}, 1), height: t.Height()}
	if root, ok := t.Root(f.height); ok {
		f.newestRoot = root
	}
	return f
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
	root, ok := f.trie.Root(height)
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

// run appends final blocks to the trie until ctx ends.
func (f *follower) run(ctx context.Context) error {
	for {
		height, _ := f.newest()
		for height < f.n.tip.Load().block.Header.Height {
			if ctx.Err() != nil {
				return nil
			}
			height++
			if err := f.awaitSpace(ctx); err != nil {
				return nil
			}
			if err := f.append(ctx, height); err != nil {
				if ctx.Err() != nil {
					return nil
				}
				return fmt.Errorf("state of height %d: %w", height, err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-f.wake:
		}
	}
}

// minFreeForState is the free disk space, in bytes, below which the trie waits: the last of it is for votes and blocks, which
// can wait for space in the middle of what they do, as the trie cannot.
const minFreeForState = 64 << 20

func (f *follower) awaitSpace(ctx context.Context) error {
	for {
		if f.appended++; f.appended%spaceCheckEvery != 1 {
			return nil
		}
		free, err := freeDisk(f.n.cfg.Data)()
		if err != nil || free >= minFreeForState {
			return nil // one that cannot be measured is no reason to stop
		}
		f.n.log.Error("the disk is nearly full: the state waits for space", "free", free)
		f.appended--
		t := time.NewTimer(diskRetry)
		select {
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		case <-t.C:
		}
	}
}

// spaceCheckEvery is for how many heights the free space is taken to have not changed much.
const spaceCheckEvery = 16

func (f *follower) append(ctx context.Context, height uint64) error {
	b, err := f.n.finals.block(ctx, height)
	if err != nil {
		return err
	}
	if err := f.check(&b.Header); err != nil {
		return err
	}
	leaves := make([]trie.Leaf, len(b.Messages))
	for i, m := range b.Messages {
		id := m.ID()
		leaves[i] = trie.Leaf{Key: id, Hash: trie.LeafHash(id, m.Data), Index: uint32(i)}
	}
	root, err := f.trie.Append(height, leaves)
	if err != nil {
		return err
	}
	f.mu.Lock()
	f.height, f.newestRoot = height, root
	close(f.changed)
	f.changed = make(chan struct{})
	f.mu.Unlock()
	f.n.pool.Indexed(height)
	return nil
}

// check compares the root that a final header certifies with ours. A root that is no longer kept was compared before a restart.
func (f *follower) check(h *chain.Header) error {
	root, ok := f.root(h.StateHeight)
	if ok && root != h.StateRoot {
		return fmt.Errorf("%w: the final header at height %d certifies root %v of height %d, this node has %v",
			errDiverged, h.Height, h.StateRoot, h.StateHeight, root)
	}
	return nil
}

// errDiverged: what this node computed is not what the network made final.
var errDiverged = errors.New("this node's state differs from the network's")
