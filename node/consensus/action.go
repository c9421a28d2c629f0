package consensus

import (
	"time"

	"github.com/diseq/diseq/node/chain"
)

// Action is a request of a Core. The caller carries out the actions of one call in their order,
// each before the next begins; Persist has reached the disk before the action after it starts. The
// caller may read everything that an action points to, and changes none of it.
//
// A call returns at most one Persist, and it comes first. A caller that handles several events in a
// row may therefore write all their records with one fsync, before any of their other actions.
type Action interface{ action() }

// Persist asks for records to be made durable.
type Persist struct{ Records []chain.Record }

// Broadcast asks for a bundle to be sent to every peer, this node excepted.
type Broadcast struct{ Bundle chain.Bundle }

// Send asks for a bundle to be sent to one peer.
type Send struct {
	To     chain.PublicKey
	Bundle chain.Bundle
}

// TimerKind is the purpose of a timer.
type TimerKind uint8

const (
	// RoundTimer is T_round: the round has taken too long.
	RoundTimer TimerKind = iota + 1
	// RetryTimer is T_retry: messages may have been lost, and are sent again.
	RetryTimer
	// IntervalTimer is the minimum block interval, counted from the start of the height.
	IntervalTimer
	// WaitTimer is the synchrony wait after a notarization. It fires after more than the time asked
	// for, and after every message that had been received by then.
	WaitTimer
	// ProposeTimer is the leader's synchrony wait before it proposes on a round without a
	// notarization.
	ProposeTimer
	// SettleTimer is the synchrony wait after a start or a time of ill health. It fires as
	// WaitTimer does. Its Round counts these waits.
	SettleTimer
)

// Timer names a timer.
type Timer struct {
	Kind   TimerKind
	Height uint64
	Round  uint32
}

// SetTimer asks for TimerFired{Timer} after a time. It replaces an earlier timer of the same kind;
// the earlier one may still fire. A timer of no length fires after the events that have already
// arrived, not within the call.
type SetTimer struct {
	Timer Timer
	After time.Duration
}

// CheckBlock asks the node to check a block against the final chain, and to fetch every message of
// it and make it durable. BlockChecked is the answer. Without an answer the Core asks again at
// every T_retry, with the holders in another order; a check under way goes on.
type CheckBlock struct {
	Height uint64
	Round  uint32
	Block  *chain.Block
	// Fresh says that the block is proposed for the first time. Then the checks that only withhold
	// a vote apply too, for the leader of Round.
	Fresh bool
	// Holders are the validators that claim to have the block and its messages, to be asked in this
	// order.
	Holders []chain.PublicKey
}

// FetchBlock asks the node to fetch a block that others have certified. BlockFetched is the answer.
// Without an answer the Core asks again at every T_retry, with the holders in another order.
type FetchBlock struct {
	Height  uint64
	Block   chain.Hash
	Holders []chain.PublicKey
}

// RequestBlock asks the node for a new block, empty if there is nothing to order: this validator
// leads the round. BlockBuilt is the answer. The Core asks once a round.
type RequestBlock struct {
	Height uint64
	Round  uint32
}

// Commit reports that a block is final. The block is valid, and its messages are durable here. The
// node then calls StartHeight for the next height.
type Commit struct {
	Block        *chain.Block
	Finalization *chain.Certificate
	// Justification holds the notarizations and nullifications of the rounds before the deciding
	// one, as far as held: every proposal rested on them. They are stored with the block, because
	// the evidence of a fork is taken from them.
	Justification []*chain.Certificate
}

// Strengthen reports the finalization of a committed block with more votes than before.
type Strengthen struct{ Finalization *chain.Certificate }

// RequestResend asks every peer to send again the messages that it sends when a link opens. The
// peer's Core gets a LinkUp for it.
type RequestResend struct{}

// AnswerFinalization asks the node to send the stored finalization of a height long past to a peer
// that is still at that height.
type AnswerFinalization struct {
	To     chain.PublicKey
	Height uint64
}

// CatchUp reports that others seem to be at Height or above it, by a message from a peer. The node
// fetches and verifies the blocks from its own height on, and calls StartHeight above them. It is
// only a hint: a single vote can be a lie.
type CatchUp struct {
	Height uint64
	From   chain.PublicKey
}

// EvidenceFound reports two votes of one validator. No honest validator signs both.
type EvidenceFound struct{ Evidence chain.Evidence }

// Contradiction reports that the assumptions of this package do not hold. More validators are
// faulty than tolerated, or this node computes something else than the others, or its vote store
// lacks a vote that it signed ([ErrMissingVote]). The node reports it to its operator and does not
// continue.
type Contradiction struct {
	Reason string
	// Certificates are the finalizations that prove it, if there are any.
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
