package oracle

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/diseq/diseq/node/chain"
)

// Each promise is broken once, and the oracle must name it. An oracle that never failed proves
// nothing.

// world is a chain that two nodes show, and the ledger of its clients.
type world struct {
	*Forge
	chains  [2][]*chain.FinalBlock // of each node, from height 1 on
	ledger  *Ledger
	history *History
}

func own(data []byte) bool { return strings.HasPrefix(string(data), "load") }

func newWorld(t *testing.T) *world {
	f := NewForge(t)
	w := &world{Forge: f, ledger: NewLedger(), history: New(f.Genesis, own)}
	for place, text := range []string{"load one", "load two", "load three"} {
		m := chain.Message{Data: []byte(text)}
		w.both(w.Block(w.chains[0], m))
		w.ledger.Accepted(m.ID(), Acceptance{Place: place + 1})
	}
	return w
}

func (w *world) both(b *chain.FinalBlock) {
	for i := range w.chains {
		w.chains[i] = append(w.chains[i], b)
	}
}

func (w *world) show(by string, b *chain.FinalBlock) {
	shown := Shown(b)
	w.history.Show(by, &shown)
}

// audit shows both chains and returns the promises that the oracle names.
func (w *world) audit(t *testing.T) string {
	tip := uint64(0)
	for i, by := range []string{"v0", "v1"} {
		for _, b := range w.chains[i] {
			w.show(by, b)
			tip = max(tip, b.Header.Height)
		}
	}
	w.history.Tip(w.history.Highest(), tip)
	w.history.Audit(tip, w.ledger)
	r := &Recorder{TB: t}
	w.history.Report(r)
	return r.Said()
}

func TestAnHonestNetworkBreaksNoPromise(t *testing.T) {
	w := newWorld(t)
	for _, b := range w.chains[0] {
		header := Shown(b)
		header.Messages = nil // a stream without messages
		w.history.Show("v1", &header)
	}
	if said := w.audit(t); said != "" {
		t.Error(said)
	}
}

// The set changes three times: to others, to fewer, and to all others. Certificates and receipts
// are judged by the set of their height.
func TestAnHonestNetworkChangesItsSet(t *testing.T) {
	w := newWorld(t)
	last := chain.Message{Data: []byte("load four")}
	w.both(w.Change(w.chains[0], 3, 3, 3, 2, 4, 5))
	w.both(w.Block(w.chains[0]))
	w.both(w.Change(w.chains[0], 4, 2, 5, 2, 3))
	w.both(w.Change(w.chains[0], 2, 1, 6))
	b := w.Block(w.chains[0], last)
	w.both(b)
	w.ledger.Accepted(last.ID(), Acceptance{Place: 4})
	var changes []chain.ValidatorSetChange
	for _, f := range w.chains[0] {
		if f.Change != nil {
			changes = append(changes, chain.ValidatorSetChange{
				Header: f.Header, Certificate: *Shown(f).Certificate, Next: *f.Change.Next.Set(),
			})
		}
	}
	r, err := chain.NewReceipts(b, changes, 0)
	if err != nil {
		t.Fatal(err)
	}
	w.history.Receipt("v0", r[0], last.ID(), Position{8, 0})
	if said := w.audit(t); said != "" {
		t.Error(said)
	}
	if order := w.history.Audit(8); order.Votes["v6"] != 1 || order.Votes["v0"] != 4 {
		t.Errorf("votes %v, want one of v6 and four of v0", order.Votes)
	}
}

// Promise 2.
func TestEveryBrokenPromiseIsNamed(t *testing.T) {
	extra := chain.Message{Data: []byte("a message by hand")}
	for name, c := range map[string]struct {
		lie  func(*world)
		want string
	}{
		"fork": {func(w *world) {
			below := w.chains[0]
			w.chains[0] = append(below[:3:3], w.Block(below, extra))
			w.chains[1] = append(below[:3:3], w.Block(below))
		}, "FORK: height 4"},
		"changed block": {func(w *world) {
			w.show("v1", w.Block(w.chains[0], extra))
			w.both(w.Block(w.chains[0]))
		}, "FORK: height 4"},
		"lost block": {func(w *world) { w.show("v1", w.Block(w.chains[0])) },
			"height 4 was shown as final, the highest that any node has now is 3"},
		"block that nobody showed": {func(w *world) {
			for i := range w.chains {
				w.chains[i] = append(w.chains[i][:1:1], w.chains[i][2])
			}
		}, "no node showed height 2 of 3"},
		"lost message": {func(w *world) { w.ledger.Accepted(extra.ID(), Acceptance{Answered: time.Now()}) },
			"LOST: message " + extra.ID().String()},
		"repeated message": {func(w *world) {
			w.both(w.Block(w.chains[0], extra))
			w.both(w.Block(w.chains[0], extra))
		}, "is final twice"},
		"reordered messages": {func(w *world) {
			one, two := chain.Message{Data: []byte("load one")}.ID(), chain.Message{Data: []byte("load two")}.ID()
			w.ledger.Accepted(one, Acceptance{Place: 2})
			w.ledger.Accepted(two, Acceptance{Place: 1})
		}, "client 0 submitted message 1 before 2"},
		"invented message": {func(w *world) { w.both(w.Block(w.chains[0], chain.Message{Data: []byte("load of nobody")})) },
			"no client submitted it"},
		"short certificate": {func(w *world) { w.Certify(w.chains[0][1], 2) }, "2 votes"},
		"empty certificate": {func(w *world) { w.Certify(w.chains[0][1], 0) }, "height 2: "},
		"no certificate": {func(w *world) {
			b := Shown(w.Block(w.chains[0]))
			b.Certificate = nil
			w.history.Show("v0", &b)
		}, "height 4: the block has no certificate"},
		"wrong parent": {func(w *world) {
			b := w.Block(w.chains[0])
			b.Header.ParentHash = chain.Hash{1}
			w.Certify(b, 3)
			w.both(b)
		}, "block 4 of time"},
		"time that stands still": {func(w *world) {
			b := w.Block(w.chains[0])
			b.Header.Timestamp--
			w.Certify(b, 3)
			w.both(b)
		}, "block 4 of time"},
		"changed message": {func(w *world) { w.chains[0][1].Messages[0].Timestamp++ }, "messages root"},
		"other messages under one header": {func(w *world) {
			b := Shown(w.chains[0][1])
			w.show("v0", w.chains[0][1])
			b.Messages[0].ID = extra.ID()
			w.history.Show("v1", &b)
		}, "v1 shows other messages at height 2"},
		"wrong name": {func(w *world) {
			b := Shown(w.chains[0][1])
			b.HeaderHash = chain.Hash{1}
			w.history.Show("v1", &b)
		}, "its header hashes to"},
		"forged receipt": {func(w *world) {
			r, err := chain.NewReceipts(w.chains[0][1], nil, 0)
			if err != nil {
				panic(err)
			}
			r[0].Message.Timestamp++
			w.history.Receipt("v0", r[0], r[0].Message.ID, Position{2, 0})
		}, "does not verify"},
		"receipt of another place": {func(w *world) {
			r, err := chain.NewReceipts(w.chains[0][1], nil, 0)
			if err != nil {
				panic(err)
			}
			w.history.Receipt("v0", r[0], r[0].Message.ID, Position{1, 0})
		}, "it is final at {1 0}"},
		"evidence": {func(w *world) { w.history.Evidence("v0", make([]chain.Evidence, 1)) }, "holds evidence"},
		"change without endorsements": {func(w *world) {
			w.both(w.Change(w.chains[0], 2, 3, 2, 3, 4, 5))
		}, "block 4 changes the validator set: change with 2 endorsements"},
		"validator that comes back": {func(w *world) {
			w.both(w.Change(w.chains[0], 3, 2, 0, 1, 2))
			w.both(w.Change(w.chains[0], 2, 3, 0, 1, 2, 3))
		}, "block 5 changes the validator set: validator 3 is named v3"},
		"votes of those who left": {func(w *world) {
			w.both(w.Change(w.chains[0], 3, 3, 4, 5, 6, 7))
			b := w.Block(w.chains[0])
			w.certifyBy(b, w.Genesis.First(), 3)
			w.both(b)
		}, "v0, height 5: "},
		"fork in a later era": {func(w *world) {
			w.both(w.Change(w.chains[0], 3, 3, 4, 5, 6, 7))
			below := w.chains[0]
			w.chains[0] = append(below[:4:4], w.Block(below, extra))
			w.chains[1] = append(below[:4:4], w.Block(below))
		}, "FORK: height 5"},
		"receipt without its change": {func(w *world) {
			w.both(w.Change(w.chains[0], 3, 3, 4, 5, 6, 7))
			b := w.Block(w.chains[0], extra)
			r, err := chain.NewReceipts(b, nil, 0)
			if err != nil {
				panic(err)
			}
			w.history.Receipt("v0", r[0], extra.ID(), Position{5, 0})
		}, "does not verify"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			c.lie(w)
			if said := w.audit(t); !strings.Contains(said, c.want) {
				t.Errorf("the audit says %q, want %q in it", said, c.want)
			}
		})
	}
}

// Two nodes that show a height at the same time are compared: only one showing is the first.
//
// Promise 2.
func TestTwoFirstShowingsAtOnceAreCompared(t *testing.T) {
	w := newWorld(t)
	for range 20 {
		w.history = New(w.Genesis, own)
		one, other := w.Block(w.chains[0]), w.Block(w.chains[0], chain.Message{Data: []byte("another")})
		var both sync.WaitGroup
		both.Go(func() { w.show("v0", one) })
		both.Go(func() { w.show("v1", other) })
		both.Wait()
		if len(w.history.broken) != 1 {
			t.Fatalf("two blocks of one height, and the history says %q", w.history.broken)
		}
	}
}
