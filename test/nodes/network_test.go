package nodes

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// network is the wire between hosts. Bytes that are written to a connection arrive after the
// latency of its way, in order. While the way is held, nothing arrives and nothing is lost, as TCP
// makes it look until a side gives up.
type network struct {
	mu        sync.Mutex
	listeners map[string]*listener
	conns     map[*conn]struct{}
	ways      map[way]*condition
	dead      map[*machine]bool
}

// way is the direction between two hosts.
type way struct{ from, to string }

// condition is the state of a way: the latency of what is sent on it, and whether it is held.
type condition struct {
	latency time.Duration
	held    bool
}

// usualLatency is that of a network within a region.
const usualLatency = 2 * time.Millisecond

func newNetwork() *network {
	return &network{
		listeners: map[string]*listener{}, conns: map[*conn]struct{}{}, ways: map[way]*condition{}, dead: map[*machine]bool{},
	}
}

func (n *network) condition(w way) condition {
	n.mu.Lock()
	defer n.mu.Unlock()
	if c := n.ways[w]; c != nil {
		return *c
	}
	return condition{latency: usualLatency}
}

// set changes the condition of a way.
func (n *network) set(w way, c condition) {
	n.mu.Lock()
	n.ways[w] = &c
	var conns []*conn
	for c := range n.conns {
		conns = append(conns, c)
	}
	n.mu.Unlock()
	for _, c := range conns {
		c.in.changed()
	}
}

// calm takes every fault off the wire.
func (n *network) calm() {
	n.mu.Lock()
	ways := n.ways
	n.ways = map[way]*condition{}
	n.mu.Unlock()
	for w := range ways {
		n.set(w, condition{latency: usualLatency})
	}
}

// lose resets every connection between two hosts.
func (n *network) lose(a, b string) {
	for _, c := range n.connsOf(func(c *conn) bool { return c.local == a && c.remote == b }) {
		c.reset()
	}
}

func (n *network) connsOf(which func(*conn) bool) (conns []*conn) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for c := range n.conns {
		if which(c) {
			conns = append(conns, c)
		}
	}
	return conns
}

// A machine is where one run of a node runs: it listens and dials for it, until it is cut off for
// ever.
type machine struct {
	*network
	host string
	// strike, if there is one, is called before the write to the wire that uses up the fuse (see
	// kill).
	fuse   int64
	strike func()
	muted  bool
}

// mute lets nothing leave the machine any more, though it does not know.
func (m *machine) mute() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.muted = true
}

// cut takes the machine off the wire: from now on nothing leaves it, and nothing new arrives. The
// other ends see resets.
func (m *machine) cut() {
	m.mu.Lock()
	if m.dead[m] {
		m.mu.Unlock()
		return
	}
	m.dead[m] = true
	for address, l := range m.listeners {
		if l.machine == m {
			delete(m.listeners, address)
		}
	}
	m.mu.Unlock()
	for _, c := range m.connsOf(func(c *conn) bool { return c.machine == m }) {
		c.reset()
	}
}

func (m *machine) silent() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.muted
}

func (m *machine) off() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.dead[m]
}

type address string

func (address) Network() string  { return "tcp" }
func (a address) String() string { return string(a) }

func refused(op, at string, why error) error {
	return &net.OpError{Op: op, Net: "tcp", Addr: address(at), Err: os.NewSyscallError(op, why)}
}

func (m *machine) Listen(_ context.Context, _, at string) (net.Listener, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.listeners[at] != nil {
		return nil, refused("listen", at, syscall.EADDRINUSE)
	}
	l := &listener{machine: m, at: at, incoming: make(chan *conn, 128), closed: make(chan struct{})}
	m.listeners[at] = l
	return l, nil
}

func (m *machine) Dial(ctx context.Context, _, at string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(at)
	if err != nil {
		return nil, err
	}
	there, back := way{m.host, host}, way{host, m.host}
	for { // the packets that open a connection are sent again until they are answered
		a, b := m.condition(there), m.condition(back)
		wait := a.latency + b.latency
		held := a.held || b.held
		if held {
			wait = time.Second
		}
		select {
		case <-ctx.Done():
			return nil, refused("dial", at, syscall.ETIMEDOUT)
		case <-time.After(wait):
		}
		if !held {
			break
		}
	}
	if m.off() || m.silent() {
		return nil, refused("dial", at, syscall.ENETDOWN)
	}
	m.mu.Lock()
	l := m.listeners[at]
	m.mu.Unlock()
	if l == nil {
		return nil, refused("dial", at, syscall.ECONNREFUSED)
	}
	near := &conn{machine: m, local: m.host, remote: host, in: newInbox(m.network, back)}
	far := &conn{machine: l.machine, local: host, remote: m.host, in: newInbox(m.network, there)}
	near.peer, far.peer = far, near
	m.mu.Lock()
	m.conns[near], m.conns[far] = struct{}{}, struct{}{}
	m.mu.Unlock()
	select {
	case l.incoming <- far:
		return near, nil
	default:
		near.reset()
		return nil, refused("dial", at, syscall.ECONNREFUSED)
	}
}

type listener struct {
	machine  *machine
	at       string
	incoming chan *conn
	once     sync.Once
	closed   chan struct{}
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.incoming:
		return c, nil
	case <-l.closed:
		return nil, &net.OpError{Op: "accept", Net: "tcp", Addr: address(l.at), Err: net.ErrClosed}
	}
}

func (l *listener) Close() error {
	l.once.Do(func() {
		close(l.closed)
		l.machine.mu.Lock()
		if l.machine.listeners[l.at] == l {
			delete(l.machine.listeners, l.at)
		}
		l.machine.mu.Unlock()
		for {
			select {
			case c := <-l.incoming:
				c.reset()
			default:
				return
			}
		}
	})
	return nil
}

func (l *listener) Addr() net.Addr { return address(l.at) }

// conn is one end of a connection. A write never waits: the windows of HTTP/2 bound what is under
// way.
type conn struct {
	machine       *machine
	local, remote string
	peer          *conn
	in            *inbox
}

func (c *conn) Read(b []byte) (int, error) {
	n, err := c.in.read(b)
	if err != nil && !errors.Is(err, io.EOF) {
		err = &net.OpError{Op: "read", Net: "tcp", Addr: address(c.remote), Err: err}
	}
	return n, err
}

func (c *conn) Write(b []byte) (int, error) {
	c.machine.burn()
	if c.machine.off() || !c.in.open() {
		return 0, &net.OpError{Op: "write", Net: "tcp", Addr: address(c.remote), Err: syscall.EPIPE}
	}
	if !c.machine.silent() {
		// the other end may be closed; word of that is on its way
		c.peer.in.put(parcel{data: append([]byte(nil), b...)})
	}
	return len(b), nil
}

// Close ends this side at once, and the other when it has read what was written.
func (c *conn) Close() error {
	if !c.machine.silent() {
		c.peer.in.put(parcel{end: io.EOF})
	}
	c.in.fail(net.ErrClosed)
	c.forget()
	return nil
}

// reset ends this side at once and the other as soon as word of it arrives.
func (c *conn) reset() {
	c.peer.in.put(parcel{end: syscall.ECONNRESET})
	c.in.fail(syscall.ECONNRESET)
	c.forget()
}

func (c *conn) forget() {
	c.machine.mu.Lock()
	defer c.machine.mu.Unlock()
	delete(c.machine.conns, c)
}

func (c *conn) LocalAddr() net.Addr  { return address(c.local + ":1") }
func (c *conn) RemoteAddr() net.Addr { return address(c.remote + ":1") }

func (c *conn) SetDeadline(t time.Time) error      { return c.SetReadDeadline(t) }
func (c *conn) SetReadDeadline(t time.Time) error  { return c.in.setDeadline(t) }
func (c *conn) SetWriteDeadline(_ time.Time) error { return nil }

// parcel is what one write put on its way, or the end of the connection.
type parcel struct {
	at   time.Time
	data []byte
	end  error
}

// inbox is what is on its way to one end of a connection.
type inbox struct {
	network *network
	way     way

	mu       sync.Mutex
	parcels  []parcel
	last     time.Time
	failure  error
	deadline time.Time
	wake     chan struct{} // closed and renewed at every change
}

func newInbox(n *network, w way) *inbox { return &inbox{network: n, way: w, wake: make(chan struct{})} }

func (i *inbox) signal() {
	close(i.wake)
	i.wake = make(chan struct{})
}

func (i *inbox) changed() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.signal()
}

func (i *inbox) open() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.failure == nil
}

func (i *inbox) put(p parcel) {
	p.at = time.Now().Add(i.network.condition(i.way).latency)
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.failure != nil {
		return
	}
	if p.at.Before(i.last) {
		p.at = i.last
	}
	i.last = p.at
	i.parcels = append(i.parcels, p)
	i.signal()
}

func (i *inbox) fail(err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.failure == nil {
		i.failure, i.parcels = err, nil
		i.signal()
	}
}

func (i *inbox) setDeadline(t time.Time) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.deadline = t
	i.signal()
	return nil
}

func (i *inbox) read(b []byte) (int, error) {
	for {
		held := i.network.condition(i.way).held
		n, next, wake, err := i.take(b, held)
		if n > 0 || err != nil || len(b) == 0 {
			return n, err
		}
		if next.IsZero() {
			<-wake
			continue
		}
		timer := time.NewTimer(time.Until(next))
		select {
		case <-wake:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// take returns what has arrived; if nothing has, the time at which to look again, zero for not
// before wake.
func (i *inbox) take(b []byte, held bool) (n int, next time.Time, wake <-chan struct{}, err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	now := time.Now()
	if i.failure != nil {
		return 0, now, nil, i.failure
	}
	if !i.deadline.IsZero() && !now.Before(i.deadline) {
		return 0, now, nil, os.ErrDeadlineExceeded
	}
	next = i.deadline
	if len(i.parcels) > 0 && !held {
		p := &i.parcels[0]
		if !now.Before(p.at) {
			if p.end != nil {
				if !errors.Is(p.end, io.EOF) {
					i.failure = p.end
				}
				return 0, now, nil, p.end
			}
			n = copy(b, p.data)
			if p.data = p.data[n:]; len(p.data) == 0 {
				i.parcels = i.parcels[1:]
			}
			return n, now, nil, nil
		}
		if next.IsZero() || p.at.Before(next) {
			next = p.at
		}
	}
	return 0, next, i.wake, nil
}
