package mempool

import (
	"encoding/binary"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/diseq/diseq/node/chain"
)

// crowdedID is one of six ids that have two different first 8 bytes among them.
func crowdedID(t *rapid.T) (id chain.Hash) {
	binary.LittleEndian.PutUint64(id[:], uint64(rapid.IntRange(0, 1).Draw(t, "first bytes")))
	id[31] = byte(rapid.IntRange(0, 2).Draw(t, "last byte"))
	return id
}

// Ids with the same first 8 bytes, which somebody may take the trouble to make, are told apart as
// any others are.
//
// Promise 25.
func TestIdsWithTheSameFirstBytesAreToldApart(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, model := newPlaces(), map[chain.Hash]map[place]*entry{}
		check := func(id chain.Hash) {
			got := map[place]bool{}
			p.all(id, func(at place) { got[at] = true })
			if len(got) != len(model[id]) {
				t.Fatalf("%d places of %v, want %d", len(got), id, len(model[id]))
			}
			at, ok := p.find(id)
			if ok != (len(got) > 0) || ok && (!got[at] || model[id][at] == nil) {
				t.Fatalf("found %v (%v), want one of %v", at, ok, got)
			}
			for at, e := range model[id] {
				if !got[at] || len(model[id]) > 1 && !e.shared {
					t.Fatalf("place %v is not found, or the batch is not marked as shared", at)
				}
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				e := &entry{ids: []chain.Hash{crowdedID(t)}}
				p.takeSlot(e)
				p.add(e, 0, e.ids[0])
				if model[e.ids[0]] == nil {
					model[e.ids[0]] = map[place]*entry{}
				}
				model[e.ids[0]][place{e.slot, 0}] = e
			},
			"remove": func(t *rapid.T) {
				id := crowdedID(t)
				held := slices.SortedFunc(maps.Keys(model[id]), func(a, b place) int { return int(a.slot) - int(b.slot) })
				if len(held) == 0 {
					return
				}
				at := rapid.SampledFrom(held).Draw(t, "place")
				p.remove(model[id][at], 0, id)
				p.freeSlot(model[id][at])
				delete(model[id], at)
			},
			"take": func(t *rapid.T) {
				id := crowdedID(t)
				p.take(id, func(at place) {
					if model[id][at] == nil {
						t.Fatalf("took %v, which is no place of %v", at, id)
					}
					p.freeSlot(model[id][at])
					delete(model[id], at)
				})
			},
			"": func(t *rapid.T) {
				for first := range 2 {
					for last := range 3 {
						id := chain.Hash{0: byte(first), 31: byte(last)}
						check(id)
					}
				}
				if len(p.first)+len(p.others) > 12 {
					t.Fatalf("%d and %d ids are kept", len(p.first), len(p.others))
				}
			},
		})
	})
}

// The same holds for those of final blocks.
//
// Promise 25.
func TestFinalIdsWithTheSameFirstBytesAreToldApart(t *testing.T) {
	id := func(first, last byte) chain.Hash { return chain.Hash{0: first, 31: last} }
	r := newRecent()
	add := func(height uint64, ids ...chain.Hash) {
		r.append(recentBlock{height, ids})
		for i, id := range ids {
			r.note(id, standing{height, uint32(i)})
		}
	}
	want := func(id chain.Hash, want standing, ok bool) {
		t.Helper()
		if got, found := r.find(id); found != ok || got != want {
			t.Errorf("%v is at %v (%v), want %v (%v)", id, got, found, want, ok)
		}
	}
	add(7, id(1, 1), id(2, 1))
	add(8, id(1, 2))
	want(id(1, 1), standing{7, 0}, true)
	want(id(2, 1), standing{7, 1}, true)
	want(id(1, 2), standing{8, 0}, true)
	want(id(1, 3), standing{}, false)
	r.drop(r.upTo(7))
	want(id(1, 1), standing{}, false)
	want(id(1, 2), standing{8, 0}, true)
	add(9, id(1, 1))
	want(id(1, 1), standing{9, 0}, true)
	r.drop(r.upTo(9))
	if len(r.blocks)+len(r.standings)+len(r.others) != 0 {
		t.Errorf("left are %+v", r)
	}
}
