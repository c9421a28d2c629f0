package verify

import (
	"testing"

	"golang.org/x/sys/unix"

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

// processorTime returns the processor time of all threads, which other work on the machine does not
// change.
func processorTime(b *testing.B) int64 {
	b.Helper()
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return usage.Utime.Nano() + usage.Stime.Nano()
}

// BenchmarkCertificate is two votes of others, and the certificate that they make with the vote of
// this node.
func BenchmarkCertificate(b *testing.B) {
	e := newEras(4)
	certificate := e.certificate(chain.Notarize, 5, 1)
	votes := []chain.Vote{certificate.Vote(0), certificate.Vote(1), certificate.Vote(2)}
	for name, self := range map[string]byte{"this node signed one": 'd', "none is this node's": 'e'} {
		b.Run(name, func(b *testing.B) {
			began := processorTime(b)
			for b.Loop() {
				v := New(chainID, e.height, e.setAt)
				v.Signed(chain.PublicKeyOf(key(self)), votes[:1])
				for _, bundle := range []*chain.Bundle{{Votes: votes[1:]}, {Certificates: []*chain.Certificate{certificate}}} {
					if _, _, err := v.Bundle(b.Context(), sender, bundle); err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(float64(processorTime(b)-began)/float64(b.N), "cpu-ns/op")
			b.ReportMetric(0, "ns/op") // of wall clock
		})
	}
}
