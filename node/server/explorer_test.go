package server

import (
	"net/http"
	"strings"
	"testing"
)

// The page is beside the interface, with and without access control, and can be turned off.
func TestTheExplorerIsServedAtTheRoot(t *testing.T) {
	on := New(Options{Backend: newFake(t), Explorer: true}).Public()
	page := do(t, on, request{path: "/"})
	if page.status != 200 || !strings.Contains(page.body, "<title>DISEQ explorer</title>") ||
		!strings.Contains(page.header.Get("Content-Security-Policy"), "script-src 'self'") || page.header.Get("Cache-Control") != "no-cache" {
		t.Errorf("the page: %d, %v", page.status, page.header)
	}
	if script := do(t, on, request{path: "/explorer/app.js"}); script.status != 200 || script.header.Get("Content-Type") != "text/javascript; charset=utf-8" {
		t.Errorf("the script: %d, %v", script.status, script.header)
	}
	if head := do(t, on, request{method: http.MethodHead, path: "/"}); head.status != 200 || head.body != "" {
		t.Errorf("HEAD: %d, %d bytes", head.status, len(head.body))
	}
	for _, c := range []struct {
		method, path string
		status       int
	}{
		{http.MethodPost, "/", 405}, {http.MethodGet, "/nothing", 404}, {http.MethodGet, "/explorer/nothing.js", 404}, {http.MethodGet, "/explorer", 404},
		{http.MethodGet, "/get/height", 200}, {http.MethodGet, "/v1/status", 200}, {http.MethodGet, "/v1/nothing", 404}, {http.MethodGet, "/openapi.yaml", 200},
	} {
		got := do(t, on, request{method: c.method, path: c.path})
		if got.status != c.status || strings.Contains(got.header.Get("Content-Security-Policy"), "script-src") {
			t.Errorf("%s %s: %d, %v, want %d", c.method, c.path, got.status, got.header, c.status)
		}
	}
}

func TestTheExplorerCanBeTurnedOff(t *testing.T) {
	off := New(Options{Backend: newFake(t)}).Public()
	for _, path := range []string{"/", "/explorer/app.js"} {
		if got := do(t, off, request{path: path}); got.status != 404 || got.body != "no such route: "+path {
			t.Errorf("%s: %d %s", path, got.status, got.body)
		}
	}
}

// The page says nothing of the chain: it has to open before its reader can enter a token. The
// operations listener does not have it.
func TestTheExplorerOpensWithoutACredential(t *testing.T) {
	c := control(t, everyRight, []string{"reader"})
	s := New(Options{Backend: newFake(t), Access: c.control, Explorer: true})
	if got := do(t, s.Public(), request{path: "/"}); got.status != 200 {
		t.Errorf("the page: %d", got.status)
	}
	if got := do(t, s.Public(), request{path: "/v1/status"}); got.status != 401 {
		t.Errorf("the status, which is asked for next: %d", got.status)
	}
	for name, h := range map[string]http.Handler{"operations": s.Operations(), "probes": s.Probes()} {
		if got := do(t, h, request{path: "/"}); got.status != 404 {
			t.Errorf("the %s listener: %d", name, got.status)
		}
	}
}
