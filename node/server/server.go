package server

import (
	"log/slog"
	"net/http"
	"net/http/pprof"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/diseq/diseq/node/access"
	"github.com/diseq/diseq/node/internal/seats"
	"github.com/diseq/diseq/node/server/explorer"
)

// Options are the parts of a Server.
type Options struct {
	Backend Backend
	Logger  *slog.Logger
	// Registerer takes the server's own metrics; nil leaves them unregistered.
	Registerer prometheus.Registerer
	// Gatherer has the metrics of /metrics on the operations listener; nil leaves that route out.
	Gatherer prometheus.Gatherer
	// LogLevel is the level of Logger, which /log-level of the operations listener shows and
	// changes; nil leaves that route out.
	LogLevel *slog.LevelVar
	// Pprof adds /debug/pprof to the operations listener.
	Pprof bool
	// Hosts are the names by which clients may ask for a node that listens on loopback, beside
	// localhost, in lower case.
	Hosts  []string
	Limits Limits
	// Trace begins the trace of a submission, if it is to be traced; the server reports the end.
	// nil traces none.
	Trace func(r *http.Request) (traced *http.Request, end func(error))
	// Explorer serves the page of package explorer at / of the public listener.
	Explorer bool
	// Access decides who may use the public listener, and gives it TLS; nil lets everybody in, over
	// plain HTTP. The operations listener is not concerned.
	Access *access.Control
}

// Limits bounds the memory and the time that clients can cost the node. A zero field means its
// default.
type Limits struct {
	// Connections is the largest number of open connections of clients (default 1024). A newcomer
	// takes the place of one that is idle.
	Connections int
	// Streams is the largest number of open streams (default 256). A newcomer takes the place of
	// one that is idle; if there is none it is answered with 503.
	Streams int
	// LargeBodies is how many requests may hold a body above 64 KiB at the same time (default 16),
	// three quarters of them from one client; more wait their turn.
	LargeBodies int
	// AnswerBytes is how much memory answers may take that their clients have not taken yet
	// (default 32 MiB).
	AnswerBytes int
	// HeaderTimeout is how long a request's header may take (default 10 s), BodyTimeout its body
	// (default 60 s), IdleTimeout how long a connection may wait for its next request (default 2
	// min).
	HeaderTimeout, BodyTimeout, IdleTimeout time.Duration
	// WriteTimeout is how long a client may take to accept each 16 KiB of an answer or of a stream
	// (default 30 s).
	WriteTimeout time.Duration
	// Heartbeat is the time between two comments on a silent event stream (default 15 s).
	Heartbeat time.Duration
	// Finish is how long open requests may take once the server stops (default 10 s). Streams end
	// at once.
	Finish time.Duration
}

func (l Limits) withDefaults() Limits {
	for _, f := range []struct {
		value    *int
		fallback int
	}{{&l.Connections, 1024}, {&l.Streams, 256}, {&l.LargeBodies, 16}, {&l.AnswerBytes, 32 << 20}} {
		if *f.value <= 0 {
			*f.value = f.fallback
		}
	}
	for _, f := range []struct {
		value    *time.Duration
		fallback time.Duration
	}{
		{&l.HeaderTimeout, 10 * time.Second}, {&l.BodyTimeout, time.Minute}, {&l.IdleTimeout, 2 * time.Minute},
		{&l.WriteTimeout, 30 * time.Second}, {&l.Heartbeat, 15 * time.Second}, {&l.Finish, 10 * time.Second},
	} {
		if *f.value <= 0 {
			*f.value = f.fallback
		}
	}
	return l
}

// Server answers HTTP requests from a Backend.
type Server struct {
	backend Backend
	log     *slog.Logger
	level   *slog.LevelVar
	limits  Limits
	metrics *metrics
	hosts   []string
	// blocks holds encoded messages of final blocks, shared by all readers.
	blocks *blockCache
	// answers bounds the bytes of answers that clients have not taken yet, loads how many answers
	// are made at a time.
	answers, loads *seats.Limiter
	// streams and large bound open streams and large bodies, waits the ids that are waited for.
	streams, large *shared
	waits          *seats.Limiter
	// mostLarge is how many large bodies one client may have under way.
	mostLarge int64
	// draining is set from Drain on: the server goes on answering, and sends clients away.
	draining atomic.Bool
	// stopping is closed when the server begins to stop: streams and waiting requests end then.
	stopping chan struct{}
	// access is nil without access control.
	access *access.Control
	trace  func(r *http.Request) (*http.Request, func(error))

	public, operations, probes http.Handler
}

// route is a pattern of http.ServeMux and its handler.
type route struct {
	pattern string
	handler http.HandlerFunc
}

// New makes a server. It starts nothing: see Serve.
func New(o Options) *Server {
	limits := o.Limits.withDefaults()
	s := &Server{
		backend: o.Backend, log: o.Logger, level: o.LogLevel, limits: limits, access: o.Access, trace: o.Trace,
		metrics: newMetrics(o.Registerer), hosts: o.Hosts, answers: seats.New(int64(limits.AnswerBytes), answerPatience),
		loads:   seats.New(int64(max(4, runtime.GOMAXPROCS(0))), answerPatience),
		streams: newShared(limits.Streams, streamPatience), waits: seats.New(maxAwaited, waitPatience),
		large: newShared(limits.LargeBodies, bodyPatience), mostLarge: int64(max(1, limits.LargeBodies*3/4)),
		stopping: make(chan struct{}),
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.blocks = newBlockCache(cacheBytes, s)
	routes := s.publicRoutes()
	if o.Explorer {
		routes = append(routes, s.explorerRoutes()...)
	}
	s.public = s.handler(routes)
	s.operations = s.handler(s.operationsRoutes(o))
	s.probes = s.handler(s.probeRoutes())
	return s
}

// Public returns the handler of the public listener: the routes of the proof of concept, /v1, the
// probes, /openapi.yaml, and the explorer if there is one.
func (s *Server) Public() http.Handler { return s.public }

// Operations returns the handler of the operations listener: metrics, probes, status, validators,
// changes, the log level, and pprof if asked for.
func (s *Server) Operations() http.Handler { return s.operations }

// Probes returns the handler of the listener for probes: /livez and /readyz.
func (s *Server) Probes() http.Handler { return s.probes }

func (s *Server) publicRoutes() []route {
	return []route{
		{"POST /schedule", s.text(s.needs(s.schedule, access.Submit))},
		{"GET /get/pool", s.text(s.needs(s.getPool, access.Read))},
		{"GET /get/commitments", s.text(s.needs(s.getCommitments, access.Read))},
		{"GET /get/block/{height}", s.text(s.needs(s.getBlock, access.Read))},
		{"GET /get/height", s.text(s.needs(s.getHeight))},
		{"GET /get/state_root_hash", s.text(s.needs(s.getStateRootHash, access.Read))},
		{"POST /merkle_proof", s.text(s.needs(s.merkleProof, access.Read))},
		{"POST /commit", s.text(s.internalOnly)},
		{"POST /propose", s.text(s.internalOnly)},

		{"POST /v1/messages", s.json(s.needs(s.traced(s.submit), access.Submit))},
		{"GET /v1/messages/{id}", s.json(s.needs(s.message, access.Read))},
		{"GET /v1/messages/{id}/receipt", s.json(s.needs(s.receipt, access.Read))},
		{"GET /v1/proofs/{id}", s.json(s.needs(s.proof, access.Read))},
		{"GET /v1/blocks/{height}", s.json(s.needs(s.block, access.Read))},
		{"GET /v1/blocks", s.json(s.needs(s.page, access.Read))},
		{"GET /v1/stream", s.json(s.needs(s.stream, access.Read))},
		{"GET /v1/evidence", s.json(s.needs(s.evidence, access.Read))},
		{"GET /v1/genesis", s.json(s.needs(s.genesis))},
		{"GET /v1/status", s.json(s.needs(s.status))},
		{"GET /v1/validators", s.json(s.needs(s.validators))},
		{"GET /v1/changes", s.json(s.needs(s.changes))},
		// Anybody may read these: the document is the same everywhere, and probes have no
		// credential.
		{"GET /openapi.yaml", s.text(s.openAPI)},
		{"GET /healthz", s.text(s.healthz)},
		{"GET /readyz", s.text(s.readyz)},
	}
}

// explorerRoutes are those of the page. Anybody may read it, since it says nothing of the chain.
// The routes that it asks do not let anybody in.
func (s *Server) explorerRoutes() (routes []route) {
	for _, pattern := range explorer.Patterns() {
		routes = append(routes, route{pattern, s.text(func(w http.ResponseWriter, r *http.Request) error {
			if !explorer.Serve(w, r) {
				return noSuchRoute(r)
			}
			return nil
		})})
	}
	return routes
}

// probeRoutes answer without waiting for anything.
func (s *Server) probeRoutes() []route {
	return []route{{"GET /livez", s.text(s.healthz)}, {"GET /readyz", s.text(s.readyz)}}
}

func (s *Server) operationsRoutes(o Options) []route {
	routes := []route{
		{"GET /v1/status", s.json(s.status)},
		{"GET /v1/validators", s.json(s.validators)},
		{"GET /v1/changes", s.json(s.changes)},
		{"GET /healthz", s.text(s.healthz)},
		{"GET /livez", s.text(s.healthz)},
		{"GET /readyz", s.text(s.readyz)},
	}
	if o.Gatherer != nil {
		h := promhttp.HandlerFor(o.Gatherer, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: 30 * time.Second})
		routes = append(routes, route{"GET /metrics", h.ServeHTTP})
	}
	if o.LogLevel != nil {
		routes = append(routes, route{"GET /log-level", s.text(s.getLogLevel)}, route{"PUT /log-level", s.text(s.putLogLevel)})
	}
	if o.Pprof {
		routes = append(routes,
			route{"GET /debug/pprof/", pprof.Index},
			route{"GET /debug/pprof/cmdline", pprof.Cmdline},
			route{"GET /debug/pprof/profile", pprof.Profile},
			route{"GET /debug/pprof/symbol", pprof.Symbol},
			route{"GET /debug/pprof/trace", pprof.Trace},
		)
	}
	return routes
}
