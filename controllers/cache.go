package controllers

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/diseq/diseq/api/v1alpha1"
	"github.com/diseq/diseq/controllers/resources"
)

// Everybody who may make an object in a namespace may give it the label of a network, and a
// megabyte of content. So the cache does not keep what it gets:
//
//   - An object whose name the operator gives to none is kept as a name.
//   - So is an object that is larger than the operator makes any. The operator reads it from the
//     API server when it looks at the network, and few of them are in memory at a time.
//   - The objects of a namespace have a share of the memory, see shares.
//   - Only one page of a list is in memory, where the API server cannot stream a list.

const (
	// keptBytes is the size of the largest object that the cache keeps whole, as it is encoded. A
	// StatefulSet has about 15 KiB with its managed fields.
	keptBytes = 32 << 10
	// pageObjects is the number of objects in a page of a list.
	pageObjects = 10
	// partAnnotation marks what is left of an object in the cache. No object in the cluster has it.
	partAnnotation = "diseq.io/part-of-an-object"
)

// keep is what the cache keeps of an object, if there is room for it in the share of its namespace.
// The same object may pass it again.
func keep(o any) (any, error) {
	object, ok := o.(client.Object)
	if !ok {
		return o, nil
	}
	switch object := object.(type) {
	case *corev1.Pod:
		// There are many pods, and their managed fields are large.
		object.ManagedFields = replacedImage(object.ManagedFields)
	case *v1alpha1.DiseqNetwork:
		object.ManagedFields = ofScale(object.ManagedFields)
	default:
		// The managed fields of the others say who changed what.
	}
	_, network := object.(*v1alpha1.DiseqNetwork)
	if encodedBytes(object) <= keptBytes && (network || resources.Named(object.GetLabels()[resources.NetworkLabel], object.GetName())) {
		return object, nil
	}
	return part(object), nil
}

// ofScale are the managed fields that say who set the number of validators through the scale
// subresource.
func ofScale(entries []metav1.ManagedFieldsEntry) []metav1.ManagedFieldsEntry {
	var kept []metav1.ManagedFieldsEntry
	for _, e := range entries {
		if e.Subresource == "scale" {
			kept = append(kept, e)
		}
	}
	return kept
}

// encodedBytes is about the size of an object in memory.
func encodedBytes(object client.Object) int {
	if sized, ok := object.(interface{ Size() int }); ok {
		return sized.Size()
	}
	text, err := json.Marshal(object)
	if err != nil {
		return keptBytes + 1
	}
	return len(text)
}

// part is what is left of an object: what names it and its version.
func part(object client.Object) client.Object {
	kind := reflect.TypeOf(object).Elem()
	left, ok := reflect.TypeAssert[client.Object](reflect.New(kind))
	if !ok {
		return object
	}
	left.SetNamespace(object.GetNamespace())
	left.SetName(object.GetName())
	left.SetUID(object.GetUID())
	left.SetResourceVersion(object.GetResourceVersion())
	left.SetGeneration(object.GetGeneration())
	left.SetAnnotations(map[string]string{partAnnotation: ""})
	if label, ok := object.GetLabels()[resources.NetworkLabel]; ok {
		left.SetLabels(map[string]string{resources.NetworkLabel: label})
	}
	return left
}

// isPart says whether the cache has only a part of an object.
func isPart(object client.Object) bool {
	_, ok := object.GetAnnotations()[partAnnotation]
	return ok
}

// whole reads an object from the API server of which the cache has only a part. It returns nil if
// the object is gone.
func (r *Reconciler) whole(ctx context.Context, object client.Object) (client.Object, error) {
	fresh, ok := reflect.TypeAssert[client.Object](reflect.New(reflect.TypeOf(object).Elem()))
	if !ok {
		return nil, fmt.Errorf("get %s: %T has no pointer type", object.GetName(), object)
	}
	if err := r.live.Get(ctx, client.ObjectKeyFromObject(object), fresh); err != nil {
		return nil, client.IgnoreNotFound(err)
	}
	return fresh, nil
}

// pages lists in pages. It keeps of each page what the cache keeps, and has one page of all its
// lists in memory at a time. Newer API servers stream the first list to a watch instead, one object
// at a time.
type pages struct {
	// keep is the transform of the cache.
	keep func(any) (any, error)
	// slot is held by whoever has a page in memory.
	slot chan struct{}
}

func newPages(keep func(any) (any, error)) pages { return pages{keep, make(chan struct{}, 1)} }

// informer is an informer that lists in pages.
func (p pages) informer(
	lw toolscache.ListerWatcher, kind runtime.Object, resync time.Duration, indexers toolscache.Indexers,
) toolscache.SharedIndexInformer {
	with := toolscache.ToListerWatcherWithContext(lw)
	return toolscache.NewSharedIndexInformer(&toolscache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			return p.list(ctx, o, with.ListWithContext)
		},
		WatchFuncWithContext: with.WatchWithContext,
	}, kind, resync, indexers)
}

// list lists whatever there is, in pages of a consistent list. The API server ignores the
// size of a page where it may answer with an old list.
func (p pages) list(
	ctx context.Context, o metav1.ListOptions, list func(context.Context, metav1.ListOptions) (runtime.Object, error),
) (runtime.Object, error) {
	o.Limit, o.ResourceVersion, o.ResourceVersionMatch = pageObjects, "", ""
	var all []runtime.Object
	for {
		answer, err := p.read(ctx, o, list, &all)
		if err != nil {
			return nil, err
		}
		about, err := meta.ListAccessor(answer)
		if err != nil {
			return nil, err
		}
		if o.Continue = about.GetContinue(); o.Continue != "" {
			continue
		}
		about.SetRemainingItemCount(nil)
		return answer, meta.SetList(answer, all)
	}
}

// read reads a page, and appends what the cache keeps of it.
func (p pages) read(
	ctx context.Context, o metav1.ListOptions, list func(context.Context, metav1.ListOptions) (runtime.Object, error), all *[]runtime.Object,
) (runtime.Object, error) {
	select {
	case p.slot <- struct{}{}:
		defer func() { <-p.slot }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	answer, err := list(ctx, o)
	if err != nil {
		return nil, err
	}
	// An item of the page itself would hold the memory of all of it.
	items, err := meta.ExtractListWithAlloc(answer)
	if err != nil {
		return nil, err
	}
	for _, item := range items {
		kept, err := p.keep(item)
		if err != nil {
			return nil, err
		}
		if object, ok := kept.(runtime.Object); ok {
			*all = append(*all, object)
		}
	}
	return answer, meta.SetList(answer, nil)
}

// liveReads is how many objects the operator reads from the API server at the same time: each may
// have a megabyte.
const liveReads = 4

// live reads from the API server.
type live struct {
	client.Reader
	slots chan struct{}
}

func newLive(reader client.Reader) *live { return &live{reader, make(chan struct{}, liveReads)} }

// Get implements client.Reader.
func (l *live) Get(ctx context.Context, key client.ObjectKey, object client.Object, opts ...client.GetOption) error {
	select {
	case l.slots <- struct{}{}:
		defer func() { <-l.slots }()
	case <-ctx.Done():
		return ctx.Err()
	}
	return l.Reader.Get(ctx, key, object, opts...)
}

// List implements client.Reader. Lists are read in pages, see eachPage.
func (l *live) List(ctx context.Context, list client.ObjectList, opts ...client.ListOption) error {
	select {
	case l.slots <- struct{}{}:
		defer func() { <-l.slots }()
	case <-ctx.Done():
		return ctx.Err()
	}
	return l.Reader.List(ctx, list, opts...)
}

// mostPages is how many pages of a list the operator reads at most. No network has so many objects
// of one validator.
const mostPages = 50

// eachPage lists from the API server, page by page, until look returns true.
func eachPage[L client.ObjectList](
	ctx context.Context, r client.Reader, fresh func() L, look func(L) (done bool), opts ...client.ListOption,
) error {
	next := ""
	for range mostPages {
		list := fresh()
		if err := r.List(ctx, list, append([]client.ListOption{client.Limit(pageObjects), client.Continue(next)}, opts...)...); err != nil {
			return err
		}
		if next = list.GetContinue(); look(list) || next == "" {
			return nil
		}
	}
	return fmt.Errorf("there are more than %d", mostPages*pageObjects)
}
