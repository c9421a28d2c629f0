package simulation

import (
	"encoding/binary"
	"time"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/consensus"
)

// began is the true time at the start of a run, in Unix milliseconds.
const began = 1_700_000_000_000

// clock returns the time that a node's clock shows.
func (w *world) clock(s *node) uint64 { return uint64(began + (w.now + s.offset).Milliseconds()) }

// newBlock makes a block unlike any other, of a given time but later than its parent.
func (w *world) newBlock(height uint64, proposer uint32, below []stored, timestamp uint64) *chain.Block {
	w.stamp++
	b := &chain.Block{Header: chain.Header{ChainID: chainID, Height: height, Timestamp: timestamp, Proposer: proposer}}
	binary.BigEndian.PutUint64(b.Header.MessagesRoot[:], w.stamp)
	if height > 1 {
		parent := below[height-2]
		b.Header.ParentHash = parent.cert.Block
		b.Header.Timestamp = max(timestamp, parent.block.Header.Timestamp+1)
	}
	return b
}

// badBlock is the protocol version of invalid blocks, uncommitted that of blocks without their
// epoch's commitment.
const (
	badBlock    = 99
	uncommitted = 1
)

// judge checks a block as a node does. A block is invalid by the chain and the block alone. A clock
// or a missing commitment withholds the vote for a fresh block. The clock lifts that when it gets
// there.
func (w *world) judge(s *node, a consensus.CheckBlock) (verdict consensus.Verdict, lifted time.Duration) {
	header := &a.Block.Header
	parent := uint64(0)
	if header.Height > 1 {
		parent = s.store[header.Height-2].block.Header.Timestamp
	}
	if header.ProtocolVersion == badBlock || header.Timestamp <= parent {
		w.bad[a.Block.Hash()] = true
		return consensus.Invalid, 0
	}
	if !a.Fresh {
		return consensus.Valid, 0
	}
	// Not every validator has sent its commitment to the leader.
	if header.ProtocolVersion == uncommitted && w.rng.IntN(2) == 0 {
		w.faults[Withholding]++
		return consensus.Withheld, 0
	}
	if ahead := int64(header.Timestamp-w.clock(s)) - 2000; ahead > 0 && header.Timestamp != parent+1 {
		w.faults[Withholding]++
		return consensus.Withheld, time.Duration(ahead) * time.Millisecond
	}
	return consensus.Valid, 0
}
