package membership

import (
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/types"

	"github.com/diseq/diseq/controllers/nodeclient"
)

// errorTexts compares errors by what they say.
var errorTexts = cmp.Comparer(func(a, b error) bool { return fmt.Sprint(a) == fmt.Sprint(b) })

// look is one of several, so long after the first one.
type look struct {
	at   time.Duration
	seen func(*Member)
	// shown is why demo-v1 does not count; empty if it does.
	shown string
}

// Promise 64.
func TestATroubleIsShownUntilItHasBeenOverForAWhile(t *testing.T) {
	const s = time.Second
	all := func(*Member) {}
	late := func(by uint64) func(*Member) { return func(m *Member) { m.Answer.Height = 100 - by } }
	unready := func(m *Member) { m.Answer.Ready, m.Answer.Reason = false, "waits" }
	refuses := func(m *Member) { m.Answer, m.Silence = nil, errors.New("refused") }
	stranger := func(m *Member) {
		m.Answer, m.Silence = nil, &nodeclient.IdentityError{Node: nodeclient.Node{Address: "10.0.0.1:9090", ChainID: "demo"}, ChainID: "other"}
	}
	rejoining := func(m *Member) { m.Answer.Role = nodeclient.RoleRejoining }
	anew := func(m *Member) { m.Pod.UID = "another" }
	const (
		abstains = "abstains: it does not hear enough other validators within 100ms"
		settles  = "abstains until it has heard enough other validators within 100ms for a while"
		noAnswer = "does not answer: no answer in time"
	)
	for name, looks := range map[string][]look{
		"well":                   {{0, all, ""}, {2 * s, all, ""}},
		"abstains once":          {{0, deaf, abstains}, {2 * s, all, abstains}, {59 * s, all, abstains}, {60 * s, all, ""}, {62 * s, all, ""}},
		"abstains again":         {{0, deaf, abstains}, {58 * s, deaf, abstains}, {117 * s, all, abstains}, {118 * s, all, ""}},
		"abstains in both ways":  {{0, unsettled, abstains}, {2 * s, deaf, abstains}, {70 * s, unsettled, abstains}},
		"was silent":             {{0, silent, noAnswer}, {2 * s, all, noAnswer}, {60 * s, all, ""}},
		"was not ready":          {{0, unready, "is not ready: waits"}, {2 * s, all, "is not ready: waits"}},
		"is behind, and more so": {{0, late(14), "is 14 blocks behind"}, {30 * s, late(50), "is 14 blocks behind"}, {60 * s, late(90), "is 90 blocks behind"}},
		"has another trouble":    {{0, silent, noAnswer}, {2 * s, deaf, noAnswer}, {58 * s, deaf, noAnswer}, {60 * s, deaf, abstains}, {62 * s, silent, abstains}},
		"is silent in another way": {{0, silent, noAnswer}, {2 * s, refuses, noAnswer}, {58 * s, refuses, noAnswer},
			{61 * s, refuses, "does not answer: refused"}},
		"its pod is gone":                 {{0, deaf, abstains}, {2 * s, gone, "has no pod"}, {4 * s, all, ""}},
		"its pod stops":                   {{0, deaf, abstains}, {2 * s, stopping, "is stopping"}, {4 * s, anew, ""}},
		"its pod was another one":         {{0, deaf, abstains}, {2 * s, anew, ""}},
		"its pod is not ready meanwhile":  {{0, deaf, abstains}, {2 * s, down, "is not ready"}, {4 * s, fresh, abstains}},
		"its pod was not ready":           {{0, down, "is not ready"}, {2 * s, all, ""}},
		"its pod was gone":                {{0, gone, "has no pod"}, {2 * s, all, ""}},
		"it has just been started":        {{0, func(m *Member) { fresh(m); unsettled(m) }, settles}, {2 * s, all, ""}},
		"another one answers":             {{0, deaf, abstains}, {2 * s, stranger, `does not answer: 10.0.0.1:9090 answers for chain "other", want "demo"`}},
		"another one answered":            {{0, stranger, `does not answer: 10.0.0.1:9090 answers for chain "other", want "demo"`}, {2 * s, all, ""}},
		"it rejoins":                      {{0, silent, noAnswer}, {2 * s, rejoining, "is rejoining and does not vote yet"}},
		"it has rejoined":                 {{0, rejoining, "is rejoining and does not vote yet"}, {2 * s, all, ""}},
		"nobody has looked for a while":   {{0, deaf, abstains}, {90 * s, all, ""}},
		"nobody looked while it abstains": {{0, silent, noAnswer}, {90 * s, deaf, abstains}},
	} {
		t.Run(name, func(t *testing.T) {
			var memory Memory
			begin := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
			for _, l := range looks {
				seen := healthy(4, 3, waits(100*time.Millisecond), of(l.seen, 1))
				shown := memory.Show(seen, begin.Add(l.at))
				if want := healthy(4, 3, waits(100*time.Millisecond), of(l.seen, 1)); !cmp.Equal(shown.Seen, want, errorTexts) {
					t.Errorf("after %v the network that was seen is changed:\n%s", l.at, cmp.Diff(want, shown.Seen, errorTexts))
				}
				standings := shown.Standings
				if got := standings[1]; got.Why != l.shown || got.CaughtUp != (l.shown == "") || got.Abstains != (got.Trouble == Abstaining) {
					t.Errorf("after %v: %+v, want %q", l.at, got, l.shown)
				}
				if standings.CaughtUp() < 3 || !shown.Steady {
					t.Errorf("after %v the other three do not count", l.at)
				}
			}
		})
	}
}

// Promise 64.
func TestAQuorumIsSteadyWhenItHasBeenThereForAWhile(t *testing.T) {
	var memory Memory
	begin := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	for _, l := range []struct {
		at     time.Duration
		deaf   []int
		steady bool
		shown  int
	}{
		{0, nil, true, 4},
		{2 * time.Second, []int{0}, true, 3},
		{4 * time.Second, []int{1}, true, 2}, // three of them at each look
		{6 * time.Second, []int{0, 1}, false, 2},
		{8 * time.Second, nil, false, 2},
		{65 * time.Second, []int{1}, false, 2},
		{66 * time.Second, nil, true, 3},
	} {
		n := memory.Show(healthy(4, 3, waits(100*time.Millisecond), of(deaf, l.deaf...)), begin.Add(l.at))
		if shown := n.Standings.CaughtUp(); n.Steady != l.steady || shown != l.shown {
			t.Errorf("after %v: steady %v, %d shown; want %v, %d", l.at, n.Steady, shown, l.steady, l.shown)
		}
	}
}

// Where too few are there to be heard nobody is at fault, nor just after those have come back that
// were not.
//
// Promise 64.
func TestWhoHearsTooFewBecauseTheyWereAwayIsNotHeld(t *testing.T) {
	var memory Memory
	begin := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	for at, change := range [][]func(*Network){
		{of(gone, 1, 2), of(deaf, 0, 3)},
		{of(down, 1), of(gone, 2), of(deaf, 0, 3)},
		{of(fresh, 1, 2), of(unsettled, 0, 1, 2, 3)},
		{of(fresh, 1, 2)},
	} {
		n := memory.Show(healthy(4, 3, append(change, waits(100*time.Millisecond))...), begin.Add(time.Duration(at)*time.Second))
		if at == 3 && n.Standings.CaughtUp() != 4 {
			t.Errorf("with all back: %+v", n.Standings)
		}
	}
}

// Decisions do not follow the network that is shown. A validator that votes counts for a restart
// although it is shown as abstaining; one that abstains does not, although it was shown as well.
//
// Promise 64.
func TestDecisionsAreMadeOnWhatIsSeen(t *testing.T) {
	var memory Memory
	begin := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	network := func(changes ...func(*Network)) Network {
		return healthy(4, 3, append(changes, waits(100*time.Millisecond), outdated(0))...)
	}
	for _, l := range []struct {
		at     time.Duration
		change func(*Network)
		action Action
	}{
		{0, of(fresh), Restart}, {time.Second, of(deaf, 1), WaitForMember}, {2 * time.Second, of(fresh), Restart},
	} {
		seen := network(l.change)
		shown := memory.Show(seen, begin.Add(l.at))
		if d := PlanPods(seen); d.Action != l.action || l.action == Restart && d.Victims[0].UID != types.UID("demo-v0-pod") {
			t.Errorf("after %v: %+v, want %s", l.at, d, l.action)
		}
		if d := planPods(shown.Seen, shown.Standings); l.at > 0 && d.Action != WaitForMember {
			t.Errorf("after %v what is shown would be decided as %+v", l.at, d)
		}
	}
}

// A change that waits is reported as one thing, however a validator flaps that the threshold needs.
//
// Promise 64.
func TestAChangeThatWaitsForAFlappingValidatorIsReportedAsOneThing(t *testing.T) {
	var memory Memory
	begin := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	reported := map[SetAction]bool{}
	for look := range 60 {
		n := healthy(4, 3, waits(time.Second), wants(5, 3), newcomers(1, waiting("Unschedulable")), of(gone, 0))
		if look%2 == 0 {
			of(deaf, 1)(&n)
		}
		plan := PlanSet(n)
		if want := [2]SetAction{WaitForVotes, WaitForNewcomers}[look%2]; plan.Action != want {
			t.Fatalf("look %d: decided %s, want %s", look, plan.Action, want)
		}
		shown := memory.Show(n, begin.Add(time.Duration(2*look)*time.Second)).ExplainSet(plan)
		reported[shown.Action] = true
	}
	if len(reported) != 1 || !reported[WaitForVotes] {
		t.Errorf("reported %v", reported)
	}
	for look := range 40 { // it is well again
		n := healthy(4, 3, waits(time.Second), wants(5, 3), newcomers(1, waiting("Unschedulable")), of(gone, 0))
		shown := memory.Show(n, begin.Add(time.Duration(120+2*look)*time.Second)).ExplainSet(PlanSet(n))
		if last := look == 39; last && shown.Action != WaitForNewcomers {
			t.Errorf("a minute later %s", shown.Action)
		}
	}
}

// A plan that is carried out is reported.
func TestAPlanThatWritesIsReportedAsItIs(t *testing.T) {
	var memory Memory
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	memory.Show(healthy(4, 3, waits(time.Second), of(deaf, 0, 1)), now)
	n := healthy(4, 3, waits(time.Second), wants(5, 3))
	shown := memory.Show(n, now.Add(2*time.Second))
	if plan := shown.ExplainSet(PlanSet(n)); plan.Action != WaitForNewcomers || len(plan.Grow) != 1 {
		t.Errorf("%+v", plan)
	}
}

// The planner and the reports take different types: what is shown cannot be acted on by mistake.
//
// Promise 64.
func TestWhatIsShownIsNoNetworkToPlanOn(t *testing.T) {
	shown := reflect.TypeFor[Shown]()
	for _, plan := range []any{PlanPods, PlanSet} {
		if takes := reflect.TypeOf(plan).In(0); shown.ConvertibleTo(takes) {
			t.Errorf("%s converts to %s, which decisions are made on", shown, takes)
		}
	}
}
