package voter

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/consensus"
	"github.com/diseq/diseq/node/ledger"
)

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
	before, instead := recordsOf(actions)
	if err := v.persist(before); err != nil {
		return err
	}
	committed := false
	for _, a := range actions {
		switch a := a.(type) {
		case consensus.Persist:
		case consensus.Broadcast:
			v.logSent(&a.Bundle)
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
				return errors.Join(err, v.persist(instead)) // they may be evidence
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
			if v.forgedLater(a) {
				v.log.Error("two finalizations of a height up to the checkpoint: keys of validators that left are in other hands; this node goes on",
					"checkpoint", v.cfg.Checkpoint().Height, "err", a.Reason)
				continue
			}
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

// forgedLater reports whether the finalizations of a contradiction are all of heights up to the
// checkpoint. Stolen keys of validators that left are enough to make a second one there, and must
// not be enough to stop every node that still holds the height.
func (v *Voter) forgedLater(c consensus.Contradiction) bool {
	checkpoint := v.cfg.Checkpoint().Height
	above := func(c *chain.Certificate) bool { return c.Height > checkpoint }
	return len(c.Certificates) > 0 && !slices.ContainsFunc(c.Certificates, above)
}

// recordsOf returns the records of actions: those that have to be durable before the rest is
// carried out, and those that the transaction of a block makes superfluous. The latter are all
// records of actions that commit a block, without a contradiction, and in which this validator
// signs nothing. The block's transaction has the finalization, and is on disk before the next
// height begins. After a crash in between, the others show the finalization again.
func recordsOf(actions []consensus.Action) (before, instead []chain.Record) {
	for _, a := range actions {
		if p, ok := a.(consensus.Persist); ok {
			before = append(before, p.Records...)
		}
	}
	signed := slices.ContainsFunc(before, func(r chain.Record) bool { return r.Kind != chain.RecordCertificate })
	contradicted := slices.ContainsFunc(actions, func(a consensus.Action) bool { _, ok := a.(consensus.Contradiction); return ok })
	if commits(actions) && !signed && !contradicted {
		return nil, before
	}
	return before, nil
}

// persist makes records durable.
func (v *Voter) persist(records []chain.Record) error {
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
		v.logRound(a.Timer.Round)
		v.show(a.Timer.Round)
	}
	key := consensus.Timer{Kind: a.Timer.Kind}
	after := a.After
	fired := ofCore{consensus.TimerFired{Timer: a.Timer}, v.core}
	fire := func() { v.Post(fired) }
	switch a.Timer.Kind {
	case consensus.WaitTimer:
		key = a.Timer
		fallthrough
	case consensus.SettleTimer:
		began := time.Now()
		after += time.Millisecond // more than the core asked for
		fire = func() { v.synchrony.endWait(fired, began) }
		v.cfg.Metrics.Waits.Inc()
	}
	if t := v.timers[key]; t != nil {
		t.Stop()
	}
	if a.Timer.Kind == consensus.IntervalTimer {
		// The core counts the interval from the start of the height, after the block below is
		// final. Blocks should follow one another at the interval, so the time that the block below
		// took to be decided is part of it.
		below := &v.cfg.Ledger.Tip().Block.Header
		after = interval(after, below)
		after = min(after, max(0, after-v.cfg.Now().Sub(below.Time())))
	}
	v.timers[key] = time.AfterFunc(after, fire)
}

// show makes the round that the voter is in visible to other goroutines.
func (v *Voter) show(round uint32) {
	v.view.Store(&View{Height: v.height, Round: round, Leader: v.order[int(round)%len(v.order)]})
}

// commit makes the block that the core decided final.
func (v *Voter) commit(a consensus.Commit) error {
	if v.cfg.Ledger.Height() >= v.height {
		return nil // catching up brought it just before
	}
	hash := a.Finalization.Block
	p := v.prepared.get(hash)
	if p == nil {
		// Many rounds have failed since the block was checked, each with a block of its own.
		var err error
		if p, err = v.prepareAgain(a.Block); err != nil {
			return fmt.Errorf("block %v is final at height %d and was found valid, but its messages are missing: %w", hash, v.height, err)
		}
	}
	// With the body that was checked here, which these messages come from.
	f := &chain.FinalBlock{Block: *p.block, Messages: p.messages, Certificate: *a.Finalization}
	return v.apply(f, p.ids, a.Justification)
}

// prepareAgain returns a block that was found valid with its messages. Its batches wait in the pool
// until a block orders them.
func (v *Voter) prepareAgain(b *chain.Block) (*preparedBlock, error) {
	body, missing, err := v.resolveNow(v.deciding, b)
	if err != nil {
		return nil, err
	}
	if len(missing) > 0 {
		return nil, fmt.Errorf("%d batches are not held", len(missing))
	}
	if err := b.Header.CheckMessages(body.Messages); err != nil {
		return nil, err
	}
	return &preparedBlock{block: b, messages: body.Messages, ids: body.IDs}, nil
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
func (v *Voter) apply(f *chain.FinalBlock, ids []chain.Hash, justification []*chain.Certificate) error {
	v.decided()
	if err := v.onCheckpoint(f.Header.Height, f.Hash()); err != nil {
		return err
	}
	if err := v.cfg.Apply(f, ids, justification); err != nil {
		return err
	}
	v.logFinal(f)
	if v.votes != nil {
		v.votes.Prune(f.Header.Height)
	}
	return nil
}

// onCheckpoint returns the contradiction if the checkpoint names another block at the height of a
// final one. It says nothing about the heights below the last final one.
func (v *Voter) onCheckpoint(height uint64, hash chain.Hash) error {
	c := v.cfg.Checkpoint()
	if c.Height == 0 || c.Height != height || c.Hash == hash {
		return nil
	}
	return fmt.Errorf("contradiction: block %v is final at height %d, the checkpoint of the peers file names %v there: "+
		"this node followed another chain. Make sure of the checkpoint. If it is right, keep the data directory and start on an empty one",
		hash, height, c.Hash)
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
