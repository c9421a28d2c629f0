package main

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/diseq/diseq/node/simulation"
)

// silent returns the progress of some lines without output.
func silent(lines ...*line) *progress {
	p := &progress{to: &bytes.Buffer{}, every: time.Hour, now: time.Now, lines: make(map[*line]int)}
	for i, l := range lines {
		p.lines[l] = i + 1
	}
	return p
}

// tooMany forks within a few seeds: agreement is not promised with as many Byzantine validators.
var tooMany = simulation.Case{Name: "too many", Options: simulation.Options{N: 4, T: 3, Byzantine: 2}}

// A broken promise fails with its seed, the command that replays the run, and its transcript. A
// promise that holds does not fail.
//
// Promise 2.
func TestABrokenPromiseFailsWithItsSeedAndTranscript(t *testing.T) {
	broken := &line{Case: tooMany}
	err := broken.promise(&options{first: 0, seeds: 500, parallel: 2}, silent(broken))
	if !errors.Is(err, simulation.ErrFork) {
		t.Fatalf("%v, want a fork", err)
	}
	for _, want := range []string{`"too many", seed `, "VIOLATION", "for the whole transcript: go run ./test/sim -replay ", `-only "too many"`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error lacks %q", want)
		}
	}
	whole := &line{Case: simulation.Case{Options: simulation.Options{N: 4, T: 3}}}
	if err := whole.promise(&options{first: 7, seeds: 10, parallel: 3}, silent(whole)); err != nil || whole.sum.Seeds != 10 {
		t.Errorf("%d seeds, %v; want 10", whole.sum.Seeds, err)
	}
}

// A control that sees nothing fails. One that sees its violation stops there.
func TestAControlThatSeesNothingFails(t *testing.T) {
	blind := &line{Case: simulation.Case{Name: "blind", Options: simulation.Options{N: 4, T: 3}, Want: simulation.ErrFork, Seeds: 5}}
	if err := blind.control(silent(blind)); err == nil || !strings.Contains(err.Error(), "blind") {
		t.Errorf("%v, want that the simulator is blind", err)
	}
	sees := &line{Case: tooMany}
	sees.Want, sees.Seeds = simulation.ErrFork, 500
	if err := sees.control(silent(sees)); err != nil || sees.sum.Seeds != int(sees.found.Seed)+1 {
		t.Errorf("%d seeds, found at %d: %v", sees.sum.Seeds, sees.found.Seed, err)
	}
}

// A log has a line of progress every ten seconds, with the rate and, for promises, the time left.
func TestProgressInALogIsALineEveryTenSeconds(t *testing.T) {
	first, second := &line{Case: simulation.Case{Name: "a promise"}}, &line{Case: simulation.Case{Name: "a control", Want: simulation.ErrFork, Seeds: 50}}
	p := silent(first, second)
	var out bytes.Buffer
	now := time.Unix(0, 0)
	p.to, p.every, p.promises, p.seeds = &out, 10*time.Second, 1, 120
	p.now = func() time.Time { return now }
	p.start, p.last = now, now
	for i := range 60 {
		now = now.Add(500 * time.Millisecond)
		p.ran(first, i+1)
	}
	p.ran(second, 1)
	now = now.Add(10 * time.Second)
	p.ran(second, 2)
	want := `1/2 a promise: 20 of 120 seeds, 120 runs/min, about 50s left
1/2 a promise: 40 of 120 seeds, 120 runs/min, about 40s left
1/2 a promise: 60 of 120 seeds, 120 runs/min, about 30s left
2/2 a control: 2 of 50 seeds, 93 runs/min
`
	if out.String() != want {
		t.Errorf("the log is\n%s, want\n%s", out.String(), want)
	}
}

// The table has a row for each line, and below it the faults of the promises.
func TestTableShowsWhatHappened(t *testing.T) {
	promise, control := &line{Case: simulation.Case{Name: "a promise", Options: simulation.Options{N: 4, T: 3, Byzantine: 1, Delta: 100 * time.Millisecond}}, took: time.Minute},
		&line{Case: simulation.Case{Name: "a control", Options: simulation.Options{N: 5, T: 3, Byzantine: 1}, Want: simulation.ErrFork}, took: time.Minute}
	r := simulation.Result{Seed: 17, Heights: 4, AllRounds: 6, Rounds: 3, CalmRounds: 2}
	r.Faults[simulation.Crash], r.Faults[simulation.Replay] = 5, 2
	promise.sum.Add(r)
	r.Fork, r.Violation = 2, fmt.Errorf("at 3s: %w", simulation.ErrFork)
	control.sum.Add(r)
	control.found = r
	var out bytes.Buffer
	if err := printTable(&out, []*line{promise, control}, 90*time.Second); err != nil {
		t.Fatal(err)
	}
	want := `n  t  b  wait   seeds  forks  controls found  rounds per height  at most  in the calm  crashes  runs/min  name
4  3  1  100ms  1      0                      1.50               3        2            5        1         a promise
5  3  1  -      1      1      fork, seed 17   1.50               3        2            5        1         a control

promises: 1 seeds, 4 heights, 0 forks; 5 crashes, 2 replayed
controls: 1 of 1 found their violation; 1m30s in all
`
	if out.String() != want {
		t.Errorf("the table is\n%s, want\n%s", out.String(), want)
	}
}

// -replay needs the whole name of a line, and its error lists the names.
func TestReplayWantsALine(t *testing.T) {
	o := options{replay: 3, only: "no settling"}
	if err := o.run(); err == nil || !strings.Contains(err.Error(), `"no settling after a start"`) {
		t.Errorf("%v, want the names of the lines", err)
	}
	o.only = "no such line"
	if err := o.run(); err == nil {
		t.Error("a line that is not there is no error")
	}
}

// Each line can be replayed by its name.
func TestLinesHaveNamesOfTheirOwn(t *testing.T) {
	names := make(map[string]bool)
	for _, l := range (&options{}).lines() {
		if names[l.Name] {
			t.Errorf("two lines %q", l.Name)
		}
		names[l.Name] = true
	}
}
