package controllers

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/diseq/diseq/node/chain"
)

// A node that has left and is being stopped still takes messages of clients, and needs the members
// to order them. Its entry leaves the peers file when the node has ended, or must have ended: a
// worker that is dead holds nothing up.
//
// Promise 78.
func TestALeaverStaysInThePeersFileUntilItsNodeHasEnded(t *testing.T) {
	now := time.Now()
	owned := metav1.ObjectMeta{OwnerReferences: []metav1.OwnerReference{{Kind: "StatefulSet", Controller: new(true)}}}
	deleted := func(left time.Duration) metav1.ObjectMeta {
		return metav1.ObjectMeta{DeletionTimestamp: &metav1.Time{Time: now.Add(left)}}
	}
	for name, c := range map[string]struct {
		pod  *corev1.Pod
		want bool
	}{
		"no pod":                                  {nil, false},
		"its StatefulSet was deleted just now":    {&corev1.Pod{ObjectMeta: owned}, true},
		"it is stopping":                          {&corev1.Pod{ObjectMeta: deleted(time.Minute)}, true},
		"its worker is dead, its time is over":    {&corev1.Pod{ObjectMeta: deleted(-time.Second)}, false},
		"somebody deleted the StatefulSet around": {&corev1.Pod{}, false}, // kubectl delete --cascade=orphan
	} {
		p := &pass{known: true, now: now}
		m := &member{spent: true, retired: true, secret: &metav1.PartialObjectMetadata{}, pod: c.pod}
		m.keys.PublicKey = chain.PublicKey{1}
		if got := p.stays(m); got != c.want {
			t.Errorf("%s: it stays: %v, want %v", name, got, c.want)
		}
	}
}
