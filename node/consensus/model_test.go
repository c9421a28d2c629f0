package consensus

import (
	"maps"
	"os"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/diseq/diseq/node/internal/mutation"
)

// modelCases are searched in full, a small model: one height and two rounds of the very Core that
// nodes run.
//
// Messages are a growing set. The adversary delivers any part of it to any validator, in any order
// and as often as it likes, and lets T_round fire at any time. It assembles every certificate that
// the votes cast make, with those of all Byzantine validators for everything. A Byzantine leader
// proposes two blocks of its own in its round, and in round 1 those of round 0 as well, justified
// or not. The adversary crashes validators whenever they have made a record durable or have sent a
// message, also while they start again.
//
// The search covers every state of all honest validators together. In none of them can two
// certificates be formed that contradict each other by the argument for safety (addContradictions),
// and no validator has broken E1 to E3. The adversary can do more than any network: it delivers
// proposals without the certificates that justify them, and each certificate alone.
//
// The next step of a validator follows from its own state. So its states are found once, by running
// Cores, and states with the same future are merged into one class (model_local_test.go). The
// search is over classes (model_search_test.go). Validators that lead no round are alike.
//
// Bundles of two messages, single votes, and late answers about blocks are searched apart, because
// they need not be combined. Late answers may withhold a vote, and Statements come without their
// block.
//
// Not in the model: more rounds and heights; invalid blocks, which no Core votes for; more than two
// blocks of a Byzantine leader in a round; the synchrony wait. node/simulation has them.
var modelCases = []struct {
	modelCase
	// states is how many all validators together have. docs/promises.md says so too.
	states int
	// long cases are those of make sim.
	long bool
}{
	{three.with(crashes), 34238, false},
	{fourHonest.with(crashes), 288851, false},
	{leads0.with(crashes), 100695, false},
	{leads1.with(crashes), 191225, false},
	{leadsNone.with(crashes), 34238, false},
	{leadBoth, 476738, false},
	{leadBoth.with(crashes), 849397, true},
	{leads0.with(pairs), 98027, false},
	{leads1.with(pairs), 174507, false},
	// E3 makes evidence; agreement does not rest on it.
	{leads0.without("E3", mutation.Rules{FinalizeAnother: true}), 83742, false},
	{three.with(votes), 120297, false},
	{three.with(late), 137027, true},
}

// The worlds of n, t and b validators.
var (
	three      = modelCase{name: "n 3, t 2", n: 3, threshold: 2, order: []int{0, 1, 2}}
	fourHonest = modelCase{name: "n 4, t 3", n: 4, threshold: 3, order: []int{0, 1, 2, 3}}
	leads0     = modelCase{name: "n 4, t 3, b 1 leads round 0", n: 4, threshold: 3, byzantine: 1, order: []int{0, 1, 2, 3}}
	leads1     = modelCase{name: "n 4, t 3, b 1 leads round 1", n: 4, threshold: 3, byzantine: 1, order: []int{1, 0, 2, 3}}
	leadsNone  = modelCase{name: "n 4, t 3, b 1 leads no round", n: 4, threshold: 3, byzantine: 1, order: []int{1, 2, 0, 3}}
	leadBoth   = modelCase{name: "n 5, t 4, b 2 lead both rounds", n: 5, threshold: 4, byzantine: 2, order: []int{0, 1, 2, 3, 4}}
)

func crashes(c *modelCase)  { c.name, c.crashes = c.name+", crashes", true }
func pairs(c *modelCase)    { c.name, c.pairs = c.name+", two messages at once", true }
func votes(c *modelCase)    { c.name, c.votes = c.name+", single votes", true }
func late(c *modelCase)     { c.name, c.late = c.name+", late answers", true }
func whole(c *modelCase)    { c.whole = true }
func plain(c *modelCase)    { c.plain = true }
func oneRound(c *modelCase) { c.rounds = 1 }

func (c modelCase) with(change func(*modelCase)) modelCase {
	change(&c)
	return c
}

func (c modelCase) without(rule string, rules mutation.Rules) modelCase {
	c.name, c.rules = c.name+" without "+rule, rules
	return c
}

// Promise 1.
func TestSmallModelHasNoFork(t *testing.T) {
	for _, c := range modelCases {
		t.Run(c.name, func(t *testing.T) {
			skipModel(t, c.long)
			start := time.Now()
			m := newModel(t, c.modelCase)
			var formed voteSet
			states, found := m.search(func(_ joint, f voteSet) { formed |= f })
			m.log(states, start)
			switch {
			case found != "":
				t.Errorf("certificates that contradict each other:\n%s", found)
			case states != c.states:
				t.Errorf("%d states, want %d (docs/promises.md says so too)", states, c.states)
			case formed != m.certificates:
				t.Errorf("the search is blind: it never forms %s", m.words(m.certificates&^formed))
			}
		})
	}
}

// skipModel leaves searches out of the race detector's run, and long ones out of make test.
func skipModel(t *testing.T, long bool) {
	switch {
	case testing.Short():
		t.Skip("the searches take seconds of a processor, and ten times that under the race detector")
	case long && os.Getenv("DISEQ_LONG_MODEL") == "":
		t.Skip("a long search, for make sim: DISEQ_LONG_MODEL is not set")
	}
}

func (m *model) log(states int, start time.Time) {
	for _, a := range m.validators {
		m.t.Logf("validator %d: %d states, %d classes, %d steps of a Core", a.self, len(a.class), len(a.moves), a.steps)
	}
	m.t.Logf("%d states of all together, %v", states, time.Since(start).Round(time.Millisecond))
}

// With a rule taken away, or with 2t-n Byzantine validators, the same search finds a fork, a
// shortest one, and new Cores live through it.
//
// Promise 1.
func TestSmallModelSeesForks(t *testing.T) {
	for _, c := range []modelCase{
		leads0.with(oneRound).without("E1", mutation.Rules{NotarizeTwice: true}),
		three.without("E2", mutation.Rules{NullifyAndFinalize: true}),
		fourHonest.without("the last vote of a certificate", mutation.Rules{VotesMissing: 1}),
		leads1.without("justification", mutation.Rules{VoteUnjustified: true}),
		three.with(crashes).without("durable before sent", mutation.Rules{SendFirst: true}),
		{name: "n 4, t 3, b 2 leads round 0", n: 4, threshold: 3, byzantine: 2, order: []int{0, 2, 1, 3}},
		{name: "n 4, t 3, b 2 leads round 1", n: 4, threshold: 3, byzantine: 2, order: []int{2, 0, 1, 3}},
		{name: "n 4, t 3, b 2 leads no round", n: 4, threshold: 3, byzantine: 2, order: []int{2, 3, 0, 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			skipModel(t, false)
			start := time.Now()
			c.forks = true
			m := newModel(t, c)
			states, found := m.search(func(joint, voteSet) {})
			m.log(states, start)
			if found == "" {
				t.Fatal("no fork")
			}
			t.Log("\n" + found)
		})
	}
}

// TestSmallModelLeavesOutNothing compares what validators together come to have sent with what they
// come to without the reductions: states told apart by all that a validator holds, of which there
// must be as many classes; no classes at all, and no validators alike.
//
// Promise 1.
func TestSmallModelLeavesOutNothing(t *testing.T) {
	for _, c := range []struct {
		name           string
		reduced, whole modelCase
		long           bool
	}{
		{"n 3, all that is held", three, three.with(whole), false},
		{"n 3, all that is held, crashes", three.with(crashes), three.with(crashes).with(whole), true},
		{"n 3, no classes", three, three.with(plain), false},
		{"n 4, no classes, none alike", leads1, leads1.with(plain), true},
	} {
		t.Run(c.name, func(t *testing.T) {
			skipModel(t, c.long)
			reduced, classes := c.reduced.comesTo(t)
			whole, wholeClasses := c.whole.comesTo(t)
			if !maps.Equal(reduced, whole) {
				t.Errorf("%d combinations of what is sent, without reductions %d", len(reduced), len(whole))
			}
			if !c.whole.plain && !slices.Equal(classes, wholeClasses) {
				t.Errorf("%d classes, by all that is held %d", classes, wholeClasses)
			}
			t.Logf("%d combinations of what is sent", len(reduced))
		})
	}
}

// comesTo is what all validators together come to have sent, those that lead no round in order, and
// how many classes each has.
func (c modelCase) comesTo(t *testing.T) (sent map[[maxHonest]voteSet]bool, classes []int) {
	start := time.Now()
	m := newModel(t, c)
	sent = make(map[[maxHonest]voteSet]bool)
	states, found := m.search(func(s joint, _ voteSet) {
		var all [maxHonest]voteSet
		for i, a := range m.validators {
			all[i] = a.classSent[s[i]]
		}
		leaders := slices.IndexFunc(m.validators, func(a *automaton) bool { return !slices.Contains(m.order[:modelRounds], a.self) })
		slices.Sort(all[leaders:len(m.validators)])
		sent[all] = true
	})
	m.log(states, start)
	if found != "" {
		t.Errorf("certificates that contradict each other:\n%s", found)
	}
	for _, a := range m.validators {
		classes = append(classes, len(a.moves))
	}
	return sent, classes
}

// A copy of a Core shares with it nothing that changes. To add a field with a reference in it,
// first look at copyCore, then add the field here.
func TestCopiedCoreSharesNothingThatChanges(t *testing.T) {
	want := map[reflect.Type][]string{
		reflect.TypeFor[Core]():   {"cfg", "rules", "height", "recent", "early", "restored", "missing", "answered", "hinted", "out"},
		reflect.TypeFor[height](): {"Height", "rounds", "blocks", "final", "presence"},
		reflect.TypeFor[round]():  {"statements", "votes", "own", "certificates", "others", "proposal", "proposed", "accused"},
		reflect.TypeFor[block]():  {"Block"},
	}
	for of, fields := range want {
		var found []string
		for _, f := range reflect.VisibleFields(of) {
			if len(f.Index) == 1 && refers(f.Type) {
				found = append(found, f.Name)
			}
		}
		if !slices.Equal(found, fields) {
			t.Errorf("%v has references %v, want %v", of, found, fields)
		}
	}
}

// refers reports whether a value of a type shares something with its copy that may change.
func refers(of reflect.Type) bool {
	switch of.Kind() {
	case reflect.Map, reflect.Slice, reflect.Pointer, reflect.Func, reflect.Interface, reflect.Chan:
		return true
	case reflect.Array:
		return refers(of.Elem())
	case reflect.Struct:
		for f := range of.Fields() {
			if refers(f.Type) {
				return true
			}
		}
	}
	return false
}
