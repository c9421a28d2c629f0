package store

import (
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/diseq/diseq/node/chain"
)

// The way of a message: batches of 100 messages of 250 bytes, five at a time, and a block for every
// ten of them. It prints CPU time and bytes written to disk for each message.
func BenchmarkMessage(b *testing.B) {
	const batches, each = 10, 100
	c := newChain("bench")
	s := c.open(b, dataDir(b))
	number := uint64(0)
	var spent time.Duration
	var wrote int64
	for b.Loop() {
		var messages []chain.Message
		commit := chain.Commit{}
		var stored []chain.StoredBatch
		for range batches {
			number++
			run := payloads(each, 250, number*each)
			messages = append(messages, run...)
			batch := c.batch(number, run...)
			stored = append(stored, batch)
			commit.Sources = append(commit.Sources, chain.Source{Batch: batch.Hash, Offset: 52, Count: each})
			commit.Remove = append(commit.Remove, batch.Hash)
		}
		commit.Block = c.next(messages...)
		cpu, disk := used(b)
		must(b, s.AddBatches(b.Context(), stored[:batches/2]))
		must(b, s.AddBatches(b.Context(), stored[batches/2:]))
		must(b, s.Commit(b.Context(), commit))
		cpuAfter, diskAfter := used(b)
		spent, wrote = spent+cpuAfter-cpu, wrote+diskAfter-disk
	}
	n := float64(b.N * batches * each)
	b.ReportMetric(float64(spent)/n, "cpu-ns/message")
	b.ReportMetric(float64(wrote)/n, "disk-B/message")
	b.ReportMetric(0, "ns/op")
}

// used returns the CPU time of the process and what it has written to disk.
func used(b *testing.B) (cpu time.Duration, disk int64) {
	b.Helper()
	var u unix.Rusage
	must(b, unix.Getrusage(unix.RUSAGE_SELF, &u))
	io, err := os.ReadFile("/proc/self/io")
	must(b, err)
	_, after, _ := strings.Cut(string(io), "\nwrite_bytes: ")
	number, _, _ := strings.Cut(after, "\n")
	disk, err = strconv.ParseInt(number, 10, 64)
	must(b, err)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), disk
}

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
		must(b, s.Commit(b.Context(), chain.Commit{
			Block: f, Sources: []chain.Source{{Batch: batch.Hash, Offset: 52, Count: 500}}, Remove: []chain.Hash{batch.Hash},
		}))
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
