// Command sim runs the deterministic simulator for long: every promise of docs/concepts.md for as many seeds as asked, every
// control until what it must show is seen. It prints a progress line while it runs and a table at the end, and fails with the seed and
// its transcript if a promise is broken or a control sees nothing.
package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/mattn/go-isatty"

	"github.com/diseq/diseq/node/simulation"
)

func main() {
	seeds := flag.Uint64("seeds", 2000, "seeds for each promise")
	first := flag.Uint64("first", 0, "the first seed")
	parallel := flag.Int("parallel", 2, "runs at a time")
	only := flag.String("only", "", "only lines whose name contains this")
	flag.Parse()
	if flag.NArg() > 0 || *seeds == 0 || *parallel < 1 {
		fmt.Fprintln(os.Stderr, "sim: want flags only, -seeds and -parallel of at least 1 (see sim -help)")
		os.Exit(2)
	}
	if err := run(*first, *seeds, *parallel, *only); err != nil {
		fmt.Fprintln(os.Stderr, "sim:", err)
		os.Exit(1)
	}
}

func run(first, seeds uint64, parallel int, only string) error {
	table := tabwriter.NewWriter(os.Stdout, 2, 0, 2, ' ', 0)
	fmt.Fprintln(table, "promise\tseeds\theights\tforks\tevents\trounds at most\tin the calm\truns/min")
	for _, c := range simulation.Promises() {
		if !strings.Contains(c.Name, only) {
			continue
		}
		start := time.Now()
		sum, err := promise(c, first, seeds, parallel)
		if err != nil {
			return err
		}
		fmt.Fprintf(table, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%.0f\n", c.Name, sum.Seeds, sum.Heights, sum.Forks, sum.Events, sum.Rounds,
			sum.CalmRounds,
			float64(sum.Seeds)/time.Since(start).Minutes())
	}
	fmt.Fprintln(table, "\ncontrol\tmust show\tseen at seed\twithin")
	for _, c := range simulation.Controls() {
		if !strings.Contains(c.Name, only) {
			continue
		}
		progress("control %s", c.Name)
		r, ok := c.Found()
		if !ok {
			return fmt.Errorf("control %q: %w is not seen in %d seeds: the simulator is blind", c.Name, c.Want, c.Seeds)
		}
		fmt.Fprintf(table, "%s\t%v\t%d\t%d\n", c.Name, c.Want, r.Seed, c.Seeds)
	}
	progress("")
	return table.Flush()
}

// promise runs a line's seeds; the error holds the transcript of a run that broke it.
func promise(c simulation.Case, first, seeds uint64, parallel int) (simulation.Summary, error) {
	var mu sync.Mutex
	var sum simulation.Summary
	var broken *simulation.Result
	next := first
	var group sync.WaitGroup
	for range parallel {
		group.Go(func() {
			for {
				mu.Lock()
				seed := next
				next++
				done := broken != nil || seed >= first+seeds
				if seed%50 == 0 {
					progress("%s: %d of %d seeds", c.Name, seed-first, seeds)
				}
				mu.Unlock()
				if done {
					return
				}
				r := simulation.Run(seed, c.Options)
				mu.Lock()
				sum.Add(r)
				if r.Violation != nil && (broken == nil || r.Seed < broken.Seed) {
					broken = &r
				}
				mu.Unlock()
			}
		})
	}
	group.Wait()
	if broken != nil {
		return sum, fmt.Errorf("promise %q is broken at seed %d: %w\n%s", c.Name, broken.Seed, broken.Violation,
			simulation.Explain(broken.Seed, c.Options, 200))
	}
	return sum, nil
}

// progress shows what is being done, in one line of a terminal, or as a line of a log.
func progress(format string, args ...any) {
	switch line := fmt.Sprintf(format, args...); {
	case isatty.IsTerminal(os.Stderr.Fd()):
		fmt.Fprintf(os.Stderr, "\r\x1b[K%s", line)
	case line != "" && (!strings.Contains(line, " of ") || strings.Contains(line, ": 0 of ")):
		fmt.Fprintln(os.Stderr, line)
	}
}
