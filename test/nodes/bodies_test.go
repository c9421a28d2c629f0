package nodes

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/vrf"
)

// The header does not bind the list of batches. A Byzantine leader sends one validator a list that
// gives other messages, another a list that names a batch which nobody has, and these lists again
// to everyone that fetches the block. The others finalize the block only with the vote of one of
// the two. All have the block, and no node stops.
//
// Promise 5.
// Promise 33.
func TestALeaderThatSendsOtherListsOfBatchesStopsNobody(t *testing.T) {
	bubble(t, *firstSeed, spec{validators: 6, threshold: 4}, func(w *world) {
		thief := w.nodes[vrf.LeaderOrder(w.genesis.ChainID, w.genesis.Hash(), 1, len(w.nodes))[0]]
		w.nodes = nil
		for _, m := range w.all {
			if m != thief {
				w.nodes = append(w.nodes, m)
			}
		}
		g := w.invite(thief.name, thief.identity)
		w.start(w.nodes...)
		time.Sleep(3 * time.Second)

		batch := func(number uint64, text string) (chain.BatchRef, []chain.Message) {
			b := &chain.Batch{Incarnation: 1, Number: number, Messages: []chain.Message{{Data: []byte(text)}}}
			b.Sign(thief.identity.Signing, w.genesis.ChainID)
			hash := b.Hash(w.genesis.ChainID)
			g.PushBatch(hash, b.Encode())
			return chain.BatchRef{Author: thief.key(), Hash: hash}, b.Messages
		}
		ref, messages := batch(1, "ordered")
		other, _ := batch(2, "not ordered yet")
		time.Sleep(100 * time.Millisecond) // the batches arrive

		right := w.proposal(thief, &chain.FinalBlock{Block: chain.Block{Header: w.genesis.Header()}}, 0)
		right.Block.Header.Beacon = w.genesis.Hash()
		right.Block.Header.MessagesRoot, right.Block.Header.MessagesCount = chain.MessagesRoot(messages), uint32(len(messages))
		right.Block.Body = []chain.BatchRef{ref}
		right.Block.Sign(thief.identity.Signing)
		right.Statement.Block = right.Block.Hash()
		right.Statement.Sign(thief.identity.Signing, w.genesis.ChainID)
		with := func(body ...chain.BatchRef) *chain.Proposal {
			p := *right
			p.Block.Body = body
			return &p
		}
		misfit, unknown := with(other), with(chain.BatchRef{Author: thief.key(), Hash: chain.Hash{1}})
		g.lies(&misfit.Block, &unknown.Block)
		for i, m := range w.nodes {
			g.Send(m.key(), &chain.Bundle{Proposals: []*chain.Proposal{[]*chain.Proposal{misfit, unknown, right, right, right}[i]}})
		}
		vote := chain.Vote{Kind: chain.Notarize, Height: 1, Block: right.Statement.Block, Validator: uint32(thief.index)}
		vote.Sign(thief.identity.Signing, w.genesis.ChainID)
		g.Broadcast(&chain.Bundle{Votes: []chain.Vote{vote}})

		w.eventually(time.Minute, "all have the block", func() error {
			for _, m := range w.nodes {
				if b, err := m.client.Block(w.ctx, 1); err != nil || b.Header.Hash() != right.Statement.Block {
					return fmt.Errorf("%s: %+v, %w", m.name, b, err)
				}
			}
			return nil
		})
		if log := w.nodes[0].log.String(); !strings.Contains(log, "dropped the body of a block") {
			t.Errorf("%s did not look at the wrong list; its log:\n%s", w.nodes[0].name, log)
		}
		_, err := w.nodes[0].client.SubmitWait(w.ctx, []byte("the network goes on"))
		w.must(err)
	})
}
