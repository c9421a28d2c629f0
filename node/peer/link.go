package peer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"github.com/diseq/diseq/node/internal/wait"
	"github.com/diseq/diseq/node/peer/peerpb"
)

// link is the sending side towards one peer: it dials, and dials again, until it is cancelled.
type link struct {
	t      *Transport
	peer   Peer
	cancel context.CancelFunc
	done   chan struct{}
	kick   chan struct{} // a token: the peer has just shown up, so dialling is worth while

	items     *itemQueue
	pushes    *pushWindow
	proposals chan struct{} // one token for each Propose call under way

	mu      sync.Mutex
	session *session // nil while down
	calls   sync.WaitGroup
	since   time.Time
	failure error
}

// session is a link that is up: a pair of connections on which the handshake has succeeded.
type session struct {
	ctx             context.Context // ends with the session
	end             context.CancelCauseFunc
	instance        instance
	consensus, bulk peerpb.PeerClient
}

// newLink starts a link, once the one that it replaces has ended, so that the peer's LinkUp and
// LinkDown alternate.
func (t *Transport) newLink(p Peer, old *link) *link {
	ctx, cancel := context.WithCancel(t.ctx)
	l := &link{
		t: t, peer: p, cancel: cancel, done: make(chan struct{}), kick: make(chan struct{}, 1),
		items: newItemQueue(t.settings), pushes: newPushWindow(t.settings),
		proposals: make(chan struct{}, t.settings.maxProposals), since: time.Now(), failure: errors.New("not tried yet"),
	}
	t.reports.begin(p.Name)
	t.tasks.Go(func() {
		defer cancel()
		defer close(l.done)
		if old != nil {
			<-old.done
			l.items.count(old.items.losses())
		}
		l.run(ctx)
	})
	return l
}

func (l *link) run(ctx context.Context) {
	defer func() {
		if _, err := l.t.link(l.peer.Key); err != nil {
			l.t.reports.remove(l.peer.Name)
		}
	}()
	for retries := newRetries(l.t.settings); ; {
		lasted, err := l.serve(ctx)
		if ctx.Err() != nil {
			return
		}
		l.report(lasted, err)
		if l.pause(ctx, retries, retries.after(lasted, err)) != nil {
			return
		}
	}
}

// pause waits before the next attempt, less long if the peer has shown up.
func (l *link) pause(ctx context.Context, retries *retries, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
			return nil
		case <-l.kick:
			if retries.atOnce() {
				return wait.For(ctx, l.t.settings.minBackoff)
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (l *link) report(lasted time.Duration, err error) {
	switch {
	case errors.Is(err, errOtherChain):
		l.t.reports.reject(reasonHello, &l.peer, err)
	case lasted > 0:
		l.t.reports.logLimited(slog.LevelWarn, "link is down", "link_down", l.peer.Name, err, slog.String("address", l.peer.Address))
	default:
		l.t.reports.logLimited(slog.LevelInfo, "the peer cannot be reached", "link_attempt", l.peer.Name, err,
			slog.String("address", l.peer.Address))
	}
}

// serve brings the link up and keeps it until something fails. It returns how long the link was up.
func (l *link) serve(ctx context.Context) (lasted time.Duration, err error) {
	defer func() { l.failed(err) }()
	consensus, run, err := l.connect(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { _ = consensus.Close() }() // all its calls have ended
	bulk, again, err := l.connect(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { _ = bulk.Close() }() // all its calls have ended
	if run != again {
		return 0, errRestarted
	}

	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	group, ctx := errgroup.WithContext(ctx)
	s := &session{ctx: ctx, end: end, instance: run, consensus: peerpb.NewPeerClient(consensus), bulk: peerpb.NewPeerClient(bulk)}
	frames, err := s.consensus.Consensus(ctx)
	if err != nil {
		return 0, err
	}
	batches, err := s.bulk.Push(ctx)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	l.up(s)
	group.Go(func() error { return l.sendFrames(ctx, frames) })
	group.Go(func() error { return ended(frames.RecvMsg(new(peerpb.Done))) })
	group.Go(func() error { return l.sendBatches(ctx, batches) })
	group.Go(func() error { return l.receiveAcks(batches) })
	l.t.handler.LinkUp(l.peer.Key)
	err = group.Wait()
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	l.down(err)
	return max(time.Since(began), 1), err
}

// ended turns the end of a stream that should never end into an error.
func ended(err error) error {
	if err == nil {
		return errors.New("the peer ended the stream")
	}
	return err
}

func (l *link) up(s *session) {
	l.items.set(true)
	l.pushes.set(true)
	l.mu.Lock()
	l.session, l.since, l.failure = s, time.Now(), nil
	l.mu.Unlock()
	l.t.reports.linkUp.WithLabelValues(l.peer.Name).Set(1)
	l.t.reports.logLimited(slog.LevelInfo, "link is up", "link_up", l.peer.Name, nil, slog.String("address", l.peer.Address))
}

func (l *link) down(err error) {
	l.mu.Lock()
	l.session, l.since, l.failure = nil, time.Now(), err
	l.mu.Unlock()
	l.calls.Wait()
	l.items.set(false)
	l.pushes.set(false)
	l.t.reports.linkUp.WithLabelValues(l.peer.Name).Set(0)
	l.t.reports.unacked.WithLabelValues(l.peer.Name).Set(0)
	l.t.handler.LinkDown(l.peer.Key)
}

func (l *link) failed(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failure = err
}

func (l *link) state() (up bool, since time.Time, failure string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failure != nil {
		failure = l.failure.Error()
	}
	return l.session != nil, l.since, failure
}

// current returns the session, or ErrLinkDown.
func (l *link) current() (*session, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.session == nil {
		return nil, fmt.Errorf("%w: %s: %v", ErrLinkDown, l.peer.Name, l.failure)
	}
	return l.session, nil
}

// connect dials the peer and exchanges the handshake. It returns the run of the peer that answered.
func (l *link) connect(ctx context.Context) (*grpc.ClientConn, instance, error) {
	s := l.t.settings
	dial := l.t.config.Dial
	if dial == nil {
		dial = (&net.Dialer{Timeout: s.handshakeTimeout}).DialContext
	}
	conn, err := grpc.NewClient("passthrough:///"+l.peer.Address,
		grpc.WithTransportCredentials(clientCredentials(l.t.certificate, l.peer.Key)),
		// A dialer of our own also keeps gRPC from looking for an HTTP proxy in the environment.
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			return dial(ctx, "tcp", address)
		}),
		grpc.WithConnectParams(grpc.ConnectParams{MinConnectTimeout: s.handshakeTimeout}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: s.keepaliveTime, Timeout: s.keepaliveTimeout}),
		grpc.WithStaticStreamWindowSize(windowBytes),
		grpc.WithStaticConnWindowSize(connectionWindowBytes),
		grpc.WithReadBufferSize(ioBufferBytes),
		grpc.WithWriteBufferSize(ioBufferBytes),
		grpc.WithMaxHeaderListSize(maxHeaderBytes),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswerBytes), grpc.MaxCallSendMsgSize(l.t.maxReceivedBytes())),
		grpc.WithDisableServiceConfig(),
		grpc.WithDisableRetry(),
		grpc.WithDisableHealthCheck(),
		grpc.WithIdleTimeout(0),
	)
	if err != nil {
		return nil, instance{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*s.handshakeTimeout)
	defer cancel()
	run, err := l.handshake(ctx, peerpb.NewPeerClient(conn))
	if err != nil {
		_ = conn.Close() // the handshake's error says more
		return nil, instance{}, err
	}
	return conn, run, nil
}

func (l *link) handshake(ctx context.Context, client peerpb.PeerClient) (instance, error) {
	theirs, err := client.Handshake(ctx, l.t.hello())
	if status.Code(err) == codes.FailedPrecondition {
		return instance{}, fmt.Errorf("%w: %s says: %s", errOtherChain, l.peer.Name, printable(status.Convert(err).Message(), 512))
	}
	if err != nil {
		return instance{}, err
	}
	if err := l.t.checkHello(theirs); err != nil {
		return instance{}, err
	}
	return instance(theirs.GetInstance()), nil
}

// send queues certificates and votes, and starts a call for each proposal.
func (l *link) send(items []item) {
	queued := make([]item, 0, len(items))
	for _, i := range items {
		if i.kind == kindProposal {
			l.propose(i)
		} else {
			queued = append(queued, i)
		}
	}
	for _, dropped := range l.items.push(queued...) {
		l.t.reports.dropped.WithLabelValues(l.peer.Name, dropped.kind).Inc()
	}
}

// propose calls Propose beside the stream. A peer that answers none of the last few gets no more
// for now: a proposal lost costs a round at worst.
func (l *link) propose(p item) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.session
	if s == nil {
		return
	}
	select {
	case l.proposals <- struct{}{}:
	default:
		l.t.reports.dropped.WithLabelValues(l.peer.Name, p.kind).Inc()
		return
	}
	l.calls.Go(func() {
		defer func() { <-l.proposals }()
		ctx, cancel := context.WithTimeout(s.ctx, l.t.settings.callTimeout)
		defer cancel()
		if _, err := s.consensus.Propose(ctx, &peerpb.Proposal{Proposal: p.encoded}); err != nil {
			l.t.reports.logLimited(slog.LevelInfo, "proposal not delivered", "propose", l.peer.Name, err)
			return
		}
		l.t.reports.transferred(directionOut, p.kind, len(p.encoded))
	})
}

func (l *link) sendFrames(ctx context.Context, stream grpc.ClientStreamingClient[peerpb.Frame, peerpb.Done]) error {
	for {
		select {
		case <-l.items.ready:
		case <-ctx.Done():
			return ctx.Err()
		}
		items := l.items.take(l.t.settings.sendBytes)
		if len(items) == 0 {
			continue
		}
		if err := stream.Send(newFrame(items, l.items.losses())); err != nil {
			return fmt.Errorf("send a frame: %w", err)
		}
		for _, i := range items {
			l.t.reports.transferred(directionOut, i.kind, len(i.encoded))
		}
	}
}

func (l *link) sendBatches(ctx context.Context, stream grpc.BidiStreamingClient[peerpb.PushedBatch, peerpb.Acks]) error {
	for {
		select {
		case <-l.pushes.ready:
		case <-ctx.Done():
			return ctx.Err()
		}
		for p := l.pushes.next(); p != nil; p = l.pushes.next() {
			if err := stream.Send(&peerpb.PushedBatch{Sequence: p.sequence, Batch: p.encoded, Trace: l.t.config.Traces.Beside(p.hash)}); err != nil {
				return fmt.Errorf("push batch: %w", err)
			}
			l.t.reports.transferred(directionOut, kindBatch, len(p.encoded))
		}
		l.t.reports.unacked.WithLabelValues(l.peer.Name).Set(float64(l.pushes.size()))
	}
}

func (l *link) receiveAcks(stream grpc.BidiStreamingClient[peerpb.PushedBatch, peerpb.Acks]) error {
	for {
		acks, err := stream.Recv()
		if err != nil {
			return fmt.Errorf("receive acknowledgements: %w", err)
		}
		for _, ack := range acks.GetAcks() {
			hash, ok := l.pushes.acknowledged(ack.GetSequence())
			if !ok {
				err := fmt.Errorf("the peer acknowledged batch %d of this link, which is not under way", ack.GetSequence())
				l.t.reports.reject(reasonAnswer, &l.peer, err)
				return err
			}
			var refusal error
			if text := ack.GetRefusal(); text != "" {
				refusal = fmt.Errorf("%s: %s", l.peer.Name, printable(text, maxRefusalBytes))
			}
			l.t.handler.OnAck(l.peer.Key, hash, refusal)
		}
		l.t.reports.unacked.WithLabelValues(l.peer.Name).Set(float64(l.pushes.size()))
	}
}
