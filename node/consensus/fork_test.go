package consensus

import (
	"errors"
	"fmt"
	"testing"
	"time"
)

const seeds = 200

// TestClusterNeverForks runs small sets through storms of loss, reordering, partitions and crashes between any two actions: no two
// blocks at a height, no rule broken by what leaves a node, and heights go on once the network is calm.
func TestClusterNeverForks(t *testing.T) {
	for _, o := range []options{
		{n: 4, t: 3},
		{n: 4, t: 3, dead: 1},
		{n: 4, t: 3, twins: 1},
		{n: 5, t: 3, dead: 2},
		{n: 7, t: 5, dead: 2},
		{n: 7, t: 5, twins: 2},
		{n: 1, t: 1},
		{n: 2, t: 2},
	} {
		t.Run(fmt.Sprintf("n=%d,t=%d,dead=%d,twins=%d", o.n, o.t, o.dead, o.twins), func(t *testing.T) {
			t.Parallel()
			heights, rounds := 0, 0
			seeds := seeds
			if o.n > 5 {
				seeds /= 4
			}
			for seed := range uint64(seeds) {
				c := newCluster(seed, storm(seed, o))
				if err := c.play(); err != nil {
					t.Fatalf("seed %d: %v", seed, err)
				}
				heights += len(c.final)
				for k := range c.sent {
					rounds = max(rounds, int(k.round)+1)
				}
			}
			t.Logf("%d seeds, %d heights, up to %d rounds", seeds, heights, rounds)
		})
	}
}

// storm gives each seed weather of its own.
func storm(seed uint64, o options) options {
	o.storm = 5 * time.Second
	o.loss = []float64{0, 0.05, 0.2, 0.4}[seed%4]
	o.crash = []float64{0, 0.002, 0.01}[seed%3]
	o.screen = seed%2 == 0
	return o
}

// TestBrokenRulesFork takes one rule away at a time: the cluster must then be seen to fork, or it could not see anything.
func TestBrokenRulesFork(t *testing.T) {
	for name, o := range map[string]options{
		"nullify and finalize together":  {n: 4, t: 3, unsafe: unsafe{noE2: true}},
		"a vote less than the threshold": {n: 4, t: 3, unsafe: unsafe{threshold: 1}},
		"records lost in a crash":        {n: 4, t: 3, amnesia: true},
		"2t-n validators run twice":      {n: 4, t: 3, twins: 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(2000) {
				o := storm(seed, o)
				if o.amnesia {
					o.crash = 0.02
				}
				c := newCluster(seed, o)
				if err := c.play(); errors.Is(err, errFork) {
					t.Logf("seed %d: %v", seed, err)
					return
				}
			}
			t.Fatal("no fork in 2000 seeds")
		})
	}
}
