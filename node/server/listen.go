package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/net/netutil"
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

// Serve answers on both listeners (operations may be nil) until ctx ends or one of them fails, then
// stops accepting, ends streams and waits, lets open requests finish for at most Limits.Finish, and
// closes the listeners. It returns nil if ctx ended it. It can be called once.
func (s *Server) Serve(ctx context.Context, public, operations net.Listener) error {
	servers := []*http.Server{s.httpServer(s.public)}
	listeners := []net.Listener{public}
	if operations != nil {
		servers, listeners = append(servers, s.httpServer(s.operations)), append(listeners, operations)
	}
	failed := make(chan error, len(servers))
	for i, srv := range servers {
		l := netutil.LimitListener(listeners[i], s.limits.Connections)
		go func() { failed <- srv.Serve(l) }()
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
		// ReadTimeout and WriteTimeout stay off: they would end streams. Every request gets its
		// deadlines in handler.
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
}
