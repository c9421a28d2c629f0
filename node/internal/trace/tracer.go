package trace

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	otel "go.opentelemetry.io/otel/trace"
	"golang.org/x/time/rate"

	"github.com/diseq/diseq/node/chain"
)

// The bounds.
const (
	// maxTracesPerSecond bounds the traces that begin at a node, whoever asks for them.
	maxTracesPerSecond = 100
	// maxArrivalsPerSecond bounds the messages that peers make a node follow.
	maxArrivalsPerSecond = 2000
	// maxFollowed bounds the messages that a node follows at a time. Those of peers are followed
	// up to maxFromPeers, so that a peer cannot take all the places. maxPerRequest bounds the
	// messages of one request, maxFinal those that are final and whose receipt would still belong
	// to the trace.
	maxFollowed   = 4096
	maxFromPeers  = maxFollowed / 2
	maxPerRequest = 16
	maxFinal      = 1024
	// maxBlocks is how many proposals a node keeps; the newest take the places of the oldest.
	maxBlocks = 16
	// forgetAfter is how long a message is followed that does not become final.
	forgetAfter = time.Minute
	// maxTracestate bounds the tracestate that is taken from a client, in bytes: as much as the
	// standard asks for. A longer one is left out.
	maxTracestate = 512
	// maxErrorText bounds the text of an error in a span or in the log, in bytes.
	maxErrorText = 256
	// closeTimeout bounds the wait for the collector when a node stops.
	closeTimeout = 3 * time.Second
)

// Options are the part of a node's configuration that concerns traces.
type Options struct {
	// Endpoint is the collector's URL, such as http://127.0.0.1:4318: spans are posted to
	// /v1/traces below it. Empty: no traces.
	Endpoint string `json:"endpoint,omitempty"`
	// SamplingRatePerMillion is how many of a million submissions are traced by a draw. At 0 those
	// are traced whose clients ask for it, as at any other rate.
	SamplingRatePerMillion int `json:"samplingRatePerMillion,omitempty"`
}

// million is the rate at which every submission is traced.
const million = 1_000_000

// Validate checks the options; the error names the field that is wrong and what is allowed.
func (o Options) Validate() error {
	if rate := o.SamplingRatePerMillion; rate < 0 || rate > million {
		return fmt.Errorf("tracing.samplingRatePerMillion %d: allowed are 0 to %d", rate, million)
	}
	if o.Endpoint == "" {
		if o.SamplingRatePerMillion > 0 {
			return errors.New("tracing.samplingRatePerMillion without tracing.endpoint: name a collector such as http://127.0.0.1:4318")
		}
		return nil
	}
	u, err := url.Parse(o.Endpoint)
	if err == nil && u.Port() != "" {
		_, err = strconv.ParseUint(u.Port(), 10, 16)
	}
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return fmt.Errorf("tracing.endpoint %q: want http://HOST:PORT or https://HOST:PORT", o.Endpoint)
	}
	return nil
}

// Config is what a Tracer is made of.
type Config struct {
	Options
	// Name, Version and ChainID name the node in its spans.
	Name, Version, ChainID string
	// Logger takes the failures to deliver spans; it may be nil.
	Logger *slog.Logger
}

// A Tracer follows messages. Its methods may be called from many goroutines at once, and on nil.
type Tracer struct {
	provider *sdk.TracerProvider
	// abandon ends what is still being sent.
	abandon  context.CancelFunc
	tracer   otel.Tracer
	rate     int // of a million
	begins   *rate.Limiter
	arrivals *rate.Limiter

	// following is live, and receipts the size of final, for those who need no lock if it is zero.
	following, receipts atomic.Int64
	mu                  sync.Mutex
	// forming has the messages of this node that wait for their batch, batches those in a batch,
	// final the messages that are final.
	forming map[chain.Hash]*message
	batches map[chain.Hash][]*message
	final   map[chain.Hash]*message
	// blocks are the last proposals, the oldest first. They have to be kept whatever they name: a
	// proposal may be ahead of its batches.
	blocks []*block
	// followed has the messages of forming and batches, and some that are in neither any more, the
	// oldest first; live counts the former. ended has the messages of final in the same way.
	followed, ended []*message
	live            int
}

// A message is one that is followed.
type message struct {
	id chain.Hash
	// parent is the span of the request that submitted it, here or at another node.
	parent otel.SpanContext
	batch  chain.Hash
	// began is when it came here, held when its batch was formed here or was durable here.
	began, held time.Time
	// over says that the message is not followed any more, because it is final or forgotten.
	over bool
}

// A block is one that was proposed.
type block struct {
	hash   chain.Hash
	height uint64
	round  uint32
	body   []chain.BatchRef
	// last is when its proposal was sent or came, or when this node voted for it last.
	last time.Time
	// sent are the kinds of statements about it that this node has sent.
	sent map[chain.Kind]bool
}

// Start starts a tracer, or returns nil if the options name no collector.
func Start(ctx context.Context, cfg Config) (*Tracer, error) {
	if cfg.Endpoint == "" {
		return nil, nil
	}
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	u, err := url.Parse(cfg.Endpoint)
	if err != nil {
		return nil, fmt.Errorf("tracing.endpoint: %w", err)
	}
	exporter, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(u.JoinPath("v1", "traces").String()))
	if err != nil {
		return nil, fmt.Errorf("tracing: %w", err)
	}
	return newTracer(cfg, func(life context.Context) sdk.SpanProcessor { return batched(life, exporter, cfg.Logger) }), nil
}

// batched gathers spans and sends them, in a goroutine of its own, until life ends. Up to 2048
// spans wait for it; more are dropped (the SDK's default).
func batched(life context.Context, to sdk.SpanExporter, log *slog.Logger) sdk.SpanProcessor {
	return sdk.NewBatchSpanProcessor(&reporting{SpanExporter: to, life: life, log: log})
}

// newTracer makes a tracer whose spans go to a processor. The processor ends what it does when the
// context ends.
func newTracer(cfg Config, to func(life context.Context) sdk.SpanProcessor) *Tracer {
	life, abandon := context.WithCancel(context.Background())
	provider := sdk.NewTracerProvider(
		// The node draws before there is a span: see Begin.
		sdk.WithSampler(sdk.AlwaysSample()),
		sdk.WithSpanProcessor(to(life)),
		sdk.WithResource(resource.NewSchemaless(
			attribute.String("service.name", "diseq"), attribute.String("service.instance.id", cfg.Name),
			attribute.String("service.version", cfg.Version), attribute.String("diseq.chain_id", cfg.ChainID),
		)),
	)
	return &Tracer{
		provider: provider, abandon: abandon, tracer: provider.Tracer("github.com/diseq/diseq/node"), rate: cfg.SamplingRatePerMillion,
		begins:   rate.NewLimiter(maxTracesPerSecond, maxTracesPerSecond),
		arrivals: rate.NewLimiter(maxArrivalsPerSecond, maxArrivalsPerSecond),
		forming:  map[chain.Hash]*message{}, batches: map[chain.Hash][]*message{}, final: map[chain.Hash]*message{},
	}
}

// Close sends the spans that wait for the collector, for closeTimeout at most.
func (t *Tracer) Close() {
	if t == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	_ = t.provider.Shutdown(ctx) // reporting has logged what was lost
	t.abandon()
}

// reporting logs, once for each outage, that spans cannot be delivered.
type reporting struct {
	sdk.SpanExporter
	// life ends with the node. Without it a collector that hangs would keep the SDK's goroutine.
	life   context.Context
	log    *slog.Logger
	failed atomic.Bool
}

// ExportSpans implements sdk.SpanExporter.
func (r *reporting) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(r.life, cancel)()
	err := r.SpanExporter.ExportSpans(ctx, spans)
	switch {
	case err != nil && !r.failed.Swap(true):
		r.log.Warn("spans of traces are not delivered and are dropped: the collector does not take them", "err", brief(err))
	case err == nil && r.failed.Swap(false):
		r.log.Info("the collector takes spans again")
	}
	return nil // said; the SDK would print it to the standard error
}

// brief is the text of an error, without an end that is too long. Such a text may quote a client, a
// peer or the collector. OTLP takes valid UTF-8 alone.
func brief(err error) string {
	text := err.Error()
	return strings.ToValidUTF8(text[:min(len(text), maxErrorText)], "?")
}

// The names of the spans, in the order of a message's way.
const (
	spanBatch     = "batch"
	spanReplicate = "replicate"
	spanReceive   = "receive batch"
	spanPropose   = "propose"
	spanNotarize  = "vote to notarize"
	spanFinalize  = "vote to finalize"
	spanCommit    = "commit"
	spanReceipt   = "receipt"
)

// span writes a span of a message that lasted from one time to another.
func (t *Tracer) span(m *message, name string, from, to time.Time, err error, attributes ...attribute.KeyValue) {
	ctx := otel.ContextWithRemoteSpanContext(context.Background(), m.parent)
	_, s := t.tracer.Start(ctx, name, otel.WithTimestamp(from), otel.WithAttributes(attribute.String("diseq.message", m.id.String())),
		otel.WithAttributes(attributes...))
	if err != nil {
		s.RecordError(errors.New(brief(err)))
		s.SetStatus(codes.Error, brief(err))
	}
	s.End(otel.WithTimestamp(to))
}

// propagator reads the headers traceparent and tracestate (www.w3.org/TR/trace-context). It takes
// no traceparent of another form.
var propagator = propagation.TraceContext{}

// A carrier shows a request's headers to the propagator.
type carrier struct{ propagation.HeaderCarrier }

// Get implements propagation.TextMapCarrier.
func (c carrier) Get(key string) string {
	value := c.HeaderCarrier.Get(key)
	if key == "tracestate" && len(value) > maxTracestate {
		return ""
	}
	return value
}

// Begin begins the trace of a request, or continues that of its client, if it is to be traced: the
// request returned knows it. The caller reports the end.
func (t *Tracer) Begin(r *http.Request) (traced *http.Request, end func(error)) {
	nothing := func(error) {}
	if t == nil {
		return r, nothing
	}
	drawn := t.rate > 0 && rand.IntN(million) < t.rate
	if !drawn && r.Header.Get("traceparent") == "" {
		return r, nothing
	}
	ctx := propagator.Extract(r.Context(), carrier{propagation.HeaderCarrier(r.Header)})
	if !drawn && !otel.SpanContextFromContext(ctx).IsSampled() || !t.begins.Allow() {
		return r, nothing
	}
	ctx, s := t.tracer.Start(ctx, r.Pattern, otel.WithSpanKind(otel.SpanKindServer),
		otel.WithAttributes(attribute.String("http.request.method", r.Method), attribute.String("http.route", r.Pattern)))
	return r.WithContext(ctx), func(err error) {
		if err != nil {
			s.RecordError(errors.New(brief(err)))
		}
		s.End()
	}
}
