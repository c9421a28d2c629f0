package store

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/internal/appendlog"
)

// logName is the first part of the names of the log's segments.
const logName = "messages"

// The kinds of records in the log.
const (
	// recordBatch is a batch: hash, author, incarnation u64, number u64, and the batch's encoding.
	recordBatch = 1
	// recordMessages is the encodings of messages of a final block that came without their batches.
	recordMessages = 2
)

// batchHead is the size of a batch's record before the batch's encoding.
const batchHead = 32 + 32 + 8 + 8

func (s *Store) logOptions() appendlog.Options {
	return appendlog.Options{Dir: s.dir, Name: logName, Identity: s.identity, SegmentBytes: s.segmentBytes}
}

// AddBatches stores batches. They are on disk when it returns nil. It skips a batch that is stored
// already.
func (s *Store) AddBatches(ctx context.Context, batches []chain.StoredBatch) error {
	batches = s.pending.new(batches)
	if len(batches) == 0 {
		return nil
	}
	entries := make([]appendlog.Entry, len(batches))
	for i := range batches {
		entries[i] = batchEntry(&batches[i])
	}
	// Before the log's mark covers them: a transaction that saw the mark and not the batches would
	// have the next opening pass them over.
	wait := func(positions []int64) {
		for i, at := range positions {
			s.pending.add(&waiting{hash: batches[i].Hash, position: at, length: batchHead + len(batches[i].Data)})
		}
	}
	_, err := s.log.Append(ctx, wait, entries...)
	return closedLog(err)
}

func closedLog(err error) error {
	if errors.Is(err, appendlog.ErrClosed) {
		return ErrClosed
	}
	return err
}

func batchEntry(b *chain.StoredBatch) appendlog.Entry {
	head := append(make([]byte, 0, batchHead), b.Hash[:]...)
	head = append(head, b.Author[:]...)
	head = binary.BigEndian.AppendUint64(head, b.Incarnation)
	head = binary.BigEndian.AppendUint64(head, b.Number)
	return appendlog.Entry{Kind: recordBatch, Content: [][]byte{head, b.Data}}
}

func (s *Store) decodeBatch(r appendlog.Record) (b chain.StoredBatch, err error) {
	if r.Kind != recordBatch || len(r.Content) < batchHead {
		return b, fmt.Errorf("%s: %w: a record of kind %d with %d bytes at position %d, where a batch should be",
			logName, ErrCorrupt, r.Kind, len(r.Content), r.Position)
	}
	copy(b.Hash[:], r.Content)
	copy(b.Author[:], r.Content[32:])
	b.Incarnation, b.Number = binary.BigEndian.Uint64(r.Content[64:]), binary.BigEndian.Uint64(r.Content[72:])
	b.Data = r.Content[batchHead:]
	return b, nil
}

// PendingBatches calls yield with each batch that waits, in the order of their arrival, and stops
// at its first error. Batches that arrive meanwhile are not among them.
func (s *Store) PendingBatches(ctx context.Context, yield func(chain.StoredBatch) error) error {
	return s.batches(ctx, s.log.Reader(), yield)
}

// batches is PendingBatches through any reader of the log.
func (s *Store) batches(ctx context.Context, in appendlog.Reader, yield func(chain.StoredBatch) error) error {
	for _, w := range s.pending.all() {
		if err := ctx.Err(); err != nil {
			return err
		}
		r, err := in.Record(w.position, w.length)
		if err != nil {
			return err
		}
		b, err := s.decodeBatch(r)
		if err == nil && b.Hash != w.hash {
			err = fmt.Errorf("%s: %w: the batch at position %d is %v and was %v", logName, ErrCorrupt, w.position, b.Hash, w.hash)
		}
		if err != nil {
			return err
		}
		if err := yield(b); err != nil {
			return err
		}
	}
	return nil
}

// inspectLog finds the batches that wait: those in the log from the position in blocks.db on,
// except those that blocks.db names as ordered.
func (s *Store) inspectLog(db *sql.DB, version int) error {
	if version < firstWithLog {
		return s.passLog()
	}
	var from int64
	var known appendlog.Mark
	err := db.QueryRow("SELECT scan_from, durable_to, last_group FROM log").Scan(&from, &known.End, &known.Group)
	if errors.Is(err, sql.ErrNoRows) {
		return s.passLog()
	}
	if err != nil {
		return s.file.Explain("read the end of the log", err)
	}
	if from < 0 || from > known.End {
		return s.file.Corrupt("it says that batches wait from position %d of the log on, which ends at %d", from, known.End)
	}
	ordered, err := s.ordered(db, from)
	if err != nil {
		return err
	}
	s.found, err = appendlog.Inspect(s.logOptions(), from, known, func(r appendlog.Record) error {
		if r.Kind == recordMessages || ordered[r.Position] {
			return nil
		}
		b, err := s.decodeBatch(r)
		if err == nil {
			s.pending.add(&waiting{hash: b.Hash, position: r.Position, length: len(r.Content)})
		}
		return err
	})
	return err
}

// passLog is inspectLog for a blocks.db that knows nothing of a log. If there is one, it is left
// from another blocks.db, and no batch in it waits.
func (s *Store) passLog() (err error) {
	s.unmarked = true
	if s.found, err = appendlog.InspectEnd(s.logOptions()); err != nil {
		return err
	}
	if end := s.found.Mark().End; end > 0 {
		s.logger.Warn("there is a message log that blocks.db does not know: its batches are not restored, and its bytes are not used",
			"bytes", end)
	}
	return nil
}

func (s *Store) ordered(db *sql.DB, from int64) (out map[int64]bool, err error) {
	rows, err := db.Query("SELECT position FROM ordered WHERE position >= ?", from)
	if err != nil {
		return nil, s.file.Explain("read the ordered batches", err)
	}
	defer func() { err = errors.Join(err, s.file.Explain("read the ordered batches", rows.Close())) }()
	out = map[int64]bool{}
	for rows.Next() {
		var position int64
		if err := rows.Scan(&position); err != nil {
			return nil, s.file.Explain("read the ordered batches", err)
		}
		out[position] = true
	}
	return out, s.file.Explain("read the ordered batches", rows.Err())
}

// writeLogMark ends each transaction that a block is in. It records how far the log is durable:
// below, the next opening tells damage from a torn end. It also records from where on the next
// opening looks for batches that wait.
func (s *Store) writeLogMark(tx *transaction) error {
	// The mark first: batches that become durable from here on are above it.
	mark := s.log.Mark()
	from := s.pending.oldest(mark.End)
	if err := tx.exec(putLog, from, mark.End, int64(mark.Group)); err != nil {
		return err
	}
	if err := tx.exec(passOrdered, from); err != nil {
		return err
	}
	for _, w := range tx.left {
		if w.position < from {
			continue
		}
		if err := tx.exec(addOrdered, w.position); err != nil {
			return err
		}
	}
	return nil
}

// moveBatches takes the batches that wait from blocks.db, where older programs kept them, to the
// log. Cut off between the two steps, it finds them in the log when it is done again.
func (s *Store) moveBatches(ctx context.Context) error {
	for {
		page, last, err := s.olderBatches(ctx, 0)
		if err != nil || len(page) == 0 {
			return err
		}
		if err := s.AddBatches(ctx, page); err != nil {
			return err
		}
		err = s.writer.submit(ctx, 0, func(tx *transaction) error {
			tx.marks = true
			return tx.exec(dropOlder, last)
		})
		if err != nil {
			return err
		}
	}
}

// olderPage bounds what moveBatches holds in memory: a page ends with the batch that passes it.
const olderPage = 4 << 20

// olderBatches returns a page of the batches that blocks.db has above a number of arrival, and the
// number of the last one.
func (s *Store) olderBatches(ctx context.Context, above int64) (page []chain.StoredBatch, last int64, err error) {
	rows, err := s.reads.QueryContext(ctx,
		"SELECT arrival, hash, author, incarnation, number, sum, batch FROM batches WHERE arrival > ? ORDER BY arrival", above)
	if err != nil {
		return nil, 0, s.file.Explain("read batches", err)
	}
	defer func() { err = errors.Join(err, s.file.Explain("read batches", rows.Close())) }()
	for size := 0; size < olderPage && rows.Next(); {
		var b chain.StoredBatch
		var hash, author []byte
		var incarnation, number, sum int64
		if err := rows.Scan(&last, &hash, &author, &incarnation, &number, &sum, &b.Data); err != nil {
			return nil, 0, s.file.Explain("read batches", err)
		}
		if len(hash) != len(b.Hash) || len(author) != len(b.Author) {
			return nil, 0, s.file.Corrupt("batch with a hash of %d and an author of %d bytes", len(hash), len(author))
		}
		b.Hash, b.Author = chain.Hash(hash), chain.PublicKey(author)
		// SQLite keeps all 64 bits of the author's numbers as signed ones.
		b.Incarnation, b.Number = uint64(incarnation), uint64(number)
		if checksum(b.Number, b.Hash[:], b.Author[:], b.Data) != sum {
			return nil, 0, s.file.Corrupt("batch %v does not have its checksum", b.Hash)
		}
		page = append(page, b)
		size += len(b.Data)
	}
	return page, last, s.file.Explain("read batches", rows.Err())
}
