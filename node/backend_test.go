package node

import (
	"errors"
	"fmt"
	"testing"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/ledger"
	"github.com/diseq/diseq/node/ledger/ledgertest"
	"github.com/diseq/diseq/node/server"
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
