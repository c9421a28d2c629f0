package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/diseq/diseq/client"
	"github.com/diseq/diseq/internal/clientcmd"
	"github.com/diseq/diseq/node/chain"
)

// fakeNode accepts messages and makes each request a block at once, unless it loses it.
type fakeNode struct {
	mu       sync.Mutex
	changed  *sync.Cond
	blocks   [][]chain.ReceiptMessage
	requests int
	closing  int // of the requests those that end their connection
	answer   func(request int) (status int, lose bool)
	// pending is a message that never becomes final.
	pending string
}

// noAnswer has a fake node close the connection.
const noAnswer = 0

func startFake(t *testing.T, answer func(int) (int, bool)) (*fakeNode, string) {
	t.Helper()
	n := &fakeNode{answer: answer}
	n.changed = sync.NewCond(&n.mu)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"height":0}`) })
	mux.HandleFunc("POST /v1/messages", n.submit)
	mux.HandleFunc("GET /v1/stream", n.stream)
	mux.HandleFunc("GET /v1/messages/{id}", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "not found", http.StatusNotFound) })
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return n, server.URL
}

func (n *fakeNode) submit(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body) // a broken request ends its client
	n.mu.Lock()
	defer n.mu.Unlock()
	n.requests++
	if r.Close {
		n.closing++
	}
	status, lose := n.answer(n.requests)
	if status == noAnswer {
		panic(http.ErrAbortHandler)
	}
	if status != http.StatusAccepted {
		w.WriteHeader(status)
		return
	}
	var messages []chain.ReceiptMessage
	var results []client.Result
	for len(body) > 0 {
		size, k := binary.Uvarint(body)
		m := chain.Message{Data: body[k : k+int(size)]}
		body = body[k+int(size):]
		messages = append(messages, chain.ReceiptMessage{ID: m.ID(), Message: m})
		result := client.Result{ID: m.ID(), Status: "pending"}
		if r.URL.Query().Has("wait") && string(m.Data) != n.pending {
			result.Status = "final"
			result.Receipt = &chain.Receipt{
				Version: 1, Message: messages[len(messages)-1], Inclusion: chain.Inclusion{Path: []chain.Hash{}},
				ValidatorChanges: []chain.ValidatorSetChange{},
			}
			result.Receipt.Certificate.Kind, result.Receipt.Certificate.Votes = chain.Finalize, []chain.VoteSignature{}
		}
		results = append(results, result)
	}
	if !lose {
		n.blocks = append(n.blocks, messages)
		n.changed.Broadcast()
	}
	w.WriteHeader(status)
	// a test that needs it fails without
	_ = json.NewEncoder(w).Encode(map[string]any{"results": results})
}

func (n *fakeNode) stream(w http.ResponseWriter, r *http.Request) {
	n.mu.Lock()
	defer n.mu.Unlock()
	_ = http.NewResponseController(w).Flush()
	defer context.AfterFunc(r.Context(), func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.changed.Broadcast()
	})()
	for height := 0; r.Context().Err() == nil; height++ {
		for len(n.blocks) <= height && r.Context().Err() == nil {
			n.changed.Wait()
		}
		if r.Context().Err() != nil {
			return
		}
		b := client.Block{Header: chain.Header{Height: uint64(height + 1)}, Messages: n.blocks[height]}
		if json.NewEncoder(w).Encode(b) != nil || http.NewResponseController(w).Flush() != nil {
			return
		}
	}
}

func bench(t *testing.T, url string, args ...string) (result, outcome) {
	t.Helper()
	o := diseq(t, "", append([]string{"bench", "-u", url, "--json", "--batch", "10", "--connections", "2", "--rate", "0", "--duration", "300ms"}, args...)...)
	var r result
	if err := json.Unmarshal([]byte(o.stdout), &r); err != nil {
		t.Fatalf("bench printed %q, %q: %v", o.stdout, o.stderr, err)
	}
	return r, o
}

func TestBenchCountsWhatBecameFinal(t *testing.T) {
	n, url := startFake(t, func(int) (int, bool) { return http.StatusAccepted, false })
	r, o := bench(t, url)
	n.mu.Lock()
	defer n.mu.Unlock()
	if o.code != 0 || r.Accepted == 0 || r.Accepted != 10*n.requests || r.Final != r.Accepted || r.Sent != r.Accepted || r.Lost != 0 || r.Refused != 0 {
		t.Errorf("exit code %d, %s; %+v after %d requests", o.code, o.stderr, r, n.requests)
	}
	if r.Latency.P50 <= 0 || r.Latency.P50 > r.Latency.P99 || r.Latency.P99 > r.Latency.Max || r.FinalPerSecond <= 0 || r.Accept.Max <= 0 {
		t.Errorf("measured %+v", r)
	}
	seen := map[chain.Hash]bool{}
	for _, b := range n.blocks {
		for _, m := range b {
			if len(m.Data) != 250 || seen[m.ID] {
				t.Fatalf("message of %d bytes, sent before: %v", len(m.Data), seen[m.ID])
			}
			seen[m.ID] = true
		}
	}
}

// One node takes the load, another one is followed: neither is asked for what is the other's.
func TestBenchFollowsTheNodeOfTheFlag(t *testing.T) {
	n, _ := startFake(t, func(int) (int, bool) { return http.StatusAccepted, false })
	taking, showing := http.NewServeMux(), http.NewServeMux()
	taking.HandleFunc("POST /v1/messages", n.submit)
	showing.HandleFunc("GET /v1/status", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"height":0}`) })
	showing.HandleFunc("GET /v1/stream", n.stream)
	var urls []string
	for _, mux := range []*http.ServeMux{taking, showing} {
		server := httptest.NewServer(mux)
		t.Cleanup(server.Close)
		urls = append(urls, server.URL)
	}
	r, o := bench(t, urls[0], "--follow", urls[1])
	if o.code != 0 || r.Accepted == 0 || r.Final != r.Accepted || r.Nodes != 1 {
		t.Errorf("exit code %d, %s; %+v", o.code, o.stderr, r)
	}
	if o := diseq(t, "", "bench", "-u", urls[0], "--follow", "no url"); o.code != clientcmd.ExitUsage {
		t.Errorf("exit code %d for a --follow that is no URL: %s", o.code, o.stderr)
	}
}

// Ctrl-C ends submitting, not the report. A connection for each request is a request of the user.
func TestBenchReportsWhenItIsInterrupted(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	n, url := startFake(t, func(request int) (int, bool) {
		if request == 5 {
			interrupt()
		}
		return http.StatusAccepted, false
	})
	var out, errs bytes.Buffer
	code := run(ctx, []string{
		"bench", "-u", url, "--json", "--batch", "1", "--connections", "1", "--rate", "0", "--duration", "1h", "--new-connections",
	}, strings.NewReader(""), &out, &errs)
	var r result
	must(t, json.Unmarshal(out.Bytes(), &r))
	n.mu.Lock()
	defer n.mu.Unlock()
	if code != 0 || r.Accepted != n.requests || r.Final != n.requests || r.Refused+r.Failed+r.Lost != 0 || n.closing != n.requests {
		t.Errorf("exit code %d, %s; %+v after %d requests, %d of which closed", code, &errs, r, n.requests, n.closing)
	}
}

func TestBenchFailsWhenAcceptedMessagesAreLost(t *testing.T) {
	_, url := startFake(t, func(request int) (int, bool) { return http.StatusAccepted, request == 3 })
	// blocks may be read a little later than they are made
	r, o := bench(t, url, "--rate", "1000", "--duration", "1s", "--drain", "3s")
	if o.code != clientcmd.ExitFailure || r.Lost != 10 || !strings.Contains(o.stderr, "10 accepted messages are not final after --drain") {
		t.Errorf("exit code %d, lost %d: %s", o.code, r.Lost, o.stderr)
	}
}

func TestBenchTellsRefusalsFromLosses(t *testing.T) {
	_, url := startFake(t, func(request int) (int, bool) {
		if request == 2 {
			return http.StatusTooManyRequests, false
		}
		return http.StatusAccepted, false
	})
	r, o := bench(t, url, "--rate", "1000", "--duration", "1s")
	if o.code != 0 || r.Refused != 10 || r.Lost != 0 || r.Sent != r.Accepted+10 {
		t.Errorf("exit code %d: %+v", o.code, r)
	}
}

func TestQuantilesAreWithinOnePercent(t *testing.T) {
	h := newHistogram()
	if q := quantilesOf(h); q != (quantiles{}) {
		t.Errorf("of nothing: %+v", q)
	}
	for i := range 1000 {
		record(h, time.Duration(i+1)*time.Millisecond, 1)
	}
	q := quantilesOf(h)
	for _, tt := range []struct{ got, want float64 }{{q.P50, 500}, {q.P90, 900}, {q.P99, 990}, {q.Max, 1000}} {
		if tt.got < tt.want*0.99 || tt.got > tt.want*1.011 {
			t.Errorf("quantile %.1f, want %.1f", tt.got, tt.want)
		}
	}
	record(h, 100*24*time.Hour, 1)
	record(h, -time.Second, 1)
	if n := h.TotalCount(); n != 1002 {
		t.Errorf("%d times are counted, want 1002: none is too long or too short", n)
	}
}

func TestSubmitPrintsIDsOrReceiptsInOrder(t *testing.T) {
	_, url := startFake(t, func(int) (int, bool) { return http.StatusAccepted, false })
	lines := filepath.Join(t.TempDir(), "lines")
	var text, want strings.Builder
	for i := range 2500 { // several requests
		fmt.Fprintf(&text, "message %d\n\r\n", i)
		fmt.Fprintln(&want, chain.Message{Data: fmt.Appendf(nil, "message %d", i)}.ID())
	}
	must(t, os.WriteFile(lines, []byte(text.String()), 0o600))
	if got := succeeds(t, "submit", "-u", url, "--lines", lines); got != want.String() {
		t.Errorf("ids differ: %d bytes, want %d", len(got), want.Len())
	}
	whole := chain.Message{Data: []byte(text.String())}.ID().String() + "\n"
	if got := succeeds(t, "submit", "-u", url, lines); got != whole {
		t.Errorf("the whole file: %q, want %q", got, whole)
	}
	if o := diseq(t, "a\nb", "submit", "-u", url, "-"); o.stdout != (chain.Message{Data: []byte("a\nb")}.ID().String() + "\n") {
		t.Errorf("the standard input: %+v", o)
	}
	o := diseq(t, "a\nb", "submit", "-u", url, "--lines", "--wait", "-")
	receipts := bufio.NewScanner(strings.NewReader(o.stdout))
	for _, data := range []string{"a", "b"} {
		var r chain.Receipt
		if !receipts.Scan() {
			t.Fatalf("receipts: %+v", o)
		}
		must(t, json.Unmarshal(receipts.Bytes(), &r))
		if string(r.Message.Data) != data {
			t.Errorf("receipt of %q, want %q", r.Message.Data, data)
		}
	}
	got := succeeds(t, "tail", "-u", url, "--from", "1", "--count", "2")
	if strings.Count(got, "\n") != 2 || !strings.Contains(got, `"height":2`) {
		t.Errorf("tail printed %.200q", got)
	}
}

func TestSubmitNamesTheLinesOfARefusedRequest(t *testing.T) {
	_, url := startFake(t, func(request int) (int, bool) {
		if request == 2 {
			return http.StatusBadRequest, false
		}
		return http.StatusAccepted, false
	})
	// 600 messages on 1,200 lines and 400 more make the first request; its ids are printed.
	o := diseq(t, strings.Repeat("a\n\n", 600)+strings.Repeat("b\n", 2900), "submit", "-u", url, "--lines", "--linger", "1m", "-")
	if o.code != clientcmd.ExitFailure || strings.Count(o.stdout, "\n") != 1000 ||
		!strings.Contains(o.stderr, "lines 1601 to 2600 and all after them: not submitted: the node answered 400") {
		t.Errorf("exit code %d, %d ids, %q", o.code, strings.Count(o.stdout, "\n"), o.stderr)
	}
	_, url = startFake(t, func(int) (int, bool) { return http.StatusBadRequest, false })
	o = diseq(t, "\na\n\nb", "submit", "-u", url, "--lines", "--linger", "1m", "-")
	if o.code != clientcmd.ExitFailure || o.stdout != "" || !strings.Contains(o.stderr, "lines 2 to 4: not submitted: the node answered 400") {
		t.Errorf("the last lines: exit code %d, %q", o.code, o.stderr)
	}
}

func TestSubmitNamesTheLinesWithoutAnAnswerOrAReceipt(t *testing.T) {
	n, url := startFake(t, func(int) (int, bool) { return http.StatusAccepted, false })
	o := diseq(t, "a\nb\n", "submit", "-u", "http://127.0.0.1:1", "--timeout", "300ms", "--lines", "--wait", "-")
	if o.code != clientcmd.ExitFailure || !strings.Contains(o.stderr, "lines 1 to 2: not known to be submitted; it is safe to submit them again: ") ||
		!strings.Contains(o.stderr, "connection refused; trying again\n") {
		t.Errorf("not reached: exit code %d, %q", o.code, o.stderr)
	}
	n.mu.Lock()
	n.pending = "b" // accepted, and never final
	n.mu.Unlock()
	o = diseq(t, "a\nb\nc\n", "submit", "-u", url, "--timeout", "500ms", "--lines", "--wait", "-")
	if o.code != clientcmd.ExitFailure || strings.Count(o.stdout, "\n") != 2 || !strings.Contains(o.stderr, ": line 2: accepted, not known to be final: ") {
		t.Errorf("not final: exit code %d, %q, %q", o.code, o.stdout, o.stderr)
	}
}

// Lines from a pipe are submitted while the pipe stays open.
func TestSubmitTakesLinesFromAPipeThatStaysOpen(t *testing.T) {
	_, url := startFake(t, func(int) (int, bool) { return http.StatusAccepted, false })
	in, input := io.Pipe()
	output, out := io.Pipe()
	ctx, interrupt := context.WithCancel(t.Context())
	ended := make(chan outcome, 1)
	go func() {
		var errs bytes.Buffer
		code := run(ctx, []string{"submit", "-u", url, "--timeout", "30s", "--lines", "-"}, in, out, &errs)
		_ = out.Close() // it never fails
		ended <- outcome{code: code, stderr: errs.String()}
	}()
	ids := bufio.NewScanner(output)
	for i := range 5 {
		data := fmt.Sprintf("line %d", i)
		if _, err := io.WriteString(input, data+"\n"); err != nil {
			t.Fatal(err)
		}
		if !ids.Scan() || ids.Text() != (chain.Message{Data: []byte(data)}.ID()).String() {
			t.Fatalf("id of %q: %q, %v", data, ids.Text(), ids.Err())
		}
	}
	interrupt()
	if o := <-ended; o.code != clientcmd.ExitFailure || !strings.Contains(o.stderr, "interrupted: no line after line 5 is submitted: submit the file again") {
		t.Errorf("exit code %d, %q", o.code, o.stderr)
	}
}

// transport answers requests without a network, so that time can be synthetic.
type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// The timeout is that of a request: a job lasts as long as its input, and longer than a restart of
// the node.
func TestSubmitOutlivesItsTimeoutAndARestartOfTheNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, err := client.New("http://node")
		must(t, err)
		begun, down := time.Now(), 0
		var asked []string
		c.RetryFor = time.Minute
		c.HTTP = &http.Client{Transport: transport(func(r *http.Request) (*http.Response, error) {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				return nil, err
			}
			if at := time.Since(begun); at > 5*time.Minute && at < 5*time.Minute+30*time.Second {
				down++
				return nil, errors.New("connection refused")
			}
			var results []string
			for len(body) > 0 {
				end := 1 + int(body[0])
				asked = append(asked, fmt.Sprintf("%s at %v", body[1:end], time.Since(begun).Truncate(time.Minute)))
				results = append(results, fmt.Sprintf(`{"id":"%v","status":"pending"}`, chain.Message{Data: body[1:end]}.ID()))
				body = body[end:]
			}
			answer := `{"results":[` + strings.Join(results, ",") + `]}`
			return &http.Response{StatusCode: http.StatusAccepted, Body: io.NopCloser(strings.NewReader(answer))}, nil
		})}
		in, input := io.Pipe()
		go func() {
			for _, text := range []string{"a\nb\n", "c\n", "d\n"} {
				_, _ = io.WriteString(input, text) // it fails if the test has failed
				time.Sleep(5*time.Minute + time.Second)
			}
			_ = input.Close() // it never fails
		}()
		var out bytes.Buffer
		s := &clientcmd.Submission{Client: c, Timeout: time.Minute, Linger: 100 * time.Millisecond, Out: bufio.NewWriter(&out)}
		must(t, s.Lines(t.Context(), "-", in))
		if got := strings.Join(asked, ", "); got != "a at 0s, b at 0s, c at 5m0s, d at 10m0s" || strings.Count(out.String(), "\n") != 4 || down == 0 {
			t.Errorf("submitted %s; %d attempts met a node that was down; printed %q", got, down, out.String())
		}
	})
}

func TestSubmitAsksAnotherNodeWhenOneFails(t *testing.T) {
	_, url := startFake(t, func(int) (int, bool) { return http.StatusAccepted, false })
	for _, args := range [][]string{
		{"-u", "http://127.0.0.1:1", "-u", url}, {"-u", "http://127.0.0.1:1," + url}, {"--node", "http://127.0.0.1:1", "--node", url},
	} {
		o := diseq(t, "m", append(append([]string{"submit"}, args...), "-")...)
		if o.code != 0 || o.stderr != "" || strings.Count(o.stdout, "\n") != 1 {
			t.Errorf("%q: %+v", args, o)
		}
	}
}
