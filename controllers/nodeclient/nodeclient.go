// Package nodeclient asks nodes how they are, on the operations listener of their pods.
//
// It is the only way from the operator to a node. An answer is believed as far as its form goes,
// after three checks: it came within a time, it is of bounded size, and it names the chain and the
// key of the validator that was asked. The last one matters because the address of a deleted pod
// may be another pod's by the time the question arrives. The package does not verify certificates:
// whoever decides on an answer has to live with a validator that lies about itself, as consensus
// does.
package nodeclient

import (
	"context"
	"fmt"
	"time"

	"github.com/diseq/diseq/node/chain"
)

// OperationsPort is where a node's pod serves its operations listener.
const OperationsPort = 9090

// Roles of a node, as it tells them.
const (
	// RoleValidator votes.
	RoleValidator = "validator"
	// RoleObserver follows the chain and is not in the set.
	RoleObserver = "observer"
	// RoleRejoining is in the set, lost its vote store and does not vote until that is safe.
	RoleRejoining = "rejoining"
)

// Node is whom to ask, and who has to answer.
type Node struct {
	// Name of the validator. A [Fake] goes by it.
	Name string
	// Address of the operations listener, host:port.
	Address string
	// PublicKey is the validator's Ed25519 key.
	PublicKey chain.PublicKey
	// ChainID of the network.
	ChainID string
}

// Status is what a node tells of itself, in /v1/status.
type Status struct {
	ChainID   string          `json:"chain_id"`
	Node      string          `json:"node"`
	PublicKey chain.PublicKey `json:"public_key"`
	// Role is RoleValidator, RoleObserver or RoleRejoining.
	Role string `json:"role"`
	// Ready says that the node has caught up with its peers, by its own judgement; Reason why it
	// has not.
	Ready  bool   `json:"ready"`
	Reason string `json:"reason"`
	// Height is the last final height.
	Height uint64 `json:"height"`
	// FinalizedTimestamp is when the node saw that block final, in Unix milliseconds; 0 if that was
	// before its start.
	FinalizedTimestamp uint64 `json:"finalized_timestamp"`
	// Threshold and Validators are those of the set in force.
	Threshold  int `json:"threshold"`
	Validators int `json:"validators"`
	// Synchrony is nil on a chain without the synchrony wait.
	Synchrony *Synchrony `json:"synchrony"`
	// Evidence is how many pieces of evidence of broken rules the node says that it holds.
	Evidence uint64 `json:"evidence"`
	// Versions names what runs.
	Versions Versions `json:"versions"`
}

// Synchrony is the state of a node's synchrony wait.
type Synchrony struct {
	// DeltaMS is Delta in milliseconds.
	DeltaMS uint32 `json:"delta_ms"`
	// Healthy says that the node hears within Delta what enough validators say; Settled, that it
	// has for so long that it votes. While one of them is not so it takes no part in making blocks
	// final.
	Healthy bool `json:"healthy"`
	Settled bool `json:"settled"`
}

// Delta is that of the synchrony wait that the node runs with, 0 if it does without.
func (s *Status) Delta() time.Duration {
	if s.Synchrony == nil {
		return 0
	}
	return time.Duration(s.Synchrony.DeltaMS) * time.Millisecond
}

// Versions names what a node runs.
type Versions struct {
	Node     string `json:"node"`
	Protocol uint32 `json:"protocol"`
}

// FinalizedTime is when the node saw its last block final; zero if it does not know.
func (s *Status) FinalizedTime() time.Time {
	// the end of the year 9999, the last that metav1.Time can write
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

// Client asks one node. Errors name the address and what was wrong with the answer.
type Client interface {
	// Status returns what the node tells of itself. The error is an [IdentityError] when another
	// node answered.
	Status(ctx context.Context, node Node) (*Status, error)
	// Validators returns the set that is in force according to the node.
	Validators(ctx context.Context, node Node) (*Set, error)
}

// IdentityError says that another node than the one that was asked answered.
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

// verify checks that the answer is the node's.
func (s *Status) verify(node Node) error {
	if s.ChainID != node.ChainID || s.PublicKey != node.PublicKey {
		return &IdentityError{Node: node, ChainID: s.ChainID, Answered: s.PublicKey}
	}
	return nil
}
