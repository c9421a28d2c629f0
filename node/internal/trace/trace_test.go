package trace

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	otel "go.opentelemetry.io/otel/trace"
	"golang.org/x/time/rate"

	"github.com/diseq/diseq/node/chain"
)

// A recorder is a tracer whose spans stay here.
type recorder struct {
	*Tracer
	spans *tracetest.InMemoryExporter
}

func newRecorder(t testing.TB, rate int) recorder {
	t.Helper()
	spans := tracetest.NewInMemoryExporter()
	tracer := newTracer(Config{Options: Options{SamplingRatePerMillion: rate}, Name: "v0"}, func(context.Context) sdk.SpanProcessor {
		return sdk.NewSimpleSpanProcessor(spans)
	})
	t.Cleanup(tracer.Close)
	return recorder{tracer, spans}
}

// names are those of the spans so far, in the order in which they ended.
func (r recorder) names() string {
	var names []string
	for _, s := range r.spans.GetSpans() {
		names = append(names, s.Name)
	}
	return strings.Join(names, ", ")
}

const (
	clientTrace = "0af7651916cd43dd8448eb211c80319c"
	clientSpan  = "b7ad6b7169203331"
)

// submission is a request as the server hands it over; flags are those of its traceparent.
func submission(flags string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/v1/messages", nil)
	r.Pattern = "POST /v1/messages"
	if flags != "" {
		r.Header.Set("traceparent", "00-"+clientTrace+"-"+clientSpan+"-"+flags)
	}
	return r
}

// sampled is the context of a request that is traced.
func sampled() context.Context {
	return otel.ContextWithSpanContext(context.Background(), otel.NewSpanContext(otel.SpanContextConfig{
		TraceID: otel.TraceID{1}, SpanID: otel.SpanID{2}, TraceFlags: otel.FlagsSampled,
	}))
}

func messages(n int) (all []chain.Message, ids []chain.Hash) {
	for i := range n {
		m := chain.Message{Data: binary.BigEndian.AppendUint64(nil, uint64(i+1))}
		all, ids = append(all, m), append(ids, m.ID())
	}
	return all, ids
}

var (
	batch = chain.Hash{7}
	hash  = chain.Hash{8}
	body  = []chain.BatchRef{{Hash: chain.Hash{6}}, {Hash: batch}}
)

func proposal() *chain.Proposal {
	return &chain.Proposal{Statement: chain.Vote{Kind: chain.Propose, Height: 5, Round: 1, Block: hash}, Block: chain.Block{Body: body}}
}

func votes(kinds ...chain.Kind) *chain.Bundle {
	b := &chain.Bundle{}
	for _, k := range kinds {
		b.Votes = append(b.Votes, chain.Vote{Kind: k, Height: 5, Round: 1, Block: hash})
	}
	return b
}

// One trace has all that three nodes do for a message: the one that its client submits to, the
// leader, and another.
func TestOneTraceFollowsAMessageThroughTheNodes(t *testing.T) {
	entry, leader, other := newRecorder(t, 0), newRecorder(t, 0), newRecorder(t, 0)
	r, answered := entry.Begin(submission("01"))
	all, ids := messages(1)
	accepted := entry.Submit(r.Context(), all)
	entry.Formed(batch, ids)
	for _, to := range []recorder{leader, other} {
		to.Arrived(entry.Beside(batch))(nil)
	}
	accepted(nil)
	leader.Sent(&chain.Bundle{Proposals: []*chain.Proposal{proposal()}, Votes: votes(chain.Notarize).Votes})
	for _, node := range []recorder{entry, other} {
		node.Received(&chain.Bundle{Proposals: []*chain.Proposal{proposal()}})
		node.Sent(votes(chain.Notarize))
	}
	for _, node := range []recorder{entry, leader, other} {
		node.Sent(votes(chain.Finalize))
		node.Sent(votes(chain.Notarize, chain.Finalize)) // again, for a peer that may have missed them
		node.Final(5, hash, body)
	}
	entry.Receipts(ids)(nil)
	entry.Receipts(ids)(nil)
	answered(nil)

	for name, want := range map[string]struct {
		recorder
		spans string
	}{
		"entry":  {entry, "batch, replicate, vote to notarize, vote to finalize, commit, receipt, POST /v1/messages"},
		"leader": {leader, "receive batch, propose, vote to notarize, vote to finalize, commit"},
		"other":  {other, "receive batch, vote to notarize, vote to finalize, commit"},
	} {
		if got := want.names(); got != want.spans {
			t.Errorf("%s: spans %s, want %s", name, got, want.spans)
		}
	}
	all3 := slices.Concat(entry.spans.GetSpans(), leader.spans.GetSpans(), other.spans.GetSpans())
	i := slices.IndexFunc(all3, func(s tracetest.SpanStub) bool { return s.SpanKind == otel.SpanKindServer })
	root := all3[i]
	if root.Parent.SpanID().String() != clientSpan {
		t.Errorf("the request's span is below %s, want the client's", root.Parent.SpanID())
	}
	for _, s := range all3 {
		if s.SpanContext.TraceID().String() != clientTrace {
			t.Errorf("%s is of the trace %s", s.Name, s.SpanContext.TraceID())
		}
		if s.SpanKind != otel.SpanKindServer && s.Parent.SpanID() != root.SpanContext.SpanID() {
			t.Errorf("%s is not below the request's span", s.Name)
		}
		if s.EndTime.Before(s.StartTime) || s.StartTime.IsZero() {
			t.Errorf("%s lasted from %s to %s", s.Name, s.StartTime, s.EndTime)
		}
	}
	for _, node := range []recorder{entry, leader, other} {
		if !node.idle() || node.live != 0 || len(node.blocks) != 0 {
			t.Errorf("something is followed still: %d, %d blocks", node.live, len(node.blocks))
		}
	}
}

// A proposal may overtake the batches that it names.
func TestABatchMayComeAfterItsBlock(t *testing.T) {
	entry, other := newRecorder(t, 0), newRecorder(t, 0)
	all, ids := messages(1)
	entry.Submit(sampled(), all)
	entry.Formed(batch, ids)
	other.Received(&chain.Bundle{Proposals: []*chain.Proposal{proposal()}})
	durable := other.Arrived(entry.Beside(batch))
	other.Sent(votes(chain.Notarize))
	durable(nil)
	other.Final(5, hash, body)
	if got := other.names(); got != "vote to notarize, receive batch, commit" {
		t.Errorf("spans %s", got)
	}
}

// A block names the batches of several authors, and they come one by one.
func TestABatchMayComeBetweenTheVotes(t *testing.T) {
	first, second, other := newRecorder(t, 0), newRecorder(t, 0), newRecorder(t, 0)
	all, ids := messages(2)
	for i, entry := range []recorder{first, second} {
		entry.Submit(sampled(), all[i:i+1])
		entry.Formed(body[i].Hash, ids[i:i+1])
	}
	other.Arrived(first.Beside(body[0].Hash))(nil)
	other.Received(&chain.Bundle{Proposals: []*chain.Proposal{proposal()}})
	other.Arrived(second.Beside(body[1].Hash))(nil)
	other.Sent(votes(chain.Notarize))
	if got := other.names(); got != "receive batch, receive batch, vote to notarize, vote to notarize" {
		t.Errorf("spans %s", got)
	}
}

// A validator may propose what it likes, however far ahead.
func TestTheProposalsThatAreKeptAreBounded(t *testing.T) {
	r := newRecorder(t, 0)
	for i := range 10 * maxBlocks {
		p := proposal()
		p.Statement.Block, p.Statement.Height = chain.Hash{byte(i)}, uint64(1000+i)
		r.Received(&chain.Bundle{Proposals: []*chain.Proposal{p}})
	}
	if last := r.blocks[len(r.blocks)-1]; len(r.blocks) != maxBlocks || last.hash != (chain.Hash{10*maxBlocks - 1}) {
		t.Errorf("%d proposals are kept, the last one is %s", len(r.blocks), last.hash)
	}
}

func TestNothingIsFollowedUnlessItIsAskedFor(t *testing.T) {
	all, ids := messages(2)
	way := func(tracer *Tracer, flags string) {
		r, answered := tracer.Begin(submission(flags))
		accepted := tracer.Submit(r.Context(), all)
		tracer.Formed(batch, ids)
		if beside := tracer.Beside(batch); beside != nil {
			t.Errorf("%d bytes travel beside the batch", len(beside))
		}
		tracer.Arrived(nil)(nil)
		accepted(nil)
		tracer.Sent(&chain.Bundle{Proposals: []*chain.Proposal{proposal()}, Votes: votes(chain.Notarize).Votes})
		tracer.Received(&chain.Bundle{Proposals: []*chain.Proposal{proposal()}})
		tracer.Final(5, hash, body)
		tracer.Receipts(ids)(nil)
		answered(nil)
		tracer.Close()
	}
	off, err := Start(t.Context(), Config{})
	if off != nil || err != nil {
		t.Fatalf("without a collector: %v, %v", off, err)
	}
	way(off, "01")
	for _, flags := range []string{"", "00"} {
		r := newRecorder(t, 0)
		way(r.Tracer, flags)
		if got := r.names(); got != "" {
			t.Errorf("traceparent with flags %q: spans %s", flags, got)
		}
	}
}

func TestAShareOfTheSubmissionsIsDrawn(t *testing.T) {
	r := newRecorder(t, million)
	for _, flags := range []string{"", "00", "01"} {
		_, answered := r.Begin(submission(flags))
		answered(errors.New("refused"))
	}
	spans := r.spans.GetSpans()
	if len(spans) != 3 || spans[0].Parent.IsValid() || spans[1].SpanContext.TraceID().String() != clientTrace || len(spans[0].Events) != 1 {
		t.Errorf("%+v", spans)
	}
}

// Clients and peers ask for traces as they like. The messages that a node follows are bounded all
// the same.
func TestWhatIsFollowedIsBounded(t *testing.T) {
	r := newRecorder(t, 0)
	began := time.Now()
	traced := 0
	for range 10 * maxTracesPerSecond {
		if q, answered := r.Begin(submission("01")); otel.SpanContextFromContext(q.Context()).IsSampled() {
			traced++
			answered(nil)
		}
	}
	if most := maxTracesPerSecond + 1 + int(time.Since(began).Seconds()*maxTracesPerSecond); traced < maxTracesPerSecond || traced > most {
		t.Errorf("%d traces began, want %d to %d", traced, maxTracesPerSecond, most)
	}
	all, _ := messages(3 * maxFollowed)
	r.Submit(sampled(), all)
	if r.live != maxPerRequest {
		t.Errorf("%d messages of a request are followed, want %d", r.live, maxPerRequest)
	}
	for len(all) > 0 {
		r.Submit(sampled(), all[:maxPerRequest])
		all = all[maxPerRequest:]
	}
	if r.live != maxFollowed || len(r.forming) != maxFollowed {
		t.Errorf("%d messages are followed, want %d", r.live, maxFollowed)
	}
	// Those that do not become final make room in the end.
	r.mu.Lock()
	room := r.room(time.Now().Add(2*forgetAfter), maxFollowed)
	r.mu.Unlock()
	if !room || r.live != 0 || len(r.forming) != 0 || len(r.followed) != 0 {
		t.Errorf("%d messages are followed after %v", r.live, forgetAfter)
	}
}

// The messages of peers leave places for those of a node's own clients.
func TestPeersDoNotTakeAllPlaces(t *testing.T) {
	r := newRecorder(t, 0)
	r.arrivals.SetLimit(rate.Inf)
	for i := range 2 * maxFollowed / maxWireMessages {
		of := chain.Hash{1, byte(i), byte(i >> 8)}
		beside := append([]byte{wireVersion}, of[:]...)
		for range maxWireMessages {
			beside = append(beside, bytes.Repeat([]byte{1}, wireMessage)...)
		}
		r.Arrived(beside)(nil)
	}
	if r.live != maxFromPeers {
		t.Errorf("%d messages of peers are followed, want %d", r.live, maxFromPeers)
	}
	all, _ := messages(1)
	if r.Submit(sampled(), all); r.live != maxFromPeers+1 {
		t.Error("a message of a client has no place")
	}
}

// Final messages whose receipts nobody fetches take the places of each other.
func TestFinalMessagesAreForgotten(t *testing.T) {
	r := newRecorder(t, 0)
	all, ids := messages(2 * maxFinal)
	for i := 0; i < len(all); i += maxPerRequest {
		of := chain.Hash{1, byte(i), byte(i >> 8)}
		accepted := r.Submit(sampled(), all[i:i+maxPerRequest])
		r.Formed(of, ids[i:i+maxPerRequest])
		accepted(nil)
		r.Final(uint64(i+1), chain.Hash{2}, []chain.BatchRef{{Hash: of}})
	}
	if r.live != 0 || len(r.final) != maxFinal || len(r.ended) != maxFinal || len(r.batches) != 0 {
		t.Errorf("%d followed, %d final, %d batches", r.live, len(r.final), len(r.batches))
	}
}

func TestARefusedSubmissionIsNotFollowed(t *testing.T) {
	r := newRecorder(t, 0)
	all, ids := messages(2)
	accepted := r.Submit(sampled(), all)
	r.Formed(batch, ids[:1])
	accepted(nil) // the pool had the second message before
	r.Submit(sampled(), all[1:])(errors.New("the pool is full"))
	if r.live != 1 || len(r.forming) != 0 || r.names() != "batch, replicate" {
		t.Errorf("%d followed, %d wait for a batch; spans %s", r.live, len(r.forming), r.names())
	}
}

func TestWhatTravelsBesideABatch(t *testing.T) {
	entry, other := newRecorder(t, 0), newRecorder(t, 0)
	all, ids := messages(2 * maxWireMessages)
	for i := 0; i < len(all); i += maxPerRequest {
		entry.Submit(sampled(), all[i:i+maxPerRequest])
	}
	entry.Formed(batch, ids)
	beside := entry.Beside(batch)
	if len(beside) != MaxWireBytes {
		t.Errorf("%d bytes, want %d", len(beside), MaxWireBytes)
	}
	if entry.Beside(chain.Hash{9}) != nil {
		t.Error("another batch has traces")
	}
	// Twice, as from its author and from a node that passes it on; the first time without success.
	other.Arrived(beside)(errors.New("the disk is full"))
	if other.live != 0 {
		t.Errorf("%d messages of a refused batch are followed", other.live)
	}
	for range 2 {
		other.Arrived(beside)(nil)
	}
	if other.live != maxWireMessages || other.Beside(batch) == nil {
		t.Errorf("%d messages are followed, want %d", other.live, maxWireMessages)
	}
	if got := len(other.spans.GetSpans()); got != 2*maxWireMessages {
		t.Errorf("%d spans, want %d", got, 2*maxWireMessages)
	}
}

// The field comes from a peer, which may write anything.
func TestOtherInputBesideABatchIsIgnored(t *testing.T) {
	entry := newRecorder(t, 0)
	all, ids := messages(1)
	entry.Submit(sampled(), all)
	entry.Formed(batch, ids)
	good := entry.Beside(batch)
	nobody := slices.Clone(good)
	clear(nobody[wireHeader+32:])
	for name, beside := range map[string][]byte{
		"empty": {}, "another version": append([]byte{2}, good[1:]...), "cut off": good[:len(good)-1], "one byte more": append(slices.Clone(good), 0),
		"no message": good[:wireHeader], "too long": append(slices.Clone(good), bytes.Repeat(good[wireHeader:], maxWireMessages)...), "no trace": nobody,
	} {
		other := newRecorder(t, 0)
		other.Arrived(beside)(nil)
		if other.live != 0 || other.names() != "" {
			t.Errorf("%s: %d messages, spans %s", name, other.live, other.names())
		}
	}
}

// FuzzArrived has a peer send anything beside a batch. The bounds hold, and a node passes on what
// it took as it was.
func FuzzArrived(f *testing.F) {
	entry := newRecorder(f, 0)
	all, ids := messages(2)
	entry.Submit(sampled(), all)
	entry.Formed(batch, ids)
	good := entry.Beside(batch)
	for _, seed := range [][]byte{nil, good, good[:len(good)-wireMessage], good[:wireHeader], append(slices.Clone(good), 1)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, beside []byte) {
		r := newRecorder(t, 0)
		r.Arrived(beside)(nil)
		if r.live > maxWireMessages || r.live > 0 && len(beside) > MaxWireBytes {
			t.Fatalf("%d messages are followed of %d bytes", r.live, len(beside))
		}
		if r.live == 0 {
			return
		}
		of := chain.Hash(beside[1:wireHeader])
		if again := r.Beside(of); len(again) == len(beside) && !bytes.Equal(again, beside) || len(again) > len(beside) || len(r.batches) != 1 {
			t.Errorf("%x is passed on as %x", beside, again)
		}
		r.Final(1, hash, []chain.BatchRef{{Hash: of}})
		if r.live != 0 || len(r.batches) != 0 {
			t.Errorf("%d messages are followed of a final batch", r.live)
		}
	})
}

// FuzzBegin has a client send anything as its trace. A request is traced if the standard's form has
// the flag, and what is kept of the headers is bounded.
func FuzzBegin(f *testing.F) {
	f.Add("00-"+clientTrace+"-"+clientSpan+"-01", "vendor=1,other=2")
	f.Add("00-"+clientTrace+"-"+clientSpan+"-00", "")
	f.Add("ff-"+clientTrace+"-"+clientSpan+"-01", "=")
	f.Add("01-"+clientTrace+"-"+clientSpan+"-01-more", strings.Repeat("a=1,", 200))
	f.Fuzz(func(t *testing.T, parent, state string) {
		r := newRecorder(t, 0)
		request := submission("")
		request.Header.Set("traceparent", parent)
		request.Header.Set("tracestate", state)
		traced, answered := r.Begin(request)
		answered(nil)
		in := otel.SpanContextFromContext(traced.Context())
		if in.IsSampled() != (len(r.spans.GetSpans()) == 1) {
			t.Errorf("%q: sampled %v, %d spans", parent, in.IsSampled(), len(r.spans.GetSpans()))
		}
		if in.IsSampled() && (len(parent) < 55 || !strings.EqualFold(parent[3:35], in.TraceID().String())) {
			t.Errorf("%q is followed as %s", parent, in.TraceID())
		}
		if kept := in.TraceState().String(); len(kept) > 2*maxTracestate {
			t.Errorf("%d bytes of %d are kept", len(kept), len(state))
		}
	})
}

// The request's span has the client's tracestate, if that is no longer than it need be; no other
// span has it, and no other node.
func TestATracestateIsKeptOnce(t *testing.T) {
	for length, want := range map[int]string{maxTracestate: "one", maxTracestate + 1: "none"} {
		r := newRecorder(t, 0)
		request := submission("01")
		given := "a=" + strings.Repeat("x", 200) + ",b=" + strings.Repeat("x", 200) + ",c=" + strings.Repeat("x", length-408)
		request.Header.Set("tracestate", given)
		traced, answered := r.Begin(request)
		all, ids := messages(1)
		r.Submit(traced.Context(), all)
		r.Formed(batch, ids)
		answered(nil)
		var had []string
		for _, s := range r.spans.GetSpans() {
			if s.SpanContext.TraceState().Len() > 0 || s.Parent.TraceState().Len() > 0 {
				had = append(had, s.Name)
			}
		}
		if want == "one" && !slices.Equal(had, []string{"POST /v1/messages"}) || want == "none" && len(had) > 0 {
			t.Errorf("tracestate of %d bytes: spans %v have it, want %s", len(given), had, want)
		}
	}
}

// The text of an error may quote what a client or a peer sent.
func TestErrorsInSpansAreShortAndValid(t *testing.T) {
	r := newRecorder(t, million)
	_, answered := r.Begin(submission(""))
	answered(errors.New("refused: \xff" + strings.Repeat("é", maxErrorText)))
	for _, a := range r.spans.GetSpans()[0].Events[0].Attributes {
		if text := a.Value.AsString(); len(text) > maxErrorText+1 || !utf8.ValidString(text) {
			t.Errorf("%s: %d bytes: %q", a.Key, len(text), text)
		}
	}
}

// hanging is an exporter whose collector takes spans and never answers.
type hanging struct{ asked atomic.Int64 }

func (h *hanging) ExportSpans(ctx context.Context, _ []sdk.ReadOnlySpan) error {
	h.asked.Add(1)
	<-ctx.Done()
	return ctx.Err()
}

func (*hanging) Shutdown(context.Context) error { return nil }

// A node goes on while its collector hangs. It drops spans instead of keeping them, and when it
// stops it waits for a moment and leaves nothing behind.
func TestACollectorThatHangsHoldsUpNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		collector := &hanging{}
		tracer := newTracer(Config{}, func(life context.Context) sdk.SpanProcessor {
			return batched(life, collector, slog.New(slog.DiscardHandler))
		})
		began := time.Now()
		m := &message{parent: otel.SpanContextFromContext(sampled())}
		for range 10_000 {
			tracer.span(m, spanBatch, began, began, nil)
		}
		synctest.Wait()
		if took := time.Since(began); took != 0 || collector.asked.Load() != 1 {
			t.Errorf("10,000 spans took %v while the collector hung; it was asked %d times", took, collector.asked.Load())
		}
		tracer.Close()
		if took := time.Since(began); took != closeTimeout {
			t.Errorf("a node that stops waits for %v, want %v", took, closeTimeout)
		}
	}) // which fails if a goroutine is left
}

// failing is an exporter whose collector is away, or not.
type failing struct {
	*tracetest.InMemoryExporter
	away atomic.Bool
}

func (f *failing) ExportSpans(context.Context, []sdk.ReadOnlySpan) error {
	if f.away.Load() {
		return errors.New("connection refused")
	}
	return nil
}

func TestACollectorThatIsAwayIsReportedOnce(t *testing.T) {
	var log bytes.Buffer
	collector := &failing{InMemoryExporter: tracetest.NewInMemoryExporter()}
	r := &reporting{SpanExporter: collector, life: t.Context(), log: slog.New(slog.NewTextHandler(&log, nil))}
	for _, away := range []bool{true, true, false, false, true} {
		collector.away.Store(away)
		if err := r.ExportSpans(t.Context(), nil); err != nil {
			t.Error(err)
		}
	}
	if got := strings.Count(log.String(), "not delivered"); got != 2 || strings.Count(log.String(), "takes spans again") != 1 {
		t.Errorf("%s", log.String())
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for _, o := range []Options{{}, {Endpoint: "http://127.0.0.1:4318"}, {Endpoint: "https://collector.example", SamplingRatePerMillion: million}} {
		if err := o.Validate(); err != nil {
			t.Errorf("%+v: %v", o, err)
		}
	}
	for _, o := range []Options{
		{Endpoint: "http://a", SamplingRatePerMillion: -1}, {Endpoint: "http://a", SamplingRatePerMillion: million + 1}, {SamplingRatePerMillion: 1}, {Endpoint: "127.0.0.1:4318"}, {Endpoint: "grpc://127.0.0.1:4317"}, {Endpoint: "http://"},
		{Endpoint: "http://user:secret@collector"}, {Endpoint: "http://collector?x=1"}, {Endpoint: "http://:4318"}, {Endpoint: "http://collector:65536"},
	} {
		if err := o.Validate(); err == nil || !strings.Contains(err.Error(), "tracing.") {
			t.Errorf("%+v: %v", o, err)
		}
	}
}
