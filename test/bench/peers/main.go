// Command peers puts the same load on DISEQ and on two other systems that order messages, in turns,
// and prints what each took. `make bench-peers` runs it.
//
// It is a module of its own, so that the modules of these systems are not those of DISEQ. The
// systems run as their makers build them: each node is a process, on the loopback device of this
// machine. One load generator serves all: it submits over HTTP or with the system's client, and a
// message counts once one follower has seen it final.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
)

var (
	diseqBinary  = flag.String("diseq", "bin/diseq", "the program of DISEQ")
	cometBinary  = flag.String("cometbft", "bin/tools/cometbft", "the program of CometBFT")
	natsBinary   = flag.String("nats", "bin/tools/nats-server", "the program of NATS")
	only         = flag.String("only", "", "measure only systems whose name contains this")
	turns        = flag.Int("turns", 3, "how often each system gets each load")
	floodFor     = flag.Duration("flood", 15*time.Second, "how long as many messages as are answered are submitted")
	floodRate    = flag.Float64("flood-rate", 0, "messages a second where as many as are answered are meant; to try the adapters themselves")
	singleFor    = flag.Duration("single", 15*time.Second, "how long single messages are submitted")
	records      = flag.String("records", "", "the directory to keep the table in; empty: it is only printed")
	command      = flag.String("command", "make bench-peers", "how this is run again, for the record")
	commit       = flag.String("commit", "", "the commit of DISEQ, for the record")
	machine      = flag.String("machine", "", "the machine, for the record")
	keepNetworks = flag.String("keep", "", "the directory for the networks, which stays; a temporary one if empty")
)

// candidate is a system that can be measured.
type candidate struct {
	name  string
	start func(dir string) (network, error)
}

func main() {
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
}

func candidates() (out []candidate) {
	all := []candidate{
		{"DISEQ", func(dir string) (network, error) { return startDiseq(dir, *diseqBinary) }},
		{"CometBFT, no pause after a block", func(dir string) (network, error) { return startCometBFT(dir, *cometBinary, "0s") }},
		{"CometBFT, its default of 1 s", func(dir string) (network, error) { return startCometBFT(dir, *cometBinary, "1s") }},
		{"JetStream, 3 servers, unsigned", func(dir string) (network, error) { return startJetStream(dir, *natsBinary) }},
	}
	for _, c := range all {
		if strings.Contains(c.name, *only) {
			out = append(out, c)
		}
	}
	return out
}

// loads are those that each system gets.
func loads() []struct {
	name string
	load load
} {
	return []struct {
		name string
		load load
	}{
		{"requests of 100", load{rate: *floodRate, batch: 100, size: 250, connections: 16, duration: *floodFor, drain: 30 * time.Second}},
		{"100/s, single", load{rate: 100, batch: 1, size: 250, connections: 8, duration: *singleFor, drain: 30 * time.Second}},
	}
}

func run(ctx context.Context) error {
	systems := candidates()
	if len(systems) == 0 {
		return fmt.Errorf("no system's name contains %q", *only)
	}
	dir := *keepNetworks
	if dir == "" {
		var err error
		if dir, err = os.MkdirTemp("", "diseq-peers-"); err != nil {
			return err
		}
		defer func() { _ = os.RemoveAll(dir) }() // a leftover in the temporary directory does no harm
	}
	t := table{Name: "peers", Columns: []string{
		"load", "system", "final/s", "of DISEQ's", "p50 ms", "p99 ms", "us a message, all nodes", "of DISEQ's", "load generator",
		"refused", "lost",
	}}
	for _, l := range loads() {
		// The systems take turns, so that other programs disturb all of them.
		outcomes := make([][]outcome, len(systems))
		for turn := range *turns {
			for i, s := range systems {
				fmt.Fprintf(os.Stderr, "%s  %s, %s, turn %d of %d\n", time.Now().Format(time.TimeOnly), s.name, l.name, turn+1, *turns)
				o, err := measure(ctx, filepath.Join(dir, fmt.Sprintf("%d-%d-%d", len(t.Rows), turn, i)), s, l.load)
				if err != nil {
					return fmt.Errorf("%s, %s: %w", s.name, l.name, err)
				}
				outcomes[i] = append(outcomes[i], o)
			}
		}
		var first []float64 // final/s and processor time of the first system
		for i, s := range systems {
			all := outcomes[i]
			speed := median(all, func(o outcome) float64 { return o.perSecond })
			cpu := median(all, func(o outcome) float64 { return perMessage(o.cpu, o) })
			if i == 0 {
				first = []float64{speed, cpu}
			}
			t.Rows = append(t.Rows, []string{
				l.name, s.name, fmt.Sprintf("%.0f", speed), fmt.Sprintf("%.2f", speed/first[0]),
				fmt.Sprintf("%.1f", median(all, func(o outcome) float64 { return 1e3 * o.p50.Seconds() })),
				fmt.Sprintf("%.1f", median(all, func(o outcome) float64 { return 1e3 * o.p99.Seconds() })),
				fmt.Sprintf("%.0f", cpu), fmt.Sprintf("%.2f", cpu/first[1]),
				fmt.Sprintf("%.0f", median(all, func(o outcome) float64 { return perMessage(o.client, o) })),
				fmt.Sprintf("%.0f %%", 100*median(all, func(o outcome) float64 { return float64(o.refused) / float64(max(1, o.sent)) })),
				fmt.Sprintf("%.0f", median(all, func(o outcome) float64 { return float64(o.lost) })),
			})
		}
	}
	return t.finish()
}

// measure starts a network, puts a load on it, and ends it.
func measure(ctx context.Context, dir string, c candidate, l load) (o outcome, err error) {
	n, err := c.start(dir)
	if err != nil {
		return o, err
	}
	defer n.stop()
	if o, err = l.run(ctx, n); err != nil {
		return o, err
	}
	if o.final == 0 {
		return o, fmt.Errorf("nothing became final: %+v", o)
	}
	return o, nil
}

// median is of the turns.
func median(outcomes []outcome, of func(outcome) float64) float64 {
	all := make([]float64, len(outcomes))
	for i, o := range outcomes {
		all[i] = of(o)
	}
	slices.Sort(all)
	return all[len(all)/2]
}

// perMessage is microseconds for each final message.
func perMessage(d time.Duration, o outcome) float64 {
	return float64(d.Microseconds()) / float64(max(1, o.final))
}

// table is a record as hack/bench reads it.
type table struct {
	Name   string `json:"name"`
	Origin struct {
		Command string    `json:"command"`
		When    time.Time `json:"when"`
		Machine string    `json:"machine"`
		Commit  string    `json:"commit"`
		Busy    float64   `json:"busy"`
	} `json:"origin"`
	Columns []string   `json:"columns"`
	Rows    [][]string `json:"rows"`
}

// finish prints the table and keeps it.
func (t *table) finish() error {
	out := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(out, strings.Join(t.Columns, "\t"))
	for _, row := range t.Rows {
		fmt.Fprintln(out, strings.Join(row, "\t"))
	}
	if err := out.Flush(); err != nil || *records == "" {
		return err
	}
	t.Origin.Command, t.Origin.When, t.Origin.Machine, t.Origin.Commit, t.Origin.Busy = *command, time.Now(), *machine, *commit, -1
	if t.Origin.Machine == "" {
		t.Origin.Machine = fmt.Sprintf("%d processors, %s", runtime.NumCPU(), runtime.Version())
	}
	if t.Origin.Commit == "" {
		described, err := exec.Command("git", "-c", "safe.directory=*", "describe", "--always", "--dirty", "--exclude", "*").Output()
		if t.Origin.Commit = strings.TrimSpace(string(described)); err != nil {
			t.Origin.Commit = "unknown"
		}
	}
	b, err := json.MarshalIndent(t, "", "  ")
	if err == nil {
		err = os.MkdirAll(*records, 0o755)
	}
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(*records, t.Name+".json"), append(b, '\n'), 0o644)
}
