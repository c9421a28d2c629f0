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

	"github.com/diseq/diseq/node/chain"
)

// FuzzRequests sends any request to all of the server: it must answer, never with 500, and below /v1 in JSON.
func FuzzRequests(f *testing.F) {
	for _, c := range openAPICases(f) {
		f.Add(c.request.method, c.request.path, c.request.contentType, c.request.body[:min(len(c.request.body), 2000)], "")
	}
	f.Add("GET", "/v1/stream?from=0", "", "", "text/event-stream")
	f.Add("POST", "/v1/messages?wait=final&timeout=1ns", batchType, batchOf("a", "b"), "")
	f.Add("OPTIONS", "*", "", "", "")
	f.Add("GET", "/v1//blocks/../status", "", "", "")
	node := newFake(f)
	node.finalize(chain.Message{Data: []byte("known")})
	f.Fuzz(func(t *testing.T, method, target, contentType, body, accept string) {
		u, err := url.ParseRequestURI(target)
		if err != nil {
			return // net/http answers these itself
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond) // streams and waits end with their client
		defer cancel()
		r, err := http.NewRequestWithContext(ctx, method, "http://localhost/", strings.NewReader(body))
		if err != nil {
			return
		}
		r.URL = u
		r.Header.Set("Content-Type", contentType)
		r.Header.Set("Accept", accept)
		node.mu.Lock()
		node.pending = nil
		node.mu.Unlock()
		w := httptest.NewRecorder()
		New(Options{Backend: node}).Public().ServeHTTP(w, r)
		if w.Code == http.StatusInternalServerError {
			t.Errorf("%s %q: 500", method, target)
		}
		if w.Code >= 400 && strings.HasPrefix(u.Path, "/v1/") && !json.Valid(w.Body.Bytes()) {
			t.Errorf("%s %q: %d %q is not JSON", method, target, w.Code, w.Body)
		}
	})
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
