package chain

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/bits"
)

// The messages of a block are the leaves of an RFC 6962 Merkle tree: leaf = SHA-256(0x00 || u32 LE timestamp || data),
// node = SHA-256(0x01 || left || right), the empty tree SHA-256("").

func merkleLeaf(m Message) Hash {
	b := make([]byte, 0, 5+len(m.Data))
	b = append(b, 0)
	b = binary.LittleEndian.AppendUint32(b, m.Timestamp)
	return sha256.Sum256(append(b, m.Data...))
}

func merkleNode(left, right Hash) Hash {
	var b [65]byte
	b[0] = 1
	copy(b[1:], left[:])
	copy(b[33:], right[:])
	return sha256.Sum256(b[:])
}

// MessagesRoot returns the root of the RFC 6962 tree over messages.
func MessagesRoot(messages []Message) Hash {
	return merkleRoot(merkleLeaves(messages))
}

func merkleLeaves(messages []Message) []Hash {
	leaves := make([]Hash, len(messages))
	for i, m := range messages {
		leaves[i] = merkleLeaf(m)
	}
	return leaves
}

func merkleRoot(leaves []Hash) Hash {
	switch len(leaves) {
	case 0:
		return sha256.Sum256(nil)
	case 1:
		return leaves[0]
	}
	k := merkleSplit(len(leaves))
	return merkleNode(merkleRoot(leaves[:k]), merkleRoot(leaves[k:]))
}

// merkleSplit returns the largest power of two below n.
func merkleSplit(n int) int { return 1 << (bits.Len(uint(n-1)) - 1) }

// InclusionPath returns the RFC 6962 audit path of the message at index, lowest sibling first.
func InclusionPath(messages []Message, index int) ([]Hash, error) {
	if index < 0 || index >= len(messages) {
		return nil, fmt.Errorf("index %d in a block of %d messages", index, len(messages))
	}
	leaves := merkleLeaves(messages)
	path := []Hash{}
	var walk func(leaves []Hash, i int)
	walk = func(leaves []Hash, i int) {
		if len(leaves) == 1 {
			return
		}
		k := merkleSplit(len(leaves))
		if i < k {
			walk(leaves[:k], i)
			path = append(path, merkleRoot(leaves[k:]))
			return
		}
		walk(leaves[k:], i-k)
		path = append(path, merkleRoot(leaves[:k]))
	}
	walk(leaves, index)
	return path, nil
}

// rootFromPath recomputes the root of a tree of size leaves (RFC 9162, section 2.1.3.2).
func rootFromPath(leaf Hash, index, size uint64, path []Hash) (Hash, error) {
	if index >= size {
		return Hash{}, fmt.Errorf("index %d in a tree of %d leaves", index, size)
	}
	fn, sn, r := index, size-1, leaf
	for _, p := range path {
		if sn == 0 {
			return Hash{}, fmt.Errorf("inclusion path of %d hashes is too long for leaf %d of %d", len(path), index, size)
		}
		if fn&1 == 1 || fn == sn {
			r = merkleNode(p, r)
			for fn&1 == 0 && fn != 0 {
				fn >>= 1
				sn >>= 1
			}
		} else {
			r = merkleNode(r, p)
		}
		fn >>= 1
		sn >>= 1
	}
	if sn != 0 {
		return Hash{}, fmt.Errorf("inclusion path of %d hashes is too short for leaf %d of %d", len(path), index, size)
	}
	return r, nil
}
