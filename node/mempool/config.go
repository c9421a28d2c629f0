package mempool

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/diseq/diseq/node/chain"
)

// Storage keeps the batches of the pool on disk. Its methods are called concurrently.
type Storage interface {
	// AddBatches makes all of batches durable or none: when it returns nil they survive the loss of
	// power. Concurrent calls should share a sync of the disk. A batch that is stored already is
	// left as it is.
	AddBatches(ctx context.Context, batches []chain.StoredBatch) error
	// PendingBatches calls yield with every batch stored, in the order in which they were added,
	// and stops at its first error. The data is the pool's to keep.
	PendingBatches(ctx context.Context, yield func(chain.StoredBatch) error) error
	// PutMeta durably keeps a small value under a name. Meta returns it, nil if there is none.
	PutMeta(ctx context.Context, name string, value []byte) error
	Meta(ctx context.Context, name string) ([]byte, error)
}

// Index has the place of each message of the final blocks, up to some height. Its methods are
// called concurrently.
type Index interface {
	// Lookup returns the height and the place in the block of a message; ok is false if the index
	// has none of that id.
	Lookup(id chain.Hash) (height uint64, index uint32, ok bool, err error)
	// IDs calls visit with every id in the index, in any order, until visit returns false. Ids that
	// are added meanwhile may be left out.
	IDs(ctx context.Context, visit func(chain.Hash) bool) error
}

// Replicator pushes batches to the peers.
type Replicator interface {
	// Push sends a batch of this node to every peer there is a link to, and returns at once. The
	// batch need not be durable here yet. Each acknowledgement is reported with
	// [Pool.Acknowledge]; [Pool.Unacknowledged] finds the batches that could not be sent. Pushes
	// come in the order of the batches' numbers, which a link keeps.
	Push(hash chain.Hash, encoded []byte)
}

// Config is what a pool is made of.
type Config struct {
	// Key signs this node's batches.
	Key ed25519.PrivateKey
	// ChainID, MaxMessageBytes and MaxBlockBytes are those of the genesis document.
	ChainID         string
	MaxMessageBytes int
	MaxBlockBytes   int
	// BlockInterval is the least time between blocks.
	BlockInterval time.Duration
	// Set decides the height above the last block that is durable here; [Pool.SetMembers] names
	// each later one. Its members may push batches. This node may be one of them; an observer can
	// follow the chain but not accept messages. Former are all others that were in an earlier set.
	Set    *chain.ValidatorSet
	Former []chain.PublicKey
	// AckWait bounds the wait for n-t other members to hold a batch durably, 0 for DefaultAckWait.
	// It is ten times as long while Linked says that there are links to as many.
	AckWait time.Duration
	// Linked returns the number of members, this node not counted, that there is a link to; nil for
	// none.
	Linked func() int
	// Present returns the peers that are there to push their own batches: other nodes need not pass
	// these on. nil for none.
	Present func() map[chain.PublicKey]bool
	// MaxPoolBytes and MaxPoolMessages bound the pending batches of all authors that may push, who
	// have an equal share of them; 0 for the defaults. A share holds a message of the largest size
	// even where MaxPoolBytes does not give as much.
	MaxPoolBytes    int64
	MaxPoolMessages int
	// MaxFilterBytes bounds the memory of the filter before the index, 0 for DefaultMaxFilterBytes.
	// On a chain with more messages than it has room for (about one in 1.5 bytes), more and more
	// new ids are looked up on disk.
	MaxFilterBytes int64
	// Height is the last height that Index covers. The blocks above it are handed over with
	// [Pool.Committed], in their order, before anything else.
	Height uint64
	// Time is the time of the newest final block, as its header says.
	Time time.Time

	Storage    Storage
	Index      Index
	Replicator Replicator
	// Formed takes note of each batch of this node before it leaves, with the ids of its messages;
	// nil for none. It is called in the batches' order and should return at once.
	Formed func(batch chain.Hash, ids []chain.Hash)
	// FreeDisk returns the free space of the disk that Storage writes to, in bytes; nil for no
	// check. It is called at most once a second.
	FreeDisk func() (uint64, error)
	// Logger takes failures and equivocations, Registerer the metrics; nil for none.
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// The defaults of Config.
const (
	DefaultAckWait               = 500 * time.Millisecond
	DefaultMaxPoolBytes    int64 = 256 << 20
	DefaultMaxPoolMessages       = 1 << 20
	DefaultMaxFilterBytes  int64 = 256 << 20
)

// minShareRoom is the room of a share beyond a message of the largest size: for the batches around
// it.
const minShareRoom = 32 * batchOverhead

// check fills in the defaults and refuses a configuration that cannot work.
func (c *Config) check() error {
	if c.AckWait == 0 {
		c.AckWait = DefaultAckWait
	}
	if c.MaxPoolBytes == 0 {
		c.MaxPoolBytes = DefaultMaxPoolBytes
	}
	if c.MaxPoolMessages == 0 {
		c.MaxPoolMessages = DefaultMaxPoolMessages
	}
	if c.MaxFilterBytes == 0 {
		c.MaxFilterBytes = DefaultMaxFilterBytes
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Set == nil {
		return errors.New("mempool: a validator set is needed")
	}
	switch n := len(c.Set.Validators); {
	case len(c.Key) != ed25519.PrivateKeySize:
		return fmt.Errorf("mempool: key of %d bytes, want %d", len(c.Key), ed25519.PrivateKeySize)
	case n == 0 || n > chain.MaxValidators:
		return fmt.Errorf("mempool: set of %d validators, allowed are 1 to %d", n, chain.MaxValidators)
	case c.MaxMessageBytes < 1 || c.MaxBlockBytes < c.MaxMessageBytes+8:
		return fmt.Errorf("mempool: messages of %d bytes do not fit in blocks of %d", c.MaxMessageBytes, c.MaxBlockBytes)
	case c.Set.Threshold < 1 || int64(c.Set.Threshold) > int64(n):
		return fmt.Errorf("mempool: threshold %d of %d validators", c.Set.Threshold, n)
	case c.MaxPoolBytes < 0 || c.MaxPoolMessages < 0:
		return fmt.Errorf("mempool: a pool of %d bytes and %d messages", c.MaxPoolBytes, c.MaxPoolMessages)
	case c.Storage == nil || c.Index == nil || c.Replicator == nil:
		return errors.New("mempool: storage, index and replicator are needed")
	}
	for i, v := range c.Set.Validators {
		if c.Set.Index(v.PublicKey) != i {
			return fmt.Errorf("mempool: validator %v is named twice", v.PublicKey)
		}
	}
	return nil
}

// State is how far a message has come.
type State uint8

// The states of a message.
const (
	// Unknown: neither pending nor final at this node.
	Unknown State = iota
	// Pending: in the pool.
	Pending
	// Final: in a final block.
	Final
)

// String returns the state's name as the API shows it.
func (s State) String() string {
	switch s {
	case Pending:
		return "pending"
	case Final:
		return "final"
	default:
		return "unknown"
	}
}

// Result is the state of a message.
type Result struct {
	ID    chain.Hash
	State State
	// Height and Index are the message's block and its place there, if it is Final.
	Height uint64
	Index  uint32
}
