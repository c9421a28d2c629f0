package trie

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
)

// Everything on disk ends with a CRC-32C. Numbers are little-endian.
//
//	page      kind (0 leaves, 1 children), then how many hashes of subtrees are
//	          kept (1), these (first entry 1, end 1, hash 32) and the leaves
//	          (key 32, hash 32, index 4, height 8); or the children (hash 32,
//	          newest 8, id 8) and the gaps (1 each)
//	frontier  (slot 1, hash 32) of each slot named; all others are unchanged

const (
	kindLeaves   = 0
	kindChildren = 1

	leafLen  = 32 + 32 + 4 + 8
	childRow = 32 + 8 + 8
	keptRow  = 2 + 32
	slotRow  = 1 + 32
)

var (
	castagnoli  = crc32.MakeTable(crc32.Castagnoli)
	errChecksum = errors.New("checksum mismatch")
	errLength   = errors.New("wrong length")
)

func seal(b []byte) []byte {
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func unseal(b []byte) ([]byte, error) {
	if len(b) < 4 {
		return nil, errLength
	}
	b, want := b[:len(b)-4], binary.LittleEndian.Uint32(b[len(b)-4:])
	if crc32.Checksum(b, castagnoli) != want {
		return nil, errChecksum
	}
	return b, nil
}

// appendPage appends the record of a page, but for the checksum.
func appendPage(b []byte, p *page) []byte {
	if !p.isLeaf() {
		b = append(b, kindChildren)
		for i := range p.children {
			b = appendChild(b, &p.children[i])
		}
		return append(b, p.gaps...)
	}
	b = append(b, kindLeaves, 0)
	count := len(b) - 1
	for i := range p.kept {
		if k := &p.kept[i]; k.hi > 0 {
			b = append(append(b, k.lo, k.hi), k.hash[:]...)
			b[count]++
		}
	}
	for i := range p.leaves {
		b = appendLeaf(b, &p.leaves[i])
	}
	return b
}

func appendLeaf(b []byte, l *leaf) []byte {
	b = append(append(b, l.key[:]...), l.hash[:]...)
	b = binary.LittleEndian.AppendUint32(b, l.index)
	return binary.LittleEndian.AppendUint64(b, l.at())
}

func (l *leaf) decode(b []byte) {
	_ = b[leafLen-1]
	l.key, l.hash = [32]byte(b), [32]byte(b[32:])
	l.index = binary.LittleEndian.Uint32(b[64:])
	l.height[0], l.height[1] = binary.LittleEndian.Uint32(b[68:]), binary.LittleEndian.Uint32(b[72:])
}

// decodePage reads a record into an empty page, and leaves room for more leaves. A leaf page is to
// be measured once it has them.
func decodePage(p *page, b []byte, more int) error {
	if len(b) == 0 {
		return errLength
	}
	switch kind, b := b[0], b[1:]; kind {
	case kindLeaves:
		return p.decodeLeaves(b, more)
	case kindChildren:
		return p.decodeChildren(b)
	default:
		return fmt.Errorf("unknown kind %d", kind)
	}
}

// splitLeaves returns the rows of the hashes kept in a leaf page's record, and those of its leaves.
func splitLeaves(b []byte) (kept, leaves []byte, err error) {
	if len(b) == 0 || b[0] > keptHashes || len(b) < 1+int(b[0])*keptRow {
		return nil, nil, errLength
	}
	kept, leaves = b[1:1+int(b[0])*keptRow], b[1+int(b[0])*keptRow:]
	if n := len(leaves) / leafLen; n < 1 || n > maxEntries || len(leaves)%leafLen != 0 {
		return nil, nil, errLength
	}
	return kept, leaves, nil
}

func (p *page) decodeLeaves(b []byte, more int) error {
	hashes, b, err := splitLeaves(b)
	if err != nil {
		return err
	}
	n := len(b) / leafLen
	for i := range len(hashes) / keptRow {
		row := hashes[i*keptRow:]
		if row[0] >= row[1] || int(row[1]) > n {
			return fmt.Errorf("hash of the leaves %d to %d of %d", row[0], row[1], n)
		}
		p.kept[i] = kept{lo: row[0], hi: row[1], hash: [32]byte(row[2:])}
	}
	p.leaves = slices.Grow(p.leaves[:0], n+more)[:n]
	for i := range p.leaves {
		p.leaves[i].decode(b[i*leafLen:])
	}
	return nil
}

func (p *page) decodeChildren(b []byte) error {
	n := (len(b) + 1) / (childRow + 1)
	if n < 1 || n > maxEntries || len(b) != n*(childRow+1)-1 {
		return errLength
	}
	p.children = slices.Grow([]child{}, n)[:n]
	for i := range p.children {
		p.children[i] = decodeChild(b[i*childRow:])
	}
	p.gaps = append(p.gaps, b[n*childRow:]...)
	p.inner = make([][32]byte, n-1, n+1)
	return nil
}

func appendChild(b []byte, c *child) []byte {
	b = append(b, c.hash[:]...)
	b = binary.LittleEndian.AppendUint64(b, c.newest)
	return binary.LittleEndian.AppendUint64(b, c.id)
}

func decodeChild(b []byte) child {
	return child{hash: [32]byte(b), newest: binary.LittleEndian.Uint64(b[32:]), id: binary.LittleEndian.Uint64(b[40:])}
}

// decodeFrontier calls set for each slot that b names.
func decodeFrontier(b []byte, set func(slot uint8, hash [32]byte)) error {
	if len(b)%slotRow != 0 || len(b) > slotCount*slotRow {
		return errLength
	}
	for ; len(b) > 0; b = b[slotRow:] {
		set(b[0], [32]byte(b[1:]))
	}
	return nil
}
