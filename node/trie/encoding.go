package trie

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
)

// Rows on disk end with a CRC-32C. Numbers are little-endian.
//
//	page      kind (0 leaves, 1 children), then the leaves (key 32, hash 32,
//	          index 4, height 8), or the children (hash 32, newest 8, id 8) and
//	          the gaps (1 each)
//	frontier  (slot 1, hash 32) of each slot named; all others are unchanged
//	          or, in a full one, empty
//	slots     the children of all 256 slots

const (
	kindLeaves   = 0
	kindChildren = 1

	leafLen  = 32 + 32 + 4 + 8
	childRow = 32 + 8 + 8
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

func encodePage(p *page) []byte {
	if p.isLeaf() {
		b := make([]byte, 1, 1+len(p.leaves)*leafLen+4)
		for i := range p.leaves {
			l := &p.leaves[i]
			b = append(append(b, l.key[:]...), l.hash[:]...)
			b = binary.LittleEndian.AppendUint32(b, l.index)
			b = binary.LittleEndian.AppendUint64(b, l.at())
		}
		return seal(b)
	}
	b := make([]byte, 0, 1+len(p.children)*(childRow+1)+4)
	b = append(b, kindChildren)
	for i := range p.children {
		b = appendChild(b, &p.children[i])
	}
	return seal(append(b, p.gaps...))
}

func decodePage(id uint64, b []byte) (*page, error) {
	b, err := unseal(b)
	if err != nil {
		return nil, err
	}
	if len(b) == 0 {
		return nil, errLength
	}
	p := newPage(id)
	switch kind, b := b[0], b[1:]; kind {
	case kindLeaves:
		err = p.decodeLeaves(b)
	case kindChildren:
		err = p.decodeChildren(b)
	default:
		err = fmt.Errorf("unknown kind %d", kind)
	}
	if err != nil {
		return nil, err
	}
	return p, nil
}

func (p *page) decodeLeaves(b []byte) error {
	n := len(b) / leafLen
	if n < 1 || n > maxEntries || len(b)%leafLen != 0 {
		return errLength
	}
	p.leaves = slices.Grow([]leaf{}, n)[:n]
	for i := range p.leaves {
		l, r := &p.leaves[i], b[i*leafLen:]
		l.key, l.hash = [32]byte(r), [32]byte(r[32:])
		l.index = binary.LittleEndian.Uint32(r[64:])
		l.height = [2]uint32{binary.LittleEndian.Uint32(r[68:]), binary.LittleEndian.Uint32(r[72:])}
	}
	p.gaps = p.gaps[:n-1]
	for i := range p.gaps {
		a, b := &p.leaves[i].key, &p.leaves[i+1].key
		p.gaps[i] = firstDifference(a, b)
		if bit(a, int(p.gaps[i])) >= bit(b, int(p.gaps[i])) {
			return errors.New("keys out of order")
		}
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
	p.hash()
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

func encodeFrontier(f *frontier) []byte {
	var b []byte
	for i := range slotCount {
		if h := &f[slotCount+i]; *h != zero {
			b = append(append(b, uint8(i)), h[:]...)
		}
	}
	return seal(b)
}

// decodeFrontier calls set for each slot that b names.
func decodeFrontier(b []byte, set func(slot uint8, hash [32]byte)) error {
	b, err := unseal(b)
	if err != nil {
		return err
	}
	if len(b)%slotRow != 0 || len(b) > slotCount*slotRow {
		return errLength
	}
	for ; len(b) > 0; b = b[slotRow:] {
		set(b[0], [32]byte(b[1:]))
	}
	return nil
}

func (t *Trie) encodeSlots() []byte {
	b := make([]byte, 0, slotCount*childRow+4)
	for i := range t.slots {
		b = appendChild(b, &t.slots[i].child)
	}
	return seal(b)
}

func decodeSlots(b []byte) (slots [slotCount]child, err error) {
	b, err = unseal(b)
	if err != nil {
		return slots, err
	}
	if len(b) != slotCount*childRow {
		return slots, errLength
	}
	for i := range slots {
		slots[i] = decodeChild(b[i*childRow:])
	}
	return slots, nil
}
