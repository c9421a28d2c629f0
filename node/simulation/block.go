package simulation

import (
	"encoding/binary"
	"slices"
	"time"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/consensus"
)

// began is the true time at the start of a run, in Unix milliseconds.
const began = 1_700_000_000_000

// clock returns the time that a node's clock shows.
func (w *world) clock(s *node) uint64 { return uint64(began + (w.now + s.offset).Milliseconds()) }

// newBlock makes a block unlike any other, of a given time but later than its parent.
func (w *world) newBlock(e *era, height uint64, proposer uint32, below []stored, timestamp uint64, change *chain.Change) *chain.Block {
	w.stamp++
	b := &chain.Block{Header: chain.Header{ChainID: chainID, Height: height, Timestamp: timestamp, Proposer: proposer}}
	binary.BigEndian.PutUint64(b.Header.MessagesRoot[:], w.stamp)
	if w.Eras != nil {
		b.Header.ValidatorsHash, b.Header.NextValidatorsHash = e.hash, e.hash
		if change != nil {
			b.Change, b.Header.ChangeHash = change, change.Hash()
			b.Header.NextValidatorsHash = change.Next.Set().Hash()
		}
	}
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

// The bodies of blocks. The empty one fits every header. misfitting gives other messages than the
// header says, unknown names a batch that nobody has.
var (
	misfitting = []chain.BatchRef{{Hash: chain.Hash{1}}}
	unknown    = []chain.BatchRef{{Hash: chain.Hash{2}}}
)

// withBody returns a block with another body.
func withBody(b *chain.Block, body []chain.BatchRef) *chain.Block {
	other := *b
	other.Body = body
	return &other
}

// fits reports whether a block has the body that its header says.
func fits(b *chain.Block) bool { return len(b.Body) == 0 }

// judge checks a block as a node does. A block is invalid by the chain and its header alone. There
// is no verdict (0) while its body names a batch that the node does not have. A clock or a missing
// commitment withholds the vote for a fresh block. The clock lifts that when it gets there.
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
	if w.Eras != nil {
		if err := w.checkSets(s, a.Block); err != nil {
			// The header of an unbound change may as well have a good one.
			w.bad[a.Block.Hash()] = !w.Mutation.UnboundChange
			w.trace("  %v finds %s invalid: %v", s, short(a.Block.Hash()), err)
			return consensus.Invalid, 0
		}
	}
	switch {
	case slices.Equal(a.Block.Body, unknown):
		return 0, 0
	case !fits(a.Block):
		return consensus.Misfit, 0
	case !a.Fresh:
		return consensus.Valid, 0
	}
	// Not every validator has sent its commitment to the leader.
	if header.ProtocolVersion == uncommitted && w.rng.IntN(2) == 0 {
		w.faults[Withholding]++
		return consensus.Withheld, 0
	}
	if !w.reachesThrough(s, a.Block) {
		w.faults[Withholding]++
		return consensus.Withheld, 0
	}
	if ahead := int64(header.Timestamp-w.clock(s)) - 2000; ahead > 0 && header.Timestamp != parent+1 {
		w.faults[Withholding]++
		return consensus.Withheld, time.Duration(ahead) * time.Millisecond
	}
	return consensus.Valid, 0
}
