package integration

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// The operator is killed at each of its writes in turn, once before it happens and once after, with
// the answer lost; another one goes on. After each of them the network comes up, no key that was
// ever seen changes, and the vote stores are made on first volumes.
//
// Promise 56.
// Promise 57.
func TestTheOperatorMayDieAtAnyWrite(t *testing.T) {
	want := shape(t, bornWithout(t))
	for _, before := range []bool{true, false} {
		for k := 1; ; k++ {
			c := newCluster(t)
			c.apply("demo", withValidators(2))
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
				if k < 15 {
					t.Fatalf("a network was born in %d writes, which cannot be all of them", k-1)
				}
				break
			}
			write := victim.journal.writes[k-1]
			keys := c.keys()
			newOperator(t, c).settle("demo")
			if got := shape(t, c); got != want {
				t.Errorf("killed at %s (before: %v), it ended as\n%s\nwant\n%s", write, before, got, want)
			}
			for name, uid := range keys {
				if c.keys()[name] != uid {
					t.Errorf("killed at %s (before: %v): Secret %s was %s, is %s", write, before, name, uid, c.keys()[name])
				}
			}
			for _, name := range []string{"demo-v0", "demo-v1"} {
				c.empty(name)
			}
			c.checkStatements()
		}
	}
}

func bornWithout(t *testing.T) *cluster {
	c := newCluster(t)
	c.apply("demo", withValidators(2))
	newOperator(t, c).settle("demo")
	return c
}

// keys are the UIDs of all key Secrets, and what is in them.
func (c *cluster) keys() map[string]string {
	c.t.Helper()
	secrets := &corev1.SecretList{}
	if err := c.client.List(c.t.Context(), secrets, c.in()); err != nil {
		c.t.Fatal(err)
	}
	keys := map[string]string{}
	for _, s := range secrets.Items {
		keys[s.Name] = fmt.Sprintf("%s %x", s.UID, s.Data["signing.key"])
	}
	return keys
}

// shape is what there is in a namespace, without what differs from one birth to the next.
func shape(t *testing.T, c *cluster) string {
	t.Helper()
	var lines []string
	for _, o := range c.everything(t.Context()) {
		if o.GetName() == "kube-root-ca.crt" || o.GetName() == "default" {
			continue
		}
		labels := slices.Sorted(maps.Keys(o.GetLabels()))
		lines = append(lines, fmt.Sprintf("%T %s %v owners %d", o, o.GetName(), labels, len(o.GetOwnerReferences())))
	}
	n := c.network("demo")
	for _, cond := range n.Status.Conditions {
		lines = append(lines, fmt.Sprintf("%s %s %s", cond.Type, cond.Status, cond.Reason))
	}
	for _, m := range n.Status.Members {
		lines = append(lines, fmt.Sprintf("%s %s %v", m.Name, m.Phase, m.VolumeUID != ""))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// checkStatements holds I9: a volume that a pod with --create-vote-store came up on is the one that
// the key Secret records, and the only one of that validator.
func (c *cluster) checkStatements() {
	c.t.Helper()
	for name, volumes := range c.statements {
		secret := &corev1.Secret{}
		c.get(name, secret)
		if first := types.UID(secret.Annotations["diseq.io/first-volume"]); len(volumes) != 1 || volumes[0] != first {
			c.t.Errorf("%s was told to make a vote store on the volumes %v, its first one is %s", name, volumes, first)
		}
	}
	c.checkVotes()
	for name, n := range c.made {
		if n != 1 {
			c.t.Errorf("%s made %d vote stores", name, n)
		}
	}
}

// checkVotes holds that no validator has voted from two vote stores that it was told to make.
func (c *cluster) checkVotes() {
	c.t.Helper()
	for name, volumes := range c.statements {
		voted := 0
		for _, uid := range volumes {
			if d := c.disks[uid]; d != nil && d.made && d.voted {
				voted++
			}
		}
		if voted > 1 {
			c.t.Errorf("%s voted from %d vote stores that it was told to make, on %v", name, voted, volumes)
		}
	}
}

func (c *cluster) delete(o client.Object, name string) {
	c.t.Helper()
	o.SetNamespace(c.namespace)
	o.SetName(name)
	if err := c.client.Delete(c.t.Context(), o); err != nil {
		c.t.Fatal(err)
	}
}
