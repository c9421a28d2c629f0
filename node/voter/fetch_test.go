package voter

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/consensus"
	"github.com/diseq/diseq/node/internal/wait"
)

// holders are peers that serve batches and a block, each in its own way.
type holders struct {
	*fakeNetwork
	batches map[chain.Hash][]byte
	block   *chain.Block
	// takes is the time that a peer takes to answer, most the number of batches that it sends.
	takes map[chain.PublicKey]time.Duration
	most  map[chain.PublicKey]int
}

func (h *holders) Batches(ctx context.Context, from chain.PublicKey, hashes []chain.Hash, yield func(chain.Hash, []byte) error) error {
	if err := wait.For(ctx, h.takes[from]); err != nil {
		return err
	}
	most, ok := h.most[from]
	for i, hash := range hashes {
		if ok && i == most {
			break
		}
		if err := yield(hash, h.batches[hash]); err != nil {
			return err
		}
	}
	return nil
}

func (h *holders) Block(ctx context.Context, from chain.PublicKey, _ chain.Hash) (*chain.Block, error) {
	if err := wait.For(ctx, h.takes[from]); err != nil {
		return nil, err
	}
	return h.block, nil
}

// A validator that says that it has a block, and is silent when asked for it or its batches, or
// sends one batch at a time just before it is given up, costs a moment.
//
// Promise 5.
// Promise 33.
func TestAHolderThatAnswersSlowlyCostsAMoment(t *testing.T) {
	for name, liar := range map[string]struct {
		takes time.Duration
		most  int
	}{
		"silent":                        {time.Hour, 0},
		"one batch at a time":           {0, 1},
		"one batch at a time, and late": {fetchTimeout - time.Millisecond, 1},
		"nothing":                       {0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRoom(t, 4, 3, 0)
				network := &holders{
					fakeNetwork: r.cfg.Network.(*fakeNetwork), batches: map[chain.Hash][]byte{},
					takes: map[chain.PublicKey]time.Duration{}, most: map[chain.PublicKey]int{},
				}
				r.cfg.Network = network
				b := &chain.Block{Header: chain.Header{Height: 1}}
				for i := range 20 {
					batch := &chain.Batch{Incarnation: 1, Number: uint64(i + 1), Messages: []chain.Message{{Data: fmt.Append(nil, "message ", i)}}}
					batch.Sign(r.keys[1], r.genesis.ChainID)
					hash := batch.Hash(r.genesis.ChainID)
					network.batches[hash] = batch.Encode()
					b.Body = append(b.Body, chain.BatchRef{Author: r.members[1].PublicKey, Hash: hash})
				}
				network.block = b
				a, honest := r.members[1].PublicKey, r.members[2].PublicKey
				network.takes[a], network.most[a] = liar.takes, liar.most
				c := &check{holders: make(chan []chain.PublicKey, 1)}
				c.holders <- []chain.PublicKey{a, honest}
				began := time.Now()
				p, err := r.resolve(t.Context(), c, b)
				if err != nil || len(p.messages) != 20 {
					t.Fatalf("%+v, %v", p, err)
				}
				if took := time.Since(began); took > 2*fetchLead {
					t.Errorf("the messages are here after %v", took)
				}
				r.deciding = t.Context()
				began = time.Now()
				r.fetch(consensus.FetchBlock{Height: 1, Block: b.Hash(), Holders: []chain.PublicKey{a, honest}})
				if e := r.nextEvent().event.(consensus.BlockFetched); e.Block != b || time.Since(began) > 2*fetchLead {
					t.Errorf("block %p after %v, want %p", e.Block, time.Since(began), b)
				}
			})
		})
	}
}
