package server

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// A client that opens connections and leaves them idle keeps nobody out of any listener, and
// neither does one that begins requests and does not end them.
//
// Promise 51.
func TestIdleConnectionsKeepNobodyOut(t *testing.T) {
	for name, begins := range map[string]string{
		"silent":        "",
		"in the header": "GET /v1/status HTTP/1.1\r\nHost: loc",
		"after answers": "GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n",
	} {
		for address, of := range map[string]func(i int) string{
			"one address":    func(i int) string { return fmt.Sprintf("192.0.2.1:%d", 1+i) },
			"many addresses": func(i int) string { return fmt.Sprintf("10.0.%d.%d:1", i/250, i%250) },
		} {
			if name != "silent" && address != "one address" {
				continue // it makes no difference
			}
			t.Run(name+" from "+address, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := New(Options{Backend: newFake(t)})
					public, operations, probes := newPipes(), newPipes(), newPipes()
					ctx, stop := context.WithCancel(t.Context())
					served := make(chan error, 1)
					go func() { served <- s.Serve(ctx, Listeners{Public: public, Operations: operations, Probes: probes}) }()
					listeners := map[string]*pipes{"public": public, "operations": operations, "probes": probes}
					for _, l := range listeners {
						for i := range 1030 {
							c, err := l.dial(t.Context(), of(i))
							if err != nil {
								t.Fatal(err)
							}
							defer func() { _ = c.Close() }()
							go func() {
								_, _ = io.WriteString(c, begins) // the other end may be closed already
								_, _ = io.Copy(io.Discard, c)
							}()
						}
					}
					synctest.Wait()
					for on, l := range listeners {
						for _, from := range []string{"198.51.100.7:1", of(0)} { // a stranger, and one of theirs
							start := time.Now()
							answer, err := l.client(from).Get("http://localhost/readyz")
							if err != nil {
								t.Fatalf("%s: %v", on, err)
							}
							if body, err := io.ReadAll(answer.Body); err != nil || string(body) != "ready" || answer.Body.Close() != nil {
								t.Errorf("%s: %s %q, %v", on, answer.Status, body, err)
							}
							if took := time.Since(start); took >= time.Second {
								t.Errorf("%s: it took %v", on, took)
							}
						}
					}
					if n := testutil.ToFloat64(s.metrics.gaveWay.WithLabelValues("connection")); n == 0 {
						t.Error("no connection that gave way is counted")
					}
					stop()
					if err := <-served; err != nil {
						t.Error(err)
					}
				})
			})
		}
	}
}

// Connections with requests that are being served stay, whoever else comes.
func TestAConnectionThatIsServedStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, stop := servePipes(t, New(Options{Backend: newFake(t), Limits: Limits{Connections: 2}}))
		defer stop()
		type result struct {
			status string
			err    error
		}
		results := make(chan result, 2)
		for i := range 2 {
			go func() {
				r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://localhost/v1/messages?wait=final&timeout=2s",
					strings.NewReader("never final"))
				if err != nil {
					results <- result{err: err}
					return
				}
				r.Header.Set("Content-Type", octets)
				answer, err := l.client(fmt.Sprintf("192.0.2.1:%d", i)).Do(r)
				if err != nil {
					results <- result{err: err}
					return
				}
				results <- result{answer.Status, answer.Body.Close()}
			}()
		}
		synctest.Wait()
		start := time.Now()
		answer, err := l.client("198.51.100.7:1").Get("http://localhost/readyz") // waits until one of them is idle
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took < 2*time.Second || took >= newcomerWait || answer.Body.Close() != nil {
			t.Errorf("it took %v", took)
		}
		for range 2 {
			if got := <-results; got.status != "202 Accepted" || got.err != nil {
				t.Errorf("a request beside it: %+v", got)
			}
		}
	})
}

// failing is a listener that fails once before it goes on.
type failing struct {
	net.Listener
	failed bool
}

type temporary struct{ error }

func (temporary) Temporary() bool { return true }
func (temporary) Timeout() bool   { return false }

func (l *failing) Accept() (net.Conn, error) {
	if !l.failed {
		l.failed = true
		return nil, temporary{errors.New("too many open files")}
	}
	return l.Listener.Accept()
}

func TestAListenerThatFailsForAMomentGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newPipes()
		ctx, stop := context.WithCancel(t.Context())
		served := make(chan error, 1)
		go func() {
			served <- New(Options{Backend: newFake(t)}).Serve(ctx, Listeners{Public: &failing{Listener: l}})
		}()
		answer, err := l.client("192.0.2.1:1").Get("http://localhost/healthz")
		if err != nil || answer.StatusCode != http.StatusOK || answer.Body.Close() != nil {
			t.Errorf("%+v, %v", answer, err)
		}
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
}

// The listener of probes answers probes alone, and closes the connection after each.
func TestProbesHaveAListenerOfTheirOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		l := newPipes()
		ctx, stop := context.WithCancel(t.Context())
		served := make(chan error, 1)
		go func() { served <- New(Options{Backend: f}).Serve(ctx, Listeners{Public: newPipes(), Probes: l}) }()
		ask := func(path string) string {
			c, err := l.dial(t.Context(), "192.0.2.1:1")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: 10.1.2.3\r\n\r\n", path); err != nil {
				t.Fatal(err)
			}
			answer, err := io.ReadAll(bufio.NewReader(c))
			if err != nil {
				t.Fatal(err) // it stayed open
			}
			return string(answer)
		}
		for path, want := range map[string]string{
			"/livez": "200 OK", "/readyz": "200 OK", "/v1/status": "404 Not Found", "/v1/blocks": "404 Not Found", "/metrics": "404 Not Found",
		} {
			if got := ask(path); !strings.Contains(got, want) {
				t.Errorf("%s: %q", path, got)
			}
		}
		f.notReady = errors.New("catching up")
		if got := ask("/readyz"); !strings.Contains(got, "503") || !strings.Contains(got, "catching up") {
			t.Errorf("not ready: %q", got)
		}
		if got := ask("/livez"); !strings.Contains(got, "200 OK") {
			t.Errorf("alive: %q", got)
		}
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
}
