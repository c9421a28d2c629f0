package integration

import (
	"maps"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/diseq/diseq/api/v1alpha1"
	"github.com/diseq/diseq/controllers/membership"
)

const voteStoreAnnotation = "diseq.io/vote-store"

var four = []string{"demo-v0", "demo-v1", "demo-v2", "demo-v3"}

// The disk under a validator's first claim comes back empty, as a worker's own disk does when the
// worker is made anew. Its pod still says that the volume is the first one, whether the kubelet
// restarts its container or it is another pod.
//
// Promise 58.
func TestAnEmptiedVolumeMakesItsValidatorRejoin(t *testing.T) {
	for _, inPlace := range []bool{true, false} {
		c := newCluster(t)
		c.rejoins = false
		c.apply("demo")
		o := newOperator(t, c)
		born := o.settle("demo")
		pods := c.images()
		if inPlace {
			c.empty("demo-v1")
		} else {
			claim := &corev1.PersistentVolumeClaim{}
			c.get("demo-v1", claim)
			delete(c.disks, claim.UID)
			c.delete(&corev1.Pod{}, "demo-v1-0")
		}
		n := o.until("demo", "rejoining", func(n *v1alpha1.DiseqNetwork) bool {
			return member(n, "demo-v1").Phase == v1alpha1.MemberRejoining
		})
		if was, is := member(born, "demo-v1"), member(n, "demo-v1"); !is.VoteStore || is.VolumeUID != was.VolumeUID {
			t.Errorf("in place: %v: the member is %+v, was %+v", inPlace, is, was)
		}
		c.rejoins = true
		o.settle("demo")
		if len(c.made) != 4 || !maps.Equal(pods, c.images()) {
			t.Errorf("in place: %v: vote stores %v, pods %v", inPlace, c.made, c.images())
		}
		c.checkStatements()
	}
}

// That a vote store was made is written down while its node runs, and costs no pod: the statement
// in its template is not taken away.
//
// Promise 58.
func TestARecordedVoteStoreRestartsNoPod(t *testing.T) {
	c := newCluster(t)
	c.apply("demo")
	o := newOperator(t, c)
	o.settle("demo")
	started := len(c.started)
	for range 5 {
		o.reconcile("demo")
		c.step(t.Context())
	}
	file := c.peersFile(t.Context(), "demo")
	for _, name := range four {
		secret := &corev1.Secret{}
		c.get(name, secret)
		if !file[name] || secret.Annotations[voteStoreAnnotation] != "made" || !member(c.network("demo"), name).VoteStore {
			t.Errorf("%s: peers file %v, annotations %v", name, file[name], secret.Annotations)
		}
	}
	if started != 4 || len(c.started) != started {
		t.Errorf("pods came up: %v", c.started)
	}
}

// Neither a node that does not vote yet nor one that is silent has shown that it made its vote
// store.
//
// Promise 58.
func TestOnlyWhoIsSeenVotingHasMadeItsVoteStore(t *testing.T) {
	c := newCluster(t)
	c.silent["demo-v1"], c.rejoins = true, false
	c.apply("demo")
	o := newOperator(t, c)
	for range 10 {
		o.reconcile("demo")
		claim := &corev1.PersistentVolumeClaim{}
		if err := c.client.Get(t.Context(), types.NamespacedName{Namespace: c.namespace, Name: "demo-v2"}, claim); err == nil {
			c.disks[claim.UID] = &disk{used: true} // something is on it, and no vote store
			break
		}
	}
	n := o.until("demo", "started", func(n *v1alpha1.DiseqNetwork) bool {
		return n.Status.ReadyValidators == 2 && member(n, "demo-v2").Phase == v1alpha1.MemberRejoining
	})
	for range 3 {
		o.reconcile("demo")
		c.step(t.Context())
	}
	file := c.peersFile(t.Context(), "demo")
	if file["demo-v1"] || file["demo-v2"] || !file["demo-v0"] || member(n, "demo-v2").VoteStore {
		t.Errorf("peers file %v, member %+v", file, member(n, "demo-v2"))
	}
	delete(c.silent, "demo-v1")
	c.rejoins = true
	c.step(t.Context())
	o.skip(membership.Damping)
	o.settle("demo")
	if file := c.peersFile(t.Context(), "demo"); !file["demo-v1"] || !file["demo-v2"] {
		t.Errorf("peers file %v", file)
	}
}

// When somebody removes one of the records, the peers file keeps its content, for any answers of
// the nodes since. So does a network that is deleted and applied again.
//
// Promise 58.
func TestTheRecordOfAVoteStoreNeverGoesBack(t *testing.T) {
	for name, spoil := range map[string]func(*cluster){
		"the Secrets lost it": func(c *cluster) {
			for _, name := range four {
				secret := &corev1.Secret{}
				c.get(name, secret)
				delete(secret.Annotations, voteStoreAnnotation)
				if err := c.client.Update(c.t.Context(), secret); err != nil {
					c.t.Fatal(err)
				}
			}
		},
		"the status lost it": func(c *cluster) {
			n := c.network("demo")
			n.Status.Members = nil
			if err := c.client.Status().Update(c.t.Context(), n); err != nil {
				c.t.Fatal(err)
			}
		},
		"the peers file was changed": func(c *cluster) {
			held := &corev1.ConfigMap{}
			c.get("demo-peers", held)
			held.Data["peers.json"] = `{"peers":[]}`
			if err := c.client.Update(c.t.Context(), held); err != nil {
				c.t.Fatal(err)
			}
		},
		"the network was deleted": func(c *cluster) {
			c.remove("demo")
			c.apply("demo")
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			c.apply("demo")
			newOperator(t, c).settle("demo")
			for _, name := range four {
				c.silent[name] = true
			}
			spoil(c)
			o := newOperator(t, c)
			for range 6 {
				c.step(t.Context())
				o.reconcile("demo")
			}
			for _, name := range four {
				if !c.peersFile(t.Context(), "demo")[name] {
					t.Errorf("the peers file forgot %s", name)
				}
				secret := &corev1.Secret{}
				c.get(name, secret)
				if secret.Annotations[voteStoreAnnotation] != "made" || !member(c.network("demo"), name).VoteStore {
					t.Errorf("%s: annotations %v, member %+v", name, secret.Annotations, member(c.network("demo"), name))
				}
				c.empty(name)
			}
			clear(c.silent)
			c.step(t.Context())
			o.skip(membership.Damping)
			o.settle("demo")
			c.checkStatements()
		})
	}
}

// The operator is killed at each write of a birth, and no node answers from then on. The peers file
// keeps its content when another operator goes on.
//
// Promise 58.
func TestTheRecordOfAVoteStoreOutlivesTheOperator(t *testing.T) {
	recorded := 0
	for _, before := range []bool{true, false} {
		for k := 1; ; k++ {
			c := newCluster(t)
			c.apply("demo", withValidators(1))
			victim := newOperator(t, c)
			victim.journal.failAt, victim.journal.before = k, before
			died := false
			for range 20 {
				if died = victim.reconcile("demo"); died {
					break
				}
				c.step(t.Context())
			}
			if !died {
				break
			}
			if !c.peersFile(t.Context(), "demo")["demo-v0"] {
				continue
			}
			recorded++
			c.silent["demo-v0"] = true
			o := newOperator(t, c)
			for range 4 {
				c.step(t.Context())
				o.reconcile("demo")
			}
			if !c.peersFile(t.Context(), "demo")["demo-v0"] {
				t.Errorf("killed at %s (before: %v): the peers file forgot demo-v0", victim.journal.writes[k-1], before)
			}
		}
	}
	if recorded == 0 {
		t.Error("no operator was killed after a record")
	}
}

// An operator that hung while another one made a record does not write what it saw before.
//
// Promise 58.
func TestAnOperatorThatHungTakesNoRecordBack(t *testing.T) {
	c := newCluster(t)
	c.silent["demo-v1"] = true
	c.apply("demo")
	newOperator(t, c).until("demo", "available", func(n *v1alpha1.DiseqNetwork) bool { return n.Status.ReadyValidators == 3 })
	held := &corev1.ConfigMap{}
	c.get("demo-peers", held)
	held.Data["peers.json"] = `{"peers":[]}`
	if err := c.client.Update(t.Context(), held); err != nil {
		t.Fatal(err)
	}
	// It is about to put the peers file back.
	asleep, wake, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
	sleeper := newOperatorReading(t, c, func(inner client.Client) client.Client {
		return &sleeping{Client: inner, kind: "ConfigMap", name: "demo-peers", asleep: asleep, wake: wake}
	})
	go func() {
		defer close(done)
		sleeper.reconcile("demo")
	}()
	await(t, "the operator to hang", asleep)
	delete(c.silent, "demo-v1")
	c.step(t.Context())
	o := newOperator(t, c)
	o.skip(membership.Damping)
	o.settle("demo")
	if !c.peersFile(t.Context(), "demo")["demo-v1"] {
		t.Fatal("demo-v1 is not recorded")
	}
	close(wake)
	await(t, "the operator that hung to end", done)
	if !c.peersFile(t.Context(), "demo")["demo-v1"] {
		t.Error("the peers file forgot demo-v1")
	}
}
