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

// perform carries actions out in their order; the process may die before each of them.
func (c *cluster) perform(s *slot, actions []Action) {
	for _, a := range actions {
		if !c.calm && c.rng.Float64() < c.crash {
			c.crashNow(s)
			return
		}
		c.act(s, a)
		if s.core == nil || c.err != nil {
			return
		}
	}
}

func (c *cluster) act(s *slot, a Action) {
	switch a := a.(type) {
	case Persist:
		for _, r := range a.Records {
			// The way through the encoding is part of the test.
			r, err := DecodeRecord(r.Encode())
			if err != nil {
				c.fail("%w", err)
			}
			s.records = append(s.records, r)
		}
	case Broadcast:
		for _, o := range c.slots {
			if o != s {
				// The process may die half-way through.
				if !c.calm && c.rng.Float64() < c.crash {
					c.crashNow(s)
					return
				}
				c.send(s, o, a.Bundle)
			}
		}
	case Send:
		for _, o := range c.slots {
			if o != s && c.key(o) == a.To {
				c.send(s, o, a.Bundle)
			}
		}
	case SetTimer:
		c.on(s, a.After, func() { c.step(s, TimerFired{a.Timer}) })
	case CheckBlock:
		c.checkBlock(s, a)
	case FetchBlock:
		c.fetchBlock(s, a)
	case RequestBlock:
		c.on(s, time.Millisecond, func() { c.build(s, a) })
	case Commit:
		c.commit(s, a)
	case Strengthen:
		c.verify(s, a.Finalization)
		if i := a.Finalization.Height - 1; i < uint64(len(s.store)) {
			if a.Finalization.Strength() <= s.store[i].cert.Strength() {
				c.fail("node %d: height %d was strengthened to %d votes, it has %d", s.id, i+1, a.Finalization.Strength(),
					s.store[i].cert.Strength())
			}
			s.store[i].cert = a.Finalization
		}
	case AnswerFinalization:
		if a.Height <= uint64(len(s.store)) {
			for _, o := range c.slots {
				if o != s && c.key(o) == a.To {
					c.send(s, o, Bundle{Certificates: []*chain.Certificate{s.store[a.Height-1].cert}})
				}
			}
		}
	case CatchUp:
		c.on(s, c.delay(), func() { c.catchUp(s, a) })
	case EvidenceFound:
		v := a.Evidence.First.Validator
		c.accused[v] = true
		if !c.signed[a.Evidence.First] || !c.signed[a.Evidence.Second] {
			c.fail("evidence of votes that validator %d never signed", v)
		}
		if int(v) >= c.twins && !c.mayLie() {
			c.fail("evidence against honest validator %d: %+v", v, a.Evidence)
		}
	case Contradiction:
		if !c.mayLie() {
			c.fail("node %d: %s", s.id, a.Reason)
		}
	}
}

// mayLie reports whether the run is a control, in which honest validators may break rules.
func (c *cluster) mayLie() bool { return c.unsafe != unsafe{} || c.amnesia || c.twins >= 2*c.t-c.n }

func (c *cluster) checkBlock(s *slot, a CheckBlock) {
	s.known[a.Block.Hash()] = a.Block
	verdict := Valid
	if a.Fresh && !c.calm && c.rng.IntN(20) == 0 {
		verdict = Withheld
	}
	d := time.Duration(c.rng.IntN(5)) * time.Millisecond
	if !c.calm && c.rng.IntN(10) == 0 {
		d *= 100
	}
	c.on(s, d, func() {
		c.step(s, BlockChecked{Height: a.Height, Round: a.Round, Block: a.Block.Hash(), Fresh: a.Fresh, Verdict: verdict})
	})
}

func (c *cluster) fetchBlock(s *slot, a FetchBlock) {
	if len(a.Holders) == 0 {
		return
	}
	for _, o := range c.slots {
		if o != s && o.core != nil && c.key(o) == a.Holders[0] && c.connected(s, o) && o.known[a.Block] != nil {
			b := o.known[a.Block]
			c.on(s, c.delay(), func() { c.step(s, BlockFetched{b}) })
		}
	}
}

func (c *cluster) build(s *slot, a RequestBlock) {
	if a.Height != uint64(len(s.store)+1) {
		return
	}
	c.stamp++
	b := &chain.Block{Header: chain.Header{
		ChainID: "test", Height: a.Height, Timestamp: c.stamp, Proposer: uint32(s.validator),
	}}
	if a.Height > 1 {
		b.Header.ParentHash = s.store[a.Height-2].cert.Block
	}
	if s.pending {
		b.Header.MessagesCount = 1
	}
	s.known[b.Hash()] = b
	c.step(s, BlockBuilt{Round: a.Round, Block: b})
}

func (c *cluster) verify(s *slot, cert *chain.Certificate) {
	if err := cert.Check(c.n, c.t-c.unsafe.threshold); err != nil {
		c.fail("node %d: %w", s.id, err)
	}
	for i := range cert.Votes {
		if !c.signed[cert.Vote(i)] {
			c.fail("node %d: a certificate holds a vote that nobody signed: %+v", s.id, cert.Vote(i))
		}
	}
}

func (c *cluster) commit(s *slot, a Commit) {
	height := a.Block.Header.Height
	c.verify(s, a.Finalization)
	c.commits[height] = append(c.commits[height], a)
	if hash := a.Block.Hash(); a.Finalization.Block != hash || height != uint64(len(s.store)+1) {
		c.fail("node %d: commit of block %v of height %d by %+v", s.id, hash, height, a.Finalization)
	}
	if held, ok := c.final[height]; ok && held != a.Finalization.Block {
		c.forked = height
		c.fail("%w at height %d: node %d commits %v, another has %v", errFork, height, s.id, a.Finalization.Block, held)
		return
	}
	c.final[height] = a.Finalization.Block
	s.store = append(s.store, stored{a.Block, a.Finalization})
	if a.Block.Header.MessagesCount > 0 {
		s.pending = false
		s.core.Step(Pool{})
	}
	// The next height begins before the block is on disk: the records carry it until then.
	c.on(s, time.Duration(c.rng.IntN(30))*time.Millisecond, func() {
		s.durable = max(s.durable, int(height))
		s.records = slices.DeleteFunc(s.records, func(r Record) bool { return r.Height <= uint64(s.durable) })
	})
	c.on(s, 0, func() {
		if uint64(len(s.store)) == height {
			c.startHeight(s)
		}
	})
}

func (c *cluster) catchUp(s *slot, a CatchUp) {
	for _, o := range c.slots {
		if o == s || o.core == nil || c.key(o) != a.From || !c.connected(s, o) || len(o.store) <= len(s.store) {
			continue
		}
		for _, b := range o.store[len(s.store):] {
			c.verify(s, b.cert)
			s.store = append(s.store, b)
		}
		s.durable = len(s.store)
		c.startHeight(s)
		return
	}
}

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
