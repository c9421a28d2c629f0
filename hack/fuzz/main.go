// Command fuzz runs every fuzz target of the module for a given time, several side by side. It
// shows its progress, prints a table at the end, and fails if a target failed. The failing input is
// then in the target's testdata/fuzz, and the command that runs it alone is printed. The other
// targets run to their end.
//
// The fuzzer keeps interesting inputs in Go's build cache, as go test -fuzz does, and begins with
// them the next time. With -corpus nothing is fuzzed: from the cache and from testdata/fuzz, a
// small selection with the same coverage is written to testdata/fuzz, which go test runs every
// time.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/mattn/go-isatty"
)

func main() {
	long := flag.String("time", "60s", "for how long each target runs, as go test -fuzztime: 5s, or 1000x for a count")
	atOnce := flag.Int("at-once", runtime.NumCPU(), "targets at a time, each with one worker")
	only := flag.String("only", "", "only targets whose package and name, such as node/chain.FuzzDecode, contain this")
	corpus := flag.Bool("corpus", false, "select what testdata/fuzz holds from it and the cache, instead of fuzzing")
	fresh := flag.Bool("fresh", false, "begin with testdata/fuzz alone: running all that the cache holds may take longer than -time")
	flag.Parse()
	if flag.NArg() > 0 || *atOnce < 1 {
		fmt.Fprintln(os.Stderr, "fuzz: want flags only, -at-once of at least 1 (see fuzz -help)")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	m := &module{root: ".", time: *long, patience: "1m", progress: progress(os.Stderr)}
	if err := run(ctx, m, *only, *atOnce, *corpus, *fresh); err != nil {
		m.progress("")
		fmt.Fprintln(os.Stderr, "fuzz:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, m *module, only string, atOnce int, corpus, fresh bool) error {
	targets, err := discover(m.root, only)
	if err != nil {
		return err
	}
	if len(targets) == 0 {
		return fmt.Errorf("no fuzz target found with %q in its name", only)
	}
	cache, err := exec.CommandContext(ctx, "go", "env", "GOCACHE").Output()
	if err != nil {
		return fmt.Errorf("go env GOCACHE: %w", err)
	}
	m.cache = filepath.Join(strings.TrimSpace(string(cache)), "fuzz")
	if m.binaries, err = os.MkdirTemp("", "fuzz-"); err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(m.binaries) }() // a temporary directory
	if fresh {
		m.cache = filepath.Join(m.binaries, "found")
	}
	if corpus {
		return m.selectAll(ctx, targets)
	}
	if err := m.compile(ctx, targets, "-fuzz=."); err != nil {
		return err
	}
	results := m.fuzzAll(ctx, targets, atOnce)
	m.progress("")
	return report(os.Stdout, results, len(targets))
}

// fuzzAll runs the targets, atOnce at a time, and returns the results of those that ran, in the
// order of targets.
func (m *module) fuzzAll(ctx context.Context, targets []target, atOnce int) []result {
	results := make([]*result, len(targets))
	show := newBoard(m.progress, len(targets))
	next := make(chan int)
	var group sync.WaitGroup
	for range min(atOnce, len(targets)) {
		group.Go(func() {
			for i := range next {
				r := m.fuzz(ctx, targets[i], show)
				results[i] = &r
				show.done(&r)
			}
		})
	}
	for i := range targets {
		if ctx.Err() != nil {
			break
		}
		next <- i
	}
	close(next)
	group.Wait()
	var ran []result
	for _, r := range results {
		if r != nil {
			ran = append(ran, *r)
		}
	}
	return ran
}

// report prints the table, and after it what failed.
func report(w io.Writer, results []result, planned int) error {
	table := tabwriter.NewWriter(w, 2, 0, 2, ' ', 0)
	fmt.Fprintln(table, "target\ttime\texecs\texecs/s\tnew\tcorpus\tresult")
	failed := 0
	for _, r := range results {
		outcome := "ok"
		if r.err != nil {
			outcome = "FAILED"
			failed++
		}
		fmt.Fprintf(table, "%s\t%s\t%d\t%.0f\t%d\t%d\t%s\n", r.target, r.took.Round(time.Second/10), r.execs,
			float64(r.execs)/max(r.took.Seconds(), 0.001), r.interesting, r.corpus, outcome)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for _, r := range results {
		if r.err != nil {
			fmt.Fprintf(w, "\n--- %s: %v\n%s", r.target, r.err, r.advice())
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d targets failed", failed, planned)
	}
	if len(results) < planned {
		return errors.New("interrupted")
	}
	return nil
}

// board shows the running targets in one line. Without a terminal it prints a line for each target
// that ended.
type board struct {
	mu      sync.Mutex
	show    func(string)
	planned int
	ended   int
	running []result
}

func newBoard(show func(string), planned int) *board { return &board{show: show, planned: planned} }

// update records the progress of a target.
func (b *board) update(r *result) {
	b.mu.Lock()
	defer b.mu.Unlock()
	found := false
	for i := range b.running {
		if b.running[i].target == r.target {
			b.running[i], found = *r, true
		}
	}
	if !found {
		b.running = append(b.running, *r)
	}
	b.draw()
}

func (b *board) done(r *result) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ended++
	for i := range b.running {
		if b.running[i].target == r.target {
			b.running = append(b.running[:i], b.running[i+1:]...)
			break
		}
	}
	outcome := "ok"
	if r.err != nil {
		outcome = "FAILED"
	}
	b.show(fmt.Sprintf("%d/%d %s: %s, %d execs, %d new\n", b.ended, b.planned, r.target, outcome, r.execs, r.interesting))
	b.draw()
}

func (b *board) draw() {
	parts := make([]string, 1, 1+len(b.running))
	parts[0] = fmt.Sprintf("%d/%d", b.ended, b.planned)
	for _, r := range b.running {
		parts = append(parts, fmt.Sprintf("%s %v %d execs %d new", r.target, r.took.Round(time.Second), r.execs, r.interesting))
	}
	b.show(strings.Join(parts, "  "))
}

// progress returns the function that shows a line. A line that ends in a newline is for a log,
// where nothing can be drawn over; the others are for a terminal.
func progress(f *os.File) func(string) {
	terminal := isatty.IsTerminal(f.Fd())
	return func(line string) {
		switch whole := strings.HasSuffix(line, "\n"); {
		case terminal && !whole:
			fmt.Fprintf(f, "\r\x1b[K%.160s", line)
		case !terminal && whole:
			fmt.Fprint(f, line)
		}
	}
}
