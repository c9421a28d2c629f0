package ledger

import (
	"context"
	"fmt"
	"sync"

	"github.com/diseq/diseq/node/chain"
)

// changes keeps what receipts say about the changes of the validator set: one step for each
// generation above 0. A receipt would else read as many blocks from the disk as there are changes.
type changes struct {
	mu    sync.Mutex
	steps []chain.ValidatorSetChange
	// stronger are certificates of blocks with a change that have more votes than the store may
	// have yet.
	stronger map[uint64]*chain.Certificate
}

// strengthen notes a stronger certificate of a block that carries a change.
func (c *changes) strengthen(generation uint32, stronger *chain.Certificate) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if old := c.stronger[stronger.Height]; old == nil || len(old.Votes) < len(stronger.Votes) {
		c.stronger[stronger.Height] = stronger
	}
	if int(generation) > len(c.steps) {
		return
	}
	// The steps up to this one are shared with readers.
	steps := append([]chain.ValidatorSetChange{}, c.steps...)
	c.strongest(&steps[generation-1])
	c.steps = steps
}

func (c *changes) strongest(step *chain.ValidatorSetChange) {
	s := c.stronger[step.Header.Height]
	if s != nil && len(s.Votes) > len(step.Certificate.Votes) && s.Block == step.Certificate.Block {
		step.Certificate = chain.ReceiptCertificate{Certificate: *s, Strength: len(s.Votes)}
	}
}

// add keeps the step to a generation, unless another reader was faster, and returns all that are
// kept.
func (c *changes) add(generation uint32, step chain.ValidatorSetChange) []chain.ValidatorSetChange {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.steps)+1 == int(generation) {
		c.strongest(&step)
		c.steps = append(c.steps, step)
	}
	return c.steps
}

func (c *changes) kept() []chain.ValidatorSetChange {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.steps
}

// steps returns those to all generations up to one, each with the strongest finalization.
func (l *Ledger) steps(ctx context.Context, to uint32) ([]chain.ValidatorSetChange, error) {
	steps := l.changes.kept()
	for g := uint32(len(steps)) + 1; g <= to; g++ {
		_, height, ok := l.sets.ByGeneration(g)
		next, _ := l.sets.At(height + 1)
		if !ok {
			return nil, fmt.Errorf("generation %d of the validator set is not decided yet", g)
		}
		head, err := l.store.Head(ctx, height)
		if err != nil {
			return nil, err
		}
		c, err := l.store.Certificate(ctx, height)
		if err != nil {
			return nil, err
		}
		steps = l.changes.add(g, chain.ValidatorSetChange{
			Header: head.Header, Certificate: chain.ReceiptCertificate{Certificate: *c, Strength: len(c.Votes)}, Next: *next,
		})
	}
	return steps[:to:to], nil
}

// ChangesTo returns the changes that lead from the set of a generation to the set that decides a
// height: from 0 on those that lead there from genesis. There are none if the set of the height is
// of that generation or an earlier one.
func (l *Ledger) ChangesTo(ctx context.Context, height uint64, from uint32) ([]chain.ValidatorSetChange, error) {
	set, ok := l.sets.At(height)
	if !ok {
		return nil, fmt.Errorf("the validator set of height %d is not decided yet", height)
	}
	steps, err := l.steps(ctx, set.Generation)
	if err != nil {
		return nil, err
	}
	return steps[min(from, set.Generation):], nil
}

// Changes returns at most limit changes of the validator set, from that to a generation on, whole
// and with their strongest finalizations.
func (l *Ledger) Changes(ctx context.Context, from uint32, limit int) ([]chain.FinalChange, error) {
	newest := l.sets.Open().Generation
	from = max(from, 1)
	if from > newest || limit <= 0 {
		return nil, nil
	}
	to := uint32(min(uint64(from)+uint64(limit)-1, uint64(newest)))
	steps, err := l.steps(ctx, to)
	if err != nil {
		return nil, err
	}
	out := make([]chain.FinalChange, 0, to-from+1)
	for _, step := range steps[from-1:] {
		head, err := l.store.Head(ctx, step.Header.Height)
		if err != nil {
			return nil, err
		}
		c, err := chain.NewFinalChange(head, &step.Certificate.Certificate)
		if err != nil {
			return nil, err
		}
		out = append(out, *c)
	}
	return out, nil
}
