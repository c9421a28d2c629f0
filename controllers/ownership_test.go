package controllers

import (
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/diseq/diseq/api/v1alpha1"
)

func TestAnObjectBelongsToANetworkByOneOfSeveralProofs(t *testing.T) {
	owned := func(kind, name string, uid types.UID, controller bool) []metav1.OwnerReference {
		return []metav1.OwnerReference{{Kind: kind, Name: name, UID: uid, Controller: new(controller)}}
	}
	label := func(network string) map[string]string { return map[string]string{"diseq.io/network": network} }
	by := func(manager string, operation metav1.ManagedFieldsOperationType) []metav1.ManagedFieldsEntry {
		return []metav1.ManagedFieldsEntry{{Manager: manager, Operation: operation}}
	}
	applied := by("diseq-operator", metav1.ManagedFieldsOperationApply)
	for _, test := range []struct {
		name   string
		object metav1.ObjectMeta
		ours   bool
		secret bool // as a key Secret, whose managed fields prove nothing
	}{
		{"the label", metav1.ObjectMeta{Labels: label("demo")}, true, true},
		{"the UID in an annotation", metav1.ObjectMeta{Annotations: map[string]string{"diseq.io/network-uid": "ours"}}, true, true},
		{"the UID of another network in an annotation", metav1.ObjectMeta{Annotations: map[string]string{"diseq.io/network-uid": "earlier"}},
			false, false},
		{"the label, and a name that was never used", metav1.ObjectMeta{Name: "demo-v3", Labels: label("demo")}, false, true},
		{"applied by the operator, and a name that was never used", metav1.ObjectMeta{Name: "demo-v3", ManagedFields: applied}, false, false},
		{"nothing", metav1.ObjectMeta{}, false, false},
		{"our UID", metav1.ObjectMeta{OwnerReferences: owned("DiseqNetwork", "demo", "ours", true)}, true, true},
		{"our UID, and the label of another", metav1.ObjectMeta{Labels: label("other"), OwnerReferences: owned("DiseqNetwork", "demo", "ours", true)},
			true, true},
		{"our UID, not as the controller", metav1.ObjectMeta{OwnerReferences: owned("DiseqNetwork", "demo", "ours", false)}, true, true},
		{"the label, and an earlier network of the name", metav1.ObjectMeta{Labels: label("demo"),
			OwnerReferences: owned("DiseqNetwork", "demo", "earlier", true)}, false, false},
		{"the label, and another controller", metav1.ObjectMeta{Labels: label("demo"), OwnerReferences: owned("Node", "n", "x", true)}, false, false},
		{"applied by the operator", metav1.ObjectMeta{ManagedFields: applied}, true, false},
		{"applied by the operator, of another controller",
			metav1.ObjectMeta{ManagedFields: applied, OwnerReferences: owned("DiseqNetwork", "other", "x", true)}, false, false},
		{"updated by the operator", metav1.ObjectMeta{ManagedFields: by("diseq-operator", metav1.ManagedFieldsOperationUpdate)}, false, false},
		{"applied by somebody else", metav1.ObjectMeta{ManagedFields: by("kubectl", metav1.ManagedFieldsOperationApply)}, false, false},
		{"a Service that another network applied", metav1.ObjectMeta{Name: "demo-peers", Labels: label("demo-peers"), ManagedFields: applied},
			false, false},
		{"a claim with a wrong label", metav1.ObjectMeta{Name: "demo-v2", Labels: label("other"), ManagedFields: applied}, true, false},
		{"vouched for", metav1.ObjectMeta{UID: "proved"}, true, true},
	} {
		p := &pass{network: &v1alpha1.DiseqNetwork{ObjectMeta: metav1.ObjectMeta{Name: "demo", UID: "ours"}, Status: v1alpha1.DiseqNetworkStatus{
			GenesisHash: "ab", Members: []v1alpha1.Member{{Name: "demo-v2", VolumeUID: "first"}}}}}
		p.vouch("proved")
		if why := p.foreign(&test.object); (why == "") != test.ours {
			t.Errorf("%s: foreign says %q, want ours: %v", test.name, why, test.ours)
		}
		if why := p.unlabelled(&test.object); (why == "") != test.secret {
			t.Errorf("%s, a Secret: unlabelled says %q, want ours: %v", test.name, why, test.secret)
		}
	}
}

// The maker of an object may have written its labels and managed fields. Before the network has its
// chain, they prove nothing, unless the spec asks to adopt what exists.
func TestAnObjectThatExistedBeforeIsTheNetworksByItsUIDAlone(t *testing.T) {
	claim := func(meta metav1.ObjectMeta) *corev1.PersistentVolumeClaim {
		return &corev1.PersistentVolumeClaim{ObjectMeta: meta}
	}
	meta := func(change func(*metav1.ObjectMeta)) metav1.ObjectMeta {
		m := metav1.ObjectMeta{Name: "demo-v0", Labels: map[string]string{"diseq.io/network": "demo"}}
		change(&m)
		return m
	}
	untyped := &unstructured.Unstructured{Object: map[string]any{"kind": "PersistentVolumeClaim",
		"metadata": map[string]any{"name": "demo-v0", "labels": map[string]any{"diseq.io/network": "demo"}}}}
	planted := meta(func(*metav1.ObjectMeta) {})
	applied := meta(func(m *metav1.ObjectMeta) {
		m.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "diseq-operator", Operation: metav1.ManagedFieldsOperationApply}}
	})
	annotated := meta(func(m *metav1.ObjectMeta) { m.Annotations = map[string]string{"diseq.io/network-uid": "ours"} })
	owned := meta(func(m *metav1.ObjectMeta) {
		m.OwnerReferences = []metav1.OwnerReference{{UID: "ours", Controller: new(true)}}
	})
	unborn, wished, born := v1alpha1.DiseqNetwork{}, v1alpha1.DiseqNetwork{}, v1alpha1.DiseqNetwork{}
	wished.Spec.ExistingObjects = v1alpha1.AdoptExisting
	born.Status = v1alpha1.DiseqNetworkStatus{GenesisHash: "ab", Members: []v1alpha1.Member{{Name: "demo-v0", VolumeUID: "first"}}}
	for _, test := range []struct {
		name                 string
		object               metav1.Object
		unborn, wished, born bool
	}{
		{"a labelled Service", &corev1.Service{ObjectMeta: planted}, false, true, true},
		{"an applied Service", &corev1.Service{ObjectMeta: applied}, false, true, true},
		{"an owned Service", &corev1.Service{ObjectMeta: owned}, true, true, true},
		{"a labelled claim", claim(planted), false, true, false}, // in the place of the first one
		{"a labelled claim without types", untyped, false, true, false},
		{"an applied claim", claim(applied), false, true, true},
		{"a claim with the UID", claim(annotated), true, true, true},
	} {
		for i, network := range []v1alpha1.DiseqNetwork{unborn, wished, born} {
			network.Name, network.UID = "demo", "ours"
			want := []bool{test.unborn, test.wished, test.born}[i]
			if why := (&pass{network: &network}).foreign(test.object); (why == "") != want {
				t.Errorf("%s, %s: foreign says %q, want ours: %v", test.name, []string{"unborn", "wished", "born"}[i], why, want)
			}
		}
	}
}

// A StatefulSet lets a pod go that has lost its labels. The operator knows the pod all the same,
// and no other one.
func TestAPodIsKnownWithoutItsLabels(t *testing.T) {
	m := &member{name: "demo-v0", set: &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{UID: "set"}}}
	made := func(change func(*corev1.Pod)) *corev1.Pod {
		pod := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: "demo-v0-0", GenerateName: "demo-v0-", Annotations: map[string]string{"diseq.io/template": "x"}},
			Spec: corev1.PodSpec{Volumes: []corev1.Volume{{VolumeSource: corev1.VolumeSource{
				PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "demo-v0"}}}}},
		}
		change(pod)
		return pod
	}
	controlled := func(uid types.UID) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.OwnerReferences = []metav1.OwnerReference{{Kind: "StatefulSet", Name: "demo-v0", UID: uid, Controller: new(true)}}
		}
	}
	for name, test := range map[string]struct {
		change func(*corev1.Pod)
		want   bool
	}{
		"its StatefulSet has it":      {controlled("set"), true},
		"its StatefulSet let it go":   {func(*corev1.Pod) {}, true},
		"another one has it":          {controlled("other"), false},
		"a person made it":            {func(p *corev1.Pod) { p.GenerateName = "" }, false},
		"it has no template of ours":  {func(p *corev1.Pod) { p.Annotations = nil }, false},
		"it does not mount the claim": {func(p *corev1.Pod) { p.Spec.Volumes = nil }, false},
	} {
		if got := madePod(m, made(test.change)); got != test.want {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
}
