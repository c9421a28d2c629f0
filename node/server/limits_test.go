package server

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/diseq/diseq/node/chain"
)

// dial opens a raw connection to a server.
func dial(t *testing.T, url string) net.Conn {
	t.Helper()
	c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return c
}

func send(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
}

// closed reads until the server closes the connection and returns what it said.
func closed(t *testing.T, c net.Conn) string {
	t.Helper()
	b, err := io.ReadAll(c)
	if err != nil && errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("the connection stayed open: %v", err)
	}
	return string(b)
}

const short = 50 * time.Millisecond

// Promise 51.
func TestConnectionsThatStallAreClosed(t *testing.T) {
	// Apart, so that a client that is slow because the machine is busy is cut off for what it does
	// on purpose.
	header, _ := listen(t, New(Options{Backend: newFake(t), Limits: Limits{HeaderTimeout: short}}))
	url, _ := listen(t, New(Options{Backend: newFake(t), Limits: Limits{BodyTimeout: short, IdleTimeout: short}}))
	const body = "POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/octet-stream\r\nContent-Length: 10\r\n\r\nabc"
	for name, c := range map[string]struct{ url, send, want string }{
		"in the header":                         {header, "GET /v1/status HTTP/1.1\r\nHost: localhost\r\nX-Slow: ", ""},
		"before the first byte":                 {header, "", ""},
		"after an answer":                       {url, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", "200 OK"},
		"in the body":                           {url, body, "408 Request Timeout"},
		"in a body that no handler reads":       {url, strings.Replace(body, "/v1/messages", "/commit", 1), "403 Forbidden"},
		"in a body of what is no route":         {url, strings.Replace(body, "/v1/messages", "/v1/none", 1), "404 Not Found"},
		"in the body of a chunked request":      {url, strings.Replace(body, "Content-Length: 10", "Transfer-Encoding: chunked", 1)[:len(body)-3] + "5\r\nab", ""},
		"in the body of the first of two bytes": {url, "POST /schedule HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{", "408"},
	} {
		t.Run(name, func(t *testing.T) {
			conn := dial(t, c.url)
			send(t, conn, c.send)
			if got := closed(t, conn); !strings.Contains(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestTimeForTheBodyDoesNotBoundTheWait(t *testing.T) {
	url, _ := listen(t, New(Options{Backend: newFake(t), Limits: Limits{BodyTimeout: short}}))
	conn := dial(t, url)
	send(t, conn, "POST /v1/messages?wait=final&timeout="+(4*short).String()+" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"+
		"Content-Type: application/octet-stream\r\nContent-Length: 3\r\n\r\nabc")
	if got := closed(t, conn); !strings.Contains(got, "202 Accepted") || !strings.Contains(got, `"pending"`) {
		t.Errorf("got %q", got)
	}
}

func TestBodyThatEndsEarlyIsTheClientsMistake(t *testing.T) {
	f := newFake(t)
	url, _ := listen(t, New(Options{Backend: f}))
	for _, framing := range []string{"Content-Length: 10\r\n\r\nabc", "Transfer-Encoding: chunked\r\n\r\nzz\r\n"} {
		conn := dial(t, url)
		send(t, conn, "POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/octet-stream\r\n"+framing)
		if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if got := closed(t, conn); !strings.Contains(got, "400 Bad Request") || !strings.Contains(got, `"malformed"`) {
			t.Errorf("%q: %q", framing, got)
		}
	}
	if len(f.pending) != 0 {
		t.Errorf("%d messages were submitted", len(f.pending))
	}
}

func TestHeadersAreBounded(t *testing.T) {
	url, _ := listen(t, New(Options{Backend: newFake(t)}))
	conn := dial(t, url)
	// The server may close before it has read all of it: then writing fails, and the answer is
	// there to read.
	_, _ = io.WriteString(conn, "GET /v1/status HTTP/1.1\r\nHost: localhost\r\nX-Long: "+strings.Repeat("y", 21<<10)+"\r\n\r\n")
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil || !strings.Contains(line, "431") {
		t.Errorf("got %q, %v", line, err)
	}
}

// Promise 51.
func TestConnectionsAreBounded(t *testing.T) {
	s := New(Options{Backend: newFake(t), Limits: Limits{Connections: 1}})
	url, _ := listen(t, s)
	const ask = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
	first := dial(t, url)
	send(t, first, ask)
	if line, err := bufio.NewReader(first).ReadString('\n'); err != nil || !strings.Contains(line, "200") {
		t.Fatalf("first connection: %q, %v", line, err)
	}
	second := dial(t, url)
	send(t, second, ask)
	if line, err := bufio.NewReader(second).ReadString('\n'); err != nil || !strings.Contains(line, "200") {
		t.Errorf("second connection: %q, %v", line, err)
	}
	closed(t, first) // it was idle, and there is one place
}

// Promise 51.
func TestReaderThatTakesNothingIsCutOff(t *testing.T) {
	f := newFake(t)
	for range 8 {
		f.finalize(chain.Message{Data: make([]byte, 4<<20)})
	}
	s := New(Options{Backend: f, Limits: Limits{WriteTimeout: short, Streams: 1}})
	url, _ := listen(t, s)
	conn := dial(t, url)
	send(t, conn, "GET /v1/stream?from=1 HTTP/1.1\r\nHost: localhost\r\n\r\n")
	if _, err := bufio.NewReaderSize(conn, 16).ReadByte(); err != nil {
		t.Fatal(err)
	}
	take(t, s.streams.all) // its place is given back, though the connection is still open on this side
}

// Promise 51.
func TestLargeBodiesTakeTurns(t *testing.T) {
	f := newFake(t)
	s := New(Options{Backend: f, Limits: Limits{LargeBodies: 1, BodyTimeout: short}})
	h := s.Public()
	large := batchOf(strings.Repeat("x", 60<<10), strings.Repeat("y", 60<<10))
	held := take(t, s.large.all) // another one holds the place
	got := do(t, h, post(batchType, large))
	if got.status != 503 || got.errorCode(t) != "busy" || len(f.pending) != 0 {
		t.Errorf("while the place is taken: %+v", got)
	}
	if got := do(t, h, post(batchType, batchOf("small"))); got.status != 202 {
		t.Errorf("small one beside it: %+v", got)
	}
	held.Release()
	for range 3 {
		if got := do(t, h, post(batchType, large)); got.status != 202 {
			t.Errorf("once it is free: %+v", got)
		}
	}
	if s.large.all.Taken() != 0 {
		t.Error("the place was not given back")
	}
}

func TestClientThatLeavesIsNoFailure(t *testing.T) {
	f := newFake(t)
	var logged bytes.Buffer
	s := New(Options{Backend: f, Logger: testLogger(&logged)})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "/v1/messages?wait=final", strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", octets)
	s.Public().ServeHTTP(&pipeWriter{header: http.Header{}}, r)
	if logged.Len() != 0 {
		t.Errorf("logged %s", logged.String())
	}
	if n := requests(s, "POST /v1/messages", fmt.Sprint(statusClientGone)); n != 1 {
		t.Errorf("counted %v times", n)
	}
}

func TestServeFailsIfAListenerDoes(t *testing.T) {
	s := New(Options{Backend: newFake(t)})
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	broken, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := broken.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Serve(t.Context(), Listeners{Public: l, Operations: broken}); err == nil || !strings.Contains(err.Error(), "http listener") {
		t.Errorf("got %v", err)
	}
}

func TestCacheIsBoundedByBytes(t *testing.T) {
	f := newFake(t)
	for range 20 {
		f.finalize(chain.Message{Data: make([]byte, 3000)})
	}
	s := New(Options{Backend: f})
	c := newBlockCache(20_000, s) // room for four
	read := func(height uint64) error {
		r, err := c.read(t.Context(), nil, "reader", height)
		if err == nil {
			if s.answers.Taken() != int64(r.entry.size) {
				t.Errorf("%d bytes are counted for a block of %d", s.answers.Taken(), r.entry.size)
			}
			r.close()
		}
		return err
	}
	for height := uint64(1); height <= 20; height++ {
		if err := read(height); err != nil {
			t.Fatal(err)
		}
		if c.size > 20_000 || len(c.entries) != c.recent.Len() {
			t.Fatalf("%d bytes, %d entries, %d in the list", c.size, len(c.entries), c.recent.Len())
		}
	}
	if len(c.entries) != 4 || s.answers.Taken() != 0 {
		t.Errorf("%d blocks are kept, want 4; %d bytes are being read", len(c.entries), s.answers.Taken())
	}
	if err := read(20); err != nil || f.reads[20] != 1 {
		t.Errorf("the last block was read %d times: %v", f.reads[20], err)
	}
	if err := read(99); !errors.Is(err, ErrNotFound) {
		t.Errorf("a block that is not there: %v", err)
	}
	if _, ok := c.entries[99]; ok {
		t.Error("a failure was kept")
	}
}
