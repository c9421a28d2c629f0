package voter

import (
	"context"
	"fmt"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/consensus"
)

// build makes a new block on the final chain and hands it to the core.
func (v *Voter) build(ctx context.Context, a consensus.RequestBlock) {
	b, err := v.newBlock(ctx, a.Height)
	if err != nil {
		if ctx.Err() == nil {
			v.log.Warn("no block built: this validator's round passes without a proposal", "height", a.Height, "round", a.Round, "err", err)
		}
		return
	}
	v.Post(consensus.BlockBuilt{Round: a.Round, Block: b})
}

func (v *Voter) newBlock(ctx context.Context, height uint64) (*chain.Block, error) {
	tip := v.cfg.Ledger.Tip()
	parent := &tip.Block.Header
	if height != parent.Height+1 {
		return nil, fmt.Errorf("asked for a block at height %d on height %d", height, parent.Height)
	}
	// The trie may be behind the chain, but not by more than a header may be.
	if err := v.cfg.State.Wait(ctx, height-min(height, chain.MaxStateLag)); err != nil {
		return nil, err
	}
	stateHeight, stateRoot := v.cfg.State.Newest()
	if stateHeight < parent.StateHeight {
		// Other validators are ahead: the block certifies again what its parent certifies.
		stateHeight, stateRoot = parent.StateHeight, parent.StateRoot
	}
	beacon, err := v.cfg.Ledger.Beacon().At(height)
	if err != nil {
		return nil, err
	}
	selection, err := v.cfg.Pool.Select(parent.Height, int(v.cfg.Genesis.Parameters.MaxBlockBytes))
	if err != nil {
		return nil, err
	}
	commitment := v.cfg.Ledger.Beacon().ForBlock(height)
	timestamp := max(uint64(max(v.cfg.Now().UnixMilli(), 0)), parent.Timestamp+1)
	if max(height, timestamp) > chain.MaxNumber {
		return nil, fmt.Errorf("block at height %d with timestamp %d: at most %d allowed", height, timestamp, uint64(chain.MaxNumber))
	}
	set := v.set.Hash()
	b := &chain.Block{
		Header: chain.Header{
			ProtocolVersion: chain.ProtocolVersion, ChainID: v.cfg.Genesis.ChainID, Height: height, ParentHash: tip.Hash,
			Timestamp: timestamp, Proposer: uint32(v.set.Index(v.self)),
			MessagesRoot: chain.MessagesRoot(selection.Messages), MessagesCount: uint32(len(selection.Messages)),
			StateHeight: stateHeight, StateRoot: stateRoot, Beacon: beacon,
			ValidatorsHash: set, NextValidatorsHash: set,
		},
		Commitment: commitment,
		Body:       selection.Refs,
	}
	if commitment != nil {
		b.Header.CommitmentHash = commitment.Hash()
	}
	b.Sign(v.cfg.Key)
	v.prepared.put(&preparedBlock{block: b, messages: selection.Messages, ids: selection.IDs})
	return b, nil
}
