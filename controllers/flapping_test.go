package controllers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	appsv1ac "k8s.io/client-go/applyconfigurations/apps/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/diseq/diseq/api/v1alpha1"
	"github.com/diseq/diseq/controllers/membership"
	"github.com/diseq/diseq/controllers/nodeclient"
	"github.com/diseq/diseq/controllers/resources"
	"github.com/diseq/diseq/controllers/status"
	"github.com/diseq/diseq/node/chain"
)

// watchedNetwork is a network with the synchrony wait whose pods are all well, and an operator that
// looks at it and reports. The test chooses the nodes' answers and the time.
type watchedNetwork struct {
	t       *testing.T
	now     time.Time
	client  client.Client
	genesis *chain.Genesis
	members []*member
	// operator is the one that runs.
	operator *Reconciler

	// writes are those that say something new; beats renew the time of the observation alone.
	writes, beats int
	events        []string
	// log is what the operator logs.
	log recordedLog
	// problems are those that every reconcile finds.
	problems []*status.Problem
}

func (w *watchedNetwork) Eventf(_, _ runtime.Object, kind, reason, action, note string, args ...any) {
	w.events = append(w.events, fmt.Sprintf("%s %s %s: %s", kind, reason, action, fmt.Sprintf(note, args...)))
}

func watchNetwork(t *testing.T, n, threshold int) *watchedNetwork {
	w := &watchedNetwork{t: t, now: time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)}
	w.client = fake.NewClientBuilder().WithScheme(Scheme()).WithStatusSubresource(&v1alpha1.DiseqNetwork{}).
		WithObjects(&v1alpha1.DiseqNetwork{
			ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "demo", UID: "network", Generation: 1},
			Spec: v1alpha1.DiseqNetworkSpec{Validators: int32(n), Threshold: v1alpha1.Threshold{
				Policy: v1alpha1.ThresholdFixed, Value: new(int32(threshold))}},
		}).
		WithInterceptorFuncs(interceptor.Funcs{
			SubResourcePatch: func(ctx context.Context, c client.Client, sub string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
				old := &v1alpha1.DiseqNetwork{}
				if err := c.Get(ctx, client.ObjectKeyFromObject(o), old); err != nil {
					return err
				}
				wanted, beat := o.(*v1alpha1.DiseqNetwork).Status, old.Status.DeepCopy()
				beat.LastObserved = wanted.LastObserved
				if equality.Semantic.DeepEqual(*beat, wanted) {
					w.beats++
				} else {
					w.writes++
				}
				return c.SubResource(sub).Patch(ctx, o, p, opts...)
			},
		}).Build()
	w.genesis = &chain.Genesis{ChainID: "demo-0123abcd", Threshold: uint32(threshold), SynchronyDeltaMS: 100}
	for i := range n {
		name, keys := fmt.Sprintf("demo-v%d", i), chain.Validator{PublicKey: chain.PublicKey{1, byte(i)}}
		w.genesis.Validators = append(w.genesis.Validators, chain.NamedValidator{Validator: keys, Name: name})
		w.members = append(w.members, &member{name: name, serial: i, keys: keys, secret: &metav1.PartialObjectMetadata{}, asked: true})
		w.restart(i)
	}
	w.startOperator()
	w.well()
	return w
}

// startOperator starts an operator, which knows what is in the API server and nothing else.
func (w *watchedNetwork) startOperator() {
	r, err := New(Options{Resync: 10 * time.Second}, w.client, w.client, nil, w)
	if err != nil {
		w.t.Fatal(err)
	}
	w.operator = r
}

// restart makes a pod that became ready now.
func (w *watchedNetwork) restart(i int) {
	w.members[i].pod = &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: w.members[i].name + "-0", UID: types.UID(fmt.Sprintf("pod-%d-%s", i, w.now))},
		Status: corev1.PodStatus{Conditions: []corev1.PodCondition{{
			Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(w.now)}}},
	}
}

// well makes all nodes answer that they are.
func (w *watchedNetwork) well() {
	for _, m := range w.members {
		m.answer = nodeclient.Answer{Status: &nodeclient.Status{
			Role: nodeclient.RoleValidator, Ready: true, Height: 100, Validators: len(w.members), Threshold: int(w.genesis.Threshold),
			Synchrony: &nodeclient.Synchrony{DeltaMS: 100, Healthy: true, Settled: true},
		}}
	}
}

// ailments of nodes.
var (
	deaf      = func(a *nodeclient.Answer) { a.Status.Synchrony = &nodeclient.Synchrony{DeltaMS: 100} }
	unsettled = func(a *nodeclient.Answer) { a.Status.Synchrony = &nodeclient.Synchrony{DeltaMS: 100, Healthy: true} }
	behind    = func(a *nodeclient.Answer) { a.Status.Height = 80 }
	starved   = func(a *nodeclient.Answer) { a.Status.Ready, a.Status.Reason = false, "waits for its disk" }
	silent    = func(a *nodeclient.Answer) { a.Status, a.Err = nil, errors.New("no answer in time") }
	refuses   = func(a *nodeclient.Answer) { a.Status, a.Err = nil, errors.New("connection refused") }
)

// look is one reconcile, as far as it reports, in which nodes answer otherwise than well.
func (w *watchedNetwork) look(ill map[int]func(*nodeclient.Answer)) *v1alpha1.DiseqNetwork {
	w.t.Helper()
	w.well()
	for i, ail := range ill {
		ail(&w.members[i].answer)
	}
	network := &v1alpha1.DiseqNetwork{}
	if err := w.client.Get(w.t.Context(), types.NamespacedName{Namespace: "ns", Name: "demo"}, network); err != nil {
		w.t.Fatal(err)
	}
	p := &pass{r: w.operator, network: network, now: w.now, genesis: w.genesis, sets: newHistory(w.genesis), known: true, members: w.members,
		problems: w.problems, log: slog.New(&w.log)}
	seen := p.look()
	if _, err := p.finish(w.t.Context(), membership.PlanPods(seen), membership.PlanSet(seen), nil); err != nil {
		w.t.Fatal(err)
	}
	return p.network
}

// looks looks for a time, every two seconds.
func (w *watchedNetwork) looks(d time.Duration, ill func(look int) map[int]func(*nodeclient.Answer)) *v1alpha1.DiseqNetwork {
	w.t.Helper()
	var n *v1alpha1.DiseqNetwork
	for i := range int(d / changing) {
		w.now = w.now.Add(changing)
		n = w.look(ill(i))
	}
	return n
}

func nothing(int) map[int]func(*nodeclient.Answer) { return nil }

func (w *watchedNetwork) forgetAll() { w.writes, w.beats, w.events, w.log.lines = 0, 0, nil, nil }

func says(n *v1alpha1.DiseqNetwork, kind string) string {
	c := meta.FindStatusCondition(n.Status.Conditions, kind)
	return fmt.Sprintf("%s %s: %s", c.Status, c.Reason, c.Message)
}

// A validator whose answers change with every look is reported once. It is shown as well again
// after it has been well for a while.
//
// Promise 64.
func TestAFlappingValidatorIsReportedOnce(t *testing.T) {
	for name, tt := range map[string]struct {
		ill      func(look int) map[int]func(*nodeclient.Answer)
		degraded string
		moves    int // writes of what moves under traffic, one a minute
	}{
		"abstaining, settling, well": {func(look int) map[int]func(*nodeclient.Answer) {
			return map[int]map[int]func(*nodeclient.Answer){0: {1: deaf}, 1: {1: unsettled}}[look%3]
		}, "Abstaining: demo-v1 abstains: it does not hear enough other validators within 100ms", 0},
		"settling, well": {func(look int) map[int]func(*nodeclient.Answer) {
			return map[int]map[int]func(*nodeclient.Answer){0: {1: unsettled}}[look%7]
		}, "Abstaining: demo-v1 abstains: it does not hear enough other validators within 100ms", 0},
		"behind": {func(look int) map[int]func(*nodeclient.Answer) {
			return map[int]map[int]func(*nodeclient.Answer){0: {1: behind}}[look%2]
		}, "Behind: demo-v1 is 20 blocks behind", 10},
		"slow to answer": {func(look int) map[int]func(*nodeclient.Answer) {
			return map[int]map[int]func(*nodeclient.Answer){0: {1: silent}}[look%5]
		}, "NotAnswering: demo-v1 does not answer: no answer in time", 0},
		"not ready between two probes": {func(look int) map[int]func(*nodeclient.Answer) {
			return map[int]map[int]func(*nodeclient.Answer){0: {1: starved}}[look%4]
		}, "AsExpected: ", 0},
		"something else each time": {func(look int) map[int]func(*nodeclient.Answer) {
			return map[int]map[int]func(*nodeclient.Answer){0: {1: deaf}, 2: {1: behind}, 3: {1: silent}, 5: {1: refuses}}[look%7]
		}, "Abstaining: demo-v1 abstains: it does not hear enough other validators within 100ms", 10},
		"another one each time": {func(look int) map[int]func(*nodeclient.Answer) {
			return map[int]func(*nodeclient.Answer){look % 3: deaf}
		}, "Abstaining: demo-v0 abstains: it does not hear enough other validators within 100ms; demo-v1 abstains: ", 0},
	} {
		t.Run(name, func(t *testing.T) {
			w := watchNetwork(t, 4, 3)
			w.looks(time.Minute, nothing)
			w.forgetAll()
			n := w.looks(10*time.Minute, tt.ill)
			t.Logf("in ten minutes: %d writes, %d events", w.writes, len(w.events))
			// the case of another one each time has three validators
			if w.writes > 3+tt.moves || len(w.events) > 3 {
				t.Errorf("%d writes, %d events: %s", w.writes, len(w.events), strings.Join(w.events[:min(len(w.events), 9)], "\n"))
			}
			if d := says(n, v1alpha1.ConditionDegraded); !strings.Contains(d, tt.degraded) {
				t.Errorf("Degraded %s, want %s", d, tt.degraded)
			}
			if a := says(n, v1alpha1.ConditionAvailable); !strings.HasPrefix(a, "True ThresholdReady: 3 of 4 ") || !strings.Contains(a, "demo-v1") {
				t.Errorf("Available %s: three of four were there whenever it was looked at", a)
			}
			if n.Status.ReadyValidators != 3 || n.Status.DisruptionsAllowed != 0 || n.Status.Members[1].Ready {
				t.Errorf("%d ready, %d may go, member %+v", n.Status.ReadyValidators, n.Status.DisruptionsAllowed, n.Status.Members[1])
			}

			w.forgetAll()
			if n = w.looks(time.Minute-8*changing, nothing); n.Status.Members[1].Ready {
				t.Error("it is well before it has been for a while")
			}
			n = w.looks(9*changing, nothing)
			if a, d := says(n, v1alpha1.ConditionAvailable), says(n, v1alpha1.ConditionDegraded); !n.Status.Members[1].Ready ||
				!strings.HasPrefix(a, "True AllValidatorsReady") || !strings.HasPrefix(d, "False AsExpected") {
				t.Errorf("after a while Available %s, Degraded %s", a, d)
			}
			if w.writes > 4 || len(w.events) > 3 {
				t.Errorf("to be well took %d writes, %d events: %v", w.writes, len(w.events), w.events)
			}
			w.forgetAll()
			if w.looks(10*time.Minute, nothing); w.writes != 0 || len(w.events) != 0 || w.beats < 9 || w.beats > 10 {
				t.Errorf("a network that is well: %d writes, %d that renew the time of the observation, events %v", w.writes, w.beats, w.events)
			}
		})
	}
}

// A lost quorum is reported at once, and once. The quorum is shown as there again after it has been
// there for a while.
//
// Promise 64.
func TestAQuorumThatComesAndGoesIsLostUntilItStays(t *testing.T) {
	w := watchNetwork(t, 4, 3)
	w.looks(time.Minute, nothing)
	w.forgetAll()
	w.now = w.now.Add(changing)
	if a := says(w.look(map[int]func(*nodeclient.Answer){1: deaf, 2: deaf}), v1alpha1.ConditionAvailable); !strings.HasPrefix(a, "False SynchronyLost") {
		t.Errorf("Available %s while it is not", a)
	}
	n := w.looks(10*time.Minute, func(look int) map[int]func(*nodeclient.Answer) {
		return map[int]map[int]func(*nodeclient.Answer){1: {1: deaf, 2: unsettled}}[look%4]
	})
	if a := says(n, v1alpha1.ConditionAvailable); !strings.HasPrefix(a, "False SynchronyLost") || w.writes > 2 || len(w.events) > 3 {
		t.Errorf("%d writes, Available %s, events %v", w.writes, a, w.events)
	}
	// The quorum stays; one of them does not.
	n = w.looks(2*time.Minute, func(look int) map[int]func(*nodeclient.Answer) {
		return map[int]map[int]func(*nodeclient.Answer){1: {1: deaf}}[look%4]
	})
	if a := says(n, v1alpha1.ConditionAvailable); !strings.HasPrefix(a, "True ThresholdReady: 3 of 4") || w.writes > 4 {
		t.Errorf("%d writes, Available %s, events %v", w.writes, a, w.events)
	}
}

// another is a template that no pod here was made from.
var another = appsv1ac.StatefulSet("another", "ns").WithSpec(appsv1ac.StatefulSetSpec().WithTemplate(
	corev1ac.PodTemplateSpec().WithAnnotations(map[string]string{resources.TemplateAnnotation: "another"})))

// An update that waits for a flapping validator reports that in one way. It decides by the network
// that is seen.
//
// Promise 64.
func TestAnUpdateThatWaitsForAFlappingValidatorIsReportedOnce(t *testing.T) {
	w := watchNetwork(t, 3, 3) // each restart needs downtime, which nobody allows
	w.looks(time.Minute, nothing)
	w.forgetAll()
	w.members[0].wanted, w.members[2].wanted = another, another
	n := w.looks(10*time.Minute, func(look int) map[int]func(*nodeclient.Answer) {
		return map[int]map[int]func(*nodeclient.Answer){1: {1: deaf}, 2: {2: unsettled}}[look%4]
	})
	t.Logf("in ten minutes: %d writes, %d events", w.writes, len(w.events))
	if w.writes > 3 || len(w.events) > 4 {
		t.Errorf("%d writes, %d events: %s", w.writes, len(w.events), strings.Join(w.events[:min(len(w.events), 9)], "\n"))
	}
	if p := says(n, v1alpha1.ConditionProgressing); !strings.HasPrefix(p, "True RollingUpdate") || !strings.Contains(p, "demo-v1 abstains") {
		t.Errorf("Progressing %s", p)
	}
}

// A validator that was restarted counts as soon as it votes, whatever was shown of the pod that it
// had, and so do the others that it was waited for with.
//
// Promise 64.
func TestARestartIsNotHeldAgainstAValidator(t *testing.T) {
	w := watchNetwork(t, 4, 3)
	w.looks(time.Minute, nothing)
	w.looks(10*time.Second, func(int) map[int]func(*nodeclient.Answer) { return map[int]func(*nodeclient.Answer){1: deaf} })
	w.restart(1)
	w.restart(2)
	// too few of the others have been there for long
	n := w.looks(4*time.Second, func(int) map[int]func(*nodeclient.Answer) {
		return map[int]func(*nodeclient.Answer){0: deaf, 1: behind, 2: unsettled, 3: unsettled}
	})
	if d := says(n, v1alpha1.ConditionDegraded); !strings.HasPrefix(d, "False AsExpected") && !strings.Contains(d, "Abstaining: demo-v0") {
		t.Errorf("Degraded %s", d)
	}
	if n = w.looks(4*time.Second, nothing); n.Status.ReadyValidators != 4 {
		t.Errorf("%d ready:\n%+v", n.Status.ReadyValidators, n.Status.Members)
	}
}

// An operator that was started anew does not know for how long somebody has been well. It shows
// what it sees: two writes at most.
//
// Promise 64.
func TestAnOperatorThatWasStartedAnewShowsWhatItSees(t *testing.T) {
	w := watchNetwork(t, 4, 3)
	flaps := func(look int) map[int]func(*nodeclient.Answer) {
		return map[int]map[int]func(*nodeclient.Answer){1: {1: deaf}}[look%2]
	}
	w.looks(time.Minute, nothing)
	w.looks(time.Minute, flaps)
	w.forgetAll()
	w.startOperator()
	w.looks(5*time.Minute, flaps)
	if w.writes > 2 {
		t.Errorf("%d writes, events %v", w.writes, w.events)
	}
}
