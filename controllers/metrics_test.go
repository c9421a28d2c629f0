package controllers

import (
	"flag"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/types"

	"github.com/diseq/diseq/api/v1alpha1"
	"github.com/diseq/diseq/hack/metricslist"
)

var update = flag.Bool("update", false, "write testdata/metrics.json anew")

func TestMetricsFollowConventionsAndAreListed(t *testing.T) {
	registry := prometheus.NewRegistry()
	m, err := newMetrics(registry)
	if err != nil {
		t.Fatal(err)
	}
	m.set(types.NamespacedName{Namespace: "a", Name: "demo"}, &v1alpha1.DiseqNetworkStatus{})
	metricslist.Check(t, registry, "testdata/metrics.json", *update)
}
