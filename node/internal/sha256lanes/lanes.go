// Package sha256lanes computes the SHA-256 of many messages, on processors with AVX-512 up to
// sixteen at a time. It is for the hashes that a node computes by the thousand: the branches of the
// state trie, the ids and the leaves of a block's messages.
//
// It promises the hashes of crypto/sha256, which it uses on all other processors, for groups of few
// messages, and for long ones. It does not hash streams.
package sha256lanes

import (
	"crypto/sha256"
	"encoding/binary"
)

const (
	// Size is the length of a hash.
	Size = sha256.Size
	// Longest is the length up to which messages are hashed side by side. A longer message gains
	// less: most of its time is not spent on the call.
	Longest = maxBlocks*blockLen - paddingLen

	lanes      = 16
	blockLen   = 64
	maxBlocks  = 20
	paddingLen = 1 + 8
	// worthwhile is for how many messages blocks is faster than crypto/sha256.
	worthwhile = 6
)

// Batch gathers messages and hashes those together that have the same number of blocks. The zero
// value is ready. It is for one goroutine at a time.
type Batch struct {
	groups [maxBlocks + 1]*group // by blocks
	long   []byte
	sum    *[Size]byte // of long, nil: none
}

// group has room for 16 messages of the same number of blocks.
type group struct {
	n       int
	lengths [lanes]int
	sums    [lanes]*[Size]byte
	at      [lanes]*byte
	state   [8][lanes]uint32
	padded  []byte // lanes times the blocks
}

// start is the initial state of each lane (FIPS 180-4, section 5.3.3).
var start = func() (s [8][lanes]uint32) {
	for i, word := range [len(s)]uint32{
		0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
	} {
		for lane := range s[i] {
			s[i][lane] = word
		}
	}
	return s
}()

// Next returns room for the next message, which the caller fills before any other call. The room
// has what an earlier message left there. The hash is in *sum once Flush has returned.
func (b *Batch) Next(length int, sum *[Size]byte) []byte {
	if length > Longest {
		b.flushLong()
		if cap(b.long) < length {
			b.long = make([]byte, length)
		}
		b.sum, b.long = sum, b.long[:length]
		return b.long
	}
	size := (length + paddingLen + blockLen - 1) / blockLen * blockLen
	g := b.groups[size/blockLen]
	if g == nil {
		g = &group{padded: make([]byte, lanes*size)}
		for i := range g.at {
			g.at[i] = &g.padded[i*size]
		}
		b.groups[size/blockLen] = g
	}
	if g.n == lanes {
		g.run()
	}
	m := g.padded[g.n*size:][:size]
	m[length] = 0x80
	clear(m[length+1 : size-8])
	binary.BigEndian.PutUint64(m[size-8:], uint64(length)*8)
	g.lengths[g.n], g.sums[g.n] = length, sum
	g.n++
	return m[:length]
}

// Flush writes all hashes that are still to be written.
func (b *Batch) Flush() {
	for _, g := range b.groups {
		if g != nil && g.n > 0 {
			g.run()
		}
	}
	b.flushLong()
}

func (b *Batch) flushLong() {
	if b.sum != nil {
		*b.sum = sha256.Sum256(b.long)
		b.sum = nil
	}
	if cap(b.long) > keptBytes {
		b.long = nil
	}
}

// keptBytes is the room for a long message that a batch keeps for the next one.
const keptBytes = 64 << 10

func (g *group) run() {
	size := len(g.padded) / lanes
	sums := g.sums[:g.n]
	if g.n < worthwhile || !fast {
		for i, sum := range sums {
			*sum = sha256.Sum256(g.padded[i*size:][:g.lengths[i]])
		}
	} else {
		g.state = start
		blocks(&g.state, &g.at, size/blockLen) // lanes without a message have an old one
		for i, sum := range sums {
			for word := range g.state {
				binary.BigEndian.PutUint32(sum[4*word:], g.state[word][i])
			}
		}
	}
	clear(sums)
	g.n = 0
}
