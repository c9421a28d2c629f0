package controllers

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/diseq/diseq/api/v1alpha1"
	"github.com/diseq/diseq/controllers/resources"
	"github.com/diseq/diseq/controllers/status"
)

// If something changes an object again and again, the operator puts it back at once, twice. Then it
// names the object, the fields and their writer, and puts it back once a minute. It does not say in
// between that all is well. When the other one stops, so does the report.
//
// Promise 64.
func TestAContestedObjectIsNamedAndPutBackOnceAMinute(t *testing.T) {
	for name, rival := range map[string]func(*corev1.Service){
		"a field that an apply puts back":   func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeNodePort },
		"an addition that a patch puts out": func(s *corev1.Service) { s.Spec.ExternalIPs = []string{"192.0.2.1"} },
	} {
		t.Run(name, func(t *testing.T) {
			network := &v1alpha1.DiseqNetwork{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "demo", UID: "u"}}
			wanted := func() any { return resources.ClientsService(network) }
			writes := 0
			c := fake.NewClientBuilder().WithScheme(Scheme()).WithReturnManagedFields().WithInterceptorFuncs(interceptor.Funcs{
				Apply: func(ctx context.Context, c client.WithWatch, o runtime.ApplyConfiguration, opts ...client.ApplyOption) error {
					writes++
					return c.Apply(ctx, o, opts...)
				},
				Patch: func(ctx context.Context, c client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
					writes++
					return c.Patch(ctx, o, p, opts...)
				},
			}).Build()
			w := &watchedNetwork{t: t, client: c, now: time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)}
			w.startOperator()
			service := func() *corev1.Service {
				s := &corev1.Service{}
				if err := c.Get(t.Context(), types.NamespacedName{Namespace: "ns", Name: "demo"}, s); err != nil {
					t.Fatal(err)
				}
				return s
			}
			if err := c.Apply(t.Context(), resources.ClientsService(network), fieldOwner, client.ForceOwnership); err != nil {
				t.Fatal(err)
			}
			look := func() []*status.Problem {
				w.now = w.now.Add(changing)
				p := &pass{r: w.operator, network: network, now: w.now}
				if _, err := p.apply(t.Context(), wanted(), service(), ofAnyVersion); p.noted(err) != nil {
					t.Fatal(err)
				}
				return p.problems
			}
			if look(); writes != 1 { // the first apply was one
				t.Fatalf("%d writes to an object that is as it should be", writes-1)
			}
			writes = 0
			const minutes = 10
			for i := range int(minutes * time.Minute / changing) {
				s := service()
				if rival(s); len(s.ManagedFields) == 0 {
					t.Fatal("the fake has no managed fields")
				}
				if err := c.Update(t.Context(), s, client.FieldOwner("rival")); err != nil {
					t.Fatal(err)
				}
				problems := look()
				if i < atOnceRepairs {
					if len(problems) > 0 {
						t.Fatalf("look %d: %v", i, problems[0])
					}
					if !resources.Current(service(), wanted()) {
						t.Fatalf("look %d: not put back", i)
					}
					continue
				}
				said := len(problems) == 1 && problems[0].Reason == status.ChangeContested && strings.Contains(problems[0].Message, "Service demo") &&
					strings.Contains(problems[0].Message, "rival")
				if !said && writes == atOnceRepairs {
					t.Fatalf("look %d: %v", i, problems)
				}
			}
			if writes > atOnceRepairs+minutes || writes < minutes {
				t.Errorf("%d writes within %d minutes", writes, minutes)
			}
			if len(w.events) != atOnceRepairs || !strings.Contains(w.events[0], "Normal Reverted") || !strings.Contains(w.events[0], "rival") {
				t.Errorf("%d writes, %d events: %s", writes, len(w.events), w.events[0])
			}
			for range int(time.Minute / changing) { // the last change of the rival
				look()
			}
			if problems := look(); len(problems) != 1 || !resources.Current(service(), wanted()) {
				t.Errorf("a minute later: %v", problems)
			}
			writes = 0
			for range int(contestedFor / changing) {
				look()
			}
			if problems := look(); len(problems) > 0 || writes > 0 {
				t.Errorf("when it is over: %v, %d writes", problems, writes)
			}
		})
	}
}

// A pod is outdated if it was made from a template that somebody had edited, or if its image was
// replaced in place. It is not because admission changed it, or changed the template later.
func TestAPodThatRunsAnythingElseIsOutdated(t *testing.T) {
	network := &v1alpha1.DiseqNetwork{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "demo", UID: "u"}, Spec: v1alpha1.DiseqNetworkSpec{Validators: 1}}
	wanted, err := resources.StatefulSet(network, resources.Operator{NodeImage: "diseq:v1"}, 0, false)
	if err != nil {
		t.Fatal(err)
	}
	object, err := untyped(wanted)
	if err != nil {
		t.Fatal(err)
	}
	set := &appsv1.StatefulSet{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, set); err != nil {
		t.Fatal(err)
	}
	set.Generation, set.Status.ObservedGeneration, set.Status.UpdateRevision = 3, 3, "demo-v0-new"
	entry := func(manager, fields string) metav1.ManagedFieldsEntry {
		e := metav1.ManagedFieldsEntry{Manager: manager, Operation: metav1.ManagedFieldsOperationUpdate, FieldsV1: &metav1.FieldsV1{}}
		e.FieldsV1.SetRawBytes([]byte(fields))
		return e
	}
	const image = `"f:spec":{"f:containers":{"k:{\"name\":\"node\"}":{"f:image":{}}}}`
	maker := entry("kube-controller-manager", `{"f:metadata":{"f:ownerReferences":{}},`+image+`}`)
	type world struct {
		pod *corev1.Pod
		set *appsv1.StatefulSet
	}
	for name, tt := range map[string]struct {
		change   func(w world)
		outdated bool
	}{
		"as it was made":                   {func(world) {}, false},
		"of another template, by its hash": {func(w world) { w.pod.Annotations[resources.TemplateAnnotation] = "x" }, true},
		"its image replaced in place": {func(w world) {
			w.pod.ManagedFields = append(w.pod.ManagedFields, entry("kubectl-set", "{"+image+"}"))
		}, true},
		"annotated by somebody": {func(w world) {
			w.pod.ManagedFields = append(w.pod.ManagedFields, entry("kubectl-annotate", `{"f:metadata":{"f:annotations":{"f:x":{}}}}`))
		}, false},
		"its image rewritten by admission": {func(w world) { w.pod.Spec.Containers[0].Image = "mirror/diseq:v1" }, false},
		"made from an edited template: another image": {func(w world) {
			w.pod.Labels[appsv1.ControllerRevisionHashLabelKey], w.pod.Spec.Containers[0].Image = "demo-v0-old", "evil:v1"
		}, true},
		"made from an edited template: the machine's network": {func(w world) {
			w.pod.Labels[appsv1.ControllerRevisionHashLabelKey], w.pod.Spec.HostNetwork = "demo-v0-old", true
		}, true},
		"made from an edited template: one container more": {func(w world) {
			w.pod.Labels[appsv1.ControllerRevisionHashLabelKey] = "demo-v0-old"
			w.pod.Spec.Containers = append(w.pod.Spec.Containers, corev1.Container{Name: "more"})
		}, true},
		"made before admission changed something small in the template": {func(w world) {
			w.pod.Labels[appsv1.ControllerRevisionHashLabelKey] = "demo-v0-old"
		}, false},
		"while the StatefulSet's controller has not seen the template": {func(w world) {
			w.pod.Labels[appsv1.ControllerRevisionHashLabelKey], w.pod.Spec.HostNetwork = "demo-v0-old", true
			w.set.Status.ObservedGeneration = 2
		}, false},
		"while the template is edited": {func(w world) {
			w.pod.Labels[appsv1.ControllerRevisionHashLabelKey], w.pod.Spec.HostNetwork = "demo-v0-old", true
			w.set.Spec.Template.Spec.HostPID = true
		}, false},
	} {
		w := world{set: set.DeepCopy(), pod: &corev1.Pod{ObjectMeta: *set.Spec.Template.ObjectMeta.DeepCopy(), Spec: *set.Spec.Template.Spec.DeepCopy()}}
		w.pod.Labels[appsv1.ControllerRevisionHashLabelKey] = "demo-v0-new"
		w.pod.Name, w.pod.ManagedFields = "demo-v0-0", []metav1.ManagedFieldsEntry{maker}
		tt.change(w)
		kept, err := keep(w.pod)
		if err != nil {
			t.Fatal(err)
		}
		m := &member{name: "demo-v0", set: w.set, wanted: wanted, pod: kept.(*corev1.Pod)}
		if got := (&pass{}).outdatedPod(m); got != tt.outdated {
			t.Errorf("%s: outdated %v", name, got)
		}
		if len(m.pod.ManagedFields) > 0 != (name == "its image replaced in place") {
			t.Errorf("%s: the cache keeps %v", name, fmt.Sprint(m.pod.ManagedFields))
		}
	}
}
