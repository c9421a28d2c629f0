package catchup

import (
	"context"
	"crypto/ed25519"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/ledger/ledgertest"
	"github.com/diseq/diseq/node/verify"
)

// shelves are peers that answer a request for one block with whatever they have.
type shelves struct {
	Network
	order  []chain.PublicKey
	blocks map[chain.PublicKey]*chain.FinalBlock
}

func (s *shelves) Connected() []chain.PublicKey { return s.order }

func (s *shelves) Blocks(_ context.Context, from chain.PublicKey, _ uint64, _ int, yield func(*chain.FinalBlock) error) error {
	if f := s.blocks[from]; f != nil {
		return yield(f)
	}
	return nil
}

// A damaged block is fetched from the first peer whose block verifies: no peer's word counts.
func TestABlockIsFetchedFromWhicheverPeerShowsIt(t *testing.T) {
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	genesis := &chain.Genesis{Version: 1, ChainID: "catchup", Threshold: 1, Parameters: chain.DefaultParameters()}
	genesis.Validators = []chain.NamedValidator{{Name: "a", Validator: chain.Validator{PublicKey: chain.PublicKeyOf(key)}}}
	block := func(height uint64) *chain.FinalBlock {
		f := &chain.FinalBlock{Messages: []chain.Message{{Data: []byte("m")}}}
		f.Header = genesis.Header()
		f.Header.Height, f.Header.Timestamp = height, f.Header.Timestamp+height
		f.Header.MessagesCount, f.Header.MessagesRoot = 1, chain.MessagesRoot(f.Messages)
		f.Sign(key)
		v := chain.Vote{Kind: chain.Finalize, Height: height, Block: f.Header.Hash()}
		v.Sign(key, genesis.ChainID)
		f.Certificate = chain.Certificate{Kind: chain.Finalize, Height: height, Block: v.Block, Votes: []chain.VoteSignature{{Signature: v.Signature}}}
		return f
	}
	good, unsigned, altered := block(7), block(7), block(7)
	unsigned.Certificate.Votes[0].Signature[3] ^= 1
	altered.Messages = []chain.Message{{Data: []byte("another")}}
	peers := &shelves{blocks: map[chain.PublicKey]*chain.FinalBlock{{1}: unsigned, {2}: altered, {3}: block(8), {5}: good}}
	c := New(Config{
		Set: genesis.Set(), Ledger: ledgertest.Open(t, genesis), Verifier: verify.New(genesis), Network: peers,
		Name: func(k chain.PublicKey) string { return string('a' + rune(k[0])) }, Logger: slog.New(slog.DiscardHandler),
	})
	peers.order = []chain.PublicKey{{1}, {2}, {3}, {4}}
	_, err := c.Block(t.Context(), 7)
	if !errors.Is(err, ErrNoCopy) {
		t.Errorf("fetched from peers of which none has it: %v", err)
	}
	for _, name := range []string{"; b: ", "; c: ", "; d: ", "; e: "} {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("the error does not tell what peer %s answered: %v", name, err)
		}
	}
	peers.order = append(peers.order, chain.PublicKey{5})
	if f, err := c.Block(t.Context(), 7); err != nil || f != good {
		t.Errorf("fetched %v, %v", f, err)
	}
}
