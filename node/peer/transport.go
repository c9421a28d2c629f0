package peer

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/grpclog"
	"google.golang.org/grpc/keepalive"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/peer/peerpb"
)

// gRPC's own log goes to standard error, and strangers can make it write. Everything in it that
// matters comes back as an error.
func init() { grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, io.Discard)) }

const (
	windowBytes           = 1 << 20 // HTTP/2 flow control, for each stream ...
	connectionWindowBytes = 4 << 20 // ... and each connection; fixed, so that no peer can raise it
	ioBufferBytes         = 32 << 10
	maxHeaderBytes        = 16 << 10
	// protobuf around a canonical encoding, headers and signatures in it
	encodingSlackBytes = 16 << 10
	// maxTraceBytes is the most that is taken of what comes beside a batch. More is dropped.
	maxTraceBytes = 4 << 10
)

// Transport is a node's connection to its peers. Its methods may be called from any goroutine.
type Transport struct {
	config      Config
	settings    settings
	handler     Handler
	self        chain.PublicKey
	genesis     chain.Hash
	instance    instance
	certificate tls.Certificate
	reports     *reports
	gate        *gate
	server      *grpc.Server

	ctx    context.Context
	cancel context.CancelFunc
	tasks  sync.WaitGroup

	mu    sync.Mutex
	links map[chain.PublicKey]*link
	ended bool
}

// New returns a Transport that does nothing until Start.
func New(config Config, handler Handler) (*Transport, error) {
	return newTransport(config, handler, defaultSettings())
}

func newTransport(config Config, handler Handler, s settings) (*Transport, error) {
	if err := config.validate(); err != nil {
		return nil, err
	}
	certificate, err := newCertificate(config.Key)
	if err != nil {
		return nil, err
	}
	if config.Traces == nil {
		config.Traces = noTraces{}
	}
	r := newReports(config.Logger, config.Registerer, s.logInterval)
	t := &Transport{
		config: config, settings: s, handler: handler, self: chain.PublicKeyOf(config.Key), genesis: config.Genesis.Hash(),
		certificate: certificate, reports: r, gate: newGate(s, r), links: make(map[chain.PublicKey]*link),
	}
	if _, err := rand.Read(t.instance[:]); err != nil {
		return nil, fmt.Errorf("peer: %w", err)
	}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	t.server = grpc.NewServer(
		grpc.Creds(serverCredentials(certificate, t.gate)),
		grpc.ConnectionTimeout(s.handshakeTimeout),
		grpc.MaxRecvMsgSize(t.maxReceivedBytes()),
		grpc.MaxConcurrentStreams(s.maxStreams),
		grpc.MaxHeaderListSize(maxHeaderBytes),
		grpc.StaticStreamWindowSize(windowBytes),
		grpc.StaticConnWindowSize(connectionWindowBytes),
		grpc.ReadBufferSize(ioBufferBytes),
		grpc.WriteBufferSize(ioBufferBytes),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 2 * s.keepaliveTime, Timeout: s.keepaliveTimeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: s.keepaliveTime / 2, PermitWithoutStream: true}),
		grpc.InTapHandle(t.gate.begin),
		grpc.UnaryInterceptor(requireHandshakeUnary),
		grpc.StreamInterceptor(requireHandshakeStream),
		grpc.WaitForHandlers(true),
	)
	peerpb.RegisterPeerServer(t.server, &service{Transport: t})
	return t, nil
}

// maxReceivedBytes is the largest message that the server takes: a batch or a proposal.
func (t *Transport) maxReceivedBytes() int {
	return max(t.maxBatchBytes(), maxProposalBytes) + encodingSlackBytes
}

// maxBatchBytes bounds the messages of a batch or a block.
func (t *Transport) maxBatchBytes() int { return int(t.config.Genesis.Parameters.MaxBlockBytes) }

// Start serves peers on listener and dials those that have an address. Close closes the listener.
// Start is called once.
func (t *Transport) Start(listener net.Listener, peers []Peer) {
	t.SetPeers(peers)
	t.tasks.Go(func() {
		err := t.server.Serve(gatedListener{Listener: listener, gate: t.gate})
		if err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			t.reports.log.Error("peer listener failed", "address", listener.Addr().String(), "err", err)
		}
	})
}

// SetPeers replaces the peers. A former peer is disconnected; links to the others go on
// undisturbed. The node's own key among them is left out.
func (t *Transport) SetPeers(peers []Peer) {
	peers = slices.DeleteFunc(slices.Clone(peers), func(p Peer) bool { return p.Key == t.self })
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended {
		return
	}
	t.gate.setPeers(peers)
	links := make(map[chain.PublicKey]*link, len(peers))
	for _, p := range peers {
		old := t.links[p.Key]
		switch {
		case p.Address == "" || links[p.Key] != nil:
		case old != nil && old.peer == p:
			links[p.Key] = old
		default:
			links[p.Key] = t.newLink(p, old)
		}
	}
	for key, old := range t.links {
		if links[key] != old {
			old.cancel()
		}
	}
	t.links = links
}

// Close ends every connection and waits for all goroutines; the Handler is not called after it.
// LinkDown comes for every link that was up. Close waits for the Handler's methods, so end them
// first.
func (t *Transport) Close() {
	t.mu.Lock()
	t.ended = true
	t.mu.Unlock()
	t.gate.close()
	t.cancel()
	t.server.Stop()
	t.tasks.Wait()
}

func (t *Transport) link(to chain.PublicKey) (*link, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if l := t.links[to]; l != nil {
		return l, nil
	}
	return nil, fmt.Errorf("%w: %v is not dialled", ErrLinkDown, to)
}

func (t *Transport) allLinks() []*link {
	t.mu.Lock()
	defer t.mu.Unlock()
	links := make([]*link, 0, len(t.links))
	for _, l := range t.links {
		links = append(links, l)
	}
	return links
}

// Broadcast queues a bundle for every peer to which there is a link. It never blocks. Certificates
// and votes keep their order; proposals travel beside them, each as a call of its own, and may
// overtake them.
func (t *Transport) Broadcast(b *chain.Bundle) {
	items := itemsOf(b)
	for _, l := range t.allLinks() {
		l.send(items)
	}
}

// Send queues a bundle for one peer, if there is a link, as Broadcast does.
func (t *Transport) Send(to chain.PublicKey, b *chain.Bundle) {
	if l, err := t.link(to); err == nil {
		l.send(itemsOf(b))
	}
}

// Ping asks a peer for a pong of that number, behind what was sent to it before. Handler.OnPong
// brings it, after everything that the peer sent before it. Nothing comes if there is no link on
// either way.
func (t *Transport) Ping(to chain.PublicKey, number uint64) {
	if l, err := t.link(to); err == nil {
		l.send([]item{{kind: kindPing, number: number}})
	}
}

// Ask asks every peer for the messages that a node sends when a link opens: Handler.OnAsk there.
func (t *Transport) Ask() {
	for _, l := range t.allLinks() {
		l.send([]item{{kind: kindAsk}})
	}
}

// Endorse queues this node's own endorsement of a validator set for a peer: Handler.OnEndorsed
// there. Nothing comes of it if there is no link.
func (t *Transport) Endorse(to chain.PublicKey, e *chain.Endorsed) {
	if l, err := t.link(to); err == nil {
		l.send([]item{{kind: kindEndorsed, encoded: e.Encode()}})
	}
}

// PushBatch queues a batch for every peer to which there is a link and returns those that were up
// but had no room (32 MiB or 1024 batches unacknowledged): push it again, with Push, when they have
// acknowledged others. It never blocks. Handler.OnAck reports the answer; a peer whose link is down
// gets the batch after LinkUp.
func (t *Transport) PushBatch(hash chain.Hash, encoded []byte) (full []chain.PublicKey) {
	for _, l := range t.allLinks() {
		if _, err := l.pushes.offer(hash, encoded); errors.Is(err, errFull) {
			t.reports.dropped.WithLabelValues(l.peer.Name, kindBatch).Inc()
			full = append(full, l.peer.Key)
		}
	}
	return full
}

// Push queues a batch for one peer and waits for room if there is none. A batch under way already
// is not queued twice. The error is ErrLinkDown or the context's.
func (t *Transport) Push(ctx context.Context, to chain.PublicKey, hash chain.Hash, encoded []byte) error {
	l, err := t.link(to)
	if err != nil {
		return err
	}
	for {
		room, err := l.pushes.offer(hash, encoded)
		if !errors.Is(err, errFull) {
			return err
		}
		select {
		case <-room:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Connected returns the peers to which there is a link, in order of their names.
func (t *Transport) Connected() (keys []chain.PublicKey) {
	for _, p := range t.Peers() {
		if p.Up {
			keys = append(keys, p.Key)
		}
	}
	return keys
}

// PeerInfo is the state of one peer, for status pages.
type PeerInfo struct {
	Peer
	// Up says whether this node can send to the peer, Since is when that last changed.
	Up    bool
	Since time.Time
	// Error is why the last attempt to reach the peer failed; empty while Up.
	Error string
	// Inbound says whether the peer is connected to this node, LastHeard when it last sent
	// something (zero: never), Version the software that it says it runs.
	Inbound   bool
	LastHeard time.Time
	Version   string
	// Useless counts messages of the peer that were of no use whatever they say: they were of
	// heights too far below this node's or above it.
	Useless uint64
}

// Peers returns the state of every peer, in order of their names.
func (t *Transport) Peers() []PeerInfo {
	peers := t.gate.peers()
	infos := make([]PeerInfo, 0, len(peers))
	for _, p := range peers {
		info := PeerInfo{Peer: p}
		if l, err := t.link(p.Key); err == nil {
			info.Up, info.Since, info.Error = l.state()
		}
		t.gate.heard(&info)
		infos = append(infos, info)
	}
	slices.SortFunc(infos, func(a, b PeerInfo) int { return strings.Compare(a.Name, b.Name) })
	return infos
}

// Heard returns the number of peers in a validator set that are connected, or that sent something
// less than the given time ago. With 0 it counts the connected ones.
func (t *Transport) Heard(set *chain.ValidatorSet, ago time.Duration) (count int) {
	for _, p := range t.Peers() {
		if set.Index(p.Key) >= 0 && (p.Up || time.Since(p.LastHeard) < ago) {
			count++
		}
	}
	return count
}
