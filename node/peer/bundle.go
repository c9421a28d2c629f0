package peer

import (
	"fmt"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/peer/peerpb"
)

// Bundle is a set of consensus messages, of one height or of several.
type Bundle struct {
	Certificates []*chain.Certificate
	Proposals    []*chain.Proposal
	// Votes are of any kind; one of kind Propose is a leader's statement without its block.
	Votes []chain.Vote
}

// Kinds of what is sent, as metrics name them.
const (
	kindVote        = "vote"
	kindCertificate = "certificate"
	kindProposal    = "proposal"
	kindCommitment  = "commitment"
	kindBatch       = "batch"
)

const (
	// maxFrameItems bounds the certificates and votes of one message. A sender puts as many into one as fit 64 KiB, at most
	// 580 votes.
	maxFrameItems = 1024
	// maxProposalBytes holds the largest proposal: MaxBodyRefs references of 64 bytes and MaxJustification certificates of
	// MaxValidators votes, 3.8 MB.
	maxProposalBytes = 4 << 20
)

// item is one message of a bundle, encoded once however many peers it goes to.
type item struct {
	kind    string
	encoded []byte
}

// items encodes a bundle, what is rested on before what rests on it.
func (b *Bundle) items() []item {
	items := make([]item, 0, len(b.Certificates)+len(b.Proposals)+len(b.Votes))
	for _, c := range b.Certificates {
		items = append(items, item{kindCertificate, c.Encode()})
	}
	for _, p := range b.Proposals {
		items = append(items, item{kindProposal, p.Encode()})
	}
	for i := range b.Votes {
		items = append(items, item{kindVote, b.Votes[i].Encode()})
	}
	return items
}

// newFrame puts certificates and votes into one message.
func newFrame(items []item) *peerpb.Frame {
	f := &peerpb.Frame{}
	for _, i := range items {
		if i.kind == kindCertificate {
			f.Certificates = append(f.Certificates, i.encoded)
		} else {
			f.Votes = append(f.Votes, i.encoded)
		}
	}
	return f
}

// decodeFrame reads what newFrame made.
func decodeFrame(f *peerpb.Frame) (*Bundle, error) {
	certificates, votes := f.GetCertificates(), f.GetVotes()
	if n := len(certificates) + len(votes); n > maxFrameItems {
		return nil, fmt.Errorf("frame: %w: %d certificates and votes, at most %d allowed", chain.ErrMalformed, n, maxFrameItems)
	}
	b := &Bundle{}
	for _, encoded := range certificates {
		c, err := chain.DecodeCertificate(encoded)
		if err != nil {
			return nil, fmt.Errorf("frame: %w", err)
		}
		b.Certificates = append(b.Certificates, c)
	}
	for _, encoded := range votes {
		v, err := chain.DecodeVote(encoded)
		if err != nil {
			return nil, fmt.Errorf("frame: %w", err)
		}
		b.Votes = append(b.Votes, v)
	}
	return b, nil
}
