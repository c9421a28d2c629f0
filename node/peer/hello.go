package peer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/diseq/diseq/node/peer/peerpb"
)

// errOtherChain is wrapped by the error of a handshake between nodes of different networks.
var errOtherChain = errors.New("node does not belong to this network")

var errRestarted = errors.New("the peer restarted")

func (t *Transport) hello() *peerpb.Hello {
	return &peerpb.Hello{
		ProtocolVersion: t.settings.protocolVersion, ChainId: t.config.Genesis.ChainID, GenesisHash: t.genesis[:],
		Name: t.config.Name, Version: t.config.Version, Instance: t.instance[:],
	}
}

// checkHello compares the other side's Hello with ours. The error names both values, for both sides
// read it.
func (t *Transport) checkHello(theirs *peerpb.Hello) error {
	ours := t.hello()
	switch {
	case theirs.GetProtocolVersion() != ours.GetProtocolVersion():
		return fmt.Errorf("%w: %s speaks protocol version %d, %s speaks %d", errOtherChain,
			label("it", theirs.GetName()), theirs.GetProtocolVersion(), label("this node", ours.GetName()), ours.GetProtocolVersion())
	case theirs.GetChainId() != ours.GetChainId():
		return fmt.Errorf("%w: %s is on chain %q, %s on %q", errOtherChain,
			label("it", theirs.GetName()), printable(theirs.GetChainId(), maxLabelBytes), label("this node", ours.GetName()), ours.GetChainId())
	case !bytes.Equal(theirs.GetGenesisHash(), ours.GetGenesisHash()):
		hash := theirs.GetGenesisHash()
		return fmt.Errorf("%w: %s has genesis %x, %s has %x", errOtherChain,
			label("it", theirs.GetName()), hash[:min(len(hash), 32)], label("this node", ours.GetName()), ours.GetGenesisHash())
	case len(theirs.GetInstance()) != len(t.instance):
		return fmt.Errorf("%w: %s names an instance of %d bytes, want %d", errOtherChain,
			label("it", theirs.GetName()), len(theirs.GetInstance()), len(t.instance))
	}
	return nil
}

func label(who, name string) string {
	if name == "" {
		return who
	}
	return fmt.Sprintf("%s (%s)", who, printable(name, maxLabelBytes))
}

// printable makes foreign text fit for a log line: at most limit bytes, no control characters.
func printable(s string, limit int) string {
	s = strings.ToValidUTF8(s[:min(len(s), limit)], "?")
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, s)
}

// Handshake implements peerpb.PeerServer.
func (s *service) Handshake(ctx context.Context, theirs *peerpb.Hello) (*peerpb.Hello, error) {
	in, err := connectionOf(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.checkHello(theirs); err != nil {
		s.reports.reject(reasonHello, in.from(), err)
		return nil, status.Error(codes.FailedPrecondition, err.Error())
	}
	version := printable(theirs.GetVersion(), maxLabelBytes)
	in.guest.version.Store(&version)
	if !in.admitted.Swap(true) {
		s.arrived(in, instance(theirs.GetInstance()))
	}
	return s.hello(), nil
}

// instance tells two runs of a node from each other.
type instance [16]byte

// arrived dials a peer that has just come back, instead of waiting for the end of the back-off. It
// ends a link to an earlier run of the peer, which may still look alive: a machine that loses its
// power closes no connection.
func (t *Transport) arrived(in *inbound, run instance) {
	in.heard()
	l, err := t.link(in.key)
	if err != nil {
		return
	}
	s, err := l.current()
	if err == nil && s.instance == run {
		return
	}
	wake(l.kick)
	if err == nil {
		s.end(errRestarted)
	}
}

// connectionOf returns the connection that a call came on.
func connectionOf(ctx context.Context) (*inbound, error) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return nil, status.Error(codes.Internal, "call without a connection")
	}
	in, ok := p.AuthInfo.(*inbound)
	if !ok {
		return nil, status.Error(codes.Unauthenticated, "connection is not authenticated")
	}
	return in, nil
}

// admittedOn returns the connection that a call came on, if its handshake has succeeded.
func admittedOn(ctx context.Context) (*inbound, error) {
	in, err := connectionOf(ctx)
	if err != nil {
		return nil, err
	}
	if !in.admitted.Load() {
		return nil, status.Error(codes.FailedPrecondition, "call Handshake first")
	}
	return in, nil
}

func requireHandshakeUnary(ctx context.Context, request any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	if info.FullMethod != peerpb.Peer_Handshake_FullMethodName {
		if _, err := admittedOn(ctx); err != nil {
			return nil, err
		}
	}
	return next(ctx, request)
}

func requireHandshakeStream(server any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	if _, err := admittedOn(stream.Context()); err != nil {
		return err
	}
	return next(server, stream)
}
