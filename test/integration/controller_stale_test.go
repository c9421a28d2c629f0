package integration

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/diseq/diseq/api/v1alpha1"
)

// lagging is a cache that shows the past: each kind and namespace as it was several lists ago. It
// starts with nothing, as a cache does that has only just been filled by an API server that lags
// itself.
type lagging struct {
	client.Client
	mu   sync.Mutex
	lag  int
	past map[string][]client.ObjectList
}

func behindBy(lag int) func(client.Client) client.Client {
	return func(c client.Client) client.Client {
		return &lagging{Client: c, lag: lag, past: map[string][]client.ObjectList{}}
	}
}

func (l *lagging) List(ctx context.Context, list client.ObjectList, opts ...client.ListOption) error {
	now, ok := list.DeepCopyObject().(client.ObjectList)
	if !ok {
		return fmt.Errorf("%T is no list", list)
	}
	if err := l.Client.List(ctx, now, opts...); err != nil {
		return err
	}
	o := (&client.ListOptions{}).ApplyOptions(opts)
	l.mu.Lock()
	defer l.mu.Unlock()
	key := fmt.Sprintf("%T %s %v", list, o.Namespace, o.LabelSelector)
	l.past[key] = append(l.past[key], now)
	if len(l.past[key]) <= l.lag {
		return nil // nothing is known yet
	}
	return runtime.DefaultUnstructuredConverter.FromUnstructured(unstructuredOf(l.past[key][len(l.past[key])-1-l.lag]), list)
}

func unstructuredOf(o runtime.Object) map[string]any {
	u, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
	if err != nil {
		panic(err) // types of the API have a form
	}
	return u
}

// With a cache that shows the past, the operator waits or is refused; nothing that it does is
// wrong. In particular the operator does not conclude from an empty cache that keys, volumes or
// StatefulSets are missing.
//
// Promise 57.
// Promise 63.
func TestAnOldCacheMakesTheOperatorWaitNotErr(t *testing.T) {
	for lag := 1; lag <= 3; lag++ {
		t.Run(fmt.Sprintf("%d lists behind", lag), func(t *testing.T) {
			c := newCluster(t)
			c.apply("demo")
			o := newOperatorReading(t, c, behindBy(lag))
			o.settle("demo")
			keys := c.keys()

			// An update: the old pods are still shown when they are gone.
			c.edit("demo", toImage("diseq:next"))
			for step := range 60 {
				o.reconcile("demo")
				if ready := c.ready(); ready < 3 {
					t.Fatalf("step %d: %d of threshold 3 validators are ready", step, ready)
				}
				c.step(t.Context())
			}
			o.settle("demo")
			for pod, image := range c.images() {
				if image != "diseq:next" {
					t.Errorf("%s runs %s", pod, image)
				}
			}

			// A lost volume: the old claim is still shown when it is gone.
			c.loseVolume("demo-v1")
			for range lag + 1 {
				o.reconcile("demo")
				c.step(t.Context())
			}
			o.settle("demo")
			c.checkStatements()

			// A new operator, whose cache starts empty, on a network that runs.
			before := uids(t, c)
			late := newOperatorReading(t, c, behindBy(lag))
			for range lag + 2 {
				late.reconcile("demo")
				c.step(t.Context())
			}
			late.settle("demo")
			for _, w := range late.journal.writes {
				if !strings.HasPrefix(w, "patch status") {
					t.Errorf("an operator whose cache was empty wrote %s", w)
				}
			}
			for name, uid := range before {
				if uids(t, c)[name] != uid {
					t.Errorf("%s was replaced by an operator whose cache was empty", name)
				}
			}
			for name, key := range c.keys() {
				if keys[name] != key {
					t.Errorf("Secret %s changed", name)
				}
			}
			c.checkStatements()
		})
	}
}

// uids are those of the pods and volumes.
func uids(t *testing.T, c *cluster) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, list := range []client.ObjectList{&corev1.PodList{}, &corev1.PersistentVolumeClaimList{}} {
		if err := c.client.List(t.Context(), list, c.in()); err != nil {
			t.Fatal(err)
		}
		for _, o := range items(t, list) {
			all[typeName(o)+" "+o.GetName()] = string(o.GetUID())
		}
	}
	return all
}

// The operator that hung while another one was elected, and wakes up with what it had observed,
// changes nothing: what it writes depends on what it saw.
//
// Promise 58.
func TestAnOperatorThatWakesUpLateChangesNothing(t *testing.T) {
	c := newCluster(t)
	c.apply("demo")
	newOperator(t, c).settle("demo")
	// It has read from the API server that demo-v1 is on its first volume, and hangs right before
	// it writes the StatefulSet that says so.
	asleep, wake := make(chan struct{}), make(chan struct{})
	sleeper := newOperatorReading(t, c, func(inner client.Client) client.Client {
		return &sleeping{Client: inner, kind: "StatefulSet", name: "demo-v1", asleep: asleep, wake: wake}
	})
	c.edit("demo", toImage("diseq:next"))
	done := make(chan struct{})
	go func() {
		defer close(done)
		sleeper.reconcile("demo")
	}()
	await(t, "the operator to hang", asleep)
	c.edit("demo", toImage("diseq:after"))
	o := newOperator(t, c)
	o.settle("demo")
	c.loseVolume("demo-v1")
	o.until("demo", "on a new volume", func(*v1alpha1.DiseqNetwork) bool {
		pod := &corev1.Pod{}
		return c.client.Get(t.Context(), client.ObjectKey{Namespace: c.namespace, Name: "demo-v1-0"}, pod) == nil && podReady(pod) &&
			!states(pod.Spec.Containers)
	})
	before, templates := uids(t, c), c.templates()
	close(wake)
	await(t, "the operator that hung to end", done)
	for range 3 {
		c.step(t.Context())
	}
	for name, uid := range before {
		if uids(t, c)[name] != uid {
			t.Errorf("%s was replaced by an operator that woke up late", name)
		}
	}
	for name, template := range c.templates() {
		if template != templates[name] {
			t.Errorf("an operator that woke up late changed the template of %s from %s to %s", name, templates[name], template)
		}
	}
	c.checkStatements()
}

// templates are the images and arguments in the StatefulSets' templates.
func (c *cluster) templates() map[string]string {
	c.t.Helper()
	sets := &appsv1.StatefulSetList{}
	if err := c.client.List(c.t.Context(), sets, c.in()); err != nil {
		c.t.Fatal(err)
	}
	templates := map[string]string{}
	for _, s := range sets.Items {
		templates[s.Name] = fmt.Sprint(s.Spec.Template.Spec.Containers[0].Image, s.Spec.Template.Spec.Containers[0].Args)
	}
	return templates
}

// sleeping stops before it writes one object until it is woken.
type sleeping struct {
	client.Client
	kind, name   string
	once         sync.Once
	asleep, wake chan struct{}
}

func (s *sleeping) sleep() {
	s.once.Do(func() {
		close(s.asleep)
		<-s.wake
	})
}

func (s *sleeping) Apply(ctx context.Context, o runtime.ApplyConfiguration, opts ...client.ApplyOption) error {
	if object, ok := o.(client.Object); ok && object.GetName() == s.name && object.GetObjectKind().GroupVersionKind().Kind == s.kind {
		s.sleep()
	}
	return s.Client.Apply(ctx, o, opts...)
}
