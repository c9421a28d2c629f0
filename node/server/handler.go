package server

import (
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/diseq/diseq/node/internal/seats"
)

// handler puts routes behind the steps that every request passes: deadlines, metrics, and answers
// where there is no route.
func (s *Server) handler(routes []route) http.Handler {
	mux := http.NewServeMux()
	for _, r := range routes {
		mux.HandleFunc(r.pattern, r.handler)
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { s.noRoute(mux, w, r) })
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		rw := &response{ResponseWriter: w, control: http.NewResponseController(w), timeout: s.limits.WriteTimeout}
		rw.writeDeadline() // the connection may still have the last request's, long past
		defer rw.finish()
		rw.serving(r)
		if r.Body != nil && r.Body != http.NoBody {
			// Also for handlers that never read the body: net/http drains it before the next
			// request, and a client that stalls there would hold the connection for ever.
			rw.readDeadline(start.Add(s.limits.BodyTimeout))
		}
		safeHeaders(rw.Header())
		if s.leaves() {
			// The client opens another connection for its next request, and finds another node.
			rw.Header().Set("Connection", "close")
		}
		mux.ServeHTTP(rw, r)
		s.metrics.request(routeLabel(r.Pattern), rw.status, time.Since(start))
	})
}

// routeLabel keeps the label's values to the routes there are.
func routeLabel(pattern string) string {
	if pattern == "" || pattern == "/" {
		return "none"
	}
	return pattern
}

// noRoute answers 405 if another method would do, else 404; in JSON below /v1.
func (s *Server) noRoute(mux *http.ServeMux, w http.ResponseWriter, r *http.Request) {
	var allowed []string
	for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut} {
		probe := &http.Request{Method: method, URL: r.URL, Host: r.Host}
		if _, pattern := mux.Handler(probe); strings.Contains(pattern, " ") { // "/" alone has no method
			allowed = append(allowed, method)
		}
	}
	err := noSuchRoute(r)
	if len(allowed) > 0 && !slices.Contains(allowed, r.Method) {
		w.Header().Set("Allow", strings.Join(allowed, ", "))
		err = &apiError{
			status: http.StatusMethodNotAllowed, code: "method_not_allowed",
			message: "this route takes " + strings.Join(allowed, " and ") + " only",
		}
	}
	if r.URL.Path == "/v1" || strings.HasPrefix(r.URL.Path, "/v1/") {
		s.fail(w, r, err, writeJSONError)
		return
	}
	s.fail(w, r, err, writeTextError)
}

func noSuchRoute(r *http.Request) *apiError {
	return &apiError{status: http.StatusNotFound, code: "no_such_route", message: "no such route: " + r.URL.Path}
}

// response remembers the status, and gives the client a new deadline with every chunk that it
// accepts: an answer of any length and a stream of any age live as long as their reader goes on
// reading.
type response struct {
	http.ResponseWriter
	control *http.ResponseController
	timeout time.Duration
	status  int
	pins    pins
	// place is that of the connection; nil if it has none.
	place *seats.Seat

	ends sync.Mutex
	// ended says that the answer was broken off, bodyDone that the body is read, done that the
	// handler has returned.
	ended, bodyDone, done bool
	// latest bounds the deadlines of writes, if it is not zero.
	latest time.Time
}

const chunkBytes = 16 << 10

// Unwrap lets http.ResponseController reach the connection.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader remembers the status.
func (w *response) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write writes b in chunks, each under its own deadline.
func (w *response) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	written := 0
	for {
		w.writeDeadline()
		n, err := w.ResponseWriter.Write(b[written:min(len(b), written+chunkBytes)])
		written += n
		w.took(n)
		if err != nil || written >= len(b) {
			return written, err
		}
	}
}

// FlushError sends the buffered bytes; http.ResponseController and http.Flusher's users find it.
func (w *response) FlushError() error {
	w.writeDeadline()
	return w.control.Flush()
}

// writeDeadline and readDeadline ignore writers without deadlines: those are the recorders of
// tests.
func (w *response) writeDeadline() {
	w.ends.Lock()
	defer w.ends.Unlock()
	if w.ended {
		return
	}
	deadline := time.Now().Add(w.timeout)
	if !w.latest.IsZero() && deadline.After(w.latest) {
		deadline = w.latest
	}
	_ = w.control.SetWriteDeadline(deadline)
}

func (w *response) readDeadline(t time.Time) { _ = w.control.SetReadDeadline(t) }
