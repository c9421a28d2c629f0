package server

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// A listener on loopback is for programs of its machine. A browser is one of them, and a page that
// it shows may have a name that leads to 127.0.0.1: the browser then lets the page read the
// answers (DNS rebinding). Such requests have the name of the page as their Host.

// ofMachine answers requests to a listener on loopback whose Host is an address, localhost, or one
// of hosts.
func (s *Server) ofMachine(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.leadsHere(r.Host) {
			h.ServeHTTP(w, r)
			return
		}
		s.metrics.rejected.WithLabelValues(misdirected).Inc()
		safeHeaders(w.Header())
		// The body is not read. A client that stalls in it must not hold the connection.
		w.Header().Set("Connection", "close")
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(s.limits.HeaderTimeout))
		writeJSONError(w, &apiError{
			status: http.StatusMisdirectedRequest, code: misdirected,
			message: "this node listens on loopback: ask 127.0.0.1 or localhost, or add the name of this Host to hosts in node.yaml",
		})
	})
}

const misdirected = "misdirected"

func (s *Server) leadsHere(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return true // no name leads anywhere
	}
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	return host == "" || host == "localhost" || strings.HasSuffix(host, ".localhost") || slices.Contains(s.hosts, host)
}

func onLoopback(l net.Listener) bool {
	address, err := netip.ParseAddrPort(l.Addr().String())
	return err == nil && address.Addr().Unmap().IsLoopback()
}

// safeHeaders keep a browser from taking an answer for a page, and caches from keeping it: the same
// question has another answer a moment later.
func safeHeaders(h http.Header) {
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	h.Set("Cache-Control", "no-store")
}
