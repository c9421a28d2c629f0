package nodes

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/diseq/diseq/client"
	"github.com/diseq/diseq/node/chain"
)

// load is clients that submit messages to every node all the time, and the messages again that were
// not answered or that were.
type load struct {
	world *world
	stop  context.CancelFunc
	ended sync.WaitGroup

	mu sync.Mutex
	// accepted are the messages answered with 202 or 200, submitted all that were ever sent.
	accepted, submitted map[chain.Hash]bool
	answers             int
}

// newLoad begins with as many clients as there are nodes that serve, each of which submits a
// message after pause on average.
func (w *world) newLoad(pause time.Duration) *load {
	ctx, stop := context.WithCancel(w.ctx)
	l := &load{world: w, stop: stop, accepted: map[chain.Hash]bool{}, submitted: map[chain.Hash]bool{}}
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
	l.mu.Lock()
	defer l.mu.Unlock()
	maps.Copy(l.submitted, ended.submitted)
	maps.Copy(l.accepted, ended.accepted)
	l.answers += ended.answers
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
	l.mu.Lock()
	l.submitted[id] = true
	l.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if _, err := to.Submit(ctx, data); err == nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.accepted[id] = true
		l.answers++
	}
}

// end ends the clients; what they were told is what has to hold.
func (l *load) end() {
	l.stop()
	l.ended.Wait()
}

func (l *load) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.accepted)
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
	for height < w.history.highest() {
		height = w.history.highest()
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
	places := w.history.places(w, height)
	lost := 0
	for id := range l.accepted {
		if _, ok := places[id]; !ok {
			lost++
			w.Errorf("message %v was answered 202 and is not final", id)
		}
		if lost > 5 {
			break
		}
	}
	for id, at := range places {
		if !l.submitted[id] {
			w.Errorf("message %v is final at height %d and nobody submitted it", id, at)
		}
	}
	w.verifyReceipts(l)
	for _, m := range w.nodes {
		if e, err := m.client.Evidence(w.ctx); err != nil || len(e) > 0 {
			w.Errorf("%s holds evidence against honest validators: %+v %v", m.name, e, err)
		}
	}
	w.note("audited: %d heights, %d messages accepted", height, len(l.accepted))
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
			w.history.add(w, m.name, &blocks[i])
			next++
		}
	}
}

func (w *world) verifyReceipts(l *load) {
	w.Helper()
	ids := make([]chain.Hash, 0, len(l.accepted))
	for id := range l.accepted {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b chain.Hash) int { return slices.Compare(a[:], b[:]) })
	for i := range min(receiptsAudited, len(ids)) {
		id := ids[i*len(ids)/min(receiptsAudited, len(ids))]
		r, err := w.nodes[i%len(w.nodes)].client.Receipt(w.ctx, id)
		if err == nil {
			err = r.Verify(w.genesis, 0)
		}
		if err != nil || r.Message.ID != id {
			w.Errorf("receipt of %v from %s: %v", id, w.nodes[i%len(w.nodes)].name, err)
		}
	}
}

// history is what was first shown of each height, by whichever node; every later word of it is held
// to that.
type history struct {
	mu     sync.Mutex
	blocks map[uint64]*client.Block
	// broken are the promises seen broken by goroutines of the test.
	broken []string
}

func (h *history) fail(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.note(format, args...)
}

func (h *history) note(format string, args ...any) {
	h.broken = append(h.broken, fmt.Sprintf(format, args...))
}

// report makes the test fail with what was seen broken.
func (h *history) report(w *world) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, b := range h.broken[:min(len(h.broken), 10)] {
		w.Error(b)
	}
}

// add takes a block in that a node showed: checked in full when it is new, else compared with what
// was shown before. Two that show a height at once come one after the other: the second would be
// compared with nothing.
func (h *history) add(w *world, by string, b *client.Block) {
	h.mu.Lock()
	defer h.mu.Unlock()
	height := b.Header.Height
	before := h.blocks[height]
	if before == nil {
		if err := w.verify(b); err != nil {
			h.note("%s, height %d: %v", by, height, err)
		}
		if h.blocks == nil {
			h.blocks = map[uint64]*client.Block{}
		}
		h.blocks[height] = b
		return
	}
	if before.HeaderHash != b.HeaderHash || !slices.EqualFunc(before.Messages, b.Messages, func(x, y chain.ReceiptMessage) bool { return x.ID == y.ID }) {
		h.note("%s shows block %v of %d messages at height %d, where block %v of %d was shown before",
			by, b.HeaderHash, len(b.Messages), height, before.HeaderHash, len(before.Messages))
	}
}

// verify checks a block as a reader does that has the genesis document alone.
func (w *world) verify(b *client.Block) error {
	if b.Certificate == nil {
		return fmt.Errorf("a final block without a certificate")
	}
	f := chain.FinalBlock{Block: chain.Block{Header: b.Header}, Certificate: b.Certificate.Certificate}
	for _, m := range b.Messages {
		if id := m.Message.ID(); id != m.ID {
			return fmt.Errorf("message %v has id %v", m.ID, id)
		}
		f.Messages = append(f.Messages, m.Message)
	}
	return f.Verify(w.genesis.ChainID, w.genesis.Set())
}

// highest is the highest height that was shown.
func (h *history) highest() (height uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for at := range h.blocks {
		height = max(height, at)
	}
	return height
}

// places returns the height of each final message, and holds the chain to being one.
func (h *history) places(w *world, height uint64) map[chain.Hash]uint64 {
	w.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	genesis := w.genesis.Header()
	parent, last := genesis.Hash(), genesis.Timestamp
	out := map[chain.Hash]uint64{}
	for at := uint64(1); at <= height; at++ {
		b := h.blocks[at]
		if b == nil {
			w.Fatalf("nobody showed height %d of %d", at, height)
		}
		if b.Header.ParentHash != parent || b.Header.Timestamp <= last {
			w.Errorf("block %d of time %d is on %v, below it is %v of time %d", at, b.Header.Timestamp, b.Header.ParentHash, parent, last)
		}
		parent, last = b.HeaderHash, b.Header.Timestamp
		for _, m := range b.Messages {
			if before, ok := out[m.ID]; ok {
				w.Errorf("message %v is final at height %d and at %d", m.ID, before, at)
			}
			out[m.ID] = at
		}
	}
	return out
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
		w.history.add(w, m.name, b)
		return nil
	}
	w.tasks.Go(func() {
		for w.ctx.Err() == nil {
			// It goes on by itself after the first connection; only that one is ours to try again.
			s.mu.Lock()
			from := s.next
			s.mu.Unlock()
			if err := c.Stream(w.ctx, from, take); err != nil && w.ctx.Err() == nil && (s.height() >= from || strings.HasPrefix(err.Error(), "stream: ")) {
				w.history.fail("%s from height %d on: %v", m.name, from, err)
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
