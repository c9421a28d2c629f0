package consensus

import (
	"fmt"

	"github.com/diseq/diseq/node/chain"
)

// RecordKind says what a Record holds.
type RecordKind uint8

const (
	// RecordVote is a vote of this validator.
	RecordVote RecordKind = iota + 1
	// RecordCertificate is a certificate that a vote of this validator rests on, or the
	// finalization of the height.
	RecordCertificate
	// RecordBlock is a block that this validator voted for.
	RecordBlock
	// RecordProposal is a proposal of this validator, whole.
	RecordProposal
	// RecordMissingVote is a vote that was signed with this validator's key and is not among its
	// records. It is of a height that no chain reaches, so that it is never removed, and it is the
	// last one: New takes none with it.
	RecordMissingVote
)

// Record is one piece of what must outlive a crash; the store keeps it and need not understand it.
// Records of a height may be removed once its final block is stored durably with a finalization.
type Record struct {
	Height uint64
	Round  uint32
	Kind   RecordKind
	// Data is the canonical encoding of the chain type.
	Data []byte
}

// check reports whether the record can be read and belongs where it says.
func (r Record) check() error {
	var height uint64
	var round uint32
	var err error
	switch r.Kind {
	case RecordVote:
		var v chain.Vote
		v, err = chain.DecodeVote(r.Data)
		height, round = v.Height, v.Round
	case RecordCertificate:
		var cert *chain.Certificate
		if cert, err = chain.DecodeCertificate(r.Data); err == nil {
			height, round = cert.Height, cert.Round
		}
	case RecordMissingVote:
		_, err = chain.DecodeVote(r.Data)
		height, round = r.Height, r.Round
	case RecordBlock:
		var b *chain.Block
		if b, err = chain.DecodeBlock(r.Data); err == nil {
			height, round = b.Header.Height, r.Round
		}
	case RecordProposal:
		var p *chain.Proposal
		if p, err = chain.DecodeProposal(r.Data); err == nil {
			height, round = p.Statement.Height, p.Statement.Round
		}
	default:
		err = chain.ErrMalformed
	}
	if err != nil {
		return fmt.Errorf("record of kind %d at height %d round %d: %w", r.Kind, r.Height, r.Round, err)
	}
	if height != r.Height || round != r.Round {
		return fmt.Errorf("record of kind %d at height %d round %d is about height %d round %d", r.Kind, r.Height, r.Round, height, round)
	}
	return nil
}
