package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/transport/spdy"
	"k8s.io/streaming/pkg/httpstream"
)

// forwarder returns a function that connects to a port of a pod through the API server, as kubectl
// port-forward does, but without a port on this machine that other users of it could reach. Each
// connection is a tunnel of its own: one that breaks takes no other with it.
func forwarder(config *rest.Config, api rest.Interface) func(ctx context.Context, namespace, pod string, port int) (net.Conn, error) {
	return func(ctx context.Context, namespace, pod string, port int) (net.Conn, error) {
		url := api.Post().Resource("pods").Namespace(namespace).Name(pod).SubResource("portforward").URL()
		transport, upgrader, err := spdy.RoundTripperFor(config)
		if err != nil {
			return nil, err
		}
		overWebsocket, err := portforward.NewSPDYOverWebsocketDialerForStreaming(url, config)
		if err != nil {
			return nil, err
		}
		// Older API servers, and some proxies before them, know one of the two only.
		overSPDY := spdy.NewDialerForStreaming(upgrader, &http.Client{Transport: transport}, http.MethodPost, url)
		dialer := portforward.NewFallbackDialerForStreaming(overWebsocket, overSPDY,
			func(err error) bool { return httpstream.IsUpgradeFailure(err) || httpstream.IsHTTPSProxyError(err) })
		return open(ctx, dialer, pod, port)
	}
}

// open dials and opens the streams of one connection. The dialer knows no context: what it opens
// after the end of one is closed again.
func open(ctx context.Context, dialer httpstream.Dialer, pod string, port int) (net.Conn, error) {
	type dialed struct {
		c   *tunnel
		err error
	}
	done := make(chan dialed)
	go func() {
		var d dialed
		d.c, d.err = dialPod(dialer, pod, port)
		select {
		case done <- d:
		case <-ctx.Done():
			if d.err == nil {
				_ = d.c.Close() // nobody uses it
			}
		}
	}()
	select {
	case d := <-done:
		if d.err != nil {
			return nil, fmt.Errorf("port-forward to pod %s: %w", pod, d.err)
		}
		return d.c, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("port-forward to pod %s: %w", pod, ctx.Err())
	}
}

func dialPod(dialer httpstream.Dialer, pod string, port int) (*tunnel, error) {
	connection, _, err := dialer.Dial(portforward.PortForwardProtocolV1Name)
	if err != nil {
		return nil, err
	}
	headers := http.Header{}
	headers.Set(corev1.PortHeader, strconv.Itoa(port))
	headers.Set(corev1.PortForwardRequestIDHeader, "0")
	headers.Set(corev1.StreamType, corev1.StreamTypeError)
	problems, err := connection.CreateStream(headers)
	if err != nil {
		return nil, errors.Join(err, connection.Close())
	}
	_ = problems.Close() // nothing is written to it
	t := &tunnel{connection: connection, to: address(net.JoinHostPort(pod, strconv.Itoa(port))), ended: make(chan struct{})}
	go func() {
		text, _ := io.ReadAll(io.LimitReader(problems, maxProblem)) // an error means that the connection broke
		t.problem = strings.TrimSpace(string(text))
		close(t.ended)
		if len(text) > 0 {
			_ = connection.Close() // the next read says why
		}
	}()
	headers.Set(corev1.StreamType, corev1.StreamTypeData)
	if t.Stream, err = connection.CreateStream(headers); err != nil {
		return nil, errors.Join(t.reason(err), connection.Close())
	}
	return t, nil
}

const (
	// maxProblem bounds what a kubelet says about a connection that failed, in bytes.
	maxProblem = 4 << 10
	// problemWithin is for how long an end waits for its reason, which comes by another stream.
	problemWithin = 5 * time.Second
)

// A tunnel is a connection to a port of a pod.
type tunnel struct {
	httpstream.Stream
	connection httpstream.Connection
	to         address
	problem    string        // the words of the kubelet, once ended is closed
	ended      chan struct{} // closed when no more of them come
}

// Read implements net.Conn. If the kubelet said why the connection ended, the error is that.
func (t *tunnel) Read(p []byte) (int, error) {
	n, err := t.Stream.Read(p)
	return n, t.reason(err)
}

// Write implements net.Conn, with the errors of Read.
func (t *tunnel) Write(p []byte) (int, error) {
	n, err := t.Stream.Write(p)
	return n, t.reason(err)
}

// reason returns what the kubelet said about an error of the connection, or the error.
func (t *tunnel) reason(err error) error {
	if err == nil {
		return nil
	}
	select {
	case <-t.ended:
		if t.problem != "" {
			return fmt.Errorf("pod %s: %s", t.to, t.problem)
		}
	case <-time.After(problemWithin):
	}
	return err
}

// Close implements net.Conn.
func (t *tunnel) Close() error { return t.connection.Close() }

// LocalAddr implements net.Conn.
func (t *tunnel) LocalAddr() net.Addr { return address("") }

// RemoteAddr implements net.Conn.
func (t *tunnel) RemoteAddr() net.Addr { return t.to }

// SetDeadline implements net.Conn: a tunnel has no deadlines, its users close it.
func (t *tunnel) SetDeadline(time.Time) error { return os.ErrNoDeadline }

// SetReadDeadline implements net.Conn.
func (t *tunnel) SetReadDeadline(time.Time) error { return os.ErrNoDeadline }

// SetWriteDeadline implements net.Conn.
func (t *tunnel) SetWriteDeadline(time.Time) error { return os.ErrNoDeadline }

// address is a pod with a port.
type address string

// Network implements net.Addr.
func (address) Network() string { return "pod" }

// String implements net.Addr.
func (a address) String() string { return string(a) }
