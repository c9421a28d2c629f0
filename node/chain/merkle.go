package chain

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"sync"

	"github.com/diseq/diseq/node/internal/sha256lanes"
)

// The messages of a block are the leaves of an RFC 6962 Merkle tree: leaf = SHA-256(0x00 || u32 LE
// timestamp || data), node = SHA-256(0x01 || left || right), the empty tree SHA-256(""). The two
// hashes of a message, its id and its leaf, write numbers in the order of the proof of concept's
// trie.

const (
	leafPrefixLen = 1 + 4
	nodeLen       = 1 + 2*32
)

func merkleLeaf(m Message) Hash {
	var prefix [leafPrefixLen]byte
	binary.LittleEndian.PutUint32(prefix[1:], m.Timestamp)
	return sum(prefix[:], m.Data)
}

func merkleNode(left, right Hash) Hash {
	var b [nodeLen]byte
	b[0] = 1
	copy(b[1:], left[:])
	copy(b[33:], right[:])
	return sha256.Sum256(b[:])
}

// messageTree holds every node of the tree over a block's messages, level by level from the leaves
// up. A node without a sibling stands for itself one level up, which gives the shape of RFC 6962.
type messageTree [][]Hash

func newMessageTree(messages []Message) messageTree {
	level := make([]Hash, len(messages))
	for i, m := range messages {
		level[i] = merkleLeaf(m)
	}
	return newTree(level)
}

// newTree computes the levels above a lowest one.
func newTree(level []Hash) messageTree {
	tree := messageTree{level}
	for len(level) > 1 {
		up := make([]Hash, (len(level)+1)/2)
		for i := range len(level) / 2 {
			up[i] = merkleNode(level[2*i], level[2*i+1])
		}
		if len(level)%2 == 1 {
			up[len(up)-1] = level[len(level)-1]
		}
		tree = append(tree, up)
		level = up
	}
	return tree
}

// path returns the audit path of a leaf, lowest sibling first.
func (t messageTree) path(index int) []Hash {
	path := []Hash{}
	for _, level := range t {
		if sibling := index ^ 1; sibling < len(level) {
			path = append(path, level[sibling])
		}
		index /= 2
	}
	return path
}

// treeGroup is how many messages are under one of the lowest nodes that a MessageTree keeps.
const treeGroup = 32

// MessageTree is the part of the tree over a block's messages that its receipts share: the nodes
// above groups of 32 messages. It takes 2 bytes a message, where the whole tree takes 64, and a
// path needs the hashes of one group beside it.
type MessageTree struct {
	count int
	upper messageTree
}

// NewMessageTree computes the tree over messages, in time in proportion to them.
func NewMessageTree(messages []Message) *MessageTree {
	groups := make([]Hash, 0, (len(messages)+treeGroup-1)/treeGroup)
	for start := 0; start < len(messages); start += treeGroup {
		groups = append(groups, MessagesRoot(messages[start:min(len(messages), start+treeGroup)]))
	}
	return &MessageTree{len(messages), newTree(groups)}
}

// Size is about how many bytes the tree takes.
func (t *MessageTree) Size() int { return 256 + 2*len(Hash{})*(t.count/treeGroup+1) }

// path returns the audit path of a message, lowest sibling first. These are the messages of the
// tree.
func (t *MessageTree) path(messages []Message, index int) []Hash {
	start := index - index%treeGroup
	group := newMessageTree(messages[start:min(len(messages), start+treeGroup)])
	return append(group.path(index-start), t.upper.path(index/treeGroup)...)
}

// MessagesRoot returns the root of the RFC 6962 tree over messages. It keeps no level of the tree,
// only the roots of groups of rootGroup messages.
func MessagesRoot(messages []Message) Hash {
	if len(messages) == 0 {
		return EmptyMessagesRoot()
	}
	h := roots.Get().(*rootHasher)
	defer roots.Put(h)
	groups := make([]Hash, 0, (len(messages)+rootGroup-1)/rootGroup)
	for start := 0; start < len(messages); start += rootGroup {
		groups = append(groups, h.root(messages[start:min(len(messages), start+rootGroup)]))
	}
	tree := newTree(groups)
	return tree[len(tree)-1][0]
}

// rootGroup is a power of two, so that the tree over the roots of groups has the root of the tree
// over their messages.
const rootGroup = 256

// rootHasher computes the nodes of one level side by side.
type rootHasher struct {
	batch sha256lanes.Batch
	level [rootGroup]Hash
}

var roots = sync.Pool{New: func() any { return new(rootHasher) }}

// root returns the root of the tree over at most rootGroup messages.
func (h *rootHasher) root(messages []Message) Hash {
	level := h.level[:len(messages)]
	for i, m := range messages {
		n := leafPrefixLen + len(m.Data)
		if n > sha256lanes.Longest {
			level[i] = merkleLeaf(m)
			continue
		}
		b := h.batch.Next(n, (*[32]byte)(&level[i]))
		b[0] = 0
		binary.LittleEndian.PutUint32(b[1:], m.Timestamp)
		copy(b[leafPrefixLen:], m.Data)
	}
	h.batch.Flush()
	for len(level) > 1 {
		// A node takes the place of one that Next has read before.
		for i := range len(level) / 2 {
			b := h.batch.Next(nodeLen, (*[32]byte)(&level[i]))
			b[0] = 1
			copy(b[1:], level[2*i][:])
			copy(b[1+len(Hash{}):], level[2*i+1][:])
		}
		h.batch.Flush()
		up := (len(level) + 1) / 2
		if len(level)%2 == 1 {
			level[up-1] = level[len(level)-1]
		}
		level = level[:up]
	}
	return level[0]
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
