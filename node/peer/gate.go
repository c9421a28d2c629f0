package peer

import (
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/diseq/diseq/node/chain"
)

// gate decides which peers may be connected to this node, and counts their connections.
//
// Connections that have not finished TLS are strangers'. There is room for a fixed number, and a
// new one pushes out the oldest: an honest node is through in milliseconds, one that only takes up
// the place is not. Of an authenticated peer the newest connections stay for a similar reason: the
// old ones of a peer that was cut off may linger until their keepalive fails.
type gate struct {
	settings settings
	calls    map[string]call
	reports  *reports

	mu      sync.Mutex
	closed  bool
	pending []*inbound // oldest first
	guests  map[chain.PublicKey]*guest
}

// guest is a peer that may connect.
type guest struct {
	peer        Peer
	connections []*inbound // oldest first
	fetches     chan struct{}
	// useless is what may still come that is of no use, uselessCount what has come.
	useless      *rate.Limiter
	uselessCount atomic.Uint64
	strikes      int
	struckAt     time.Time
	lastHeard    atomic.Int64 // Unix nanoseconds
	version      atomic.Pointer[string]

	// begun bounds the calls of all methods in a second.
	begun *rate.Limiter
	// underWay counts the calls of each method whose number is bounded.
	counting sync.Mutex
	underWay map[string]int
}

func newGuest(s settings) *guest {
	return &guest{
		fetches: make(chan struct{}, s.maxFetches), underWay: map[string]int{}, useless: rate.NewLimiter(s.uselessRate, s.uselessBurst),
		begun: rate.NewLimiter(s.callRate, s.callBurst),
	}
}

// inbound is an accepted connection. It is also what gRPC hands to every call on it.
type inbound struct {
	net.Conn
	gate *gate

	key      chain.PublicKey // once authenticated
	guest    *guest
	admitted atomic.Bool // the Hello was right
	deadline *time.Timer // for the Hello
}

// AuthType implements credentials.AuthInfo.
func (*inbound) AuthType() string { return "tls" }

func newGate(s settings, r *reports) *gate {
	return &gate{settings: s, calls: s.calls(), reports: r, guests: make(map[chain.PublicKey]*guest)}
}

// accept registers a new connection.
func (g *gate) accept(conn net.Conn) *inbound {
	in := &inbound{Conn: conn, gate: g}
	g.mu.Lock()
	var oldest *inbound
	if len(g.pending) >= g.settings.maxPending {
		oldest = g.pending[0]
		g.pending = slices.Delete(g.pending, 0, 1)
	}
	g.pending = append(g.pending, in)
	g.mu.Unlock()
	if oldest != nil {
		g.reports.reject(reasonFlood, nil, fmt.Errorf("%d connections wait for their handshake: the oldest, from %v, is closed",
			g.settings.maxPending, oldest.RemoteAddr()))
		_ = oldest.Close() // it is a stranger's
	}
	return in
}

// check reports whether a peer with that key may connect now.
func (g *gate) check(key chain.PublicKey) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.checkLocked(key)
}

func (g *gate) checkLocked(key chain.PublicKey) error {
	guest, ok := g.guests[key]
	if !ok || g.closed {
		return fmt.Errorf("%w: %v", errUnknownKey, key)
	}
	if left := guest.penalty(g.settings) - time.Since(guest.struckAt); left > 0 {
		return fmt.Errorf("%w: peer %s is not let in for another %v", errPenalty, guest.peer.Name, left.Round(time.Millisecond))
	}
	return nil
}

// penalty returns how long the guest stays out after its last strike.
func (p *guest) penalty(s settings) time.Duration {
	if p.strikes == 0 {
		return 0
	}
	return min(s.maxPenalty, s.minPenalty<<min(p.strikes-1, 16))
}

// authenticated moves a connection from the strangers' to its peer's.
func (g *gate) authenticated(in *inbound, key chain.PublicKey) error {
	g.mu.Lock()
	if err := g.checkLocked(key); err != nil {
		g.mu.Unlock()
		return err
	}
	g.removeLocked(in)
	in.key, in.guest = key, g.guests[key]
	in.deadline = time.AfterFunc(g.settings.handshakeTimeout, func() {
		if !in.admitted.Load() {
			_ = in.Close() // its handshake never came
		}
	})
	in.guest.connections = append(in.guest.connections, in)
	var oldest []*inbound
	if n := len(in.guest.connections) - g.settings.maxConnections; n > 0 {
		oldest = slices.Clone(in.guest.connections[:n])
	}
	g.mu.Unlock()
	for _, c := range oldest {
		_ = c.Close() // its peer has newer ones
	}
	return nil
}

// Close implements net.Conn.
func (in *inbound) Close() error {
	in.gate.mu.Lock()
	in.gate.removeLocked(in)
	in.gate.mu.Unlock()
	return in.Conn.Close()
}

func (g *gate) removeLocked(in *inbound) {
	same := func(c *inbound) bool { return c == in }
	if in.guest == nil {
		g.pending = slices.DeleteFunc(g.pending, same)
		return
	}
	in.deadline.Stop()
	in.guest.connections = slices.DeleteFunc(in.guest.connections, same)
}

// strike closes every connection of a peer that is at fault and keeps the peer out, for longer each
// time. Twice maxPenalty without a strike clears the record. A fault on a connection that is closed
// already does not count again.
func (g *gate) strike(in *inbound) {
	g.mu.Lock()
	p := in.guest
	if !slices.Contains(p.connections, in) {
		g.mu.Unlock()
		return
	}
	if time.Since(p.struckAt) > 2*g.settings.maxPenalty {
		p.strikes = 0
	}
	p.strikes++
	p.struckAt = time.Now()
	connections := slices.Clone(p.connections)
	p.connections = nil
	g.mu.Unlock()
	for _, c := range connections {
		_ = c.Close() // nothing more is wanted from it
	}
}

// setPeers replaces the peers that may connect. A peer that no longer may is disconnected; one that
// stays keeps its penalty.
func (g *gate) setPeers(peers []Peer) {
	g.mu.Lock()
	guests := make(map[chain.PublicKey]*guest, len(peers))
	for _, p := range peers {
		entry, ok := g.guests[p.Key]
		if !ok {
			entry = newGuest(g.settings)
		}
		entry.peer = p
		guests[p.Key] = entry
	}
	var gone []*inbound
	for key, p := range g.guests {
		if guests[key] == nil {
			gone = append(gone, p.connections...)
		}
	}
	g.guests = guests
	g.mu.Unlock()
	for _, c := range gone {
		_ = c.Close() // it is not a peer any more
	}
}

// peers returns the peers that may connect.
func (g *gate) peers() []Peer {
	g.mu.Lock()
	defer g.mu.Unlock()
	peers := make([]Peer, 0, len(g.guests))
	for _, p := range g.guests {
		peers = append(peers, p.peer)
	}
	return peers
}

// close refuses every peer from now on. The gRPC server closes the connections.
func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
}

// heard fills in the state of a peer as its own connections show it.
func (g *gate) heard(info *PeerInfo) {
	g.mu.Lock()
	p := g.guests[info.Key]
	if p == nil {
		g.mu.Unlock()
		return
	}
	info.Inbound = slices.ContainsFunc(p.connections, func(c *inbound) bool { return c.admitted.Load() })
	g.mu.Unlock()
	if ns := p.lastHeard.Load(); ns != 0 {
		info.LastHeard = time.Unix(0, ns)
	}
	if v := p.version.Load(); v != nil {
		info.Version = *v
	}
	info.Useless = p.uselessCount.Load()
}

// gatedListener passes every accepted connection by the gate.
type gatedListener struct {
	net.Listener
	gate *gate
}

// Accept implements net.Listener.
func (l gatedListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return l.gate.accept(conn), nil
}
