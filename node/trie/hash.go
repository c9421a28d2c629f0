package trie

import (
	"crypto/sha256"
	"encoding/binary"

	"github.com/diseq/diseq/node/internal/sha256lanes"
)

// Every hash is the SHA-256 of a node in bincode 1.3's layout: integers and
// lengths little-endian uint64, an optional value one byte 0 or 1 before it. A
// node's own hash field is always encoded as absent. The first four bytes tell
// the encodings apart: a branch starts 01, a leaf 00 00 01 00, the preimage of
// a key 00 00 00 00, a root 00 01 20, 00 00 01 20 or (never hashed) 00 00 00.

const (
	keyBits = 256
	// leafPrefix is all of a leaf's encoding but its data.
	leafPrefix = 1 + 8 + keyBits + 1 + 1 + 8
	// keyPrefix is the same with an empty key.
	keyPrefix = 1 + 8 + 1 + 1 + 8
	// childLen is an optional hash that is there.
	childLen  = 1 + 8 + 32
	branchLen = 8 + 1 + 1 + 2*childLen
	// shortData is the longest data hashed in one piece on the stack.
	shortData = 512
)

// Key returns the trie key, and so the id, of a message: the SHA-256 of its
// leaf with an empty key.
func Key(data []byte) [32]byte {
	var buf [keyPrefix + shortData]byte
	buf[1+8+1] = 1
	binary.LittleEndian.PutUint64(buf[1+8+1+1:], uint64(len(data)))
	return sum(buf[:], keyPrefix, data)
}

// bitsOf has the bits of each byte as eight bytes of 0 or 1, the most significant bit in the lowest
// byte.
var bitsOf = func() (table [256]uint64) {
	for b := range table {
		for i := range 8 {
			table[b] |= uint64(b>>(7-i)&1) << (8 * i)
		}
	}
	return table
}()

// LeafHash returns the hash of the leaf that holds data under key.
func LeafHash(key [32]byte, data []byte) [32]byte {
	var buf [leafPrefix + shortData]byte
	putLeaf((*[leafPrefix]byte)(buf[:]), &key, len(data))
	return sum(buf[:], leafPrefix, data)
}

// putLeaf encodes all of a leaf but its data. The bytes that it leaves are zero in every leaf.
func putLeaf(b *[leafPrefix]byte, key *[32]byte, length int) {
	binary.LittleEndian.PutUint64(b[1:], keyBits)
	for i, bits := range key {
		binary.LittleEndian.PutUint64(b[9+8*i:], bitsOf[bits])
	}
	b[9+keyBits+1] = 1
	binary.LittleEndian.PutUint64(b[9+keyBits+2:], uint64(length))
}

// LeafHasher computes the hashes of leaves, many at a time. The zero value is ready. It is for one
// goroutine at a time.
type LeafHasher struct{ batch sha256lanes.Batch }

// Add computes l.Hash from l.Key and the message's data, but not before Flush has returned.
func (h *LeafHasher) Add(l *Leaf, data []byte) {
	if leafPrefix+len(data) > sha256lanes.Longest {
		l.Hash = LeafHash(l.Key, data)
		return
	}
	b := h.batch.Next(leafPrefix+len(data), &l.Hash)
	b[0], b[9+keyBits] = 0, 0
	putLeaf((*[leafPrefix]byte)(b), &l.Key, len(data))
	copy(b[leafPrefix:], data)
}

// Flush computes the hashes of all leaves that were added.
func (h *LeafHasher) Flush() { h.batch.Flush() }

// sum hashes buf[:prefix] followed by data.
func sum(buf []byte, prefix int, data []byte) [32]byte {
	if len(data) <= len(buf)-prefix {
		return sha256.Sum256(buf[:prefix+copy(buf[prefix:], data)])
	}
	h := sha256.New()
	_, _ = h.Write(buf[:prefix]) // a hash.Hash never returns an error
	_, _ = h.Write(data)
	return [32]byte(h.Sum(nil))
}

// branchFrame is the encoding of a branch but for its bit, at byte 8, and its two sides.
var branchFrame = [branchLen]byte{0: 1, 10: 1, 11: 32, 10 + childLen: 1, 11 + childLen: 32}

const (
	branchLeft  = 10 + 9
	branchRight = 10 + childLen + 9
)

// putBranch encodes the branch at which its two sides differ first, in bit at (0 is the key's most
// significant).
func putBranch(b *[branchLen]byte, at uint8, left, right *[32]byte) {
	*b = branchFrame
	b[8] = at
	*(*[32]byte)(b[branchLeft:]) = *left
	*(*[32]byte)(b[branchRight:]) = *right
}

// branchHash returns the hash of a branch.
func branchHash(at uint8, left, right *[32]byte) [32]byte {
	var b [branchLen]byte
	putBranch(&b, at, left, right)
	return sha256.Sum256(b[:])
}

// rootHash returns the hash of the root over its two sides, either of which
// may be the zero hash for an empty one. The empty trie has the zero hash.
func rootHash(left, right *[32]byte) [32]byte {
	if *left == zero && *right == zero {
		return zero
	}
	var buf [1 + 2*childLen]byte
	n := 1
	for _, side := range []*[32]byte{left, right} {
		if *side == zero {
			n++
			continue
		}
		buf[n], buf[n+1] = 1, 32
		copy(buf[n+9:], side[:])
		n += childLen
	}
	return sha256.Sum256(buf[:n])
}

// zero stands for a child that is not there; no SHA-256 preimage of it is known.
var zero [32]byte

// bit returns bit i of key, 0 the most significant of its first byte.
func bit(key *[32]byte, i int) uint8 {
	return key[i>>3] >> (7 - i&7) & 1
}
