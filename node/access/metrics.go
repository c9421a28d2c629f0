package access

import (
	"github.com/prometheus/client_golang/prometheus"
)

// metrics are those of access. The label client has only names of the access file, and
// AnonymousName; it is empty for a client whose credential is wrong.
type metrics struct {
	messages, bytes, refused *prometheus.CounterVec
	dropped                  prometheus.Counter
}

func newMetrics(r prometheus.Registerer, c *Control) *metrics {
	m := &metrics{
		messages: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "diseq_client_messages_total", Help: "Messages accepted, by client of the access file: anonymous without a credential.",
		}, []string{"client"}),
		bytes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "diseq_client_message_bytes_total",
			Help: "Bytes of messages accepted, by client of the access file: anonymous without a credential.",
		}, []string{"client"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "diseq_client_refused_total",
			Help: "Requests refused, by client of the access file (empty: its credential is wrong) and reason: " +
				"unauthenticated, forbidden, quota, reserved.",
		}, []string{"client", "reason"}),
		dropped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "diseq_audit_dropped_total", Help: "Audit lines that could not be written.",
		}),
	}
	if r == nil {
		return m
	}
	r.MustRegister(m.messages, m.bytes, m.refused, m.dropped, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "diseq_access_problems", Help: "Files of access that cannot be used. The log and /v1/status name them.",
	}, func() float64 { return float64(c.Status().count()) }))
	if c.cfg.TLS != nil {
		r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "diseq_tls_certificate_expiry_timestamp_seconds",
			Help: "When the certificate of the public listener expires, in seconds since 1970. Absent without TLS.",
		}, func() float64 { return float64(c.material.Load().expires().Unix()) }))
	}
	return m
}

// forget drops the series of clients that are gone.
func (m *metrics) forget(before, now map[string]*client) {
	for name := range before {
		if now[name] == nil {
			m.messages.DeleteLabelValues(name)
			m.bytes.DeleteLabelValues(name)
			m.refused.DeletePartialMatch(prometheus.Labels{"client": name})
		}
	}
}
