package peer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/peer/peerpb"
)

// service is the receiving side: it decodes, counts and hands over.
type service struct {
	peerpb.UnimplementedPeerServer
	*Transport
}

// maxRefusalBytes bounds the text that a batch or a commitment is refused with.
const maxRefusalBytes = 256

// from returns the peer at the other end.
func (in *inbound) from() *Peer {
	in.gate.mu.Lock()
	defer in.gate.mu.Unlock()
	p := in.guest.peer
	return &p
}

func (in *inbound) heard() { in.guest.lastHeard.Store(time.Now().UnixNano()) }

// malformed reports bytes that do not decode, or that are forged, and puts the peer out.
func (s *service) malformed(in *inbound, err error) error { return s.fault(in, reasonMalformed, err) }

// fault reports a peer's fault and puts the peer out.
func (s *service) fault(in *inbound, reason string, err error) error {
	s.reports.reject(reason, in.from(), err)
	in.gate.strike(in)
	return status.Error(codes.InvalidArgument, printable(err.Error(), maxRefusalBytes))
}

// bundle hands consensus messages over, and counts those of no use. An honest peer sends some: it
// is behind, or this node is. No honest peer sends uselessRate of them for long.
func (s *service) bundle(ctx context.Context, in *inbound, b *chain.Bundle) error {
	useless, err := s.handler.OnBundle(ctx, in.key, b)
	if useless == 0 {
		return err
	}
	in.guest.uselessCount.Add(uint64(useless))
	s.reports.useless.WithLabelValues(in.from().Name).Add(float64(useless))
	if !in.guest.useless.AllowN(time.Now(), useless) {
		return fmt.Errorf("%w: more than %v a second, of heights too far below or above this node's", errUseless, s.settings.uselessRate)
	}
	return err
}

// refused puts the peer out if an error is its fault, and returns the error of the call. It returns
// nil if the error is not.
func (s *service) refused(in *inbound, err error) error {
	switch {
	case atFault(err):
		return s.malformed(in, err)
	case errors.Is(err, errUseless):
		return s.fault(in, reasonUseless, err)
	}
	return nil
}

// atFault reports whether a handler's error is the peer's fault.
func atFault(err error) bool {
	return errors.Is(err, chain.ErrMalformed) || errors.Is(err, chain.ErrSignature)
}

// received reports an error of a stream that is the sender's fault: a message that is too large, or
// that does not decode as protobuf. The rest are ends of connections.
func (s *service) received(in *inbound, err error) error {
	switch status.Code(err) {
	case codes.ResourceExhausted, codes.Internal:
		return s.malformed(in, err)
	}
	return err
}

// handled turns a handler's error into the answer to a call.
func (s *service) handled(in *inbound, err error) (*peerpb.Done, error) {
	if err == nil {
		return &peerpb.Done{}, nil
	}
	if refused := s.refused(in, err); refused != nil {
		return nil, refused
	}
	return nil, status.Error(codes.Aborted, printable(err.Error(), maxRefusalBytes))
}

// Consensus implements peerpb.PeerServer.
func (s *service) Consensus(stream grpc.ClientStreamingServer[peerpb.Frame, peerpb.Done]) error {
	in, err := admittedOn(stream.Context())
	if err != nil {
		return err
	}
	for {
		frame, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return stream.SendAndClose(&peerpb.Done{})
		}
		if err != nil {
			return s.received(in, err)
		}
		bundle, endorsed, err := decodeFrame(frame)
		if err != nil {
			return s.malformed(in, err)
		}
		in.heard()
		for _, b := range frame.GetCertificates() {
			s.reports.transferred(directionIn, kindCertificate, len(b))
		}
		for _, b := range frame.GetVotes() {
			s.reports.transferred(directionIn, kindVote, len(b))
		}
		if !bundle.Empty() {
			if err := s.refused(in, s.bundle(stream.Context(), in, bundle)); err != nil {
				return err
			}
		}
		if endorsed != nil {
			s.reports.transferred(directionIn, kindEndorsed, len(frame.GetEndorsed()))
			if err := s.handler.OnEndorsed(in.key, endorsed); atFault(err) {
				return s.malformed(in, err)
			}
		}
		s.answer(in.key, frame)
	}
}

// answer handles the pings, pongs and asks of a frame. Its certificates and votes have been handed
// over by then.
func (s *service) answer(from chain.PublicKey, frame *peerpb.Frame) {
	if l, err := s.link(from); err == nil {
		for _, number := range frame.GetPings() {
			l.send([]item{{kind: kindPong, number: number}})
		}
	}
	for _, p := range frame.GetPongs() {
		s.handler.OnPong(from, p.GetNumber(), p.GetLost())
	}
	if len(frame.GetAsks()) > 0 {
		s.handler.OnAsk(from)
	}
}

// Propose implements peerpb.PeerServer.
func (s *service) Propose(ctx context.Context, message *peerpb.Proposal) (*peerpb.Done, error) {
	in, err := admittedOn(ctx)
	if err != nil {
		return nil, err
	}
	p, err := chain.DecodeProposal(message.GetProposal())
	if err != nil {
		return nil, s.malformed(in, err)
	}
	in.heard()
	s.reports.transferred(directionIn, kindProposal, len(message.GetProposal()))
	return s.handled(in, s.bundle(ctx, in, &chain.Bundle{Proposals: []*chain.Proposal{p}}))
}

// Commit implements peerpb.PeerServer.
func (s *service) Commit(ctx context.Context, message *peerpb.Commitment) (*peerpb.Done, error) {
	in, err := admittedOn(ctx)
	if err != nil {
		return nil, err
	}
	c, err := chain.DecodeCommitment(message.GetCommitment())
	if err != nil {
		return nil, s.malformed(in, err)
	}
	in.heard()
	s.reports.transferred(directionIn, kindCommitment, len(message.GetCommitment()))
	return s.handled(in, s.handler.OnCommitment(ctx, in.key, c))
}

// Push implements peerpb.PeerServer.
func (s *service) Push(stream grpc.BidiStreamingServer[peerpb.PushedBatch, peerpb.Acks]) error {
	in, err := admittedOn(stream.Context())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(stream.Context())
	// A sender that keeps to its own window never waits here; one that does not, or that leaves its
	// acknowledgements unread, is read no further.
	window := semaphore.NewWeighted(int64(s.settings.pushBytes))
	least := s.settings.pushBytes / s.settings.pushCount
	acks := &ackQueue{ready: make(chan struct{}, 1), window: window}
	var tasks sync.WaitGroup
	defer tasks.Wait()
	defer cancel()
	tasks.Go(func() { acks.write(ctx, stream) })
	for {
		message, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return s.received(in, err)
		}
		in.heard()
		// The message itself is not kept: a peer may write more into it than the window counts.
		encoded, sequence, trace := message.GetBatch(), message.GetSequence(), message.GetTrace()
		if len(trace) > maxTraceBytes {
			trace = nil
		}
		s.reports.transferred(directionIn, kindBatch, len(encoded))
		weight := int64(min(max(len(encoded), least), s.settings.pushBytes))
		if err := window.Acquire(ctx, weight); err != nil {
			return err
		}
		tasks.Go(func() {
			durable := s.config.Traces.Arrived(trace)
			err := s.handler.OnBatch(ctx, in.key, encoded)
			durable(err)
			if atFault(err) {
				_ = s.malformed(in, err) // the stream ends with its connection
				return
			}
			acks.add(sequence, weight, err)
		})
	}
}

// ackQueue collects acknowledgements, so that those of a group commit leave together. A batch keeps
// its place in the window until its acknowledgement has left.
type ackQueue struct {
	ready  chan struct{}
	window *semaphore.Weighted

	mu      sync.Mutex
	acks    []*peerpb.Ack
	weights []int64
}

func (q *ackQueue) add(sequence uint64, weight int64, refusal error) {
	ack := &peerpb.Ack{Sequence: sequence}
	if refusal != nil {
		ack.Refusal = printable("not taken: "+refusal.Error(), maxRefusalBytes)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.acks, q.weights = append(q.acks, ack), append(q.weights, weight)
	wake(q.ready)
}

// maxAcks bounds the acknowledgements of one message, and so its size: 70 kB.
const maxAcks = 256

func (q *ackQueue) take() (acks []*peerpb.Ack, weight int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := min(len(q.acks), maxAcks)
	for _, w := range q.weights[:n] {
		weight += w
	}
	acks = q.acks[:n:n]
	q.acks, q.weights = q.acks[n:], q.weights[n:]
	return acks, weight
}

func (q *ackQueue) write(ctx context.Context, stream grpc.BidiStreamingServer[peerpb.PushedBatch, peerpb.Acks]) {
	for {
		select {
		case <-q.ready:
		case <-ctx.Done():
			return
		}
		for acks, weight := q.take(); len(acks) > 0; acks, weight = q.take() {
			if stream.Send(&peerpb.Acks{Acks: acks}) != nil {
				return // the receiving side of the stream ends too
			}
			q.window.Release(weight)
		}
	}
}
