package bench

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/diseq/diseq/hack/bench/record"
	"github.com/diseq/diseq/test/system"
)

var againstTurns = flag.Int("turns", 3, "how often each program of a comparison gets each load")

// BenchmarkAgainst compares two programs, that of DISEQ and that of BENCH_AGAINST, in turns: what
// disturbs one disturbs the other. `make bench-against` builds both.
func BenchmarkAgainst(b *testing.B) {
	base := os.Getenv("BENCH_AGAINST")
	if base == "" {
		b.Skip("BENCH_AGAINST names no program to compare with: run make bench-against BASE=COMMIT")
	}
	here := system.Binary
	defer func() { system.Binary = here }()
	measures := []string{
		"requests of 100: final/s", "us a message, all nodes", "disk bytes a message, a node", "wire bytes a message", "p50 ms", "p99 ms",
		"100/s single: us a message, all nodes", "p50 ms", "p99 ms",
	}
	figures := [2][][]float64{make([][]float64, len(measures)), make([][]float64, len(measures))}
	for turn := range *againstTurns {
		for side, binary := range []string{base, here} {
			progress("turn %d of %d: %s", turn+1, *againstTurns, binary)
			system.Binary = binary
			n := system.Start(b, system.Options{})
			u := measure(b, n, flood(100, *scalingFor)...)
			s := measure(b, n, "--rate", "100", "--batch", "1", "--duration", max(*scalingFor/2, time.Second).String())
			n.Stop()
			for i, f := range []float64{
				u.FinalPerSecond, u.all(), u.disk, u.wire, u.Latency.P50, u.Latency.P99, s.all(), s.Latency.P50, s.Latency.P99,
			} {
				figures[side][i] = append(figures[side][i], f)
			}
		}
	}
	t := record.Table{Name: "against", Columns: []string{"measure", "base", "from", "to", "here", "from", "to", "here/base"}}
	for i, name := range measures {
		cells := []any{name}
		var medians [2]float64
		for side := range figures {
			all := figures[side][i]
			slices.Sort(all)
			medians[side] = all[len(all)/2]
			cells = append(cells, medians[side], all[0], all[len(all)-1])
		}
		t.Add(append(cells, fmt.Sprintf("%.2f", medians[1]/medians[0]))...)
	}
	keep(b, &t)
	share := func(measure int) float64 {
		return figures[1][measure][*againstTurns/2] / figures[0][measure][*againstTurns/2]
	}
	p50, p99 := share(7), share(8)
	goal(b, "single-before", max(p50, p99) <= 1.0/3, "p50 %.2f, p99 %.2f", p50, p99)
	b.ReportMetric(figures[1][1][*againstTurns/2]/figures[0][1][*againstTurns/2], "cpu-ratio")
}
