package simulation

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/diseq/diseq/node/internal/mutation"
)

// Case is a line of the table: options, and the violation that must be seen under them.
type Case struct {
	Name string
	Options
	// Want is the violation that must be seen within some seeds; otherwise the simulator is blind.
	// nil: no violation may ever be seen.
	Want error
	// Seeds is the number of seeds within which Want is seen.
	Seeds uint64
}

// Promises are the lines of the table in docs/consensus.md that must hold: with as many Byzantine
// validators as each set withstands on any network, and as many dead ones as leave t.
func Promises() []Case {
	out := make([]Case, 0, 32)
	for _, o := range []Options{
		{N: 1, T: 1}, {N: 2, T: 2}, {N: 3, T: 2}, {N: 3, T: 2, Dead: 1},
		{N: 4, T: 3}, {N: 4, T: 3, Dead: 1}, {N: 4, T: 3, Byzantine: 1}, {N: 4, T: 4, Byzantine: 3},
		{N: 5, T: 3, Dead: 2}, {N: 5, T: 4, Byzantine: 1}, {N: 5, T: 4, Byzantine: 2},
		{N: 7, T: 4, Dead: 3}, {N: 7, T: 5, Byzantine: 2}, {N: 7, T: 5, Byzantine: 1, Dead: 1}, {N: 7, T: 6, Byzantine: 4},
		{N: 10, T: 7, Byzantine: 3},
		{N: 4, T: 3, Wiped: 1, Rejoin: rejoinSkip}, {N: 7, T: 5, Byzantine: 1, Wiped: 1, Rejoin: rejoinSkip},
	} {
		out = append(out, Case{Options: o})
	}
	for _, o := range []Options{
		{N: 4, T: 3, Partitioned: 1, Byzantine: 1}, {N: 5, T: 3, Partitioned: 1, Byzantine: 1}, {N: 7, T: 4, Partitioned: 2, Byzantine: 1},
		{N: 3, T: 2, Byzantine: 1}, {N: 4, T: 3, Byzantine: 2}, {N: 4, T: 3, Byzantine: 1}, {N: 5, T: 3, Byzantine: 2},
		{N: 7, T: 4, Byzantine: 3}, {N: 7, T: 5, Byzantine: 4},
		{N: 4, T: 3, Byzantine: 2, Paused: 2}, {N: 5, T: 3, Byzantine: 2, Paused: 3}, {N: 7, T: 4, Byzantine: 3, Paused: 2},
		{N: 4, T: 3, Byzantine: 2, Killed: 1}, {N: 5, T: 3, Byzantine: 2, Killed: 1},
		{N: 5, T: 3, Dead: 2}, {N: 4, T: 3, Byzantine: 1, Asynchronous: true}, {N: 7, T: 5, Byzantine: 2, Asynchronous: true},
	} {
		o.Delta = delta
		out = append(out, Case{Options: o})
	}
	for _, o := range []Options{
		{N: 4, T: 3}, {N: 4, T: 3, Byzantine: 1}, {N: 5, T: 4, Byzantine: 1}, {N: 7, T: 5, Byzantine: 2}, {N: 1, T: 1},
		{N: 4, T: 3, Wiped: 1}, {N: 6, T: 4, Byzantine: 1, Wiped: 1},
		{N: 3, T: 2, Byzantine: 1, Delta: delta}, {N: 4, T: 3, Byzantine: 2, Delta: delta}, {N: 5, T: 3, Byzantine: 2, Delta: delta},
		{N: 4, T: 3, Byzantine: 1, Delta: delta, Asynchronous: true},
		{N: 4, T: 3, Eras: &Eras{Idle: true}}, {N: 1, T: 1, Eras: &Eras{Script: []Turn{{N: 4, T: 3, Absent: 2}}}},
	} {
		if o.Eras == nil {
			o.Eras = &Eras{}
		}
		out = append(out, Case{Options: o})
	}
	for i := range out {
		out[i].Name = out[i].Options.String()
	}
	return out
}

// String names the set and the faults that are simulated.
func (o *Options) String() string {
	var s strings.Builder
	fmt.Fprintf(&s, "n=%d t=%d b=%d", o.N, o.T, o.Byzantine)
	for _, v := range []struct {
		name  string
		count int
	}{{"dead", o.Dead}, {"partitioned", o.Partitioned}, {"paused", o.Paused}, {"killed", o.Killed}, {"wiped", o.Wiped}} {
		if v.count > 0 {
			fmt.Fprintf(&s, " %s=%d", v.name, v.count)
		}
	}
	if o.Delta > 0 {
		s.WriteString(" wait")
	}
	if o.Asynchronous {
		s.WriteString(" any network")
	}
	if o.Eras != nil {
		s.WriteString(" eras")
		if o.Eras.Idle {
			s.WriteString(" idle")
		}
		for _, turn := range o.Eras.Script {
			fmt.Fprintf(&s, " %d/%d", turn.N, turn.T)
		}
	}
	return s.String()
}

// delta is the synchrony wait of the table.
const delta = 100 * time.Millisecond

// rejoinSkip is how many heights above the highest reported one a node that has lost its vote store
// begins to vote.
const rejoinSkip = 3

// Controls take one rule away each, or exceed the tolerance. The violation that the rule prevents
// must be seen.
func Controls() []Case {
	four := func(m mutation.Rules) Options { return Options{N: 4, T: 3, Mutation: m} }
	traitor := func(m mutation.Rules) Options { return Options{N: 4, T: 3, Byzantine: 1, Mutation: m} }
	hasty := func(m mutation.Rules) Options { return Options{N: 4, T: 3, Byzantine: 2, Delta: delta, Mutation: m} }
	paused := func(m mutation.Rules) Options {
		return Options{N: 4, T: 3, Byzantine: 2, Paused: 2, Delta: delta, Mutation: m}
	}
	killed := func(m mutation.Rules) Options {
		return Options{N: 4, T: 3, Byzantine: 2, Killed: 1, Delta: delta, Mutation: m}
	}
	// A validator that meets a vote that its records lack would stop. These controls need it to go
	// on.
	forgetful := mutation.Rules{VoteForgetful: true}
	crashing := &Weather{Storm: 5 * time.Second, Loss: 0.2, Crash: 0.02, RoundTimeout: 200 * time.Millisecond}
	return append(controlsOfEras(), []Case{
		{"R1 off: certificates are not forwarded", hasty(mutation.Rules{Hoard: true}), ErrFork, 100},
		{"R2 off: statements are not relayed", hasty(mutation.Rules{NoRelay: true}), ErrFork, 100},
		{"R3 off: notarizations passed over", hasty(mutation.Rules{PassOver: true}), ErrFork, 100},
		{"R4 off: votes in conflict", hasty(mutation.Rules{VoteInConflict: true}), ErrFork, 100},
		{"Delta/2 instead of 2*Delta", hasty(mutation.Rules{QuarterWait: true}), ErrFork, 100},
		{"the timer before the messages", hasty(mutation.Rules{TimerFirst: true}), ErrFork, 100},
		{"dropped messages forgotten", Options{
			N: 5, T: 3, Byzantine: 2, Delta: delta, Mutation: mutation.Rules{ForgetDrops: true},
		}, ErrFork, 100},
		{"a nullification does not stop the vote", hasty(mutation.Rules{FinalizeNullified: true}), ErrFork, 100},
		{"a second block does not stop the vote", hasty(mutation.Rules{FinalizeInConflict: true}), ErrFork, 100},
		{"ill health does not stop the vote", Options{
			N: 5, T: 3, Byzantine: 2, Paused: 3, Delta: delta, Mutation: mutation.Rules{KeepWaiting: true},
		}, ErrFork, 600},
		{"ill health ignored", paused(mutation.Rules{IgnoreHealth: true}), ErrFork, 100},
		{"no settling after ill health", paused(mutation.Rules{VoteUnsettled: true}), ErrFork, 100},
		{"no settling after a start", killed(mutation.Rules{VoteUnsettled: true}), ErrFork, 100},
		{"nobody is asked after a start", killed(mutation.Rules{AskNobody: true}), ErrFork, 100},
		{"messages take longer than Delta", Options{N: 4, T: 3, Byzantine: 2, Delta: delta, Lateness: 250}, ErrFork, 100},
		{"b = 2t-n, four", Options{N: 4, T: 3, Byzantine: 2}, ErrFork, 150},
		{"b = 2t-n, five", Options{N: 5, T: 3, Byzantine: 1}, ErrFork, 200},
		{"b = 2t-n, seven", Options{N: 7, T: 5, Byzantine: 3}, ErrFork, 100},
		{"E1 off: two notarizations allowed", traitor(mutation.Rules{NotarizeTwice: true}), ErrFork, 600},
		{"E2 off: nullify and finalize", four(mutation.Rules{NullifyAndFinalize: true}), ErrFork, 150},
		{"E3 off: finalize another block", traitor(mutation.Rules{FinalizeAnother: true}), ErrRule, 25},
		{"t-1 votes make a certificate", four(mutation.Rules{VotesMissing: 1}), ErrFork, 25},
		{"a vote counted twice", four(mutation.Rules{CountTwice: true}), ErrCertificate, 10},
		{"votes for unjustified proposals", traitor(mutation.Rules{VoteUnjustified: true}), ErrFork, 1500},
		{"a wrong body makes its block invalid", traitor(mutation.Rules{MisfitInvalid: true}), ErrContradiction, 100},
		{"anybody may send a leader's proposal", traitor(mutation.Rules{AnyBody: true}), ErrStalled, 100},
		{"votes leave before the disk", four(mutation.Rules{SendFirst: true}), ErrDurable, 10},
		{"certificates forgotten in a crash", Options{N: 4, T: 3, Dead: 1, Mutation: mutation.Rules{ForgetCertificates: true}}, ErrStalled, 400},
		{"nothing is sent again", four(mutation.Rules{KeepSilent: true}), ErrStalled, 400},
		{"a disk that loses its last write", Options{N: 4, T: 3, LastWriteLost: true, Mutation: forgetful, Weather: crashing}, ErrRule, 100},
		{"vote stores lost in crashes", Options{N: 4, T: 3, Amnesia: true, Mutation: forgetful, Weather: crashing}, ErrFork, 1500},
		{"a lost vote store, and votes at the next height", Options{N: 4, T: 3, Wiped: 1, Rejoin: 1, Mutation: forgetful}, ErrRule, 25},
	}...)
}

// Convicts reports whether the forks of a control convict validators. All forks do, except with
// incomplete certificates or with votes for unjustified proposals.
func (c *Case) Convicts() bool { return c.Want == ErrFork && c.judged() }

// Found looks for the violation of a control: the first seed that shows it.
func (c *Case) Found() (r Result, ok bool) {
	for seed := range c.Seeds {
		if r = Run(seed, c.Options); errors.Is(r.Violation, c.Want) {
			return r, true
		}
	}
	return r, false
}

// Summary adds up the runs of a line.
type Summary struct {
	Seeds, Heights, Forks, AllRounds, Rounds, CalmRounds, Events int
	Faults                                                       Faults
}

// Add adds a run.
func (s *Summary) Add(r Result) {
	s.Seeds++
	s.Heights += r.Heights
	s.AllRounds += r.AllRounds
	for i, times := range r.Faults {
		s.Faults[i] += times
	}
	s.Events += r.Events
	s.Rounds, s.CalmRounds = max(s.Rounds, r.Rounds), max(s.CalmRounds, r.CalmRounds)
	if r.Fork != 0 {
		s.Forks++
	}
}

// MeanRounds is the mean number of rounds of a height.
func (s Summary) MeanRounds() float64 { return float64(s.AllRounds) / float64(max(1, s.Heights)) }

// String formats the summary as a line.
func (s Summary) String() string {
	return fmt.Sprintf("%d seeds, %d heights, %d forks, %d events, %.2f rounds a height, at most %d, %d in the calm; %v",
		s.Seeds, s.Heights, s.Forks, s.Events, s.MeanRounds(), s.Rounds, s.CalmRounds, s.Faults)
}
