package controllers

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/diseq/diseq/controllers/membership"
	"github.com/diseq/diseq/controllers/resources"
)

// A pod that the API server refuses leaves no trace in the StatefulSet: its controller tells only
// by events. A volume that cannot be attached or mounted leaves none in the pod. So if a validator
// has had no pod for longer than a start takes, or one that did not start, the operator reads the
// events of that StatefulSet or pod, and of nothing else. It lists them seldom and never watches
// them.

// wordsAgain is how long the words of an event are kept before they are read again.
const wordsAgain = 20 * time.Second

// absences remember since when validators have had no pod, or a StatefulSet that nobody looks at.
// They are lost with the operator: the next one counts from its first look.
type absences struct {
	mu sync.Mutex
	by map[types.NamespacedName]map[string]*absence
}

// absence is what is remembered of one validator.
type absence struct {
	// podless is when it was first seen without a pod; zero while it has one.
	podless time.Time
	// unseen is when the controller was first seen to lag behind the StatefulSet, at the generation
	// that it had observed; zero while it does not.
	unseen   time.Time
	observed int64
	// words are those of the last event, read at that time. unmade are those of the last event of a
	// pod whose containers were never started, and its reason.
	words          string
	unmade, reason string
	pod            types.UID
	read           time.Time
}

// of is what is remembered of a validator. A network is reconciled once at a time, so that the
// caller may change it.
func (a *absences) of(network types.NamespacedName, validator string) *absence {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.by == nil {
		a.by = map[types.NamespacedName]map[string]*absence{}
	}
	if a.by[network] == nil {
		a.by[network] = map[string]*absence{}
	}
	if a.by[network][validator] == nil {
		a.by[network][validator] = &absence{}
	}
	return a.by[network][validator]
}

// drop removes what is remembered of a deleted network.
func (a *absences) drop(network types.NamespacedName) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.by, network)
}

// take takes note of a member as it is seen now.
func (a *absence) take(m *member, now time.Time) {
	switch podless := m.set != nil && m.pod == nil && (m.set.Spec.Replicas == nil || *m.set.Spec.Replicas > 0); {
	case !podless:
		a.podless, a.words = time.Time{}, ""
		if m.pod == nil || m.pod.UID != a.pod {
			a.unmade, a.reason, a.read = "", "", time.Time{}
		}
	case a.podless.IsZero():
		a.podless = now
	}
	switch unseen := m.set != nil && m.set.Status.ObservedGeneration < m.set.Generation; {
	case !unseen:
		a.unseen = time.Time{}
	case a.unseen.IsZero(), a.observed != m.set.Status.ObservedGeneration:
		a.unseen, a.observed = now, m.set.Status.ObservedGeneration
	}
}

func long(since, now time.Time) bool {
	return !since.IsZero() && now.Sub(since) >= membership.StartTime
}

// readAbsences finds out why members have had no pod for longer than a start takes.
func (p *pass) readAbsences(ctx context.Context) {
	for _, m := range p.members {
		a := p.r.absences.of(p.key(), m.name)
		a.take(m, p.now)
		m.ignored = long(a.unseen, p.now)
		if m.pod != nil && neverStarted(m.pod) && long(m.pod.CreationTimestamp.Time, p.now) {
			if a.pod != m.pod.UID || p.now.Sub(a.read) >= wordsAgain {
				a.reason, a.unmade = p.startRefusal(ctx, m)
				a.pod, a.read = m.pod.UID, p.now
			}
			m.noStart, m.noStartWords = a.reason, a.unmade
		}
		if !long(a.podless, p.now) {
			continue
		}
		if a.read.IsZero() || p.now.Sub(a.read) >= wordsAgain {
			a.words, a.read = p.refusal(ctx, m), p.now
		}
		m.noPod = a.words
	}
}

// neverStarted says whether a pod has a machine, and the kubelet has started none of its containers
// and says of none why.
func neverStarted(pod *corev1.Pod) bool {
	if pod.Spec.NodeName == "" || pod.DeletionTimestamp != nil || pod.Status.Phase != corev1.PodPending {
		return false
	}
	for _, c := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		w := c.State.Waiting
		if w == nil || w.Reason != "" && w.Reason != "ContainerCreating" && w.Reason != "PodInitializing" {
			return false
		}
	}
	return true
}

// startRefusal says why the kubelet does not start a member's pod: reason and words of the last
// warning about it. Both are empty if there is none, or if it cannot be read.
func (p *pass) startRefusal(ctx context.Context, m *member) (reason, words string) {
	last, err := p.lastEvent(ctx, "Pod", m.pod.Name, m.pod.UID, func(e *corev1.Event) bool {
		return e.Type == corev1.EventTypeWarning && e.Reason != "FailedScheduling" && e.Reason != "Unhealthy"
	})
	if err != nil {
		p.logger().Debug("events of a pod that does not start", "name", m.pod.Name, "err", err)
		return "", ""
	}
	if last == nil {
		return "", ""
	}
	return last.Reason, shortWords(last.Message)
}

// lastEvent is the last event of one object, of those that count; nil if there is none.
func (p *pass) lastEvent(ctx context.Context, kind, name string, uid types.UID, counts func(*corev1.Event) bool) (*corev1.Event, error) {
	var last *corev1.Event
	err := eachPage(ctx, p.r.live, func() *corev1.EventList { return &corev1.EventList{} }, func(list *corev1.EventList) bool {
		for i := range list.Items {
			if e := &list.Items[i]; counts(e) && (last == nil || !happened(e).Before(happened(last))) {
				last = e.DeepCopy() // it must not hold the page
			}
		}
		return false
	}, client.InNamespace(p.network.Namespace), client.MatchingFieldsSelector{Selector: fields.SelectorFromSet(
		fields.Set{"involvedObject.kind": kind, "involvedObject.name": name, "involvedObject.uid": string(uid)})})
	return last, err
}

// shortWords are words in one line that fit a condition.
func shortWords(words string) string {
	const most = 400
	words = strings.Join(strings.Fields(words), " ")
	if len(words) > most {
		words = strings.ToValidUTF8(words[:most], "") + "..."
	}
	return words
}

// refusal says why a member has no pod, and what to do.
func (p *pass) refusal(ctx context.Context, m *member) string {
	pod := resources.PodName(m.name)
	_, taken := cached[*corev1.Pod](p, pod)
	switch {
	case taken:
		return fmt.Sprintf("pod %s was not made by its StatefulSet and takes the name: delete it if nobody needs it", pod)
	case m.set.DeletionTimestamp != nil:
		return fmt.Sprintf("its StatefulSet is being deleted and stays: see who has to remove its finalizers %v", m.set.Finalizers)
	case m.ignored:
		return "the controller of StatefulSets does not look at it: see whether the cluster's kube-controller-manager runs"
	}
	look := fmt.Sprintf("kubectl -n %s describe statefulset %s", p.network.Namespace, m.name)
	words, err := p.refusedWords(ctx, m)
	switch {
	case apierrors.IsForbidden(err):
		return "the operator may not list events, so ask for the cause: " + look
	case err != nil:
		p.logger().Debug("events of a StatefulSet without a pod", "name", m.name, "err", err)
		return "the events that say why cannot be read now: " + look
	case words == "":
		return "no event says why. See whether the cluster's kube-controller-manager runs, and " + look
	}
	return words + advice(words)
}

// refusedWords are the API server's words in the last event of a member's StatefulSet, if that is
// about a pod that could not be made.
func (p *pass) refusedWords(ctx context.Context, m *member) (string, error) {
	last, err := p.lastEvent(ctx, "StatefulSet", m.name, m.set.UID, func(e *corev1.Event) bool {
		return e.Reason == "FailedCreate" || e.Reason == "SuccessfulCreate" && strings.Contains(e.Message, resources.PodName(m.name))
	})
	if err != nil {
		return "", err
	}
	if last == nil || last.Reason != "FailedCreate" {
		return "", nil
	}
	words := last.Message
	if _, after, ok := strings.Cut(words, "failed error: "); ok {
		words = after
	}
	return shortWords(words), nil
}

// happened is when an event happened last.
func happened(e *corev1.Event) time.Time {
	switch {
	case e.Series != nil:
		return e.Series.LastObservedTime.Time
	case !e.LastTimestamp.IsZero():
		return e.LastTimestamp.Time
	case !e.EventTime.IsZero():
		return e.EventTime.Time
	}
	return e.CreationTimestamp.Time
}

// advice says what to do about the API server's words, as the sentence after them.
func advice(words string) string {
	for _, a := range []struct{ contains, do string }{
		{"exceeded quota", "Raise the ResourceQuota, or lower spec.podTemplate.resources"},
		{"failed quota", "Set what it asks for in spec.podTemplate.resources"},
		{"usage per Container", "Change the LimitRange or spec.podTemplate.resources"},
		{"usage per Pod", "Change the LimitRange or spec.podTemplate.resources"},
		{"violates PodSecurity", "Correct what adds to the pods, or spec.podTemplate"},
		{"failed calling webhook", "Repair the webhook, or exempt the namespace from it"},
		{"denied the request", "Change the policy, or the pods by spec.podTemplate"},
		{"no PriorityClass", "Make it, or correct spec.podTemplate.priorityClassName"},
	} {
		if strings.Contains(words, a.contains) {
			return ". " + a.do
		}
	}
	return ""
}
