package simulation

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/internal/mutation"
)

// explain fails a test with what is needed to see the run again.
func explain(t *testing.T, seed uint64, o Options, err error) {
	t.Helper()
	t.Fatalf("seed %d of %+v: %v\n%s", seed, o, err, Explain(seed, o, 120))
}

// TestPromisesHold runs the coalition against sets within their tolerance: no fork, no rule broken, heights that go on.
func TestPromisesHold(t *testing.T) {
	seeds := uint64(200)
	if testing.Short() {
		seeds = 20
	}
	for _, c := range Promises() {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			var sum Summary
			for seed := range seeds {
				r := Run(seed, c.Options)
				if r.Violation != nil {
					explain(t, seed, c.Options, r.Violation)
				}
				sum.Add(r)
			}
			if sum.Heights < int(seeds)/2 {
				t.Errorf("%d heights in %d seeds: nothing happens", sum.Heights, seeds)
			}
			t.Log(sum)
		})
	}
}

// TestControlsAreSeen takes one rule away at a time, or exceeds the tolerance: what the rule prevents must be seen within the seeds that
// the table gives, or the simulator is blind.
func TestControlsAreSeen(t *testing.T) {
	for _, c := range Controls() {
		if testing.Short() && c.Seeds > 1000 {
			t.Logf("%s: not looked for in the short form, it may take %d seeds", c.Name, c.Seeds)
			continue
		}
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			r, ok := c.Found()
			if !ok {
				t.Fatalf("%v is not seen in %d seeds", c.Want, c.Seeds)
			}
			t.Logf("seed %d: %v", r.Seed, r.Violation)
		})
	}
}

// TestReadersOfStrengthAgree: readers who insist on finalizations of s votes never see different blocks at a height while b < s+t-n, also
// where those who are content with t are shown forks. A fork that only just breaks that bound must be seen, or the figure means nothing.
func TestReadersOfStrengthAgree(t *testing.T) {
	seeds := uint64(300)
	if testing.Short() {
		seeds = 60
	}
	for _, o := range []Options{
		{N: 4, T: 3, Byzantine: 2}, {N: 5, T: 3, Byzantine: 1}, {N: 5, T: 3, Byzantine: 2}, {N: 7, T: 5, Byzantine: 3}, {N: 7, T: 4, Byzantine: 1},
	} {
		t.Run(fmt.Sprintf("n=%d t=%d b=%d", o.N, o.T, o.Byzantine), func(t *testing.T) {
			t.Parallel()
			o.Graded = true
			agree, worst := o.Byzantine+o.N-o.T+1, 0
			for seed := range seeds {
				r := Run(seed, o)
				if r.Violation != nil && !errors.Is(r.Violation, ErrFork) {
					explain(t, seed, o, r.Violation)
				}
				if r.Disagreement >= agree {
					explain(t, seed, o, fmt.Errorf("readers at strength %d see different blocks, promised is %d", r.Disagreement, agree))
				}
				worst = max(worst, r.Disagreement)
			}
			if worst < o.T {
				t.Errorf("no fork in %d seeds: nothing is tested", seeds)
			}
			t.Logf("readers at strength %d agree; others were shown forks up to strength %d", agree, worst)
		})
	}
}

// TestForkConvicts: every fork that fewer than t Byzantine validators bring about convicts at least 2t-n of them and no one else, by votes
// with real signatures; ErrUnpunished and ErrInnocent are violations of their own.
func TestForkConvicts(t *testing.T) {
	forks := 0
	for _, o := range []Options{{N: 4, T: 3, Byzantine: 2}, {N: 5, T: 3, Byzantine: 1}, {N: 5, T: 4, Byzantine: 3}, {N: 7, T: 5, Byzantine: 3}} {
		for seed := range uint64(400) {
			r := Run(seed, o)
			if r.Fork == 0 {
				continue
			}
			o := o
			o.Keys = true
			if r = Run(seed, o); !errors.Is(r.Violation, ErrFork) || errors.Is(r.Violation, ErrUnpunished) || errors.Is(r.Violation, ErrInnocent) {
				explain(t, seed, o, r.Violation)
			}
			set, _ := validators(o.N, o.T, true)
			var guilty []chain.PublicKey
			for _, e := range r.Evidence {
				if err := e.Verify(chainID, set); err != nil {
					t.Fatalf("n=%d, seed %d: %v", o.N, seed, err)
				}
				if !slices.Contains(guilty, e.PublicKey) {
					guilty = append(guilty, e.PublicKey)
				}
			}
			if len(guilty) < 2*o.T-o.N {
				t.Fatalf("n=%d, seed %d: evidence against %d validators, want %d", o.N, seed, len(guilty), 2*o.T-o.N)
			}
			if forks++; forks%10 == 0 {
				break
			}
		}
	}
	if forks < 20 {
		t.Fatalf("only %d forks to judge", forks)
	}
	t.Logf("%d forks", forks)
}

// A seed is a run: the same transcript, byte for byte; with tracing or without, the same result.
func TestSeedReplays(t *testing.T) {
	o := Options{N: 5, T: 4, Byzantine: 2, Trace: true}
	for seed := range uint64(20) {
		a, b := Run(seed, o), Run(seed, o)
		if a.Transcript != b.Transcript || len(a.Transcript) < 1000 {
			t.Fatalf("seed %d: two transcripts, of %d and %d bytes", seed, len(a.Transcript), len(b.Transcript))
		}
		quiet := o
		quiet.Trace = false
		if c := Run(seed, quiet); c.Events != a.Events || c.Heights != a.Heights || c.Virtual != a.Virtual {
			t.Fatalf("seed %d: traced %d events, %d heights, untraced %d and %d", seed, a.Events, a.Heights, c.Events, c.Heights)
		}
	}
}

// The example of consensus.md: without the certificates by which rounds were left on the disk, a height can never be decided
// again once all have been killed and one stays dead. With them it always is.
func TestCertificateByWhichARoundWasLeftOutlivesAll(t *testing.T) {
	control := Options{N: 4, T: 3, Dead: 1, Mutation: mutation.Rules{ForgetCertificates: true}}
	for seed := range uint64(3000) {
		if r := Run(seed, control); !errors.Is(r.Violation, ErrStalled) {
			continue
		}
		whole := control
		whole.Mutation = mutation.Rules{}
		if r := Run(seed, whole); r.Violation != nil {
			explain(t, seed, whole, r.Violation)
		}
		t.Logf("seed %d stalls without the certificates, and goes on with them", seed)
		return
	}
	t.Fatal("forgetting certificates is not seen to stall")
}

func BenchmarkRun(b *testing.B) {
	for _, o := range []Options{{N: 4, T: 3, Byzantine: 1}, {N: 7, T: 5, Byzantine: 2}, {N: 5, T: 3, Byzantine: 2, Delta: delta}} {
		b.Run(fmt.Sprintf("n=%d/b=%d", o.N, o.Byzantine), func(b *testing.B) {
			for i := range b.N {
				Run(uint64(i), o)
			}
			b.ReportMetric(60*float64(b.N)/b.Elapsed().Seconds(), "runs/min")
		})
	}
}
