package server

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"strings"
	"testing"
)

// bodies are requests with a body that each route takes.
func bodies() map[string]request {
	json := func(path, body string) request {
		return request{method: http.MethodPost, path: path, contentType: jsonType, body: body}
	}
	return map[string]request{
		"octets":       post(octets, "m"),
		"batch":        post(batchType, batchOf("a", "b")),
		"json":         json("/v1/messages", `{"data":"YQ=="}`),
		"schedule":     json("/schedule", `{"data":[1],"timestamp":0}`),
		"merkle_proof": json("/merkle_proof", "["+strings.Repeat("0,", keyBits-1)+"0]"),
	}
}

func with(name string, values ...string) http.Header {
	return http.Header{http.CanonicalHeaderKey(name): values}
}

// Promise 47.
func TestWhatChangesTheMeaningOfABodyIsRefusedWhereItIsNotUnderstood(t *testing.T) {
	for _, c := range []struct {
		header  http.Header
		status  int
		code    string
		message string
	}{
		{with("Content-Encoding", "gzip"), 415, "unsupported_encoding", "gzip"},
		{with("Content-Encoding", "identity, br"), 415, "unsupported_encoding", "identity"},
		{with("Content-Encoding", "identity", "Deflate"), 415, "unsupported_encoding", "Deflate"},
		{with("Content-Transfer-Encoding", "base64"), 415, "unsupported_encoding", "base64"},
		{with("Content-Range", "bytes 0-4/10"), 400, "partial_content", "Content-Range"},
		{with("If-Match", `"x"`), 412, "precondition_failed", "If-Match"},
	} {
		for name, q := range bodies() {
			f := newFake(t)
			q.header = c.header
			s := New(Options{Backend: f})
			got := do(t, s.Public(), q)
			if got.status != c.status || !strings.Contains(got.body, c.message) || len(f.pending) != 0 {
				t.Errorf("%s with %v: %d %s, %d messages submitted", name, c.header, got.status, got.body, len(f.pending))
				continue
			}
			if strings.HasPrefix(q.path, "/v1") && got.errorCode(t) != c.code {
				t.Errorf("%s with %v: %s, want the code %s", name, c.header, got.body, c.code)
			}
			if c.status == 415 && got.header.Get("Accept-Encoding") != "identity" {
				t.Errorf("%s with %v: Accept-Encoding is %q", name, c.header, got.header.Get("Accept-Encoding"))
			}
		}
	}
}

func TestHeadersWithoutAMeaningForTheBodyAreIgnored(t *testing.T) {
	for _, header := range []http.Header{
		with("Content-Encoding", "identity"), with("Content-Encoding", ""), with("Content-Encoding", "Identity, identity"),
		with("Content-Transfer-Encoding", "binary"), with("Content-Transfer-Encoding", "8bit"), with("Content-Language", "de"),
		with("If-None-Match", "*"), with("Range", "bytes=0-1"), with("Accept-Encoding", "gzip"), with("Content-Disposition", "attachment"),
	} {
		for name, q := range bodies() {
			f := newFake(t)
			q.header = header
			// there is no proof in the fake: the request is understood, and nothing is found
			if got := do(t, New(Options{Backend: f}).Public(), q); got.status/100 != 2 && got.status != 404 {
				t.Errorf("%s with %v: %d %s", name, header, got.status, got.body)
			}
		}
	}
}

func TestParametersOfAContentTypeAreUnderstoodOrRefused(t *testing.T) {
	for contentType, body := range map[string]string{
		"application/json;charset=UTF-8": `{"data":"YQ=="}`, `application/json; charset="utf-8"`: `{"data":"YQ=="}`,
		"application/json; charset=us-ascii": `{"data":"YQ=="}`, "application/json; profile=x": `{"data":"YQ=="}`,
		"application/octet-stream; charset=utf-8": "m", "application/vnd.diseq.batch; charset=utf-8": batchOf("m"),
		"Application/Octet-Stream": "m",
	} {
		f := newFake(t)
		if got := do(t, New(Options{Backend: f}).Public(), post(contentType, body)); got.status != 202 || len(f.pending) != 1 {
			t.Errorf("%s: %d %s", contentType, got.status, got.body)
		}
	}
	for _, q := range []request{
		post("application/json; charset=utf-16", `{"data":"YQ=="}`),
		post("application/json; charset=iso-8859-1", `{"data":"YQ=="}`),
		post("application/octet-stream; charset=utf-16", "m"),
		post("application/octet-stream; padding=3", "m"),
		post("application/vnd.diseq.batch; version=2", batchOf("m")),
		post("application/octet-stream; charset", "m"),
		post("application/octet-stream, application/json", "m"),
		{method: http.MethodPost, path: "/v1/messages", body: "m", header: with("Content-Type", octets, jsonType)},
		{method: http.MethodPost, path: "/schedule", contentType: "application/json; charset=utf-16", body: `{"data":[1],"timestamp":0}`},
		{method: http.MethodPost, path: "/schedule", body: `{"data":[1],"timestamp":0}`, header: with("Content-Type", jsonType, jsonType)},
	} {
		f := newFake(t)
		if got := do(t, New(Options{Backend: f}).Public(), q); got.status != 415 || len(f.pending) != 0 {
			t.Errorf("%s %v: %d %s", q.contentType, q.header, got.status, got.body)
		}
	}
}

// A message is ordered for ever: the bytes of a compressed one would be.
func TestACompressedMessageIsNotOrderedAsItsBytes(t *testing.T) {
	f := newFake(t)
	url, _ := listen(t, New(Options{Backend: f}))
	var compressed bytes.Buffer
	w := gzip.NewWriter(&compressed)
	if _, err := io.WriteString(w, "message"); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/v1/messages", &compressed)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", octets)
	r.Header.Set("Content-Encoding", "gzip")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusUnsupportedMediaType || len(f.pending) != 0 {
		t.Errorf("status %d, %d messages submitted", resp.StatusCode, len(f.pending))
	}
}

// These are net/http's to refuse.
func TestTransferCodingsAndExpectationsAreUnderstoodOrRefused(t *testing.T) {
	f := newFake(t)
	url, _ := listen(t, New(Options{Backend: f}))
	const head = "POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/octet-stream\r\n"
	for name, c := range map[string]struct{ rest, want string }{
		"a transfer coding":        {"Transfer-Encoding: gzip, chunked\r\n\r\n1\r\na\r\n0\r\n\r\n", "501"},
		"another coding alone":     {"Transfer-Encoding: gzip\r\n\r\na", "501"},
		"an expectation":           {"Expect: the-worst\r\nContent-Length: 1\r\n\r\na", "417"},
		"two lengths":              {"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", "400"},
		"chunks":                   {"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n", "202"},
		"the expectation there is": {"Expect: 100-continue\r\nContent-Length: 1\r\n\r\nb", "202"},
	} {
		conn := dial(t, url)
		send(t, conn, head+c.rest)
		if got := closed(t, conn); !strings.Contains(got, " "+c.want+" ") {
			t.Errorf("%s: %q, want %s", name, got, c.want)
		}
	}
	if len(f.pending) != 2 {
		t.Errorf("%d messages submitted, want 2", len(f.pending))
	}
}

func TestAQueryThatIsCutInPiecesIsRefused(t *testing.T) {
	f := newFake(t)
	h := New(Options{Backend: f}).Public()
	for _, path := range []string{"/v1/messages?wait=final;timeout=3s", "/v1/messages?wait=%zz"} {
		q := post(octets, "m")
		q.path = path
		if got := do(t, h, q); got.status != 400 || got.errorCode(t) != "malformed" || len(f.pending) != 0 {
			t.Errorf("%s: %d %s", path, got.status, got.body)
		}
	}
	if got := do(t, h, request{path: "/v1/blocks?from=1;limit=2"}); got.status != 400 {
		t.Errorf("%d %s", got.status, got.body)
	}
}
