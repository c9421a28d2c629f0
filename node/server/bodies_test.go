package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/internal/seats"
)

// trickle sends the head of a large batch and then so much of it at a time, for ever.
func (l *pipes) trickle(t *testing.T, from string, every time.Duration) io.Closer {
	t.Helper()
	c, err := l.dial(t.Context(), from)
	if err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.Copy(io.Discard, c) }()
	go func() {
		_, err := io.WriteString(c, "POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/octet-stream\r\n"+
			"Content-Length: 8388608\r\n\r\n"+strings.Repeat("x", smallBody+1))
		for err == nil && every > 0 {
			time.Sleep(every)
			_, err = io.WriteString(c, "x")
		}
	}()
	return c
}

// Large bodies that stall or trickle take all places, and a batch gets one all the same.
//
// Promise 51.
func TestStalledBodiesHoldUpNoBatch(t *testing.T) {
	for name, every := range map[string]time.Duration{"stalled": 0, "trickling": 100 * time.Millisecond} {
		for address, of := range map[string]func(i int) string{
			"one address":    func(i int) string { return fmt.Sprintf("192.0.2.1:%d", 1+i) },
			"many addresses": func(i int) string { return fmt.Sprintf("10.0.0.%d:1", i) },
		} {
			t.Run(name+" from "+address, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := New(Options{Backend: newFake(t)})
					l, stop := servePipes(t, s)
					defer stop()
					for i := range 17 {
						c := l.trickle(t, of(i), every)
						defer func() { _ = c.Close() }()
					}
					synctest.Wait()
					for _, from := range []string{"198.51.100.7:1", of(0)} {
						start := time.Now()
						answer, err := l.client(from).Post("http://localhost/v1/messages", batchType,
							strings.NewReader(batchOf(strings.Repeat("a", 50<<10), strings.Repeat(from, 4000))))
						if err != nil {
							t.Fatal(err)
						}
						if took := time.Since(start); answer.StatusCode != http.StatusAccepted || took >= time.Second || answer.Body.Close() != nil {
							t.Errorf("a batch from %s: %s after %v", from, answer.Status, took)
						}
					}
					if n := testutil.ToFloat64(s.metrics.gaveWay.WithLabelValues("body")); n == 0 {
						t.Error("no body that gave way is counted")
					}
				})
			})
		}
	}
}

// A body that is slow and needs no other's place is taken, however slow it is.
func TestASlowBodyAloneIsTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		l, stop := servePipes(t, New(Options{Backend: f, Limits: Limits{LargeBodies: 1}}))
		defer stop()
		in, out := io.Pipe()
		go func() {
			body := batchOf(strings.Repeat("a", 60<<10), strings.Repeat("b", 60<<10))
			for start := 0; start < len(body); start += 4 << 10 {
				time.Sleep(time.Second) // 30 of them: 4 KiB a second
				if _, err := io.WriteString(out, body[start:min(len(body), start+4<<10)]); err != nil {
					t.Error(err)
					return
				}
			}
			_ = out.Close() // it never fails
		}()
		answer, err := l.client("192.0.2.1:1").Post("http://localhost/v1/messages", batchType, in)
		if err != nil || answer.StatusCode != http.StatusAccepted || answer.Body.Close() != nil {
			t.Errorf("%+v, %v", answer, err)
		}
	})
}

// slowDisks is a node that keeps messages and then waits for disks until it is let go.
type slowDisks struct {
	*fake
	goOn chan struct{}
}

func (b slowDisks) Submit(ctx context.Context, messages []chain.Message, kept func()) ([]SubmitResult, error) {
	results, err := b.fake.Submit(ctx, messages, kept)
	<-b.goOn
	return results, err
}

// A large body gives its place back before the node waits for disks.
func TestARequestThatWaitsForDisksHoldsNoPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := slowDisks{newFake(t), make(chan struct{})}
		s := New(Options{Backend: b, Limits: Limits{LargeBodies: 1}})
		l, stop := servePipes(t, s)
		defer stop()
		answers := make(chan error)
		for i := range 3 {
			go func() {
				answer, err := l.client("192.0.2.1:1").Post("http://localhost/v1/messages", octets, strings.NewReader(strings.Repeat(fmt.Sprint(i), smallBody)))
				if err == nil && (answer.StatusCode != http.StatusAccepted || answer.Body.Close() != nil) {
					err = errors.New(answer.Status)
				}
				answers <- err
			}()
		}
		synctest.Wait()
		if n := s.large.all.Taken(); n != 0 || len(b.pending) != 3 {
			t.Errorf("%d places are taken, %d messages are kept", n, len(b.pending))
		}
		close(b.goOn)
		for range 3 {
			if err := <-answers; err != nil {
				t.Error(err)
			}
		}
	})
}

// Streams that never send anything take all places, and a reader gets one all the same. An honest
// stream that gives way ends with the reason, and can be resumed.
//
// Promise 51.
func TestIdleStreamsKeepNoReaderOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.finalize(chain.Message{Data: []byte("a")})
		s := New(Options{Backend: f})
		l, stop := servePipes(t, s)
		defer stop()
		var idle []<-chan struct{}
		for i := range 256 {
			answer, err := l.client(fmt.Sprintf("192.0.2.1:%d", i)).Get("http://localhost/v1/stream?from=1000000")
			if err != nil || answer.StatusCode != http.StatusOK {
				t.Fatal(err)
			}
			idle = append(idle, bodyEnds(answer))
			defer func() { _ = answer.Body.Close() }()
		}
		for range 3 {
			start := time.Now()
			answer, err := l.client("198.51.100.7:1").Get("http://localhost/v1/stream?from=1")
			if err != nil || answer.StatusCode != http.StatusOK {
				t.Fatalf("another reader: %+v, %v", answer, err)
			}
			defer func() { _ = answer.Body.Close() }()
			if took := time.Since(start); took >= time.Second {
				t.Errorf("another reader waited for %v", took)
			}
			if _, err := answer.Body.Read(make([]byte, 1)); err != nil {
				t.Error(err)
			}
		}
		// Of the same address as the others, once they have been idle for long.
		time.Sleep(streamPatience)
		if answer, err := l.client("192.0.2.1:9999").Get("http://localhost/v1/stream?from=1"); err != nil || answer.StatusCode != http.StatusOK {
			t.Errorf("one of the same address: %+v, %v", answer, err)
		} else {
			defer func() { _ = answer.Body.Close() }()
		}
		synctest.Wait()
		ended := 0
		for _, ends := range idle {
			select {
			case <-ends:
				ended++
			default:
			}
		}
		if n := testutil.ToFloat64(s.metrics.gaveWay.WithLabelValues("stream")); n != 4 || ended != 4 {
			t.Errorf("%v streams gave way, %d ended with the reason", n, ended)
		}
	})
}

// bodyEnds is closed when an answer ends with the error of a stream that gave way.
func bodyEnds(a *http.Response) <-chan struct{} {
	ends := make(chan struct{})
	go func() {
		if body, err := io.ReadAll(a.Body); err == nil && strings.Contains(string(body), `{"error":{"code":"unavailable","message":"`) {
			close(ends)
		}
	}()
	return ends
}

// Requests that wait for very many messages end their wait early, with what is known.
//
// Promise 51.
func TestRequestsWaitForABoundedNumberOfMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Options{Backend: newFake(t)})
		l, stop := servePipes(t, s)
		defer stop()
		held := take(t, s.waits) // and the rest is taken as well
		defer held.Release()
		if _, err := s.waits.Take(t.Context(), seats.Claim{Key: "test", Weight: maxAwaited - 1}); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		answer, err := l.client("192.0.2.1:1").Post("http://localhost/v1/messages?wait=final&timeout=60s", octets, strings.NewReader("a"))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(answer.Body)
		if took := time.Since(start); err != nil || answer.StatusCode != http.StatusAccepted || took > busyWait || !strings.Contains(string(body), "pending") {
			t.Errorf("%s %s after %v, %v", answer.Status, body, took, err)
		}
	})
}
