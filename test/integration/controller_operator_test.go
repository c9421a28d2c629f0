package integration

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/retry"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/diseq/diseq/api/v1alpha1"
	"github.com/diseq/diseq/controllers"
	"github.com/diseq/diseq/controllers/resources"
	"github.com/diseq/diseq/test/integration/harness"
)

// The tests read the status and the events, not the log.
func init() { ctrl.SetLogger(logr.Discard()) }

// lists are the kinds that a network's objects are of, Secrets included: tests may list them.
func lists() []client.ObjectList {
	return []client.ObjectList{
		&appsv1.StatefulSetList{}, &corev1.PodList{}, &corev1.PersistentVolumeClaimList{}, &corev1.ConfigMapList{}, &corev1.ServiceList{},
		&corev1.ServiceAccountList{}, &policyv1.PodDisruptionBudgetList{}, &networkingv1.NetworkPolicyList{}, &corev1.SecretList{},
	}
}

func typeName(o client.Object) string { return reflect.TypeOf(o).String() }

func items(t testing.TB, list client.ObjectList) []client.Object {
	t.Helper()
	var objects []client.Object
	err := meta.EachListItem(list, func(o runtime.Object) error {
		objects = append(objects, o.(client.Object))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return objects
}

// journal counts writes and fails a chosen one.
type journal struct {
	mu     sync.Mutex
	writes []string
	// failAt is the write, counted from 1, at which the operator is killed; before says whether the
	// write still happens.
	failAt int
	before bool
	// after is called after each write; nil if nobody wants to know.
	after func()
}

// killed is what the operator dies of.
type killed struct{ write string }

func (j *journal) did(what string, write func() error) error {
	j.mu.Lock()
	j.writes = append(j.writes, what)
	die := len(j.writes) == j.failAt
	j.mu.Unlock()
	if die && j.before {
		panic(killed{what})
	}
	err := write()
	if j.after != nil {
		j.after()
	}
	if die {
		panic(killed{what})
	}
	return err
}

func (j *journal) count() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.writes)
}

func (j *journal) funcs() interceptor.Funcs {
	named := func(verb string, o any) string {
		object, ok := o.(client.Object)
		if !ok {
			return fmt.Sprintf("%s %T", verb, o)
		}
		kind := object.GetObjectKind().GroupVersionKind().Kind
		if kind == "" {
			kind = strings.TrimPrefix(fmt.Sprintf("%T", o), "*v1.")
		}
		return fmt.Sprintf("%s %s %s", verb, kind, object.GetName())
	}
	return interceptor.Funcs{
		Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			return j.did(named("create", o), func() error { return c.Create(ctx, o, opts...) })
		},
		Delete: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.DeleteOption) error {
			return j.did(named("delete", o), func() error { return c.Delete(ctx, o, opts...) })
		},
		Update: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.UpdateOption) error {
			return j.did(named("update", o), func() error { return c.Update(ctx, o, opts...) })
		},
		Patch: func(ctx context.Context, c client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
			return j.did(named("patch", o), func() error { return c.Patch(ctx, o, p, opts...) })
		},
		Apply: func(ctx context.Context, c client.WithWatch, o runtime.ApplyConfiguration, opts ...client.ApplyOption) error {
			return j.did(named("apply", o), func() error { return c.Apply(ctx, o, opts...) })
		},
		SubResourcePatch: func(ctx context.Context, c client.Client, sub string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
			return j.did(named("patch "+sub, o), func() error { return c.SubResource(sub).Patch(ctx, o, p, opts...) })
		},
		SubResourceApply: func(ctx context.Context, c client.Client, sub string, o runtime.ApplyConfiguration, opts ...client.SubResourceApplyOption) error {
			return j.did(named("apply "+sub, o), func() error { return c.SubResource(sub).Apply(ctx, o, opts...) })
		},
	}
}

// recorded keeps events.
type recorded struct {
	mu     sync.Mutex
	events []string
}

func (r *recorded) Eventf(_ runtime.Object, _ runtime.Object, kind, reason, action, note string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, fmt.Sprintf("%s %s %s: %s", kind, reason, action, fmt.Sprintf(note, args...)))
}

// operator is one life of the operator, called by the test instead of by a queue.
type operator struct {
	t       testing.TB
	cluster *cluster
	*controllers.Reconciler
	journal *journal
	events  *recorded
	// late is by how much its clock is ahead of the others.
	late time.Duration
}

// skip lets time pass for the operator alone.
func (o *operator) skip(d time.Duration) { o.late += d }

const testImage = "diseq:test"

// newOperator makes one with the rights of the operator's account, which the admission policy
// holds, and that reads from the API server itself: nothing it sees is old.
func newOperator(t testing.TB, c *cluster) *operator { return newOperatorReading(t, c, nil) }

// newOperatorReading makes one whose cache is what reads says.
func newOperatorReading(t testing.TB, c *cluster, reads func(client.Client) client.Client) *operator {
	t.Helper()
	return newOperatorWith(t, c, reads, prometheus.NewRegistry())
}

func newOperatorWith(t testing.TB, c *cluster, reads func(client.Client) client.Client, registry *prometheus.Registry) *operator {
	t.Helper()
	return newOperatorOf(t, c, harness.AsOperator(t), reads, registry)
}

// newOperatorOf makes one with the rights of a user.
func newOperatorOf(
	t testing.TB, c *cluster, config *rest.Config, reads func(client.Client) client.Client, registry *prometheus.Registry,
) *operator {
	t.Helper()
	base, err := client.NewWithWatch(config, client.Options{Scheme: harness.Scheme()})
	if err != nil {
		t.Fatal(err)
	}
	o := &operator{t: t, cluster: c, journal: &journal{}, events: &recorded{}}
	var writing client.Client = interceptor.NewClient(base, o.journal.funcs())
	if reads != nil {
		writing = reads(writing)
	}
	o.build(resources.Operator{NodeImage: testImage, Namespace: "diseq-system"}, registry, writing, base)
	return o
}

// newOperatorFor makes one of another description.
func newOperatorFor(t testing.TB, c *cluster, as resources.Operator) *operator {
	t.Helper()
	base, err := client.NewWithWatch(harness.AsOperator(t), client.Options{Scheme: harness.Scheme()})
	if err != nil {
		t.Fatal(err)
	}
	o := &operator{t: t, cluster: c, journal: &journal{}, events: &recorded{}}
	o.build(as, prometheus.NewRegistry(), interceptor.NewClient(base, o.journal.funcs()), base)
	return o
}

func (o *operator) build(as resources.Operator, registry *prometheus.Registry, writing client.Client, base client.WithWatch) {
	o.t.Helper()
	var err error
	o.Reconciler, err = controllers.New(controllers.Options{
		Operator: as, Concurrency: 1, Resync: 10 * time.Second,
		Nodes: o.cluster.nodes, Registerer: registry, Now: func() time.Time { return time.Now().Add(o.late) },
	}, writing, base, base.RESTMapper(), o.events)
	if err != nil {
		o.t.Fatal(err)
	}
}

// reconcile runs one reconcile and says whether the operator was killed in it.
func (o *operator) reconcile(name string) (wasKilled bool) {
	o.t.Helper()
	defer func() {
		if r := recover(); r != nil {
			if _, ok := r.(killed); !ok {
				panic(r)
			}
			wasKilled = true
		}
	}()
	_, err := o.Reconcile(o.t.Context(), reconcile.Request{NamespacedName: types.NamespacedName{Namespace: o.cluster.namespace, Name: name}})
	if err != nil {
		o.t.Fatalf("reconcile %s: %v", name, err)
	}
	return false
}

// until reconciles, and lets the cluster work, until the network is as wanted.
func (o *operator) until(name, what string, is func(*v1alpha1.DiseqNetwork) bool) *v1alpha1.DiseqNetwork {
	o.t.Helper()
	for range 60 {
		o.reconcile(name)
		o.cluster.step(o.t.Context())
		if n := o.cluster.network(name); is(n) {
			return n
		}
	}
	o.t.Fatalf("%s is not %s:\n%s", name, what, describe(o.cluster.network(name)))
	return nil
}

func (o *operator) settle(name string) *v1alpha1.DiseqNetwork {
	o.t.Helper()
	return o.until(name, "settled", settled)
}

// settled says that all validators are ready and nothing is left to do.
func settled(n *v1alpha1.DiseqNetwork) bool {
	return condition(n, v1alpha1.ConditionAvailable).Reason == "AllValidatorsReady" &&
		condition(n, v1alpha1.ConditionProgressing).Status == metav1.ConditionFalse &&
		condition(n, v1alpha1.ConditionDegraded).Status == metav1.ConditionFalse && n.Status.ObservedGeneration == n.Generation
}

func condition(n *v1alpha1.DiseqNetwork, kind string) metav1.Condition {
	if c := meta.FindStatusCondition(n.Status.Conditions, kind); c != nil {
		return *c
	}
	return metav1.Condition{Type: kind, Status: metav1.ConditionUnknown}
}

func describe(n *v1alpha1.DiseqNetwork) string {
	var b strings.Builder
	for _, c := range n.Status.Conditions {
		fmt.Fprintf(&b, "  %s=%s %s: %s\n", c.Type, c.Status, c.Reason, c.Message)
	}
	for _, m := range n.Status.Members {
		fmt.Fprintf(&b, "  %s %s ready=%v %s\n", m.Name, m.Phase, m.Ready, m.Reason)
	}
	return b.String()
}

// network gets a network.
func (c *cluster) network(name string) *v1alpha1.DiseqNetwork {
	c.t.Helper()
	n := &v1alpha1.DiseqNetwork{}
	c.get(name, n)
	return n
}

func (c *cluster) get(name string, o client.Object) {
	c.t.Helper()
	if err := c.client.Get(c.t.Context(), types.NamespacedName{Namespace: c.namespace, Name: name}, o); err != nil {
		c.t.Fatalf("get %v %s: %v", reflect.TypeOf(o), name, err)
	}
}

// apply makes a network.
func (c *cluster) apply(name string, change ...func(*v1alpha1.DiseqNetwork)) *v1alpha1.DiseqNetwork {
	c.t.Helper()
	n := &v1alpha1.DiseqNetwork{ObjectMeta: metav1.ObjectMeta{Namespace: c.namespace, Name: name}}
	if c.removed {
		n.Spec.ExistingObjects = v1alpha1.AdoptExisting
	}
	for _, f := range change {
		f(n)
	}
	if err := c.client.Create(c.t.Context(), n); err != nil {
		c.t.Fatal(err)
	}
	return n
}

// edit changes a network, whose status an operator may be writing.
func (c *cluster) edit(name string, change func(*v1alpha1.DiseqNetwork)) {
	c.t.Helper()
	err := retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		n := c.network(name)
		change(n)
		return c.client.Update(c.t.Context(), n)
	})
	if err != nil {
		c.t.Fatal(err)
	}
}

func withValidators(n int32) func(*v1alpha1.DiseqNetwork) {
	return func(d *v1alpha1.DiseqNetwork) { d.Spec.Validators = n }
}
