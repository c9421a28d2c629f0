package server

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/diseq/diseq/node/chain"
)

// pipes is a listener of connections without any buffer, which live in the bubble of a test. Each
// connection comes from the address it is dialled from.
type pipes struct {
	accept chan net.Conn
	closed chan struct{}
}

func newPipes() *pipes { return &pipes{make(chan net.Conn), make(chan struct{})} }

type pipeAddr string

func (pipeAddr) Network() string  { return "pipe" }
func (a pipeAddr) String() string { return string(a) }

type pipeConn struct {
	net.Conn
	from pipeAddr
}

func (c pipeConn) RemoteAddr() net.Addr { return c.from }

func (l *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-l.accept:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipes) Close() error {
	close(l.closed)
	return nil
}

func (l *pipes) Addr() net.Addr { return pipeAddr("127.0.0.1:1") }

// dial connects from an address, host:port.
func (l *pipes) dial(ctx context.Context, from string) (net.Conn, error) {
	here, there := net.Pipe()
	select {
	case l.accept <- pipeConn{there, pipeAddr(from)}:
		return here, nil
	case <-l.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// servePipes serves s in the bubble until the returned function is called.
func servePipes(t *testing.T, s *Server) (l *pipes, stop func()) {
	t.Helper()
	l = newPipes()
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, Listeners{Public: l}) }()
	return l, func() {
		cancel()
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	}
}

// stall sends a request from an address and reads nothing of the answer.
func (l *pipes) stall(t *testing.T, from, ask string) net.Conn {
	t.Helper()
	c, err := l.dial(t.Context(), from)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, ask+" HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	return c
}

// client is one that connects from an address.
func (l *pipes) client(from string) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return l.dial(ctx, from) },
	}}
}

// fullBlocks makes blocks of 4 MiB.
func fullBlocks(f *fake, count int) {
	random := rand.NewChaCha8([32]byte{1})
	for range count {
		var messages []chain.Message
		for range 256 {
			data := make([]byte, 16<<10)
			_, _ = random.Read(data) // it never fails
			messages = append(messages, chain.Message{Data: data})
		}
		f.finalize(messages...)
	}
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

const (
	stalledReaders = 1024
	distinct       = 12 // blocks, twice as many as the bound has room for
	stalledBytes   = 100 << 20
)

// Readers that ask for much and take nothing cost the node little memory, whichever answer they ask
// for, and leave other readers served.
//
// Promise 51.
func TestStalledReadersCostLittleAndLeaveOthersServed(t *testing.T) {
	asks := map[string]func(i int) string{
		"pages":         func(i int) string { return fmt.Sprintf("GET /v1/blocks?from=%d&limit=100", 1+i%distinct) },
		"blocks":        func(i int) string { return fmt.Sprintf("GET /v1/blocks/%d", 1+i%distinct) },
		"streams":       func(i int) string { return fmt.Sprintf("GET /v1/stream?from=%d", 1+i%distinct) },
		"legacy blocks": func(i int) string { return fmt.Sprintf("GET /get/block/%d", 1+i%distinct) },
		"the pool":      func(int) string { return "GET /get/pool" },
	}
	f := newFake(t)
	fullBlocks(f, distinct)
	for range 16 {
		f.pending = append(f.pending, chain.Message{Data: make([]byte, 64<<10)})
	}
	for name, ask := range asks {
		for address, of := range map[string]func(i int) string{
			"one address":    func(i int) string { return fmt.Sprintf("192.0.2.1:%d", 1+i) },
			"many addresses": func(i int) string { return fmt.Sprintf("10.0.%d.%d:1", i/250, i%250) },
		} {
			t.Run(name+" of "+address, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					l, stop := servePipes(t, New(Options{Backend: f, Limits: Limits{Streams: 2 * stalledReaders}}))
					defer stop()
					before := heap()
					for i := range stalledReaders - 24 {
						c := l.stall(t, of(i), ask(i))
						defer func() { _ = c.Close() }()
					}
					synctest.Wait()
					if cost := heap() - before; cost > stalledBytes {
						t.Errorf("%d readers cost %d MiB", stalledReaders-24, cost>>20)
					}
					for i := range 3 {
						start := time.Now()
						answer, err := l.client("198.51.100.7:1").Get("http://localhost" + ask(i)[len("GET "):])
						if err != nil {
							t.Fatal(err)
						}
						if _, err := bufio.NewReader(answer.Body).ReadByte(); err != nil || answer.StatusCode != http.StatusOK {
							t.Fatalf("another reader: %s, %v", answer.Status, err)
						}
						if took := time.Since(start); took > busyWait {
							t.Errorf("another reader waited for %v", took)
						}
						if name != "streams" {
							var whole json.RawMessage
							_ = json.NewDecoder(answer.Body).Decode(&whole) // the first byte is read already
						}
						_ = answer.Body.Close()
					}
				})
			})
		}
	}
}

// A block of tiny messages takes many times its size as JSON. It is read the same, and costs what
// the block does.
func TestABlockOfTinyMessagesIsKeptAsItIs(t *testing.T) {
	f := newFake(t)
	messages := make([]chain.Message, 80_000)
	for i := range messages {
		messages[i].Data = fmt.Append(nil, i)
	}
	f.finalize(messages...)
	s := New(Options{Backend: f})
	got := decode[blockAnswer](t, do(t, s.Public(), request{path: "/v1/blocks/1"}))
	got.check(t, f.blocks[1])
	r, err := s.blocks.read(t.Context(), nil, "reader", 1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	if kept := s.answers.Taken(); r.entry.json != nil || kept > 40*int64(len(messages)) {
		t.Errorf("%d bytes are kept for %d messages", kept, len(messages))
	}
}

// An answer whose room others need is broken off, so that no client takes the part that it has
// for the whole.
func TestAnAnswerThatGaveWayIsNotWhole(t *testing.T) {
	f := newFake(t)
	fullBlocks(f, 2)
	synctest.Test(t, func(t *testing.T) {
		s := New(Options{Backend: f, Limits: Limits{AnswerBytes: 1}}) // one at a time
		l, stop := servePipes(t, s)
		defer stop()
		slow, err := l.client("192.0.2.1:1").Get("http://localhost/v1/blocks/1")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = slow.Body.Close() }()
		time.Sleep(2 * rateGrace) // it reads nothing
		other, err := l.client("192.0.2.2:1").Get("http://localhost/v1/blocks/2")
		if err != nil {
			t.Fatal(err)
		}
		if body, err := io.ReadAll(other.Body); err != nil || len(body) < 4<<20 || other.Body.Close() != nil {
			t.Errorf("the other reader has %d bytes, %v", len(body), err)
		}
		if body, err := io.ReadAll(slow.Body); err == nil {
			t.Errorf("the slow one has %d bytes and no error", len(body))
		}
		if n := testutil.ToFloat64(s.metrics.gaveWay.WithLabelValues("answer")); n != 1 {
			t.Errorf("%v answers gave way", n)
		}
		if s.answers.Taken() != 0 || s.loads.Taken() != 0 {
			t.Errorf("left: %d bytes, %d turns", s.answers.Taken(), s.loads.Taken())
		}
	})
}

// A reader that is slow and alone is let be, and so is one that keeps up the least rate.
func TestASlowReaderAloneIsLetBe(t *testing.T) {
	f := newFake(t)
	fullBlocks(f, 1)
	synctest.Test(t, func(t *testing.T) {
		l, stop := servePipes(t, New(Options{Backend: f, Limits: Limits{AnswerBytes: 1}}))
		defer stop()
		answer, err := l.client("192.0.2.1:1").Get("http://localhost/v1/blocks/1")
		if err != nil {
			t.Fatal(err)
		}
		for part := make([]byte, 256<<10); err == nil; time.Sleep(20 * time.Second) {
			_, err = io.ReadFull(answer.Body, part)
		}
		if !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) || answer.Body.Close() != nil {
			t.Error(err)
		}
	})
}

// Promise 51.
func TestClientsAreToldApartByAddress(t *testing.T) {
	for remote, want := range map[string]string{
		"192.0.2.1:80": "192.0.2.1", "[::ffff:192.0.2.1]:80": "192.0.2.1", "[2001:db8:1:2:3::4]:80": "2001:db8:1:2::/64",
		"[fe80::1%eth0]:80": "fe80::/64", "pipe": "pipe", "host:1": "host",
	} {
		if got := addressKey(remote); got != want {
			t.Errorf("%s: %s, want %s", remote, got, want)
		}
	}
}
