package e2e

import (
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/diseq/diseq/api/v1alpha1"
)

// haltedAfter tells a network that makes blocks from one that has halted. A pod that restarts is
// away for longer.
const haltedAfter = 10 * time.Second

func TestTheOperatorIsKilledTwiceDuringABirth(t *testing.T) {
	n := cluster.Network(t, cluster.Namespace(t, "birth"), "born", 4)
	kill := n.AimAtOperator(t)
	n.Apply(n.Spec())
	n.seenTwo("key Secret", &corev1.SecretList{})
	kill()
	var sets appsv1.StatefulSetList
	must(t, n.List(t.Context(), &sets, ctrl.InNamespace(n.Namespace)))
	t.Logf("        it had made %d of %d StatefulSets", len(sets.Items), n.Validators)
	kill = n.AimAtOperator(t)
	n.seenTwo("StatefulSet", &appsv1.StatefulSetList{})
	kill()
	n.AwaitAvailable()
	n.AwaitConverged()
	keys, o, g := n.Secrets(), n.Watch(), n.MustGenesis()
	if len(g.Validators) != n.Validators {
		t.Errorf("the genesis document names %d validators", len(g.Validators))
	}
	var made corev1.SecretList
	must(t, n.List(t.Context(), &made, ctrl.InNamespace(n.Namespace)))
	if len(made.Items) != n.Validators {
		t.Errorf("%d Secrets for %d validators", len(made.Items), n.Validators)
	}
	n.Finalize("after a hard birth")
	o.Check(t)
	n.CheckSecrets(keys)
}

// seenTwo waits until there are two objects of a kind.
func (n *Network) seenTwo(what string, kind ctrl.ObjectList) {
	n.tb.Helper()
	names := map[string]bool{}
	n.Seen(n.tb, "the second "+what+" is made", n.Namespace, kind, func(o ctrl.Object) bool {
		names[o.GetName()] = true
		return len(names) == 2
	})
}

func TestImageUpdatesRollOneAtATimeAndTheNetworkStaysFinal(t *testing.T) {
	n := cluster.Network(t, cluster.Namespace(t, "update"), "rolling", 4)
	n.Apply(n.Spec())
	n.AwaitAvailable()
	n.AwaitConverged()
	keys, o, l := n.Secrets(), n.Watch(), n.Write("update")

	t.Run("to another image", func(t *testing.T) {
		n.For(t).update(o, n.NextImage, func() {})
	})
	t.Run("and back, the operator killed on the way", func(t *testing.T) {
		n := n.For(t)
		kill := n.AimAtOperator(t)
		n.update(o, n.Image, func() {
			n.Seen(t, "the first pod is being replaced", n.Namespace, &corev1.PodList{}, func(o ctrl.Object) bool {
				return o.GetDeletionTimestamp() != nil
			})
			kill()
		})
	})
	l.Stop()
	t.Logf("        %v", l)
	o.Check(t, l)
	n.CheckSecrets(keys)
}

// update changes the image, calls meanwhile, and holds the update to what is promised of it.
func (n *Network) update(o *Oracle, image string, meanwhile func()) {
	n.tb.Helper()
	timeline, begun := n.Timeline(), time.Now()
	n.Apply(n.Spec(func(s *v1alpha1.DiseqNetworkSpec) { s.Image = image }))
	meanwhile()
	n.AwaitConverged()
	gap := o.LongestGap(begun, time.Now())
	timeline.stop()
	timeline.Log(n.tb)
	n.tb.Logf("        the longest time without a block was %.1f s", gap.Seconds())
	if most := timeline.Most(); len(most) > 1 {
		n.tb.Errorf("%v were down at once", most)
	}
	if order := timeline.Order(); len(order) != n.Validators {
		n.tb.Errorf("restarted were %v, want each of %d once", order, n.Validators)
	}
	if gap > haltedAfter {
		n.tb.Errorf("no block for %v: the network halted", gap)
	}
}
