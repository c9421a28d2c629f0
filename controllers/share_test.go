package controllers

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/diseq/diseq/controllers/resources"
)

// withMemoryLimit gives the process a memory limit for a test, under which it has no need to
// collect.
func withMemoryLimit(t *testing.T, bytes int64) {
	old := debug.SetMemoryLimit(bytes)
	t.Cleanup(func() { debug.SetMemoryLimit(old) })
}

// Thousands of objects of 30 KB have names of the operator's. Those of a namespace fill its share
// and no more, and another namespace has its own. An object whose content changes counts once, and
// the share of objects that are gone is there again.
//
// Promise 81.
func TestObjectsOfANamespaceFillItsShareAndNoMore(t *testing.T) {
	const limit, size, objects = 1 << 30, 30 << 10, 5000
	withMemoryLimit(t, limit)
	share := int64(limit / ofLimit / ofNamespace)
	content := strings.Repeat("x", size)
	s := newShares()
	fill := func(namespace, version string) (whole []any) {
		for i := range objects {
			network := fmt.Sprintf("x%d", i)
			object := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: network + "-config",
				UID: types.UID(namespace + network), Labels: map[string]string{resources.NetworkLabel: network, "version": version}},
				Data: map[string]string{"a": content}}
			for range 2 { // a list passes the transform twice
				kept, err := s.keep(object)
				if err != nil {
					t.Fatal(err)
				}
				object = kept.(*corev1.ConfigMap)
			}
			if !isPart(object) {
				whole = append(whole, object)
			}
		}
		return whole
	}
	held := map[string][]any{}
	for range 2 { // the second time each object is another version
		for _, namespace := range []string{"hostile", "pay"} {
			held[namespace] = fill(namespace, fmt.Sprint(len(held)))
			if bytes := int64(len(held[namespace])) * size; bytes > share || bytes < share*9/10 {
				t.Errorf("%d bytes of %s are kept, its share is %d", bytes, namespace, share)
			}
		}
	}
	if rest := fill("third", ""); int64(len(rest))*size > share/10 {
		t.Errorf("%d objects of a third namespace are kept beyond the share of all", len(rest))
	}
	runtime.KeepAlive(held)
	clear(held)
	deadline := time.Now().Add(time.Minute)
	for runtime.GC(); s.total() > 0; runtime.GC() {
		if time.Now().After(deadline) {
			t.Fatalf("%d bytes count still", s.total())
		}
		runtime.Gosched()
	}
}

func (s *shares) total() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all + int64(len(s.kept)) + int64(len(s.bytes))
}

// Without a memory limit there is nothing to share.
func TestWithoutAMemoryLimitEverythingIsKept(t *testing.T) {
	withMemoryLimit(t, debug.SetMemoryLimit(-1))
	debug.SetMemoryLimit(1<<63 - 1)
	s := newShares()
	kept, err := s.keep(&corev1.ConfigMap{ObjectMeta: labelled("demo", "demo-config")})
	if err != nil || isPart(kept.(*corev1.ConfigMap)) {
		t.Errorf("%+v %v", kept, err)
	}
}
