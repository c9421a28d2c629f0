package server

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
)

// A page whose name leads to loopback reads nothing, on no listener. Programs of the machine ask
// for an address or for localhost.
func TestAListenerOnLoopbackAnswersItsOwnNamesAlone(t *testing.T) {
	s := New(Options{Backend: newFake(t), Hosts: []string{"node.example"}})
	url, _ := listen(t, s)
	for host, want := range map[string]int{
		"": 200, "127.0.0.1": 200, "127.0.0.1:18080": 200, "[::1]:18080": 200, "[::1]": 200, "localhost": 200, "LocalHost:18080": 200,
		"localhost.": 200, "v0.localhost:1": 200, "node.example": 200, "node.example:443": 200, "NODE.example.": 200,
		"evil.example": 421, "evil.example:18080": 421, "127.0.0.1.evil.example": 421, "localhost.evil.example": 421,
		"other.node.example": 421, "evillocalhost": 421, "127.1": 421,
	} {
		c := dial(t, url)
		send(t, c, fmt.Sprintf("GET /v1/status HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", host))
		got := closed(t, c)
		if !strings.HasPrefix(got, fmt.Sprintf("HTTP/1.1 %d ", want)) || want == 421 && !strings.Contains(got, `"misdirected"`) {
			t.Errorf("%q: want %d, got %.300s", host, want, got)
		}
	}
	// Other addresses are reached by names that the node does not know.
	for address, want := range map[pipeAddr]bool{"192.0.2.1:80": false, "[::]:80": false, "0.0.0.0:80": false, "[::1]:80": true} {
		if got := onLoopback(&namedListener{addr: address}); got != want {
			t.Errorf("%s is on loopback: %v", address, got)
		}
	}
}

type namedListener struct {
	pipes
	addr pipeAddr
}

func (l *namedListener) Addr() net.Addr { return l.addr }

// No browser takes an answer for a page, and no cache keeps it.
func TestEveryAnswerHasTheSafeHeaders(t *testing.T) {
	s := New(Options{Backend: newFake(t)})
	for _, h := range []http.Handler{s.Public(), s.Operations(), s.Probes()} {
		for _, path := range []string{"/v1/status", "/get/pool", "/readyz", "/<script>alert(1)</script>", "/v1/<b>", "/v1/stream", "/openapi.yaml"} {
			got := do(t, h, request{method: http.MethodHead, path: path})
			for name, want := range map[string]string{
				"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store",
				"Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
			} {
				if got.header.Get(name) != want {
					t.Errorf("%s: %s is %q", path, name, got.header.Get(name))
				}
			}
		}
	}
}
