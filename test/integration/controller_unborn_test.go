package integration

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/diseq/diseq/api/v1alpha1"
)

// stillborn is a network whose storage class does not exist: its pods wait for ever.
func (c *cluster) stillborn(changes ...func(*v1alpha1.DiseqNetwork)) *operator {
	c.t.Helper()
	c.apply("demo", append(changes, ofClass("typo"))...)
	o := newOperator(c.t, c)
	o.until("demo", "waiting for its volumes", func(n *v1alpha1.DiseqNetwork) bool {
		pods := &corev1.PodList{}
		if err := c.client.List(c.t.Context(), pods, c.in()); err != nil {
			c.t.Fatal(err)
		}
		for _, p := range pods.Items {
			if len(p.Status.Conditions) == 0 {
				return false
			}
		}
		return len(pods.Items) == int(n.Spec.Validators)
	})
	return o
}

// checkBorn holds that every validator made its vote store on the claim that is recorded as its
// first one, which is as wanted says, and that none of them had to rejoin.
func (c *cluster) checkBorn(wanted func(*corev1.PersistentVolumeClaim) bool) {
	c.t.Helper()
	n := c.network("demo")
	for _, m := range n.Status.Members {
		claim, secret := &corev1.PersistentVolumeClaim{}, &corev1.Secret{}
		c.get(m.Name, claim)
		c.get(m.Name, secret)
		first := types.UID(secret.Annotations["diseq.io/first-volume"])
		if claim.UID != first || m.VolumeUID != string(first) || secret.Annotations["diseq.io/unused-volume"] != "" {
			c.t.Errorf("%s has the claim %s, recorded are %v and %s", m.Name, claim.UID, secret.Annotations, m.VolumeUID)
		}
		if d := c.disks[claim.UID]; d == nil || !d.made || !d.voted || !wanted(claim) {
			c.t.Errorf("%s has the claim %+v with %+v on it", m.Name, claim.Spec, d)
		}
	}
	c.checkVotes()
}

func hasClass(class string) func(*corev1.PersistentVolumeClaim) bool {
	return func(claim *corev1.PersistentVolumeClaim) bool { return classOf(claim) == class }
}

// A mistake in spec.storage is corrected by correcting it, as long as no volume was made.
func TestTheStorageOfANetworkThatWasNeverBornMayChange(t *testing.T) {
	for name, test := range map[string]struct {
		correct func(*v1alpha1.DiseqNetwork)
		wanted  func(*corev1.PersistentVolumeClaim) bool
	}{
		"another class":     {ofClass("standard"), hasClass("standard")},
		"the default class": {ofClass(""), hasClass("")},
		"everything": {
			func(n *v1alpha1.DiseqNetwork) {
				sized("2Gi")(n)
				n.Spec.Storage.StorageClassName, n.Spec.Storage.AccessMode = "standard", corev1.ReadWriteOncePod
			},
			func(claim *corev1.PersistentVolumeClaim) bool {
				size := claim.Spec.Resources.Requests["storage"]
				return classOf(claim) == "standard" && size.String() == "2Gi" && claim.Spec.AccessModes[0] == corev1.ReadWriteOncePod
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			o := c.stillborn()
			c.edit("demo", test.correct)
			o.settle("demo")
			c.checkBorn(test.wanted)
		})
	}
}

// Promise 56.
// Promise 58.
func TestTheOperatorMayDieAnywhereWhileAClaimThatWasNeverBoundIsReplaced(t *testing.T) {
	for _, before := range []bool{true, false} {
		for k := 1; ; k++ {
			c := newCluster(t)
			c.stillborn(withValidators(1))
			c.edit("demo", ofClass("standard"))
			victim := newOperator(t, c)
			victim.journal.failAt, victim.journal.before = k, before
			died, told := false, len(c.statements["demo-v0"])
			for range 12 {
				if died = victim.reconcile("demo"); died {
					break
				}
				if c.step(t.Context()); len(c.statements["demo-v0"]) > told {
					break // the rest is a birth like any other
				}
			}
			newOperator(t, c).settle("demo")
			c.checkBorn(hasClass("standard"))
			if !died {
				if k < 6 {
					t.Fatalf("a claim was replaced in %d writes, which cannot be all of them", k-1)
				}
				break
			}
		}
	}
}

// The validators of a network that never ran make their vote stores, in spite of all that a person
// has deleted, and whether an operator saw it or not.
func TestValidatorsThatNeverRanMakeTheirVoteStoresAfterTheirClaimsAreDeleted(t *testing.T) {
	deleteClaims := func(c *cluster) {
		for _, name := range four {
			c.delete(&corev1.PersistentVolumeClaim{}, name)
		}
		c.step(t.Context())
	}
	for name, spoil := range map[string]func(*cluster){
		"the claims": deleteClaims,
		"the claims, then the class is corrected": func(c *cluster) {
			deleteClaims(c)
			c.edit("demo", ofClass("standard"))
		},
		"the network": func(c *cluster) {
			c.remove("demo")
			c.apply("demo", ofClass("standard"))
		},
		"the network and the claims": func(c *cluster) {
			c.remove("demo")
			deleteClaims(c)
			c.apply("demo", ofClass("standard"))
		},
		"the network and its genesis document": func(c *cluster) {
			c.remove("demo")
			c.delete(&corev1.ConfigMap{}, "demo-genesis")
			c.apply("demo", ofClass("standard"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			c.stillborn()
			spoil(c)
			class := c.network("demo").Spec.Storage.StorageClassName
			c.unbound = func(*corev1.PersistentVolumeClaim) bool { return false } // a class of any name is there now
			newOperator(t, c).settle("demo")
			c.checkBorn(hasClass(class))
		})
	}
}

// A claim that is bound at the last moment is not deleted, and is the first one still.
//
// Promise 58.
func TestAClaimThatIsBoundMeanwhileStays(t *testing.T) {
	c := newCluster(t)
	o := c.stillborn()
	c.edit("demo", ofClass("standard"))
	o.reconcile("demo")
	claim, secret := &corev1.PersistentVolumeClaim{}, &corev1.Secret{}
	c.get("demo-v1", claim)
	c.get("demo-v1", secret)
	if secret.Annotations["diseq.io/unused-volume"] != string(claim.UID) {
		t.Fatalf("it is not decided yet that %s is replaced: %v", claim.UID, secret.Annotations)
	}
	if err := c.bind(t.Context(), claim); err != nil {
		t.Fatal(err)
	}
	o.settle("demo")
	c.checkBorn(func(is *corev1.PersistentVolumeClaim) bool {
		if is.Name == "demo-v1" {
			return is.UID == claim.UID && classOf(is) == "typo"
		}
		return classOf(is) == "standard"
	})
}

// A validator that may have voted is not taken for one that was never born, although the record of
// its vote store could not be written before its claim was lost.
//
// Promise 58.
func TestAValidatorOfANetworkThatLivesRejoinsThoughItWasNeverRecorded(t *testing.T) {
	c := newCluster(t)
	c.silent["demo-v1"], c.rejoins = true, false
	c.apply("demo")
	o := newOperator(t, c)
	o.until("demo", "running without demo-v1", func(n *v1alpha1.DiseqNetwork) bool { return n.Status.ReadyValidators == 3 })
	c.loseVolume("demo-v1")
	delete(c.silent, "demo-v1")
	o.until("demo", "rejoining", func(n *v1alpha1.DiseqNetwork) bool {
		return member(n, "demo-v1").Phase == v1alpha1.MemberRejoining
	})
	c.checkStatements()
}

// In a network that lives, one claim that was never bound is replaced as well, and volumes that are
// there keep their class and mode, without a complaint.
func TestVolumesKeepTheirClassAndNewOnesGetTheNewOne(t *testing.T) {
	c := newCluster(t)
	full := func(claim *corev1.PersistentVolumeClaim) bool {
		return claim.Name == "demo-v3" && classOf(claim) == "full"
	}
	c.unbound = full
	c.apply("demo", ofClass("full"))
	o := newOperator(t, c)
	o.until("demo", "running without demo-v3", func(n *v1alpha1.DiseqNetwork) bool { return n.Status.ReadyValidators == 3 })
	before := uids(t, c)
	c.edit("demo", func(n *v1alpha1.DiseqNetwork) {
		n.Spec.Storage.StorageClassName, n.Spec.Storage.AccessMode = "empty", corev1.ReadWriteOncePod
	})
	o.settle("demo")
	c.checkBorn(func(claim *corev1.PersistentVolumeClaim) bool {
		if claim.Name == "demo-v3" {
			return classOf(claim) == "empty" && claim.Spec.AccessModes[0] == corev1.ReadWriteOncePod
		}
		return classOf(claim) == "full" && claim.Spec.AccessModes[0] == corev1.ReadWriteOnce
	})
	for name, uid := range uids(t, c) {
		if had := before[name]; had != uid && name != "*v1.Pod demo-v3-0" && name != "*v1.PersistentVolumeClaim demo-v3" {
			t.Errorf("%s was %s and is %s", name, had, uid)
		}
	}
	if d := condition(c.network("demo"), v1alpha1.ConditionDegraded); d.Status != metav1.ConditionFalse {
		t.Errorf("Degraded %+v", d)
	}
	c.edit("demo", ofClass(""))
	o.settle("demo")
	writes := len(o.journal.writes)
	o.reconcile("demo")
	if got := o.journal.writes[writes:]; len(got) > 0 {
		t.Errorf("it writes for ever: %v", got)
	}
}

// Before there is a genesis document there is nothing that its constants could contradict; after
// that the chain's own are named.
func TestConstantsThatDifferFromTheGenesisDocumentCanBeSetBack(t *testing.T) {
	c := newCluster(t)
	c.apply("demo")
	newOperator(t, c).settle("demo")
	c.remove("demo")
	longer, usual := int64(256), int64(128)
	c.apply("demo", func(n *v1alpha1.DiseqNetwork) { n.Spec.Consensus.BeaconInterval = &longer })
	o := newOperator(t, c)
	o.until("demo", "refused", func(n *v1alpha1.DiseqNetwork) bool {
		return condition(n, v1alpha1.ConditionDegraded).Reason == "RetainedGenesisMismatch"
	})
	c.edit("demo", func(n *v1alpha1.DiseqNetwork) { n.Spec.Consensus.BeaconInterval = &usual })
	o.settle("demo")
	c.checkStatements()
}
