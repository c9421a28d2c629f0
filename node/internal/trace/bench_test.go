package trace

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"syscall"
	"testing"
	"time"

	"golang.org/x/time/rate"

	"github.com/diseq/diseq/node/chain"
)

// newBenched returns a tracer that sends its spans to a collector over HTTP, nil for no endpoint.
// The bounds on the traces of a second are left out: here a second has far more messages.
func newBenched(b *testing.B, endpoint string, perMillion int) *Tracer {
	b.Helper()
	t, err := Start(b.Context(), Config{Options: Options{Endpoint: endpoint, SamplingRatePerMillion: perMillion}})
	if err != nil {
		b.Fatal(err)
	}
	if t != nil {
		t.begins.SetLimit(rate.Inf)
		t.arrivals.SetLimit(rate.Inf)
		b.Cleanup(t.Close)
	}
	return t
}

// BenchmarkMessage is the processor time that traces take of a message in a network of four, from
// the request to the receipt, with the time to send the spans, and that of a collector that reads
// them and does nothing. 4096 messages form a batch. The time is what the kernel counts, so that a
// busy machine tells nearly the same as a quiet one. docs/performance.md has the time that a
// message takes in all.
func BenchmarkMessage(b *testing.B) {
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
	b.Cleanup(collector.Close)
	all, ids := messages(4096)
	for _, share := range []struct {
		name, endpoint string
		perMillion     int
		request        int // messages of one
	}{
		{"off", "", 0, 1}, {"on, none traced", collector.URL, 0, 1}, {"on, 1 % traced", collector.URL, million / 100, 1},
		{"off, requests of 100", "", 0, 100}, {"on, 1 % traced, requests of 100", collector.URL, million / 100, 100},
	} {
		b.Run(share.name, func(b *testing.B) {
			nodes := make([]*Tracer, 4)
			for i := range nodes {
				nodes[i] = newBenched(b, share.endpoint, share.perMillion)
			}
			rounds, began := 0, used(b)
			for b.Loop() {
				round(b, nodes, all, ids, share.request, rounds)
				rounds++
			}
			b.ReportMetric(float64((used(b)-began).Nanoseconds())/float64(rounds*len(all)), "cpu-ns/message")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// used is the processor time that this process has used.
func used(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// round is what four nodes tell their tracers about a batch, whose messages come in requests of a
// size. The first node takes them, and the second proposes.
func round(b *testing.B, nodes []*Tracer, all []chain.Message, ids []chain.Hash, size, n int) {
	b.Helper()
	of := chain.Hash{1, byte(n), byte(n >> 8), byte(n >> 16), byte(n >> 24)}
	height := uint64(n + 1)
	proposed := &chain.Bundle{Proposals: []*chain.Proposal{{
		Statement: chain.Vote{Kind: chain.Propose, Height: height, Block: of}, Block: chain.Block{Body: []chain.BatchRef{{Hash: of}}},
	}}}
	entry := nodes[0]
	done := make([]func(error), 0, 2*len(all))
	request := submission("")
	for rest := all; len(rest) > 0; {
		some := rest[:min(size, len(rest))]
		rest = rest[len(some):]
		traced, answered := entry.Begin(request)
		done = append(done, entry.Submit(traced.Context(), some), answered)
	}
	entry.Formed(of, ids)
	for _, t := range nodes[1:] {
		t.Arrived(entry.Beside(of))(nil)
	}
	for _, end := range done {
		end(nil)
	}
	for i, t := range nodes {
		if i == 1 {
			t.Sent(proposed)
		} else {
			t.Received(proposed)
		}
		for _, kind := range []chain.Kind{chain.Notarize, chain.Finalize} {
			t.Sent(&chain.Bundle{Votes: []chain.Vote{{Kind: kind, Height: height, Block: of}}})
		}
		t.Final(height, of, proposed.Proposals[0].Block.Body)
	}
	for rest := ids; len(rest) > 0; {
		some := rest[:min(size, len(rest))]
		rest = rest[len(some):]
		entry.Receipts(some)(nil)
	}
	for _, t := range nodes { // or spans would be dropped, and cost nothing
		if t == nil {
			continue
		}
		if err := t.provider.ForceFlush(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

// A request that is not traced looks at one header and draws.
func BenchmarkBegin(b *testing.B) {
	for _, perMillion := range []int{0, million / 100} {
		b.Run(fmt.Sprintf("%d of a million", perMillion), func(b *testing.B) {
			t := newBenched(b, "http://127.0.0.1:1", perMillion)
			t.begins.SetLimit(0) // those that are drawn are no part of this
			r := submission("")
			for b.Loop() {
				_, end := t.Begin(r)
				end(nil)
			}
		})
	}
}
