package node

import (
	"testing"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/identity"
	"github.com/diseq/diseq/node/ledger"
	"github.com/diseq/diseq/node/mempool"
)

// The header of a block does not bind its references to batches. A final block that a peer showed
// with 1 MiB of false ones is stored, kept and served without them. Those to batches that the block
// leaves without a message to order stay.
//
// Promise 50.
func TestFalseReferencesToBatchesAreNotKept(t *testing.T) {
	network := newTestNetwork(t, 1, 1)
	n := network.open(0)
	id, err := identity.Load(network.configs[0].Keys)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.pool.Submit(t.Context(), []chain.Message{{Data: []byte("ordered")}, {Data: []byte("and this")}}); err != nil {
		t.Fatal(err)
	}
	body, err := n.pool.Select(0, 1<<20)
	if err != nil || len(body.Refs) != 1 {
		t.Fatalf("%d batches: %v", len(body.Refs), err)
	}
	block := func(height uint64, messages []chain.Message, refs []chain.BatchRef) *chain.FinalBlock {
		f := &chain.FinalBlock{Messages: messages, Block: chain.Block{Body: refs, Header: chain.Header{
			ProtocolVersion: chain.ProtocolVersion, ChainID: network.genesis.ChainID, Height: height, ParentHash: n.ledger.Tip().Hash,
			MessagesRoot: chain.MessagesRoot(messages), MessagesCount: uint32(len(messages)),
			ValidatorsHash: n.ledger.Sets().Open().Hash(), NextValidatorsHash: n.ledger.Sets().Open().Hash(),
		}}}
		f.Sign(id.Signing)
		vote := chain.Vote{Kind: chain.Finalize, Height: height, Block: f.Hash()}
		vote.Sign(id.Signing, network.genesis.ChainID)
		f.Certificate = chain.Certificate{
			Kind: chain.Finalize, Height: height, Block: f.Hash(), Votes: []chain.VoteSignature{{Signature: vote.Signature}},
		}
		// As it comes from a peer: its messages are parts of the bytes.
		decoded, err := chain.DecodeFinalBlock(f.Encode(), 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		return decoded
	}
	falsely := make([]chain.BatchRef, chain.MaxBodyRefs-1)
	for i := range falsely {
		falsely[i] = chain.BatchRef{Author: id.Public().PublicKey, Hash: chain.Hash{1, byte(i), byte(i >> 8)}}
	}
	shown := block(1, body.Messages, append(falsely, body.Refs...))
	if err := n.apply(shown, ledger.IDs(shown.Messages), nil); err != nil {
		t.Fatal(err)
	}
	stored, err := n.store.Block(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	for where, f := range map[string]*chain.FinalBlock{"on disk": stored, "in memory": n.ledger.Tip().Block} {
		if f.Hash() != shown.Hash() || len(f.Body) != 1 || f.Body[0] != body.Refs[0] || string(f.Messages[1].Data) != "and this" {
			t.Errorf("%s: block %v with %d references, want the one that its messages bear out", where, f.Hash(), len(f.Body))
		}
	}
	if a, b := &n.ledger.Tip().Block.Messages[0].Data[0], &shown.Messages[0].Data[0]; a == b {
		t.Error("the messages keep the bytes of the references alive")
	}
	empty := block(2, nil, falsely)
	if err := n.apply(empty, nil, nil); err != nil {
		t.Fatal(err)
	}
	encoded, err := n.store.EncodedBlocks(t.Context(), 2, 1, 1<<20)
	if err != nil || len(encoded[0]) > 4096 {
		t.Errorf("an empty block is served in %d bytes: %v", len(encoded[0]), err)
	}
	own := block(3, nil, nil)
	if got := mempool.BorneOut(own, nil); got != own {
		t.Error("a block without false references is copied")
	}
}
