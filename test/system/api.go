package system

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/diseq/diseq/client"
	"github.com/diseq/diseq/node/chain"
)

// Status is as much of /v1/status as tests look at.
type Status struct {
	Role   string
	Height uint64
	// StateHeight is the newest height whose state root the node has computed.
	StateHeight uint64 `json:"state_height"`
	Ready       bool
	Reason      string
	// CaughtUp and StorageLow distinguish the two reasons for not being ready.
	CaughtUp   bool `json:"caught_up"`
	StorageLow bool `json:"storage_low"`
	// Generation and Validators are of the set at the next height.
	Generation uint32
	Validators int
	Peers      []struct {
		Name      string
		Connected bool
	}
	Pool      struct{ Messages int }
	Synchrony *struct{ Healthy, Settled bool }
}

// Result is the answer to one submitted message.
type Result struct {
	ID      chain.Hash
	Status  string
	Receipt *chain.Receipt
}

// AnswerError is an answer other than success.
type AnswerError struct {
	Code int
	Body string
}

// Error implements error.
func (e *AnswerError) Error() string { return fmt.Sprintf("answered %d: %s", e.Code, e.Body) }

// answerWithin bounds every request that is not a stream.
const answerWithin = 15 * time.Second

// plain makes a connection for each request: one that is kept open would hide that a node has just
// died.
var plain = &http.Client{Timeout: answerWithin, Transport: &http.Transport{DisableKeepAlives: true}}

// Get reads the answer to a GET into out: decoded JSON, the bare text for a *string, nothing for
// nil.
func (n *Node) Get(path string, out any) error { return get(n.URL+path, out) }

// GetOperations is Get on the private listener.
func (n *Node) GetOperations(path string, out any) error { return get(n.Operations+path, out) }

// GetProbes is Get on the listener of probes.
func (n *Node) GetProbes(path string, out any) error { return get(n.Probes+path, out) }

func get(url string, out any) error {
	r, err := plain.Get(url)
	if err != nil {
		return err
	}
	return answer(url, r, out)
}

// Post sends a body and reads the answer like Get.
func (n *Node) Post(path, contentType string, body []byte, out any) error {
	r, err := plain.Post(n.URL+path, contentType, bytes.NewReader(body))
	if err != nil {
		return err
	}
	return answer(n.URL+path, r, out)
}

func answer(url string, r *http.Response, out any) error {
	b, err := io.ReadAll(r.Body)
	_ = r.Body.Close() // read to its end
	if err != nil {
		return fmt.Errorf("%s: %w", url, err)
	}
	if r.StatusCode/100 != 2 {
		return fmt.Errorf("%s: %w", url, &AnswerError{Code: r.StatusCode, Body: string(b)})
	}
	switch out := out.(type) {
	case nil:
		return nil
	case *string:
		*out = string(b)
		return nil
	}
	if err := json.Unmarshal(b, out); err != nil {
		return fmt.Errorf("%s: %w in %.200q", url, err, b)
	}
	return nil
}

// Status asks the node for /v1/status.
func (n *Node) Status() (Status, error) {
	var s Status
	return s, n.Get("/v1/status", &s)
}

// Submit submits messages over an HTTP client and returns the answers to them.
func (n *Node) Submit(ctx context.Context, over *http.Client, query string, messages [][]byte) ([]Result, error) {
	var body []byte
	for _, m := range messages {
		body = append(binary.AppendUvarint(body, uint64(len(m))), m...)
	}
	url := n.URL + "/v1/messages" + query
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/vnd.diseq.batch")
	r, err := over.Do(request)
	if err != nil {
		return nil, err
	}
	var out struct{ Results []Result }
	if err := answer(url, r, &out); err != nil {
		return nil, err
	}
	if len(out.Results) != len(messages) {
		return nil, fmt.Errorf("%s: %d results for %d messages", url, len(out.Results), len(messages))
	}
	for i, m := range messages {
		if want := (chain.Message{Data: m}).ID(); out.Results[i].ID != want {
			return nil, fmt.Errorf("%s: message %d has id %v, answered %v", url, i, want, out.Results[i].ID)
		}
	}
	return out.Results, nil
}

// Finalize submits one message and waits until it is final; it returns the receipt.
func (n *Node) Finalize(message string) (*chain.Receipt, error) {
	results, err := n.Submit(context.Background(), plain, "?wait=final&timeout=10s", [][]byte{[]byte(message)})
	if err != nil {
		return nil, err
	}
	if results[0].Receipt == nil {
		return nil, fmt.Errorf("%s: message %v is %s after 10 s", n.Name, results[0].ID, results[0].Status)
	}
	return results[0].Receipt, nil
}

// Blocks calls each with the final blocks from a height on, as they come, until it returns false or
// ctx ends.
func (n *Node) Blocks(ctx context.Context, from uint64, messages bool, each func(*client.Block) bool) error {
	url := fmt.Sprintf("%s/v1/stream?from=%d&messages=%t", n.URL, from, messages)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	request.Header.Set("Accept", "application/x-ndjson")
	r, err := streams.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = r.Body.Close() }()
	if r.StatusCode != http.StatusOK {
		return answer(url, r, nil)
	}
	for lines := json.NewDecoder(r.Body); ; {
		b := &client.Block{}
		if err := lines.Decode(b); err != nil {
			return fmt.Errorf("%s: %w", url, err)
		}
		if !each(b) {
			return nil
		}
	}
}

// streams has no timeout: a stream is as long as its reader wants.
var streams = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

// Metric returns the sum of the metrics whose name, labels included, starts with prefix; 0 if there
// is none.
func (n *Node) Metric(prefix string) (float64, error) {
	var text string
	if err := n.GetOperations("/metrics", &text); err != nil {
		return 0, err
	}
	sum := 0.0
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, prefix) {
			continue
		}
		fields := strings.Fields(line)
		v, err := strconv.ParseFloat(fields[len(fields)-1], 64)
		if err != nil {
			return 0, fmt.Errorf("metric %q: %w", line, err)
		}
		sum += v
	}
	return sum, nil
}

// Eventually calls condition until it returns nil; the test ends with its last error after within.
func Eventually(tb testing.TB, within time.Duration, what string, condition func() error) {
	tb.Helper()
	deadline := time.Now().Add(within)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := condition()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			tb.Fatalf("%s: not within %v: %v", what, within, err)
		}
		<-tick.C
	}
}
