package chain

import (
	"crypto/sha256"
	"fmt"
	"io"
	"regexp"

	"github.com/diseq/diseq/internal/document"
)

// ProtocolVersion is the version of the peer protocol and of every encoding in this package.
const ProtocolVersion = 2

// MaxStateLag is how far a header's state_height may be behind its height.
const MaxStateLag = 64

// Parameters are the chain's constants: every node has the same, by the genesis hash.
type Parameters struct {
	// MinBlockIntervalMS is how long the leader of round 0 waits after the block below for a block
	// to fill, in milliseconds: docs/consensus.md, the interval.
	MinBlockIntervalMS uint32 `json:"min_block_interval_ms"`
	// BeaconInterval is the length of a beacon epoch in heights.
	BeaconInterval uint32 `json:"beacon_interval"`
	// MaxMessageBytes is the largest message, in bytes of data.
	MaxMessageBytes uint32 `json:"max_message_bytes"`
	// MaxBlockBytes bounds the encoded messages of a block.
	MaxBlockBytes uint32 `json:"max_block_bytes"`
	// RoundTimeoutMS is T_round of round 0 in milliseconds; each later round takes 1.5 times as
	// long ...
	RoundTimeoutMS uint32 `json:"round_timeout_ms"`
	// MaxRoundTimeoutMS ... up to this.
	MaxRoundTimeoutMS uint32 `json:"max_round_timeout_ms"`
}

// DefaultParameters returns the defaults of consensus.md: 20 ms, 128 heights, 64 KiB, 4 MiB, 500
// ms, 10 s.
func DefaultParameters() Parameters {
	return Parameters{
		MinBlockIntervalMS: 20, BeaconInterval: 128, MaxMessageBytes: 64 << 10, MaxBlockBytes: 4 << 20,
		RoundTimeoutMS: 500, MaxRoundTimeoutMS: 10_000,
	}
}

// Genesis is the document that a chain starts from. With it anyone can verify every receipt.
type Genesis struct {
	Version uint32 `json:"version"`
	ChainID string `json:"chain_id"`
	// TimeMS is the time of block 0 in Unix milliseconds.
	TimeMS    uint64 `json:"time_ms"`
	Threshold uint32 `json:"threshold"`
	// SynchronyDeltaMS is Delta of the synchrony wait, 10 to 60,000 ms; 0 is without.
	SynchronyDeltaMS uint32           `json:"synchrony_delta_ms"`
	Validators       []NamedValidator `json:"validators"`
	Parameters       Parameters       `json:"parameters"`
}

var chainIDForm = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]{0,62}[a-z0-9])?$`)

const maxNameBytes = 63

// Set returns the first validator set.
func (g *Genesis) Set() *ValidatorSet { return g.First().Set() }

// First returns the first validator set, with the names of its members. Its generation is 0.
func (g *Genesis) First() *NextSet {
	return &NextSet{Threshold: g.Threshold, SynchronyDeltaMS: g.SynchronyDeltaMS, Validators: g.Validators}
}

// NameOf returns the name of a validator of the first set, or the start of the key of anyone else.
func (g *Genesis) NameOf(key PublicKey) string { return g.First().NameOf(key) }

// Validate checks every field; the error names the one that is wrong and what is allowed.
func (g *Genesis) Validate() error {
	if g.Version != 1 {
		return fmt.Errorf("genesis: version %d, want 1", g.Version)
	}
	if !chainIDForm.MatchString(g.ChainID) {
		return fmt.Errorf("genesis: chain_id %q: want 1 to 64 of a-z, 0-9, '-' and '.', a letter or digit at both ends", g.ChainID)
	}
	if g.TimeMS > MaxNumber {
		return fmt.Errorf("genesis: time_ms is %d, allowed are 0 to %d", g.TimeMS, uint64(MaxNumber))
	}
	names := map[string]bool{}
	for i, v := range g.Validators {
		if v.Name == "" || len(v.Name) > maxNameBytes || names[v.Name] {
			return fmt.Errorf("genesis: validator %d is named %q: want 1 to %d bytes, each name once", i, v.Name, maxNameBytes)
		}
		names[v.Name] = true
	}
	if err := g.Set().Validate(); err != nil {
		return fmt.Errorf("genesis: %w", err)
	}
	p := g.Parameters
	for _, r := range []struct {
		name            string
		value, low, top uint32
	}{
		{"min_block_interval_ms", p.MinBlockIntervalMS, 0, 60_000},
		{"beacon_interval", p.BeaconInterval, 1, 1 << 20},
		{"max_message_bytes", p.MaxMessageBytes, 1, 4 << 20},
		{"max_block_bytes", p.MaxBlockBytes, p.MaxMessageBytes + 8, 16 << 20},
		{"round_timeout_ms", p.RoundTimeoutMS, 10, 600_000},
		{"max_round_timeout_ms", p.MaxRoundTimeoutMS, p.RoundTimeoutMS, 3_600_000},
	} {
		if r.value < r.low || r.value > r.top {
			return fmt.Errorf("genesis: parameters.%s is %d, allowed are %d to %d", r.name, r.value, r.low, r.top)
		}
	}
	return nil
}

// Encode returns the canonical encoding, which the genesis hash covers.
func (g *Genesis) Encode() []byte {
	b := appendU32(nil, g.Version)
	b = appendBytes(b, g.ChainID)
	b = appendU64(b, g.TimeMS)
	b = g.First().append(b)
	p := g.Parameters
	for _, v := range []uint32{
		p.MinBlockIntervalMS, p.BeaconInterval, p.MaxMessageBytes, p.MaxBlockBytes, p.RoundTimeoutMS, p.MaxRoundTimeoutMS,
	} {
		b = appendU32(b, v)
	}
	return b
}

// Hash returns the genesis hash, which is also the beacon of epochs 0 and before.
func (g *Genesis) Hash() Hash { return digest("diseq/genesis", g.Encode()) }

// Header returns the header of block 0. Its beacon is the genesis hash, so that every chain of
// headers leads to it.
func (g *Genesis) Header() Header {
	set := g.Set().Hash()
	return Header{
		ProtocolVersion: ProtocolVersion, ChainID: g.ChainID, Timestamp: g.TimeMS, MessagesRoot: sha256.Sum256(nil),
		Beacon: g.Hash(), ValidatorsHash: set, NextValidatorsHash: set,
	}
}

// maxGenesisBytes bounds a genesis document.
const maxGenesisBytes = 1 << 20

// ReadGenesis reads and validates a JSON document of at most 1 MiB. Unknown members are refused: a
// misspelt parameter must not silently become its default.
func ReadGenesis(r io.Reader) (*Genesis, error) {
	g := &Genesis{}
	if err := document.Read(r, maxGenesisBytes, g); err != nil {
		return nil, fmt.Errorf("genesis: %w: %w", ErrMalformed, err)
	}
	return g, g.Validate()
}

// UnmarshalJSON reads a document that has no other members than these, each at most once.
func (g *Genesis) UnmarshalJSON(b []byte) error {
	type plain Genesis
	return document.Unmarshal(b, (*plain)(g))
}

// UnmarshalJSON reads a document that has no other members than these, each at most once.
func (v *NamedValidator) UnmarshalJSON(b []byte) error {
	type plain NamedValidator
	return document.Unmarshal(b, (*plain)(v))
}
