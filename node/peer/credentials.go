package peer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"

	"google.golang.org/grpc/credentials"

	"github.com/diseq/diseq/node/chain"
)

// tlsCredentials runs TLS for gRPC. gRPC's own would do for the client. The server's has to tell
// the gate which peer connected, and to hand every call the connection that it came on.
type tlsCredentials struct {
	config *tls.Config
	gate   *gate // on the server
}

// outbound stands for a connection on the client side.
type outbound struct{}

// AuthType implements credentials.AuthInfo.
func (outbound) AuthType() string { return "tls" }

// clientCredentials only connect to the holder of key.
func clientCredentials(certificate tls.Certificate, key chain.PublicKey) credentials.TransportCredentials {
	return &tlsCredentials{config: newTLS(certificate, func(got chain.PublicKey) error {
		if got != key {
			return fmt.Errorf("%w: the peer holds %v, want %v", errUnknownKey, got, key)
		}
		return nil
	})}
}

// serverCredentials let in the peers that the gate lets in.
func serverCredentials(certificate tls.Certificate, g *gate) credentials.TransportCredentials {
	return &tlsCredentials{config: newTLS(certificate, g.check), gate: g}
}

// ClientHandshake implements credentials.TransportCredentials.
func (c *tlsCredentials) ClientHandshake(ctx context.Context, _ string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn := tls.Client(raw, c.config)
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = conn.Close() // the handshake's error says more
		return nil, nil, err
	}
	return conn, outbound{}, nil
}

// ServerHandshake implements credentials.TransportCredentials. gRPC has set the connection's
// deadline.
func (c *tlsCredentials) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	in, ok := raw.(*inbound)
	if !ok {
		return nil, nil, errors.New("connection did not come through the gate")
	}
	conn := tls.Server(in, c.config)
	err := conn.Handshake()
	if err == nil {
		var key chain.PublicKey
		if key, err = peerKey(conn.ConnectionState()); err == nil {
			err = c.gate.authenticated(in, key)
		}
	}
	if err != nil {
		c.gate.reports.rejectHandshake(in.RemoteAddr(), err)
		_ = conn.Close() // the handshake's error says more
		return nil, nil, err
	}
	return conn, in, nil
}

// Info implements credentials.TransportCredentials.
func (*tlsCredentials) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls"}
}

// Clone implements credentials.TransportCredentials.
func (c *tlsCredentials) Clone() credentials.TransportCredentials {
	return &tlsCredentials{config: c.config.Clone(), gate: c.gate}
}

// OverrideServerName implements credentials.TransportCredentials: names mean nothing here.
func (*tlsCredentials) OverrideServerName(string) error { return nil }
