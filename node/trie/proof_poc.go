package trie

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
)

// PoCProof is a Proof in the JSON of the proof of concept's /merkle_proof:
// {"nodes":[[false,{"Root":{...}}],[dir,{"Branch":{...}}],...,[dir,{"Leaf":{...}}]]},
// where dir tells that a node is the right side of the one before it, and byte
// strings are arrays of numbers. It says nothing of height and, decoded, takes
// the leaf's key for its own.
type PoCProof Proof

// numbers is a byte string as an array of numbers.
type numbers []byte

// MarshalJSON returns an array of numbers, null for nil.
func (n numbers) MarshalJSON() ([]byte, error) {
	if n == nil {
		return []byte("null"), nil
	}
	b := append(make([]byte, 0, 2+4*len(n)), '[')
	for i, v := range n {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendUint(b, uint64(v), 10)
	}
	return append(b, ']'), nil
}

// UnmarshalJSON accepts an array of numbers from 0 to 255, or null.
func (n *numbers) UnmarshalJSON(b []byte) error {
	if bytes.Equal(b, []byte("null")) {
		*n = nil
		return nil
	}
	if len(b) < 2 || b[0] != '[' {
		return errors.New("bytes: not an array of numbers")
	}
	out := make([]byte, 0, bytes.Count(b, []byte{','})+1)
	b = bytes.TrimSpace(b[1 : len(b)-1])
	for more := len(b) > 0; more; {
		var field []byte
		field, b, more = bytes.Cut(b, []byte{','})
		v, err := strconv.ParseUint(string(bytes.TrimSpace(field)), 10, 8)
		if err != nil {
			return fmt.Errorf("bytes: %w", err)
		}
		out = append(out, uint8(v))
	}
	*n = out
	return nil
}

type pocRoot struct {
	Hash  numbers `json:"hash"`
	Left  numbers `json:"left"`
	Right numbers `json:"right"`
}

type pocBranch struct {
	Key   numbers `json:"key"`
	Hash  numbers `json:"hash"`
	Left  numbers `json:"left"`
	Right numbers `json:"right"`
}

type pocLeaf struct {
	Prefix numbers `json:"prefix"`
	Key    numbers `json:"key"`
	Hash   numbers `json:"hash"`
	Data   numbers `json:"data"`
}

type pocNode struct {
	Root   *pocRoot   `json:"Root,omitempty"`
	Branch *pocBranch `json:"Branch,omitempty"`
	Leaf   *pocLeaf   `json:"Leaf,omitempty"`
}

type pocProof struct {
	Nodes []json.RawMessage `json:"nodes"`
}

// MarshalJSON returns the proof of concept's form.
func (p PoCProof) MarshalJSON() ([]byte, error) {
	b := []byte(`{"nodes":[`)
	add := func(right bool, n pocNode) error {
		pair, err := json.Marshal([2]any{right, n})
		if err != nil {
			return err
		}
		if n.Root == nil {
			b = append(b, ',')
		}
		b = append(b, pair...)
		return nil
	}
	err := add(false, pocNode{Root: &pocRoot{Hash: pocHash(p.Root.Hash), Left: pocHash(p.Root.Left), Right: pocHash(p.Root.Right)}})
	for i := range p.Branches {
		br := &p.Branches[i]
		err = errors.Join(err, add(br.IsRight, pocNode{Branch: &pocBranch{
			Key: numbers{br.Bit}, Hash: pocHash(br.Hash), Left: pocHash(br.Left), Right: pocHash(br.Right),
		}}))
	}
	if l := p.Leaf; l != nil {
		data := append(numbers{}, l.Data...)
		err = errors.Join(err, add(l.IsRight, pocNode{Leaf: &pocLeaf{Key: pocBits(l.Key), Hash: pocHash(l.Hash), Data: data}}))
	}
	return append(b, "]}"...), err
}

// UnmarshalJSON accepts what MarshalJSON returns, up to MaxProofBytes and
// MaxProofNodes. It checks the form only; Verify decides what is proven.
func (p *PoCProof) UnmarshalJSON(b []byte) error {
	if len(b) > MaxProofBytes {
		return fmt.Errorf("proof of %d bytes, more than %d", len(b), MaxProofBytes)
	}
	var in pocProof
	if err := json.Unmarshal(b, &in); err != nil {
		return fmt.Errorf("proof: %w", err)
	}
	if n := len(in.Nodes); n < 1 || n > MaxProofNodes {
		return fmt.Errorf("proof of %d nodes, want 1 to %d", n, MaxProofNodes)
	}
	var out PoCProof
	for i, raw := range in.Nodes {
		if err := out.decodeNode(i, raw, i == len(in.Nodes)-1); err != nil {
			return fmt.Errorf("proof: node %d: %w", i, err)
		}
	}
	*p = out
	return nil
}

func (p *PoCProof) decodeNode(i int, raw json.RawMessage, last bool) error {
	var pair []json.RawMessage
	if err := json.Unmarshal(raw, &pair); err != nil {
		return err
	}
	if len(pair) != 2 {
		return fmt.Errorf("%d elements, want dir and node", len(pair))
	}
	var right bool
	var n pocNode
	if err := errors.Join(json.Unmarshal(pair[0], &right), json.Unmarshal(pair[1], &n)); err != nil {
		return err
	}
	switch r, br, l := n.Root, n.Branch, n.Leaf; {
	case i == 0 && r != nil && br == nil && l == nil && !right:
		return readHashes(r.Hash, &p.Root.Hash, r.Left, &p.Root.Left, r.Right, &p.Root.Right)
	case i > 0 && br != nil && r == nil && l == nil && len(br.Key) == 1 && br.Hash != nil && br.Left != nil && br.Right != nil:
		out := Branch{IsRight: right, Bit: br.Key[0]}
		err := readHashes(br.Hash, &out.Hash, br.Left, &out.Left, br.Right, &out.Right)
		p.Branches = append(p.Branches, out)
		return err
	case i > 0 && last && l != nil && r == nil && br == nil && l.Prefix == nil && l.Hash != nil && l.Data != nil:
		p.Leaf = &ProofLeaf{IsRight: right, Data: l.Data}
		err := errors.Join(readHash(l.Hash, &p.Leaf.Hash), readBits(l.Key, &p.Leaf.Key))
		p.Key = p.Leaf.Key
		return err
	}
	return errors.New("neither the root first, nor a complete branch, nor a complete leaf last")
}

func readHashes(a numbers, toA *[32]byte, b numbers, toB *[32]byte, c numbers, toC *[32]byte) error {
	return errors.Join(readHash(a, toA), readHash(b, toB), readHash(c, toC))
}

// readHash reads 32 bytes, or nil as the zero hash.
func readHash(n numbers, to *[32]byte) error {
	if n == nil {
		return nil
	}
	if len(n) != 32 {
		return fmt.Errorf("hash of %d bytes, want 32", len(n))
	}
	*to = [32]byte(n)
	if *to == zero {
		return errors.New("hash of zeros instead of null")
	}
	return nil
}

func readBits(n numbers, to *[32]byte) error {
	if len(n) != keyBits {
		return fmt.Errorf("key of %d bits, want %d", len(n), keyBits)
	}
	for i, b := range n {
		if b > 1 {
			return fmt.Errorf("key's bit %d is %d", i, b)
		}
		to[i/8] |= b << (7 - i%8)
	}
	return nil
}

func pocHash(h [32]byte) numbers {
	if h == zero {
		return nil
	}
	return h[:]
}

func pocBits(key [32]byte) numbers {
	n := make(numbers, keyBits)
	for i := range n {
		n[i] = bit(&key, i)
	}
	return n
}
