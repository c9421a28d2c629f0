package chain

import (
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"
)

// processorTime returns the processor time of all threads, which other work on the machine does not
// change.
func processorTime(b *testing.B) int64 {
	b.Helper()
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return usage.Utime.Nano() + usage.Stime.Nano()
}

// BenchmarkHashes is what each hash over a batch of 100 messages of 250 bytes costs a message:
// their ids, the batch, and the root of a block of 50 such batches.
func BenchmarkHashes(b *testing.B) {
	messages := make([]Message, 5000)
	for i := range messages {
		messages[i].Data = binary.BigEndian.AppendUint64(make([]byte, 0, 250), uint64(i))[:250]
	}
	batch := &Batch{Incarnation: 1, Number: 1, Messages: messages[:100]}
	for _, c := range []struct {
		name     string
		messages int
		run      func()
	}{
		{"id", 1, func() { messages[0].ID() }},
		{"batch", 100, func() { batch.Hash("bench") }},
		{"root", len(messages), func() { MessagesRoot(messages) }},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			began := processorTime(b)
			for b.Loop() {
				c.run()
			}
			b.ReportMetric(float64(processorTime(b)-began)/float64(b.N*c.messages), "cpu-ns/message")
			b.ReportMetric(0, "ns/op")
		})
	}
}
