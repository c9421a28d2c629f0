package bench

import (
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/diseq/diseq/hack/bench/record"
	"github.com/diseq/diseq/test/system"
)

var (
	tracingTurns = flag.Int("tracing-turns", 5, "how often each network gets each load when the cost of traces is measured")
	tracingFor   = flag.Duration("tracing", 3*time.Second, "how long each load lasts when the cost of traces is measured")
)

// A spanCounter is a collector that counts spans and keeps none.
type spanCounter struct {
	mu    sync.Mutex
	spans int
}

func (c *spanCounter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var request collector.ExportTraceServiceRequest
	raw, err := io.ReadAll(r.Body)
	if err == nil {
		err = proto.Unmarshal(raw, &request)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, resource := range request.GetResourceSpans() {
		for _, scope := range resource.GetScopeSpans() {
			c.spans += len(scope.GetSpans())
		}
	}
}

func (c *spanCounter) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.spans
}

// BenchmarkTracing is what traces cost. Networks with and without them get the same loads in turns,
// so that what disturbs one disturbs the other, and the ratios are those of neighbouring turns. If
// BENCH_AGAINST names a program that knows no traces, it has its turns too.
func BenchmarkTracing(b *testing.B) {
	spans := &spanCounter{}
	server := httptest.NewServer(spans)
	defer server.Close()
	type side struct {
		name, binary, config string
		*system.Network
	}
	sides := []*side{
		{name: "off", binary: system.Binary},
		{name: "on at 1 %", binary: system.Binary, config: fmt.Sprintf("tracing: {endpoint: %q, samplingRatePerMillion: 10000}\n", server.URL)},
	}
	if base := os.Getenv("BENCH_AGAINST"); base != "" {
		sides = append([]*side{{name: "without", binary: base}}, sides...)
	}
	here := system.Binary
	defer func() { system.Binary = here }()
	for _, s := range sides {
		system.Binary = s.binary
		s.Network = system.Start(b, system.Options{Config: s.config})
	}
	system.Binary = here // the load generator is one for all

	loads := []struct {
		name string
		args []string
	}{
		{"requests of 1, 1,000 a second", []string{"--rate", "1000", "--batch", "1", "--duration", tracingFor.String()}},
		{"requests of 100, as fast as answered", flood(100, *tracingFor)},
	}
	measures := []string{"us a message, all nodes", "final/s"}
	// figures are by load, measure and side.
	figures := make([][][][]float64, len(loads))
	for i := range figures {
		figures[i] = make([][][]float64, len(measures))
		for j := range measures {
			figures[i][j] = make([][]float64, len(sides))
		}
	}
	const warm = 1 // a turn that does not count
	for turn := range warm + *tracingTurns {
		for i, load := range loads {
			for k := range sides {
				at := (turn + k) % len(sides) // each is first, and last, as often as the others
				u := measure(b, sides[at].Network, load.args...)
				progress("turn %d of %d, %s, %s: %.1f us a message, %.0f final/s", turn, *tracingTurns, load.name, sides[at].name, u.all(), u.FinalPerSecond)
				if turn >= warm {
					figures[i][0][at] = append(figures[i][0][at], u.all())
					figures[i][1][at] = append(figures[i][1][at], u.FinalPerSecond)
				}
			}
		}
	}
	if spans.count() == 0 {
		b.Fatal("the collector got no span")
	}
	progress("the collector got %d spans", spans.count())

	t := record.Table{Name: "tracing", Columns: []string{"load", "measure"}}
	for _, s := range sides {
		t.Columns = append(t.Columns, s.name)
	}
	for k := 1; k < len(sides); k++ {
		t.Columns = append(t.Columns, sides[k].name+" / "+sides[k-1].name, "quartiles")
	}
	for i, load := range loads {
		for j, name := range measures {
			cells := []any{load.name, name}
			for _, of := range figures[i][j] {
				cells = append(cells, quantile(of, 0.5))
			}
			for k := 1; k < len(sides); k++ {
				var ratios []float64
				for turn, f := range figures[i][j][k] {
					ratios = append(ratios, f/figures[i][j][k-1][turn])
				}
				cells = append(cells, fmt.Sprintf("%.3f", quantile(ratios, 0.5)), fmt.Sprintf("%.3f to %.3f", quantile(ratios, 0.25), quantile(ratios, 0.75)))
				if k == len(sides)-1 {
					b.ReportMetric(quantile(ratios, 0.5), fmt.Sprintf("ratio-%d-%d", i, j))
				}
			}
			t.Add(cells...)
		}
	}
	keep(b, &t)
}

// quantile returns that of figures, which it leaves as they are.
func quantile(figures []float64, share float64) float64 {
	sorted := slices.Sorted(slices.Values(figures))
	at := share * float64(len(sorted)-1)
	low := int(at)
	high := min(low+1, len(sorted)-1)
	return sorted[low] + (at-float64(low))*(sorted[high]-sorted[low])
}
