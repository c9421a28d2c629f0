package peer

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"

	"github.com/diseq/diseq/node/peer/peerpb"
)

// call is how many calls of a method a peer may have under way, 0 for as many as its connections
// carry, and for how long each, 0 for ever. Half of a message counts as well: it is in memory.
type call struct {
	most int
	time time.Duration
}

// calls are the bounds of all methods. An honest peer has one stream of each kind, two while a link
// replaces another one, and ends its calls itself after callTimeout or fetchTimeout.
func (s settings) calls() map[string]call {
	unary := 2 * s.callTimeout
	return map[string]call{
		peerpb.Peer_Handshake_FullMethodName: {most: 4, time: unary},
		peerpb.Peer_Consensus_FullMethodName: {most: 2},
		peerpb.Peer_Push_FullMethodName:      {most: 2},
		peerpb.Peer_Propose_FullMethodName:   {most: 4, time: unary},
		peerpb.Peer_Commit_FullMethodName:    {most: 4, time: unary},
		peerpb.Peer_Block_FullMethodName:     {time: unary},
		peerpb.Peer_Status_FullMethodName:    {time: unary},
		peerpb.Peer_Batches_FullMethodName:   {time: 2 * s.fetchTimeout},
		peerpb.Peer_Blocks_FullMethodName:    {time: 2 * s.fetchTimeout},
	}
}

// begin bounds a call before anything of it is read. gRPC calls it for one call of a connection
// after the other, and it must not block.
func (g *gate) begin(ctx context.Context, info *tap.Info) (context.Context, error) {
	in, err := connectionOf(ctx)
	if err != nil {
		return nil, err
	}
	if !in.guest.begun.Allow() {
		return nil, status.Error(codes.ResourceExhausted, "too many calls in a second")
	}
	limits, ok := g.calls[info.FullMethodName]
	if !ok {
		return ctx, nil // there is no such method, as gRPC will answer
	}
	if limits.most > 0 && !in.guest.count(info.FullMethodName, limits.most) {
		return nil, status.Errorf(codes.ResourceExhausted, "%d calls of this method are under way", limits.most)
	}
	cancel := context.CancelFunc(func() {})
	if limits.time > 0 {
		ctx, cancel = context.WithTimeout(ctx, limits.time)
	}
	context.AfterFunc(ctx, func() { // the call has ended
		cancel()
		if limits.most > 0 {
			in.guest.count(info.FullMethodName, 0)
		}
	})
	return ctx, nil
}

// count adds a call of a method, if there are fewer than most, or takes one away if most is 0.
func (p *guest) count(method string, most int) bool {
	p.counting.Lock()
	defer p.counting.Unlock()
	switch {
	case most == 0:
		p.underWay[method]--
	case p.underWay[method] >= most:
		return false
	default:
		p.underWay[method]++
	}
	return true
}
