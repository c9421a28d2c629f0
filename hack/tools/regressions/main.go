// Command regressions lists what became worse between two results of Go benchmarks, the worst
// first:
//
//	regressions OLD NEW
//
// It complements benchstat, whose tables show every figure. It always ends with success: machines
// are noisy, and a person judges.
package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"golang.org/x/perf/benchfmt"
	"golang.org/x/perf/benchmath"
)

func main() {
	least := flag.Float64("least", 0.05, "the least change that is listed, as a share")
	flag.Parse()
	if flag.NArg() != 2 {
		fmt.Fprintln(os.Stderr, "usage: regressions [-least SHARE] OLD NEW")
		os.Exit(2)
	}
	if err := run(os.Stdout, flag.Arg(0), flag.Arg(1), *least); err != nil {
		fmt.Fprintln(os.Stderr, "regressions:", err)
		os.Exit(1)
	}
}

// figure is what is measured: a benchmark's value of a unit.
type figure struct{ name, unit string }

// regression is a figure that became worse.
type regression struct {
	figure
	old, now float64 // medians
	worse    float64 // 0.5 is half as much again, or two thirds of the speed
	// certain is false if there are too few runs to tell a change from noise.
	certain bool
}

func run(out io.Writer, old, now string, least float64) error {
	before, err := read(old)
	if err != nil {
		return err
	}
	after, err := read(now)
	if err != nil {
		return err
	}
	found, compared := compare(before, after, least)
	if compared == 0 {
		return fmt.Errorf("%s and %s have no benchmark in common", old, now)
	}
	fmt.Fprintf(out, "%d of %d figures became worse by %.0f %% or more\n", len(found), compared, 100*least)
	for _, r := range found {
		note := ""
		if !r.certain {
			note = "  (too few runs to be sure: BENCH_COUNT=6)"
		}
		fmt.Fprintf(out, "  %+6.0f %%  %s: %.4g -> %.4g %s%s\n", 100*r.worse, r.name, r.old, r.now, r.unit, note)
	}
	return nil
}

func read(path string) (map[figure][]float64, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	out := map[figure][]float64{}
	results := benchfmt.NewReader(f, path)
	for results.Scan() {
		r, ok := results.Result().(*benchfmt.Result)
		if !ok {
			continue // another kind of line
		}
		for _, v := range r.Values {
			key := figure{string(r.Name.Full()), v.Unit}
			out[key] = append(out[key], v.Value)
		}
	}
	return out, errors.Join(results.Err())
}

// compare returns what became worse, and how many figures both results have.
func compare(before, after map[figure][]float64, least float64) (found []regression, compared int) {
	for _, key := range slices.SortedFunc(maps.Keys(before), func(a, b figure) int {
		return cmp.Or(strings.Compare(a.name, b.name), strings.Compare(a.unit, b.unit))
	}) {
		if len(after[key]) == 0 {
			continue
		}
		compared++
		old := benchmath.NewSample(before[key], &benchmath.DefaultThresholds)
		now := benchmath.NewSample(after[key], &benchmath.DefaultThresholds)
		c := benchmath.AssumeNothing.Compare(old, now)
		r := regression{figure: key, old: median(old), now: median(now)}
		// With fewer than four runs each no change can be told from noise.
		r.certain = min(c.N1, c.N2) >= 4
		if r.worse = worse(key.unit, r.old, r.now); r.worse < least || r.certain && c.P >= c.Alpha {
			continue
		}
		found = append(found, r)
	}
	slices.SortStableFunc(found, func(a, b regression) int { return cmp.Compare(b.worse, a.worse) })
	return found, compared
}

func median(s *benchmath.Sample) float64 { return benchmath.AssumeNothing.Summary(s, 0.95).Center }

// worse is the share by which a figure became worse, negative if it became better.
func worse(unit string, old, now float64) float64 {
	if old == 0 || now == 0 {
		return 0 // a share of nothing says nothing
	}
	if moreIsBetter(unit) {
		return old/now - 1
	}
	return now/old - 1
}

// moreIsBetter tells speeds and ratios of speeds from costs.
func moreIsBetter(unit string) bool {
	return strings.HasSuffix(unit, "/s") || strings.Contains(unit, "/s-by-") || strings.HasPrefix(unit, "x-")
}
