package peer

import (
	"fmt"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/peer/peerpb"
)

// Kinds of messages, as metrics name them.
const (
	kindVote        = "vote"
	kindCertificate = "certificate"
	kindProposal    = "proposal"
	kindCommitment  = "commitment"
	kindBatch       = "batch"
	kindPing        = "ping"
	kindPong        = "pong"
	kindAsk         = "ask"
	kindEndorsed    = "endorsement"
)

const (
	// maxFrameItems bounds the certificates and votes of one message. A sender puts as many into
	// one as fit 64 KiB, at most 580 votes.
	maxFrameItems = 1024
	// maxProposalBytes holds the largest proposal: MaxBodyRefs references of 64 bytes and
	// MaxJustification certificates of MaxValidators votes, 3.8 MB.
	maxProposalBytes = 4 << 20
)

// item is one message of a bundle, encoded once however many peers it goes to.
type item struct {
	kind    string
	encoded []byte
	// number is a ping's or a pong's.
	number uint64
}

// itemsOf encodes a bundle. A message comes after those that it rests on.
func itemsOf(b *chain.Bundle) []item {
	items := make([]item, 0, len(b.Certificates)+len(b.Proposals)+len(b.Votes))
	for _, c := range b.Certificates {
		items = append(items, item{kind: kindCertificate, encoded: c.Encode()})
	}
	for _, p := range b.Proposals {
		items = append(items, item{kind: kindProposal, encoded: p.Encode()})
	}
	for i := range b.Votes {
		items = append(items, item{kind: kindVote, encoded: b.Votes[i].Encode()})
	}
	return items
}

// newFrame puts items into one message; its pongs carry lost.
func newFrame(items []item, lost uint64) *peerpb.Frame {
	f := &peerpb.Frame{}
	for _, i := range items {
		switch i.kind {
		case kindCertificate:
			f.Certificates = append(f.Certificates, i.encoded)
		case kindPing:
			f.Pings = append(f.Pings, i.number)
		case kindPong:
			f.Pongs = append(f.Pongs, &peerpb.Pong{Number: i.number, Lost: lost})
		case kindAsk:
			f.Asks = append(f.Asks, true)
		case kindEndorsed:
			f.Endorsed = i.encoded // the last one is the newest
		default:
			f.Votes = append(f.Votes, i.encoded)
		}
	}
	return f
}

// decodeFrame reads what newFrame made. endorsed is nil in a frame without one.
func decodeFrame(f *peerpb.Frame) (b *chain.Bundle, endorsed *chain.Endorsed, err error) {
	certificates, votes, count := f.GetCertificates(), f.GetVotes(), 0
	if len(f.GetEndorsed()) > 0 {
		count++
	}
	if count += len(certificates) + len(votes) + len(f.GetPings()) + len(f.GetPongs()) + len(f.GetAsks()); count > maxFrameItems {
		return nil, nil, fmt.Errorf("frame: %w: %d certificates, votes, pings and pongs, at most %d allowed",
			chain.ErrMalformed, count, maxFrameItems)
	}
	b = &chain.Bundle{}
	for _, encoded := range certificates {
		c, err := chain.DecodeCertificate(encoded)
		if err != nil {
			return nil, nil, fmt.Errorf("frame: %w", err)
		}
		b.Certificates = append(b.Certificates, c)
	}
	for _, encoded := range votes {
		v, err := chain.DecodeVote(encoded)
		if err != nil {
			return nil, nil, fmt.Errorf("frame: %w", err)
		}
		b.Votes = append(b.Votes, v)
	}
	if len(f.GetEndorsed()) > 0 {
		if endorsed, err = chain.DecodeEndorsed(f.GetEndorsed()); err != nil {
			return nil, nil, fmt.Errorf("frame: %w", err)
		}
	}
	return b, endorsed, nil
}
