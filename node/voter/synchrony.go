package voter

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/consensus"
)

// synchrony finds out for the core whether this node is healthy: whether it hears within Delta what
// t validators say, itself included. The synchrony wait rests on that.
//
// It measures the node's own pauses with a watchdog that runs four times a Delta, and the ways to
// all peers by pings. Those to the validators of the open height count, also where they were
// measured before the set came into force. A pong comes in order with everything else that its
// sender sends. So when a wait ends, synchrony pings once more: once the pongs are there,
// everything that was said before them has reached the core, and only then does the core learn that
// the wait is over.
//
// On a chain without the wait it only answers peers that ask again.
type synchrony struct {
	// set is that of the open height. changed tells the watchdog that it is another one.
	set     atomic.Pointer[chain.ValidatorSet]
	changed chan struct{}
	self    chain.PublicKey
	delta   time.Duration
	network Network
	post    func(consensus.Event)

	breaches prometheus.Counter

	// beat is when the watchdog last ran. stalled asks Run to report a breach to the core before
	// the next event. slow tells the watchdog that Run was held up.
	beat          atomic.Pointer[time.Time]
	stalled, slow atomic.Bool
	healthy       atomic.Bool

	// mu is locked while events are posted, so that they stay in order. Run's goroutine, which
	// takes the events, never locks it.
	mu     sync.Mutex
	number uint64
	links  map[chain.PublicKey]*pulse
	fences map[uint64]*fence
	// resends is until when each peer has used up its answers, at four in each resendPeriod.
	resends map[chain.PublicKey]time.Time
}

// pulse is the state of the way to a peer and back.
type pulse struct {
	// number and sent are those of the ping under way; number is 0 if there is none.
	number uint64
	sent   time.Time
	// goodSince is since when every ping has come back within 2*Delta and nothing was lost; zero if
	// the last one did not.
	goodSince time.Time
	// lost is the count of losses that the peer reported last, if it reported any count.
	lost     uint64
	reported bool
}

// good reports whether the last ping came back in time, with nothing lost.
func (p *pulse) good() bool { return !p.goodSince.IsZero() }

// fence is the end of a wait: it is over when the validators that were pinged have answered.
type fence struct {
	// over tells the core that asked for the wait.
	over consensus.Event
	// set is that of the open height when the time of the wait was over.
	set      *chain.ValidatorSet
	began    time.Time
	waiting  map[chain.PublicKey]bool
	answered int
	expiry   *time.Timer
}

func newSynchrony(
	set *chain.ValidatorSet, self chain.PublicKey, network Network, post func(consensus.Event), metrics Metrics,
) *synchrony {
	s := &synchrony{
		changed: make(chan struct{}, 1), self: self, delta: time.Duration(set.SynchronyDeltaMS) * time.Millisecond,
		network: network, post: post, breaches: metrics.Breaches,
		links: map[chain.PublicKey]*pulse{}, fences: map[uint64]*fence{}, resends: map[chain.PublicKey]time.Time{},
	}
	s.set.Store(set)
	now := time.Now()
	s.beat.Store(&now)
	return s
}

// judge has the watchdog judge this node's health by another set, at once. Run's goroutine cannot:
// it never locks mu. Until then the core relies on no earlier judgement: a height with another set
// begins with a wait, whose end asks the validators of that set.
func (s *synchrony) judge(set *chain.ValidatorSet) {
	s.set.Store(set)
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// heard returns how many validators of a set are heard when as many others are: this node hears
// itself.
func (s *synchrony) heard(set *chain.ValidatorSet, others int) int {
	if set.Index(s.self) >= 0 {
		return others + 1
	}
	return others
}

// pingInterval is how often the way to each peer is measured between the ends of waits.
func (s *synchrony) pingInterval() time.Duration {
	return min(max(s.delta/2, 50*time.Millisecond), time.Second)
}

// run is the watchdog, until ctx ends.
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
		case <-s.changed:
			s.mu.Lock()
			s.report()
			s.mu.Unlock()
		}
	}
}

// late reports whether the process has stood still for more than Delta/2 since the watchdog last
// ran. It reads two clocks: one that goes on when the machine's clock is set, and one that goes on
// while the machine sleeps.
func (s *synchrony) late() bool {
	if s.delta == 0 {
		return false
	}
	last, now := *s.beat.Load(), time.Now()
	elapsed := max(now.Sub(last), now.Round(0).Sub(last.Round(0)))
	return elapsed > s.delta/4+s.delta/2
}

// delayed notes for how long an event waited for Run, or Run took over a group of events. While Run
// writes to a slow disk, or is behind with what peers send, it relays nothing, and the events that
// it handles then are old. No peer can bring that about alone: its events wait for each other.
func (s *synchrony) delayed(d time.Duration) {
	if s.delta > 0 && d > s.delta/2 {
		s.stalled.Store(true)
		s.slow.Store(true)
	}
}

// breached reports, and clears, a pending breach of health. Run must pass it to the core before the
// next event. The watchdog finds the breach as well: it reports when the node is healthy again.
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
		s.breach() // before the beat: an event that Run takes between the two is not timely
	}
	s.beat.Store(&now)
	for to, p := range s.links {
		if p.number != 0 && now.Sub(p.sent) > 2*s.delta {
			p.number, p.goodSince = 0, time.Time{}
		}
		if p.number == 0 && now.Sub(p.sent) >= s.pingInterval() {
			s.ping(to, p)
		}
	}
	s.report()
}

// breach ends every wait under way.
func (s *synchrony) breach() {
	s.stalled.Store(true)
	s.breaches.Inc()
	if s.healthy.Swap(false) {
		s.post(consensus.Health{})
	}
}

// report tells the core when this node's health changes.
func (s *synchrony) report() {
	set, others := s.set.Load(), 0
	for to, p := range s.links {
		if p.good() && set.Index(to) >= 0 {
			others++
		}
	}
	switch healthy := s.heard(set, others) >= int(set.Threshold); {
	case healthy && !s.healthy.Swap(true):
		s.post(consensus.Health{OK: true})
	case !healthy && s.healthy.Load():
		s.breach()
	}
}

func (s *synchrony) ping(to chain.PublicKey, p *pulse) {
	s.number++
	p.number, p.sent = s.number, time.Now()
	s.network.Ping(to, p.number)
}

// linkUp measures a peer from now on, be it a validator or not: it may be one at the next height.
// Pongs from before the link opened do not count.
func (s *synchrony) linkUp(to chain.PublicKey) {
	if s.delta == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p := &pulse{}
	s.links[to] = p
	s.ping(to, p)
	s.report()
}

func (s *synchrony) linkDown(to chain.PublicKey) {
	if s.delta == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.links, to)
	for number, f := range s.fences {
		s.answer(number, f, to, false)
	}
	s.report()
}

// pong handles a peer's answer to a ping: everything that it said before has reached the core.
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
	good := !p.reported || lost == p.lost
	p.reported, p.lost = true, lost
	if number == p.number {
		p.number = 0
		good = good && time.Since(p.sent) <= 2*s.delta
		if good && !p.good() {
			p.goodSince = time.Now()
		}
	}
	if !good {
		p.goodSince = time.Time{}
	}
	s.report()
	if f := s.fences[number]; f != nil {
		s.answer(number, f, from, p.good() && p.goodSince.Before(f.began))
	}
}

// endWait begins the end of a wait whose time is over. The core learns of the end behind everything
// that the validators said before. If t of them do not answer within Delta, this node was not
// healthy.
func (s *synchrony) endWait(over consensus.Event, began time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.late() {
		s.breach()
		return // the watchdog finds the same, and reports when it is over
	}
	s.number++
	number := s.number
	f := &fence{over: over, set: s.set.Load(), began: began, waiting: map[chain.PublicKey]bool{}}
	s.fences[number] = f
	for to := range s.links {
		if f.set.Index(to) >= 0 {
			f.waiting[to] = true
			s.network.Ping(to, number)
		}
	}
	f.expiry = time.AfterFunc(s.delta, func() { s.expire(number) })
	if len(f.waiting) == 0 {
		s.open(number, f)
	}
}

// answer notes that a validator has nothing more to say to a fence. heard: its link was good for
// the whole wait.
func (s *synchrony) answer(number uint64, f *fence, from chain.PublicKey, heard bool) {
	if !f.waiting[from] {
		return
	}
	delete(f.waiting, from)
	if heard {
		f.answered++
	}
	if len(f.waiting) == 0 {
		s.open(number, f)
	}
}

func (s *synchrony) expire(number uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.fences[number]; f != nil {
		s.open(number, f)
	}
}

// open removes a fence: the wait is over, or it was for nothing if too few validators were heard.
func (s *synchrony) open(number uint64, f *fence) {
	f.expiry.Stop()
	delete(s.fences, number)
	if s.heard(f.set, f.answered) < int(f.set.Threshold) {
		s.breach()
		s.report()
		return
	}
	s.post(f.over)
}

// resendPeriod is Delta, T_retry on a chain without the wait: there a node asks at the first height
// of a set, to be told at once what others said of it before.
func (s *synchrony) resendPeriod() time.Duration {
	if s.delta == 0 {
		return consensus.DefaultRetryInterval
	}
	return s.delta
}

// resend answers a peer that asks for what is sent when a link opens. It answers at once up to four
// times in each resendPeriod, for the peer counts on it. A peer that asks more often waits.
func (s *synchrony) resend(to chain.PublicKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now, share := time.Now(), s.resendPeriod()/4
	used := s.resends[to]
	if used.Before(now) {
		used = now
	}
	pause := used.Add(-3 * share).Sub(now)
	if pause > share {
		return // an answer is scheduled already
	}
	s.resends[to] = used.Add(share)
	answer := func() { s.post(consensus.LinkUp{Peer: to}) }
	if pause <= 0 {
		answer()
		return
	}
	time.AfterFunc(pause, answer)
}
