// Package seats shares a bounded amount of something, such as connections, streams or bytes, among
// clients that compete for it.
//
// A client may take more than its share while there is room. When there is none, a newcomer takes
// the seat of a client that holds more and does not use it: the seat that has been idle longest, of
// the key that holds most. A key that holds less than the newcomer's loses nothing. So a client
// that takes all there is and lets it lie keeps nobody out, and two clients that need the same
// amount do not push each other out in turns.
//
// A seat that is asked to give way counts until its holder releases it: what the seats stand for is
// bounded at every moment.
package seats

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// Errors of Take. ErrFull says that all there is was taken, ErrMost that the key holds as much as
// the claim allows it.
var (
	ErrFull = errors.New("all seats are taken")
	ErrMost = errors.New("this client has as many seats as it may")
)

// Limiter bounds how much is taken at the same time.
type Limiter struct {
	capacity int64
	// patience is how long a seat is idle before it gives way to a key that holds as much.
	patience time.Duration

	mu    sync.Mutex
	taken int64
	// leaving is the part of taken that is about to be released, taken from its holders.
	leaving int64
	keys    map[string]*share
	seats   map[*Seat]struct{}
	waiting []*waiter // oldest first
	timer   *time.Timer
}

// share is what a key holds. It is forgotten when the last seat is released.
type share struct{ taken, leaving int64 }

// Claim is what somebody wants.
type Claim struct {
	// Key is the client on whose account the seat is, such as its address.
	Key string
	// Weight is how much the seat takes, at least 1. More than there is counts as all there is.
	Weight int64
	// Most is how much the key may hold, this seat included; 0 for no limit of its own.
	Most int64
	// Wait is how long to wait for a seat; 0 is for not at all, and then nobody gives way.
	Wait time.Duration
	// GiveWay makes the holder release the seat soon. It is called at most once, on a goroutine of
	// its own, and maybe after the release. A seat without it is never taken away.
	GiveWay func()
}

// Seat is a part of what a Limiter bounds, until it is released.
type Seat struct {
	limiter *Limiter
	key     string
	weight  int64
	giveWay func()

	// idleFrom is when the seat counts as idle; zero for never. It and the rest are guarded by the
	// limiter's lock.
	idleFrom time.Time
	leaving  bool
	released bool
}

type waiter struct {
	claim Claim
	since time.Time
	seat  *Seat // once it has one
	ready chan struct{}
}

// stale is how long somebody waits at most before newer ones go first. In a queue that does not get
// shorter everybody would wait until it is too late.
const stale = time.Second

// New returns a limiter of so much. A seat gives way to a newcomer of a key that holds as much as
// its own once it has been idle for patience, and to one of a key that holds less at once.
func New(capacity int64, patience time.Duration) *Limiter {
	return &Limiter{capacity: capacity, patience: patience, keys: map[string]*share{}, seats: map[*Seat]struct{}{}}
}

// Take returns a seat, which the caller releases. Those who wait get seats in the order of what
// their keys hold, least first. Of equals the oldest goes first, except that those who have waited
// for a second go last, and the newest of them first. Errors: ErrFull, ErrMost, ctx's.
func (l *Limiter) Take(ctx context.Context, c Claim) (*Seat, error) {
	c.Weight = min(max(c.Weight, 1), l.capacity)
	if c.Most > 0 {
		c.Weight = min(c.Weight, c.Most)
	}
	w := &waiter{claim: c, since: time.Now(), ready: make(chan struct{})}
	l.mu.Lock()
	l.waiting = append(l.waiting, w)
	l.mu.Unlock()
	l.arrange()

	if c.Wait > 0 {
		timer := time.NewTimer(c.Wait)
		defer timer.Stop()
		select {
		case <-w.ready:
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	l.mu.Lock()
	if w.seat != nil {
		l.mu.Unlock()
		return w.seat, nil
	}
	l.waiting = slices.DeleteFunc(l.waiting, func(other *waiter) bool { return other == w })
	err := ErrFull
	if l.beyondMost(c) > 0 {
		err = ErrMost
	}
	l.mu.Unlock()
	l.arrange() // it may have stood in the way of another one
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return nil, err
}

// IdleFrom says that the holder does nothing with the seat from t on, if it does not call IdleFrom
// again before. A zero t says that it is at work for as long as it takes.
func (s *Seat) IdleFrom(t time.Time) {
	l := s.limiter
	l.mu.Lock()
	sooner := !t.IsZero() && (s.idleFrom.IsZero() || t.Before(s.idleFrom))
	s.idleFrom = t
	concerns := sooner && len(l.waiting) > 0
	l.mu.Unlock()
	if concerns {
		l.arrange()
	}
}

// GaveWay reports whether the seat was asked to give way.
func (s *Seat) GaveWay() bool {
	s.limiter.mu.Lock()
	defer s.limiter.mu.Unlock()
	return s.leaving
}

// Release gives the seat back. Further calls do nothing.
func (s *Seat) Release() {
	l := s.limiter
	l.mu.Lock()
	if s.released {
		l.mu.Unlock()
		return
	}
	s.released = true
	delete(l.seats, s)
	of := l.keys[s.key]
	l.taken -= s.weight
	of.taken -= s.weight
	if s.leaving {
		l.leaving -= s.weight
		of.leaving -= s.weight
	}
	if of.taken == 0 {
		delete(l.keys, s.key)
	}
	waited := len(l.waiting) > 0
	l.mu.Unlock()
	if waited {
		l.arrange()
	}
}

// Taken returns how much is taken, Of how much of it a key holds.
func (l *Limiter) Taken() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.taken
}

// Of returns how much a key holds.
func (l *Limiter) Of(key string) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.of(key).taken
}

func (l *Limiter) of(key string) share {
	if s := l.keys[key]; s != nil {
		return *s
	}
	return share{}
}

// arrange gives seats to those who wait, and asks idle holders to make room for the first of the
// others.
func (l *Limiter) arrange() {
	l.mu.Lock()
	leave := l.arrangeLocked(time.Now())
	l.mu.Unlock()
	for _, s := range leave {
		go s.giveWay() // the caller may hold locks that it takes
	}
}

func (l *Limiter) arrangeLocked(now time.Time) (leave []*Seat) {
	atMost := map[*waiter]bool{}
	for {
		w := l.first(atMost, now)
		if w == nil {
			break
		}
		beyond, lacking := l.beyondMost(w.claim), l.taken+w.claim.Weight-l.capacity
		switch {
		case beyond > 0:
			// Only its own client can make room for it. Others need not wait for that.
			leave = append(leave, l.clear(w.claim, now, beyond-l.of(w.claim.Key).leaving, true)...)
			atMost[w] = true
		case lacking > 0:
			leave = append(leave, l.clear(w.claim, now, lacking-l.leaving, false)...)
			l.wake(now)
			return leave
		default:
			l.seat(w)
		}
	}
	l.wake(now)
	return leave
}

// first returns the waiter who is next.
func (l *Limiter) first(except map[*waiter]bool, now time.Time) (first *waiter) {
	var least int64
	for _, w := range l.waiting {
		if except[w] {
			continue
		}
		holds := l.of(w.claim.Key).taken
		if first == nil || holds < least || holds == least && now.Sub(first.since) >= stale {
			first, least = w, holds
		}
	}
	return first
}

// beyondMost returns by how much a claim exceeds what its key may hold.
func (l *Limiter) beyondMost(c Claim) int64 {
	if c.Most == 0 {
		return 0
	}
	return l.of(c.Key).taken + c.Weight - c.Most
}

func (l *Limiter) seat(w *waiter) {
	s := &Seat{limiter: l, key: w.claim.Key, weight: w.claim.Weight, giveWay: w.claim.GiveWay}
	l.seats[s] = struct{}{}
	if l.keys[s.key] == nil {
		l.keys[s.key] = &share{}
	}
	l.keys[s.key].taken += s.weight
	l.taken += s.weight
	l.waiting = slices.DeleteFunc(l.waiting, func(other *waiter) bool { return other == w })
	w.seat = s
	close(w.ready)
}

// clear marks the seats that have to give way so that as much as a claim needs becomes free; none
// if that is not possible now.
func (l *Limiter) clear(c Claim, now time.Time, need int64, own bool) []*Seat {
	if need <= 0 || c.Wait <= 0 {
		return nil // there is nobody to make room for, or nobody who would wait until it is there
	}
	var idle []*Seat
	for s := range l.seats {
		if (!own || s.key == c.Key) && l.yields(s, c, now) {
			idle = append(idle, s)
		}
	}
	slices.SortFunc(idle, func(a, b *Seat) int {
		return cmp.Or(cmp.Compare(l.keys[b.key].taken, l.keys[a.key].taken), a.idleFrom.Compare(b.idleFrom))
	})
	for i, s := range idle {
		if need -= s.weight; need <= 0 {
			idle = idle[:i+1]
			break
		}
	}
	if need > 0 {
		return nil
	}
	for _, s := range idle {
		s.leaving = true
		l.leaving += s.weight
		l.keys[s.key].leaving += s.weight
	}
	return idle
}

// yields reports whether a seat may be taken from its holder for a claim.
func (l *Limiter) yields(s *Seat, c Claim, now time.Time) bool {
	if s.giveWay == nil || s.leaving || s.idleFrom.IsZero() || s.idleFrom.After(now) {
		return false
	}
	theirs, ours := l.of(s.key), l.of(c.Key)
	if theirs.taken-theirs.leaving-s.weight >= ours.taken+c.Weight {
		return true // the newcomer's key has less, also after that
	}
	return theirs.taken >= ours.taken && !s.idleFrom.Add(l.patience).After(now)
}

// wake has the seats arranged again when the next of them begins to count as idle.
func (l *Limiter) wake(now time.Time) {
	if l.timer != nil {
		l.timer.Stop()
		l.timer = nil
	}
	if len(l.waiting) == 0 {
		return
	}
	var next time.Time
	for s := range l.seats {
		if s.giveWay == nil || s.leaving || s.idleFrom.IsZero() {
			continue
		}
		for _, t := range []time.Time{s.idleFrom, s.idleFrom.Add(l.patience)} {
			if t.After(now) && (next.IsZero() || t.Before(next)) {
				next = t
			}
		}
	}
	if !next.IsZero() {
		l.timer = time.AfterFunc(next.Sub(now), l.arrange)
	}
}
