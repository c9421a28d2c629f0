package server

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the server's own; those of consensus, pool and store are registered by their owners.
type metrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	rejected *prometheus.CounterVec
	// brokenOff counts answers that could not be finished after they had begun.
	brokenOff *prometheus.CounterVec
	// gaveWay counts what clients lost because others needed the room.
	gaveWay *prometheus.CounterVec
	streams prometheus.Gauge
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "diseq_http_requests_total",
			Help: "HTTP requests, by route and status code of the answer. With 499 the client went away before it.",
		}, []string{"route", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "diseq_http_request_duration_seconds", Help: "Time to answer HTTP requests, by route. A stream lasts as long as its reader.",
			Buckets: []float64{.001, .005, .02, .1, .5, 1, 2, 5, 10, 60},
		}, []string{"route"}),
		rejected: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "diseq_http_rejected_total", Help: "HTTP requests refused, by reason: the code of the error in the answer.",
		}, []string{"reason"}),
		brokenOff: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "diseq_http_broken_answers_total",
			Help: "Answers and streams that broke off with an error after they had begun, by route. The log has the error.",
		}, []string{"route"}),
		gaveWay: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "diseq_http_gave_way_total",
			Help: "Answers, bodies, connections and streams that idle or slow clients lost because others needed the room.",
		}, []string{"what"}),
		streams: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "diseq_http_streams", Help: "Open block streams.",
		}),
	}
	if r != nil {
		r.MustRegister(m.requests, m.duration, m.rejected, m.brokenOff, m.gaveWay, m.streams)
	}
	// A series that begins at 1 has no increase: alerts would miss the first.
	for _, pattern := range []string{"GET /v1/stream", "POST /v1/messages"} {
		m.brokenOff.WithLabelValues(pattern)
	}
	for _, what := range []string{"answer", "body", "connection", "stream"} {
		m.gaveWay.WithLabelValues(what)
	}
	return m
}

func (m *metrics) request(route string, status int, took time.Duration) {
	m.requests.WithLabelValues(route, strconv.Itoa(status)).Inc()
	m.duration.WithLabelValues(route).Observe(took.Seconds())
}
