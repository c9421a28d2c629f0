package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/diseq/diseq/client"
	"github.com/diseq/diseq/node/chain"
)

// load submits messages and sees when they become final.
type load struct {
	clients         []*client.Client
	followed        *client.Client // the node whose blocks show what is final
	duration, drain time.Duration
	rate            float64
	batch, size     int
	connections     int

	mu sync.Mutex
	// open are the messages sent and not yet seen final, by id.
	open             map[chain.Hash]*sending
	counted          counts
	accept, finality *hdrhistogram.Histogram
	lastFinal        time.Time
	failure          error
	drained          chan struct{} // signalled when open may have become empty
}

// sending is one request.
type sending struct {
	at       time.Time
	accepted bool
}

type counts struct{ sent, accepted, refused, failed, final int }

// result is the output of bench.
type result struct {
	Nodes    int     `json:"nodes"`
	Seconds  float64 `json:"duration_seconds"`
	Rate     float64 `json:"rate"`
	Batch    int     `json:"batch"`
	Size     int     `json:"size"`
	Sent     int     `json:"sent"`
	Accepted int     `json:"accepted"`
	// Refused counts messages of requests answered with an error (such as a full pool), Failed
	// those of requests that were not answered.
	Refused int `json:"refused"`
	Failed  int `json:"failed"`
	Final   int `json:"final"`
	// FinalPerSecond is over the time from the first submit to the last message final.
	FinalPerSecond float64 `json:"final_per_second"`
	// Latency is from submit to final as the first node's stream shows it, Accept from submit to
	// the answer, in milliseconds.
	Latency quantiles `json:"latency_ms"`
	Accept  quantiles `json:"accept_ms"`
	// Lost counts messages accepted and not final when the drain time was over.
	Lost int `json:"lost"`
}

type quantiles struct {
	P50 float64 `json:"p50"`
	P90 float64 `json:"p90"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

func (q quantiles) String() string {
	return fmt.Sprintf("p50 %.1f ms, p90 %.1f ms, p99 %.1f ms, max %.1f ms", q.P50, q.P90, q.P99, q.Max)
}

func (r *result) String() string {
	var b strings.Builder
	target := "as fast as answered"
	if r.Rate > 0 {
		target = fmt.Sprintf("%.0f/s", r.Rate)
	}
	fmt.Fprintf(&b, "load: %d nodes, %s, %d messages of %d bytes a request, %.1f s\n", r.Nodes, target, r.Batch, r.Size, r.Seconds)
	fmt.Fprintf(&b, "sent %d: accepted %d, refused %d, not answered %d\n", r.Sent, r.Accepted, r.Refused, r.Failed)
	fmt.Fprintf(&b, "final %d, %.0f/s\n", r.Final, r.FinalPerSecond)
	fmt.Fprintf(&b, "submit to final: %v\n", r.Latency)
	fmt.Fprintf(&b, "submit to accepted: %v\n", r.Accept)
	fmt.Fprintf(&b, "lost %d\n", r.Lost)
	return b.String()
}

// begin makes the counts of a run, all zero.
func (l *load) begin() {
	l.open, l.drained = map[chain.Hash]*sending{}, make(chan struct{}, 1)
	l.accept, l.finality = newHistogram(), newHistogram()
}

func (l *load) run(ctx context.Context) (*result, error) {
	status, err := l.followed.Status(ctx)
	if err != nil {
		return nil, err
	}
	l.begin()
	// The end of ctx ends submitting; what was submitted is still waited for.
	submitting, cancel := context.WithTimeout(ctx, l.duration)
	defer cancel()
	ctx = context.WithoutCancel(ctx)
	following, stopFollowing := context.WithCancel(ctx)
	followed := make(chan error, 1)
	go func() { followed <- l.followed.Lines(following, status.Height+1, l.block) }()
	defer stopFollowing()

	begun := time.Now()
	var workers sync.WaitGroup
	total := l.connections * len(l.clients)
	for i := range total {
		workers.Go(func() { l.submit(submitting, ctx, l.clients[i%len(l.clients)], i, total) })
	}
	workers.Wait()
	elapsed := time.Since(begun)
	if err := l.await(ctx, followed); err != nil {
		return nil, err
	}
	stopFollowing()
	return l.result(ctx, begun, elapsed), nil
}

// nonceBytes is the part of a message that makes it unique: 16 random bytes a connection and a
// counter.
const nonceBytes = 24

// submit is one connection: one request at a time, at its share of the rate. Requests under way
// when submitting ends are waited for, so that nothing accepted is missed.
func (l *load) submit(submitting, ctx context.Context, c *client.Client, index, total int) {
	messages := make([][]byte, l.batch)
	filler := make([]byte, l.batch*l.size)
	_, _ = rand.Read(filler) // it never fails
	for i := range messages {
		messages[i] = filler[i*l.size : (i+1)*l.size]
		copy(messages[i], filler[:nonceBytes])
	}
	every := time.Duration(0)
	if l.rate > 0 {
		every = time.Duration(float64(time.Second) * float64(l.batch*total) / l.rate)
	}
	// The connections do not march in step.
	due := time.Now().Add(every * time.Duration(index) / time.Duration(total))
	timer := time.NewTimer(0)
	defer timer.Stop()
	for number := uint64(0); ; number++ {
		timer.Reset(time.Until(due))
		select {
		case <-timer.C:
		case <-submitting.Done():
			return
		}
		if now := time.Now(); due.Add(time.Second).Before(now) {
			// a delay is made up for, but not with a flood
			due = now.Add(-time.Second)
		}
		due = due.Add(every)
		for i := range messages {
			binary.BigEndian.PutUint64(messages[i][16:], number*uint64(l.batch)+uint64(i))
		}
		if wait := l.request(ctx, c, messages); wait > 0 {
			timer.Reset(wait)
			select {
			case <-timer.C:
			case <-submitting.Done():
				return
			}
		}
	}
}

// request submits messages once; it returns how long to leave the node alone after a refusal.
func (l *load) request(ctx context.Context, c *client.Client, messages [][]byte) (wait time.Duration) {
	ids := make([]chain.Hash, len(messages))
	for i, m := range messages {
		ids[i] = chain.Message{Data: m}.ID()
	}
	s := &sending{at: time.Now()}
	l.mu.Lock()
	for _, id := range ids { // before they are sent: a block may be faster than the answer
		l.open[id] = s
	}
	l.counted.sent += len(ids)
	l.mu.Unlock()
	_, err := c.Submit(ctx, messages...)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		s.accepted = true
		l.counted.accepted += len(ids)
		record(l.accept, time.Since(s.at), len(ids))
		return 0
	}
	if l.failure == nil {
		l.failure = err
	}
	refused, ok := errors.AsType[*client.Error](err)
	if !ok {
		l.counted.failed += len(ids) // final or not: they stay, and are not missed
		return time.Second
	}
	l.counted.refused += len(ids)
	for _, id := range ids {
		delete(l.open, id)
	}
	return max(refused.RetryAfter, 100*time.Millisecond)
}

// block takes the ids out of a block's line of JSON. They are the only values that follow `"id":"`:
// data is base64.
func (l *load) block(_ uint64, line []byte) error {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	for mark := []byte(`"id":"`); ; {
		at := bytes.Index(line, mark)
		if at < 0 || len(line) < at+len(mark)+64 {
			break
		}
		line = line[at+len(mark):]
		var id chain.Hash
		if _, err := hex.Decode(id[:], line[:64]); err != nil {
			return fmt.Errorf("block with id %q: %w", line[:64], err)
		}
		if s := l.open[id]; s != nil {
			delete(l.open, id)
			l.counted.final++
			record(l.finality, now.Sub(s.at), 1)
			l.lastFinal = now
		}
		line = line[64:]
	}
	select {
	case l.drained <- struct{}{}:
	default:
	}
	return nil
}

// missing returns the accepted messages that were not seen final.
func (l *load) missing() (ids []chain.Hash) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, s := range l.open {
		if s.accepted {
			ids = append(ids, id)
		}
	}
	return ids
}

// await waits until all accepted messages were seen final, at most for the drain time.
func (l *load) await(ctx context.Context, followed <-chan error) error {
	deadline := time.NewTimer(l.drain)
	defer deadline.Stop()
	for len(l.missing()) > 0 {
		select {
		case <-l.drained:
		case <-deadline.C:
			return nil
		case <-ctx.Done():
			return nil
		case err := <-followed:
			return fmt.Errorf("following the blocks: %w", err)
		}
	}
	return nil
}

// maxAsked bounds the messages that nodes are asked about in the end.
const maxAsked = 1000

func (l *load) result(ctx context.Context, begun time.Time, elapsed time.Duration) *result {
	lost := l.missing()
	found := 0
	for _, id := range lost[:min(len(lost), maxAsked)] {
		for _, c := range l.clients {
			if m, err := c.Message(ctx, id); err == nil && m.Status == "final" {
				found++ // the node that was followed is behind
				break
			}
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	r := &result{
		Nodes: len(l.clients), Seconds: elapsed.Seconds(), Rate: l.rate, Batch: l.batch, Size: l.size, Sent: l.counted.sent,
		Accepted: l.counted.accepted, Refused: l.counted.refused, Failed: l.counted.failed, Final: l.counted.final + found,
		Latency: quantilesOf(l.finality), Accept: quantilesOf(l.accept), Lost: len(lost) - found,
	}
	if took := l.lastFinal.Sub(begun).Seconds(); took > 0 {
		r.FinalPerSecond = float64(l.counted.final) / took
	}
	return r
}

func (l *load) counts() (accepted, final int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.counted.accepted, l.counted.final
}

func (l *load) firstError() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failure
}

// longest is the longest time that a histogram tells apart.
const longest = 24 * time.Hour

// newHistogram returns a histogram of times within 1 %.
func newHistogram() *hdrhistogram.Histogram { return hdrhistogram.New(1, longest.Microseconds(), 2) }

func record(h *hdrhistogram.Histogram, d time.Duration, count int) {
	_ = h.RecordValues(min(max(d, 0), longest).Microseconds(), int64(count)) // it is in range
}

func quantilesOf(h *hdrhistogram.Histogram) quantiles {
	ms := func(microseconds int64) float64 { return float64(microseconds) / 1000 }
	return quantiles{
		P50: ms(h.ValueAtQuantile(50)), P90: ms(h.ValueAtQuantile(90)), P99: ms(h.ValueAtQuantile(99)), Max: ms(h.Max()),
	}
}
