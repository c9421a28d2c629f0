package nodeclient

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"
)

const (
	// DefaultTimeout of one request: far more than a node needs, and so little that a dead node
	// does not delay the others.
	DefaultTimeout = 2 * time.Second
	// maxAnswer is the largest answer in bytes. The set of 100 validators has about 40 KiB.
	maxAnswer = 1 << 20
	// maxValidators of a set is the chain's own limit.
	maxValidators = 100
	// maxText bounds the texts of an answer, in bytes: they end up in the status of the resource.
	maxText = 256
	// idleConnections is the limit over all nodes. idleTimeout is longer than the operator's usual
	// interval between requests, so that the next request needs no handshake.
	idleConnections = 256
	idleTimeout     = 90 * time.Second
)

// HTTP is the Client over HTTP. Its methods may be called from any goroutine.
type HTTP struct {
	client *http.Client
}

// NewHTTP returns a client that gives every request the timeout, DefaultTimeout if it is 0.
func NewHTTP(timeout time.Duration) *HTTP {
	if timeout == 0 {
		timeout = DefaultTimeout
	}
	return &HTTP{client: &http.Client{
		Timeout: timeout,
		// A node does not redirect. A server that does must not choose the operator's next request.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			// connections to pods are direct; a proxy of the environment is for other addresses
			Proxy:                  nil,
			DialContext:            (&net.Dialer{Timeout: timeout}).DialContext,
			MaxIdleConns:           idleConnections,
			MaxIdleConnsPerHost:    1,
			MaxConnsPerHost:        4,
			IdleConnTimeout:        idleTimeout,
			MaxResponseHeaderBytes: 16 << 10,
			DisableCompression:     true, // a small body cannot become a large one
		},
	}}
}

// Status implements Client.
func (h *HTTP) Status(ctx context.Context, node Node) (*Status, error) {
	s := &Status{}
	if err := h.get(ctx, node, "/v1/status", s); err != nil {
		return nil, err
	}
	if err := s.verify(node); err != nil {
		return nil, err
	}
	return s, nil
}

// Validators implements Client. The answer does not name the node, so the client asks for the
// status afterwards: an address that belonged to the pod before, and still does, did so all the
// time.
func (h *HTTP) Validators(ctx context.Context, node Node) (*Set, error) {
	set := &Set{}
	if err := h.get(ctx, node, "/v1/validators", set); err != nil {
		return nil, err
	}
	if _, err := h.Status(ctx, node); err != nil {
		return nil, err
	}
	return set, nil
}

// answer is an answer that can check itself.
type answer interface{ check() error }

func (h *HTTP) get(ctx context.Context, node Node, path string, out answer) error {
	err := h.ask(ctx, node, path, out)
	if err != nil {
		return fmt.Errorf("%s%s: %w", node.Address, path, plain(err))
	}
	return nil
}

func (h *HTTP) ask(ctx context.Context, node Node, path string, out answer) error {
	target := url.URL{Scheme: "http", Host: node.Address, Path: path}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "application/json")
	resp, err := h.client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("HTTP status %d, want 200", resp.StatusCode)
	}
	return decode(resp.Body, out)
}

// plain makes errors of the same cause equal. The operator's own addresses and ports change with
// every connection, and would make a status look changed.
func plain(err error) error {
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		return errors.New("no answer in time")
	}
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Err
	}
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}

// decode reads one JSON value of at most maxAnswer bytes. It ignores unknown fields: a newer node
// reports more.
func decode(r io.Reader, out answer) error {
	body, err := io.ReadAll(io.LimitReader(r, maxAnswer+1))
	if err != nil {
		return err
	}
	if len(body) > maxAnswer {
		return fmt.Errorf("the answer has more than %d bytes", maxAnswer)
	}
	if err := json.Unmarshal(body, out); err != nil {
		return err
	}
	return out.check()
}

func (s *Status) check() error {
	switch s.Role {
	case RoleValidator, RoleObserver, RoleRejoining:
	default:
		return fmt.Errorf("role %.*q, want %s, %s or %s", maxText, s.Role, RoleValidator, RoleObserver, RoleRejoining)
	}
	if s.Validators < 1 || s.Validators > maxValidators || s.Threshold > s.Validators || 2*s.Threshold <= s.Validators {
		return fmt.Errorf("threshold %d of %d validators, want more than half of 1 to %d", s.Threshold, s.Validators, maxValidators)
	}
	s.Node, s.Reason, s.Versions.Node = cut(s.Node), cut(s.Reason), cut(s.Versions.Node)
	return nil
}

func (s *Set) check() error {
	n := len(s.Validators)
	if n < 1 || n > maxValidators || s.Threshold > n || 2*s.Threshold <= n {
		return fmt.Errorf("threshold %d of %d validators, want more than half of 1 to %d", s.Threshold, n, maxValidators)
	}
	for i := range s.Validators {
		s.Validators[i].Name = cut(s.Validators[i].Name)
	}
	return nil
}
