package voter

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/consensus"
	"github.com/diseq/diseq/node/internal/tasks"
	"github.com/diseq/diseq/node/mempool"
)

const (
	// fetchTimeout bounds one attempt to get something from one peer.
	fetchTimeout = 5 * time.Second
	// fetchLead is how long the first peer that is asked has before the next one is asked as well.
	fetchLead = 500 * time.Millisecond
)

// resolve returns a block with its messages. It fetches batches that are not on their way from
// validators that voted for the block. Each attempt begins with another of them: one that brings
// little, or late, holds up the check for its own turn only.
func (v *Voter) resolve(ctx context.Context, c *check, b *chain.Block) (*preparedBlock, error) {
	holders := <-c.holders
	for attempt := 0; ; attempt++ {
		body, missing, err := v.resolveNow(ctx, b)
		if err != nil {
			return nil, err
		}
		if len(missing) == 0 {
			return &preparedBlock{block: b, messages: body.Messages, ids: body.IDs}, nil
		}
		if v.fetchBatches(ctx, turned(v.sources(holders), attempt), missing) {
			continue
		}
		// No holder had anything: the core names other holders at T_retry.
		t := time.NewTimer(consensus.DefaultRetryInterval)
		select {
		case <-ctx.Done():
			t.Stop()
			return nil, ctx.Err()
		case holders = <-c.holders:
		case <-t.C:
		}
		t.Stop()
	}
}

func (v *Voter) resolveNow(ctx context.Context, b *chain.Block) (mempool.Body, []chain.BatchRef, error) {
	body, missing, err := v.cfg.Pool.Resolve(ctx, b.Header.Height-1, b.Body)
	if errors.Is(err, mempool.ErrBody) {
		err = &misfitError{err}
	}
	if err == nil && len(missing) > 0 {
		err = ctx.Err()
	}
	return body, missing, err
}

// sources returns the peers to fetch something from: the holders without this node, or every
// connected peer if there are none.
func (v *Voter) sources(holders []chain.PublicKey) []chain.PublicKey {
	holders = slices.DeleteFunc(slices.Clone(holders), func(k chain.PublicKey) bool { return k == v.self })
	if len(holders) > 0 {
		return holders
	}
	return v.cfg.Network.Connected()
}

// turned returns the sources from another one on.
func turned(sources []chain.PublicKey, by int) []chain.PublicKey {
	if len(sources) == 0 {
		return nil
	}
	by %= len(sources)
	return slices.Concat(sources[by:], sources[:by])
}

// fetchBatches fetches batches into the pool, from the first peer that has some of them. It returns
// false if none sent any, or each a wrong one.
func (v *Voter) fetchBatches(ctx context.Context, sources []chain.PublicKey, refs []chain.BatchRef) bool {
	hashes := make([]chain.Hash, len(refs))
	for i, r := range refs {
		hashes[i] = r.Hash
	}
	return tasks.Race(ctx, sources, fetchLead, func(ctx context.Context, from chain.PublicKey) (count int, err error) {
		ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
		defer cancel()
		err = v.cfg.Network.Batches(ctx, from, hashes, func(_ chain.Hash, encoded []byte) error {
			count++
			return v.cfg.Pool.ReceiveFetched(ctx, from, encoded)
		})
		return count, err
	}, func(from chain.PublicKey, count int, err error) bool {
		if err != nil {
			v.log.Debug("batches not fetched", "from", v.cfg.Name(from), "batches", len(hashes), "err", err)
		}
		return err == nil && count > 0
	})
}

// fetch gets a block that others have certified. If none of them has it as a proposal any more, it
// is final there: then catching up fetches it.
func (v *Voter) fetch(a consensus.FetchBlock) {
	ctx := v.deciding
	v.cfg.Tasks.Go(func(context.Context) {
		tasks.Race(ctx, v.sources(a.Holders), fetchLead, func(ctx context.Context, holder chain.PublicKey) (*chain.Block, error) {
			ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
			defer cancel()
			return v.cfg.Network.Block(ctx, holder, a.Block)
		}, func(holder chain.PublicKey, b *chain.Block, err error) bool {
			if err == nil {
				v.Post(consensus.BlockFetched{Block: b})
				return true
			}
			if ctx.Err() == nil {
				v.log.Debug("block not fetched", "height", a.Height, "block", a.Block, "from", v.cfg.Name(holder), "err", err)
				v.cfg.CatchUp(a.Height, holder)
			}
			return false
		})
	})
}
