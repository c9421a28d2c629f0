package ledger

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/vrf"
)

func beaconGenesis(interval uint32, validators int) *chain.Genesis {
	g := &chain.Genesis{Version: 1, ChainID: "test", Threshold: uint32(validators/2 + 1), Parameters: chain.DefaultParameters()}
	g.Parameters.BeaconInterval = interval
	for i := range validators {
		g.Validators = append(g.Validators, chain.NamedValidator{
			Name:      string(rune('a' + i)),
			Validator: chain.Validator{PublicKey: chain.PublicKey{byte(i + 1)}, VRFKey: chain.VRFKey{byte(i + 1)}},
		})
	}
	return g
}

// TestTheBeaconIsTheSameAfterARestart compares a beacon that saw every block with one restored from
// the rows it left.
//
// Promise 42.
func TestTheBeaconIsTheSameAfterARestart(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := beaconGenesis(uint32(rapid.IntRange(1, 5).Draw(t, "interval")), rapid.IntRange(1, 4).Draw(t, "validators"))
		live := newBeacon(g)
		rows := map[uint64]chain.Epoch{}
		var order []uint64
		for height := uint64(1); height <= uint64(rapid.IntRange(0, 40).Draw(t, "heights")); height++ {
			b := &chain.Block{Header: chain.Header{Height: height}}
			e := live.epochOf(height)
			if _, carried := live.output[e]; !carried && rapid.Bool().Draw(t, "carries") {
				b.Commitment = &chain.Commitment{Epoch: e, Output: [32]byte{byte(height)}}
			}
			before, _ := live.At(height)
			for _, r := range live.apply(b) {
				if _, ok := rows[r.Number]; !ok {
					order = append(order, r.Number)
				}
				rows[r.Number] = r
			}
			next, err := live.At(height + 1)
			if err != nil {
				t.Fatal(err)
			}
			if (live.epochOf(height+1) == e) != (next == before) {
				t.Fatalf("the beacon of height %d is %v, that of %d %v, interval %d", height, before, height+1, next, g.Parameters.BeaconInterval)
			}
			restored := newBeacon(g)
			var stored []chain.Epoch
			for _, k := range order {
				stored = append(stored, rows[k])
			}
			restored.restore(height, stored)
			got, err := restored.At(height + 1)
			if err != nil || got != next {
				t.Fatalf("restored at height %d: beacon %v, %v; want %v", height, got, err, next)
			}
			x, ok := restored.Input(live.current + 1)
			y, _ := live.Input(live.current + 1)
			if !ok || x != y {
				t.Fatalf("restored at height %d: the input of epoch %d differs", height, live.current+1)
			}
			made, missed := restored.Counts()
			wantMade, wantMissed := live.Counts()
			for i := range made {
				if made[i] != wantMade[i] || missed[i] != wantMissed[i] {
					t.Fatalf("restored at height %d: %v made, %v missed; want %v, %v", height, made, missed, wantMade, wantMissed)
				}
			}
		}
	})
}

// Promise 42.
func TestTheBeaconTakesInWhatAnEpochCarried(t *testing.T) {
	g := beaconGenesis(2, 3)
	b := newBeacon(g)
	y := [32]byte{7}
	b.apply(&chain.Block{Header: chain.Header{Height: 1}, Commitment: &chain.Commitment{Output: y}})
	got, err := b.At(2)
	if want := chain.Hash(vrf.NextBeacon(g.Hash(), 0, &y)); err != nil || got != want {
		t.Errorf("B_1 = %v, %v; want %v", got, err, want)
	}
	b.apply(&chain.Block{Header: chain.Header{Height: 2}})
	b.apply(&chain.Block{Header: chain.Header{Height: 3}})
	next, err := b.At(4)
	if want := chain.Hash(vrf.NextBeacon(got, 1, nil)); err != nil || next != want {
		t.Errorf("B_2 without a commitment = %v, %v; want %v", next, err, want)
	}
	made, missed := b.Counts()
	if made[0] != 1 || missed[1] != 1 {
		t.Errorf("made %v, missed %v; want one made by validator 0, one missed by 1", made, missed)
	}
}
