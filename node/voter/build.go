package voter

import (
	"context"
	"fmt"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/consensus"
)

// build makes a new block on the final chain and hands it to the core.
func (v *Voter) build(ctx context.Context, a consensus.RequestBlock) {
	err := v.awaitMessages(ctx, a)
	var b *chain.Block
	if err == nil {
		b, err = v.newBlock(ctx, a.Height)
	}
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
	set, err := v.setOf(height)
	if err != nil {
		return nil, err
	}
	proposer := set.Index(v.self)
	if proposer < 0 {
		return nil, fmt.Errorf("this node is not a validator of height %d", height)
	}
	hash := set.Hash()
	b := &chain.Block{
		Header: chain.Header{
			ProtocolVersion: chain.ProtocolVersion, ChainID: v.cfg.Genesis.ChainID, Height: height, ParentHash: tip.Hash,
			Timestamp: timestamp, Proposer: uint32(proposer),
			MessagesRoot: chain.MessagesRoot(selection.Messages), MessagesCount: uint32(len(selection.Messages)),
			StateHeight: stateHeight, StateRoot: stateRoot, Beacon: beacon,
			ValidatorsHash: hash, NextValidatorsHash: hash,
		},
		Commitment: commitment,
		Body:       selection.Refs,
	}
	if commitment != nil {
		b.Header.CommitmentHash = commitment.Hash()
	}
	v.addChange(b)
	b.Sign(v.cfg.Key)
	v.prepared.put(&preparedBlock{block: b, messages: selection.Messages, ids: selection.IDs})
	return b, nil
}

// addChange puts the change into a block that this node has to order, if there is one. A change of
// an era that has ended meanwhile is left out.
func (v *Voter) addChange(b *chain.Block) {
	change := v.cfg.Change()
	if change == nil {
		return
	}
	if err := v.cfg.Ledger.Sets().Check(change, b.Header.Height); err != nil {
		v.log.Warn("change of the validator set not ordered", "height", b.Header.Height, "generation", change.Next.Generation, "err", err)
		return
	}
	b.Change = change
	b.Header.ChangeHash, b.Header.NextValidatorsHash = change.Hash(), change.Next.Set().Hash()
}
