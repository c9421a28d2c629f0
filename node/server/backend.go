package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/diseq/diseq/node/access"
	"github.com/diseq/diseq/node/chain"
)

// Backend is the node behind the handlers. Its methods are called concurrently. Their results are
// shared: neither side may change them afterwards. An error names the thing that was asked for.
// Clients are shown the errors below as they are. Any other is answered with 500 and a generic
// text, and logged.
type Backend interface {
	// Genesis returns the document that the chain started from.
	Genesis() *chain.Genesis

	// Submit accepts all of messages or none. When it returns without error they are durable and
	// result i is about messages[i]; for a known message it is the message's state.
	// The backend may keep the messages: their data is never written to again. They are neither
	// empty nor longer than max_message_bytes. As soon as the messages take no memory but the
	// backend's own, which is bounded, it calls kept: what it waits for then costs nothing. Errors:
	// [FullError], [RequestError], [ErrStorageLow], [ErrUnavailable].
	Submit(ctx context.Context, messages []chain.Message, kept func()) ([]SubmitResult, error)

	// Wait returns once every id is final, or ctx ends. Then it returns ctx's error, and which of
	// them are final all the same. It waits for an unknown id as for a pending one.
	Wait(ctx context.Context, ids []chain.Hash) ([]SubmitResult, error)

	// Message returns the state of a message. Error: [ErrNotFound] if this node has never seen it.
	Message(ctx context.Context, id chain.Hash) (*MessageStatus, error)

	// Receipts returns one receipt for each id, in their order, nil for a message that is not
	// final. A receipt has the changes to generations above from only. It keeps no block in memory.
	Receipts(ctx context.Context, ids []chain.Hash, from uint32) ([]*chain.Receipt, error)

	// Block returns the final block at height; height 0 is genesis, without messages and with a
	// zero certificate. Error: [ErrNotFound] above the last final height.
	Block(ctx context.Context, height uint64) (*chain.FinalBlock, error)

	// Messages returns the messages of the final block at height, and their ids. Errors as for
	// Block.
	Messages(ctx context.Context, height uint64) ([]chain.Message, []chain.Hash, error)

	// Head returns the final block at height without its messages, and its certificate, which may
	// be stronger than when the block was first final. Errors as for Block.
	Head(ctx context.Context, height uint64) (*chain.Block, *chain.Certificate, error)

	// FinalHeight returns the last final height and a channel that is closed once a higher one is
	// final (and readable with Block). It costs no more than a lock: every stream calls it once a
	// block.
	FinalHeight() (height uint64, next <-chan struct{})

	// Pending returns at most limit pending messages whose data takes at most maxBytes in all,
	// oldest first.
	Pending(ctx context.Context, limit, maxBytes int) ([]chain.Message, error)

	// Commitments returns the VRF commitments that this node has for the current and the next
	// beacon epoch.
	Commitments() []chain.Commitment

	// StateRoot returns the newest root of the trie that is computed.
	StateRoot() StateRoot

	// Prove returns the trie proof about id under the root that covers height, the newest computed
	// one if height is nil. Error: [ErrNotFound] if no root of that height is kept.
	Prove(ctx context.Context, id chain.Hash, height *uint64) (*Proof, error)

	// Status returns the node's view of itself and of the chain.
	Status() Status

	// Validators returns the set in force at height, with the reveals counted up to the last final
	// height. Error: [ErrNotFound] if the set of that height is not decided yet.
	Validators(ctx context.Context, height uint64) (*ValidatorsStatus, error)

	// Changes returns at most limit changes of the validator set that are final, from the one to
	// generation from on, with the finalizations of their blocks. There are none above the newest.
	Changes(ctx context.Context, from uint32, limit int) ([]chain.FinalChange, error)

	// Evidence returns at most limit pieces of the equivocation evidence on this node, oldest
	// first. Each has the changes up to its height, to generations above from only.
	Evidence(ctx context.Context, limit int, from uint32) ([]*chain.EvidenceDocument, error)

	// Ready returns nil if the node has caught up and is able to serve, otherwise the reason why
	// not. It never depends on a quorum being up: a probe that failed then would take the whole
	// network out of service at once.
	Ready() error
}

// SubmitResult is the answer to one submitted message.
type SubmitResult struct {
	ID chain.Hash
	// Final tells a message that was final before from one that is pending now.
	Final bool
}

// MessageStatus is the state of a message.
type MessageStatus struct {
	ID      chain.Hash
	Message chain.Message
	// Final is false while the message is pending; Height and Index are zero then.
	Final  bool
	Height uint64
	Index  uint32
}

// StateRoot is the root node of the trie after the messages up to Height. Left and Right are nil
// where there is no child, and Hash is nil for the empty trie.
type StateRoot struct {
	Height            uint64
	Hash, Left, Right *chain.Hash
}

// Proof is a trie proof of inclusion or of absence.
type Proof struct {
	// Height is the height that the root covers, Root the root (zero for the empty trie).
	Height uint64
	Root   chain.Hash
	// Included tells a proof of inclusion from one of absence.
	Included bool
	// Proof is the proof as /v1/proofs shows it.
	Proof json.Marshaler
	// Legacy is the proof of inclusion in the form of the proof of concept; nil if Included is
	// false.
	Legacy json.Marshaler
	// Header is a final header whose state_height and state_root are Height and Root, Certificate
	// its finalization; both nil while there is none.
	Header      *chain.Header
	Certificate *chain.Certificate
}

// Status is a node's view of itself and of the chain.
type Status struct {
	ChainID string `json:"chain_id"`
	// Node is the node's name.
	Node      string          `json:"node"`
	PublicKey chain.PublicKey `json:"public_key"`
	// Role is what the node is at height Height+1: "validator", "observer" or "rejoining".
	Role string `json:"role"`
	// Ready and Reason are the answer of /readyz.
	Ready  bool   `json:"ready"`
	Reason string `json:"reason,omitempty"`
	// CaughtUp says that the node is not behind its peers, so that it takes part in deciding the
	// next block, if it is a validator.
	CaughtUp bool `json:"caught_up"`
	// StorageLow says that the node has no room to store messages: it refuses submissions.
	StorageLow bool `json:"storage_low"`
	// Height is the last final height, BlockHash its block, BlockTimestamp that block's time in
	// Unix milliseconds and FinalizedTimestamp when this node saw it final, in Unix milliseconds
	// (0: before its start).
	Height             uint64     `json:"height"`
	BlockHash          chain.Hash `json:"block_hash"`
	BlockTimestamp     uint64     `json:"block_timestamp"`
	FinalizedTimestamp uint64     `json:"finalized_timestamp"`
	// Round is the round of height Height+1 that the node is in, Leader that round's leader.
	Round  uint32 `json:"round"`
	Leader uint32 `json:"leader"`
	// StateHeight is the newest height whose trie root is computed.
	StateHeight uint64 `json:"state_height"`
	// Generation, Threshold and Validators (its size) are those of the set that decides height
	// Height+1.
	Generation uint32 `json:"generation"`
	Threshold  uint32 `json:"threshold"`
	Validators int    `json:"validators"`
	// VoteStore says that the node has a vote store. VotesFromHeight is the first height that it
	// may vote at, as far as its vote store goes; nil while it may not vote at all.
	VoteStore       bool    `json:"vote_store"`
	VotesFromHeight *uint64 `json:"votes_from_height,omitempty"`
	// Target is the set that the peers file declares to be the next one, nil if it declares none.
	// Endorsements are the newest of each member of the set in force.
	Target       *TargetStatus       `json:"target"`
	Endorsements []EndorsementStatus `json:"endorsements"`
	// Checkpoint is that of the peers file, nil if it has none.
	Checkpoint *chain.Checkpoint `json:"checkpoint"`
	// Headroom is the number of validators heard from lately, this node included, minus the
	// threshold.
	Headroom  int       `json:"headroom"`
	Tolerance Tolerance `json:"tolerance"`
	// Synchrony is nil on a chain without the synchrony wait.
	Synchrony *Synchrony `json:"synchrony,omitempty"`
	// Evidence is how many pieces of evidence of broken rules the node has.
	Evidence int          `json:"evidence"`
	Peers    []PeerStatus `json:"peers"`
	Pool     PoolStatus   `json:"pool"`
	Versions Versions     `json:"versions"`
	// Access is the state of the access file and of the certificate, as the server knows it; nil
	// without either.
	Access *access.Status `json:"access,omitempty"`
}

// TargetStatus is the state of a declared target. Where Problem is not empty, the rest may be zero.
type TargetStatus struct {
	// Generation is that of the next set, Hash the hash that endorsements of it sign.
	Generation uint32     `json:"generation"`
	Hash       chain.Hash `json:"hash"`
	// Problem says why the node ignores the target; empty if it does not.
	Problem string `json:"problem"`
	// Endorsed says that this node is a member of the set in force and has endorsed the target.
	Endorsed bool `json:"endorsed"`
	// Endorsements is how many members of the set in force have endorsed it, as far as this node
	// knows; Needed is how many a change takes.
	Endorsements int `json:"endorsements"`
	Needed       int `json:"needed"`
	// Linked is how many members of the next set this node has links to, itself included, and that
	// have caught up; LinkedNeeded is how many it takes before this node votes for the change.
	Linked       int `json:"linked"`
	LinkedNeeded int `json:"linked_needed"`
	// Validators is the size of the next set.
	Validators int `json:"validators"`
}

// EndorsementStatus is the newest endorsement from a member of the set in force.
type EndorsementStatus struct {
	Name      string          `json:"name"`
	PublicKey chain.PublicKey `json:"public_key"`
	// Generation is that of the set endorsed, Hash its hash.
	Generation uint32     `json:"generation"`
	Hash       chain.Hash `json:"hash"`
}

// Synchrony is the state of the synchrony wait.
type Synchrony struct {
	DeltaMS uint32 `json:"delta_ms"`
	// Healthy says whether this node receives the messages of enough validators within Delta. While
	// it does not, it does not vote to finalize.
	Healthy bool `json:"healthy"`
	// Settled says whether it has been healthy for 2 Delta, and whether its peers have sent their
	// earlier messages again. Until then it does not vote to notarize.
	Settled bool `json:"settled"`
}

// Tolerance is a row of the table of consensus.md, from consensus.Tolerance(n, t).
type Tolerance struct {
	// Crash is how many validators may be down with the chain still making blocks: n - t.
	Crash int `json:"crash"`
	// Byzantine is the largest b with agreement on any network: 2t - n - 1.
	Byzantine int `json:"byzantine"`
	// ByzantineWithSynchrony is the largest b with agreement while messages arrive within Delta, or
	// for readers who insist on certificates of all n: t - 1.
	ByzantineWithSynchrony int `json:"byzantine_with_synchrony"`
}

// PeerStatus is the link to one peer.
type PeerStatus struct {
	Name      string          `json:"name"`
	PublicKey chain.PublicKey `json:"public_key"`
	Connected bool            `json:"connected"`
	// Height is the last final height that the peer reported.
	Height uint64 `json:"height"`
	// Useless counts consensus messages of the peer that the node dropped unread since its start:
	// they were of heights too far below the node's, or above it.
	Useless uint64 `json:"useless"`
}

// PoolStatus is how full the pool of pending messages is.
type PoolStatus struct {
	Messages int   `json:"messages"`
	Bytes    int64 `json:"bytes"`
	MaxBytes int64 `json:"max_bytes"`
	// HeldMessages is nil unless the node knows that it has left the validator set. Then it is the
	// number of messages that its pool held at that moment and that are not final yet.
	HeldMessages *int `json:"held_messages"`
}

// Versions names what runs.
type Versions struct {
	// Node is the program's version, Protocol that of the peer protocol and of every encoding.
	Node     string `json:"node"`
	Protocol uint32 `json:"protocol"`
	Go       string `json:"go"`
}

// ValidatorsStatus is the validator set in force at a height.
type ValidatorsStatus struct {
	Height           uint64            `json:"height"`
	Generation       uint32            `json:"generation"`
	Threshold        uint32            `json:"threshold"`
	SynchronyDeltaMS uint32            `json:"synchrony_delta_ms"`
	ValidatorsHash   chain.Hash        `json:"validators_hash"`
	Tolerance        Tolerance         `json:"tolerance"`
	Validators       []ValidatorStatus `json:"validators"`
}

// ValidatorStatus is one validator of a set.
type ValidatorStatus struct {
	// Index is the validator's place in the set, by which votes name it.
	Index     uint32          `json:"index"`
	Name      string          `json:"name"`
	PublicKey chain.PublicKey `json:"public_key"`
	VRFKey    chain.VRFKey    `json:"vrf_key"`
	// RevealsMade and RevealsMissed count the beacon epochs for which it was the committing
	// validator.
	RevealsMade   uint64 `json:"reveals_made"`
	RevealsMissed uint64 `json:"reveals_missed"`
}

// Errors of a Backend. They may be wrapped; the text is shown to the client.
var (
	// ErrNotFound says that there is no such message, block, root or set. It is answered with 404.
	ErrNotFound = errors.New("not found")
	// ErrStorageLow says that the disk is too full to accept messages. It is answered with 503.
	ErrStorageLow = errors.New("storage is low")
	// ErrUnavailable says that the node cannot serve the request now: it is stopping, or has not
	// caught up. It is answered with 503.
	ErrUnavailable = errors.New("unavailable")
)

// FullError says that the pool has no room for the request now. It is answered with 429.
type FullError struct {
	// RetryAfter is when a retry makes sense; it is rounded up to whole seconds, at least one.
	RetryAfter time.Duration
}

// Error implements error.
func (e *FullError) Error() string {
	return fmt.Sprintf("the pool of pending messages is full: try again in %v", e.RetryAfter)
}

// RequestError says that a request can never be accepted as it is: no retry will change that.
type RequestError struct {
	// TooLarge is set for a request that is answered with 413; any other is answered with 400.
	TooLarge bool
	// Reason is shown to the client.
	Reason string
}

// Error implements error.
func (e *RequestError) Error() string { return e.Reason }
