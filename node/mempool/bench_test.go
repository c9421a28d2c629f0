package mempool

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/diseq/diseq/node/chain"
)

// payload returns a message of 250 bytes that is like no other.
func payload(i int) chain.Message {
	m := chain.Message{Data: make([]byte, 250)}
	binary.BigEndian.PutUint64(m.Data, uint64(i))
	return m
}

func payloads(first, n int) []chain.Message {
	messages := make([]chain.Message, n)
	for i := range messages {
		messages[i] = payload(first + i)
	}
	return messages
}

func large(c *Config) {
	c.MaxMessageBytes, c.MaxBlockBytes = 64<<10, 4<<20
	c.MaxPoolBytes, c.MaxPoolMessages = 16<<30, 64<<20
}

// perMessage reports the cost of n messages an iteration.
func perMessage(b *testing.B, n int) {
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/message")
}

// drain makes everything pending final, outside the measured time.
func drain(b *testing.B, n *testNode) {
	b.StopTimer()
	for {
		body := n.selected(b)
		if len(body.Refs) == 0 {
			break
		}
		n.storage.batches = nil
		if err := n.Committed(n.height+1, body.Refs, body.IDs); err != nil {
			b.Fatal(err)
		}
		n.Indexed(n.height)
	}
	n.Removable(nil)
	if err := n.Committed(n.height+1, nil, nil); err != nil {
		b.Fatal(err)
	}
	b.StartTimer()
}

// BenchmarkSubmit submits requests of 100 messages one after the other, the worst case for group commit.
func BenchmarkSubmit(b *testing.B) {
	for _, size := range []int{1, 100, 1000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			n := newNode(b, 0, 4, large)
			next := 0
			b.ReportAllocs()
			b.ResetTimer()
			for i := 0; b.Loop(); i++ {
				if next%200_000 < size {
					drain(b, n)
				}
				b.StopTimer()
				messages := payloads(next, size)
				b.StartTimer()
				next += size
				if _, err := n.Submit(b.Context(), messages); err != nil {
					b.Fatal(err)
				}
			}
			perMessage(b, size)
		})
	}
}

// BenchmarkReceive takes a peer's batches of 100 messages.
func BenchmarkReceive(b *testing.B) {
	n := newNode(b, 0, 4, large)
	next := 0
	b.ReportAllocs()
	for i := uint64(1); b.Loop(); i++ {
		b.StopTimer()
		encoded, _ := batch(1, 1, i, payloads(next, 100)...)
		next += 100
		if next%200_000 == 0 {
			b.StartTimer()
			drain(b, n)
			b.StopTimer()
		}
		b.StartTimer()
		if err := n.Receive(b.Context(), author(1), encoded); err != nil {
			b.Fatal(err)
		}
	}
	perMessage(b, 100)
}

// filled returns a node with 100,000 pending messages of three authors, in batches of size.
func filled(b *testing.B, size int) *testNode {
	n := newNode(b, 0, 4, large)
	for i := range 100_000 / size {
		n.receive(b, 1+i%3, 1, uint64(i/3+1), payloads(i*size, size)...)
	}
	return n
}

// BenchmarkSelect selects a block of 4 MiB (16,256 messages) from 100,000 pending ones.
func BenchmarkSelect(b *testing.B) {
	for _, size := range []int{10, 100} {
		b.Run(fmt.Sprint("batches of ", size), func(b *testing.B) {
			n := filled(b, size)
			var body Body
			b.ReportAllocs()
			for b.Loop() {
				body = n.selected(b)
			}
			perMessage(b, len(body.IDs))
		})
	}
}

// BenchmarkResolve resolves that block.
func BenchmarkResolve(b *testing.B) {
	for _, size := range []int{10, 100} {
		b.Run(fmt.Sprint("batches of ", size), func(b *testing.B) {
			n := filled(b, size)
			body := n.selected(b)
			b.ReportAllocs()
			for b.Loop() {
				if _, missing, err := n.Resolve(b.Context(), 0, body.Refs); err != nil || missing != nil {
					b.Fatal(missing, err)
				}
			}
			perMessage(b, len(body.IDs))
		})
	}
}

// BenchmarkCommit makes a block of 10,000 messages final and indexes it.
func BenchmarkCommit(b *testing.B) {
	n := newNode(b, 0, 4, large)
	next := 0
	b.ReportAllocs()
	for i := uint64(1); b.Loop(); i++ {
		b.StopTimer()
		n.storage.batches = nil
		for j := range uint64(100) {
			n.receive(b, 1, i, j+1, payloads(next, 100)...)
			next += 100
		}
		body := n.selected(b)
		b.StartTimer()
		n.Removable(body.IDs)
		if err := n.Committed(n.height+1, body.Refs, body.IDs); err != nil {
			b.Fatal(err)
		}
		n.Indexed(n.height)
	}
	perMessage(b, 10_000)
}

// BenchmarkID is the part of the above that no pool can save: hashing the messages.
func BenchmarkID(b *testing.B) {
	messages := payloads(0, 100)
	for b.Loop() {
		for _, m := range messages {
			_ = m.ID()
		}
	}
	perMessage(b, 100)
}
