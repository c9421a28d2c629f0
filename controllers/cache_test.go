package controllers

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/diseq/diseq/api/v1alpha1"
	"github.com/diseq/diseq/controllers/resources"
)

func labelled(network, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: "default", Name: name, UID: "u", ResourceVersion: "7", Generation: 3,
		Labels: map[string]string{resources.NetworkLabel: network, "a": "b"}, Annotations: map[string]string{"c": "d"}}
}

// The cache keeps an object whole only if it is one that the operator makes, and as small.
//
// Promise 81.
func TestWhatTheCacheKeeps(t *testing.T) {
	text := strings.Repeat("x", 1<<20)
	huge := metav1.FieldsV1{}
	huge.SetRawBytes([]byte(`{"f:spec":"` + text + `"}`))
	managed := []metav1.ManagedFieldsEntry{{Manager: "kubectl", Operation: "Apply", FieldsV1: &huge}}
	network := func(change func(*v1alpha1.DiseqNetwork)) *v1alpha1.DiseqNetwork {
		n := &v1alpha1.DiseqNetwork{ObjectMeta: labelled("", "demo")}
		n.Spec.Validators = 4
		change(n)
		return n
	}
	for _, tt := range []struct {
		name   string
		object client.Object
		whole  bool
	}{
		{"a ConfigMap of the network", &corev1.ConfigMap{ObjectMeta: labelled("demo", "demo-config"), Data: map[string]string{"a": "b"}}, true},
		{"a pod of a validator", &corev1.Pod{ObjectMeta: labelled("demo", "demo-v11-0")}, true},
		{"a claim of a validator", &corev1.PersistentVolumeClaim{ObjectMeta: labelled("demo", "demo-v11")}, true},
		{"a large genesis document", &corev1.ConfigMap{ObjectMeta: labelled("demo", "demo-genesis"), Data: map[string]string{"a": text}}, false},
		{"binary data", &corev1.ConfigMap{ObjectMeta: labelled("demo", "demo-genesis"), BinaryData: map[string][]byte{"a": []byte(text)}}, false},
		{"large annotations", &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "demo",
			Labels: map[string]string{resources.NetworkLabel: "demo"}, Annotations: map[string]string{"a": text}}}, false},
		{"large managed fields", &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "demo-v0",
			Labels: map[string]string{resources.NetworkLabel: "demo"}, ManagedFields: managed}}, false},
		{"a pod with large variables", &corev1.Pod{ObjectMeta: labelled("demo", "demo-v0-0"),
			Spec: corev1.PodSpec{Containers: []corev1.Container{{Env: []corev1.EnvVar{{Value: text}}}}}}, false},
		{"a name that the operator gives to nothing", &corev1.ConfigMap{ObjectMeta: labelled("demo", "demo-other"),
			Data: map[string]string{"a": "b"}}, false},
		{"a name of another network", &corev1.ConfigMap{ObjectMeta: labelled("demo", "other-config")}, false},
		{"no label", &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "demo-config"}}, false},
		{"a network", network(func(*v1alpha1.DiseqNetwork) {}), true},
		{"a network with large managed fields", network(func(n *v1alpha1.DiseqNetwork) { n.ManagedFields = managed }), true},
		{"a network with large annotations", network(func(n *v1alpha1.DiseqNetwork) { n.Annotations["a"] = text }), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := tt.object.DeepCopyObject().(client.Object)
			once, err := keep(tt.object)
			if err != nil {
				t.Fatal(err)
			}
			again, err := keep(once)
			if err != nil {
				t.Fatal(err)
			}
			kept := again.(client.Object)
			if fmt.Sprintf("%T", kept) != fmt.Sprintf("%T", before) || kept.GetName() != before.GetName() || kept.GetUID() != before.GetUID() ||
				kept.GetResourceVersion() != before.GetResourceVersion() || kept.GetGeneration() != before.GetGeneration() ||
				kept.GetLabels()[resources.NetworkLabel] != before.GetLabels()[resources.NetworkLabel] {
				t.Errorf("%+v is kept of %s", kept, before.GetName())
			}
			if isPart(kept) == tt.whole {
				t.Errorf("a part %v, want whole %v", isPart(kept), tt.whole)
			}
			if size := encodedBytes(kept); size > keptBytes || isPart(kept) && size > 500 {
				t.Errorf("%d bytes are kept", size)
			}
		})
	}
	if kept, err := keep("not an object"); err != nil || kept != "not an object" {
		t.Errorf("%v %v", kept, err)
	}
}

// A list of 95 objects of a megabyte is read in pages of ten, and nothing of a page is left in
// memory but the part that the cache keeps.
func TestAListIsReadInPages(t *testing.T) {
	const objects = 95
	var largest int
	server := func(_ context.Context, o metav1.ListOptions) (runtime.Object, error) {
		if o.ResourceVersion != "" || o.ResourceVersionMatch != "" {
			t.Errorf("asked with resource version %q: the API server then ignores the limit", o.ResourceVersion)
		}
		from, _ := strconv.Atoi(o.Continue)
		list := &corev1.ConfigMapList{ListMeta: metav1.ListMeta{ResourceVersion: "1234"}}
		for i := from; i < min(objects, from+int(o.Limit)); i++ {
			list.Items = append(list.Items, corev1.ConfigMap{ObjectMeta: labelled("demo", fmt.Sprintf("demo-v%d", i)),
				Data: map[string]string{"a": strings.Repeat("x", 1<<20)}})
		}
		if to := from + len(list.Items); to < objects {
			list.Continue, list.RemainingItemCount = strconv.Itoa(to), new(int64(objects-to))
		}
		largest = max(largest, len(list.Items))
		return list, nil
	}
	answer, err := newPages(keep).list(t.Context(), metav1.ListOptions{ResourceVersion: "0", Limit: 500}, server)
	if err != nil {
		t.Fatal(err)
	}
	list := answer.(*corev1.ConfigMapList)
	if len(list.Items) != objects || list.ResourceVersion != "1234" || list.Continue != "" || list.RemainingItemCount != nil {
		t.Errorf("%d objects, %+v", len(list.Items), list.ListMeta)
	}
	for i := range list.Items {
		if !isPart(&list.Items[i]) || list.Items[i].Name != fmt.Sprintf("demo-v%d", i) {
			t.Fatalf("%+v is kept", list.Items[i].ObjectMeta)
		}
	}
	if largest != pageObjects {
		t.Errorf("a page of %d, want %d", largest, pageObjects)
	}
	broken := errors.New("gone")
	_, err = newPages(keep).list(t.Context(), metav1.ListOptions{}, func(context.Context, metav1.ListOptions) (runtime.Object, error) { return nil, broken })
	if !errors.Is(err, broken) {
		t.Error(err)
	}
}

// An object of which the cache has a part is read from the API server, and one that is none of the
// network's is not.
func TestWhatTheCacheDoesNotKeepIsReadWhenItIsNeeded(t *testing.T) {
	text := strings.Repeat("x", keptBytes)
	stored := []client.Object{
		&corev1.ConfigMap{ObjectMeta: labelled("demo", "demo-config"), Data: map[string]string{"a": text}},
		&corev1.ConfigMap{ObjectMeta: labelled("demo", "demo-strange"), Data: map[string]string{"a": text}},
	}
	var parts []client.Object
	for _, o := range stored {
		o.SetResourceVersion("")
		kept, err := keep(o.DeepCopyObject())
		if err != nil {
			t.Fatal(err)
		}
		parts = append(parts, kept.(client.Object))
	}
	var reads []string
	server := interceptor.NewClient(fake.NewClientBuilder().WithScheme(Scheme()).WithObjects(stored...).Build(), interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
			reads = append(reads, key.Name)
			return c.Get(ctx, key, o, opts...)
		},
	})
	p := &pass{
		r:       &Reconciler{client: fake.NewClientBuilder().WithScheme(Scheme()).WithObjects(parts...).Build(), live: newLive(server)},
		network: &v1alpha1.DiseqNetwork{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "demo"}},
	}
	if err := p.list(t.Context()); err != nil {
		t.Fatal(err)
	}
	config, ok := cached[*corev1.ConfigMap](p, "demo-config")
	if !ok || config.Data["a"] != text || len(p.objects) != 1 || fmt.Sprint(reads) != "[demo-config]" {
		t.Errorf("%d objects after the reads %v", len(p.objects), reads)
	}
}

// However many objects have the labels of a validator, the operator has a few of them in memory.
func TestListsFromTheAPIServerAreReadInPages(t *testing.T) {
	asked := 0
	server := interceptor.NewClient(fake.NewClientBuilder().WithScheme(Scheme()).Build(), interceptor.Funcs{
		List: func(_ context.Context, _ client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
			o := (&client.ListOptions{}).ApplyOptions(opts)
			if asked++; o.Limit != pageObjects || (asked > 1) != (o.Continue != "") {
				t.Errorf("list %d with limit %d, continue %q", asked, o.Limit, o.Continue)
			}
			list.SetContinue("more")
			return nil
		},
	})
	pods := 0
	err := eachPage(t.Context(), newLive(server), func() *corev1.PodList { return &corev1.PodList{} }, func(*corev1.PodList) bool { pods++; return pods == 3 })
	if err != nil || asked != 3 {
		t.Errorf("%d lists, %v", asked, err)
	}
	asked = 0
	err = eachPage(t.Context(), newLive(server), func() *corev1.PodList { return &corev1.PodList{} }, func(*corev1.PodList) bool { return false })
	if err == nil || asked != mostPages {
		t.Errorf("%d lists, %v", asked, err)
	}
}
