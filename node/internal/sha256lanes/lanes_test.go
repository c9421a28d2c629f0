package sha256lanes

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"testing"
)

func messages(rng *rand.ChaCha8, n, length int) [][]byte {
	list := make([][]byte, n)
	for i := range list {
		list[i] = make([]byte, length)
		_, _ = rng.Read(list[i]) // never fails
	}
	return list
}

func check(t *testing.T, b *Batch, list [][]byte) {
	t.Helper()
	sums := make([][Size]byte, len(list))
	for i, m := range list {
		copy(b.Next(len(m), &sums[i]), m)
	}
	b.Flush()
	for i, m := range list {
		if want := sha256.Sum256(m); sums[i] != want {
			t.Fatalf("message %d of %d, %d bytes: %x, want %x", i, len(list), len(m), sums[i], want)
		}
	}
}

// each runs a test with the processor's lanes and without.
func each(t *testing.T, test func(t *testing.T)) {
	if fast {
		t.Run("lanes", test)
	} else {
		t.Log("this processor hashes one message at a time: the lanes are not tested")
	}
	before := fast
	fast = false
	defer func() { fast = before }()
	t.Run("one by one", test)
}

func TestHashesAreThoseOfTheStandardLibrary(t *testing.T) {
	each(t, func(t *testing.T) {
		rng := rand.NewChaCha8([32]byte{1})
		var b Batch
		for length := range Longest + 2*blockLen {
			for _, n := range []int{1, worthwhile - 1, worthwhile, 2*lanes + worthwhile} {
				check(t, &b, messages(rng, n, length))
			}
		}
	})
}

func TestMessagesOfAllLengthsMayBeMixed(t *testing.T) {
	each(t, func(t *testing.T) {
		rng := rand.NewChaCha8([32]byte{2})
		var b Batch
		for range 300 {
			var list [][]byte
			for range rng.Uint64() % 200 {
				list = append(list, messages(rng, 1+int(rng.Uint64()%3), int(rng.Uint64()%(Longest*5/4)))...)
			}
			check(t, &b, list)
		}
		check(t, &b, messages(rng, 2, keptBytes+1))
		check(t, &b, messages(rng, 40, 92))
	})
}

func BenchmarkBatch(b *testing.B) {
	for _, length := range []int{92, 269, 525} {
		for _, n := range []int{1, worthwhile - 1, worthwhile, 8, 16, 160} {
			b.Run(fmt.Sprintf("bytes=%d/messages=%d", length, n), func(b *testing.B) {
				list := messages(rand.NewChaCha8([32]byte{1}), n, length)
				sums := make([][Size]byte, n)
				var batch Batch
				for b.Loop() {
					for i, m := range list {
						copy(batch.Next(len(m), &sums[i]), m)
					}
					batch.Flush()
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/message")
			})
		}
	}
}
