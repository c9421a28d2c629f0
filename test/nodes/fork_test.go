package nodes

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/store"
	"github.com/diseq/diseq/node/vrf"
)

// Two of four validators with threshold three are more than are withstood: they show the others,
// which do not hear each other, a final block each. A validator that hears of both blocks stops and
// has evidence against both, though it learns of all of it as it stops.
//
// Promise 8.
func TestWhoeverMeetsAForkStopsAndHoldsTheEvidence(t *testing.T) {
	for seed := *firstSeed; ; seed++ {
		led := false
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			bubble(t, seed, spec{validators: 4, threshold: 3}, func(w *world) {
				leader := vrf.LeaderOrder(w.genesis.ChainID, w.genesis.Hash(), 1, 4)[0]
				if led = leader >= 2; led {
					w.forks(leader)
				}
			})
		})
		if led || t.Failed() {
			return
		}
	}
}

// forks has validators 2 and 3, of which one leads height 1, show 0 and 1 another block each.
func (w *world) forks(leader int) {
	all, thief := w.nodes, w.nodes[leader]
	w.nodes = all[:2]
	guests := []*guest{w.invite(all[2].name, all[2].identity), w.invite(all[3].name, all[3].identity)}
	apart := w.hold("apart", []way{{"v0", "v1"}, {"v1", "v0"}})
	w.start(w.nodes...)
	for _, m := range w.nodes {
		m.stops = true
	}
	time.Sleep(3 * time.Second)
	var shown []*chain.Proposal
	for i, m := range w.nodes {
		p := w.proposal(thief, &chain.FinalBlock{Block: chain.Block{Header: w.genesis.Header()}}, time.Duration(1+i)*time.Millisecond)
		p.Block.Header.Beacon = w.genesis.Hash()
		p.Block.Sign(thief.identity.Signing)
		p.Statement.Block = p.Block.Hash()
		p.Statement.Sign(thief.identity.Signing, w.genesis.ChainID)
		shown = append(shown, p)
		guests[leader-2].Send(m.key(), &chain.Bundle{Proposals: []*chain.Proposal{p}})
	}
	for _, kind := range []chain.Kind{chain.Notarize, chain.Finalize} {
		for i, m := range w.nodes {
			var own []heard
			w.eventually(time.Minute, fmt.Sprintf("%s votes to %v", m.name, kind), func() error {
				for _, g := range guests {
					own = append(own, g.heardOf(m, kind)...)
				}
				if len(own) == 0 {
					return fmt.Errorf("no vote")
				}
				return nil
			})
			cert := &chain.Certificate{
				Kind: kind, Height: 1, Block: shown[i].Statement.Block,
				Votes: []chain.VoteSignature{{Validator: uint32(m.index), Signature: own[0].Signature}},
			}
			for _, k := range []int{2, 3} {
				v := chain.Vote{Kind: kind, Height: 1, Block: cert.Block, Validator: uint32(k)}
				v.Sign(all[k].identity.Signing, w.genesis.ChainID)
				cert.Votes = append(cert.Votes, chain.VoteSignature{Validator: v.Validator, Signature: v.Signature})
			}
			guests[0].Send(m.key(), &chain.Bundle{Certificates: []*chain.Certificate{cert}})
		}
	}
	w.eventually(time.Minute, "each holds a final block", func() error {
		for _, m := range w.nodes {
			if m.status().Height == 0 {
				return fmt.Errorf("%s has none", m.name)
			}
		}
		return nil
	})
	apart.end()

	stopped := 0
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline) && stopped == 0; time.Sleep(time.Second) {
		for _, m := range w.nodes {
			select {
			case <-m.life.ended:
				stopped++
				w.convicts(m)
			default:
			}
		}
	}
	if stopped == 0 {
		w.Error("nobody stops at a fork")
	}
}

// convicts looks for evidence against both on the disk of a member that has stopped.
func (w *world) convicts(m *member) {
	w.Logf("%s ended with %v", m.name, m.life.err)
	s, err := store.Open(m.config.Data, w.genesis, store.Options{})
	w.must(err)
	defer func() { w.must(s.Close()) }()
	evidence, err := s.Evidence(w.ctx, 100)
	w.must(err)
	guilty := map[uint32]bool{}
	for _, e := range evidence {
		w.must(e.Verify(w.genesis.ChainID, w.genesis.Set()))
		guilty[e.First.Validator] = true
	}
	if len(guilty) != 2 || !guilty[2] || !guilty[3] {
		w.Errorf("%s holds evidence against %v, want 2 and 3; its log:\n%s", m.name, guilty, m.log)
	}
}

// A fork that was made while two sides did not hear each other, and that has grown since, shows
// when one of them catches up: a final block on another than the final one here. A node that meets
// it stops. A block that is not final says nothing.
//
// Promise 8.
func TestAFinalBlockOnAnotherThanOursIsAContradiction(t *testing.T) {
	for _, c := range []struct {
		name    string
		signers []int
		stops   bool
	}{{"final", []int{1, 2, 3}, true}, {"not final", []int{1, 2}, false}} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, *firstSeed, spec{validators: 4, threshold: 3}, func(w *world) { w.meetsAnother(c.signers, c.stops) })
		})
	}
}

func (w *world) meetsAnother(signers []int, stops bool) {
	all, v := w.nodes, w.nodes[0]
	w.start(all...)
	_, err := v.client.SubmitWait(w.ctx, []byte("here"))
	w.must(err)
	time.Sleep(3 * time.Second)
	tip := v.tip()
	for _, m := range all[1:] {
		m.halt()
	}
	v.stops = stops
	w.nodes = all[:1]

	tip.Header.Timestamp-- // another block of that height
	p := w.proposal(all[1], tip, 0)
	f := &chain.FinalBlock{Block: p.Block}
	f.Certificate = chain.Certificate{Kind: chain.Finalize, Height: f.Header.Height, Block: f.Hash()}
	for _, k := range signers {
		vote := chain.Vote{Kind: chain.Finalize, Height: f.Header.Height, Block: f.Hash(), Validator: uint32(k)}
		vote.Sign(all[k].identity.Signing, w.genesis.ChainID)
		f.Certificate.Votes = append(f.Certificate.Votes, chain.VoteSignature{Validator: uint32(k), Signature: vote.Signature})
	}
	g := w.invite(all[1].name, all[1].identity)
	g.shows = map[uint64]*chain.FinalBlock{f.Header.Height: f}
	ahead := chain.Vote{Kind: chain.Nullify, Height: f.Header.Height + 5, Validator: 1}
	ahead.Sign(all[1].identity.Signing, w.genesis.ChainID)
	for range 30 {
		g.Send(v.key(), &chain.Bundle{Votes: []chain.Vote{ahead}})
		select {
		case <-v.life.ended:
			if want := "contradiction: "; !strings.Contains(fmt.Sprint(v.life.err), want) {
				w.Errorf("it ended with %v, want %q", v.life.err, want)
			}
			return
		case <-time.After(time.Second):
		}
	}
	if stops {
		w.Errorf("it goes on at height %d; its log:\n%s", v.status().Height, v.log)
	}
}

// tip returns the last final block, without its messages.
func (m *member) tip() *chain.FinalBlock {
	b, err := m.client.LatestBlock(m.world.ctx)
	m.world.must(err)
	return &chain.FinalBlock{Block: chain.Block{Header: b.Header}}
}
