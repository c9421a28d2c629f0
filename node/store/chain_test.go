package store

import (
	"crypto/ed25519"
	"encoding/binary"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/diseq/diseq/node/chain"
)

// A testChain makes final blocks with signatures that verify, by three of four validators unless
// told otherwise.
type testChain struct {
	genesis *chain.Genesis
	keys    []ed25519.PrivateKey
	tip     chain.Header
}

func newChain(id string) *testChain {
	g := &chain.Genesis{Version: 1, ChainID: id, TimeMS: 1, Threshold: 3, Parameters: chain.DefaultParameters()}
	c := &testChain{genesis: g}
	for i := range 4 {
		seed := make([]byte, ed25519.SeedSize)
		seed[0] = byte(i + 1)
		key := ed25519.NewKeyFromSeed(seed)
		c.keys = append(c.keys, key)
		g.Validators = append(g.Validators, chain.NamedValidator{
			Name: fmt.Sprintf("v%d", i), Validator: chain.Validator{PublicKey: chain.PublicKeyOf(key), VRFKey: chain.VRFKey{0, byte(i + 1)}},
		})
	}
	c.tip = g.Header()
	return c
}

// next makes the final block above the newest one made.
func (c *testChain) next(messages ...chain.Message) *chain.FinalBlock {
	f := &chain.FinalBlock{Messages: messages}
	h := &f.Header
	*h = c.tip
	h.Height++
	h.ParentHash = c.tip.Hash()
	h.ChangeHash, h.ValidatorsHash = chain.Hash{}, c.tip.NextValidatorsHash
	h.Timestamp++
	h.MessagesCount, h.MessagesRoot = uint32(len(messages)), chain.MessagesRoot(messages)
	f.Sign(c.keys[0])
	f.Certificate = c.finalize(*h, 3)
	c.tip = *h
	return f
}

// change makes the block above the newest one made, with a change to the same validators and
// another threshold.
func (c *testChain) change(generation, threshold uint32) *chain.FinalBlock {
	next := *c.genesis.First()
	next.Generation, next.Threshold = generation, threshold
	f := c.next()
	f.Change = &chain.Change{Next: next, Endorsements: []chain.Endorsement{{Validator: 1, Signature: chain.Signature{2}}}}
	f.Header.ChangeHash, f.Header.NextValidatorsHash = f.Change.Hash(), next.Set().Hash()
	f.Sign(c.keys[0])
	f.Certificate = c.finalize(f.Header, 3)
	c.tip = f.Header
	return f
}

func (c *testChain) finalize(h chain.Header, votes int) chain.Certificate {
	cert := chain.Certificate{Kind: chain.Finalize, Height: h.Height, Block: h.Hash()}
	for i := range votes {
		v := chain.Vote{Kind: chain.Finalize, Height: h.Height, Block: cert.Block, Validator: uint32(i)}
		v.Sign(c.keys[i], c.genesis.ChainID)
		cert.Votes = append(cert.Votes, chain.VoteSignature{Validator: v.Validator, Signature: v.Signature})
	}
	return cert
}

func payloads(n, size int, from uint64) []chain.Message {
	out := make([]chain.Message, n)
	for i := range out {
		data := make([]byte, size)
		binary.BigEndian.PutUint64(data, from+uint64(i))
		out[i].Data = data
	}
	return out
}

func (c *testChain) batch(number uint64, messages ...chain.Message) chain.StoredBatch {
	b := chain.Batch{Incarnation: 7, Number: number, Messages: messages}
	b.Sign(c.keys[0], c.genesis.ChainID)
	return chain.StoredBatch{Hash: b.Hash(c.genesis.ChainID), Author: b.Author, Incarnation: 7, Number: number, Data: b.Encode()}
}

func (c *testChain) key() chain.PublicKey { return chain.PublicKeyOf(c.keys[0]) }

// open opens a store that the test closes, unless it has done so itself.
func (c *testChain) open(t testing.TB, dir string) *Store {
	t.Helper()
	s, err := Open(dir, c.genesis, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

func (c *testChain) openVotes(t testing.TB, s *Store) *Votes {
	t.Helper()
	v, err := s.OpenVotes(c.key())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := v.Close(); err != nil {
			t.Errorf("close votes: %v", err)
		}
	})
	return v
}

func dataDir(t testing.TB) string { return filepath.Join(t.TempDir(), "data") }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
