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
// blocks carried, and the verified commitments for the current and the next epoch (protocol.md,
// beacon). It is derived from the final blocks alone. The store keeps a row for each epoch, so that
// a start does not read every block again.
type Beacon struct {
	chainID  string
	genesis  chain.Hash
	interval uint64
	sets     *Sets

	mu sync.Mutex
	// value is B_e, output the y_e that a final block carried, both of the last epochs only.
	value  map[uint64]chain.Hash
	output map[uint64][32]byte
	// current is the epoch of the next height.
	current uint64
	// verified are the commitments that no final block carries yet.
	verified map[uint64]chain.Commitment
	// reveals counts those of each validator that ever committed.
	reveals map[chain.PublicKey]Reveals
}

// Reveals counts the epochs for which a validator was the committing validator.
type Reveals struct {
	// Made are those whose output a final block carried in time, Missed those that ended without.
	Made, Missed uint64
}

// Committer is the committing validator of an epoch.
type Committer struct {
	// Index is the validator's place in the set of the first height of the epoch before, by which
	// its commitment names it.
	Index uint32
	chain.Validator
}

func newBeacon(g *chain.Genesis, sets *Sets) *Beacon {
	b := &Beacon{
		chainID: g.ChainID, genesis: g.Hash(), interval: uint64(g.Parameters.BeaconInterval), sets: sets,
		value: map[uint64]chain.Hash{}, output: map[uint64][32]byte{}, verified: map[uint64]chain.Commitment{},
		reveals: map[chain.PublicKey]Reveals{},
	}
	b.value[0] = b.genesis
	b.current = b.epochOf(1)
	// With epochs of one height, epoch 0 is genesis alone, and nothing can be revealed in it.
	if b.current > 0 {
		b.value[1] = vrf.NextBeacon(b.genesis, 0, nil)
		b.missed(0)
	}
	return b
}

func (b *Beacon) epochOf(height uint64) uint64 { return height / b.interval }

// setOf returns the set of the first height of the epoch that is back epochs before e: genesis' set
// where there is no such epoch. It is known once the blocks of the epochs below are final. Peers
// name epochs that no height is of: their first heights must not wrap around to low ones.
func (b *Beacon) setOf(e, back uint64) (*chain.ValidatorSet, bool) {
	if e > chain.MaxNumber/b.interval {
		return nil, false
	}
	return b.sets.At((e - min(e, back)) * b.interval)
}

// Committer returns the committing validator of epoch e. It is known once e-1 has begun, and there
// may be none.
//
// Eligible are the members of the set of e-1 that were members of the set of e-3 already. A
// validator that comes into the set in epoch g may have made its key when the output of g+1 was
// public, and so the inputs up to that of g+3. It could have tried keys until one of them gave an
// output that it likes.
func (b *Beacon) Committer(e uint64) (Committer, bool) {
	set, ok := b.setOf(e, 1)
	if !ok {
		return Committer{}, false
	}
	earlier, _ := b.setOf(e, 3)
	if set == earlier { // as in all epochs but those after a change: restore asks for each
		i := e % uint64(len(set.Validators))
		return Committer{Index: uint32(i), Validator: set.Validators[i]}, true
	}
	eligible := eligible(set, earlier)
	if len(eligible) == 0 {
		return Committer{}, false
	}
	i := eligible[e%uint64(len(eligible))]
	return Committer{Index: i, Validator: set.Validators[i]}, true
}

// eligible returns the places in set of the members that are in earlier too, with the same keys.
func eligible(set, earlier *chain.ValidatorSet) []uint32 {
	was := make(map[chain.Validator]bool, len(earlier.Validators))
	for _, v := range earlier.Validators {
		was[v] = true
	}
	places := make([]uint32, 0, len(set.Validators))
	for i, v := range set.Validators {
		if was[v] {
			places = append(places, uint32(i))
		}
	}
	return places
}

// made and missed count the end of an epoch, or its output.
func (b *Beacon) made(e uint64) {
	if c, ok := b.Committer(e); ok {
		r := b.reveals[c.PublicKey]
		r.Made++
		b.reveals[c.PublicKey] = r
	}
}

func (b *Beacon) missed(e uint64) {
	if c, ok := b.Committer(e); ok {
		r := b.reveals[c.PublicKey]
		r.Missed++
		b.reveals[c.PublicKey] = r
	}
}

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
	set, ok := b.sets.At(height)
	if !ok {
		return nil, fmt.Errorf("the validator set of height %d is not decided yet", height)
	}
	v, err := b.At(height)
	if err != nil {
		return nil, err
	}
	return vrf.LeaderOrder(b.chainID, v, height, len(set.Validators)), nil
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

// rows returns what a final block changes of the epochs, without a change here: the store has them
// before apply.
func (b *Beacon) rows(block *chain.Block) []chain.Epoch {
	b.mu.Lock()
	defer b.mu.Unlock()
	var rows []chain.Epoch
	e := b.epochOf(block.Header.Height)
	y := b.outputLocked(e)
	if c := block.Commitment; c != nil {
		output := [32]byte(c.Output)
		y = &output
		rows = append(rows, chain.Epoch{Number: e, Beacon: b.value[e], Output: y})
	}
	if next := b.epochOf(block.Header.Height + 1); next > e {
		rows = append(rows, chain.Epoch{Number: next, Beacon: vrf.NextBeacon(b.value[e], e, y)})
	}
	return rows
}

func (b *Beacon) outputLocked(e uint64) *[32]byte {
	if y, ok := b.output[e]; ok {
		return &y
	}
	return nil
}

// apply follows a final block, after the sets.
func (b *Beacon) apply(block *chain.Block) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.epochOf(block.Header.Height)
	if c := block.Commitment; c != nil {
		b.output[e] = c.Output
		b.made(e)
	}
	next := b.epochOf(block.Header.Height + 1)
	if next == e {
		return
	}
	y := b.outputLocked(e)
	if y == nil {
		b.missed(e)
	}
	b.value[next] = vrf.NextBeacon(b.value[e], e, y)
	b.current = next
	maps.DeleteFunc(b.value, func(k uint64, _ chain.Hash) bool { return k+2 < next })
	maps.DeleteFunc(b.output, func(k uint64, _ [32]byte) bool { return k+2 < next })
	maps.DeleteFunc(b.verified, func(k uint64, _ chain.Commitment) bool { return k < next })
}

// restore takes over the rows of the store, in rising order, at final height.
func (b *Beacon) restore(height uint64, rows []chain.Epoch) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if height == 0 {
		return
	}
	b.current = b.epochOf(height + 1)
	clear(b.reveals)
	over := uint64(0) // the epochs below are counted
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
		for ; over < r.Number; over++ {
			b.missed(over)
		}
		b.made(r.Number)
		over = r.Number + 1
	}
	for ; over < b.current; over++ {
		b.missed(over)
	}
}

// Reveals returns the numbers of reveals that each validator made and missed, by its key.
func (b *Beacon) Reveals() map[chain.PublicKey]Reveals {
	b.mu.Lock()
	defer b.mu.Unlock()
	return maps.Clone(b.reveals)
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
	_, somebody := b.Committer(e)
	return !carried && !verified && somebody && e >= b.current && e <= b.current+1
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
	want, ok := b.Committer(c.Epoch)
	if !ok {
		return fmt.Errorf("commitment of epoch %d: it has no committing validator", c.Epoch)
	}
	if c.Validator != want.Index {
		return fmt.Errorf("commitment of epoch %d by validator %d, its committing validator is %d", c.Epoch, c.Validator, want.Index)
	}
	if err := vrf.Verify(vrf.PublicKey(want.VRFKey), x, vrf.Output(c.Output), vrf.Proof(c.Proof)); err != nil {
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
