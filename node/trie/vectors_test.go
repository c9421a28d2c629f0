package trie

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

var update = flag.Bool("update", false, "write testdata/vectors.json anew")

// vectorTrie is a set of messages, the root of their trie, and proofs in it.
type vectorTrie struct {
	Messages [][]byte      `json:"messages"`
	Root     hexHash       `json:"root"`
	Proofs   []vectorProof `json:"proofs"`
}

// vectorProof is one proof in the two forms that HTTP has; that of the proof of concept is for
// inclusion only.
type vectorProof struct {
	Key         hexHash   `json:"key"`
	Present     bool      `json:"present"`
	Proof       *Proof    `json:"proof"`
	MerkleProof *PoCProof `json:"merkle_proof,omitempty"`
}

// TestVectors holds roots and proofs that docs/protocol.md points to. The tries of 1 to 3 messages
// have an empty side; of the absent keys some end there, some at another key's leaf. go test
// ./node/trie -run Vectors -update writes them anew.
func TestVectors(t *testing.T) {
	absent := []hexHash{{}, {0x40}, {0x80}, {0xc0}, Key([]byte("absent"))}
	got := []byte("{\"tries\":[\n")
	for i, n := range []int{0, 1, 2, 3, 8} {
		line, err := json.Marshal(vectorsOf(t, n, absent))
		if err != nil {
			t.Fatal(err)
		}
		if i > 0 {
			got = append(got, ",\n"...)
		}
		got = append(got, line...)
	}
	got = append(got, "\n]}\n"...)
	path := filepath.Join("testdata", "vectors.json")
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("roots or proofs differ from %s:\n%s", path, got)
	}
}

// vectorsOf makes the trie of n messages and proves each of them and each absent key in it.
func vectorsOf(t *testing.T, n int, absent []hexHash) vectorTrie {
	t.Helper()
	out := vectorTrie{Messages: [][]byte{}}
	var leaves []Leaf
	keys := slices.Clone(absent)
	for i := range n {
		data := fmt.Appendf(nil, "message %d", i)
		key := Key(data)
		out.Messages = append(out.Messages, data)
		leaves = append(leaves, Leaf{Key: key, Hash: LeafHash(key, data), Index: uint32(i)})
		keys = append(keys, hexHash(key))
	}
	tr := openTest(t, Options{})
	out.Root = mustAppend(t, tr, 1, leaves)
	for i, key := range keys {
		p, err := tr.Prove(ctx, 1, key)
		if err != nil {
			t.Fatal(err)
		}
		if p.Leaf != nil {
			p.Leaf.Data = out.Messages[p.Leaf.Index]
		}
		v := vectorProof{Key: key, Present: i >= len(absent), Proof: p}
		if present, err := Verify(out.Root, key, p); err != nil || present != v.Present {
			t.Fatalf("%d messages, key %x: %v, %v", n, key, present, err)
		}
		if v.Present {
			v.MerkleProof = (*PoCProof)(p)
		}
		out.Proofs = append(out.Proofs, v)
	}
	return out
}
