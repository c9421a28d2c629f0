package client

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/diseq/diseq/node/chain"
)

// serve starts a node of handlers and returns a client of it.
func serve(t *testing.T, routes map[string]http.HandlerFunc) *Client {
	t.Helper()
	mux := http.NewServeMux()
	for pattern, h := range routes {
		mux.HandleFunc(pattern, h)
	}
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	c, err := New(server.URL + "/")
	must(t, err)
	t.Cleanup(c.HTTP.CloseIdleConnections)
	return c
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // a test that needs it fails without
}

func refuse(w http.ResponseWriter, status int, code string) {
	answer(w, status, map[string]any{"error": map[string]string{"code": code, "message": "for a reason"}})
}

// testReceipt has the form of a receipt and proves nothing.
func testReceipt(m chain.ReceiptMessage) *chain.Receipt {
	r := &chain.Receipt{
		Version: 1, Message: m, Inclusion: chain.Inclusion{Path: []chain.Hash{}}, ValidatorChanges: []chain.ValidatorSetChange{},
	}
	r.Certificate.Kind, r.Certificate.Votes = chain.Finalize, []chain.VoteSignature{}
	return r
}

// node accepts messages, and finishes those whose data says so the second time they are submitted.
type node struct {
	mu       sync.Mutex
	requests [][][]byte
	queries  []string
}

func (n *node) submit(t *testing.T) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if got := r.Header.Get("Content-Type"); got != batchType {
			t.Errorf("content type %q", got)
		}
		body, err := io.ReadAll(r.Body)
		if err != nil || len(body) > maxRequestBytes {
			t.Errorf("body of %d bytes: %v", len(body), err)
		}
		var messages [][]byte
		for len(body) > 0 {
			size, k := binary.Uvarint(body)
			messages = append(messages, body[k:k+int(size)])
			body = body[k+int(size):]
		}
		n.mu.Lock()
		defer n.mu.Unlock()
		n.requests = append(n.requests, messages)
		n.queries = append(n.queries, r.URL.RawQuery)
		var out struct {
			Results []Result `json:"results"`
		}
		for i, m := range messages {
			result := Result{ID: chain.Message{Data: m}.ID(), Status: "pending"}
			if i >= maxReceipts && r.URL.Query().Has("wait") {
				result.Status = "final"
			} else if r.URL.Query().Has("wait") && (string(m) != "slow" || len(n.requests) > 1) {
				result.Status, result.Receipt = "final", testReceipt(chain.ReceiptMessage{ID: result.ID, Message: chain.Message{Data: m}})
			}
			out.Results = append(out.Results, result)
		}
		answer(w, http.StatusAccepted, out)
	}
}

func TestSubmitSplitsWhatDoesNotFitInOneRequest(t *testing.T) {
	n := &node{}
	c := serve(t, map[string]http.HandlerFunc{"POST /v1/messages": n.submit(t)})
	var messages [][]byte
	for i := range maxRequestMessages + 1 {
		messages = append(messages, fmt.Appendf(nil, "message %d", i))
	}
	for i := range 3 {
		messages = append(messages, fmt.Appendf(make([]byte, 3<<20), "%d", i))
	}
	results, err := c.Submit(t.Context(), messages...)
	must(t, err)
	for i, m := range messages {
		if want := (chain.Message{Data: m}).ID(); results[i].ID != want || results[i].Final() {
			t.Fatalf("result %d is %+v, want %v pending", i, results[i], want)
		}
	}
	var sizes []int
	for _, r := range n.requests {
		sizes = append(sizes, len(r))
	}
	if fmt.Sprint(sizes) != "[10000 3 1]" {
		t.Errorf("requests of %v messages, want [10000 3 1]", sizes)
	}
}

// A node answers with a bounded number of receipts. The client asks for the others without sending
// again more than it asks for.
func TestSubmitWaitAsksForTheReceiptsThatWereLeftOut(t *testing.T) {
	n := &node{}
	c := serve(t, map[string]http.HandlerFunc{"POST /v1/messages": n.submit(t)})
	var messages [][]byte
	for i := range 2*maxReceipts + 100 {
		messages = append(messages, fmt.Appendf(nil, "message %d", i))
	}
	results, err := c.SubmitWait(t.Context(), messages...)
	must(t, err)
	for i, m := range messages {
		if r := results[i]; r.Receipt == nil || r.Receipt.Message.ID != (chain.Message{Data: m}).ID() {
			t.Fatalf("%s: %+v", m, r)
		}
	}
	var sizes []int
	for _, r := range n.requests {
		sizes = append(sizes, len(r))
	}
	if fmt.Sprint(sizes) != "[612 256 100]" {
		t.Errorf("requests of %v messages", sizes)
	}
}

func TestSubmitWaitAsksAgainForWhatIsPending(t *testing.T) {
	n := &node{}
	c := serve(t, map[string]http.HandlerFunc{"POST /v1/messages": n.submit(t)})
	results, err := c.SubmitWait(t.Context(), []byte("quick"), []byte("slow"))
	must(t, err)
	for i, m := range []string{"quick", "slow"} {
		if r := results[i]; r.Receipt == nil || r.Receipt.Message.ID != (chain.Message{Data: []byte(m)}).ID() {
			t.Errorf("%s: %+v", m, r)
		}
	}
	if len(n.requests) != 2 || len(n.requests[1]) != 1 || !strings.Contains(n.queries[0], "wait=final&timeout=") {
		t.Errorf("requests %q with queries %q", n.requests, n.queries)
	}
}

func TestSubmitWaitSaysWhatIsAcceptedWhenTheTimeIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, err := New(DefaultURL)
		must(t, err)
		var asked []string
		id := chain.Message{Data: []byte("m")}.ID()
		c.HTTP = &http.Client{Transport: fake(func(r *http.Request) (*http.Response, error) {
			asked = append(asked, r.URL.Query().Get("timeout"))
			wait, err := time.ParseDuration(r.URL.Query().Get("timeout"))
			if err != nil {
				return nil, err
			}
			if err := pause(r.Context(), wait); err != nil { // as long as the node would wait
				return nil, err
			}
			return response(http.StatusAccepted, "", `{"results":[{"id":"`+id.String()+`","status":"pending"}]}`), nil
		})}
		ctx, cancel := context.WithTimeout(t.Context(), 45*time.Second)
		defer cancel()
		results, err := c.SubmitWait(ctx, []byte("m"))
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "all 1 messages are accepted, 1 not known to be final") {
			t.Errorf("error %v", err)
		}
		if len(results) != 1 || results[0].ID != id || results[0].Receipt != nil {
			t.Errorf("results %+v", results)
		}
		if got := fmt.Sprint(asked); got != "[20s 20s 4.8s]" {
			t.Errorf("asked to wait %s", got)
		}
	})
}

func TestAWrongAnswerIsNotBelieved(t *testing.T) {
	for name, results := range map[string][]Result{
		"another id": {{ID: chain.Hash{1}, Status: "pending"}}, "no result": {}, "two results": make([]Result, 2),
	} {
		c := serve(t, map[string]http.HandlerFunc{"POST /v1/messages": func(w http.ResponseWriter, _ *http.Request) {
			answer(w, http.StatusAccepted, map[string]any{"results": results})
		}})
		if _, err := c.Submit(t.Context(), []byte("m")); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	c := serve(t, map[string]http.HandlerFunc{"GET /v1/status": func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("<html>")) // a proxy's page
	}})
	if _, err := c.Status(t.Context()); err == nil {
		t.Error("a page was taken for a status")
	}
}

func TestErrorsAreTyped(t *testing.T) {
	c := serve(t, map[string]http.HandlerFunc{
		"GET /v1/messages/{id}":         func(w http.ResponseWriter, _ *http.Request) { refuse(w, http.StatusNotFound, "not_found") },
		"GET /v1/messages/{id}/receipt": func(w http.ResponseWriter, _ *http.Request) { refuse(w, http.StatusConflict, "pending") },
		"GET /v1/genesis": func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "<html>\nbad gateway", http.StatusBadGateway)
		},
		"GET /readyz": func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "catching up", http.StatusServiceUnavailable)
		},
	})
	c.RetryFor = 0 // a bad gateway may be a good one soon
	_, err := c.Message(t.Context(), chain.Hash{})
	if !NotFound(err) {
		t.Errorf("message: %v", err)
	}
	_, err = c.Receipt(t.Context(), chain.Hash{})
	var e *Error
	if !errors.As(err, &e) || e.Status != http.StatusConflict || e.Code != "pending" || e.Message != "for a reason" || e.Temporary() || NotFound(err) {
		t.Errorf("receipt: %#v", err)
	}
	if _, err = c.Genesis(t.Context()); !errors.As(err, &e) || e.Message != "Bad Gateway" {
		t.Errorf("genesis: %v", err)
	}
	if err = c.Ready(t.Context()); !errors.As(err, &e) || e.Message != "catching up" || !e.Temporary() {
		t.Errorf("readyz: %v", err)
	}
}

func TestURLsAreChecked(t *testing.T) {
	for _, bad := range []string{"", "ftp://host", "http://", "http://host?x=1", "http://h%zz"} {
		if _, err := New(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
	c, err := New("127.0.0.1:1")
	must(t, err)
	if fmt.Sprint(c.nodes) != "[http://127.0.0.1:1]" {
		t.Errorf("nodes %q", c.nodes)
	}
	if _, err := New(); err == nil {
		t.Error("a client of no node")
	}
	if _, err := New("127.0.0.1:1", "ftp://host"); err == nil {
		t.Error("the second url was not checked")
	}
}

// A submission is safe to repeat: a node that restarts costs time and nothing else.
func TestASubmissionOutlivesARestart(t *testing.T) {
	for name, failing := range map[string]func() (*http.Response, error){
		"refused connections": func() (*http.Response, error) { return nil, errors.New("connection refused") },
		"a proxy's refusal":   func() (*http.Response, error) { return response(http.StatusBadGateway, "", "<html>"), nil },
		"no answer":           func() (*http.Response, error) { return nil, io.ErrUnexpectedEOF },
		"half an answer": func() (*http.Response, error) {
			r := response(http.StatusAccepted, "", "")
			r.Body = io.NopCloser(io.MultiReader(strings.NewReader(`{"results":[`), failingReader{}))
			return r, nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begun := time.Now()
				c, err := New(DefaultURL)
				must(t, err)
				pauses := 0
				c.Retrying = func(error, time.Duration) { pauses++ }
				c.HTTP = &http.Client{Transport: fake(func(r *http.Request) (*http.Response, error) {
					if time.Since(begun) < 20*time.Second {
						return failing()
					}
					return accept(r)
				})}
				results, err := c.Submit(t.Context(), []byte("m"))
				must(t, err)
				if took := time.Since(begun); len(results) != 1 || took > 28*time.Second || pauses < 3 || pauses > 20 {
					t.Errorf("%d results after %v and %d pauses", len(results), took, pauses)
				}
				// The pauses end with RetryFor.
				c.HTTP = &http.Client{Transport: fake(func(*http.Request) (*http.Response, error) { return failing() })}
				again := time.Now()
				if _, err := c.Submit(t.Context(), []byte("m")); err == nil || time.Since(again) > c.RetryFor || time.Since(again) < c.RetryFor-8*time.Second {
					t.Errorf("after %v: %v", time.Since(again), err)
				}
			})
		})
	}
}

type failingReader struct{}

func (failingReader) Read([]byte) (int, error) { return 0, errors.New("connection reset by peer") }

// accept answers a submission of one message.
func accept(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	id := chain.Message{Data: body[1:]}.ID()
	return response(http.StatusAccepted, "", `{"results":[{"id":"`+id.String()+`","status":"pending"}]}`), nil
}

// A wrong url is an error at once.
func TestAReadIsNotRepeatedWhereNoNodeIsReached(t *testing.T) {
	c, err := New("http://a", "http://b")
	must(t, err)
	var asked []string
	c.HTTP = &http.Client{Transport: fake(func(r *http.Request) (*http.Response, error) {
		asked = append(asked, r.URL.Host)
		return nil, errors.New("no such host as " + r.URL.Host)
	})}
	_, err = c.Status(t.Context())
	if err == nil || !strings.Contains(err.Error(), "no such host as a") || !strings.Contains(err.Error(), "no such host as b") {
		t.Errorf("error %v", err)
	}
	if fmt.Sprint(asked) != "[a b]" {
		t.Errorf("asked %v", asked)
	}
}

func TestAnotherNodeIsAskedWhereOneFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, failing := range map[string]func() (*http.Response, error){
			"not reached":   func() (*http.Response, error) { return nil, errors.New("connection refused") },
			"its pool full": func() (*http.Response, error) { return response(http.StatusTooManyRequests, "5", ""), nil },
			"an observer":   func() (*http.Response, error) { return response(http.StatusServiceUnavailable, "1", ""), nil },
			"its disk faulty": func() (*http.Response, error) {
				return response(http.StatusInternalServerError, "", `{"error":{"code":"internal","message":"m"}}`), nil
			},
		} {
			begun := time.Now()
			c, err := New("http://a", "http://b", "http://c")
			must(t, err)
			var asked []string
			c.HTTP = &http.Client{Transport: fake(func(r *http.Request) (*http.Response, error) {
				if asked = append(asked, r.URL.Host); r.URL.Host != "c" {
					return failing()
				}
				if r.Method == http.MethodPost {
					return accept(r)
				}
				return response(http.StatusOK, "", `{"height":5}`), nil
			})}
			_, err = c.Submit(t.Context(), []byte("m"))
			must(t, err)
			_, err = c.Status(t.Context())
			must(t, err)
			if got := fmt.Sprint(asked); got != "[a b c c]" || time.Since(begun) > 0 {
				t.Errorf("%s: asked %s within %v", name, got, time.Since(begun))
			}
		}
	})
}

func TestARequestForAllNodesIsRefusedByTheFirst(t *testing.T) {
	c, err := New("http://a", "http://b")
	must(t, err)
	asked := 0
	c.HTTP = &http.Client{Transport: fake(func(*http.Request) (*http.Response, error) {
		asked++
		return response(http.StatusBadRequest, "", `{"error":{"code":"malformed","message":"m"}}`), nil
	})}
	var e *Error
	if _, err := c.Submit(t.Context(), []byte("m")); !errors.As(err, &e) || e.Code != "malformed" || asked != 1 {
		t.Errorf("asked %d nodes: %v", asked, err)
	}
}

// A node's share of its pool may be smaller than the largest request.
func TestARequestThatIsTooLargeIsSplit(t *testing.T) {
	n := &node{}
	submit := n.submit(t)
	c := serve(t, map[string]http.HandlerFunc{"POST /v1/messages": func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength > 3<<20 {
			refuse(w, http.StatusRequestEntityTooLarge, "too_large")
			return
		}
		submit(w, r)
	}})
	var messages [][]byte
	for i := range 7 {
		messages = append(messages, fmt.Appendf(make([]byte, 1<<20), "%d", i))
	}
	results, err := c.Submit(t.Context(), messages...)
	must(t, err)
	for i, m := range messages {
		if want := (chain.Message{Data: m}).ID(); results[i].ID != want {
			t.Fatalf("result %d is %v, want %v", i, results[i].ID, want)
		}
	}
	var e *Error
	if _, err := c.Submit(t.Context(), make([]byte, 4<<20)); !errors.As(err, &e) || e.Status != http.StatusRequestEntityTooLarge {
		t.Errorf("a message that is too large alone: %v", err)
	}
}

// fake answers requests without a network, so that time can be synthetic.
type fake func(*http.Request) (*http.Response, error)

func (f fake) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func response(status int, retryAfter, body string) *http.Response {
	h := http.Header{}
	if retryAfter != "" {
		h.Set("Retry-After", retryAfter)
	}
	return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(strings.NewReader(body))}
}

func TestARefusedRequestIsTriedAgainWhenTheNodeSays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun, attempts := time.Now(), 0
		c, err := New(DefaultURL)
		must(t, err)
		c.HTTP = &http.Client{Transport: fake(func(*http.Request) (*http.Response, error) {
			if attempts++; attempts < 3 {
				return response(http.StatusTooManyRequests, "7", `{"error":{"code":"pool_full","message":"m"}}`), nil
			}
			return response(http.StatusOK, "", `{"height":5}`), nil
		})}
		status, err := c.Status(t.Context())
		must(t, err)
		if took := time.Since(begun); status.Height != 5 || attempts != 3 || took != 14*time.Second {
			t.Errorf("height %d after %d attempts and %v, want 5 after 3 and 14s", status.Height, attempts, took)
		}
		attempts = -100
		begun = time.Now()
		_, err = c.Status(t.Context())
		var e *Error
		if !errors.As(err, &e) || e.Code != "pool_full" || e.RetryAfter != 7*time.Second || time.Since(begun) > c.RetryFor {
			t.Errorf("after %v: %v", time.Since(begun), err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err = c.Status(ctx); !errors.As(err, &e) {
			t.Errorf("with a context that ends: %v", err)
		}
		c.RetryFor = 0
		attempts = -100
		if _, err = c.Status(t.Context()); err == nil || attempts != -99 {
			t.Errorf("RetryFor 0: %d attempts, %v", attempts+100, err)
		}
	})
}

func TestRetryAfterIsSecondsOrADateAndBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for value, want := range map[string]time.Duration{
			"": 0, "-1": 0, "soon": 0, "3": 3 * time.Second, "4294967295": maxRetryAfter,
			time.Now().Add(4 * time.Second).UTC().Format(http.TimeFormat): 4 * time.Second,
			time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat):      0,
		} {
			if got := retryAfter(value); got != want {
				t.Errorf("Retry-After %q: %v, want %v", value, got, want)
			}
		}
	})
}

func line(height uint64) string {
	b, _ := json.Marshal(Block{Header: chain.Header{Height: height, ChainID: "a"}, Messages: []chain.ReceiptMessage{}})
	return string(b) + "\n"
}

// Promise 45.
func TestAStreamThatBreaksGoesOnWhereItBroke(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked []string
		c, err := New(DefaultURL)
		must(t, err)
		c.HTTP = &http.Client{Transport: fake(func(r *http.Request) (*http.Response, error) {
			asked = append(asked, r.URL.RawQuery)
			switch len(asked) {
			case 1:
				return response(http.StatusOK, "", line(7)+"\n"+line(8)+line(9)[:20]), nil
			case 2:
				return nil, errors.New("connection refused")
			case 3:
				return response(http.StatusServiceUnavailable, "3", ""), nil
			case 4:
				return response(http.StatusOK, "", line(9)+line(10)), nil
			}
			return response(http.StatusOK, "", line(11)), nil
		})}
		var heights []uint64
		enough := errors.New("enough")
		err = c.Stream(t.Context(), 7, func(b *Block) error {
			if heights = append(heights, b.Header.Height); b.Header.Height == 11 {
				return enough
			}
			return nil
		})
		if !errors.Is(err, enough) || fmt.Sprint(heights) != "[7 8 9 10 11]" {
			t.Errorf("heights %v, %v", heights, err)
		}
		if got := fmt.Sprint(asked); got != "[from=7 from=9 from=9 from=9 from=11]" {
			t.Errorf("asked for %v", got)
		}
	})
}

func TestAStreamEndsWhenItCannotGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, tt := range map[string]struct {
			responses []*http.Response
			want      string
		}{
			"never reached":  {nil, "no route"},
			"refused":        {[]*http.Response{response(http.StatusBadRequest, "", `{"error":{"code":"malformed","message":"m"}}`)}, "malformed"},
			"refused later":  {[]*http.Response{response(http.StatusOK, "", line(1)), response(http.StatusNotFound, "", "")}, "404"},
			"a gap":          {[]*http.Response{response(http.StatusOK, "", line(1)+line(3))}, "block 3 came where block 2 was due"},
			"a repetition":   {[]*http.Response{response(http.StatusOK, "", line(1)+line(1))}, "block 1 came where block 2 was due"},
			"no block":       {[]*http.Response{response(http.StatusOK, "", "{}\n")}, "height"},
			"no JSON":        {[]*http.Response{response(http.StatusOK, "", "<html>\n")}, "invalid character"},
			"another header": {[]*http.Response{response(http.StatusOK, "", `{"header":{"height":5}}`+"\n")}, "block 5 came"},
		} {
			c, err := New(DefaultURL)
			must(t, err)
			c.HTTP = &http.Client{Transport: fake(func(*http.Request) (*http.Response, error) {
				if len(tt.responses) == 0 {
					return nil, errors.New("no route")
				}
				r := tt.responses[0]
				tt.responses = tt.responses[1:]
				return r, nil
			})}
			if err := c.Stream(t.Context(), 1, func(*Block) error { return nil }); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%s: %v, want %q", name, err, tt.want)
			}
		}
	})
}

func TestAStreamThatIsRefusedForTheMomentIsAskedForAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun, attempts := time.Now(), 0
		c, err := New(DefaultURL)
		must(t, err)
		c.HTTP = &http.Client{Transport: fake(func(*http.Request) (*http.Response, error) {
			if attempts++; attempts < 3 {
				return response(http.StatusServiceUnavailable, "10", `{"error":{"code":"too_many_streams","message":"m"}}`), nil
			}
			return response(http.StatusOK, "", line(1)), nil
		})}
		enough := errors.New("enough")
		if err := c.Stream(t.Context(), 1, func(*Block) error { return enough }); !errors.Is(err, enough) || time.Since(begun) != 20*time.Second {
			t.Errorf("after %v and %d attempts: %v", time.Since(begun), attempts, err)
		}
	})
}

func TestALiveStreamNamesNoHeightUntilItKnowsOne(t *testing.T) {
	var mu sync.Mutex
	var asked []string
	c := serve(t, map[string]http.HandlerFunc{"GET /v1/stream": func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, r.URL.RawQuery)
		if r.Header.Get("Accept") != "application/x-ndjson" {
			t.Errorf("accepts %q", r.Header.Get("Accept"))
		}
		_, _ = io.WriteString(w, line(40+uint64(len(asked)))) // and the connection ends
	}})
	ctx, cancel := context.WithCancel(t.Context())
	err := c.Stream(ctx, Live, func(b *Block) error {
		if b.Header.Height == 42 {
			cancel()
		}
		return nil
	})
	if !errors.Is(err, context.Canceled) || fmt.Sprint(asked) != "[ from=42]" {
		t.Errorf("asked %q, %v", asked, err)
	}
}

func positioned(from string) *http.Response {
	r := response(http.StatusOK, "", "")
	r.Header.Set(positionHeader, from)
	return r
}

// A subscription to new blocks that breaks before the first of them loses none: its position is the
// node's, from the header of the answer on.
//
// Promise 45.
func TestALiveStreamThatBreaksBeforeItsFirstBlockGoesOnWhereItBegan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked []string
		c, err := New("http://a", "http://b")
		must(t, err)
		c.HTTP = &http.Client{Transport: fake(func(r *http.Request) (*http.Response, error) {
			asked = append(asked, r.URL.Host+"?"+r.URL.RawQuery)
			switch len(asked) {
			case 1:
				return positioned("8"), nil
			case 2:
				return nil, errors.New("connection refused")
			}
			return response(http.StatusOK, "", line(8)+line(9)), nil
		})}
		enough := errors.New("enough")
		var heights []uint64
		err = c.Stream(t.Context(), Live, func(b *Block) error {
			if heights = append(heights, b.Header.Height); b.Header.Height == 9 {
				return enough
			}
			return nil
		})
		if !errors.Is(err, enough) || fmt.Sprint(heights) != "[8 9]" || fmt.Sprint(asked) != "[a? b?from=8 a?from=8]" {
			t.Errorf("blocks %v, asked %v: %v", heights, asked, err)
		}
	})
}

const damaged = `{"error":{"code":"internal","message":"internal error"}}` + "\n"

func TestAnErrorThatEndsAStreamIsReturned(t *testing.T) {
	c, err := New(DefaultURL)
	must(t, err)
	c.HTTP = &http.Client{Transport: fake(func(*http.Request) (*http.Response, error) {
		return response(http.StatusOK, "", line(1)+damaged), nil
	})}
	blocks := 0
	err = c.Stream(t.Context(), 1, func(*Block) error { blocks++; return nil })
	var e *Error
	if !errors.As(err, &e) || e.Code != "internal" || e.Temporary() || blocks != 1 ||
		err.Error() != "the node ended the stream: internal: internal error" {
		t.Errorf("after %d blocks: %v", blocks, err)
	}
}

func TestAnErrorThatEndsAStreamSendsItToAnotherNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked []string
		c, err := New("http://a", "http://b")
		must(t, err)
		c.HTTP = &http.Client{Transport: fake(func(r *http.Request) (*http.Response, error) {
			asked = append(asked, r.URL.Host+"?"+r.URL.RawQuery)
			switch len(asked) {
			case 1:
				return response(http.StatusOK, "", line(1)+damaged), nil
			case 2:
				return response(http.StatusOK, "", line(2)+line(3)+`{"error":{"code":"unavailable","message":"the node is stopping"}}`+"\n"), nil
			case 3:
				return nil, errors.New("connection refused")
			case 4:
				return response(http.StatusOK, "", line(4)+damaged), nil
			}
			return response(http.StatusOK, "", damaged), nil
		})}
		blocks := 0
		err = c.Stream(t.Context(), 1, func(*Block) error { blocks++; return nil })
		var e *Error
		if !errors.As(err, &e) || blocks != 4 || fmt.Sprint(asked) != "[a?from=1 b?from=2 a?from=4 b?from=4 a?from=5]" {
			t.Errorf("%d blocks, asked %v: %v", blocks, asked, err)
		}
	})
}

func TestBlocksAndSetsAreDecoded(t *testing.T) {
	block := Block{Header: chain.Header{Height: 3, ChainID: "a"}, Messages: []chain.ReceiptMessage{{ID: chain.Hash{1}, Message: chain.Message{Data: []byte("d")}}}}
	c := serve(t, map[string]http.HandlerFunc{
		"GET /v1/blocks/{height}": func(w http.ResponseWriter, r *http.Request) {
			if h := r.PathValue("height"); h != "3" && h != "latest" {
				t.Errorf("height %q", h)
			}
			answer(w, http.StatusOK, block)
		},
		"GET /v1/blocks": func(w http.ResponseWriter, _ *http.Request) {
			answer(w, http.StatusOK, map[string]any{"blocks": []Block{block}, "next": 4})
		},
		"GET /v1/validators": func(w http.ResponseWriter, r *http.Request) {
			answer(w, http.StatusOK, Validators{Height: 9, Validators: []Validator{{Name: r.URL.RawQuery}}})
		},
		"GET /v1/evidence": func(w http.ResponseWriter, _ *http.Request) {
			answer(w, http.StatusOK, map[string]any{"evidence": []chain.Evidence{}})
		},
	})
	for _, get := range []func() (*Block, error){
		func() (*Block, error) { return c.Block(t.Context(), 3) }, func() (*Block, error) { return c.LatestBlock(t.Context()) },
	} {
		b, err := get()
		must(t, err)
		if b.Header != block.Header || string(b.Messages[0].Data) != "d" || b.Certificate != nil {
			t.Errorf("block %+v", b)
		}
	}
	blocks, next, err := c.Blocks(t.Context(), 3, 10)
	must(t, err)
	if len(blocks) != 1 || next != 4 {
		t.Errorf("%d blocks, next %d", len(blocks), next)
	}
	set, err := c.Validators(t.Context(), 9)
	must(t, err)
	if set.Validators[0].Name != "height=9" {
		t.Errorf("asked %q", set.Validators[0].Name)
	}
	if held, err := c.Evidence(t.Context()); err != nil || len(held) != 0 {
		t.Errorf("evidence %v, %v", held, err)
	}
}
