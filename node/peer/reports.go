package peer

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

var (
	errUnknownKey = errors.New("no peer has this key")
	errPenalty    = errors.New("the peer was at fault before")
	errUseless    = errors.New("a flood of messages that are of no use")
)

// Reasons for which a connection, a message or an answer is refused, as metrics name them.
const (
	reasonFlood      = "flood"       // too many connections without a handshake
	reasonTLS        = "tls"         // no TLS 1.3 handshake with an Ed25519 certificate
	reasonUnknownKey = "unknown_key" // not a peer
	reasonPenalty    = "penalty"     // came back too early after a fault
	reasonHello      = "hello"       // another protocol version, chain or genesis
	reasonMalformed  = "malformed"   // bytes that do not decode
	reasonUseless    = "useless"     // a flood of consensus messages of heights that do not matter
	reasonAnswer     = "answer"      // an answer to a call of ours that does not fit the call
)

// Directions, as metrics name them.
const (
	directionIn  = "in"
	directionOut = "out"
)

// reports are the metrics, and the log lines that strangers and peers can cause.
type reports struct {
	log      *slog.Logger
	interval time.Duration

	linkUp   *prometheus.GaugeVec
	frames   *prometheus.CounterVec
	bytes    *prometheus.CounterVec
	dropped  *prometheus.CounterVec
	rejected *prometheus.CounterVec
	useless  *prometheus.CounterVec
	unacked  *prometheus.GaugeVec

	mu    sync.Mutex
	lines map[lineKey]*line
}

type lineKey struct{ kind, peer string }

type line struct {
	last       time.Time
	suppressed int
}

// maxLines bounds the memory for the times of the last log lines.
const maxLines = 4096

func newReports(log *slog.Logger, registerer prometheus.Registerer, interval time.Duration) *reports {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	factory := promauto.With(registerer)
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return factory.NewCounterVec(prometheus.CounterOpts{Namespace: "diseq", Subsystem: "peer", Name: name, Help: help}, labels)
	}
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return factory.NewGaugeVec(prometheus.GaugeOpts{Namespace: "diseq", Subsystem: "peer", Name: name, Help: help}, labels)
	}
	r := &reports{
		log: log, interval: interval, lines: make(map[lineKey]*line),
		linkUp:  gauge("link_up", "1 while this node can send to the peer, else 0.", "peer"),
		unacked: gauge("batches_unacknowledged_bytes", "Bytes of batches that wait to be sent to the peer, or for its acknowledgement.", "peer"),
		frames: counter("frames_total", "Frames exchanged with peers, by direction (in, out) and kind, such as vote, proposal and batch.",
			"direction", "kind"),
		bytes:   counter("frame_bytes_total", "Bytes of frames exchanged with peers, by direction and kind.", "direction", "kind"),
		dropped: counter("dropped_total", "Frames and batches not sent because the peer's queue was full.", "peer", "kind"),
		useless: counter("useless_total",
			"Consensus messages from the peer that were dropped unread: of heights too far below this node's, or above it. "+
				"It rises while the peer or this node is far behind, and should stand still otherwise.", "peer"),
		rejected: counter("rejected_total", "Connections, messages and answers of peers and strangers that were refused, by reason: "+
			"flood, tls, unknown_key, penalty, hello, malformed, useless, answer.", "reason"),
	}
	// A series that begins at 1 has no increase: alerts would miss the first of each reason.
	for _, reason := range []string{
		reasonFlood, reasonTLS, reasonUnknownKey, reasonPenalty, reasonHello, reasonMalformed, reasonUseless, reasonAnswer,
	} {
		r.rejected.WithLabelValues(reason)
	}
	return r
}

func (r *reports) transferred(direction, kind string, size int) {
	r.frames.WithLabelValues(direction, kind).Inc()
	r.bytes.WithLabelValues(direction, kind).Add(float64(size))
}

// begin makes the series of a peer. A counter that begins at 1 has no increase.
func (r *reports) begin(peer string) {
	r.linkUp.WithLabelValues(peer).Set(0)
	r.unacked.WithLabelValues(peer).Set(0)
	r.useless.WithLabelValues(peer)
}

// remove removes the series of a peer.
func (r *reports) remove(peer string) {
	r.linkUp.DeleteLabelValues(peer)
	r.unacked.DeleteLabelValues(peer)
	r.useless.DeleteLabelValues(peer)
	r.dropped.DeletePartialMatch(prometheus.Labels{"peer": peer})
}

// reject counts a refusal and logs it, at most one line of a reason and a peer in each interval. p
// is nil for strangers, who share one line.
func (r *reports) reject(reason string, p *Peer, err error) {
	r.rejected.WithLabelValues(reason).Inc()
	name := ""
	if p != nil {
		name = p.Name
	}
	r.logLimited(slog.LevelWarn, "refused", reason, name, err)
}

// rejectHandshake reports a connection that ended in its TLS handshake.
func (r *reports) rejectHandshake(from net.Addr, err error) {
	reason := reasonTLS
	switch {
	case errors.Is(err, errUnknownKey):
		reason = reasonUnknownKey
	case errors.Is(err, errPenalty):
		reason = reasonPenalty
	case errors.Is(err, io.EOF): // port scanners and TCP health checks
		r.rejected.WithLabelValues(reason).Inc()
		return
	}
	r.rejected.WithLabelValues(reason).Inc()
	r.logLimited(slog.LevelWarn, "refused a connection", reason, "", err, slog.String("from", from.String()))
}

// providerFailed logs that the node itself could not serve a call.
func (r *reports) providerFailed(call string, p *Peer, err error) {
	r.logLimited(slog.LevelError, "a peer's call failed on this node", call, p.Name, err)
}

// logLimited logs at most one line of a kind about a peer in each interval. The next line says how
// many were left out.
func (r *reports) logLimited(level slog.Level, message, kind, peer string, err error, more ...slog.Attr) {
	now := time.Now()
	key := lineKey{kind, peer}
	r.mu.Lock()
	l, ok := r.lines[key]
	if !ok {
		if len(r.lines) >= maxLines {
			clear(r.lines)
		}
		l = &line{}
		r.lines[key] = l
	}
	if ok && now.Sub(l.last) < r.interval {
		l.suppressed++
		r.mu.Unlock()
		return
	}
	suppressed := l.suppressed
	l.last, l.suppressed = now, 0
	r.mu.Unlock()

	attrs := append([]slog.Attr{slog.String("kind", kind)}, more...)
	if err != nil {
		attrs = append(attrs, slog.Any("err", err))
	}
	if peer != "" {
		attrs = append(attrs, slog.String("peer", peer))
	}
	if suppressed > 0 {
		attrs = append(attrs, slog.Int("suppressed", suppressed))
	}
	r.log.LogAttrs(context.Background(), level, message, attrs...)
}
