package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/diseq/diseq/node/chain"
)

// Replace repairs a damaged final block with a copy, on disk when it returns nil: reads return the
// copy from then on. A block that is not damaged stays as it is. The caller has verified the copy's
// certificate. Replace refuses a copy that contradicts its own header, and, wrapping
// ErrContradicts, one that contradicts what is still legible of the block and its neighbours.
//
// The damaged rows are left alone. To delete them SQLite would follow their chains of pages, and a
// damaged chain leads into pages of other rows. An error that wraps ErrMalformed says that the file
// takes no writes any more.
func (s *Store) Replace(ctx context.Context, f *chain.FinalBlock) error {
	height, hash := f.Header.Height, f.Hash()
	if err := s.exists(height); err != nil {
		return err
	}
	if err := s.check(f, hash); err != nil {
		return err
	}
	if err := f.Header.CheckMessages(f.Messages); err != nil {
		return fmt.Errorf("store: replace block %d: %w", height, err)
	}
	r := s.reader()
	switch err := r.intact(ctx, height); {
	case err == nil:
		return nil
	case !errors.Is(err, ErrCorrupt):
		return err
	}
	if err := s.fits(ctx, r, f, hash); err != nil {
		return fmt.Errorf("store: replace block %d: %w: %w", height, ErrContradicts, err)
	}
	encoded := f.Encode()
	return s.writer.submit(ctx, len(encoded), func(tx *transaction) error {
		return tx.exec(addCopy, int64(height), checksum(height, encoded), encoded)
	})
}

// fits compares a copy with everything that is legible of the block itself, of the one below and of
// the one above.
func (s *Store) fits(ctx context.Context, r reader, f *chain.FinalBlock, hash chain.Hash) error {
	height := f.Header.Height
	if stored, err := r.head(ctx, height); err == nil && stored.Hash() != hash {
		return fmt.Errorf("it has hash %v, the stored header has %v", hash, stored.Hash())
	}
	if stored, err := r.certificate(ctx, height); err == nil && stored.Block != hash {
		return fmt.Errorf("it has hash %v, the stored certificate is of %v", hash, stored.Block)
	}
	if below, err := s.Head(ctx, height-1); err == nil && below.Hash() != f.Header.ParentHash {
		return fmt.Errorf("its parent is %v, block %d is %v", f.Header.ParentHash, height-1, below.Hash())
	}
	newest := s.tip.Load()
	if height == newest.height {
		if newest.hash != hash {
			return fmt.Errorf("it has hash %v, the newest block is %v", hash, newest.hash)
		}
		return nil
	}
	if above, err := r.head(ctx, height+1); err == nil && above.Header.ParentHash != hash {
		return fmt.Errorf("it has hash %v, block %d is on %v", hash, height+1, above.Header.ParentHash)
	}
	return nil
}
