package nodes

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/diseq/diseq/node/chain"
)

// All validators are replaced at once while clients submit to old and new ones. Nothing that got
// 202 is lost, although all who held it are wiped as soon as their status says that they hold
// nothing any more. Then a node that knows genesis alone starts two eras late. No validator that
// genesis names runs, and it arrives all the same.
//
// Promise 72.
// Promise 73.
func TestAFullReplacementUnderLoadLosesNothing(t *testing.T) {
	bubble(t, *firstSeed, spec{validators: 4, threshold: 3, observers: 5}, func(w *world) {
		old, fresh, late := w.nodes[:4], w.nodes[4:8], w.nodes[8]
		newcomers(w.nodes[4:]...)
		w.start(old...)
		for _, m := range fresh {
			w.launch(m)
		}
		w.nodes = w.nodes[:8]
		l := w.newLoad(50 * time.Millisecond)
		w.inForce(0, "observer", fresh...)
		time.Sleep(2 * time.Second)
		if s := old[0].status(); s.Pool.HeldMessages != nil {
			w.Errorf("a validator says that it has left, and holds %d messages", *s.Pool.HeldMessages)
		}
		w.declare(0, 3, fresh...)
		w.inForce(1, "validator", fresh...)
		w.inForce(1, "observer", old...)
		left := map[chain.Hash]bool{} // accepted before, by those that left, too
		for id := range l.book.All() {
			left[id] = true
		}
		for _, m := range old {
			w.eventually(time.Minute, m.name+" holds nothing that is not final", func() error {
				if s := m.status(); s.Pool.HeldMessages == nil || *s.Pool.HeldMessages > 0 {
					return fmt.Errorf("at height %d it has %+v", s.Height, s.Pool)
				}
				return nil
			})
			m.halt()
			w.wipe(m, "*")
		}
		time.Sleep(time.Second)
		before := l.count()
		w.declare(1, 2, fresh[1:]...)
		w.inForce(2, "validator", fresh[1:]...)
		w.inForce(2, "observer", fresh[0])
		fresh[0].halt()
		time.Sleep(time.Second)
		if l.count() == before || len(left) == 0 {
			w.Errorf("%d messages were accepted, %d of them before the replacement", l.count(), len(left))
		}

		w.launch(late)
		w.nodes = append(fresh[1:], late)
		height := w.settle(l)
		if s := late.status(); s.Generation != 2 || s.Height != height || s.Role != "observer" {
			w.Errorf("the late node is %s at height %d of generation %d, the others are at %d of 2", s.Role, s.Height, s.Generation, height)
		}
		for id := range l.book.All() {
			r, err := late.client.Receipt(w.ctx, id)
			if err != nil {
				w.Fatalf("message %v, accepted before the replacement: %v, is lost: %v", id, left[id], err)
			}
			w.must(r.Verify(w.genesis, 0))
		}
		w.note("%d messages accepted, %d before the replacement, %d heights", l.count(), len(left), height)
	})
}

// A validator that lost its volume has its answers on an idle network, and waits for the height
// from which it may vote. Then the set changes below that height. It asks the members of the new
// set, and votes from the third height of theirs on, not from the one that it knew before.
//
// Promise 16.
func TestARejoiningValidatorAsksTheNextSet(t *testing.T) {
	bubble(t, *firstSeed, spec{validators: 4, threshold: 3, observers: 1}, func(w *world) {
		all, o := w.nodes, w.nodes[4]
		v := all[3]
		newcomers(o)
		w.start(all[:4]...)
		w.launch(o)
		w.nodes = all[:3] // the others take messages
		l := w.newLoad(50 * time.Millisecond)
		time.Sleep(2 * time.Second)
		w.idle(l)
		killed := w.highest()
		v.halt()
		w.wipe(v, "*")
		w.launch(v)
		told := fmt.Sprintf("votes_from_height=%d\n", killed+3)
		w.eventually(time.Minute, "it has its answers", func() error {
			if !strings.Contains(v.log.String(), told) {
				return fmt.Errorf("its log lacks %q:\n%s", told, v.log)
			}
			return nil
		})

		w.declare(0, 3, all...)
		w.inForce(1, "validator", all[0], all[1], all[2], o)
		w.inForce(1, "rejoining", v)
		l = w.goOn(l, 50*time.Millisecond)
		w.inForce(1, "validator", v)
		time.Sleep(time.Second)
		height := w.settle(l)
		blocks, _, err := all[0].client.Blocks(w.ctx, killed+1, int(height-killed))
		w.must(err)
		changed, votes := uint64(0), 0
		for _, b := range blocks {
			if b.Header.NextValidatorsHash != b.Header.ValidatorsHash {
				changed = b.Header.Height
			}
			signed := slices.ContainsFunc(b.Certificate.Votes, func(s chain.VoteSignature) bool { return int(s.Validator) == v.index })
			switch {
			case signed && b.Header.Height < changed+3:
				w.Errorf("it signed height %d; the set changed at %d, and it may vote from %d", b.Header.Height, changed, changed+3)
			case signed:
				votes++
			}
		}
		if changed == 0 || changed > killed+2 || votes == 0 {
			w.Errorf("the set changed at height %d, it was to vote from %d, and its votes are in %d certificates after", changed, killed+3, votes)
		}
	})
}
