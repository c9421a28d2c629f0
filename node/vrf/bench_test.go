package vrf

import (
	"testing"

	"github.com/diseq/diseq/node/vrf/internal/circuit"
)

func BenchmarkProve(b *testing.B) {
	s := proved()
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := Prove(s.sk, s.x); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	s := proved()
	b.ReportAllocs()
	for b.Loop() {
		if err := s.verify(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEvaluate(b *testing.B) {
	s := proved()
	for b.Loop() {
		if _, err := Evaluate(s.sk, s.x); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkLoad is what the first Verify and the first Prove pay once.
func BenchmarkLoad(b *testing.B) {
	b.Run("verifying", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := circuit.UnmarshalVerifyingKey(verifyingKeyFile); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("proving", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := circuit.UnmarshalProvingKey(provingKeyFile, nil); err != nil {
				b.Fatal(err)
			}
			if _, err := circuit.Compile(); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkLeaderOrder(b *testing.B) {
	for b.Loop() {
		LeaderOrder("diseq-test", [32]byte{1}, 1, 100)
	}
}
