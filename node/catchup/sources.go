package catchup

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/diseq/diseq/node/chain"
)

// source is what is known of a peer: what it claims, and what it has shown. A claim costs a peer
// one signature, so that the peers are ranked by what they have shown.
type source struct {
	key chain.PublicKey
	// claim is the height that the peer is deciding, or is above, by what it sent.
	claim uint64
	// pace is how much its last answers brought a second, as [weight] counts it; 0 if it never was
	// asked.
	pace float64
	// span is how many blocks it is asked for at once.
	span uint64
	// rests: until then it is asked only if no other peer can be.
	rests time.Time
	// salt puts peers that are alike in an order that none of them chooses.
	salt uint64
}

const (
	// firstSpan is how many blocks a peer is asked for the first time. A peer that brings all of
	// them within a second is asked for twice as many the next time, up to lastSpan, which is the
	// most that an answer may have.
	firstSpan, lastSpan = 32, 256
	// restTime is for how long others are asked first after a peer was slow, or showed nothing or
	// something wrong.
	restTime = 10 * time.Second
	// slowest is the pace of a peer that brought its blocks later than another that was asked after
	// it.
	slowest = 1
	// leastWeight is the weight of a small block: 64 of them are 1 MiB.
	leastWeight = 16 << 10
)

// weight is what a block counts for as a peer's work.
func weight(f *chain.FinalBlock) int { return max(leastWeight, size(f)) }

// size is about how much memory a block takes.
func size(f *chain.FinalBlock) int {
	n := 1024 + 64*len(f.Body) + 72*len(f.Certificate.Votes)
	for _, m := range f.Messages {
		n += m.Size()
	}
	if f.Change != nil {
		n += len(f.Change.Encode())
	}
	return n
}

// claims notes that a peer claims a height. The caller has locked mu.
func (c *Catchup) claims(from chain.PublicKey, height uint64) {
	s := c.sources[from]
	if s == nil {
		s = &source{key: from, span: firstSpan, salt: rand.Uint64()}
		c.sources[from] = s
	}
	s.claim = max(s.claim, height)
}

// disbelieve drops what a peer claimed and did not show.
func (c *Catchup) disbelieve(from chain.PublicKey) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.sources[from]; s != nil {
		s.claim = 0
	}
}

// rest has the others asked before a peer for a while. It reports whether they were already.
func (c *Catchup) rest(from chain.PublicKey, now time.Time) (rested bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.sources[from]
	if s == nil {
		return false
	}
	rested = s.resting(now) > 0
	s.rests, s.pace, s.span = now.Add(restTime), slowest, firstSpan
	return rested
}

// showed notes what an answer brought in a time, and whether that was all that was asked for.
func (c *Catchup) showed(from chain.PublicKey, weight int, in time.Duration, all bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.sources[from]
	if s == nil {
		return
	}
	pace := float64(weight) / max(in, time.Millisecond).Seconds()
	if s.pace > slowest {
		pace = (pace + s.pace) / 2
	}
	s.pace = pace
	switch {
	case in > time.Second:
		s.span = max(s.span/2, firstSpan)
	case all:
		s.span = min(s.span*2, lastSpan)
	}
}

// fastest returns the highest pace.
func (c *Catchup) fastest() (pace float64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.sources {
		pace = max(pace, s.pace)
	}
	return pace
}

// ranked returns copies of the sources that claim a height, the best first: those that do not rest,
// then by their pace. With unknown set, those that were never asked come before the others.
func (c *Catchup) ranked(height uint64, unknown bool, now time.Time) []source {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []source
	for _, s := range c.sources {
		if s.claim >= height {
			out = append(out, *s)
		}
	}
	untried := func(s *source) int {
		if (s.pace == 0) == unknown {
			return 0
		}
		return 1
	}
	slices.SortFunc(out, func(a, b source) int {
		return cmp.Or(
			cmp.Compare(a.resting(now), b.resting(now)), cmp.Compare(untried(&a), untried(&b)), cmp.Compare(b.pace, a.pace),
			cmp.Compare(a.salt, b.salt))
	})
	return out
}

// resting is 1 while the source rests.
func (s *source) resting(now time.Time) int {
	if now.Before(s.rests) {
		return 1
	}
	return 0
}
