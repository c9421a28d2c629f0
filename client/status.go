package client

import (
	"context"
	"fmt"

	"github.com/diseq/diseq/node/chain"
)

// Status is a node's view of itself and of the chain. The fields are described in the node's
// /openapi.yaml.
type Status struct {
	ChainID   string          `json:"chain_id"`
	Node      string          `json:"node"`
	PublicKey chain.PublicKey `json:"public_key"`
	// Role is "validator", "observer" or "rejoining".
	Role   string `json:"role"`
	Ready  bool   `json:"ready"`
	Reason string `json:"reason,omitempty"`
	// CaughtUp says that the node is not behind its peers, StorageLow that it has no room for
	// messages.
	CaughtUp   bool `json:"caught_up"`
	StorageLow bool `json:"storage_low"`
	// Height is the last final height. BlockTimestamp and FinalizedTimestamp are in Unix
	// milliseconds.
	Height             uint64     `json:"height"`
	BlockHash          chain.Hash `json:"block_hash"`
	BlockTimestamp     uint64     `json:"block_timestamp"`
	FinalizedTimestamp uint64     `json:"finalized_timestamp"`
	Round              uint32     `json:"round"`
	Leader             uint32     `json:"leader"`
	StateHeight        uint64     `json:"state_height"`
	Threshold          uint32     `json:"threshold"`
	Validators         int        `json:"validators"`
	// Headroom is the number of validators heard from lately minus the threshold.
	Headroom  int       `json:"headroom"`
	Tolerance Tolerance `json:"tolerance"`
	// Synchrony is nil on a chain without the synchrony wait.
	Synchrony *Synchrony `json:"synchrony,omitempty"`
	// Evidence is how many pieces of evidence of broken rules the node has; Client.Evidence
	// returns them.
	Evidence int      `json:"evidence"`
	Peers    []Peer   `json:"peers"`
	Pool     Pool     `json:"pool"`
	Versions Versions `json:"versions"`
}

// Synchrony is the state of a node's synchrony wait.
type Synchrony struct {
	// DeltaMS is Delta in milliseconds.
	DeltaMS uint32 `json:"delta_ms"`
	// Healthy says whether the node receives the messages of enough validators within Delta. While
	// it does not, it does not vote to finalize.
	Healthy bool `json:"healthy"`
	// Settled says whether it has been healthy for 2 Delta; until then it does not vote to
	// notarize.
	Settled bool `json:"settled"`
}

// Tolerance is how many validators may fail: crash with the chain still making blocks, be Byzantine
// with agreement on any network, and with the synchrony wait.
type Tolerance struct {
	Crash                  int `json:"crash"`
	Byzantine              int `json:"byzantine"`
	ByzantineWithSynchrony int `json:"byzantine_with_synchrony"`
}

// Peer is the link to one peer of the node.
type Peer struct {
	Name      string          `json:"name"`
	PublicKey chain.PublicKey `json:"public_key"`
	Connected bool            `json:"connected"`
	Height    uint64          `json:"height"`
}

// Pool is how full the pool of pending messages is.
type Pool struct {
	Messages int   `json:"messages"`
	Bytes    int64 `json:"bytes"`
	MaxBytes int64 `json:"max_bytes"`
}

// Versions names what runs.
type Versions struct {
	Node     string `json:"node"`
	Protocol uint32 `json:"protocol"`
	Go       string `json:"go"`
}

// Validators is the validator set in force at a height.
type Validators struct {
	Height           uint64      `json:"height"`
	Threshold        uint32      `json:"threshold"`
	SynchronyDeltaMS uint32      `json:"synchrony_delta_ms"`
	ValidatorsHash   chain.Hash  `json:"validators_hash"`
	Tolerance        Tolerance   `json:"tolerance"`
	Validators       []Validator `json:"validators"`
}

// Validator is one member of a set, with the reveals of its beacon epochs counted.
type Validator struct {
	Index         uint32          `json:"index"`
	Name          string          `json:"name"`
	PublicKey     chain.PublicKey `json:"public_key"`
	VRFKey        chain.VRFKey    `json:"vrf_key"`
	RevealsMade   uint64          `json:"reveals_made"`
	RevealsMissed uint64          `json:"reveals_missed"`
}

// Status returns the node's view of itself and of the chain.
func (c *Client) Status(ctx context.Context) (*Status, error) {
	out := &Status{}
	if err := c.do(ctx, get("/v1/status", out)); err != nil {
		return nil, err
	}
	return out, nil
}

// Validators returns the set in force at a height.
func (c *Client) Validators(ctx context.Context, height uint64) (*Validators, error) {
	out := &Validators{}
	if err := c.do(ctx, get(fmt.Sprintf("/v1/validators?height=%d", height), out)); err != nil {
		return nil, err
	}
	return out, nil
}

// Evidence returns the equivocation evidence that the node has, not verified.
func (c *Client) Evidence(ctx context.Context) ([]chain.Evidence, error) {
	var out struct {
		Evidence []chain.Evidence `json:"evidence"`
	}
	if err := c.do(ctx, get("/v1/evidence", &out)); err != nil {
		return nil, err
	}
	return out.Evidence, nil
}
