package consensus

import (
	"fmt"
	"testing"

	"github.com/diseq/diseq/node/chain"
)

// BenchmarkHeight decides heights among cores that deliver to each other at once; the time is of
// one height on all nodes, signatures apart.
func BenchmarkHeight(b *testing.B) {
	for _, s := range []struct{ n, t int }{{4, 3}, {7, 5}, {100, 51}} {
		b.Run(fmt.Sprintf("n=%d", s.n), func(b *testing.B) {
			set := testSet(s.n, s.t)
			cores := make([]*Core, s.n)
			for i := range cores {
				c, err := New(testConfig(set, i), nil)
				if err != nil {
					b.Fatal(err)
				}
				c.Step(Pool{Pending: true})
				cores[i] = c
			}
			height, messages := uint64(0), 0
			last := make([]*chain.Certificate, s.n)
			type item struct {
				to      int
				actions []Action
				e       Event
			}
			var queue []item
			for b.Loop() {
				height++
				for i, c := range cores {
					h := Height{Number: height, Set: set, Order: order(s.n), Last: last[i]}
					if last[i] != nil {
						h.Parent = last[i].Block
					}
					actions, err := c.StartHeight(h)
					if err != nil {
						b.Fatal(err)
					}
					queue = append(queue, item{to: i, actions: actions})
				}
				for len(queue) > 0 {
					x := queue[0]
					queue = queue[1:]
					if _, ok := x.e.(Received); ok {
						messages++
					}
					if x.e != nil {
						x.actions = append(x.actions, cores[x.to].Step(checked(cores[x.to], x.e))...)
					}
					for _, a := range x.actions {
						switch a := a.(type) {
						case Broadcast:
							for to := range cores {
								if to != x.to {
									queue = append(queue, item{to: to, e: Received{From: set.Validators[x.to].PublicKey, Bundle: a.Bundle}})
								}
							}
						case RequestBlock:
							block := &chain.Block{Header: chain.Header{ChainID: "test", Height: height, Proposer: uint32(x.to)}}
							if last[x.to] != nil {
								block.Header.ParentHash = last[x.to].Block
							}
							queue = append(queue, item{to: x.to, e: BlockBuilt{Round: a.Round, Block: block}})
						case CheckBlock:
							queue = append(queue, item{to: x.to, e: BlockChecked{
								Height: a.Height, Round: a.Round, Block: a.Block, Fresh: a.Fresh, Verdict: Valid,
							}})
						case Commit:
							last[x.to] = a.Finalization
						}
					}
				}
				for i := range last {
					if last[i] == nil || last[i].Height != height {
						b.Fatalf("node %d has not committed height %d", i, height)
					}
				}
			}
			b.ReportMetric(float64(messages)/float64(b.N)/float64(s.n), "messages/height/node")
		})
	}
}
