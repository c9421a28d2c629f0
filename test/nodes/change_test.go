package nodes

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/diseq/diseq/node"
	"github.com/diseq/diseq/node/chain"
)

// declare writes a target into the peers file that all members share: the next set has these
// members, and follows that of a generation.
func (w *world) declare(follows, threshold uint32, members ...*member) {
	w.Helper()
	w.declareIn(filepath.Join(w.dir, "peers.json"), follows, threshold, members...)
}

func (w *world) declareIn(path string, follows, threshold uint32, members ...*member) {
	w.Helper()
	w.rewrite(path, func(file *node.PeersFile) {
		file.Target = &chain.Target{Follows: follows, Threshold: threshold}
		for _, m := range members {
			file.Target.Validators = append(file.Target.Validators, chain.NamedValidator{Name: m.name, Validator: m.identity.Public()})
		}
	})
	w.note("target of %d members, threshold %d, after generation %d", len(members), threshold, follows)
}

// rewrite changes a peers file.
func (w *world) rewrite(path string, change func(*node.PeersFile)) {
	w.Helper()
	raw, err := os.ReadFile(path)
	w.must(err)
	var file node.PeersFile
	w.must(json.Unmarshal(raw, &file))
	change(&file)
	raw, err = json.Marshal(file)
	w.must(err)
	w.must(os.WriteFile(path, raw, 0o600))
	// The clock of the bubble stands still while the one of the files runs: the time of the file is
	// set so that it differs from the last one.
	w.must(os.Chtimes(path, time.Now(), time.Now()))
}

// newcomers has members that are no validators of genesis make their vote stores when they start.
func newcomers(members ...*member) {
	for _, m := range members {
		m.config.CreateVoteStore = true
	}
}

// inForce waits until members that run are in a set of a generation, or have left it.
func (w *world) inForce(generation uint32, role string, members ...*member) {
	w.Helper()
	for _, m := range members {
		w.eventually(time.Minute, fmt.Sprintf("%s is %s in generation %d", m.name, role, generation), func() error {
			if s := m.status(); s.Generation != generation || s.Role != role {
				return fmt.Errorf("it is %s at height %d of generation %d; target %+v", s.Role, s.Height, s.Generation, s.Target)
			}
			return nil
		})
	}
}

// Under load a network grows from four to seven and shrinks to three others, as fast as it can be
// asked to. Nothing is lost of what was accepted, nodes that leave included, and no round fails: a
// change costs a height, not a pause.
//
// Promise 26.
// Promise 70.
func TestTheSetChangesUnderLoad(t *testing.T) {
	for _, delta := range []time.Duration{0, 50 * time.Millisecond} {
		t.Run(fmt.Sprint("Delta ", delta), func(t *testing.T) {
			bubble(t, *firstSeed, spec{validators: 4, threshold: 3, observers: 3, delta: delta}, changesUnderLoad)
		})
	}
}

func changesUnderLoad(w *world) {
	all := w.nodes
	old, young := all[:4], all[4:]
	newcomers(young...)
	w.start(old...)
	for _, m := range young {
		w.launch(m)
	}
	w.nodes = old
	l := w.newLoad(50 * time.Millisecond)
	time.Sleep(time.Second)
	w.declare(0, 5, all...)
	w.inForce(1, "validator", all...)
	l.end()
	w.nodes = all
	l = w.goOn(l, 50*time.Millisecond)
	time.Sleep(time.Second)
	w.declare(1, 2, old[3], young[0], young[1])
	w.inForce(2, "validator", old[3], young[0], young[1])
	w.inForce(2, "observer", old[0], old[1], old[2], young[2])
	time.Sleep(time.Second)
	height := w.audit(l)
	w.count(l, height)
	changes := 0
	for at := uint64(1); at <= height; at++ {
		b, _ := w.history.Block(at)
		if b.Certificate.Round > 0 {
			w.Errorf("height %d was decided in round %d", at, b.Certificate.Round)
		}
		if b.Header.ChangeHash != (chain.Hash{}) {
			changes++
		}
	}
	if changes != 2 {
		w.Errorf("%d changes, want 2", changes)
	}
}

// Halves that want different sets get neither, and both see why. Once one half gives way, its set
// comes.
//
// Promise 69.
func TestDifferentTargetsChangeNothing(t *testing.T) {
	bubble(t, *firstSeed, spec{validators: 4, threshold: 3, observers: 1}, func(w *world) {
		all := w.nodes
		newcomers(all[4])
		own := filepath.Join(w.dir, "own.json")
		raw, err := os.ReadFile(filepath.Join(w.dir, "peers.json"))
		w.must(err)
		w.must(os.WriteFile(own, raw, 0o600))
		all[2].config.Peers, all[3].config.Peers = own, own
		w.start(all[:4]...)
		w.launch(all[4])
		w.declare(0, 4, all...)
		w.declareIn(own, 0, 3, all[:4]...)
		for _, m := range all[:4] {
			w.eventually(time.Minute, m.name+" sees four endorsements", func() error {
				if s := m.status(); len(s.Endorsements) != 4 || s.Target == nil || !s.Target.Endorsed || s.Target.Endorsements != 2 {
					return fmt.Errorf("it sees %+v and target %+v", s.Endorsements, s.Target)
				}
				return nil
			})
		}
		time.Sleep(10 * time.Second)
		if s := all[0].status(); s.Generation != 0 || s.Height != 0 {
			w.Errorf("height %d of generation %d: two of the three that it takes endorsed either set", s.Height, s.Generation)
		}
		w.declareIn(own, 0, 4, all...)
		w.inForce(1, "validator", all...)
	})
}

// A member that has no vote store when it comes into the set is Rejoining at once. A node that was
// down for two changes follows, by links that the change did not take.
//
// Promise 16.
// Promise 72.
func TestLaggardsAndForgetfulNewcomersFindTheirWay(t *testing.T) {
	bubble(t, *firstSeed, spec{validators: 4, threshold: 3, observers: 1}, func(w *world) {
		all := w.nodes
		lag, o := all[3], all[4]
		w.start(all...)
		w.kill(lag)
		w.nodes = all[:3]
		l := w.newLoad(100 * time.Millisecond)
		w.declare(0, 3, all...)
		w.inForce(1, "validator", o)
		changes, _, err := all[0].client.Changes(w.ctx, 1, 1)
		w.must(err)
		// It was Rejoining at first, maybe for less time than there is between two looks.
		if s, at := o.status(), changes[0].Header.Height; s.VotesFromHeight == nil || *s.VotesFromHeight < at+3 {
			w.Errorf("it came into the set above height %d, and its status is %+v", at, s)
		}
		if !w.hasVotes(o) {
			w.Error("a validator has no vote store")
		}
		w.declare(1, 3, all[1], lag, o, all[2])
		w.inForce(2, "observer", all[0])
		time.Sleep(time.Second)
		w.launch(lag)
		w.inForce(2, "validator", lag)
		w.nodes = all
		height := w.audit(l)
		w.count(l, height)
	})
}

// One validator hands over to four others, and these to one of them. On a chain with the wait, too.
//
// Promise 70.
func TestOneHandsOverToFourOthersAndFourToOne(t *testing.T) {
	for _, delta := range []time.Duration{0, 50 * time.Millisecond} {
		bubble(t, *firstSeed, spec{validators: 1, threshold: 1, observers: 4, delta: delta}, func(w *world) {
			first, others := w.nodes[0], w.nodes[1:]
			newcomers(others...)
			w.start(first)
			for _, m := range others {
				w.launch(m)
			}
			w.nodes = w.nodes[:1]
			l := w.newLoad(100 * time.Millisecond)
			time.Sleep(time.Second)
			w.declare(0, 3, others...)
			w.inForce(1, "validator", others...)
			w.inForce(1, "observer", first)
			l.end()
			w.nodes = others
			l = w.goOn(l, 100*time.Millisecond)
			time.Sleep(time.Second)
			w.declare(1, 1, others[2])
			w.inForce(2, "validator", others[2])
			time.Sleep(time.Second)
			w.nodes = w.all
			height := w.audit(l)
			w.count(l, height)
		})
	}
}

// An idle network of four grows to five without a restart. The newcomer's vote counts: with one of
// the old ones dead, it takes all others. Then the dead one leaves, and another one that goes on as
// an observer. Clients that come to it for another minute are told once their messages are final.
//
// Promise 69.
// Promise 70.
func TestAnIdleNetworkGrowsAndShrinks(t *testing.T) {
	bubble(t, *firstSeed, spec{validators: 4, threshold: 3, observers: 1}, func(w *world) {
		old, o := w.nodes[:4], w.nodes[4]
		newcomers(o)
		w.start(old...)
		w.launch(o)
		w.inForce(0, "observer", o)
		if s := o.status(); !s.VoteStore || s.Ready {
			w.Errorf("a newcomer has a vote store: %v, ready: %v", s.VoteStore, s.Ready)
		}
		w.declare(0, 4, w.nodes...)
		began := time.Now()
		w.inForce(1, "validator", w.nodes...)
		w.note("the change took %v", time.Since(began))
		w.kill(old[0])
		say := func(to *member, data string) {
			w.Helper()
			ctx, cancel := context.WithTimeout(w.ctx, time.Minute)
			defer cancel()
			r, err := to.client.SubmitWait(ctx, []byte(data))
			w.must(err)
			w.must(r[0].Receipt.Verify(w.genesis, 0))
		}
		say(old[1], "of five, one of which is dead")
		say(o, "to the newcomer")

		w.declare(1, 2, old[2], old[3], o)
		w.inForce(2, "validator", old[2], old[3], o)
		w.inForce(2, "observer", old[1])
		say(o, "of three")
		results, err := old[1].client.Submit(w.ctx, []byte("to one that has just left"))
		w.must(err)
		if results[0].Status != "final" {
			w.Errorf("it answers %q", results[0].Status)
		}
		time.Sleep(time.Minute)
		if _, err := old[1].client.Submit(w.ctx, []byte("to one that left a minute ago")); err == nil {
			w.Error("a node that left a minute ago takes messages")
		}
	})
}
