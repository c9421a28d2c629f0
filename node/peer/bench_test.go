package peer

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/diseq/diseq/node/chain"
)

// network returns four started nodes that log nothing.
func network(b *testing.B) []*node {
	b.Helper()
	genesis := testGenesis(4)
	var nodes []*node
	for i := range 4 {
		nodes = append(nodes, newNode(b, i, genesis, func(c *Config, _ *settings) { c.Logger, c.Registerer = nil, nil }))
	}
	start(b, nodes...)
	return nodes
}

// BenchmarkVoteRoundTrip is a vote broadcast to three peers and a vote back from each.
func BenchmarkVoteRoundTrip(b *testing.B) {
	nodes := network(b)
	for _, n := range nodes[1:] {
		answer := &chain.Bundle{Votes: []chain.Vote{testVote(1, 1)}}
		n.guard.Lock()
		n.onBundle = func(from chain.PublicKey, _ *chain.Bundle) (int, error) {
			n.Send(from, answer)
			return 0, nil
		}
		n.guard.Unlock()
	}
	question := &chain.Bundle{Votes: []chain.Vote{testVote(0, 1)}}
	for b.Loop() {
		nodes[0].Broadcast(question)
		for range 3 {
			receive(b, nodes[0].bundles)
		}
	}
}

// BenchmarkProposal is a proposal of 20 batches taken in by three peers.
func BenchmarkProposal(b *testing.B) {
	nodes := network(b)
	p := testProposal(1)
	p.Block.Body = make([]chain.BatchRef, 20)
	question := &chain.Bundle{Proposals: []*chain.Proposal{p}}
	for b.Loop() {
		nodes[0].Broadcast(question)
		for _, n := range nodes[1:] {
			receive(b, n.bundles)
		}
	}
}

// BenchmarkVotes is votes of all four nodes to all, as fast as they go: CPU time for one vote sent
// and received.
func BenchmarkVotes(b *testing.B) {
	nodes := network(b)
	var arrived atomic.Int64
	signal := make(chan struct{}, 1)
	for _, n := range nodes {
		n.guard.Lock()
		n.onBundle = func(_ chain.PublicKey, bundle *chain.Bundle) (int, error) {
			arrived.Add(int64(len(bundle.Votes)))
			wake(signal)
			return 0, nil
		}
		n.guard.Unlock()
	}
	question := &chain.Bundle{Votes: []chain.Vote{testVote(0, 1)}}
	sent := int64(0)
	b.ReportAllocs()
	for b.Loop() {
		for sent-arrived.Load() > 4096 { // as much as the queues hold
			<-signal
		}
		for _, n := range nodes {
			n.Broadcast(question)
		}
		sent += 12
	}
	for arrived.Load() < sent {
		<-signal
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(sent), "ns/vote")
}

// BenchmarkPush is batches of 100 messages of 250 bytes, pushed to three peers and acknowledged by
// all.
func BenchmarkPush(b *testing.B) {
	nodes := network(b)
	for _, n := range nodes {
		n.guard.Lock()
		n.onBatch = func(context.Context, []byte) error { return nil }
		n.guard.Unlock()
		go func() {
			for {
				select {
				case <-n.batches:
				case <-n.ctx.Done():
					return
				}
			}
		}()
	}
	batch := &chain.Batch{Incarnation: 1, Number: 1}
	for range 100 {
		batch.Messages = append(batch.Messages, chain.Message{Data: make([]byte, 250)})
	}
	batch.Sign(testKey(0), "test")
	encoded := batch.Encode()
	b.SetBytes(int64(len(encoded)))
	pushed, acked := 0, 0
	hash := chain.Hash{}
	for b.Loop() {
		pushed++
		hash[0], hash[1], hash[2], hash[3] = byte(pushed), byte(pushed>>8), byte(pushed>>16), byte(pushed>>24)
		for _, peer := range nodes[0].PushBatch(hash, encoded) {
			if err := nodes[0].Push(b.Context(), peer, hash, encoded); err != nil {
				b.Fatal(err)
			}
		}
		for ; len(nodes[0].acks) > 0; acked++ {
			receive(b, nodes[0].acks)
		}
	}
	for ; acked < pushed*3; acked++ {
		receive(b, nodes[0].acks)
	}
}
