package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/diseq/diseq/client"
	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/test/oracle"
)

// An Oracle follows the blocks of all nodes of a network and compares them: see test/oracle.
type Oracle struct {
	*oracle.History
	network  *Network
	genesis  *chain.Genesis
	stopRead func()
	// Follow reads the blocks of one more validator, which has just joined.
	Follow func(k int)
}

// Watch reads the blocks of all validators as they become final until the test ends, and fails it
// if they contradict each other. The genesis document has to exist.
func (n *Network) Watch() *Oracle {
	g := n.MustGenesis()
	o := &Oracle{History: oracle.New(g, nil), network: n, genesis: g}
	ctx, cancel := context.WithCancel(context.Background())
	var reading sync.WaitGroup
	o.Follow = func(k int) { reading.Go(func() { o.follow(ctx, k) }) }
	for _, k := range n.serials() {
		o.Follow(k)
	}
	o.stopRead = sync.OnceFunc(func() {
		cancel()
		reading.Wait()
	})
	n.tb.Cleanup(func() {
		o.stopRead()
		o.Report(n.tb)
	})
	return o
}

const (
	readEvery  = 500 * time.Millisecond
	pageBlocks = 100 // the most that a node returns at once
)

// follow polls a validator for the blocks after those that it returned already. It polls on after
// an error: the pod may be away, and an error says nothing about what is final.
func (o *Oracle) follow(ctx context.Context, k int) {
	tick := time.NewTicker(readEvery)
	defer tick.Stop()
	next := uint64(1)
	for ctx.Err() == nil {
		blocks, err := readPage(ctx, o.network.Node(k), next)
		next = o.observe(o.network.PodName(k), next, blocks)
		if err == nil && len(blocks) == pageBlocks {
			continue
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

func readPage(ctx context.Context, node *client.Client, from uint64) ([]client.Block, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	blocks, _, err := node.Blocks(ctx, from, pageBlocks)
	return blocks, err
}

// observe compares the blocks of a node, in order from a height on, and returns the next height.
func (o *Oracle) observe(by string, next uint64, blocks []client.Block) uint64 {
	for i := range blocks {
		if got := blocks[i].Header.Height; got != next {
			o.Fail("%s answered with height %d where %d was asked for", by, got, next)
			return next
		}
		o.Show(by, &blocks[i])
		next++
	}
	return next
}

// LongestGap is the longest time between two blocks of a span, by their timestamps; the ends of the
// span count as blocks.
func (o *Oracle) LongestGap(from, to time.Time) (gap time.Duration) {
	last := from
	for height := uint64(1); ; height++ {
		b, ok := o.Block(height)
		at := time.UnixMilli(int64(b.Header.Timestamp))
		if !ok || at.After(to) {
			return max(gap, to.Sub(last))
		}
		if !at.Before(from) {
			gap, last = max(gap, at.Sub(last)), at
		}
	}
}

// Check waits until all validators are at one height with nothing pending, reads all their chains
// again from the start, and compares them with all blocks seen before and with the ledgers, whose
// clients have stopped.
func (o *Oracle) Check(tb testing.TB, ledgers ...*Ledger) {
	tb.Helper()
	n := o.network.For(tb)
	var height uint64
	highest := o.Highest()
	Eventually(tb, soon, n.Name+": all validators are at one height with nothing pending", func(ctx context.Context) (err error) {
		height, err = n.settled(ctx)
		return err
	})
	o.Tip(highest, height)
	for _, k := range n.serials() {
		next, held := uint64(1), []chain.Evidence(nil)
		// A validator that does not answer is asked again. An answer is compared at once.
		Eventually(tb, soon, n.PodName(k)+" shows all its blocks again", func(ctx context.Context) (err error) {
			for next <= height {
				blocks, err := readPage(ctx, n.Node(k), next)
				if err != nil || len(blocks) == 0 {
					return fmt.Errorf("it has no block %d of %d: %v", next, height, err)
				}
				after := o.observe(n.PodName(k), next, blocks)
				if after == next {
					return fmt.Errorf("it answers with another height than %d", next)
				}
				next = after
			}
			pieces, err := n.Node(k).Evidence(ctx)
			held = nil
			for i := range pieces {
				held = append(held, pieces[i].Evidence)
			}
			return err
		})
		o.Evidence(n.PodName(k), held)
	}
	accepted, books := 0, make([]*oracle.Ledger, len(ledgers))
	for i, l := range ledgers {
		books[i] = l.Ledger
		n, _ := l.Count()
		accepted += n
	}
	order := o.Audit(height, books...)
	if broken := o.Report(tb); broken == 0 {
		tb.Logf("        %s: %d heights, the same on each of %d nodes; %d messages accepted, all final, once; %d messages final",
			n.Name, height, len(n.serials()), accepted, len(order.Positions))
	}
}

// settled returns the common last height of all validators, or an error that says why there is none
// yet.
func (n *Network) settled(ctx context.Context) (uint64, error) {
	var height uint64
	for i, k := range n.serials() {
		s, err := n.Node(k).Status(ctx)
		switch {
		case err != nil:
			return 0, fmt.Errorf("%s: %w", n.PodName(k), err)
		case s.Pool.Messages > 0:
			return 0, fmt.Errorf("%s is at height %d with %d messages pending", n.PodName(k), s.Height, s.Pool.Messages)
		case i > 0 && s.Height != height:
			return 0, fmt.Errorf("%s is at height %d, %s at %d", n.PodName(k), s.Height, n.PodName(n.serials()[0]), height)
		}
		height = s.Height
	}
	return height, nil
}

// Receipt gets the receipt of a final message from every validator and verifies it; the same place
// in the chain is expected of all. It waits for a validator that does not answer or has no receipt
// yet; the first receipt of each validator is the one that it checks.
func (o *Oracle) Receipt(tb testing.TB, want *chain.Receipt) {
	tb.Helper()
	n := o.network
	for _, k := range n.serials() {
		var got *chain.Receipt
		var err error
		Eventually(tb, soon, n.PodName(k)+" has the receipt", func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
			defer cancel()
			if got, err = n.Node(k).Receipt(ctx, want.Message.ID); wrong(err) {
				return nil // reported below
			}
			return err
		})
		if err == nil {
			err = got.Verify(o.genesis, 0)
		}
		if err != nil {
			tb.Errorf("%s: receipt of %v: %v", n.PodName(k), want.Message.ID, err)
			continue
		}
		if got.Height != want.Height || got.Index != want.Index {
			tb.Errorf("%s: the receipt of %v is of height %d index %d, it was of %d and %d",
				n.PodName(k), want.Message.ID, got.Height, got.Index, want.Height, want.Index)
		}
	}
}

// wrong reports whether an error comes from a wrong answer, which waiting does not mend. A node
// that cannot be reached, or is still behind, is not wrong.
func wrong(err error) bool {
	if refused, ok := errors.AsType[*client.Error](err); ok {
		if strings.Contains(refused.Message, `"kind":"Status"`) {
			return false // the API server answers for a pod that has no address yet
		}
		return refused.Status < http.StatusInternalServerError && refused.Status != http.StatusTooManyRequests &&
			refused.Status != http.StatusNotFound && refused.Status != http.StatusConflict
	}
	return err != nil && strings.Contains(err.Error(), "the answer is not what was expected")
}
