package bench

import (
	"flag"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/diseq/diseq/hack/bench/record"
	"github.com/diseq/diseq/test/system"
)

var overloadFor = flag.Duration("overload", time.Minute, "how long twice the most is offered")

// BenchmarkOverload offers networks twice of what they take. Throughput is to stay, and what was
// accepted is to be final soon after.
func BenchmarkOverload(b *testing.B) {
	t := record.Table{Name: "overload", Columns: []string{
		"validators", "the most, final/s", "offered/s", "final/s", "share of the most", "refused", "us a message, a node, at the most", "and overloaded",
		"wire bytes a message, at the most", "and overloaded", "s until all accepted was final", "p99 ms of single messages after", "taken by others",
	}}
	var slowest float64
	for _, v := range networks() {
		n := system.Start(b, system.Options{Validators: v.n, Threshold: v.t})
		progress("%d validators: the most in requests of 100, for %v", v.n, *scalingFor)
		most := measure(b, n, flood(100, *scalingFor)...)
		offered := 2 * most.FinalPerSecond
		// A connection whose request was refused waits for as long as the node says, a second as a
		// rule. So many keep up the load all the same.
		connections := min(max(8, int(math.Ceil(1.5*offered/100/float64(v.n)))), 200)
		progress("%d validators: %.0f/s are offered over %d connections to each, for %v", v.n, offered, connections, *overloadFor)
		over := measure(b, n, "--rate", fmt.Sprintf("%.0f", offered), "--batch", "100", "--duration", overloadFor.String(),
			"--connections", fmt.Sprint(connections), "--drain", "2m")
		drained := max(0, float64(over.Final)/max(1, over.FinalPerSecond)-over.Seconds)
		after := load(b, n, "--rate", "100", "--batch", "1", "--duration", "5s")
		n.Stop()
		share := over.FinalPerSecond / max(1, most.FinalPerSecond)
		slowest = max(slowest, drained)
		t.Add(v.n, most.FinalPerSecond, float64(over.Sent)/over.Seconds, over.FinalPerSecond, share,
			fmt.Sprintf("%.0f %%", 100*float64(over.Refused)/float64(max(1, over.Sent))), most.all()/float64(v.n), over.all()/float64(v.n),
			most.wire, over.wire, drained, after.Latency.P99, fmt.Sprintf("%.0f %%", over.Others))
		reach(b, fmt.Sprintf("overload-%d", v.n), *overloadFor >= time.Minute, share >= 0.95, "%.2f: %s/s of %s/s", share, record.Number(over.FinalPerSecond),
			record.Number(most.FinalPerSecond))
		b.ReportMetric(share, fmt.Sprintf("x-most-of-%d", v.n))
	}
	keep(b, &t)
	reach(b, "recovery", *overloadFor >= time.Minute && *largest >= 16, slowest <= 5, "%.1f s", slowest)
}
