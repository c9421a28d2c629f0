package access

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/diseq/diseq/node/internal/wait"
)

// Config is what a Control is made of.
type Config struct {
	Files
	// ChainID is the audience of tokens whose issuer names none.
	ChainID    string
	Logger     *slog.Logger
	Registerer prometheus.Registerer
	// FreeDisk returns the free space of the disk, MinFreeDisk is how much of it all clients leave.
	// nil keeps no reserve of it.
	FreeDisk    func() (uint64, error)
	MinFreeDisk uint64
	// Pool returns how many bytes of the pool clients of this node have taken and may take. nil
	// keeps no reserve of it.
	Pool func() (used, most int64)
	// Stderr takes audit lines: nil stands for the standard error.
	Stderr io.Writer
	// Interval is how often the files are looked at; 0 stands for 1 s.
	Interval time.Duration
}

// Control decides about the requests of the public listener. Its methods may be called
// concurrently.
type Control struct {
	cfg     Config
	log     *slog.Logger
	metrics *metrics
	audit   *auditor

	policy    atomic.Pointer[policy]
	material  atomic.Pointer[material]
	addresses *addresses

	// The rest is about reading the files again, and held by mu.
	mu          sync.Mutex
	policyFrom  *reading
	tlsFrom     *reading
	policyError string
	tlsError    string

	space space
}

// space is the last look at the free disk.
type space struct {
	mu   sync.Mutex
	at   time.Time
	free uint64
	ok   bool
}

// Open reads the files. It returns nil if there are none: a server without a Control lets everybody
// in. Close it in the end.
func Open(c Config) (*Control, error) {
	if c.TLS == nil && c.Access == "" {
		return nil, nil
	}
	control := &Control{cfg: c, log: c.Logger, addresses: newAddresses()}
	if control.log == nil {
		control.log = slog.New(slog.DiscardHandler)
	}
	if c.Stderr == nil {
		control.cfg.Stderr = os.Stderr
	}
	if c.TLS != nil {
		control.tlsFrom = newReading("")
		m, err := c.TLS.load(control.tlsFrom)
		if err != nil {
			return nil, err
		}
		control.material.Store(m)
	}
	first := everybody()
	if c.Access != "" {
		var err error
		control.policyFrom = newReading(filepath.Dir(c.Access))
		if first, err = loadPolicy(control.policyFrom, c.Access, c.ChainID, nil); err != nil {
			return nil, fmt.Errorf("access file %s: %w", c.Access, err)
		}
	}
	control.metrics = newMetrics(c.Registerer, control)
	control.audit = newAuditor(control.cfg.Stderr, control.log, control.metrics.dropped)
	control.adopt(first)
	return control, nil
}

// Close writes the audit lines that wait.
func (c *Control) Close() {
	if c != nil {
		c.audit.close()
	}
}

// Watch reads the files again whenever they change, until ctx ends.
func (c *Control) Watch(ctx context.Context) {
	for c != nil && wait.For(ctx, cmp.Or(c.cfg.Interval, time.Second)) == nil {
		c.reload()
	}
}

// reload looks at the files once.
func (c *Control) reload() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cfg.TLS != nil && c.tlsFrom.changed() {
		from := newReading("")
		m, err := c.cfg.TLS.load(from)
		c.tlsFrom = from
		c.tlsError = text(err)
		if err != nil {
			c.log.Error("the TLS files changed and cannot be used: the certificate read before stays in force", "err", err)
		} else {
			c.material.Store(m)
			c.log.Info("the TLS files changed: new connections get the new certificate", "expires", m.expires())
		}
	}
	if c.cfg.Access != "" && c.policyFrom.changed() {
		from := newReading(filepath.Dir(c.cfg.Access))
		p, err := loadPolicy(from, c.cfg.Access, c.cfg.ChainID, c.policy.Load())
		c.policyError = text(err)
		if err != nil {
			c.policyFrom.refresh() // it still watches the files that the last good one names
			c.log.Error("the access file changed and cannot be used: its last good content stays in force", "file", c.cfg.Access, "err", err)
			return
		}
		c.policyFrom = from
		c.log.Info("the access files changed", "clients", len(p.file.Clients), "digest", p.digest)
		c.adopt(p)
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// adopt puts a policy in force.
func (c *Control) adopt(p *policy) {
	for _, problem := range p.problems {
		c.log.Error("a file that the access file names cannot be used", "err", problem)
	}
	p.anonymous.usage.set(p.file.Anonymous.Total)
	c.addresses.set(p.file.Anonymous.Limits)
	clients := p.clients()
	for _, f := range p.file.Clients {
		if client := clients[f.Name]; client != nil {
			client.usage.set(f.Limits)
		}
	}
	path := p.file.Audit.File
	if path != "" {
		path = c.policyFrom.path(path)
	}
	c.audit.set(p.file.Audit, path)
	last := c.policy.Swap(p)
	if last != nil {
		c.metrics.forget(last.clients(), clients)
		close(last.replaced)
	}
}

// TLSConfig returns the configuration of TLS, nil for plain HTTP. Each connection gets the
// certificate of the moment.
func (c *Control) TLSConfig() *tls.Config {
	if c == nil || c.cfg.TLS == nil {
		return nil
	}
	return &tls.Config{
		MinVersion: c.material.Load().config.MinVersion, NextProtos: []string{"http/1.1"},
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return c.material.Load().config, nil },
	}
}

// Identity is who sent a request.
type Identity struct {
	// Name is the client's name, [AnonymousName] without a credential.
	Name  string
	Proof Proof
	// Address is the address that the request came from.
	Address netip.Addr
	// Expires is when the credential ceases to be accepted; zero for never.
	Expires time.Time

	control *Control
	client  *client
	policy  *policy
	// usages are those that a submission, a stream and a connection are charged to.
	usages []*usage
}

// Identify returns who sent a request. The error is a [Refusal].
func (c *Control) Identify(r *http.Request) (*Identity, error) {
	p := c.policy.Load()
	id := &Identity{Address: addressOf(r), control: c, policy: p}
	var err error
	id.client, id.Proof, id.Expires, err = p.identify(r, c.material.Load(), time.Now())
	if err != nil {
		return id, err
	}
	id.Name = id.client.name
	id.usages = []*usage{id.client.usage}
	if id.Anonymous() && p.file.Anonymous.Limits != (Limits{}) {
		id.usages = append(id.usages, c.addresses.of(id.Address))
	}
	return id, nil
}

// addressOf returns the address of the connection: a header of a proxy is not believed.
func addressOf(r *http.Request) netip.Addr {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	address, _ := netip.ParseAddr(host) // of a test it may be anything
	return address.Unmap()
}

// Anonymous reports whether the client showed no credential.
func (id *Identity) Anonymous() bool { return id.client == id.policy.anonymous }

// May returns nil if the client has one of the rights, or, without rights, if it has any right at
// all. The error is a [Refusal].
func (id *Identity) May(rights ...Right) error {
	switch {
	case id.client.may(rights...):
		return nil
	case id.Anonymous():
		return unauthenticated("this needs %s: send a bearer token or a client certificate", oneOf(rights))
	}
	return &Refusal{Reason: Forbidden, Message: fmt.Sprintf("client %s does not have %s on this node", id.Name, oneOf(rights))}
}

func oneOf(rights []Right) string {
	if len(rights) == 0 {
		return "any right"
	}
	names := make([]string, len(rights))
	for i, r := range rights {
		names[i] = string(r)
	}
	return "the right " + strings.Join(names, " or ")
}

// Has reports whether the client has a right.
func (id *Identity) Has(right Right) bool { return id.client.may(right) }

// An Admission is what a submission took of its client's limits.
type Admission struct{ charges []*charge }

// Refund gives all of it back: no message was accepted.
func (a *Admission) Refund() {
	for _, c := range a.charges {
		c.refund()
	}
}

// Known gives bytes of the day back that take no space: the node had their messages already. The
// work that they were stays counted in the rates.
func (a *Admission) Known(size int) {
	for _, c := range a.charges {
		c.known(size)
	}
}

// Admit charges a submission to the client's limits, or refuses it and charges nothing.
func (id *Identity) Admit(messages, size int) (*Admission, error) {
	if err := id.reserved(size); err != nil {
		return nil, err
	}
	now, a := time.Now(), &Admission{}
	for _, u := range id.usages {
		c, err := u.take(now, messages, size)
		if err != nil {
			a.Refund()
			return nil, err
		}
		a.charges = append(a.charges, c)
	}
	return a, nil
}

// Accepted counts messages that were accepted.
func (id *Identity) Accepted(messages, size int) {
	id.control.metrics.messages.WithLabelValues(id.Name).Add(float64(messages))
	id.control.metrics.bytes.WithLabelValues(id.Name).Add(float64(size))
}

// Share returns how much of n places the client may take: all, or what the reserve leaves.
func (id *Identity) Share(n int) int {
	if !id.Anonymous() || len(id.policy.file.Clients) == 0 {
		return n
	}
	return n - n*int(id.policy.file.Reserve.share())/100
}

// share is the share of the clients of the file, in percent.
func (r Reserve) share() uint64 {
	if r.Share == nil {
		return 25
	}
	return *r.Share
}

func (r Reserve) disk() uint64 {
	if r.Disk == nil {
		return 2 << 30
	}
	return uint64(*r.Disk)
}

// reserved refuses a submission without a credential that would take what is kept for the clients
// of the file.
func (id *Identity) reserved(size int) error {
	c, p := id.control, id.policy
	if !id.Anonymous() || !slices.ContainsFunc(p.file.Clients, func(c Client) bool { return slices.Contains(c.Allow, Submit) }) {
		return nil
	}
	if c.cfg.FreeDisk != nil {
		if least := c.cfg.MinFreeDisk + p.file.Reserve.disk(); c.free() < least {
			return &Refusal{
				Reason: Reserved, RetryAfter: 10 * time.Second,
				Message: fmt.Sprintf("the last %d MiB of this node's disk are for clients with a name", least>>20),
			}
		}
	}
	if c.cfg.Pool != nil {
		used, most := c.cfg.Pool()
		if share := int64(p.file.Reserve.share()); share > 0 && used+int64(size) > most-most/100*share {
			return quota(time.Second, "the last %d percent of this node's pool are for clients with a name", share)
		}
	}
	return nil
}

// free returns the free space of the disk, as of the last second; unknown space is enough.
func (c *Control) free() uint64 {
	c.space.mu.Lock()
	defer c.space.mu.Unlock()
	if now := time.Now(); now.Sub(c.space.at) >= time.Second {
		free, err := c.cfg.FreeDisk()
		c.space.at, c.space.free, c.space.ok = now, free, err == nil
	}
	if !c.space.ok {
		return ^uint64(0)
	}
	return c.space.free
}

// Stream counts a stream of the client until the returned function is called, or refuses it.
func (id *Identity) Stream() (closed func(), err error) {
	return hold(id.usages, (*usage).openStream, (*usage).closeStream)
}

// hold takes a place of each usage, or none.
func hold(usages []*usage, take func(*usage) error, give func(*usage)) (func(), error) {
	for i, u := range usages {
		if err := take(u); err != nil {
			for _, taken := range usages[:i] {
				give(taken)
			}
			return nil, err
		}
	}
	return sync.OnceFunc(func() {
		for _, u := range usages {
			give(u)
		}
	}), nil
}

// While returns a context that ends when the client may no longer do what it does: its credential
// has expired, or the files have changed and give it none of the rights any more. r is the request
// that was identified.
func (id *Identity) While(r *http.Request, rights ...Right) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(r.Context())
	go func() {
		for now := id; ; {
			var expired <-chan time.Time
			var timer *time.Timer
			if !now.Expires.IsZero() {
				timer = time.NewTimer(time.Until(now.Expires))
				expired = timer.C
			}
			select {
			case <-ctx.Done():
			case <-expired:
			case <-now.policy.replaced:
			}
			if timer != nil {
				timer.Stop()
			}
			if ctx.Err() != nil {
				return
			}
			next, err := id.control.Identify(r)
			if err == nil {
				err = next.May(rights...)
			}
			if err == nil && next.Name != id.Name {
				err = errors.New("the credential is another client's now")
			}
			if err != nil {
				cancel(err)
				return
			}
			now = next
		}
	}()
	return ctx, func() { cancel(nil) }
}

// A Connection counts one connection for the clients that use it. The zero value is one that nobody
// has used.
type Connection struct {
	mu     sync.Mutex
	whose  []*usage
	give   func()
	closed bool
}

// Use counts the connection for the client of a request, or refuses the request.
func (k *Connection) Use(id *Identity) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed || k.give != nil && slices.Equal(k.whose, id.usages) {
		return nil
	}
	give, err := hold(id.usages, (*usage).connect, (*usage).disconnect)
	if err != nil {
		return err
	}
	if k.give != nil {
		k.give()
	}
	k.whose, k.give = id.usages, give
	return nil
}

// Close says that the connection is closed.
func (k *Connection) Close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.closed = true
	if k.give != nil {
		k.give()
		k.give = nil
	}
}

// Refused counts a refusal. id may be of a client that could not be identified.
func (c *Control) Refused(id *Identity, r *Refusal) {
	name := ""
	if id != nil {
		name = id.Name
	}
	c.metrics.refused.WithLabelValues(name, r.Reason.String()).Inc()
}

// Audits reports whether audit lines go anywhere.
func (c *Control) Audits() bool { return c.audit.wanted() }

// Audit writes an audit line.
func (c *Control) Audit(r Record) { c.audit.add(r) }

// Status is what /v1/status tells about access.
type Status struct {
	// SHA256 is that of the access file in force, empty without one. Problem says why a newer one
	// is not in force.
	SHA256  string `json:"sha256"`
	Problem string `json:"problem"`
	// Clients is how many clients it names. Problems are those of files that it names: at most 16.
	Clients  int      `json:"clients"`
	Problems []string `json:"problems"`
	// Certificate is nil without TLS.
	Certificate *CertificateStatus `json:"certificate,omitempty"`
}

// CertificateStatus is the state of the node's certificate.
type CertificateStatus struct {
	// NotBefore and NotAfter bound its life, in Unix milliseconds.
	NotBefore int64 `json:"not_before"`
	NotAfter  int64 `json:"not_after"`
	// Problem says why newer files are not in force, or that it has expired.
	Problem string `json:"problem"`
}

const (
	maxProblems     = 16
	maxProblemBytes = 500
)

// Status returns the state of the files.
func (c *Control) Status() *Status {
	p := c.policy.Load()
	c.mu.Lock()
	policyError, tlsError := c.policyError, c.tlsError
	c.mu.Unlock()
	s := &Status{
		SHA256: p.digest, Problem: cut(policyError), Clients: len(p.file.Clients),
		Problems: make([]string, 0, min(len(p.problems), maxProblems)),
	}
	for _, problem := range p.problems[:min(len(p.problems), maxProblems)] {
		s.Problems = append(s.Problems, cut(problem))
	}
	if m := c.material.Load(); m != nil {
		leaf := m.config.Certificates[0].Leaf
		s.Certificate = &CertificateStatus{NotBefore: leaf.NotBefore.UnixMilli(), NotAfter: leaf.NotAfter.UnixMilli(), Problem: cut(tlsError)}
		if tlsError == "" && time.Now().After(leaf.NotAfter) {
			s.Certificate.Problem = "the certificate has expired: clients refuse it"
		}
	}
	return s
}

func cut(s string) string { return s[:min(len(s), maxProblemBytes)] }

// count counts what Status names.
func (s *Status) count() int {
	n := len(s.Problems)
	if s.Problem != "" {
		n++
	}
	if s.Certificate != nil && s.Certificate.Problem != "" {
		n++
	}
	return n
}
