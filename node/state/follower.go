// Package state keeps the trie of final messages up to date with the final blocks, off the way to
// finality: a header certifies the trie's root some heights later.
//
// It promises that a node whose root differs from one that a final header certifies stops, rather
// than vote on a wrong state, and that a full disk makes it wait and not stop. A trie that is found
// damaged is discarded and computed again from the final blocks, without a restart. Until it is
// back at its former height, reads fail with trie.ErrRecomputing.
//
// It does not decide what is final and does not answer clients: it serves the voter, the pool's
// index and the node's backend.
package state

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/internal/wait"
	"github.com/diseq/diseq/node/ledger"
	"github.com/diseq/diseq/node/trie"
)

// Config is what a Follower is made of.
type Config struct {
	// Path is the directory of the trie, HistoryHeights for how many of the last heights roots and
	// proofs are kept.
	Path           string
	HistoryHeights uint64
	Genesis        *chain.Genesis
	Ledger         *ledger.Ledger
	// Indexed is called with each height whose messages Lookup finds from then on, in their order.
	Indexed func(height uint64)
	// FreeDisk returns the free space, in bytes, of the disk that Path is on.
	FreeDisk func() (uint64, error)
	// Damaged is called each time that the trie is discarded.
	Damaged func()
	Logger  *slog.Logger
}

// Follower appends the messages of final blocks to the trie and compares its roots with those that
// headers certify. Its methods may be called from any goroutine; Run is called once.
type Follower struct {
	cfg  Config
	wake chan struct{}

	mu      sync.Mutex
	trie    *trie.Trie
	changed chan struct{} // closed and renewed when height changes
	// height is the newest height whose root is computed, root that root.
	height uint64
	root   chain.Hash
	// indexed is the highest height that Indexed was called with: after a failed write, and while
	// it is computed again, the trie is below it.
	indexed uint64

	// hasher belongs to Run.
	hasher trie.LeafHasher
	// until is the height from which on a trie that was discarded is whole again, 0 if none was. It
	// belongs to Run.
	until uint64
}

// Open opens the trie, or creates it.
func Open(ctx context.Context, cfg Config) (*Follower, error) {
	f := &Follower{cfg: cfg, changed: make(chan struct{}), wake: make(chan struct{}, 1)}
	t, err := f.open(ctx, false)
	if err != nil {
		return nil, err
	}
	f.use(t)
	if err := f.removeOldFile(); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return f, nil
}

// oldFile is the SQLite file, beside Path, in which earlier versions kept the trie.
const oldFile = "state.db"

// removeOldFile removes the trie of an earlier version, which is computed again from the blocks, as
// after any loss of the trie.
func (f *Follower) removeOldFile() error {
	path := filepath.Join(filepath.Dir(f.cfg.Path), oldFile)
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	f.cfg.Logger.Warn("the state trie of an earlier version is removed: computing it again from the blocks", "file", path)
	for _, suffix := range []string{"-wal", "-shm", "-journal", ".new", ".new-wal", ".new-shm", ".lock", ""} {
		if err := os.Remove(path + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove the state trie of an earlier version: %w", err)
		}
	}
	return nil
}

// cacheBytes is the memory of the trie. It holds about 0.6 million messages; at ten million it
// holds what leads to each page, and a new message costs one read.
const cacheBytes = 96 << 20

func (f *Follower) open(ctx context.Context, discard bool) (*trie.Trie, error) {
	return trie.Open(ctx, f.cfg.Path, trie.Options{
		Chain: f.cfg.Genesis.Hash(), HistoryHeights: f.cfg.HistoryHeights, CacheBytes: cacheBytes,
		Discard: discard, Until: f.indexed,
	})
}

// Close closes the trie's files.
func (f *Follower) Close() error { return f.current().Close() }

// use makes t the trie, at its newest height.
func (f *Follower) use(t *trie.Trie) {
	height := t.Height()
	root, _ := t.Root(height)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.trie = t
	f.move(height, root)
}

func (f *Follower) move(height uint64, root chain.Hash) {
	f.height, f.root = height, root
	f.indexed = max(f.indexed, height)
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *Follower) current() *trie.Trie {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.trie
}

// Poke makes Run look for new final blocks. It returns at once.
func (f *Follower) Poke() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// Newest returns the newest height whose root is computed, and that root.
func (f *Follower) Newest() (uint64, chain.Hash) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.height, f.root
}

// Root returns the root after a height. ok is false if it is not computed yet or no longer kept.
func (f *Follower) Root(height uint64) (root chain.Hash, ok bool) {
	return f.current().Root(height)
}

// RootNode returns the root after a height with its children.
func (f *Follower) RootNode(height uint64) (trie.RootNode, error) {
	n, err := f.current().RootNode(height)
	return n, readable(err)
}

// Prove returns a proof that the state after a height has a message, or that it has none of that
// id.
func (f *Follower) Prove(ctx context.Context, height uint64, id chain.Hash) (*trie.Proof, error) {
	p, err := f.current().Prove(ctx, height, id)
	return p, readable(err)
}

// readable makes damage that a read has found an ErrRecomputing, and nothing else: Run discards the
// trie. A closed trie is between the two, or the node stops.
func readable(err error) error {
	if errors.Is(err, trie.ErrCorrupt) || errors.Is(err, trie.ErrClosed) {
		return fmt.Errorf("%w: %v", trie.ErrRecomputing, err)
	}
	return err
}

// Recomputing returns nil, or an error that says how far the trie is below the height at which it
// was.
func (f *Follower) Recomputing() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.height >= f.indexed {
		return nil
	}
	return fmt.Errorf("the state is being computed again from the blocks: height %d of %d", f.height, f.indexed)
}

// Wait returns nil once the root of height is computed.
func (f *Follower) Wait(ctx context.Context, height uint64) error {
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

// Run appends final blocks to the trie until ctx ends. A full disk makes it wait for space, and a
// damaged trie is computed again. Any other error, such as a root that differs from the network's,
// ends it.
func (f *Follower) Run(ctx context.Context) error {
	for {
		for height, _ := f.Newest(); height < f.cfg.Ledger.Height() && ctx.Err() == nil; height, _ = f.Newest() {
			err := f.append(ctx, height+1)
			switch {
			case ctx.Err() != nil:
				return nil
			case f.isDamaged():
				err = f.recompute(ctx)
			case err != nil && f.spaceIsLow() && !errors.Is(err, ErrDiverged):
				err = f.waitForSpace(ctx, err)
			}
			if err != nil && ctx.Err() == nil {
				return fmt.Errorf("state of height %d: %w", height+1, err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-f.wake:
		case <-f.current().Damaged():
			if err := f.recompute(ctx); err != nil && ctx.Err() == nil {
				return fmt.Errorf("state: %w", err)
			}
		}
	}
}

func (f *Follower) isDamaged() bool {
	select {
	case <-f.current().Damaged():
		return true
	default:
		return false
	}
}

// minFree is the free disk space, in bytes, that Run waits for after a write failed for lack of
// space.
const minFree = 64 << 20

// diskRetry is how often Run looks whether there is space again.
const diskRetry = time.Second

func (f *Follower) spaceIsLow() bool {
	free, err := f.cfg.FreeDisk()
	return err == nil && free < minFree
}

// waitForSpace waits for space on the disk and continues from what is in the trie's files. Until
// the trie is back at its former height neither it nor the pool knows the messages of the heights
// between.
func (f *Follower) waitForSpace(ctx context.Context, cause error) error {
	f.cfg.Logger.Error("disk full: the state trie waits for space", "want_free_bytes", minFree, "err", cause)
	if err := f.reopen(ctx, false); err != nil {
		return err
	}
	f.cfg.Logger.Info("state trie resumed: there is space on the disk again", "height", f.current().Height())
	return nil
}

// recompute discards a damaged trie. Run computes it again from the first block.
func (f *Follower) recompute(ctx context.Context) error {
	f.cfg.Logger.Error("the state trie is damaged on disk: computing it again from the blocks",
		"directory", f.cfg.Path, "heights", f.indexed, "err", f.current().Damage())
	f.cfg.Damaged()
	f.until = f.indexed
	return f.reopen(ctx, true)
}

// reopen closes the trie and opens it again once there is space on the disk. Discarding the trie's
// files makes space first.
func (f *Follower) reopen(ctx context.Context, discard bool) error {
	if err := f.Close(); err != nil {
		f.cfg.Logger.Debug("state trie closed", "err", err)
	}
	for patient := !discard; ; patient = true {
		for patient && f.spaceIsLow() {
			if err := wait.For(ctx, diskRetry); err != nil {
				return err
			}
		}
		t, err := f.open(ctx, discard)
		if err == nil {
			f.use(t)
			return nil
		}
		if !f.spaceIsLow() {
			return err
		}
	}
}

func (f *Follower) append(ctx context.Context, height uint64) error {
	b, err := f.cfg.Ledger.WithIDs(ctx, height)
	if err != nil {
		return err
	}
	if err := f.check(&b.Header); err != nil {
		return err
	}
	leaves := make([]trie.Leaf, len(b.Messages))
	for i, m := range b.Messages {
		leaves[i] = trie.Leaf{Key: b.IDs[i], Index: uint32(i)}
		f.hasher.Add(&leaves[i], m.Data)
	}
	f.hasher.Flush()
	root, err := f.current().Append(height, leaves)
	if err != nil {
		return err
	}
	f.mu.Lock()
	f.move(height, root)
	f.mu.Unlock()
	f.cfg.Indexed(height)
	if height == f.until {
		f.cfg.Logger.Info("the state trie is computed again", "height", height)
		f.until = 0
	}
	return nil
}

// check compares the root that a final header certifies with this node's. A root that is no longer
// kept was compared before a restart.
func (f *Follower) check(h *chain.Header) error {
	root, ok := f.Root(h.StateHeight)
	if ok && root != h.StateRoot {
		return fmt.Errorf("%w: the final header at height %d certifies root %v of height %d, this node has %v",
			ErrDiverged, h.Height, h.StateRoot, h.StateHeight, root)
	}
	return nil
}

// Lookup returns the height and the place in the block of a final message: the trie is the pool's
// index.
func (f *Follower) Lookup(id chain.Hash) (height uint64, index uint32, ok bool, err error) {
	height, index, ok, err = f.current().Lookup(id)
	return height, index, ok, readable(err)
}

// IDs calls visit with every id in the trie's files, until visit returns false.
func (f *Follower) IDs(ctx context.Context, visit func(chain.Hash) bool) error {
	return f.current().Keys(ctx, func(key [32]byte) bool { return visit(key) })
}

// ErrDiverged is wrapped when a final header certifies another root than this node computed.
var ErrDiverged = errors.New("this node's state differs from the network's")
