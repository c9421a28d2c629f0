package simulation

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/internal/mutation"
)

// explain fails a test with the transcript of the run.
func explain(t *testing.T, seed uint64, o Options, err error) {
	t.Helper()
	t.Fatalf("seed %d of %+v: %v\n%s", seed, o, err, Explain(seed, o, 120))
}

// TestPromisesHold runs the coalition against sets within their tolerance: no fork, no rule broken,
// heights that go on.
//
// Promise 1.
// Promise 5.
// Promise 16.
func TestPromisesHold(t *testing.T) {
	seeds := uint64(200)
	if testing.Short() {
		seeds = 20
	}
	for _, c := range Promises() {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			var sum Summary
			seeds := seeds
			if c.Eras != nil {
				seeds /= 2 // several sets in each
			}
			for seed := range seeds {
				r := Run(seed, c.Options)
				if r.Violation != nil {
					explain(t, seed, c.Options, r.Violation)
				}
				sum.Add(r)
			}
			if sum.Heights < int(seeds)/4 { // in the hardest case the first seeds make few
				t.Errorf("%d heights in %d seeds: nothing happens", sum.Heights, seeds)
			}
			t.Log(sum)
		})
	}
}

// TestControlsAreSeen takes one rule away at a time, or exceeds the tolerance. The violation that
// the rule prevents must be seen within the seeds that the table gives, or the simulator is blind.
//
// Promise 2.
// Promise 12: "votes leave before the disk", "vote stores lost in crashes".
// Promise 16: "a lost vote store, and votes at the next height".
// Promise 69: "t-1 endorsements make a change", "a change is ordered although its set is not there".
// Promise 71: "no checkpoint".
// Promise 72: "messages checked against another set", "nobody settles at a change".
func TestControlsAreSeen(t *testing.T) {
	for _, c := range Controls() {
		if testing.Short() && c.Seeds > 1000 {
			t.Logf("%s: not looked for in the short form, it may take %d seeds", c.Name, c.Seeds)
			continue
		}
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			r, ok := c.Found()
			if !ok {
				t.Fatalf("%v is not seen in %d seeds", c.Want, c.Seeds)
			}
			if errors.Is(r.Violation, ErrUnpunished) || errors.Is(r.Violation, ErrInnocent) {
				explain(t, r.Seed, c.Options, r.Violation)
			}
			t.Logf("seed %d: %v", r.Seed, r.Violation)
		})
	}
}

// TestReadersOfStrengthAgree: readers who insist on finalizations of s votes never see different
// blocks at a height while b < s+t-n, even if readers content with t votes are shown forks. A fork
// that only just breaks that bound must be seen, or the figure means nothing.
//
// Promise 1.
func TestReadersOfStrengthAgree(t *testing.T) {
	seeds := uint64(300)
	if testing.Short() {
		seeds = 60
	}
	for _, o := range []Options{
		{N: 4, T: 3, Byzantine: 2}, {N: 5, T: 3, Byzantine: 1}, {N: 5, T: 3, Byzantine: 2}, {N: 7, T: 5, Byzantine: 3}, {N: 7, T: 4, Byzantine: 1},
	} {
		t.Run(fmt.Sprintf("n=%d t=%d b=%d", o.N, o.T, o.Byzantine), func(t *testing.T) {
			t.Parallel()
			o.Graded = true
			agree, worst := o.Byzantine+o.N-o.T+1, 0
			for seed := range seeds {
				r := Run(seed, o)
				if r.Violation != nil && !errors.Is(r.Violation, ErrFork) {
					explain(t, seed, o, r.Violation)
				}
				if r.Disagreement >= agree {
					explain(t, seed, o, fmt.Errorf("readers at strength %d see different blocks, promised is %d", r.Disagreement, agree))
				}
				worst = max(worst, r.Disagreement)
			}
			if worst < agree-1 && !testing.Short() {
				t.Errorf("in %d seeds readers are shown forks up to strength %d, want %d: the figure may be too high", seeds, worst, agree-1)
			}
			t.Logf("readers at strength %d agree; others were shown forks up to strength %d", agree, worst)
		})
	}
}

// TestForkConvicts: every fork that fewer than t Byzantine validators bring about convicts at least
// 2t-n of them and no one else, by votes with real signatures; ErrUnpunished and ErrInnocent are
// violations of their own.
//
// Promise 7.
func TestForkConvicts(t *testing.T) {
	forks := 0
	for _, o := range []Options{{N: 4, T: 3, Byzantine: 2}, {N: 5, T: 3, Byzantine: 1}, {N: 5, T: 4, Byzantine: 3}, {N: 7, T: 5, Byzantine: 3}} {
		for seed := range uint64(400) {
			r := Run(seed, o)
			if r.Fork == 0 {
				continue
			}
			o := o
			o.Keys = true
			if r = Run(seed, o); !errors.Is(r.Violation, ErrFork) || errors.Is(r.Violation, ErrUnpunished) || errors.Is(r.Violation, ErrInnocent) {
				explain(t, seed, o, r.Violation)
			}
			if guilty := convicted(t, r); guilty < 2*o.T-o.N {
				t.Fatalf("n=%d, seed %d: evidence against %d validators, want %d", o.N, seed, guilty, 2*o.T-o.N)
			}
			if forks++; forks%10 == 0 {
				break
			}
		}
	}
	if forks < 20 {
		t.Fatalf("only %d forks to judge", forks)
	}
	t.Logf("%d forks", forks)
}

// A fork that a missing rule causes convicts as well, whatever the rule. That holds for every
// control that forks, except with incomplete certificates or with votes for unjustified proposals.
//
// Promise 7.
func TestForksOfControlsConvict(t *testing.T) {
	for _, c := range Controls() {
		if !c.Convicts() || testing.Short() && c.Seeds > 1000 {
			continue
		}
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			r, _ := c.Found()
			o := c.Options
			o.Keys = true
			r = Run(r.Seed, o)
			if !errors.Is(r.Violation, ErrFork) {
				t.Fatalf("seed %d forks with the signatures of the table and not with real ones: %v", r.Seed, r.Violation)
			}
			set := r.setAt(r.Fork)
			if guilty, want := convicted(t, r), 2*int(set.Threshold)-len(set.Validators); guilty < want {
				t.Fatalf("seed %d: evidence against %d validators, want %d", r.Seed, guilty, want)
			}
		})
	}
}

// convicted counts the validators that evidence proves guilty.
func convicted(t *testing.T, r Result) int {
	t.Helper()
	guilty := make(map[chain.PublicKey]bool)
	for _, e := range r.Evidence {
		if err := e.Verify(chainID, r.setAt(e.First.Height)); err != nil {
			t.Fatalf("seed %d: %v", r.Seed, err)
		}
		guilty[e.PublicKey] = true
	}
	return len(guilty)
}

// Each fault happens, in a few seeds of each promise. The faults about which the synchrony wait
// promises nothing do not happen under it.
//
// Promise 2.
func TestEveryFaultHappens(t *testing.T) {
	var base, wait Summary
	for _, c := range Promises() {
		sum := &base
		if c.synchronous() {
			sum = &wait
		}
		for seed := range uint64(20) {
			sum.Add(Run(seed, c.Options))
		}
	}
	for kind := range base.Faults {
		if base.Faults[kind] == 0 && Fault(kind) != CutOff { // there it is a partition
			t.Errorf("%v: never", Fault(kind))
		}
		if wait.Faults[kind] == 0 && !slices.Contains([]Fault{TornWrite, PowerCut, LostVotes, Partition, Loss, Away}, Fault(kind)) {
			t.Errorf("%v: never under the synchrony wait", Fault(kind))
		}
	}
	t.Logf("%v", base.Faults)
	t.Logf("under the synchrony wait: %v", wait.Faults)
}

// A process may die at each of its steps: before any action, in any write, between any two messages
// of a broadcast; one alone, or all at once. They start again from what is on their disks, nothing
// forks, and heights go on.
//
// Promise 2.
func TestCrashAtEveryStep(t *testing.T) {
	for _, o := range []Options{{N: 4, T: 3}, {N: 4, T: 3, Byzantine: 1}, {N: 3, T: 2}, {N: 4, T: 3, CrashAll: true}, {N: 5, T: 3, Dead: 2, CrashAll: true}} {
		t.Run(fmt.Sprintf("%v all=%v", &o, o.CrashAll), func(t *testing.T) {
			t.Parallel()
			o.Weather = &Weather{Storm: 700 * time.Millisecond, Loss: 0.1, RoundTimeout: 150 * time.Millisecond}
			steps := Run(1, o).Steps
			stride := 1
			if testing.Short() {
				stride = 7
			}
			for o.CrashAt = 1; o.CrashAt <= steps; o.CrashAt += stride {
				r := Run(1, o)
				if r.Violation != nil {
					explain(t, 1, o, r.Violation)
				}
				if r.Faults[Crash] == 0 {
					t.Fatalf("nobody dies at step %d of %d", o.CrashAt, steps)
				}
			}
			t.Logf("%d steps", steps)
		})
	}
}

// A control takes away each rule that can be taken away.
//
// Promise 2.
func TestEveryMutationHasAControl(t *testing.T) {
	rules := reflect.TypeFor[mutation.Rules]()
	for i := range rules.NumField() {
		if !slices.ContainsFunc(Controls(), func(c Case) bool { return !reflect.ValueOf(c.Mutation).Field(i).IsZero() }) {
			t.Errorf("no control takes %s away", rules.Field(i).Name)
		}
	}
}

// docs/promises.md lists the controls: a row for each, with its violation and the number of seeds
// within which it must be seen.
//
// Promise 2.
func TestControlsAreListed(t *testing.T) {
	document, err := os.ReadFile("../../docs/promises.md")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[error]string{
		ErrFork: "fork", ErrRule: "a broken rule", ErrCertificate: "invalid certificate", ErrDurable: "a vote that left before",
		ErrChange: "a change without its endorsements", ErrStalled: "stall", ErrContradiction: "a validator that stops",
	}
	_, table, _ := strings.Cut(string(document), "| what is taken away |")
	table, _, _ = strings.Cut(table, "\n## ")
	var rows []string
	for line := range strings.Lines(table) {
		if cells := strings.Split(strings.TrimSpace(line), " | "); len(cells) == 4 && cells[3] != "subtest |" {
			rows = append(rows, strings.TrimSuffix(strings.Join(cells[1:], " | "), " |"))
		}
	}
	var want []string
	for _, c := range Controls() {
		damage := seen[c.Want]
		if c.Eras != nil && c.Eras.Idle {
			damage += ": leavers of an idle chain never go"
		}
		want = append(want, fmt.Sprintf("%s | %d | %s", damage, c.Seeds, c.Name))
	}
	for _, row := range want {
		if !slices.Contains(rows, row) {
			t.Errorf("docs/promises.md lacks the row %q", row)
		}
	}
	for _, row := range rows {
		if !slices.Contains(want, row) {
			t.Errorf("docs/promises.md has the row %q, of which there is no control", row)
		}
	}
}

// A seed gives the same run again, for every promise and control: the same transcript, byte for
// byte; and with or without tracing the same result.
//
// Promise 2.
func TestSeedReplays(t *testing.T) {
	for _, c := range append(Promises(), Controls()...) {
		traced := c.Options
		traced.Trace = true
		for seed := range uint64(3) {
			a, b, quiet := Run(seed, traced), Run(seed, traced), Run(seed, c.Options)
			if a.Transcript != b.Transcript || len(a.Transcript) < 300 {
				t.Fatalf("%s, seed %d: two transcripts, of %d and %d bytes", c.Name, seed, len(a.Transcript), len(b.Transcript))
			}
			if quiet.Events != a.Events || quiet.Heights != a.Heights || quiet.Virtual != a.Virtual {
				t.Fatalf("%s, seed %d: traced %d events, %d heights, untraced %d and %d",
					c.Name, seed, a.Events, a.Heights, quiet.Events, quiet.Heights)
			}
		}
	}
}

// The example of docs/consensus.md: without the certificates by which rounds were left on the disk,
// a height can never be decided once all have been killed and one stays dead. With them it always
// can.
//
// Promise 14.
func TestCertificateByWhichARoundWasLeftOutlivesAll(t *testing.T) {
	control := Options{N: 4, T: 3, Dead: 1, Mutation: mutation.Rules{ForgetCertificates: true}}
	for seed := range uint64(3000) {
		if r := Run(seed, control); !errors.Is(r.Violation, ErrStalled) {
			continue
		}
		whole := control
		whole.Mutation = mutation.Rules{}
		if r := Run(seed, whole); r.Violation != nil {
			explain(t, seed, whole, r.Violation)
		}
		t.Logf("seed %d stalls without the certificates, and goes on with them", seed)
		return
	}
	t.Fatal("forgetting certificates is not seen to stall")
}

// A disk that loses its last write loses only the records that are still there: those of a height
// are removed once its block is stored.
func TestLostLastWriteMayHaveBeenRemovedInPart(t *testing.T) {
	for _, c := range Controls() {
		if !c.LastWriteLost {
			continue
		}
		for seed := range uint64(20) {
			if r := Run(seed, c.Options); r.Faults[Crash] == 0 {
				t.Errorf("seed %d: no process dies", seed)
			}
		}
	}
}

func BenchmarkRun(b *testing.B) {
	for _, o := range []Options{{N: 4, T: 3, Byzantine: 1}, {N: 7, T: 5, Byzantine: 2}, {N: 5, T: 3, Byzantine: 2, Delta: delta}} {
		b.Run(fmt.Sprintf("n=%d/b=%d", o.N, o.Byzantine), func(b *testing.B) {
			for i := range b.N {
				Run(uint64(i), o)
			}
			b.ReportMetric(60*float64(b.N)/b.Elapsed().Seconds(), "runs/min")
		})
	}
}
