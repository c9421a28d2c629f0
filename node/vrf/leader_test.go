package vrf

import (
	"encoding/binary"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// Promise 38.
func TestEveryValidatorLeadsOnceInNRounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 300).Draw(t, "n")
		beacon := [32]byte(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "beacon"))
		height := rapid.Uint64().Draw(t, "height")
		order := LeaderOrder("diseq-test", beacon, height, n)
		sorted := slices.Sorted(slices.Values(order))
		for i := range n {
			if sorted[i] != i {
				t.Fatalf("n=%d: %v is not a permutation", n, order)
			}
		}
		if again := LeaderOrder("diseq-test", beacon, height, n); !slices.Equal(order, again) {
			t.Fatalf("two orders of one height: %v, %v", order, again)
		}
	})
}

func TestLeaderOrderOfNobody(t *testing.T) {
	for _, n := range []int{0, -1} {
		if order := LeaderOrder("diseq-test", [32]byte{}, 1, n); order != nil {
			t.Errorf("n=%d: %v", n, order)
		}
	}
}

func TestLeaderOrderDependsOnAllOfItsInputs(t *testing.T) {
	const n = 30
	seen := map[string]string{}
	for name, order := range map[string][]int{
		"base":     LeaderOrder("ab", [32]byte{1}, 5, n),
		"chain id": LeaderOrder("ac", [32]byte{1}, 5, n),
		"beacon":   LeaderOrder("ab", [32]byte{2}, 5, n),
		"height":   LeaderOrder("ab", [32]byte{1}, 6, n),
	} {
		if other, ok := seen[fmt.Sprint(order)]; ok {
			t.Errorf("%s and %s give the same order", name, other)
		}
		seen[fmt.Sprint(order)] = name
	}
}

// All 24 orders of four validators come up equally often. The counts are the same
// in each run; chi-square with 23 degrees of freedom passes 49.7 with probability
// 0.001 for a uniform draw.
//
// Promise 38.
func TestLeaderOrderIsUniform(t *testing.T) {
	const n, heights, orders = 4, 24_000, 24
	counts := map[[n]int]float64{}
	for h := range uint64(heights) {
		counts[[n]int(LeaderOrder("diseq-test", [32]byte{3}, h, n))]++
	}
	if len(counts) != orders {
		t.Fatalf("%d of %d orders came up", len(counts), orders)
	}
	const expected = heights / orders
	var chi2 float64
	for _, c := range counts {
		chi2 += (c - expected) * (c - expected) / expected
	}
	if chi2 > 49.7 {
		t.Errorf("chi-square %.1f over %d orders", chi2, orders)
	}
}

// Words at or above the largest multiple of m would favour small indices.
//
// Promise 38.
func TestDrawsSkipTheWordsThatWouldBiasThem(t *testing.T) {
	words := func(w ...uint32) *wordStream {
		s := &wordStream{}
		for _, v := range w {
			s.rest = binary.BigEndian.AppendUint32(s.rest, v)
		}
		return s
	}
	const last = 1<<32 - 1
	for _, c := range []struct {
		m     uint64
		words []uint32
		want  int
	}{
		{m: 1, words: []uint32{last}, want: 0},
		{m: 2, words: []uint32{last}, want: 1},
		{m: 3, words: []uint32{last, 7}, want: 1},     // limit 2^32-1
		{m: 3, words: []uint32{last - 1, 7}, want: 2}, // the last one below it
		{m: 1<<31 + 1, words: []uint32{1<<31 + 1, last, 1 << 31}, want: 1 << 31},
		{m: 1 << 32, words: []uint32{last}, want: last},
	} {
		if got := words(c.words...).below(c.m); got != c.want {
			t.Errorf("below(%d) of %v = %d, want %d", c.m, c.words, got, c.want)
		}
	}
}
