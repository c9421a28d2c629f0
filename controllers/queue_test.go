package controllers

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

func requestFor(namespace, name string) reconcile.Request {
	return reconcile.Request{NamespacedName: types.NamespacedName{Namespace: namespace, Name: name}}
}

func newTestQueue(concurrency int) workqueue.TypedRateLimitingInterface[reconcile.Request] {
	return newFairQueue(concurrency)("", workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](failedAgain, refusedAgain))
}

// 200 networks of one namespace take three seconds each, because none of their nodes answers. A
// network of another namespace is looked at within a moment all the same, each time.
//
// Promise 81.
func TestANamespaceOfSilentPodsDoesNotHoldUpTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const workers, silent = 4, 3 * time.Second
		queue := newTestQueue(workers)
		served := make(chan reconcile.Request)
		for range workers {
			go func() {
				for {
					request, shutdown := queue.Get()
					if shutdown {
						return
					}
					if request.Namespace == "hostile" {
						time.Sleep(silent)
						queue.Add(request) // it is never content
					} else {
						served <- request
					}
					queue.Done(request)
				}
			}()
		}
		for i := range 200 {
			queue.Add(requestFor("hostile", fmt.Sprint(i)))
		}
		for i := range 10 {
			time.Sleep(time.Second)
			begun := time.Now()
			queue.Add(requestFor("pay", fmt.Sprint(i)))
			if got := <-served; got != requestFor("pay", fmt.Sprint(i)) {
				t.Fatalf("served %v", got)
			}
			if took := time.Since(begun); took > 0 {
				t.Errorf("look %d waited %v", i, took)
			}
		}
		queue.ShutDown()
		time.Sleep(time.Hour) // the workers end when nothing waits
	})
}

// Two namespaces that wait are served in turn, whatever came first.
func TestNamespacesAreServedInTurn(t *testing.T) {
	queue := newTestQueue(1)
	defer queue.ShutDown()
	for i := range 3 {
		queue.Add(requestFor("a", fmt.Sprint(i)))
	}
	queue.Add(requestFor("b", "0"))
	queue.Add(requestFor("c", "0"))
	queue.Add(requestFor("c", "0")) // counts once
	var order []string
	for range 5 {
		request, _ := queue.Get()
		order = append(order, request.Namespace+request.Name)
		queue.Done(request)
	}
	if got := fmt.Sprint(order); got != "[a0 b0 c0 a1 a2]" {
		t.Errorf("served %v", got)
	}
	if n := queue.Len(); n != 0 {
		t.Errorf("%d wait still", n)
	}
}

// One namespace has all reconciles but one.
func TestANamespaceAloneHasAllReconcilesButOne(t *testing.T) {
	queue := newTestQueue(4)
	defer queue.ShutDown()
	for i := range 5 {
		queue.Add(requestFor("a", fmt.Sprint(i)))
	}
	var under []reconcile.Request
	for queue.Len() > 0 {
		request, _ := queue.Get()
		under = append(under, request)
	}
	if len(under) != 3 {
		t.Errorf("%d are under way, want 3", len(under))
	}
	queue.Done(under[0])
	if n := queue.Len(); n != 2 {
		t.Errorf("%d may be next, want the 2 that wait", n)
	}
}
