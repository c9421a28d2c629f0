package peer

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"github.com/diseq/diseq/node/chain"
)

// Config is what a Transport is made of.
type Config struct {
	// Key is the node's signing key: its identity towards its peers.
	Key ed25519.PrivateKey
	// Genesis is the chain; its hash and chain id are compared in the handshake, its
	// max_block_bytes bounds messages.
	Genesis *chain.Genesis
	// Name and Version (of the software) are sent to peers, for people to read: at most 64 bytes
	// each.
	Name, Version string
	// Logger may be nil.
	Logger *slog.Logger
	// Registerer receives the metrics diseq_peer_*; it may be nil.
	Registerer prometheus.Registerer
	// Traces has what travels beside the batches; nil sends nothing and ignores what comes.
	Traces Traces
	// Dial reaches a peer over TCP, as net.Dialer.DialContext does; nil dials for real.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Traces follow messages for people. Nothing that nodes agree on depends on them.
type Traces interface {
	// Beside returns what is sent beside a batch that is pushed to a peer, nil for nothing.
	Beside(batch chain.Hash) []byte
	// Arrived takes what came beside a batch, of any form. The caller reports how the batch
	// fared here.
	Arrived(beside []byte) (durable func(error))
}

// noTraces sends nothing and ignores what comes.
type noTraces struct{}

// Beside implements Traces.
func (noTraces) Beside(chain.Hash) []byte { return nil }

// Arrived implements Traces.
func (noTraces) Arrived([]byte) func(error) { return func(error) {} }

// Peer is a node that may connect to this one and, if it has an address, is dialled by it.
type Peer struct {
	Key chain.PublicKey
	// Name labels metrics and log lines.
	Name string
	// Address is host:port; the host is looked up at every attempt. Empty: the peer is let in and
	// never dialled, so nothing is sent to it but answers.
	Address string
}

// settings are the limits. They cannot be configured: the defaults suit a validator set of any
// size, and tests shorten them.
type settings struct {
	protocolVersion uint32

	handshakeTimeout time.Duration // for TCP and TLS, and again for the Hello after them
	callTimeout      time.Duration // for a unary call
	fetchTimeout     time.Duration // for a whole answer of Batches or Blocks

	minBackoff, maxBackoff time.Duration // between attempts to reach a peer
	refusedBackoff         time.Duration // after a handshake with a node of another chain or version
	stable                 time.Duration // a link that lasted this long resets the back-off
	minPenalty, maxPenalty time.Duration // for which a peer that was at fault is not let in
	logInterval            time.Duration // between log lines of one kind about one peer

	keepaliveTime, keepaliveTimeout time.Duration

	// uselessRate and uselessBurst are how many messages of no use a peer may send, a second and at
	// once. A node that is behind gets them from every honest peer: a few hundred a second at most
	// with a hundred validators, and what two windows held if the node stood still.
	uselessRate  rate.Limit
	uselessBurst int

	maxPending int // accepted connections that have not finished TLS, of everyone together
	// authenticated connections of one peer; the newest close the oldest, so that a peer that
	// restarts is let in
	maxConnections int
	maxStreams     uint32
	// callRate and callBurst are the calls that a peer may begin, a second and at once. An honest
	// peer makes one for each of its proposals, and a few to catch up.
	callRate     rate.Limit
	callBurst    int
	maxFetches   int // Batches, Blocks, Block and Status calls served to one peer at a time
	maxProposals int // Propose calls to one peer at a time

	queueItems, queueBytes int // certificates and votes waiting for one peer
	sendBytes              int // certificates and votes put together into one message
	pushBytes, pushCount   int // batches waiting for one peer or not yet acknowledged by it
	// bytes of one answer of Batches or Blocks, by the last element's start
	fetchBytes int
}

func defaultSettings() settings {
	return settings{
		protocolVersion:  chain.ProtocolVersion,
		handshakeTimeout: 5 * time.Second,
		callTimeout:      5 * time.Second,
		fetchTimeout:     time.Minute,
		minBackoff:       100 * time.Millisecond,
		maxBackoff:       5 * time.Second,
		refusedBackoff:   30 * time.Second,
		stable:           10 * time.Second,
		minPenalty:       time.Second,
		maxPenalty:       5 * time.Minute,
		logInterval:      30 * time.Second,
		keepaliveTime:    10 * time.Second,
		keepaliveTimeout: 5 * time.Second,
		uselessRate:      5000,
		uselessBurst:     65_536,
		maxPending:       256,
		maxConnections:   2,
		maxStreams:       8,
		callRate:         500,
		callBurst:        2000,
		maxFetches:       4,
		maxProposals:     16,
		queueItems:       4096,
		queueBytes:       8 << 20,
		sendBytes:        64 << 10,
		pushBytes:        32 << 20,
		pushCount:        1024,
		fetchBytes:       32 << 20,
	}
}

// maxLabelBytes bounds a name, in Hello and in a Peer.
const maxLabelBytes = 64

func (c *Config) validate() error {
	if len(c.Key) != ed25519.PrivateKeySize {
		return fmt.Errorf("peer: signing key of %d bytes, want %d", len(c.Key), ed25519.PrivateKeySize)
	}
	if c.Genesis == nil {
		return errors.New("peer: no genesis document")
	}
	if len(c.Name) > maxLabelBytes || len(c.Version) > maxLabelBytes {
		return fmt.Errorf("peer: name %q or version %q is longer than %d bytes", c.Name, c.Version, maxLabelBytes)
	}
	return nil
}
