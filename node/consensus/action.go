package consensus

import (
	"time"

	"github.com/diseq/diseq/node/chain"
)

// Action is what a Core asks for. The actions of one call are carried out in their order, each
// before the next begins; Persist has reached the disk before the action after it starts. What an
// action points to is read, never changed.
//
// A call returns at most one Persist, and it stands first: whoever handles several events in a row
// may write all their records with one fsync, before any of their other actions.
type Action interface{ action() }

// Persist asks for records to be durable.
type Persist struct{ Records []chain.Record }

// Broadcast asks for a bundle to be sent to every peer, this node excepted.
type Broadcast struct{ Bundle chain.Bundle }

// Send asks for a bundle to be sent to one peer.
type Send struct {
	To     chain.PublicKey
	Bundle chain.Bundle
}

// TimerKind says what a timer is for.
type TimerKind uint8

const (
	// RoundTimer is T_round: the round has taken too long.
	RoundTimer TimerKind = iota + 1
	// RetryTimer is T_retry: send again what may have been lost.
	RetryTimer
	// IntervalTimer is the minimum block interval, counted from the start of the height.
	IntervalTimer
	// WaitTimer is the synchrony wait after a notarization. It fires after more than the time asked
	// for, and after every message that had been received by then.
	WaitTimer
	// ProposeTimer is the leader's synchrony wait before it proposes on a round without a
	// notarization.
	ProposeTimer
	// SettleTimer is the synchrony wait after a start or a time of ill health; its Round counts
	// them.
	SettleTimer
)

// Timer names a timer.
type Timer struct {
	Kind   TimerKind
	Height uint64
	Round  uint32
}

// SetTimer asks for TimerFired{Timer} after a time. It replaces an earlier timer of the same kind,
// which may fire all the same. A timer of no length fires after the events that have already
// arrived, not within the call.
type SetTimer struct {
	Timer Timer
	After time.Duration
}

// CheckBlock asks for a block to be checked against the final chain, with every message of it
// fetched and made durable: BlockChecked tells. It is asked again at every T_retry without an
// answer, then with the holders in another order; what is under way goes on.
type CheckBlock struct {
	Height uint64
	Round  uint32
	Block  *chain.Block
	// Fresh: the block is proposed for the first time, so the checks that only withhold a vote
	// apply, for the leader of Round.
	Fresh bool
	// Holders are validators that said they hold the block and its messages, to be asked in this
	// order.
	Holders []chain.PublicKey
}

// FetchBlock asks for a block that others have certified: BlockFetched brings it. It is asked again
// at every T_retry, with the holders in another order.
type FetchBlock struct {
	Height  uint64
	Block   chain.Hash
	Holders []chain.PublicKey
}

// RequestBlock asks this validator, the leader of the round, for a new block, empty if there is
// nothing to order: BlockBuilt brings it. It is asked once for a round.
type RequestBlock struct {
	Height uint64
	Round  uint32
}

// Commit says that a block is final. It is valid and its messages are durable here. The node goes
// on with StartHeight.
type Commit struct {
	Block        *chain.Block
	Finalization *chain.Certificate
	// Justification is what the rounds before the deciding one rested on: their notarizations and
	// nullifications, as far as held. It is kept with the block: the evidence of a fork is cut from
	// it.
	Justification []*chain.Certificate
}

// Strengthen brings the finalization of a committed block with more votes than before.
type Strengthen struct{ Finalization *chain.Certificate }

// RequestResend asks every peer to send what it would send to a link that opens: its answer is a LinkUp
// there.
type RequestResend struct{}

// AnswerFinalization asks for the stored finalization of a height long past to be sent to a peer
// that is still at it.
type AnswerFinalization struct {
	To     chain.PublicKey
	Height uint64
}

// CatchUp says that others seem to be at Height or above it, by a message from a peer: blocks from
// this node's height on have to be fetched and verified, and StartHeight called above them. It is a
// hint: a vote alone can be a lie.
type CatchUp struct {
	Height uint64
	From   chain.PublicKey
}

// EvidenceFound brings two votes that no honest validator signs both.
type EvidenceFound struct{ Evidence chain.Evidence }

// Contradiction says that the assumptions of this package do not hold: more validators are faulty
// than tolerated, or this node computes something else than the others, or it has forgotten what it
// voted for ([ErrMissingVote]). The node tells its operator and does not continue.
type Contradiction struct {
	Reason string
	// Certificates are the finalizations that show it, if any do.
	Certificates []*chain.Certificate
}

func (Persist) action()            {}
func (Broadcast) action()          {}
func (Send) action()               {}
func (SetTimer) action()           {}
func (CheckBlock) action()         {}
func (FetchBlock) action()         {}
func (RequestBlock) action()       {}
func (Commit) action()             {}
func (Strengthen) action()         {}
func (RequestResend) action()      {}
func (AnswerFinalization) action() {}
func (CatchUp) action()            {}
func (EvidenceFound) action()      {}
func (Contradiction) action()      {}
