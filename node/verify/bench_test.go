package verify

import (
	"testing"

	"github.com/diseq/diseq/node/chain"
)

// BenchmarkUselessVotes is a vote of a height that does not matter, from its encoding on: valid
// votes that somebody kept and sends again.
func BenchmarkUselessVotes(b *testing.B) {
	e := newEras(20)
	v := New(chainID, e.height, e.setAt)
	vote := e.vote(chain.Notarize, 1, 0, 'a')
	encoded := vote.Encode()
	for b.Loop() {
		vote, err := chain.DecodeVote(encoded)
		if err != nil {
			b.Fatal(err)
		}
		if r, _, err := v.Bundle(b.Context(), sender, &chain.Bundle{Votes: []chain.Vote{vote}}); err != nil || r.Useless != 1 {
			b.Fatal(r, err)
		}
	}
}
