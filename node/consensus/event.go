package consensus

import "github.com/diseq/diseq/node/chain"

// Event is what a Core reacts to. The Core keeps what an event points to; the caller changes none
// of it afterwards.
type Event interface{ event() }

// Received is a bundle from a peer. Every signature in it has been checked against the validator
// set of the height that the Core is at: each vote, each certificate (also those inside proposals),
// each proposal's Statement. The signature of a block by its first proposer belongs to CheckBlock.
type Received struct {
	// From is the peer at the other end of the link; it need not be a validator.
	From   chain.PublicKey
	Bundle chain.Bundle
}

// Pool says what there is to order. It holds until the next Pool event.
type Pool struct {
	// Pending: the pool holds a message that is not final, or the state_height of the last header
	// is below the last block with messages. While it is false nothing of ours wakes a height.
	Pending bool
	// Full: the pool holds a full block, so that the leader need not wait for the minimum block
	// interval.
	Full bool
}

// LinkUp says that a link to a peer has opened, or opened again, or that the peer asks for what is
// sent then.
type LinkUp struct{ Peer chain.PublicKey }

// Health says whether this node can tell what others say within Delta: its process runs without
// pauses, and it is linked to at least t validators of the height, itself included. A Core under
// the synchrony wait takes its node for unhealthy until told otherwise; a pause, however short, is
// told by two events. Without the wait it has no effect.
type Health struct{ OK bool }

// TimerFired says that a timer asked for by SetTimer has run out. One that is no longer wanted does
// nothing.
type TimerFired struct{ Timer Timer }

// BlockFetched answers FetchBlock. The Core recomputes the hash; a block that it does not want does
// nothing.
type BlockFetched struct{ Block *chain.Block }

// Verdict is the outcome of CheckBlock.
type Verdict uint8

const (
	// Valid says that the block follows the final chain in every rule, and every message of it is
	// durable on this node. If the check was of a fresh proposal, nothing speaks against voting for
	// it now.
	Valid Verdict = iota + 1
	// Withheld says as much as Valid, but this round's vote is withheld (clock, missing
	// commitment). Only for a fresh proposal; a later BlockChecked of the same round may lift it.
	Withheld
	// Invalid says that the block breaks a rule that every node judges alike, from the final chain
	// and the block alone.
	Invalid
)

// BlockChecked answers CheckBlock, whose Height, Round and Fresh it repeats. While messages are
// missing there is no answer.
type BlockChecked struct {
	Height  uint64
	Round   uint32
	Block   chain.Hash
	Fresh   bool
	Verdict Verdict
}

// BlockBuilt answers RequestBlock: a new block on the final chain with the height, parent, and this
// validator as proposer, signed, valid, and every message of it durable on this node.
type BlockBuilt struct {
	Round uint32
	Block *chain.Block
}

func (Received) event()     {}
func (Pool) event()         {}
func (LinkUp) event()       {}
func (TimerFired) event()   {}
func (Health) event()       {}
func (BlockFetched) event() {}
func (BlockChecked) event() {}
func (BlockBuilt) event()   {}
