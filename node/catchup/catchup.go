// Package catchup fetches final blocks from peers when this node is behind, and asks the peers what
// a validator without its vote store must know before it may vote again.
//
// It promises that every block it hands over is verified against the validator set of its height
// and follows the one before, and that a block which contradicts this node's chain is reported as a
// contradiction. A peer's word alone moves nothing: a peer that claims heights and shows no blocks
// is left alone for a while. Nor does one peer hold up the others: several are asked for different
// heights, and a second one for the heights that the first brings too slowly.
//
// It cannot tell whether a validator that left long ago still keeps its key to itself: with enough
// stolen keys of an era, a thief shows blocks that verify to a node that is still there. That is
// for the checkpoint of the peers file to exclude.
//
// It does not make a block final: the voter does, so that one goroutine appends.
package catchup

import (
	"context"
	"crypto/rand"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/consensus"
	"github.com/diseq/diseq/node/internal/tasks"
	"github.com/diseq/diseq/node/internal/wait"
	"github.com/diseq/diseq/node/ledger"
	"github.com/diseq/diseq/node/verify"
)

// Network reaches the peers.
type Network interface {
	// Connected returns the peers to which there is a link.
	Connected() []chain.PublicKey
	// Status returns a peer's final height, signed over nonce.
	Status(ctx context.Context, from chain.PublicKey, nonce chain.Hash) (*chain.Status, error)
	// Blocks calls yield with a peer's final blocks from a height on, at most count, and stops at
	// its first error.
	Blocks(ctx context.Context, from chain.PublicKey, first uint64, count int, yield func(*chain.FinalBlock) error) error
}

// Config is what a Catchup is made of.
type Config struct {
	// Self is this node's key.
	Self     chain.PublicKey
	Ledger   *ledger.Ledger
	Verifier *verify.Verifier
	Network  Network
	// WaitState returns nil once the state of a height is computed.
	WaitState func(ctx context.Context, height uint64) error
	// Finals takes the verified blocks, in their order. Contradictions takes an error that ends the
	// node.
	Finals         chan<- *chain.FinalBlock
	Contradictions chan<- error
	Tasks          *tasks.Group
	// Checkpoint returns the checkpoint of the peers file, the zero value if it has none; nil for
	// none. A validator does not rejoin below it.
	Checkpoint func() chain.Checkpoint
	// Fetched counts the blocks that were handed over, Faults the answers that were given up, by
	// reason.
	Fetched prometheus.Counter
	Faults  *prometheus.CounterVec
	// Name returns the name of a peer for log lines.
	Name   func(chain.PublicKey) string
	Logger *slog.Logger
}

// Catchup follows how far the peers are and fetches the blocks that this node lacks. Its methods
// may be called from any goroutine; Run is called once.
type Catchup struct {
	cfg  Config
	wake chan struct{}

	mu sync.Mutex
	// target is the highest hint that no run has taken over.
	target uint64
	// sources are the peers that have said how far they are.
	sources map[chain.PublicKey]*source
	// showing are the peers that show many blocks at the moment.
	showing map[chain.PublicKey]bool
	// started and answered: a node that has just started does not know yet whether it is behind.
	started  time.Time
	answered map[chain.PublicKey]bool
}

const (
	// statusTimeout bounds one request for a status.
	statusTimeout = 5 * time.Second
	// failurePause is how long Run waits after no peer had anything new, hintPause how long it
	// waits between two runs in any case, so that a flood of hints makes no flood of requests.
	failurePause = 500 * time.Millisecond
	hintPause    = 50 * time.Millisecond
	// startPatience is how long a node that has just started waits for the answers of others before
	// it may call itself ready without them.
	startPatience = 1500 * time.Millisecond
	// manyBlocks is how many blocks a peer has to show before its claim alone says that this node
	// is behind.
	manyBlocks = 10
	// maxUnindexed is how far, in heights, catching up may run ahead of the trie: blocks that the
	// trie does not have yet are in memory.
	maxUnindexed = 512
)

// New returns a Catchup.
func New(cfg Config) *Catchup {
	return &Catchup{
		cfg: cfg, wake: make(chan struct{}, 1), sources: map[chain.PublicKey]*source{}, showing: map[chain.PublicKey]bool{},
		started: time.Now(), answered: map[chain.PublicKey]bool{},
	}
}

// LinkUp asks a peer how far it is: an idle network sends nothing else that shows it.
func (c *Catchup) LinkUp(to chain.PublicKey) {
	c.cfg.Tasks.Go(func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, statusTimeout)
		defer cancel()
		var nonce chain.Hash
		if _, err := rand.Read(nonce[:]); err != nil {
			return
		}
		status, err := c.cfg.Network.Status(ctx, to, nonce)
		if err != nil {
			c.cfg.Logger.Debug("status request failed", "from", c.cfg.Name(to), "err", err)
			return
		}
		if status.Height > c.cfg.Ledger.Height() {
			c.Hint(status.Height, to)
		}
		c.Heard(to, status.Height+1)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.answered[to] = true
	})
}

// KnowsPeers reports whether two peers (or the only other validator) have said since the start how
// far they are, or have had the time to. The time is short: a node must become ready while no other
// is up.
func (c *Catchup) KnowsPeers() bool {
	set := c.cfg.Ledger.Sets().Open()
	others := len(set.Validators)
	if set.Index(c.cfg.Self) >= 0 {
		others--
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.answered) >= min(2, others) || time.Since(c.started) > startPatience
}

// Heard notes that a peer is deciding height, or has decided it.
func (c *Catchup) Heard(from chain.PublicKey, height uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.claims(from, height)
}

// Final returns the last final height that a peer claims to have.
func (c *Catchup) Final(of chain.PublicKey) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.sources[of]; s != nil {
		return s.claim - min(s.claim, 1)
	}
	return 0
}

// Hint makes Run fetch blocks up to height, which a peer seems to have. The hint may be a lie.
func (c *Catchup) Hint(height uint64, from chain.PublicKey) {
	c.mu.Lock()
	c.claims(from, height)
	c.target = max(c.target, height)
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// Behind returns by how many heights at least one honest validator of the open height seems to be
// ahead. A node that is an era behind may know nobody who runs. The claim of a peer
// counts too, while the peer shows the blocks.
func (c *Catchup) Behind() uint64 {
	set, height := c.cfg.Ledger.Sets().Open(), c.cfg.Ledger.Height()
	c.mu.Lock()
	defer c.mu.Unlock()
	claims := make(map[chain.PublicKey]uint64, len(c.sources))
	for k, s := range c.sources {
		claims[k] = s.claim
	}
	by := behind(claims, set, height+1)
	for k := range c.showing {
		by = max(by, claims[k]-min(claims[k], height+1))
	}
	return by
}

// behind returns by how many heights at least one honest validator is ahead of the height that this
// node is deciding. It ignores the highest claims of as many validators as the network tolerates as
// liars: false claims must not take a node out of service.
func behind(claims map[chain.PublicKey]uint64, set *chain.ValidatorSet, deciding uint64) uint64 {
	tolerance := consensus.Tolerance(len(set.Validators), int(set.Threshold))
	byzantine := tolerance.Byzantine
	if set.SynchronyDeltaMS > 0 {
		byzantine = tolerance.ByzantineWithSynchrony
	}
	liars := max(1, min(byzantine, tolerance.Crash))
	var heights []uint64
	for k, h := range claims {
		if set.Index(k) >= 0 {
			heights = append(heights, h)
		}
	}
	slices.Sort(heights)
	if len(heights) <= liars {
		return 0
	}
	claimed := heights[len(heights)-1-liars]
	return claimed - min(claimed, deciding)
}

// Run fetches blocks at each hint, until ctx ends.
func (c *Catchup) Run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.wake:
		}
		c.catchUp(ctx)
		if wait.For(ctx, hintPause) != nil {
			return
		}
	}
}
