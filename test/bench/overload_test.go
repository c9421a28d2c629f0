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
	for _, v := range networks() {
		b.Run(fmt.Sprint(v.n), func(b *testing.B) { overload(b, v.n, v.t) })
	}
}

func overload(b *testing.B, validators, threshold int) {
	n := system.Start(b, system.Options{Validators: validators, Threshold: threshold})
	progress("%d validators: the most in requests of 100, for %v", validators, *scalingFor)
	most := measure(b, n, flood(100, *scalingFor)...)
	offered := 2 * most.FinalPerSecond
	// A connection whose request was refused waits for as long as the node says, a second as a
	// rule. So many keep up the load all the same.
	connections := min(max(8, int(math.Ceil(1.5*offered/100/float64(validators)))), 200)
	progress("%d validators: %.0f/s are offered over %d connections to each, for %v", validators, offered, connections, *overloadFor)
	over := measure(b, n, "--rate", fmt.Sprintf("%.0f", offered), "--batch", "100", "--duration", overloadFor.String(),
		"--connections", fmt.Sprint(connections), "--drain", "2m")
	drained := max(0, float64(over.Final)/max(1, over.FinalPerSecond)-over.Seconds)
	after := load(b, n, "--rate", "100", "--batch", "1", "--duration", "5s")
	// The overload leaves a history behind. The most with that history tells its part from that of
	// the overload.
	progress("%d validators: the most again, for %v", validators, *scalingFor)
	again := measure(b, n, flood(100, *scalingFor)...)
	share := over.FinalPerSecond / max(1, most.FinalPerSecond)
	t := record.Table{Name: fmt.Sprintf("overload-%d", validators), Columns: []string{
		"validators", "the most, final/s", "offered/s", "final/s", "share of the most", "the most again, final/s", "refused",
		"us a message, a node, at the most", "overloaded", "at the most again",
		"wire bytes a message, at the most", "and overloaded", "s until all accepted was final", "p99 ms of single messages after", "taken by others",
	}}
	t.Add(validators, most.FinalPerSecond, float64(over.Sent)/over.Seconds, over.FinalPerSecond, share, again.FinalPerSecond,
		fmt.Sprintf("%.0f %%", 100*float64(over.Refused)/float64(max(1, over.Sent))),
		most.all()/float64(validators), over.all()/float64(validators), again.all()/float64(validators),
		most.wire, over.wire, drained, after.Latency.P99, fmt.Sprintf("%.0f %%", over.Others))
	keep(b, &t)
	whole := *overloadFor >= time.Minute
	reach(b, t.Name, whole, share >= 0.95, "%.2f: %s/s of %s/s", share, record.Number(over.FinalPerSecond), record.Number(most.FinalPerSecond))
	if validators == 4 {
		reach(b, "recovery", whole, drained <= 5, "%.1f s", drained)
	}
	b.ReportMetric(share, "x-most")
}
