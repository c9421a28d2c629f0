package integration

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/diseq/diseq/controllers"
	"github.com/diseq/diseq/test/integration/harness"
)

// BenchmarkConvergedReconcile is how long a reconcile takes that finds nothing to do, with 50
// networks of four validators in the cache: one reconcile of one of them for each operation. It
// reads as the operator does: the cache, and the API server for key Secrets.
func BenchmarkConvergedReconcile(b *testing.B) {
	const networks = 50
	c := newCluster(b)
	o := newOperatorReading(b, c, cached(b, c))
	name := func(i int) string { return fmt.Sprintf("n%d", i%networks) }
	for i := range networks {
		c.apply(name(i))
	}
	// All of them are born together: a step is one of all networks.
	for born := 0; born < networks; {
		for i := range networks {
			o.reconcile(name(i))
		}
		c.step(b.Context())
		for born = 0; born < networks && settled(c.network(name(born))); {
			born++
		}
		if b.Context().Err() != nil {
			b.Fatal("the networks are not born in time")
		}
	}
	// The cache has to see the end of it, too.
	deadline := time.Now().Add(time.Minute)
	for calm := 0; calm < 2*networks; {
		if time.Now().After(deadline) {
			b.Fatal("the networks do not come to rest")
		}
		before := o.journal.count()
		o.reconcile(name(calm))
		if calm++; o.journal.count() != before {
			calm = 0
			c.step(b.Context())
		}
	}

	before := o.journal.count()
	var took []time.Duration
	for i := 0; b.Loop(); i++ {
		begun := time.Now()
		_, err := o.Reconcile(b.Context(), reconcile.Request{NamespacedName: types.NamespacedName{Namespace: c.namespace, Name: name(i)}})
		if err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(begun))
	}
	if wrote := o.journal.count() - before; wrote > 0 {
		b.Fatalf("%d writes: what was measured was not converged", wrote)
	}
	slices.Sort(took)
	at := func(quantile float64) float64 {
		return float64(took[min(len(took)-1, int(quantile*float64(len(took))))].Microseconds()) / 1000
	}
	b.ReportMetric(at(0.50), "p50-ms")
	b.ReportMetric(at(0.99), "p99-ms")
}

// cached makes a client read from a cache like the operator's.
func cached(b *testing.B, c *cluster) func(client.Client) client.Client {
	b.Helper()
	options := controllers.CacheOptions([]string{c.namespace})
	options.Scheme = controllers.Scheme()
	reads, err := cache.New(harness.Config(), options)
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- reads.Start(ctx) }()
	b.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			b.Error(err)
		}
	})
	if !reads.WaitForCacheSync(ctx) {
		b.Fatal("no cache")
	}
	return func(inner client.Client) client.Client { return &readingFrom{Client: inner, reader: reads} }
}

// readingFrom writes with one client and reads from another.
type readingFrom struct {
	client.Client
	reader client.Reader
}

func (r *readingFrom) Get(ctx context.Context, at client.ObjectKey, o client.Object, opts ...client.GetOption) error {
	return r.reader.Get(ctx, at, o, opts...)
}

func (r *readingFrom) List(ctx context.Context, list client.ObjectList, opts ...client.ListOption) error {
	return r.reader.List(ctx, list, opts...)
}
