package controllers

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/types"

	"github.com/diseq/diseq/api/v1alpha1"
)

// metrics are the operator's view of each network. A deleted network has none: a gauge that is not
// set any more would look like a network that stands still.
type metrics struct {
	height, finalized, validators, ready, threshold, disruptions, available *prometheus.GaugeVec
	restarts, replaced, writes                                              *prometheus.CounterVec
}

func newMetrics(registerer prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		height:      gauge("height", "Height of the last final block."),
		finalized:   gauge("finalized_timestamp_seconds", "When the last final block became final, in Unix seconds; 0 if no node knows it."),
		validators:  gauge("validators", "Number of validators in the set in force."),
		ready:       gauge("ready_validators", "Number of validators that are ready and caught up."),
		threshold:   gauge("threshold", "Number of validators that must sign a block."),
		disruptions: gauge("disruptions_allowed", "Number of further validators that may fail now while messages still become final."),
		available:   gauge("available", "1 if the condition Available is True, else 0."),
		restarts:    counter("pod_restarts_total", "Pods of voting validators that the operator deleted for an update."),
		replaced:    counter("pod_replacements_total", "Pods with an outdated template that the operator deleted because they were not ready."),
		writes:      counter("writes_total", "Writes to the API server, including failed ones."),
	}
	if registerer == nil {
		return m, nil
	}
	var errs []error
	for _, c := range []prometheus.Collector{
		m.height, m.finalized, m.validators, m.ready, m.threshold, m.disruptions, m.available, m.restarts, m.replaced, m.writes,
	} {
		errs = append(errs, registerer.Register(c))
	}
	return m, errors.Join(errs...)
}

func gauge(name, help string) *prometheus.GaugeVec {
	return prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "diseq", Subsystem: "network", Name: name, Help: help},
		[]string{"namespace", "name"})
}

func counter(name, help string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "diseq", Subsystem: "network", Name: name, Help: help},
		[]string{"namespace", "name"})
}

// set sets the gauges of a network to its status. It also makes the counters, so that the first
// event is an increase.
func (m *metrics) set(network types.NamespacedName, s *v1alpha1.DiseqNetworkStatus, available bool) {
	values := []string{network.Namespace, network.Name}
	m.height.WithLabelValues(values...).Set(float64(s.Height))
	finalized := 0.0
	if s.FinalizedTime != nil {
		finalized = float64(s.FinalizedTime.Unix())
	}
	m.finalized.WithLabelValues(values...).Set(finalized)
	m.validators.WithLabelValues(values...).Set(float64(s.Validators))
	m.ready.WithLabelValues(values...).Set(float64(s.ReadyValidators))
	m.threshold.WithLabelValues(values...).Set(float64(s.Threshold))
	m.disruptions.WithLabelValues(values...).Set(float64(s.DisruptionsAllowed))
	up := 0.0
	if available {
		up = 1
	}
	m.available.WithLabelValues(values...).Set(up)
	for _, c := range []*prometheus.CounterVec{m.restarts, m.replaced, m.writes} {
		c.WithLabelValues(values...)
	}
}

// drop removes the metrics of a deleted network.
func (m *metrics) drop(network types.NamespacedName) {
	labels := prometheus.Labels{"namespace": network.Namespace, "name": network.Name}
	for _, g := range []*prometheus.GaugeVec{m.height, m.finalized, m.validators, m.ready, m.threshold, m.disruptions, m.available} {
		g.DeletePartialMatch(labels)
	}
	for _, c := range []*prometheus.CounterVec{m.restarts, m.replaced, m.writes} {
		c.DeletePartialMatch(labels)
	}
}
