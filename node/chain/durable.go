package chain

// This file holds what the parts of a node hand to its store. The store imports none of them, and
// none of them imports the store.

// RecordKind says what a Record holds.
type RecordKind uint8

const (
	// RecordVote is a vote of this validator.
	RecordVote RecordKind = iota + 1
	// RecordCertificate is a certificate that a vote of this validator rests on. The finalization
	// of the height is one if a vote is recorded with it.
	RecordCertificate
	// RecordBlock is a block that this validator voted for.
	RecordBlock
	// RecordProposal is a proposal of this validator, whole.
	RecordProposal
	// RecordMissingVote is a vote that was signed with this validator's key and is not among its
	// records. It names a height that no chain reaches, so that it is never removed, and it is the
	// last record: consensus.New refuses records with such a one among them.
	RecordMissingVote
)

// Record is one piece of what a validator must know after a crash. The store keeps it and does not
// read it. Records of a height may be removed once its final block is stored with a finalization.
type Record struct {
	Height uint64
	Round  uint32
	Kind   RecordKind
	// Data is the canonical encoding of the type that Kind names.
	Data []byte
}

// StoredBatch is a batch that waits to be ordered, as it is stored.
type StoredBatch struct {
	Hash   Hash
	Author PublicKey
	// Incarnation and Number are the author's (see Batch).
	Incarnation uint64
	Number      uint64
	// Data is the canonical encoding of the Batch; it is shared and must not be changed.
	Data []byte
}

// Epoch is what is final of a beacon epoch.
type Epoch struct {
	Number uint64
	Beacon Hash
	// Output is the committing validator's VRF output; nil as long as none is final.
	Output *[32]byte
}

// StoredChange is the validator set change of a final block.
type StoredChange struct {
	// Height is that of the block: the next set decides the height above it.
	Height uint64
	Change *Change
}

// Source is a run of messages of a block that stand one behind the other in a stored batch.
type Source struct {
	// Batch is the hash of the batch; zero for messages that no stored batch has.
	Batch Hash
	// Offset is where the encoding of the first of them begins in that of the batch.
	Offset int
	// Count is the number of messages.
	Count int
}

// Commit is what becomes durable with a final block, all or nothing.
type Commit struct {
	Block *FinalBlock
	// Sources say where the messages of the block are in stored batches, in the order of the block.
	// Messages behind the last source are in no batch.
	Sources []Source
	// Remove names batches that no longer wait: those of the block, and those with nothing new left
	// in them.
	Remove []Hash
	// Epochs are beacon epochs that begin with this block, or whose output it decides.
	Epochs []Epoch
	// Justification holds the certificates of earlier rounds on which a block that was decided in a
	// round above 0 rests; nil otherwise.
	Justification []*Certificate
}
