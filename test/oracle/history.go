package oracle

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/diseq/diseq/client"
	"github.com/diseq/diseq/node/chain"
)

// History is what nodes showed as final while a test ran. The first block that any node shows at a
// height is the one: History compares every later showing with it, of any node and after any
// restart. Its methods may be called from several goroutines.
type History struct {
	genesis *chain.Genesis
	// eras follow the changes of the validator set, as blocks bring them.
	eras *chain.Eras
	own  func(data []byte) bool

	mu     sync.Mutex
	names  map[chain.PublicKey]string
	blocks map[uint64]*Sighting
	shown  map[string]uint64 // the last height that each node showed
	top    uint64            // the highest height that any node showed
	broken []string
	news   chan struct{} // closed at every block
}

// Sighting is the first showing of a height.
type Sighting struct {
	Header      chain.Header
	Hash        chain.Hash
	By          string
	At          time.Time
	Certificate *chain.Certificate // nil if the block was shown without one
	// messages is nil until a node shows the block in full.
	messages []message
	change   *chain.Change
}

// message is a final message; own means that a ledger of the test must know it.
type message struct {
	id  chain.Hash
	own bool
}

// Position is a message's place in the order: a height, and its index in the block from 0 on.
type Position struct {
	Height uint64
	Index  int
}

func (p Position) compare(q Position) int {
	return cmp.Or(cmp.Compare(p.Height, q.Height), cmp.Compare(p.Index, q.Index))
}

// Order is the order of messages that an audit found.
type Order struct {
	Height    uint64
	Positions map[chain.Hash]Position
	// Votes counts the finalize votes in the certificates, by the names of the validators.
	Votes map[string]int
}

// New makes the history of a network. A final message for whose data own returns true must be in a
// ledger; the test itself may submit others. If own is nil, no message is looked for in ledgers.
func New(genesis *chain.Genesis, own func(data []byte) bool) *History {
	if own == nil {
		own = func([]byte) bool { return false }
	}
	h := &History{
		genesis: genesis, eras: genesis.Eras(), own: own,
		blocks: map[uint64]*Sighting{}, shown: map[string]uint64{}, news: make(chan struct{}),
		names: map[chain.PublicKey]string{},
	}
	h.meet(genesis.Validators)
	return h
}

// meet notes the names of the members of a set.
func (h *History) meet(members []chain.NamedValidator) {
	for _, v := range members {
		h.names[v.PublicKey] = v.Name
	}
}

// Show takes a block that a node shows as final. A block that lists fewer messages than its header
// counts is compared by its hash; the first full showing of a height is verified as a reader with
// the genesis document does.
func (h *History) Show(by string, b *client.Block) {
	h.mu.Lock()
	defer h.mu.Unlock()
	height, hash := b.Header.Height, b.Header.Hash()
	if hash != b.HeaderHash {
		h.note("%s names block %v at height %d, its header hashes to %v", by, b.HeaderHash, height, hash)
	}
	h.shown[by], h.top = height, max(h.top, height)
	first := h.blocks[height]
	switch {
	case first == nil:
		first = &Sighting{Header: b.Header, Hash: hash, By: by, At: time.Now()}
		h.blocks[height] = first
		h.change(by, b)
	case first.Hash != hash:
		h.note("FORK: height %d is %v for %s, it was %v for %s", height, hash, by, first.Hash, first.By)
		return
	}
	if len(b.Messages) == int(b.Header.MessagesCount) {
		h.full(by, first, b)
	}
	close(h.news)
	h.news = make(chan struct{})
}

// change follows a change of the validator set, also in a block that is shown without its messages:
// the blocks above are of the new set.
func (h *History) change(by string, b *client.Block) {
	if b.Change == nil || b.Certificate == nil {
		return
	}
	final := chain.FinalChange{Header: b.Header, Certificate: *b.Certificate, Next: b.Change.Next, Endorsements: b.Change.Endorsements}
	if err := h.eras.FollowFinal(final); err != nil {
		h.note("%s, change at height %d: %v", by, b.Header.Height, err)
	}
	h.meet(b.Change.Next.Validators)
}

// full takes a showing with all messages.
func (h *History) full(by string, first *Sighting, b *client.Block) {
	if first.messages != nil {
		same := func(m message, shown chain.ReceiptMessage) bool { return m.id == shown.ID }
		if !slices.EqualFunc(first.messages, b.Messages, same) {
			h.note("%s shows other messages at height %d than were shown before", by, b.Header.Height)
		}
		return
	}
	if err := b.Verify(h.eras, 0); err != nil {
		h.note("%s, height %d: %v", by, b.Header.Height, err)
	}
	if b.Certificate != nil {
		first.Certificate = &b.Certificate.Certificate
	}
	first.change = b.Change
	first.messages = make([]message, len(b.Messages))
	for i, m := range b.Messages {
		first.messages[i] = message{id: m.ID, own: h.own(m.Data)}
	}
}

// Receipt takes a receipt that a node gave for a message of the order.
func (h *History) Receipt(by string, r *chain.Receipt, id chain.Hash, want Position) {
	if err := r.Verify(h.genesis, 0); err != nil {
		h.Fail("%s: the receipt of %v does not verify: %v", by, id, err)
	}
	if got := (Position{r.Height, int(r.Index)}); got != want || r.Message.ID != id {
		h.Fail("%s: the receipt of %v is of %v at %v, it is final at %v", by, id, r.Message.ID, got, want)
	}
}

// Evidence takes the evidence that a node holds. In a network of honest validators there is none.
func (h *History) Evidence(by string, evidence []chain.Evidence) {
	if len(evidence) > 0 {
		h.Fail("%s holds evidence of equivocation by honest validators: %v", by, evidence)
	}
}

// Tip takes the highest height that any node has now. Highest is the result of [History.Highest]
// from before the nodes were asked: a final block may not disappear.
func (h *History) Tip(highest, now uint64) {
	if now < highest {
		h.Fail("height %d was shown as final, the highest that any node has now is %d", highest, now)
	}
}

// Audit reads the order up to a height, every block of which some node has shown in full, and
// compares it with the ledgers, whose clients have stopped.
func (h *History) Audit(height uint64, ledgers ...*Ledger) *Order {
	h.mu.Lock()
	defer h.mu.Unlock()
	order := &Order{Height: height, Positions: map[chain.Hash]Position{}, Votes: map[string]int{}}
	parent := h.genesis.Header()
	parentHash := parent.Hash()
	set, known := h.genesis.First(), chain.NewIdentities(h.genesis.First())
	for at := uint64(1); at <= height; at++ {
		b := h.blocks[at]
		if b == nil || b.messages == nil {
			h.note("no node showed height %d of %d in full", at, height)
			return order
		}
		if b.Header.ParentHash != parentHash || b.Header.Timestamp <= parent.Timestamp {
			h.note("block %d of time %d has parent %v, the block below it is %v of time %d",
				at, b.Header.Timestamp, b.Header.ParentHash, parentHash, parent.Timestamp)
		}
		parent, parentHash = b.Header, b.Hash
		if set, err := h.eras.SetAt(at); err == nil && b.Certificate != nil {
			for _, v := range b.Certificate.Votes {
				order.Votes[h.names[set.Validators[v.Validator].PublicKey]]++
			}
		}
		if b.change != nil {
			err := errors.Join(b.change.Verify(h.genesis.ChainID, set.Set()), known.Check(set, &b.change.Next))
			if err != nil {
				h.note("block %d changes the validator set: %v", at, err)
			}
			set = &b.change.Next
			known.Add(set)
		}
		for i, m := range b.messages {
			place := Position{Height: at, Index: i}
			if before, ok := order.Positions[m.id]; ok {
				h.note("message %v is final twice, at %v and at %v", m.id, before, place)
			}
			order.Positions[m.id] = place
			if m.own && !slices.ContainsFunc(ledgers, func(l *Ledger) bool { return l.knows(m.id) }) {
				h.note("message %v is final at %v, no client submitted it", m.id, place)
			}
		}
	}
	for _, l := range ledgers {
		h.broken = append(h.broken, l.check(order)...)
	}
	return order
}

// Fail notes a broken promise that the suite itself saw.
func (h *History) Fail(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.note(format, args...)
}

func (h *History) note(format string, args ...any) {
	h.broken = append(h.broken, fmt.Sprintf(format, args...))
}

// reported bounds how many broken promises a test prints.
const reported = 20

// Report makes the test fail with the promises that were broken since the last report, and returns
// how many they are.
func (h *History) Report(tb testing.TB) int {
	tb.Helper()
	h.mu.Lock()
	broken := h.broken
	h.broken = nil
	h.mu.Unlock()
	for _, b := range broken[:min(len(broken), reported)] {
		tb.Error(b)
	}
	if more := len(broken) - reported; more > 0 {
		tb.Errorf("%d more promises broken", more)
	}
	return len(broken)
}

// Block returns the first showing of a height.
func (h *History) Block(height uint64) (Sighting, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	b, ok := h.blocks[height]
	if !ok {
		return Sighting{}, false
	}
	return *b, true
}

// Height returns the last height that a node showed.
func (h *History) Height(node string) uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.shown[node]
}

// Highest returns the highest height that any node showed.
func (h *History) Highest() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.top
}

// News returns a channel that is closed when the next block is shown.
func (h *History) News() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.news
}
