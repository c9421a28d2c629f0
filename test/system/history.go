package system

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/diseq/diseq/node/chain"
)

// History is what the nodes said was final while it happened: the first answer about each height,
// whoever gave it, to which every later answer, of any node and after any restart, is held.
type History struct {
	mu      sync.Mutex
	first   map[uint64]sighting
	heights []uint64 // the last height that each node told of, by its index
	broken  []string
	news    chan struct{} // closed at every block
}

type sighting struct {
	hash chain.Hash
	by   string
	at   time.Time
}

func newHistory(nodes int) *History {
	return &History{first: map[uint64]sighting{}, heights: make([]uint64, nodes), news: make(chan struct{})}
}

// Watch follows the streams of all nodes until the test ends, across their restarts.
func (n *Network) Watch() *History {
	h := newHistory(len(n.Nodes))
	ctx, cancel := context.WithCancel(context.Background())
	var watching sync.WaitGroup
	for _, node := range n.Nodes {
		watching.Go(func() { h.follow(ctx, node) })
	}
	n.tb.Cleanup(func() {
		cancel()
		watching.Wait()
	})
	return h
}

func (h *History) follow(ctx context.Context, node *Node) {
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for ctx.Err() == nil {
		next := h.Height(node) + 1
		// The error is that the node is down or was killed: then it is asked again from the same
		// height on.
		_ = node.Blocks(ctx, next, false, func(b *Block) bool {
			if b.Header.Height != next {
				h.fail("%s streamed height %d where %d was next", node.Name, b.Header.Height, next)
			}
			next = b.Header.Height + 1
			h.observe(node, b)
			return true
		})
		select {
		case <-again.C:
		case <-ctx.Done():
		}
	}
}

// observe holds a block that node says is final to what was said before.
func (h *History) observe(node *Node, b *Block) {
	h.compare(node.Name, b)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.heights[node.Index] = b.Header.Height
	close(h.news)
	h.news = make(chan struct{})
}

func (h *History) compare(by string, b *Block) {
	if got := b.Header.Hash(); got != b.Hash {
		h.fail("%s names block %v at height %d, its header hashes to %v", by, b.Hash, b.Header.Height, got)
	}
	h.mu.Lock()
	seen, ok := h.first[b.Header.Height]
	if !ok {
		h.first[b.Header.Height] = sighting{hash: b.Hash, by: by, at: time.Now()}
	}
	h.mu.Unlock()
	if ok && seen.hash != b.Hash {
		h.fail("FORK: height %d is %v for %s, it was %v for %s", b.Header.Height, b.Hash, by, seen.hash, seen.by)
	}
}

func (h *History) fail(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.broken = append(h.broken, fmt.Sprintf(format, args...))
}

// Broken returns every promise that was seen broken.
func (h *History) Broken() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.broken)
}

// Height returns the last height that a node told of.
func (h *History) Height(node *Node) uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.heights[node.Index]
}

// Highest returns the highest height that any node told of.
func (h *History) Highest() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Max(h.heights)
}

// At returns when a height was first seen final.
func (h *History) At(height uint64) (at time.Time, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s, ok := h.first[height]
	return s.at, ok
}

// Await waits until each of nodes told of height.
func (h *History) Await(tb testing.TB, within time.Duration, height uint64, nodes ...*Node) {
	tb.Helper()
	deadline := time.After(within)
	for _, node := range nodes {
		for {
			h.mu.Lock()
			at, news := h.heights[node.Index], h.news
			h.mu.Unlock()
			if at >= height {
				break
			}
			select {
			case <-news:
			case <-deadline:
				tb.Fatalf("%s is at height %d, %d was expected within %v; the highest is %d", node.Name, at, height, within, h.Highest())
			}
		}
	}
}

// AwaitQuiet waits until no node has told of a block for as long as quiet, and returns the highest
// height.
func (h *History) AwaitQuiet(tb testing.TB, within, quiet time.Duration) uint64 {
	tb.Helper()
	deadline := time.After(within)
	for {
		h.mu.Lock()
		news := h.news
		h.mu.Unlock()
		select {
		case <-news:
		case <-time.After(quiet):
			return h.Highest()
		case <-deadline:
			tb.Fatalf("blocks are still made after %v, the highest is %d", within, h.Highest())
		}
	}
}
