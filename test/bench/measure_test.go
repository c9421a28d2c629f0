package bench

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/diseq/diseq/hack/bench/record"
	"github.com/diseq/diseq/test/system"
)

// records is the directory that figures are kept in until `make bench-tables` writes them into
// docs/performance.md; empty if they are only printed.
var records = os.Getenv("BENCH_RECORDS")

// goals are the lines of the second table at the end: figures that are wanted on a quiet machine
// with two cores.
var goals = &record.Table{Columns: []string{"goal", "wanted", "measured", ""}}

// goal sets a figure against one that is wanted.
func goal(b *testing.B, id string, met bool, format string, args ...any) {
	b.Helper()
	reach(b, id, true, met, format, args...)
}

// reach sets a figure against one that is wanted. The measurement is whole if the load, or the
// history, was as long as the goal says.
func reach(b *testing.B, id string, whole, met bool, format string, args ...any) {
	b.Helper()
	g, ok := record.Known(id)
	if !ok {
		b.Fatalf("there is no goal %q", id)
	}
	figure, verdict := fmt.Sprintf(format, args...), ""
	switch {
	case !whole:
		verdict = "not the whole measurement"
	case !met:
		verdict = "missed"
	}
	goals.Add(g.Measure, g.Wanted, figure, verdict)
	progress("goal: %s: %s (wanted: %s)", g.Measure, figure, g.Wanted)
	if records == "" {
		return
	}
	if err := (&record.Measured{Goal: id, Figure: figure, Met: met && whole, Partial: !whole, Origin: origin(b)}).Write(records); err != nil {
		b.Fatal(err)
	}
}

// keep prints a table, and keeps it.
func keep(b *testing.B, t *record.Table) {
	b.Helper()
	t.Origin = origin(b)
	tables = append(tables, t)
	fmt.Fprintln(os.Stderr)
	if err := t.Print(os.Stderr); err != nil {
		b.Fatal(err)
	}
	if records == "" {
		return
	}
	if err := t.Write(records); err != nil {
		b.Fatal(err)
	}
}

var tables []*record.Table

// origin says how the running benchmark is run again.
func origin(b *testing.B) record.Origin {
	command := os.Getenv("BENCH_COMMAND")
	if command == "" {
		command = "SYSTEM_BENCH='" + strings.TrimPrefix(b.Name(), "Benchmark") + "$' hack/bench.sh system"
		flag.Visit(func(f *flag.Flag) {
			if !strings.HasPrefix(f.Name, "test.") && f.Name != "history" { // a path of this machine
				command += fmt.Sprintf(" -%s %v", f.Name, f.Value)
			}
		})
	}
	commit, err := exec.Command("git", "-c", "safe.directory=*", "describe", "--always", "--dirty", "--exclude", "*").Output()
	if err != nil {
		commit = []byte("unknown")
	}
	return record.Origin{
		Command: command, When: time.Now(), Machine: machine(), Commit: strings.TrimSpace(string(commit)), Busy: others.share(),
	}
}

func machine() string {
	model := "processors"
	cpuinfo, _ := os.ReadFile("/proc/cpuinfo") // empty where there is none
	for line := range strings.Lines(string(cpuinfo)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			model = strings.TrimSpace(value)
			break
		}
	}
	return fmt.Sprintf("%d x %s, %s", runtime.NumCPU(), model, runtime.Version())
}

// others is the share of the processors that other programs took during the loads of the running
// benchmark.
var others average

type average struct {
	of    string // the benchmark
	sum   float64
	count int
}

func (a *average) add(of string, percent float64) {
	if a.of != of {
		*a = average{of: of}
	}
	a.sum, a.count = a.sum+percent/100, a.count+1
}

func (a *average) share() float64 {
	if a.count == 0 {
		return -1
	}
	return a.sum / float64(a.count)
}

// usage is what the messages of a load cost.
type usage struct {
	result
	// nodes is microseconds of processor time a message, of each node; client that of the load
	// generator.
	nodes  []float64
	client float64
	// disk is bytes written a message, a node, and wire the bytes on the loopback device a message,
	// those of the load generator and of other programs included.
	disk, wire float64
}

// all is the processor time a message of all nodes.
func (u usage) all() float64 {
	sum := 0.0
	for _, us := range u.nodes {
		sum += us
	}
	return sum
}

// measure runs a load and returns what it cost, the state that trails behind it included.
func measure(b *testing.B, n *system.Network, args ...string) usage {
	b.Helper()
	cpuBefore, diskBefore, wireBefore := cpu(n), written(n), loopback(b)
	u := usage{result: load(b, n, args...)}
	awaitState(b, n)
	messages := float64(max(1, u.Final))
	for i, after := range cpu(n) {
		u.nodes = append(u.nodes, float64((after-cpuBefore[i]).Microseconds())/messages)
	}
	u.client = float64(u.Client.Microseconds()) / messages
	u.disk = float64(written(n)-diskBefore) / messages / float64(len(n.Nodes))
	u.wire = float64(loopback(b)-wireBefore) / messages
	return u
}

// awaitState waits until all nodes have computed the state of what is final now.
func awaitState(b *testing.B, n *system.Network) {
	b.Helper()
	tip := uint64(0)
	system.Eventually(b, 5*time.Minute, "the state has followed", func() error {
		for _, node := range n.Running() {
			s, err := node.Status()
			if err != nil {
				return err
			}
			if tip == 0 {
				tip = s.Height
			}
			if s.StateHeight < tip {
				return fmt.Errorf("%s has the state of height %d of %d", node.Name, s.StateHeight, tip)
			}
		}
		return nil
	})
}

// written returns the bytes that all nodes have written to the disk.
func written(n *system.Network) (sum int64) {
	for _, node := range n.Nodes {
		if node.Running() {
			sum += node.Written()
		}
	}
	return sum
}

// loopback returns the bytes that the loopback device has carried.
func loopback(b *testing.B) int64 {
	b.Helper()
	devices, err := os.ReadFile("/proc/net/dev")
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(devices)) {
		if name, counts, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "lo" {
			var received int64
			if _, err := fmt.Sscan(counts, &received); err != nil {
				b.Fatalf("/proc/net/dev: %v in %q", err, line)
			}
			return received
		}
	}
	b.Fatal("/proc/net/dev has no device lo")
	return 0
}

// p99 is of times that it sorts.
func p99(times []time.Duration) time.Duration {
	slices.Sort(times)
	return times[len(times)*99/100]
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

var (
	floodRate = flag.Float64("flood-rate", 0, "messages a second where as many as are answered are meant; to try the benchmarks themselves")
	largest   = flag.Int("largest", 16, "the most validators that a network has")
)

// flood is the load of as many messages as are answered, in requests of a size.
func flood(batch int, d time.Duration, more ...string) []string {
	return append([]string{"--rate", fmt.Sprint(*floodRate), "--batch", fmt.Sprint(batch), "--duration", d.String()}, more...)
}
