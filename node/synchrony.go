package node

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/consensus"
)

// synchrony tells the core what its synchrony wait rests on: whether this node hears within Delta
// what t validators say, itself included.
//
// It measures the node's own pauses with a clock that beats four times a Delta, and the ways to the
// other validators by pings, whose answers come in order with all else that those validators send.
// When a wait ends it asks once more: once the answers are there, everything said before them has
// been handed over, and only then is the core told that the wait is over.
//
// It does nothing on a chain without the wait.
type synchrony struct {
	n     *Node
	delta time.Duration
	// beat is when the watchdog last ran. stalled asks the sequencer to tell the core of a breach
	// before anything else; slow tells the watchdog that the sequencer was held up.
	beat          atomic.Pointer[time.Time]
	stalled, slow atomic.Bool
	ok            atomic.Bool
	// settled is what the core says of itself: the time after ill health in which it does not
	// notarize is over.
	settled atomic.Bool

	// mu is held while events are posted, so that they stay in order; the sequencer, which takes
	// them, never takes it.
	mu     sync.Mutex
	number uint64
	links  map[chain.PublicKey]*pulse
	fences map[uint64]*fence
	// asked is until when the answers to each peer that asks again are paid for, at four a Delta.
	asked map[chain.PublicKey]time.Time
}

// pulse is what is known of the way to a validator and back.
type pulse struct {
	// number and sent are the ping's that is under way, number 0 if none is.
	number uint64
	sent   time.Time
	// good is since when every ping has come back within 2*Delta and nothing was lost; zero if the
	// last did not.
	good time.Time
	// lost is what the validator last told of losses, once told.
	lost uint64
	told bool
}

// fence is the end of a wait: it falls when the validators asked have answered.
type fence struct {
	timer    consensus.Timer
	began    time.Time
	waiting  map[chain.PublicKey]bool
	answered int
	expiry   *time.Timer
}

func newSynchrony(n *Node) *synchrony {
	s := &synchrony{
		n: n, delta: time.Duration(n.set.SynchronyDeltaMS) * time.Millisecond,
		links: map[chain.PublicKey]*pulse{}, fences: map[uint64]*fence{}, asked: map[chain.PublicKey]time.Time{},
	}
	now := time.Now()
	s.beat.Store(&now)
	return s
}

// pingInterval is how often the way to each validator is measured between the ends of waits.
func (s *synchrony) pingInterval() time.Duration {
	return min(max(s.delta/2, 50*time.Millisecond), time.Second)
}

// run watches until ctx ends.
func (s *synchrony) run(ctx context.Context) {
	if s.delta == 0 {
		return
	}
	ticker := time.NewTicker(s.delta / 4)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			s.watch()
		}
	}
}

// late reports whether the process has stood still for more than Delta/2 since the watchdog last
// ran, by the clock that runs on when the machine's is set, or by the one that runs on when the
// machine sleeps.
func (s *synchrony) late() bool {
	if s.delta == 0 {
		return false
	}
	last, now := *s.beat.Load(), time.Now()
	elapsed := max(now.Sub(last), now.Round(0).Sub(last.Round(0)))
	return elapsed > s.delta/4+s.delta/2
}

// held is told how long an event waited for the sequencer, and how long the sequencer took over a
// group of them: while it writes to a slow disk, or is behind with what peers flood it with,
// nothing is relayed, and what it handles then is old.
func (s *synchrony) held(d time.Duration) {
	if s.delta > 0 && d > s.delta/2 {
		s.stalled.Store(true)
		s.slow.Store(true)
	}
}

// breached reports, once, that the core has to be told of ill health before anything else. The
// watchdog takes note in any case: it is what says that all is well again.
func (s *synchrony) breached() bool {
	if s.delta == 0 || s.stalled.Swap(false) {
		return s.delta > 0
	}
	late := s.late()
	if late {
		s.slow.Store(true)
	}
	return late
}

func (s *synchrony) watch() {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if slow := s.slow.Swap(false); s.late() || slow {
		s.breach() // before the beat: what the sequencer takes between the two is not timely
	}
	s.beat.Store(&now)
	for to, p := range s.links {
		if p.number != 0 && now.Sub(p.sent) > 2*s.delta {
			p.number, p.good = 0, time.Time{}
		}
		if p.number == 0 && now.Sub(p.sent) >= s.pingInterval() {
			s.ping(to, p)
		}
	}
	s.judge()
}

// breach ends every wait under way.
func (s *synchrony) breach() {
	s.stalled.Store(true)
	s.n.metrics.breaches.Inc()
	if s.ok.Swap(false) {
		s.n.seq.post(consensus.Health{})
	}
}

// judge tells the core when its node's health changes.
func (s *synchrony) judge() {
	well := 0
	if s.n.set.Index(s.n.self) >= 0 {
		well++
	}
	for _, p := range s.links {
		if !p.good.IsZero() {
			well++
		}
	}
	switch ok := well >= int(s.n.set.Threshold); {
	case ok && !s.ok.Swap(true):
		s.n.seq.post(consensus.Health{OK: true})
	case !ok && s.ok.Load():
		s.breach()
	}
}

func (s *synchrony) ping(to chain.PublicKey, p *pulse) {
	s.number++
	p.number, p.sent = s.number, time.Now()
	s.n.transport.Ping(to, p.number)
}

// linkUp begins to measure a validator anew: a link that reopened counts from then.
func (s *synchrony) linkUp(to chain.PublicKey) {
	if s.delta == 0 || s.n.set.Index(to) < 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p := &pulse{}
	s.links[to] = p
	s.ping(to, p)
	s.judge()
}

func (s *synchrony) linkDown(to chain.PublicKey) {
	if s.delta == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.links, to)
	for number, f := range s.fences {
		s.answers(number, f, to, false)
	}
	s.judge()
}

// pong takes an answer in: what its sender said before has been handed over.
func (s *synchrony) pong(from chain.PublicKey, number, lost uint64) {
	if s.delta == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.links[from]
	if p == nil {
		return
	}
	well := !p.told || lost == p.lost
	p.told, p.lost = true, lost
	if number == p.number {
		p.number = 0
		well = well && time.Since(p.sent) <= 2*s.delta
		if well && p.good.IsZero() {
			p.good = time.Now()
		}
	}
	if !well {
		p.good = time.Time{}
	}
	s.judge()
	if f := s.fences[number]; f != nil {
		s.answers(number, f, from, !p.good.IsZero() && p.good.Before(f.began))
	}
}

// waited says that the time of a wait that began then is over. It is posted to the core behind all
// that the validators said before; if t of them do not answer within Delta, this node was not well.
func (s *synchrony) waited(timer consensus.Timer, began time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.late() {
		s.breach()
		return // the watchdog finds the same, and says when it is over
	}
	s.number++
	number := s.number
	f := &fence{timer: timer, began: began, waiting: map[chain.PublicKey]bool{}}
	s.fences[number] = f
	for to := range s.links {
		f.waiting[to] = true
		s.n.transport.Ping(to, number)
	}
	f.expiry = time.AfterFunc(s.delta, func() { s.expired(number) })
	if len(f.waiting) == 0 {
		s.fall(number, f)
	}
}

// answers notes that a validator has nothing more to say to a fence; well: it was heard all the
// time.
func (s *synchrony) answers(number uint64, f *fence, from chain.PublicKey, well bool) {
	if !f.waiting[from] {
		return
	}
	delete(f.waiting, from)
	if well {
		f.answered++
	}
	if len(f.waiting) == 0 {
		s.fall(number, f)
	}
}

func (s *synchrony) expired(number uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.fences[number]; f != nil {
		s.fall(number, f)
	}
}

func (s *synchrony) fall(number uint64, f *fence) {
	f.expiry.Stop()
	delete(s.fences, number)
	if f.answered+1 < int(s.n.set.Threshold) {
		s.breach()
		s.judge()
		return
	}
	s.n.seq.post(consensus.TimerFired{Timer: f.timer})
}

// asks answers a peer that asks for what is sent when a link opens: up to four times a Delta at
// once, for the peer counts on it; who asks more often waits.
func (s *synchrony) asks(from chain.PublicKey) {
	if s.delta == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now, each := time.Now(), s.delta/4
	paid := s.asked[from]
	if paid.Before(now) {
		paid = now
	}
	wait := paid.Add(-3 * each).Sub(now)
	if wait > each {
		return // one is to be answered already
	}
	s.asked[from] = paid.Add(each)
	answer := func() { s.n.seq.post(consensus.LinkUp{Peer: from}) }
	if wait <= 0 {
		answer()
		return
	}
	time.AfterFunc(wait, answer)
}
