package integration

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/diseq/diseq/api/v1alpha1"
)

func deleting(policy v1alpha1.RetentionPolicy) func(*v1alpha1.DiseqNetwork) {
	return func(n *v1alpha1.DiseqNetwork) { n.Spec.Storage.Retention.OnDelete = policy }
}

// remove deletes a network and lets the garbage collector work. A network that is applied after
// that asks for what was left behind.
func (c *cluster) remove(name string) {
	c.t.Helper()
	c.delete(&v1alpha1.DiseqNetwork{}, name)
	c.removed = true
	for range 4 {
		c.step(c.t.Context())
	}
}

// left lists what a network has left, by kind and name.
func (c *cluster) left(name string) map[string]bool {
	c.t.Helper()
	left := map[string]bool{}
	for _, o := range c.everything(c.t.Context()) {
		if o.GetLabels()["diseq.io/network"] == name {
			left[strings.TrimPrefix(strings.TrimPrefix(typeName(o), "*"), "v1.")+" "+o.GetName()] = true
		}
	}
	return left
}

// Promise 65.
func TestWithRetainTheSameChainIsResumed(t *testing.T) {
	c := newCluster(t)
	c.apply("demo")
	o := newOperator(t, c)
	born := o.settle("demo")
	keys := c.keys()
	c.remove("demo")
	left := c.left("demo")
	for _, want := range []string{"Secret demo-v0", "PersistentVolumeClaim demo-v3", "ConfigMap demo-genesis"} {
		if !left[want] {
			t.Errorf("%s is gone: %v", want, left)
		}
	}
	for _, gone := range []string{"StatefulSet demo-v0", "Pod demo-v0-0", "Service demo", "ConfigMap demo-config"} {
		if left[gone] {
			t.Errorf("%s is left", gone)
		}
	}
	c.apply("demo")
	again := newOperator(t, c).settle("demo")
	if again.UID == born.UID || again.Status.ChainID != born.Status.ChainID || again.Status.GenesisHash != born.Status.GenesisHash {
		t.Errorf("chain %s (%s), was %s (%s)", again.Status.ChainID, again.Status.GenesisHash, born.Status.ChainID, born.Status.GenesisHash)
	}
	for name, key := range c.keys() {
		if keys[name] != key {
			t.Errorf("Secret %s is another one", name)
		}
	}
	for _, m := range again.Status.Members {
		if was := member(born, m.Name); m.VolumeUID != was.VolumeUID || m.PublicKey != was.PublicKey || m.Phase != v1alpha1.MemberValidator {
			t.Errorf("member %+v, was %+v", m, was)
		}
	}
	c.checkStatements()
}

// A volume lost while there was no resource is still not a first one: the key Secret remembers.
//
// Promise 58.
func TestAVolumeLostBetweenTwoLivesOfANetworkIsKnown(t *testing.T) {
	c := newCluster(t)
	c.apply("demo")
	o := newOperator(t, c)
	o.settle("demo")
	c.remove("demo")
	c.delete(&corev1.PersistentVolumeClaim{}, "demo-v0")
	c.step(t.Context())
	c.apply("demo")
	o.settle("demo")
	c.checkStatements()
}

// Promise 65.
func TestWithDeleteNothingIsLeft(t *testing.T) {
	c := newCluster(t)
	c.apply("demo", deleting(v1alpha1.DeletePolicy))
	newOperator(t, c).settle("demo")
	c.remove("demo")
	if left := c.left("demo"); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// Promise 65.
func TestRetentionMayBeChangedLater(t *testing.T) {
	c := newCluster(t)
	c.apply("demo")
	o := newOperator(t, c)
	o.settle("demo")
	owners := func() (with, without int) {
		for _, o := range c.everything(t.Context()) {
			switch kind := typeName(o); {
			case o.GetLabels()["diseq.io/network"] == "":
			case kind == "*v1.Secret", kind == "*v1.PersistentVolumeClaim", o.GetName() == "demo-genesis":
				if len(o.GetOwnerReferences()) > 0 {
					with++
				} else {
					without++
				}
			}
		}
		return with, without
	}
	for _, policy := range []v1alpha1.RetentionPolicy{v1alpha1.DeletePolicy, v1alpha1.RetainPolicy} {
		c.edit("demo", deleting(policy))
		o.settle("demo")
		with, without := owners()
		if owned := policy == v1alpha1.DeletePolicy; (owned && without > 0) || (!owned && with > 0) || with+without != 9 {
			t.Errorf("%s: %d with an owner, %d without", policy, with, without)
		}
	}
	c.checkStatements()
}

// Promise 57.
// Promise 65.
func TestWhatWasRetainedIsAdoptedOnlyIfItIsWhatTheSpecAsksFor(t *testing.T) {
	longer := int64(256)
	for _, test := range []struct {
		name   string
		change func(*v1alpha1.DiseqNetwork)
		spoil  func(*cluster)
		reason string
		parts  []string
	}{
		{
			name: "other constants", reason: "RetainedGenesisMismatch", parts: []string{"128", "256"},
			change: func(n *v1alpha1.DiseqNetwork) { n.Spec.Consensus.BeaconInterval = &longer },
		},
		{
			name: "a synchrony wait", reason: "RetainedGenesisMismatch", parts: []string{"synchrony delta 0 ms", "synchrony delta 100 ms"},
			change: waiting(100 * time.Millisecond),
		},
		{
			name: "a lost document", reason: "RetainedGenesisMismatch", parts: []string{"demo-genesis"},
			spoil: func(c *cluster) { c.delete(&corev1.ConfigMap{}, "demo-genesis") },
		},
		{
			name: "exchanged keys", reason: "KeyMismatch", parts: []string{"demo-v2"},
			spoil: func(c *cluster) {
				one, two := &corev1.Secret{}, &corev1.Secret{}
				c.get("demo-v1", one)
				c.get("demo-v2", two)
				c.delete(&corev1.Secret{}, "demo-v2")
				two.ResourceVersion, two.UID, two.Data = "", "", one.Data
				if err := c.client.Create(c.t.Context(), two); err != nil {
					c.t.Fatal(err)
				}
			},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newCluster(t)
			c.apply("demo")
			newOperator(t, c).settle("demo")
			c.remove("demo")
			if test.spoil != nil {
				test.spoil(c)
			}
			var changes []func(*v1alpha1.DiseqNetwork)
			if test.change != nil {
				changes = append(changes, test.change)
			}
			c.apply("demo", changes...)
			o := newOperator(t, c)
			n := o.until("demo", "refused", func(n *v1alpha1.DiseqNetwork) bool {
				a := condition(n, v1alpha1.ConditionProgressing)
				return a.Status == metav1.ConditionFalse && a.Reason == test.reason
			})
			for _, part := range test.parts {
				if message := condition(n, v1alpha1.ConditionProgressing).Message; !strings.Contains(message, part) {
					t.Errorf("the message does not have %q: %s", part, message)
				}
			}
			o.reconcile("demo")
			for _, w := range o.journal.writes {
				if !strings.HasPrefix(w, "patch status") {
					t.Errorf("it wrote %s", w)
				}
			}
		})
	}
}

// The others go on without a validator whose key is lost, until the Secret is restored or the
// validator is replaced.
//
// Promise 57.
func TestARetainedNetworkGoesOnWithoutALostKey(t *testing.T) {
	c := newCluster(t)
	c.apply("demo")
	newOperator(t, c).settle("demo")
	c.remove("demo")
	c.delete(&corev1.Secret{}, "demo-v2")
	c.apply("demo")
	o := audited(t, c)
	n := o.until("demo", "degraded by the key", func(n *v1alpha1.DiseqNetwork) bool {
		return condition(n, v1alpha1.ConditionDegraded).Reason == "KeyMissing" && n.Status.ReadyValidators == 3
	})
	if message := condition(n, v1alpha1.ConditionDegraded).Message; !strings.Contains(message, "demo-v2") || !strings.Contains(message, "spec.retire") {
		t.Errorf("the message does not say what to do: %s", message)
	}
	if got := len(c.keys()); got != 3 {
		t.Errorf("%d key Secrets, want 3", got)
	}
	c.edit("demo", func(n *v1alpha1.DiseqNetwork) { n.Spec.Retire = []string{"demo-v2"} })
	n = o.scale("healed", changed)
	if got := setNames(n, v1alpha1.MemberValidator); !slices.Equal(got, numbered("demo", 0, 1, 3, 4)) {
		t.Errorf("validators %v", got)
	}
}

// A name that is taken stops the network before it has a key, and what has the name is left alone.
//
// Promise 66.
func TestWhatBelongsToSomebodyElseIsNotTouched(t *testing.T) {
	of := func(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Name: name} }
	stranger := of("demo-config")
	stranger.Labels = map[string]string{"diseq.io/network": "demo"}
	stranger.OwnerReferences = []metav1.OwnerReference{{
		APIVersion: "v1", Kind: "Node", Name: "other", UID: types.UID("00000000-0000-0000-0000-000000000001"), Controller: new(true),
	}}
	for name, object := range map[string]client.Object{
		"a Service": &corev1.Service{ObjectMeta: of("demo"), Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 1}}}},
		"a Secret":  &corev1.Secret{ObjectMeta: of("demo-v1"), Data: map[string][]byte{"signing.key": []byte("x")}},
		"a volume": &corev1.PersistentVolumeClaim{ObjectMeta: of("demo-v1"), Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Resources:   corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{"storage": resource.MustParse("1Gi")}},
		}},
		"a genesis document":       &corev1.ConfigMap{ObjectMeta: of("demo-genesis"), Data: map[string]string{"genesis.json": "{}"}},
		"what has another owner":   &corev1.ConfigMap{ObjectMeta: stranger, Data: map[string]string{"node.yaml": "x"}},
		"an account of a stranger": &corev1.ServiceAccount{ObjectMeta: of("demo-v3")},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			object = object.DeepCopyObject().(client.Object)
			object.SetNamespace(c.namespace)
			if err := c.client.Create(t.Context(), object); err != nil {
				t.Fatal(err)
			}
			before := text(t, object)
			c.apply("demo")
			o := newOperator(t, c)
			n := o.until("demo", "in conflict", func(n *v1alpha1.DiseqNetwork) bool {
				return condition(n, v1alpha1.ConditionDegraded).Reason == "NameConflict"
			})
			if message := condition(n, v1alpha1.ConditionDegraded).Message; !strings.Contains(message, object.GetName()) {
				t.Errorf("the message does not name %s: %s", object.GetName(), message)
			}
			for range 3 {
				o.reconcile("demo")
			}
			c.get(object.GetName(), object)
			if after := text(t, object); after != before {
				t.Errorf("it was\n%s\nand is\n%s", before, after)
			}
		})
	}
}

// A pod that has the name and the labels of a validator's, and that no StatefulSet made, does not
// count for the quorum and is not deleted.
//
// Promise 66.
func TestAPodOfSomebodyElseIsNeitherCountedNorDeleted(t *testing.T) {
	c := newCluster(t)
	c.apply("demo")
	o := newOperator(t, c)
	o.settle("demo")
	pod := &corev1.Pod{}
	c.get("demo-v0-0", pod)
	c.held["demo-v0"] = true
	if err := c.client.Delete(t.Context(), pod, client.GracePeriodSeconds(0)); err != nil {
		t.Fatal(err)
	}
	stray := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: c.namespace, Name: pod.Name, Labels: pod.Labels}, Spec: pod.Spec}
	stray.Spec.NodeName = ""
	if err := c.client.Create(t.Context(), stray); err != nil {
		t.Fatal(err)
	}
	c.edit("demo", toImage("diseq:next"))
	for range 8 {
		c.step(t.Context())
		o.reconcile("demo")
	}
	c.get(pod.Name, pod)
	if n := c.network("demo"); pod.UID != stray.UID || n.Status.ReadyValidators > 3 {
		t.Errorf("the pod is %s, was %s; %d validators are ready", pod.UID, stray.UID, n.Status.ReadyValidators)
	}
}

func text(t *testing.T, o client.Object) string {
	t.Helper()
	raw, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// Promise 66.
func TestTwoNetworksInANamespaceDoNotSeeEachOther(t *testing.T) {
	c := newCluster(t)
	c.apply("one", withValidators(3))
	c.apply("two", withValidators(3))
	o := newOperator(t, c)
	o.settle("one")
	two := o.settle("two")
	one := o.settle("one")
	if one.Status.ChainID == two.Status.ChainID || member(one, "one-v0").PublicKey == member(two, "two-v0").PublicKey {
		t.Errorf("they share a chain or a key: %+v %+v", one.Status, two.Status)
	}
	keys := c.keys()
	c.edit("one", toImage("diseq:next"))
	o.settle("one")
	for pod, image := range c.images() {
		if (image == "diseq:next") != strings.HasPrefix(pod, "one-") {
			t.Errorf("%s runs %s", pod, image)
		}
	}
	c.remove("one")
	o.reconcile("one")
	o.settle("two")
	for name, key := range c.keys() {
		if keys[name] != key {
			t.Errorf("Secret %s changed", name)
		}
	}
}

func sized(size string) func(*v1alpha1.DiseqNetwork) {
	return func(n *v1alpha1.DiseqNetwork) { n.Spec.Storage.Size = new(resource.MustParse(size)) }
}

// A size that the volumes cannot have is reported; it stops nothing, and every size that they can
// have ends the report.
func TestVolumesThatCannotHaveTheSizeAreReported(t *testing.T) {
	for _, test := range []struct {
		name, reason string
		parts        []string
	}{
		{"5Gi", "InvalidSpec", []string{"cannot shrink", "10Gi"}},
		// The API server lets no claim grow whose class does not allow it.
		{"20Gi", "VolumeCannotGrow", []string{"demo-v0", "10Gi", "20Gi", `StorageClass "slow"`, "allowVolumeExpansion"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newCluster(t)
			c.apply("demo", sized("10Gi"), ofClass("slow"))
			o := newOperator(t, c)
			o.settle("demo")
			c.edit("demo", sized(test.name))
			n := o.until("demo", "running, with a complaint", func(n *v1alpha1.DiseqNetwork) bool {
				return condition(n, v1alpha1.ConditionDegraded).Reason == test.reason &&
					condition(n, v1alpha1.ConditionAvailable).Reason == "AllValidatorsReady"
			})
			for _, part := range test.parts {
				if message := condition(n, v1alpha1.ConditionDegraded).Message; !strings.Contains(message, part) {
					t.Errorf("the message does not have %q: %s", part, message)
				}
			}
			// The size holds up nothing else.
			c.edit("demo", deleting(v1alpha1.DeletePolicy))
			o.until("demo", "owned", func(*v1alpha1.DiseqNetwork) bool {
				claim := &corev1.PersistentVolumeClaim{}
				c.get("demo-v0", claim)
				return len(claim.OwnerReferences) == 1
			})
			c.edit("demo", sized("10Gi"))
			o.until("demo", "as expected", func(n *v1alpha1.DiseqNetwork) bool {
				return condition(n, v1alpha1.ConditionDegraded).Reason == "AsExpected"
			})
		})
	}
}

func ofClass(class string) func(*v1alpha1.DiseqNetwork) {
	return func(n *v1alpha1.DiseqNetwork) { n.Spec.Storage.StorageClassName = class }
}
