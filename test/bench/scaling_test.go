package bench

import (
	"flag"
	"fmt"
	"testing"
	"time"

	"github.com/diseq/diseq/hack/bench/record"
	"github.com/diseq/diseq/test/system"
)

var (
	mostFor    = flag.Duration("most", time.Minute, "how long the most that a network takes is measured")
	scalingFor = flag.Duration("scaling", 10*time.Second, "how long each load of the scaling tables lasts")
)

// BenchmarkMost is what four validators take when messages are submitted as fast as they are
// answered, and the latency at 80 % of that. Requests of each size have a network of their own.
func BenchmarkMost(b *testing.B) {
	n := system.Start(b, system.Options{})
	progress("messages of 250 bytes in requests of 1,000, as fast as they are answered, for %v", *mostFor)
	u := measure(b, n, flood(1000, *mostFor)...)
	_, peak := memory(n)
	const eighty = 0.8
	progress("80 %% of that, for %v", *mostFor/2)
	e := measure(b, n, "--rate", fmt.Sprintf("%.0f", eighty*u.FinalPerSecond), "--batch", "1000", "--duration", (*mostFor / 2).String())
	n.Stop()
	t := record.Table{Name: "most", Columns: costColumns("load")}
	addCost(&t, "requests of 1,000, as fast as answered", u)
	addCost(&t, "80 % of that", e)
	reach(b, "most-1000", *mostFor >= time.Minute, u.FinalPerSecond >= 50_000, "%s for %v", record.Number(u.FinalPerSecond), *mostFor)
	goal(b, "cpu", u.all() <= 35, "%.1f us, and %.1f us of the load generator", u.all(), u.client)
	goal(b, "disk", u.disk <= 600, "%s", record.Number(u.disk))
	reach(b, "memory-load", *mostFor >= time.Minute, peak*mib <= 400e6, "%.0f MB", megabytes(peak))
	goal(b, "eighty-p99", e.Latency.P99 <= 150, "%.0f ms at %s/s", e.Latency.P99, record.Number(e.FinalPerSecond))
	for _, l := range []struct {
		size   int
		goal   string
		wanted float64
	}{{100, "most-100", 35_000}, {1, "most-1", 3000}} {
		progress("the same in requests of %d, for %v", l.size, *mostFor)
		n := system.Start(b, system.Options{})
		u := measure(b, n, floodOf(l.size, *mostFor)...)
		n.Stop()
		addCost(&t, fmt.Sprintf("requests of %d, as fast as answered", l.size), u)
		reach(b, l.goal, *mostFor >= time.Minute, u.FinalPerSecond >= l.wanted, "%s for %v", record.Number(u.FinalPerSecond), *mostFor)
		b.ReportMetric(u.FinalPerSecond, fmt.Sprintf("final/s-by-%d", l.size))
	}
	keep(b, &t)
	b.ReportMetric(u.FinalPerSecond, "final/s")
	b.ReportMetric(1e3*u.all(), "cpu-ns/message")
	b.ReportMetric(u.disk, "disk-B/message")
	b.ReportMetric(u.wire, "wire-B/message")
	b.ReportMetric(e.Latency.P99, "p99-ms-at-80%")
}

// floodOf is the load of as many messages as are answered. A small request waits for the disks of
// others, and more of them share that wait.
func floodOf(size int, d time.Duration) []string {
	connections := 4
	if size <= 10 {
		connections = 32
	}
	return flood(size, d, "--connections", fmt.Sprint(connections))
}

// costColumns are those of a table of loads.
func costColumns(first string) []string {
	return []string{
		first, "final/s", "us a message, all nodes", "a node", "load generator", "disk bytes a message, a node", "wire bytes a message", "p50 ms",
		"p99 ms", "refused", "taken by others",
	}
}

func addCost(t *record.Table, name string, u usage) {
	t.Add(name, u.FinalPerSecond, u.all(), u.all()/float64(len(u.nodes)), u.client, u.disk, u.wire, u.Latency.P50, u.Latency.P99,
		fmt.Sprintf("%.1f %%", 100*float64(u.Refused+u.Failed)/float64(max(1, u.Sent))), fmt.Sprintf("%.0f %%", u.Others))
}

// BenchmarkRequests is what a message costs by the size of requests. Here and below, each load has
// a network of its own, so that none has another one's history.
func BenchmarkRequests(b *testing.B) {
	t := record.Table{Name: "scaling-requests", Columns: costColumns("messages a request")}
	for _, size := range []int{1, 10, 100, 1000} {
		progress("requests of %d, as fast as they are answered, for %v", size, *scalingFor)
		n := system.Start(b, system.Options{})
		u := measure(b, n, floodOf(size, *scalingFor)...)
		n.Stop()
		addCost(&t, record.Number(float64(size)), u)
		b.ReportMetric(u.FinalPerSecond, fmt.Sprintf("final/s-by-%d", size))
	}
	keep(b, &t)
}

// BenchmarkSizes is what a message costs by its own size.
func BenchmarkSizes(b *testing.B) {
	t := record.Table{Name: "scaling-sizes", Columns: costColumns("bytes a message")}
	for _, size := range []int{32, 250, 4 << 10, 64 << 10} {
		batch := min(100, (4<<20)/size)
		progress("messages of %d bytes in requests of %d, as fast as they are answered, for %v", size, batch, *scalingFor)
		n := system.Start(b, system.Options{})
		u := measure(b, n, flood(batch, *scalingFor, "--size", fmt.Sprint(size))...)
		n.Stop()
		addCost(&t, record.Number(float64(size)), u)
	}
	keep(b, &t)
}

// BenchmarkValidators is what a message costs by the number of validators.
func BenchmarkValidators(b *testing.B) {
	t := record.Table{Name: "scaling-validators", Columns: costColumns("validators")}
	for _, v := range networks() {
		progress("%d validators, requests of 100, as fast as they are answered, for %v", v.n, *scalingFor)
		n := system.Start(b, system.Options{Validators: v.n, Threshold: v.t})
		u := measure(b, n, flood(100, *scalingFor)...)
		n.Stop()
		addCost(&t, fmt.Sprintf("%d, of which %d sign", v.n, v.t), u)
		b.ReportMetric(1e3*u.all()/float64(v.n), fmt.Sprintf("cpu-ns/node-of-%d", v.n))
		if v.n == 16 {
			node := u.all() / float64(v.n)
			goal(b, "sixteen-cpu", node <= 45, "%.0f us", node)
			goal(b, "sixteen-wire", u.wire <= 6000, "%s", record.Number(u.wire))
		}
	}
	keep(b, &t)
}

// networks are those that are measured by their number of validators, t of which must sign.
func networks() (out []struct{ n, t int }) {
	for _, v := range []struct{ n, t int }{{4, 3}, {7, 5}, {16, 11}} {
		if v.n <= *largest {
			out = append(out, v)
		}
	}
	return out
}
