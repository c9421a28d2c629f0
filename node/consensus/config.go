package consensus

import (
	"fmt"
	"slices"
	"time"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/internal/mutation"
)

// Config does not change while a Core lives.
type Config struct {
	ChainID string
	// PublicKey is this node's identity. At a height whose set holds it the node is a validator,
	// otherwise an observer.
	PublicKey chain.PublicKey
	// Sign sets the signature of a vote. It is deterministic (RFC 8032) and does not block. Without
	// it the node only observes.
	Sign func(*chain.Vote)
	// VoteFrom is the lowest height at which this node votes and proposes: above 0 while it is
	// Rejoining.
	VoteFrom uint64
	// RoundTimeout is T_round of round 0 after MinBlockInterval, at least three one-way delays.
	// Every later round takes 1.5 times as long, up to MaxRoundTimeout. All validators of a chain
	// use the same three values.
	RoundTimeout    time.Duration
	MaxRoundTimeout time.Duration
	// RetryInterval is T_retry.
	RetryInterval time.Duration
	// MinBlockInterval is how long the leader of round 0 waits from the start of the height, unless
	// a block is full.
	MinBlockInterval time.Duration
	// Mutation takes rules away from this validator, for the simulator and for tests.
	Mutation mutation.Rules
}

// DefaultRetryInterval is T_retry unless it is configured.
const DefaultRetryInterval = time.Second

func (c *Config) validate() error {
	if c.RoundTimeout < time.Millisecond || c.MaxRoundTimeout < c.RoundTimeout {
		return fmt.Errorf("round timeouts %v to %v, want 1ms <= first <= last", c.RoundTimeout, c.MaxRoundTimeout)
	}
	if c.RetryInterval <= 0 {
		return fmt.Errorf("retry interval %v, want more than 0", c.RetryInterval)
	}
	if c.MinBlockInterval < 0 {
		return fmt.Errorf("minimum block interval %v, want 0 or more", c.MinBlockInterval)
	}
	return nil
}

// Height describes a height to decide. All of it follows from the final block below.
type Height struct {
	Number uint64
	// Parent is the hash of the final block below.
	Parent chain.Hash
	// Set decides the height. It differs from the set of the height below if the block below
	// carries a change.
	Set *chain.ValidatorSet
	// Order is the height's permutation of the validators' indices: the leader of round r is
	// Order[r mod n].
	Order []int
	// Last is the finalization of the block below, as strong as held; nil at height 1.
	Last *chain.Certificate
}

func (p *Height) validate() error {
	if p.Number == 0 {
		return fmt.Errorf("height 0 is the genesis: it is not decided by votes")
	}
	// The keys were validated when the set came in: at each height that would be too much.
	if err := p.Set.CheckForm(); err != nil {
		return err
	}
	order := slices.Sorted(slices.Values(p.Order))
	if len(order) != len(p.Set.Validators) {
		return fmt.Errorf("leader order names %d validators, want the %d of the set", len(order), len(p.Set.Validators))
	}
	for i, v := range order {
		if i != v {
			return fmt.Errorf("leader order %v does not name each of %d validators once", p.Order, len(order))
		}
	}
	if p.Number > 1 && (p.Last == nil || p.Last.Kind != chain.Finalize || p.Last.Height != p.Number-1 || p.Last.Block != p.Parent) {
		return fmt.Errorf("height %d starts without the finalization of block %v below", p.Number, p.Parent)
	}
	return nil
}
