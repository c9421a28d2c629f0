package ledger

import (
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/vrf"
)

// Beacon follows the ZK-VRF chain: the randomness of each beacon epoch, the outputs that final
// blocks carried, and the verified commitments for the current and the next epoch (consensus.md,
// heights, rounds, leaders). It is derived from the final blocks alone. The store keeps a row for
// each epoch, so that a start does not read every block again.
type Beacon struct {
	chainID  string
	genesis  chain.Hash
	interval uint64
	set      *chain.ValidatorSet

	mu sync.Mutex
	// value is B_e, output the y_e that a final block carried, both of the last epochs only.
	value  map[uint64]chain.Hash
	output map[uint64][32]byte
	// current is the epoch of the next height.
	current uint64
	// verified are the commitments that no final block carries yet.
	verified map[uint64]chain.Commitment
	// made and missed count the reveals of each validator.
	made, missed []uint64
}

func newBeacon(g *chain.Genesis) *Beacon {
	b := &Beacon{
		chainID: g.ChainID, genesis: g.Hash(), interval: uint64(g.Parameters.BeaconInterval), set: g.Set(),
		value: map[uint64]chain.Hash{}, output: map[uint64][32]byte{}, verified: map[uint64]chain.Commitment{},
		made: make([]uint64, len(g.Validators)), missed: make([]uint64, len(g.Validators)),
	}
	b.value[0] = b.genesis
	b.current = b.epochOf(1)
	// With epochs of one height, epoch 0 is genesis alone, and nothing can be revealed in it.
	if b.current > 0 {
		b.value[1] = vrf.NextBeacon(b.genesis, 0, nil)
		b.missed[0]++
	}
	return b
}

func (b *Beacon) epochOf(height uint64) uint64 { return height / b.interval }

// Committer returns the index of the committing validator of epoch e.
func (b *Beacon) Committer(e uint64) int { return int(e % uint64(len(b.set.Validators))) }

// At returns the beacon in force at height. The height belongs to the current epoch or the one
// below it.
func (b *Beacon) At(height uint64) (chain.Hash, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	v, ok := b.value[b.epochOf(height)]
	if !ok {
		return chain.Hash{}, fmt.Errorf("the beacon of epoch %d (height %d) is not known at epoch %d", b.epochOf(height), height, b.current)
	}
	return v, nil
}

// leaders returns the order in which the validators lead the rounds of height.
func (b *Beacon) leaders(height uint64) ([]int, error) {
	v, err := b.At(height)
	if err != nil {
		return nil, err
	}
	return vrf.LeaderOrder(b.chainID, v, height, len(b.set.Validators)), nil
}

// Input returns the VRF input x_e. It rests on B_{e-1}, so it is known one epoch ahead.
func (b *Beacon) Input(e uint64) ([32]byte, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.inputLocked(e)
}

func (b *Beacon) inputLocked(e uint64) ([32]byte, bool) {
	v, ok := b.genesis, true
	if e > 0 {
		v, ok = b.value[e-1]
	}
	return vrf.Input(b.chainID, e, v), ok
}

// apply follows a final block and returns the epochs that it changed.
func (b *Beacon) apply(block *chain.Block) []chain.Epoch {
	b.mu.Lock()
	defer b.mu.Unlock()
	height := block.Header.Height
	e := b.epochOf(height)
	changed := map[uint64]bool{}
	if c := block.Commitment; c != nil {
		b.output[e] = c.Output
		b.made[b.Committer(e)]++
		changed[e] = true
	}
	if next := b.epochOf(height + 1); next > e {
		var y *[32]byte
		if v, ok := b.output[e]; ok {
			y = &v
		} else {
			b.missed[b.Committer(e)]++
		}
		b.value[next] = vrf.NextBeacon(b.value[e], e, y)
		b.current = next
		changed[next] = true
		maps.DeleteFunc(b.value, func(k uint64, _ chain.Hash) bool { return k+2 < next })
		maps.DeleteFunc(b.output, func(k uint64, _ [32]byte) bool { return k+2 < next })
		maps.DeleteFunc(b.verified, func(k uint64, _ chain.Commitment) bool { return k < next })
	}
	rows := make([]chain.Epoch, 0, len(changed))
	for _, k := range slices.Sorted(maps.Keys(changed)) {
		rows = append(rows, b.row(k))
	}
	return rows
}

func (b *Beacon) row(e uint64) chain.Epoch {
	r := chain.Epoch{Number: e, Beacon: b.value[e]}
	if y, ok := b.output[e]; ok {
		r.Output = &y
	}
	return r
}

// restore takes over the rows of the store, in rising order, at final height.
func (b *Beacon) restore(height uint64, rows []chain.Epoch) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if height == 0 {
		return
	}
	b.current = b.epochOf(height + 1)
	n := uint64(len(b.missed))
	for i := range b.missed { // the epochs that are over, less those below
		b.missed[i] = (b.current + n - 1 - uint64(i)) / n
	}
	for _, r := range rows {
		if r.Number+2 >= b.current {
			b.value[r.Number] = r.Beacon
			if r.Output != nil {
				b.output[r.Number] = *r.Output
			}
		}
		if r.Output == nil {
			continue
		}
		b.made[b.Committer(r.Number)]++
		if r.Number < b.current {
			b.missed[b.Committer(r.Number)]--
		}
	}
}

// Counts returns the numbers of reveals that each validator made and missed.
func (b *Beacon) Counts() (made, missed []uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.made), slices.Clone(b.missed)
}

// Wanted returns those of the current and the next epoch whose commitment is neither verified here
// nor carried by a final block.
func (b *Beacon) Wanted() []uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	var epochs []uint64
	for _, e := range []uint64{b.current, b.current + 1} {
		if _, ok := b.inputLocked(e); ok && b.wantsLocked(e) {
			epochs = append(epochs, e)
		}
	}
	return epochs
}

func (b *Beacon) wantsLocked(e uint64) bool {
	_, carried := b.output[e]
	_, verified := b.verified[e]
	return !carried && !verified && e >= b.current && e <= b.current+1
}

// verify checks a commitment's proof, after the checks that cost nothing. So a peer can make this
// node verify a wrong proof only for an epoch whose commitment is wanted, and only in the name of
// its committing validator.
func (b *Beacon) verify(c *chain.Commitment) error {
	b.mu.Lock()
	x, ok := b.inputLocked(c.Epoch)
	b.mu.Unlock()
	if !ok {
		return fmt.Errorf("commitment of epoch %d: its input is not known yet", c.Epoch)
	}
	if want := b.Committer(c.Epoch); int64(c.Validator) != int64(want) {
		return fmt.Errorf("commitment of epoch %d by validator %d, its committing validator is %d", c.Epoch, c.Validator, want)
	}
	if err := vrf.Verify(vrf.PublicKey(b.set.Validators[c.Validator].VRFKey), x, vrf.Output(c.Output), vrf.Proof(c.Proof)); err != nil {
		return fmt.Errorf("commitment of epoch %d by validator %d: %w", c.Epoch, c.Validator, err)
	}
	return nil
}

// Offer verifies a commitment from a peer or from this node's prover and keeps it. It returns true
// if the commitment was wanted and is kept.
func (b *Beacon) Offer(c *chain.Commitment) (bool, error) {
	b.mu.Lock()
	wanted := b.wantsLocked(c.Epoch)
	b.mu.Unlock()
	if !wanted {
		return false, nil
	}
	if err := b.verify(c); err != nil {
		return false, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.wantsLocked(c.Epoch) {
		return false, nil
	}
	b.verified[c.Epoch] = *c
	return true, nil
}

// Commitments returns the verified commitments for the current and the next epoch.
func (b *Beacon) Commitments() []chain.Commitment {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := make([]chain.Commitment, 0, len(b.verified))
	for _, e := range slices.Sorted(maps.Keys(b.verified)) {
		out = append(out, b.verified[e])
	}
	return out
}

// ForBlock returns the commitment that a block at height should carry. It is nil if none is
// verified, or if a final block carries the epoch's already.
func (b *Beacon) ForBlock(height uint64) *chain.Commitment {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.epochOf(height)
	if _, carried := b.output[e]; carried {
		return nil
	}
	c, ok := b.verified[e]
	if !ok {
		return nil
	}
	return &c
}

// Check compares a block's beacon and commitment with the rules (docs/protocol.md, what makes a
// block valid).
func (b *Beacon) Check(block *chain.Block) error {
	h := &block.Header
	want, err := b.At(h.Height)
	if err != nil {
		return err
	}
	if h.Beacon != want {
		return fmt.Errorf("beacon %v at height %d, want %v", h.Beacon, h.Height, want)
	}
	c := block.Commitment
	if c == nil {
		return nil
	}
	e := b.epochOf(h.Height)
	if c.Epoch != e {
		return fmt.Errorf("block at height %d of epoch %d carries the commitment of epoch %d", h.Height, e, c.Epoch)
	}
	b.mu.Lock()
	_, carried := b.output[e]
	verified, ok := b.verified[e]
	b.mu.Unlock()
	if carried {
		return fmt.Errorf("block at height %d carries the commitment of epoch %d again", h.Height, e)
	}
	if ok && verified.Hash() == c.Hash() {
		return nil
	}
	return b.verify(c)
}
