// Package bench measures the speed of a whole network of processes: what `make bench` runs after
// the Go benchmarks.
//
// Each claim is measured, printed and set against what is wanted; nothing fails for being slow,
// because machines differ, but a lost message fails. Everything runs on this machine, the load
// included, which takes its share of the processors.
//
// Beside the claims there are goals, which docs/performance.md lists, and tables of what a message
// costs. They are kept as records for that document.
package bench

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/diseq/diseq/test/system"
)

var (
	sustainedFor = flag.Duration("sustained", time.Minute, "how long the full load lasts")
	singleFor    = flag.Duration("single", 30*time.Second, "how long the load of single messages lasts")
	idleFor      = flag.Duration("idle", 20*time.Second, "how long idleness is watched")
	accessFor    = flag.Duration("access", 10*time.Second, "how long each turn of load on open and closed networks lasts")
	deadFor      = flag.Duration("dead", 15*time.Second, "how long the killed validator stays dead")
)

// row is a line of the report.
type row struct {
	claim, wanted, measured string
	held                    bool
}

var report []row

// claim adds a line to the report.
func claim(name, wanted string, held bool, format string, args ...any) {
	r := row{name, wanted, fmt.Sprintf(format, args...), held}
	report = append(report, r)
	progress("%s: %s (wanted: %s)", name, r.measured, wanted)
}

func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%s  %s\n", time.Now().Format(time.TimeOnly), fmt.Sprintf(format, args...))
}

func TestMain(m *testing.M) {
	flag.Parse()
	code := system.Main(m)
	if len(report) > 0 {
		load, _ := os.ReadFile("/proc/loadavg") // empty where there is none
		fmt.Printf("\n%d processors, load average at the end %s\n", runtime.NumCPU(), strings.TrimSpace(string(load)))
		table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(table, "claim\twanted\tmeasured\t")
		for _, r := range report {
			verdict := "ok"
			if !r.held {
				verdict = "MISSED"
			}
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", r.claim, r.wanted, r.measured, verdict)
		}
		_ = table.Flush() // to the terminal
	}
	for _, t := range tables {
		fmt.Printf("\n%s: %s\n", t.Name, t.Origin)
		_ = t.Print(os.Stdout) // to the terminal
	}
	if len(goals.Rows) > 0 {
		fmt.Println()
		_ = goals.Print(os.Stdout) // to the terminal
	}
	os.Exit(code)
}

// result is what diseq bench says, and what share of the processors was taken by programs that have
// no part in it: what was measured next to another program says little.
type result struct {
	Accepted       int
	Refused        int
	Failed         int
	Final          int
	FinalPerSecond float64                    `json:"final_per_second"`
	Latency        struct{ P50, P99 float64 } `json:"latency_ms"`
	Lost           int
	Others         float64 `json:"-"`
	// Sent counts all messages of all requests, Seconds is how long they were sent.
	Sent    int
	Seconds float64 `json:"duration_seconds"`
	// Client is the processor time of the load generator.
	Client time.Duration `json:"-"`
}

// load runs diseq bench against all nodes that run.
func load(b *testing.B, n *system.Network, args ...string) result {
	b.Helper()
	return loadAt(b, n, n.Running(), args...)
}

// loadAt runs diseq bench against some nodes of a network.
func loadAt(b *testing.B, n *system.Network, nodes []*system.Node, args ...string) (result result) {
	b.Helper()
	var urls []string
	for _, node := range nodes {
		urls = append(urls, node.URL)
	}
	command := exec.Command(system.Binary, append([]string{"bench", "--json", "-u", strings.Join(urls, ",")}, args...)...)
	command.Stderr = os.Stderr
	busyBefore, ownBefore, began := busy(b), cpu(n), time.Now()
	out, err := command.Output()
	if err != nil {
		b.Fatalf("diseq bench: %v\n%s", err, out)
	}
	if err := json.Unmarshal(out, &result); err != nil {
		b.Fatalf("diseq bench: %v in %s", err, out)
	}
	if result.Lost > 0 {
		b.Fatalf("%d messages were accepted and never final", result.Lost)
	}
	result.Client = command.ProcessState.UserTime() + command.ProcessState.SystemTime()
	rest := busy(b) - busyBefore - result.Client
	for i, used := range cpu(n) {
		rest -= used - ownBefore[i]
	}
	result.Others = 100 * max(0, rest.Seconds()) / (time.Since(began).Seconds() * float64(runtime.NumCPU()))
	others.add(b.Name(), result.Others)
	return result
}

// busy returns for how long all processors together have been working since the machine started:
// the first line of /proc/stat but for its columns 4 and 5, idle and waiting for disks, and from 9
// on, which are counted before.
func busy(b *testing.B) time.Duration {
	b.Helper()
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		b.Fatal(err)
	}
	var c [8]int64
	if _, err := fmt.Sscanf(string(stat), "cpu %d %d %d %d %d %d %d %d", &c[0], &c[1], &c[2], &c[3], &c[4], &c[5], &c[6], &c[7]); err != nil {
		b.Fatalf("/proc/stat: %v", err)
	}
	const userHZ = 10 * time.Millisecond
	return time.Duration(c[0]+c[1]+c[2]+c[5]+c[6]+c[7]) * userHZ
}

// reveals returns the VRF commitments made and missed so far, of all validators.
func reveals(b *testing.B, n *system.Network) (made, missed int) {
	b.Helper()
	var v struct {
		Validators []struct {
			Made   int `json:"reveals_made"`
			Missed int `json:"reveals_missed"`
		}
	}
	if err := n.Nodes[0].Get("/v1/validators", &v); err != nil {
		b.Fatal(err)
	}
	for _, v := range v.Validators {
		made, missed = made+v.Made, missed+v.Missed
	}
	return made, missed
}

// cpu returns the processor time that each node has used, none for one that does not run.
func cpu(n *system.Network) []time.Duration {
	out := make([]time.Duration, len(n.Nodes))
	for i, node := range n.Nodes {
		if node.Running() {
			out[i] = node.CPU()
		}
	}
	return out
}

const mib = 1 << 20

// memory returns the most that any node has now, and ever had, in MiB.
func memory(n *system.Network) (now, peak int64) {
	for _, node := range n.Nodes {
		a, b := node.Resident()
		now, peak = max(now, a/mib), max(peak, b/mib)
	}
	return now, peak
}

// megabytes are of mebibytes.
func megabytes(m int64) float64 { return float64(m) * mib / 1e6 }

func BenchmarkStart(b *testing.B) {
	progress("starting four validators")
	n := system.Start(b, system.Options{})
	claim("network, from start to ready", "under 1 min", n.StartTime < time.Minute, "%.2f s", n.StartTime.Seconds())
	load(b, n, "--rate", "2000", "--duration", "5s")
	var slowest time.Duration
	for _, node := range n.Nodes {
		node.Kill()
		began := time.Now()
		node.Start()
		node.AwaitReady(time.Minute)
		slowest = max(slowest, time.Since(began))
	}
	claim("node, from start to /readyz", "under 2 s", slowest < 2*time.Second, "%.2f s at most, of %d", slowest.Seconds(), len(n.Nodes))
	b.ReportMetric(n.StartTime.Seconds(), "s/network")
	b.ReportMetric(slowest.Seconds(), "s/node")
}

func BenchmarkIdle(b *testing.B) {
	n := system.Start(b, system.Options{})
	load(b, n, "--rate", "100", "--batch", "1", "--duration", "2s")
	h := n.Watch()
	n.Audit(h) // until nothing is pending
	h.AwaitQuiet(b, time.Minute, time.Second)
	idle := watchTip(b, n)
	progress("watching an idle network for %v", *idleFor)
	before, tip, began := cpu(n), idle(), time.Now()
	<-time.After(*idleFor)
	elapsed, after := time.Since(began), cpu(n)
	most := 0.0
	for i := range after {
		most = max(most, 100*(after[i]-before[i]).Seconds()/elapsed.Seconds())
	}
	blocks := idle() - tip
	now, _ := memory(n)
	claim("idle: blocks made", "none", blocks == 0, "%d in %.0f s", blocks, elapsed.Seconds())
	claim("idle: processor, each node", "under 2 % of a core", most < 2, "%.1f %% at most", most)
	claim("idle: memory, each node", "under 150 MB", now*mib < 150e6, "%d MiB at most", now)
	goal(b, "memory-idle", now*mib <= 60e6, "%.0f MB", megabytes(now))
	b.ReportMetric(most, "%core/node")
	b.ReportMetric(float64(now), "MiB/node")
}

// watchTip returns a function that asks the first node for its height.
func watchTip(b *testing.B, n *system.Network) func() uint64 {
	return func() uint64 {
		s, err := n.Nodes[0].Status()
		if err != nil {
			b.Fatal(err)
		}
		return s.Height
	}
}

func BenchmarkSustained(b *testing.B) {
	n := system.Start(b, system.Options{})
	progress("10,000 messages a second of 250 bytes in requests of 100, for %v", *sustainedFor)
	made, missed := reveals(b, n)
	before := cpu(n)
	r := load(b, n, "--rate", "10000", "--batch", "100", "--size", "250", "--duration", sustainedFor.String())
	after := cpu(n)
	madeThen, missedThen := reveals(b, n)
	made, missed = madeThen-made, missedThen-missed
	_, peak := memory(n)
	var spent time.Duration
	for i := range after {
		spent += after[i] - before[i]
	}
	claim("full load: final", "10,000/s for 60 s", r.FinalPerSecond >= 9900 && r.Refused+r.Failed == 0,
		"%.0f/s for %v; %d refused, %d not answered", r.FinalPerSecond, *sustainedFor, r.Refused, r.Failed)
	claim("full load: lost", "nothing", r.Lost == 0, "%d of %d", r.Lost, r.Accepted)
	share := 100 * float64(missed) / float64(max(1, made+missed))
	claim("full load: VRF commitments missed", "under 5 %", share < 5 && made > 0, "%.1f %%: %d of %d", share, missed, made+missed)
	claim("full load: memory, each node", "under 400 MB", peak*mib < 400e6, "%d MiB at most", peak)
	claim("full load: submit to final", "-", true, "p50 %.0f ms, p99 %.0f ms", r.Latency.P50, r.Latency.P99)
	claim("full load: processor, four nodes", "-", true, "%.0f us/message", spent.Seconds()*1e6/float64(max(1, r.Final)))
	claim("full load: taken by other programs", "-", true, "%.0f %% of the processors", r.Others)
	b.ReportMetric(r.FinalPerSecond, "final/s")
	b.ReportMetric(r.Latency.P50, "p50-ms")
	b.ReportMetric(r.Latency.P99, "p99-ms")
	b.ReportMetric(float64(peak), "MiB/node")
	b.ReportMetric(spent.Seconds()*1e9/float64(max(1, r.Final)), "cpu-ns/message")
}

// BenchmarkAccess is what a closed port costs: TLS, tokens, limits and audit lines. An open network
// and a closed one get the same load in turns, so that other programs disturb both.
func BenchmarkAccess(b *testing.B) {
	open, closed := system.Start(b, system.Options{}), system.Start(b, system.Options{})
	files := closed.CloseTo(`{"audit":{"file":"audit.log"},"clients":[{"name":"load","token":{"file":"load"},"allow":["Submit","Read","Observe"],
	  "limits":{"messagesPerSecond":1000000,"bytesPerSecond":"1Gi","bytesPerDay":"1000Gi"}}]}`, "load")
	proof := []string{"--ca-file", files.Path("ca.crt"), "--token-file", files.Path("load")}
	progress("10,000 messages a second in requests of 100, to an open network and to a closed one, in %d turns of %v", accessTurns, *accessFor)
	perMessage := func(n *system.Network, args ...string) float64 {
		before := cpu(n)
		r := load(b, n, append([]string{"--rate", "10000", "--batch", "100", "--size", "250", "--duration", accessFor.String()}, args...)...)
		spent := time.Duration(0)
		for i, after := range cpu(n) {
			spent += after - before[i]
		}
		return spent.Seconds() * 1e6 / float64(max(1, r.Final))
	}
	var plain, guarded []float64
	for range accessTurns {
		plain = append(plain, perMessage(open))
		guarded = append(guarded, perMessage(closed, proof...))
	}
	slices.Sort(plain)
	slices.Sort(guarded)
	cost := 100 * (guarded[accessTurns/2]/plain[accessTurns/2] - 1)
	claim("closed port: processor, four nodes", "under 3 % more", cost < 3, "%+.1f %%: %.1f us/message, open %.1f (medians of %d; open %.1f to %.1f)",
		cost, guarded[accessTurns/2], plain[accessTurns/2], accessTurns, plain[0], plain[accessTurns-1])
	b.ReportMetric(cost, "%cost")
}

// accessTurns is how often each network gets the load.
const accessTurns = 5

func BenchmarkSingle(b *testing.B) {
	n := system.Start(b, system.Options{})
	progress("100 messages a second, one a request, for %v", *singleFor)
	r := load(b, n, "--rate", "100", "--batch", "1", "--size", "250", "--duration", singleFor.String())
	claim("single messages: submit to final, p50", "under 30 ms", r.Latency.P50 < 30, "%.1f ms", r.Latency.P50)
	claim("single messages: submit to final, p99", "under 120 ms", r.Latency.P99 < 120, "%.1f ms", r.Latency.P99)
	claim("single messages: taken by other programs", "-", true, "%.0f %% of the processors", r.Others)
	goal(b, "single-p50", r.Latency.P50 <= 8, "%.1f ms", r.Latency.P50)
	goal(b, "single-p99", r.Latency.P99 <= 30, "%.1f ms", r.Latency.P99)
	b.ReportMetric(r.Latency.P50, "p50-ms")
	b.ReportMetric(r.Latency.P99, "p99-ms")
}

// rate is the load under which a validator is killed.
const rate = 2000

func BenchmarkKilled(b *testing.B) {
	n := system.Start(b, system.Options{})
	h := n.Watch()
	progress("%d messages a second; one validator is killed, and started again %v later", rate, *deadFor)
	ledger := system.Load{Nodes: n.Nodes, Rate: rate, Batch: 20, Size: 250}.Start(b)
	const warmUp = 5 * time.Second
	<-time.After(warmUp)
	victim := n.Nodes[3]
	victim.Kill()
	killed := time.Now()
	<-time.After(*deadFor)
	// Live is the rate at which the others make blocks while it catches up.
	start, tip := time.Now(), h.Highest()
	victim.Start()
	var first, reached uint64
	var from time.Time
	system.Eventually(b, 2*time.Minute, "it has caught up", func() error {
		s, err := victim.Status()
		if err != nil {
			return err
		}
		if from.IsZero() {
			from, first = time.Now(), s.Height
		}
		if reached = s.Height; reached+2 < h.Highest() {
			return fmt.Errorf("it is at height %d of %d", reached, h.Highest())
		}
		return nil
	})
	caughtUp, behind := time.Since(from).Seconds(), reached-first
	live := float64(h.Highest()-tip) / time.Since(start).Seconds()
	ledger.Stop()
	r := n.Audit(h, ledger)

	seconds := ledger.FinalPerSecond(r, h, killed, int(deadFor.Seconds()))
	back := slices.IndexFunc(seconds, func(final int) bool { return final >= rate*7/10 })
	claim("one of four killed: throughput", "70 % within 5 s", back >= 0 && back < 5, "%v messages final in each second after", seconds)
	latencies := ledger.Latencies(r, h, killed.Add(-time.Second), killed.Add(*deadFor))
	late := p99(latencies)
	claim("one of four killed: submit to final, p99", "under 1 s", late < time.Second, "%.0f ms, from 1 s before to %v after, %.0f ms at most",
		1000*late.Seconds(), *deadFor, 1000*latencies[len(latencies)-1].Seconds())
	speed := float64(behind) / max(caughtUp, 1e-3)
	claim("it comes back: catching up", "3 times the live rate", speed >= 3*live, "%.1f times: %d blocks at %.0f/s, %.1f/s live",
		speed/max(live, 1e-3), behind, speed, live)
	claim("it comes back: caught up after its start", "-", true, "%.1f s, dead for %v", time.Since(start).Seconds(), *deadFor)
	b.ReportMetric(1000*late.Seconds(), "p99-ms")
	b.ReportMetric(speed/max(live, 1e-3), "x-live")
}

func BenchmarkChanges(b *testing.B) {
	n := system.Start(b, system.Options{})
	h := n.Watch()
	progress("500 messages a second while the validators change from four to seven, and to three")
	ledger := system.Load{Nodes: n.Nodes[:3], Rate: 500, Batch: 5, Size: 250}.Start(b)
	began := time.Now()
	var took []string
	for _, args := range [][]string{{"add", "--count", "3"}, {"remove", "v3", "v4", "v5", "v6"}} {
		start := time.Now()
		ended := n.Reshape(args...)
		system.Eventually(b, 2*time.Minute, "the validators have changed", func() error {
			if !ended() {
				return fmt.Errorf("diseq devnet %v runs", args)
			}
			return nil
		})
		h.Watch(n.Refresh()...)
		took = append(took, fmt.Sprintf("%.1f s", time.Since(start).Seconds()))
	}
	ledger.Stop()
	r := n.Audit(h, ledger)
	latencies := ledger.Latencies(r, h, began, time.Now())
	late := p99(latencies)
	claim("validators change 4 -> 7 -> 3: submit to final, p99", "under 500 ms", late < 500*time.Millisecond,
		"%.0f ms, %.0f ms at most", 1000*late.Seconds(), 1000*latencies[len(latencies)-1].Seconds())
	claim("validators change 4 -> 7 -> 3: newcomers made to leavers stopped", "-", true, "%s", strings.Join(took, " and "))
	b.ReportMetric(1000*late.Seconds(), "p99-ms")
}
