package controllers

import (
	"sync"

	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// fairQueue is the queue of networks to reconcile. It serves namespaces in turn, whatever the
// number of their networks, and leaves one reconcile to the others: a reconcile of a network whose
// nodes do not answer takes seconds, and one namespace may have hundreds of such networks.
type fairQueue struct {
	workqueue.TypedRateLimitingInterface[reconcile.Request]
	turns *turns
}

type (
	queue   = workqueue.TypedRateLimitingInterface[reconcile.Request]
	limiter = workqueue.TypedRateLimiter[reconcile.Request]
)

// newFairQueue makes the queue of a controller that runs so many reconciles at the same time.
func newFairQueue(concurrency int) func(string, limiter) queue {
	return func(name string, limit limiter) queue {
		turns := &turns{most: max(1, concurrency-1), waiting: map[string][]reconcile.Request{}, running: map[string]int{}}
		plain := workqueue.NewTypedWithConfig(workqueue.TypedQueueConfig[reconcile.Request]{Name: name, Queue: turns})
		delaying := workqueue.NewTypedDelayingQueueWithConfig(workqueue.TypedDelayingQueueConfig[reconcile.Request]{Name: name, Queue: plain})
		return fairQueue{turns: turns, TypedRateLimitingInterface: workqueue.NewTypedRateLimitingQueueWithConfig(limit,
			workqueue.TypedRateLimitingQueueConfig[reconcile.Request]{Name: name, DelayingQueue: delaying})}
	}
}

// Done ends a reconcile. The goroutine that calls it asks for the next network right after, so that
// nobody has to be woken for a network that had to wait for this one.
func (q fairQueue) Done(request reconcile.Request) {
	q.turns.done(request)
	q.TypedRateLimitingInterface.Done(request)
}

// turns is the order of the networks that wait.
type turns struct {
	mu sync.Mutex
	// most is how many networks of a namespace are reconciled at the same time.
	most int
	// waiting are the networks that wait, by namespace; running counts those that are reconciled.
	waiting map[string][]reconcile.Request
	running map[string]int
	// order are the namespaces with networks that wait: the first one has waited longest for its
	// turn.
	order []string
}

// Touch implements workqueue.Queue.
func (t *turns) Touch(reconcile.Request) {}

// Push implements workqueue.Queue.
func (t *turns) Push(request reconcile.Request) {
	t.mu.Lock()
	defer t.mu.Unlock()
	namespace := request.Namespace
	if len(t.waiting[namespace]) == 0 {
		t.order = append(t.order, namespace)
	}
	t.waiting[namespace] = append(t.waiting[namespace], request)
}

// Len implements workqueue.Queue: it counts those whose turn may come now.
func (t *turns) Len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := 0
	for _, namespace := range t.order {
		if t.running[namespace] < t.most {
			n += len(t.waiting[namespace])
		}
	}
	return n
}

// Pop implements workqueue.Queue: of the namespaces with the fewest networks under way, the one
// that has waited longest.
func (t *turns) Pop() reconcile.Request {
	t.mu.Lock()
	defer t.mu.Unlock()
	next := -1
	for i, namespace := range t.order {
		if t.running[namespace] < t.most && (next < 0 || t.running[namespace] < t.running[t.order[next]]) {
			next = i
		}
	}
	namespace := t.order[next]
	request := t.waiting[namespace][0]
	t.running[namespace]++
	t.order = append(t.order[:next], t.order[next+1:]...)
	if t.waiting[namespace] = t.waiting[namespace][1:]; len(t.waiting[namespace]) > 0 {
		t.order = append(t.order, namespace)
	} else {
		delete(t.waiting, namespace)
	}
	return request
}

func (t *turns) done(request reconcile.Request) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.running[request.Namespace]--; t.running[request.Namespace] <= 0 {
		delete(t.running, request.Namespace)
	}
}
