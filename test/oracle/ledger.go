package oracle

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/diseq/diseq/node/chain"
)

// Ledger is what clients know of the messages that they submitted. Its methods may be called from
// several goroutines.
type Ledger struct {
	mu       sync.Mutex
	accepted map[chain.Hash]Acceptance
	sent     map[chain.Hash]bool
}

// Acceptance is what a client knows of a message that a node accepted.
type Acceptance struct {
	Sent, Answered time.Time
	// Lane is a client's unbroken sequence of requests to one node, Place the message's place in it
	// from 1 on: within a lane, the order of the chain is the order of submission. Place 0 means
	// that the order is not known.
	Lane  Lane
	Place int
}

// Lane names a sequence of requests: the client's number, and the how manieth of its sequences.
type Lane struct{ Client, Sequence int }

// NewLedger returns an empty ledger.
func NewLedger() *Ledger {
	return &Ledger{accepted: map[chain.Hash]Acceptance{}, sent: map[chain.Hash]bool{}}
}

// Sent notes messages that may become final although no answer says so.
func (l *Ledger) Sent(ids ...chain.Hash) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, id := range ids {
		l.sent[id] = true
	}
}

// Accepted notes a message that a node answered with 202 or 200: it must become final.
func (l *Ledger) Accepted(id chain.Hash, a Acceptance) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.accepted[id] = a
}

// All returns the accepted messages.
func (l *Ledger) All() map[chain.Hash]Acceptance {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.accepted)
}

// Count returns how many messages were accepted, and how many more were sent.
func (l *Ledger) Count() (accepted, sent int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.accepted), len(l.sent)
}

// Join adds all that another ledger knows.
func (l *Ledger) Join(other *Ledger) {
	accepted := other.All()
	other.mu.Lock()
	sent := maps.Clone(other.sent)
	other.mu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	maps.Copy(l.accepted, accepted)
	maps.Copy(l.sent, sent)
}

func (l *Ledger) knows(id chain.Hash) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, ok := l.accepted[id]
	return ok || l.sent[id]
}

// check returns the accepted messages that are not final, and those that are final in another order
// than they were accepted in.
func (l *Ledger) check(order *Order) (broken []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	type placed struct {
		place int
		at    Position
	}
	lanes := map[Lane][]placed{}
	for id, a := range l.accepted {
		at, ok := order.Positions[id]
		if !ok {
			broken = append(broken, fmt.Sprintf("LOST: message %v was accepted at %v and is not final", id, a.Answered.Format(time.StampMilli)))
			continue
		}
		if a.Place > 0 {
			lanes[a.Lane] = append(lanes[a.Lane], placed{a.Place, at})
		}
	}
	for lane, messages := range lanes {
		slices.SortFunc(messages, func(a, b placed) int { return cmp.Compare(a.place, b.place) })
		for i := range messages[1:] {
			if a, b := messages[i], messages[i+1]; a.at.compare(b.at) >= 0 {
				broken = append(broken, fmt.Sprintf("client %d submitted message %d before %d, they are final at %v and %v",
					lane.Client, a.place, b.place, a.at, b.at))
			}
		}
	}
	return broken
}
