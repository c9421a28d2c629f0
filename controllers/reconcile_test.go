package controllers

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/diseq/diseq/api/v1alpha1"
	"github.com/diseq/diseq/controllers/membership"
	"github.com/diseq/diseq/controllers/resources"
)

// applyLikeAnAPIServer adds to the fake client: a new object gets a UID, and may carry the version
// that no object has.
func applyLikeAnAPIServer(ctx context.Context, c client.WithWatch, wanted runtime.ApplyConfiguration, opts ...client.ApplyOption) error {
	raw, err := json.Marshal(wanted)
	if err != nil {
		return err
	}
	object := &unstructured.Unstructured{}
	if err := json.Unmarshal(raw, object); err != nil {
		return err
	}
	if err := c.Get(ctx, client.ObjectKeyFromObject(object), object.DeepCopy()); !apierrors.IsNotFound(err) {
		return c.Apply(ctx, wanted, opts...)
	}
	object.SetResourceVersion("")
	object.SetUID(types.UID(object.GetKind() + "/" + object.GetName()))
	return c.Create(ctx, object)
}

// Something that the API server does not explain keeps the operator from a write, again and again.
// The status follows the nodes all the same, with no write more than without the failure.
func TestAWriteThatFailsDoesNotStopTheStatus(t *testing.T) {
	broken := errors.New("etcdserver: request timed out")
	writes := 0
	c := fake.NewClientBuilder().WithScheme(Scheme()).WithStatusSubresource(&v1alpha1.DiseqNetwork{}).
		WithObjects(&v1alpha1.DiseqNetwork{
			ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "demo", UID: "0a1b2c3d-network", Generation: 1},
			Spec:       v1alpha1.DiseqNetworkSpec{Validators: 2, Image: "diseq:v1"},
		}).
		WithInterceptorFuncs(interceptor.Funcs{
			Apply: func(context.Context, client.WithWatch, runtime.ApplyConfiguration, ...client.ApplyOption) error {
				return broken
			},
			SubResourcePatch: func(ctx context.Context, c client.Client, sub string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
				writes++
				return c.SubResource(sub).Patch(ctx, o, p, opts...)
			},
		}).Build()
	r, err := New(Options{Resync: time.Minute}, c, c, nil, events.NewFakeRecorder(1000))
	if err != nil {
		t.Fatal(err)
	}
	at := types.NamespacedName{Namespace: "ns", Name: "demo"}
	for range 3 {
		if _, err := r.Reconcile(t.Context(), ctrl.Request{NamespacedName: at}); !errors.Is(err, broken) {
			t.Errorf("the reconcile ends with %v", err)
		}
	}
	n := &v1alpha1.DiseqNetwork{}
	if err := c.Get(t.Context(), at, n); err != nil {
		t.Fatal(err)
	}
	if n.Status.ObservedGeneration != 1 || n.Status.LastObserved == nil || writes != 1 {
		t.Errorf("%d writes of the status: %+v", writes, n.Status)
	}
}

// A network is born, and every reconcile on the way shows it once. Keys and first volumes are
// recorded in the middle of one: those writes have the keys or the UIDs, and nothing else of the
// status.
//
// Promise 64.
func TestEachReconcileShowsTheNetworkOnce(t *testing.T) {
	var patches []v1alpha1.DiseqNetworkStatus
	c := fake.NewClientBuilder().WithScheme(Scheme()).WithStatusSubresource(&v1alpha1.DiseqNetwork{}).
		WithObjects(&v1alpha1.DiseqNetwork{
			ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "demo", UID: "0a1b2c3d-network", Generation: 1},
			Spec:       v1alpha1.DiseqNetworkSpec{Validators: 2, Image: "diseq:v1"},
		}).
		WithInterceptorFuncs(interceptor.Funcs{
			Apply: applyLikeAnAPIServer,
			SubResourcePatch: func(ctx context.Context, c client.Client, sub string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
				raw, err := p.Data(o)
				if err != nil {
					return err
				}
				var patch struct{ Status v1alpha1.DiseqNetworkStatus }
				if err := json.Unmarshal(raw, &patch); err != nil {
					return err
				}
				patches = append(patches, patch.Status)
				return c.SubResource(sub).Patch(ctx, o, p, opts...)
			},
		}).Build()
	r, err := New(Options{Operator: resources.Operator{}, Resync: time.Minute}, c, c, nil, events.NewFakeRecorder(1000))
	if err != nil {
		t.Fatal(err)
	}
	r.monitors.absent = time.Now() // PodMonitors are unknown here
	shows := 0
	r.show = func(at types.NamespacedName, n membership.Network, now time.Time) membership.Shown {
		shows++
		return r.memories.show(at, n, now)
	}
	var recorded []v1alpha1.DiseqNetworkStatus
	for i := range 6 {
		before := len(patches)
		shows = 0
		if _, err := r.Reconcile(t.Context(), ctrl.Request{NamespacedName: types.NamespacedName{Namespace: "ns", Name: "demo"}}); err != nil {
			t.Fatal(err)
		}
		if shows != 1 {
			t.Errorf("reconcile %d showed the network %d times", i, shows)
		}
		if n := len(patches) - before; n > 1 {
			recorded = append(recorded, patches[before:len(patches)-1]...)
		}
	}
	for i := range recorded {
		for j := range recorded[i].Members {
			if m := &recorded[i].Members[j]; len(m.PublicKey) == 64 {
				m.PublicKey = "a key"
			}
		}
	}
	want := []v1alpha1.DiseqNetworkStatus{
		{Members: []v1alpha1.Member{{Name: "demo-v0", PublicKey: "a key"}, {Name: "demo-v1", PublicKey: "a key"}}},
		{Members: []v1alpha1.Member{
			{Name: "demo-v0", PublicKey: "a key", VolumeUID: "PersistentVolumeClaim/demo-v0"},
			{Name: "demo-v1", PublicKey: "a key", VolumeUID: "PersistentVolumeClaim/demo-v1"}}},
	}
	if diff := cmp.Diff(want, recorded); diff != "" {
		t.Errorf("status written before anything runs, -want +got:\n%s", diff)
	}
}
