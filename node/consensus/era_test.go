package consensus

import (
	"testing"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/internal/mutation"
)

// Three validators, t = 2, one of them Byzantine: the wait alone prevents a fork. At the first
// height of an era the Byzantine leader makes a block final with validator 1. Validator 2 is still
// at the height below and cannot judge their messages. Then the leader shows it another block.
// Validator 2 hears of the first one because it asks and settles first, although it was in the set
// before. Without that rule it makes the other block final.
//
// Promise 1.
// Promise 72.
func TestTheLastToEnterAnEraSettlesFirst(t *testing.T) {
	for _, c := range []struct {
		name  string
		rules mutation.Rules
		forks bool
	}{
		{"honest", mutation.Rules{}, false},
		{"nobody settles", mutation.Rules{ForgetEra: true}, true},
		{"newcomers settle", mutation.Rules{NewcomersSettle: true}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			below := testSet(3, 2)
			below.SynchronyDeltaMS = 50
			era := successor(below, 2, below.Validators...)
			last := fakeCertificate(chain.Finalize, 1, 0, chain.Hash{1}, 0, 1)
			enter := func(core *Core) []Action {
				actions, err := core.StartHeight(Height{Number: 2, Set: era, Order: order(3), Parent: last.Block, Last: last})
				if err != nil {
					t.Fatal(err)
				}
				return actions
			}
			var cores [3]*Core
			for i := 1; i < 3; i++ {
				cfg := testConfig(below, i)
				cfg.Mutation = c.rules
				core, err := New(cfg, nil)
				if err != nil {
					t.Fatal(err)
				}
				core.Step(Health{OK: true})
				actions, err := core.StartHeight(Height{Number: 1, Set: below, Order: order(3)})
				if err != nil {
					t.Fatal(err)
				}
				core.Step(TimerFired{timerOf(t, actions, SettleTimer)})
				cores[i] = core
			}
			settle := func(core *Core, started []Action) {
				for _, a := range started {
					if timer, ok := a.(SetTimer); ok && timer.Timer.Kind == SettleTimer {
						core.Step(TimerFired{timer.Timer})
					}
				}
			}

			settle(cores[1], enter(cores[1]))
			shown, first := lure(cores[1], last.Block, 1)
			if first == nil {
				t.Fatal("the leader and validator 1 decide nothing: the test is vacuous")
			}
			for _, b := range shown { // validator 2 is at height 1
				cores[2].Step(Received{From: era.Validators[1].PublicKey, Bundle: b, Set: below.Hash()})
			}
			started := enter(cores[2])
			if _, asks := find[RequestResend](started); asks {
				answer, _ := find[Send](cores[1].Step(LinkUp{Peer: era.Validators[2].PublicKey}))
				hears(cores[2], answer.Bundle)
			}
			settle(cores[2], started)
			_, second := lure(cores[2], last.Block, 2)
			if forks := second != nil && second.Finalization.Block != first.Finalization.Block; forks != c.forks {
				t.Errorf("two blocks are final: %v, want %v", forks, c.forks)
			}
		})
	}
}

// lure plays the Byzantine leader of round 0, validator 0: it proposes a block to a validator and
// adds its own votes. It returns all that the validator sends, and what it commits, if anything.
func lure(core *Core, parent chain.Hash, timestamp uint64) (shown []chain.Bundle, commit *Commit) {
	block := &chain.Block{Header: chain.Header{ChainID: "test", Height: 2, ParentHash: parent, Timestamp: timestamp}}
	statement := chain.Vote{Kind: chain.Propose, Height: 2, Block: block.Hash()}
	fakeSignature(&statement)
	vote := func(kind chain.Kind) Event {
		v := chain.Vote{Kind: kind, Height: 2, Block: block.Hash()}
		fakeSignature(&v)
		return Received{Bundle: chain.Bundle{Votes: []chain.Vote{v}}}
	}
	for _, e := range []Event{
		Received{From: core.height.Set.Validators[0].PublicKey, Bundle: chain.Bundle{Proposals: []*chain.Proposal{{Statement: statement, Block: *block}}}},
		BlockChecked{Height: 2, Block: block, Fresh: true, Verdict: Valid},
		vote(chain.Notarize),
		TimerFired{Timer{Kind: WaitTimer, Height: 2}},
		vote(chain.Finalize),
	} {
		for _, a := range core.Step(checked(core, e)) {
			switch a := a.(type) {
			case Broadcast:
				shown = append(shown, a.Bundle)
			case Commit:
				commit = &a
			}
		}
	}
	return shown, commit
}
