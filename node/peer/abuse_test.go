package peer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/peer/peerpb"
)

// TestMalformedBytesPutThePeerOut sends what does not decode by every way in.
//
// Promise 49.
func TestMalformedBytesPutThePeerOut(t *testing.T) {
	send := func(ctx context.Context, client peerpb.PeerClient, frames ...*peerpb.Frame) error {
		stream, err := client.Consensus(ctx)
		if err != nil {
			return err
		}
		for _, f := range frames {
			if err := stream.Send(f); err != nil {
				break // CloseAndRecv has the reason
			}
		}
		_, err = stream.CloseAndRecv()
		return err
	}
	good := testVote(1, 1)
	for name, attack := range map[string]func(context.Context, peerpb.PeerClient) error{
		"vote": func(ctx context.Context, c peerpb.PeerClient) error {
			return send(ctx, c, &peerpb.Frame{Votes: [][]byte{[]byte("garbage")}})
		},
		"certificate": func(ctx context.Context, c peerpb.PeerClient) error {
			return send(ctx, c, &peerpb.Frame{Certificates: [][]byte{good.Encode()}})
		},
		"endorsement": func(ctx context.Context, c peerpb.PeerClient) error {
			return send(ctx, c, &peerpb.Frame{Endorsed: []byte("garbage")})
		},
		"too many votes": func(ctx context.Context, c peerpb.PeerClient) error {
			f := &peerpb.Frame{}
			for range maxFrameItems + 1 {
				f.Votes = append(f.Votes, good.Encode())
			}
			return send(ctx, c, f)
		},
		"oversized frame": func(ctx context.Context, c peerpb.PeerClient) error {
			return send(ctx, c, &peerpb.Frame{Votes: [][]byte{make([]byte, 5<<20)}})
		},
		"proposal": func(ctx context.Context, c peerpb.PeerClient) error {
			_, err := c.Propose(ctx, &peerpb.Proposal{Proposal: []byte{1, 2, 3}})
			return err
		},
		"commitment": func(ctx context.Context, c peerpb.PeerClient) error {
			_, err := c.Commit(ctx, &peerpb.Commitment{Commitment: []byte{1}})
			return err
		},
		"batch hash": func(ctx context.Context, c peerpb.PeerClient) error {
			stream, err := c.Batches(ctx, &peerpb.BatchesRequest{Hashes: [][]byte{{1}}})
			if err == nil {
				_, err = stream.Recv()
			}
			return err
		},
		"too many batches": func(ctx context.Context, c peerpb.PeerClient) error {
			request := &peerpb.BatchesRequest{}
			for range MaxFetchBatches + 1 {
				request.Hashes = append(request.Hashes, make([]byte, 32))
			}
			stream, err := c.Batches(ctx, request)
			if err == nil {
				_, err = stream.Recv()
			}
			return err
		},
		"blocks from 0": func(ctx context.Context, c peerpb.PeerClient) error {
			stream, err := c.Blocks(ctx, &peerpb.BlocksRequest{})
			if err == nil {
				_, err = stream.Recv()
			}
			return err
		},
		"block hash": func(ctx context.Context, c peerpb.PeerClient) error {
			_, err := c.Block(ctx, &peerpb.BlockRequest{Hash: make([]byte, 33)})
			return err
		},
		"nonce": func(ctx context.Context, c peerpb.PeerClient) error {
			_, err := c.Status(ctx, &peerpb.StatusRequest{})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := lonely(t)
			client := admitted(t, n, 1)
			if err := attack(t.Context(), client); err == nil {
				t.Error("no error")
			}
			eventually(t, "it is counted", func() bool { return n.rejected(t, reasonMalformed) == 1 })
			n.gate.mu.Lock()
			open := len(n.gate.guests[publicKey(1)].connections)
			n.gate.mu.Unlock()
			if open != 0 {
				t.Errorf("%d of its connections are still open", open)
			}
			if err := n.gate.check(publicKey(1)); !errors.Is(err, errPenalty) {
				t.Errorf("the peer may come back at once: %v", err)
			}
		})
	}
}

func TestWhatTheNodeFindsForgedPutsThePeerOut(t *testing.T) {
	n := lonely(t)
	n.guard.Lock()
	n.onBundle = func(chain.PublicKey, *chain.Bundle) (int, error) {
		return 0, fmt.Errorf("vote: %w", chain.ErrSignature)
	}
	n.guard.Unlock()
	client := admitted(t, n, 1)
	stream, err := client.Consensus(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	vote := testVote(1, 1)
	if err := stream.Send(&peerpb.Frame{Votes: [][]byte{vote.Encode()}}); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.CloseAndRecv(); err == nil {
		t.Error("no error")
	}
	if err := n.gate.check(publicKey(1)); !errors.Is(err, errPenalty) {
		t.Errorf("the peer may come back at once: %v", err)
	}
}

func TestForgedBatchesStrikeOnce(t *testing.T) {
	n := lonely(t)
	release := make(chan struct{})
	n.guard.Lock()
	n.onBatch = func(context.Context, []byte) error { <-release; return chain.ErrSignature }
	n.guard.Unlock()
	stream, err := admitted(t, n, 1).Push(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		if err := stream.Send(&peerpb.PushedBatch{Sequence: uint64(i), Batch: []byte("forged")}); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "all arrive", func() bool { return n.metric(t, "diseq_peer_frames_total", "kind=batch") == 10 })
	close(release)
	if _, err := stream.Recv(); err == nil {
		t.Error("no error")
	}
	eventually(t, "all are counted", func() bool { return n.rejected(t, reasonMalformed) == 10 })
	n.gate.mu.Lock()
	defer n.gate.mu.Unlock()
	if strikes := n.gate.guests[publicKey(1)].strikes; strikes != 1 {
		t.Errorf("%d strikes for one connection, want 1", strikes)
	}
}

func TestPenaltiesGrowAndEnd(t *testing.T) {
	s := defaultSettings()
	p := &guest{}
	for strikes, want := range []time.Duration{0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300} {
		p.strikes = strikes
		if got := p.penalty(s); got != want*time.Second {
			t.Errorf("after %d strikes: %v, want %v", strikes, got, want*time.Second)
		}
	}
	p.strikes = 1 << 40
	if got := p.penalty(s); got != s.maxPenalty {
		t.Errorf("after very many strikes: %v", got)
	}

	n := lonely(t, func(_ *Config, s *settings) { s.minPenalty, s.maxPenalty = time.Hour, time.Hour })
	client := admitted(t, n, 1)
	if _, err := client.Propose(t.Context(), &peerpb.Proposal{}); err == nil {
		t.Fatal("an empty proposal is accepted")
	}
	if _, err := shake(t, n, clientTLS(t, 1)); err == nil {
		t.Error("let in during the penalty")
	}
	eventually(t, "the refusal is counted", func() bool { return n.rejected(t, reasonPenalty) > 0 })
	n.gate.mu.Lock()
	n.gate.guests[publicKey(1)].struckAt = time.Now().Add(-time.Hour)
	n.gate.mu.Unlock()
	if _, err := shake(t, n, clientTLS(t, 1)); err != nil {
		t.Errorf("after the penalty: %v", err)
	}
}

// TestALoudPeerDoesNotFillTheLog comes back with garbage as fast as it can.
//
// Promise 50.
func TestALoudPeerDoesNotFillTheLog(t *testing.T) {
	n := lonely(t, func(_ *Config, s *settings) { s.minPenalty, s.maxPenalty = time.Microsecond, time.Microsecond })
	for range 30 {
		eventually(t, "it is let in", func() bool { return n.gate.check(publicKey(1)) == nil })
		client := admitted(t, n, 1)
		if _, err := client.Propose(t.Context(), &peerpb.Proposal{Proposal: []byte("garbage")}); err == nil {
			t.Fatal("garbage is accepted")
		}
	}
	if got := n.rejected(t, reasonMalformed); got != 30 {
		t.Errorf("%v refusals are counted, want 30", got)
	}
	if lines := strings.Count(n.log.String(), "\n"); lines > 3 {
		t.Errorf("%d log lines:\n%s", lines, n.log)
	}
}

// TestASlowReaderLosesTheOldestFrames has a peer whose handler does not return.
//
// Promise 50.
func TestASlowReaderLosesTheOldestFrames(t *testing.T) {
	a, b := pair(t, func(_ *Config, s *settings) { s.queueItems = 100 })
	stuck := make(chan struct{})
	var heights []uint64
	done := make(chan struct{})
	const last = 50_000 // more than fits the flow-control windows
	b.guard.Lock()
	b.onBundle = func(_ chain.PublicKey, bundle *chain.Bundle) (int, error) {
		<-stuck
		for _, v := range bundle.Votes {
			heights = append(heights, v.Height)
			if v.Height == last {
				close(done)
			}
		}
		return 0, nil
	}
	b.guard.Unlock()
	vote := testVote(0, 1)
	for h := range last {
		vote.Height = uint64(h + 1)
		a.Send(b.peer.Key, &chain.Bundle{Votes: []chain.Vote{vote}})
		q := a.links[b.peer.Key].items
		q.mu.Lock()
		if len(q.items) > 100 {
			t.Fatalf("%d items wait, at most 100 may", len(q.items))
		}
		q.mu.Unlock()
	}
	dropped := a.metric(t, "diseq_peer_dropped_total", "kind=vote")
	close(stuck)
	receive(t, done)
	if dropped == 0 || int(dropped)+len(heights) != last {
		t.Errorf("%v dropped and %d arrived of %d", dropped, len(heights), last)
	}
	for i := 1; i < len(heights); i++ {
		if heights[i] <= heights[i-1] {
			t.Fatal("the order is lost")
		}
	}
	for i, h := range heights[len(heights)-100:] {
		if h != last-99+uint64(i) {
			t.Fatalf("the newest 100 are not all there: %d is at place %d from the end", h, 100-i)
		}
	}
}

// TestASenderWithoutAWindowIsReadNoFurther pushes batches without waiting for acknowledgements that
// never come.
//
// Promise 50.
func TestASenderWithoutAWindowIsReadNoFurther(t *testing.T) {
	n := lonely(t, func(_ *Config, s *settings) { s.pushBytes, s.pushCount = 64<<10, 16 })
	n.guard.Lock()
	n.onBatch = func(ctx context.Context, _ []byte) error { <-ctx.Done(); return ctx.Err() }
	n.guard.Unlock()
	ctx, cancel := context.WithCancel(t.Context())
	stream, err := admitted(t, n, 1).Push(ctx)
	if err != nil {
		t.Fatal(err)
	}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		for i := uint64(0); ; i++ {
			if stream.Send(&peerpb.PushedBatch{Sequence: i, Batch: make([]byte, 4<<10)}) != nil {
				return
			}
		}
	}()
	read := func() float64 { return n.metric(t, "diseq_peer_frames_total", "direction=in", "kind=batch") }
	// 16 in the window, one waits for it
	eventually(t, "the window fills", func() bool { return read() == 17 })
	runtime.Gosched()
	if got := read(); got != 17 {
		t.Errorf("%v batches are read, want 17", got)
	}
	cancel()
	receive(t, stopped)
}

func TestAcknowledgementsOfNothingEndTheLink(t *testing.T) {
	w := newPushWindow(defaultSettings())
	w.set(true)
	if _, err := w.offer(chain.Hash{1}, []byte("batch")); err != nil {
		t.Fatal(err)
	}
	if _, ok := w.acknowledged(1); ok {
		t.Error("a batch that is not sent yet is acknowledged")
	}
	p := w.next()
	if hash, ok := w.acknowledged(p.sequence); !ok || hash != (chain.Hash{1}) {
		t.Error("the batch sent is not acknowledged")
	}
	if _, ok := w.acknowledged(p.sequence); ok {
		t.Error("it is acknowledged twice")
	}
	if w.size() != 0 || len(w.held) != 0 {
		t.Error("something is left in the window")
	}
}

// Promise 50.
func TestOnePeerCannotKeepTheStoreBusy(t *testing.T) {
	n := lonely(t, func(_ *Config, s *settings) { s.maxFetches = 2 })
	client := admitted(t, n, 1)
	for h := uint64(1); h <= 100; h++ {
		n.final[h] = finalBlock(h, 100<<10)
	}
	// Two answers that nobody reads fill their flow-control windows and stay.
	for range 2 {
		stream, err := client.Blocks(t.Context(), &peerpb.BlocksRequest{From: 1})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := client.Status(ctx, &peerpb.StatusRequest{Nonce: make([]byte, 32)}); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("a third call at once: %v, want it to wait", err)
	}
}

func TestRawGarbageIsSurvived(t *testing.T) {
	n := lonely(t)
	for _, garbage := range []string{"", "GET / HTTP/1.1\r\n\r\n", strings.Repeat("\x16\x03\x01\xff\xff", 20_000), "\x00"} {
		c, err := net.Dial("tcp", n.peer.Address)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = c.Write([]byte(garbage)) // the node may hang up before all is written
		_ = c.Close()
	}
	eventually(t, "each is refused", func() bool { return n.rejected(t, reasonTLS) == 4 })
	if _, err := shake(t, n, clientTLS(t, 1)); err != nil {
		t.Errorf("afterwards a peer is refused: %v", err)
	}
	eventually(t, "nothing is kept", func() bool {
		n.gate.mu.Lock()
		defer n.gate.mu.Unlock()
		return len(n.gate.pending) == 0
	})
}

// FuzzFrame feeds the bytes of a consensus message to what a stream does with them.
//
// Promise 37.
func FuzzFrame(f *testing.F) {
	vote, certificate := testVote(0, 1), testCertificate(1)
	endorsed := (&chain.Endorsed{Generation: 1, Next: chain.Hash{1}}).Encode()
	for _, frame := range []*peerpb.Frame{
		{},
		newFrame([]item{{kind: kindVote, encoded: vote.Encode()}, {kind: kindEndorsed, encoded: endorsed}}, 0),
		{Endorsed: endorsed[1:]},
		newFrame([]item{{kind: kindVote, encoded: vote.Encode()}, {kind: kindCertificate, encoded: certificate.Encode()}, {kind: kindPong, number: 7}}, 2),
		{Votes: [][]byte{vote.Encode()[:40]}},
		{Certificates: [][]byte{append(certificate.Encode(), 0)}},
	} {
		b, err := proto.Marshal(frame)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		frame := &peerpb.Frame{}
		if proto.Unmarshal(b, frame) != nil {
			return
		}
		items := func(b *chain.Bundle, e *chain.Endorsed) []item {
			items := itemsOf(b)
			if e != nil {
				items = append(items, item{kind: kindEndorsed, encoded: e.Encode()})
			}
			return items
		}
		bundle, endorsement, err := decodeFrame(frame)
		if err != nil {
			return
		}
		written := newFrame(items(bundle, endorsement), 0)
		bundleAgain, endorsementAgain, err := decodeFrame(written)
		if err != nil {
			t.Fatalf("what was decoded does not encode: %v", err)
		}
		if !proto.Equal(newFrame(items(bundleAgain, endorsementAgain), 0), written) {
			t.Fatal("decoding what was encoded gives something else")
		}
	})
}

// FuzzHello has a stranger say anything.
//
// Promise 37.
func FuzzHello(f *testing.F) {
	n, err := New(Config{Key: testKey(0), Genesis: testGenesis(1)}, newRecorder(testKey(0)))
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(n.Close)
	ours, err := proto.Marshal(n.hello())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(ours)
	f.Add([]byte("\x12\x05\xff\n\x00ab"))
	f.Fuzz(func(t *testing.T, b []byte) {
		theirs := &peerpb.Hello{}
		if proto.Unmarshal(b, theirs) != nil {
			return
		}
		err := n.checkHello(theirs)
		if err == nil && (theirs.GetChainId() != "test" || theirs.GetProtocolVersion() != chain.ProtocolVersion) {
			t.Fatal("another chain is accepted")
		}
		if err != nil && (len(err.Error()) > 1024 || strings.ContainsAny(err.Error(), "\n\r\x1b")) {
			t.Fatalf("error %q is not fit for a log", err)
		}
	})
}

// A peer that floods this node with messages that are of no use is put out, and the messages are
// counted. One that sends as many in the time that an honest peer takes is not.
//
// Promise 50.
func TestAFloodOfUselessMessagesPutsThePeerOut(t *testing.T) {
	for _, c := range []struct {
		name     string
		useless  int // of the two messages of each call
		struckBy int // the calls, 0 if none
	}{{"all are of use", 0, 0}, {"all are useless", 2, 4}, {"half of them", 1, 7}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			n := lonely(t, func(_ *Config, s *settings) { s.uselessRate, s.uselessBurst = 1e-9, 6 })
			n.guard.Lock()
			n.onBundle = func(chain.PublicKey, *chain.Bundle) (int, error) { return c.useless, nil }
			n.guard.Unlock()
			stream, err := admitted(t, n, 1).Consensus(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			vote := testVote(1, 1)
			frame := &peerpb.Frame{Votes: [][]byte{vote.Encode(), vote.Encode()}}
			for range 20 {
				if stream.Send(frame) != nil {
					break // it is out
				}
			}
			_, err = stream.CloseAndRecv()
			if struck := err != nil; struck != (c.struckBy > 0) {
				t.Errorf("put out: %v", err)
			}
			want := c.useless * c.struckBy
			if got := n.metric(t, "diseq_peer_useless_total"); int(got) != want {
				t.Errorf("%v are counted, want %d", got, want)
			}
			if got := n.Peers()[0].Useless; int(got) != want {
				t.Errorf("the peer has sent %d of them, want %d", got, want)
			}
			if c.struckBy > 0 {
				eventually(t, "the flood is counted", func() bool { return n.rejected(t, reasonUseless) == 1 })
				if err := n.gate.check(publicKey(1)); !errors.Is(err, errPenalty) {
					t.Errorf("the peer may come back at once: %v", err)
				}
			}
		})
	}
}
