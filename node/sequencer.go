package node

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync/atomic"
	"time"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/consensus"
	"github.com/diseq/diseq/node/store"
)

// sequencer is the goroutine that owns the consensus core: it feeds it events and carries out its
// actions in their order, records fsynced before anything that rests on them leaves. Blocks that
// catching up brings pass through it as well, so that there is one place where the chain grows.
type sequencer struct {
	n      *Node
	core   *consensus.Core
	voting *store.Votes // nil while this node may not vote
	// events come from peers, timers, checks and fetches; finals from catching up, and
	// contradictions if they do not fit; rejoined brings the height from which a node that lost its
	// vote store may vote again.
	events         chan posted
	finals         chan *chain.FinalBlock
	contradictions chan error
	rejoined       chan uint64

	// timers are those of the height, by kind; of synchrony waits there is one for each round.
	timers map[consensus.Timer]*time.Timer
	// deciding ends when the height does: checks and fetches for it are given up then.
	deciding context.Context
	decided  context.CancelFunc
	checks   map[checkKey]*check
	height   uint64
	pool     consensus.Pool
	// view is what other goroutines may know of the height being decided.
	view atomic.Pointer[view]
}

// posted is an event and when it came: what waits for longer than the synchrony wait can do with
// makes the node unhealthy.
type posted struct {
	event consensus.Event
	at    time.Time
}

// view is the round that the node is in.
type view struct {
	height uint64
	round  uint32
	order  []int
}

const (
	eventQueue = 4096
	// groupedEvents is how many events may share one fsync of the vote store.
	groupedEvents = 64
)

func newSequencer(n *Node) *sequencer {
	return &sequencer{
		n: n, events: make(chan posted, eventQueue), finals: make(chan *chain.FinalBlock, 16),
		contradictions: make(chan error), rejoined: make(chan uint64),
		timers: map[consensus.Timer]*time.Timer{},
	}
}

// post queues an event for the core; it blocks while the queue is full, which slows down whoever
// sends.
func (s *sequencer) post(e consensus.Event) {
	select {
	case s.events <- posted{e, time.Now()}:
	case <-s.n.ctx.Done():
	}
}

// restart makes a new core from the vote store: at the start, and when a node that had lost it may
// vote again.
func (s *sequencer) restart(voting *store.Votes, voteFrom uint64) error {
	p := s.n.genesis.Parameters
	cfg := consensus.Config{
		ChainID: s.n.genesis.ChainID, PublicKey: s.n.self, VoteFrom: voteFrom,
		RoundTimeout:     time.Duration(p.RoundTimeoutMS) * time.Millisecond,
		MaxRoundTimeout:  time.Duration(p.MaxRoundTimeoutMS) * time.Millisecond,
		MinBlockInterval: time.Duration(p.MinBlockIntervalMS) * time.Millisecond,
		RetryInterval:    consensus.DefaultRetryInterval,
	}
	var records []chain.Record
	if voting != nil {
		cfg.Sign = func(v *chain.Vote) { v.Sign(s.n.identity.Signing, s.n.genesis.ChainID) }
		var err error
		if records, err = voting.Load(); err != nil {
			return err
		}
	}
	core, err := consensus.New(cfg, records)
	if errors.Is(err, consensus.ErrMissingVote) {
		return fmt.Errorf("%w; see to it that no other process uses this identity, then remove votes.db and this validator rejoins", err)
	}
	if err != nil {
		return err
	}
	for _, r := range records {
		if next := s.n.store.Height() + 1; r.Height > next {
			return fmt.Errorf("the vote store has votes of height %d, the blocks end at height %d: blocks.db was removed or is an older copy, "+
				"and votes in between are forgotten; put back the whole data directory, or remove votes.db and this validator rejoins",
				r.Height, next-1)
		}
	}
	core.Step(consensus.Health{OK: s.n.synchrony.ok.Load()})
	s.core, s.voting = core, voting
	return s.startHeight()
}

func (s *sequencer) run(ctx context.Context) error {
	defer func() {
		s.decided()
		for _, t := range s.timers {
			t.Stop()
		}
	}()
	for {
		var err error
		select {
		case <-ctx.Done():
			return nil
		case p := <-s.events:
			err = s.step(p)
		case f := <-s.finals:
			err = s.follow(f)
		case err = <-s.contradictions:
		case first := <-s.rejoined:
			err = s.voteAgain(first)
		case <-s.n.pool.Ready():
			err = s.poolChanged()
		}
		if err != nil && ctx.Err() == nil {
			return err
		}
	}
}

// step handles an event and those already waiting behind it, so that they share an fsync. Each may
// have waited for too long: for what was handled before it, for blocks that catching up brought, or
// behind a flood.
func (s *sequencer) step(p posted) error {
	began := time.Now()
	defer func() { s.n.synchrony.held(time.Since(began)) }()
	var actions []consensus.Action
	for range groupedEvents {
		s.n.synchrony.held(time.Since(p.at))
		// Before each event, not each group: that all is well again is an event, too, and the
		// breach comes before it.
		if s.n.synchrony.breached() {
			actions = append(actions, s.core.Step(consensus.Health{})...)
		}
		next := s.core.Step(p.event)
		actions = append(actions, next...)
		if commits(next) {
			break
		}
		select {
		case p = <-s.events:
			continue
		default:
		}
		break
	}
	return s.execute(actions)
}

func commits(actions []consensus.Action) bool {
	for _, a := range actions {
		if _, ok := a.(consensus.Commit); ok {
			return true
		}
	}
	return false
}

// execute carries out actions: what is to persist first, with one fsync, then the rest in order.
func (s *sequencer) execute(actions []consensus.Action) error {
	s.n.synchrony.settled.Store(s.core.Settled())
	var records []chain.Record
	for _, a := range actions {
		if p, ok := a.(consensus.Persist); ok {
			records = append(records, p.Records...)
		}
	}
	if s.voting == nil {
		// Who does not vote has nothing to remember: certificates are had again from the others.
		if slices.ContainsFunc(records, func(r chain.Record) bool { return r.Kind == chain.RecordVote }) {
			return errors.New("the consensus core wants to vote without a vote store")
		}
		records = nil
	}
	if len(records) > 0 {
		if err := s.n.written("vote", func() error { return s.voting.Append(records...) }); err != nil {
			return err
		}
	}
	committed := false
	for _, a := range actions {
		switch a := a.(type) {
		case consensus.Persist:
		case consensus.Broadcast:
			s.n.transport.Broadcast(&a.Bundle)
		case consensus.Send:
			s.n.transport.Send(a.To, &a.Bundle)
		case consensus.SetTimer:
			s.setTimer(a)
		case consensus.CheckBlock:
			s.check(a)
		case consensus.FetchBlock:
			s.fetch(a)
		case consensus.RequestBlock:
			ctx := s.deciding
			s.n.tasks.Go(func() { s.build(ctx, a) })
		case consensus.Commit:
			if err := s.commit(a); err != nil {
				return err
			}
			committed = true
		case consensus.Strengthen:
			s.n.store.Strengthen(a.Finalization)
		case consensus.RequestResend:
			s.n.transport.Ask()
		case consensus.AnswerFinalization:
			s.n.tasks.Go(func() { s.answer(a) })
		case consensus.CatchUp:
			s.n.sync.hint(a.Height, a.From)
		case consensus.EvidenceFound:
			s.n.tasks.Go(func() { s.n.keepEvidence(a.Evidence) })
		case consensus.Contradiction:
			return fmt.Errorf("contradiction: %s", a.Reason)
		default:
			return fmt.Errorf("consensus action %T is not known", a)
		}
	}
	if committed {
		return s.startHeight()
	}
	return nil
}

func (s *sequencer) setTimer(a consensus.SetTimer) {
	if a.Timer.Kind == consensus.RoundTimer {
		s.view.Store(&view{height: a.Timer.Height, round: a.Timer.Round, order: s.view.Load().order})
	}
	key := consensus.Timer{Kind: a.Timer.Kind}
	after := a.After
	fire := func() { s.post(consensus.TimerFired{Timer: a.Timer}) }
	switch a.Timer.Kind {
	case consensus.WaitTimer:
		key = a.Timer
		fallthrough
	case consensus.SettleTimer:
		began := time.Now()
		after += time.Millisecond // more than what was asked for
		fire = func() { s.n.synchrony.waited(a.Timer, began) }
		s.n.metrics.waits.Inc()
	}
	if t := s.timers[key]; t != nil {
		t.Stop()
	}
	if a.Timer.Kind == consensus.IntervalTimer {
		// The core counts from the start of the height, which comes when the block below is final;
		// blocks are to come at the interval, so what deciding that one took is part of it.
		built := time.UnixMilli(int64(min(s.n.tip.Load().block.Header.Timestamp, 1<<53)))
		after = min(after, max(0, after-s.n.now().Sub(built)))
	}
	s.timers[key] = time.AfterFunc(after, fire)
}

// startHeight lets the core decide the height above the last final block.
func (s *sequencer) startHeight() error {
	if s.decided != nil {
		s.decided()
	}
	s.deciding, s.decided = context.WithCancel(s.n.ctx)
	s.checks = map[checkKey]*check{}
	for key, t := range s.timers {
		if key.Kind == consensus.WaitTimer {
			t.Stop()
			delete(s.timers, key)
		}
	}
	tip := s.n.tip.Load()
	height := tip.block.Header.Height + 1
	order, err := s.n.beacon.leaders(height)
	if err != nil {
		return err
	}
	h := consensus.Height{Number: height, Parent: tip.hash, Set: s.n.set, Order: order}
	if height > 1 {
		h.Last = &tip.block.Certificate
	}
	s.height = height
	s.view.Store(&view{height: height, order: order})
	// What there is to order is said first: by what it was before, an idle height would wake.
	s.pool = s.poolState()
	actions := s.core.Step(s.pool)
	started, err := s.core.StartHeight(h)
	if err != nil {
		return fmt.Errorf("height %d: %w", height, err)
	}
	return s.execute(append(actions, started...))
}

// poolState says whether there is something to order: messages, or a root that no header certifies
// yet.
func (s *sequencer) poolState() consensus.Pool {
	tip := s.n.tip.Load()
	return consensus.Pool{
		Pending: s.n.pool.HasPending() || tip.block.Header.StateHeight < tip.lastNonEmpty,
		Full:    s.n.pool.Stats().Bytes >= int64(s.n.genesis.Parameters.MaxBlockBytes),
	}
}

func (s *sequencer) poolChanged() error {
	state := s.poolState()
	if state == s.pool {
		return nil
	}
	s.pool = state
	return s.step(posted{state, time.Now()})
}

// commit makes the block that the core decided final.
func (s *sequencer) commit(a consensus.Commit) error {
	if s.n.tip.Load().block.Header.Height >= s.height {
		return nil // catching up brought it just before
	}
	hash := a.Finalization.Block
	p := s.n.prepared.get(hash)
	if p == nil {
		return fmt.Errorf("block %v at height %d is final, and was called valid, but its messages are not at hand", hash, s.height)
	}
	s.decided() // see follow
	f := &chain.FinalBlock{Block: *a.Block, Messages: p.messages, Certificate: *a.Finalization}
	return s.n.apply(f, p.ids, encodeJustification(a.Justification))
}

// encodeJustification keeps certificates as u32 length and encoding each; nil for none.
func encodeJustification(certificates []*chain.Certificate) []byte {
	var b []byte
	for _, c := range certificates {
		encoded := c.Encode()
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(encoded))), encoded...)
	}
	return b
}

// follow takes in a final block that catching up brought, verified. The core starts again above the
// last of a run.
func (s *sequencer) follow(f *chain.FinalBlock) error {
	if f.Header.Height != s.n.tip.Load().block.Header.Height+1 {
		return nil // decided here meanwhile
	}
	// Checks under way judge by the chain as it was below this block: one that saw a part of what
	// comes now would call it invalid. They end without a word.
	s.decided()
	if err := s.n.apply(f, messageIDs(f.Messages), nil); err != nil {
		return err
	}
	if len(s.finals) > 0 {
		return nil
	}
	return s.startHeight()
}

// voteAgain ends a node's time as Rejoining: it has a vote store again, that says from which height
// on it may vote.
func (s *sequencer) voteAgain(first uint64) error {
	if err := s.n.store.RecreateVotes(s.n.self, first); err != nil {
		return err
	}
	voting, err := s.n.store.OpenVotes(s.n.self)
	if err != nil {
		return err
	}
	s.n.votes.Store(voting)
	s.n.voteFrom.Store(first)
	s.n.log.Info("the vote store is made again", "votes_from_height", first)
	return s.restart(voting, first)
}

// answer sends the finalization of a height long past to a peer that is still at it: the peer
// catches up by it.
func (s *sequencer) answer(a consensus.AnswerFinalization) {
	c, err := s.n.store.Certificate(s.n.ctx, a.Height)
	if err != nil {
		s.n.log.Debug("no finalization to answer with", "height", a.Height, "err", err)
		return
	}
	s.n.transport.Send(a.To, &chain.Bundle{Certificates: []*chain.Certificate{c}})
}

// never is a height that no chain reaches: who may vote from it may not vote.
const never = math.MaxUint64
