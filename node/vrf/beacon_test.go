package vrf

import "testing"

func TestBeaconDependsOnAllOfItsInputs(t *testing.T) {
	y, zero := [32]byte{9}, [32]byte{}
	seen := map[[32]byte]string{}
	for name, b := range map[string][32]byte{
		"base":        NextBeacon([32]byte{1}, 5, &y),
		"beacon":      NextBeacon([32]byte{2}, 5, &y),
		"epoch":       NextBeacon([32]byte{1}, 6, &y),
		"output":      NextBeacon([32]byte{1}, 5, &[32]byte{8}),
		"missing":     NextBeacon([32]byte{1}, 5, nil),
		"zero output": NextBeacon([32]byte{1}, 5, &zero),
	} {
		if other, ok := seen[b]; ok {
			t.Errorf("%s and %s have the same beacon", name, other)
		}
		seen[b] = name
	}
}

func TestBeaconAndLeaderOrderAreCheap(t *testing.T) {
	beacon := [32]byte{1}
	if n := testing.AllocsPerRun(100, func() { beacon = NextBeacon(beacon, 1, nil) }); n > 1 {
		t.Errorf("NextBeacon: %v allocations", n)
	}
	if n := testing.AllocsPerRun(100, func() { LeaderOrder("diseq-test", beacon, 1, 100) }); n > 3 {
		t.Errorf("LeaderOrder: %v allocations", n)
	}
}
