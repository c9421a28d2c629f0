package nodes

import (
	"fmt"
	"testing"
	"time"

	"github.com/diseq/diseq/node/chain"
)

// behind is how many heights a node has to catch up with: more than requests, the trie's history
// and what may be unindexed hold.
func behind() uint64 {
	if long() {
		return 4000
	}
	return 700
}

// A validator that was down, and an observer that begins at genesis, catch up while the others go
// on. They do although another peer claims the greatest height and shows a block each 28 s.
//
// Promise 24.
func TestANodeFarBehindCatchesUpWhileTheOthersGoOn(t *testing.T) {
	unlessShort(t)
	s := spec{validators: 4, threshold: 3, observers: 1, guests: 1, history: 64, interval: 128}
	bubble(t, *firstSeed, s, func(w *world) {
		v, o := w.nodes[3], w.nodes[4]
		g := w.invite("g0", w.guests[0])
		g.says, g.late = &chain.Status{Height: 1 << 40, Block: chain.Hash{1}}, 28*time.Second
		w.start(w.validators()...)
		l := w.newLoad(500 * time.Millisecond)
		time.Sleep(2 * time.Second)
		w.kill(v)
		from := w.highest()
		w.eventually(time.Hour, "the others are far ahead", func() error {
			if h := w.highest(); h < from+behind() {
				return fmt.Errorf("height %d", h)
			}
			return nil
		})
		target := w.highest()
		w.start(v, o)
		streams := []*stream{w.follow(v), w.follow(o)}
		w.eventually(time.Minute, "both are there", func() error {
			if a, b := v.status().Height, o.status().Height; a < target || b < target {
				return fmt.Errorf("heights %d and %d of %d", a, b, target)
			}
			return nil
		})
		if g.asked.Load() == 0 {
			w.Error("nobody asked the peer that is slow")
		}
		if role := o.status().Role; role != "observer" {
			w.Errorf("the observer is %s", role)
		}
		time.Sleep(time.Second)
		height := w.audit(l)
		w.caughtUp(height, streams...)
		if height <= target {
			w.Errorf("height %d: nothing came after height %d", height, target)
		}
		w.count(l, height)
	})
}
