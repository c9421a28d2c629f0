package system

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptrace"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/test/oracle"
)

// Load describes clients that submit messages at a bounded rate, each over one connection and one
// request at a time.
type Load struct {
	// Nodes take the clients in turn. A client whose node does not answer goes on at the next for a
	// second.
	Nodes []*Node
	// Rate is in messages a second, of all clients together, Batch in messages a request, Size in
	// bytes a message (at least 24).
	Rate, Batch, Size int
	// Clients is how many there are, four for each node if zero.
	Clients int
}

// Ledger is what became of the messages of a load.
type Ledger struct {
	*oracle.Ledger
	mu sync.Mutex
	// Refused counts requests answered 429 or 503, Failed those that were not answered. Errors
	// holds other answers.
	Refused, Failed int
	Errors          []error

	stop func()
}

// Start runs a load until the ledger's Stop is called or the test ends.
func (l Load) Start(tb testing.TB) *Ledger {
	tb.Helper()
	if l.Clients == 0 {
		l.Clients = 4 * len(l.Nodes)
	}
	if l.Size < 24 || l.Rate <= 0 || l.Batch <= 0 {
		tb.Fatalf("load without size, rate or batch: %+v", l)
	}
	ledger := &Ledger{Ledger: oracle.NewLedger()}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for i := range l.Clients {
		c := &submitter{load: &l, ledger: ledger, index: i, down: make([]time.Time, len(l.Nodes)), lastNode: -1}
		running.Go(func() { c.run(ctx) })
	}
	ledger.stop = sync.OnceFunc(func() {
		cancel()
		running.Wait()
	})
	tb.Cleanup(ledger.stop)
	return ledger
}

// Latencies returns how long messages sent from one time to another took from being sent to being
// seen final, in rising order. It is only called after Stop, with the order and the history of an
// audit.
func (l *Ledger) Latencies(order *oracle.Order, h *History, from, to time.Time) []time.Duration {
	var out []time.Duration
	for id, a := range l.All() {
		if a.Sent.Before(from) || !a.Sent.Before(to) {
			continue
		}
		if at, ok := h.At(order.Positions[id].Height); ok {
			out = append(out, at.Sub(a.Sent))
		}
	}
	slices.Sort(out)
	return out
}

// FinalPerSecond returns how many messages of the load were seen final in each second from a time
// on.
func (l *Ledger) FinalPerSecond(order *oracle.Order, h *History, from time.Time, seconds int) []int {
	out := make([]int, seconds)
	for id := range l.All() {
		if at, ok := h.At(order.Positions[id].Height); ok && !at.Before(from) {
			if s := int(at.Sub(from) / time.Second); s < seconds {
				out[s]++
			}
		}
	}
	return out
}

// Stop ends the load and returns when every request has been answered or given up.
func (l *Ledger) Stop() { l.stop() }

// submitter is one connection's worth of load.
type submitter struct {
	load     *Load
	ledger   *Ledger
	index    int
	down     []time.Time // until when a node is not asked
	lastNode int
	lane     int // the number of the lane
	place    int
}

func (c *submitter) run(ctx context.Context) {
	transport := &http.Transport{MaxConnsPerHost: 1, DialContext: (&net.Dialer{Timeout: 2 * time.Second}).DialContext}
	defer transport.CloseIdleConnections()
	h := &http.Client{Transport: transport, Timeout: answerWithin}
	every := time.Duration(float64(time.Second) * float64(c.load.Batch*c.load.Clients) / float64(c.load.Rate))
	// the clients do not march in step
	due := time.Now().Add(time.Duration(rand.Int64N(int64(every) + 1)))
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		timer.Reset(time.Until(due))
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		// A client that fell behind catches up, but does not make a flood of what an outage held
		// back.
		due = due.Add(every)
		if late := time.Now().Add(-max(time.Second, every)); due.Before(late) {
			due = late
		}
		c.request(ctx, h)
	}
}

// loadTag starts the messages of loads, so that an audit can tell one that nobody submitted from
// one of the test's own.
var loadTag = []byte("load ")

func ofLoad(data []byte) bool { return bytes.HasPrefix(data, loadTag) }

// messages makes messages that exist once: random, so that no other load and no other run has them.
func (c *submitter) messages() [][]byte {
	out := make([][]byte, c.load.Batch)
	for i := range out {
		m := append(make([]byte, 0, c.load.Size), loadTag...)
		m = binary.LittleEndian.AppendUint64(m, rand.Uint64())
		m = binary.LittleEndian.AppendUint64(m, rand.Uint64())
		out[i] = m[:c.load.Size]
	}
	return out
}

// node picks the client's own node, or the next that is not known to be down.
func (c *submitter) node() int {
	for i := range c.load.Nodes {
		if n := (c.index + i) % len(c.load.Nodes); time.Now().After(c.down[n]) {
			return n
		}
	}
	return c.index % len(c.load.Nodes)
}

func (c *submitter) request(ctx context.Context, h *http.Client) {
	i := c.node()
	if i != c.lastNode {
		c.lastNode, c.lane, c.place = i, c.lane+1, 0
	}
	messages := c.messages()
	// Messages keep their order over one connection. A node that was killed and started again
	// between two requests breaks the connection, and the second request makes another one without
	// an error.
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(got httptrace.GotConnInfo) {
		if !got.Reused && c.place > 0 {
			c.lane, c.place = c.lane+1, 0
		}
	}})
	sent := time.Now()
	// Stopping the load does not break off a request: each is answered, or its messages are
	// uncertain.
	results, err := c.load.Nodes[i].Submit(context.WithoutCancel(ctx), h, "", messages)
	answered := time.Now()
	l := c.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		for _, r := range results {
			c.place++
			l.Accepted(r.ID, oracle.Acceptance{
				Sent: sent, Answered: answered, Lane: oracle.Lane{Client: c.index, Sequence: c.lane}, Place: c.place,
			})
		}
		return
	}
	c.lastNode = -1 // later messages are in another lane
	var refused *AnswerError
	switch {
	case !errors.As(err, &refused):
		l.Failed++
	case refused.Code == http.StatusTooManyRequests:
		l.Refused++
		return // nothing of it was taken, and the node is well
	case refused.Code == http.StatusServiceUnavailable:
		l.Refused++
	default:
		l.Errors = append(l.Errors, err)
	}
	for _, m := range messages {
		l.Sent(chain.Message{Data: m}.ID())
	}
	c.down[i] = time.Now().Add(time.Second)
}

// String says what became of the load.
func (l *Ledger) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	accepted, uncertain := l.Count()
	return fmt.Sprintf("%d messages accepted, %d uncertain, %d requests refused, %d not answered", accepted, uncertain, l.Refused, l.Failed)
}
