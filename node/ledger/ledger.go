// Package ledger holds what is final: the last final block, the blocks below it, and what follows
// from them, which is the validator sets, the beacon and the order of the leaders.
//
// It promises that a block is on disk before anything shows it, that heights follow one another
// without a gap, and that a restart derives the same state from the stored blocks.
//
// It does not decide what is final and verifies no signature: its caller has done both. One
// goroutine appends; all other methods may be called from any goroutine.
package ledger

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/diseq/diseq/node/chain"
)

// Store keeps final blocks on disk.
type Store interface {
	// Height is the height of the newest block, 0 for genesis.
	Height() uint64
	// Block reads a final block, Head leaves out its messages, Certificate reads the strongest
	// finalization that was stored.
	Block(ctx context.Context, height uint64) (*chain.FinalBlock, error)
	Head(ctx context.Context, height uint64) (*chain.Block, error)
	Certificate(ctx context.Context, height uint64) (*chain.Certificate, error)
	// Epochs returns at most limit beacon epochs from a number on, in rising order.
	Epochs(ctx context.Context, from uint64, limit int) ([]chain.Epoch, error)
	// Changes returns the validator set changes of all blocks, in the order of their heights.
	Changes(ctx context.Context) ([]chain.StoredChange, error)
	// Commit makes a block durable: it is on disk when Commit returns nil.
	Commit(ctx context.Context, c chain.Commit) error
	// Strengthen replaces the certificate of a final block by one with more votes, later.
	Strengthen(c *chain.Certificate)
}

// Ledger is the final chain as this node has it.
type Ledger struct {
	store   Store
	sets    *Sets
	beacon  *Beacon
	changes changes
	recent  *recent
	trees   trees
	tip     atomic.Pointer[Tip]

	mu     sync.Mutex
	higher chan struct{} // closed and renewed when a block is published
}

// Tip is the last final block.
type Tip struct {
	Hash  chain.Hash
	Block *chain.FinalBlock
	// LastNonEmpty is the last height with messages. It is 0 if the state at that height was
	// certified before this node started.
	LastNonEmpty uint64
	// Seen is when this node published the block; zero for a block from before its start.
	Seen time.Time
}

// Height is the height of the last final block.
func (t *Tip) Height() uint64 { return t.Block.Header.Height }

// Uncertified reports whether messages are final whose state no header certifies yet.
func (t *Tip) Uncertified() bool { return t.Block.Header.StateHeight < t.LastNonEmpty }

// Open derives the state in memory from the stored blocks.
func Open(ctx context.Context, genesis *chain.Genesis, store Store) (*Ledger, error) {
	l := &Ledger{
		store: store, sets: newSets(genesis), changes: changes{stronger: map[uint64]*chain.Certificate{}}, recent: newRecent(),
		higher: make(chan struct{}),
	}
	l.beacon = newBeacon(genesis, l.sets)
	height := store.Height()
	b, err := store.Block(ctx, height)
	if err != nil {
		return nil, err
	}
	changed, err := store.Changes(ctx)
	if err != nil {
		return nil, err
	}
	if err := l.sets.restore(&b.Header, changed); err != nil {
		return nil, fmt.Errorf("blocks.db: the history of the validator sets does not fit its blocks: %w", err)
	}
	epochs, err := allEpochs(ctx, store)
	if err != nil {
		return nil, err
	}
	l.beacon.restore(height, epochs)
	// Only heights above the last header's state can matter: at most MaxStateLag are read.
	last := uint64(0)
	for h := height; h > b.Header.StateHeight && last == 0; h-- {
		head, err := store.Head(ctx, h)
		if err != nil {
			return nil, err
		}
		if head.Header.MessagesCount > 0 {
			last = h
		}
	}
	l.tip.Store(&Tip{Hash: b.Hash(), Block: b, LastNonEmpty: last})
	return l, nil
}

func allEpochs(ctx context.Context, store Store) (all []chain.Epoch, err error) {
	const page = 4096
	for from := uint64(0); ; {
		epochs, err := store.Epochs(ctx, from, page)
		if err != nil {
			return nil, err
		}
		all = append(all, epochs...)
		if len(epochs) < page {
			return all, nil
		}
		from = epochs[len(epochs)-1].Number + 1
	}
}

// Append makes a verified final block durable. After it, Block, Sets and the beacon know the block,
// and Tip does not yet: the caller informs those that must know of the block before anyone sees it,
// and then publishes the tip that Append returns.
//
// ids are those of the block's messages, remove the batches that no longer wait, sources where the
// messages are in stored batches, justification the certificates of earlier rounds, as chain.Commit
// describes them.
func (l *Ledger) Append(
	ctx context.Context, f *chain.FinalBlock, ids, remove []chain.Hash, sources []chain.Source, justification []*chain.Certificate,
) (*Tip, error) {
	if err := l.sets.follows(&f.Block); err != nil {
		return nil, err
	}
	commit := chain.Commit{Block: f, Sources: sources, Remove: remove, Epochs: l.beacon.rows(&f.Block), Justification: justification}
	if err := l.store.Commit(ctx, commit); err != nil {
		return nil, err
	}
	l.sets.apply(&f.Block) // before the beacon, which asks who commits in the epoch that may begin
	l.beacon.apply(&f.Block)
	tip := &Tip{Hash: f.Hash(), Block: f, LastNonEmpty: l.tip.Load().LastNonEmpty, Seen: time.Now()}
	if len(ids) > 0 {
		tip.LastNonEmpty = f.Header.Height
	}
	l.recent.put(f, ids)
	return tip, nil
}

// Publish makes an appended block the tip and wakes everyone who waits for it.
func (l *Ledger) Publish(tip *Tip) {
	l.tip.Store(tip)
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.higher)
	l.higher = make(chan struct{})
}

// Strengthen keeps a certificate with more votes for a final block. It returns at once.
func (l *Ledger) Strengthen(c *chain.Certificate) {
	at, _ := l.sets.At(c.Height)
	if above, ok := l.sets.At(c.Height + 1); ok && above != at {
		l.changes.strengthen(above.Generation, c)
	}
	l.recent.strengthen(c)
	l.store.Strengthen(c)
}

// Sets returns the history of the validator sets.
func (l *Ledger) Sets() *Sets { return l.sets }

// Tip returns the last final block.
func (l *Ledger) Tip() *Tip { return l.tip.Load() }

// Height returns the last final height.
func (l *Ledger) Height() uint64 { return l.tip.Load().Height() }

// Beacon returns the randomness that the final blocks carry.
func (l *Ledger) Beacon() *Beacon { return l.beacon }

// Leaders returns the order in which the validators lead the rounds of height, which is at most one
// above the tip.
func (l *Ledger) Leaders(height uint64) ([]int, error) { return l.beacon.leaders(height) }

// Final returns the last final height and a channel that is closed when a higher one is final.
func (l *Ledger) Final() (height uint64, higher <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Height(), l.higher
}

// Wait returns nil once height is final.
func (l *Ledger) Wait(ctx context.Context, height uint64) error {
	for {
		final, higher := l.Final()
		if final >= height {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-higher:
		}
	}
}

// Block returns a final block. Its certificate is the one that made it final; the store may have a
// stronger one by now.
func (l *Ledger) Block(ctx context.Context, height uint64) (*chain.FinalBlock, error) {
	if b, ok := l.recent.block(height); ok {
		return b.FinalBlock, nil
	}
	return l.store.Block(ctx, height)
}

// WithIDs returns a final block with the ids of its messages.
func (l *Ledger) WithIDs(ctx context.Context, height uint64) (Identified, error) {
	if b, ok := l.recent.block(height); ok {
		return b, nil
	}
	stored, err := l.store.Block(ctx, height)
	if err != nil {
		return Identified{}, err
	}
	return Identified{stored, IDs(stored.Messages)}, nil
}

// Head returns a final block without its messages.
func (l *Ledger) Head(ctx context.Context, height uint64) (*chain.Block, error) {
	if b, ok := l.recent.block(height); ok {
		return &b.Block, nil
	}
	return l.store.Head(ctx, height)
}

// Certificate returns the strongest finalization of a block that this node knows of. It may be
// stronger than the one on disk, which follows.
func (l *Ledger) Certificate(ctx context.Context, height uint64) (*chain.Certificate, error) {
	if c := l.recent.certificate(height); c != nil {
		return c, nil
	}
	return l.store.Certificate(ctx, height)
}

// Certified returns a final block with the strongest finalization.
func (l *Ledger) Certified(ctx context.Context, height uint64) (*chain.FinalBlock, error) {
	f, err := l.Block(ctx, height)
	if err != nil || height == 0 {
		return f, err
	}
	c, err := l.Certificate(ctx, height)
	if err != nil {
		return nil, err
	}
	strong := *f
	strong.Certificate = *c
	return &strong, nil
}

// Place is where a final message stands. Height 0 stands for a message that is not final.
type Place struct {
	Height uint64
	// Index is the message's place in its block.
	Index int
}

// Receipts returns the receipts of the messages at places; nil for those that are not final. It
// reads each block once, and computes the tree of a block once for all calls, as long as there is
// room to keep it. A receipt carries the changes of the validator set after the generation
// from: 0 for a reader that has only the genesis document.
func (l *Ledger) Receipts(ctx context.Context, places []Place, from uint32) ([]*chain.Receipt, error) {
	out := make([]*chain.Receipt, len(places))
	of := map[uint64][]int{} // the places at each height
	for i, p := range places {
		if p.Height > 0 {
			of[p.Height] = append(of[p.Height], i)
		}
	}
	for height, wanted := range of {
		f, err := l.Certified(ctx, height)
		if err != nil {
			return nil, err
		}
		indexes := make([]int, len(wanted))
		for i, place := range wanted {
			indexes[i] = places[place].Index
		}
		changes, err := l.ChangesTo(ctx, height, from)
		if err != nil {
			return nil, err
		}
		receipts, err := l.trees.of(f).Receipts(f, changes, indexes...)
		if err != nil {
			return nil, err
		}
		for i, place := range wanted {
			out[place] = receipts[i]
		}
	}
	return out, nil
}

// Certifier returns the first final header that certifies the root of a state, with its
// finalization; nil if there is none. A state is certified some heights later, and not every state
// is.
func (l *Ledger) Certifier(ctx context.Context, state uint64, root chain.Hash) (*chain.Header, *chain.Certificate, error) {
	for height := state + 1; height <= min(l.Height(), state+chain.MaxStateLag); height++ {
		head, err := l.Head(ctx, height)
		if err != nil {
			return nil, nil, err
		}
		h := &head.Header
		if h.StateHeight > state {
			break
		}
		if h.StateHeight == state && h.StateRoot == root {
			c, err := l.Certificate(ctx, height)
			return h, c, err
		}
	}
	return nil, nil, nil
}

// IDs returns the ids of messages.
func IDs(messages []chain.Message) []chain.Hash {
	return chain.IDs(messages)
}
