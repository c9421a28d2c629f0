// Package trie is the node's authenticated index of messages: a binary Merkle
// Patricia trie over 256-bit message ids, hashed as the original proof of
// concept hashed it (see docs/protocol.md), so that verifiers written for that
// accept its proofs.
//
// It promises:
//
//   - Canonical shape. Branches split at the first bit in which their sides
//     differ, so the root depends on the set of keys alone, never on the order
//     or the batches in which they came. Keys are only ever added; adding a
//     present key again changes nothing, not even its recorded position.
//   - One batch a block. [Trie.Append] sorts a block's leaves and hashes every
//     branch they share once.
//   - History. Roots and proofs, of inclusion and of absence, for the last
//     HistoryHeights heights and for every 1,000th height for ever. They need
//     no old copies: the trie at height H is today's without the leaves newer
//     than H, and subtrees without newer leaves keep their hash. Only the
//     hashes of the 256 subtrees below the first byte are kept for each height,
//     which bounds what a proof has to look at again.
//   - Bounded memory. Pages of up to 32 leaves are kept in a cache of CacheBytes
//     over a SQLite file of its own; a history of W heights takes at most
//     10 KiB times W.
//   - Damage is found, never served. A page carries a checksum, and must have the
//     hash that the page above it names. See [Trie.Damaged].
//
// It deliberately does not store messages (a leaf is key, hash and position),
// does not fsync every block (all of it can be computed again from the final
// blocks: after a crash the caller appends those after [Trie.Height]),
// and does not decide which roots are certified. Callers that need a root agreed
// upon compare it with the state_root of a final block's header.
package trie

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/diseq/diseq/node/internal/sqlitefile"
)

const (
	// DefaultHistoryHeights is how many of the newest heights keep roots and proofs.
	DefaultHistoryHeights = 1024
	// MilestoneHeights is the distance of the heights whose roots and proofs are kept for ever.
	MilestoneHeights = 1000
	// DefaultCacheBytes bounds the pages in memory; it holds about 1.3 million messages.
	DefaultCacheBytes = 128 << 20
	// DefaultFlushLeaves is how many new leaves start a flush. By then most pages
	// have changed, however large the trie: rarer is cheaper, but the leaves are to
	// be appended again after a crash.
	DefaultFlushLeaves = 1 << 19

	maxHistoryHeights = 1 << 16
	// flushHeights starts a flush however few leaves there are: it bounds what is appended again
	// after a crash.
	flushHeights = 1024
	// flushSteps is over how many heights a flush is spread.
	flushSteps = 96
	slotCount  = 256
	slotBits   = 8
)

// Errors that callers tell apart with errors.Is.
var (
	ErrWrongChain  = sqlitefile.ErrWrongChain
	ErrNewerSchema = sqlitefile.ErrNewerSchema
	// ErrCorrupt: the file or a page of it cannot be what was written. The caller opens the trie
	// again with Options.Discard and appends all blocks.
	ErrCorrupt = sqlitefile.ErrCorrupt
	ErrLocked  = sqlitefile.ErrLocked
	// ErrNoSuchHeight: no root of this height is kept.
	ErrNoSuchHeight = errors.New("trie: no root kept for this height")
	// ErrRecomputing: the trie is below Options.Until, so that it cannot answer yet.
	ErrRecomputing = errors.New("trie: the state is being computed again from the blocks")
	ErrClosed      = errors.New("trie: closed")
)

// Options configure a trie. The zero value of each field but Chain means its default.
type Options struct {
	Chain          [32]byte // hash of the genesis document; a file of another one is refused
	HistoryHeights uint64   // newest heights that keep roots and proofs, at most 65,536
	CacheBytes     int      // memory for pages, in bytes; exceeded only by changes not yet flushed
	FlushLeaves    int      // leaves after which changes are written to disk
	// Discard removes the file before it is opened, whatever is in it: the caller found damage, and
	// has all blocks to compute the trie again.
	Discard bool
	// Until is a height that an earlier trie in this file has had. Below it the trie lacks messages
	// that are final: until it is there again, Lookup and Prove fail with ErrRecomputing.
	Until uint64
}

// Leaf is a message to append.
type Leaf struct {
	Key   [32]byte // Key(data), the message's id
	Hash  [32]byte // LeafHash(Key, data)
	Index uint32   // position in its block
}

// Trie is safe for concurrent use. Calls of Append and Close follow one
// another; all others may run beside them, and see the trie between two heights.
type Trie struct {
	history     uint64
	flushLeaves int
	fanout      int // maxEntries, or fewer in tests
	cache       *cache
	store       *store
	walks       chan struct{} // bounds concurrent proofs at older heights
	until       uint64        // Options.Until
	partial     bool          // Open found a height below until
	opened      uint64        // pages that Open found

	damage  sync.Once
	damaged chan struct{} // closed when damage is found
	found   error         // the damage, once damaged is closed

	writer sync.Mutex // held by Append and Close
	fl     *flush     // under way
	dirty  []*page    // changed since the last flush was captured
	gen    uint64     // flush generation, from 1
	fresh  int        // leaves since the last flush was captured
	hops   []hop
	failed error // set for good when an append was not completed

	// guards all below and the pages' contents; held for writing only without I/O where possible
	mu         sync.RWMutex
	height     uint64
	floor      uint64 // before it only milestones are kept: an earlier run had a shorter history
	flushed    uint64 // height on disk
	captured   uint64 // height of the last flush started
	leaves     uint64
	pages      uint64 // pages in existence; also the last page id
	slots      [slotCount]slot
	frontier   frontier
	milestones map[uint64]*frontier // not on disk yet
	closed     bool
}

// slot is the subtree of all keys with one first byte.
type slot struct {
	child
	shape    uint64 // counts changes of the pages' structure
	versions []version
}

// Open opens the trie in the SQLite file at path, or creates it at height 0,
// the empty genesis. It locks the file against other processes. A file that it
// refuses (ErrWrongChain, ErrNewerSchema, ErrCorrupt, ErrLocked) is not changed.
func Open(ctx context.Context, path string, o Options) (*Trie, error) {
	t := &Trie{
		history:     o.HistoryHeights,
		flushLeaves: o.FlushLeaves,
		fanout:      maxEntries,
		gen:         1,
		walks:       make(chan struct{}, 2),
		milestones:  make(map[uint64]*frontier),
		until:       o.Until,
		damaged:     make(chan struct{}),
	}
	if t.history == 0 {
		t.history = DefaultHistoryHeights
	}
	if t.history > maxHistoryHeights {
		return nil, fmt.Errorf("trie: history of %d heights: at most %d", t.history, maxHistoryHeights)
	}
	if t.flushLeaves <= 0 {
		t.flushLeaves = DefaultFlushLeaves
	}
	if o.CacheBytes <= 0 {
		o.CacheBytes = DefaultCacheBytes
	}
	t.cache = newCache(o.CacheBytes)
	s, state, err := openStore(ctx, path, o)
	if err != nil {
		return nil, refused(path, err)
	}
	t.store = s
	if err := t.restore(state); err != nil {
		return nil, refused(path, errors.Join(err, s.close()))
	}
	t.partial, t.opened = t.height < t.until, t.pages
	return t, nil
}

// refused tells an operator what to do about a damaged file.
func refused(path string, err error) error {
	if errors.Is(err, ErrCorrupt) {
		return fmt.Errorf("trie: open %s: %w; remove the file, and the node computes its state again from the blocks", path, err)
	}
	return fmt.Errorf("trie: open %s: %w", path, err)
}

// Damaged returns a channel that is closed when a call finds damage (ErrCorrupt). Calls that touch
// other pages still work. The caller should close the trie, open it with Options.Discard and append
// all blocks again.
func (t *Trie) Damaged() <-chan struct{} { return t.damaged }

// Damage returns the first damage that a call has found. The channel of Damaged must be closed.
func (t *Trie) Damage() error { return t.found }

// noted returns err. If it is damage, the channel of Damaged is closed.
func (t *Trie) noted(err error) error {
	if errors.Is(err, ErrCorrupt) {
		t.damage.Do(func() {
			t.found = err
			close(t.damaged)
		})
	}
	return err
}

// readable returns nil if reads can be answered. The caller holds t.mu.
func (t *Trie) readable() error {
	if t.closed {
		return ErrClosed
	}
	if t.height < t.until {
		return fmt.Errorf("%w: height %d of %d", ErrRecomputing, t.height, t.until)
	}
	return nil
}

// Append adds the leaves of the block at height, which must follow Height, and
// returns the root at that height. Leaves whose keys are present, or repeat an
// earlier one of the batch, are ignored. The slice is not kept or changed. After
// an error of the disk every later call fails: open the trie again, discarding
// it if the error wraps ErrCorrupt, and append from Height()+1.
func (t *Trie) Append(height uint64, leaves []Leaf) ([32]byte, error) {
	t.writer.Lock()
	defer t.writer.Unlock()
	if err := t.usable(); err != nil {
		return zero, err
	}
	if height != t.height+1 {
		return zero, fmt.Errorf("trie: append of height %d after height %d", height, t.height)
	}
	root, err := t.apply(height, inOrder(leaves))
	if err == nil {
		err = t.advanceFlush()
	}
	if err != nil {
		t.failed = t.noted(fmt.Errorf("trie: append of height %d: %w", height, err))
		return zero, t.failed
	}
	return root, nil
}

func (t *Trie) usable() error {
	if t.closed {
		return ErrClosed
	}
	return t.failed
}

func (t *Trie) apply(height uint64, leaves []*Leaf) ([32]byte, error) {
	if err := t.prefetch(leaves); err != nil {
		return zero, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range leaves {
		if err := t.insert(newLeaf(leaves[i], height)); err != nil {
			return zero, err
		}
	}
	var changed []uint8
	for i := range t.slots {
		s := &t.slots[i]
		if s.id == 0 || s.hash != zero {
			continue
		}
		if err := t.rehash(&s.child); err != nil {
			return zero, err
		}
		s.record(height, min(t.oldest(height), t.flushed))
		t.frontier.set(uint8(i), s.hash)
		changed = append(changed, uint8(i))
	}
	t.frontier.rehash(changed)
	t.height = height
	if height%MilestoneHeights == 0 {
		f := t.frontier
		t.milestones[height] = &f
	}
	return t.frontier.root().Hash, nil
}

// prefetch reads the pages that leaves go to while readers still can work.
func (t *Trie) prefetch(leaves []*Leaf) error {
	if held, _, _ := t.cache.usage(); uint64(held) == t.pages {
		return nil
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	for i := range leaves {
		if _, _, err := t.find(&leaves[i].Key); err != nil {
			return err
		}
	}
	return nil
}

// find returns the leaf page that holds key if any does, and key's place in it.
func (t *Trie) find(key *[32]byte) (*page, int, error) {
	c := &t.slots[key[0]].child
	if c.id == 0 {
		return nil, 0, nil
	}
	for {
		p, err := t.page(c.id, &c.hash)
		if err != nil {
			return nil, 0, err
		}
		if p.isLeaf() {
			if at, _ := p.descend(key); p.leaves[at].key == *key {
				return p, at, nil
			}
			return nil, 0, nil
		}
		at, _ := p.descend(key)
		c = &p.children[at]
	}
}

// page returns a page, from the cache or from disk. One from disk must have
// the hash that is asked for, if it is known.
func (t *Trie) page(id uint64, hash *[32]byte) (*page, error) {
	if p := t.cache.get(id); p != nil {
		return p, nil
	}
	p, err := t.store.page(id)
	if err != nil {
		return nil, err
	}
	if got := p.hash(); *hash != zero && got != *hash {
		return nil, t.store.file.Corrupt("page %d has hash %x, want %x", id, got, *hash)
	}
	return t.cache.put(p), nil
}

// Height returns the newest height appended, 0 before the first.
func (t *Trie) Height() uint64 {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.height
}

// Lookup returns where in the chain key was ordered, as of Height. It reads at
// most a few pages from disk, none of those in the cache.
func (t *Trie) Lookup(key [32]byte) (height uint64, index uint32, ok bool, err error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if err := t.readable(); err != nil {
		return 0, 0, false, err
	}
	p, at, err := t.find(&key)
	if err != nil || p == nil {
		return 0, 0, false, t.noted(err)
	}
	return p.leaves[at].at(), p.leaves[at].index, true, nil
}

// Close writes what is not on disk yet and closes the file.
func (t *Trie) Close() error {
	t.writer.Lock()
	defer t.writer.Unlock()
	if t.closed {
		return nil
	}
	err := t.failed
	if err == nil {
		err = t.flushAll()
	}
	if t.fl != nil {
		err = errors.Join(err, t.fl.abandon())
	}
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	if err := errors.Join(err, t.store.close()); err != nil && !errors.Is(err, os.ErrClosed) {
		return fmt.Errorf("trie: close: %w", err)
	}
	return nil
}
