package vrf

import (
	"crypto/sha256"
	"encoding/binary"
)

// LeaderOrder returns the order in which the n validators of a height lead its
// rounds: the leader of round r is the validator with the index order[r mod n].
// It is a uniform permutation drawn from the beacon of the height's epoch, so
// that every validator leads once in n rounds and none leads every height.
// For n <= 0 it is nil.
//
// It is the shuffle of Fisher and Yates of 0, 1, ..., n-1: for i = n-1 down to 1
// swap i with an index drawn from [0, i]. The draws consume the stream of 32-bit
// big-endian words of the blocks SHA-256(seed || u32 0), SHA-256(seed || u32 1), ...
// with
//
//	seed = SHA-256("diseq/leader" || u32 len(chainID) || chainID || beacon || u64 height)
//
// and big-endian integers. To draw from [0, i] with m = i+1: skip words at or above
// 2^32 - (2^32 mod m), then take the word mod m.
func LeaderOrder(chainID string, beacon [32]byte, height uint64, n int) []int {
	if n <= 0 {
		return nil
	}
	words := newWordStream(chainID, beacon, height)
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	for i := n - 1; i > 0; i-- {
		j := words.below(uint64(i) + 1)
		order[i], order[j] = order[j], order[i]
	}
	return order
}

// wordStream is the stream of 32-bit words that a seed expands to.
type wordStream struct {
	input [sha256.Size + 4]byte // seed || u32 number of the next block
	block [sha256.Size]byte
	rest  []byte // of block, not consumed yet
}

func newWordStream(chainID string, beacon [32]byte, height uint64) *wordStream {
	const tag = "diseq/leader"
	buf := make([]byte, 0, len(tag)+4+len(chainID)+len(beacon)+8)
	buf = append(buf, tag...)
	buf = appendString(buf, chainID)
	buf = append(buf, beacon[:]...)
	buf = binary.BigEndian.AppendUint64(buf, height)
	seed := sha256.Sum256(buf)

	s := &wordStream{}
	copy(s.input[:], seed[:])
	return s
}

func (s *wordStream) next() uint64 {
	if len(s.rest) == 0 {
		s.block = sha256.Sum256(s.input[:])
		s.rest = s.block[:]
		counter := s.input[sha256.Size:]
		binary.BigEndian.PutUint32(counter, binary.BigEndian.Uint32(counter)+1)
	}
	word := binary.BigEndian.Uint32(s.rest)
	s.rest = s.rest[4:]
	return uint64(word)
}

// below returns a uniform number in [0, m), for 0 < m <= 2^32. A plain word mod m
// would favour the small indices.
func (s *wordStream) below(m uint64) int {
	const words = 1 << 32
	limit := words - words%m
	for {
		if w := s.next(); w < limit {
			return int(w % m)
		}
	}
}
