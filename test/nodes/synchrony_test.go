package nodes

import (
	"fmt"
	"testing"
	"time"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/vrf"
)

const delta = 100 * time.Millisecond

// With the synchrony wait blocks are final, later than 2 Delta. A validator that hears the others
// too late says that it is not healthy, and where its vote is needed there is no block: not one
// that hears too late may finalize. When it hears them in time the chain goes on.
//
// Promise 1.
func TestAValidatorBeyondDeltaAbstainsUntilItHearsInTime(t *testing.T) {
	bubble(t, *firstSeed, spec{validators: 4, threshold: 3, delta: delta}, func(w *world) {
		v := w.nodes[3]
		w.start(w.nodes...)
		healthy := func(want bool) {
			w.Helper()
			w.eventually(10*time.Second, fmt.Sprintf("healthy: %v", want), func() error {
				if s := v.status().Synchrony; s == nil || s.Healthy != want {
					return fmt.Errorf("%+v", s)
				}
				return nil
			})
		}
		say := func(data string) {
			w.Helper()
			begun := time.Now()
			_, err := w.nodes[0].client.SubmitWait(w.ctx, []byte(data))
			w.must(err)
			if took := time.Since(begun); took <= 2*delta {
				w.Errorf("%q is final after %v, want more than %v", data, took, 2*delta)
			}
		}
		healthy(true)
		say("one")
		for _, m := range w.nodes[:3] {
			w.slow(m.name, v.name, 3*delta)
			w.slow(v.name, m.name, 3*delta)
		}
		healthy(false)
		say("two") // by the others

		w.nodes[2].halt()
		time.Sleep(5 * time.Second) // blocks that had votes before are final
		_, err := w.nodes[0].client.Submit(w.ctx, []byte("three"))
		w.must(err)
		before := w.highest()
		time.Sleep(30 * time.Second)
		if now := w.highest(); now != before || v.status().Synchrony.Healthy {
			w.Errorf("height %d is followed by %d, though one of the three validators that are left hears the others too late", before, now)
		}
		w.wire.calm()
		healthy(true)
		w.eventually(time.Minute, "the chain goes on", func() error {
			if w.highest() == before {
				return fmt.Errorf("height %d", before)
			}
			return nil
		})
		say("four")
	})
}

// A leader shows two blocks for its round. With the synchrony wait nobody votes for either once
// both are known; with and without, there is no fork, and every node holds the evidence.
//
// Promise 1.
// Promise 7.
func TestALeaderOfTwoBlocksGetsNoVoteAndEveryoneHoldsTheEvidence(t *testing.T) {
	unlessShort(t)
	for _, c := range []struct {
		name     string
		delta    time.Duration
		together bool
	}{
		{"Delta, both known before the proposals", delta, true},
		{"Delta, one block for each half", delta, false},
		{"no wait, one block for each half", 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, *firstSeed, spec{validators: 4, threshold: 3, delta: c.delta}, func(w *world) { equivocates(w, c.together) })
		})
	}
}

func equivocates(w *world, together bool) {
	thief := w.nodes[3]
	w.nodes = w.nodes[:3]
	g := w.invite(thief.name, thief.identity)
	w.start(w.nodes...)
	parent := w.untilItLeads(thief.index)
	height := parent.Header.Height + 1
	one, other := w.proposal(thief, parent, time.Millisecond), w.proposal(thief, parent, 2*time.Millisecond)
	g.forget()
	if together {
		g.Broadcast(&chain.Bundle{Votes: []chain.Vote{one.Statement, other.Statement}})
		time.Sleep(delta / 2)
	}
	for i, m := range w.nodes {
		g.Send(m.key(), &chain.Bundle{Proposals: []*chain.Proposal{[]*chain.Proposal{one, other}[i%2]}})
	}
	var votes []chain.Vote
	for _, p := range []*chain.Proposal{one, other} {
		for _, kind := range []chain.Kind{chain.Notarize, chain.Finalize} {
			v := chain.Vote{Kind: kind, Height: height, Block: p.Statement.Block, Validator: uint32(thief.index)}
			v.Sign(thief.identity.Signing, w.genesis.ChainID)
			votes = append(votes, v)
		}
	}
	time.Sleep(delta / 4)
	g.Broadcast(&chain.Bundle{Votes: votes})

	// everyone hears the thief's votes; of the Statements only with the wait, for then they are
	// relayed
	rule := chain.RuleE1
	if w.genesis.SynchronyDeltaMS > 0 {
		rule = chain.RulePropose
	}
	w.eventually(time.Minute, "the height is decided", func() error {
		for _, m := range w.nodes {
			if s := m.status(); s.Height < height {
				return fmt.Errorf("%s is at height %d", m.name, s.Height)
			}
		}
		return nil
	})
	for _, m := range w.nodes {
		for _, v := range g.heardOf(m, chain.Notarize) {
			if together && v.Height == height && v.Round == 0 {
				w.Errorf("%s votes for %v, though it knows of two blocks", m.name, v.Block)
			}
		}
		w.eventually(10*time.Second, m.name+" holds the evidence", func() error { return w.accused(m, thief, rule) })
	}
	l := w.newLoad(100 * time.Millisecond)
	time.Sleep(2 * time.Second)
	if after := w.settle(l); after <= height {
		w.Errorf("height %d: nothing comes after it", after)
	} else {
		for _, m := range w.nodes {
			w.readChain(m, after)
		}
	}
}

// accused returns nil if a member holds evidence that the thief broke a rule, and none against
// anyone else.
func (w *world) accused(m, thief *member, rule chain.Rule) error {
	all, err := m.client.Evidence(w.ctx)
	if err != nil {
		return err
	}
	found := fmt.Errorf("no evidence of rule %s", rule)
	for _, e := range all {
		if e.PublicKey != thief.key() {
			w.Fatalf("%s holds evidence against %v", m.name, e.PublicKey)
		}
		if err := e.Verify(w.genesis); err != nil {
			w.Fatalf("evidence of %s: %v", m.name, err)
		}
		if e.Rule == rule {
			found = nil
		}
	}
	return found
}

// untilItLeads lets messages be ordered until the network is idle below a height whose first leader
// is the validator of that index, and returns the block below.
func (w *world) untilItLeads(index int) *chain.FinalBlock {
	w.Helper()
	for i := range 200 {
		_, err := w.nodes[0].client.SubmitWait(w.ctx, fmt.Append(nil, "turn ", i))
		w.must(err)
		w.eventually(time.Minute, "the network is idle", func() error {
			before := w.nodes[0].status()
			time.Sleep(3 * time.Second)
			for _, m := range w.nodes {
				if s := m.status(); s.Height != before.Height {
					return fmt.Errorf("%s is at height %d, %s was at %d", m.name, s.Height, w.nodes[0].name, before.Height)
				}
			}
			return nil
		})
		b, err := w.nodes[0].client.LatestBlock(w.ctx)
		w.must(err)
		next, interval := b.Header.Height+1, uint64(w.genesis.Parameters.BeaconInterval)
		order := vrf.LeaderOrder(w.genesis.ChainID, b.Header.Beacon, next, len(w.genesis.Validators))
		if next%interval != 0 && order[0] == index {
			return &chain.FinalBlock{Block: chain.Block{Header: b.Header}}
		}
	}
	w.Fatal("it never leads")
	return nil
}

// proposal makes the proposal of an empty block for round 0 on a final one.
func (w *world) proposal(by *member, parent *chain.FinalBlock, later time.Duration) *chain.Proposal {
	p, set := &parent.Header, w.genesis.Set().Hash()
	b := chain.Block{Header: chain.Header{
		ProtocolVersion: chain.ProtocolVersion, ChainID: w.genesis.ChainID, Height: p.Height + 1, ParentHash: p.Hash(),
		Timestamp: uint64(time.Now().Add(later).UnixMilli()), Proposer: uint32(by.index), MessagesRoot: chain.MessagesRoot(nil),
		StateHeight: p.StateHeight, StateRoot: p.StateRoot, Beacon: p.Beacon, ValidatorsHash: set, NextValidatorsHash: set,
	}}
	b.Sign(by.identity.Signing)
	s := chain.Vote{Kind: chain.Propose, Height: b.Header.Height, Block: b.Hash(), Validator: uint32(by.index)}
	s.Sign(by.identity.Signing, w.genesis.ChainID)
	return &chain.Proposal{Statement: s, Block: b}
}
