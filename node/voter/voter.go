// Package voter runs the consensus core: it feeds the core what peers, timers and checks report,
// and carries out what the core asks for.
//
// One goroutine, Run, owns the core. It promises that a vote is on disk before it leaves this node,
// that the actions of the core are carried out in their order, and that the chain grows in this one
// place: blocks that catching up fetched pass through it as well. It also promises that an event
// which waited too long for its turn makes the node abstain, where the chain has the synchrony
// wait.
//
// It does not decide: package consensus does. It verifies no signature: package verify has done it.
// It reaches peers, the state and the disk through the interfaces Network, State and Votes alone.
//
// A caller makes a Voter with New, starts it once with Start, and then calls Run. The other methods
// may be called from any goroutine, from New on.
package voter

import (
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/consensus"
	"github.com/diseq/diseq/node/internal/tasks"
	"github.com/diseq/diseq/node/ledger"
	"github.com/diseq/diseq/node/mempool"
)

// Network reaches the peers. No method but Batches and Block blocks.
type Network interface {
	// Broadcast sends a bundle to every peer, Send to one.
	Broadcast(b *chain.Bundle)
	Send(to chain.PublicKey, b *chain.Bundle)
	// Ask asks every peer to send what it would send to a link that opens.
	Ask()
	// Ping asks a peer for a pong of that number, which comes behind everything that the peer sent
	// before it.
	Ping(to chain.PublicKey, number uint64)
	// Connected returns the peers to which there is a link.
	Connected() []chain.PublicKey
	// Batches fetches batches from a peer and calls yield with each of them. It may fetch only the
	// first ones of hashes.
	Batches(ctx context.Context, from chain.PublicKey, hashes []chain.Hash, yield func(chain.Hash, []byte) error) error
	// Block fetches a block that a peer holds as a proposal.
	Block(ctx context.Context, from chain.PublicKey, hash chain.Hash) (*chain.Block, error)
}

// State is the trie of the final messages, which follows the chain at its own pace.
type State interface {
	// Newest returns the newest height whose root is computed, and that root.
	Newest() (height uint64, root chain.Hash)
	// Root returns the root after a height; ok is false if it is not kept.
	Root(height uint64) (root chain.Hash, ok bool)
	// Wait returns nil once the root of height is computed.
	Wait(ctx context.Context, height uint64) error
}

// Votes is the vote store.
type Votes interface {
	// Load returns all records, Append makes records durable: they are on disk when it returns nil.
	Load() ([]chain.Record, error)
	Append(records ...chain.Record) error
	// Prune gives up the records of all heights up to one. It returns at once.
	Prune(height uint64)
}

// Metrics counts what only the voter sees.
type Metrics struct {
	// Waits and Breaches are of the synchrony wait: waits begun, and times of ill health.
	Waits, Breaches prometheus.Counter
	// InvalidBlocks counts blocks that break a rule, Withheld votes withheld from valid blocks, by
	// reason.
	InvalidBlocks prometheus.Counter
	// Misfits counts bodies that did not fit their header.
	Misfits  prometheus.Counter
	Withheld *prometheus.CounterVec
}

// Config is what a Voter is made of.
type Config struct {
	Genesis *chain.Genesis
	// Key signs this validator's votes and blocks.
	Key     ed25519.PrivateKey
	Ledger  *ledger.Ledger
	Pool    *mempool.Pool
	Network Network
	State   State
	// Apply makes a block final: it returns nil when the block is the ledger's tip. Run alone calls
	// it.
	Apply func(f *chain.FinalBlock, ids []chain.Hash, justification []byte) error
	// Finals brings verified blocks that catching up fetched, Contradictions an error that ends
	// Run.
	Finals         <-chan *chain.FinalBlock
	Contradictions <-chan error
	// CatchUp passes on that a peer seems to have final blocks up to height.
	CatchUp func(height uint64, from chain.PublicKey)
	// HasCommitment reports whether a peer acknowledged the VRF commitment of an epoch at least age
	// ago.
	HasCommitment func(peer chain.PublicKey, epoch uint64, age time.Duration) bool
	// Evidence takes evidence against a validator.
	Evidence func(chain.Evidence)
	// Now is the clock that blocks get their time from and are compared with.
	Now     func() time.Time
	Tasks   *tasks.Group
	Metrics Metrics
	// Name returns the name of a peer for log lines.
	Name   func(chain.PublicKey) string
	Logger *slog.Logger
}

// Never is a height that no chain reaches: a validator that may vote from it on may not vote.
const Never = math.MaxUint64

// Voter drives the consensus core of one node.
type Voter struct {
	cfg  Config
	log  *slog.Logger
	set  *chain.ValidatorSet
	self chain.PublicKey
	// synchrony watches over this node's health, where the chain has the synchrony wait.
	synchrony *synchrony
	prepared  prepared

	// events come from peers, timers, checks and fetches. again brings the vote store of a
	// validator that had lost its own.
	events chan queued
	again  chan rejoined

	// The fields from here to pool belong to Run's goroutine.
	core  *consensus.Core
	votes Votes // nil while this node may not vote
	// timers are those of the height, by kind; synchrony waits have one for each round.
	timers map[consensus.Timer]*time.Timer
	// deciding ends when the height does, and with it the checks and fetches for it.
	deciding context.Context
	decided  context.CancelFunc
	checks   map[checkKey]*check
	height   uint64
	order    []int
	pool     consensus.Pool

	// Other goroutines read the fields from here on.
	view     atomic.Pointer[View]
	voteFrom atomic.Uint64
	settled  atomic.Bool
}

// queued is an event and when it was queued.
type queued struct {
	event consensus.Event
	since time.Time
}

// rejoined is a new vote store and the first height at which this validator may vote.
type rejoined struct {
	votes Votes
	first uint64
}

// View is where the voter is.
type View struct {
	// Height is the height being decided, Round its round, Leader the round's leader as an index in
	// the validator set.
	Height uint64
	Round  uint32
	Leader int
}

// Health is what the synchrony wait says of this node. Both are false on a chain without the wait.
type Health struct {
	// Healthy: this node hears within Delta what t validators say, itself included.
	Healthy bool
	// Settled: it has been healthy for long enough to vote.
	Settled bool
}

const (
	eventQueue = 4096
	// groupedEvents is how many events may share one fsync of the vote store.
	groupedEvents = 64
)

// New returns a Voter that does nothing until Start and Run.
func New(cfg Config) *Voter {
	v := &Voter{
		cfg: cfg, log: cfg.Logger, set: cfg.Genesis.Set(), self: chain.PublicKeyOf(cfg.Key),
		events: make(chan queued, eventQueue), again: make(chan rejoined), timers: map[consensus.Timer]*time.Timer{},
	}
	v.synchrony = newSynchrony(v.set, v.self, cfg.Network, v.Post, cfg.Metrics)
	return v
}

// Post queues an event for the core. It blocks while the queue is full, which slows the sender
// down.
func (v *Voter) Post(e consensus.Event) {
	select {
	case v.events <- queued{e, time.Now()}:
	case <-v.cfg.Tasks.Context().Done():
	}
}

// LinkUp makes the core send a peer everything that it may have missed, and begins to measure it.
func (v *Voter) LinkUp(to chain.PublicKey) {
	v.Post(consensus.LinkUp{Peer: to})
	v.synchrony.linkUp(to)
}

// LinkDown ends the measurements of a peer. LinkUp sends again everything that was lost.
func (v *Voter) LinkDown(to chain.PublicKey) { v.synchrony.linkDown(to) }

// Pong takes a peer's answer to a Ping; lost counts what the peer could not send to this node.
func (v *Voter) Pong(from chain.PublicKey, number, lost uint64) { v.synchrony.pong(from, number, lost) }

// Resend makes the core send a peer again what it would send to a link that opens. A peer that asks
// too often waits.
func (v *Voter) Resend(to chain.PublicKey) { v.synchrony.resend(to) }

// View returns where the voter is; nil before Start.
func (v *Voter) View() *View { return v.view.Load() }

// Health returns what the synchrony wait says of this node.
func (v *Voter) Health() Health {
	healthy := v.synchrony.healthy.Load()
	return Health{Healthy: healthy, Settled: healthy && v.settled.Load()}
}

// VotesFrom returns the height from which this validator may vote: Never while it is rejoining, 0
// if it always could.
func (v *Voter) VotesFrom() uint64 { return v.voteFrom.Load() }

// Block returns a block of the height being decided that this node built or found valid, or nil.
func (v *Voter) Block(hash chain.Hash) *chain.Block {
	if p := v.prepared.get(hash); p != nil {
		return p.block
	}
	return nil
}

// VoteAgain ends a validator's time as Rejoining: it has a vote store again and may vote from
// height first on.
func (v *Voter) VoteAgain(ctx context.Context, votes Votes, first uint64) {
	select {
	case v.again <- rejoined{votes, first}:
	case <-ctx.Done():
	}
}

// Start makes the core from the vote store, which is nil for a node that may not vote, and starts
// the height above the tip. It is called once, before Run.
func (v *Voter) Start(votes Votes, voteFrom uint64) error {
	v.voteFrom.Store(voteFrom)
	p := v.cfg.Genesis.Parameters
	cfg := consensus.Config{
		ChainID: v.cfg.Genesis.ChainID, PublicKey: v.self, VoteFrom: voteFrom,
		RoundTimeout:     time.Duration(p.RoundTimeoutMS) * time.Millisecond,
		MaxRoundTimeout:  time.Duration(p.MaxRoundTimeoutMS) * time.Millisecond,
		MinBlockInterval: time.Duration(p.MinBlockIntervalMS) * time.Millisecond,
		RetryInterval:    consensus.DefaultRetryInterval,
	}
	var records []chain.Record
	if votes != nil {
		cfg.Sign = func(vote *chain.Vote) { vote.Sign(v.cfg.Key, v.cfg.Genesis.ChainID) }
		var err error
		if records, err = votes.Load(); err != nil {
			return err
		}
	}
	core, err := consensus.New(cfg, records)
	if errors.Is(err, consensus.ErrMissingVote) {
		return fmt.Errorf("%w; make sure that no other process uses this identity, then remove votes.db and this validator rejoins", err)
	}
	if err != nil {
		return err
	}
	for _, r := range records {
		if next := v.cfg.Ledger.Height() + 1; r.Height > next {
			return fmt.Errorf("the vote store has votes of height %d, the blocks end at height %d: blocks.db is missing or old; "+
				"restore the whole data directory, or remove votes.db and this validator rejoins",
				r.Height, next-1)
		}
	}
	core.Step(consensus.Health{OK: v.synchrony.healthy.Load()})
	v.core, v.votes = core, votes
	return v.startHeight()
}

// Run drives the core until ctx ends. It returns an error that this node cannot continue with: a
// contradiction, or a write that failed.
func (v *Voter) Run(ctx context.Context) error {
	defer func() {
		v.decided()
		for _, t := range v.timers {
			t.Stop()
		}
	}()
	for {
		var err error
		select {
		case <-ctx.Done():
			return nil
		case q := <-v.events:
			err = v.step(q)
		case f := <-v.cfg.Finals:
			err = v.follow(f)
		case err = <-v.cfg.Contradictions:
		case r := <-v.again:
			err = v.Start(r.votes, r.first)
		case <-v.cfg.Pool.Ready():
			err = v.poolChanged()
		}
		if err != nil && ctx.Err() == nil {
			return err
		}
	}
}

// Watch measures this node's health until ctx ends; it returns at once on a chain without the
// synchrony wait.
func (v *Voter) Watch(ctx context.Context) { v.synchrony.run(ctx) }

// step handles an event and those already waiting behind it, so that they share an fsync. Any of
// them may have waited too long: for the events before it, for blocks that catching up fetched, or
// behind a flood.
func (v *Voter) step(q queued) error {
	began := time.Now()
	defer func() { v.synchrony.delayed(time.Since(began)) }()
	var actions []consensus.Action
	for range groupedEvents {
		v.synchrony.delayed(time.Since(q.since))
		// Before each event, not before each group: the end of a breach is an event, too, and the
		// breach must come before it.
		if v.synchrony.breached() {
			actions = append(actions, v.core.Step(consensus.Health{})...)
		}
		next := v.core.Step(q.event)
		actions = append(actions, next...)
		if commits(next) {
			break
		}
		select {
		case q = <-v.events:
			continue
		default:
		}
		break
	}
	return v.execute(actions)
}

func commits(actions []consensus.Action) bool {
	for _, a := range actions {
		if _, ok := a.(consensus.Commit); ok {
			return true
		}
	}
	return false
}

// execute carries out actions: it makes all records durable with one fsync, then does the rest in
// order.
func (v *Voter) execute(actions []consensus.Action) error {
	v.settled.Store(v.core.Settled())
	if err := v.persist(actions); err != nil {
		return err
	}
	committed := false
	for _, a := range actions {
		switch a := a.(type) {
		case consensus.Persist:
		case consensus.Broadcast:
			v.cfg.Network.Broadcast(&a.Bundle)
		case consensus.Send:
			v.cfg.Network.Send(a.To, &a.Bundle)
		case consensus.SetTimer:
			v.setTimer(a)
		case consensus.CheckBlock:
			v.check(a)
		case consensus.FetchBlock:
			v.fetch(a)
		case consensus.RequestBlock:
			deciding := v.deciding
			v.cfg.Tasks.Go(func(context.Context) { v.build(deciding, a) })
		case consensus.Commit:
			if err := v.commit(a); err != nil {
				return err
			}
			committed = true
		case consensus.Strengthen:
			v.cfg.Ledger.Strengthen(a.Finalization)
		case consensus.RequestResend:
			v.cfg.Network.Ask()
		case consensus.AnswerFinalization:
			v.cfg.Tasks.Go(func(ctx context.Context) { v.answer(ctx, a) })
		case consensus.CatchUp:
			v.cfg.CatchUp(a.Height, a.From)
		case consensus.EvidenceFound:
			v.cfg.Tasks.Go(func(context.Context) { v.cfg.Evidence(a.Evidence) })
		case consensus.Contradiction:
			return fmt.Errorf("contradiction: %s", a.Reason)
		default:
			return fmt.Errorf("the consensus core asks for %T, which this version does not know", a)
		}
	}
	if committed {
		return v.startHeight()
	}
	return nil
}

// persist makes the records of all actions durable.
func (v *Voter) persist(actions []consensus.Action) error {
	var records []chain.Record
	for _, a := range actions {
		if p, ok := a.(consensus.Persist); ok {
			records = append(records, p.Records...)
		}
	}
	if v.votes == nil {
		// A node that does not vote needs no record: the others send their certificates again.
		if slices.ContainsFunc(records, func(r chain.Record) bool { return r.Kind == chain.RecordVote }) {
			return errors.New("the consensus core votes without a vote store")
		}
		return nil
	}
	if len(records) == 0 {
		return nil
	}
	return v.votes.Append(records...)
}

func (v *Voter) setTimer(a consensus.SetTimer) {
	if a.Timer.Kind == consensus.RoundTimer {
		v.show(a.Timer.Round)
	}
	key := consensus.Timer{Kind: a.Timer.Kind}
	after := a.After
	fire := func() { v.Post(consensus.TimerFired{Timer: a.Timer}) }
	switch a.Timer.Kind {
	case consensus.WaitTimer:
		key = a.Timer
		fallthrough
	case consensus.SettleTimer:
		began := time.Now()
		after += time.Millisecond // more than the core asked for
		fire = func() { v.synchrony.endWait(a.Timer, began) }
		v.cfg.Metrics.Waits.Inc()
	}
	if t := v.timers[key]; t != nil {
		t.Stop()
	}
	if a.Timer.Kind == consensus.IntervalTimer {
		// The core counts the interval from the start of the height, after the block below is
		// final. Blocks should follow one another at the interval, so the time that the block below
		// took to be decided is part of it.
		built := v.cfg.Ledger.Tip().Block.Header.Time()
		after = min(after, max(0, after-v.cfg.Now().Sub(built)))
	}
	v.timers[key] = time.AfterFunc(after, fire)
}

// show makes the round that the voter is in visible to other goroutines.
func (v *Voter) show(round uint32) {
	v.view.Store(&View{Height: v.height, Round: round, Leader: v.order[int(round)%len(v.order)]})
}

// startHeight lets the core decide the height above the last final block.
func (v *Voter) startHeight() error {
	if v.decided != nil {
		v.decided()
	}
	v.deciding, v.decided = context.WithCancel(v.cfg.Tasks.Context())
	v.checks = map[checkKey]*check{}
	for key, t := range v.timers {
		if key.Kind == consensus.WaitTimer {
			t.Stop()
			delete(v.timers, key)
		}
	}
	tip := v.cfg.Ledger.Tip()
	height := tip.Height() + 1
	order, err := v.cfg.Ledger.Leaders(height)
	if err != nil {
		return err
	}
	h := consensus.Height{Number: height, Parent: tip.Hash, Set: v.set, Order: order}
	if height > 1 {
		h.Last = &tip.Block.Certificate
	}
	v.height, v.order = height, order
	v.show(0)
	// The core learns first whether there is something to order. By what there was at the height
	// below, an idle height would wake.
	v.pool = v.poolState()
	actions := v.core.Step(v.pool)
	started, err := v.core.StartHeight(h)
	if err != nil {
		return fmt.Errorf("height %d: %w", height, err)
	}
	return v.execute(append(actions, started...))
}

// poolState reports whether there is something to order: messages, or a root that no header
// certifies yet.
func (v *Voter) poolState() consensus.Pool {
	return consensus.Pool{
		Pending: v.cfg.Pool.HasPending() || v.cfg.Ledger.Tip().Uncertified(),
		Full:    v.cfg.Pool.Stats().Bytes >= int64(v.cfg.Genesis.Parameters.MaxBlockBytes),
	}
}

func (v *Voter) poolChanged() error {
	state := v.poolState()
	if state == v.pool {
		return nil
	}
	v.pool = state
	return v.step(queued{state, time.Now()})
}

// commit makes the block that the core decided final.
func (v *Voter) commit(a consensus.Commit) error {
	if v.cfg.Ledger.Height() >= v.height {
		return nil // catching up brought it just before
	}
	hash := a.Finalization.Block
	p := v.prepared.get(hash)
	if p == nil {
		return fmt.Errorf("block %v is final at height %d and was found valid, but its messages are missing", hash, v.height)
	}
	// The block that was checked: the core may hold its header with another body.
	f := &chain.FinalBlock{Block: *p.block, Messages: p.messages, Certificate: *a.Finalization}
	return v.apply(f, p.ids, encodeJustification(a.Justification))
}

// follow makes a verified block final that catching up fetched. The core starts again above the
// last block of a run.
func (v *Voter) follow(f *chain.FinalBlock) error {
	if f.Header.Height != v.cfg.Ledger.Height()+1 {
		return nil // decided here meanwhile
	}
	if err := v.apply(f, ledger.IDs(f.Messages), nil); err != nil {
		return err
	}
	if len(v.cfg.Finals) > 0 {
		return nil
	}
	return v.startHeight()
}

// apply makes a block final. It ends the checks under way before the chain changes under them: a
// check that saw a part of the change would call this very block invalid.
func (v *Voter) apply(f *chain.FinalBlock, ids []chain.Hash, justification []byte) error {
	v.decided()
	if err := v.cfg.Apply(f, ids, justification); err != nil {
		return err
	}
	if v.votes != nil {
		v.votes.Prune(f.Header.Height)
	}
	return nil
}

// encodeJustification returns the certificates, each behind its length as a u32; nil for none.
func encodeJustification(certificates []*chain.Certificate) []byte {
	var b []byte
	for _, c := range certificates {
		encoded := c.Encode()
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(encoded))), encoded...)
	}
	return b
}

// answer sends the finalization of a height long past to a peer that is still deciding it, so that
// the peer catches up.
func (v *Voter) answer(ctx context.Context, a consensus.AnswerFinalization) {
	c, err := v.cfg.Ledger.Certificate(ctx, a.Height)
	if err != nil {
		v.log.Debug("no finalization to answer with", "height", a.Height, "err", err)
		return
	}
	v.cfg.Network.Send(a.To, &chain.Bundle{Certificates: []*chain.Certificate{c}})
}
