// Package client talks to a DISEQ node over its HTTP interface (/v1): it submits messages, reads
// what became of them and follows the chain.
//
// A message's identity is its content. Submitting the same bytes again is therefore always safe,
// and answers with what is known of them; whoever means two messages adds a nonce. Requests that a
// node refuses for the moment (429, 503) are tried again after the time that it asks for, within
// [Client.RetryFor].
//
// The package believes the node: answers are checked for their form only. A receipt is proof
// against anyone, the node included, once [chain.Receipt.Verify] has accepted it with a genesis
// document that did not come from that node.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/diseq/diseq/node/chain"
)

// DefaultURL is where the first node of a local network serves clients.
const DefaultURL = "http://127.0.0.1:18080"

// Client is a client of one node. Its methods may be called from any goroutine; its fields are set
// before.
type Client struct {
	// HTTP sends the requests. It has no overall timeout, which would end streams; contexts bound
	// requests.
	HTTP *http.Client
	// RetryFor is how long a request that was answered 429 or 503 is tried again; 0 for never.
	RetryFor time.Duration

	base string
}

// New returns a client of the node at a base URL such as http://127.0.0.1:18080. A bare host:port
// stands for http.
func New(base string) (*Client, error) {
	if !strings.Contains(base, "://") {
		base = "http://" + base
	}
	u, err := url.Parse(base)
	if err != nil {
		return nil, fmt.Errorf("url %q: %w", base, err)
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("url %q: want http://host:port", base)
	}
	transport := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
		TLSHandshakeTimeout:   10 * time.Second,
		MaxIdleConnsPerHost:   64,
		IdleConnTimeout:       time.Minute,
		ForceAttemptHTTP2:     true,
		ExpectContinueTimeout: time.Second,
	}
	return &Client{HTTP: &http.Client{Transport: transport}, RetryFor: 30 * time.Second, base: strings.TrimSuffix(u.String(), "/")}, nil
}

// Error is an answer of a node other than success.
type Error struct {
	// Status is the HTTP status.
	Status int
	// Code is stable, for programs (such as "pool_full" or "not_found"); Message is for people.
	Code, Message string
	// RetryAfter is how long the node asks to wait before trying again; 0 if it does not say.
	RetryAfter time.Duration
}

// Error implements error.
func (e *Error) Error() string {
	if e.Code == "" {
		return fmt.Sprintf("the node answered %d: %s", e.Status, e.Message)
	}
	return fmt.Sprintf("the node answered %d %s: %s", e.Status, e.Code, e.Message)
}

// Temporary reports whether the same request may succeed later.
func (e *Error) Temporary() bool {
	return e.Status == http.StatusTooManyRequests || e.Status == http.StatusServiceUnavailable
}

// NotFound reports whether err says that the node does not know what was asked for.
func NotFound(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Status == http.StatusNotFound
}

// The most that is read of an answer. A block of messages of one byte is the largest thing a node
// sends.
const (
	maxAnswer = 256 << 20
	maxError  = 64 << 10
)

// do sends a request and decodes the answer into out; it returns the status. Requests are tried
// again as RetryFor allows.
func (c *Client) do(ctx context.Context, method, path, contentType string, body []byte, out any) (int, error) {
	begun := time.Now()
	for attempt := 0; ; attempt++ {
		status, err := c.once(ctx, method, path, contentType, body, out)
		var refused *Error
		if !errors.As(err, &refused) || !refused.Temporary() {
			return status, err
		}
		wait := refused.RetryAfter
		if wait == 0 {
			wait = backoff(attempt)
		}
		if time.Since(begun)+wait > c.RetryFor {
			return status, err
		}
		if pause(ctx, wait) != nil {
			return status, err
		}
	}
}

func (c *Client) once(ctx context.Context, method, path, contentType string, body []byte, out any) (status int, err error) {
	response, err := c.send(ctx, method, path, contentType, "application/json", body)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, response.Body.Close()) }()
	limited := &io.LimitedReader{R: response.Body, N: maxAnswer + 1}
	content, err := io.ReadAll(limited)
	if err != nil {
		return 0, fmt.Errorf("%s %s: %w", method, c.base+path, err)
	}
	if limited.N == 0 {
		return 0, fmt.Errorf("%s %s: the answer is longer than %d bytes", method, c.base+path, maxAnswer)
	}
	if out == nil {
		return response.StatusCode, nil
	}
	if err := json.Unmarshal(content, out); err != nil {
		return 0, fmt.Errorf("%s %s: the answer is not what was expected: %w", method, c.base+path, err)
	}
	return response.StatusCode, nil
}

// send returns the response if it is a success, its body still to be read.
func (c *Client) send(ctx context.Context, method, path, contentType, accept string, body []byte) (*http.Response, error) {
	var reader io.Reader
	if body != nil {
		reader = bytes.NewReader(body)
	}
	request, err := http.NewRequestWithContext(ctx, method, c.base+path, reader)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, c.base+path, err)
	}
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}
	request.Header.Set("Accept", accept)
	response, err := c.HTTP.Do(request)
	if err != nil {
		return nil, err // it names method and URL
	}
	if response.StatusCode/100 == 2 {
		return response, nil
	}
	return nil, errors.Join(readError(response), response.Body.Close())
}

// readError makes an Error of an answer, whoever between here and the node gave it.
func readError(response *http.Response) error {
	e := &Error{Status: response.StatusCode, RetryAfter: retryAfter(response.Header.Get("Retry-After"))}
	// what came is better than nothing
	content, _ := io.ReadAll(io.LimitReader(response.Body, maxError))
	var body struct {
		Error struct{ Code, Message string }
	}
	if json.Unmarshal(content, &body) == nil && body.Error.Code != "" {
		e.Code, e.Message = body.Error.Code, body.Error.Message
		return e
	}
	if e.Message = strings.TrimSpace(string(content)); e.Message == "" || strings.ContainsAny(e.Message, "\n<") {
		e.Message = http.StatusText(response.StatusCode)
	}
	return e
}

// maxRetryAfter bounds what a node can make its client wait.
const maxRetryAfter = 5 * time.Minute

// retryAfter reads seconds or a date (RFC 9110, section 10.2.3).
func retryAfter(value string) time.Duration {
	if seconds, err := strconv.ParseUint(value, 10, 32); err == nil {
		return min(time.Duration(seconds)*time.Second, maxRetryAfter)
	}
	if at, err := http.ParseTime(value); err == nil {
		return min(max(0, time.Until(at)), maxRetryAfter)
	}
	return 0
}

// backoff is the wait before the attempt after this one: 0.1 s, doubled each time up to 5 s.
func backoff(attempt int) time.Duration {
	return min(100*time.Millisecond<<min(attempt, 10), 5*time.Second)
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *Client) get(ctx context.Context, path string, out any) error {
	_, err := c.do(ctx, http.MethodGet, path, "", nil, out)
	return err
}

// Genesis returns the genesis document that the node has. What is verified with it is no better
// than the node's word.
func (c *Client) Genesis(ctx context.Context) (*chain.Genesis, error) {
	out := &chain.Genesis{}
	if err := c.get(ctx, "/v1/genesis", out); err != nil {
		return nil, err
	}
	return out, out.Validate()
}

// Ready returns nil if the node is caught up and able to serve, or an error that says what is
// missing.
func (c *Client) Ready(ctx context.Context) error {
	_, err := c.once(ctx, http.MethodGet, "/readyz", "", nil, nil)
	return err
}
