package store

import (
	"testing"

	"github.com/diseq/diseq/node/chain"
)

// A block of 500 messages of 250 bytes, with the batch that brought them removed in the same
// transaction.
func BenchmarkCommit(b *testing.B) {
	c := newChain("bench")
	s := c.open(b, dataDir(b))
	b.SetBytes(500 * 250)
	number := uint64(0)
	for b.Loop() {
		b.StopTimer()
		number++
		messages := payloads(500, 250, number*500)
		batch := c.batch(number, messages...)
		must(b, s.AddBatches(b.Context(), []chain.StoredBatch{batch}))
		f := c.next(messages...)
		b.StartTimer()
		must(b, s.Commit(b.Context(), chain.Commit{Block: f, Remove: []chain.Hash{batch.Hash}}))
	}
}

// Batches of 50 messages of 250 bytes from 4 callers at once, as 4 nodes at 10,000 messages a
// second bring them.
func BenchmarkAddBatches(b *testing.B) {
	c := newChain("bench")
	s := c.open(b, dataDir(b))
	batches := make(chan chain.StoredBatch, 4096)
	b.SetBytes(50 * 250)
	b.SetParallelism(2)
	go func() {
		for n := range uint64(b.N) {
			batches <- chain.StoredBatch{Hash: chain.Hash{1, byte(n), byte(n >> 8), byte(n >> 16), byte(n >> 24)}, Author: c.key(), Number: n, Data: make([]byte, 50*258)}
		}
	}()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := s.AddBatches(b.Context(), []chain.StoredBatch{<-batches}); err != nil {
				b.Error(err)
			}
		}
	})
}

// One vote and its fsync, with the pruning of old heights.
func BenchmarkVotesAppend(b *testing.B) {
	c := newChain("bench")
	dir := dataDir(b)
	must(b, CreateVotes(dir, c.key()))
	s := c.open(b, dir)
	v := c.openVotes(b, s)
	vote := make([]byte, 113)
	height := uint64(10)
	for b.Loop() {
		height++
		must(b, v.Append(chain.Record{Height: height, Kind: 1, Data: vote}))
		v.Prune(height - 10)
	}
}

func BenchmarkReadBlock(b *testing.B) {
	c := newChain("bench")
	s := c.open(b, dataDir(b))
	for range 64 {
		must(b, s.Commit(b.Context(), chain.Commit{Block: c.next(payloads(500, 250, c.tip.Height*500)...)}))
	}
	b.SetBytes(500 * 250)
	height := uint64(0)
	for b.Loop() {
		height++
		if _, err := s.Block(b.Context(), height%64+1); err != nil {
			b.Fatal(err)
		}
	}
}

// Opening 60 MB, whose structure is walked, and 250 MB, whose is not.
func BenchmarkOpen(b *testing.B) {
	for name, blocks := range map[string]int{"60MB": 60, "250MB": 250} {
		b.Run(name, func(b *testing.B) {
			c := newChain("bench")
			dir := dataDir(b)
			s := c.open(b, dir)
			messages := payloads(4000, 242, 0)
			for range blocks {
				must(b, s.Commit(b.Context(), chain.Commit{Block: c.next(messages...)}))
			}
			must(b, s.Close())
			for b.Loop() {
				s, err := Open(dir, c.genesis, Options{})
				must(b, err)
				must(b, s.Close())
			}
		})
	}
}
