package ledger

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/vrf"
)

// A beaconChain is a chain of random length whose blocks carry commitments and changes of the
// validator set at random, with the sets and the beacon of a node that saw every block.
type beaconChain struct {
	genesis *chain.Genesis
	sets    *Sets
	beacon  *Beacon
	members []member // of the open set
	known   int      // members of all sets
	tip     chain.Header

	changes []chain.StoredChange
	rows    map[uint64]chain.Epoch
	// outputs are those that blocks carried, came the height of the block that brought a key in.
	outputs map[uint64][32]byte
	came    map[chain.PublicKey]uint64
}

func newBeaconChain(t *rapid.T) *beaconChain {
	n := rapid.IntRange(1, 4).Draw(t, "validators")
	c := &beaconChain{
		members: newMembers(0, n), known: n,
		rows: map[uint64]chain.Epoch{}, outputs: map[uint64][32]byte{}, came: map[chain.PublicKey]uint64{},
	}
	c.genesis = genesisOf(uint32(rapid.IntRange(1, 5).Draw(t, "interval")), c.members)
	c.tip = c.genesis.Header()
	c.sets = newSets(c.genesis)
	c.beacon = newBeacon(c.genesis, c.sets)
	return c
}

// change draws a change of any kind: members leave, join, and change their places.
func (c *beaconChain) change(t *rapid.T) *chain.Change {
	var next []member
	for _, m := range c.members {
		if rapid.IntRange(0, 3).Draw(t, "stays") > 0 {
			next = append(next, m)
		}
	}
	joining := rapid.IntRange(0, 2).Draw(t, "join")
	if len(next) == 0 {
		joining++
	}
	for _, m := range newMembers(c.known, c.known+joining) {
		next = append(next, m)
		c.came[m.PublicKey] = c.tip.Height + 1
	}
	c.known += joining
	c.members = rapid.Permutation(next).Draw(t, "places")
	return changeOf(c.sets.Open().Generation+1, c.members)
}

// extend makes a block final.
func (c *beaconChain) extend(t *rapid.T) {
	set := c.sets.Open()
	var change *chain.Change
	if rapid.IntRange(0, 4).Draw(t, "changes") == 0 {
		change = c.change(t)
		c.changes = append(c.changes, chain.StoredChange{Height: c.tip.Height + 1, Change: change})
	}
	b := &extend(&c.tip, set, change).Block
	e := c.beacon.epochOf(b.Header.Height)
	committer, somebody := c.beacon.Committer(e)
	if _, carried := c.outputs[e]; somebody && !carried && rapid.Bool().Draw(t, "carries") {
		b.Commitment = &chain.Commitment{Epoch: e, Validator: committer.Index, Output: chain.VRFOutput{byte(b.Header.Height), 1}}
		c.outputs[e] = b.Commitment.Output
	}
	for _, r := range c.beacon.rows(b) {
		if old, ok := c.rows[r.Number]; ok && r.Output == nil {
			r.Output = old.Output // as the store does
		}
		c.rows[r.Number] = r
	}
	c.sets.apply(b)
	c.beacon.apply(b)
	c.tip = b.Header
}

// stored are the rows of the store.
func (c *beaconChain) stored() (rows []chain.Epoch) {
	for _, e := range slices.Sorted(maps.Keys(c.rows)) {
		rows = append(rows, c.rows[e])
	}
	return rows
}

// TestTheBeaconIsTheSameAfterARestart compares a beacon that saw every block with one restored from
// the rows it left and from the history of the sets.
//
// Promise 42.
func TestTheBeaconIsTheSameAfterARestart(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := newBeaconChain(t)
		for range rapid.IntRange(0, 40).Draw(t, "heights") {
			e := c.beacon.epochOf(c.tip.Height)
			before, _ := c.beacon.At(c.tip.Height)
			c.extend(t)
			now, err := c.beacon.At(c.tip.Height)
			if err != nil {
				t.Fatal(err)
			}
			if (c.beacon.epochOf(c.tip.Height) == e) != (now == before) {
				t.Fatalf("the beacon of height %d is %v, that of %d %v, interval %d",
					c.tip.Height-1, before, c.tip.Height, now, c.beacon.interval)
			}
			restored := newSets(c.genesis)
			if err := restored.restore(&c.tip, c.changes); err != nil {
				t.Fatal(err)
			}
			beacon := newBeacon(c.genesis, restored)
			beacon.restore(c.tip.Height, c.stored())
			if got, want := shown(t, beacon, c.tip.Height), shown(t, c.beacon, c.tip.Height); got != want {
				t.Fatalf("restored at height %d:\n%s\nwant\n%s", c.tip.Height, got, want)
			}
		}
	})
}

// shown is all that a beacon answers at a tip.
func shown(t *rapid.T, b *Beacon, tip uint64) string {
	next, err := b.At(tip + 1)
	if err != nil {
		t.Fatal(err)
	}
	leaders, err := b.leaders(tip + 1)
	if err != nil {
		t.Fatal(err)
	}
	s := fmt.Sprintf("epoch %d, beacon %v, leaders %v, wanted %v\n", b.current, next, leaders, b.Wanted())
	for e := range b.current + 2 {
		x, known := b.Input(e)
		committer, somebody := b.Committer(e)
		if e+1 >= b.current {
			s += fmt.Sprintf("input of epoch %d: %x, %v\n", e, x, known)
		}
		s += fmt.Sprintf("committer of epoch %d: %d %v, %v\n", e, committer.Index, committer.PublicKey, somebody)
	}
	return s + fmt.Sprint(b.Reveals())
}

// TestTheCommitterIsAnOldMember holds the rule by which an epoch's committing validator is chosen
// against the sets by height.
func TestTheCommitterIsAnOldMember(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := newBeaconChain(t)
		sets := []*chain.ValidatorSet{c.sets.Open(), c.sets.Open()} // by height
		for range rapid.IntRange(0, 40).Draw(t, "heights") {
			c.extend(t)
			sets = append(sets, c.sets.Open())
		}
		counted := map[chain.PublicKey]Reveals{}
		interval, tip := int(c.genesis.Parameters.BeaconInterval), int(c.tip.Height)
		for e := 0; (e-1)*interval <= tip+1; e++ {
			set, earlier := sets[max(0, (e-1)*interval)], sets[max(0, (e-3)*interval)]
			var eligible []chain.Validator
			for _, v := range set.Validators {
				if slices.Contains(earlier.Validators, v) {
					eligible = append(eligible, v)
				}
			}
			got, somebody := c.beacon.Committer(uint64(e))
			if somebody != (len(eligible) > 0) {
				t.Fatalf("epoch %d has a committer: %v, eligible are %v", e, somebody, eligible)
			}
			if !somebody {
				continue
			}
			want := eligible[e%len(eligible)]
			if got.Validator != want || set.Validators[got.Index] != want {
				t.Fatalf("epoch %d is committed to by %v, %d of %v; want %v", e, got.PublicKey, got.Index, set, want.PublicKey)
			}
			r := counted[want.PublicKey]
			if _, made := c.outputs[uint64(e)]; made {
				r.Made++
			} else if e < (tip+1)/interval {
				r.Missed++
			}
			if r != (Reveals{}) {
				counted[want.PublicKey] = r
			}
		}
		if _, ok := c.beacon.Committer(uint64((tip+1)/interval) + 2); ok {
			t.Fatal("the committer of the epoch after the next is known")
		}
		if got := c.beacon.Reveals(); !maps.Equal(got, counted) {
			t.Fatalf("counted %v, want %v", got, counted)
		}
	})
}

// TestNobodyChoosesAKeyForAnOutput plays a validator that makes its key as late as it can: just
// before the block that brings it into the set. By then the commitments of this epoch and of the
// next may be public. So the validator can compute inputs that lie ahead, and try keys until the
// output of one of them suits it. It must not be the committing validator of such an epoch.
//
// Promise 39.
func TestNobodyChoosesAKeyForAnOutput(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := newBeaconChain(t)
		beacons := map[uint64]chain.Hash{0: c.genesis.Hash()}
		inputs := map[uint64][32]byte{}
		// public are the inputs that can be computed before a height is decided, by height.
		public := map[uint64][]uint64{}
		for range rapid.IntRange(0, 40).Draw(t, "heights") {
			b, err := c.beacon.At(c.tip.Height + 1)
			if err != nil {
				t.Fatal(err)
			}
			beacons[c.beacon.current] = b
			public[c.tip.Height+1] = nil
			c.extend(t)
		}
		for e := range c.beacon.current + 1 {
			inputs[e] = vrf.Input(c.genesis.ChainID, e, beacons[e-min(e, 1)])
		}
		output := func(e uint64) *[32]byte {
			if y, ok := c.outputs[e]; ok {
				return &y
			}
			return nil
		}
		for height := range public {
			g := c.beacon.epochOf(height)
			beacon := [32]byte(beacons[g])
			for e := g + 1; e <= g+3; e++ {
				if x, ok := inputs[e]; ok && x == vrf.Input(c.genesis.ChainID, e, beacon) {
					public[height] = append(public[height], e)
				}
				beacon = vrf.NextBeacon(beacon, e-1, output(e-1))
			}
		}
		for e := range inputs {
			committer, ok := c.beacon.Committer(e)
			if !ok {
				continue
			}
			if came, ok := c.came[committer.PublicKey]; ok && slices.Contains(public[came], e) {
				t.Fatalf("epoch %d is committed to by a key that came with block %d of epoch %d: its input was public by then",
					e, came, c.beacon.epochOf(came))
			}
		}
	})
}

// TestACommitmentCountsAlthoughItsMakerLeft holds that a commitment is verified with the set of the
// epoch before, also when its maker has left and another validator has its place.
func TestACommitmentCountsAlthoughItsMakerLeft(t *testing.T) {
	secret, err := vrf.NewSecretKey(bytes.NewReader(bytes.Repeat([]byte{3}, 256)))
	if err != nil {
		t.Fatal(err)
	}
	v := newMembers(0, 4)
	v[1].VRFKey = chain.VRFKey(secret.Public())
	g := genesisOf(4, v[:3])
	sets := newSets(g)
	b := newBeacon(g, sets)
	header := g.Header()
	for height := range uint64(6) {
		var c *chain.Change
		if height+1 == 5 { // in epoch 1
			c = changeOf(1, []member{v[0], v[2], v[3]})
		}
		f := extend(&header, sets.Open(), c)
		sets.apply(&f.Block)
		b.apply(&f.Block)
		header = f.Header
	}
	// Epoch 1 is number 1's, and v1 has left. In epoch 2 the set of epoch 1 still counts.
	x, _ := b.Input(1)
	output, proof, err := vrf.Prove(secret, x)
	if err != nil {
		t.Fatal(err)
	}
	commitment := &chain.Commitment{Epoch: 1, Validator: 1, Output: chain.VRFOutput(output), Proof: proof}
	for _, place := range []uint32{0, 2, 1 << 31} {
		wrong := *commitment
		wrong.Validator = place
		if kept, err := b.Offer(&wrong); kept || err == nil {
			t.Errorf("the commitment in the name of place %d: kept %v, %v", place, kept, err)
		}
	}
	if kept, err := b.Offer(commitment); !kept || err != nil {
		t.Fatalf("the commitment of a validator that left: kept %v, %v", kept, err)
	}
	block := &chain.Block{Header: chain.Header{Height: 7}, Commitment: b.ForBlock(7)}
	block.Header.Beacon, _ = b.At(7)
	if err := newChecked(b, block); err != nil {
		t.Errorf("a block with this commitment: %v", err)
	}
	b.apply(block)
	if r := b.Reveals()[v[1].PublicKey]; r != (Reveals{Made: 1}) {
		t.Errorf("the reveals of the validator that left are %+v", r)
	}
}

// newChecked checks a block on a beacon that has not verified its commitment before.
func newChecked(b *Beacon, block *chain.Block) error {
	b.mu.Lock()
	clear(b.verified)
	b.mu.Unlock()
	return b.Check(block)
}

// TestNobodyCommitsAfterAFullReplacement holds that no commitment is taken, wanted or counted while
// nobody is eligible.
func TestNobodyCommitsAfterAFullReplacement(t *testing.T) {
	v := newMembers(0, 4)
	g := genesisOf(2, v[:2])
	sets := newSets(g)
	b := newBeacon(g, sets)
	header := g.Header()
	var none []uint64
	for height := uint64(1); height <= 20; height++ {
		var c *chain.Change
		if height == 5 {
			c = changeOf(1, v[2:])
		}
		f := extend(&header, sets.Open(), c)
		if e := b.epochOf(height); height%2 == 0 {
			if _, ok := b.Committer(e); !ok {
				none = append(none, e)
				if kept, err := b.Offer(&chain.Commitment{Epoch: e}); kept || err != nil || slices.Contains(b.Wanted(), e) {
					t.Errorf("epoch %d: kept %v, %v, wanted %v", e, kept, err, b.Wanted())
				}
				at, _ := b.At(height)
				carrying := &chain.Block{Header: chain.Header{Height: height, Beacon: at}, Commitment: &chain.Commitment{Epoch: e}}
				if err := b.Check(carrying); err == nil {
					t.Errorf("a block of epoch %d may carry a commitment", e)
				}
			}
		}
		sets.apply(&f.Block)
		b.apply(&f.Block)
		header = f.Header
	}
	// The set of height 6 is the first of the new ones: epoch 3 is the first to begin with it.
	if want := []uint64{4, 5}; !slices.Equal(none, want) {
		t.Errorf("nobody commits in epochs %v, want %v", none, want)
	}
	want := map[chain.PublicKey]Reveals{
		v[0].PublicKey: {Missed: 2}, v[1].PublicKey: {Missed: 2}, v[2].PublicKey: {Missed: 2}, v[3].PublicKey: {Missed: 2},
	}
	if got := b.Reveals(); !maps.Equal(got, want) {
		t.Errorf("counted %v, want %v", got, want)
	}
}

// Promise 42.
func TestTheBeaconTakesInWhatAnEpochCarried(t *testing.T) {
	g := genesisOf(2, newMembers(0, 3))
	sets := newSets(g)
	b := newBeacon(g, sets)
	apply := func(block *chain.Block) {
		sets.apply(block)
		b.apply(block)
	}
	y := [32]byte{7}
	apply(&chain.Block{Header: chain.Header{Height: 1}, Commitment: &chain.Commitment{Output: y}})
	got, err := b.At(2)
	if want := chain.Hash(vrf.NextBeacon(g.Hash(), 0, &y)); err != nil || got != want {
		t.Errorf("B_1 = %v, %v; want %v", got, err, want)
	}
	apply(&chain.Block{Header: chain.Header{Height: 2}})
	apply(&chain.Block{Header: chain.Header{Height: 3}})
	next, err := b.At(4)
	if want := chain.Hash(vrf.NextBeacon(got, 1, nil)); err != nil || next != want {
		t.Errorf("B_2 without a commitment = %v, %v; want %v", next, err, want)
	}
	r := b.Reveals()
	if r[g.Validators[0].PublicKey] != (Reveals{Made: 1}) || r[g.Validators[1].PublicKey] != (Reveals{Missed: 1}) || len(r) != 2 {
		t.Errorf("%v; want one made by validator 0, one missed by 1", r)
	}
}

// A peer may name any epoch, also one whose heights do not fit a number.
func TestACommitmentOfAnImpossibleEpochIsNotWanted(t *testing.T) {
	const interval = 4096
	g := genesisOf(interval, newMembers(0, 3))
	b := newBeacon(g, newSets(g))
	for back := range uint64(5) {
		e := (1<<64)/interval + back // its heights begin at back*interval again, modulo 2^64
		if kept, err := b.Offer(&chain.Commitment{Epoch: e}); kept || err != nil {
			t.Errorf("the commitment of epoch %d: kept %v, %v", e, kept, err)
		}
		if c, ok := b.Committer(e); ok {
			t.Errorf("epoch %d has the committing validator %v", e, c)
		}
	}
}
