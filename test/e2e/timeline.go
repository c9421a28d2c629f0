package e2e

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	ctrl "sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/diseq/diseq/api/v1alpha1"
)

// A Timeline records what happens to the pods and the resource of a network. It watches them, so
// that it sees states that last for milliseconds as well.
type Timeline struct {
	network *Network
	stop    func()

	mu    sync.Mutex
	begun time.Time
	// down are the validators without a pod that stays and has become ready. Kubelets sometimes
	// report a new pod as not ready for a moment after it became ready. The timeline logs that but
	// does not count it: nobody took the pod down.
	down   map[string]bool
	up     map[types.UID]bool // pods that have ever become ready
	most   []string           // the most that were down at once
	order  []string           // the validators in the order in which they went down
	phases map[string][]v1alpha1.MemberPhase
	// conditions are the last states of each condition; lines is the log for people.
	conditions map[string]string
	lines      []string
}

// Timeline watches the network until Stop or the end of the test.
func (n *Network) Timeline() *Timeline {
	n.tb.Helper()
	t := &Timeline{
		network: n, begun: time.Now(), down: map[string]bool{}, up: map[types.UID]bool{},
		phases: map[string][]v1alpha1.MemberPhase{}, conditions: map[string]string{},
	}
	c, err := cache.New(n.Config, cache.Options{Scheme: n.scheme, DefaultNamespaces: map[string]cache.Config{n.Namespace: {}}})
	must(n.tb, err)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	t.stop = sync.OnceFunc(func() {
		cancel()
		running.Wait()
	})
	n.tb.Cleanup(t.stop)
	running.Go(func() { _ = c.Start(ctx) }) // it only ends with ctx
	t.on(ctx, c, &corev1.Pod{}, t.pod)
	t.on(ctx, c, &v1alpha1.DiseqNetwork{}, t.resource)
	return t
}

// on calls each with every state of the objects of a kind, and with the last one and gone when one
// is deleted.
func (t *Timeline) on(ctx context.Context, c cache.Cache, kind ctrl.Object, each func(o ctrl.Object, gone bool)) {
	t.network.tb.Helper()
	informer, err := c.GetInformer(ctx, kind)
	must(t.network.tb, err)
	call := func(o any, gone bool) {
		if last, ok := o.(toolscache.DeletedFinalStateUnknown); ok {
			o = last.Obj
		}
		t.mu.Lock()
		defer t.mu.Unlock()
		each(o.(ctrl.Object), gone)
	}
	_, err = informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc: func(o any) { call(o, false) }, UpdateFunc: func(_, o any) { call(o, false) }, DeleteFunc: func(o any) { call(o, true) },
	})
	must(t.network.tb, err)
}

func (t *Timeline) say(format string, args ...any) {
	t.lines = append(t.lines, fmt.Sprintf("%6.1fs ", time.Since(t.begun).Seconds())+fmt.Sprintf(format, args...))
}

func (t *Timeline) pod(o ctrl.Object, gone bool) {
	pod := o.(*corev1.Pod)
	validator, ok := pod.Labels["diseq.io/validator"]
	if !ok || pod.Labels["diseq.io/network"] != t.network.Name {
		return
	}
	stays := !gone && pod.DeletionTimestamp == nil
	last, before := t.up[pod.UID]
	if stays && before && last != ready0(pod) {
		t.say("%s: ready is %t again", pod.Name, ready0(pod))
	}
	if stays && (before || ready0(pod)) {
		t.up[pod.UID] = ready0(pod)
	}
	up := stays && (before || ready0(pod))
	if up == !t.down[validator] {
		return
	}
	if up {
		delete(t.down, validator)
		t.say("%s is ready: %s", pod.Name, pod.Spec.Containers[0].Image)
		return
	}
	t.down[validator] = true
	t.order = append(t.order, validator)
	t.say("%s is not ready", pod.Name)
	if len(t.down) > len(t.most) {
		t.most = slices.Sorted(maps.Keys(t.down))
	}
}

func (t *Timeline) resource(o ctrl.Object, gone bool) {
	d := o.(*v1alpha1.DiseqNetwork)
	if d.Name != t.network.Name || gone {
		return
	}
	for _, m := range d.Status.Members {
		if seen := t.phases[m.Name]; len(seen) == 0 || seen[len(seen)-1] != m.Phase {
			t.phases[m.Name] = append(seen, m.Phase)
			t.say("%s: phase %s %s", m.Name, m.Phase, m.Reason)
		}
	}
	for _, c := range d.Status.Conditions {
		// Messages have numbers that change with every block. They are logged with a new reason
		// only.
		now := fmt.Sprintf("%s=%s/%s", c.Type, c.Status, c.Reason)
		if t.conditions[c.Type] != now {
			t.conditions[c.Type] = now
			t.say("%s: %s", now, c.Message)
		}
	}
}

// Most returns the largest set of validators that were down at once.
func (t *Timeline) Most() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.most)
}

// Order returns the validators in the order in which they went down.
func (t *Timeline) Order() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.order)
}

// Phases returns the phases of a member in order, without repetitions.
func (t *Timeline) Phases(member string) []v1alpha1.MemberPhase {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.phases[member])
}

// Log logs the timeline.
func (t *Timeline) Log(tb testing.TB) {
	tb.Helper()
	t.mu.Lock()
	defer t.mu.Unlock()
	tb.Logf("%s as it was watched:\n%s", t.network.Name, strings.Join(t.lines, "\n"))
}
