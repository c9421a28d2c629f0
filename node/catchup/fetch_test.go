package catchup

import (
	"context"
	"crypto/ed25519"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/internal/tasks"
	"github.com/diseq/diseq/node/ledger/ledgertest"
	"github.com/diseq/diseq/node/verify"
)

// archive is a peer that serves blocks.
type archive struct {
	fakePeers
	blocks []*chain.FinalBlock
}

func (a *archive) Blocks(_ context.Context, _ chain.PublicKey, first uint64, _ int, yield func(*chain.FinalBlock) error) error {
	for _, f := range a.blocks {
		if f.Header.Height < first {
			continue
		}
		if err := yield(f); err != nil {
			return err
		}
	}
	return nil
}

// finalBlock returns a block that the only validator of a chain made final.
func finalBlock(genesis *chain.Genesis, key ed25519.PrivateKey, height uint64, parent chain.Hash) *chain.FinalBlock {
	set := genesis.Set()
	f := &chain.FinalBlock{Block: chain.Block{Header: chain.Header{
		ProtocolVersion: chain.ProtocolVersion, ChainID: genesis.ChainID, Height: height, ParentHash: parent,
		MessagesRoot: chain.EmptyMessagesRoot(), ValidatorsHash: set.Hash(), NextValidatorsHash: set.Hash(),
	}}}
	f.Sign(key)
	vote := chain.Vote{Kind: chain.Finalize, Height: height, Block: f.Hash()}
	vote.Sign(key, genesis.ChainID)
	f.Certificate = chain.Certificate{
		Kind: chain.Finalize, Height: height, Block: f.Hash(), Votes: []chain.VoteSignature{{Signature: vote.Signature}},
	}
	return f
}

// Only blocks that verify and follow the chain are handed over. A final block on another than this
// node's is a contradiction; a block that does not verify is the peer's fault.
//
// Promise 24.
func TestOnlyBlocksThatVerifyAndFollowAreHandedOver(t *testing.T) {
	key := ed25519.NewKeyFromSeed([]byte(strings.Repeat("k", ed25519.SeedSize)))
	genesis := &chain.Genesis{
		Version: 1, ChainID: "catchup", Threshold: 1, Parameters: chain.DefaultParameters(),
		Validators: []chain.NamedValidator{{Validator: chain.Validator{PublicKey: chain.PublicKeyOf(key)}}},
	}
	header := genesis.Header()
	one := finalBlock(genesis, key, 1, header.Hash())
	two := finalBlock(genesis, key, 2, one.Hash())
	forged := finalBlock(genesis, key, 2, one.Hash())
	forged.Certificate.Votes[0].Signature[0]++
	for _, c := range []struct {
		name          string
		blocks        []*chain.FinalBlock
		height        uint64
		contradiction bool
	}{
		{"two good blocks", []*chain.FinalBlock{one, two}, 2, false},
		{"a forged certificate", []*chain.FinalBlock{one, forged}, 1, false},
		{"a height left out", []*chain.FinalBlock{two}, 0, false},
		{"another block below", []*chain.FinalBlock{one, finalBlock(genesis, key, 2, chain.Hash{1})}, 1, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := ledgertest.Open(t, genesis)
				finals, contradictions := make(chan *chain.FinalBlock), make(chan error, 1)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				catchup := New(Config{
					Set: genesis.Set(), Ledger: l, Verifier: verify.New(genesis), Network: &archive{blocks: c.blocks},
					WaitState: func(context.Context, uint64) error { return nil }, Finals: finals, Contradictions: contradictions,
					Tasks: tasks.New(ctx), Fetched: prometheus.NewCounter(prometheus.CounterOpts{}),
					Name: chain.PublicKey.String, Logger: slog.New(slog.DiscardHandler),
				})
				go catchup.Run(ctx)
				go func() { // the voter
					for {
						select {
						case f := <-finals:
							ledgertest.Append(t, l, f)
						case <-ctx.Done():
							return
						}
					}
				}()
				peer := chain.PublicKey{9}
				catchup.Hint(5, peer)
				synctest.Wait()
				if l.Height() != c.height {
					t.Errorf("caught up to height %d, want %d", l.Height(), c.height)
				}
				if contradiction := len(contradictions) > 0; contradiction != c.contradiction {
					t.Errorf("a contradiction: %v, want %v", contradiction, c.contradiction)
				}
				believed := catchup.Final(peer) > 0
				if faultless := c.height == 2; believed != faultless {
					t.Errorf("the peer's claim is believed: %v, want %v", believed, faultless)
				}
			})
		})
	}
}
