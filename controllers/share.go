package controllers

import (
	"runtime"
	"runtime/debug"
	"sync"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/diseq/diseq/api/v1alpha1"
)

// Objects that the cache keeps whole have together at most a fifth of the memory limit of the
// process, as they are encoded, and those of one namespace half of that. Decoded they take two to
// three times as much. An object that does not fit is kept as a part, and costs a request at each
// look.
const (
	ofLimit     = 5
	ofNamespace = 2
)

// shares counts the objects that the cache keeps whole. An object counts until the cache has
// dropped it, and the garbage collector has found that.
type shares struct {
	mu   sync.Mutex
	kept map[types.UID]counted
	// bytes are those of a namespace, all those of all of them.
	bytes map[string]int64
	all   int64
	next  uint64
}

// counted is an object as it is counted. turn tells a later version of it, or a copy, from the one
// that the collector has found.
type counted struct {
	namespace string
	bytes     int64
	turn      uint64
}

func newShares() *shares { return &shares{kept: map[types.UID]counted{}, bytes: map[string]int64{}} }

// keep is the transform of the cache: it keeps of an object what fits into the share of its
// namespace. The same object may pass it again.
func (s *shares) keep(o any) (any, error) {
	kept, err := keep(o)
	if err != nil {
		return nil, err
	}
	object, ok := kept.(client.Object)
	if !ok || isPart(object) {
		return kept, nil
	}
	turn, fits := s.take(object)
	if !fits {
		return part(object), nil
	}
	s.whenDropped(object, turn)
	return object, nil
}

// take counts an object, in the place of an earlier version of it, and says whether it fits.
func (s *shares) take(object client.Object) (turn uint64, fits bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget(object.GetUID())
	all := debug.SetMemoryLimit(-1) / ofLimit
	size, namespace := int64(encodedBytes(object)), object.GetNamespace()
	if s.all+size > all || s.bytes[namespace]+size > all/ofNamespace {
		return 0, false
	}
	s.next++
	s.kept[object.GetUID()] = counted{namespace, size, s.next}
	s.bytes[namespace] += size
	s.all += size
	return s.next, true
}

// forget takes an object out of the count. The caller holds the lock.
func (s *shares) forget(uid types.UID) {
	c, ok := s.kept[uid]
	if !ok {
		return
	}
	delete(s.kept, uid)
	s.all -= c.bytes
	if s.bytes[c.namespace] -= c.bytes; s.bytes[c.namespace] == 0 {
		delete(s.bytes, c.namespace)
	}
}

// dropped is an object that the collector has found.
type dropped struct {
	uid  types.UID
	turn uint64
}

func (s *shares) drop(d dropped) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kept[d.uid].turn == d.turn {
		s.forget(d.uid)
	}
}

// whenDropped makes the collector end the count of an object. Kinds that are not cached count for
// ever, and there are none.
func (s *shares) whenDropped(object client.Object, turn uint64) {
	d := dropped{object.GetUID(), turn}
	switch o := object.(type) {
	case *v1alpha1.DiseqNetwork:
		runtime.AddCleanup(o, s.drop, d)
	case *appsv1.StatefulSet:
		runtime.AddCleanup(o, s.drop, d)
	case *corev1.Pod:
		runtime.AddCleanup(o, s.drop, d)
	case *corev1.PersistentVolumeClaim:
		runtime.AddCleanup(o, s.drop, d)
	case *corev1.ConfigMap:
		runtime.AddCleanup(o, s.drop, d)
	case *corev1.Service:
		runtime.AddCleanup(o, s.drop, d)
	case *corev1.ServiceAccount:
		runtime.AddCleanup(o, s.drop, d)
	case *policyv1.PodDisruptionBudget:
		runtime.AddCleanup(o, s.drop, d)
	case *networkingv1.NetworkPolicy:
		runtime.AddCleanup(o, s.drop, d)
	}
}
