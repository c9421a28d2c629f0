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
)

// An Oracle holds the nodes of a network to the first answer that any of them gave about each
// height: every later answer, of whichever node and after whatever became of it, has to be the same
// block, with its certificate, on top of the block below.
type Oracle struct {
	network *Network
	genesis *chain.Genesis
	set     *chain.ValidatorSet

	mu       sync.Mutex
	blocks   []sighting // blocks[0] is genesis
	final    map[chain.Hash]uint64
	broken   []string
	upTo     []uint64 // the last height that each validator told of
	stopRead func()
}

// sighting is a block, and the node that told of it first.
type sighting struct {
	hash chain.Hash
	time time.Time
	by   string
}

// Watch reads the blocks of all validators as they become final until the test ends, and fails it
// if they contradict each other. The genesis document has to be there.
func (n *Network) Watch() *Oracle {
	g := n.MustGenesis()
	header := g.Header()
	o := &Oracle{
		network: n, genesis: g, set: g.Set(), final: map[chain.Hash]uint64{}, upTo: make([]uint64, n.Validators),
		blocks: []sighting{{hash: header.Hash(), time: time.UnixMilli(int64(header.Timestamp)), by: "genesis"}},
	}
	ctx, cancel := context.WithCancel(context.Background())
	var reading sync.WaitGroup
	for k := range n.Validators {
		reading.Go(func() { o.follow(ctx, k) })
	}
	o.stopRead = sync.OnceFunc(func() {
		cancel()
		reading.Wait()
	})
	n.tb.Cleanup(func() {
		o.stopRead()
		for _, b := range o.broken[:min(len(o.broken), 20)] {
			n.tb.Error(b)
		}
	})
	return o
}

const (
	readEvery  = 500 * time.Millisecond
	pageBlocks = 100 // the most that a node gives at once
)

// follow asks a validator again and again for what comes after the blocks it told of. A pod that is
// away is asked again: errors say nothing about what is final.
func (o *Oracle) follow(ctx context.Context, k int) {
	tick := time.NewTicker(readEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		o.mu.Lock()
		next := o.upTo[k] + 1
		o.mu.Unlock()
		blocks, err := readPage(ctx, o.network.Node(k), next)
		o.observe(o.network.PodName(k), next, blocks)
		o.mu.Lock()
		o.upTo[k] = next + uint64(len(blocks)) - 1
		o.mu.Unlock()
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

// observe holds blocks that a node says are final, in order from a height on, to what was said
// before.
func (o *Oracle) observe(by string, next uint64, blocks []client.Block) {
	for i := range blocks {
		b, height := &blocks[i], next+uint64(i)
		if b.Header.Height != height {
			o.fail("%s answered with height %d where %d was asked for", by, b.Header.Height, height)
			return
		}
		hash := b.Header.Hash()
		if hash != b.HeaderHash {
			o.fail("%s names block %v at height %d, its header hashes to %v", by, b.HeaderHash, height, hash)
		}
		o.mu.Lock()
		known := height < uint64(len(o.blocks))
		var seen sighting
		if known {
			seen = o.blocks[height]
		}
		o.mu.Unlock()
		if known {
			if seen.hash != hash {
				o.fail("FORK: height %d is %v for %s, it was %v for %s", height, hash, by, seen.hash, seen.by)
			}
			continue
		}
		o.add(by, b, hash)
	}
}

// add takes a block as the one of its height, after checking all that a reader with the genesis
// document can check.
func (o *Oracle) add(by string, b *client.Block, hash chain.Hash) {
	if err := o.check(b); err != nil {
		o.fail("%s, height %d: %v", by, b.Header.Height, err)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	height := b.Header.Height
	switch {
	case height < uint64(len(o.blocks)): // another node told of it at the same time
		if seen := o.blocks[height]; seen.hash != hash {
			o.broken = append(o.broken, fmt.Sprintf("FORK: height %d is %v for %s, it was %v for %s", height, hash, by, seen.hash, seen.by))
		}
		return
	case height > uint64(len(o.blocks)):
		o.broken = append(o.broken, fmt.Sprintf("%s told of height %d, nobody told of %d", by, height, len(o.blocks)))
		return
	}
	if below := o.blocks[height-1]; below.hash != b.Header.ParentHash {
		o.broken = append(o.broken, fmt.Sprintf("%s: the parent of height %d is %v, the block below is %v", by, height, b.Header.ParentHash,
			below.hash))
	}
	o.blocks = append(o.blocks, sighting{hash: hash, time: time.UnixMilli(int64(b.Header.Timestamp)), by: by})
	for _, m := range b.Messages {
		if before, ok := o.final[m.ID]; ok {
			o.broken = append(o.broken, fmt.Sprintf("message %v is final twice, at heights %d and %d", m.ID, before, height))
		}
		o.final[m.ID] = height
	}
}

func (o *Oracle) check(b *client.Block) error {
	if b.Certificate == nil {
		return fmt.Errorf("it has no certificate")
	}
	f := chain.FinalBlock{Block: chain.Block{Header: b.Header}, Certificate: b.Certificate.Certificate}
	for _, m := range b.Messages {
		if id := m.Message.ID(); id != m.ID {
			return fmt.Errorf("message %v has id %v", m.ID, id)
		}
		f.Messages = append(f.Messages, m.Message)
	}
	return f.Verify(o.genesis.ChainID, o.set)
}

func (o *Oracle) fail(format string, args ...any) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.broken = append(o.broken, fmt.Sprintf(format, args...))
}

// Height is the highest final height that any node told of.
func (o *Oracle) Height() uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return uint64(len(o.blocks)) - 1
}

// LongestGap is the longest time between two blocks of a span, by their timestamps; the ends of the
// span count as blocks.
func (o *Oracle) LongestGap(from, to time.Time) (gap time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	last := from
	for _, b := range o.blocks {
		if b.time.Before(from) {
			continue
		}
		if b.time.After(to) {
			break
		}
		gap, last = max(gap, b.time.Sub(last)), b.time
	}
	return max(gap, to.Sub(last))
}

// Check waits until all validators are at one height with nothing pending, reads all their chains
// again from the start, and holds them to all that was seen before and to the ledgers, whose
// clients have stopped.
func (o *Oracle) Check(tb testing.TB, ledgers ...*Ledger) {
	tb.Helper()
	n := o.network.For(tb)
	var height uint64
	Eventually(tb, soon, n.Name+": all validators are at one height with nothing pending", func(ctx context.Context) (err error) {
		height, err = n.settled(ctx)
		return err
	})
	if highest := o.Height(); height < highest {
		tb.Errorf("height %d was seen final, the highest that any node has now is %d", highest, height)
	}
	for k := range n.Validators {
		next, held := uint64(1), []chain.Evidence(nil)
		// Asked again is who does not answer; what is answered is held to what was seen at once.
		Eventually(tb, soon, n.PodName(k)+" shows all its blocks again", func(ctx context.Context) (err error) {
			for next <= height {
				blocks, err := readPage(ctx, n.Node(k), next)
				if err != nil || len(blocks) == 0 {
					return fmt.Errorf("it has no block %d of %d: %v", next, height, err)
				}
				o.observe(n.PodName(k), next, blocks)
				next += uint64(len(blocks))
			}
			held, err = n.Node(k).Evidence(ctx)
			return err
		})
		if len(held) > 0 {
			tb.Errorf("%s holds evidence of equivocation by honest validators: %v", n.PodName(k), held)
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	accepted, lost := 0, 0
	for _, l := range ledgers {
		for id, at := range l.Accepted() {
			accepted++
			if _, ok := o.final[id]; !ok {
				lost++
				o.broken = append(o.broken, fmt.Sprintf("LOST: message %v was accepted at %s and is not final", id, at.Format(time.StampMilli)))
			}
		}
	}
	for _, b := range o.broken[:min(len(o.broken), 20)] {
		tb.Error(b)
	}
	o.broken = nil // told
	tb.Logf("        %s: %d heights, the same on each of %d nodes; of %d messages accepted %d are final, once",
		n.Name, height, n.Validators, accepted, accepted-lost)
}

// settled returns the height of all validators, or an error that says why it is not one height or
// not the last.
func (n *Network) settled(ctx context.Context) (uint64, error) {
	var height uint64
	for k := range n.Validators {
		s, err := n.Node(k).Status(ctx)
		switch {
		case err != nil:
			return 0, fmt.Errorf("%s: %w", n.PodName(k), err)
		case s.Pool.Messages > 0:
			return 0, fmt.Errorf("%s is at height %d with %d messages pending", n.PodName(k), s.Height, s.Pool.Messages)
		case k > 0 && s.Height != height:
			return 0, fmt.Errorf("%s is at height %d, %s at %d", n.PodName(k), s.Height, n.PodName(0), height)
		}
		height = s.Height
	}
	return height, nil
}

// Receipt gets the receipt of a final message from every validator and verifies it; the same place
// in the chain is expected of all. Who does not answer yet, or does not have it yet, is waited for;
// the first receipt that a validator gives is the one that counts.
func (o *Oracle) Receipt(tb testing.TB, want *chain.Receipt) {
	tb.Helper()
	n := o.network
	for k := range n.Validators {
		var got *chain.Receipt
		var err error
		Eventually(tb, soon, n.PodName(k)+" has the receipt", func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
			defer cancel()
			if got, err = n.Node(k).Receipt(ctx, want.Message.ID); wrong(err) {
				return nil // told below
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

// wrong reports whether an error is of an answer that waiting does not mend, and not of a node that
// cannot be reached or does not have yet what was asked for.
func wrong(err error) bool {
	if refused, ok := errors.AsType[*client.Error](err); ok {
		return refused.Status < http.StatusInternalServerError && refused.Status != http.StatusTooManyRequests &&
			refused.Status != http.StatusNotFound && refused.Status != http.StatusConflict
	}
	return err != nil && strings.Contains(err.Error(), "the answer is not what was expected")
}
