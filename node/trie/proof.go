package trie

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/diseq/diseq/internal/document"
)

const (
	// MaxProofNodes is the longest path: the root, a branch on each bit after the first, a leaf.
	MaxProofNodes = 1 + (keyBits - 1) + 1
	// MaxProofBytes bounds the JSON of a proof that is decoded: 8 MiB of data as numbers, and the
	// path.
	MaxProofBytes = 34 << 20
)

// Proof is the path from the root towards a key: of inclusion if it ends at the
// key's leaf, of absence if it ends elsewhere. Its JSON is that of /v1/proofs;
// convert it to PoCProof for that of /merkle_proof.
type Proof struct {
	Key      [32]byte
	Height   uint64 // that the prover meant; the verifier does not look at it
	Root     RootNode
	Branches []Branch
	Leaf     *ProofLeaf // nil: no key on this side of the root
}

// Branch is a node with two sides that differ first in Bit.
type Branch struct {
	IsRight     bool // which side of the node above it is
	Bit         uint8
	Hash        [32]byte
	Left, Right [32]byte
}

// ProofLeaf is where the path ends: at the key itself or, for a proof of
// absence, at the one leaf that the key's bits lead to.
type ProofLeaf struct {
	IsRight bool // which side of the node above it is
	Key     [32]byte
	Hash    [32]byte
	Data    []byte

	// Where the caller finds Data. No part of what is proven.
	Height uint64
	Index  uint32
}

// Included reports whether the proof claims inclusion.
func (p *Proof) Included() bool { return p.Leaf != nil && p.Leaf.Key == p.Key }

func (n *RootNode) child(right bool) [32]byte {
	if right {
		return n.Right
	}
	return n.Left
}

func (b *Branch) child(right bool) [32]byte {
	if right {
		return b.Right
	}
	return b.Left
}

type proofJSON struct {
	Key   hexHash         `json:"key"`
	Kind  string          `json:"kind"`
	Root  *nodeHash       `json:"root"`
	Nodes []proofNodeJSON `json:"nodes"`
	Leaf  *proofLeafJSON  `json:"leaf"`
}

type proofNodeJSON struct {
	Bit   givenBit  `json:"bit,omitzero"`
	Left  *nodeHash `json:"left"`
	Right *nodeHash `json:"right"`
}

// givenBit is a bit that may be absent. A pointer would take null for an absent one, which no page
// allows.
type givenBit struct {
	value uint8
	given bool
}

// MarshalJSON returns the number.
func (b givenBit) MarshalJSON() ([]byte, error) { return json.Marshal(b.value) }

// UnmarshalJSON reads a number.
func (b *givenBit) UnmarshalJSON(in []byte) error {
	b.given = true
	return document.Unmarshal(in, &b.value)
}

type proofLeafJSON struct {
	Key  hexHash `json:"key"`
	Data []byte  `json:"data"`
}

const (
	kindInclusion = "inclusion"
	kindAbsence   = "absence"
)

// MarshalJSON returns the form of /v1/proofs: {"key","kind","root","nodes","leaf"}.
// The first node is the root, the others are branches with their "bit"; hashes
// of nodes and the turns of the path follow from the rest and are left out.
func (p Proof) MarshalJSON() ([]byte, error) {
	out := proofJSON{Key: p.Key, Kind: kindAbsence, Root: optional(p.Root.Hash), Nodes: make([]proofNodeJSON, 1, 1+len(p.Branches))}
	if p.Included() {
		out.Kind = kindInclusion
	}
	out.Nodes[0] = proofNodeJSON{Left: optional(p.Root.Left), Right: optional(p.Root.Right)}
	for i := range p.Branches {
		b := &p.Branches[i]
		out.Nodes = append(out.Nodes, proofNodeJSON{Bit: givenBit{b.Bit, true}, Left: optional(b.Left), Right: optional(b.Right)})
	}
	if l := p.Leaf; l != nil {
		out.Leaf = &proofLeafJSON{Key: l.Key, Data: append([]byte{}, l.Data...)}
	}
	return json.Marshal(out)
}

// UnmarshalJSON accepts what MarshalJSON returns, up to MaxProofBytes and
// MaxProofNodes. It checks the form only; Verify decides what is proven.
func (p *Proof) UnmarshalJSON(b []byte) error {
	if len(b) > MaxProofBytes {
		return fmt.Errorf("proof of %d bytes, more than %d", len(b), MaxProofBytes)
	}
	var in proofJSON
	if err := document.Unmarshal(b, &in); err != nil {
		return fmt.Errorf("proof: %w", err)
	}
	if n := len(in.Nodes); n < 1 || n > MaxProofNodes-1 {
		return fmt.Errorf("proof of %d nodes, want 1 to %d and a leaf", n, MaxProofNodes-1)
	}
	if in.Nodes[0].Bit.given {
		return errors.New("proof: the root has a bit")
	}
	out := Proof{Key: in.Key, Root: RootNode{Hash: in.Root.value(), Left: in.Nodes[0].Left.value(), Right: in.Nodes[0].Right.value()}}
	turn := bit(&out.Key, 0) == 1
	for i, n := range in.Nodes[1:] {
		if !n.Bit.given || n.Left == nil || n.Right == nil {
			return fmt.Errorf("proof: node %d lacks bit, left or right", i+1)
		}
		br := Branch{IsRight: turn, Bit: n.Bit.value, Left: n.Left.value(), Right: n.Right.value()}
		br.Hash = branchHash(br.Bit, &br.Left, &br.Right)
		out.Branches = append(out.Branches, br)
		turn = bit(&out.Key, int(br.Bit)) == 1
	}
	if in.Leaf != nil {
		out.Leaf = &ProofLeaf{IsRight: turn, Key: in.Leaf.Key, Hash: LeafHash(in.Leaf.Key, in.Leaf.Data), Data: in.Leaf.Data}
	}
	if want := out.Included(); want != (in.Kind == kindInclusion) || !want && in.Kind != kindAbsence {
		return fmt.Errorf("proof: kind %q does not fit its leaf", in.Kind)
	}
	*p = out
	return nil
}

// hexHash is 32 bytes as lower-case hex in JSON.
type hexHash [32]byte

// MarshalText returns 64 lower-case hex digits.
func (h hexHash) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, h[:]), nil }

// UnmarshalText accepts 64 lower-case hex digits.
func (h *hexHash) UnmarshalText(b []byte) error {
	if len(b) != 64 {
		return fmt.Errorf("hash of %d hex digits, want 64", len(b))
	}
	for _, c := range b {
		if 'A' <= c && c <= 'F' {
			return errors.New("hash in upper-case hex")
		}
	}
	_, err := hex.Decode(h[:], b)
	return err
}

// nodeHash is a hash that null stands for if it is zero, and nothing else does: two ways to write
// it would be read as two values.
type nodeHash hexHash

// MarshalText returns 64 lower-case hex digits.
func (h nodeHash) MarshalText() ([]byte, error) { return hexHash(h).MarshalText() }

// UnmarshalText accepts 64 lower-case hex digits that are not all 0.
func (h *nodeHash) UnmarshalText(b []byte) error {
	err := (*hexHash)(h).UnmarshalText(b)
	if err == nil && *h == zero {
		err = errors.New("hash of zeros, want null where there is none")
	}
	return err
}

// optional returns nil for the zero hash.
func optional(h [32]byte) *nodeHash {
	if h == zero {
		return nil
	}
	return (*nodeHash)(&h)
}

func (h *nodeHash) value() [32]byte {
	if h == nil {
		return zero
	}
	return *h
}
