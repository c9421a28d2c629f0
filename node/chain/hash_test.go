package chain

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"testing"
)

// A hash over pieces is that over the encoding in one piece, wherever the pieces end.
func TestHashesOfPiecesAreThoseOfTheWhole(t *testing.T) {
	n := newNetwork(t, 4, 3)
	whole := func(pieces ...[]byte) Hash { return sha256.Sum256(slices.Concat(pieces...)) }
	domain := appendBytes([]byte("diseq/batch"), n.ChainID)
	for _, size := range []int{1, 250, inOnePiece - 1, inOnePiece, inOnePiece + 1, 1900, 2040, 2048, 5000} {
		m := Message{Data: bytes.Repeat([]byte{byte(size)}, size), Timestamp: 7}
		length := binary.LittleEndian.AppendUint64(nil, uint64(size))
		if got, want := m.ID(), whole(leafPrefix[:], length, m.Data); got != want {
			t.Errorf("the id of %d bytes is %v, want %v", size, got, want)
		}
		if got, want := merkleLeaf(m), whole([]byte{0, 7, 0, 0, 0}, m.Data); got != want {
			t.Errorf("the leaf of %d bytes is %v, want %v", size, got, want)
		}
		batch := &Batch{Incarnation: 1}
		for count := range 12 {
			hash := batch.Sign(n.keys[0], n.ChainID)
			encoded := batch.Encode()
			if want := whole(domain, encoded[:len(encoded)-len(Signature{})]); hash != want {
				t.Errorf("the hash of a batch of %d messages of %d bytes is %v, want %v", count, size, hash, want)
			}
			batch.Messages = append(batch.Messages, m)
		}
	}
}
