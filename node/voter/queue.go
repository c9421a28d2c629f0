package voter

import (
	"context"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/consensus"
)

// queue holds the events that wait for Run. Each peer has a lane of its own, and Run takes one
// event of each lane in turn: a peer that floods this node waits behind itself. The node's own
// events are those of timers, checks and health. They keep their place: an own event comes after
// every event that was queued before it, of any lane, and before every later one.
//
// So an event of a peer waits for one of each other peer at most, and an own event for what the
// lanes held. Under the synchrony wait an event that waits too long makes this node abstain.
type queue struct {
	// ready holds a token if there may be events.
	ready chan struct{}
	// ownRoom bounds the own events.
	ownRoom *semaphore.Weighted

	mu sync.Mutex
	// ticket numbers the events.
	ticket uint64
	own    []queued
	lanes  map[chain.PublicKey]*lane
	// turn are the lanes that have events, in the order of their turns.
	turn []*lane
}

// lane holds the events of one peer, with room for laneMessages.
type lane struct {
	room   *semaphore.Weighted
	events []queued
}

// queued is an event and when it was queued.
type queued struct {
	event  consensus.Event
	since  time.Time
	ticket uint64
	lane   *lane // nil for an own event
	weight int64 // its share of the room
}

const (
	// ownEvents bounds the own events that wait.
	ownEvents = 4096
	// laneMessages bounds the messages of one peer that wait: those of one full frame.
	laneMessages = 1024
)

func newQueue() *queue {
	return &queue{
		ready: make(chan struct{}, 1), ownRoom: semaphore.NewWeighted(ownEvents), lanes: map[chain.PublicKey]*lane{},
	}
}

// sender returns the peer that an event comes from, and the number of messages in it; ok is false
// for an own event.
func sender(e consensus.Event) (from chain.PublicKey, messages int, ok bool) {
	switch e := e.(type) {
	case consensus.Received:
		b := &e.Bundle
		return e.From, len(b.Certificates) + len(b.Proposals) + len(b.Votes), true
	case consensus.Ahead:
		return e.From, 1, true
	case consensus.Behind:
		return e.From, 1, true
	}
	return chain.PublicKey{}, 1, false
}

// add queues an event, after a wait for room.
func (q *queue) add(ctx context.Context, e consensus.Event) {
	from, messages, ok := sender(e)
	if !ok {
		if q.ownRoom.Acquire(ctx, 1) == nil {
			q.put(queued{event: e, since: time.Now(), weight: 1})
		}
		return
	}
	if q.merge(from, e) {
		return
	}
	l := q.lane(from)
	weight := int64(min(max(messages, 1), laneMessages))
	if l.room.Acquire(ctx, weight) == nil {
		q.put(queued{event: e, since: time.Now(), lane: l, weight: weight})
	}
}

func (q *queue) lane(of chain.PublicKey) *lane {
	q.mu.Lock()
	defer q.mu.Unlock()
	l := q.lanes[of]
	if l == nil {
		l = &lane{room: semaphore.NewWeighted(laneMessages)}
		q.lanes[of] = l
	}
	return l
}

// merge adds the heights of an event to the peer's last one, if that is of the same kind. A flood
// of them is one event.
func (q *queue) merge(from chain.PublicKey, e consensus.Event) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	l := q.lanes[from]
	if l == nil || len(l.events) == 0 {
		return false
	}
	last := &l.events[len(l.events)-1]
	switch e := e.(type) {
	case consensus.Ahead:
		if held, ok := last.event.(consensus.Ahead); ok {
			last.event = consensus.Ahead{From: from, Lowest: min(held.Lowest, e.Lowest), Height: max(held.Height, e.Height)}
			return true
		}
	case consensus.Behind:
		if held, ok := last.event.(consensus.Behind); ok {
			last.event = consensus.Behind{From: from, Height: max(held.Height, e.Height)}
			return true
		}
	}
	return false
}

// put appends an event that has its room.
func (q *queue) put(e queued) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ticket++
	e.ticket = q.ticket
	if e.lane == nil {
		q.own = append(q.own, e)
	} else {
		if len(e.lane.events) == 0 {
			q.turn = append(q.turn, e.lane)
		}
		e.lane.events = append(e.lane.events, e)
	}
	q.wake()
}

func (q *queue) wake() {
	select {
	case q.ready <- struct{}{}:
	default:
	}
}

// take removes the next event; ok is false if there is none. It leaves a token in ready if there
// are more.
func (q *queue) take() (e queued, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if e, ok = q.next(); !ok {
		return queued{}, false
	}
	if len(q.own) > 0 || len(q.turn) > 0 {
		q.wake()
	}
	if e.lane == nil {
		q.ownRoom.Release(e.weight)
	} else {
		e.lane.room.Release(e.weight)
	}
	return e, true
}

func (q *queue) next() (e queued, ok bool) {
	i := slices.IndexFunc(q.turn, func(l *lane) bool { return len(q.own) == 0 || l.events[0].ticket < q.own[0].ticket })
	if i < 0 {
		if len(q.own) == 0 {
			return queued{}, false
		}
		e = q.own[0]
		q.own = dropFirst(q.own)
		return e, true
	}
	l := q.turn[i]
	e = l.events[0]
	l.events = dropFirst(l.events)
	q.turn = slices.Delete(q.turn, i, i+1)
	if len(l.events) > 0 {
		q.turn = append(q.turn, l)
	}
	return e, true
}

// dropFirst removes the first event and lets go of what it points to.
func dropFirst(events []queued) []queued {
	events[0] = queued{}
	if len(events) == 1 {
		return nil
	}
	return events[1:]
}

// size returns the number of events that wait.
func (q *queue) size() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := len(q.own)
	for _, l := range q.turn {
		n += len(l.events)
	}
	return n
}
