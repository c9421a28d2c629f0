// Package ledgertest keeps a ledger's blocks in memory, for tests of the rooms that read a ledger.
package ledgertest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/ledger"
)

// Store is a ledger's Store in memory. It takes any block, and keeps no epochs.
type Store struct {
	mu     sync.Mutex
	blocks []*chain.FinalBlock
}

// NewStore returns a store with block 0.
func NewStore(genesis *chain.Genesis) *Store {
	return &Store{blocks: []*chain.FinalBlock{{Block: chain.Block{Header: genesis.Header()}}}}
}

// Open returns a ledger in memory at genesis.
func Open(t testing.TB, genesis *chain.Genesis) *ledger.Ledger {
	t.Helper()
	l, err := ledger.Open(t.Context(), genesis, NewStore(genesis))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// Append makes a block without checks the tip of a ledger.
func Append(t testing.TB, l *ledger.Ledger, f *chain.FinalBlock) {
	t.Helper()
	tip, err := l.Append(t.Context(), f, ledger.IDs(f.Messages), nil, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	l.Publish(tip)
}

// ErrNotFound is wrapped for a height that was not committed.
var ErrNotFound = errors.New("no such block")

// Height is the height of the newest block.
func (s *Store) Height() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return uint64(len(s.blocks) - 1)
}

// Block returns a block.
func (s *Store) Block(_ context.Context, height uint64) (*chain.FinalBlock, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if height >= uint64(len(s.blocks)) {
		return nil, fmt.Errorf("block %d: %w", height, ErrNotFound)
	}
	return s.blocks[height], nil
}

// Head returns a block without its messages.
func (s *Store) Head(ctx context.Context, height uint64) (*chain.Block, error) {
	b, err := s.Block(ctx, height)
	if err != nil {
		return nil, err
	}
	return &b.Block, nil
}

// Certificate returns a block's finalization.
func (s *Store) Certificate(ctx context.Context, height uint64) (*chain.Certificate, error) {
	b, err := s.Block(ctx, height)
	if err != nil {
		return nil, err
	}
	return &b.Certificate, nil
}

// Epochs returns none.
func (s *Store) Epochs(context.Context, uint64, int) ([]chain.Epoch, error) { return nil, nil }

// Changes returns those of the blocks.
func (s *Store) Changes(context.Context) (changes []chain.StoredChange, _ error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range s.blocks {
		if b.Change != nil {
			changes = append(changes, chain.StoredChange{Height: b.Header.Height, Change: b.Change})
		}
	}
	return changes, nil
}

// Commit appends a block.
func (s *Store) Commit(_ context.Context, c chain.Commit) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.blocks = append(s.blocks, c.Block)
	return nil
}

// Strengthen does nothing.
func (s *Store) Strengthen(*chain.Certificate) {}
