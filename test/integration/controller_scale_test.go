package integration

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/diseq/diseq/api/v1alpha1"
)

// pace is how far the operator's clock goes with each look of these tests, so that a newcomer has
// been caught up for long enough after a few.
const pace = 3 * time.Second

// changed says that the set is the one that the spec asks for, and nothing is left to do.
func changed(n *v1alpha1.DiseqNetwork) bool {
	return settled(n) && condition(n, v1alpha1.ConditionMembershipChanging).Status == metav1.ConditionFalse &&
		n.Status.Validators == n.Spec.Validators && n.Status.Threshold == n.Spec.Threshold.ThresholdOf(n.Spec.Validators)
}

// audited is an operator each of whose writes is audited.
func audited(t *testing.T, c *cluster) *operator {
	o := newOperator(t, c)
	o.journal.after = func() { c.audit(t.Context()) }
	return o
}

// scale is the operator at work until the network is as wanted. Time passes.
func (o *operator) scale(what string, is func(*v1alpha1.DiseqNetwork) bool) *v1alpha1.DiseqNetwork {
	o.t.Helper()
	for range 80 {
		o.reconcile("demo")
		o.cluster.step(o.t.Context())
		o.cluster.audit(o.t.Context())
		o.skip(pace)
		if n := o.cluster.network("demo"); is(n) {
			return n
		}
	}
	o.t.Fatalf("demo is not %s:\n%s", what, describe(o.cluster.network("demo")))
	return nil
}

func setNames(n *v1alpha1.DiseqNetwork, phase v1alpha1.MemberPhase) []string {
	var names []string
	for _, m := range n.Status.Members {
		if m.Phase == phase {
			names = append(names, m.Name)
		}
	}
	return names
}

// A network grows and shrinks. Newcomers are started at once, and one change brings all of them in.
// Validators that have left are stopped: their keys are kept and marked, and their volumes are
// kept.
func TestANetworkGrowsAndShrinks(t *testing.T) {
	c := newCluster(t)
	c.apply("demo")
	registry := prometheus.NewRegistry()
	o := newOperatorWith(t, c, nil, registry)
	o.journal.after = func() { c.audit(t.Context()) }
	o.settle("demo")
	keys := c.keys()

	c.edit("demo", withValidators(7))
	n := o.scale("grown", changed)
	if got := setNames(n, v1alpha1.MemberValidator); !slices.Equal(got, numbered("demo", 0, 1, 2, 3, 4, 5, 6)) || n.Status.SetGeneration != 1 {
		t.Errorf("generation %d, validators %v", n.Status.SetGeneration, got)
	}
	c.edit("demo", withValidators(3))
	n = o.scale("shrunk", func(n *v1alpha1.DiseqNetwork) bool {
		return changed(n) && len(c.names(&corev1.ServiceAccountList{})) == 3
	})
	if n.Status.SetGeneration != 2 || n.Status.Checkpoint == nil {
		t.Errorf("status %+v", n.Status)
	}
	stayed, left := numbered("demo", 0, 1, 2), numbered("demo", 3, 4, 5, 6)
	if got := c.names(&appsv1.StatefulSetList{}); !slices.Equal(got, stayed) {
		t.Errorf("StatefulSets %v", got)
	}
	if got := c.names(&corev1.PersistentVolumeClaimList{}); !slices.Equal(got, append(slices.Clone(stayed), left...)) {
		t.Errorf("volumes %v", got)
	}
	marks := c.marks()
	for _, name := range left {
		if marks[name] != "Retain" {
			t.Errorf("Secret %s is marked %q", name, marks[name])
		}
	}
	if len(marks) != len(left) {
		t.Errorf("marked are %v", marks)
	}
	var listed []string
	for _, e := range c.file(t.Context(), "demo").Peers {
		listed = append(listed, e.Name)
	}
	if !slices.Equal(listed, stayed) {
		t.Errorf("the peers file has %v", listed)
	}
	budget := &policyv1.PodDisruptionBudget{}
	c.get("demo", budget)
	if got := budget.Spec.MinAvailable.IntValue(); got != 2 {
		t.Errorf("the disruption budget keeps %d", got)
	}
	for name, key := range keys {
		if c.keys()[name] != key {
			t.Errorf("Secret %s changed", name)
		}
	}
	o.reconcile("demo")
	got := figures(t, registry, c.namespace, "demo")
	for name, want := range map[string]float64{
		"diseq_network_set_generation": 2, "diseq_network_targets_total": 2, "diseq_network_validators_stopped_total": 4,
		"diseq_network_membership_changing": 0, "diseq_network_validators": 3,
	} {
		if got[name] != want {
			t.Errorf("%s is %v, want %v", name, got[name], want)
		}
	}
	// No name is used twice.
	c.edit("demo", withValidators(4))
	n = o.scale("grown again", changed)
	if got := setNames(n, v1alpha1.MemberValidator); !slices.Equal(got, numbered("demo", 0, 1, 2, 7)) {
		t.Errorf("validators %v", got)
	}
	c.checkStatements()
}

// The operator is killed after every single write on the way from 4 to 7 to 3 validators, and
// another one goes on from there. Each write is safe by itself, and the end is the same. The
// volumes of the validators that left are deleted, as the spec says here.
//
// Promise 57.
// Promise 62.
func TestTheOperatorMayDieAfterAnyWriteOfAChange(t *testing.T) {
	c := newCluster(t)
	c.apply("demo", func(n *v1alpha1.DiseqNetwork) { n.Spec.Storage.Retention.OnScaleDown = v1alpha1.DeletePolicy })
	audited(t, c).settle("demo")
	lives, late := 0, time.Duration(0)
	for _, size := range []int32{7, 3} {
		c.edit("demo", withValidators(size))
		o := mortal(t, c, late)
		for looks := 0; !changed(c.network("demo")) || len(c.names(&corev1.PersistentVolumeClaimList{})) != int(size); looks++ {
			if looks == 300 {
				t.Fatalf("demo does not have %d validators after %d lives of the operator:\n%s", size, lives, describe(c.network("demo")))
			}
			if late = o.late + pace; o.reconcile("demo") {
				lives++
				o = mortal(t, c, late)
			}
			c.step(t.Context())
			c.audit(t.Context())
			o.late = late
		}
	}
	if lives < 60 {
		t.Errorf("the operator died %d times, which cannot be all of its writes", lives)
	}
	for kind, got := range map[string][]string{"StatefulSets": c.names(&appsv1.StatefulSetList{}), "accounts": c.names(&corev1.ServiceAccountList{})} {
		if !slices.Equal(got, numbered("demo", 0, 1, 2)) {
			t.Errorf("%s %v", kind, got)
		}
	}
	if got := len(c.keys()); got != 7 {
		t.Errorf("%d identities were made, want 7: a name was lost on the way", got)
	}
	if p := c.chains["demo"]; len(p.sets) != 3 {
		t.Errorf("the set changed %d times, want 2", len(p.sets)-1)
	}
	c.checkStatements()
}

// mortal is an operator that dies after its first write.
func mortal(t *testing.T, c *cluster, late time.Duration) *operator {
	o := audited(t, c)
	o.journal.failAt, o.late = 1, late
	return o
}

// The spec is edited back while the set changes. A newcomer that no target names goes at once. One
// that a target named stays until the chain has taken it back.
//
// Promise 62.
func TestAChangeThatIsEditedBackIsTakenBack(t *testing.T) {
	c := newCluster(t)
	c.apply("demo")
	o := audited(t, c)
	o.settle("demo")
	c.undecided = true
	for _, until := range []struct {
		name string
		is   func(*v1alpha1.DiseqNetwork) bool
		// generations is by how many the set's grows until it is as before.
		generations int64
	}{
		{"a key is made", func(*v1alpha1.DiseqNetwork) bool { return len(c.keys()) > len(c.names(&appsv1.StatefulSetList{})) }, 0},
		{"newcomers are started", func(*v1alpha1.DiseqNetwork) bool { return len(c.names(&appsv1.StatefulSetList{})) == 7 }, 0},
		{"the target is written", func(*v1alpha1.DiseqNetwork) bool { return c.file(t.Context(), "demo").Target != nil }, 1},
	} {
		t.Run(until.name, func(*testing.T) {
			before := c.network("demo").Status.SetGeneration
			c.edit("demo", withValidators(7))
			if until.generations == 0 {
				o.journal.after = func() {
					c.audit(t.Context())
					if until.is(nil) {
						o.journal.after = func() { c.audit(t.Context()) }
						panic(killed{until.name})
					}
				}
				for range 10 {
					if o.reconcile("demo") {
						break
					}
					c.step(t.Context())
				}
			} else {
				o.scale(until.name, until.is)
				for range 3 {
					o.reconcile("demo")
					c.step(t.Context())
				}
			}
			c.edit("demo", withValidators(4))
			if until.generations > 0 {
				o.scale("declared back", func(*v1alpha1.DiseqNetwork) bool { return len(c.file(t.Context(), "demo").Target.Validators) == 4 })
				if got := len(c.names(&appsv1.StatefulSetList{})); got != 7 {
					t.Errorf("%d validators run although the set of 7 may come into force", got)
				}
				c.undecided = false
			}
			n := o.scale("as before", func(n *v1alpha1.DiseqNetwork) bool {
				return changed(n) && len(c.names(&appsv1.StatefulSetList{})) == 4 && len(c.names(&corev1.ServiceAccountList{})) == 4
			})
			if n.Status.SetGeneration != before+until.generations {
				t.Errorf("generation %d, was %d", n.Status.SetGeneration, before)
			}
			if got := setNames(n, v1alpha1.MemberValidator); !slices.Equal(got, four) {
				t.Errorf("validators %v", got)
			}
		})
	}
	c.checkStatements()
}

// A newcomer that is not needed any more leaves the peers file first. As long as that is refused it
// is not stopped: another operator may name it.
//
// Promise 62.
func TestANewcomerInThePeersFileIsNotStopped(t *testing.T) {
	c := newCluster(t)
	c.apply("demo", withValidators(1))
	o := audited(t, c)
	o.settle("demo")
	c.unschedulable = func(pod string) bool { return pod == "demo-v1-0" }
	c.edit("demo", withValidators(2))
	o.scale("waiting", func(*v1alpha1.DiseqNetwork) bool { return len(c.names(&appsv1.StatefulSetList{})) == 2 })
	c.edit("demo", withValidators(1))
	refused := newOperatorReading(t, c, func(inner client.Client) client.Client { return &refusing{Client: inner, name: "demo-peers"} })
	n := refused.until("demo", "refused", func(n *v1alpha1.DiseqNetwork) bool {
		return condition(n, v1alpha1.ConditionDegraded).Reason == "WriteRefused"
	})
	refused.reconcile("demo")
	if got := c.names(&appsv1.StatefulSetList{}); len(got) != 2 {
		t.Errorf("StatefulSets %v, and the peers file still has demo-v1: %s", got, describe(n))
	}
	o.scale("as before", func(n *v1alpha1.DiseqNetwork) bool { return changed(n) && len(c.names(&appsv1.StatefulSetList{})) == 1 })
}

// refusing refuses to apply one object.
type refusing struct {
	client.Client
	name string
}

func (r *refusing) Apply(ctx context.Context, o runtime.ApplyConfiguration, opts ...client.ApplyOption) error {
	if object, ok := o.(client.Object); ok && object.GetName() == r.name && object.GetObjectKind().GroupVersionKind().Kind == "ConfigMap" {
		return apierrors.NewForbidden(schema.GroupResource{Resource: "configmaps"}, r.name, errors.New("by the test"))
	}
	return r.Client.Apply(ctx, o, opts...)
}

// A validator whose machine is gone is replaced by name, and a change of the threshold policy alone
// changes the set.
func TestAValidatorIsReplacedAndThePolicyChanged(t *testing.T) {
	c := newCluster(t)
	c.apply("demo")
	o := audited(t, c)
	o.settle("demo")
	c.silent["demo-v1"] = true
	c.edit("demo", func(n *v1alpha1.DiseqNetwork) { n.Spec.Retire = []string{"demo-v1"} })
	want := numbered("demo", 0, 2, 3, 4)
	n := o.scale("replaced", func(n *v1alpha1.DiseqNetwork) bool {
		return changed(n) && slices.Equal(c.names(&appsv1.StatefulSetList{}), want)
	})
	if got := setNames(n, v1alpha1.MemberValidator); !slices.Equal(got, want) {
		t.Errorf("validators %v", got)
	}
	// The silent leaver cannot say that its messages are final, so its volume stays in any case.
	if marks := c.marks(); marks["demo-v1"] != "Retain" || len(marks) != 1 {
		t.Errorf("marked are %v", marks)
	}
	c.edit("demo", func(n *v1alpha1.DiseqNetwork) {
		n.Spec.Threshold = v1alpha1.Threshold{Policy: v1alpha1.ThresholdFixed, Value: new(int32(4))}
	})
	if n = o.scale("changed", changed); n.Status.Threshold != 4 || n.Status.SetGeneration != 2 {
		t.Errorf("status %+v", n.Status)
	}
}

// A newcomer that no machine takes is waited for, with its name; the set stays. It can be given up.
func TestANewcomerWithoutAMachineIsWaitedFor(t *testing.T) {
	c := newCluster(t)
	c.apply("demo")
	o := audited(t, c)
	o.settle("demo")
	c.unschedulable = func(pod string) bool { return pod == "demo-v4-0" }
	c.edit("demo", withValidators(5))
	n := o.scale("waiting", func(n *v1alpha1.DiseqNetwork) bool {
		m := condition(n, v1alpha1.ConditionMembershipChanging)
		return m.Status == metav1.ConditionTrue && m.Reason == "WaitingForNewcomers" && strings.Contains(m.Message, "Unschedulable")
	})
	if m := condition(n, v1alpha1.ConditionMembershipChanging); !strings.Contains(m.Message, "demo-v4") || n.Status.Validators != 4 {
		t.Errorf("%d validators, %s", n.Status.Validators, m.Message)
	}
	if a := condition(n, v1alpha1.ConditionAvailable); a.Status != metav1.ConditionTrue {
		t.Errorf("Available %+v", a)
	}
	c.unschedulable = func(string) bool { return false }
	o.scale("grown", changed)
	c.checkStatements()
}

// With an observation that is lists old, the operator waits or is refused; after every write the
// audit holds.
//
// Promise 62.
// Promise 63.
func TestAnOldCacheCostsNoQuorumDuringAChange(t *testing.T) {
	c := newCluster(t)
	c.apply("demo")
	o := newOperatorReading(t, c, behindBy(2))
	o.journal.after = func() { c.audit(t.Context()) }
	o.settle("demo")
	for _, size := range []int32{7, 3} {
		c.edit("demo", withValidators(size))
		o.scale(fmt.Sprintf("of %d", size), func(n *v1alpha1.DiseqNetwork) bool {
			return changed(n) && len(c.names(&appsv1.StatefulSetList{})) == int(size)
		})
	}
	if got := len(c.keys()); got != 7 {
		t.Errorf("%d identities were made, want 7", got)
	}
	c.checkStatements()
}

// A network is deleted at any point of a change and applied again, with another count. The set that
// the chain has goes on; what left and was marked does not start again; the leave under way is
// finished.
//
// Promise 65.
func TestARetainedNetworkGoesOnWithTheSetOfItsChain(t *testing.T) {
	c := newCluster(t)
	c.apply("demo")
	o := audited(t, c)
	born := o.settle("demo")
	c.edit("demo", withValidators(5))
	o.scale("of 5", changed)
	c.heldMessages["demo-v4"] = 3 // it may not be stopped yet
	c.edit("demo", withValidators(4))
	o.scale("leaving", func(n *v1alpha1.DiseqNetwork) bool { return n.Status.Validators == 4 && n.Status.SetGeneration == 2 })
	if got := len(c.names(&appsv1.StatefulSetList{})); got != 5 {
		t.Fatalf("%d validators run, and demo-v4 holds messages that are not final", got)
	}
	c.audited = nil // the test removes StatefulSets, not the operator
	c.remove("demo")
	clear(c.wasUp)
	c.heldMessages["demo-v4"] = 0
	c.apply("demo", withValidators(3))
	o = audited(t, c)
	n := o.scale("resumed", func(n *v1alpha1.DiseqNetwork) bool { return changed(n) && len(c.names(&appsv1.StatefulSetList{})) == 3 })
	if n.Status.ChainID != born.Status.ChainID || n.Status.SetGeneration != 3 || !slices.Equal(setNames(n, v1alpha1.MemberValidator), numbered("demo", 0, 1, 2)) {
		t.Errorf("status %+v", n.Status)
	}
	if got := len(c.keys()); got != 5 {
		t.Errorf("%d identities, want 5", got)
	}
	if marks := c.marks(); len(marks) != 2 {
		t.Errorf("marked are %v", marks)
	}

	// Without the status and the peers file, what was marked stays where it is.
	c.audited = nil
	c.remove("demo")
	clear(c.wasUp)
	c.apply("demo", withValidators(3))
	audited(t, c).scale("resumed again", changed)
	if got := c.names(&appsv1.StatefulSetList{}); !slices.Equal(got, numbered("demo", 0, 1, 2)) {
		t.Errorf("StatefulSets %v", got)
	}
	c.checkStatements()
}

// Somebody who may make Secrets made that of the next validator, with the labels of the operator's.
// A validator with another name and a key of the operator's joins.
//
// Promise 57.
// Promise 66.
func TestAPlantedKeyDoesNotJoin(t *testing.T) {
	c := newCluster(t)
	c.apply("demo")
	o := audited(t, c)
	o.settle("demo")
	planted := c.secretOf("demo-v4", map[string]string{"diseq.io/network": "demo", "diseq.io/validator": "demo-v4"})
	if err := c.client.Create(t.Context(), planted); err != nil {
		t.Fatal(err)
	}
	before := text(t, planted)
	c.edit("demo", withValidators(5))
	n := o.scale("of 5", changed)
	if got := setNames(n, v1alpha1.MemberValidator); !slices.Equal(got, numbered("demo", 0, 1, 2, 3, 5)) {
		t.Errorf("validators %v", got)
	}
	c.get("demo-v4", planted)
	if after := text(t, planted); after != before {
		t.Errorf("it was\n%s\nand is\n%s", before, after)
	}
}

// A peers file that somebody changed, or deleted, says nothing about who was named: nobody is
// stopped who may be in the next set.
//
// Promise 62.
func TestALostPeersFileStopsNobodyWhoMayBeNamed(t *testing.T) {
	for name, spoil := range map[string]func(*cluster){
		"deleted": func(c *cluster) { c.delete(&corev1.ConfigMap{}, "demo-peers") },
		"emptied": func(c *cluster) {
			held := &corev1.ConfigMap{}
			c.get("demo-peers", held)
			held.Data["peers.json"] = `{"peers":[]}`
			if err := c.client.Update(c.t.Context(), held); err != nil {
				c.t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			c.apply("demo")
			o := audited(t, c)
			o.settle("demo")
			c.undecided = true
			c.edit("demo", withValidators(5))
			o.scale("declared", func(*v1alpha1.DiseqNetwork) bool { return c.file(t.Context(), "demo").Target != nil })
			spoil(c)
			c.edit("demo", withValidators(4))
			o = audited(t, c)
			for range 6 {
				o.reconcile("demo")
				c.step(t.Context())
				o.skip(pace)
			}
			if got := len(c.names(&appsv1.StatefulSetList{})); got != 5 {
				t.Errorf("%d validators run although the set of 5 may come into force", got)
			}
			c.undecided = false
			o.scale("as before", func(n *v1alpha1.DiseqNetwork) bool { return changed(n) && len(c.names(&appsv1.StatefulSetList{})) == 4 })
		})
	}
}
