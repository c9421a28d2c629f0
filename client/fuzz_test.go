package client

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/diseq/diseq/internal/document"
	"github.com/diseq/diseq/internal/document/documenttest"
	"github.com/diseq/diseq/node/chain"
)

// answering gives every request the same answer.
type answering struct {
	status int
	header http.Header
	body   string
}

func (a answering) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{
		StatusCode: a.status, Status: strconv.Itoa(a.status), Header: a.header.Clone(), Body: io.NopCloser(strings.NewReader(a.body)), Request: r,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}, nil
}

// FuzzAnswers takes whatever a node, or something between, answers to each call: it is taken as
// JSON says it, or refused with an error that is no longer than what was answered, and never waits
// longer than it may.
//
// Promise 37.
func FuzzAnswers(f *testing.F) {
	f.Add(200, "", []byte(`{"header":{"height":3},"messages":[]}`))
	f.Add(200, "", []byte(`{"blocks":[],"next":7}`))
	f.Add(200, "", []byte(`{"changes":[{"header":{"height":3},"next":{"generation":1},"endorsements":[]}],"next":null}`))
	f.Add(429, "7", []byte(`{"error":{"code":"pool_full","message":"later"}}`))
	f.Add(503, "Fri, 31 Dec 9999 23:59:59 GMT", []byte("<html>"))
	f.Add(404, "99999999999", []byte("null"))
	f.Fuzz(func(t *testing.T, status int, retryAfter string, body []byte) {
		if status < 100 || status > 999 || status >= 300 && status < 400 {
			return // net/http keeps these to itself
		}
		c, err := New("http://node")
		if err != nil {
			t.Fatal(err)
		}
		c.HTTP = &http.Client{Transport: answering{status, http.Header{"Retry-After": {retryAfter}}, string(body)}}
		for _, out := range []any{
			&chain.Genesis{}, &Status{}, &Validators{}, &Block{}, &chain.Receipt{}, &Message{}, &Proof{}, &changesPage{},
		} {
			err := c.once(t.Context(), c.nodes[0], get("/v1/x", out))
			fresh := reflect.New(reflect.TypeOf(out).Elem()).Interface()
			if status/100 == 2 && ((err == nil) != (document.UnmarshalAnswer(body, fresh) == nil) || err == nil && !reflect.DeepEqual(out, fresh)) {
				t.Errorf("%T: %+v, error %v for %q", out, out, err, body)
			}
			refused, ok := errors.AsType[*Error](err)
			if ok == (status/100 == 2) {
				t.Errorf("error %v of status %d", err, status)
			}
			if !ok {
				continue
			}
			if len(refused.Message) > max(len(body), 64) {
				t.Errorf("message of %d bytes for an answer of %d", len(refused.Message), len(body))
			}
			if refused.Status != status || refused.RetryAfter < 0 || refused.RetryAfter > maxRetryAfter {
				t.Errorf("%+v of status %d, Retry-After %q", refused, status, retryAfter)
			}
		}
	})
}

// FuzzVerify reads anything as a block and as a proof: none but what was signed verifies. A block
// that verifies has the messages that were signed for, and a proof says of a message that it is
// ordered exactly if it is.
func FuzzVerify(f *testing.F) {
	genesis := documenttest.Read(f, refusedFile, "genesis").Accepted[0]
	g, err := chain.ReadGenesis(bytes.NewReader(genesis.Bytes()))
	if err != nil {
		f.Fatal(err)
	}
	signed, ordered := map[chain.Hash]bool{}, map[chain.Hash]bool{}
	for _, m := range testMessages() {
		ordered[m.ID()] = true
	}
	for _, s := range documenttest.Read(f, refusedFile, "block", "proof").Accepted {
		f.Add(s.Bytes())
		var b Block
		if s.Kind == "block" && document.UnmarshalAnswer(s.Bytes(), &b) == nil {
			signed[b.HeaderHash] = true
		}
		var p Proof
		if s.Kind == "proof" && document.UnmarshalAnswer(s.Bytes(), &p) == nil {
			signed[p.Header.Hash()] = true
		}
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		var b Block
		if document.UnmarshalAnswer(in, &b) == nil && b.Verify(g, 0) == nil {
			if !signed[b.HeaderHash] || b.Header.Hash() != b.HeaderHash {
				t.Errorf("block %v verifies: %s", b.HeaderHash, in)
			}
			for _, m := range b.Messages {
				if !ordered[m.Message.ID()] || m.ID != m.Message.ID() {
					t.Errorf("message %v verifies: %s", m.ID, in)
				}
			}
		}
		var p Proof
		if document.UnmarshalAnswer(in, &p) == nil && p.Verify(g, 0) == nil && (!signed[p.Header.Hash()] || p.Included != ordered[p.ID]) {
			t.Errorf("message %v is ordered: %v, says %s", p.ID, p.Included, in)
		}
	})
}

// FuzzStream reads any bytes as a stream: the blocks come in order and without a gap, each as the
// line that it came as.
//
// Promise 37.
func FuzzStream(f *testing.F) {
	f.Add(uint64(3), []byte(line(3)+line(4)+"\n"+line(5)))
	f.Add(uint64(3), []byte(line(3)+line(5)))
	f.Add(uint64(Live), []byte(line(9)+line(10)+line(3)))
	f.Add(uint64(0), []byte(`{"header":{"height":0}}`))
	f.Fuzz(func(t *testing.T, from uint64, body []byte) {
		c, err := New("http://node")
		if err != nil {
			t.Fatal(err)
		}
		c.HTTP = &http.Client{Transport: answering{http.StatusOK, nil, string(body)}}
		next, rest := from, body
		s := &stream{client: c, next: from, pauses: newPauses(), each: func(height uint64, line []byte) error {
			if next != Live && height != next {
				t.Fatalf("block %d where %d is due", height, next)
			}
			next = height + 1
			at := bytes.Index(rest, append(bytes.Clone(line), '\n'))
			if at < 0 || strings.Trim(string(rest[:at]), "\n") != "" {
				t.Fatalf("line %q does not come next in %q", line, rest)
			}
			rest = rest[at+len(line)+1:]
			var b struct{ Header struct{ Height uint64 } }
			if json.Unmarshal(line, &b) == nil && utf8.Valid(line) && bytes.Count(line, []byte("eight")) == 1 && b.Header.Height != height {
				t.Fatalf("height %d of %q", height, line)
			}
			return nil
		}}
		if err := s.follow(t.Context(), c.nodes[0]); err == nil {
			t.Fatal("the end of a stream is no error")
		}
		if s.next != next {
			t.Fatalf("it stands at %d, the last block came before %d", s.next, next)
		}
	})
}

func FuzzALineOfAStreamIsTakenAsWhatJSONSays(f *testing.F) {
	f.Add([]byte(strings.TrimSpace(line(3))))
	f.Add([]byte(`{"header":{"protocol_version":1,"chain_id":"\"height\":9","height":18446744073709551615,"x":1}}`))
	f.Add([]byte(`{"header":{"protocol_version":1,"height":7e2,"height":5}}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		height, err := lineHeight(in)
		if err != nil {
			return
		}
		if got, err := readLine(bufio.NewReader(strings.NewReader(string(in)+"\n")), nil); err != nil || !strings.HasPrefix(string(in), string(got)) {
			t.Errorf("line %q: %v", got, err)
		}
		var strict struct {
			Header struct {
				ChainID string `json:"chain_id"`
				Height  uint64 `json:"height"`
			} `json:"header"`
		}
		// Stream reads in full: it catches a height that only the short way finds.
		if json.Unmarshal(in, &strict) == nil && strings.Count(string(in), "height") == 1 && strict.Header.Height != height {
			t.Errorf("height %d of %q, JSON says %d", height, in, strict.Header.Height)
		}
	})
}
