package consensus

import "github.com/diseq/diseq/node/chain"

// Event is an input of a Core. The Core keeps what an event points to; the caller does not change
// any of it afterwards.
type Event interface{ event() }

// Received is a bundle from a peer. Its caller has checked every signature: each vote, each
// certificate (also those inside proposals), each proposal's Statement. The signature of a block by
// its first proposer is part of CheckBlock.
//
// A message is judged by the set of its own height. The caller knows the sets up to its open
// height, the one above its last final block. It checks messages up to that height against the sets
// of their heights. It leaves out a message one above it that does not verify under the open
// height's set, and all messages further above, and reports [Ahead]: no peer is to blame for them.
// It leaves out messages that are more than [RecentHeights] below, and reports [Behind].
type Received struct {
	// From is the peer at the other end of the link; it need not be a validator.
	From   chain.PublicKey
	Bundle chain.Bundle
	// Set is the hash of the set of the caller's open height. The caller looks the height up once,
	// after the bundle has come. The Core may have gone on since: it drops what was checked against
	// another set than that of the message's height.
	Set chain.Hash
}

// Ahead reports that a peer sent messages that nobody verified here: they are more than one height
// above the open one, or above it and the set of their height is not known yet. They may be lies.
// The Core asks for [CatchUp] if they are more than one above its own height: a node that is an era
// behind can verify nothing that the others say. Under the synchrony wait the messages of a
// validator count as dropped. If the same bundle has messages that verify, their Received comes
// first.
type Ahead struct {
	From chain.PublicKey
	// Lowest and Height are the lowest and the highest height of such messages.
	Lowest, Height uint64
}

// Behind reports that a peer sent a message of a height that the Core no longer holds. Nobody
// verified it. The peer may be stuck there, so the Core answers with the finalization.
type Behind struct {
	From chain.PublicKey
	// Height is the highest of such messages.
	Height uint64
}

// Pool reports the work that waits. It holds until the next Pool event.
type Pool struct {
	// Pending: the pool has a message that is not final; or the state_height of the last header is
	// below the last block with messages; or a change of the set waits to be ordered; or the last
	// block carries one. While it is false, this node does not wake a height by itself.
	Pending bool
	// Full: the pool has a full block, so that the leader does not wait for the minimum block
	// interval.
	Full bool
}

// LinkUp reports that a link to a peer has opened, or opened again, or that the peer asks for the
// messages that are sent then.
type LinkUp struct{ Peer chain.PublicKey }

// Health reports whether this node hears the others within Delta: its process runs without pauses,
// and it is linked to at least t validators of the height, itself included. Under the synchrony
// wait a Core assumes ill health until the first report of good health. Each pause, however short,
// is reported by two events. Without the wait Health has no effect.
type Health struct{ OK bool }

// TimerFired reports that a timer set by SetTimer has run out. The Core ignores one that it no
// longer needs.
type TimerFired struct{ Timer Timer }

// BlockFetched answers FetchBlock. The Core recomputes the hash and ignores a block that it does
// not need.
type BlockFetched struct{ Block *chain.Block }

// Verdict is the outcome of CheckBlock.
type Verdict uint8

const (
	// Valid means that the block follows the final chain in every rule, and every message of it is
	// durable on this node. If the check was of a fresh proposal, nothing forbids a vote for it
	// now.
	Valid Verdict = iota + 1
	// Withheld means that the block is valid, but this round's vote is withheld (clock, missing
	// commitment). Only for a fresh proposal. A later BlockChecked of the same round may lift it.
	Withheld
	// Invalid means that the header breaks a rule that every node judges alike, from the final
	// chain and the header alone.
	Invalid
	// Misfit means that the block as held is not the header's: its list of batches gives other
	// messages, or its signature is wrong. The header does not bind them, so that a liar may attach
	// others. The Core drops that body and requests the block again if it is certified.
	Misfit
)

// BlockChecked answers CheckBlock and repeats its Height, Round and Fresh. There is no answer while
// messages are missing.
type BlockChecked struct {
	Height uint64
	Round  uint32
	// Block is the block that the verdict is about. The caller may answer Valid with another block
	// of the same header, which it has found valid before.
	Block   *chain.Block
	Fresh   bool
	Verdict Verdict
}

// BlockBuilt answers RequestBlock with a new block on the final chain. The block has the height and
// the parent, this validator as proposer, and its signature. It is valid, and every message of it
// is durable on this node.
type BlockBuilt struct {
	Round uint32
	Block *chain.Block
}

func (Received) event()     {}
func (Ahead) event()        {}
func (Behind) event()       {}
func (Pool) event()         {}
func (LinkUp) event()       {}
func (TimerFired) event()   {}
func (Health) event()       {}
func (BlockFetched) event() {}
func (BlockChecked) event() {}
func (BlockBuilt) event()   {}
