package simulation

import (
	"errors"
	"fmt"
	"time"

	"github.com/diseq/diseq/node/internal/mutation"
)

// Case is a line of the table: options, and what has to be seen under them.
type Case struct {
	Name string
	Options
	// Want is what must be seen within some seeds, for otherwise the simulator is blind; nil: nothing may ever be seen.
	Want error
	// Seeds is within how many seeds Want is seen.
	Seeds uint64
}

// Promises are the lines of consensus.md's table that must hold: as many Byzantine validators as each set withstands on any
// network, and as many dead ones as leave t.
func Promises() []Case {
	out := make([]Case, 0, 32)
	for _, o := range []Options{
		{N: 1, T: 1}, {N: 2, T: 2}, {N: 3, T: 2}, {N: 3, T: 2, Dead: 1},
		{N: 4, T: 3}, {N: 4, T: 3, Dead: 1}, {N: 4, T: 3, Byzantine: 1}, {N: 4, T: 4, Byzantine: 3},
		{N: 5, T: 3, Dead: 2}, {N: 5, T: 4, Byzantine: 1}, {N: 5, T: 4, Byzantine: 2},
		{N: 7, T: 4, Dead: 3}, {N: 7, T: 5, Byzantine: 2}, {N: 7, T: 5, Byzantine: 1, Dead: 1}, {N: 7, T: 6, Byzantine: 4},
		{N: 10, T: 7, Byzantine: 3},
	} {
		out = append(out, Case{Name: fmt.Sprintf("n=%d t=%d b=%d dead=%d", o.N, o.T, o.Byzantine, o.Dead), Options: o})
	}
	for _, o := range []Options{
		{N: 4, T: 3, Partitioned: 1, Byzantine: 1}, {N: 5, T: 3, Partitioned: 1, Byzantine: 1}, {N: 7, T: 4, Partitioned: 2, Byzantine: 1},
		{N: 3, T: 2, Byzantine: 1}, {N: 4, T: 3, Byzantine: 2}, {N: 4, T: 3, Byzantine: 1}, {N: 5, T: 3, Byzantine: 2},
		{N: 7, T: 4, Byzantine: 3}, {N: 7, T: 5, Byzantine: 4},
	} {
		o.Delta = delta
		out = append(out, Case{Name: fmt.Sprintf("n=%d t=%d b=%d partitioned=%d wait", o.N, o.T, o.Byzantine, o.Partitioned), Options: o})
	}
	return out
}

// delta is the synchrony wait of the table.
const delta = 100 * time.Millisecond

// Controls take one rule away each, or exceed what is tolerated: what the rule prevents must be seen.
func Controls() []Case {
	four := func(m mutation.Rules) Options { return Options{N: 4, T: 3, Mutation: m} }
	traitor := func(m mutation.Rules) Options { return Options{N: 4, T: 3, Byzantine: 1, Mutation: m} }
	hasty := func(m mutation.Rules) Options { return Options{N: 4, T: 3, Byzantine: 2, Delta: delta, Mutation: m} }
	return []Case{
		{"R1 off: certificates are not forwarded", hasty(mutation.Rules{Hoard: true}), ErrFork, 100},
		{"R2 off: statements are not relayed", hasty(mutation.Rules{NoRelay: true}), ErrFork, 100},
		{"R3 off: notarizations passed over", hasty(mutation.Rules{PassOver: true}), ErrFork, 100},
		{"R4 off: votes in conflict", hasty(mutation.Rules{VoteInConflict: true}), ErrFork, 100},
		{"Delta/2 instead of 2*Delta", hasty(mutation.Rules{QuarterWait: true}), ErrFork, 100},
		{"the timer before the messages", hasty(mutation.Rules{TimerFirst: true}), ErrFork, 100},
		{"dropped messages forgotten", Options{
			N: 5, T: 3, Byzantine: 2, Delta: delta, Mutation: mutation.Rules{ForgetDrops: true},
		}, ErrFork, 6000},
		{"b = 2t-n, four", Options{N: 4, T: 3, Byzantine: 2}, ErrFork, 150},
		{"b = 2t-n, five", Options{N: 5, T: 3, Byzantine: 1}, ErrFork, 25},
		{"b = 2t-n, seven", Options{N: 7, T: 5, Byzantine: 3}, ErrFork, 60},
		{"E1 off: two notarizations allowed", traitor(mutation.Rules{NotarizeTwice: true}), ErrFork, 150},
		{"E2 off: nullify and finalize", four(mutation.Rules{NullifyAndFinalize: true}), ErrFork, 50},
		{"E3 off: finalize another block", traitor(mutation.Rules{FinalizeAnother: true}), ErrRule, 25},
		{"t-1 votes make a certificate", four(mutation.Rules{VotesMissing: 1}), ErrFork, 25},
		{"a vote counted twice", four(mutation.Rules{CountTwice: true}), ErrCertificate, 10},
		{"votes for unjustified proposals", traitor(mutation.Rules{VoteUnjustified: true}), ErrFork, 1500},
		{"votes leave before the disk", four(mutation.Rules{SendFirst: true}), ErrDurable, 10},
		{"certificates forgotten in a crash", Options{N: 4, T: 3, Dead: 1, Mutation: mutation.Rules{ForgetCertificates: true}}, ErrStalled, 400},
		{"nothing is sent again", four(mutation.Rules{KeepSilent: true}), ErrStalled, 100},
		{"vote stores lost in crashes", Options{
			N: 4, T: 3, Amnesia: true, Weather: &Weather{Storm: 5 * time.Second, Loss: 0.2, Crash: 0.02, RoundTimeout: 200 * time.Millisecond},
		}, ErrFork, 1500},
	}
}

// Found looks for what a control must show: the first seed that does, and what else was seen before it.
func (c *Case) Found() (r Result, ok bool) {
	for seed := range c.Seeds {
		if r = Run(seed, c.Options); errors.Is(r.Violation, c.Want) {
			return r, true
		}
	}
	return r, false
}

// Summary is what the runs of a line came to.
type Summary struct {
	Seeds, Heights, Forks, Rounds, CalmRounds, Events int
}

// Add adds a run.
func (s *Summary) Add(r Result) {
	s.Seeds++
	s.Heights += r.Heights
	s.Events += r.Events
	s.Rounds, s.CalmRounds = max(s.Rounds, r.Rounds), max(s.CalmRounds, r.CalmRounds)
	if r.Fork != 0 {
		s.Forks++
	}
}

// String is the summary in a line.
func (s Summary) String() string {
	return fmt.Sprintf("%d seeds, %d heights, %d forks, %d events, at most %d rounds a height, %d in the calm",
		s.Seeds, s.Heights, s.Forks, s.Events, s.Rounds, s.CalmRounds)
}
