package nodeclient

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

const (
	// DefaultTimeout of one request: far more than a node needs, and so little that a dead node
	// does not delay the others.
	DefaultTimeout = 2 * time.Second
	// maxAnswer and maxPage are the largest answers in bytes: the operator has up to atOnce answers
	// of each network in memory, and one page of changes. The status and the set of 100 validators
	// with the longest names have about 45 KiB, see MaxChanges for the page.
	maxAnswer = 64 << 10
	maxPage   = 1 << 20
	// maxValues and maxPageValues bound the values of an answer: an empty value of three bytes may
	// take hundreds of bytes in memory.
	maxValues     = 2 << 10
	maxPageValues = 16 << 10
	// decodedAtOnce is the number of answers of all networks that are decoded at the same time.
	decodedAtOnce = 2
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
	// decoding is held by answers that are decoded.
	decoding chan struct{}
}

// NewHTTP returns a client that gives every request the timeout, DefaultTimeout if it is 0.
func NewHTTP(timeout time.Duration) *HTTP {
	if timeout == 0 {
		timeout = DefaultTimeout
	}
	return &HTTP{decoding: make(chan struct{}, decodedAtOnce), client: &http.Client{
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

// Changes implements Client. The answer does not name the node: a caller verifies changes by the
// set before, so that it does not matter who served them.
func (h *HTTP) Changes(ctx context.Context, node Node, from uint32) ([]Change, error) {
	page := &changes{from: from}
	query := url.Values{"from": {strconv.FormatUint(uint64(from), 10)}, "limit": {strconv.Itoa(MaxChanges)}}
	if err := h.get(ctx, node, "/v1/changes?"+query.Encode(), page); err != nil {
		return nil, err
	}
	return page.Changes, nil
}

// Genesis implements Client. The answer does not name the node: a caller knows the hash of the
// document.
func (h *HTTP) Genesis(ctx context.Context, node Node) (*chain.Genesis, error) {
	document := &genesis{}
	if err := h.get(ctx, node, "/v1/genesis", document); err != nil {
		return nil, err
	}
	return &document.Genesis, nil
}

// genesis is a genesis document, which reads itself.
type genesis struct{ chain.Genesis }

func (g *genesis) check() error { return g.Validate() }

// changes is a page of changes, asked for from a generation on.
type changes struct {
	from    uint32
	Changes []Change `json:"changes"`
}

// answer is an answer that can check itself, and says how large it may be.
type answer interface {
	check() error
	most() (bytes, values int)
}

func (h *HTTP) get(ctx context.Context, node Node, path string, out answer) error {
	err := h.ask(ctx, node, path, out)
	if err != nil {
		return fmt.Errorf("%s%s: %w", node.Address, path, plain(err))
	}
	return nil
}

func (h *HTTP) ask(ctx context.Context, node Node, path string, out answer) error {
	path, query, _ := strings.Cut(path, "?")
	target := url.URL{Scheme: "http", Host: node.Address, Path: path, RawQuery: query}
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
	size, values := out.most()
	body, err := read(resp.Body, size)
	if err != nil {
		return err
	}
	// The body is here, so that nobody else decides how long this takes.
	h.decoding <- struct{}{}
	defer func() { <-h.decoding }()
	return decode(body, values, out)
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

// read reads an answer of at most so many bytes.
func read(r io.Reader, most int) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(r, int64(most)+1))
	if err != nil {
		return nil, err
	}
	if len(body) > most {
		return nil, fmt.Errorf("the answer has more than %d bytes", most)
	}
	return body, nil
}

// decode decodes one JSON value of at most so many values. It ignores unknown fields: a newer node
// reports more.
func decode(body []byte, most int, out answer) error {
	if n := bytes.Count(body, []byte{','}) + 1; n > most {
		return fmt.Errorf("the answer has %d values, want at most %d", n, most)
	}
	if err := json.Unmarshal(body, out); err != nil {
		return err
	}
	return out.check()
}

func (s *Status) most() (bytes, values int)  { return maxAnswer, maxValues }
func (s *Set) most() (bytes, values int)     { return maxAnswer, maxValues }
func (g *genesis) most() (bytes, values int) { return maxAnswer, maxValues }
func (c *changes) most() (bytes, values int) { return maxPage, maxPageValues }

func (s *Status) check() error {
	switch s.Role {
	case RoleValidator, RoleObserver, RoleRejoining:
	default:
		return fmt.Errorf("role %.*q, want %s, %s or %s", maxText, s.Role, RoleValidator, RoleObserver, RoleRejoining)
	}
	if s.Validators < 1 || s.Validators > maxValidators || s.Threshold > s.Validators || 2*s.Threshold <= s.Validators {
		return fmt.Errorf("threshold %d of %d validators, want more than half of 1 to %d", s.Threshold, s.Validators, maxValidators)
	}
	if len(s.Endorsements) > maxValidators {
		return fmt.Errorf("%d endorsements, want at most %d", len(s.Endorsements), maxValidators)
	}
	s.Node, s.Reason, s.Versions.Node = cut(s.Node), cut(s.Reason), cut(s.Versions.Node)
	for i := range s.Endorsements {
		s.Endorsements[i].Name = cut(s.Endorsements[i].Name)
	}
	if s.Target != nil {
		s.Target.Problem = cut(s.Target.Problem)
	}
	return nil
}

func (c *changes) check() error {
	if len(c.Changes) > MaxChanges {
		return fmt.Errorf("%d changes, want at most %d", len(c.Changes), MaxChanges)
	}
	for i := range c.Changes {
		if got, want := uint64(c.Changes[i].Next.Generation), uint64(c.from)+uint64(i); got != want {
			return fmt.Errorf("change %d is to generation %d, want %d", i, got, want)
		}
	}
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
