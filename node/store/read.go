package store

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/diseq/diseq/node/chain"
)

// Justification returns the notarizations and nullifications of the rounds below the one that
// decided a block: after a fork, evidence is found in them (docs/consensus.md). A block that was
// decided in round 0, or that catching up brought, has none.
func (s *Store) Justification(ctx context.Context, height uint64) ([]*chain.Certificate, error) {
	at, err := signed(height)
	if err != nil {
		return nil, err
	}
	var sum int64
	var content []byte
	err = s.reads.QueryRowContext(ctx, "SELECT sum, justification FROM justifications WHERE height = ?", at).Scan(&sum, &content)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil, nil
	case err != nil:
		return nil, s.file.Explain("read justification", err)
	case sum != checksum(height, content):
		return nil, s.file.Corrupt("justification of height %d does not have its checksum", height)
	}
	certificates, err := decodeCertificates(content)
	if err != nil {
		return nil, s.file.Corrupt("justification of height %d: %w", height, err)
	}
	return certificates, nil
}

// encodeCertificates writes each certificate behind its length as a u32.
func encodeCertificates(certificates []*chain.Certificate) (b []byte) {
	for _, c := range certificates {
		encoded := c.Encode()
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(encoded))), encoded...)
	}
	return b
}

func decodeCertificates(b []byte) (certificates []*chain.Certificate, err error) {
	for len(b) > 0 {
		if len(b) < 4 || uint64(len(b)-4) < uint64(binary.BigEndian.Uint32(b)) {
			return nil, errors.New("it ends within a certificate")
		}
		end := 4 + int(binary.BigEndian.Uint32(b))
		c, err := chain.DecodeCertificate(b[4:end])
		if err != nil {
			return nil, err
		}
		certificates, b = append(certificates, c), b[end:]
	}
	return certificates, nil
}

func (tx *transaction) putEpoch(e chain.Epoch) error {
	number, err := signed(e.Number)
	if err != nil {
		return err
	}
	var output []byte
	if e.Output != nil {
		output = e.Output[:]
	}
	return tx.exec(putEpoch, number, e.Beacon[:], output)
}

// Epochs returns what is final of at most limit beacon epochs from a number on, in rising order.
func (s *Store) Epochs(ctx context.Context, from uint64, limit int) (out []chain.Epoch, err error) {
	at, err := signed(from)
	if err != nil {
		return nil, err
	}
	rows, err := s.reads.QueryContext(ctx, "SELECT epoch, beacon, output FROM epochs WHERE epoch >= ? ORDER BY epoch LIMIT ?", at, limit)
	if err != nil {
		return nil, s.file.Explain("read epochs", err)
	}
	defer func() { err = errors.Join(err, s.file.Explain("read epochs", rows.Close())) }()
	for rows.Next() {
		var number int64
		var beacon, output []byte
		if err := rows.Scan(&number, &beacon, &output); err != nil {
			return nil, s.file.Explain("read epochs", err)
		}
		e := chain.Epoch{Number: uint64(number)}
		if len(beacon) != len(e.Beacon) || (output != nil && len(output) != 32) {
			return nil, s.file.Corrupt("epoch %d has a beacon of %d and an output of %d bytes", number, len(beacon), len(output))
		}
		e.Beacon = chain.Hash(beacon)
		if output != nil {
			y := [32]byte(output)
			e.Output = &y
		}
		out = append(out, e)
	}
	return out, s.file.Explain("read epochs", rows.Err())
}

// Changes returns the validator set changes of all blocks, in the order of their heights. A row
// repeats what its block carries, so that opening a node reads no block for it. A damaged row is
// read from the block.
func (s *Store) Changes(ctx context.Context) (out []chain.StoredChange, err error) {
	rows, err := s.reads.QueryContext(ctx, "SELECT height, sum, change FROM changes ORDER BY height")
	if err != nil {
		return nil, s.file.Explain("read changes", err)
	}
	defer func() { err = errors.Join(err, s.file.Explain("read changes", rows.Close())) }()
	for rows.Next() {
		var height, sum int64
		var content []byte
		if err := rows.Scan(&height, &sum, &content); err != nil {
			return nil, s.file.Explain("read changes", err)
		}
		c, err := s.change(ctx, uint64(height), sum, content)
		if err != nil {
			return nil, err
		}
		out = append(out, chain.StoredChange{Height: uint64(height), Change: c})
	}
	return out, s.file.Explain("read changes", rows.Err())
}

func (s *Store) change(ctx context.Context, height uint64, sum int64, content []byte) (*chain.Change, error) {
	damage := s.file.Corrupt("change of block %d does not have its checksum", height)
	if sum == checksum(height, content) {
		c, err := chain.DecodeChange(content)
		if err == nil {
			return c, nil
		}
		damage = s.file.Corrupt("change of block %d: %w", height, err)
	}
	head, err := s.Head(ctx, height)
	if err == nil && head.Change == nil {
		err = errors.New("the block carries none")
	}
	if err != nil {
		return nil, fmt.Errorf("%w; read from the block instead: %w", damage, err)
	}
	s.logger.Warn("a stored validator set change is damaged: read from its block", "height", height, "err", damage)
	return head.Change, nil
}

// EvidencePerValidator is how many pieces of evidence are stored about one validator. One is enough
// to convict it, and a validator must not be able to fill the disk with more.
const EvidencePerValidator = 64

// AddEvidence stores evidence, one piece for each validator, rule, height and round. added is false
// if that piece, or EvidencePerValidator pieces, are stored already. The caller has verified it.
func (s *Store) AddEvidence(ctx context.Context, e chain.Evidence) (added bool, err error) {
	encoded := e.Encode()
	height, err := signed(e.First.Height)
	if err != nil {
		return false, err
	}
	// A channel rather than a variable: when ctx ends first the writer may still be at work.
	result := make(chan bool, 1)
	err = s.writer.submit(ctx, len(encoded), func(tx *transaction) error {
		r, err := tx.out.Exec(addEvidence, e.PublicKey[:], string(e.Rule), height, int64(e.First.Round), encoded, EvidencePerValidator)
		if err != nil {
			return err
		}
		n, err := r.RowsAffected()
		result <- n > 0
		return err
	})
	if err != nil {
		return false, err
	}
	if added = <-result; added {
		s.evidence.Add(1)
	}
	return added, nil
}

// EvidenceHeld is how many pieces of evidence are stored.
func (s *Store) EvidenceHeld() int { return int(s.evidence.Load()) }

// Evidence returns at most limit pieces of the stored evidence, oldest first.
func (s *Store) Evidence(ctx context.Context, limit int) (out []chain.Evidence, err error) {
	rows, err := s.reads.QueryContext(ctx, "SELECT evidence FROM evidence ORDER BY arrival LIMIT ?", limit)
	if err != nil {
		return nil, s.file.Explain("read evidence", err)
	}
	defer func() { err = errors.Join(err, s.file.Explain("read evidence", rows.Close())) }()
	for rows.Next() {
		var encoded []byte
		if err := rows.Scan(&encoded); err != nil {
			return nil, s.file.Explain("read evidence", err)
		}
		e, err := chain.DecodeEvidence(encoded)
		if err != nil {
			return nil, s.file.Corrupt("evidence: %w", err)
		}
		out = append(out, *e)
	}
	return out, s.file.Explain("read evidence", rows.Err())
}

const (
	maxMetaKey   = 64
	maxMetaValue = 64 << 10
)

// PutMeta stores a small value (at most 64 KiB) under a name.
func (s *Store) PutMeta(ctx context.Context, key string, value []byte) error {
	if key == "" || len(key) > maxMetaKey || len(value) > maxMetaValue {
		return fmt.Errorf("store: meta key of %d bytes with a value of %d, allowed are 1 to %d and up to %d",
			len(key), len(value), maxMetaKey, maxMetaValue)
	}
	return s.writer.submit(ctx, len(value), func(tx *transaction) error {
		return tx.exec(putMeta, key, append([]byte{}, value...)) // never NULL
	})
}

// Meta returns the value stored under a name, nil if there is none.
func (s *Store) Meta(ctx context.Context, key string) ([]byte, error) {
	var value []byte
	err := s.reads.QueryRowContext(ctx, "SELECT value FROM meta WHERE key = ?", key).Scan(&value)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	// an empty value is not none
	return append([]byte{}, value...), s.file.Explain("read meta", err)
}
