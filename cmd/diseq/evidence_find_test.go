package main

import (
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/diseq/diseq/internal/clientcmd"
	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/store"
)

// fourValidators returns a chain of four validators, three of which must sign, and their keys.
func fourValidators(id string) (*chain.Genesis, []ed25519.PrivateKey) {
	genesis := &chain.Genesis{Version: 1, ChainID: id, TimeMS: 1, Threshold: 3, Parameters: chain.DefaultParameters()}
	var keys []ed25519.PrivateKey
	for i := range 4 {
		key := ed25519.NewKeyFromSeed(slices.Repeat([]byte{byte(i + 1)}, ed25519.SeedSize))
		keys = append(keys, key)
		genesis.Validators = append(genesis.Validators, chain.NamedValidator{
			Name: fmt.Sprintf("v%d", i), Validator: chain.Validator{PublicKey: chain.PublicKeyOf(key), VRFKey: chain.VRFKey{0, byte(i + 1)}},
		})
	}
	return genesis, keys
}

// Two of four validators sign for both sides of a fork: block B is final in round 0 on one side,
// and the other side has nullified that round and made C final in round 1. The nullification is in
// no header and in no finalization. It is stored with C, and without it nobody could be convicted.
//
// Promise 7.
func TestEvidenceOfAForkIsFoundInTheDataDirectories(t *testing.T) {
	genesis, keys := fourValidators("fork")
	certificate := func(kind chain.Kind, height uint64, round uint32, block chain.Hash, signers ...uint32) *chain.Certificate {
		c := &chain.Certificate{Kind: kind, Height: height, Round: round, Block: block}
		for _, i := range signers {
			v := chain.Vote{Kind: kind, Height: height, Round: round, Block: block, Validator: i}
			v.Sign(keys[i], genesis.ChainID)
			c.Votes = append(c.Votes, chain.VoteSignature{Validator: i, Signature: v.Signature})
		}
		return c
	}
	block := func(below chain.Header, timestamp uint64) *chain.FinalBlock {
		f := &chain.FinalBlock{}
		f.Header = below
		f.Header.Height, f.Header.ParentHash, f.Header.Timestamp = below.Height+1, below.Hash(), timestamp
		f.Header.MessagesRoot = chain.EmptyMessagesRoot()
		f.Sign(keys[0])
		return f
	}
	node := func(name string, commits ...chain.Commit) string {
		dir := filepath.Join(t.TempDir(), name)
		s, err := store.Open(dir, genesis, store.Options{})
		must(t, err)
		for _, c := range commits {
			must(t, s.Commit(t.Context(), c))
		}
		must(t, s.Close())
		return dir
	}
	first := block(genesis.Header(), 2)
	first.Certificate = *certificate(chain.Finalize, 1, 0, first.Hash(), 0, 1, 2)
	b, c := block(first.Header, 3), block(first.Header, 4)
	b.Certificate = *certificate(chain.Finalize, 2, 0, b.Hash(), 0, 1, 2)
	c.Certificate = *certificate(chain.Finalize, 2, 1, c.Hash(), 1, 2, 3)
	above := block(c.Header, 5)
	above.Certificate = *certificate(chain.Finalize, 3, 0, above.Hash(), 1, 2, 3)
	nullification := certificate(chain.Nullify, 2, 0, chain.Hash{}, 1, 2, 3)
	one := node("one", chain.Commit{Block: first}, chain.Commit{Block: b})
	other := node("other", chain.Commit{Block: first}, chain.Commit{Block: c, Justification: []*chain.Certificate{nullification}}, chain.Commit{Block: above})
	behind := node("behind", chain.Commit{Block: first})

	document, err := json.Marshal(genesis)
	must(t, err)
	path := filepath.Join(t.TempDir(), "genesis.json")
	must(t, os.WriteFile(path, document, 0o600))
	evidence := filepath.Join(t.TempDir(), "evidence.json")
	must(t, os.WriteFile(evidence, []byte(succeeds(t, "evidence", "find", behind, one, other, "--genesis", path)), 0o600))
	verdict := succeeds(t, "evidence", "verify", evidence, "--genesis", path)
	for i := range 4 {
		convicted := strings.Contains(verdict, fmt.Sprintf("validator %d (v%d, %v) broke rule E2 at height 2 round 0", i, i, genesis.Validators[i].PublicKey))
		if want := i == 1 || i == 2; convicted != want {
			t.Errorf("validator %d is convicted: %v, want %v:\n%s", i, convicted, want, verdict)
		}
	}
	if n := strings.Count(verdict, "\n"); n != 2 {
		t.Errorf("%d pieces of evidence, want 2:\n%s", n, verdict)
	}

	fails(t, clientcmd.ExitFailure, "no fork: the directories have the same blocks up to height 1", "evidence", "find", one, behind, "--genesis", path)
	fails(t, clientcmd.ExitFailure, "no node has run in", "evidence", "find", one, t.TempDir(), "--genesis", path)
}
