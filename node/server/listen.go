package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// maxHeaderBytes bounds a request's line and header; net/http adds 4 KiB to it.
const maxHeaderBytes = 16 << 10

// Drain says that the node is not ready, and sends clients elsewhere while the server goes on
// answering them: each answer closes its connection. It returns after d, or when ctx ends. Nobody
// is refused who connects until then. Streams go on: a reader that connects again too early would
// come back here.
func (s *Server) Drain(ctx context.Context, d time.Duration) {
	s.draining.Store(true)
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// Listeners are where a Server answers. Operations and Probes may be nil.
type Listeners struct {
	// Public is for clients, Operations for metrics, probes and status, Probes for probes alone.
	Public, Operations, Probes net.Listener
}

// Serve answers on the listeners until ctx ends or one of them fails, then stops accepting, ends
// streams and waits, lets open requests finish for at most Limits.Finish, and closes the listeners.
// It returns nil if ctx ended it. It can be called once.
func (s *Server) Serve(ctx context.Context, on Listeners) error {
	var servers []*http.Server
	var listeners []net.Listener
	for _, l := range []struct {
		listener net.Listener
		handler  http.Handler
		places   int
	}{
		{on.Public, s.public, s.limits.Connections},
		{on.Operations, s.operations, operationsConnections},
		{on.Probes, s.probes, probeConnections},
	} {
		if l.listener == nil {
			continue
		}
		if onLoopback(l.listener) {
			l.handler = s.ofMachine(l.handler)
		}
		server := s.httpServer(l.handler)
		server.SetKeepAlivesEnabled(l.listener != on.Probes) // probes come one at a time
		servers = append(servers, server)
		var listener net.Listener = newGate(l.listener, l.places, s.metrics.gaveWay.WithLabelValues("connection").Inc)
		if config := s.access.TLSConfig(); config != nil && l.listener == on.Public {
			listener = tls.NewListener(listener, config)
		}
		listeners = append(listeners, listener)
	}
	failed := make(chan error, len(servers))
	for i, srv := range servers {
		go func() { failed <- srv.Serve(listeners[i]) }()
	}
	var cause error
	left := len(servers)
	select {
	case <-ctx.Done():
	case err := <-failed:
		cause = fmt.Errorf("http listener: %w", err)
		left--
	}
	close(s.stopping)
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.limits.Finish)
	defer cancel()
	for _, srv := range servers {
		if err := srv.Shutdown(drain); err != nil {
			s.log.Warn("requests were still open when the server stopped", "err", err)
			_ = srv.Close() // it closes what Shutdown already closed, too
		}
	}
	for range left {
		if err := <-failed; !errors.Is(err, http.ErrServerClosed) {
			cause = errors.Join(cause, fmt.Errorf("http listener: %w", err))
		}
	}
	return cause
}

func (s *Server) httpServer(h http.Handler) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: s.limits.HeaderTimeout,
		IdleTimeout:       s.limits.IdleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ConnContext:       withConnection,
		ConnState:         resting,
		// ReadTimeout and WriteTimeout stay off: they would end streams. Every request gets its
		// deadlines in handler.
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
}
