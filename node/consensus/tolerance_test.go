package consensus

import (
	"encoding/json"
	"testing"
)

// Promise 1.
func TestToleranceFigures(t *testing.T) {
	for _, c := range []struct{ n, t, crash, byzantine, synchrony int }{
		{4, 3, 1, 1, 2},
		{5, 3, 2, 0, 2},
		{7, 5, 2, 2, 4},
		{100, 51, 49, 1, 50},
		{1, 1, 0, 0, 0},
		{2, 2, 0, 1, 1},
		{4, 4, 0, 3, 3},
		// No threshold.
		{4, 2, 0, 0, 0},
		{4, 5, 0, 0, 0},
		{0, 0, 0, 0, 0},
		{-4, -3, 0, 0, 0},
	} {
		f := Tolerance(c.n, c.t)
		if f.Crash != c.crash || f.Byzantine != c.byzantine || f.ByzantineWithSynchrony != c.synchrony {
			t.Errorf("Tolerance(%d, %d) = %+v, want %d, %d, %d", c.n, c.t, f, c.crash, c.byzantine, c.synchrony)
		}
	}
}

// Promise 1.
func TestToleranceOfReadersWhoInsistOnStrength(t *testing.T) {
	for _, c := range []struct{ n, t, s, want int }{
		{4, 3, 3, 1},
		{4, 3, 4, 2},
		{5, 3, 3, 0},
		{5, 3, 5, 2},
		{100, 51, 51, 1},
		{100, 51, 100, 50},
		// More than all is all; below the threshold nothing is final.
		{4, 3, 9, 2},
		{4, 3, 2, 0},
		{4, 2, 4, 0},
	} {
		if got := Tolerance(c.n, c.t).AtStrength(c.s); got != c.want {
			t.Errorf("Tolerance(%d, %d).AtStrength(%d) = %d, want %d", c.n, c.t, c.s, got, c.want)
		}
	}
	for n := 1; n <= 100; n++ {
		for threshold := n/2 + 1; threshold <= n; threshold++ {
			f := Tolerance(n, threshold)
			if f.AtStrength(threshold) != f.Byzantine {
				t.Fatalf("n=%d, t=%d: %d at the threshold, %d without insisting", n, threshold, f.AtStrength(threshold), f.Byzantine)
			}
			if f.AtStrength(n) != threshold-1 {
				t.Fatalf("n=%d, t=%d: %d at full strength, want less than t", n, threshold, f.AtStrength(n))
			}
		}
	}
}

func TestToleranceInJSON(t *testing.T) {
	b, err := json.Marshal(Tolerance(4, 3))
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"crash":1,"byzantine":1,"byzantine_with_synchrony":2}`; string(b) != want {
		t.Fatalf("%s, want %s", b, want)
	}
}
