package server

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/diseq/diseq/node/chain"
)

// FuzzRequests sends any request to all of the server, at either address: it must answer in the
// range of what a client may have done wrong, briefly and, below /v1, in JSON; and only a POST
// changes anything.
//
// Promise 47.
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
		// streams and waits end with their client
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
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

// checkRefusal holds the answer to a mistake to its form: it may repeat what was said, but not at
// any length.
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

// FuzzDecodeBatch: what is accepted are the messages that encoding/binary reads, and the same when
// they are encoded again; what is refused it does not read either, or is too many.
//
// Promise 37.
func FuzzDecodeBatch(f *testing.F) {
	f.Add([]byte(batchOf("a", "", strings.Repeat("b", 200))))
	f.Add([]byte("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01a"))
	f.Add([]byte("\x80\x00"))
	f.Fuzz(func(t *testing.T, body []byte) {
		messages, err := decodeBatch(body)
		want, wrong := modelBatch(body)
		if accepted := wrong == nil && len(want) <= maxBatchMessages; (err == nil) != accepted || accepted && !slices.EqualFunc(messages, want, bytes.Equal) {
			t.Errorf("%q is read as %q (%v), want %q (%v)", body, messages, err, want, wrong)
		}
		var answer *apiError
		if err != nil {
			if !errors.As(err, &answer) || answer.status != 400 && answer.status != 413 {
				t.Errorf("error %v is not the client's", err)
			}
			return
		}
		texts := make([]string, len(messages))
		for i, m := range messages {
			texts[i] = string(m)
		}
		if again, err := decodeBatch([]byte(batchOf(texts...))); err != nil || !slices.EqualFunc(again, messages, bytes.Equal) {
			t.Errorf("%q encoded again is %q: %v", messages, again, err)
		}
	})
}

// modelBatch reads a batch as encoding/binary reads a stream.
func modelBatch(body []byte) (messages [][]byte, err error) {
	for in := bytes.NewReader(body); in.Len() > 0; {
		length, err := binary.ReadUvarint(in)
		if err != nil || length > uint64(in.Len()) {
			return nil, fmt.Errorf("length %d of %d bytes: %w", length, in.Len(), err)
		}
		m := make([]byte, length)
		_, _ = io.ReadFull(in, m) // it holds as many
		messages = append(messages, m)
	}
	return messages, nil
}

// lenient reports whether encoding/json accepts a body although it is not the UTF-8 of RFC 8259.
func lenient(reason string) bool {
	return strings.Contains(reason, "UTF-8") || strings.Contains(reason, "surrogate") || strings.Contains(reason, "escape sequence")
}

// FuzzDecodeLegacyMessage: encoding/json reads the same message from every body that is accepted,
// and a body that is refused for its syntax is not JSON.
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
			if !errors.As(err, &wrong) || wrong.reason == "" {
				t.Fatalf("%q: error %#v", body, err)
			}
			if valid && !wrong.wrongType && !lenient(wrong.reason) {
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

// modelSubmission reads a submission with encoding/json.
func modelSubmission(body []byte) (messages [][]byte, ok bool) {
	if !json.Valid(body) {
		return nil, false
	}
	object := func(raw []byte, each func(key string, value json.RawMessage) bool) bool {
		d := json.NewDecoder(bytes.NewReader(raw))
		if start, _ := d.Token(); start != json.Delim('{') {
			return false
		}
		for d.More() {
			key, _ := d.Token()
			var value json.RawMessage
			if d.Decode(&value) != nil || !each(key.(string), value) {
				return false
			}
		}
		return true
	}
	data := func(value json.RawMessage) (b []byte, ok bool) {
		var text *string
		if json.Unmarshal(value, &text) != nil || text == nil {
			return nil, false
		}
		b, err := base64.StdEncoding.Strict().DecodeString(*text)
		return b, err == nil && !strings.ContainsAny(*text, "\r\n")
	}
	one, many := false, false
	ok = object(body, func(key string, value json.RawMessage) bool {
		switch {
		case key == "data" && !one:
			one = true
			b, ok := data(value)
			messages = [][]byte{b}
			return ok
		case key == "messages" && !many:
			many, messages = true, nil
			var list []json.RawMessage
			if json.Unmarshal(value, &list) != nil || list == nil || len(list) > maxBatchMessages {
				return false
			}
			for _, m := range list {
				var b []byte
				has, right := false, true
				isObject := object(m, func(key string, value json.RawMessage) bool {
					if key != "data" || has {
						right = false
						return false
					}
					has = true
					b, right = data(value)
					return right
				})
				if !isObject || !has {
					return false
				}
				messages = append(messages, b)
			}
			return true
		}
		return false
	})
	return messages, ok && one != many
}

// FuzzDecodeSubmission: any body is answered with the messages that encoding/json reads in it, or
// the client's mistake, and then encoding/json reads none either.
//
// Promise 37.
func FuzzDecodeSubmission(f *testing.F) {
	for _, body := range []string{
		`{"data":"YQ=="}`, `{"messages":[{"data":"YQ=="},{"x":{},"data":""}]}`, `{"messages":[{}]}`, `{"data":"\u0059Q=="}`,
		`{"data":"YQ==","data":"Yg=="}`, `{"data":"YQ==","messages":[]}`, `{"messages":null}`, `{"Data":"YQ=="}`, `{"messages":[{"data":"YR=="}]}`,
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		messages, err := decodeSubmission(body)
		want, ok := modelSubmission(body)
		var answer *apiError
		if err != nil {
			if !errors.As(err, &answer) || answer.status < 400 || answer.status > 422 {
				t.Fatalf("error %v is not the client's", err)
			}
			if ok && !lenient(answer.message) {
				t.Errorf("%q is a submission of %q: %v", body, want, err)
			}
			return
		}
		if !ok || !slices.EqualFunc(messages, want, bytes.Equal) {
			t.Errorf("%q is read as %q, want %q (%v)", body, messages, want, ok)
		}
	})
}

// FuzzDecodeLegacyKey: a key is an array of 256 numbers that encoding/json reads as 0 or 1; no
// other body is.
//
// Promise 37.
func FuzzDecodeLegacyKey(f *testing.F) {
	key := func(bits ...string) []byte {
		all := slices.Repeat([]string{"0"}, keyBits)
		copy(all[keyBits-len(bits):], bits)
		return []byte("[" + strings.Join(all, ",") + "]")
	}
	for _, body := range [][]byte{
		key(), key("1", "0", " 1\n"), key("2"), key("1e0"), key("-0"), key("null"), key("\"1\""), append(key(), 'x'), key()[:100], []byte("[]"), []byte("{}"),
		key("1,1"),
	} {
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		got, err := decodeLegacyKey(body)
		var wrong *jsonError
		if err != nil && (!errors.As(err, &wrong) || wrong.reason == "") {
			t.Fatalf("%q: error %#v", body, err)
		}
		var bits []json.RawMessage
		fit := json.Unmarshal(body, &bits) == nil && len(bits) == keyBits
		var want chain.Hash
		for i := 0; fit && i < len(bits); i++ {
			if fit = string(bits[i]) == "0" || string(bits[i]) == "1"; string(bits[i]) == "1" {
				want[i/8] |= 0x80 >> (i % 8)
			}
		}
		if (err == nil) != fit || fit && got != want {
			t.Errorf("%q is read as %v (%v), want %v (%v)", body, got, err, want, fit)
		}
	})
}
