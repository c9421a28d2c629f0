// Package client talks to DISEQ nodes over their HTTP interface (/v1). It submits messages, reads
// their states and receipts, and follows the chain.
//
// A message's identity is its content. So it is always safe to submit the same bytes again: the
// node answers with what it knows of them. To send two messages with the same content, add a nonce
// to each.
//
// The package relies on that. A submission that a node refuses for the moment (429, 502, 503, 504),
// or that gets no answer, is repeated with growing pauses, for at most [Client.RetryFor]. A client
// of several nodes tries the next one first. Reads are repeated after such a refusal only: a node
// that cannot be reached is an error at once.
//
// Where nodes ask who a client is, [Client.Use] gives it a certificate or a token.
//
// A [Client] believes the node: it checks the form of answers only. A receipt, a block or a proof
// is proof against anyone, the node included, once it is verified with a genesis document or a
// checkpoint that did not come from that node. A [Follower] does that while the validator set of
// the chain changes.
package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/diseq/diseq/internal/document"
	"github.com/diseq/diseq/node/chain"
)

// DefaultURL is where the first node of a local network serves clients.
const DefaultURL = "http://127.0.0.1:18080"

// Client is a client of one node, or of several nodes of one network. Its methods may be called
// from any goroutine. Set its fields before the first call.
type Client struct {
	// HTTP sends the requests. It has no overall timeout, which would end streams; contexts bound
	// requests.
	HTTP *http.Client
	// RetryFor bounds the time for which a request is repeated; 0 is for one attempt at each node.
	RetryFor time.Duration
	// Retrying, if set, is called before each pause with the reason for it. It may be called from
	// several goroutines at once.
	Retrying func(reason error, pause time.Duration)

	nodes []string
	// token is that of Use; nil for none.
	token TokenSource
	// current is the index in nodes of the one that is asked first.
	current atomic.Uint32
}

// New returns a client of the nodes at base URLs such as http://127.0.0.1:18080. A bare host:port
// stands for http. The first node is asked until it fails, then the next.
func New(urls ...string) (*Client, error) {
	c := &Client{RetryFor: 30 * time.Second}
	if len(urls) == 0 {
		return nil, errors.New("no url of a node")
	}
	for _, base := range urls {
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
		c.nodes = append(c.nodes, strings.TrimSuffix(u.String(), "/"))
	}
	c.HTTP = &http.Client{Transport: &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
		TLSHandshakeTimeout: 10 * time.Second,
		// A node that takes a request and dies is left for another, or asked again. It is longer
		// than waitAtATime, for which a node may be silent on request.
		ResponseHeaderTimeout: 30 * time.Second,
		MaxIdleConnsPerHost:   64,
		IdleConnTimeout:       time.Minute,
		ForceAttemptHTTP2:     true,
		ExpectContinueTimeout: time.Second,
	}}
	return c, nil
}

// Error is an answer of a node other than success.
type Error struct {
	// Status is the HTTP status; 0 for the error that ends a stream.
	Status int
	// Code is stable, for programs (such as "pool_full" or "not_found"); Message is for people.
	Code, Message string
	// RetryAfter is how long the node asks to wait before trying again; 0 if it does not say.
	RetryAfter time.Duration
}

// Error implements error.
func (e *Error) Error() string {
	if e.Status == 0 {
		return fmt.Sprintf("the node ended the stream: %s: %s", e.Code, e.Message)
	}
	if e.Code == "" {
		return fmt.Sprintf("the node answered %d: %s", e.Status, e.Message)
	}
	if e.Code == codeQuota && e.RetryAfter > 0 {
		return fmt.Sprintf("the node answered %d %s: %s; there is room again in %v", e.Status, e.Code, e.Message, e.RetryAfter)
	}
	return fmt.Sprintf("the node answered %d %s: %s", e.Status, e.Code, e.Message)
}

// Temporary reports whether the same request may succeed later.
func (e *Error) Temporary() bool {
	switch e.Status {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return e.Status == 0 && e.Code == "unavailable"
}

// Quota reports whether err says that a quota of the client is used up at the node. RetryAfter of
// the [Error] says when there is room again.
func Quota(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Status == http.StatusTooManyRequests && e.Code == codeQuota
}

// Unauthenticated reports whether err says that the node does not accept what the request proves
// the client's identity with, or that it asks for a proof.
func Unauthenticated(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Status == http.StatusUnauthorized
}

// Forbidden reports whether err says that the node knows the client, and that it lacks the right.
func Forbidden(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Status == http.StatusForbidden
}

// codeQuota is the code of a request that a quota refuses.
const codeQuota = "quota"

// NotFound reports whether err says that the node does not know the thing that was asked for.
func NotFound(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Status == http.StatusNotFound
}

// The client reads at most so much of an answer. A block of messages of one byte is the largest
// answer of a node.
const (
	maxAnswer = 256 << 20
	maxError  = 64 << 10
)

// request is a call of a node's HTTP interface.
type request struct {
	method, path, contentType string
	body                      []byte
	// wait asks the node to answer once the messages of the body are final, within waitFor.
	wait bool
	// out is where the answer goes; nil for none.
	out any
	// repeatable says that the request may be sent again although it may have been carried out.
	repeatable bool
}

func get(path string, out any) request { return request{method: http.MethodGet, path: path, out: out} }

// do sends a request to one node after the other until one answers, and begins again after a pause
// as long as that may help and RetryFor allows.
func (c *Client) do(ctx context.Context, q request) error {
	begun, pauses := time.Now(), newPauses()
	for {
		failed := c.askEach(ctx, q)
		if failed == nil {
			return nil
		}
		wait := failed.retryAfter
		if wait == 0 {
			wait = pauses.NextBackOff()
		}
		if !failed.later || ctx.Err() != nil || time.Since(begun)+wait > c.RetryFor {
			return failed.reason
		}
		if c.Retrying != nil {
			c.Retrying(failed.reason, wait)
		}
		if pause(ctx, wait) != nil {
			return failed.reason
		}
	}
}

// failure is why a request failed at every node that was asked.
type failure struct {
	reason error
	// later says that a repetition may succeed, retryAfter when the nodes ask for it (0: they do
	// not say).
	later      bool
	retryAfter time.Duration
}

// askEach asks the nodes in turn until one answers, or refuses in a way that holds for all of them.
func (c *Client) askEach(ctx context.Context, q request) *failure {
	failed := &failure{}
	for range c.nodes {
		node := c.current.Load()
		err := c.once(ctx, c.nodes[node], q)
		if err == nil {
			return nil
		}
		failed.reason = errors.Join(failed.reason, err)
		var refused *Error
		var lost *connectionError
		switch {
		case errors.As(err, &refused):
			failed.later = failed.later || refused.Temporary()
			if after := min(refused.RetryAfter, maxPause); after > 0 && (failed.retryAfter == 0 || after < failed.retryAfter) {
				failed.retryAfter = after
			}
			if refused.Status < http.StatusInternalServerError && !refused.Temporary() {
				return &failure{reason: err}
			}
		case errors.As(err, &lost):
			failed.later = failed.later || q.repeatable
		default:
			return &failure{reason: err}
		}
		if ctx.Err() != nil {
			return failed
		}
		c.leave(node)
	}
	return failed
}

// leave has the node after this one asked first from now on.
func (c *Client) leave(node uint32) {
	c.current.CompareAndSwap(node, (node+1)%uint32(len(c.nodes)))
}

// connectionError says that a request got no answer, or not all of it.
type connectionError struct{ error }

func (e *connectionError) Unwrap() error { return e.error }

func (c *Client) once(ctx context.Context, node string, q request) (err error) {
	response, err := c.send(ctx, node, q, "application/json")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, response.Body.Close()) }()
	limited := &io.LimitedReader{R: response.Body, N: maxAnswer + 1}
	content, err := io.ReadAll(limited)
	if err != nil {
		return &connectionError{fmt.Errorf("%s %s: %w", q.method, node+q.path, err)}
	}
	if limited.N == 0 {
		return fmt.Errorf("%s %s: the answer is longer than %d bytes", q.method, node+q.path, maxAnswer)
	}
	if q.out == nil {
		return nil
	}
	if err := document.UnmarshalAnswer(content, q.out); err != nil {
		return fmt.Errorf("%s %s: the answer is not what was expected: %w", q.method, node+q.path, err)
	}
	return nil
}

// send returns the response if it is a success. Its body is still to be read. A token that the node
// refuses is replaced once, if its source has another.
func (c *Client) send(ctx context.Context, node string, q request, accept string) (*http.Response, error) {
	if c.token == nil {
		return c.sendAs(ctx, node, q, accept, "")
	}
	token, err := c.token(ctx, "")
	if err != nil {
		return nil, fmt.Errorf("token: %w", err)
	}
	response, err := c.sendAs(ctx, node, q, accept, token)
	if refused, ok := errors.AsType[*Error](err); ok && refused.Status == http.StatusUnauthorized {
		if next, failed := c.token(ctx, token); failed == nil && next != token {
			return c.sendAs(ctx, node, q, accept, next)
		}
	}
	return response, err
}

func (c *Client) sendAs(ctx context.Context, node string, q request, accept, token string) (*http.Response, error) {
	var body io.Reader
	if q.body != nil {
		body = bytes.NewReader(q.body)
	}
	path := q.path
	if q.wait {
		path += "?wait=final&timeout=" + max(waitFor(ctx), time.Millisecond).String()
	}
	r, err := http.NewRequestWithContext(ctx, q.method, node+path, body)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", q.method, node+path, err)
	}
	if q.contentType != "" {
		r.Header.Set("Content-Type", q.contentType)
	}
	r.Header.Set("Accept", accept)
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := c.HTTP.Do(r)
	if lasting(err) {
		return nil, err
	}
	if err != nil {
		return nil, &connectionError{err} // it names method and URL
	}
	if response.StatusCode/100 == 2 {
		return response, nil
	}
	return nil, errors.Join(readError(response), response.Body.Close())
}

// lasting reports an error of TLS that another attempt would end with, too: one of the sides does
// not accept the certificate of the other, or one of them does not speak TLS.
func lasting(err error) bool {
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return true
	}
	alert, ok := errors.AsType[*net.OpError](err)
	return ok && alert.Op == "remote error" && strings.Contains(alert.Err.Error(), "certificate") || errors.Is(err, http.ErrSchemeMismatch)
}

// readError makes an Error of an answer, be it of the node or of a proxy before it.
func readError(response *http.Response) error {
	e := &Error{Status: response.StatusCode, RetryAfter: retryAfter(response.Header.Get("Retry-After"))}
	// a part of the text is better than none
	content, _ := io.ReadAll(io.LimitReader(response.Body, maxError))
	if told := decodeError(content); told != nil {
		e.Code, e.Message = told.Code, told.Message
		return e
	}
	if e.Message = strings.TrimSpace(string(content)); e.Message == "" || strings.ContainsAny(e.Message, "\n<") {
		e.Message = http.StatusText(response.StatusCode)
	}
	return e
}

// decodeError reads an error in the form of /v1; nil if it is in another.
func decodeError(content []byte) *Error {
	var body struct {
		Error struct {
			Code    string `json:"code"`
			Message string `json:"message"`
		} `json:"error"`
	}
	if document.UnmarshalAnswer(content, &body) != nil || body.Error.Code == "" {
		return nil
	}
	return &Error{Code: body.Error.Code, Message: body.Error.Message}
}

const (
	// maxRetryAfter bounds what is taken for a time to wait. The quota of a day comes back within
	// one.
	maxRetryAfter = 24 * time.Hour
	// maxPause bounds the pause that a node can ask for.
	maxPause = 5 * time.Minute
)

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

// newPauses returns the pauses between attempts: 0.1 s, doubled each time up to 5 s, each half as
// long or half as long again at random, so that clients that failed together do not return
// together.
func newPauses() *backoff.ExponentialBackOff {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval, b.Multiplier, b.MaxInterval = 100*time.Millisecond, 2, 5*time.Second
	b.Reset()
	return b
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

// Genesis returns the genesis document that the node has. A receipt that is verified with it is no
// better than the node's word.
func (c *Client) Genesis(ctx context.Context) (*chain.Genesis, error) {
	out := &chain.Genesis{}
	if err := c.do(ctx, get("/v1/genesis", out)); err != nil {
		return nil, err
	}
	return out, out.Validate()
}

// Ready returns nil if the node has caught up and is able to serve, otherwise the reason why not.
func (c *Client) Ready(ctx context.Context) error {
	return c.once(ctx, c.nodes[c.current.Load()], get("/readyz", nil))
}
