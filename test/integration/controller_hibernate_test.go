package integration

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/diseq/diseq/api/v1alpha1"
)

func hibernated(yes bool) func(*v1alpha1.DiseqNetwork) {
	return func(n *v1alpha1.DiseqNetwork) { n.Spec.Hibernated = yes }
}

// asleep says that no pod runs any more, and that the network is as the spec asks.
func (c *cluster) asleep(n *v1alpha1.DiseqNetwork) bool {
	p := condition(n, v1alpha1.ConditionProgressing)
	return p.Status == metav1.ConditionFalse && p.Reason == "Hibernated" && n.Status.ObservedGeneration == n.Generation && len(c.pods()) == 0
}

// A hibernated network has no pods, costs no write and is not degraded. Edits wait, and nothing is
// made. Awake, the same validators go on with the same chain, and what was edited is done then.
//
// Promise 77.
func TestAHibernatedNetworkSleepsAndGoesOn(t *testing.T) {
	c := newCluster(t)
	c.apply("demo")
	registry := prometheus.NewRegistry()
	o := newOperatorWith(t, c, nil, registry)
	born := o.settle("demo")
	keys, claims, height := c.keys(), c.claims(), c.height
	c.edit("demo", hibernated(true))
	n := o.until("demo", "asleep", c.asleep)
	for kind, want := range map[string]string{
		v1alpha1.ConditionAvailable: "False Hibernated", v1alpha1.ConditionDegraded: "False AsExpected",
		v1alpha1.ConditionQuorumHealthy: "False Hibernated", v1alpha1.ConditionMembershipChanging: "False SetAsSpecified",
	} {
		if got := condition(n, kind); string(got.Status)+" "+got.Reason != want {
			t.Errorf("%s is %s %s: %s; want %s", kind, got.Status, got.Reason, got.Message, want)
		}
	}
	for _, e := range o.events.events {
		if strings.HasPrefix(e, "Warning") {
			t.Errorf("a person wants it so, and is warned: %s", e)
		}
	}
	o.reconcile("demo")
	if got := figures(t, registry, c.namespace, "demo"); got["diseq_network_hibernated"] != 1 || got["diseq_network_available"] != 0 {
		t.Errorf("metrics %v", got)
	}
	budget := &policyv1.PodDisruptionBudget{}
	c.get("demo", budget)
	if got := budget.Spec.MinAvailable.IntValue(); got != 3 {
		t.Errorf("the disruption budget keeps %d, want 3 as before: the nodes may wake at any moment", got)
	}

	// Calm, also for an operator that knows nothing.
	another := newOperator(t, c)
	for range 3 {
		result, err := another.Reconcile(t.Context(), reconcile.Request{NamespacedName: types.NamespacedName{Namespace: c.namespace, Name: "demo"}})
		if err != nil || result.RequeueAfter < 10*time.Second {
			t.Errorf("it looks again after %v, %v", result.RequeueAfter, err)
		}
		c.step(t.Context())
	}
	if writes := another.journal.writes; len(writes) > 0 {
		t.Errorf("a network that sleeps was written to: %v", writes)
	}

	// Somebody wakes one node by hand, and the operator puts it back.
	c.kubectl("scale", "statefulset", "demo-v1", "--replicas=1")
	c.step(t.Context())
	o.until("demo", "asleep again", c.asleep)

	// Edits wait.
	c.edit("demo", withValidators(7))
	c.edit("demo", toImage("diseq:next"))
	n = o.until("demo", "asleep, with another number", func(n *v1alpha1.DiseqNetwork) bool {
		m := condition(n, v1alpha1.ConditionMembershipChanging)
		return c.asleep(n) && m.Status == metav1.ConditionTrue && m.Reason == "Hibernated"
	})
	if m := condition(n, v1alpha1.ConditionMembershipChanging); !strings.Contains(m.Message, "becomes 4 of 7") || !strings.Contains(m.Message, "spec.hibernated") {
		t.Errorf("it does not say what is to come: %s", m.Message)
	}
	if len(c.keys()) != 4 || len(c.names(&appsv1.StatefulSetList{})) != 4 {
		t.Errorf("validators were made in hibernation: %v", c.keys())
	}

	started := len(c.started)
	c.edit("demo", hibernated(false))
	o = audited(t, c)
	n = o.scale("awake and grown", changed)
	if n.Status.ChainID != born.Status.ChainID || n.Status.Height < int64(height) || c.height <= height {
		t.Errorf("chain %s at height %d, was %s at %d", n.Status.ChainID, n.Status.Height, born.Status.ChainID, height)
	}
	for _, pod := range c.started[started:] {
		if !strings.HasSuffix(pod, " diseq:next") {
			t.Errorf("it woke with the image of before: %s", pod)
		}
	}
	if restarts := len(c.started) - started; restarts != 7 {
		t.Errorf("%d pods were started for 7 validators: %v", restarts, c.started[started:])
	}
	for name, was := range keys {
		if c.keys()[name] != was {
			t.Errorf("Secret %s changed", name)
		}
	}
	for name, was := range claims {
		if c.claims()[name] != was {
			t.Errorf("claim %s changed", name)
		}
	}
	c.checkStatements()
}

// claims are the UIDs of the claims, by name.
func (c *cluster) claims() map[string]types.UID {
	c.t.Helper()
	claims := &corev1.PersistentVolumeClaimList{}
	if err := c.client.List(c.t.Context(), claims, c.in()); err != nil {
		c.t.Fatal(err)
	}
	out := map[string]types.UID{}
	for _, claim := range claims.Items {
		out[claim.Name] = claim.UID
	}
	return out
}

// The operator is killed after every single write, while the network hibernates in the middle of a
// change of its set, and while it wakes. The change goes on where it stood.
//
// Promise 62.
// Promise 77.
func TestTheOperatorMayDieAfterAnyWriteOfAHibernation(t *testing.T) {
	for name, until := range map[string]func(*cluster) bool{
		"newcomers are started": func(c *cluster) bool { return len(c.names(&appsv1.StatefulSetList{})) > 4 },
		"the target is written": func(c *cluster) bool { return c.file(c.t.Context(), "demo").Target != nil },
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			c.apply("demo")
			audited(t, c).settle("demo")
			c.edit("demo", withValidators(6))
			audited(t, c).scale(name, func(*v1alpha1.DiseqNetwork) bool { return until(c) })
			keys := c.keys()
			late := time.Hour
			live := func(what string, is func(*v1alpha1.DiseqNetwork) bool) int {
				lives := 0
				o := mortal(t, c, late)
				for looks := 0; !is(c.network("demo")); looks++ {
					if looks == 300 {
						t.Fatalf("demo is not %s after %d lives of the operator:\n%s", what, lives, describe(c.network("demo")))
					}
					if late = o.late + pace; o.reconcile("demo") {
						lives++
						o = mortal(t, c, late)
					}
					c.step(t.Context())
					c.audit(t.Context())
					o.late = late
				}
				return lives
			}
			c.edit("demo", hibernated(true))
			if lives := live("asleep", c.asleep); lives < 4 {
				t.Errorf("the operator died %d times, which cannot be all of its writes", lives)
			}
			if now := c.keys(); len(now) != len(keys) {
				t.Errorf("there were %d identities, there are %d", len(keys), len(now))
			}
			c.edit("demo", hibernated(false))
			live("awake and grown", changed)
			if p := c.chains["demo"]; len(p.sets) != 2 {
				t.Errorf("the set changed %d times, want once", len(p.sets)-1)
			}
			if got := setNames(c.network("demo"), v1alpha1.MemberValidator); !slices.Equal(got, numbered("demo", 0, 1, 2, 3, 4, 5)) {
				t.Errorf("validators %v", got)
			}
			c.checkStatements()
		})
	}
}

// A network that is hibernated from the start makes nothing, and is born when it wakes.
//
// Promise 77.
func TestANetworkThatIsBornHibernatedIsMadeWhenItWakes(t *testing.T) {
	c := newCluster(t)
	c.apply("demo", hibernated(true))
	o := newOperator(t, c)
	o.until("demo", "asleep", c.asleep)
	for _, w := range o.journal.writes {
		if !strings.HasPrefix(w, "patch status") {
			t.Errorf("it wrote %s", w)
		}
	}
	c.edit("demo", hibernated(false))
	o.settle("demo")
	c.checkStatements()
}

// A hibernated network is deleted, and applied again: still hibernated, and then awake. It is the
// same chain. A claim that goes meanwhile is not made again until the network wakes, so that a
// person can put another volume in its place. Its validator then rejoins.
//
// Promise 58.
// Promise 65.
// Promise 77.
func TestAHibernatedNetworkMayBeDeletedAndAppliedAgain(t *testing.T) {
	c := newCluster(t)
	c.apply("demo")
	o := newOperator(t, c)
	born := o.settle("demo")
	c.edit("demo", hibernated(true))
	o.until("demo", "asleep", c.asleep)
	c.delete(&corev1.PersistentVolumeClaim{}, "demo-v2")
	c.step(t.Context())
	for range 3 {
		o.reconcile("demo")
		c.step(t.Context())
	}
	if _, ok := c.claims()["demo-v2"]; ok {
		t.Error("the claim was made again while the network slept")
	}
	c.remove("demo")
	c.apply("demo", hibernated(true))
	o = newOperator(t, c)
	n := o.until("demo", "asleep", c.asleep)
	if n.Status.ChainID != born.Status.ChainID || len(c.names(&appsv1.StatefulSetList{})) != 0 {
		t.Errorf("chain %q, StatefulSets %v", n.Status.ChainID, c.names(&appsv1.StatefulSetList{}))
	}
	c.edit("demo", hibernated(false))
	n = o.settle("demo")
	if n.Status.ChainID != born.Status.ChainID {
		t.Errorf("chain %s, was %s", n.Status.ChainID, born.Status.ChainID)
	}
	c.checkStatements()
}

// A problem with other objects keeps no node awake. A paused network stays as it is.
//
// Promise 77.
func TestAProblemKeepsNoNodeAwake(t *testing.T) {
	c := newCluster(t)
	c.apply("demo")
	o := newOperator(t, c)
	o.settle("demo")
	c.edit("demo", func(n *v1alpha1.DiseqNetwork) { n.Spec.Paused, n.Spec.Hibernated = true, true })
	for range 3 {
		o.reconcile("demo")
		c.step(t.Context())
	}
	if n := c.network("demo"); len(c.pods()) != 4 || condition(n, v1alpha1.ConditionProgressing).Reason != "Paused" ||
		condition(n, v1alpha1.ConditionAvailable).Reason != "AllValidatorsReady" {
		t.Errorf("paused, and %d pods:\n%s", len(c.pods()), describe(n))
	}
	c.delete(&corev1.Secret{}, "demo-v2")
	c.edit("demo", func(n *v1alpha1.DiseqNetwork) { n.Spec.Paused = false })
	o.until("demo", "without pods", func(n *v1alpha1.DiseqNetwork) bool {
		return len(c.pods()) == 0 && condition(n, v1alpha1.ConditionDegraded).Reason == "KeyMissing" &&
			condition(n, v1alpha1.ConditionAvailable).Reason == "Hibernated"
	})
}

// With Delete the claims of a hibernated network get their owner, so that they go with it.
//
// Promise 65.
// Promise 77.
func TestAHibernatedNetworkGoesForGood(t *testing.T) {
	c := newCluster(t)
	c.apply("demo")
	o := newOperator(t, c)
	o.settle("demo")
	c.edit("demo", hibernated(true))
	o.until("demo", "asleep", c.asleep)
	c.edit("demo", deleting(v1alpha1.DeletePolicy))
	o.until("demo", "asleep", c.asleep)
	c.remove("demo")
	if left := c.left("demo"); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}
