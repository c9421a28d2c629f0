package chain

import (
	"fmt"
	"io"

	"github.com/diseq/diseq/internal/document"
)

// ReaderCheckpoint is a document that readers start from in the place of the genesis document, and
// that they trust in the same way: a final header, by its hash, and the validator set in force
// above it. It is short however often the set has changed, and what the keys of members sign that
// left before it counts for nothing.
type ReaderCheckpoint struct {
	Version uint32 `json:"version"`
	ChainID string `json:"chain_id"`
	// Height and Hash are of the header that brought the set: that of the change, or block 0.
	Height uint64       `json:"height"`
	Hash   Hash         `json:"hash"`
	Set    ValidatorSet `json:"set"`
}

// Eras returns the set of the checkpoint, which decides the heights above it.
func (c *ReaderCheckpoint) Eras() *Eras {
	set := c.Set
	return newEras(c.ChainID, c.Height, c.Hash, &set)
}

// Validate checks every field; the error names the one that is wrong and what is allowed.
func (c *ReaderCheckpoint) Validate() error {
	if c.Version != 1 {
		return fmt.Errorf("checkpoint: version %d, want 1", c.Version)
	}
	if !chainIDForm.MatchString(c.ChainID) {
		return fmt.Errorf("checkpoint: chain_id %q: want 1 to 64 of a-z, 0-9, '-' and '.', a letter or digit at both ends", c.ChainID)
	}
	if c.Height > MaxNumber {
		return fmt.Errorf("checkpoint: height is %d, allowed are 0 to %d", c.Height, uint64(MaxNumber))
	}
	if c.Hash.IsZero() {
		return fmt.Errorf("checkpoint: hash is zero, want that of the header at height %d", c.Height)
	}
	if g := c.Set.Generation; uint64(g) > c.Height || g == 0 && c.Height > 0 {
		return fmt.Errorf("checkpoint: set of generation %d at height %d: each change takes a height, and generation 0 is of height 0",
			g, c.Height)
	}
	if err := c.Set.Validate(); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	return nil
}

// maxCheckpointBytes bounds a checkpoint document.
const maxCheckpointBytes = 1 << 20

// ReadCheckpoint reads and validates a JSON document of at most 1 MiB.
func ReadCheckpoint(r io.Reader) (*ReaderCheckpoint, error) {
	c := &ReaderCheckpoint{}
	if err := document.Read(r, maxCheckpointBytes, c); err != nil {
		return nil, fmt.Errorf("checkpoint: %w: %w", ErrMalformed, err)
	}
	return c, c.Validate()
}

// UnmarshalJSON reads a document that has no other members than these, each at most once.
func (c *ReaderCheckpoint) UnmarshalJSON(b []byte) error {
	type plain ReaderCheckpoint
	return document.Unmarshal(b, (*plain)(c))
}
