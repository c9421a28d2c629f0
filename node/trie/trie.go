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
//     branch they share once, and branches of many pages side by side.
//   - History. Roots and proofs, of inclusion and of absence, for the last
//     HistoryHeights heights and for every 1,000th height for ever. They need
//     no old copies: the trie at height H is today's without the leaves newer
//     than H, and subtrees without newer leaves keep their hash. Only the
//     hashes of the 256 subtrees below the first byte are kept for each height,
//     which bounds what a proof has to look at again.
//   - Bounded memory. Leaves that are not in a record on disk yet, and pages of up to 32 leaves,
//     take CacheBytes together. On top of that come 24 bytes a page, which is about one byte a
//     message, 6 MB for pages of the block at hand, and a history of W heights, which takes at
//     most 10 KiB times W.
//   - Damage is found, never served. A page's record carries a checksum over its page, place and
//     trie, and a proof is folded up to its root before it is given out. See [Trie.Damaged].
//
// On disk a trie is a directory. Records of pages are appended to segments and never changed, so
// that a page can be written at any time. Which records are the newest, and the leaves that these
// lack, is in a checkpoint: one file, replaced whole. See docs/storage.md.
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
	"sync"
	"sync/atomic"
	"time"

	"github.com/diseq/diseq/node/internal/sqlitefile"
)

const (
	// DefaultHistoryHeights is how many of the newest heights keep roots and proofs.
	DefaultHistoryHeights = 1024
	// MilestoneHeights is the distance of the heights whose roots and proofs are kept for ever.
	MilestoneHeights = 1000
	// DefaultCacheBytes bounds pages and new leaves in memory. It holds about 0.6 million messages;
	// at ten million it holds all pages but those with leaves.
	DefaultCacheBytes = 96 << 20
	// DefaultFlushLeaves is how many new leaves start a checkpoint. They are to be appended again
	// after a crash.
	DefaultFlushLeaves = 1 << 19

	maxHistoryHeights = 1 << 16
	// flushHeights starts a checkpoint however few leaves there are, unless the last one had more
	// than heightBytes for each height since: what is appended again after a crash is bounded, and
	// so is what a network of small blocks writes.
	flushHeights = 1024
	heightBytes  = 4096
	// flushBytes of new records start a checkpoint, after which the segments without live records
	// are removed; a larger trie waits for as many bytes as it has.
	flushBytes = 256 << 20
	// groupLeaves are inserted before their branches are hashed: so many that the branches of one
	// rank are enough to be hashed side by side.
	groupLeaves = 256
	// slowLeaf is the time a leaf from which on a block waits for the disk, not the processor.
	slowLeaf  = 50 * time.Microsecond
	slotCount = 256
	slotBits  = 8
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
	Chain          [32]byte // hash of the genesis document; a trie of another one is refused
	HistoryHeights uint64   // newest heights that keep roots and proofs, at most 65,536
	CacheBytes     int      // memory for pages and new leaves; exceeded while a block is appended
	FlushLeaves    int      // leaves after which a checkpoint is written
	// Discard removes the files before they are opened, whatever is in them: the caller found
	// damage, and has all blocks to compute the trie again.
	Discard bool
	// Until is a height that an earlier trie in this directory has had. Below it the trie lacks
	// messages that are final: until it is there again, Lookup and Prove fail with ErrRecomputing.
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
	chain       [32]byte
	history     uint64
	flushLeaves int
	fanout      int           // maxEntries, or fewer in tests
	group       int           // groupLeaves, or fewer in tests
	slowLeaf    time.Duration // slowLeaf, or less in tests
	files       *files
	walks       chan struct{} // bounds concurrent proofs at older heights
	until       uint64        // Options.Until
	partial     bool          // Open found a height below until

	damage  sync.Once
	damaged chan struct{} // closed when damage is found
	found   error         // the damage, once damaged is closed

	writer    sync.Mutex // held by Append and Close
	fresh     int        // leaves since the last checkpoint was captured
	captured  uint64     // height of the last checkpoint begun
	pending   *checkpoint
	unwritten []*page // leaf pages to write at the end of their slot
	moving    *moving // the segment whose live records move
	compacted int64   // segments.total when compact was last called
	hops      []hop
	joins     *joins // branches to hash
	desk      desk
	slow      bool  // the block before waited for the disk: readers are let in while pages are read
	failed    error // set for good when an append was not completed

	// guards all below and the pages' contents; held for writing only without I/O where possible
	mu         sync.RWMutex
	height     uint64
	floor      uint64 // before it only milestones are kept: an earlier run had a shorter history
	flushed    uint64 // height on disk
	leaves     uint64
	pages      *pages
	additions  additions
	store      *segments
	slots      [slotCount]slot
	frontier   frontier
	milestones map[uint64]*frontier // not on disk yet
	readers    atomic.Int32         // calls of Keys under way: no segment is removed
	closed     bool
}

// slot is the subtree of all keys with one first byte.
type slot struct {
	child
	shape    uint64 // counts changes of the pages' structure
	versions []version
}

// Open opens the trie in the directory at path, or creates it at height 0, the
// empty genesis. It locks the directory against other processes. A trie that it
// refuses (ErrWrongChain, ErrNewerSchema, ErrCorrupt, ErrLocked) is not changed.
func Open(ctx context.Context, path string, o Options) (*Trie, error) {
	if o.HistoryHeights == 0 {
		o.HistoryHeights = DefaultHistoryHeights
	}
	if o.HistoryHeights > maxHistoryHeights {
		return nil, fmt.Errorf("trie: history of %d heights: at most %d", o.HistoryHeights, maxHistoryHeights)
	}
	if o.FlushLeaves <= 0 {
		o.FlushLeaves = DefaultFlushLeaves
	}
	if o.CacheBytes <= 0 {
		o.CacheBytes = DefaultCacheBytes
	}
	t := &Trie{
		chain:       o.Chain,
		history:     o.HistoryHeights,
		flushLeaves: o.FlushLeaves,
		fanout:      maxEntries,
		group:       groupLeaves,
		slowLeaf:    slowLeaf,
		walks:       make(chan struct{}, 2),
		milestones:  make(map[uint64]*frontier),
		until:       o.Until,
		damaged:     make(chan struct{}),
		joins:       new(joins),
		additions:   additions{limit: o.CacheBytes / 3 / additionLen},
		pages:       newPages(o.CacheBytes / 3 * 2),
	}
	if err := t.open(ctx, path, o.Discard); err != nil {
		if errors.Is(err, ErrCorrupt) {
			err = fmt.Errorf("%w; remove the directory, and the node computes its state again from the blocks", err)
		}
		return nil, fmt.Errorf("trie: open %s: %w", path, err)
	}
	t.partial = t.height < t.until
	return t, nil
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
		err = t.advance()
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
	began, count := time.Now(), len(leaves)
	defer func() { t.slow = time.Since(began) > time.Duration(count)*t.slowLeaf }()
	if t.slow {
		if err := t.prefetch(leaves); err != nil {
			return zero, err
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	var changed []uint8
	for len(leaves) > 0 {
		n := t.whole(leaves)
		grown, err := t.applyGroup(height, leaves[:n])
		if err != nil {
			return zero, err
		}
		changed = append(changed, grown...)
		leaves = leaves[n:]
	}
	t.frontier.rehash(changed)
	t.files.history.note(height, changed, &t.frontier)
	t.height = height
	if height%MilestoneHeights == 0 {
		f := t.frontier
		t.milestones[height] = &f
	}
	return t.frontier.root().Hash, nil
}

// whole returns how many of the leaves, which are in order, are inserted before the hashes of their
// slots are computed: those of whole slots.
func (t *Trie) whole(leaves []*Leaf) int {
	n := min(t.group, len(leaves))
	for n < len(leaves) && leaves[n].Key[0] == leaves[n-1].Key[0] {
		n++
	}
	return n
}

// applyGroup inserts the leaves of some slots, and returns those that have changed. Their new
// hashes are computed together.
func (t *Trie) applyGroup(height uint64, leaves []*Leaf) (changed []uint8, err error) {
	for _, l := range leaves {
		if err := t.insert(newLeaf(l, height)); err != nil {
			return nil, err
		}
		b := l.Key[0]
		if n := len(changed); t.slots[b].hash == zero && (n == 0 || changed[n-1] != b) {
			changed = append(changed, b)
		}
	}
	for _, b := range changed {
		if _, err := t.plan(&t.slots[b].child, b); err != nil {
			return nil, err
		}
	}
	t.joins.run()
	for _, b := range changed {
		s := &t.slots[b]
		s.record(height, t.oldest(height))
		t.frontier.set(b, s.hash)
	}
	if err := t.writeLeaves(); err != nil {
		return nil, err
	}
	t.giveBack(leaves[len(leaves)-1].Key[0])
	return changed, nil
}

// advance does what is to do on disk after a block, a part of it at a time.
func (t *Trie) advance() error {
	if err := t.settle(false); err != nil {
		return err
	}
	if err := t.writeBehind(); err != nil {
		return err
	}
	if err := t.files.history.advance(); err != nil {
		return err
	}
	if !t.due() {
		return nil
	}
	return t.begin()
}

// writeBehind writes stack pages while those that changed take nearly all of the cache, moves live
// records out of a segment that has few, and writes the segments' buffer once it is full.
func (t *Trie) writeBehind() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for {
		if _, _, pinned := t.pages.usage(); pinned <= t.pages.limit/8*7 {
			break
		}
		if err := t.write(t.pages.oldestChanged()); err != nil {
			return err
		}
	}
	if err := t.compact(); err != nil {
		return err
	}
	if len(t.store.buffer) < bufferBytes {
		return nil
	}
	return t.store.flush()
}

// prefetch reads the pages that leaves go to while readers still can work, but no more than the
// writer has room for.
func (t *Trie) prefetch(leaves []*Leaf) error {
	if held, _, _ := t.pages.usage(); held == len(t.pages.entries) {
		return nil
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	for i := range leaves {
		if len(t.desk.lent) >= prefetchPages {
			return nil
		}
		key := &leaves[i].Key
		for id := t.slots[key[0]].id; id != 0; {
			p, err := t.fetch(id, key[0])
			if err != nil {
				return err
			}
			if p.isLeaf() {
				break
			}
			at, _ := p.descend(key)
			id = p.children[at].id
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
		p, err := t.page(c.id)
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

// page returns a page, from memory or from disk. The caller holds t.mu.
func (t *Trie) page(id uint64) (*page, error) {
	if id == 0 || id > uint64(len(t.pages.entries)) {
		return nil, corrupt("pages", "page %d of %d", id, len(t.pages.entries))
	}
	if p := t.pages.get(id); p != nil {
		return p, nil
	}
	p := newPage(id)
	if err := t.read(p); err != nil {
		return nil, err
	}
	return t.pages.put(p), nil
}

// read reads a page: its record, and the leaves that came later. The caller has looked whether
// there is such a page.
func (t *Trie) read(p *page) error {
	id := p.id
	e := t.pages.entry(id)
	if e.at != 0 {
		err := t.store.read(id, e.at, func(record []byte) error { return decodePage(p, record, int(e.count)+1) })
		if err != nil {
			return err
		}
	}
	if e.count > 0 && p.isLeaf() {
		t.additions.each(e, p.add)
	}
	if n := p.len(); n == 0 || n > maxEntries || e.count > 0 && !p.isLeaf() || p.isLeaf() && !p.measure() {
		return corrupt("pages", "page %d has %d entries, not in order or with %d later ones too many", id, n, e.count)
	}
	return nil
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

// Close writes what is not on disk yet and closes the files.
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
	if waited := t.settle(true); err == nil {
		err = waited
	}
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	if err := errors.Join(err, t.store.close(), t.files.close()); err != nil {
		return fmt.Errorf("trie: close: %w", err)
	}
	return nil
}
