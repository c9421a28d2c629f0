package controllers

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	appsv1ac "k8s.io/client-go/applyconfigurations/apps/v1"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/diseq/diseq/api/v1alpha1"
	"github.com/diseq/diseq/controllers/membership"
	"github.com/diseq/diseq/controllers/nodeclient"
	"github.com/diseq/diseq/controllers/resources"
	"github.com/diseq/diseq/controllers/status"
)

// recordedLog keeps the lines of a log at info and above, each with its level and its fields.
type recordedLog struct{ lines []string }

func (l *recordedLog) Enabled(_ context.Context, level slog.Level) bool {
	return level >= slog.LevelInfo
}
func (l *recordedLog) WithAttrs([]slog.Attr) slog.Handler { return l }
func (l *recordedLog) WithGroup(string) slog.Handler      { return l }

func (l *recordedLog) Handle(_ context.Context, r slog.Record) error {
	line := r.Level.String() + " " + r.Message
	r.Attrs(func(a slog.Attr) bool {
		line += fmt.Sprintf(" %s=%v", a.Key, a.Value)
		return true
	})
	l.lines = append(l.lines, line)
	return nil
}

func (l *recordedLog) with(part string) (found []string) {
	for _, line := range l.lines {
		if strings.Contains(line, part) {
			found = append(found, line)
		}
	}
	return found
}

// warnings are the events that a person has to look at.
func (w *watchedNetwork) warnings() (found []string) {
	for _, e := range w.events {
		if strings.HasPrefix(e, corev1.EventTypeWarning+" ") {
			found = append(found, e)
		}
	}
	return found
}

// Each problem of the operator is a warning and a line of the log, once, however often it is seen.
// Its end is reported as well. An operator that is started meanwhile does not report it again.
func TestAProblemIsReportedOnceAndSoIsItsEnd(t *testing.T) {
	for _, reason := range []string{
		status.NameConflict, status.RetainedGenesisMismatch, status.KeyMismatch, status.KeyMissing, status.InvalidSpec, status.WriteRefused,
	} {
		t.Run(reason, func(t *testing.T) {
			w := watchNetwork(t, 4, 3)
			w.looks(time.Minute, nothing)
			w.forgetAll()
			w.problems = []*status.Problem{{Reason: reason, Message: "Service demo is wrong", About: "Service demo"}}
			w.looks(10*time.Minute, nothing)
			if warned := w.warnings(); len(warned) != 1 || len(w.events) != 1 || !strings.HasPrefix(warned[0], "Warning "+reason+" Degraded: Service demo is wrong") {
				t.Errorf("ten minutes of it made the events %q", w.events)
			}
			if want := []string{"WARN Service demo is wrong reason=" + reason}; !slices.Equal(w.log.lines, want) {
				t.Errorf("the log is %q, want %q", w.log.lines, want)
			}
			w.forgetAll()
			w.startOperator()
			if w.looks(time.Minute, nothing); len(w.events)+len(w.log.lines) != 0 {
				t.Errorf("an operator that was started told %q, %q", w.events, w.log.lines)
			}
			w.problems = nil
			w.looks(10*time.Minute, nothing)
			if len(w.warnings()) != 0 || len(w.log.with("a problem is over reason="+reason+" about=Service demo after=1m")) != 1 {
				t.Errorf("the end: events %q, log %q", w.events, w.log.lines)
			}
			if ends := w.log.with("Degraded is False"); len(ends) != 1 || len(w.events) != 2 { // and Progressing
				t.Errorf("the end: events %q, log %q", w.events, w.log.lines)
			}
		})
	}
}

// A problem that comes while another one lasts is reported, and so is its end.
func TestEveryProblemIsReportedAlsoBehindAMoreSeriousOne(t *testing.T) {
	w := watchNetwork(t, 4, 3)
	w.looks(time.Minute, nothing)
	first := &status.Problem{Reason: status.NameConflict, Message: "Service demo is not ours", About: "Service demo"}
	other := &status.Problem{Reason: status.NameConflict, Message: "ConfigMap demo-peers is not ours", About: "ConfigMap demo-peers"}
	behind := &status.Problem{Reason: status.WriteRefused, Message: "apply Service demo-peers: forbidden", About: "Service demo-peers"}
	for _, c := range []struct {
		problems []*status.Problem
		want     []string
	}{
		{[]*status.Problem{first}, []string{"Warning NameConflict Degraded: Service demo is not ours"}},
		{[]*status.Problem{first, other}, []string{"Warning NameConflict Degraded: ConfigMap demo-peers is not ours"}},
		{[]*status.Problem{first, other, behind}, []string{"Warning WriteRefused Degraded: apply Service demo-peers: forbidden"}},
		{[]*status.Problem{first, behind}, nil},
		{[]*status.Problem{first}, []string{"Normal Resolved WriteRefused: WriteRefused is over"}},
	} {
		w.forgetAll()
		w.problems = c.problems
		w.looks(time.Minute, nothing)
		if !slices.Equal(w.events, c.want) {
			t.Errorf("%v: events %q, want %q", c.problems, w.events, c.want)
		}
		if len(w.log.lines) != 1 {
			t.Errorf("%v: the log is %q", c.problems, w.log.lines)
		}
	}
}

// A refusal whose words differ each time is one problem.
func TestARefusalWithOtherWordsEachTimeIsReportedOnce(t *testing.T) {
	w := watchNetwork(t, 4, 3)
	w.looks(time.Minute, nothing)
	w.forgetAll()
	for i := range 20 {
		id := strings.Repeat(string(rune('a'+i)), 8)
		err := apierrors.NewForbidden(schema.GroupResource{Resource: "services"}, "demo", errors.New("request\n\t"+id+" is denied"))
		problem, _ := errors.AsType[*status.Problem](refused(err, "apply", "Service", "demo"))
		if problem == nil || strings.ContainsAny(problem.Message, "\n\t") {
			t.Fatalf("refused as %+v", problem)
		}
		w.problems = []*status.Problem{problem}
		w.looks(changing, nothing)
	}
	if len(w.events) != 1 || len(w.log.lines) != 1 {
		t.Errorf("events %q, log %q", w.events, w.log.lines)
	}
}

// An admission webhook that is down refuses every write until somebody helps: that is a problem to
// show, and not an error to be tried again for ever.
func TestAWebhookThatIsDownIsARefusal(t *testing.T) {
	down := apierrors.NewInternalError(errors.New(`failed calling webhook "policy.example": Post "https://policy/": connection refused`))
	if problem, ok := errors.AsType[*status.Problem](refused(down, "apply", "Service", "demo")); !ok || problem.Reason != status.WriteRefused {
		t.Errorf("got %v", refused(down, "apply", "Service", "demo"))
	}
	for _, passes := range []error{apierrors.NewInternalError(errors.New("etcd")), apierrors.NewTooManyRequests("later", 1), errors.New("EOF")} {
		if _, ok := errors.AsType[*status.Problem](refused(passes, "apply", "Service", "demo")); ok {
			t.Errorf("%v is shown as refused", passes)
		}
	}
}

// A validator that comes to have the trouble of another one is a line of the log.
func TestEachValidatorThatFailsIsLoggedOnce(t *testing.T) {
	w := watchNetwork(t, 7, 4)
	w.looks(time.Minute, nothing)
	w.forgetAll()
	w.looks(time.Minute, func(int) map[int]func(*nodeclient.Answer) { return map[int]func(*nodeclient.Answer){1: behind} })
	w.looks(2*time.Minute, func(int) map[int]func(*nodeclient.Answer) {
		return map[int]func(*nodeclient.Answer){1: behind, 2: behind}
	})
	if warned := w.warnings(); len(warned) != 1 || !strings.Contains(warned[0], "demo-v1") {
		t.Errorf("warnings %q", warned)
	}
	for _, name := range []string{"demo-v1", "demo-v2"} {
		if lines := w.log.with("WARN " + name + " is "); len(lines) != 1 {
			t.Errorf("of %s the log has %q", name, lines)
		}
	}
}

func (w *watchedNetwork) edit(change func(*v1alpha1.DiseqNetwork)) {
	w.t.Helper()
	network := &v1alpha1.DiseqNetwork{}
	if err := w.client.Get(w.t.Context(), bornAt, network); err != nil {
		w.t.Fatal(err)
	}
	change(network)
	if err := w.client.Update(w.t.Context(), network); err != nil {
		w.t.Fatal(err)
	}
}

// runs gives every member a volume, and a StatefulSet with a template.
func (w *watchedNetwork) runs(template *appsv1ac.StatefulSetApplyConfiguration) {
	w.t.Helper()
	raw, err := json.Marshal(template)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, m := range w.members {
		m.volume, m.set, m.wanted = &corev1.PersistentVolumeClaim{}, &appsv1.StatefulSet{}, template
		if err := json.Unmarshal(raw, m.set); err != nil {
			w.t.Fatal(err)
		}
	}
}

// An update of all pods, one after another, is Normal from its beginning to its end. There is no
// event for each validator that is away.
func TestAPlannedRestartIsNoWarning(t *testing.T) {
	for name, c := range map[string]struct {
		threshold int
		allowed   string
		most      int
	}{
		"with a spare validator": {3, "", 4},
		"with allowed downtime":  {4, "true", 20},
	} {
		t.Run(name, func(t *testing.T) {
			w := watchNetwork(t, 4, c.threshold)
			w.edit(func(n *v1alpha1.DiseqNetwork) { n.Annotations = map[string]string{membership.AllowDowntime: c.allowed} })
			w.looks(time.Minute, nothing)
			w.forgetAll()
			w.runs(another)
			for i, m := range w.members {
				w.looks(2*changing, nothing)
				m.pod = nil
				w.looks(5*changing, func(int) map[int]func(*nodeclient.Answer) { return map[int]func(*nodeclient.Answer){i: refuses} })
				w.restart(i)
				m.pod.Annotations = map[string]string{resources.TemplateAnnotation: "another"}
				w.looks(10*changing, nothing)
			}
			n := w.looks(2*time.Minute, nothing)
			if p := says(n, v1alpha1.ConditionProgressing); !strings.HasPrefix(p, "False UpToDate") {
				t.Fatalf("Progressing %s", p)
			}
			if warned := w.warnings(); len(warned) != 0 || len(w.events) > c.most || len(w.events) < 2 {
				t.Errorf("events:\n%s", strings.Join(w.events, "\n"))
			}
			if warned := w.log.with("WARN"); len(warned) != 0 {
				t.Errorf("the log warns: %q", warned)
			}
		})
	}
}

// A validator that stays away makes a warning when it is not on its way any more.
func TestAValidatorThatStaysAwayMakesAWarning(t *testing.T) {
	w := watchNetwork(t, 4, 3)
	w.runs(another)
	for _, m := range w.members {
		m.pod.Annotations = map[string]string{resources.TemplateAnnotation: "another"}
	}
	w.looks(time.Minute, nothing)
	w.forgetAll()
	w.restart(1)
	w.members[1].pod.Annotations = map[string]string{resources.TemplateAnnotation: "another"}
	w.members[1].pod.Status.Conditions[0].Status = corev1.ConditionFalse
	away := func(int) map[int]func(*nodeclient.Answer) { return map[int]func(*nodeclient.Answer){1: starved} }
	if w.looks(time.Minute, away); len(w.warnings()) != 0 {
		t.Errorf("it has just started: %q", w.events)
	}
	w.looks(10*time.Minute, away)
	var reasons []string
	for _, e := range w.warnings() {
		reasons = append(reasons, strings.Fields(e)[1])
	}
	slices.Sort(reasons)
	if want := []string{status.NoSpareValidator, status.NotReady}; !slices.Equal(reasons, want) {
		t.Errorf("warnings %q, want %q", reasons, want)
	}
}

// A quorum that is lost while downtime is allowed is a warning as soon as no pod is on its way.
func TestAnAllowedDowntimeThatDoesNotEndIsAWarning(t *testing.T) {
	w := watchNetwork(t, 4, 4)
	w.edit(func(n *v1alpha1.DiseqNetwork) { n.Annotations = map[string]string{membership.AllowDowntime: "true"} })
	w.runs(another)
	for _, m := range w.members {
		m.pod.Annotations = map[string]string{resources.TemplateAnnotation: "another"}
	}
	w.looks(time.Minute, nothing)
	w.forgetAll()
	w.restart(1)
	w.members[1].pod.Annotations = map[string]string{resources.TemplateAnnotation: "another"}
	w.members[1].pod.Status.Conditions[0].Status = corev1.ConditionFalse
	away := func(int) map[int]func(*nodeclient.Answer) { return map[int]func(*nodeclient.Answer){1: starved} }
	if w.looks(time.Minute, away); len(w.warnings()) != 0 || len(w.events) == 0 {
		t.Errorf("it has just started: %q", w.events)
	}
	w.forgetAll()
	w.looks(10*time.Minute, away)
	if warned := strings.Join(w.warnings(), "\n"); strings.Count(warned, "Warning QuorumLost") != 1 {
		t.Errorf("warnings:\n%s", warned)
	}
}

// If somebody asks for a set that does not come, that is a warning, once for each wish.
func TestAskingForASetThatDoesNotComeIsAWarning(t *testing.T) {
	w := watchNetwork(t, 4, 3)
	w.looks(time.Minute, nothing)
	edit := func(change func(*v1alpha1.DiseqNetworkSpec)) {
		t.Helper()
		w.edit(func(n *v1alpha1.DiseqNetwork) {
			change(&n.Spec)
			n.Generation++
		})
		w.forgetAll()
		w.looks(10*time.Minute, nothing)
	}
	edit(func(s *v1alpha1.DiseqNetworkSpec) { s.Paused = true })
	if len(w.warnings()) != 0 {
		t.Errorf("paused: %q", w.events)
	}
	for _, validators := range []int32{5, 6} {
		edit(func(s *v1alpha1.DiseqNetworkSpec) { s.Validators, s.Threshold = validators, v1alpha1.Threshold{} })
		if warned := w.warnings(); len(warned) != 1 || !strings.HasPrefix(warned[0], "Warning Paused MembershipChanging: ") ||
			!strings.Contains(warned[0], fmt.Sprint(validators)) {
			t.Errorf("scaled to %d while paused: %q", validators, w.events)
		}
	}
	edit(func(s *v1alpha1.DiseqNetworkSpec) { s.Paused, s.Validators = false, 4 })
	if len(w.warnings()) != 0 {
		t.Errorf("taken back: %q", w.events)
	}
	edit(func(s *v1alpha1.DiseqNetworkSpec) {
		s.Validators, s.Threshold = 9, v1alpha1.Threshold{Policy: v1alpha1.ThresholdFixed, Value: new(int32(3))}
	})
	if warned := w.warnings(); len(warned) != 1 || !strings.HasPrefix(warned[0], "Warning InvalidSpec MembershipChanging: ") {
		t.Errorf("scaled to what no chain can have: %q", w.events)
	}
}

// bornNetwork is a network on a fake API server, and an operator that reconciles it.
type bornNetwork struct {
	t        *testing.T
	client   client.WithWatch
	operator *Reconciler
	now      time.Time
	log      recordedLog
	recorder *events.FakeRecorder
	// fails is the error of every request for a ConfigMap.
	fails error
}

var bornAt = types.NamespacedName{Namespace: "ns", Name: "demo"}

func bear(t *testing.T) *bornNetwork {
	b := &bornNetwork{t: t, now: time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC), recorder: events.NewFakeRecorder(1000)}
	b.client = fake.NewClientBuilder().WithScheme(Scheme()).WithStatusSubresource(&v1alpha1.DiseqNetwork{}).
		WithObjects(&v1alpha1.DiseqNetwork{
			ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "demo", UID: "0a1b2c3d-network", Generation: 1},
			Spec:       v1alpha1.DiseqNetworkSpec{Validators: 2, Image: "diseq:v1"},
		}).
		WithInterceptorFuncs(interceptor.Funcs{
			Apply: applyLikeAnAPIServer,
			Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
				o.SetUID(types.UID(o.GetName())) // a key Secret, whose keys are remembered by UID
				return c.Create(ctx, o, opts...)
			},
			Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
				if _, ok := o.(*corev1.ConfigMap); ok && b.fails != nil {
					return b.fails
				}
				return c.Get(ctx, key, o, opts...)
			},
		}).Build()
	var err error
	b.operator, err = New(Options{Resync: time.Minute, Now: func() time.Time { return b.now }}, b.client, b.client, &discovery{}, b.recorder)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *bornNetwork) reconcile(times int) (err error) {
	ctx := log.IntoContext(b.t.Context(), logr.FromSlogHandler(&b.log))
	for range times {
		b.now = b.now.Add(10 * time.Second)
		_, err = b.operator.Reconcile(ctx, ctrl.Request{NamespacedName: bornAt})
	}
	return err
}

// The log has the birth of a network, each step once, and its end.
func TestTheLogHasBirthsAndDeletionsOnce(t *testing.T) {
	b := bear(t)
	if err := b.reconcile(10); err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{
		"INFO a network is made validators=2 threshold=2",
		"INFO the key of a validator is made validator=demo-v0 ",
		"INFO the key of a validator is made validator=demo-v1 ",
		"INFO the genesis document of chain demo-0a1b2c3d is made: 2 validators, threshold 2, genesis hash ",
	} {
		if found := b.log.with(part); len(found) != 1 {
			t.Errorf("%d lines with %q:\n%s", len(found), part, strings.Join(b.log.lines, "\n"))
		}
	}
	seen := map[string]bool{}
	for _, line := range b.log.lines {
		if seen[line] {
			t.Errorf("told twice: %s", line)
		}
		seen[line] = true
		if strings.HasPrefix(line, "WARN") || strings.HasPrefix(line, "ERROR") {
			t.Errorf("a birth is no trouble: %s", line)
		}
	}
	network := &v1alpha1.DiseqNetwork{}
	if err := b.client.Get(t.Context(), bornAt, network); err != nil {
		t.Fatal(err)
	}
	if err := b.client.Delete(t.Context(), network); err != nil {
		t.Fatal(err)
	}
	b.log.lines = nil
	if err := b.reconcile(3); err != nil {
		t.Fatal(err)
	}
	if want := []string{"INFO the network is deleted"}; !slices.Equal(b.log.lines, want) {
		t.Errorf("of the deletion the log tells %q, want %q", b.log.lines, want)
	}
}

// Reconciles that fail for the same reason make one line, and after a minute one event. So does the
// end of it.
func TestAReconcileThatFailsIsReportedOnce(t *testing.T) {
	b := bear(t)
	if err := b.reconcile(3); err != nil {
		t.Fatal(err)
	}
	b.log.lines = nil
	for len(b.recorder.Events) > 0 {
		<-b.recorder.Events
	}
	for i := range 20 {
		b.fails = fmt.Errorf("connection refused, try %d", i)
		if err := b.reconcile(1); err == nil {
			t.Fatal("controller-runtime would not back off")
		}
	}
	if len(b.log.with("ERROR the operator cannot look at the network")) != 1 || len(b.log.lines) != 2 {
		t.Errorf("the log is %q", b.log.lines)
	}
	if e := <-b.recorder.Events; len(b.recorder.Events) != 0 || !strings.HasPrefix(e, "Warning ReconcileFailed") {
		t.Errorf("events: %s and %d more", e, len(b.recorder.Events))
	}
	b.fails, b.log.lines = nil, nil
	if err := b.reconcile(3); err != nil {
		t.Fatal(err)
	}
	if len(b.log.with("ReconcileFailed is over")) != 1 {
		t.Errorf("of the end the log tells %q", b.log.lines)
	}
	// A failure that is over within a minute makes no event.
	for len(b.recorder.Events) > 0 {
		<-b.recorder.Events
	}
	b.log.lines, b.fails = nil, errors.New("timeout")
	if err := b.reconcile(2); err == nil {
		t.Fatal("it did not fail")
	}
	b.fails = nil
	if err := b.reconcile(2); err != nil {
		t.Fatal(err)
	}
	if len(b.log.lines) != 2 || len(b.recorder.Events) != 0 {
		t.Errorf("a short failure: %q and %d events", b.log.lines, len(b.recorder.Events))
	}
}

// A line about a network has its namespace and name, and the level of its event. The line
// of controller-runtime for each error is left out.
func TestLinesOfTheLogHaveTheNetwork(t *testing.T) {
	var out bytes.Buffer
	base := logr.FromSlogHandler(slog.NewJSONHandler(&out, nil))
	l := logFor(base, &reconcile.Request{NamespacedName: bornAt}).WithValues("reconcileID", "7f")
	l.Error(errors.New("no"), "Reconciler error")
	if out.Len() > 0 {
		t.Errorf("controller-runtime's line is there: %s", out.String())
	}
	p := &pass{r: &Reconciler{events: events.NewFakeRecorder(10)}, network: &v1alpha1.DiseqNetwork{}, log: logOf(log.IntoContext(t.Context(), l))}
	p.event(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "demo-v0-0"}}, corev1.EventTypeWarning, status.WriteRefused, "Degraded", "two\nlines")
	var got map[string]any
	if err := json.Unmarshal(out.Bytes(), &got); err != nil || bytes.Count(out.Bytes(), []byte("\n")) != 1 {
		t.Fatalf("%v: %s", err, out.String())
	}
	delete(got, "time")
	want := map[string]any{
		"level": "WARN", "msg": "two\nlines", "namespace": "ns", "network": "demo", "reason": "WriteRefused", "pod": "demo-v0-0",
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
	out.Reset()
	logFor(base, nil).Info("Starting Controller")
	if !strings.Contains(out.String(), `"controller":"diseqnetwork"`) {
		t.Errorf("of the controller itself: %s", out.String())
	}
}

// Reasons of events are constants with a row in the documents, so that no caller invents one.
func TestNoEventHasAReasonOfItsOwn(t *testing.T) {
	literal := regexp.MustCompile(`\.event\([^\n]*EventType(Normal|Warning), "`)
	for name, text := range sources(t) {
		if found := literal.FindString(text); found != "" {
			t.Errorf("%s: %s", name, found)
		}
	}
}

// sources are the files of this package, without its tests.
func sources(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	texts := map[string]string{}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		texts[file] = string(text)
	}
	return texts
}
