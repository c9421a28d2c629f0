package node

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/vrf"
)

// commitments makes this validator's VRF commitments an epoch ahead, in the background, and spreads
// its own and others'. It notes when each peer acknowledged one: only then does its lack speak
// against a leader.
type commitments struct {
	n      *Node
	prover *vrf.Prover

	mu      sync.Mutex
	proving map[uint64]bool
	acked   map[chain.PublicKey]map[uint64]time.Time
}

func newCommitments(n *Node) *commitments {
	c := &commitments{n: n, proving: map[uint64]bool{}, acked: map[chain.PublicKey]map[uint64]time.Time{}}
	c.prover = vrf.NewProver(n.identity.VRF, c.proved)
	return c
}

// advance asks for the proof of an epoch whose committing validator we are. The current epoch,
// needed sooner, comes before the next one, which is asked for when the current one's is done.
func (c *commitments) advance() {
	self := c.n.set.Index(c.n.self)
	for _, e := range c.n.beacon.wanted() {
		if c.n.beacon.committer(e) != self {
			continue
		}
		c.mu.Lock()
		busy := len(c.proving) > 0
		if !busy {
			c.proving[e] = true
		}
		c.mu.Unlock()
		if x, ok := c.n.beacon.input(e); ok && !busy {
			c.prover.Submit(vrf.Request{Epoch: e, Input: x})
		}
		return
	}
}

func (c *commitments) proved(r vrf.Result) {
	c.mu.Lock()
	delete(c.proving, r.Epoch)
	c.mu.Unlock()
	if r.Err != nil {
		c.n.log.Error("VRF proof not made", "epoch", r.Epoch, "err", r.Err)
		return
	}
	c.n.metrics.proofSeconds.Observe(r.Elapsed.Seconds())
	commitment := &chain.Commitment{Epoch: r.Epoch, Validator: uint32(c.n.set.Index(c.n.self)), Output: r.Output, Proof: r.Proof}
	held, err := c.n.beacon.offer(commitment)
	if err != nil {
		c.n.log.Error("our own VRF commitment is refused", "epoch", r.Epoch, "err", err)
		return
	}
	if held {
		c.spread(commitment, c.n.self)
	}
	c.advance()
}

// received takes in a commitment from a peer, and passes on one that is new.
func (c *commitments) received(from chain.PublicKey, commitment *chain.Commitment) error {
	held, err := c.n.beacon.offer(commitment)
	if held {
		c.spread(commitment, from)
	}
	return err
}

func (c *commitments) spread(commitment *chain.Commitment, except chain.PublicKey) {
	for _, p := range c.n.transport.Peers() {
		if p.Up && p.Key != except {
			c.send(p.Key, commitment)
		}
	}
}

// send brings a commitment to one peer; what a closed link loses is sent when it opens again.
func (c *commitments) send(to chain.PublicKey, commitment *chain.Commitment) {
	c.n.tasks.Go(func() {
		ctx, cancel := context.WithTimeout(c.n.ctx, fetchTimeout)
		defer cancel()
		if err := c.n.transport.Commit(ctx, to, commitment); err != nil {
			c.n.log.Debug("commitment not sent", "to", c.n.peerName(to), "epoch", commitment.Epoch, "err", err)
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.acked[to] == nil {
			c.acked[to] = map[uint64]time.Time{}
		}
		c.acked[to][commitment.Epoch] = time.Now()
		for e := range c.acked[to] {
			if e+2 < commitment.Epoch {
				delete(c.acked[to], e)
			}
		}
	})
}

// linkUp sends a peer all that is held: it may have restarted.
func (c *commitments) linkUp(to chain.PublicKey) {
	c.mu.Lock()
	delete(c.acked, to)
	c.mu.Unlock()
	for _, commitment := range slices.Backward(c.n.beacon.commitments()) {
		c.send(to, &commitment)
	}
}

// told reports whether a peer acknowledged the commitment of an epoch at least since ago.
func (c *commitments) told(to chain.PublicKey, e uint64, since time.Duration) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	at, ok := c.acked[to][e]
	return ok && time.Since(at) >= since
}
