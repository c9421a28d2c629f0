package bench

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/pprof/profile"

	"github.com/diseq/diseq/hack/bench/parts"
	"github.com/diseq/diseq/hack/bench/record"
	"github.com/diseq/diseq/hack/bench/trace"
	"github.com/diseq/diseq/test/system"
)

var (
	costRate    = flag.Int("cost-rate", 10_000, "messages a second while profiles are taken; 0 for as many as are answered")
	costBatch   = flag.Int("cost-batch", 1000, "messages a request while profiles are taken")
	profiledFor = flag.Duration("profiled", 15*time.Second, "how long profiles are taken")
	tracedFor   = flag.Duration("traced", 10*time.Second, "how long writes and syncs are traced")
)

// Roles of the nodes while they are profiled. Each height has another leader, so that every node
// has that role in turn.
const (
	author  = iota // takes all messages of the load
	reader         // serves the stream that the load generator follows
	replica        // the first of those that do neither
)

// BenchmarkCost tells where the processor time of a message goes, by the role of the node, by its
// part and by kind of work.
func BenchmarkCost(b *testing.B) {
	n := system.Start(b, system.Options{Profiled: true})
	const lead = 3 * time.Second
	progress("%d messages a second in requests of %d to one node, read from a second one; all are profiled for %v", *costRate, *costBatch, *profiledFor)
	taken := make([]chan profiled, len(n.Nodes))
	for i, node := range n.Nodes {
		taken[i] = make(chan profiled, 1)
		go func() {
			<-time.After(lead)
			taken[i] <- profileOf(node)
		}()
	}
	r := loadAt(b, n, n.Nodes[author:author+1], "--follow", n.Nodes[reader].URL, "--rate", fmt.Sprint(*costRate), "--batch", fmt.Sprint(*costBatch),
		"--connections", "8", "--duration", (*profiledFor + 2*lead).String())
	var byPart, byKind []parts.Times
	var counted []float64
	for i, node := range n.Nodes {
		p := <-taken[i]
		if p.err != nil {
			b.Fatalf("profile of %s: %v", node.Name, p.err)
		}
		if p.messages == 0 {
			b.Fatalf("no message became final while %s was profiled", node.Name)
		}
		byPart, byKind = append(byPart, perMessage(p.byPart, p.messages)), append(byKind, perMessage(p.byKind, p.messages))
		counted = append(counted, float64(p.used)/float64(p.messages))
	}
	what := record.Table{Name: "cost-parts", Columns: []string{"part, us a message", "author", "reader's node", "each other node", "four nodes"}}
	fillCost(&what, byPart)
	roleRow(&what, "by the kernel's count", counted, 1e-3)
	what.Add("load generator", "", "", "", float64(r.Client.Microseconds())/float64(max(1, r.Final)))
	keep(b, &what)
	how := record.Table{Name: "cost-kinds", Columns: []string{"kind of work, us a message", "author", "reader's node", "each other node", "four nodes"}}
	fillCost(&how, byKind)
	keep(b, &how)
	sum := 0.0
	for _, us := range counted {
		sum += us / 1e3
	}
	b.ReportMetric(1e3*sum, "cpu-ns/message")
	b.ReportMetric(r.FinalPerSecond, "final/s")
}

// profiled is the profile of a node, and what the node did meanwhile.
type profiled struct {
	byPart, byKind parts.Times
	messages       int           // that became final
	used           time.Duration // of processor time, as the kernel counts it
	err            error
}

// profileOf takes the CPU profile of a node under load.
func profileOf(node *system.Node) (p profiled) {
	p.messages, p.used, p.err = counters(node)
	if p.err != nil {
		return p
	}
	raw, err := get(fmt.Sprintf("%s/debug/pprof/profile?seconds=%.0f", node.Operations, profiledFor.Seconds()))
	if err != nil {
		p.err = err
		return p
	}
	messages, used, err := counters(node)
	if err != nil {
		p.err = err
		return p
	}
	p.messages, p.used = messages-p.messages, used-p.used
	taken, err := profile.ParseData(raw)
	if err != nil {
		p.err = err
		return p
	}
	p.byPart, p.byKind, p.err = parts.Split(taken)
	return p
}

// counters are the messages that have become final since the node started, and its processor time.
func counters(node *system.Node) (messages int, used time.Duration, err error) {
	metrics, err := get(node.Operations + "/metrics")
	if err != nil {
		return 0, 0, err
	}
	found := map[string]float64{"diseq_final_messages_total": -1, "process_cpu_seconds_total": -1}
	for line := range strings.Lines(string(metrics)) {
		if fields := strings.Fields(line); len(fields) == 2 && found[fields[0]] < 0 {
			if found[fields[0]], err = strconv.ParseFloat(fields[1], 64); err != nil {
				return 0, 0, err
			}
		}
	}
	for name, value := range found {
		if value < 0 {
			return 0, 0, fmt.Errorf("%s has no metric %s", node.Name, name)
		}
	}
	return int(found["diseq_final_messages_total"]), time.Duration(found["process_cpu_seconds_total"] * 1e9), nil
}

// get returns the body of an answer, an error for other answers than 200.
func get(url string) ([]byte, error) {
	r, err := http.Get(url)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(r.Body)
	_ = r.Body.Close() // read to its end
	if err == nil && r.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s answered %s: %s", url, r.Status, bytes.TrimSpace(body[:min(len(body), 200)]))
	}
	return body, err
}

// perMessage divides times by a number of messages. They are kept in nanoseconds, so that nothing
// that shows in a table is rounded away.
func perMessage(times parts.Times, messages int) parts.Times {
	out := parts.Times{}
	for name, d := range times {
		out[name] = d / time.Duration(messages)
	}
	return out
}

// least is the time a message, of four nodes, from which on a part has a row of its own.
const least = 200 * time.Nanosecond

// fillCost adds a row for each part of the times of the nodes.
func fillCost(t *record.Table, nodes []parts.Times) {
	var small []float64
	values := func(name string) (out []float64, sum float64) {
		for _, times := range nodes {
			out = append(out, float64(times[name]))
			sum += float64(times[name])
		}
		return out, sum
	}
	small = make([]float64, len(nodes))
	for _, name := range parts.Names(nodes...) {
		v, sum := values(name)
		if sum < float64(least) || name == parts.Other {
			for i := range v {
				small[i] += v[i]
			}
			continue
		}
		roleRow(t, name, v, 1e-3)
	}
	roleRow(t, parts.Other, small, 1e-3)
	var sums []float64
	for _, times := range nodes {
		sums = append(sums, float64(times.Sum()))
	}
	roleRow(t, "sum", sums, 1e-3)
}

// roleRow adds the figures of the nodes by their roles.
func roleRow(t *record.Table, name string, nodes []float64, unit float64) {
	all, rest := 0.0, 0.0
	for i, v := range nodes {
		all += v
		if i >= replica {
			rest += v
		}
	}
	t.Add(name, unit*nodes[author], unit*nodes[reader], unit*rest/float64(len(nodes)-replica), unit*all)
}

// BenchmarkWrites counts what the nodes write and sync for a message, by file. The traced calls
// take longer than others, so nothing here is about time.
func BenchmarkWrites(b *testing.B) {
	for _, tool := range []string{"strace", "setpriv"} {
		if _, err := exec.LookPath(tool); err != nil {
			b.Skipf("%s is not installed: writes and syncs are not counted", tool)
		}
	}
	out := filepath.Join(b.TempDir(), "trace")
	// The network ends with the tracer: a process that lost it could make none of the traced calls.
	under := append(append([]string{"strace"}, trace.Flags(out)...), "setpriv", "--pdeathsig", "KILL", "--")
	n := system.Start(b, system.Options{Under: under})
	type run struct {
		name   string
		args   []string
		counts map[string]trace.Counts
		final  float64
	}
	runs := []*run{
		{name: "100/s, single", args: []string{"--rate", "100", "--batch", "1"}},
		{name: "2,000/s, requests of 100", args: []string{"--rate", "2000", "--batch", "100"}},
		{name: "full load, requests of 1,000", args: []string{"--rate", fmt.Sprint(*floodRate), "--batch", "1000"}},
	}
	files := map[string]bool{}
	for _, r := range runs {
		progress("writes and syncs at %s, for %v", r.name, *tracedFor)
		began := time.Now()
		result := load(b, n, append(r.args, "--duration", tracedFor.String())...)
		ended := time.Now()
		f, err := os.Open(out)
		if err != nil {
			b.Fatal(err)
		}
		r.counts, err = trace.Read(f, seconds(began), seconds(ended))
		_ = f.Close() // only read
		if err != nil {
			b.Fatal(err)
		}
		r.final = float64(max(1, result.Final)) * float64(len(n.Nodes))
		for name := range r.counts {
			files[name] = true
		}
	}
	t := record.Table{Name: "writes", Columns: []string{"a message, a node"}}
	for _, r := range runs {
		t.Columns = append(t.Columns, "syncs at "+r.name, "writes", "bytes")
	}
	sums := make([]trace.Counts, len(runs))
	withoutTrie := int64(0) // bytes that are not of state.db or of state, in the last run
	line := func(name string, of func(i int) trace.Counts) {
		cells := []any{name}
		for i, r := range runs {
			c := of(i)
			cells = append(cells, float64(c.Syncs)/r.final, float64(c.Writes)/r.final, float64(c.Bytes)/r.final)
		}
		t.Add(cells...)
	}
	for _, name := range sorted(files) {
		line(name, func(i int) trace.Counts {
			c := runs[i].counts[name]
			sums[i].Syncs += c.Syncs
			if name != trace.Sockets {
				sums[i].Writes, sums[i].Bytes = sums[i].Writes+c.Writes, sums[i].Bytes+c.Bytes
			}
			return c
		})
		if name != trace.Sockets && !strings.HasPrefix(name, "state") {
			withoutTrie += runs[len(runs)-1].counts[name].Bytes
		}
	}
	line("all files", func(i int) trace.Counts { return sums[i] })
	keep(b, &t)
	bytesEach := float64(withoutTrie) / runs[len(runs)-1].final
	goal(b, "disk-files", bytesEach <= 350, "%s by system calls, at full load", record.Number(bytesEach))
	for i, unit := range []string{"syncs/single", "syncs/message", "syncs/flood-message"} {
		if sums[i].Syncs == 0 {
			b.Fatalf("no sync was seen at %s: was anything traced?", runs[i].name)
		}
		b.ReportMetric(float64(sums[i].Syncs)/runs[i].final, unit)
	}
}

func seconds(t time.Time) float64 { return float64(t.UnixMicro()) / 1e6 }

func sorted(names map[string]bool) []string {
	var out []string
	for name := range names {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}
