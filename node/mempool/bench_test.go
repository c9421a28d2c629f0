package mempool

import (
	"context"
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"

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

// forgetful is a Storage that keeps nothing, so that a benchmark is of the pool alone.
type forgetful struct{ memoryStorage }

func (*forgetful) AddBatches(context.Context, []chain.StoredBatch) error { return nil }

func large(c *Config) {
	c.MaxMessageBytes, c.MaxBlockBytes = 64<<10, 4<<20
	c.MaxPoolBytes, c.MaxPoolMessages = 16<<30, 64<<20
	c.Storage = &forgetful{}
	c.Replicator = pushes(func(chain.Hash, []byte) {})
}

// meter adds up the processor time of all threads while it runs, which other work on the machine
// does not change.
type meter struct {
	b     *testing.B
	total int64
}

func (m *meter) now() int64 {
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		m.b.Fatal(err)
	}
	return usage.Utime.Nano() + usage.Stime.Nano()
}

func (m *meter) run(f func()) {
	m.b.StartTimer()
	started := m.now()
	f()
	m.total += m.now() - started
	m.b.StopTimer()
}

// report says what each of n messages an iteration took.
func (m *meter) report(n int) {
	m.b.ReportMetric(float64(m.total)/float64(m.b.N*n), "cpu-ns/message")
	m.b.ReportMetric(0, "ns/op") // of wall clock
}

// drain makes everything pending final.
func drain(b *testing.B, n *testNode) {
	for {
		body := n.selected(b)
		n.Removable(body.IDs)
		if err := n.Committed(n.height+1, time.Now(), body.Refs, body.IDs); err != nil {
			b.Fatal(err)
		}
		n.Indexed(n.height)
		if len(body.Refs) == 0 {
			return
		}
	}
}

// BenchmarkSubmit submits requests one after the other, the worst case for group commit.
func BenchmarkSubmit(b *testing.B) {
	for _, size := range []int{1, 100, 1000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			n := newNode(b, 0, 4, large)
			m := meter{b: b}
			b.ReportAllocs()
			b.StopTimer()
			for i := range b.N {
				messages := payloads(i*size, size)
				m.run(func() {
					if _, err := n.Submit(b.Context(), messages); err != nil {
						b.Fatal(err)
					}
				})
				if i%(200_000/size) == 0 {
					drain(b, n)
				}
			}
			m.report(size)
		})
	}
}

// BenchmarkReceive takes a peer's batches of 100 messages.
func BenchmarkReceive(b *testing.B) {
	n := newNode(b, 0, 4, large)
	m := meter{b: b}
	b.ReportAllocs()
	b.StopTimer()
	for i := range b.N {
		encoded, _ := batch(1, 1, uint64(i+1), payloads(100*i, 100)...)
		m.run(func() {
			if err := n.Receive(b.Context(), author(1), encoded); err != nil {
				b.Fatal(err)
			}
		})
		if i%2000 == 0 {
			drain(b, n)
		}
	}
	m.report(100)
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
			m := meter{b: b}
			var body Body
			b.ReportAllocs()
			b.ResetTimer()
			m.run(func() {
				for range b.N {
					body = n.selected(b)
				}
			})
			m.report(len(body.IDs))
		})
	}
}

// BenchmarkResolve resolves that block.
func BenchmarkResolve(b *testing.B) {
	for _, size := range []int{10, 100} {
		b.Run(fmt.Sprint("batches of ", size), func(b *testing.B) {
			n := filled(b, size)
			m := meter{b: b}
			body := n.selected(b)
			b.ReportAllocs()
			b.ResetTimer()
			m.run(func() {
				for range b.N {
					if _, missing, err := n.Resolve(b.Context(), 0, body.Refs); err != nil || missing != nil {
						b.Fatal(missing, err)
					}
				}
			})
			m.report(len(body.IDs))
		})
	}
}

// BenchmarkCommit makes blocks of 10,000 messages final and indexes them.
func BenchmarkCommit(b *testing.B) {
	n := newNode(b, 0, 4, large)
	m := meter{b: b}
	b.ReportAllocs()
	b.StopTimer()
	for i := range b.N {
		for j := range 100 {
			n.receive(b, 1, uint64(i+1), uint64(j+1), payloads(100*(100*i+j), 100)...)
		}
		body := n.selected(b)
		m.run(func() {
			n.Removable(body.IDs)
			if err := n.Committed(n.height+1, time.Now(), body.Refs, body.IDs); err != nil {
				b.Fatal(err)
			}
			n.Indexed(n.height)
		})
	}
	m.report(10_000)
}

// BenchmarkID is the part of the above that no pool can save: hashing the messages.
func BenchmarkID(b *testing.B) {
	messages := payloads(0, 100)
	m := meter{b: b}
	m.run(func() {
		for range b.N {
			for i := range messages {
				_ = messages[i].ID()
			}
		}
	})
	m.report(100)
}
