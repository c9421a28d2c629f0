package processes

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/diseq/diseq/test/system"
)

// Promise 24.
func TestStoppedNetworkContinuesItsChain(t *testing.T) {
	first := system.Start(t, system.Options{})
	load := system.Load{Nodes: first.Nodes, Rate: 500, Batch: 5, Size: 100}.Start(t)
	h := first.Watch()
	awaitRandomMoment(t, h, 30, first.Nodes...)
	load.Stop()
	before := first.Audit(h, load)
	first.Stop()

	second := system.Start(t, system.Options{Dir: first.Dir})
	if a, b := first.Genesis.Hash(), second.Genesis.Hash(); a != b {
		t.Fatalf("the second start has genesis %v, the first had %v", b, a)
	}
	load2 := system.Load{Nodes: second.Nodes, Rate: 500, Batch: 5, Size: 100}.Start(t)
	h2 := second.Watch()
	h2.Await(t, soon, before.Height+5, second.Nodes...)
	load2.Stop()
	after := second.Audit(h2, load, load2)
	for id, at := range before.Positions {
		if after.Positions[id] != at {
			t.Errorf("message %v was final at %v, after a restart it is at %v", id, at, after.Positions[id])
		}
	}
	second.Stop()
}

// Promise 23.
func TestSecondProcessOnADataDirectoryIsRefused(t *testing.T) {
	n := system.Start(t, system.Options{})
	finalize(t, n.Nodes[0], t.Name())
	out := n.Nodes[0].Refuses()
	if !strings.Contains(out, "in use") {
		t.Errorf("the second process does not say that the directory is in use:\n%s", out)
	}
	finalize(t, n.Nodes[0], t.Name()+", after")
}

// events reads the ids of a server-sent event stream until each returns false. last is sent as a
// browser does when it connects again.
func events(ctx context.Context, node *system.Node, last string, each func(id string) bool) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, node.URL+"/v1/stream?from=1&messages=false", nil)
	if err != nil {
		return err
	}
	request.Header.Set("Accept", "text/event-stream")
	if last != "" {
		request.Header.Set("Last-Event-ID", last)
	}
	r, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = r.Body.Close() }()
	if got := r.Header.Get("Content-Type"); got != "text/event-stream" {
		return fmt.Errorf("content type %q", got)
	}
	lines := bufio.NewScanner(r.Body)
	lines.Buffer(nil, 1<<20)
	id := ""
	for lines.Scan() {
		line := lines.Text()
		if at, ok := strings.CutPrefix(line, "id: "); ok {
			id = at
		}
		// An event with an id alone says where the stream begins.
		if strings.HasPrefix(line, "data:") && !each(id) {
			return nil
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("the stream broke off: %w", err)
	}
	return errEnded
}

// errEnded says that a node ended a stream in order.
var errEnded = errors.New("the stream ended")

// Promise 45.
func TestStreamResumesAcrossARestartWithoutGapOrRepeat(t *testing.T) {
	n := system.Start(t, system.Options{})
	h := n.Watch()
	load := system.Load{Nodes: n.Nodes, Rate: 500, Batch: 5, Size: 100}.Start(t)
	node := n.Nodes[1]
	ctx, cancel := context.WithTimeout(t.Context(), 2*soon)
	defer cancel()
	next, last := 1, ""
	take := func(until int) func(string) bool {
		return func(id string) bool {
			if id != strconv.Itoa(next) {
				t.Errorf("event %s where %d was next", id, next)
			}
			next, last = next+1, id
			return next < until
		}
	}
	const restarts, blocks = 3, 20
	for i := range restarts {
		if err := events(ctx, node, last, take((i+1)*blocks)); err != nil {
			t.Fatal(err)
		}
		// The stream is open and behind when the node dies.
		died := make(chan error, 1)
		go func() { died <- events(ctx, node, last, take(1<<30)) }()
		awaitRandomMoment(t, h, 20, n.Nodes...)
		node.Kill()
		if err := <-died; err == nil {
			t.Fatal("the stream of a dead node ended as if it were complete")
		}
		node.Start()
		node.AwaitReady(soon)
	}
	if err := events(ctx, node, last, take((restarts+2)*blocks)); err != nil {
		t.Fatal(err)
	}
	load.Stop()
	n.Audit(h, load)
}

// Promise 6.
func TestNodeThatWasKilledIsReadyAgainWithoutTheOthers(t *testing.T) {
	n := system.Start(t, system.Options{})
	finalize(t, n.Nodes[0], t.Name())
	n.Kill(n.Nodes...)
	// Readiness never depends on a quorum being up: nothing would ever start again otherwise.
	n.Nodes[3].Start()
	n.Nodes[3].AwaitReady(soon) // the start itself is measured by test/bench
}
