package access

import (
	"container/list"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	// burstMessages and burstBytes are what a client that was silent may send at once: a request of
	// the largest size.
	burstMessages = 10_000
	burstBytes    = 8 << 20
	// maxAddresses is how many addresses without a credential are told apart. Beyond it, the one
	// that was silent longest begins anew.
	maxAddresses = 16_384
	day          = 24 * time.Hour
)

// usage is what a client takes of this node.
type usage struct {
	// whose is the client in the words of its refusals.
	whose string

	mu              sync.Mutex
	limits          Limits
	messages, bytes *rate.Limiter
	// today is the day, as a number, that spent is about.
	today       int64
	spent       uint64
	connections uint64
	streams     uint64
}

func newUsage(whose string, l Limits) *usage {
	u := &usage{whose: whose}
	u.set(l)
	return u
}

// set replaces the limits, and counts on.
func (u *usage) set(l Limits) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.limits = l
	u.messages = adjust(u.messages, l.MessagesPerSecond, burstMessages)
	u.bytes = adjust(u.bytes, l.BytesPerSecond, burstBytes)
}

// adjust returns a limiter of so many a second, nil for no bound: the old one if there is one, else
// a full one.
func adjust[N uint64 | Bytes](l *rate.Limiter, perSecond *N, burst N) *rate.Limiter {
	if perSecond == nil {
		return nil
	}
	per, size := rate.Limit(*perSecond), int(min(max(*perSecond, burst), 1<<40))
	switch {
	case l == nil:
		return rate.NewLimiter(per, size)
	case l.Limit() != per:
		l.SetLimit(per)
		l.SetBurst(size)
	}
	return l
}

// charge is what one submission took.
type charge struct {
	usage           *usage
	messages, bytes *rate.Reservation // nil where there is no bound
	at              time.Time
	today           int64
	size            uint64
}

// refund gives back what was taken, for a submission that was not accepted.
func (c *charge) refund() {
	c.usage.mu.Lock()
	defer c.usage.mu.Unlock()
	for _, r := range []*rate.Reservation{c.messages, c.bytes} {
		if r != nil {
			r.CancelAt(c.at)
		}
	}
	c.give(c.size)
}

// known gives bytes of the day back.
func (c *charge) known(size int) {
	c.usage.mu.Lock()
	defer c.usage.mu.Unlock()
	c.give(min(uint64(size), c.size))
}

// give gives bytes of the day back, if it is still the same.
func (c *charge) give(size uint64) {
	if c.usage.today == c.today {
		c.usage.spent -= min(size, c.usage.spent)
	}
}

// reserve takes n of a limiter, or returns how long it takes until they are there.
func reserve(l *rate.Limiter, now time.Time, n int) (*rate.Reservation, time.Duration) {
	if l == nil {
		return nil, 0
	}
	r := l.ReserveN(now, min(n, l.Burst()))
	d := r.DelayFrom(now)
	if d > 0 {
		r.CancelAt(now)
	}
	return r, d
}

// take charges a submission, or refuses it and charges nothing.
func (u *usage) take(now time.Time, messages, size int) (*charge, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if today := now.Unix() / int64(day/time.Second); today != u.today {
		u.today, u.spent = today, 0
	}
	if l := u.limits.BytesPerDay; l != nil && u.spent+uint64(size) > uint64(*l) {
		midnight := time.Unix((u.today+1)*int64(day/time.Second), 0)
		return nil, quota(midnight.Sub(now), "%s has %d of %d bytes a day left: they are counted anew from midnight UTC",
			u.whose, uint64(*l)-min(u.spent, uint64(*l)), uint64(*l))
	}
	c := &charge{usage: u, at: now, today: u.today, size: uint64(size)}
	var wait time.Duration
	if c.messages, wait = reserve(u.messages, now, messages); wait > 0 {
		return nil, quota(wait, "%s may submit %d messages a second", u.whose, *u.limits.MessagesPerSecond)
	}
	if c.bytes, wait = reserve(u.bytes, now, size); wait > 0 {
		if c.messages != nil {
			c.messages.CancelAt(now)
		}
		return nil, quota(wait, "%s may submit %d bytes a second", u.whose, uint64(*u.limits.BytesPerSecond))
	}
	u.spent += uint64(size)
	return c, nil
}

func quota(after time.Duration, format string, args ...any) *Refusal {
	return &Refusal{Reason: Quota, Message: fmt.Sprintf(format, args...), RetryAfter: max(after, time.Second)}
}

// openStream counts a stream until closeStream.
func (u *usage) openStream() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if l := u.limits.Streams; l != nil && u.streams >= *l {
		return quota(10*time.Second, "%s may have %d streams open", u.whose, *l)
	}
	u.streams++
	return nil
}

func (u *usage) closeStream() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.streams--
}

// connect counts a connection until disconnect.
func (u *usage) connect() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if l := u.limits.Connections; l != nil && u.connections >= *l {
		return quota(time.Second, "%s may have %d connections open: close idle ones", u.whose, *l)
	}
	u.connections++
	return nil
}

func (u *usage) disconnect() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.connections--
}

// idle says that nothing is open.
func (u *usage) idle() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.connections == 0 && u.streams == 0
}

// addresses are the usages of clients without a credential, by address.
type addresses struct {
	mu     sync.Mutex
	limits Limits
	table  map[netip.Prefix]*list.Element // of *addressUsage
	recent *list.List                     // most recently seen first
}

type addressUsage struct {
	prefix netip.Prefix
	usage  *usage
}

func newAddresses() *addresses {
	return &addresses{table: map[netip.Prefix]*list.Element{}, recent: list.New()}
}

// prefixOf is what counts as one address: whoever has an IPv6 address has the 2^64 beside it.
func prefixOf(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := a.BitLen()
	if a.Is6() {
		bits = 64
	}
	prefix, _ := a.Prefix(bits) // of an invalid address it is the zero prefix
	return prefix
}

// of returns the usage of an address.
func (a *addresses) of(address netip.Addr) *usage {
	prefix := prefixOf(address)
	a.mu.Lock()
	defer a.mu.Unlock()
	if e := a.table[prefix]; e != nil {
		a.recent.MoveToFront(e)
		return e.Value.(*addressUsage).usage
	}
	a.evict()
	entry := &addressUsage{prefix, newUsage("the address "+prefix.String(), a.limits)}
	a.table[prefix] = a.recent.PushFront(entry)
	return entry.usage
}

// evict makes room for one more: of those seen longest ago, the first without anything open, of
// which there is mostly one among the last few.
func (a *addresses) evict() {
	if len(a.table) < maxAddresses {
		return
	}
	last := a.recent.Back()
	e := last
	for range 64 {
		if e.Value.(*addressUsage).usage.idle() {
			last = e
			break
		}
		if e = e.Prev(); e == nil {
			break
		}
	}
	delete(a.table, last.Value.(*addressUsage).prefix)
	a.recent.Remove(last)
}

// set replaces the limits of all addresses.
func (a *addresses) set(l Limits) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.limits = l
	for e := a.recent.Front(); e != nil; e = e.Next() {
		e.Value.(*addressUsage).usage.set(l)
	}
}
