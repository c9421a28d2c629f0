package hostile

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/diseq/diseq/test/system"
)

// attack is one way to harm a node. It goes on until ctx ends, and counts what it did and how often
// it was refused.
type attack struct {
	name string
	run  func(ctx context.Context, target *system.Node, c *counts)
}

// counts are of one attack on all nodes.
type counts struct{ done, refused atomic.Int64 }

func (c *counts) note(err error) {
	if err != nil {
		c.refused.Add(1)
		return
	}
	c.done.Add(1)
}

// every calls f at a rate a second until ctx ends.
func every(ctx context.Context, perSecond float64, f func()) {
	tick := time.NewTicker(time.Duration(float64(time.Second) / perSecond))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			f()
		}
	}
}

// many runs n copies of f until ctx ends.
func many(ctx context.Context, n int, f func(ctx context.Context, i int)) {
	for i := range n {
		go f(ctx, i)
	}
	<-ctx.Done()
}

// address returns the i-th address of the loopback network that attackers come from.
func address(i int) net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 66, byte(1+i%200))} }

// dial connects to a node's public listener from the i-th address, with a small receive buffer, so
// that an answer that is not read stays at the node.
func dial(ctx context.Context, target *system.Node, i int) (net.Conn, error) {
	d := net.Dialer{
		LocalAddr: address(i), Timeout: 5 * time.Second,
		Control: func(_, _ string, c syscall.RawConn) error {
			return c.Control(func(fd uintptr) { _ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4096) })
		},
	}
	return d.DialContext(ctx, "tcp", strings.TrimPrefix(target.URL, "http://"))
}

// hold connects from the i-th address again and again, sends a request and keeps the connection
// until the node closes it. keep is called a few times a second meanwhile; it may send more.
func hold(ctx context.Context, target *system.Node, i int, c *counts, request string, keep func(net.Conn) error) {
	for ctx.Err() == nil {
		conn, err := dial(ctx, target, i)
		if err == nil {
			_, err = io.WriteString(conn, request)
		}
		c.note(err)
		if err == nil {
			closed := make(chan struct{})
			go func() {
				defer close(closed)
				if keep != nil {
					every(ctx, 2, func() {
						if keep(conn) != nil {
							_ = conn.Close() // the node has closed it
						}
					})
					return
				}
				<-ctx.Done()
			}()
			stop := context.AfterFunc(ctx, func() { _ = conn.Close() }) // that ends the read
			wait(ctx, conn, keep == nil)
			stop()
			_ = conn.Close() // the node has closed it
			if ctx.Err() == nil {
				c.refused.Add(1)
			}
		}
		select {
		case <-time.After(2 * time.Second):
		case <-ctx.Done():
		}
	}
}

// established is the state of a TCP connection that neither side has closed (tcp_states.h).
const established = 1

// wait returns when a connection has ended. Without reads it is asked of the kernel alone, so that
// the node's answer stays unread.
func wait(ctx context.Context, conn net.Conn, unread bool) {
	if !unread {
		_, _ = io.Copy(io.Discard, conn) // its end is what matters
		return
	}
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		return
	}
	ctx, over := context.WithCancel(ctx)
	defer over()
	every(ctx, 2, func() {
		dead := false
		_ = raw.Control(func(fd uintptr) {
			info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
			dead = err != nil || info.State != established
		})
		if dead {
			over()
		}
	})
}

func get(path string) string { return "GET " + path + " HTTP/1.1\r\nHost: node\r\n\r\n" }

// clientAttacks come from one address each, and where it says so from two hundred.
func clientAttacks() []attack {
	small := func(messages int, tag string) []byte {
		var body []byte
		for i := range messages {
			m := fmt.Sprintf("hostile %s %d", tag, i)
			body = append(binary.AppendUvarint(body, uint64(len(m))), m...)
		}
		return body
	}
	post := func(ctx context.Context, target *system.Node, from int, query string, body []byte) error {
		transport := &http.Transport{
			DialContext:       (&net.Dialer{LocalAddr: address(from), Timeout: 5 * time.Second}).DialContext,
			DisableKeepAlives: true,
		}
		h := &http.Client{Transport: transport, Timeout: 10 * time.Second}
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, target.URL+"/v1/messages"+query, strings.NewReader(string(body)))
		if err != nil {
			return err
		}
		request.Header.Set("Content-Type", "application/vnd.diseq.batch")
		r, err := h.Do(request)
		if err != nil {
			return err
		}
		defer func() { _ = r.Body.Close() }() // read to its end
		_, err = io.Copy(io.Discard, r.Body)
		if err == nil && r.StatusCode/100 != 2 {
			err = fmt.Errorf("answered %d", r.StatusCode)
		}
		return err
	}
	return []attack{
		{"readers that do not read (bytes under way)", func(ctx context.Context, target *system.Node, c *counts) {
			many(ctx, 64, func(ctx context.Context, i int) {
				for ctx.Err() == nil { // a node that hangs up cannot say so: its last bytes are not read
					now, end := context.WithTimeout(ctx, 10*time.Second)
					hold(now, target, i%4, c, get("/v1/blocks?from=1&limit=100"), nil)
					end()
				}
			})
		}},
		{"bodies that trickle (places of bodies)", func(ctx context.Context, target *system.Node, c *counts) {
			head := "POST /v1/messages HTTP/1.1\r\nHost: node\r\nContent-Type: application/vnd.diseq.batch\r\nContent-Length: 1000000\r\n\r\n"
			many(ctx, 32, func(ctx context.Context, i int) {
				hold(ctx, target, 10+i%4, c, head+strings.Repeat("x", 70_000), func(conn net.Conn) error {
					_, err := conn.Write([]byte{0})
					return err
				})
			})
		}},
		{"streams of heights to come (places of streams)", func(ctx context.Context, target *system.Node, c *counts) {
			many(ctx, 300, func(ctx context.Context, i int) {
				hold(ctx, target, 20+i%4, c, get("/v1/stream?from=4503599627370496"), nil)
			})
		}},
		{"idle connections of one address (connections)", func(ctx context.Context, target *system.Node, c *counts) {
			many(ctx, 200, func(ctx context.Context, _ int) { hold(ctx, target, 30, c, "", nil) })
		}},
		{"idle connections of many addresses (connections)", func(ctx context.Context, target *system.Node, c *counts) {
			many(ctx, 1000, func(ctx context.Context, i int) { hold(ctx, target, 31+i, c, get("/v1/genesis"), nil) })
		}},
		{"receipts of known messages (receipts an answer)", func(ctx context.Context, target *system.Node, c *counts) {
			body := small(1000, target.Name)
			every(ctx, 2, func() { c.note(post(ctx, target, 50, "?wait=final&timeout=5s", body)) })
		}},
		{"bodies that are refused (validation)", func(ctx context.Context, target *system.Node, c *counts) {
			every(ctx, 10, func() { c.note(post(ctx, target, 51, "", []byte(strings.Repeat("\xff", 10_000)))) })
		}},
		{"bytes that are no HTTP (parsing)", func(ctx context.Context, target *system.Node, c *counts) {
			every(ctx, 10, func() {
				conn, err := dial(ctx, target, 52)
				if err == nil {
					_, err = io.WriteString(conn, "\x16\x03\x01\r\n\r\nnonsense\r\n\r\n")
					_, _ = bufio.NewReader(conn).ReadString('\n') // any answer will do
					_ = conn.Close()
				}
				c.note(err)
			})
		}},
	}
}
