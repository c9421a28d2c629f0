package controllers

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/diseq/diseq/api/v1alpha1"
	"github.com/diseq/diseq/controllers/membership"
	"github.com/diseq/diseq/controllers/nodeclient"
)

// eventsOnly is a live reader that has events and nothing else.
type eventsOnly struct {
	client.Reader
	events []corev1.Event
	err    error
	asked  []string
}

func (e *eventsOnly) List(_ context.Context, list client.ObjectList, opts ...client.ListOption) error {
	events, ok := list.(*corev1.EventList)
	if !ok {
		return errors.New("it lists other things than events")
	}
	o := (&client.ListOptions{}).ApplyOptions(opts)
	e.asked = append(e.asked, o.Namespace+" "+o.FieldSelector.String())
	events.Items = e.events
	return e.err
}

func event(reason, message string, at time.Time) corev1.Event {
	return corev1.Event{Reason: reason, Message: message, LastTimestamp: metav1.NewTime(at)}
}

// The StatefulSet's controller tells only by events why it makes no pod. After two minutes the
// validator is degraded, with the words of the last one.
func TestAValidatorWithoutAPodIsDegradedWithTheWordsOfTheAPIServer(t *testing.T) {
	const failed = `create Pod demo-v1-0 in StatefulSet demo-v1 failed error: pods "demo-v1-0" is forbidden: `
	start := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	forbidden := apierrors.NewForbidden(schema.GroupResource{Resource: "events"}, "", nil)
	for name, tt := range map[string]struct {
		events []corev1.Event
		err    error
		change func(*member)
		want   string // of Degraded; empty if it is not
	}{
		"a quota": {events: []corev1.Event{event("FailedCreate", failed+"exceeded quota: few, requested: pods=1, used: pods=3, limited: pods=3", start)},
			want: `PodMissing: demo-v1 has had no pod for 2 minutes: pods "demo-v1-0" is forbidden: exceeded quota: few, requested: pods=1, ` +
				"used: pods=3, limited: pods=3. Raise the ResourceQuota, or lower spec.podTemplate.resources"},
		"a security level": {events: []corev1.Event{event("FailedCreate", failed+`violates PodSecurity "restricted:latest": privileged`, start)},
			want: `PodMissing: demo-v1 has had no pod for 2 minutes: pods "demo-v1-0" is forbidden: violates PodSecurity`},
		"a webhook that is down": {events: []corev1.Event{event("FailedCreate",
			"create Pod demo-v1-0 in StatefulSet demo-v1 failed error: Internal error occurred: failed calling webhook \"w\": connection refused", start)},
			want: "connection refused. Repair the webhook"},
		"the last one counts": {events: []corev1.Event{event("FailedCreate", failed+"new", start.Add(time.Minute)), event("FailedCreate", failed+"old", start)},
			want: `is forbidden: new`},
		"it was made in between": {events: []corev1.Event{event("FailedCreate", failed+"old", start),
			event("SuccessfulCreate", "create Pod demo-v1-0 in StatefulSet demo-v1 successful", start.Add(time.Minute))},
			want: "PodMissing: demo-v1 has had no pod for 2 minutes: no event says why. See whether the cluster's kube-controller-manager runs, and " +
				"kubectl -n ns describe statefulset demo-v1"},
		"no event":                {want: "no event says why"},
		"events must not be read": {err: forbidden, want: "the operator may not list events, so ask for the cause: kubectl -n ns describe statefulset demo-v1"},
		"events cannot be read":   {err: errors.New("timeout"), want: "the events that say why cannot be read now: kubectl"},
		"it is to have none":      {change: func(m *member) { m.set.Spec.Replicas = new(int32(0)) }},
		"nobody looks at it": {change: func(m *member) { m.set.Generation = 2 },
			want: "PodMissing: demo-v1 has had no pod for 2 minutes: the controller of StatefulSets does not look at it: "},
		"it is being deleted": {change: func(m *member) {
			m.set.DeletionTimestamp, m.set.Finalizers = &metav1.Time{Time: start}, []string{"x/y"}
		},
			want: "its StatefulSet is being deleted and stays: see who has to remove its finalizers [x/y]"},
		"nobody looks at the change of one that has a pod": {change: func(m *member) {
			m.set.Generation = 2
			m.pod = &corev1.Pod{Status: corev1.PodStatus{Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue,
				LastTransitionTime: metav1.NewTime(start)}}}}
		}, want: "StatefulSetIgnored: demo-v1 has a StatefulSet whose last change its controller has not looked at for 2 minutes"},
	} {
		t.Run(name, func(t *testing.T) {
			w := watchNetwork(t, 4, 3)
			live := &eventsOnly{events: tt.events, err: tt.err}
			w.operator.live = live
			w.members[1].pod = nil
			w.members[1].set = &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Name: "demo-v1", UID: "u", Generation: 1},
				Status: appsv1.StatefulSetStatus{ObservedGeneration: 1}}
			if tt.change != nil {
				tt.change(w.members[1])
			}
			look := func() *v1alpha1.DiseqNetwork {
				w.absences()
				return w.look(nil)
			}
			look()
			w.now = start.Add(membership.StartTime - time.Second)
			n := look()
			if strings.Contains(says(n, v1alpha1.ConditionDegraded), "True") || len(live.asked) > 0 {
				t.Errorf("within two minutes: %s, asked for %v", says(n, v1alpha1.ConditionDegraded), live.asked)
			}
			for range 3 {
				w.now = w.now.Add(2 * time.Second)
				n = look()
			}
			if got := says(n, v1alpha1.ConditionDegraded); tt.want == "" && !strings.HasPrefix(got, "False") || !strings.Contains(got, tt.want) {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
			if len(live.asked) > 1 {
				t.Errorf("within some seconds it listed events %d times", len(live.asked))
			}
			for _, asked := range live.asked {
				if !strings.HasPrefix(asked, "ns ") || !strings.Contains(asked, "involvedObject.uid=u") || !strings.Contains(asked, "involvedObject.kind=StatefulSet") {
					t.Errorf("it lists %s", asked)
				}
			}
			if w.members[1].pod == nil && !w.members[1].ignored {
				if got := says(n, v1alpha1.ConditionProgressing); strings.Contains(got, "StartingPods") {
					t.Errorf("it is shown as on its way: %s", got)
				}
				w.restart(1) // there is a pod
				if got := says(look(), v1alpha1.ConditionDegraded); !strings.HasPrefix(got, "False AsExpected") {
					t.Errorf("with a pod: %s", got)
				}
			}
		})
	}
}

// A volume that cannot be mounted leaves a pod that says nothing but ContainerCreating. After two
// minutes its validator is degraded, with the words of the last warning about the pod.
func TestAPodThatDoesNotStartIsToldWithTheWordsOfKubernetes(t *testing.T) {
	start := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	creating := func(reason string) []corev1.ContainerStatus {
		return []corev1.ContainerStatus{{State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason}}}}
	}
	warning := func(reason, message string, at time.Time) corev1.Event {
		e := event(reason, message, at)
		e.Type = corev1.EventTypeWarning
		return e
	}
	mount := warning("FailedMount", `MountVolume.SetUp failed for volume "genesis" : configmap "demo-genesis" not found`, start.Add(time.Minute))
	for name, tt := range map[string]struct {
		events []corev1.Event
		change func(*corev1.Pod)
		want   string
	}{
		"a volume": {events: []corev1.Event{mount, warning("FailedAttachVolume", "of before", start), warning("FailedScheduling", "of before", start)},
			want: `PodFailed: demo-v1 does not run: FailedMount (MountVolume.SetUp failed for volume "genesis" : configmap "demo-genesis" not found)`},
		"no event": {want: "NotReady: demo-v1 is not ready"},
		"it has been started": {events: []corev1.Event{mount}, want: "NotReady: demo-v1 is not ready", change: func(p *corev1.Pod) {
			p.Status.Phase = corev1.PodRunning
			p.Status.ContainerStatuses[0].State = corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
		}},
		"it says why itself": {events: []corev1.Event{mount}, want: "ImagePullFailed: demo-v1 does not run: ErrImagePull", change: func(p *corev1.Pod) {
			p.Status.ContainerStatuses = creating("ErrImagePull")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			w := watchNetwork(t, 4, 3)
			live := &eventsOnly{events: tt.events}
			w.operator.live = live
			pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "demo-v1-0", UID: "u", CreationTimestamp: metav1.NewTime(start)},
				Spec:   corev1.PodSpec{NodeName: "worker"},
				Status: corev1.PodStatus{Phase: corev1.PodPending, ContainerStatuses: creating("ContainerCreating")}}
			if tt.change != nil {
				tt.change(pod)
			}
			w.members[1].pod = pod
			for range 62 {
				w.now = w.now.Add(2 * time.Second)
				w.absences()
				w.look(map[int]func(*nodeclient.Answer){1: silent})
			}
			if got := says(w.look(map[int]func(*nodeclient.Answer){1: silent}), v1alpha1.ConditionDegraded); !strings.HasPrefix(got, "True "+tt.want) {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
			if len(live.asked) > 1 {
				t.Errorf("within some seconds it listed events %d times", len(live.asked))
			}
		})
	}
}

// absences is the part of a reconcile that finds out why pods are not there or do not start.
func (w *watchedNetwork) absences() {
	p := &pass{r: w.operator, network: &v1alpha1.DiseqNetwork{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "demo"}}, now: w.now, members: w.members}
	p.readAbsences(w.t.Context())
}

func TestADeletedNetworkIsForgotten(t *testing.T) {
	var a absences
	at := types.NamespacedName{Namespace: "ns", Name: "demo"}
	a.of(at, "demo-v0").podless = time.Now()
	a.drop(at)
	if !a.of(at, "demo-v0").podless.IsZero() {
		t.Error("it is remembered")
	}
}
