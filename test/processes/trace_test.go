package processes

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/diseq/diseq/test/system"
)

const (
	// clientSpan is the span that a client says its request belongs to.
	clientSpan = "00000000000000aa"
	// secret begins the data of each message.
	secret = "data that is no part of a trace: "
)

// A gatherer is a collector of spans that speaks OTLP over HTTP.
type gatherer struct {
	mu     sync.Mutex
	traces map[string][]gathered
	faults []string
}

// gathered is a span, and the node that it is of.
type gathered struct{ node, name, id, parent string }

func newGatherer(t *testing.T) (*gatherer, string) {
	t.Helper()
	g := &gatherer{traces: map[string][]gathered{}}
	server := httptest.NewServer(http.HandlerFunc(g.export))
	t.Cleanup(server.Close)
	return g, server.URL
}

func (g *gatherer) export(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	defer g.mu.Unlock()
	raw, err := io.ReadAll(r.Body)
	var spans collector.ExportTraceServiceRequest
	if err == nil {
		err = proto.Unmarshal(raw, &spans)
	}
	if err != nil || r.URL.Path != "/v1/traces" || r.Header.Get("Content-Type") != "application/x-protobuf" {
		g.faults = append(g.faults, fmt.Sprintf("%s %s %s: %v", r.Method, r.URL, r.Header.Get("Content-Type"), err))
		http.Error(w, "", http.StatusBadRequest)
		return
	}
	if bytes.Contains(raw, []byte(secret)) {
		g.faults = append(g.faults, "the data of a message")
	}
	for _, of := range spans.GetResourceSpans() {
		node := ""
		for _, a := range of.GetResource().GetAttributes() {
			if a.GetKey() == "service.instance.id" {
				node = a.GetValue().GetStringValue()
			}
		}
		for _, scope := range of.GetScopeSpans() {
			for _, span := range scope.GetSpans() {
				id := fmt.Sprintf("%x", span.GetTraceId())
				g.traces[id] = append(g.traces[id], gathered{
					node: node, name: span.GetName(), id: fmt.Sprintf("%x", span.GetSpanId()), parent: fmt.Sprintf("%x", span.GetParentSpanId()),
				})
			}
		}
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
}

// lacks says what a trace does not have yet that it is to have when v0 took the message.
func (g *gatherer) lacks(id string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.faults) > 0 {
		return fmt.Errorf("the collector was sent %s", strings.Join(g.faults, "; "))
	}
	spans := g.traces[id]
	of := func(name string) (nodes []string) {
		for _, s := range spans {
			if s.name == name {
				nodes = append(nodes, s.node)
			}
		}
		slices.Sort(nodes)
		return nodes
	}
	entry, all := []string{"v0"}, []string{"v0", "v1", "v2", "v3"}
	for name, want := range map[string][]string{
		"POST /v1/messages": entry, "batch": entry, "replicate": entry, "receive batch": all[1:], "commit": all, "receipt": entry,
	} {
		if got := of(name); !slices.Equal(got, want) {
			return fmt.Errorf("spans %q of %v, want %v", name, got, want)
		}
	}
	// A node that is behind need not vote. The threshold is 3.
	if proposed, notarized, finalized := of("propose"), of("vote to notarize"), of("vote to finalize"); len(proposed) == 0 || len(notarized) < 3 ||
		len(finalized) < 3 {
		return fmt.Errorf("%v proposed, %v and %v voted", proposed, notarized, finalized)
	}
	root := spans[slices.IndexFunc(spans, func(s gathered) bool { return s.name == "POST /v1/messages" })]
	for _, s := range spans {
		if s == root && s.parent != clientSpan || s != root && s.parent != root.id {
			return fmt.Errorf("%+v is not below the client's span, or not below the request's", s)
		}
	}
	return nil
}

// The client begins a trace, and it has the message's way on every node, down to the receipt. A
// client that does not ask for a trace gets none.
func TestATraceFollowsAMessageThroughANetwork(t *testing.T) {
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "100") // the nodes send their spans after 100 ms
	gatherer, url := newGatherer(t)
	n := system.Start(t, system.Options{Config: "tracing: {endpoint: \"" + url + "\"}\n"})
	if _, err := n.Nodes[0].Finalize("of a client that asks for no trace"); err != nil {
		t.Fatal(err)
	}
	// A node that is late may fetch a batch, and what was beside it is not fetched. So it need not
	// be the first trace that is complete.
	var traces []string
	system.Eventually(t, soon, "a trace has the message's way on all nodes", func() error {
		number := len(traces) + 1
		traces = append(traces, fmt.Sprintf("%032x", number))
		if err := submitTraced(n.Nodes[0].URL, traces[number-1]); err != nil {
			return err
		}
		var lacks error
		for _, id := range traces {
			if lacks = gatherer.lacks(id); lacks == nil {
				return nil
			}
		}
		return lacks
	})
	gatherer.mu.Lock()
	defer gatherer.mu.Unlock()
	for id := range gatherer.traces {
		if !slices.Contains(traces, id) {
			t.Errorf("there is a trace %s that nobody asked for", id)
		}
	}
}

// submitTraced submits a message as part of a trace, and waits for its receipt.
func submitTraced(url, trace string) error {
	request, err := http.NewRequest(http.MethodPost, url+"/v1/messages?wait=final", bytes.NewReader([]byte(secret+trace)))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/octet-stream")
	request.Header.Set("traceparent", "00-"+trace+"-"+clientSpan+"-01")
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	if said, err := io.ReadAll(answer.Body); err != nil || answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s, %v", answer.Status, said, err)
	}
	return nil
}
