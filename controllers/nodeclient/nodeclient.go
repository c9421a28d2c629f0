// Package nodeclient asks nodes for their status, on the operations listener of their pods.
//
// It is the only way from the operator to a node. It returns an answer after three checks: the
// answer came in time, its size is bounded, and it names the chain and the key of the validator
// that was asked. The last check matters because the address of a deleted pod may belong to another
// pod when the request arrives. The package does not verify certificates: a caller must expect a
// validator that lies about itself, as consensus does.
package nodeclient

import (
	"context"
	"fmt"
	"time"

	"github.com/diseq/diseq/node/chain"
)

// OperationsPort is where a node's pod serves its operations listener.
const OperationsPort = 9090

// Roles of a node, in its answers.
const (
	// RoleValidator votes.
	RoleValidator = "validator"
	// RoleObserver follows the chain and is not in the set.
	RoleObserver = "observer"
	// RoleRejoining is in the set, lost its vote store and does not vote until that is safe.
	RoleRejoining = "rejoining"
)

// Node is the node to ask, and the identity that must answer.
type Node struct {
	// Name of the validator. A [Fake] finds its answer by it.
	Name string
	// Address of the operations listener, host:port.
	Address string
	// PublicKey is the validator's Ed25519 key.
	PublicKey chain.PublicKey
	// ChainID of the network.
	ChainID string
}

// Status is a node's report of itself, in /v1/status.
type Status struct {
	ChainID   string          `json:"chain_id"`
	Node      string          `json:"node"`
	PublicKey chain.PublicKey `json:"public_key"`
	// Role is RoleValidator, RoleObserver or RoleRejoining.
	Role string `json:"role"`
	// Ready says that the node has caught up with its peers and has room for messages, by its own
	// judgement; Reason says why not.
	Ready  bool   `json:"ready"`
	Reason string `json:"reason"`
	// CaughtUp says that the node is not behind its peers; a validator takes part in deciding the
	// next block. StorageLow says that it has no room for messages: then it is not ready, and votes
	// all the same if it is caught up.
	CaughtUp   bool `json:"caught_up"`
	StorageLow bool `json:"storage_low"`
	// Height is the last final height.
	Height uint64 `json:"height"`
	// FinalizedTimestamp is when that block became final on the node, in Unix milliseconds; 0 if
	// that was before its start.
	FinalizedTimestamp uint64 `json:"finalized_timestamp"`
	// Threshold and Validators are the numbers of the set in force.
	Threshold  int `json:"threshold"`
	Validators int `json:"validators"`
	// Synchrony is nil on a chain without the synchrony wait.
	Synchrony *Synchrony `json:"synchrony"`
	// Evidence is the number of pieces of evidence of broken voting rules that the node holds, by
	// its own word.
	Evidence uint64 `json:"evidence"`
	// Generation is that of the set in force at the next height, as far as the node follows the
	// chain.
	Generation uint32 `json:"generation"`
	// VoteStore says that the node has its vote store. VotesFromHeight is the height from which it
	// may vote; nil while it may not vote at all.
	VoteStore       bool    `json:"vote_store"`
	VotesFromHeight *uint64 `json:"votes_from_height"`
	// Target is the set that the node's peers file declares; nil if it declares none.
	Target *Target `json:"target"`
	// Endorsements are the newest endorsements that the node holds, by members of the set.
	Endorsements []Endorsement `json:"endorsements"`
	// Checkpoint is the one of the node's peers file; nil if that has none.
	Checkpoint *chain.Checkpoint `json:"checkpoint"`
	// Pool is the node's pool of messages that are not final.
	Pool Pool `json:"pool"`
	// Access is how the node admits clients; nil if it admits everybody, without TLS.
	Access *Access `json:"access"`
	// Versions are the versions of the node's program and protocol.
	Versions Versions `json:"versions"`
}

// Access is how a node admits clients.
type Access struct {
	// SHA256 is the hash of the access file in force, in hex; empty if the node has none. Problem
	// says why a newer file is not in force; empty if there is none.
	SHA256  string `json:"sha256"`
	Problem string `json:"problem"`
	// Problems are the clients and issuers that the node refuses for now, and why.
	Problems []string `json:"problems"`
	// Certificate is that of the clients' listener; nil without TLS.
	Certificate *Certificate `json:"certificate"`
}

// Certificate is the certificate of a node, for clients.
type Certificate struct {
	// NotBefore and NotAfter are in Unix milliseconds.
	NotBefore int64 `json:"not_before"`
	NotAfter  int64 `json:"not_after"`
	// Problem says why a newer certificate is not in use; empty if there is none.
	Problem string `json:"problem"`
}

// Target is what a node reports of the target of its peers file.
type Target struct {
	// Generation is that of the set that the target asks for, Hash its hash.
	Generation uint32     `json:"generation"`
	Hash       chain.Hash `json:"hash"`
	// Problem says why the node ignores the target; empty if it does not.
	Problem string `json:"problem"`
	// Endorsed says that the node endorsed it. Endorsements are those that it holds for the target,
	// of the Needed ones.
	Endorsed     bool `json:"endorsed"`
	Endorsements int  `json:"endorsements"`
	Needed       int  `json:"needed"`
	// Linked is the number of members of the target that the node has a link to, itself included;
	// LinkedNeeded of them must be linked.
	Linked       int `json:"linked"`
	LinkedNeeded int `json:"linked_needed"`
	// Validators is the number of members of the target.
	Validators int `json:"validators"`
}

// Endorsement is the newest endorsement of a member that a node holds.
type Endorsement struct {
	Name       string          `json:"name"`
	PublicKey  chain.PublicKey `json:"public_key"`
	Generation uint32          `json:"generation"`
	Hash       chain.Hash      `json:"hash"`
}

// Pool is how full a node's pool is.
type Pool struct {
	// HeldMessages is nil unless the node knows that it has left the set. Then it is the number of
	// messages that its pool held at that moment and that are not final yet.
	HeldMessages *uint64 `json:"held_messages"`
}

// Synchrony is the state of a node's synchrony wait.
type Synchrony struct {
	// DeltaMS is Delta in milliseconds.
	DeltaMS uint32 `json:"delta_ms"`
	// Healthy says that the node hears enough validators within Delta; Settled says that it has for
	// so long that it votes. While either is false, the node takes no part in making blocks final.
	Healthy bool `json:"healthy"`
	Settled bool `json:"settled"`
}

// Delta is the Delta of the node's synchrony wait, 0 without the wait.
func (s *Status) Delta() time.Duration {
	if s.Synchrony == nil {
		return 0
	}
	return time.Duration(s.Synchrony.DeltaMS) * time.Millisecond
}

// TakesPart reports whether the node takes part in deciding the next block: it is ready, or only
// room for messages is missing.
func (s *Status) TakesPart() bool { return s.Ready || s.StorageLow && s.CaughtUp }

// Versions are the versions of a node's program and protocol.
type Versions struct {
	Node     string `json:"node"`
	Protocol uint32 `json:"protocol"`
}

// FinalizedTime is when the node's last block became final; zero if the node does not know.
func (s *Status) FinalizedTime() time.Time {
	// the end of the year 9999, the last year that metav1.Time can write
	const farthest = 253402300799999
	if s.FinalizedTimestamp == 0 || s.FinalizedTimestamp > farthest {
		return time.Time{}
	}
	return time.UnixMilli(int64(s.FinalizedTimestamp)).UTC()
}

// Set is the validator set in force, in /v1/validators.
type Set struct {
	// Height at which it is in force: the next one to become final.
	Height     uint64      `json:"height"`
	Threshold  int         `json:"threshold"`
	Validators []Validator `json:"validators"`
}

// Validator is a member of a Set.
type Validator struct {
	Name      string          `json:"name"`
	PublicKey chain.PublicKey `json:"public_key"`
}

// Change is a change of the validator set, with the final header that carries it. The client does
// not verify it.
type Change struct {
	Header       chain.Header             `json:"header"`
	Certificate  chain.ReceiptCertificate `json:"certificate"`
	Next         chain.NextSet            `json:"next"`
	Endorsements []chain.Endorsement      `json:"endorsements"`
}

// MaxChanges is the largest number of changes in one answer: with sets of 100 validators and the
// longest names they have about 600 KiB.
const MaxChanges = 10

// Client asks one node. Errors name the address and the fault of the answer.
type Client interface {
	// Status returns the node's report of itself. The error is an [IdentityError] if another node
	// answered.
	Status(ctx context.Context, node Node) (*Status, error)
	// Validators returns the set that is in force according to the node.
	Validators(ctx context.Context, node Node) (*Set, error)
	// Changes returns the changes of the set from a generation on, in rising order: at most
	// MaxChanges of them. They have consecutive generations and are otherwise not verified.
	Changes(ctx context.Context, node Node, from uint32) ([]Change, error)
	// Genesis returns the genesis document that the node serves to clients: the address is that of
	// its public listener. The document is valid, and may be of any chain.
	Genesis(ctx context.Context, node Node) (*chain.Genesis, error)
}

// IdentityError says that the answer came from another node than the one that was asked.
type IdentityError struct {
	Node     Node
	ChainID  string
	Answered chain.PublicKey
}

func (e *IdentityError) Error() string {
	if e.ChainID != e.Node.ChainID {
		return fmt.Sprintf("%s answers for chain %q, want %q", e.Node.Address, e.ChainID, e.Node.ChainID)
	}
	return fmt.Sprintf("%s answers with public key %s, want %s", e.Node.Address, e.Answered, e.Node.PublicKey)
}

// verify checks that the answer came from the node that was asked.
func (s *Status) verify(node Node) error {
	if s.ChainID != node.ChainID || s.PublicKey != node.PublicKey {
		return &IdentityError{Node: node, ChainID: s.ChainID, Answered: s.PublicKey}
	}
	return nil
}
