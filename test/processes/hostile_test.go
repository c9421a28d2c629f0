package processes

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"net"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/diseq/diseq/node"
	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/identity"
	"github.com/diseq/diseq/node/peer/peerpb"
	"github.com/diseq/diseq/test/hostile"
	"github.com/diseq/diseq/test/system"
)

// An intruder has stolen a validator's key, and talks to the other validators with it.
type intruder struct {
	t       *testing.T
	key     ed25519.PrivateKey
	index   uint32
	genesis *chain.Genesis
}

// address is where a node's peers reach it.
func address(t *testing.T, n *system.Node) string {
	t.Helper()
	c, err := node.LoadConfig(n.ConfigPath())
	if err != nil {
		t.Fatal(err)
	}
	return c.Listen.Peer
}

// tls wraps a key in a certificate, of which peers look at nothing else.
func (i *intruder) tls(key ed25519.PrivateKey) *tls.Config {
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		i.t.Fatal(err)
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{"h2"}, InsecureSkipVerify: true,
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
	}
}

func (i *intruder) hello() *peerpb.Hello {
	genesis := i.genesis.Hash()
	return &peerpb.Hello{
		ProtocolVersion: chain.ProtocolVersion, ChainId: i.genesis.ChainID, GenesisHash: genesis[:],
		Name: "intruder", Version: "none", Instance: []byte(rand.Text()[:16]),
	}
}

// call connects to a node, says hello and does f. A node that has just thrown the intruder out is
// asked again.
func (i *intruder) call(target *system.Node, hello *peerpb.Hello, f func(context.Context, peerpb.PeerClient) error) error {
	conn, err := grpc.NewClient(address(i.t, target), grpc.WithTransportCredentials(credentials.NewTLS(i.tls(i.key))))
	if err != nil {
		i.t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	client := peerpb.NewPeerClient(conn)
	ctx, cancel := context.WithTimeout(i.t.Context(), 2*soon) // to be let in, and for f
	defer cancel()
	if hello == nil {
		system.Eventually(i.t, soon, "the intruder is let in by "+target.Name, func() error {
			_, err := client.Handshake(ctx, i.hello())
			return err
		})
	} else if _, err := client.Handshake(ctx, hello); err != nil {
		return err
	}
	return f(ctx, client)
}

// raw sends bytes where TLS or HTTP/2 is expected and waits for the connection to be closed by the
// other side.
func raw(dial func() (net.Conn, error)) error {
	conn, err := dial()
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	garbage := make([]byte, 4096)
	_, _ = rand.Read(garbage) // it never fails
	if err := conn.SetDeadline(time.Now().Add(soon)); err != nil {
		return err
	}
	for {
		if _, err := conn.Write(garbage); err != nil {
			return err
		}
		if _, err := conn.Read(garbage[:1]); err != nil {
			return err
		}
	}
}

func frames(ctx context.Context, c peerpb.PeerClient, frames ...*peerpb.Frame) error {
	stream, err := c.Consensus(ctx)
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

func (i *intruder) vote(kind chain.Kind, height uint64, round uint32) chain.Vote {
	v := chain.Vote{Kind: kind, Height: height, Round: round, Validator: i.index}
	if kind != chain.Nullify {
		_, _ = rand.Read(v.Block[:]) // it never fails
	}
	v.Sign(i.key, i.genesis.ChainID)
	return v
}

// rejected is how much of what came from peers a node refused.
func rejected(t *testing.T, n *system.Node) float64 {
	t.Helper()
	v, err := n.Metric("diseq_peer_rejected_total")
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// Promise 49.
func TestPeerThatSendsGarbageIsRefusedAndCounted(t *testing.T) {
	n := system.Start(t, system.Options{})
	h := n.Watch()
	stolen, others := n.Nodes[3], n.Nodes[:3]
	stolen.Kill()
	identity, err := identity.Load(filepath.Join(stolen.Dir, "keys"))
	if err != nil {
		t.Fatal(err)
	}
	in := &intruder{t: t, key: identity.Signing, index: 3, genesis: n.Genesis}
	load := system.Load{Nodes: others, Rate: 300, Batch: 3, Size: 100}.Start(t)
	_, unknown, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	wrong := in.hello()
	wrong.ChainId = "another-chain"
	newer := in.hello()
	newer.ProtocolVersion++
	nothing := func(context.Context, peerpb.PeerClient) error { return nil }

	for k, attack := range []struct {
		name string
		do   func(target *system.Node) error
	}{
		{"bytes instead of TLS", func(target *system.Node) error {
			return raw(func() (net.Conn, error) { return net.Dial("tcp", address(t, target)) })
		}},
		{"a key that no one knows", func(target *system.Node) error {
			return raw(func() (net.Conn, error) { return tls.Dial("tcp", address(t, target), in.tls(unknown)) })
		}},
		{"a hello of another chain", func(target *system.Node) error { return in.call(target, wrong, nothing) }},
		{"a hello of another version", func(target *system.Node) error { return in.call(target, newer, nothing) }},
		{"a frame of no votes", func(target *system.Node) error {
			return in.call(target, nil, func(ctx context.Context, c peerpb.PeerClient) error {
				return frames(ctx, c, &peerpb.Frame{Votes: [][]byte{[]byte("garbage")}})
			})
		}},
		{"a message larger than any", func(target *system.Node) error {
			return in.call(target, nil, func(ctx context.Context, c peerpb.PeerClient) error {
				return frames(ctx, c, &peerpb.Frame{Votes: [][]byte{make([]byte, 64<<20)}})
			})
		}},
		{"another validator's vote, forged", func(target *system.Node) error {
			return in.call(target, nil, func(ctx context.Context, c peerpb.PeerClient) error {
				another := in.vote(chain.Finalize, h.Highest(), 0)
				another.Validator = 0 // whose signature it is not
				return frames(ctx, c, &peerpb.Frame{Votes: [][]byte{another.Encode()}})
			})
		}},
		{"a proposal that is none", func(target *system.Node) error {
			return in.call(target, nil, func(ctx context.Context, c peerpb.PeerClient) error {
				_, err := c.Propose(ctx, &peerpb.Proposal{Proposal: make([]byte, 1000)})
				return err
			})
		}},
	} {
		target := others[k%len(others)]
		before := rejected(t, target)
		if err := attack.do(target); err == nil || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: not refused: %v", attack.name, err)
		}
		system.Eventually(t, soon, attack.name+" is counted", func() error {
			if now := rejected(t, target); now <= before {
				return fmt.Errorf("diseq_peer_rejected_total is %v, it was %v", now, before)
			}
			return nil
		})
	}

	// A flood of garbage makes no flood of log lines.
	before := size(t, others[0].Log())
	for range 500 {
		if err := raw(func() (net.Conn, error) { return net.Dial("tcp", address(t, others[0])) }); err == nil {
			t.Fatal("garbage was taken")
		}
	}
	if grown := size(t, others[0].Log()) - before; grown > 64<<10 {
		t.Errorf("500 connections of garbage made %d bytes of log", grown)
	}

	// Messages with valid signatures are handled: votes that contradict each other, or are for
	// heights and rounds far away. Nothing is ordered meanwhile, so that the next height is the one
	// being decided.
	load.Stop()
	n.Audit(h, load)
	target := others[1]
	height := h.Highest() + 1
	var votes [][]byte
	for range 50 {
		for _, at := range []struct {
			height uint64
			round  uint32
		}{{height, 0}, {height + 1, 0}, {height + 20, 0}, {height, 1 << 30}, {1 << 52, 7}, {1, 0}} {
			for _, kind := range []chain.Kind{chain.Notarize, chain.Nullify, chain.Finalize, chain.Propose} {
				v := in.vote(kind, at.height, at.round)
				votes = append(votes, v.Encode())
			}
		}
	}
	_ = in.call(target, nil, func(ctx context.Context, c peerpb.PeerClient) error {
		var fs []*peerpb.Frame
		for part := range slices.Chunk(votes, 100) {
			fs = append(fs, &peerpb.Frame{Votes: part})
		}
		return frames(ctx, c, fs...) // taken or not, what matters is what comes of it
	})
	again := system.Load{Nodes: others, Rate: 300, Batch: 3, Size: 100}.Start(t)
	h.Await(t, soon, height+20, others...)

	// The key's owner comes back, and is let in again.
	stolen.Start()
	awaitVote(t, others[0], h.Highest(), stolen.Index)
	again.Stop()
	checkEvidence(t, n, stolen)
	n.AllowEvidence()
	n.Audit(h, load, again)
}

// checkEvidence verifies that whatever evidence nodes hold is against one validator.
func checkEvidence(t *testing.T, n *system.Network, against *system.Node) {
	t.Helper()
	found := 0
	for _, node := range n.Nodes {
		var held struct{ Evidence []chain.EvidenceDocument }
		if err := node.Get("/v1/evidence", &held); err != nil {
			t.Fatal(err)
		}
		var status struct{ Evidence int }
		if err := node.Get("/v1/status", &status); err != nil || status.Evidence < len(held.Evidence) {
			t.Errorf("%s: the status counts %d of %d pieces of evidence, %v", node.Name, status.Evidence, len(held.Evidence), err)
		}
		for _, e := range held.Evidence {
			found++
			if err := e.Verify(n.Genesis); err != nil {
				t.Errorf("%s: evidence: %v", node.Name, err)
			}
			if e.First.Validator != uint32(against.Index) {
				t.Errorf("%s holds evidence against validator %d", node.Name, e.First.Validator)
			}
		}
	}
	if found == 0 {
		t.Error("contradicting votes left no evidence")
	}
}

// All attacks of make hostile at once, for a short time. How fast honest clients are served is
// measured there.
//
// Promise 49.
// Promise 50.
// Promise 51.
func TestNothingIsLostWhileANodeIsAttackedFromAllSides(t *testing.T) {
	hostile.Run(t, hostile.Options{Time: 20 * time.Second, Quiet: 3 * time.Second, Rate: 100, Memory: 512 << 20})
}
