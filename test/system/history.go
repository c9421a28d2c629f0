package system

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/diseq/diseq/client"
	"github.com/diseq/diseq/test/oracle"
)

// History follows what the nodes show as final while a test runs.
type History struct {
	*oracle.History
	// watch follows one more node until the test ends.
	watch func(*Node)
}

// Watch follows the streams of all nodes until the test ends, across their restarts.
func (n *Network) Watch() *History {
	h := &History{History: oracle.New(n.Genesis, ofLoad)}
	ctx, cancel := context.WithCancel(context.Background())
	var watching sync.WaitGroup
	h.watch = func(node *Node) { watching.Go(func() { h.follow(ctx, node) }) }
	h.Watch(n.Nodes...)
	n.tb.Cleanup(func() {
		cancel()
		watching.Wait()
	})
	return h
}

// Watch follows nodes that were added to the network.
func (h *History) Watch(nodes ...*Node) {
	for _, node := range nodes {
		h.watch(node)
	}
}

func (h *History) follow(ctx context.Context, node *Node) {
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	next := uint64(1)
	for ctx.Err() == nil {
		// An error means that the node is down or was killed: the stream goes on from the same
		// height.
		_ = node.Blocks(ctx, next, false, func(b *client.Block) bool {
			if b.Header.Height != next {
				h.Fail("%s streamed height %d where %d was next", node.Name, b.Header.Height, next)
			}
			next = b.Header.Height + 1
			h.Show(node.Name, b)
			return true
		})
		select {
		case <-again.C:
		case <-ctx.Done():
		}
	}
}

// Height returns the last height that a node showed.
func (h *History) Height(node *Node) uint64 { return h.History.Height(node.Name) }

// At returns when a height was first seen final.
func (h *History) At(height uint64) (at time.Time, ok bool) {
	b, ok := h.Block(height)
	return b.At, ok
}

// Await waits until each of nodes has shown a height.
func (h *History) Await(tb testing.TB, within time.Duration, height uint64, nodes ...*Node) {
	tb.Helper()
	deadline := time.After(within)
	for _, node := range nodes {
		for {
			news := h.News()
			at := h.Height(node)
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

// AwaitQuiet waits until no node has shown a block for as long as quiet, and returns the highest
// height.
func (h *History) AwaitQuiet(tb testing.TB, within, quiet time.Duration) uint64 {
	tb.Helper()
	deadline := time.After(within)
	for {
		select {
		case <-h.News():
		case <-time.After(quiet):
			return h.Highest()
		case <-deadline:
			tb.Fatalf("blocks are still made after %v, the highest is %d", within, h.Highest())
		}
	}
}
