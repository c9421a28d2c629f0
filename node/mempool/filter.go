package mempool

import (
	"encoding/binary"
	"math"
	"slices"
	"sync"

	"github.com/greatroar/blobloom"

	"github.com/diseq/diseq/node/chain"
)

const (
	// firstLayer is how many ids the first layer of the filter is made for: 1.7 MB.
	firstLayer = 1 << 20
	// falsePositives is the rate of a full layer. Each layer is four times as large as the one
	// before, so that a thousand million ids take five and the rates add up to about 1 %.
	falsePositives = 0.002
)

// filter answers "never seen" for almost every id that is not in the index, without a read from
// disk. It grows with the index by layers of blocked Bloom filters.
type filter struct {
	mu     sync.RWMutex
	layers []*blobloom.Filter
	// capacity is what the newest layer was made for, room what is left of it.
	capacity, room uint64
	// bits is the memory that is left for further layers.
	bits uint64
	// complete is set once every id of the index is in.
	complete bool
}

func newFilter(first, bits uint64) *filter { return &filter{capacity: first, bits: bits} }

// key is the part of an id that the filter hashes by: ids are uniform already.
func key(id chain.Hash) uint64 { return binary.LittleEndian.Uint64(id[:8]) }

func (f *filter) add(ids []chain.Hash) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, id := range ids {
		if f.room == 0 {
			f.grow()
		}
		f.room--
		f.layers[len(f.layers)-1].Add(key(id))
	}
}

// grow adds a layer, or, when the memory is used up, lets the newest be filled beyond its rate.
func (f *filter) grow() {
	if len(f.layers) > 0 {
		f.capacity *= 4
	}
	size, hashes := blobloom.Optimize(blobloom.Config{Capacity: f.capacity, FPRate: falsePositives})
	if size > f.bits && len(f.layers) > 0 {
		if f.bits < 1<<20 {
			f.room = math.MaxUint64
			return
		}
		f.capacity = uint64(float64(f.capacity) * float64(f.bits) / float64(size))
		size = f.bits
	}
	f.layers = append(f.layers, blobloom.New(size, hashes))
	f.room = f.capacity
	f.bits -= min(size, f.bits)
}

// finish says that every id of the index was added.
func (f *filter) finish() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.complete = true
}

// candidates returns the places of those ids that may be in the index.
func (f *filter) candidates(ids []chain.Hash) []int {
	f.mu.RLock()
	defer f.mu.RUnlock()
	var found []int
	for i, id := range ids {
		if !f.complete || f.has(key(id)) {
			found = append(found, i)
		}
	}
	return found
}

func (f *filter) has(k uint64) bool {
	// The newest layer is the largest.
	for _, l := range slices.Backward(f.layers) {
		if l.Has(k) {
			return true
		}
	}
	return false
}

// size returns the filter's memory in bytes.
func (f *filter) size() uint64 {
	f.mu.RLock()
	defer f.mu.RUnlock()
	n := uint64(0)
	for _, l := range f.layers {
		n += l.NumBits() / 8
	}
	return n
}
