package trie

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

var (
	historyLeaves = flag.Int("trie.leaves", 1_200_000, "messages that BenchmarkHistory appends")
	historyCache  = flag.Int("trie.cache", 12<<20, "bytes of memory of its trie: 1/8 of a node's, so that 1.2 million messages are like ten")
	historyBlock  = flag.Int("trie.block", 1000, "messages of one block")
	historyDir    = flag.String("trie.dir", "", "directory for its files, empty: a temporary one")
)

// BenchmarkHistory appends blocks of -trie.block messages to one trie that grows. For each sixth of
// the way it reports the CPU time a message (the making of the blocks, checkpoints and the
// collector included) and the bytes that the process wrote. Run it with -benchtime 1x. For the
// node's cache and ten million messages: -args -trie.leaves 10000000 -trie.cache 100663296.
func BenchmarkHistory(b *testing.B) {
	const parts = 6
	size := *historyBlock
	dir := *historyDir
	if dir == "" {
		dir = b.TempDir()
	}
	for b.Loop() {
		path, err := os.MkdirTemp(dir, "history")
		if err != nil {
			b.Fatal(err)
		}
		tr := mustOpen(b, filepath.Join(path, "state"), Options{CacheBytes: *historyCache})
		rng := rand.NewChaCha8([32]byte{3})
		blocks := *historyLeaves / size / parts
		for part := range parts {
			cpu, written := cpuTime(b), bytesWritten(b)
			for range blocks {
				mustAppend(b, tr, tr.Height()+1, randomBlock(rng, size))
			}
			messages := float64(blocks * size)
			at := fmt.Sprintf("at-%.1fM", float64((part+1)*blocks*size)/1e6)
			b.ReportMetric(float64(cpuTime(b)-cpu)/messages, "cpu-ns/msg-"+at)
			b.ReportMetric(float64(bytesWritten(b)-written)/messages, "B/msg-"+at)
		}
		stacks := tr.pages.stacks.bytes + tr.pages.changed.bytes
		b.ReportMetric(float64(stacks)/float64(tr.leaves), "stack-B/msg")
		mustClose(b, tr)
		if err := os.RemoveAll(path); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(0, "ns/op") // it says nothing
}

// bytesWritten returns how many bytes the process gave to write calls.
func bytesWritten(b *testing.B) int64 {
	b.Helper()
	io, err := os.ReadFile("/proc/self/io")
	if err != nil {
		b.Skip("no /proc/self/io: ", err)
	}
	for line := range strings.Lines(string(io)) {
		if rest, ok := strings.CutPrefix(line, "wchar:"); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(rest), 10, 64)
			if err != nil {
				b.Fatal(err)
			}
			return n
		}
	}
	b.Fatal("no wchar in /proc/self/io")
	return 0
}
