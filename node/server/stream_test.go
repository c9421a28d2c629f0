package server

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/internal/seats"
)

// listen serves s on loopback until the test ends and returns the base URL of the public listener.
func listen(t *testing.T, s *Server) (url string, stop func()) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, Listeners{Public: l}) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	}
	t.Cleanup(stop)
	return "http://" + l.Addr().String(), stop
}

// open starts a request whose answer is read as it comes.
func open(t *testing.T, url string, header http.Header) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	maps.Copy(r.Header, header)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	return resp
}

// event is one server-sent event.
type event struct{ id, name, data, comment string }

// readEvent reads up to the empty line that ends an event.
func readEvent(t *testing.T, r *bufio.Reader) event {
	t.Helper()
	var e event
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatalf("event stream: %v after %+v", err, e)
		}
		line = strings.TrimSuffix(line, "\n")
		name, value, _ := strings.Cut(line, ": ")
		switch {
		case line == "":
			return e
		case name == "id":
			e.id = value
		case name == "event":
			e.name = value
		case name == "data":
			e.data = value
		case name == "":
			e.comment = value
		default:
			t.Fatalf("unexpected line %q", line)
		}
	}
}

func TestEventStreamCatchesUpThenGoesLive(t *testing.T) {
	f := newFake(t)
	url, _ := listen(t, New(Options{Backend: f}))
	f.finalize(chain.Message{Data: []byte("one")})
	f.finalize(chain.Message{Data: []byte("two")})
	resp := open(t, url+"/v1/stream?from=0", http.Header{"Accept": {"text/event-stream"}})
	if got := resp.Header.Get("Content-Type"); resp.StatusCode != 200 || got != "text/event-stream" {
		t.Fatalf("%d %s", resp.StatusCode, got)
	}
	r := bufio.NewReader(resp.Body)
	for height := range 5 { // from height 0 on there is no position before the first block
		if height > 2 {
			f.finalize(chain.Message{Data: fmt.Append(nil, height)})
		}
		e := readEvent(t, r)
		if e.id != fmt.Sprint(height) || e.name != "block" {
			t.Fatalf("event %+v, want height %d", e, height)
		}
		var b blockAnswer
		if err := json.Unmarshal([]byte(e.data), &b); err != nil {
			t.Fatal(err)
		}
		b.check(t, f.blocks[height])
	}
}

func TestStreamStartsWhereItIsAsked(t *testing.T) {
	for _, c := range []struct {
		name, query string
		header      http.Header
		want        uint64
	}{
		{"from", "?from=2", nil, 2},
		{"live", "", nil, 4},
		{"in the future", "?from=6", nil, 6},
		{"resumed", "", http.Header{"Last-Event-Id": {"1"}}, 2},
		{"resumed with the URL that it began with", "?from=0", http.Header{"Last-Event-Id": {"2"}}, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFake(t)
			url, _ := listen(t, New(Options{Backend: f}))
			for range 3 {
				f.finalize()
			}
			resp := open(t, url+"/v1/stream"+c.query, c.header)
			if got := resp.Header.Get("Content-Type"); got != "application/x-ndjson" {
				t.Errorf("content type %q", got)
			}
			for range 4 {
				f.finalize()
			}
			lines := bufio.NewScanner(resp.Body)
			for height := c.want; height <= 7; height++ {
				if !lines.Scan() {
					t.Fatalf("the stream ended before height %d: %v", height, lines.Err())
				}
				var b blockAnswer
				if err := json.Unmarshal(lines.Bytes(), &b); err != nil || b.Header.Height != height {
					t.Fatalf("height %d, want %d: %v", b.Header.Height, height, err)
				}
			}
		})
	}
}

func TestStreamRefusesMalformedStarts(t *testing.T) {
	h := New(Options{Backend: newFake(t)}).Public()
	for _, q := range []request{
		{path: "/v1/stream?from=x"}, {path: "/v1/stream?from="}, {path: "/v1/stream?messages=2"},
		{path: "/v1/stream", header: http.Header{"Last-Event-Id": {"x"}}},
		{path: "/v1/stream", header: http.Header{"Last-Event-Id": {"9007199254740991"}}},
		{path: "/v1/stream", header: http.Header{"Last-Event-Id": {"18446744073709551615"}}},
		{path: "/v1/stream?from=9007199254740992"},
	} {
		if got := do(t, h, q); got.status != 400 || got.errorCode(t) != "malformed" {
			t.Errorf("%+v: %+v", q, got)
		}
	}
}

func TestStreamFormFollowsAccept(t *testing.T) {
	for accept, events := range map[string]bool{
		"": false, "*/*": false, "application/x-ndjson": false, "application/json": false, "text/event-stream": true,
		"text/event-stream;q=0.5, application/x-ndjson": false, "application/x-ndjson;q=0.1,text/event-stream": true,
		"text/html, text/event-stream, */*": true, "text/event-stream;q=0": false, ";;,=": false,
	} {
		if got := wantsEvents([]string{accept}); got != events {
			t.Errorf("%q: events %v, want %v", accept, got, events)
		}
	}
}

func TestStreamWithoutMessages(t *testing.T) {
	f := newFake(t)
	f.finalize(chain.Message{Data: []byte("a")})
	url, _ := listen(t, New(Options{Backend: f}))
	lines := bufio.NewScanner(open(t, url+"/v1/stream?from=1&messages=false", nil).Body)
	if !lines.Scan() || !json.Valid(lines.Bytes()) || bytes.Contains(lines.Bytes(), []byte(`"messages":`)) {
		t.Errorf("line %q: %v", lines.Bytes(), lines.Err())
	}
	if f.reads[1] != 0 {
		t.Error("the messages were read all the same")
	}
}

func TestHeadOfAStreamDoesNotStream(t *testing.T) {
	got := do(t, New(Options{Backend: newFake(t)}).Public(), request{method: http.MethodHead, path: "/v1/stream?from=0"})
	if got.status != 200 || got.body != "" {
		t.Errorf("%+v", got)
	}
}

// pipeWriter is a client that reads only when the test does, without a network between.
type pipeWriter struct {
	header http.Header
	w      *io.PipeWriter
}

func (p *pipeWriter) Header() http.Header         { return p.header }
func (p *pipeWriter) WriteHeader(int)             {}
func (p *pipeWriter) Write(b []byte) (int, error) { return p.w.Write(b) }
func (p *pipeWriter) FlushError() error           { return nil }

func TestSilentEventStreamHasHeartbeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		h := New(Options{Backend: f}).Public()
		ctx, cancel := context.WithCancel(t.Context())
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "/v1/stream", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Accept", "text/event-stream")
		pr, pw := io.Pipe()
		done := make(chan struct{})
		go func() {
			defer close(done)
			h.ServeHTTP(&pipeWriter{header: http.Header{}, w: pw}, r)
		}()
		in := bufio.NewReader(pr)
		if e := readEvent(t, in); e != (event{id: "0"}) {
			t.Errorf("the stream begins with %+v, want its position", e)
		}
		start := time.Now()
		for i := range 3 {
			if e := readEvent(t, in); e.comment != "heartbeat" || e.id != "" {
				t.Errorf("got %+v", e)
			}
			if since, want := time.Since(start), time.Duration(i+1)*15*time.Second; since != want {
				t.Errorf("heartbeat after %v, want %v", since, want)
			}
		}
		f.finalize()
		if e := readEvent(t, in); e.id != "1" {
			t.Errorf("after silence: %+v", e)
		}
		cancel()
		<-done
	})
}

// Promise 45.
func TestSlowReaderGetsEveryBlock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		s := New(Options{Backend: f})
		ctx, cancel := context.WithCancel(t.Context())
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "/v1/stream?from=1", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		pr, pw := io.Pipe()
		done := make(chan struct{})
		go func() {
			defer close(done)
			s.Public().ServeHTTP(&pipeWriter{header: http.Header{}, w: pw}, r)
		}()
		const heights = 200
		for i := range heights { // all are final before the reader takes the first byte
			f.finalize(chain.Message{Data: fmt.Appendf(nil, "message %d", i)})
		}
		synctest.Wait()
		if last := len(f.reads); last > 1 {
			t.Errorf("%d blocks were read for a reader that takes none", last)
		}
		lines := bufio.NewReader(pr)
		for height := 1; height <= heights; height++ {
			time.Sleep(time.Second) // the bubble's clock: a reader of one block a second
			line, err := lines.ReadBytes('\n')
			if err != nil {
				t.Fatal(err)
			}
			var b blockAnswer
			if err := json.Unmarshal(line, &b); err != nil || b.Header.Height != uint64(height) {
				t.Fatalf("height %d, want %d: %v", b.Header.Height, height, err)
			}
		}
		cancel()
		<-done
	})
}

func TestBlockIsEncodedOnceForAllReaders(t *testing.T) {
	f := newFake(t)
	s := New(Options{Backend: f})
	url, _ := listen(t, s)
	var readers []*bufio.Scanner
	for range 8 {
		readers = append(readers, bufio.NewScanner(open(t, url+"/v1/stream?from=1", nil).Body))
	}
	for i := range 5 {
		f.finalize(chain.Message{Data: []byte{byte(i)}})
	}
	for _, r := range readers {
		for range 5 {
			if !r.Scan() {
				t.Fatal(r.Err())
			}
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for height := uint64(1); height <= 5; height++ {
		if f.reads[height] != 1 {
			t.Errorf("block %d was read %d times", height, f.reads[height])
		}
	}
}

// patience bounds waits that are only used up when something is broken.
const patience = time.Minute

// take takes a place, once there is one.
func take(t *testing.T, places *seats.Limiter) *seats.Seat {
	t.Helper()
	place, err := places.Take(t.Context(), seats.Claim{Key: "test", Wait: patience})
	if err != nil {
		t.Fatalf("no place is given back: %v", err)
	}
	return place
}

// Promise 51.
func TestStreamsAreBoundedAndGivenBack(t *testing.T) {
	f := newFake(t)
	s := New(Options{Backend: f, Limits: Limits{Streams: 2}})
	url, stop := listen(t, s)
	first := open(t, url+"/v1/stream", nil)
	open(t, url+"/v1/stream", nil)
	third := open(t, url+"/v1/stream", nil)
	if third.StatusCode != 503 || third.Header.Get("Retry-After") != "10" {
		t.Errorf("third stream: %d, Retry-After %q", third.StatusCode, third.Header.Get("Retry-After"))
	}
	if n := testutil.ToFloat64(s.metrics.streams); n != 2 {
		t.Errorf("%v streams are counted", n)
	}
	if err := first.Body.Close(); err != nil { // the client goes away
		t.Fatal(err)
	}
	take(t, s.streams.all).Release() // blocks until the place is given back
	if again := open(t, url+"/v1/stream", nil); again.StatusCode != 200 {
		t.Errorf("after one ended: %d", again.StatusCode)
	}
	stop()
	if left := s.streams.all.Taken(); left != 0 {
		t.Errorf("%d streams are left after the server stopped", left)
	}
}

// A subscription to new blocks that breaks before the first of them has its position all the same:
// the blocks that become final before it resumes are not lost.
//
// Promise 45.
func TestAStreamHasItsPositionBeforeTheFirstBlock(t *testing.T) {
	for name, c := range map[string]struct {
		query, accept string
		header        http.Header
		first         uint64 // the first block due
	}{
		"live events":    {"", "text/event-stream", nil, 3},
		"live lines":     {"", "", nil, 3},
		"events from":    {"?from=7", "text/event-stream", nil, 7},
		"lines from":     {"?from=7", "", nil, 7},
		"resumed events": {"", "text/event-stream", http.Header{"Last-Event-Id": {"4"}}, 5},
		"genesis":        {"?from=0", "", nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			url, _ := listen(t, New(Options{Backend: f}))
			f.finalize()
			f.finalize()
			header := http.Header{"Accept": {c.accept}}
			maps.Copy(header, c.header)
			resp := open(t, url+"/v1/stream"+c.query, header)
			position := resp.Header.Get(positionHeader)
			if position != fmt.Sprint(c.first) {
				t.Errorf("%s: %q, want %d", positionHeader, position, c.first)
			}
			if c.accept == "" {
				return
			}
			e := readEvent(t, bufio.NewReader(resp.Body))
			if e != (event{id: fmt.Sprint(c.first - 1)}) {
				t.Fatalf("the stream begins with %+v, want the id %d alone", e, c.first-1)
			}
			if err := resp.Body.Close(); err != nil { // it breaks before the first block
				t.Fatal(err)
			}
			for range 8 {
				f.finalize()
			}
			again := open(t, url+"/v1/stream"+c.query, http.Header{"Accept": {c.accept}, "Last-Event-Id": {e.id}})
			in := bufio.NewReader(again.Body)
			readEvent(t, in)
			if e := readEvent(t, in); e.id != fmt.Sprint(c.first) {
				t.Errorf("it goes on with block %s, want %d", e.id, c.first)
			}
		})
	}
}

// brokenBlocks is a node whose blocks from a height on cannot be read.
type brokenBlocks struct {
	*fake
	from uint64
}

func (b brokenBlocks) Head(ctx context.Context, height uint64) (*chain.Block, *chain.Certificate, error) {
	if height >= b.from {
		return nil, nil, errors.New("disk")
	}
	return b.fake.Head(ctx, height)
}

// Promise 45.
func TestAnErrorBehindAStreamReachesClientLogAndCounter(t *testing.T) {
	const failure = `{"error":{"code":"internal","message":"internal error"}}`
	for accept, want := range map[string]string{
		"": failure + "\n", "text/event-stream": "event: error\ndata: " + failure + "\n\n",
	} {
		f := newFake(t)
		f.finalize()
		f.finalize()
		var logged bytes.Buffer
		s := New(Options{Backend: brokenBlocks{f, 2}, Logger: testLogger(&logged)})
		url, stop := listen(t, s)
		body, err := io.ReadAll(open(t, url+"/v1/stream?from=1", http.Header{"Accept": {accept}}).Body)
		if err != nil || !strings.HasSuffix(string(body), want) || !strings.Contains(string(body), `"height":1`) {
			t.Errorf("%q: got %q, %v", accept, body, err)
		}
		stop()
		if !strings.Contains(logged.String(), `level=ERROR msg="answer broke off" method=GET path=/v1/stream err=disk`) {
			t.Errorf("logged %q", logged.String())
		}
		if n := testutil.ToFloat64(s.metrics.brokenOff.WithLabelValues("GET /v1/stream")); n != 1 {
			t.Errorf("%v broken answers are counted", n)
		}
	}
}

// A page ends before a block that cannot be read, so that there is no answer to break off.
func TestAPageWithABlockThatCannotBeReadIsAnError(t *testing.T) {
	f := newFake(t)
	f.finalize()
	s := New(Options{Backend: brokenBlocks{f, 1}})
	if got := do(t, s.Public(), request{path: "/v1/blocks?from=0"}); got.status != 200 || !strings.HasSuffix(got.body, `}],"next":1}`) {
		t.Errorf("the page before it: %+v", got)
	}
	for _, path := range []string{"/v1/blocks?from=1", "/v1/blocks/1"} {
		if got := do(t, s.Public(), request{path: path}); got.status != 500 || got.errorCode(t) != "internal" {
			t.Errorf("%s: %+v", path, got)
		}
	}
}

func TestStoppingEndsStreamsAndWaits(t *testing.T) {
	f := newFake(t)
	url, stop := listen(t, New(Options{Backend: f, Limits: Limits{Finish: time.Minute}}))
	stream := open(t, url+"/v1/stream", nil)
	type result struct {
		status int
		err    error
	}
	waited := make(chan result, 1)
	go func() {
		r, err := http.NewRequestWithContext(context.Background(), http.MethodPost, url+"/v1/messages?wait=final&timeout=60s", strings.NewReader("x"))
		if err != nil {
			waited <- result{err: err}
			return
		}
		r.Header.Set("Content-Type", octets)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			waited <- result{err: err}
			return
		}
		waited <- result{resp.StatusCode, resp.Body.Close()}
	}()
	// until the message is submitted
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		pending, err := f.Pending(t.Context(), 1, 1)
		if err != nil {
			t.Fatal(err)
		}
		if len(pending) == 1 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the message is not submitted")
		}
	}
	start := time.Now()
	stop()
	if body, err := io.ReadAll(stream.Body); err != nil || len(body) != 0 {
		t.Errorf("stream: %q, %v", body, err)
	}
	if got := <-waited; got.err != nil || got.status != http.StatusAccepted {
		t.Errorf("wait: %+v", got)
	}
	if took := time.Since(start); took > 30*time.Second { // it would wait for a minute, for either
		t.Errorf("stopping took %v", took)
	}
}
