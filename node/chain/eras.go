package chain

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"sync"
)

// Trust is what a reader believes before it has verified anything: a genesis document, a
// checkpoint, or the [Eras] that it has followed from one of them.
type Trust interface {
	// Eras returns the validator sets that are known. Verifying a document adds the changes that it
	// brings.
	Eras() *Eras
}

// Eras are the validator sets of a chain as a reader has verified them: first the set that it
// trusts, then each by the votes of the set before. The last one is in force until a further change
// is known. The zero value is of no use: [Genesis.Eras] and [ReaderCheckpoint.Eras] begin. Methods
// may be called from any goroutine.
//
// A change is verified once, however many documents bring it.
type Eras struct {
	chainID string

	mu   sync.Mutex
	eras []era
}

// era is the heights that one set decides.
type era struct {
	// above is the height of the header that brought the set, header its hash: the set decides the
	// heights above.
	above  uint64
	header Hash
	set    *ValidatorSet
	// entry is the digest of the change that was verified; zero for the first era, which is
	// trusted.
	entry [sha256.Size]byte
}

func newEras(chainID string, above uint64, header Hash, set *ValidatorSet) *Eras {
	return &Eras{chainID: chainID, eras: []era{{above: above, header: header, set: set}}}
}

// Eras returns the set of the genesis document, which decides the first heights.
func (g *Genesis) Eras() *Eras {
	header := g.Header()
	return newEras(g.ChainID, 0, header.Hash(), g.Set())
}

// Eras returns e.
func (e *Eras) Eras() *Eras { return e }

// ChainID returns the name of the chain.
func (e *Eras) ChainID() string { return e.chainID }

// First returns what the reader started from.
func (e *Eras) First() *ReaderCheckpoint {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.checkpoint(&e.eras[0])
}

// Checkpoint returns the newest set known, with the header that brought it, as a document to start
// from later. It is as good as what the reader trusted.
func (e *Eras) Checkpoint() *ReaderCheckpoint {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.checkpoint(&e.eras[len(e.eras)-1])
}

func (e *Eras) checkpoint(at *era) *ReaderCheckpoint {
	return &ReaderCheckpoint{Version: 1, ChainID: e.chainID, Height: at.above, Hash: at.header, Set: *at.set}
}

// ErrBelowTrust is wrapped by the error about a height whose set is not known, because the reader
// started above it.
var ErrBelowTrust = errors.New("at or below the checkpoint that is trusted")

// SetAt returns the set in force at a height, as far as it is known, after it has followed the
// changes. They are in rising order and below the height, as a receipt brings them. Those up to the
// height that the reader started from prove nothing to it, and are passed over.
func (e *Eras) SetAt(height uint64, changes ...ValidatorSetChange) (*ValidatorSet, error) {
	if err := e.follow(height, changes); err != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, era := range slices.Backward(e.eras) {
		if era.above < height {
			return era.set, nil
		}
	}
	return nil, fmt.Errorf("height %d is %w, height %d: verify it with the genesis document or an older checkpoint",
		height, ErrBelowTrust, e.eras[0].above)
}

// Follow verifies changes, in rising order, and adds those that are new. After an error the changes
// before the wrong one are added.
func (e *Eras) Follow(changes ...ValidatorSetChange) error { return e.follow(MaxNumber, changes) }

func (e *Eras) follow(below uint64, changes []ValidatorSetChange) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	last := uint64(0)
	for i := range changes {
		c := &changes[i]
		if c.Header.Height <= last || c.Header.Height >= below {
			return fmt.Errorf("validator change %d is at height %d, want above %d and below %d", i, c.Header.Height, last, below)
		}
		last = c.Header.Height
		if err := e.step(c); err != nil {
			return fmt.Errorf("validator change %d: %w", i, err)
		}
	}
	return nil
}

// step verifies one change by the set before it. The caller holds the lock.
func (e *Eras) step(c *ValidatorSetChange) error {
	first, newest := &e.eras[0], &e.eras[len(e.eras)-1]
	at := int64(c.Next.Generation) - int64(first.set.Generation)
	switch {
	case c.Next.Generation == 0:
		return errors.New("it leads to generation 0, which is that of the genesis document")
	case at < 0 && c.Header.Height < first.above:
		return nil
	case at <= 0:
		if hash := c.Header.Hash(); at < 0 || hash != first.header || c.Next.Hash() != first.set.Hash() {
			return fmt.Errorf("it leads to generation %d by block %v at height %d: the checkpoint is of generation %d, block %v at height %d",
				c.Next.Generation, hash, c.Header.Height, first.set.Generation, first.header, first.above)
		}
		return nil
	case at > int64(len(e.eras)):
		return fmt.Errorf("it leads to generation %d, the newest set known is of generation %d: the changes between are missing",
			c.Next.Generation, newest.set.Generation)
	}
	entry := c.digest()
	if at < int64(len(e.eras)) && e.eras[at].entry == entry {
		return nil
	}
	before := &e.eras[at-1]
	if err := c.verify(e.chainID, before); err != nil {
		return err
	}
	next := era{above: c.Header.Height, header: c.Header.Hash(), set: &c.Next, entry: entry}
	if at == int64(len(e.eras)) {
		e.eras = append(e.eras, next)
		return nil
	}
	if known := &e.eras[at]; known.header != next.header {
		return fmt.Errorf("the chain has forked: generation %d comes from block %v at height %d and from block %v at height %d, both final",
			c.Next.Generation, known.header, known.above, next.header, next.above)
	}
	return nil // with other votes
}

// verify checks a change by the set that it replaces.
func (c *ValidatorSetChange) verify(chainID string, before *era) error {
	if c.Header.Height <= before.above {
		return fmt.Errorf("at height %d: the set that it replaces decides the heights above %d", c.Header.Height, before.above)
	}
	if err := c.Certificate.VerifyFinal(&c.Header, chainID, before.set, 0); err != nil {
		return err
	}
	if err := c.Next.Validate(); err != nil {
		return err
	}
	if c.Next.SynchronyDeltaMS != before.set.SynchronyDeltaMS {
		return fmt.Errorf("to synchrony_delta_ms %d, the chain has %d", c.Next.SynchronyDeltaMS, before.set.SynchronyDeltaMS)
	}
	if got := c.Next.Hash(); got != c.Header.NextValidatorsHash {
		return fmt.Errorf("to set %v, the header names %v", got, c.Header.NextValidatorsHash)
	}
	if c.Header.ChangeHash.IsZero() {
		return errors.New("the header carries no change")
	}
	return nil
}

// digest covers all of a change, so that an equal one need not be verified again.
func (c *ValidatorSetChange) digest() [sha256.Size]byte {
	b := c.Header.append(make([]byte, 0, 4096))
	b = c.Certificate.append(b)
	b = appendU64(b, uint64(c.Certificate.Strength))
	return sha256.Sum256(c.Next.append(b))
}
