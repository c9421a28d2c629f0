// Package gossip spreads what every validator should have before a block needs it: VRF commitments
// and batches of messages.
//
// It promises that every peer with a link is offered all that this node has and that the peer may
// lack: at once when it is new, again when the link opens. It keeps nothing on disk and decides
// nothing: a commitment or a batch that does not arrive costs entropy or time, never agreement.
package gossip

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/internal/tasks"
	"github.com/diseq/diseq/node/ledger"
	"github.com/diseq/diseq/node/vrf"
)

// Network reaches the peers.
type Network interface {
	// Connected returns the peers to which there is a link.
	Connected() []chain.PublicKey
	// Commit brings a VRF commitment to a peer and returns nil once the peer has accepted it.
	Commit(ctx context.Context, to chain.PublicKey, c *chain.Commitment) error
	// Push queues a batch for a peer, after a wait for room. It fails if the link is down.
	Push(ctx context.Context, to chain.PublicKey, hash chain.Hash, encoded []byte) error
}

// CommitmentsConfig is what Commitments are made of.
type CommitmentsConfig struct {
	// Self is this node's key, Key that which its reveals are proved with.
	Self chain.PublicKey
	Key  vrf.SecretKey
	// Prove makes the proofs. If nil, they are made in this process.
	Prove   vrf.Proving
	Beacon  *ledger.Beacon
	Network Network
	Tasks   *tasks.Group
	// ProofSeconds observes the time that each proof takes.
	ProofSeconds prometheus.Observer
	// Name returns the name of a peer for log lines.
	Name   func(chain.PublicKey) string
	Logger *slog.Logger
}

// Commitments makes this node's VRF commitments an epoch ahead, in the background, and passes on
// its own and those of others. A node that has left the validator set makes those that are due. It
// notes when each peer acknowledged one: only then may a leader be blamed for a block without it.
type Commitments struct {
	cfg    CommitmentsConfig
	prover *vrf.Prover

	mu           sync.Mutex
	proving      map[uint64]bool
	acknowledged map[chain.PublicKey]map[uint64]time.Time
}

// sendTimeout bounds one attempt to bring a commitment to a peer.
const sendTimeout = 5 * time.Second

// NewCommitments returns Commitments that prove nothing until Run and Advance.
func NewCommitments(cfg CommitmentsConfig) *Commitments {
	c := &Commitments{cfg: cfg, proving: map[uint64]bool{}, acknowledged: map[chain.PublicKey]map[uint64]time.Time{}}
	c.prover = vrf.NewProver(cfg.Key, cfg.Prove, c.proved)
	return c
}

// Run makes the proofs that Advance asks for, until ctx ends.
func (c *Commitments) Run(ctx context.Context) { c.prover.Run(ctx) }

// Advance asks for the proof of an epoch whose committing validator is this node, if one is wanted.
// The current epoch's is needed sooner and comes first; the next epoch's follows when it is done.
func (c *Commitments) Advance() {
	for _, e := range c.cfg.Beacon.Wanted() {
		if committer, ok := c.cfg.Beacon.Committer(e); !ok || committer.PublicKey != c.cfg.Self {
			continue
		}
		c.mu.Lock()
		busy := len(c.proving) > 0
		if !busy {
			c.proving[e] = true
		}
		c.mu.Unlock()
		if x, ok := c.cfg.Beacon.Input(e); ok && !busy {
			c.prover.Submit(vrf.Request{Epoch: e, Input: x})
		}
		return
	}
}

func (c *Commitments) proved(r vrf.Result) {
	c.mu.Lock()
	delete(c.proving, r.Epoch)
	c.mu.Unlock()
	if r.Err != nil {
		c.cfg.Logger.Error("VRF proof failed", "epoch", r.Epoch, "err", r.Err)
		return
	}
	c.cfg.ProofSeconds.Observe(r.Elapsed.Seconds())
	self, _ := c.cfg.Beacon.Committer(r.Epoch) // it was this node when the proof began, and is for good
	commitment := &chain.Commitment{Epoch: r.Epoch, Validator: self.Index, Output: chain.VRFOutput(r.Output), Proof: r.Proof}
	added, err := c.cfg.Beacon.Offer(commitment)
	if err != nil {
		c.cfg.Logger.Error("this node's own VRF commitment does not verify", "epoch", r.Epoch, "err", err)
		return
	}
	if added {
		c.spread(commitment, c.cfg.Self)
	}
	c.Advance()
}

// Receive verifies a commitment from a peer, and passes it on if it is new. The error wraps
// vrf.ErrInvalid if the proof is wrong.
func (c *Commitments) Receive(from chain.PublicKey, commitment *chain.Commitment) error {
	added, err := c.cfg.Beacon.Offer(commitment)
	if added {
		c.spread(commitment, from)
	}
	return err
}

func (c *Commitments) spread(commitment *chain.Commitment, except chain.PublicKey) {
	for _, to := range c.cfg.Network.Connected() {
		if to != except {
			c.send(to, commitment)
		}
	}
}

// send brings a commitment to one peer. If the link closes meanwhile, LinkUp sends it again.
func (c *Commitments) send(to chain.PublicKey, commitment *chain.Commitment) {
	c.cfg.Tasks.Go(func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, sendTimeout)
		defer cancel()
		if err := c.cfg.Network.Commit(ctx, to, commitment); err != nil {
			c.cfg.Logger.Debug("VRF commitment not sent", "to", c.cfg.Name(to), "epoch", commitment.Epoch, "err", err)
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.acknowledged[to] == nil {
			c.acknowledged[to] = map[uint64]time.Time{}
		}
		c.acknowledged[to][commitment.Epoch] = time.Now()
		for e := range c.acknowledged[to] {
			if e+2 < commitment.Epoch {
				delete(c.acknowledged[to], e)
			}
		}
	})
}

// LinkUp sends a peer every commitment: it may have restarted.
func (c *Commitments) LinkUp(to chain.PublicKey) {
	c.mu.Lock()
	delete(c.acknowledged, to)
	c.mu.Unlock()
	for _, commitment := range slices.Backward(c.cfg.Beacon.Commitments()) {
		c.send(to, &commitment)
	}
}

// Acknowledged reports whether a peer acknowledged the commitment of an epoch at least age ago.
func (c *Commitments) Acknowledged(by chain.PublicKey, epoch uint64, age time.Duration) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	at, ok := c.acknowledged[by][epoch]
	return ok && time.Since(at) >= age
}
