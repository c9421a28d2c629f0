package integration

import (
	"maps"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/diseq/diseq/api/v1alpha1"
	"github.com/diseq/diseq/test/integration/harness"
)

// kubectl runs kubectl in the namespace of the cluster.
func (c *cluster) kubectl(arguments ...string) {
	c.t.Helper()
	if _, err := harness.Kubectl(c.t, append([]string{"--namespace", c.namespace}, arguments...)...); err != nil {
		c.t.Fatal(err)
	}
}

// pods are the UIDs of the pods, by name.
func (c *cluster) pods() map[string]types.UID {
	c.t.Helper()
	pods := &corev1.PodList{}
	if err := c.client.List(c.t.Context(), pods, c.in()); err != nil {
		c.t.Fatal(err)
	}
	out := map[string]types.UID{}
	for _, p := range pods.Items {
		out[p.Name] = p.UID
	}
	return out
}

// A person asks for a restart in one of several ways, with kubectl. The pods that it is about are
// made anew, once, and one at a time. Neither another operator nor the end of the request restarts
// them again.
//
// Promise 76.
func TestARestartIsAskedForAndHappensOnce(t *testing.T) {
	c := newCluster(t)
	c.apply("demo")
	newOperator(t, c).settle("demo")
	all := []string{"demo-v0-0", "demo-v1-0", "demo-v2-0", "demo-v3-0"}
	for _, way := range []struct {
		name     string
		ask, end []string
		want     []string
	}{
		{"of the network", []string{"annotate", "dsq", "demo", "diseq.io/restart=2026-11-30"}, nil, all},
		{"of the network, with a new value", []string{"annotate", "dsq", "demo", "diseq.io/restart=2026-12-01", "--overwrite"},
			[]string{"annotate", "dsq", "demo", "diseq.io/restart-"}, all},
		{"of the network, with the value of before", []string{"annotate", "dsq", "demo", "diseq.io/restart=2026-12-01"},
			[]string{"annotate", "dsq", "demo", "diseq.io/restart-"}, all},
		{"of one validator", []string{"annotate", "statefulset", "demo-v2", "diseq.io/restart="},
			[]string{"annotate", "statefulset", "demo-v2", "diseq.io/restart-"}, []string{"demo-v2-0"}},
		{"of a pod", []string{"annotate", "pod", "demo-v1-0", "diseq.io/restart=true"}, nil, []string{"demo-v1-0"}},
		{"by kubectl", []string{"rollout", "restart", "statefulset", "demo-v3"}, nil, []string{"demo-v3-0"}},
	} {
		before := c.pods()
		c.kubectl(way.ask...)
		o := newOperator(t, c)
		o.reconcile("demo") // kubectl changes no generation of the network, so that it looks settled
		for range 40 {
			if ready := c.ready(); ready < 3 {
				t.Fatalf("%s: %d of threshold 3 validators are ready", way.name, ready)
			}
			c.step(t.Context())
			o = newOperator(t, c) // each look by another operator
			o.reconcile("demo")
			if settled(c.network("demo")) && len(changedPods(before, c.pods())) == len(way.want) {
				break
			}
		}
		if asked := c.network("demo").Annotations["diseq.io/restart"]; c.network("demo").Status.Restarted != asked {
			t.Errorf("%s: the status says that %q was carried out, want %q", way.name, c.network("demo").Status.Restarted, asked)
		}
		if got := changedPods(before, c.pods()); !slices.Equal(got, way.want) {
			t.Fatalf("%s: %v were made anew, want %v", way.name, got, way.want)
		}
		after := c.pods()
		if way.end != nil {
			c.kubectl(way.end...)
		}
		o.settle("demo")
		for range 3 {
			o.reconcile("demo")
			c.step(t.Context())
		}
		if again := changedPods(after, c.pods()); len(again) > 0 {
			t.Errorf("%s: %v were made anew once more", way.name, again)
		}
	}
	count := newOperator(t, c)
	count.reconcile("demo")
	if writes := count.journal.writes; len(writes) > 0 {
		t.Errorf("nothing is asked for, and it wrote %v", writes)
	}
	c.checkStatements()
}

// changedPods are the pods of before that are other ones now.
func changedPods(before, now map[string]types.UID) []string {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(before)) {
		if now[name] != before[name] {
			names = append(names, name)
		}
	}
	return names
}

// A restart needs what an update needs: with t = n the user allows the downtime. A broken pod is
// restarted at once.
//
// Promise 76.
func TestARestartNeedsWhatAnUpdateNeeds(t *testing.T) {
	c := newCluster(t)
	c.apply("demo", withValidators(2))
	o := newOperator(t, c)
	o.settle("demo")
	before := c.pods()
	c.kubectl("annotate", "dsq", "demo", "diseq.io/restart=now")
	o.until("demo", "waiting to be allowed downtime", func(n *v1alpha1.DiseqNetwork) bool {
		p := condition(n, v1alpha1.ConditionProgressing)
		return p.Status == metav1.ConditionFalse && p.Reason == "RestartNeedsDowntime"
	})
	if got := changedPods(before, c.pods()); len(got) > 0 {
		t.Errorf("%v were restarted without leave", got)
	}
	c.kubectl("annotate", "dsq", "demo", "diseq.io/allow-downtime=true")
	o.until("demo", "restarted", func(n *v1alpha1.DiseqNetwork) bool { return settled(n) && len(changedPods(before, c.pods())) == 2 })

	c.edit("demo", toImage("diseq:bad"))
	o.until("demo", "degraded by the image", func(n *v1alpha1.DiseqNetwork) bool {
		return condition(n, v1alpha1.ConditionDegraded).Reason == "ImagePullFailed"
	})
	c.badImage = func(string) bool { return false } // it was pushed meanwhile, and the kubelet waits
	broken := c.pods()
	c.kubectl("rollout", "restart", "statefulset", "--selector=diseq.io/network=demo")
	o.until("demo", "restarted", func(n *v1alpha1.DiseqNetwork) bool { return settled(n) && len(changedPods(broken, c.pods())) == 2 })
}
