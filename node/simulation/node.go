package simulation

import (
	"maps"
	"slices"
	"time"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/consensus"
)

// node is a validator's process. Its disk outlives a crash, its core does not.
type node struct {
	id int
	// The validator that the process belongs to. second: the second process of a Byzantine one.
	who       *identity
	second    bool
	byzantine bool
	dead      bool
	core      *consensus.Core
	// life counts the starts. Messages on their way to an earlier life do not arrive.
	life int
	// rate is how long its timers take, in hundredths; offset is the error of its clock.
	rate    int
	offset  time.Duration
	records []chain.Record
	// lastWrite is how many of them, at the end, are of the last write.
	lastWrite int
	// store holds the final blocks. The first durable of them outlive a crash.
	store   []stored
	durable int
	// known are the blocks that it built or found valid. checks are those of the height.
	known   map[chain.Hash]*chain.Block
	checks  map[checkKey]*check
	pending bool
	trouble trouble
	// wiped: it has lost its vote store. voteFrom is the first height at which it may vote.
	wiped    bool
	voteFrom uint64
	changes
}

// changes is what a node has for changes of the set.
type changes struct {
	// off: the node is not to run, because it was not started yet, or was stopped for good. away:
	// its machine is gone until the network calms down.
	off, away bool
	// target and checkpoint are those of its peers file, endorsed the newest endorsement from each
	// validator.
	target     *target
	checkpoint chain.Checkpoint
	endorsed   map[*identity]chain.Endorsed
	// pooled: its core knows that there is something to order.
	pooled bool
	// rejoining is what it has learned since it lost its vote store.
	rejoining *consensus.Rejoining
	// verified are the votes that it remembers, by the set that they verified with.
	verified map[remembered]bool
}

// below reports whether a node is below its checkpoint: it neither votes nor believes.
func (s *node) below() bool { return uint64(len(s.store)) < s.checkpoint.Height }

// remembered names a verified vote.
type remembered struct {
	vote chain.Vote
	set  chain.Hash
}

// checkKey names a check of a block, check is one under way or answered.
type checkKey struct {
	block chain.Hash
	round uint32
	fresh bool
}

type check struct {
	body []chain.BatchRef
	// failed: the body did not fit. cancelled: another body was checked since.
	failed, cancelled bool
}

type stored struct {
	block *chain.Block
	cert  *chain.Certificate
	// after is the era of the height above, turn the number of changes up to here.
	after *era
	turn  int
}

func (w *world) newNode(who *identity, second bool) *node {
	s := &node{
		id: len(w.nodes), who: who, second: second, byzantine: who.byzantine, known: make(map[chain.Hash]*chain.Block),
		rate: 100 + w.rng.IntN(2*w.weather.Skew+1) - w.weather.Skew, offset: w.within(2*w.weather.Offset+1) - w.weather.Offset - 1,
	}
	if w.synchronous() && w.rng.IntN(2) == 0 {
		s.rate = 100 - w.weather.Skew // the fastest that Delta allows for
	}
	return s
}

func (s *node) kill() {
	s.core = nil
	s.life++
	if !s.byzantine {
		clear(s.known)
	}
	s.trouble = trouble{cuts: s.trouble.cuts}
}

// on schedules an event at a node. It does not happen if the node has crashed by then.
func (w *world) on(s *node, d time.Duration, do func()) { w.onRanked(s, d, 0, do) }

func (w *world) onRanked(s *node, d time.Duration, rank int, do func()) {
	life := s.life
	var arrive func()
	arrive = func() {
		switch {
		case s.core == nil || s.life != life:
		case s.trouble.paused:
			s.trouble.missed = append(s.trouble.missed, arrive)
		default:
			do()
		}
	}
	w.ranked(d, rank, arrive)
}

// start starts a node from its disk.
func (w *world) start(s *node) {
	if s.core != nil || s.off || s.away {
		return
	}
	if s.wiped && w.Eras == nil && !w.rejoins(s) {
		w.after(200*time.Millisecond, func() { w.start(s) })
		return
	}
	s.life++
	s.store = s.store[:s.durable]
	config := consensus.Config{
		ChainID: chainID, PublicKey: s.who.PublicKey, Sign: func(v *chain.Vote) { w.sign(s.who, v) },
		RoundTimeout: w.weather.RoundTimeout, MaxRoundTimeout: 2 * time.Second,
		RetryInterval: w.retry(), MinBlockInterval: 20 * time.Millisecond, Mutation: w.Mutation, VoteFrom: s.voteFrom,
	}
	if s.byzantine { // two nodes with one key
		config.Mutation.VoteForgetful = true
	}
	if w.Eras != nil {
		config.VoteFrom = w.votesFrom(s)
		s.endorsed, s.rejoining, s.verified = make(map[*identity]chain.Endorsed), nil, make(map[remembered]bool)
	}
	core, err := consensus.New(config, slices.Clone(s.records))
	if err != nil {
		w.violate("%v does not start: %w", s, err)
		return
	}
	w.trace("%v starts with %d records above height %d", s, len(s.records), len(s.store))
	s.core = core
	core.Step(consensus.Pool{Pending: s.pending})
	core.Step(consensus.Health{OK: true})
	w.startHeight(s)
	for _, o := range w.nodes {
		if o != s && o.core != nil && w.links.linked(s, o) && w.rng.IntN(2) == 0 {
			w.linkUp(s, o)
		}
	}
	if w.Eras != nil {
		w.on(s, w.within(w.gossipInterval()), func() { w.gossip(s) })
		w.on(s, w.within(w.gossipInterval()/2), func() { w.coalition.approach(s) })
		if s.wiped {
			w.rejoin(s)
		}
	}
}

// rejoins asks the others for their final heights. The t lowest answers count.
func (w *world) rejoins(s *node) bool {
	reported := make(map[*identity]uint64)
	for _, o := range w.nodes {
		switch {
		case o.who == s.who:
		case o.byzantine:
			reported[o.who] = 0
		case o.core != nil:
			reported[o.who] = uint64(o.durable)
		}
	}
	if len(reported) < w.T {
		return false
	}
	heights := slices.Sorted(maps.Values(reported))
	s.wiped, s.voteFrom = false, heights[w.T-1]+w.Rejoin
	w.trace("%v rejoins: the others report %v, it votes from height %d", s, heights, s.voteFrom)
	return true
}

// wipe kills a node and removes its vote store.
func (w *world) wipe(s *node) {
	if w.calm || s.core == nil || s.wiped || w.Eras != nil && !w.loseable(s) {
		return
	}
	w.crashFor(s, time.Duration(w.rng.IntN(300))*time.Millisecond)
	w.faults[LostVotes]++
	s.records, s.wiped = nil, true
	if w.rng.IntN(2) == 0 {
		s.store, s.durable = nil, 0
	}
}

// retry is T_retry. Under the synchrony wait it is long, so that repetition does not do the work of
// R1 and R2.
func (w *world) retry() time.Duration {
	if w.synchronous() {
		return 20 * w.Delta
	}
	return 300 * time.Millisecond
}

func (w *world) startHeight(s *node) {
	number := uint64(len(s.store) + 1)
	if !s.byzantine {
		w.coalition.began(number)
	}
	s.checks = make(map[checkKey]*check)
	e := s.eraAt(w, number)
	p := consensus.Height{Number: number, Set: e.set, Order: w.order(e, number)}
	if number > 1 {
		p.Last = s.store[number-2].cert
		p.Parent = p.Last.Block
	}
	var actions []consensus.Action
	if w.Eras != nil {
		s.pooled = w.pending(s)
		actions = s.core.Step(consensus.Pool{Pending: s.pooled})
	}
	started, err := s.core.StartHeight(p)
	if err != nil {
		w.violate("%v at height %d: %w", s, number, err)
		return
	}
	w.perform(s, append(actions, started...))
}

func (w *world) step(s *node, e consensus.Event) { w.perform(s, s.core.Step(e)) }

// perform carries actions out in their order. The process may die before each of them.
func (w *world) perform(s *node, actions []consensus.Action) {
	for _, a := range actions {
		if w.mayCrash(s) {
			return
		}
		w.act(s, a)
		if s.core == nil || w.violation != nil {
			return
		}
	}
}

func (w *world) act(s *node, a consensus.Action) {
	switch a := a.(type) {
	case consensus.Persist:
		w.persist(s, a)
	case consensus.Broadcast:
		w.broadcast(s, a.Bundle)
	case consensus.Send:
		w.sendTo(s, a.To, a.Bundle)
	case consensus.SetTimer:
		rank := 0
		if a.Timer.Kind == consensus.WaitTimer || a.Timer.Kind == consensus.SettleTimer {
			if rank = 1; w.Mutation.TimerFirst {
				rank = -1
			}
		}
		cuts := s.trouble.cuts
		w.onRanked(s, a.After*time.Duration(s.rate)/100, rank, func() {
			if a.Timer.Kind == consensus.WaitTimer && s.trouble.cuts != cuts {
				return // its peers did not answer for all of the wait
			}
			w.trace("  %v: timer %+v", s, a.Timer)
			w.step(s, consensus.TimerFired{Timer: a.Timer})
		})
	case consensus.CheckBlock:
		w.checkBlock(s, a)
	case consensus.FetchBlock:
		w.fetchBlock(s, a)
	case consensus.RequestBlock:
		w.on(s, time.Millisecond, func() { w.build(s, a) })
	case consensus.Commit:
		w.commit(s, a)
	case consensus.Strengthen:
		w.strengthen(s, a.Finalization)
	case consensus.RequestResend:
		w.requestResend(s)
	case consensus.AnswerFinalization:
		if a.Height <= uint64(len(s.store)) {
			w.sendTo(s, a.To, chain.Bundle{Certificates: []*chain.Certificate{s.store[a.Height-1].cert}})
		}
	case consensus.CatchUp:
		w.on(s, w.fetching(), func() { w.catchUp(s, a) })
	case consensus.EvidenceFound:
		w.sawEvidence(s, a.Evidence)
	case consensus.Contradiction:
		w.sawContradiction(s, a)
	}
}

// requestResend makes the others send the messages that they send when a link opens.
func (w *world) requestResend(s *node) {
	for _, o := range w.nodes {
		if o != s && !s.trouble.cut && !o.trouble.cut {
			w.on(o, w.links.between(s, o), func() { w.step(o, consensus.LinkUp{Peer: s.who.PublicKey}) })
		}
	}
}

// persist writes records: all of them or, if the process dies meanwhile, some. Of a transaction
// none would remain; that is one of the cases.
func (w *world) persist(s *node, a consensus.Persist) {
	if w.mayCrash(s) {
		part := torn(w.rng, a.Records)
		w.trace("%v: of the write under way %d of %d records remain", s, len(part), len(a.Records))
		w.faults[TornWrite]++
		s.records = append(s.records, part...)
		return
	}
	s.records = append(s.records, a.Records...)
	s.lastWrite = len(a.Records)
}

func (w *world) broadcast(s *node, b chain.Bundle) {
	if w.stalls(s, b) {
		s.trouble.missed = append(s.trouble.missed, func() { w.broadcast(s, b) })
		return
	}
	w.trace("%v sends %v", s, text(b))
	w.sawSent(s, b)
	w.coalition.overhear(s, b)
	for _, o := range w.nodes {
		if o == s {
			continue
		}
		if w.mayCrash(s) { // half-way through
			return
		}
		w.send(s, o, b)
	}
}

func (w *world) sendTo(s *node, to chain.PublicKey, b chain.Bundle) {
	w.sawSent(s, b)
	w.coalition.overhear(s, b)
	for _, o := range w.nodes {
		if o != s && o.who.PublicKey == to {
			w.send(s, o, b)
		}
	}
}

// checkBlock checks a block as a node does: once, unless the body did not fit. A check of another
// body ends the one under way, unless its answer waits for its turn already.
func (w *world) checkBlock(s *node, a consensus.CheckBlock) {
	hash := a.Block.Hash()
	key := checkKey{hash, a.Round, a.Fresh}
	if c := s.checks[key]; c != nil {
		if !c.failed && slices.Equal(c.body, a.Block.Body) {
			return
		}
		c.cancelled = w.rng.IntN(2) == 0
	}
	c := &check{body: a.Block.Body}
	s.checks[key] = c
	if known := s.known[hash]; known != nil {
		a.Block = known
	}
	verdict, lifted := w.judge(s, a)
	if verdict == 0 {
		return
	}
	d, rank := time.Duration(w.rng.IntN(5))*time.Millisecond, 0
	switch {
	case w.synchronous():
		// part of the time that the message took: before whatever else comes at this time
		d, rank = 0, -1
	case !w.calm && w.rng.IntN(10) == 0:
		d *= 100
	}
	answer := func(verdict consensus.Verdict) func() {
		return func() {
			if c.cancelled {
				return
			}
			c.failed = verdict == consensus.Misfit
			if verdict == consensus.Valid || verdict == consensus.Withheld {
				s.known[hash] = a.Block
			}
			w.trace("  %v checked %s body %d: %d", s, short(hash), len(a.Block.Body), verdict)
			w.step(s, consensus.BlockChecked{Height: a.Height, Round: a.Round, Block: a.Block, Fresh: a.Fresh, Verdict: verdict})
		}
	}
	w.onRanked(s, d, rank, answer(verdict))
	if lifted > 0 {
		w.on(s, d+lifted, answer(consensus.Valid))
	}
	if verdict == consensus.Withheld && !w.reachesThrough(s, a.Block) {
		w.whenLinked(s, a, answer(consensus.Valid))
	}
}

// fetchBlock asks one holder after the other until one answers. A holder that has decided the
// height does not have the block any more: catching up brings it.
func (w *world) fetchBlock(s *node, a consensus.FetchBlock) {
	for _, holder := range a.Holders {
		byzantine := w.byKey[holder].byzantine
		if byzantine && !s.byzantine && w.coalition.serve(s, a.Block) {
			return
		}
		for _, o := range w.nodes {
			switch {
			case o == s || o.core == nil || o.who.PublicKey != holder || !w.links.linked(s, o):
			case uint64(len(o.store)) >= a.Height:
				w.on(s, w.fetching(), func() { w.catchUp(s, consensus.CatchUp{Height: a.Height, From: holder}) })
			case o.known[a.Block] != nil:
				b := o.known[a.Block]
				w.on(s, w.links.between(o, s), func() { w.step(s, consensus.BlockFetched{Block: b}) })
				return
			}
		}
		if byzantine {
			return // it keeps the request
		}
	}
}

func (w *world) build(s *node, a consensus.RequestBlock) {
	if a.Height != uint64(len(s.store)+1) {
		return
	}
	e := s.eraAt(w, a.Height)
	b := w.newBlock(e, a.Height, uint32(slices.Index(e.places, s.who)), s.store, w.clock(s), w.change(s))
	if s.pending {
		b.Header.MessagesCount = 1
	}
	s.known[b.Hash()] = b
	w.step(s, consensus.BlockBuilt{Round: a.Round, Block: b})
}

func (w *world) commit(s *node, a consensus.Commit) {
	height := a.Block.Header.Height
	w.trace("%v commits %v", s, certificateText(a.Finalization))
	w.sawCommit(s, a)
	if w.violation != nil || s.core == nil {
		return
	}
	w.put(s, a.Block, a.Finalization)
	w.extend(s)
	if a.Block.Header.MessagesCount > 0 {
		s.pending = false
		if w.Eras == nil {
			s.core.Step(consensus.Pool{})
		}
	}
	// Its records do not cover the block of a height at which it did not vote.
	newcomer := w.Eras != nil && !w.Mutation.NewcomerStartsEarly && !w.voted(s, height)
	// The next height begins before the block is on disk. The records cover that time.
	w.on(s, time.Duration(w.rng.IntN(30))*time.Millisecond, func() {
		s.durable = max(s.durable, int(height))
		s.prune()
		if newcomer && uint64(len(s.store)) == height {
			w.startHeight(s)
		}
	})
	if newcomer {
		return
	}
	w.on(s, 0, func() {
		if uint64(len(s.store)) == height {
			w.startHeight(s)
		}
	})
}

// prune removes the records of heights whose final block is on disk.
func (s *node) prune() {
	old := func(r chain.Record) bool { return r.Height <= uint64(s.durable) }
	for _, r := range s.records[len(s.records)-s.lastWrite:] {
		if old(r) {
			s.lastWrite--
		}
	}
	s.records = slices.DeleteFunc(s.records, old)
}

func (w *world) strengthen(s *node, cert *chain.Certificate) {
	w.sawCertificate(s, cert)
	if i := cert.Height - 1; i < uint64(len(s.store)) {
		if cert.Strength() <= s.store[i].cert.Strength() {
			w.violate("%v strengthens height %d to %d votes, it has %d", s, i+1, cert.Strength(), s.store[i].cert.Strength())
		}
		s.store[i].cert = cert
	}
}

// fetching draws the time to fetch the blocks up to a height far above. Messages of that height are
// dropped meanwhile.
func (w *world) fetching() time.Duration {
	if w.synchronous() && !w.calm {
		return w.some(8)
	}
	return w.links.delay()
}

// catchUp takes final blocks from a peer. The node verifies them.
func (w *world) catchUp(s *node, a consensus.CatchUp) {
	if w.Eras != nil && (!w.admits(s, w.byKey[a.From]) || w.coalition.mislead(s, w.byKey[a.From])) {
		return
	}
	for _, o := range w.nodes {
		if o == s || o.core == nil || o.who.PublicKey != a.From || !w.links.linked(s, o) || len(o.store) <= len(s.store) {
			continue
		}
		if w.diverges(s, o) {
			return
		}
		w.take(s, o.store[len(s.store):])
		return
	}
}

// take appends final blocks that a peer gave, as far as they verify.
func (w *world) take(s *node, blocks []stored) {
	for _, b := range blocks {
		w.sawCertificate(s, b.cert)
		if w.strays(s, b.cert) {
			return
		}
		w.believe(s, b.cert)
		w.put(s, b.block, b.cert)
		w.extend(s)
	}
	s.durable = len(s.store)
	w.trace("%v catches up to height %d", s, s.durable)
	w.startHeight(s)
}
