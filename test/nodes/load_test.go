package nodes

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/diseq/diseq/client"
	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/test/oracle"
)

// load is clients that submit messages to every node all the time, and the messages again that were
// not answered or that were.
type load struct {
	world *world
	stop  context.CancelFunc
	ended sync.WaitGroup

	// book holds the messages that were answered with 202 or 200, and all that were ever sent.
	book    *oracle.Ledger
	answers atomic.Int64
}

// everything says that each final message must be one of the load's.
func everything([]byte) bool { return true }

// newLoad begins with as many clients as there are nodes that serve, each of which submits a
// message after pause on average.
func (w *world) newLoad(pause time.Duration) *load {
	ctx, stop := context.WithCancel(w.ctx)
	l := &load{world: w, stop: stop, book: oracle.NewLedger()}
	for i, m := range w.nodes {
		c := w.client(m.name, "load-"+m.name)
		others := make([]*client.Client, 0, len(w.nodes))
		for _, o := range w.nodes {
			others = append(others, w.client(o.name, "load-"+m.name))
		}
		l.ended.Go(func() { l.run(ctx, rand.New(rand.NewPCG(w.seed, uint64(i+1))), m.name, c, others, pause) })
	}
	return l
}

// goOn begins another load, which answers for what was accepted by one that has ended too.
func (w *world) goOn(ended *load, pause time.Duration) *load {
	l := w.newLoad(pause)
	l.book.Join(ended.book)
	l.answers.Add(ended.answers.Load())
	return l
}

func (l *load) run(ctx context.Context, rng *rand.Rand, name string, own *client.Client, all []*client.Client, pause time.Duration) {
	for k := 0; ctx.Err() == nil; k++ {
		data := fmt.Appendf(nil, "%s %d %d", name, k, rng.Uint64())
		l.submit(ctx, own, data)
		for rng.IntN(4) == 0 { // a client that is not sure, or two that have the same to say
			l.submit(ctx, all[rng.IntN(len(all))], data)
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(rng.Float64() * 2 * float64(pause))):
		}
	}
}

func (l *load) submit(ctx context.Context, to *client.Client, data []byte) {
	id := chain.Message{Data: data}.ID()
	l.book.Sent(id)
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if _, err := to.Submit(ctx, data); err == nil {
		l.book.Accepted(id, oracle.Acceptance{Answered: time.Now()})
		l.answers.Add(1)
	}
}

// end ends the clients; what they were told is what has to hold.
func (l *load) end() {
	l.stop()
	l.ended.Wait()
}

func (l *load) count() int {
	accepted, _ := l.book.Count()
	return accepted
}

// settle ends the load and waits until all nodes are at one height and nothing is left to order.
func (w *world) settle(l *load) uint64 {
	w.Helper()
	l.end()
	var height uint64
	w.eventually(5*time.Minute, "all is final everywhere", func() error {
		for i, m := range w.nodes {
			s, err := m.client.Status(w.ctx)
			switch {
			case err != nil:
				return err
			case s.Pool.Messages > 0:
				return fmt.Errorf("%s is at height %d with %d messages pending", m.name, s.Height, s.Pool.Messages)
			case i > 0 && s.Height != height:
				return fmt.Errorf("%s is at height %d, %s at %d", m.name, s.Height, w.nodes[0].name, height)
			}
			height = s.Height
		}
		return nil
	})
	return height
}

// receiptsAudited is how many receipts an audit verifies.
const receiptsAudited = 20

// audit settles the world and reads the chain of each node in full: the same blocks everywhere,
// valid for whoever holds the genesis document, every accepted message in exactly one place, none
// that nobody submitted, and no evidence of votes that honest validators do not cast.
func (w *world) audit(l *load) uint64 {
	w.Helper()
	height := w.settle(l)
	for _, m := range w.nodes {
		w.readChain(m, height)
	}
	// An empty block that certifies the state may have come since; streams have shown it already.
	for height < w.history.Highest() {
		height = w.history.Highest()
		w.eventually(time.Minute, "all have what was shown", func() error {
			for _, m := range w.nodes {
				if s := m.status(); s.Height < height {
					return fmt.Errorf("height %d was shown, and the chain ends at %d", height, s.Height)
				}
			}
			return nil
		})
		for _, m := range w.nodes {
			w.readChain(m, height)
		}
	}
	w.verifyReceipts(l, w.history.Audit(height, l.book))
	for _, m := range w.nodes {
		pieces, err := m.client.Evidence(w.ctx)
		w.must(err)
		held := make([]chain.Evidence, len(pieces))
		for i := range pieces {
			held[i] = pieces[i].Evidence
		}
		w.history.Evidence(m.name, held)
	}
	if w.history.Report(w) > 0 {
		w.FailNow()
	}
	w.note("audited: %d heights, %d messages accepted", height, l.count())
	return height
}

func (w *world) readChain(m *member, height uint64) {
	w.Helper()
	for next := uint64(1); next <= height; {
		blocks, after, err := m.client.Blocks(w.ctx, next, 100)
		w.must(err)
		if len(blocks) == 0 || after != next+uint64(len(blocks)) {
			w.Fatalf("%s shows %d blocks from height %d and then %d", m.name, len(blocks), next, after)
		}
		for i := range blocks {
			if got := blocks[i].Header.Height; got != next {
				w.Fatalf("%s shows height %d where %d was next", m.name, got, next)
			}
			w.history.Show(m.name, &blocks[i])
			next++
		}
	}
}

func (w *world) verifyReceipts(l *load, order *oracle.Order) {
	w.Helper()
	ids := slices.Collect(maps.Keys(l.book.All()))
	slices.SortFunc(ids, func(a, b chain.Hash) int { return slices.Compare(a[:], b[:]) })
	for i := range min(receiptsAudited, len(ids)) {
		id, m := ids[i*len(ids)/min(receiptsAudited, len(ids))], w.nodes[i%len(w.nodes)]
		at, ok := order.Positions[id]
		if !ok {
			continue // lost, which is reported
		}
		r, err := m.client.Receipt(w.ctx, id)
		if err != nil {
			w.history.Fail("%s: receipt of %v: %v", m.name, id, err)
			continue
		}
		w.history.Receipt(m.name, r, id, at)
	}
}

// stream follows a node's stream from height 1 on through all its lives, until the world ends:
// every height once, in order.
type stream struct {
	mu   sync.Mutex
	next uint64
}

func (s *stream) height() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.next - 1
}

func (w *world) follow(m *member) *stream {
	s := &stream{next: 1}
	c := w.client(m.name, "reader-"+m.name)
	take := func(b *client.Block) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		if b.Header.Height != s.next {
			return fmt.Errorf("the stream of %s brought height %d where %d was next", m.name, b.Header.Height, s.next)
		}
		s.next++
		w.history.Show(m.name, b)
		return nil
	}
	w.tasks.Go(func() {
		for w.ctx.Err() == nil {
			// It goes on by itself after the first connection; only that one is ours to try again.
			s.mu.Lock()
			from := s.next
			s.mu.Unlock()
			if err := c.Stream(w.ctx, from, take); err != nil && w.ctx.Err() == nil && (s.height() >= from || strings.HasPrefix(err.Error(), "stream: ")) {
				w.history.Fail("%s from height %d on: %v", m.name, from, err)
			}
			select {
			case <-w.ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
		}
	})
	return s
}

// caughtUp waits until streams have brought every height up to one.
func (w *world) caughtUp(height uint64, streams ...*stream) {
	w.Helper()
	w.eventually(2*time.Minute, "the streams bring all", func() error {
		for i, s := range streams {
			// an empty block that certifies the last state may come yet
			if got := s.height(); got < height {
				return fmt.Errorf("stream %d is at height %d of %d", i, got, height)
			}
		}
		return nil
	})
}
