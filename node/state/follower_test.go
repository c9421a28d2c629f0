package state

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/ledger"
	"github.com/diseq/diseq/node/ledger/ledgertest"
)

// testChain is a follower and the ledger that it follows.
type testChain struct {
	*Follower
	ledger  *ledger.Ledger
	indexed []uint64
}

func newTestChain(t *testing.T) *testChain {
	t.Helper()
	genesis := &chain.Genesis{
		Version: 1, ChainID: "state", Threshold: 1, Parameters: chain.DefaultParameters(),
		Validators: []chain.NamedValidator{{Validator: chain.Validator{PublicKey: chain.PublicKey{1}}}},
	}
	c := &testChain{ledger: ledgertest.Open(t, genesis)}
	var err error
	c.Follower, err = Open(t.Context(), Config{
		Path: filepath.Join(t.TempDir(), "state"), HistoryHeights: 16, Genesis: genesis, Ledger: c.ledger,
		Indexed:  func(height uint64) { c.indexed = append(c.indexed, height) },
		FreeDisk: func() (uint64, error) { return 1 << 40, nil }, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// append adds a final block that certifies a state.
func (c *testChain) append(t *testing.T, stateHeight uint64, stateRoot chain.Hash, messages ...chain.Message) {
	t.Helper()
	ledgertest.Append(t, c.ledger, &chain.FinalBlock{
		Block: chain.Block{Header: chain.Header{
			Height: c.ledger.Height() + 1, StateHeight: stateHeight, StateRoot: stateRoot, MessagesCount: uint32(len(messages)),
		}},
		Messages: messages,
	})
	c.Poke()
}

func TestTheStateFollowsTheChain(t *testing.T) {
	c := newTestChain(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	message := chain.Message{Data: []byte("one")}
	c.append(t, 0, chain.Hash{}, message)
	if err := c.Wait(ctx, 1); err != nil {
		t.Fatal(err)
	}
	root, ok := c.Root(1)
	if !ok || root.IsZero() {
		t.Errorf("the root of height 1 is %v, %v", root, ok)
	}
	c.append(t, 1, root)
	if err := c.Wait(ctx, 2); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	height, index, ok, err := c.Lookup(message.ID())
	if height != 1 || index != 0 || !ok || err != nil {
		t.Errorf("the message is at height %d, place %d: %v, %v; want height 1, place 0", height, index, ok, err)
	}
	if len(c.indexed) != 2 || c.indexed[0] != 1 || c.indexed[1] != 2 {
		t.Errorf("indexed %v, want heights 1 and 2", c.indexed)
	}
}

// A node whose state differs from the one that the network made final must not vote on it.
//
// Promise 8.
func TestAStateThatDiffersFromTheNetworksEndsTheNode(t *testing.T) {
	c := newTestChain(t)
	c.append(t, 0, chain.Hash{}, chain.Message{Data: []byte("one")})
	c.append(t, 1, chain.Hash{1})
	if err := c.Run(t.Context()); !errors.Is(err, ErrDiverged) {
		t.Errorf("the state ends with %v, want %v", err, ErrDiverged)
	}
}
