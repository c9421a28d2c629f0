package controllers

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"

	"github.com/diseq/diseq/api/v1alpha1"
	"github.com/diseq/diseq/controllers/status"
)

// metrics are the operator's view of each network. A deleted network has none: a gauge that is not
// set any more would look like a network that stands still.
type metrics struct {
	height, finalized, validators, ready, threshold, disruptions, available *prometheus.GaugeVec
	generation, changing, hibernated                                        *prometheus.GaugeVec
	restarts, replaced, targets, stopped, writes                            *prometheus.CounterVec
}

func newMetrics(registerer prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		height:      gauge("height", "Height of the last final block."),
		finalized:   gauge("finalized_timestamp_seconds", "When the last block became final, in seconds since 1970; 0 if no node knows it."),
		validators:  gauge("validators", "Validators of the set in force."),
		ready:       gauge("ready_validators", "Validators of the set in force that are ready and caught up."),
		threshold:   gauge("threshold", "Validators that must sign a block: the threshold of the set in force."),
		disruptions: gauge("disruptions_allowed", "Further validators that may fail now while messages still become final."),
		available:   gauge("available", "1 if the condition Available is True, else 0."),
		generation:  gauge("set_generation", "Generation of the validator set in force: 0 at genesis, one more with each change."),
		changing:    gauge("membership_changing", "1 if the condition MembershipChanging is True, else 0."),
		hibernated:  gauge("hibernated", "1 if the network is hibernated, so that it is not available on purpose, else 0."),
		targets:     counter("targets_total", "Targets, which the validators are to endorse, that the operator wrote to the peers file."),
		stopped:     counter("validators_stopped_total", "StatefulSets of former members and of newcomers that the operator deleted."),
		restarts:    counter("pod_restarts_total", "Pods of voting validators that the operator deleted for an update."),
		replaced:    counter("pod_replacements_total", "Pods with an outdated template that the operator deleted because they were not ready."),
		writes:      counter("writes_total", "Writes to the API server, including failed ones."),
	}
	if registerer == nil {
		return m, nil
	}
	var errs []error
	for _, c := range []prometheus.Collector{
		m.height, m.finalized, m.validators, m.ready, m.threshold, m.disruptions, m.available, m.generation, m.changing, m.hibernated,
		m.restarts, m.replaced, m.targets, m.stopped, m.writes,
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
func (m *metrics) set(network types.NamespacedName, s *v1alpha1.DiseqNetworkStatus) {
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
	m.generation.WithLabelValues(values...).Set(float64(s.SetGeneration))
	for gauge, condition := range map[*prometheus.GaugeVec]string{
		m.available: v1alpha1.ConditionAvailable, m.changing: v1alpha1.ConditionMembershipChanging,
	} {
		is := 0.0
		if meta.IsStatusConditionTrue(s.Conditions, condition) {
			is = 1
		}
		gauge.WithLabelValues(values...).Set(is)
	}
	asleep := 0.0
	if a := meta.FindStatusCondition(s.Conditions, v1alpha1.ConditionAvailable); a != nil && a.Reason == status.Hibernated {
		asleep = 1
	}
	m.hibernated.WithLabelValues(values...).Set(asleep)
	for _, c := range []*prometheus.CounterVec{m.restarts, m.replaced, m.targets, m.stopped, m.writes} {
		c.WithLabelValues(values...)
	}
}

// drop removes the metrics of a deleted network.
func (m *metrics) drop(network types.NamespacedName) {
	labels := prometheus.Labels{"namespace": network.Namespace, "name": network.Name}
	for _, g := range []*prometheus.GaugeVec{
		m.height, m.finalized, m.validators, m.ready, m.threshold, m.disruptions, m.available, m.generation, m.changing, m.hibernated,
	} {
		g.DeletePartialMatch(labels)
	}
	for _, c := range []*prometheus.CounterVec{m.restarts, m.replaced, m.targets, m.stopped, m.writes} {
		c.DeletePartialMatch(labels)
	}
}
