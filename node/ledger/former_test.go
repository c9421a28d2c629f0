package ledger

import (
	"slices"
	"testing"

	"github.com/diseq/diseq/node/chain"
)

func TestFormerValidatorsAreThoseOfAllErasThatAreOver(t *testing.T) {
	v := newMembers(0, 5)
	g := genesisOf(8, v[:3])
	s, header := newSets(g), g.Header()
	for generation, members := range [][]member{v[:3], v[1:4], {v[3], v[4]}} {
		if generation > 0 {
			b := extend(&header, s.Open(), changeOf(uint32(generation), members))
			s.apply(&b.Block)
			header = b.Header
		}
		var want []chain.PublicKey
		for _, m := range v[:min(5, 3+generation)] {
			if s.Open().Index(m.PublicKey) < 0 {
				want = append(want, m.PublicKey)
			}
		}
		got := s.Former()
		slices.SortFunc(got, func(a, b chain.PublicKey) int { return slices.Compare(a[:], b[:]) })
		slices.SortFunc(want, func(a, b chain.PublicKey) int { return slices.Compare(a[:], b[:]) })
		if !slices.Equal(got, want) || len(got) != []int{0, 1, 3}[generation] {
			t.Errorf("generation %d: former validators %v, want %v", generation, got, want)
		}
	}
}
