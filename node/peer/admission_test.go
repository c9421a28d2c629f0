package peer

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/peer/peerpb"
)

// lonely returns a started node that lets in node 1 and dials nobody.
func lonely(t testing.TB, options ...option) *node {
	t.Helper()
	n := newNode(t, 0, testGenesis(2), options...)
	n.Start(n.listener, []Peer{{Key: publicKey(1), Name: "node-1"}})
	return n
}

// clientTLS returns the configuration of an honest node i, for tests to spoil.
func clientTLS(t testing.TB, i int) *tls.Config {
	t.Helper()
	certificate, err := newCertificate(testKey(i))
	if err != nil {
		t.Fatal(err)
	}
	return newTLS(certificate, func(chain.PublicKey) error { return nil })
}

// shake runs a TLS handshake with n and waits for the server's verdict on it: with TLS 1.3 that
// comes after the client's side is done.
func shake(t testing.TB, n *node, config *tls.Config) (tls.ConnectionState, error) {
	t.Helper()
	raw, err := net.Dial("tcp", n.peer.Address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = raw.Close() }()
	conn := tls.Client(raw, config)
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if err := conn.Handshake(); err != nil {
		return conn.ConnectionState(), err
	}
	// A server that agrees sends its HTTP/2 settings.
	_, err = conn.Read(make([]byte, 1))
	return conn.ConnectionState(), err
}

// Promise 48.
func TestTheServerOnlyLetsInPinnedKeys(t *testing.T) {
	n := lonely(t)
	if _, err := shake(t, n, clientTLS(t, 1)); err != nil {
		t.Fatalf("a peer is refused: %v", err)
	}

	ecdsaKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	ecdsaDER, err := x509.CreateCertificate(rand.Reader, template, template, ecdsaKey.Public(), ecdsaKey)
	if err != nil {
		t.Fatal(err)
	}
	// A certificate that names the peer's key as subject, made by whoever does not hold that key.
	stolenDER, err := x509.CreateCertificate(rand.Reader, template, template, testKey(1).Public(), ecdsaKey)
	if err != nil {
		t.Fatal(err)
	}

	for _, test := range []struct {
		name   string
		spoil  func(*tls.Config)
		reason string
	}{
		{"unknown key", func(c *tls.Config) { *c = *clientTLS(t, 9) }, reasonUnknownKey},
		{"its own key", func(c *tls.Config) { *c = *clientTLS(t, 0) }, reasonUnknownKey},
		{"TLS 1.2", func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12 }, reasonTLS},
		{"no certificate", func(c *tls.Config) { c.Certificates = nil }, reasonTLS},
		{"another kind of key", func(c *tls.Config) {
			c.Certificates = []tls.Certificate{{Certificate: [][]byte{ecdsaDER}, PrivateKey: ecdsaKey}}
		}, reasonTLS},
		{"the peer's public key without its private key", func(c *tls.Config) {
			c.Certificates = []tls.Certificate{{Certificate: [][]byte{stolenDER}, PrivateKey: testKey(9)}}
		}, reasonTLS},
		{"two certificates", func(c *tls.Config) {
			c.Certificates[0].Certificate = append(c.Certificates[0].Certificate, ecdsaDER)
		}, reasonTLS},
		{"no ALPN", func(c *tls.Config) { c.NextProtos = nil }, reasonTLS},
	} {
		t.Run(test.name, func(t *testing.T) {
			before := n.rejected(t, test.reason)
			config := clientTLS(t, 1)
			test.spoil(config)
			config.VerifyConnection = nil
			if _, err := shake(t, n, config); err == nil {
				t.Error("let in")
			}
			eventually(t, "the refusal is counted", func() bool { return n.rejected(t, test.reason) == before+1 })
		})
	}
}

// Promise 48.
func TestSessionsDoNotResume(t *testing.T) {
	n := lonely(t)
	config := clientTLS(t, 1)
	config.ClientSessionCache = tls.NewLRUClientSessionCache(8)
	config.ServerName = "peer"
	config.SessionTicketsDisabled = false
	for range 3 {
		state, err := shake(t, n, config)
		if err != nil {
			t.Fatal(err)
		}
		if state.DidResume {
			t.Fatal("the session resumed")
		}
	}
	if _, ok := config.ClientSessionCache.Get("peer"); ok {
		t.Error("the server handed out a session ticket")
	}
	if _, err := peerKey(tls.ConnectionState{Version: tls.VersionTLS13, DidResume: true}); err == nil {
		t.Error("a resumed session would be accepted")
	}
}

// TestTheClientOnlyTalksToThePinnedKey has an impostor listen at the address of a peer.
//
// Promise 48.
func TestTheClientOnlyTalksToThePinnedKey(t *testing.T) {
	genesis := testGenesis(3)
	a, impostor := newNode(t, 0, genesis), newNode(t, 2, genesis)
	impostor.Start(impostor.listener, []Peer{{Key: a.peer.Key, Name: "node-0"}})
	a.Start(a.listener, []Peer{{Key: publicKey(1), Name: "node-1", Address: impostor.peer.Address}})
	eventually(t, "the mismatch is logged", func() bool {
		return a.logged("the peer cannot be reached", publicKey(2).String(), publicKey(1).String())
	})
	if len(a.ups) != 0 {
		t.Error("a link to the impostor is up")
	}
	if info := a.Peers()[0]; info.Up || !strings.Contains(info.Error, publicKey(2).String()) {
		t.Errorf("peer %+v, want it down with the reason", info)
	}
}

// Promise 48.
func TestAnotherChainIsRefusedByNamingBothValues(t *testing.T) {
	for _, test := range []struct {
		name    string
		spoil   option
		logs    []string // both the spoilt node and the other say this
		genesis func() *chain.Genesis
	}{
		{"protocol version", func(_ *Config, s *settings) { s.protocolVersion = 7 }, []string{"speaks protocol version", " 7", " 2"}, nil},
		{"chain id", func(c *Config, _ *settings) {
			g := *c.Genesis
			g.ChainID = "other"
			c.Genesis = &g
		}, []string{"chain", "other", "test"}, nil},
		{"genesis", func(c *Config, _ *settings) {
			g := *c.Genesis
			g.TimeMS++
			c.Genesis = &g
		}, []string{"has genesis", testGenesis(2).Hash().String()}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			genesis := testGenesis(2)
			a, b := newNode(t, 0, genesis), newNode(t, 1, genesis, test.spoil)
			peers := []Peer{a.peer, b.peer}
			a.Start(a.listener, peers)
			b.Start(b.listener, peers)
			for _, n := range []*node{a, b} {
				eventually(t, "the refusal is logged with both values", func() bool { return n.logged(test.logs...) })
				eventually(t, "refusals go on", func() bool { return n.rejected(t, reasonHello) >= 5 })
				if lines := strings.Count(n.log.String(), "kind=hello"); lines > 2 {
					t.Errorf("%d log lines about one peer", lines)
				}
				if len(n.ups) != 0 {
					t.Error("the link is up")
				}
			}
		})
	}
}

// TestTheClientChecksTheHelloToo has a server that lets anyone in.
func TestTheClientChecksTheHelloToo(t *testing.T) {
	a, _ := pair(t)
	theirs := a.hello()
	theirs.GenesisHash = []byte("short")
	if err := a.checkHello(theirs); !errors.Is(err, errOtherChain) {
		t.Errorf("a genesis hash of five bytes: %v", err)
	}
	theirs = a.hello()
	theirs.ChainId, theirs.Name = "x\nlevel=ERROR"+strings.Repeat("y", 1<<20), "\x1b[31m"+strings.Repeat("z", 1<<20)
	err := a.checkHello(theirs)
	if err == nil || len(err.Error()) > 512 || strings.ContainsAny(err.Error(), "\n\x1b") {
		t.Errorf("a hostile hello makes an error of %d bytes: %.600q", len(err.Error()), err)
	}
}

// rogue returns a gRPC client with the key of node i, for calls that an honest node does not make.
func rogue(t testing.TB, n *node, i int) peerpb.PeerClient {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+n.peer.Address, grpc.WithTransportCredentials(credentials.NewTLS(clientTLS(t, i))))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return peerpb.NewPeerClient(conn)
}

// admitted returns a rogue whose handshake was right.
func admitted(t testing.TB, n *node, i int) peerpb.PeerClient {
	t.Helper()
	client := rogue(t, n, i)
	if _, err := client.Handshake(t.Context(), n.hello()); err != nil {
		t.Fatal(err)
	}
	return client
}

// Promise 48.
func TestNothingIsServedBeforeTheHandshake(t *testing.T) {
	n := lonely(t)
	client := rogue(t, n, 1)
	check := func(call string, err error) {
		t.Helper()
		if status.Code(err) != codes.FailedPrecondition {
			t.Errorf("%s: %v, want FailedPrecondition", call, err)
		}
	}
	ctx := t.Context()
	_, err := client.Propose(ctx, &peerpb.Proposal{})
	check("Propose", err)
	_, err = client.Commit(ctx, &peerpb.Commitment{})
	check("Commit", err)
	_, err = client.Block(ctx, &peerpb.BlockRequest{})
	check("Block", err)
	_, err = client.Status(ctx, &peerpb.StatusRequest{})
	check("Status", err)
	batches, err := client.Batches(ctx, &peerpb.BatchesRequest{})
	if err == nil {
		_, err = batches.Recv()
	}
	check("Batches", err)
	blocks, err := client.Blocks(ctx, &peerpb.BlocksRequest{})
	if err == nil {
		_, err = blocks.Recv()
	}
	check("Blocks", err)
	consensus, err := client.Consensus(ctx)
	if err == nil {
		_, err = consensus.CloseAndRecv()
	}
	check("Consensus", err)
	push, err := client.Push(ctx)
	if err == nil {
		_, err = push.Recv()
	}
	check("Push", err)
}

func TestAConnectionWithoutHandshakeIsClosed(t *testing.T) {
	n := lonely(t, func(_ *Config, s *settings) { s.handshakeTimeout = 50 * time.Millisecond })
	raw, err := net.Dial("tcp", n.peer.Address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = raw.Close() }()
	conn := tls.Client(raw, clientTLS(t, 1))
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, conn); errors.Is(err, context.DeadlineExceeded) || isTimeout(err) {
		t.Error("the connection stays open without a Handshake")
	}
}

func isTimeout(err error) bool {
	timeout, ok := errors.AsType[net.Error](err)
	return ok && timeout.Timeout()
}

// Promise 50.
func TestAFloodOfConnectionsKeepsNobodyOut(t *testing.T) {
	n := newNode(t, 0, testGenesis(2), func(_ *Config, s *settings) { s.maxPending, s.handshakeTimeout = 16, patience })
	n.Start(n.listener, []Peer{{Key: publicKey(1), Name: "node-1"}})
	var flood []net.Conn
	defer func() {
		for _, c := range flood {
			_ = c.Close()
		}
	}()
	for range 200 {
		c, err := net.Dial("tcp", n.peer.Address)
		if err != nil {
			t.Fatal(err)
		}
		flood = append(flood, c)
	}
	if _, err := shake(t, n, clientTLS(t, 1)); err != nil {
		t.Errorf("a peer is kept out: %v", err)
	}
	eventually(t, "the oldest are closed", func() bool { return n.rejected(t, reasonFlood) >= 200-16 })
	n.gate.mu.Lock()
	pending := len(n.gate.pending)
	n.gate.mu.Unlock()
	if pending > 16 {
		t.Errorf("%d connections wait for a handshake, at most 16 may", pending)
	}
	if lines := strings.Count(n.log.String(), "\n"); lines > 3 {
		t.Errorf("the flood made %d log lines", lines)
	}
}

func TestThePeersNewestConnectionsStay(t *testing.T) {
	n := lonely(t)
	var clients []peerpb.PeerClient
	for range 5 {
		clients = append(clients, admitted(t, n, 1))
	}
	n.gate.mu.Lock()
	open := len(n.gate.guests[publicKey(1)].connections)
	n.gate.mu.Unlock()
	if open > n.settings.maxConnections {
		t.Errorf("%d connections of one peer, at most %d allowed", open, n.settings.maxConnections)
	}
	if _, err := clients[4].Status(t.Context(), &peerpb.StatusRequest{Nonce: make([]byte, 32)}); err != nil {
		t.Errorf("the newest connection: %v", err)
	}
}

func TestSetPeersDisconnectsWhoIsRemoved(t *testing.T) {
	genesis := testGenesis(3)
	a, b, c := newNode(t, 0, genesis), newNode(t, 1, genesis), newNode(t, 2, genesis)
	start(t, a, b, c)
	a.SetPeers([]Peer{a.peer, c.peer})
	if key := receive(t, a.downs); key != b.peer.Key {
		t.Fatalf("link to %v is down, want %v", key, b.peer.Key)
	}
	if key := receive(t, b.downs); key != a.peer.Key {
		t.Fatalf("link to %v is down, want %v", key, a.peer.Key)
	}
	eventually(t, "the removed peer is refused", func() bool { return a.rejected(t, reasonUnknownKey) > 0 })
	a.Broadcast(&chain.Bundle{Votes: []chain.Vote{testVote(0, 5)}})
	if d := receive(t, c.bundles); d.value.Votes[0].Height != 5 {
		t.Errorf("node 2 got %+v", d.value)
	}
	if len(b.bundles) != 0 {
		t.Error("the removed peer still gets votes")
	}
	a.SetPeers([]Peer{b.peer, c.peer})
	receive(t, a.ups)
	receive(t, b.ups)
	if len(c.downs) != 0 || len(a.downs) != 0 {
		t.Error("the link that stays was disturbed")
	}
}

func TestAChangedAddressIsDialled(t *testing.T) {
	genesis := testGenesis(2)
	a, b := newNode(t, 0, genesis), newNode(t, 1, genesis)
	start(t, a, b)
	b.Close()
	receive(t, a.downs)
	moved := newNode(t, 1, genesis)
	moved.Start(moved.listener, []Peer{a.peer})
	a.SetPeers([]Peer{moved.peer})
	receive(t, a.ups)
	receive(t, moved.ups)
}

func TestARestartedPeerIsReachedAtOnce(t *testing.T) {
	genesis := testGenesis(2)
	slow := func(_ *Config, s *settings) { s.maxBackoff = time.Hour; s.minBackoff = 20 * time.Millisecond }
	a := newNode(t, 0, genesis, slow)
	b := newNode(t, 1, genesis)
	start(t, a, b)
	b.Close()
	receive(t, a.downs)
	// By now a waits longer after each attempt, soon far longer than this test. Only b's own return
	// can bring it back.
	eventually(t, "some attempts fail", func() bool {
		up, _, failure := a.links[b.peer.Key].state()
		return !up && strings.Contains(failure, "refused")
	})
	b = newNodeAt(t, 1, b.peer.Address, genesis)
	b.Start(b.listener, []Peer{a.peer})
	receive(t, a.ups)
	receive(t, b.ups)
	a.Broadcast(&chain.Bundle{Votes: []chain.Vote{testVote(0, 3)}})
	receive(t, b.bundles)
}

// TestALinkToAnEarlierRunIsReplaced has a peer come back while the link to the run before still
// looks alive.
//
// Promise 5.
func TestALinkToAnEarlierRunIsReplaced(t *testing.T) {
	a, b := pair(t)
	hello := a.hello()
	hello.Instance = b.instance[:]
	if _, err := rogue(t, a, 1).Handshake(t.Context(), hello); err != nil {
		t.Fatal(err)
	}
	if up, _, _ := a.links[b.peer.Key].state(); !up {
		t.Error("a connection of the same run ended the link")
	}
	hello.Instance = make([]byte, 16)
	if _, err := rogue(t, a, 1).Handshake(t.Context(), hello); err != nil {
		t.Fatal(err)
	}
	receive(t, a.downs)
	receive(t, a.ups)
	eventually(t, "the reason is logged", func() bool { return a.logged(errRestarted.Error()) })
}

func TestBackoffGrowsToItsLimit(t *testing.T) {
	s := defaultSettings()
	for attempt, want := range []time.Duration{100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000} {
		want *= time.Millisecond
		for range 100 {
			if got := s.backoff(attempt, errors.New("refused")); got < want*8/10 || got > want*12/10 {
				t.Fatalf("attempt %d waits %v, want %v give or take a fifth", attempt, got, want)
			}
		}
	}
	if got := s.backoff(1<<40, errors.New("refused")); got > 6*time.Second {
		t.Errorf("after very many attempts it waits %v", got)
	}
	if got := s.backoff(0, errOtherChain); got < 24*time.Second {
		t.Errorf("a node of another chain is tried again after %v", got)
	}
}

func TestConfigIsValidated(t *testing.T) {
	good := Config{Key: testKey(0), Genesis: testGenesis(1)}
	for name, spoil := range map[string]func(*Config){
		"no key":     func(c *Config) { c.Key = nil },
		"no genesis": func(c *Config) { c.Genesis = nil },
		"long name":  func(c *Config) { c.Name = strings.Repeat("x", 65) },
	} {
		config := good
		spoil(&config)
		if _, err := New(config, newRecorder(testKey(0))); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	n, err := New(good, newRecorder(testKey(0)))
	if err != nil {
		t.Fatal(err)
	}
	n.Close() // without Start
	n.Close()
}
