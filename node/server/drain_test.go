package server

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/diseq/diseq/node/chain"
)

// ask sends a request over a client and returns the answer, read to its end.
func ask(t *testing.T, c *http.Client, method, url, body string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", octets)
	answer, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(answer.Body)
	if err != nil || answer.Body.Close() != nil {
		t.Fatal(err)
	}
	return answer, string(text)
}

// drained is a server that drains until end is called; then it stops.
func drained(t *testing.T, s *Server, stop func()) (end func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Drain(ctx, time.Hour)
	}()
	for !s.leaves() {
		time.Sleep(time.Millisecond)
	}
	return func() {
		cancel()
		<-done
		stop()
	}
}

// A node that is about to stop says that it is not ready, serves whoever comes, and asks those who
// keep their connection to open another one. Then it refuses.
//
// Promise 78.
func TestADrainingNodeServesAndSendsItsClientsAway(t *testing.T) {
	f := newFake(t)
	s := New(Options{Backend: f})
	url, stop := listen(t, s)
	kept := &http.Client{Transport: &http.Transport{}}
	if answer, text := ask(t, kept, http.MethodGet, url+"/readyz", ""); answer.StatusCode != http.StatusOK || answer.Close {
		t.Fatalf("before: %s %q, closes %v", answer.Status, text, answer.Close)
	}
	end := drained(t, s, stop)
	for _, c := range []struct {
		method, path, want string
		status             int
	}{
		{http.MethodGet, "/readyz", "stopping", http.StatusServiceUnavailable},
		{http.MethodGet, "/healthz", "ok", http.StatusOK},
		{http.MethodGet, "/v1/status", `"ready":false,"reason":"stopping"`, http.StatusOK},
		{http.MethodPost, "/v1/messages", `"pending"`, http.StatusAccepted},
		{http.MethodGet, "/get/height", "1", http.StatusOK},
		{http.MethodGet, "/v1/none", "no_such_route", http.StatusNotFound},
	} {
		for name, client := range map[string]*http.Client{"kept": kept, "new": {Transport: &http.Transport{}}} {
			answer, text := ask(t, client, c.method, url+c.path, name+c.path)
			if answer.StatusCode != c.status || !strings.Contains(text, c.want) || !answer.Close {
				t.Errorf("%s %s over a %s connection: %s %q, closes %v", c.method, c.path, name, answer.Status, text, answer.Close)
			}
		}
	}
	if got := do(t, s.Operations(), request{path: "/readyz"}); got.status != http.StatusServiceUnavailable || got.body != stoppingReason {
		t.Errorf("the operations listener answers %+v", got)
	}
	end()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/healthz", nil)
	if err != nil {
		t.Fatal(err)
	}
	if answer, err := kept.Do(r); err == nil {
		_ = answer.Body.Close()
		t.Error("it answers after it has stopped")
	}
}

// Streams live through the drain, and end between two blocks: a reader loses nothing, whether it
// has seen a block or not.
//
// Promise 45.
// Promise 78.
func TestStreamsEndInOrderAfterTheDrain(t *testing.T) {
	f := newFake(t)
	f.finalize(chain.Message{Data: []byte("a")})
	s := New(Options{Backend: f})
	url, stop := listen(t, s)
	sse := http.Header{"Accept": {"text/event-stream"}}
	before, lines := open(t, url+"/v1/stream?from=1", sse), open(t, url+"/v1/stream?from=1", nil)
	end := drained(t, s, stop)
	f.finalize(chain.Message{Data: []byte("b")})
	during := open(t, url+"/v1/stream", sse) // it waits for height 3
	// until the first two have sent the block
	read := func(r *http.Response, until string) (got string) {
		t.Helper()
		b := make([]byte, 1)
		for !strings.Contains(got, until) {
			if _, err := r.Body.Read(b); err != nil {
				t.Fatalf("%q, %v", got, err)
			}
			got += string(b)
		}
		return got
	}
	read(before, "id: 2\n")
	read(lines, `"height":2`)
	end()
	for name, r := range map[string]*http.Response{"events": before, "lines": lines, "events begun meanwhile": during} {
		rest, err := io.ReadAll(r.Body)
		if err != nil || name != "events begun meanwhile" && !strings.HasSuffix(string(rest), "}\n") && !strings.HasSuffix(string(rest), "}\n\n") {
			t.Errorf("%s end with %q, %v", name, rest, err)
		}
		if name == "events begun meanwhile" && string(rest) != "id: 2\n\n" {
			t.Errorf("%s: %q", name, rest)
		}
	}
	// Another node goes on where it ended.
	other, _ := listen(t, New(Options{Backend: f}))
	f.finalize(chain.Message{Data: []byte("c")})
	read(open(t, other+"/v1/stream", http.Header{"Accept": {"text/event-stream"}, "Last-Event-ID": {"2"}}), "id: 3\n")
}
