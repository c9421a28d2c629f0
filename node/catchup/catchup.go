// Package catchup fetches final blocks from peers when this node is behind, and asks the peers what
// a validator without its vote store must know before it may vote again.
//
// It promises that every block it hands over is verified against the validator set of its height
// and follows the one before, and that a block which contradicts this node's chain is reported as a
// contradiction. A peer's word alone moves nothing: a peer that claims heights and shows no blocks
// is left alone for a while.
//
// It cannot tell whether a validator that left long ago still keeps its key to itself: with enough
// stolen keys of an era, a thief shows blocks that verify to a node that is still there. That is
// for the checkpoint of the peers file to exclude.
//
// It does not make a block final: the voter does, so that one goroutine appends.
package catchup

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
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
	// Fetched counts the blocks that became final by catching up.
	Fetched prometheus.Counter
	// Name returns the name of a peer for log lines.
	Name   func(chain.PublicKey) string
	Logger *slog.Logger
}

// Catchup follows how far the peers are and fetches the blocks that this node lacks. Its methods
// may be called from any goroutine; Run is called once.
type Catchup struct {
	cfg  Config
	wake chan struct{}

	mu     sync.Mutex
	target uint64
	// claims are the heights that the peers are deciding, or are above, by what they sent.
	claims map[chain.PublicKey]uint64
	// showing is the peer that shows many blocks in a row at the moment, if there is one.
	showing *chain.PublicKey
	// started and answered: a node that has just started does not know yet whether it is behind.
	started  time.Time
	answered map[chain.PublicKey]bool
}

const (
	// rangeBlocks is how many blocks one request asks for, rangeTimeout bounds the request.
	rangeBlocks  = 256
	rangeTimeout = 30 * time.Second
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
		cfg: cfg, wake: make(chan struct{}, 1), claims: map[chain.PublicKey]uint64{},
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
	if c.claims[from] < height {
		c.claims[from] = height
	}
}

// Final returns the last final height that a peer claims to have.
func (c *Catchup) Final(of chain.PublicKey) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.claims[of] - min(c.claims[of], 1)
}

// Hint makes Run fetch blocks up to height, which a peer seems to have. The hint may be a lie.
func (c *Catchup) Hint(height uint64, from chain.PublicKey) {
	c.mu.Lock()
	c.claims[from] = max(c.claims[from], height)
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
	by := behind(c.claims, set, height+1)
	if c.showing != nil {
		claimed := c.claims[*c.showing]
		by = max(by, claimed-min(claimed, height+1))
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
		c.mu.Lock()
		c.target = 0
		c.mu.Unlock()
		if wait.For(ctx, hintPause) != nil {
			return
		}
	}
}

// wanted returns the height to reach and the peers that claim blocks above the tip, highest first.
func (c *Catchup) wanted() (target uint64, peers []chain.PublicKey) {
	c.mu.Lock()
	defer c.mu.Unlock()
	height := c.cfg.Ledger.Height()
	for k, h := range c.claims {
		if h > height {
			peers = append(peers, k)
		}
	}
	slices.SortFunc(peers, func(a, b chain.PublicKey) int { return cmp.Compare(c.claims[b], c.claims[a]) })
	return c.target, peers
}

// catchUp asks one peer after the other until none brings anything new.
func (c *Catchup) catchUp(ctx context.Context) {
	defer c.shows(nil)
	for ctx.Err() == nil {
		target, peers := c.wanted()
		before := c.cfg.Ledger.Height()
		if before >= target {
			return
		}
		progress := slices.ContainsFunc(peers, func(from chain.PublicKey) bool {
			count, err := c.fetch(ctx, from, before)
			if err != nil && ctx.Err() == nil {
				c.cfg.Logger.Debug("catching up failed", "from", c.cfg.Name(from), "height", before+1, "err", err)
				c.disbelieve(from)
			}
			return count > 0
		})
		if !progress {
			_ = wait.For(ctx, failurePause) // the next message from above is the next hint
			return
		}
	}
}

// disbelieve drops what a peer claimed and did not show.
func (c *Catchup) disbelieve(from chain.PublicKey) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.claims[from] = 0
}

// fetch gets the blocks above height from a peer and hands them over. It returns how many were
// good.
func (c *Catchup) fetch(ctx context.Context, from chain.PublicKey, height uint64) (count int, err error) {
	ctx, cancel := context.WithTimeout(ctx, rangeTimeout)
	defer cancel()
	tip := c.cfg.Ledger.Tip()
	parent := tip.Hash
	if tip.Height() != height {
		return 0, nil
	}
	set, _ := c.cfg.Ledger.Sets().At(height + 1)
	err = c.cfg.Network.Blocks(ctx, from, height+1, rangeBlocks, func(f *chain.FinalBlock) error {
		if f.Header.Height != height+1 {
			return fmt.Errorf("block at height %d, want height %d", f.Header.Height, height+1)
		}
		if err := c.cfg.Verifier.Final(f, set); err != nil {
			return err
		}
		if f.Header.ParentHash != parent {
			// Its signers made another block final at the height below: the chain has forked, and
			// the two sides grew while they did not hear each other.
			return c.contradict(ctx, f, fmt.Errorf("contradiction: block %v is final at height %d on %v, the final block below it is %v here",
				f.Hash(), f.Header.Height, f.Header.ParentHash, parent))
		}
		if err := c.checkChange(ctx, f, set); err != nil {
			return err
		}
		height, parent = f.Header.Height, f.Hash()
		if err := c.cfg.WaitState(ctx, height-min(height, maxUnindexed)); err != nil {
			return err
		}
		select {
		case c.cfg.Finals <- f:
		case <-ctx.Done():
			return ctx.Err()
		}
		if count++; count == manyBlocks {
			c.shows(&from)
		}
		if f.Change == nil {
			return nil
		}
		if err := c.cfg.Ledger.Wait(ctx, height); err != nil {
			return err
		}
		set, _ = c.cfg.Ledger.Sets().At(height + 1)
		return nil
	})
	if count < rangeBlocks {
		defer c.shows(nil) // it has no more, once those are final
	}
	if count > 0 {
		// The voter has not taken every block yet. Asked for again now, they would be fetched
		// twice.
		if err := c.cfg.Ledger.Wait(ctx, height); err != nil {
			return count, err
		}
		c.cfg.Fetched.Add(float64(count))
	}
	return count, err
}

func (c *Catchup) shows(from *chain.PublicKey) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.showing = from
}

// checkChange checks the set that a verified final block names for the next height against the set
// of its own and all those before. A block that breaks these rules and is final all the same has
// enough signers that are faulty.
func (c *Catchup) checkChange(ctx context.Context, f *chain.FinalBlock, set *chain.ValidatorSet) error {
	h := &f.Header
	next, err := h.ValidatorsHash, error(nil)
	if f.Change != nil {
		next = f.Change.Next.Set().Hash()
		// The blocks handed over before are final here in a moment. The change is judged by the
		// sets up to it.
		if err := c.cfg.Ledger.Wait(ctx, h.Height-1); err != nil {
			return err
		}
		err = c.cfg.Ledger.Sets().Check(f.Change, h.Height)
	}
	if err == nil && h.NextValidatorsHash != next {
		err = fmt.Errorf("the header names validator set %v for the next height, the chain leads to %v", h.NextValidatorsHash, next)
	}
	if err == nil {
		return nil
	}
	return c.contradict(ctx, f, fmt.Errorf(
		"contradiction: block %v is final at height %d and its change of the set of generation %d is invalid here: %w",
		f.Hash(), h.Height, set.Generation, err))
}

// contradict reports that a verified final block cannot be on this node's chain, which ends the
// node, and returns the error. Below the checkpoint that proves nothing: thieves of old keys sign
// such blocks. Then the block is no more than a lie of the peer that showed it.
func (c *Catchup) contradict(ctx context.Context, f *chain.FinalBlock, err error) error {
	if at := c.checkpoint(); f.Header.Height < at.Height || f.Header.Height == at.Height && f.Hash() != at.Hash {
		c.cfg.Logger.Warn("a peer shows another chain below the checkpoint: its blocks are refused. "+
			"If all peers show that chain, this node followed a forged one: keep its data directory and start it on an empty one",
			"height", f.Header.Height, "checkpoint", at.Height, "err", err)
		return err
	}
	select {
	case c.cfg.Contradictions <- err:
	case <-ctx.Done():
	}
	return err
}

// ErrNoCopy is wrapped by Block when no peer that this node reaches has shown a block that could be
// used.
var ErrNoCopy = errors.New("no peer has shown the block")

// Block fetches the final block of a height, at most that of the last final one, from one peer
// after the other until use takes a copy. Each copy is verified by its certificate; whether it fits
// this node's chain is for use to judge.
func (c *Catchup) Block(ctx context.Context, height uint64, use func(*chain.FinalBlock) error) error {
	failed := fmt.Errorf("block %d: %w", height, ErrNoCopy)
	for _, from := range c.cfg.Network.Connected() {
		f, err := c.one(ctx, from, height)
		if err == nil {
			err = use(f)
		}
		if err == nil {
			return nil
		}
		failed = fmt.Errorf("%w; %s: %w", failed, c.cfg.Name(from), err)
	}
	return failed
}

func (c *Catchup) one(ctx context.Context, from chain.PublicKey, height uint64) (found *chain.FinalBlock, err error) {
	ctx, cancel := context.WithTimeout(ctx, rangeTimeout)
	defer cancel()
	set, ok := c.cfg.Ledger.Sets().At(height)
	if !ok {
		return nil, fmt.Errorf("the validator set of height %d is not known", height)
	}
	err = c.cfg.Network.Blocks(ctx, from, height, 1, func(f *chain.FinalBlock) error {
		if f.Header.Height != height {
			return fmt.Errorf("block at height %d, want height %d", f.Header.Height, height)
		}
		if err := c.cfg.Verifier.Final(f, set); err != nil {
			return err
		}
		found = f
		return nil
	})
	if err == nil && found == nil {
		err = errors.New("it has no such block")
	}
	return found, err
}
