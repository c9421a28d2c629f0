package system

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"
)

// This is the arithmetic of a client of the proof of concept, written from its format alone:
// SHA-256 over bincode 1.3 (little-endian u64 lengths, an option is one byte), every hash field
// hashed as None. It shares no code with node/trie.

type bincode struct{ bytes.Buffer }

func (b *bincode) vec(v []byte) {
	_ = binary.Write(b, binary.LittleEndian, uint64(len(v))) // a Buffer takes everything
	b.Write(v)
}

func (b *bincode) none() { b.WriteByte(0) }

func (b *bincode) option(v []byte) {
	if v == nil {
		b.none()
		return
	}
	b.WriteByte(1)
	b.vec(v)
}

func (b *bincode) hash() []byte {
	h := sha256.Sum256(b.Bytes())
	return h[:]
}

// octets is a byte string as its clients see it: an array of numbers, null for None.
type octets []byte

// UnmarshalJSON reads an array of numbers: encoding/json would take a slice of bytes for base64.
func (o *octets) UnmarshalJSON(in []byte) error {
	var numbers []uint16
	if err := json.Unmarshal(in, &numbers); err != nil {
		return err
	}
	*o = nil
	for _, n := range numbers {
		if n > 255 {
			return fmt.Errorf("%d is no byte", n)
		}
		*o = append(*o, uint8(n))
	}
	return nil
}

// MarshalJSON writes an array of numbers.
func (o octets) MarshalJSON() ([]byte, error) {
	wide := make([]uint16, len(o))
	for i, b := range o {
		wide[i] = uint16(b)
	}
	return json.Marshal(wide)
}

type pocLeaf struct{ Prefix, Key, Hash, Data octets }
type pocBranch struct{ Key, Hash, Left, Right octets }
type pocRoot struct{ Hash, Left, Right octets }

type pocNode struct {
	Leaf   *pocLeaf
	Branch *pocBranch
	Root   *pocRoot
}

// hash returns the node's own hash and what it says of its two sides.
func (n *pocNode) hash() (hash, left, right []byte, err error) {
	var b bincode
	switch {
	case n.Leaf != nil:
		b.option(n.Leaf.Prefix)
		b.vec(n.Leaf.Key)
		b.none()
		b.option(n.Leaf.Data)
		return b.hash(), nil, nil, nil
	case n.Branch != nil:
		b.vec(n.Branch.Key)
		b.none()
		b.option(n.Branch.Left)
		b.option(n.Branch.Right)
		return b.hash(), n.Branch.Left, n.Branch.Right, nil
	case n.Root != nil:
		b.none()
		b.option(n.Root.Left)
		b.option(n.Root.Right)
		return b.hash(), n.Root.Left, n.Root.Right, nil
	}
	return nil, nil, nil, errors.New("a node of no kind")
}

// pocKey is the trie key of a message: the bits, most significant first, of the hash of its leaf
// with an empty key.
func pocKey(data []byte) octets {
	leaf := pocNode{Leaf: &pocLeaf{Data: data}}
	hash, _, _, _ := leaf.hash()
	bits := make(octets, 0, 256)
	for _, b := range hash {
		for shift := 7; shift >= 0; shift-- {
			bits = append(bits, b>>shift&1)
		}
	}
	return bits
}

// pocVerify follows a proof from its leaf up to root, as the proof of concept does.
func pocVerify(raw, root, data []byte) error {
	var proof struct{ Nodes []json.RawMessage }
	if err := json.Unmarshal(raw, &proof); err != nil {
		return err
	}
	if len(proof.Nodes) < 2 {
		return fmt.Errorf("a proof of %d nodes", len(proof.Nodes))
	}
	var below []byte
	var fromRight bool
	for i, raw := range slices.Backward(proof.Nodes) {
		var right bool
		node := pocNode{}
		if err := json.Unmarshal(raw, &[]any{&right, &node}); err != nil {
			return fmt.Errorf("node %d: %w", i, err)
		}
		hash, left, sibling, err := node.hash()
		if err != nil {
			return fmt.Errorf("node %d: %w", i, err)
		}
		if below == nil {
			if node.Leaf == nil || !bytes.Equal(node.Leaf.Data, data) || !bytes.Equal(node.Leaf.Key, pocKey(data)) {
				return fmt.Errorf("the last node is no leaf of the message")
			}
		} else {
			if fromRight {
				left = sibling
			}
			if !bytes.Equal(left, below) {
				return fmt.Errorf("node %d does not hold the node below it", i)
			}
		}
		below, fromRight = hash, right
	}
	if !bytes.Equal(below, root) {
		return fmt.Errorf("the proof leads to root %x, want %x", below, root)
	}
	return nil
}

// ProofOfConceptFlow does on a new chain what clients of the proof of concept do: submit, wait
// until the proofs of the messages verify, read the blocks. Threshold is how many votes a block has
// at least, within how long a message may take.
func ProofOfConceptFlow(t testing.TB, node *Node, threshold uint32, within time.Duration) {
	t.Helper()
	var height uint64
	if err := node.Get("/get/height", &height); err != nil || height != 1 {
		t.Fatalf("a new chain has height %d (%v), want 1: the genesis block", height, err)
	}
	messages := []octets{{1, 2, 3}, {1, 2, 3, 4, 5}, octets("a longer message, to make branches"), {0}}
	for i, data := range messages {
		var text string
		body, err := json.Marshal(struct {
			Data      octets `json:"data"`
			Timestamp uint32 `json:"timestamp"`
		}{data, uint32(i)})
		if err != nil {
			t.Fatal(err)
		}
		if err := node.Post("/schedule", "application/json", body, &text); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			const want = "[Ok] Message is being sequenced: Message { data: [1, 2, 3], timestamp: 0 }"
			if text != want {
				t.Errorf("answer %q, want %q", text, want)
			}
		}
	}
	for _, data := range messages {
		key, err := json.Marshal(pocKey(data))
		if err != nil {
			t.Fatal(err)
		}
		// The client polls the root until its message is in it; root and proof are two requests, so
		// that the trie may grow in between.
		Eventually(t, within, fmt.Sprintf("the proof of %v verifies", data), func() error {
			var root struct{ Hash octets }
			if err := node.Get("/get/state_root_hash", &root); err != nil {
				return err
			}
			var proof json.RawMessage
			if err := node.Post("/merkle_proof", "application/json", key, &proof); err != nil {
				return err
			}
			return pocVerify(proof, root.Hash, data)
		})
	}
	if err := node.Get("/get/height", &height); err != nil || height < 2 {
		t.Errorf("height %d after messages became final: %v", height, err)
	}
	found := pocMessages(t, node, height, threshold)
	for i, data := range messages {
		if at, ok := found[string(data)]; !ok || at != uint32(i) {
			t.Errorf("message %v is in the blocks: %v, with timestamp %d, want %d", data, ok, at, i)
		}
	}
	var text string
	if err := node.Get("/get/block/1000000", &text); err != nil || text != "[Warning] Requested Block that does not exist" {
		t.Errorf("unknown block: %q, %v", text, err)
	}
	absent, err := json.Marshal(pocKey([]byte("nobody submitted this")))
	if err != nil {
		t.Fatal(err)
	}
	var answer *AnswerError
	if err := node.Post("/merkle_proof", "application/json", absent, nil); !errors.As(err, &answer) || answer.Code != 404 {
		t.Errorf("proof of an absent key: %v, want 404", err)
	}
}

// pocMessages reads the blocks below a height and returns the timestamps of the messages in them.
func pocMessages(t testing.TB, node *Node, height uint64, threshold uint32) map[string]uint32 {
	t.Helper()
	found := map[string]uint32{}
	for h := uint64(1); h < height; h++ {
		var block struct {
			Height   uint64
			Messages []struct {
				Data      octets
				Timestamp uint32
			}
			Signature   octets
			Commitments []struct{ Signature octets }
		}
		if err := node.Get(fmt.Sprintf("/get/block/%d", h), &block); err != nil {
			t.Fatal(err)
		}
		if block.Height != h || len(block.Signature) != 64 || len(block.Commitments) < int(threshold) {
			t.Errorf("block %d: height %d, %d bytes of signature, %d votes", h, block.Height, len(block.Signature), len(block.Commitments))
		}
		for _, m := range block.Messages {
			found[string(m.Data)] = m.Timestamp
		}
	}
	return found
}
