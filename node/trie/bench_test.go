package trie

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"syscall"
	"testing"
)

const benchBlock = 500

// filled returns a trie of n random leaves in blocks of 5,000, flushed.
func filled(b *testing.B, n int) *Trie {
	b.Helper()
	tr := mustOpen(b, filepath.Join(b.TempDir(), "state"), Options{})
	b.Cleanup(func() { mustClose(b, tr) })
	rng := rand.NewChaCha8([32]byte{1})
	for n > 0 {
		size := min(n, 5000)
		mustAppend(b, tr, tr.Height()+1, randomBlock(rng, size))
		n -= size
	}
	flushNow(b, tr)
	return tr
}

func randomBlock(rng *rand.ChaCha8, n int) []Leaf {
	leaves := make([]Leaf, n)
	for i := range leaves {
		_, _ = rng.Read(leaves[i].Key[:]) // never fails
		_, _ = rng.Read(leaves[i].Hash[:])
		leaves[i].Index = uint32(i)
	}
	return leaves
}

// cpuTime returns the nanoseconds of both cores that the process has used.
func cpuTime(b *testing.B) int64 {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}

// BenchmarkAppend appends blocks of 500 messages, flushes, checkpoints and the
// collector's work included; cpu-ns/msg has the making of the blocks, too.
func BenchmarkAppend(b *testing.B) {
	for _, n := range []int{0, 100_000, 1_000_000} {
		b.Run(fmt.Sprintf("leaves=%d", n), func(b *testing.B) {
			tr := filled(b, n)
			rng := rand.NewChaCha8([32]byte{2})
			before := cpuTime(b)
			for b.Loop() {
				b.StopTimer()
				leaves := randomBlock(rng, benchBlock)
				b.StartTimer()
				mustAppend(b, tr, tr.Height()+1, leaves)
			}
			_, bytes, _ := tr.pages.usage()
			b.ReportMetric(float64(cpuTime(b)-before)/float64(b.N)/benchBlock, "cpu-ns/msg")
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/benchBlock, "ns/msg")
			b.ReportMetric(float64(bytes)/float64(max(tr.leaves, 1)), "cacheB/leaf")
			b.ReportMetric(float64(tr.leaves)/float64(len(tr.pages.entries)), "leaves/page")
		})
	}
}

func BenchmarkProve(b *testing.B) {
	tr := filled(b, 1_000_000)
	rng := rand.NewChaCha8([32]byte{2})
	for range 1000 {
		mustAppend(b, tr, tr.Height()+1, randomBlock(rng, benchBlock))
	}
	for _, back := range []uint64{0, 1, 100, 1000} {
		b.Run(fmt.Sprintf("heights-ago=%d", back), func(b *testing.B) {
			for b.Loop() {
				if _, err := tr.Prove(ctx, tr.Height()-back, [32]byte{byte(rng.Uint64()), byte(rng.Uint64())}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkVerify(b *testing.B) {
	tr := filled(b, 100_000)
	key := Key(message(1))
	root := mustAppend(b, tr, tr.Height()+1, block(1, 1))
	p, err := tr.Prove(ctx, tr.Height(), key)
	if err != nil {
		b.Fatal(err)
	}
	p.Leaf.Data = message(1)
	for b.Loop() {
		if present, err := Verify(root, key, p); err != nil || !present {
			b.Fatal(present, err)
		}
	}
}

func BenchmarkLookup(b *testing.B) {
	tr := filled(b, 1_000_000)
	for name, seed := range map[string]byte{"hit": 1, "miss": 2} {
		b.Run(name, func(b *testing.B) {
			keys := randomBlock(rand.NewChaCha8([32]byte{seed}), 5000)
			for i := 0; b.Loop(); i++ {
				_, _, ok, err := tr.Lookup(keys[i%len(keys)].Key)
				if err != nil || ok != (name == "hit") {
					b.Fatal(ok, err)
				}
			}
		})
	}
}

func BenchmarkLeafHash(b *testing.B) {
	data := make([]byte, 100)
	for b.Loop() {
		LeafHash(Key(data), data)
	}
}
