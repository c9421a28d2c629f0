package store

import (
	"context"
	"errors"

	"github.com/diseq/diseq/node/chain"
)

// AddBatches stores batches. They are on disk when it returns nil. It skips a batch that is stored
// already.
func (s *Store) AddBatches(ctx context.Context, batches []chain.StoredBatch) error {
	size := 0
	for _, b := range batches {
		size += len(b.Data)
	}
	if size == 0 {
		return nil
	}
	return s.writer.submit(ctx, size, func(tx *transaction) error {
		for _, b := range batches {
			// The numbers are the author's to choose; SQLite keeps all 64 bits of them as signed
			// ones.
			if err := tx.exec(addBatch, b.Hash[:], b.Author[:], int64(b.Incarnation), int64(b.Number), batchSum(&b), b.Data); err != nil {
				return err
			}
		}
		return nil
	})
}

func batchSum(b *chain.StoredBatch) int64 {
	return checksum(b.Number, b.Hash[:], b.Author[:], b.Data)
}

const batchColumns = "arrival, hash, author, incarnation, number, sum, batch"

func (s *Store) scanBatch(row interface{ Scan(...any) error }) (b chain.StoredBatch, arrival int64, err error) {
	var hash, author []byte
	var incarnation, number, sum int64
	if err := row.Scan(&arrival, &hash, &author, &incarnation, &number, &sum, &b.Data); err != nil {
		return chain.StoredBatch{}, 0, err
	}
	if len(hash) != len(b.Hash) || len(author) != len(b.Author) {
		return chain.StoredBatch{}, 0, s.file.Corrupt("batch with a hash of %d and an author of %d bytes", len(hash), len(author))
	}
	b.Hash, b.Author = chain.Hash(hash), chain.PublicKey(author)
	b.Incarnation, b.Number = uint64(incarnation), uint64(number)
	if batchSum(&b) != sum {
		return chain.StoredBatch{}, 0, s.file.Corrupt("batch %v does not have its checksum", b.Hash)
	}
	return b, arrival, nil
}

// batchPage bounds what PendingBatches holds in memory at a time: a page ends with the batch that
// passes it.
const batchPage = 4 << 20

// PendingBatches calls yield with each batch that waits, in the order of their arrival, and stops
// at its first error. Batches that arrive meanwhile may or may not be among them.
func (s *Store) PendingBatches(ctx context.Context, yield func(chain.StoredBatch) error) error {
	for after := int64(0); ; {
		page, last, err := s.pageOfBatches(ctx, after)
		if err != nil {
			return err
		}
		if len(page) == 0 {
			return nil
		}
		for _, b := range page {
			if err := yield(b); err != nil {
				return err
			}
		}
		after = last
	}
}

// pageOfBatches reads a page in a transaction of its own, so that a slow caller does not hold the
// log back.
func (s *Store) pageOfBatches(ctx context.Context, after int64) (page []chain.StoredBatch, last int64, err error) {
	rows, err := s.reads.QueryContext(ctx, "SELECT "+batchColumns+" FROM batches WHERE arrival > ? ORDER BY arrival", after)
	if err != nil {
		return nil, 0, s.file.Explain("read batches", err)
	}
	defer func() { err = errors.Join(err, s.file.Explain("read batches", rows.Close())) }()
	for size := 0; size < batchPage && rows.Next(); {
		b, arrival, err := s.scanBatch(rows)
		if err != nil {
			return nil, 0, s.file.Explain("read batches", err)
		}
		page, last = append(page, b), arrival
		size += len(b.Data)
	}
	return page, last, s.file.Explain("read batches", rows.Err())
}
