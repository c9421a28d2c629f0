package peer

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/diseq/diseq/node/peer/peerpb"
)

// A peer has two streams of a kind at most, over all its connections: an honest one has one, and
// for a moment that of the link before.
//
// Promise 50.
func TestAPeerHasTwoStreamsOfAKind(t *testing.T) {
	n := lonely(t)
	clients := []peerpb.PeerClient{admitted(t, n, 1), admitted(t, n, 1)}
	for kind, open := range map[string]func(context.Context, peerpb.PeerClient) (grpc.ClientStream, error){
		"consensus": func(ctx context.Context, c peerpb.PeerClient) (grpc.ClientStream, error) { return c.Consensus(ctx) },
		"push":      func(ctx context.Context, c peerpb.PeerClient) (grpc.ClientStream, error) { return c.Push(ctx) },
	} {
		refused := func(ctx context.Context, c peerpb.PeerClient) bool {
			stream, err := open(ctx, c)
			if err == nil {
				_, err = stream.Header()
			}
			if err == nil {
				err = stream.RecvMsg(&peerpb.Acks{})
			}
			return status.Code(err) == codes.ResourceExhausted
		}
		method := map[string]string{"consensus": peerpb.Peer_Consensus_FullMethodName, "push": peerpb.Peer_Push_FullMethodName}[kind]
		underWay := func() int {
			n.gate.mu.Lock()
			p := n.gate.guests[publicKey(1)]
			n.gate.mu.Unlock()
			p.counting.Lock()
			defer p.counting.Unlock()
			return p.underWay[method]
		}
		ctx, cancel := context.WithCancel(t.Context())
		for i := range 2 {
			if _, err := open(ctx, clients[i]); err != nil {
				t.Fatal(err)
			}
		}
		eventually(t, "two streams are open", func() bool { return underWay() == 2 })
		for i := range 2 {
			if !refused(t.Context(), clients[i]) {
				t.Errorf("%s: connection %d: a third stream is not refused", kind, i+1)
			}
		}
		cancel()
		eventually(t, "they are counted no longer", func() bool { return underWay() == 0 })
	}
}

// A peer may begin a number of calls in a second, whatever they are.
//
// Promise 50.
func TestCallsOfAPeerAreBounded(t *testing.T) {
	n := lonely(t, func(_ *Config, s *settings) { s.callRate, s.callBurst = 1e-9, 10 })
	client := admitted(t, n, 1) // the handshake is a call, too
	for i := range 12 {
		_, err := client.Status(t.Context(), &peerpb.StatusRequest{Nonce: make([]byte, 32)})
		if refused := status.Code(err) == codes.ResourceExhausted; refused != (i >= 9) {
			t.Errorf("call %d: %v", i+2, err)
		}
	}
}

// A call that a peer begins and does not end is over after a time: half of a large message is in
// memory meanwhile.
//
// Promise 50.
func TestACallThatIsNeverFinishedEnds(t *testing.T) {
	n := lonely(t, func(_ *Config, s *settings) { s.callTimeout = 20 * time.Millisecond })
	conn, err := grpc.NewClient("passthrough:///"+n.peer.Address, grpc.WithTransportCredentials(credentials.NewTLS(clientTLS(t, 1))))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := peerpb.NewPeerClient(conn).Handshake(t.Context(), n.hello()); err != nil {
		t.Fatal(err)
	}
	// As a stream, so that gRPC sends the header of the call and waits for its message.
	stream, err := conn.NewStream(t.Context(), &grpc.StreamDesc{ClientStreams: true}, peerpb.Peer_Propose_FullMethodName)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.RecvMsg(&peerpb.Done{}); err == nil || t.Context().Err() != nil {
		t.Errorf("the call goes on: %v", err)
	}
}

// A peer that comes and goes all the time settles its own back-off: it is not sent everything ten
// times a second. One that comes back after a while is dialled at once.
//
// Promise 50.
func TestAPeerThatFlapsIsDialledLessOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := defaultSettings()
		r := newRetries(s)
		dials, began := 0, time.Now()
		for time.Since(began) < time.Minute {
			dials++
			time.Sleep(50 * time.Millisecond) // then the peer ends the link
			next := time.Now().Add(r.after(50*time.Millisecond, errors.New("the peer ended the stream")))
			for time.Now().Before(next) {
				time.Sleep(min(100*time.Millisecond, time.Until(next))) // and connects again
				if r.atOnce() {
					time.Sleep(s.minBackoff)
					break
				}
			}
		}
		if dials > 40 {
			t.Errorf("%d dials in a minute to a peer that flaps ten times a second", dials)
		}
		time.Sleep(time.Minute)
		r.after(time.Minute, errors.New("the peer restarts"))
		if !r.atOnce() {
			t.Error("a peer that comes back after a minute waits")
		}
	})
}
