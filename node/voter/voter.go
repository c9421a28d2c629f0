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
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/consensus"
)

// Voter drives the consensus core of one node.
type Voter struct {
	cfg  Config
	log  *slog.Logger
	self chain.PublicKey
	// synchrony watches over this node's health, where the chain has the synchrony wait.
	synchrony *synchrony
	prepared  prepared

	// events come from peers, timers, checks and fetches. again brings the vote store of a
	// validator that had lost its own.
	events *queue
	again  chan rejoined
	// moved asks for a core that votes above the checkpoint alone.
	moved chan struct{}
	// urgency holds a token if a message may have come since a build looked for one.
	urgency chan struct{}

	// The fields from here to pool belong to Run's goroutine.
	core  *consensus.Core
	votes Votes // nil while this node may not vote
	// from is the height from which the core votes.
	from uint64
	// timers are those of the height, by kind; synchrony waits have one for each round.
	timers map[consensus.Timer]*time.Timer
	// deciding ends when the height does, and with it the checks and fetches for it.
	deciding context.Context
	decided  context.CancelFunc
	checks   map[checkKey]*check
	height   uint64
	set      *chain.ValidatorSet
	order    []int
	pool     consensus.Pool

	// Other goroutines read the fields from here on.
	view     atomic.Pointer[View]
	voteFrom atomic.Uint64
	settled  atomic.Bool
}

// ofCore is an event for the core that asked for it. Another core, which Start has made since, must
// not take the end of an older wait for that of its own.
type ofCore struct {
	consensus.Event
	core *consensus.Core
}

// rejoined is a new vote store and the first height at which this validator may vote.
type rejoined struct {
	votes Votes
	first uint64
}

// View is where the voter is.
type View struct {
	// Height is the height being decided, Round its round, Leader the round's leader as an index in
	// the validator set of the height.
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

// groupedEvents is how many events may share one fsync of the vote store.
const groupedEvents = 64

// New returns a Voter that does nothing until Start and Run.
func New(cfg Config) *Voter {
	v := &Voter{
		cfg: cfg, log: cfg.Logger, self: chain.PublicKeyOf(cfg.Key),
		events: newQueue(), again: make(chan rejoined), moved: make(chan struct{}, 1), urgency: make(chan struct{}, 1),
		timers: map[consensus.Timer]*time.Timer{},
	}
	v.set = cfg.Ledger.Sets().Open()
	v.synchrony = newSynchrony(v.set, v.self, cfg.Network, v.Post, cfg.Metrics)
	return v
}

// Post queues an event for the core.
func (v *Voter) Post(e consensus.Event) { v.events.add(v.cfg.Tasks.Context(), e) }

// PostFor queues an event that comes from a peer. It waits while the events before it of the same
// peer fill their room, which slows that peer down and no other. ctx ends when the peer is gone.
func (v *Voter) PostFor(ctx context.Context, e consensus.Event) { v.events.add(ctx, e) }

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

// VotesFrom returns the height from which this node may vote where it is a validator: Never while
// it has no vote store, 0 if it always could. The checkpoint may hold it back longer.
func (v *Voter) VotesFrom() uint64 { return v.voteFrom.Load() }

// Block returns a block of the height being decided that this node built or found valid, or nil. A
// block that is final here is not one of them: its batches have left the pool, and a peer that has
// only the block would wait for them instead of catching up.
func (v *Voter) Block(hash chain.Hash) *chain.Block {
	if p := v.prepared.get(hash); p != nil && p.block.Header.Height > v.cfg.Ledger.Height() {
		return p.block
	}
	return nil
}

// CheckpointMoved makes the voter look at the checkpoint again.
func (v *Voter) CheckpointMoved() {
	select {
	case v.moved <- struct{}{}:
	default:
	}
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
	tip := v.cfg.Ledger.Tip()
	if err := v.onCheckpoint(tip.Height(), tip.Hash); err != nil {
		return err
	}
	v.voteFrom.Store(voteFrom)
	p := v.cfg.Genesis.Parameters
	v.from = max(voteFrom, v.cfg.Checkpoint().Height+1)
	cfg := consensus.Config{
		ChainID: v.cfg.Genesis.ChainID, PublicKey: v.self, VoteFrom: v.from,
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
			return fmt.Errorf("the vote store has votes of height %d, the blocks end at height %d: blocks.db is missing or old. "+
				"Put back the blocks.db that was moved away, or remove votes.db and this validator rejoins",
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
		case <-v.events.ready:
			if q, ok := v.events.take(); ok {
				err = v.step(q)
			}
		case f := <-v.cfg.Finals:
			err = v.follow(f)
		case err = <-v.cfg.Contradictions:
		case r := <-v.again:
			err = v.Start(r.votes, r.first)
		case <-v.moved:
			err = v.checkpointMoved()
		case <-v.cfg.Pool.Ready():
			err = v.poolChanged()
		case <-v.cfg.Changed:
			err = v.poolChanged()
		}
		if err != nil && ctx.Err() == nil {
			return err
		}
	}
}

// checkpointMoved makes another core if the one that runs votes from another height than it may. A
// checkpoint that was a mistake is taken back, and must not silence this node for ever.
func (v *Voter) checkpointMoved() error {
	tip := v.cfg.Ledger.Tip()
	if err := v.onCheckpoint(tip.Height(), tip.Hash); err != nil {
		return err
	}
	if from := max(v.VotesFrom(), v.cfg.Checkpoint().Height+1); from == v.from || max(from, v.from) <= v.height {
		return nil
	}
	return v.Start(v.votes, v.VotesFrom())
}

// Watch measures this node's health until ctx ends; it returns at once on a chain without the
// synchrony wait.
func (v *Voter) Watch(ctx context.Context) { v.synchrony.run(ctx) }

// step handles an event and those already waiting behind it, so that they share an fsync. Any of
// them may have waited too long: for the events before it, or for blocks that catching up fetched.
func (v *Voter) step(q queued) error {
	began := time.Now()
	defer func() { v.synchrony.delayed(time.Since(began)) }()
	var actions []consensus.Action
	for handled := 1; ; handled++ {
		v.synchrony.delayed(time.Since(q.since))
		// Before each event, not before each group: the end of a breach is an event, too, and the
		// breach must come before it.
		if v.synchrony.breached() {
			actions = append(actions, v.core.Step(consensus.Health{})...)
		}
		if event := v.addressed(q.event); event != nil {
			v.logEvent(event)
			next := v.core.Step(event)
			actions = append(actions, next...)
			if commits(next) {
				break
			}
		}
		if handled == groupedEvents {
			break
		}
		var more bool
		if q, more = v.events.take(); !more {
			break
		}
	}
	return v.execute(actions)
}

// addressed returns the event, or nil if it was for a core that is no more.
func (v *Voter) addressed(e consensus.Event) consensus.Event {
	if own, ok := e.(ofCore); ok {
		if own.core != v.core {
			return nil
		}
		return own.Event
	}
	return e
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
	set, err := v.setOf(height)
	if err != nil {
		return err
	}
	order, err := v.cfg.Ledger.Leaders(height)
	if err != nil {
		return err
	}
	if set != v.set {
		v.synchrony.judge(set)
	}
	h := consensus.Height{Number: height, Parent: tip.Hash, Set: set, Order: order}
	if height > 1 {
		h.Last = &tip.Block.Certificate
	}
	v.height, v.set, v.order = height, set, order
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

// setOf returns the validator set that decides a height, at most one above the tip.
func (v *Voter) setOf(height uint64) (*chain.ValidatorSet, error) {
	set, ok := v.cfg.Ledger.Sets().At(height)
	if !ok {
		return nil, fmt.Errorf("the validator set of height %d is not decided yet", height)
	}
	return set, nil
}

// poolState reports whether there is something to order: messages, a root that no header certifies
// yet, or a change of the validator set. The height after a change is awake, too: it shows that the
// new set is there, and those that leave wait for it.
func (v *Voter) poolState() consensus.Pool {
	tip := v.cfg.Ledger.Tip()
	return consensus.Pool{
		Pending: v.cfg.Pool.HasPending() || tip.Uncertified() || tip.Block.Change != nil || v.cfg.Change() != nil,
		Full:    v.cfg.Pool.Stats().Bytes >= int64(v.cfg.Genesis.Parameters.MaxBlockBytes),
	}
}

func (v *Voter) poolChanged() error {
	v.noteUrgency()
	state := v.poolState()
	if state == v.pool {
		return nil
	}
	v.pool = state
	return v.step(queued{event: state, since: time.Now()})
}
