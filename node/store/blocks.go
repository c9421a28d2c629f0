package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/diseq/diseq/node/chain"
)

// Commit appends a final block. Heights are strictly consecutive, a block names the hash of the one
// below, and no stored block is overwritten. Messages that the log has are not written again.
func (s *Store) Commit(ctx context.Context, c chain.Commit) error {
	f := c.Block
	hash := f.Hash()
	if err := s.check(f, hash); err != nil {
		return err
	}
	height, err := signed(f.Header.Height)
	if err != nil {
		return err
	}
	block, certificate := f.Block.Encode(), f.Certificate.Encode()
	justification := encodeCertificates(c.Justification)
	var change []byte
	if f.Change != nil {
		change = f.Change.Encode()
	}
	// On disk before the row that refers to it.
	body, err := s.body(ctx, &c, hash)
	if err != nil {
		return err
	}
	size := len(block) + body.size() + len(certificate) + len(justification) + len(change)
	return s.writer.submit(ctx, size, func(tx *transaction) error {
		if f.Header.Height != tx.tip.height+1 {
			return fmt.Errorf("store: commit block %d: the newest is %d", f.Header.Height, tx.tip.height)
		}
		if f.Header.ParentHash != tx.tip.hash {
			return fmt.Errorf("store: commit block %d: its parent is %v, block %d is %v", height, f.Header.ParentHash, tx.tip.height, tx.tip.hash)
		}
		h := f.Header.Height
		if err := tx.exec(addBlock, height, checksum(h, block), body.sum, block, body.messages, body.places); err != nil {
			return err
		}
		if err := tx.exec(addCertificate, height, checksum(h, certificate), certificate); err != nil {
			return err
		}
		if len(justification) > 0 {
			if err := tx.exec(addJustification, height, checksum(h, justification), justification); err != nil {
				return err
			}
		}
		if change != nil {
			if err := tx.exec(addChange, height, checksum(h, change), change); err != nil {
				return err
			}
		}
		tx.left = append(tx.left, s.pending.leave(c.Remove)...)
		for _, e := range c.Epochs {
			if err := tx.putEpoch(e); err != nil {
				return err
			}
		}
		tx.tip, tx.marks = tip{height: h, hash: hash}, true
		return nil
	})
}

// check refuses a block that could not be read back, or of another chain. Signatures are the
// caller's to check.
func (s *Store) check(f *chain.FinalBlock, hash chain.Hash) error {
	if f.Header.ChainID != s.genesis.ChainID {
		return fmt.Errorf("store: commit block of chain %q to %q", f.Header.ChainID, s.genesis.ChainID)
	}
	return checkFinalization(&f.Certificate, f.Header.Height, hash)
}

func checkFinalization(c *chain.Certificate, height uint64, hash chain.Hash) error {
	if c.Kind != chain.Finalize || c.Height != height || c.Block != hash {
		return fmt.Errorf("store: %v certificate for block %v at height %d, the block is %v at height %d",
			c.Kind, c.Block, c.Height, hash, height)
	}
	if err := c.Check(chain.MaxValidators, 1); err != nil {
		return fmt.Errorf("store: block %d: %w", height, err)
	}
	return nil
}

// strongerLimit bounds the certificates that wait to be written. Past it Strengthen drops the
// caller's, which costs strength only.
const strongerLimit = 1024

// Strengthen replaces the certificate of a final block by one with more votes for the same block.
// It returns at once: the certificate joins the next transaction, within 200 ms, and readers see it
// from then on. A weaker one changes nothing.
func (s *Store) Strengthen(c *chain.Certificate) {
	s.strengthening.Lock()
	defer s.strengthening.Unlock()
	if old := s.stronger[c.Height]; len(s.stronger) >= strongerLimit && old == nil || old != nil && len(old.Votes) >= len(c.Votes) {
		return
	}
	s.stronger[c.Height] = c
	select {
	case s.writer.poke <- struct{}{}:
	default:
	}
}

// writeStronger runs at the end of each transaction. A certificate whose block is not there yet
// stays, and so does one whose transaction fails. Where the stored certificate is damaged, the
// block has to be replaced first.
func (s *Store) writeStronger(tx *transaction) error {
	s.strengthening.Lock()
	defer s.strengthening.Unlock()
	s.written = s.written[:0]
	for height, c := range s.stronger {
		if height > tx.tip.height {
			continue
		}
		s.written = append(s.written, c)
		stored, err := tx.certificate(height)
		if errors.Is(err, ErrCorrupt) {
			s.logger.Warn("stronger certificate dropped: the stored one is damaged", "height", height, "err", err)
			continue
		}
		if err != nil {
			return err
		}
		if err := checkFinalization(c, height, stored.Block); err != nil {
			s.logger.Warn("stronger certificate refused", "err", err)
			continue
		}
		if len(c.Votes) <= len(stored.Votes) {
			continue
		}
		encoded := c.Encode()
		if err := tx.exec(strengthen, checksum(height, encoded), encoded, int64(height)); err != nil {
			return err
		}
	}
	return nil
}

func (tx *transaction) certificate(height uint64) (*chain.Certificate, error) {
	var sum int64
	var encoded []byte
	if err := tx.out.QueryRow(readCertificate, []any{int64(height)}, &sum, &encoded); err != nil {
		return nil, err
	}
	if sum != checksum(height, encoded) {
		return nil, tx.file.Corrupt("certificate of block %d does not have its checksum", height)
	}
	c, err := chain.DecodeCertificate(encoded)
	if err != nil {
		return nil, tx.file.Corrupt("certificate of block %d: %w", height, err)
	}
	return c, nil
}

// durable is called with each transaction on disk.
func (s *Store) durable(tx *transaction) {
	s.pending.remove(tx.left)
	t := tx.tip
	s.tip.Store(&t)
	s.strengthening.Lock()
	defer s.strengthening.Unlock()
	for _, c := range s.written {
		if s.stronger[c.Height] == c {
			delete(s.stronger, c.Height)
		}
	}
	s.written = s.written[:0]
}
