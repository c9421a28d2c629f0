package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/diseq/diseq/node/chain"
)

// FuzzRequests sends any request to all of the server, at either address: it must answer in the range of what a client may have done
// wrong, briefly and, below /v1, in JSON; and only a POST changes anything.
func FuzzRequests(f *testing.F) {
	for _, c := range openAPICases(f) {
		f.Add(c.request.method, c.request.path, c.request.contentType, c.request.body[:min(len(c.request.body), 2000)], "", "", false)
	}
	f.Add("GET", "/v1/stream?from=0", "", "", "text/event-stream", "", false)
	f.Add("GET", "/v1/stream", "", "", "application/x-ndjson", "1", false)
	f.Add("GET", "/v1/stream?from=18446744073709551615", "", "", "", "18446744073709551615", false)
	f.Add("GET", "/v1/blocks?from=0&limit=1000", "", "", "", "", false)
	f.Add("POST", "/v1/messages?wait=final&timeout=1ns", batchType, batchOf("a", "b"), "", "", false)
	f.Add("OPTIONS", "*", "", "", "", "", false)
	f.Add("GET", "/v1//blocks/../status", "", "", "", "", false)
	for _, path := range []string{"/metrics", "/healthz", "/readyz", "/v1/status", "/v1/validators?height=1", "/debug/pprof/"} {
		f.Add("GET", path, "", "", "", "", true)
	}
	node := newFake(f)
	node.finalize(chain.Message{Data: []byte("known")})
	server := New(Options{Backend: node, Gatherer: prometheus.NewRegistry()})
	public, operations := server.Public(), server.Operations()
	f.Fuzz(func(t *testing.T, method, target, contentType, body, accept, lastEvent string, internal bool) {
		u, err := url.ParseRequestURI(target)
		if err != nil {
			return // net/http answers these itself
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond) // streams and waits end with their client
		defer cancel()
		r, err := http.NewRequestWithContext(ctx, method, "http://localhost/", strings.NewReader(body))
		if err != nil {
			return
		}
		r.URL = u
		r.Header.Set("Content-Type", contentType)
		r.Header.Set("Accept", accept)
		r.Header.Set("Last-Event-ID", lastEvent)
		node.mu.Lock()
		node.pending = nil
		node.mu.Unlock()
		w := httptest.NewRecorder()
		if internal {
			operations.ServeHTTP(w, r)
		} else {
			public.ServeHTTP(w, r)
		}
		if w.Code < 200 || w.Code >= 500 {
			t.Errorf("%s %q: %d %q", method, target, w.Code, w.Body)
		}
		if w.Code >= 400 {
			checkRefusal(t, w, u.Path, len(target)+len(contentType)+len(lastEvent)+len(body))
		}
		if kind := w.Header().Get("Content-Type"); kind == jsonType && !json.Valid(w.Body.Bytes()) {
			t.Errorf("%s %q: %d %q is not JSON", method, target, w.Code, w.Body)
		}
		node.mu.Lock()
		defer node.mu.Unlock()
		if len(node.pending) > 0 && (method != http.MethodPost || w.Code >= 400 || internal) {
			t.Errorf("%s %q is answered with %d, and %d messages were taken", method, target, w.Code, len(node.pending))
		}
	})
}

// checkRefusal holds the answer to a mistake to its form: it may repeat what was said, but not at any length.
func checkRefusal(t *testing.T, w *httptest.ResponseRecorder, path string, said int) {
	if limit := 1024 + 6*said; w.Body.Len() > limit {
		t.Errorf("%d: %d bytes, want at most %d", w.Code, w.Body.Len(), limit)
	}
	if w.Code == http.StatusMethodNotAllowed && w.Header().Get("Allow") == "" {
		t.Error("405 without the methods that are allowed")
	}
	if (w.Code == http.StatusTooManyRequests || w.Code == http.StatusServiceUnavailable) && w.Header().Get("Retry-After") == "" {
		t.Errorf("%d does not say when to try again", w.Code)
	}
	if path != "/v1" && !strings.HasPrefix(path, "/v1/") {
		return
	}
	var answer struct {
		Error struct{ Code, Message string }
	}
	if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil || answer.Error.Code == "" || answer.Error.Message == "" {
		t.Errorf("%d %q has no code and message: %v", w.Code, w.Body, err)
	}
}

// FuzzDecodeBatch: what is accepted encodes to messages of the same bytes, and nothing is read beyond the body.
func FuzzDecodeBatch(f *testing.F) {
	f.Add([]byte(batchOf("a", "", strings.Repeat("b", 200))))
	f.Add([]byte("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01a"))
	f.Add([]byte("\x80\x00"))
	f.Fuzz(func(t *testing.T, body []byte) {
		messages, err := decodeBatch(body)
		var answer *apiError
		if err != nil {
			if !errors.As(err, &answer) || answer.status != 400 && answer.status != 413 {
				t.Errorf("error %v is not the client's", err)
			}
			return
		}
		size, texts := 0, make([]string, len(messages))
		for i, m := range messages {
			size += len(m)
			texts[i] = string(m)
		}
		if size > len(body) || len(messages) > maxBatchMessages {
			t.Errorf("%d messages of %d bytes from a body of %d", len(messages), size, len(body))
		}
		again, err := decodeBatch([]byte(batchOf(texts...)))
		if err != nil || len(again) != len(messages) {
			t.Errorf("encoded again: %d messages, %v", len(again), err)
		}
	})
}

// FuzzDecodeLegacyMessage: what is accepted is what encoding/json reads, and what is refused as syntax is no JSON.
func FuzzDecodeLegacyMessage(f *testing.F) {
	for _, body := range []string{
		`{"data":[1,2,3],"timestamp":0}`, `{"x":[{"y":[[],{}]}],"data":[0],"timestamp":1e2}`, `{"data":[256]}`, `{"timestamp":-0,"data":[]}`,
		`[`, `{"a":"\ud800"}`, `{"data":[1],"timestamp":0}x`, "\xff", `{"":-}`, `{"data":1e999}`, `{"x":[1,"b",null,true,-2.5E+3]}`,
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		m, err := decodeLegacyMessage(body)
		valid := json.Valid(body)
		var wrong *jsonError
		if err != nil {
			if !errors.As(err, &wrong) || wrong.line < 1 || wrong.column < 0 || wrong.column > len(body) {
				t.Fatalf("%q: error %#v", body, err)
			}
			// What encoding/json lets pass and RFC 8259 or a number's range does not.
			lenient := strings.Contains(wrong.what, "code point") || strings.Contains(wrong.what, "out of range")
			if valid && !wrong.data && !lenient {
				t.Errorf("%q is JSON: %v", body, err)
			}
			return
		}
		if !valid {
			t.Fatalf("%q is no JSON", body)
		}
		fields := map[string]json.RawMessage{}
		if err := json.Unmarshal(body, &fields); err != nil {
			t.Fatal(err)
		}
		var data []uint16
		if err := json.Unmarshal(fields["data"], &data); err != nil || len(data) != len(m.Data) {
			t.Fatalf("%q: data %v: %v", body, m.Data, err)
		}
		for i, v := range data {
			if v != uint16(m.Data[i]) {
				t.Fatalf("%q: data %v", body, m.Data)
			}
		}
		if again, err := decodeLegacyMessage(appendLegacy(m)); err != nil || !reflect.DeepEqual(again, m) {
			t.Errorf("%v encoded again is %v: %v", m, again, err)
		}
	})
}

func appendLegacy(m chain.Message) []byte {
	b := appendNumbers([]byte(`{"data":`), m.Data, ",")
	return fmt.Appendf(b, `,"timestamp":%d}`, m.Timestamp)
}

// FuzzDecodeSubmission: any body is answered with messages or the client's mistake, and what is accepted is JSON.
func FuzzDecodeSubmission(f *testing.F) {
	for _, body := range []string{`{"data":"YQ=="}`, `{"messages":[{"data":"YQ=="},{"x":{},"data":""}]}`, `{"messages":[{}]}`, `{"data":"\u0059Q=="}`} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		messages, err := decodeSubmission(body)
		var answer *apiError
		if err != nil {
			if !errors.As(err, &answer) || answer.status < 400 || answer.status > 422 {
				t.Errorf("error %v is not the client's", err)
			}
			return
		}
		if !json.Valid(body) {
			t.Errorf("%q is no JSON", body)
		}
		if len(messages) > maxBatchMessages {
			t.Errorf("%d messages", len(messages))
		}
	})
}
