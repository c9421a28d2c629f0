package mempool

import (
	"slices"

	"github.com/diseq/diseq/node/chain"
)

// place is where a message is in the pool: a slot and an index in it. It holds no pointer, so that
// the garbage collector does not scan a map with a million of them.
type place struct{ slot, index uint32 }

// places finds the batches that hold a message. Its map has the first 8 bytes of ids alone: whole
// ids stand in the batches, and a map of them would be more than twice as large and slower. An id
// takes 2^64 attempts to make for the 8 bytes of a given other one, and 2^32 for any pair; either
// costs its place in the map.
type places struct {
	slots     []*entry
	freeSlots []uint32
	// first has one place of each id that is not final. others has all further ones, which are
	// rare, and those of ids whose first 8 bytes were another's.
	first  map[uint64]place
	others map[chain.Hash][]place
	// peak is the largest size of first since it was made.
	peak int
}

func newPlaces() places {
	return places{first: map[uint64]place{}, others: map[chain.Hash][]place{}}
}

// takeSlot gives an entry a slot; freeSlot takes it back.
func (p *places) takeSlot(e *entry) {
	if n := len(p.freeSlots); n > 0 {
		e.slot = p.freeSlots[n-1]
		p.freeSlots = p.freeSlots[:n-1]
		p.slots[e.slot] = e
		return
	}
	e.slot = uint32(len(p.slots))
	p.slots = append(p.slots, e)
}

func (p *places) freeSlot(e *entry) {
	p.slots[e.slot] = nil
	p.freeSlots = append(p.freeSlots, e.slot)
}

// isFirst returns the place of an id in first, if that is its own.
func (p *places) isFirst(id chain.Hash) (place, bool) {
	at, ok := p.first[key(id)]
	return at, ok && p.slots[at.slot].ids[at.index] == id
}

// othersOf returns the places of an id that are not in first.
func (p *places) othersOf(id chain.Hash) []place {
	if len(p.others) == 0 {
		return nil
	}
	return p.others[id]
}

// find returns a place of an id.
func (p *places) find(id chain.Hash) (place, bool) {
	if at, ok := p.isFirst(id); ok {
		return at, true
	}
	if others := p.othersOf(id); len(others) > 0 {
		return others[0], true
	}
	return place{}, false
}

// all calls visit with each place of an id.
func (p *places) all(id chain.Hash, visit func(place)) {
	if at, ok := p.isFirst(id); ok {
		visit(at)
	}
	for _, at := range p.othersOf(id) {
		visit(at)
	}
}

// add notes that message i of e has that id.
func (p *places) add(e *entry, i int, id chain.Hash) {
	here := place{e.slot, uint32(i)}
	k := key(id)
	there, taken := p.first[k]
	others := p.othersOf(id)
	if !taken && len(others) == 0 {
		p.first[k] = here
		return
	}
	shared := len(others) > 0
	if taken && p.slots[there.slot].ids[there.index] == id {
		p.slots[there.slot].shared = true
		shared = true
	}
	p.others[id] = append(others, here)
	if shared {
		for _, at := range p.others[id] {
			p.slots[at.slot].shared = true
		}
	}
}

// remove takes one of an id's places away.
func (p *places) remove(e *entry, i int, id chain.Hash) {
	here := place{e.slot, uint32(i)}
	others := p.othersOf(id)
	if at, ok := p.isFirst(id); !ok || at != here {
		others = slices.DeleteFunc(others, func(o place) bool { return o == here })
	} else if n := len(others); n > 0 {
		p.first[key(id)] = others[n-1]
		others = others[:n-1]
	} else {
		delete(p.first, key(id))
	}
	if len(others) > 0 {
		p.others[id] = others
	} else {
		delete(p.others, id)
	}
}

// take takes all places of an id away and calls visit with each.
func (p *places) take(id chain.Hash, visit func(place)) {
	if at, ok := p.isFirst(id); ok {
		delete(p.first, key(id))
		visit(at)
	}
	if others := p.othersOf(id); len(others) > 0 {
		delete(p.others, id)
		for _, at := range others {
			visit(at)
		}
	}
}

// largeMap is from how many elements on a map that is empty again is made anew: maps do not shrink.
const largeMap = 1 << 16

// shrink gives back the memory that a full pool took. It had so many elements before.
func (p *places) shrink(before int) {
	p.peak = max(p.peak, before)
	if p.peak > largeMap && len(p.first) == 0 && len(p.others) == 0 {
		p.first, p.others, p.peak = map[uint64]place{}, map[chain.Hash][]place{}, 0
	}
}

// recent has the messages of the final blocks that the index does not cover yet, found like those
// in places.
type recent struct {
	// blocks are consecutive, standings has a standing for the first 8 bytes of each id.
	blocks    []recentBlock
	standings map[uint64]standing
	// others has the ids whose first 8 bytes were another's.
	others map[chain.Hash]standing
}

func newRecent() recent {
	return recent{standings: map[uint64]standing{}, others: map[chain.Hash]standing{}}
}

// isOf reports whether a standing is that of an id.
func (r *recent) isOf(s standing, id chain.Hash) bool {
	return r.blocks[s.height-r.blocks[0].height].ids[s.index] == id
}

// find returns the standing of an id.
func (r *recent) find(id chain.Hash) (standing, bool) {
	if s, ok := r.standings[key(id)]; ok && r.isOf(s, id) {
		return s, true
	}
	if len(r.others) == 0 {
		return standing{}, false
	}
	s, ok := r.others[id]
	return s, ok
}

// append adds the next block, whose messages are noted with note.
func (r *recent) append(b recentBlock) { r.blocks = append(r.blocks, b) }

// note adds a message of the last block.
func (r *recent) note(id chain.Hash, s standing) {
	k := key(id)
	if _, taken := r.standings[k]; taken {
		r.others[id] = s
		return
	}
	r.standings[k] = s
}

// upTo returns how many of the blocks are not above height.
func (r *recent) upTo(height uint64) int {
	n := 0
	for n < len(r.blocks) && r.blocks[n].height <= height {
		n++
	}
	return n
}

// drop forgets the first n blocks.
func (r *recent) drop(n int) {
	for _, b := range r.blocks[:n] {
		for _, id := range b.ids {
			if s, ok := r.standings[key(id)]; ok && r.isOf(s, id) {
				delete(r.standings, key(id))
			} else {
				delete(r.others, id)
			}
		}
	}
	r.blocks = slices.Delete(r.blocks, 0, n)
}
