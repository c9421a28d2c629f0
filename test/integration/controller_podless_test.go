package integration

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/diseq/diseq/api/v1alpha1"
	"github.com/diseq/diseq/controllers/membership"
	"github.com/diseq/diseq/test/integration/harness"
)

// refusePod lets the StatefulSet controller fail to make the pod of a validator, and tell so.
func (c *cluster) refusePod(validator, words string) {
	c.t.Helper()
	set := &appsv1.StatefulSet{}
	c.get(validator, set)
	c.held[validator] = true
	now := metav1.Now()
	err := c.client.Create(c.t.Context(), &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{Namespace: c.namespace, GenerateName: validator + "."},
		InvolvedObject: corev1.ObjectReference{APIVersion: "apps/v1", Kind: "StatefulSet", Namespace: c.namespace, Name: validator, UID: set.UID},
		Type:           corev1.EventTypeWarning, Reason: "FailedCreate", FirstTimestamp: now, LastTimestamp: now, Count: 1,
		Source:  corev1.EventSource{Component: "statefulset-controller"},
		Message: "create Pod " + validator + "-0 in StatefulSet " + validator + " failed error: " + words,
	})
	if err != nil {
		c.t.Fatal(err)
	}
}

// A quota, a LimitRange, the security level of the namespace or a webhook refuses a pod: nothing in
// the StatefulSet says so. With the rights that it has, the operator finds the API server's words.
// The other validators' events are not shown.
//
// Promise 64.
func TestAValidatorWithoutAPodIsDegradedWithTheWordsOfTheAPIServer(t *testing.T) {
	const words = `pods "demo-v1-0" is forbidden: exceeded quota: few, requested: pods=1, used: pods=3, limited: pods=3`
	c := newCluster(t)
	c.apply("demo")
	o := newOperatorOf(t, c, harness.AsOperator(t), nil, prometheus.NewRegistry())
	o.settle("demo")
	c.refusePod("demo-v2", "this is of long ago, and of another validator")
	c.held["demo-v2"] = false
	c.refusePod("demo-v1", words)
	if err := c.client.Delete(t.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: c.namespace, Name: "demo-v1-0"}},
		client.GracePeriodSeconds(0)); err != nil {
		t.Fatal(err)
	}
	n := o.until("demo", "without a pod", func(n *v1alpha1.DiseqNetwork) bool {
		return strings.Contains(condition(n, v1alpha1.ConditionAvailable).Message, "demo-v1 has no pod")
	})
	if d := condition(n, v1alpha1.ConditionDegraded); d.Status != metav1.ConditionFalse {
		t.Errorf("a pod that was there a moment ago: %s", d.Message)
	}
	o.skip(membership.StartTime)
	n = o.until("demo", "degraded", func(n *v1alpha1.DiseqNetwork) bool {
		return condition(n, v1alpha1.ConditionDegraded).Reason == "PodMissing"
	})
	d := condition(n, v1alpha1.ConditionDegraded)
	if !strings.Contains(d.Message, words) || !strings.Contains(d.Message, "Raise the ResourceQuota") || strings.Contains(d.Message, "long ago") {
		t.Errorf("Degraded: %s", d.Message)
	}
	for _, m := range n.Status.Members {
		if m.Name == "demo-v1" && m.Reason != "has no pod: "+words+". Raise the ResourceQuota, or lower spec.podTemplate.resources" {
			t.Errorf("its reason is %q", m.Reason)
		}
	}
	if a := condition(n, v1alpha1.ConditionAvailable); a.Status != metav1.ConditionTrue {
		t.Errorf("Available is %s: %s", a.Status, a.Message)
	}
	if s := condition(n, v1alpha1.ConditionStalled); s.Status != metav1.ConditionTrue || s.Reason != "PodMissing" {
		t.Errorf("Stalled is %s with %s: %s", s.Status, s.Reason, s.Message)
	}
	before := o.journal.count()
	for range 5 {
		o.skip(5 * time.Second)
		o.reconcile("demo")
	}
	if o.journal.count() != before {
		t.Errorf("a validator without a pod costs writes: %v", o.journal.writes[before:])
	}
	c.held["demo-v1"] = false
	o.settle("demo")
}
