package system

import (
	"encoding/hex"
	"slices"
	"testing"
)

func TestProofOfConceptArithmeticHasTheKnownVectors(t *testing.T) {
	data := []byte{1, 2, 3, 4, 5}
	var id []byte
	for bits := range slices.Chunk(pocKey(data), 8) {
		b := byte(0)
		for _, bit := range bits {
			b = b<<1 | bit
		}
		id = append(id, b)
	}
	if got, want := hex.EncodeToString(id), "28dadf62a2991e506bb60a90b5afbb5df16c9d7ae0fe9d3074a75c534afa23a5"; got != want {
		t.Errorf("id %s, want %s", got, want)
	}
	leaf := pocNode{Leaf: &pocLeaf{Key: pocKey(data), Data: data}}
	hash, _, _, err := leaf.hash()
	if err != nil {
		t.Fatal(err)
	}
	root := pocNode{Root: &pocRoot{Left: hash}} // the key's first bit is 0
	hash, _, _, err = root.hash()
	if err != nil {
		t.Fatal(err)
	}
	if got, want := hex.EncodeToString(hash), "af734e28830062088241d4e6a65a0a06cd8923bfaed455d2157483a5deeb1768"; got != want {
		t.Errorf("root %s, want %s", got, want)
	}
}
