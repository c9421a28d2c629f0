package nodes

import (
	"testing"
	"time"
)

// Clocks that are seconds off: the chain goes on, its time rises, and no block is further ahead
// than a validator with a right clock lets it be.
//
// Promise 35.
func TestClocksThatAreSecondsOffStopNothing(t *testing.T) {
	unlessShort(t)
	off := []time.Duration{4 * time.Second, -3 * time.Second, 0, time.Second}
	bubble(t, *firstSeed, spec{validators: 4, threshold: 3, clock: func(i int) time.Duration { return off[i] }}, func(w *world) {
		w.start(w.nodes...)
		streams := []*stream{w.follow(w.nodes[0]), w.follow(w.nodes[2])}
		l := w.newLoad(100 * time.Millisecond)
		const drift = 2 * time.Second // consensus.md, notarize
		begun, from := time.Now(), w.highest()
		last := uint64(0)
		for time.Since(begun) < 15*time.Second {
			time.Sleep(100 * time.Millisecond)
			b, err := w.nodes[2].client.LatestBlock(w.ctx)
			w.must(err)
			// Of any three validators one has a clock that is right or behind.
			if ahead := time.Until(time.UnixMilli(int64(b.Header.Timestamp))); ahead > drift+time.Duration(b.Header.Height-last)*time.Millisecond {
				w.Errorf("block %d is %v ahead of the time", b.Header.Height, ahead)
			}
			last = b.Header.Height
		}
		height := w.audit(l) // it holds the times to rising
		w.caughtUp(height, streams...)
		if grown := height - from; grown < 30 {
			w.Errorf("%d heights in 15 s", grown)
		}
		proposers := map[uint32]int{}
		for at := uint64(1); at <= height; at++ {
			b, _ := w.history.Block(at)
			proposers[b.Header.Proposer]++
		}
		if proposers[1] == 0 {
			w.Errorf("no block is by the validator whose clock is behind; blocks by proposer: %v", proposers)
		}
		w.count(l, height)
	})
}
