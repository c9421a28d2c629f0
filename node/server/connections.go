package server

import (
	"context"
	"net"
	"net/http"
	"time"

	"github.com/diseq/diseq/node/access"
	"github.com/diseq/diseq/node/internal/seats"
)

// A full listener serves newcomers all the same: connections that nothing happens on give way. One
// that waits for a request counts as idle immediately, one with a request when the client has taken
// nothing for servingGrace.
const (
	servingGrace = 3 * time.Second
	// connectionPatience is how long a connection is idle before it gives way to a client that has
	// as many.
	connectionPatience = 100 * time.Millisecond
	// maxNewcomers is how many connections may wait for a place; each does for newcomerWait. Of
	// these, too, the oldest of the client that has most gives way. All of them have passed the
	// smallest listener after 4 times connectionPatience.
	maxNewcomers = 128
	newcomerWait = 5 * time.Second

	// The operations listener and that of probes need few connections. The answers of the former
	// are longer than they look: all metrics.
	operationsConnections = 64
	probeConnections      = 32
)

// gate is a listener with places for so many connections.
type gate struct {
	net.Listener
	places  *seats.Limiter
	gaveWay func()

	ctx  context.Context
	stop context.CancelFunc
	// admitted are the connections that have places, failed the errors of the listener.
	admitted  chan net.Conn
	failed    chan error
	newcomers *seats.Limiter
}

// newGate takes over a listener, until it is closed.
func newGate(l net.Listener, places int, gaveWay func()) *gate {
	g := &gate{
		Listener: l, places: seats.New(int64(places), connectionPatience), gaveWay: gaveWay,
		admitted: make(chan net.Conn), failed: make(chan error), newcomers: seats.New(maxNewcomers, 0),
	}
	g.ctx, g.stop = context.WithCancel(context.Background())
	go g.run()
	return g
}

// connection is one that has a place.
type connection struct {
	net.Conn
	place *seats.Seat
	// client counts it for the client that uses it.
	client access.Connection
}

// Close implements net.Conn.
func (c *connection) Close() error {
	err := c.Conn.Close()
	c.place.Release()
	c.client.Close()
	return err
}

// NetConn returns the connection below, as tls.Conn's does.
func (c *connection) NetConn() net.Conn { return c.Conn }

// Accept implements net.Listener.
func (g *gate) Accept() (net.Conn, error) {
	select {
	case c := <-g.admitted:
		return c, nil
	case err := <-g.failed:
		return nil, err
	case <-g.ctx.Done():
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (g *gate) Close() error {
	g.stop()
	return g.Listener.Close()
}

// run accepts connections. One newcomer does not wait behind another: those of a client that has
// many would keep those of others out.
func (g *gate) run() {
	for g.ctx.Err() == nil {
		c, err := g.Listener.Accept()
		if err != nil {
			select {
			case g.failed <- err: // net/http pauses after some of them, and ends with others
			case <-g.ctx.Done():
			}
			continue
		}
		key := addressKey(c.RemoteAddr().String())
		ctx, cancel := context.WithCancel(g.ctx)
		waits, err := g.newcomers.Take(g.ctx, seats.Claim{Key: key, Wait: connectionPatience, GiveWay: cancel})
		if err != nil {
			cancel()
			_ = c.Close() // the others that wait have fewer
			continue
		}
		waits.IdleFrom(time.Now())
		go func() {
			defer cancel()
			defer waits.Release()
			g.admit(ctx, key, c)
		}()
	}
}

// admit gives a newcomer a place, or closes it.
func (g *gate) admit(ctx context.Context, key string, c net.Conn) {
	place, err := g.places.Take(ctx, seats.Claim{
		Key: key, Wait: newcomerWait, GiveWay: func() {
			g.gaveWay()
			_ = c.Close() // the server notices, and gives the place back
		},
	})
	if err != nil {
		_ = c.Close() // nobody made room
		return
	}
	in := &connection{Conn: c, place: place}
	place.IdleFrom(time.Now())
	select {
	case g.admitted <- in:
	case <-g.ctx.Done():
		_ = in.Close() // the server has stopped
	}
}

// placed returns the connection that has a place; nil if there is none, as in tests.
func placed(c net.Conn) *connection {
	for c != nil {
		if in, ok := c.(*connection); ok {
			return in
		}
		wrapped, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			return nil
		}
		c = wrapped.NetConn()
	}
	return nil
}

// withConnection has the requests of a connection find it.
func withConnection(ctx context.Context, c net.Conn) context.Context {
	if in := placed(c); in != nil {
		return context.WithValue(ctx, connectionKey, in)
	}
	return ctx
}

// serving says that a request is being served. It is until the answer has left, which is after its
// handler has returned: see resting.
func (w *response) serving(r *http.Request) {
	if in, ok := r.Context().Value(connectionKey).(*connection); ok {
		w.place = in.place
		w.place.IdleFrom(time.Now().Add(servingGrace))
	}
}

// resting is http.Server's ConnState: it says that a connection waits for a request, or for the
// rest of one.
func resting(c net.Conn, state http.ConnState) {
	if state != http.StateIdle && state != http.StateActive {
		return
	}
	if in := placed(c); in != nil {
		in.place.IdleFrom(time.Now())
	}
}
