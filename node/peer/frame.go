package peer

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/peer/peerpb"
)

// Retry is everything that a validator holds of the height it is deciding: sent when a link opens and at every T_retry.
type Retry struct {
	// Height is the one that the sender is deciding, Round its current round there.
	Height uint64
	Round  uint32
	// Finalization is the sender's highest, nil if only genesis is final.
	Finalization *chain.Certificate
	// Certificates are of Height.
	Certificates []*chain.Certificate
	// Votes are of Height: the sender's own, and the statements it knows.
	Votes []chain.Vote
}

const (
	// maxRetryCertificates and maxRetryVotes leave room for two certificates, and four votes, for each round that a
	// justification may span.
	maxRetryCertificates = 2*chain.MaxJustification + 2
	maxRetryVotes        = 4*chain.MaxJustification + 4*chain.MaxValidators
	// maxRetryBytes holds the largest Retry, of maxRetryCertificates certificates of MaxValidators votes: 5.8 MB.
	maxRetryBytes = 6 << 20
	// maxProposalBytes holds the largest proposal: MaxBodyRefs references of 64 bytes and MaxJustification certificates of
	// MaxValidators votes, 3.8 MB.
	maxProposalBytes = 4 << 20
)

// Kinds of frames, as metrics name them.
const (
	kindVote        = "vote"
	kindCertificate = "certificate"
	kindRetry       = "retry"
	kindProposal    = "proposal"
	kindCommitment  = "commitment"
	kindBatch       = "batch"
)

// Frame is something to send to one peer or to all: encoded once, however many receive it.
type Frame struct {
	kind     string
	size     int
	frame    *peerpb.Frame
	proposal *peerpb.Proposal
}

func newFrame(kind string, f *peerpb.Frame) Frame {
	return Frame{kind: kind, size: frameSize(f), frame: f}
}

func frameSize(f *peerpb.Frame) int { return proto.Size(f) }

// VoteFrame returns a frame that carries a vote or a statement.
func VoteFrame(v *chain.Vote) Frame {
	return newFrame(kindVote, &peerpb.Frame{Content: &peerpb.Frame_Vote{Vote: v.Encode()}})
}

// CertificateFrame returns a frame that carries a certificate.
func CertificateFrame(c *chain.Certificate) Frame {
	return newFrame(kindCertificate, &peerpb.Frame{Content: &peerpb.Frame_Certificate{Certificate: c.Encode()}})
}

// RetryFrame returns a frame that carries all that a validator holds of a height. Of more than 802 certificates or 2,000
// votes the last are kept: those of the latest rounds, if they are in order.
func RetryFrame(r *Retry) Frame {
	out := &peerpb.Retry{Height: r.Height, Round: r.Round}
	if r.Finalization != nil {
		out.Finalization = r.Finalization.Encode()
	}
	for _, c := range r.Certificates[max(0, len(r.Certificates)-maxRetryCertificates):] {
		out.Certificates = append(out.Certificates, c.Encode())
	}
	votes := r.Votes[max(0, len(r.Votes)-maxRetryVotes):]
	for i := range votes {
		out.Votes = append(out.Votes, votes[i].Encode())
	}
	return newFrame(kindRetry, &peerpb.Frame{Content: &peerpb.Frame_Retry{Retry: out}})
}

// ProposalFrame returns a frame that carries a proposal. It travels as a call of its own, beside the other frames: it may
// overtake them.
func ProposalFrame(p *chain.Proposal) Frame {
	encoded := p.Encode()
	return Frame{kind: kindProposal, size: len(encoded), proposal: &peerpb.Proposal{Proposal: encoded}}
}

// deliver decodes a frame and hands it to h. It returns the kind, also of a frame that it refuses.
func deliver(h Handler, from chain.PublicKey, f *peerpb.Frame) (kind string, err error) {
	switch content := f.GetContent().(type) {
	case *peerpb.Frame_Vote:
		v, err := chain.DecodeVote(content.Vote)
		if err != nil {
			return kindVote, err
		}
		h.OnVote(from, v)
		return kindVote, nil
	case *peerpb.Frame_Certificate:
		c, err := chain.DecodeCertificate(content.Certificate)
		if err != nil {
			return kindCertificate, err
		}
		h.OnCertificate(from, c)
		return kindCertificate, nil
	case *peerpb.Frame_Retry:
		r, err := decodeRetry(content.Retry)
		if err != nil {
			return kindRetry, err
		}
		h.OnRetry(from, r)
		return kindRetry, nil
	default:
		return "unknown", fmt.Errorf("%w: frame without a known content", chain.ErrMalformed)
	}
}

func decodeRetry(in *peerpb.Retry) (*Retry, error) {
	if n, m := len(in.GetCertificates()), len(in.GetVotes()); n > maxRetryCertificates || m > maxRetryVotes {
		return nil, fmt.Errorf("retry: %w: %d certificates and %d votes, at most %d and %d allowed",
			chain.ErrMalformed, n, m, maxRetryCertificates, maxRetryVotes)
	}
	out := &Retry{Height: in.GetHeight(), Round: in.GetRound()}
	if encoded := in.GetFinalization(); len(encoded) > 0 {
		c, err := chain.DecodeCertificate(encoded)
		if err != nil {
			return nil, fmt.Errorf("retry: %w", err)
		}
		if c.Kind != chain.Finalize {
			return nil, fmt.Errorf("retry: %w: finalization made of %v votes", chain.ErrMalformed, c.Kind)
		}
		out.Finalization = c
	}
	for _, encoded := range in.GetCertificates() {
		c, err := chain.DecodeCertificate(encoded)
		if err != nil {
			return nil, fmt.Errorf("retry: %w", err)
		}
		if c.Height != out.Height {
			return nil, fmt.Errorf("retry: %w: certificate of height %d, the retry is of %d", chain.ErrMalformed, c.Height, out.Height)
		}
		out.Certificates = append(out.Certificates, c)
	}
	for _, encoded := range in.GetVotes() {
		v, err := chain.DecodeVote(encoded)
		if err != nil {
			return nil, fmt.Errorf("retry: %w", err)
		}
		if v.Height != out.Height {
			return nil, fmt.Errorf("retry: %w: vote of height %d, the retry is of %d", chain.ErrMalformed, v.Height, out.Height)
		}
		out.Votes = append(out.Votes, v)
	}
	return out, nil
}
