package status

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/diseq/diseq/api/v1alpha1"
)

// eventReasons are the constants of events.go.
func eventReasons(t *testing.T) (found []string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "events.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || !spec.Names[0].IsExported() {
			return true
		}
		value, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
		if name := spec.Names[0].Name; err != nil || value != name || !strings.HasPrefix(spec.Doc.Text(), name+":") {
			t.Errorf("reason %s is %q, want the same word and a comment", name, value)
		}
		found = append(found, value)
		return true
	})
	if len(found) < 5 {
		t.Fatalf("found only %v", found)
	}
	return found
}

// It is decided of every reason whether a person has to look at it.
func TestEveryReasonIsDecidedToBeAWarningOrNot(t *testing.T) {
	all := slices.Concat(reasons(t), eventReasons(t))
	for _, reason := range all {
		if kind := eventTypes[reason]; kind != corev1.EventTypeNormal && kind != corev1.EventTypeWarning {
			t.Errorf("events.go does not say whether %s is a warning", reason)
		}
	}
	for reason := range maps.Keys(eventTypes) {
		if !slices.Contains(all, reason) {
			t.Errorf("events.go decides about %s, which is no reason", reason)
		}
	}
	if EventTypeOf("ReasonOfTomorrow") != corev1.EventTypeWarning {
		t.Error("an unknown reason is no warning")
	}
}

// Every reason of Degraded True is a warning.
func TestEveryTroubleIsAWarning(t *testing.T) {
	for _, tt := range policyCases {
		for _, trouble := range Troubles(tt.seen) {
			if EventTypeOf(trouble.Reason) != corev1.EventTypeWarning {
				t.Errorf("%s: %s is no warning", tt.name, trouble.Reason)
			}
		}
	}
	for _, reason := range problemReasons {
		if EventTypeOf(reason) != corev1.EventTypeWarning {
			t.Errorf("%s is no warning", reason)
		}
	}
}

// The troubles are those that Degraded names, each with what it is about.
func TestTroublesAreThoseOfDegraded(t *testing.T) {
	for _, tt := range policyCases {
		c := findCondition(Conditions(tt.seen), v1alpha1.ConditionDegraded)
		found := Troubles(tt.seen)
		if c.Status == metav1.ConditionTrue != (len(found) > 0) {
			t.Errorf("%s: Degraded is %s, troubles %v", tt.name, c.Status, found)
		}
		reasons := map[string]bool{}
		for _, trouble := range found {
			reasons[trouble.Reason] = true
			if !strings.Contains(c.Message, trouble.Message) && !strings.Contains(c.Message, " more") {
				t.Errorf("%s: %q is not in %q", tt.name, trouble.Message, c.Message)
			}
		}
		if c.Status == metav1.ConditionTrue && !reasons[c.Reason] {
			t.Errorf("%s: Degraded is %s, troubles %v", tt.name, c.Reason, found)
		}
	}
	o := observed(4, 3, of(stuck("CrashLoopBackOff", "exit code 1", 0), 1, 3), func(o *Observation) {
		o.Problems = []*Problem{{Reason: WriteRefused, Message: "apply Service demo: no", About: "Service demo"}}
	})
	var got []string
	for _, trouble := range Troubles(o) {
		got = append(got, fmt.Sprintf("%s of %s", trouble.Reason, trouble.About))
	}
	if want := []string{"WriteRefused of Service demo", "CrashLooping of demo-v1", "CrashLooping of demo-v3"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func findCondition(all []metav1.Condition, kind string) metav1.Condition {
	return all[slices.IndexFunc(all, func(c metav1.Condition) bool { return c.Type == kind })]
}

// A state that needs a person is a Warning, and a restart that was asked for is not.
func TestTypesOfEvents(t *testing.T) {
	condition := func(kind string, status metav1.ConditionStatus, reason string) metav1.Condition {
		return metav1.Condition{Type: kind, Status: status, Reason: reason}
	}
	rolls := condition(v1alpha1.ConditionProgressing, metav1.ConditionTrue, RollingUpdate)
	for name, tt := range map[string]struct {
		c       metav1.Condition
		with    []metav1.Condition
		n, t    int32
		allowed bool
		want    string
		passes  bool
	}{
		"the quorum is lost":          {c: condition(v1alpha1.ConditionAvailable, metav1.ConditionFalse, QuorumLost), want: warning},
		"lost in an update":           {c: condition(v1alpha1.ConditionAvailable, metav1.ConditionFalse, QuorumLost), with: []metav1.Condition{rolls}, want: warning},
		"lost in an allowed downtime": {c: condition(v1alpha1.ConditionAvailable, metav1.ConditionFalse, QuorumLost), with: []metav1.Condition{rolls}, allowed: true, want: normal},
		"lost while downtime would be allowed": {
			c: condition(v1alpha1.ConditionAvailable, metav1.ConditionFalse, QuorumLost), allowed: true, want: warning},
		"it is back": {c: condition(v1alpha1.ConditionAvailable, metav1.ConditionTrue, AllValidatorsReady), want: normal},
		"no spare":   {c: condition(v1alpha1.ConditionQuorumHealthy, metav1.ConditionFalse, NoSpareValidator), n: 4, t: 3, want: warning},
		"no spare by the spec": {
			c: condition(v1alpha1.ConditionQuorumHealthy, metav1.ConditionFalse, NoSpareValidator), n: 3, t: 3, want: normal},
		"no spare in an update": {c: condition(v1alpha1.ConditionQuorumHealthy, metav1.ConditionFalse, NoSpareValidator),
			with: []metav1.Condition{rolls}, n: 4, t: 3, want: warning, passes: true},
		"one is away in an update": {c: condition(v1alpha1.ConditionAvailable, metav1.ConditionTrue, ThresholdReady),
			with: []metav1.Condition{rolls}, want: normal, passes: true},
		"the update is stuck":     {c: condition(v1alpha1.ConditionProgressing, metav1.ConditionFalse, UpdateStuck), want: warning},
		"an update":               {c: rolls, with: []metav1.Condition{rolls}, want: normal},
		"paused":                  {c: condition(v1alpha1.ConditionProgressing, metav1.ConditionFalse, Paused), want: normal},
		"scaled while paused":     {c: condition(v1alpha1.ConditionMembershipChanging, metav1.ConditionTrue, Paused), want: warning},
		"hibernated":              {c: condition(v1alpha1.ConditionAvailable, metav1.ConditionFalse, Hibernated), want: normal},
		"scaled while hibernated": {c: condition(v1alpha1.ConditionMembershipChanging, metav1.ConditionTrue, Hibernated), want: warning},
		"scaled to what no chain can have": {
			c: condition(v1alpha1.ConditionMembershipChanging, metav1.ConditionTrue, InvalidSpec), want: warning},
		"newcomers start":          {c: condition(v1alpha1.ConditionMembershipChanging, metav1.ConditionTrue, WaitingForNewcomers), want: normal},
		"newcomers cannot start":   {c: condition(v1alpha1.ConditionProgressing, metav1.ConditionFalse, WaitingForNewcomers), want: warning},
		"the set is what is asked": {c: condition(v1alpha1.ConditionMembershipChanging, metav1.ConditionFalse, SetAsSpecified), want: normal},
		"evidence":                 {c: condition(v1alpha1.ConditionEvidenceFound, metav1.ConditionTrue, ValidatorsMisbehaved), want: warning},
		"nothing is wrong any more": {
			c: condition(v1alpha1.ConditionDegraded, metav1.ConditionFalse, AsExpected), want: normal},
	} {
		t.Run(name, func(t *testing.T) {
			s := v1alpha1.DiseqNetworkStatus{Conditions: tt.with, Validators: tt.n, Threshold: tt.t}
			if tt.n == 0 {
				s.Validators, s.Threshold = 4, 3
			}
			if got := EventType(tt.c, s, tt.allowed); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
			before := metav1.Condition{Type: tt.c.Type, Status: metav1.ConditionTrue, Reason: AllValidatorsReady}
			if got := Passes(before, tt.c, s); got != tt.passes {
				t.Errorf("it passes by itself: %v, want %v", got, tt.passes)
			}
		})
	}
}

// docs/operations.md says of every event what it means.
func TestEveryEventIsDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(text), "\n## Kubernetes: events and the operator's log\n")
	if !found {
		t.Fatal("docs/operations.md has no section about events")
	}
	section, _, _ = strings.Cut(section, "\n## ")
	known := eventReasons(t)
	var documented []string
	for _, match := range regexp.MustCompile("(?m)^\\| `([A-Z][A-Za-z]+)` \\| (Normal|Warning) \\|").FindAllStringSubmatch(section, -1) {
		documented = append(documented, match[1])
		if eventTypes[match[1]] != match[2] {
			t.Errorf("%s is documented as %s, and is %s", match[1], match[2], eventTypes[match[1]])
		}
	}
	slices.Sort(known)
	slices.Sort(documented)
	if !slices.Equal(known, documented) {
		t.Errorf("documented are %v, want %v", documented, known)
	}
}
