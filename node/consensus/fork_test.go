package consensus

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/diseq/diseq/node/chain"
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
	o.timeout = 200 * time.Millisecond
	if seed%5 == 0 {
		// Shorter than a message takes: rounds fail one after the other until they have grown long enough.
		o.timeout = 15 * time.Millisecond
	}
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

// A fork that fewer than t Byzantine validators bring about convicts at least 2t-n of them, by what the two sides keep with their blocks.
func TestForkConvicts(t *testing.T) {
	forks := 0
	for _, o := range []options{{n: 4, t: 3, twins: 2}, {n: 5, t: 4, twins: 3}, {n: 7, t: 5, twins: 3}} {
		for seed := range uint64(100) {
			c := newCluster(seed, storm(seed, o))
			if err := c.play(); !errors.Is(err, errFork) {
				continue
			}
			forks++
			judge, err := New(testConfig(testSet(o.n+1, o.t+1), o.n), nil)
			if err != nil {
				t.Fatal(err)
			}
			h := Height{Height: c.forked, Set: c.set, Order: order(o.n)}
			if c.forked > 1 {
				h.Parent = c.final[c.forked-1]
				h.Last = &chain.Certificate{Kind: chain.Finalize, Height: c.forked - 1, Block: h.Parent}
			}
			if _, err := judge.StartHeight(h); err != nil {
				t.Fatal(err)
			}
			convicted := make(map[uint32]bool)
			contradiction := false
			for _, commit := range c.commits[c.forked] {
				certs := append([]*chain.Certificate{commit.Finalization}, commit.Justification...)
				for _, a := range judge.Step(Received{Bundle: Bundle{Certificates: certs}}) {
					switch a := a.(type) {
					case EvidenceFound:
						convicted[a.Evidence.First.Validator] = true
						if int(a.Evidence.First.Validator) >= o.twins {
							t.Fatalf("n=%d, seed %d: honest validator %d is convicted", o.n, seed, a.Evidence.First.Validator)
						}
					case Contradiction:
						contradiction = true
					}
				}
			}
			if len(convicted) < 2*o.t-o.n || !contradiction {
				t.Fatalf("n=%d, seed %d: %d convicted, want %d; contradiction seen: %t", o.n, seed, len(convicted), 2*o.t-o.n, contradiction)
			}
		}
	}
	if forks < 5 {
		t.Fatalf("only %d forks to judge", forks)
	}
	t.Logf("%d forks", forks)
}

// The example of consensus.md, recovery: 0, 1 and 2 nullify round 0; 3 sees the nullification and votes in round 1; all are killed and 2
// stays dead. Without the certificate on the disk of 3 round 0 could never end again: 3 has left it, and 0 and 1 are too few.
func TestCertificateByWhichARoundWasLeftOutlivesAll(t *testing.T) {
	for _, forgets := range []bool{false, true} {
		c := newCluster(1, options{n: 4, t: 3, timeout: 200 * time.Millisecond})
		var nullify Bundle
		for _, s := range c.slots {
			core, err := New(c.config(s), nil)
			if err != nil {
				t.Fatal(err)
			}
			core.Step(Pool{Pending: true})
			if _, err := core.StartHeight(c.heightOf(1)); err != nil {
				t.Fatal(err)
			}
			events := []Event{TimerFired{Timer{Kind: RoundTimer, Height: 1}}}
			if s.id == 3 {
				events = []Event{Received{Bundle: nullify}, TimerFired{Timer{Kind: RoundTimer, Height: 1, Round: 1}}}
			}
			for _, e := range events {
				actions := core.Step(e)
				persist, _ := find[Persist](actions)
				s.records = append(s.records, persist.Records...)
				broadcast, _ := find[Broadcast](actions)
				nullify.Votes = append(nullify.Votes, broadcast.Bundle.Votes...)
			}
		}
		if forgets {
			c.slots[3].records = slices.DeleteFunc(c.slots[3].records, func(r Record) bool { return r.Kind == RecordCertificate })
		}
		c.calm = true
		for _, id := range []int{0, 1, 3} {
			c.start(c.slots[id])
		}
		if err := c.run(time.Minute); err != nil {
			t.Fatal(err)
		}
		if stalled := c.height() == 0; stalled != forgets {
			t.Errorf("the certificate forgotten: %t; stalled: %t", forgets, stalled)
		}
	}
}
