package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/diseq/diseq/client"
	"github.com/diseq/diseq/node/chain"
)

// fakeNode accepts messages and makes each request a block at once, unless it loses it.
type fakeNode struct {
	mu       sync.Mutex
	changed  *sync.Cond
	blocks   [][]chain.ReceiptMessage
	requests int
	answer   func(request int) (status int, lose bool)
}

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
	status, lose := n.answer(n.requests)
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
		if r.URL.Query().Has("wait") {
			result.Status = "final"
			result.Receipt = &chain.Receipt{Version: 1, Message: messages[len(messages)-1]}
			result.Receipt.Certificate.Kind = chain.Finalize
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

func TestBenchFailsWhenAcceptedMessagesAreLost(t *testing.T) {
	_, url := startFake(t, func(request int) (int, bool) { return http.StatusAccepted, request == 3 })
	// blocks may be read a little later than they are made
	r, o := bench(t, url, "--rate", "1000", "--duration", "1s", "--drain", "3s")
	if o.code != exitFailure || r.Lost != 10 || !strings.Contains(o.stderr, "10 accepted messages are not final") {
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
	var h histogram
	if q := h.quantiles(); q != (quantiles{}) {
		t.Errorf("of nothing: %+v", q)
	}
	for i := range 1000 {
		h.add(time.Duration(i+1)*time.Millisecond, 1)
	}
	q := h.quantiles()
	for _, tt := range []struct{ got, want float64 }{{q.P50, 500}, {q.P90, 900}, {q.P99, 990}, {q.Max, 1000}} {
		if tt.got < tt.want*0.99 || tt.got > tt.want*1.011 {
			t.Errorf("quantile %.1f, want %.1f", tt.got, tt.want)
		}
	}
	h.add(100*24*time.Hour, 1)
	h.add(-time.Second, 1)
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
			return http.StatusRequestEntityTooLarge, false
		}
		return http.StatusAccepted, false
	})
	o := diseq(t, strings.Repeat("a\n\n", 600)+strings.Repeat("b\n", 900), "submit", "-u", url, "--lines", "-")
	// 600 messages on 1,200 lines and 400 more make the first request; its ids are printed.
	if o.code != exitFailure || strings.Count(o.stdout, "\n") != 1000 || !strings.Contains(o.stderr, "lines 1601 to 2100: the node answered 413") {
		t.Errorf("exit code %d, %d ids, %q", o.code, strings.Count(o.stdout, "\n"), o.stderr)
	}
}
