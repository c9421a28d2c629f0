package processes

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/diseq/diseq/test/system"
)

// A balancer leads each connection to a node that was ready a moment ago, as a Service of
// Kubernetes does, and knows nothing of requests.
type balancer struct {
	url   string
	nodes []*system.Node
	ready []atomic.Bool
}

func balance(t *testing.T, nodes ...*system.Node) *balancer {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	must(t, err)
	b := &balancer{url: "http://" + l.Addr().String(), nodes: nodes, ready: make([]atomic.Bool, len(nodes))}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	t.Cleanup(func() { cancel(); _ = l.Close(); running.Wait() })
	for i, node := range nodes {
		b.ready[i].Store(node.GetOperations("/readyz", nil) == nil)
		running.Go(func() {
			for every := time.NewTicker(20 * time.Millisecond); ctx.Err() == nil; {
				b.ready[i].Store(node.GetOperations("/readyz", nil) == nil)
				select {
				case <-every.C:
				case <-ctx.Done():
				}
			}
		})
	}
	running.Go(func() {
		for {
			from, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() { b.lead(ctx, from) })
		}
	})
	return b
}

// lead copies between a client and a node until one of them closes.
func (b *balancer) lead(ctx context.Context, from net.Conn) {
	defer func() { _ = from.Close() }()
	i := rand.IntN(len(b.nodes))
	for !b.ready[i].Load() {
		i = (i + 1) % len(b.nodes)
	}
	to, err := (&net.Dialer{}).DialContext(ctx, "tcp", strings.TrimPrefix(b.nodes[i].URL, "http://"))
	if err != nil {
		return
	}
	defer func() { _ = to.Close() }()
	ended := context.AfterFunc(ctx, func() { _ = to.Close(); _ = from.Close() })
	defer ended()
	go func() {
		_, _ = io.Copy(to, from) // the client sees an error
		_ = to.(*net.TCPConn).CloseWrite()
	}()
	_, _ = io.Copy(from, to)
}

// A client submits one message after the other and repeats none. It returns how many were answered
// and what was answered wrongly.
func submits(ctx context.Context, name, url string, keepAlive bool, answered *atomic.Int64) error {
	over := &http.Client{Transport: &http.Transport{DisableKeepAlives: !keepAlive}}
	defer over.CloseIdleConnections()
	for i := 0; ctx.Err() == nil; i++ {
		r, err := http.NewRequestWithContext(context.WithoutCancel(ctx), http.MethodPost, url+"/v1/messages", strings.NewReader(fmt.Sprintf("%s %d", name, i)))
		if err != nil {
			return err
		}
		r.Header.Set("Content-Type", "application/octet-stream")
		answer, err := over.Do(r)
		if err != nil {
			return fmt.Errorf("%s, request %d: %w", name, i, err)
		}
		text, err := io.ReadAll(answer.Body)
		_ = answer.Body.Close()
		if err != nil || answer.StatusCode != http.StatusAccepted {
			return fmt.Errorf("%s, request %d: %s %s, %w", name, i, answer.Status, text, err)
		}
		answered.Add(1)
	}
	return nil
}

// A node is stopped and started again behind something that leads clients to nodes that are ready.
// No request of a thousand is refused, neither over connections that are kept nor over new ones,
// and nobody repeats one. A reader of the node's stream loses nothing.
//
// Promise 78.
func TestNoClientIsRefusedWhileANodeIsStopped(t *testing.T) {
	const requests = 1000
	n := system.Start(t, system.Options{})
	h := n.Watch()
	node := n.Nodes[1]
	// Longer than the balancer takes to look, however busy the machine is.
	node.Configure("drain: 0s", "drain: 8s")
	b := balance(t, n.Nodes...)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var clients sync.WaitGroup
	var kept, fresh atomic.Int64
	errs := make(chan error, 8)
	for i := range 4 {
		clients.Go(func() { errs <- submits(ctx, fmt.Sprintf("kept %d", i), b.url, true, &kept) })
		clients.Go(func() { errs <- submits(ctx, fmt.Sprintf("new %d", i), b.url, false, &fresh) })
	}
	last := ""
	streamed := make(chan error, 1)
	go func() {
		streamed <- events(t.Context(), node, "", func(id string) bool { last = id; return true })
	}()
	h.Await(t, soon, h.Highest()+5, n.Nodes...)

	node.AskToStop()
	begun := time.Now()
	var code int
	system.Eventually(t, soon, node.Name+" has ended", func() error {
		_, c, ended := node.Ended()
		if code = c; !ended {
			return errNotYet
		}
		return nil
	})
	if took := time.Since(begun); code != 0 || took < 8*time.Second {
		t.Errorf("%s ended with exit code %d after %v", node.Name, code, took)
	}
	if err := <-streamed; !errors.Is(err, errEnded) {
		t.Errorf("the stream of the node did not end in order: %v", err)
	}
	node.Start()
	node.AwaitReady(soon)
	next := ""
	must(t, events(t.Context(), node, last, func(id string) bool { next = id; return false }))
	if height, err := strconv.Atoi(last); err != nil || strconv.Itoa(height+1) != next {
		t.Errorf("the stream ended after block %s and goes on with %s", last, next)
	}
	system.Eventually(t, soon, "a thousand requests of each kind are answered", func() error {
		if len(errs) > 0 {
			return nil
		}
		if kept.Load() < requests || fresh.Load() < requests {
			return errNotYet
		}
		return nil
	})
	stop()
	clients.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			t.Error(err)
		}
	}
	t.Logf("%d requests over connections that were kept, %d over new ones", kept.Load(), fresh.Load())
	n.Audit(h)
}

// Somebody who does not want to wait for a node that drains asks twice.
//
// Promise 78.
func TestASecondSignalEndsANodeAtOnce(t *testing.T) {
	n := system.Start(t, system.Options{})
	node := n.Nodes[1]
	node.Configure("drain: 0s", "drain: 10m")
	node.AskToStop()
	system.Eventually(t, soon, node.Name+" says that it stops", func() error {
		err := node.GetOperations("/readyz", nil)
		if err == nil || !strings.Contains(err.Error(), "stopping") {
			return fmt.Errorf("%w: %w", errNotYet, err)
		}
		return nil
	})
	finalize(t, node, "while it drains")
	var said string
	system.Eventually(t, soon, node.Name+" has ended", func() error {
		node.AskToStop()
		out, _, ended := node.Ended()
		if said = out; !ended {
			return errNotYet
		}
		return nil
	})
	if !strings.Contains(said, "second signal") {
		t.Errorf("%s ended and said:\n%s", node.Name, said)
	}
	node.Start()
	node.AwaitReady(soon)
	finalize(t, node, "after it")
}
