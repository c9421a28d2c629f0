package main

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"slices"
	"sync"
	"time"
)

// A network is one of the systems that are compared, as it runs.
type network interface {
	// submitter returns one connection of a client. Submit sends messages in one request, and
	// returns when the system has answered; it returns how many of them the system took.
	submitter(index int) (submit, error)
	// follow calls seen with every message that becomes final, on one connection, until ctx ends.
	follow(ctx context.Context, ready func(), seen func(message []byte)) error
	// pids are the processes of the nodes.
	pids() []int
	stop()
}

type submit = func(ctx context.Context, messages [][]byte) (taken int, err error)

// load is what is submitted.
type load struct {
	rate        float64 // messages a second, 0 for as many as are answered
	batch, size int
	connections int
	duration    time.Duration
	drain       time.Duration
}

// outcome is what became of it.
type outcome struct {
	sent, taken, refused, final, lost int
	perSecond                         float64 // from the first request to the last message final
	p50, p99                          time.Duration
	cpu, client                       time.Duration // of the nodes together, and of this process
}

// keyBytes begin each message: hexadecimal digits that occur once. An equals sign follows: the
// example application of CometBFT takes a key and a value only.
const keyBytes = 48

type key [keyBytes]byte

// counting is a load under way.
type counting struct {
	load
	mu        sync.Mutex
	open      map[key]time.Time
	times     []time.Duration
	lastFinal time.Time
	outcome   outcome
	failure   error         // the first one
	drained   chan struct{} // signalled when nothing is open
}

// run puts the load on a network.
func (l load) run(ctx context.Context, n network) (outcome, error) {
	c := &counting{load: l, open: map[key]time.Time{}, drained: make(chan struct{}, 1)}
	following, stop := context.WithCancel(ctx)
	defer stop()
	ready, followed := make(chan struct{}), make(chan error, 1)
	go func() { followed <- n.follow(following, sync.OnceFunc(func() { close(ready) }), c.seen) }()
	select {
	case <-ready:
	case err := <-followed:
		return outcome{}, err
	}
	cpuBefore, clientBefore := processorTime(n.pids()), ownTime()
	submitting, cancel := context.WithTimeout(ctx, l.duration)
	defer cancel()
	began := time.Now()
	var workers sync.WaitGroup
	defer workers.Wait()
	for i := range l.connections {
		to, err := n.submitter(i)
		if err != nil {
			cancel()
			return outcome{}, err
		}
		workers.Go(func() { c.submit(submitting, ctx, to, began, i) })
	}
	workers.Wait()
	if err := c.await(ctx, followed); err != nil {
		return outcome{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	o := c.outcome
	o.cpu, o.client = processorTime(n.pids())-cpuBefore, ownTime()-clientBefore
	o.final, o.lost = len(c.times), len(c.open)
	if o.final == 0 {
		return o, c.failure
	}
	o.perSecond = float64(o.final) / c.lastFinal.Sub(began).Seconds()
	slices.Sort(c.times)
	o.p50, o.p99 = c.times[len(c.times)/2], c.times[len(c.times)*99/100]
	return o, nil
}

// seen counts a final message.
func (c *counting) seen(message []byte) {
	if len(message) < keyBytes {
		return
	}
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	k := key(message[:keyBytes])
	if at, ok := c.open[k]; ok {
		delete(c.open, k)
		c.times, c.lastFinal = append(c.times, now.Sub(at)), now
	}
	if len(c.open) == 0 {
		select {
		case c.drained <- struct{}{}:
		default:
		}
	}
}

// submit is one connection: one request at a time, at its share of the rate. A request under way
// when submitting ends is waited for.
func (c *counting) submit(submitting, ctx context.Context, to submit, began time.Time, index int) {
	m := newMessages(c.batch, c.size)
	every := time.Duration(0)
	if c.rate > 0 {
		every = time.Duration(float64(time.Second) * float64(c.batch*c.connections) / c.rate)
	}
	due := began.Add(every * time.Duration(index) / time.Duration(c.connections))
	for number := uint64(0); pause(submitting, time.Until(due)); number++ {
		if late := time.Now().Add(-time.Second); due.Before(late) {
			due = late // a delay is made up for, but not with a flood
		}
		due = due.Add(every)
		keys := m.next(number)
		at := time.Now()
		c.mu.Lock()
		for _, k := range keys {
			c.open[k] = at
		}
		c.outcome.sent += len(keys)
		c.mu.Unlock()
		taken, err := to(ctx, m.list)
		c.mu.Lock()
		c.outcome.taken += taken
		c.outcome.refused += len(keys) - taken
		for _, k := range keys[taken:] {
			delete(c.open, k)
		}
		if c.failure == nil {
			c.failure = err
		}
		c.mu.Unlock()
		if taken < len(keys) && !pause(submitting, refusalPause) {
			return
		}
	}
}

// refusalPause is how long a connection leaves a node alone that refused a message.
const refusalPause = 100 * time.Millisecond

// await waits until everything is final, at most for the drain time.
func (c *counting) await(ctx context.Context, followed <-chan error) error {
	deadline := time.NewTimer(c.drain)
	defer deadline.Stop()
	for {
		c.mu.Lock()
		left := len(c.open)
		c.mu.Unlock()
		if left == 0 {
			return nil
		}
		select {
		case <-c.drained:
		case <-deadline.C:
			return nil
		case err := <-followed:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// pause reports whether ctx has not ended after the pause.
func pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// messages are those of one connection, made again for each request in the same memory.
type messages struct {
	list  [][]byte
	nonce [16]byte
}

func newMessages(count, size int) *messages {
	m := &messages{}
	_, _ = rand.Read(m.nonce[:]) // it never fails
	filler := make([]byte, (size+1)/2)
	for range count {
		_, _ = rand.Read(filler)
		text := append(make([]byte, keyBytes, size+1), '=')
		text = hex.AppendEncode(text, filler)
		m.list = append(m.list, text[:size])
	}
	return m
}

// next gives all messages new keys.
func (m *messages) next(number uint64) []key {
	var raw [keyBytes / 2]byte
	copy(raw[:], m.nonce[:])
	keys := make([]key, len(m.list))
	for i, message := range m.list {
		binary.BigEndian.PutUint64(raw[16:], number*uint64(len(m.list))+uint64(i))
		hex.Encode(message, raw[:])
		keys[i] = key(message[:keyBytes])
	}
	return keys
}
