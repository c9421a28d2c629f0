// Command sim runs the deterministic simulator for long: every promise of docs/concepts.md for as
// many seeds as asked, every control until its violation is seen. It shows its progress while it
// runs and prints a table at the end. It fails if a promise is broken or a control sees nothing,
// and then prints the transcript of the seed, and the command that replays it.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/diseq/diseq/node/simulation"
)

func main() {
	var o options
	flag.Uint64Var(&o.seeds, "seeds", 2000, "seeds for each promise")
	flag.Uint64Var(&o.first, "first", 0, "the first seed")
	flag.IntVar(&o.parallel, "parallel", 2, "runs at a time")
	flag.StringVar(&o.only, "only", "", "run only the lines whose name contains this text")
	flag.Int64Var(&o.replay, "replay", -1, "run only this seed and print its transcript; -only must be the whole name of a line")
	flag.Parse()
	if flag.NArg() > 0 || o.seeds == 0 || o.parallel < 1 {
		fmt.Fprintln(os.Stderr, "sim: takes only flags; -seeds and -parallel must be at least 1 (see sim -help)")
		os.Exit(2)
	}
	if err := o.run(); err != nil {
		fmt.Fprintln(os.Stderr, "sim:", err)
		os.Exit(1)
	}
}

type options struct {
	first, seeds uint64
	parallel     int
	only         string
	replay       int64
}

// line is a case of the table: a promise, whose Want is nil, or a control.
type line struct {
	simulation.Case
	sum   simulation.Summary
	found simulation.Result
	took  time.Duration
}

func (o *options) lines() []*line {
	var out []*line
	for _, c := range append(simulation.Promises(), simulation.Controls()...) {
		if strings.Contains(c.Name, o.only) {
			out = append(out, &line{Case: c})
		}
	}
	return out
}

func (o *options) run() error {
	lines := o.lines()
	if len(lines) == 0 {
		return fmt.Errorf("no promise or control has %q in its name", o.only)
	}
	if o.replay >= 0 {
		return o.again(lines)
	}
	p := newProgress(os.Stderr, lines, o.seeds)
	var failed []error
	for _, l := range lines {
		start := time.Now()
		err := l.promise(o, p)
		if l.Want != nil {
			err = l.control(p)
		}
		if err != nil {
			failed = append(failed, err)
		}
		l.took = time.Since(start)
	}
	p.end()
	return errors.Join(append([]error{printTable(os.Stdout, lines, p.since())}, failed...)...)
}

// again prints the transcript of a seed.
func (o *options) again(lines []*line) error {
	for _, l := range lines {
		if l.Name == o.only {
			l.Trace = true
			r := simulation.Run(uint64(o.replay), l.Options)
			fmt.Print(r.Transcript)
			fmt.Printf("seed %d of %q: %d heights; %v; violation: %v\n", r.Seed, l.Name, r.Heights, r.Faults, r.Violation)
			return nil
		}
	}
	names := make([]string, 0, len(lines))
	for _, l := range lines {
		names = append(names, fmt.Sprintf("%q", l.Name))
	}
	return fmt.Errorf("-replay needs the whole name of a promise or control in -only, one of\n%s", strings.Join(names, "\n"))
}

// failed describes a failing run: its error, the end of its transcript, and the command that
// replays it.
func (l *line) failed(seed uint64, err error) error {
	return fmt.Errorf("%q, seed %d: %w\n%s\nfor the whole transcript: go run ./test/sim -replay %d -only %q",
		l.Name, seed, err, simulation.Explain(seed, l.Options, 200), seed, l.Name)
}

// promise runs the seeds of a promise. None may show a violation.
func (l *line) promise(o *options, p *progress) error {
	if l.Want != nil {
		return nil
	}
	var mu sync.Mutex
	var broken *simulation.Result
	next := o.first
	var group sync.WaitGroup
	for range o.parallel {
		group.Go(func() {
			for {
				mu.Lock()
				seed := next
				next++
				done := broken != nil || seed >= o.first+o.seeds
				mu.Unlock()
				if done {
					return
				}
				r := simulation.Run(seed, l.Options)
				mu.Lock()
				l.sum.Add(r)
				if r.Violation != nil && (broken == nil || r.Seed < broken.Seed) {
					broken = &r
				}
				p.ran(l, l.sum.Seeds)
				mu.Unlock()
			}
		})
	}
	group.Wait()
	if broken != nil {
		return l.failed(broken.Seed, broken.Violation)
	}
	return nil
}

// control runs seeds until one shows the violation that the control wants. A fork with too little
// evidence, or with evidence against the innocent, is a failure of its own.
func (l *line) control(p *progress) error {
	for seed := range l.Seeds {
		r := simulation.Run(seed, l.Options)
		l.sum.Add(r)
		p.ran(l, l.sum.Seeds)
		if errors.Is(r.Violation, simulation.ErrUnpunished) || errors.Is(r.Violation, simulation.ErrInnocent) {
			return l.failed(seed, r.Violation)
		}
		if errors.Is(r.Violation, l.Want) {
			l.found = r
			return nil
		}
	}
	return fmt.Errorf("%q: %w is not seen in %d seeds: the simulator is blind", l.Name, l.Want, l.Seeds)
}
