package voter

import (
	"context"
	"crypto/ed25519"
	"log/slog"
	"math"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/internal/tasks"
	"github.com/diseq/diseq/node/ledger"
	"github.com/diseq/diseq/node/mempool"
)

// Network reaches the peers. No method but Batches and Block blocks.
type Network interface {
	// Broadcast sends a bundle to every peer, Send to one.
	Broadcast(b *chain.Bundle)
	Send(to chain.PublicKey, b *chain.Bundle)
	// Ask asks every peer to send what it would send to a link that opens.
	Ask()
	// Ping asks a peer for a pong of that number, which comes behind everything that the peer sent
	// before it.
	Ping(to chain.PublicKey, number uint64)
	// Connected returns the peers to which there is a link.
	Connected() []chain.PublicKey
	// Batches fetches batches from a peer and calls yield with each of them. It may fetch only the
	// first ones of hashes.
	Batches(ctx context.Context, from chain.PublicKey, hashes []chain.Hash, yield func(chain.Hash, []byte) error) error
	// Block fetches a block that a peer holds as a proposal.
	Block(ctx context.Context, from chain.PublicKey, hash chain.Hash) (*chain.Block, error)
}

// State is the trie of the final messages, which follows the chain at its own pace.
type State interface {
	// Newest returns the newest height whose root is computed, and that root.
	Newest() (height uint64, root chain.Hash)
	// Root returns the root after a height; ok is false if it is not kept.
	Root(height uint64) (root chain.Hash, ok bool)
	// Wait returns nil once the root of height is computed.
	Wait(ctx context.Context, height uint64) error
}

// Votes is the vote store.
type Votes interface {
	// Load returns all records, Append makes records durable: they are on disk when it returns nil.
	Load() ([]chain.Record, error)
	Append(records ...chain.Record) error
	// Prune gives up the records of all heights up to one. It returns at once.
	Prune(height uint64)
}

// Metrics counts what only the voter sees.
type Metrics struct {
	// Waits and Breaches are of the synchrony wait: waits begun, and times of ill health.
	Waits, Breaches prometheus.Counter
	// InvalidBlocks counts blocks that break a rule, Withheld votes withheld from valid blocks, by
	// reason.
	InvalidBlocks prometheus.Counter
	// Misfits counts bodies that did not fit their header.
	Misfits  prometheus.Counter
	Withheld *prometheus.CounterVec
}

// Config is what a Voter is made of.
type Config struct {
	Genesis *chain.Genesis
	// Key signs this validator's votes and blocks.
	Key     ed25519.PrivateKey
	Ledger  *ledger.Ledger
	Pool    *mempool.Pool
	Network Network
	State   State
	// Apply makes a block final: it returns nil when the block is the ledger's tip. Run alone calls
	// it.
	Apply func(f *chain.FinalBlock, ids []chain.Hash, justification []*chain.Certificate) error
	// Finals brings verified blocks that catching up fetched, Contradictions an error that ends
	// Run.
	Finals         <-chan *chain.FinalBlock
	Contradictions <-chan error
	// CatchUp passes on that a peer seems to have final blocks up to height.
	CatchUp func(height uint64, from chain.PublicKey)
	// VerifyBlock is [chain.Block.VerifySignature], or quicker for a block that was verified
	// before.
	VerifyBlock func(b *chain.Block, set *chain.ValidatorSet) error
	// HasCommitment reports whether a peer acknowledged the VRF commitment of an epoch at least age
	// ago.
	HasCommitment func(peer chain.PublicKey, epoch uint64, age time.Duration) bool
	// Change returns the change of the validator set that this node has to order, nil without one.
	// Changed brings a token when that may have become another. Linked reports whether this node is
	// linked to a threshold of a next set, each near its own height.
	Change  func() *chain.Change
	Changed <-chan struct{}
	Linked  func(next *chain.NextSet) bool
	// Checkpoint returns that of the peers file, zero without one. Up to its height this node does
	// not vote, and the final block of the height has its hash.
	Checkpoint func() chain.Checkpoint
	// Evidence takes evidence against a validator.
	Evidence func(chain.Evidence)
	// Now is the clock that blocks get their time from and are compared with.
	Now     func() time.Time
	Tasks   *tasks.Group
	Metrics Metrics
	// Name returns the name of a peer for log lines.
	Name   func(chain.PublicKey) string
	Logger *slog.Logger
}

// Never is a height that no chain reaches: a validator that may vote from it on may not vote.
const Never = math.MaxUint64
