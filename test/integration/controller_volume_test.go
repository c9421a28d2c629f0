package integration

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/diseq/diseq/api/v1alpha1"
)

// loseVolume deletes the claim and the pod of a validator.
func (c *cluster) loseVolume(name string) {
	c.t.Helper()
	c.delete(&corev1.PersistentVolumeClaim{}, name)
	c.delete(&corev1.Pod{}, name+"-0")
}

// Promise 59.
func TestALostVolumeIsReplacedAndItsValidatorRejoins(t *testing.T) {
	c := newCluster(t)
	c.rejoins = false
	c.apply("demo")
	o := newOperator(t, c)
	born := o.settle("demo")
	first := member(born, "demo-v1").VolumeUID
	c.loseVolume("demo-v1")
	n := o.until("demo", "rejoining", func(n *v1alpha1.DiseqNetwork) bool {
		return member(n, "demo-v1").Phase == v1alpha1.MemberRejoining
	})
	claim := &corev1.PersistentVolumeClaim{}
	c.get("demo-v1", claim)
	if string(claim.UID) == first || member(n, "demo-v1").VolumeUID != first {
		t.Errorf("the first volume was %s; there is %s, and recorded is %s", first, claim.UID, member(n, "demo-v1").VolumeUID)
	}
	if a := condition(n, v1alpha1.ConditionAvailable); a.Status != metav1.ConditionTrue {
		t.Errorf("Available %+v", a)
	}
	pod := &corev1.Pod{}
	c.get("demo-v1-0", pod)
	if states(pod.Spec.Containers) {
		t.Error("the pod on the new volume was told to make a vote store")
	}
	c.checkStatements()
	c.rejoins = true
	o.settle("demo")
	c.checkStatements()
}

// The operator is killed at each write while a lost volume is replaced. In no case does a pod come
// up on the new volume with the statement that it is the first.
//
// Promise 58.
func TestTheStatementIsNeverGivenTwice(t *testing.T) {
	for _, before := range []bool{true, false} {
		for k := 1; ; k++ {
			c := newCluster(t)
			c.apply("demo", withValidators(3))
			newOperator(t, c).settle("demo")
			c.loseVolume("demo-v1")
			victim := newOperator(t, c)
			victim.journal.failAt, victim.journal.before = k, before
			died := false
			for range 12 {
				if died = victim.reconcile("demo"); died {
					break
				}
				c.step(t.Context())
			}
			newOperator(t, c).settle("demo")
			c.checkStatements()
			if !died {
				if k < 4 {
					t.Fatalf("a volume was replaced in %d writes, which cannot be all of them", k-1)
				}
				break
			}
		}
	}
}

// The StatefulSet's controller may be slow. As long as it has not seen the template without the
// statement there is no new volume for a pod with it to come up on.
//
// Promise 58.
func TestANewVolumeWaitsForTheStatefulSetController(t *testing.T) {
	c := newCluster(t)
	c.apply("demo")
	o := newOperator(t, c)
	o.settle("demo")
	c.held["demo-v1"] = true
	c.loseVolume("demo-v1")
	for range 6 {
		o.reconcile("demo")
		c.step(t.Context())
		err := c.client.Get(t.Context(), client.ObjectKey{Namespace: c.namespace, Name: "demo-v1"}, &corev1.PersistentVolumeClaim{})
		if client.IgnoreNotFound(err) != nil {
			t.Fatal(err)
		}
		if err == nil && !terminating(c, "demo-v1") {
			t.Fatal("the volume was made anew before the StatefulSet's controller had seen the new template")
		}
	}
	delete(c.held, "demo-v1")
	o.settle("demo")
	c.checkStatements()
}

func terminating(c *cluster, claim string) bool {
	pvc := &corev1.PersistentVolumeClaim{}
	c.get(claim, pvc)
	return pvc.DeletionTimestamp != nil
}

// A claim that is being deleted is waited for as long as its pod runs: the pod still has its votes
// there.
//
// Promise 59.
func TestAVolumeThatIsBeingDeletedIsWaitedFor(t *testing.T) {
	c := newCluster(t)
	c.apply("demo")
	o := newOperator(t, c)
	o.settle("demo")
	c.delete(&corev1.PersistentVolumeClaim{}, "demo-v2")
	n := o.until("demo", "degraded by the volume", func(n *v1alpha1.DiseqNetwork) bool {
		return condition(n, v1alpha1.ConditionDegraded).Reason == "VolumeBeingDeleted"
	})
	if n.Status.ReadyValidators != 4 || !terminating(c, "demo-v2") {
		t.Errorf("%d validators are ready", n.Status.ReadyValidators)
	}
	c.delete(&corev1.Pod{}, "demo-v2-0")
	o.settle("demo")
	c.checkStatements()
}

// Both records of a first volume lost by mistake do not make the volume that is there a first one.
//
// Promise 58.
func TestAVolumeWithoutARecordIsNoFirstOne(t *testing.T) {
	c := newCluster(t)
	c.apply("demo")
	o := newOperator(t, c)
	o.settle("demo")
	secret := &corev1.Secret{}
	c.get("demo-v0", secret)
	delete(secret.Annotations, "diseq.io/first-volume")
	if err := c.client.Update(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	o.settle("demo")
	c.get("demo-v0", secret)
	if got := secret.Annotations["diseq.io/first-volume"]; got != member(c.network("demo"), "demo-v0").VolumeUID {
		t.Errorf("the Secret's record is %q, the status has another", got)
	}
	delete(secret.Annotations, "diseq.io/first-volume")
	if err := c.client.Update(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	n := c.network("demo")
	for i := range n.Status.Members {
		n.Status.Members[i].VolumeUID = ""
	}
	if err := c.client.Status().Update(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	c.loseVolume("demo-v0")
	o.settle("demo")
	if len(c.statements["demo-v0"]) != 1 {
		t.Errorf("it was told to make a vote store on %v", c.statements["demo-v0"])
	}
}

func member(n *v1alpha1.DiseqNetwork, name string) v1alpha1.Member {
	for _, m := range n.Status.Members {
		if m.Name == name {
			return m
		}
	}
	return v1alpha1.Member{}
}
