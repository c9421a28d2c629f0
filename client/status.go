package client

import (
	"context"
	"fmt"
	"strconv"

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
	// Generation, Threshold and Validators, its size, are of the set in force at height Height+1.
	Generation uint32 `json:"generation"`
	Threshold  uint32 `json:"threshold"`
	Validators int    `json:"validators"`
	// Headroom is the number of validators heard from lately minus the threshold.
	Headroom  int       `json:"headroom"`
	Tolerance Tolerance `json:"tolerance"`
	// Synchrony is nil on a chain without the synchrony wait.
	Synchrony *Synchrony `json:"synchrony,omitempty"`
	// VoteStore says that the node has a vote store, so that it can become a validator.
	// VotesFromHeight is the first height at which it may vote, in a set that it is in; nil while
	// it may not vote at all.
	VoteStore       bool    `json:"vote_store"`
	VotesFromHeight *uint64 `json:"votes_from_height,omitempty"`
	// Target is the next set that the node's operator declared; nil if none is. Endorsements are
	// the newest from each member of the set in force. Checkpoint is that of the node's peers file;
	// nil if there is none.
	Target       *Target           `json:"target"`
	Endorsements []Endorsement     `json:"endorsements"`
	Checkpoint   *chain.Checkpoint `json:"checkpoint"`
	// Evidence is how many pieces of evidence of broken rules the node has; Client.Evidence
	// returns them.
	Evidence int      `json:"evidence"`
	Peers    []Peer   `json:"peers"`
	Pool     Pool     `json:"pool"`
	Versions Versions `json:"versions"`
	// Access is the state of the node's access file and certificate; nil without either.
	Access *AccessStatus `json:"access,omitempty"`
}

// Short reports whether the node told no more than chain, height, readiness and the size of the
// set, because the client lacks the right Observe there. The other fields are zero then.
func (s *Status) Short() bool { return s.Node == "" && s.Role == "" }

// AccessStatus is how a node reads the files that say who may use it.
type AccessStatus struct {
	// SHA256 is that of the access file in force, in hex; empty without one. Problem says why a
	// newer one is not in force.
	SHA256  string `json:"sha256"`
	Problem string `json:"problem"`
	// Clients is how many clients the file names. Problems are those of the files that it names.
	Clients  int      `json:"clients"`
	Problems []string `json:"problems"`
	// Certificate is nil without TLS.
	Certificate *CertificateStatus `json:"certificate,omitempty"`
}

// CertificateStatus is the state of a node's certificate.
type CertificateStatus struct {
	// NotBefore and NotAfter bound its life, in Unix milliseconds.
	NotBefore int64 `json:"not_before"`
	NotAfter  int64 `json:"not_after"`
	// Problem says why newer files are not in force, or that it has expired.
	Problem string `json:"problem"`
}

// Target is how far a declared target is from being ordered.
type Target struct {
	// Generation is that of the next set, Hash the one that endorsements name.
	Generation uint32     `json:"generation"`
	Hash       chain.Hash `json:"hash"`
	// Problem says why the target is ignored; empty if it is not.
	Problem string `json:"problem"`
	// Endorsed says that the node has endorsed it, Endorsements how many members of the set in
	// force have, and Needed how many of them it takes.
	Endorsed     bool `json:"endorsed"`
	Endorsements int  `json:"endorsements"`
	Needed       int  `json:"needed"`
	// Linked is how many of the next set's Validators the node is linked to and that have caught
	// up, itself included. It takes LinkedNeeded.
	Linked       int `json:"linked"`
	LinkedNeeded int `json:"linked_needed"`
	Validators   int `json:"validators"`
}

// Endorsement is what a member of the set in force endorsed last.
type Endorsement struct {
	Name       string          `json:"name"`
	PublicKey  chain.PublicKey `json:"public_key"`
	Generation uint32          `json:"generation"`
	Hash       chain.Hash      `json:"hash"`
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
	// Useless counts consensus messages of the peer that the node dropped unread, because they were
	// of heights too far below the node's, or above it.
	Useless uint64 `json:"useless"`
}

// Pool is how full the pool of pending messages is.
type Pool struct {
	Messages int   `json:"messages"`
	Bytes    int64 `json:"bytes"`
	MaxBytes int64 `json:"max_bytes"`
	// HeldMessages is nil unless the node knows that it has left the validator set. Then it is the
	// number of messages, of any author, that its pool held at that moment and that are not final
	// yet: its volume is needed until it is 0.
	HeldMessages *int `json:"held_messages"`
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
	Generation       uint32      `json:"generation"`
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

// Status returns the node's view of itself and of the chain; see [Status.Short].
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

// NextValidators returns the set that decides the next height.
func (c *Client) NextValidators(ctx context.Context) (*Validators, error) {
	out := &Validators{}
	if err := c.do(ctx, get("/v1/validators", out)); err != nil {
		return nil, err
	}
	return out, nil
}

type changesPage struct {
	Changes []chain.FinalChange `json:"changes"`
	Next    *uint32             `json:"next"`
}

// Changes returns at most limit changes of the validator set, from the one to generation from on,
// not verified. next is the generation at which the next page starts, 0 if there is none yet.
// [Follower] reads and verifies all of them.
func (c *Client) Changes(ctx context.Context, from uint32, limit int) (changes []chain.FinalChange, next uint32, err error) {
	var page changesPage
	if err := c.do(ctx, get(fmt.Sprintf("/v1/changes?from=%d&limit=%d", from, limit), &page)); err != nil {
		return nil, 0, err
	}
	if page.Next != nil {
		next = *page.Next
	}
	return page.Changes, next, nil
}

// Evidence returns the equivocation evidence that the node has, not verified. Each piece has the
// changes of the validator set since genesis, up to its height.
func (c *Client) Evidence(ctx context.Context) ([]chain.EvidenceDocument, error) {
	return c.EvidenceAbove(ctx, 0)
}

// EvidenceAbove is Evidence for a reader that has the validator set of a generation: the changes up
// to that set are left out.
func (c *Client) EvidenceAbove(ctx context.Context, generation uint32) ([]chain.EvidenceDocument, error) {
	var out struct {
		Evidence []chain.EvidenceDocument `json:"evidence"`
	}
	if err := c.do(ctx, get("/v1/evidence"+above(generation), &out)); err != nil {
		return nil, err
	}
	return out.Evidence, nil
}

// above is the query for what leaves out the changes up to a generation.
func above(generation uint32) string {
	if generation == 0 {
		return ""
	}
	return "?from=" + strconv.FormatUint(uint64(generation), 10)
}
