package trie

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"slices"
)

// The model is the trie as docs/protocol.md defines it, built from scratch for
// every question, with an encoding of its own.

type modelLeaf struct {
	key, hash [32]byte
	height    uint64
	index     uint32
}

type model map[[32]byte]modelLeaf

func (m model) append(height uint64, leaves []Leaf) {
	for _, l := range leaves {
		if _, ok := m[l.Key]; !ok {
			m[l.Key] = modelLeaf{l.Key, l.Hash, height, l.Index}
		}
	}
}

// at returns what was there at height, in order.
func (m model) at(height uint64) []modelLeaf {
	var list []modelLeaf
	for _, l := range m {
		if l.height <= height {
			list = append(list, l)
		}
	}
	slices.SortFunc(list, func(a, b modelLeaf) int { return bytes.Compare(a.key[:], b.key[:]) })
	return list
}

func modelBit(key [32]byte, i int) bool { return key[i/8]&(0x80>>(i%8)) != 0 }

func modelOption(b []byte, v []byte) []byte {
	if v == nil {
		return append(b, 0)
	}
	b = binary.LittleEndian.AppendUint64(append(b, 1), uint64(len(v)))
	return append(b, v...)
}

func modelHash(h [32]byte) []byte {
	if h == [32]byte{} {
		return nil
	}
	return h[:]
}

func modelLeafHash(key [32]byte, data []byte) [32]byte {
	b := binary.LittleEndian.AppendUint64([]byte{0}, 256)
	for i := range 256 {
		if modelBit(key, i) {
			b = append(b, 1)
		} else {
			b = append(b, 0)
		}
	}
	return sha256.Sum256(modelOption(append(b, 0), append([]byte{}, data...)))
}

func modelRoot(list []modelLeaf) RootNode {
	cut := slices.IndexFunc(list, func(l modelLeaf) bool { return modelBit(l.key, 0) })
	if cut < 0 {
		cut = len(list)
	}
	n := RootNode{Left: modelSubtree(list[:cut]), Right: modelSubtree(list[cut:])}
	if len(list) > 0 {
		n.Hash = sha256.Sum256(modelOption(modelOption([]byte{0}, modelHash(n.Left)), modelHash(n.Right)))
	}
	return n
}

// modelCut returns the first bit in which the ordered leaves differ, and the
// first leaf that has it set.
func modelCut(list []modelLeaf) (d, cut int) {
	for modelBit(list[0].key, d) == modelBit(list[len(list)-1].key, d) {
		d++
	}
	return d, slices.IndexFunc(list, func(l modelLeaf) bool { return modelBit(l.key, d) })
}

func modelBranchHash(d int, left, right [32]byte) [32]byte {
	b := append(binary.LittleEndian.AppendUint64(nil, 1), byte(d), 0)
	return sha256.Sum256(modelOption(modelOption(b, left[:]), right[:]))
}

func modelSubtree(list []modelLeaf) [32]byte {
	switch len(list) {
	case 0:
		return [32]byte{}
	case 1:
		return list[0].hash
	}
	d, cut := modelCut(list)
	return modelBranchHash(d, modelSubtree(list[:cut]), modelSubtree(list[cut:]))
}

func (m model) prove(height uint64, key [32]byte) *Proof {
	list := m.at(height)
	p := &Proof{Key: key, Height: height, Root: modelRoot(list)}
	side := modelBit(key, 0)
	list = slices.DeleteFunc(list, func(l modelLeaf) bool { return modelBit(l.key, 0) != side })
	if len(list) == 0 {
		return p
	}
	for len(list) > 1 {
		d, cut := modelCut(list)
		left, right := modelSubtree(list[:cut]), modelSubtree(list[cut:])
		p.Branches = append(p.Branches, Branch{IsRight: side, Bit: uint8(d), Hash: modelBranchHash(d, left, right), Left: left, Right: right})
		if side = modelBit(key, d); side {
			list = list[cut:]
		} else {
			list = list[:cut]
		}
	}
	l := list[0]
	p.Leaf = &ProofLeaf{IsRight: side, Key: l.key, Hash: l.hash, Height: l.height, Index: l.index}
	return p
}

// pocVerify is the arithmetic of the proof of concept's own verifier: it takes
// the leaf's hash on trust, puts it in the place that dir names in the node
// above, hashes that, and compares the end with the root.
func pocVerify(root [32]byte, p *Proof) bool {
	if p.Leaf == nil {
		return false
	}
	hash, right := p.Leaf.Hash, p.Leaf.IsRight
	for _, b := range slices.Backward(p.Branches) {
		left, other := b.Left, b.Right
		if right {
			other = hash
		} else {
			left = hash
		}
		hash, right = modelBranchHash(int(b.Bit), left, other), b.IsRight
	}
	left, other := p.Root.Left, p.Root.Right
	if right {
		other = hash
	} else {
		left = hash
	}
	return sha256.Sum256(modelOption(modelOption([]byte{0}, modelHash(left)), modelHash(other))) == root
}
