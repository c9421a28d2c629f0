package integration

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/diseq/diseq/api/v1alpha1"
	"github.com/diseq/diseq/controllers/resources"
	"github.com/diseq/diseq/node/identity"
	"github.com/diseq/diseq/test/integration/harness"
)

// relabel changes the metadata of all objects of a network, and returns them as they were.
func (c *cluster) relabel(network string, change func(client.Object)) map[types.UID]client.Object {
	c.t.Helper()
	before := map[types.UID]client.Object{}
	for _, o := range c.everything(c.t.Context()) {
		if o.GetLabels()["diseq.io/network"] != network {
			continue
		}
		before[o.GetUID()] = o.DeepCopyObject().(client.Object)
		change(o)
		if err := c.client.Update(c.t.Context(), o); err != nil {
			c.t.Fatal(err)
		}
	}
	return before
}

// checkLabels fails the test unless all objects are there with the labels and owners that they had.
func (c *cluster) checkLabels(before map[types.UID]client.Object) {
	c.t.Helper()
	now := map[types.UID]client.Object{}
	for _, o := range c.everything(c.t.Context()) {
		now[o.GetUID()] = o
	}
	for uid, was := range before {
		o := now[uid]
		if o == nil {
			c.t.Errorf("%s %s is gone", typeName(was), was.GetName())
			continue
		}
		for label, value := range was.GetLabels() {
			if o.GetLabels()[label] != value {
				c.t.Errorf("%s %s: label %s is %q, was %q", typeName(o), o.GetName(), label, o.GetLabels()[label], value)
			}
		}
		if len(o.GetOwnerReferences()) != len(was.GetOwnerReferences()) {
			c.t.Errorf("%s %s: the owners are %v, were %v", typeName(o), o.GetName(), o.GetOwnerReferences(), was.GetOwnerReferences())
		}
	}
}

// relabellings are what people do to labels and owners.
var relabellings = map[string]func(client.Object){
	"no labels":                    func(o client.Object) { o.SetLabels(nil) },
	"the label of another network": func(o client.Object) { o.GetLabels()["diseq.io/network"] = "other" },
	"the label of another validator": func(o client.Object) {
		if labels := o.GetLabels(); labels["diseq.io/validator"] != "" {
			labels["diseq.io/validator"], labels["diseq.io/role"] = "demo-v9", "none"
		}
	},
	"no labels and no owner": func(o client.Object) {
		o.SetLabels(nil)
		if _, pod := o.(*corev1.Pod); !pod { // without an owner a pod belongs to nobody
			o.SetOwnerReferences(nil)
		}
	},
}

// The labels of all objects of a network are changed at once. The operator finds every one of them
// by its name, knows it by other proofs, and puts the labels back. It takes none for somebody
// else's, makes none again and stops nothing.
//
// Promise 66.
func TestALabelIsPutBackOnEveryKindOfObject(t *testing.T) {
	for name, change := range relabellings {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			c.apply("demo")
			o := newOperator(t, c)
			o.settle("demo")
			before := c.relabel("demo", change)
			if len(before) < 25 { // 4 of each kind of a validator, and what they share
				t.Fatalf("only %d objects", len(before))
			}
			for range 3 {
				o.reconcile("demo")
				if d := condition(c.network("demo"), v1alpha1.ConditionDegraded); d.Status != metav1.ConditionFalse {
					t.Errorf("Degraded is %s: %s: %s", d.Status, d.Reason, d.Message)
				}
			}
			c.checkLabels(before)
			for _, w := range o.journal.writes {
				if strings.HasPrefix(w, "delete") {
					t.Errorf("it wrote %s", w)
				}
			}
			o.settle("demo")
			c.checkStatements()
		})
	}
}

// The same, for objects that a deleted network left behind: nothing but their content is known.
//
// Promise 65.
func TestRetainedObjectsWithoutLabelsAreAdopted(t *testing.T) {
	c := newCluster(t)
	c.apply("demo")
	born := newOperator(t, c).settle("demo")
	c.remove("demo")
	before := c.relabel("demo", relabellings["no labels"])
	if len(before) != 9 {
		t.Fatalf("%d objects, want 4 Secrets, 4 claims and the genesis document", len(before))
	}
	c.apply("demo")
	again := newOperator(t, c).settle("demo")
	if again.Status.GenesisHash != born.Status.GenesisHash {
		t.Errorf("another chain: %s, was %s", again.Status.ChainID, born.Status.ChainID)
	}
	c.checkLabels(before)
	c.checkStatements()
}

// A claim that took the place of a lost one is on no record. The operator knows it as one that it
// made.
func TestALabelOfAReplacedClaimIsPutBack(t *testing.T) {
	c := newCluster(t)
	c.apply("demo")
	o := newOperator(t, c)
	o.settle("demo")
	pod := &corev1.Pod{}
	c.get("demo-v1-0", pod)
	c.delete(&corev1.PersistentVolumeClaim{}, "demo-v1")
	if err := c.client.Delete(t.Context(), pod, client.GracePeriodSeconds(0)); err != nil {
		t.Fatal(err)
	}
	c.step(t.Context())
	o.settle("demo")
	before := c.relabel("demo", relabellings["no labels"])
	for range 2 {
		o.reconcile("demo")
	}
	c.checkLabels(before)
	o.settle("demo")
	c.checkStatements()
}

// secretOf is a Secret with a new identity, which is not the validator's.
func (c *cluster) secretOf(name string, labels map[string]string) *corev1.Secret {
	c.t.Helper()
	id, err := identity.New()
	if err != nil {
		c.t.Fatal(err)
	}
	files, err := id.Files(name)
	if err != nil {
		c.t.Fatal(err)
	}
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: c.namespace, Name: name, Labels: labels}, Data: files}
}

// Somebody puts another key in the place of a validator's. It never becomes the validator's, no
// message tells anybody to delete it and no more, and the other validators are updated.
//
// Promise 57.
// Promise 66.
func TestAForeignKeyInTheNameOfAValidatorConcernsThatValidatorAlone(t *testing.T) {
	for _, test := range []struct {
		name, reason string
		labels       map[string]string
	}{
		{"without the label", "NameConflict", nil},
		{"with the label", "KeyMismatch", map[string]string{"diseq.io/network": "demo", "diseq.io/validator": "demo-v2"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newCluster(t)
			c.apply("demo")
			o := newOperator(t, c)
			o.settle("demo")
			c.delete(&corev1.Secret{}, "demo-v2")
			planted := c.secretOf("demo-v2", test.labels)
			if err := c.client.Create(t.Context(), planted); err != nil {
				t.Fatal(err)
			}
			before := text(t, planted)
			c.edit("demo", toImage("diseq:next"))
			n := o.until("demo", "updated but for one", func(n *v1alpha1.DiseqNetwork) bool {
				images := slices.Sorted(maps.Values(c.images()))
				return slices.Equal(images, []string{"diseq:next", "diseq:next", "diseq:next", testImage}) && n.Status.ReadyValidators == 4
			})
			if c.images()["demo-v2-0"] != testImage {
				t.Errorf("the pod that cannot start again was restarted: %v", c.images())
			}
			message := condition(n, v1alpha1.ConditionDegraded).Message
			if !hasReason(n, test.reason) || !strings.Contains(message, "demo-v2") || !strings.Contains(message, "ave its content") {
				t.Errorf("Degraded: %s: %s", condition(n, v1alpha1.ConditionDegraded).Reason, message)
			}
			c.get("demo-v2", planted)
			if after := text(t, planted); after != before {
				t.Errorf("it was\n%s\nand is\n%s", before, after)
			}
		})
	}
}

// hasReason says whether Degraded or Progressing has a reason.
func hasReason(n *v1alpha1.DiseqNetwork, reason string) bool {
	return condition(n, v1alpha1.ConditionDegraded).Reason == reason || condition(n, v1alpha1.ConditionProgressing).Reason == reason
}

// Somebody takes a name of a network that runs. The operator reports it, leaves the object alone,
// and goes on with everything else. It puts a label back elsewhere, replaces another lost object,
// and updates the pods that would not start with a stranger's object.
//
// Promise 66.
func TestAConflictStopsNothingElse(t *testing.T) {
	meta := func(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Name: name} }
	all := []string{"demo-v0-0", "demo-v1-0", "demo-v2-0", "demo-v3-0"}
	for _, test := range []struct {
		name     string
		stranger client.Object
		updated  []string
	}{
		{"the Service for clients", &corev1.Service{ObjectMeta: meta("demo"), Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 1}}}}, all},
		{"the Service of the peers",
			&corev1.Service{ObjectMeta: meta("demo-peers"), Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 1}}}}, all},
		{"a network policy", &networkingv1.NetworkPolicy{ObjectMeta: meta("demo-dns")}, all},
		{"the disruption budget",
			&policyv1.PodDisruptionBudget{ObjectMeta: meta("demo"), Spec: policyv1.PodDisruptionBudgetSpec{MinAvailable: new(intstr.FromInt32(1))}}, all},
		{"an account", &corev1.ServiceAccount{ObjectMeta: meta("demo-v3")}, all[:3]},
		{"the nodes' configuration", &corev1.ConfigMap{ObjectMeta: meta("demo-config"), Data: map[string]string{"node.yaml": "x"}}, nil},
		{"the peers file", &corev1.ConfigMap{ObjectMeta: meta("demo-peers"), Data: map[string]string{"peers.json": "{}"}}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newCluster(t)
			c.apply("demo")
			o := newOperator(t, c)
			o.settle("demo")
			object := test.stranger.DeepCopyObject().(client.Object)
			c.delete(object.DeepCopyObject().(client.Object), object.GetName())
			object.SetNamespace(c.namespace)
			if err := c.client.Create(t.Context(), object); err != nil {
				t.Fatal(err)
			}
			before := text(t, object)
			c.delete(&networkingv1.NetworkPolicy{}, "demo-operations")
			secret := &corev1.Secret{}
			c.get("demo-v1", secret)
			secret.Labels = nil
			if err := c.client.Update(t.Context(), secret); err != nil {
				t.Fatal(err)
			}
			c.edit("demo", toImage("diseq:next"))
			n := o.until("demo", "updated as far as it can", func(n *v1alpha1.DiseqNetwork) bool {
				for _, pod := range test.updated {
					if c.images()[pod] != "diseq:next" {
						return false
					}
				}
				return n.Status.ReadyValidators == 4 && hasReason(n, "NameConflict")
			})
			for range 3 {
				o.reconcile("demo")
				c.step(t.Context())
			}
			for pod, image := range c.images() {
				if slices.Contains(test.updated, pod) != (image == "diseq:next") {
					t.Errorf("%s runs %s", pod, image)
				}
			}
			message := condition(n, v1alpha1.ConditionDegraded).Message
			if !strings.Contains(message, object.GetName()) {
				t.Errorf("the message does not name %s: %s", object.GetName(), message)
			}
			c.get("demo-operations", &networkingv1.NetworkPolicy{})
			c.get("demo-v1", secret)
			if secret.Labels["diseq.io/network"] != "demo" {
				t.Errorf("the Secret has the labels %v", secret.Labels)
			}
			c.get(object.GetName(), object)
			if after := text(t, object); after != before {
				t.Errorf("it was\n%s\nand is\n%s", before, after)
			}
			if !t.Failed() && len(test.updated) == 4 {
				c.delete(object, object.GetName())
				o.settle("demo")
			}
		})
	}
}

// A key that is lost stops nothing of the other validators: their objects are repaired.
func TestALostKeyStopsNothingElse(t *testing.T) {
	c := newCluster(t)
	c.apply("demo")
	o := newOperator(t, c)
	o.settle("demo")
	c.delete(&corev1.Secret{}, "demo-v2")
	for _, lost := range []client.Object{&corev1.Service{}, &policyv1.PodDisruptionBudget{}, &corev1.ServiceAccount{}, &appsv1.StatefulSet{}} {
		name := "demo"
		switch lost.(type) {
		case *corev1.ServiceAccount, *appsv1.StatefulSet:
			name = "demo-v1"
		}
		c.delete(lost, name)
	}
	c.edit("demo", toImage("diseq:next"))
	o.until("demo", "repaired and updated but for one", func(n *v1alpha1.DiseqNetwork) bool {
		images := c.images()
		return n.Status.ReadyValidators == 4 && condition(n, v1alpha1.ConditionDegraded).Reason == "KeyMissing" &&
			images["demo-v0-0"] == "diseq:next" && images["demo-v1-0"] == "diseq:next" && images["demo-v3-0"] == "diseq:next"
	})
	c.get("demo", &corev1.Service{})
	c.get("demo", &policyv1.PodDisruptionBudget{})
	c.get("demo-v1", &corev1.ServiceAccount{})
	if got := c.images()["demo-v2-0"]; got != testImage {
		t.Errorf("the pod that cannot start again was restarted, with %s", got)
	}
}

// genesisText is the document in the ConfigMap of a network.
func (c *cluster) genesisText(network string) string {
	c.t.Helper()
	held := &corev1.ConfigMap{}
	c.get(network+"-genesis", held)
	return held.Data["genesis.json"]
}

// While the ConfigMap of the genesis document is gone, the network stays available and the status
// says how to restore it. A person restores it with kubectl, as the status says, in all the ways in
// which a file can be saved; the operator makes of it what it was.
//
// Promise 57.
func TestAGenesisDocumentIsRestoredAsTheStatusSays(t *testing.T) {
	compact := func(t *testing.T, document string) string {
		var b bytes.Buffer
		if err := json.Compact(&b, []byte(document)); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	for _, test := range []struct {
		name, file string
		save       func(*testing.T, string) string
		restarted  bool
	}{
		{name: "as it was", file: "genesis.json"},
		{name: "as a node serves it", file: "genesis.json", save: func(t *testing.T, d string) string { return compact(t, d) + "\n" }},
		{name: "without a line break at the end", file: "genesis.json", save: compact},
		{name: "with line breaks of Windows", file: "genesis.json",
			save: func(_ *testing.T, d string) string { return strings.ReplaceAll(d, "\n", "\r\n") }},
		{name: "in a file of another name", file: "demo.txt", save: compact},
		{name: "by another operator", file: "genesis.json", restarted: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newCluster(t)
			c.apply("demo")
			o := newOperator(t, c)
			born := o.settle("demo")
			document := c.genesisText("demo")
			c.delete(&corev1.ConfigMap{}, "demo-genesis")
			if test.restarted {
				o = newOperator(t, c) // it asks the nodes for the document
			}
			c.delete(&corev1.Service{}, "demo")
			o.reconcile("demo")
			n := c.network("demo")
			message := condition(n, v1alpha1.ConditionDegraded).Message
			if !hasReason(n, "RetainedGenesisMismatch") || condition(n, v1alpha1.ConditionAvailable).Status != metav1.ConditionTrue ||
				n.Status.ReadyValidators != 4 {
				t.Errorf("without the document:\n%s", describe(n))
			}
			for _, part := range []string{"/v1/genesis", born.Status.GenesisHash, "create configmap demo-genesis --from-file=genesis.json"} {
				if !strings.Contains(message, part) {
					t.Errorf("the message does not have %q: %s", part, message)
				}
			}
			c.get("demo", &corev1.Service{}) // everything else is repaired

			saved := document
			if test.save != nil {
				saved = test.save(t, document)
			}
			path := filepath.Join(t.TempDir(), test.file)
			if err := os.WriteFile(path, []byte(saved), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := harness.Kubectl(t, "-n", c.namespace, "create", "configmap", "demo-genesis", "--from-file="+path); err != nil {
				t.Fatal(err)
			}
			o.settle("demo")
			held := &corev1.ConfigMap{}
			c.get("demo-genesis", held)
			if held.Data["genesis.json"] != saved || held.Labels["diseq.io/network"] != "demo" || held.Immutable == nil || !*held.Immutable {
				t.Errorf("the ConfigMap is %+v", held)
			}
		})
	}
}

// A ConfigMap without the network's document is reported and left alone. An update restarts no pod
// meanwhile.
func TestADocumentThatIsNotTheNetworksIsToldOfAndLeftAlone(t *testing.T) {
	for name, spoil := range map[string]func(document string) *corev1.ConfigMap{
		"nothing": func(string) *corev1.ConfigMap { return nil },
		"another chain, with the label": func(d string) *corev1.ConfigMap {
			return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"diseq.io/network": "demo"}},
				Data: map[string]string{"genesis.json": strings.ReplaceAll(d, `"chain_id": "demo-`, `"chain_id": "other-`)}}
		},
		"another chain": func(d string) *corev1.ConfigMap {
			return &corev1.ConfigMap{Data: map[string]string{"genesis.json": strings.ReplaceAll(d, `"chain_id": "demo-`, `"chain_id": "other-`)}}
		},
		"no document": func(string) *corev1.ConfigMap {
			return &corev1.ConfigMap{Data: map[string]string{"genesis.json": "{"}}
		},
		"under another key, immutable": func(d string) *corev1.ConfigMap {
			return &corev1.ConfigMap{Data: map[string]string{"demo.json": d}, Immutable: new(true)}
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			c.apply("demo")
			o := newOperator(t, c)
			o.settle("demo")
			document := c.genesisText("demo")
			c.delete(&corev1.ConfigMap{}, "demo-genesis")
			object := spoil(document)
			if object != nil {
				object.Name, object.Namespace = "demo-genesis", c.namespace
				if err := c.client.Create(t.Context(), object); err != nil {
					t.Fatal(err)
				}
			}
			c.edit("demo", toImage("diseq:next"))
			for range 4 {
				o.reconcile("demo")
				c.step(t.Context())
			}
			n := c.network("demo")
			if !hasReason(n, "RetainedGenesisMismatch") || n.Status.ReadyValidators != 4 {
				t.Errorf("%s", describe(n))
			}
			if message := condition(n, v1alpha1.ConditionDegraded).Message; strings.Contains(message, "elete") && !strings.Contains(message, "ave it") {
				t.Errorf("it tells to delete and not to save: %s", message)
			}
			for pod, image := range c.images() {
				if image != testImage {
					t.Errorf("%s was restarted without its genesis document", pod)
				}
			}
			if object != nil {
				c.get("demo-genesis", object)
				if object.Labels["diseq.io/network"] != "" && !strings.Contains(name, "with the label") {
					t.Errorf("it was labelled: %v", object.Labels)
				}
				c.delete(object, "demo-genesis")
			}
			right := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "demo-genesis", Namespace: c.namespace},
				Data: map[string]string{"genesis.json": document}}
			if err := c.client.Create(t.Context(), right); err != nil {
				t.Fatal(err)
			}
			o.settle("demo")
			for pod, image := range c.images() {
				if image != "diseq:next" {
					t.Errorf("%s runs %s", pod, image)
				}
			}
		})
	}
}

// A genesis document that nobody labelled is adopted by a new resource if it names the key of a
// Secret that has the label.
//
// Promise 65.
func TestARestoredDocumentIsAdoptedWithTheKeysOfItsChain(t *testing.T) {
	c := newCluster(t)
	c.apply("demo")
	born := newOperator(t, c).settle("demo")
	document := c.genesisText("demo")
	c.remove("demo")
	c.delete(&corev1.ConfigMap{}, "demo-genesis")
	restored := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "demo-genesis", Namespace: c.namespace},
		Data: map[string]string{"genesis.json": document}}
	if err := c.client.Create(t.Context(), restored); err != nil {
		t.Fatal(err)
	}
	c.apply("demo")
	if n := newOperator(t, c).settle("demo"); n.Status.GenesisHash != born.Status.GenesisHash {
		t.Errorf("another chain: %s, was %s", n.Status.ChainID, born.Status.ChainID)
	}
}

// Earlier versions gave what a network leaves behind the label app.kubernetes.io/instance, by which
// an Argo CD application of the same name deletes it. The operator takes it away, unless somebody
// else has put it there.
func TestRetainedObjectsLoseTheLabelByWhichTheyArePruned(t *testing.T) {
	const label = "app.kubernetes.io/instance"
	c := newCluster(t)
	n := c.apply("demo", withValidators(2))
	o := newOperator(t, c)
	o.settle("demo")
	c.get("demo", n)
	for _, object := range c.everything(t.Context()) {
		switch kind := typeName(object); {
		case kind != "*v1.Secret" && kind != "*v1.PersistentVolumeClaim" && object.GetName() != "demo-genesis":
		case object.GetLabels()[label] != "":
			t.Errorf("%s %s is born with the label", kind, object.GetName())
		}
	}
	// As an earlier version left them: the Secrets were created with the label, the others applied.
	old := map[string]string{label: "demo"}
	stale := map[string]string{resources.AppliedAnnotation: "of an earlier version"}
	owner := client.FieldOwner(resources.FieldOwner)
	patch := client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"metadata":{"labels":{%q:"demo"}}}`, label))
	for name, by := range map[string]client.FieldOwner{"demo-v0": owner, "demo-v1": "argocd-controller"} {
		secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: c.namespace}}
		if err := c.client.Patch(t.Context(), secret, patch, by); err != nil {
			t.Fatal(err)
		}
	}
	claim := resources.PersistentVolumeClaim(n, 0).WithLabels(old).WithAnnotations(stale)
	genesis := resources.GenesisConfigMap(n, c.genesisText("demo")).WithLabels(old).WithAnnotations(stale)
	for _, err := range []error{
		c.client.Apply(t.Context(), claim, owner, client.ForceOwnership),
		c.client.Apply(t.Context(), genesis, owner, client.ForceOwnership),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		o.reconcile("demo")
	}
	for _, test := range []struct {
		object client.Object
		name   string
		want   string
	}{
		{&corev1.Secret{}, "demo-v0", ""}, {&corev1.Secret{}, "demo-v1", "demo"},
		{&corev1.PersistentVolumeClaim{}, "demo-v0", ""}, {&corev1.ConfigMap{}, "demo-genesis", ""},
	} {
		c.get(test.name, test.object)
		if got := test.object.GetLabels()[label]; got != test.want {
			t.Errorf("%s %s: the label is %q, want %q", typeName(test.object), test.name, got, test.want)
		}
	}
	before := o.journal.count()
	o.reconcile("demo")
	if now := o.journal.count(); now != before {
		t.Errorf("it goes on writing: %v", o.journal.writes[before:])
	}
}

// The operator was away while somebody deleted the namespace. It comes back and finds half of the
// objects. It tries once to make something, and then leaves the network alone: no errors, no
// events, no status.
func TestANamespaceThatIsBeingDeletedIsLeftAlone(t *testing.T) {
	c := newCluster(t)
	c.apply("demo")
	newOperator(t, c).settle("demo")
	before := c.network("demo")
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: c.namespace}}
	if err := c.client.Delete(t.Context(), namespace); err != nil {
		t.Fatal(err)
	}
	c.delete(&corev1.Service{}, "demo-peers")
	c.delete(&corev1.ConfigMap{}, "demo-config")
	c.delete(&corev1.Secret{}, "demo-v1")
	c.delete(&appsv1.StatefulSet{}, "demo-v2")
	o := newOperator(t, c)
	for range 5 {
		o.reconcile("demo") // fails the test if there is an error
	}
	if writes := o.journal.writes; len(writes) != 1 {
		t.Errorf("%d writes, want the one that is refused: %v", len(writes), writes)
	}
	if events := o.events.events; len(events) > 0 {
		t.Errorf("events: %v", events)
	}
	if now := c.network("demo"); now.ResourceVersion != before.ResourceVersion {
		t.Errorf("the status was written:\n%s", describe(now))
	}
}
