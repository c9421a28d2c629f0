package hostile

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/diseq/diseq/node"
	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/identity"
	"github.com/diseq/diseq/node/peer/peerpb"
	"github.com/diseq/diseq/test/system"
)

// thief is an attacker with the key of a validator.
type thief struct {
	tb      testing.TB
	key     ed25519.PrivateKey
	index   uint32
	genesis *chain.Genesis
	// height is the last final height that a node showed.
	height func() uint64
}

func steal(tb testing.TB, n *system.Network, from *system.Node, height func() uint64) *thief {
	tb.Helper()
	id, err := identity.Load(filepath.Join(from.Dir, "keys"))
	if err != nil {
		tb.Fatal(err)
	}
	return &thief{tb: tb, key: id.Signing, index: uint32(from.Index), genesis: n.Genesis, height: height}
}

// tls wraps the key in a certificate, of which peers look at nothing else.
func (t *thief) tls() *tls.Config {
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, t.key.Public(), t.key)
	if err != nil {
		panic(err) // the template and the key are good
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{"h2"}, InsecureSkipVerify: true,
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: t.key}},
	}
}

// peerAddress is where a node's peers reach it.
func peerAddress(target *system.Node) string {
	c, err := node.LoadConfig(target.ConfigPath())
	if err != nil {
		panic(err) // the node runs with it
	}
	return c.Listen.Peer
}

// meet connects to a node as the validator and calls f, again and again until ctx ends.
func (t *thief) meet(ctx context.Context, target *system.Node, c *counts, f func(context.Context, peerpb.PeerClient) error) {
	credentials := credentials.NewTLS(t.tls())
	genesis := t.genesis.Hash()
	for ctx.Err() == nil {
		conn, err := grpc.NewClient("passthrough:///"+peerAddress(target), grpc.WithTransportCredentials(credentials))
		if err != nil {
			panic(err) // the address is good
		}
		client := peerpb.NewPeerClient(conn)
		_, err = client.Handshake(ctx, &peerpb.Hello{
			ProtocolVersion: chain.ProtocolVersion, ChainId: t.genesis.ChainID, GenesisHash: genesis[:],
			Name: "thief", Version: "none", Instance: []byte(rand.Text()[:16]),
		})
		if err == nil {
			err = f(ctx, client)
		}
		_ = conn.Close() // all its calls have ended
		c.note(err)
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// stream sends frames at a rate a second until the node or ctx ends it.
func stream(ctx context.Context, client peerpb.PeerClient, perSecond float64, frame func() *peerpb.Frame) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	out, err := client.Consensus(ctx)
	if err != nil {
		return err
	}
	every(ctx, perSecond, func() {
		if err = out.Send(frame()); err != nil {
			cancel()
		}
	})
	return err
}

// vote is a valid vote of the stolen key.
func (t *thief) vote(kind chain.Kind, height uint64, round uint32) []byte {
	v := chain.Vote{Kind: kind, Height: height, Round: round, Validator: t.index}
	if kind != chain.Nullify {
		_, _ = rand.Read(v.Block[:]) // it never fails
	}
	v.Sign(t.key, t.genesis.ChainID)
	return v.Encode()
}

// attacks are those of the thief. Of one peer two connections stay, so that they take turns: each
// has a node for itself for a while. For those that come last a node puts its peer out, at the end
// for minutes.
func (t *thief) attacks() (first, last []attack) {
	old := make([][]byte, 100)
	for i := range old {
		old[i] = t.vote(chain.Nullify, 1, uint32(i))
	}
	first = []attack{
		{"old votes, 4,000 a second (heights)", t.streams(40, func() *peerpb.Frame { return &peerpb.Frame{Votes: old} })},
		{"votes of heights to come, 4,000 a second (heights)", t.streams(40, func() *peerpb.Frame {
			f := &peerpb.Frame{}
			vote := t.vote(chain.Notarize, t.height()+2+mathrand.Uint64N(1<<40), 0)
			for range 100 {
				f.Votes = append(f.Votes, vote)
			}
			return f
		})},
		{"valid votes of this height without end (checks, lanes)", t.streams(50, func() *peerpb.Frame {
			f := &peerpb.Frame{}
			for range 50 {
				f.Votes = append(f.Votes, t.vote(chain.Nullify, t.height()+1, mathrand.Uint32()))
			}
			return f
		})},
		{"pings and asks (queue to the peer)", t.streams(100, func() *peerpb.Frame {
			f := &peerpb.Frame{Asks: []bool{true}}
			for i := range uint64(200) {
				f.Pings = append(f.Pings, i)
			}
			return f
		})},
		{"old blocks, again and again (places of calls)", func(ctx context.Context, target *system.Node, c *counts) {
			t.meet(ctx, target, c, func(ctx context.Context, client peerpb.PeerClient) error {
				var err error
				every(ctx, 5, func() {
					var blocks grpc.ServerStreamingClient[peerpb.FinalBlock]
					if blocks, err = client.Blocks(ctx, &peerpb.BlocksRequest{From: 1}); err != nil {
						return
					}
					for err == nil {
						_, err = blocks.Recv()
					}
				})
				return nil
			})
		}},
		{"connections that come and go (back-off)", func(ctx context.Context, target *system.Node, c *counts) {
			t.meet(ctx, target, c, func(context.Context, peerpb.PeerClient) error { return nil })
		}},
	}
	last = []attack{
		{"old votes, 10,000 a second (strikes)", t.streams(100, func() *peerpb.Frame { return &peerpb.Frame{Votes: old} })},
		{"forged votes (strikes)", t.streams(10, func() *peerpb.Frame {
			v := t.vote(chain.Nullify, t.height()+1, 0)
			v[len(v)-1]++
			return &peerpb.Frame{Votes: [][]byte{v}}
		})},
		{"bytes that are no TLS (handshakes)", func(ctx context.Context, target *system.Node, c *counts) {
			every(ctx, 50, func() {
				conn, err := net.DialTimeout("tcp", peerAddress(target), 5*time.Second)
				if err == nil {
					_, err = conn.Write([]byte("\x16\x03\x01 nonsense"))
					_ = conn.Close() // any answer will do
				}
				c.note(err)
			})
		}},
	}
	return first, last
}

func (t *thief) streams(perSecond float64, frame func() *peerpb.Frame) func(context.Context, *system.Node, *counts) {
	return func(ctx context.Context, target *system.Node, c *counts) {
		t.meet(ctx, target, c, func(ctx context.Context, client peerpb.PeerClient) error {
			return stream(ctx, client, perSecond, frame)
		})
	}
}
