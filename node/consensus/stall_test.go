package consensus

import (
	"testing"
	"time"

	"github.com/diseq/diseq/node/chain"
)

func fakeCertificate(kind chain.Kind, height uint64, round uint32, block chain.Hash, signers ...int) *chain.Certificate {
	cert := &chain.Certificate{Kind: kind, Height: height, Round: round, Block: block}
	for _, i := range signers {
		v := chain.Vote{Kind: kind, Height: height, Round: round, Block: block, Validator: uint32(i)}
		fakeSignature(&v)
		cert.Votes = append(cert.Votes, chain.VoteSignature{Validator: v.Validator, Signature: v.Signature})
	}
	return cert
}

func find[T Action](actions []Action) (found T, ok bool) {
	for _, a := range actions {
		if found, ok = a.(T); ok {
			return found, true
		}
	}
	return found, false
}

// Hours of rounds that fail do not end a chain: a proposal cannot carry more than
// chain.MaxJustification nullifications, so what it leaves out is what every validator already
// holds. The votes of rounds long past are let go.
//
// Promise 5.
func TestHeightThatFailsForHoursStillDecides(t *testing.T) {
	const rounds = chain.MaxJustification + 101 // its leader is validator 1
	set := testSet(4, 3)
	cores := make([]*Core, 3)
	for i := range cores {
		cfg := testConfig(set, i)
		// they are shown votes of their own that they have not cast
		cfg.Mutation.VoteForgetful = true
		c, err := New(cfg, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.StartHeight(Height{Number: 1, Set: set, Order: order(4)}); err != nil {
			t.Fatal(err)
		}
		for r := range uint32(rounds) {
			hears(c, chain.Bundle{Certificates: []*chain.Certificate{fakeCertificate(chain.Nullify, 1, r, chain.Hash{}, 0, 2, 3)}})
		}
		held := 0
		for _, rd := range c.height.rounds {
			if rd.votes[chain.Nullify] != nil {
				held++
			}
		}
		if want := 2*4 + 1; held > want {
			t.Fatalf("the votes of %d rounds are held, want at most %d", held, want)
		}
		cores[i] = c
	}
	b := &chain.Block{Header: chain.Header{ChainID: "test", Height: 1, Proposer: 1}}
	proposed, ok := find[Broadcast](cores[1].Step(BlockBuilt{Round: rounds, Block: b}))
	if !ok || len(proposed.Bundle.Proposals) != 1 {
		t.Fatalf("no proposal: %+v", proposed)
	}
	p := proposed.Bundle.Proposals[0]
	if len(p.Nullifications) != chain.MaxJustification {
		t.Fatalf("proposal with %d nullifications, want %d", len(p.Nullifications), chain.MaxJustification)
	}
	if _, err := chain.DecodeProposal(p.Encode()); err != nil {
		t.Fatal(err)
	}
	if _, ok := find[CheckBlock](hears(cores[2], proposed.Bundle)); !ok {
		t.Fatal("a proposal whose older certificates are held is not taken up")
	}
	// Somebody who was away gets the rest at T_retry.
	cfg := testConfig(set, 3)
	cfg.Mutation.VoteForgetful = true
	away, err := New(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := away.StartHeight(Height{Number: 1, Set: set, Order: order(4)}); err != nil {
		t.Fatal(err)
	}
	if _, ok := find[CheckBlock](hears(away, proposed.Bundle)); ok {
		t.Fatal("a proposal is taken up without all its certificates")
	}
	retry, _ := find[Broadcast](cores[0].Step(TimerFired{Timer{Kind: RetryTimer, Height: 1}}))
	if _, ok := find[CheckBlock](hears(away, retry.Bundle)); !ok {
		t.Fatal("a proposal is not taken up once T_retry has brought its certificates")
	}
}

// After a notarization late in a long height, T_retry sends what can still matter, not everything
// since the start.
//
// Promise 9.
func TestRetryAfterManyRoundsIsShort(t *testing.T) {
	set := testSet(4, 3)
	c, err := New(testConfig(set, 0), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.StartHeight(Height{Number: 1, Set: set, Order: order(4)}); err != nil {
		t.Fatal(err)
	}
	for r := range uint32(100) {
		kind, hash := chain.Nullify, chain.Hash{}
		if r == 99 {
			kind, hash = chain.Notarize, chain.Hash{9}
		}
		hears(c, chain.Bundle{Certificates: []*chain.Certificate{fakeCertificate(kind, 1, r, hash, 1, 2, 3)}})
	}
	retry, _ := find[Broadcast](c.Step(TimerFired{Timer{Kind: RetryTimer, Height: 1}}))
	if n := len(retry.Bundle.Certificates); n != 9 {
		t.Fatalf("T_retry sends %d certificates, want those of the last 2n rounds and the current one", n)
	}
}

// Promise 5.
func TestRoundTimeoutGrowsByHalfUpToTheCap(t *testing.T) {
	cfg := Config{RoundTimeout: 500 * time.Millisecond, MaxRoundTimeout: 10 * time.Second, MinBlockInterval: 20 * time.Millisecond}
	for r, want := range map[uint32]time.Duration{
		0: 520 * time.Millisecond, 1: 750 * time.Millisecond, 2: 1125 * time.Millisecond, 8: 10 * time.Second, 1<<32 - 1: 10 * time.Second,
	} {
		if got := cfg.roundTimeout(r, 0); got != want {
			t.Errorf("T_round(%d) = %v, want %v", r, got, want)
		}
	}
}

// Proposals of the next height cannot fill the memory.
//
// Promise 9.
func TestEarlyProposalsAreBounded(t *testing.T) {
	set := testSet(100, 51)
	c, err := New(testConfig(set, 0), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.StartHeight(Height{Number: 1, Set: set, Order: order(100)}); err != nil {
		t.Fatal(err)
	}
	big := make([]chain.BatchRef, chain.MaxBodyRefs)
	for i := range 100 {
		p := &chain.Proposal{Block: chain.Block{Header: chain.Header{Height: 2}, Body: big}}
		p.Statement = chain.Vote{Kind: chain.Propose, Height: 2, Block: p.Block.Hash(), Validator: uint32(i)}
		hears(c, chain.Bundle{Proposals: []*chain.Proposal{p, p}})
	}
	if n := len(c.early.bundle.Proposals); n == 0 || n > 16 {
		t.Fatalf("%d early proposals of 1 MiB are held, want 1 to 16", n)
	}
}
