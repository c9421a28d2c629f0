package nodes

import (
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/diseq/diseq/node"
	"github.com/diseq/diseq/node/chain"
)

// quorum is a validator set in which enough members have to be up.
type quorum struct {
	members   []*member
	threshold int
}

// spares reports whether a set can do without some more members than are down or rejoining.
func (q *quorum) spares(without ...*member) bool {
	up := 0
	for _, m := range q.members {
		if m.life != nil && !m.rejoins && !slices.Contains(without, m) {
			up++
		}
	}
	return up >= q.threshold
}

// Three times the validator set changes, to other members, another size and another threshold,
// while nodes are killed, cut off and slow: members, newcomers and leavers alike. Members lose
// their vote stores and rejoin across eras. Those that have left are stopped. Nothing that was
// accepted is lost, and all nodes have one chain. Some of them start at the end.
//
// Promise 16.
// Promise 26.
// Promise 70.
func TestTheSetChangesAmidFaults(t *testing.T) {
	unlessShort(t)
	for seed := *firstSeed; seed < *firstSeed+*seeds && !t.Failed(); seed++ {
		delta := time.Duration(seed%2) * 50 * time.Millisecond
		t.Run(fmt.Sprintf("4 and 4 more, Delta %v, seed %d", delta, seed), func(t *testing.T) {
			bubble(t, seed, spec{validators: 4, threshold: 3, observers: 4, delta: delta}, changesAmidFaults)
		})
	}
}

func changesAmidFaults(w *world) {
	set, fresh := quorum{w.nodes[:4], 3}, w.nodes[4:]
	newcomers(fresh...)
	w.start(set.members...)
	l := w.newLoad(100 * time.Millisecond)
	for generation := range uint32(3) {
		next := w.drawSet(set, fresh)
		w.quorums = []quorum{set, next}
		w.wipeSome(set, next)
		for _, m := range next.members {
			if m.life == nil && slices.Contains(fresh, m) {
				w.launch(m)
			}
		}
		fresh = slices.DeleteFunc(slices.Clone(fresh), func(m *member) bool { return slices.Contains(next.members, m) })
		w.trouble(w.rng.IntN(3))
		w.declare(generation, uint32(next.threshold), next.members...)
		w.trouble(3 + w.rng.IntN(3))
		w.enters(generation+1, next)
		w.stopLeavers(set, next)
		set = next
		w.quorums = []quorum{set}
	}
	w.trouble(3)
	w.nodes = slices.DeleteFunc(slices.Clone(w.all), func(m *member) bool { return m.retired })
	for _, m := range w.nodes {
		if m.life == nil {
			w.launch(m)
		}
	}
	height := w.audit(l)
	if l.count() == 0 || w.kills == 0 {
		w.Errorf("%d messages accepted, %d kills: nothing was shown", l.count(), w.kills)
	}
	w.count(l, height)
}

// drawSet draws the next set: of the members and of newcomers, in any order.
func (w *world) drawSet(set quorum, fresh []*member) quorum {
	members := slices.Clone(set.members)
	w.rng.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
	members = members[:w.rng.IntN(len(members)+1)]
	members = append(members, fresh[:min(len(fresh), max(3-len(members), w.rng.IntN(3)))]...)
	for _, m := range set.members { // no newcomers are left
		if len(members) < 3 && !slices.Contains(members, m) {
			members = append(members, m)
		}
	}
	w.rng.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
	n := len(members)
	return quorum{members: members, threshold: n/2 + 1 + w.rng.IntN(n-n/2)}
}

// wipeSome takes the vote store of a member that both sets can do without, if there is one.
func (w *world) wipeSome(sets ...quorum) {
	for _, m := range sets[0].members {
		can := func(q quorum) bool {
			return q.spares(m) && q.threshold < len(q.members) && slices.Contains(q.members, m)
		}
		if m.life == nil || !can(sets[0]) || !slices.ContainsFunc(sets[1].members, func(o *member) bool { return o == m }) {
			continue
		}
		up := sets[1]
		for _, o := range up.members {
			if o.life == nil && o != m {
				up.threshold-- // a newcomer that is about to start
			}
		}
		if !can(up) {
			continue
		}
		w.kill(m)
		w.wipe(m, "votes.db*")
		m.config.CreateVoteStore, m.rejoins = false, true
		w.launch(m)
		return
	}
}

// enters waits until all members of a set are validators of a generation.
func (w *world) enters(generation uint32, next quorum) {
	w.Helper()
	for _, m := range next.members {
		w.eventually(5*time.Minute, fmt.Sprintf("%s is a validator of generation %d", m.name, generation), func() error {
			s, err := m.client.Status(w.ctx)
			if err != nil {
				return err
			}
			if s.Generation != generation || s.Role != "validator" {
				return fmt.Errorf("it is %s at height %d of generation %d; target %+v", s.Role, s.Height, s.Generation, s.Target)
			}
			return nil
		})
		m.rejoins = false
	}
	w.note("generation %d: %d members, threshold %d", generation, len(next.members), next.threshold)
}

// stopLeavers writes the checkpoint, and stops those that have left once they hold nothing any
// more.
func (w *world) stopLeavers(set, next quorum) {
	w.Helper()
	changes, _, err := next.members[0].client.Changes(w.ctx, 1, 100)
	w.must(err)
	last := changes[len(changes)-1]
	at := chain.Checkpoint{Height: last.Header.Height, Hash: last.Header.Hash()}
	w.rewrite(filepath.Join(w.dir, "peers.json"), func(f *node.PeersFile) { f.Checkpoint = &at })
	for _, m := range next.members {
		w.eventually(time.Minute, m.name+" is above the change", func() error {
			if s := m.status(); s.Height <= at.Height || s.Checkpoint == nil || *s.Checkpoint != at {
				return fmt.Errorf("it is at height %d, with checkpoint %v", s.Height, s.Checkpoint)
			}
			return nil
		})
	}
	for _, m := range set.members {
		if slices.Contains(next.members, m) || w.rng.IntN(3) == 0 {
			continue
		}
		w.eventually(time.Minute, m.name+" holds nothing that is not final", func() error {
			if s := m.status(); s.Pool.HeldMessages == nil || *s.Pool.HeldMessages > 0 {
				return fmt.Errorf("at height %d it has %+v", s.Height, s.Pool)
			}
			return nil
		})
		w.note("stop %s, which has left", m.name)
		m.halt()
		m.retired = true
	}
}
