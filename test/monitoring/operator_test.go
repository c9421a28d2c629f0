package monitoring

import (
	"context"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	prom "github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/diseq/diseq/hack/metricslist"
)

// startOperator serves the metrics of an operator with one network, and returns where. Those of
// networks are made from the list that the operator's registry is held to. Controller and election
// are the ones that the operator has, without an API server.
func startOperator(t *testing.T) (url string) {
	t.Helper()
	registry := prom.NewRegistry()
	list, err := metricslist.Read("../../controllers/testdata/metrics.json")
	must(t, err)
	values := map[string]float64{
		"diseq_network_available": 1, "diseq_network_disruptions_allowed": 1, "diseq_network_validators": 4,
		"diseq_network_ready_validators": 4, "diseq_network_threshold": 3, "diseq_network_height": 7,
		"diseq_network_finalized_timestamp_seconds": float64(time.Now().Unix()),
	}
	for _, m := range list {
		labels := prom.Labels{"namespace": "a", "name": "demo"}
		if m.Type == "counter" {
			v := prom.NewCounterVec(prom.CounterOpts{Name: m.Name, Help: m.Help}, m.Labels)
			registry.MustRegister(v)
			v.With(labels).Add(values[m.Name])
			continue
		}
		v := prom.NewGaugeVec(prom.GaugeOpts{Name: m.Name, Help: m.Help}, m.Labels)
		registry.MustRegister(v)
		v.With(labels).Set(values[m.Name])
	}

	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	t.Cleanup(func() { cancel(); running.Wait() })
	c, err := controller.NewUnmanaged("diseqnetwork", controller.Options{
		SkipNameValidation: new(true),
		Reconciler: reconcile.Func(func(context.Context, reconcile.Request) (reconcile.Result, error) {
			return reconcile.Result{RequeueAfter: time.Second}, nil
		}),
	})
	must(t, err)
	must(t, c.Watch(source.Func(func(_ context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
		queue.Add(reconcile.Request{})
		return nil
	})))
	running.Go(func() {
		if err := c.Start(ctx); err != nil {
			t.Error(err)
		}
	})
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Name: "diseq-operator", Lock: &lease{}, LeaseDuration: 15 * time.Minute, RenewDeadline: 10 * time.Minute, RetryPeriod: time.Second,
		Callbacks: leaderelection.LeaderCallbacks{OnStartedLeading: func(context.Context) {}, OnStoppedLeading: func() {}},
	})
	must(t, err)
	running.Go(func() { elector.Run(ctx) })

	server := httptest.NewServer(promhttp.HandlerFor(prom.Gatherers{registry, metrics.Registry}, promhttp.HandlerOpts{}))
	t.Cleanup(server.Close)
	return server.URL
}

// lease is a lock that nobody else wants.
type lease struct {
	mu     sync.Mutex
	record *resourcelock.LeaderElectionRecord
}

func (l *lease) Get(context.Context) (*resourcelock.LeaderElectionRecord, []byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.record == nil {
		return nil, nil, apierrors.NewNotFound(schema.GroupResource{Resource: "leases"}, "diseq-operator")
	}
	return new(*l.record), []byte(l.record.RenewTime.String()), nil
}

func (l *lease) Create(ctx context.Context, r resourcelock.LeaderElectionRecord) error {
	return l.Update(ctx, r)
}

func (l *lease) Update(_ context.Context, r resourcelock.LeaderElectionRecord) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.record = &r
	return nil
}

func (*lease) RecordEvent(string) {}
func (*lease) Identity() string   { return "a" }
func (*lease) Describe() string   { return "a/diseq-operator" }
