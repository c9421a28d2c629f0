package consensus

import (
	"container/heap"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/diseq/diseq/node/chain"
)

// cluster runs cores against each other in virtual time, on a network that loses, doubles and reorders, with crashes between any
// two actions. Everything follows from the seed.
type cluster struct {
	options
	rng    *rand.Rand
	now    time.Duration
	queue  events
	serial uint64
	set    *chain.ValidatorSet
	slots  []*slot
	// signed are the votes that exist: what is in it verifies.
	signed map[chain.Vote]bool
	// sent are the votes that left an honest validator.
	sent map[sentKey][]chain.Vote
	// final is the oracle: the one block of each height.
	final map[uint64]chain.Hash
	// accused are the validators that evidence was found of.
	accused map[uint32]bool
	// commits are all commits of a height, of all nodes.
	commits map[uint64][]Commit
	calm    bool
	cut     int
	forked  uint64
	err     error
	stamp   uint64
}

type options struct {
	n, t  int
	storm time.Duration
	loss  float64
	crash float64
	// twins are validators that run twice: Byzantine.
	twins int
	// dead validators do not come back when the storm is over.
	dead int
	// amnesia: what is persisted is lost in a crash.
	amnesia bool
	screen  bool
	// timeout is T_round of round 0.
	timeout time.Duration
	unsafe  unsafe
}

type sentKey struct {
	validator uint32
	height    uint64
	round     uint32
}

type stored struct {
	block *chain.Block
	cert  *chain.Certificate
}

// slot is a running node: its disk outlives a crash, its core does not.
type slot struct {
	id        int
	validator int
	core      *Core
	life      int
	records   []Record
	store     []stored
	durable   int
	known     map[chain.Hash]*chain.Block
	pending   bool
	byzantine bool
}

type timed struct {
	at     time.Duration
	serial uint64
	do     func()
}

type events []timed

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].serial < e[j].serial
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(timed)) }
func (e *events) Pop() any {
	old := *e
	last := old[len(old)-1]
	*e = old[:len(old)-1]
	return last
}

var errFork = errors.New("fork")

func testSet(n, t int) *chain.ValidatorSet {
	set := &chain.ValidatorSet{Threshold: uint32(t)}
	for i := range n {
		set.Validators = append(set.Validators, chain.Validator{
			PublicKey: chain.PublicKey{0: 'p', 1: byte(i), 2: 1}, VRFKey: chain.VRFKey{0: 'v', 1: byte(i), 2: 1},
		})
	}
	return set
}

func newCluster(seed uint64, o options) *cluster {
	c := &cluster{
		options: o, rng: rand.New(rand.NewPCG(seed, 1)), set: testSet(o.n, o.t), signed: make(map[chain.Vote]bool),
		sent: make(map[sentKey][]chain.Vote), final: make(map[uint64]chain.Hash), accused: make(map[uint32]bool),
		commits: make(map[uint64][]Commit),
	}
	for v := range o.n {
		c.slots = append(c.slots, &slot{id: v, validator: v, known: make(map[chain.Hash]*chain.Block), byzantine: v < o.twins})
	}
	for v := range o.twins {
		c.slots = append(c.slots, &slot{id: o.n + v, validator: v, known: make(map[chain.Hash]*chain.Block), byzantine: true})
	}
	return c
}

func (c *cluster) after(d time.Duration, do func()) {
	c.serial++
	heap.Push(&c.queue, timed{at: c.now + d, serial: c.serial, do: do})
}

// on runs something at a node after a time, unless it has crashed since.
func (c *cluster) on(s *slot, d time.Duration, do func()) {
	life := s.life
	c.after(d, func() {
		if s.core != nil && s.life == life {
			do()
		}
	})
}

func (c *cluster) run(until time.Duration) error {
	for len(c.queue) > 0 && c.queue[0].at <= until && c.err == nil {
		e := heap.Pop(&c.queue).(timed)
		c.now = e.at
		e.do()
	}
	c.now = until
	return c.err
}

func (c *cluster) fail(format string, args ...any) {
	if c.err == nil {
		c.err = fmt.Errorf("at %v: "+format, append([]any{c.now}, args...)...)
	}
}

func (c *cluster) delay() time.Duration {
	if c.calm {
		return time.Duration(1+c.rng.IntN(20)) * time.Millisecond
	}
	d := time.Duration(1+c.rng.IntN(60)) * time.Millisecond
	if c.rng.IntN(8) == 0 {
		d *= 15
	}
	return d
}

func (c *cluster) config(s *slot) Config {
	return Config{
		ChainID: "test", PublicKey: c.set.Validators[s.validator].PublicKey,
		Sign: func(v *chain.Vote) {
			v.Signature = chain.Signature{byte(v.Validator), byte(v.Kind), byte(v.Height), byte(v.Round), v.Block[0], v.Block[1]}
			c.signed[*v] = true
		},
		RoundTimeout: c.timeout, MaxRoundTimeout: 2 * time.Second, RetryInterval: 300 * time.Millisecond,
		MinBlockInterval: 20 * time.Millisecond,
	}
}

// start brings a node up from its disk.
func (c *cluster) start(s *slot) {
	if s.core != nil {
		return
	}
	s.life++
	s.store = s.store[:s.durable]
	core, err := New(c.config(s), slices.Clone(s.records))
	if err != nil {
		c.fail("node %d: %w", s.id, err)
		return
	}
	core.unsafe = c.unsafe
	s.core = core
	core.Step(Pool{Pending: s.pending})
	c.startHeight(s)
	for _, o := range c.slots {
		if o != s && o.core != nil && c.connected(s, o) && c.rng.IntN(2) == 0 {
			c.linkUp(s, o)
		}
	}
}

func (c *cluster) linkUp(a, b *slot) {
	c.on(a, c.delay(), func() { c.step(a, LinkUp{Peer: c.key(b)}) })
	c.on(b, c.delay(), func() { c.step(b, LinkUp{Peer: c.key(a)}) })
}

// key names a node as a peer. Twins have one name, as thieves of a key would.
func (c *cluster) key(s *slot) chain.PublicKey { return c.set.Validators[s.validator].PublicKey }

func (c *cluster) crashNow(s *slot) {
	s.core = nil
	if c.amnesia {
		s.records = nil
	}
	c.after(time.Duration(c.rng.IntN(1500))*time.Millisecond, func() {
		if !c.calm {
			c.start(s)
		}
	})
}

func (c *cluster) startHeight(s *slot) {
	number := uint64(len(s.store) + 1)
	p := c.heightOf(number)
	if number > 1 {
		p.Last = s.store[number-2].cert
		p.Parent = p.Last.Block
	}
	actions, err := s.core.StartHeight(p)
	if err != nil {
		c.fail("node %d: %w", s.id, err)
		return
	}
	c.perform(s, actions)
}

func (c *cluster) heightOf(number uint64) Height {
	return Height{Height: number, Set: c.set, Order: rand.New(rand.NewPCG(number, 7)).Perm(c.n)}
}

func (c *cluster) step(s *slot, e Event) { c.perform(s, s.core.Step(e)) }

func (c *cluster) connected(a, b *slot) bool {
	return c.calm || (c.cut>>a.id)&1 == (c.cut>>b.id)&1
}

// send checks what leaves, then lets it be lost, late or doubled.
func (c *cluster) send(from, to *slot, b Bundle) {
	c.inspect(from, b)
	copies := 1
	if !c.calm {
		if !c.connected(from, to) || c.rng.Float64() < c.loss {
			return
		}
		if c.rng.IntN(20) == 0 {
			copies = 2
		}
	}
	for range copies {
		c.on(to, c.delay(), func() {
			if c.screen {
				rest, actions := to.core.Screen(c.key(from), b)
				c.perform(to, actions)
				if to.core == nil || rest.Empty() {
					return
				}
				b = rest
			}
			c.step(to, Received{From: c.key(from), Bundle: b})
		})
	}
}

// inspect holds every message that leaves to the rules.
func (c *cluster) inspect(s *slot, b Bundle) {
	for _, cert := range b.Certificates {
		c.verify(s, cert)
	}
	votes := slices.Clone(b.Votes)
	for _, p := range b.Proposals {
		votes = append(votes, p.Statement)
		for i := range p.Nullifications {
			c.verify(s, &p.Nullifications[i])
		}
	}
	for _, v := range votes {
		if !c.signed[v] {
			c.fail("node %d sends a vote that nobody signed: %+v", s.id, v)
		}
		if int(v.Validator) != s.validator || s.byzantine || c.mayLie() {
			continue
		}
		k := sentKey{v.Validator, v.Height, v.Round}
		if slices.Contains(c.sent[k], v) {
			continue
		}
		for _, o := range c.sent[k] {
			if rule := chain.Conflict(o, v); rule != "" {
				c.fail("node %d breaks %s: %+v and %+v", s.id, rule, o, v)
			}
		}
		c.sent[k] = append(c.sent[k], v)
		encoded := v.Encode()
		if !slices.ContainsFunc(s.records, func(r Record) bool {
			return r.Kind == RecordVote && slices.Equal(r.Data, encoded) || r.Kind == RecordProposal && slices.Equal(r.Data[:len(encoded)], encoded)
		}) {
			c.fail("node %d sends a vote that is not on its disk: %+v", s.id, v)
		}
	}
}

func (c *cluster) height() int {
	low := -1
	for _, s := range c.slots {
		if s.core != nil && !s.byzantine && (low < 0 || len(s.store) < low) {
			low = len(s.store)
		}
	}
	return low
}

// submit gives the cluster something to order, everywhere but where the network loses it.
func (c *cluster) submit() {
	for _, s := range c.slots {
		if c.calm || c.rng.IntN(4) != 0 {
			c.after(c.delay(), func() {
				s.pending = true
				if s.core != nil {
					c.step(s, Pool{Pending: true})
				}
			})
		}
	}
}

// play runs a storm and the calm after it. It returns the first violation: a fork, a broken rule, or heights that do not go on.
func (c *cluster) play() error {
	for _, s := range c.slots {
		c.after(time.Duration(c.rng.IntN(100))*time.Millisecond, func() { c.start(s) })
	}
	for at := time.Duration(0); at < c.storm; at += time.Duration(50+c.rng.IntN(400)) * time.Millisecond {
		c.after(at, c.submit)
	}
	for at := time.Duration(0); at < c.storm; at += time.Duration(100+c.rng.IntN(3000)) * time.Millisecond {
		c.after(at, func() {
			was := c.cut
			c.cut = 0
			if c.rng.IntN(2) == 0 {
				c.cut = c.rng.IntN(1 << len(c.slots))
			}
			for _, a := range c.slots {
				for _, b := range c.slots[a.id+1:] {
					if a.core != nil && b.core != nil && c.connected(a, b) && (was>>a.id)&1 != (was>>b.id)&1 {
						c.linkUp(a, b)
					}
				}
			}
		})
	}
	if err := c.run(c.storm); err != nil {
		return err
	}
	c.calm = true
	dead := c.rng.Perm(c.n)[:c.dead]
	for _, s := range c.slots {
		if slices.Contains(dead, s.validator) {
			s.core = nil
			s.life++
		} else {
			c.start(s)
		}
	}
	before := len(c.final)
	for at := time.Duration(0); at < 20*time.Second; at += time.Second {
		c.after(at, c.submit)
	}
	for end := c.storm + 20*time.Second; c.now < end; {
		if err := c.run(c.now + time.Second); err != nil {
			return err
		}
		if c.height() >= before+3 {
			return nil
		}
	}
	return fmt.Errorf("stalled: height %d of %d, 20 s after the network calmed down at height %d", c.height(), len(c.final), before)
}
