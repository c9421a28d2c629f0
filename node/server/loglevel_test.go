package server

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestTheLogLevelChangesOnTheOperationsListenerAlone(t *testing.T) {
	var level slog.LevelVar
	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: &level}))
	s := New(Options{Backend: newFake(t), Logger: logger, LogLevel: &level})
	ask := func(h http.Handler, method, body string) (int, string) {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(method, "/log-level", strings.NewReader(body)))
		return w.Code, strings.TrimSpace(w.Body.String())
	}

	logger.Debug("before")
	if code, got := ask(s.Operations(), http.MethodPut, "debug\n"); code != http.StatusOK || got != "debug" {
		t.Errorf("PUT debug: %d %s", code, got)
	}
	logger.Debug("after")
	if said := log.String(); strings.Contains(said, "before") || !strings.Contains(said, "after") || !strings.Contains(said, "from=info to=debug") {
		t.Errorf("the log says:\n%s", said)
	}

	for _, body := range []string{"", "loud", "DEBUG", "debug+1", strings.Repeat("x", 100)} {
		if code, got := ask(s.Operations(), http.MethodPut, body); code/100 != 4 {
			t.Errorf("PUT %q: %d %s", body, code, got)
		}
	}
	if code, got := ask(s.Operations(), http.MethodGet, ""); code != http.StatusOK || got != "debug" {
		t.Errorf("GET: %d %s", code, got)
	}
	if code, _ := ask(s.Operations(), http.MethodPost, "info"); code != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", code)
	}
	if code, _ := ask(s.Public(), http.MethodPut, "info"); code != http.StatusNotFound {
		t.Errorf("PUT on the public listener: %d", code)
	}
}

// Promise 47.
func TestALogLevelIsNotReadFromABodyWhoseHeadersAreNotUnderstood(t *testing.T) {
	for _, c := range []struct {
		header http.Header
		status int
	}{
		{with("Content-Encoding", "gzip"), http.StatusUnsupportedMediaType},
		{with("Content-Type", "text/plain; charset=utf-16"), http.StatusUnsupportedMediaType},
		{with("Content-Range", "bytes 0-4/10"), http.StatusBadRequest},
		{with("If-Match", `"x"`), http.StatusPreconditionFailed},
		{with("Content-Type", "application/x-www-form-urlencoded"), http.StatusOK}, // as curl -d says
		{nil, http.StatusOK},
	} {
		var level slog.LevelVar
		s := New(Options{Backend: newFake(t), LogLevel: &level})
		got := do(t, s.Operations(), request{method: http.MethodPut, path: "/log-level", body: "debug", header: c.header})
		if changed := level.Level() == slog.LevelDebug; got.status != c.status || changed != (c.status == http.StatusOK) {
			t.Errorf("%v: %d %s, the level is %v", c.header, got.status, got.body, level.Level())
		}
	}
}
