package simulation

import (
	"fmt"
	"strings"

	"github.com/diseq/diseq/node/chain"
)

// String names a node in a transcript by its validator. The second process of a validator that runs
// twice has a prime (').
func (s *node) String() string {
	if s.second {
		return s.who.String() + "'"
	}
	return s.who.String()
}

// String names a validator in a transcript.
func (who *identity) String() string {
	if who.byzantine {
		return fmt.Sprintf("b%d", who.number)
	}
	return fmt.Sprintf("v%d", who.number)
}

// short formats a hash for transcripts.
func short(h chain.Hash) string {
	if h.IsZero() {
		return "-"
	}
	return fmt.Sprintf("%x", h[:2])
}

func certificateText(c *chain.Certificate) string {
	signers := make([]string, len(c.Votes))
	for i, s := range c.Votes {
		signers[i] = fmt.Sprint(s.Validator)
	}
	return fmt.Sprintf("%v[%d.%d %s by %s]", c.Kind, c.Height, c.Round, short(c.Block), strings.Join(signers, ","))
}

func voteText(v chain.Vote) string {
	return fmt.Sprintf("%v(%d.%d %s by %d)", v.Kind, v.Height, v.Round, short(v.Block), v.Validator)
}

// text formats a bundle for transcripts.
type text chain.Bundle

func (b text) String() string {
	out := make([]string, 0, len(b.Certificates)+len(b.Proposals)+len(b.Votes))
	for _, c := range b.Certificates {
		out = append(out, certificateText(c))
	}
	for _, p := range b.Proposals {
		just := ""
		if p.Notarization != nil {
			just = fmt.Sprintf(" on round %d", p.Notarization.Round)
		}
		out = append(out, fmt.Sprintf("proposal(%d.%d %s by %d%s, %d nullified)", p.Statement.Height, p.Statement.Round,
			short(p.Statement.Block), p.Statement.Validator, just, len(p.Nullifications)))
	}
	for _, v := range b.Votes {
		out = append(out, voteText(v))
	}
	return strings.Join(out, " ")
}
