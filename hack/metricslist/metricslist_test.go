package metricslist

import (
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

func TestARegistryIsListed(t *testing.T) {
	registry := prometheus.NewRegistry()
	gauge := prometheus.NewGauge(prometheus.GaugeOpts{Name: "diseq_height", Help: `Of "it".`})
	counter := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "diseq_a_total", Help: "As."}, []string{"b", "c"})
	registry.MustRegister(gauge, counter, prometheus.NewGauge(prometheus.GaugeOpts{Name: "go_x", Help: "x"}))
	got, err := list(registry)
	want := []Metric{{"diseq_a_total", "counter", []string{"b", "c"}, "As."}, {"diseq_height", "gauge", nil, `Of "it".`}}
	if err != nil || !slices.EqualFunc(got, want, func(a, b Metric) bool {
		return a.Name == b.Name && a.Type == b.Type && a.Help == b.Help && slices.Equal(a.Labels, b.Labels)
	}) {
		t.Errorf("%v, %v; want %v", got, err, want)
	}
	registry.MustRegister(prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "diseq_x_seconds", Help: "x"}, []string{"y"}))
	if _, err := list(registry); err == nil || !strings.Contains(err.Error(), "diseq_x_seconds has no series") {
		t.Errorf("a type that is not known: %v", err)
	}
}

func TestBrokenConventionsAreSeen(t *testing.T) {
	for _, c := range []struct {
		metric Metric
		want   string
	}{
		{Metric{"diseq_events", "counter", nil, "Events."}, "should have \"_total\" suffix"},
		{Metric{"diseq_wait_milliseconds", "gauge", nil, "Wait."}, "use base unit"},
		{Metric{"diseq_x_total", "gauge", nil, "X."}, "non-counter metrics should not have \"_total\" suffix"},
		{Metric{"diseq_x", "gauge", nil, ""}, "full stop"},
		{Metric{"diseqX", "gauge", nil, "X."}, "snake_case"},
	} {
		if wrong := strings.Join(lint([]Metric{c.metric}), "\n"); !strings.Contains(wrong, c.want) {
			t.Errorf("%v: %q, want %q", c.metric, wrong, c.want)
		}
	}
	if wrong := lint([]Metric{{"diseq_x_total", "counter", []string{"y"}, "X."}}); wrong != nil {
		t.Error(wrong)
	}
}
