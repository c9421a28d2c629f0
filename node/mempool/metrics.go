package mempool

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/diseq/diseq/node/chain"
)

type metrics struct {
	accepted, known, received, repeated    prometheus.Counter
	equivocations, lookups, unacknowledged prometheus.Counter
	rejected, refused                      *prometheus.CounterVec
	ackSeconds                             prometheus.Histogram
}

func newMetrics(registerer prometheus.Registerer, p *Pool) *metrics {
	f := promauto.With(registerer)
	counter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Namespace: "diseq", Subsystem: "mempool", Name: name, Help: help})
	}
	byReason := func(name, help string) *prometheus.CounterVec {
		return f.NewCounterVec(prometheus.CounterOpts{Namespace: "diseq", Subsystem: "mempool", Name: name, Help: help}, []string{"reason"})
	}
	gauge := func(name, help string, value func() float64) {
		f.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "diseq", Subsystem: "mempool", Name: name, Help: help}, value)
	}
	gauge("bytes", "Bytes of the batches of all authors in the pool.", func() float64 { return float64(p.Stats().Bytes) })
	gauge("messages", "Messages in the pool that are not final.", func() float64 { return float64(p.Stats().Messages) })
	gauge("batches", "Batches in the pool.", func() float64 { return float64(p.Stats().Batches) })
	gauge("filter_bytes", "Memory of the filter of known ids, in bytes.", func() float64 { return float64(p.filter.size()) })
	m := &metrics{
		accepted: counter("accepted_messages_total", "Messages submitted to this node and accepted."),
		known:    counter("known_messages_total", "Messages submitted to this node that were pending or final already."),
		received: counter("received_messages_total", "Messages in batches taken from peers."),
		repeated: counter("repeated_batches_total", "Batches received from peers more than once."),
		equivocations: counter("equivocations_total",
			"Batches of peers with the author and the number of another batch."),
		lookups: counter("index_lookups_total", "Ids looked up in the trie, because the filter of known ids did not rule them out."),
		unacknowledged: counter("unacknowledged_total",
			"Batches whose submission was answered before enough peers acknowledged them: they are on this disk, and perhaps on no other."),
		rejected: byReason("rejected_requests_total", "Submissions that were refused, by reason, such as full and storage_low."),
		refused: byReason("refused_batches_total", "Batches of peers that were refused, by reason, such as share, storage_low and equivocation. "+
			"For a moment at each change of the validator set the reason is author."),
		ackSeconds: f.NewHistogram(prometheus.HistogramOpts{
			Namespace: "diseq", Subsystem: "mempool", Name: "acknowledge_seconds",
			Help:    "Time from when a batch is durable here until enough peers have acknowledged it.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 12),
		}),
	}
	// A series that begins at 1 has no increase: alerts would miss the first of each reason.
	for _, name := range []string{reasonTooLarge, reasonFull, reasonFailed} {
		m.declare(name)
	}
	for _, r := range reasons {
		m.declare(r.name)
	}
	return m
}

// reasons are the labels of errors that are compared; the others follow.
var reasons = []struct {
	err  error
	name string
}{
	{ErrEmpty, "empty"}, {ErrTooMany, "too_many"}, {ErrStorageLow, "storage_low"}, {ErrShare, "share"}, {ErrAuthor, "author"},
	{ErrLeft, "left"}, {ErrEquivocation, "equivocation"}, {ErrClosed, "closed"}, {chain.ErrMalformed, "malformed"},
	{chain.ErrSignature, "signature"},
}

const (
	reasonTooLarge = "too_large"
	reasonFull     = "full"
	reasonFailed   = "failed"
)

func (m *metrics) declare(reason string) {
	m.rejected.WithLabelValues(reason)
	m.refused.WithLabelValues(reason)
}

func (m *metrics) reject(err error) { m.rejected.WithLabelValues(reason(err)).Inc() }

func (m *metrics) refuse(err error) { m.refused.WithLabelValues(reason(err)).Inc() }

func reason(err error) string {
	for _, r := range reasons {
		if errors.Is(err, r.err) {
			return r.name
		}
	}
	if _, ok := errors.AsType[*TooLargeError](err); ok {
		return reasonTooLarge
	}
	if _, ok := errors.AsType[*FullError](err); ok {
		return reasonFull
	}
	return reasonFailed
}
