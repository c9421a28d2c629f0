package consensus

import (
	"fmt"

	"github.com/diseq/diseq/node/chain"
)

// checkRecord reports whether a record can be read and belongs where it says.
func checkRecord(r chain.Record) error {
	var height uint64
	var round uint32
	var err error
	switch r.Kind {
	case chain.RecordVote:
		var v chain.Vote
		v, err = chain.DecodeVote(r.Data)
		height, round = v.Height, v.Round
	case chain.RecordCertificate:
		var cert *chain.Certificate
		if cert, err = chain.DecodeCertificate(r.Data); err == nil {
			height, round = cert.Height, cert.Round
		}
	case chain.RecordMissingVote:
		_, err = chain.DecodeVote(r.Data)
		height, round = r.Height, r.Round
	case chain.RecordBlock:
		var b *chain.Block
		if b, err = chain.DecodeBlock(r.Data); err == nil {
			height, round = b.Header.Height, r.Round
		}
	case chain.RecordProposal:
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
