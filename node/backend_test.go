package node

import (
	"errors"
	"fmt"
	"testing"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/ledger"
	"github.com/diseq/diseq/node/ledger/ledgertest"
	"github.com/diseq/diseq/node/server"
	"github.com/diseq/diseq/node/store"
)

// changedLedger is a ledger of four blocks. The second one replaces the first of three validators
// by a fourth, in reverse order.
func changedLedger(t *testing.T) (*chain.Genesis, *ledger.Ledger, []chain.NamedValidator) {
	t.Helper()
	validators := make([]chain.NamedValidator, 4)
	for i := range validators {
		validators[i].Name, validators[i].PublicKey, validators[i].VRFKey = fmt.Sprint("v", i), chain.PublicKey{byte(i + 1)}, chain.VRFKey{1, byte(i)}
	}
	genesis := &chain.Genesis{Version: 1, ChainID: "backend", Threshold: 2, Validators: validators[:3], Parameters: chain.DefaultParameters()}
	genesis.Parameters.BeaconInterval = 2
	l := ledgertest.Open(t, genesis)
	for height := uint64(1); height <= 4; height++ {
		f := &chain.FinalBlock{Block: chain.Block{Header: chain.Header{Height: height}}}
		if height == 2 {
			next := chain.NextSet{Generation: 1, Threshold: 3, Validators: []chain.NamedValidator{validators[3], validators[2], validators[1]}}
			f.Change, f.Header.NextValidatorsHash = &chain.Change{Next: next}, next.Set().Hash()
		}
		ledgertest.Append(t, l, f)
	}
	return genesis, l, validators
}

func TestTheValidatorsOfAHeightAreTheSetThatDecidesIt(t *testing.T) {
	genesis, l, v := changedLedger(t)
	b := &backend{genesis: genesis, ledger: l}
	for height, want := range [][]chain.NamedValidator{
		{v[0], v[1], v[2]}, {v[0], v[1], v[2]}, {v[0], v[1], v[2]}, {v[3], v[2], v[1]}, {v[3], v[2], v[1]}, {v[3], v[2], v[1]},
	} {
		got, err := b.Validators(t.Context(), uint64(height))
		if err != nil {
			t.Fatal(err)
		}
		generation := uint32(0)
		if height > 2 {
			generation = 1
		}
		if got.Height != uint64(height) || got.Generation != generation || got.Threshold != 2+generation || len(got.Validators) != len(want) {
			t.Fatalf("height %d: %+v", height, got)
		}
		if set, _ := l.Sets().At(uint64(height)); got.ValidatorsHash != set.Hash() || got.Tolerance != tolerance(3, int(set.Threshold)) {
			t.Errorf("height %d: %+v", height, got)
		}
		for i, w := range want {
			g := got.Validators[i]
			if g.Index != uint32(i) || g.Name != w.Name || g.PublicKey != w.PublicKey || g.VRFKey != w.VRFKey {
				t.Errorf("height %d: validator %d is %+v, want %+v", height, i, g, w)
			}
			// Epochs 0 and 1 are over: v0 and v1 missed one each, wherever they stand.
			missed := uint64(0)
			if w == v[0] || w == v[1] {
				missed = 1
			}
			if g.RevealsMissed != missed || g.RevealsMade != 0 {
				t.Errorf("height %d: %s made %d and missed %d, want 0 and %d", height, w.Name, g.RevealsMade, g.RevealsMissed, missed)
			}
		}
	}
	if _, err := b.Validators(t.Context(), 6); !errors.Is(err, server.ErrNotFound) {
		t.Errorf("the set of a height that is not decided yet: %v", err)
	}
}

// A ledger on a real store: the sets, the reveals and the changes are the same after a restart.
func TestTheHistoryOfTheSetsIsOnDisk(t *testing.T) {
	validators := make([]chain.NamedValidator, 8)
	for i := range validators {
		validators[i].Name, validators[i].PublicKey, validators[i].VRFKey = fmt.Sprint("v", i), chain.PublicKey{byte(i + 1)}, chain.VRFKey{1, byte(i)}
	}
	genesis := &chain.Genesis{Version: 1, ChainID: "disk", Threshold: 2, Validators: validators[:3], Parameters: chain.DefaultParameters()}
	genesis.Parameters.BeaconInterval = 2
	dir := t.TempDir()
	open := func() (*store.Store, *ledger.Ledger) {
		t.Helper()
		s, err := store.Open(dir, genesis, store.Options{})
		if err != nil {
			t.Fatal(err)
		}
		l, err := ledger.Open(t.Context(), genesis, s)
		if err != nil {
			t.Fatal(err)
		}
		return s, l
	}
	seen := func(l *ledger.Ledger) string {
		t.Helper()
		changes, err := l.Changes(t.Context(), 1, 10)
		if err != nil {
			t.Fatal(err)
		}
		s := fmt.Sprintln(l.Height(), l.Beacon().Reveals(), changes)
		for height := range l.Height() + 2 {
			named, ok := l.Sets().Named(height)
			s += fmt.Sprintln(height, named, ok)
		}
		return s
	}
	s, l := open()
	for height := uint64(1); height <= 11; height++ {
		tip, set := l.Tip(), l.Sets().Open()
		f := &chain.FinalBlock{Block: chain.Block{Header: tip.Block.Header}}
		h := &f.Header
		h.Height, h.ParentHash, h.Timestamp = height, tip.Hash, height
		h.ChangeHash, h.ValidatorsHash, h.NextValidatorsHash = chain.Hash{}, set.Hash(), set.Hash()
		if height%3 == 0 {
			g := set.Generation + 1
			next := chain.NextSet{Generation: g, Threshold: 2, Validators: validators[g : g+3]}
			f.Change = &chain.Change{Next: next, Endorsements: []chain.Endorsement{{Validator: 1, Signature: chain.Signature{byte(g)}}}}
			h.ChangeHash, h.NextValidatorsHash = f.Change.Hash(), next.Set().Hash()
		}
		f.Certificate = chain.Certificate{Kind: chain.Finalize, Height: height, Block: h.Hash(), Votes: make([]chain.VoteSignature, 1)}
		ledgertest.Append(t, l, f)
		before := seen(l)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s, l = open()
		if after := seen(l); after != before {
			t.Fatalf("opened again at height %d:\n%s\nwant\n%s", height, after, before)
		}
	}
	if g := l.Sets().Open().Generation; g != 3 {
		t.Errorf("generation %d at the end, want 3", g)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
