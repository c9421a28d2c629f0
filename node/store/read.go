package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/internal/sqlitefile"
)

// A reader reads blocks.db through any pool of connections.
type reader struct {
	db   *sql.DB
	file *sqlitefile.File
}

func (s *Store) reader() reader { return reader{db: s.reads, file: s.file} }

// encodedBlocks returns the encodings of consecutive final blocks from a height on: at most count,
// and only one if it alone has limit bytes or more.
func (r reader) encodedBlocks(ctx context.Context, from uint64, count, limit int) (out [][]byte, err error) {
	at, err := signed(from)
	if err != nil {
		return nil, err
	}
	rows, err := r.db.QueryContext(ctx, `SELECT b.height, b.block_sum, b.messages_sum, c.sum, b.block, b.messages, c.certificate
		FROM blocks b JOIN certificates c ON c.height = b.height WHERE b.height >= ? ORDER BY b.height LIMIT ?`, at, count)
	if err != nil {
		return nil, r.file.Explain("read blocks", err)
	}
	defer func() { err = errors.Join(err, r.file.Explain("read blocks", rows.Close())) }()
	for size := 0; rows.Next(); {
		var height, blockSum, messagesSum, certificateSum int64
		var block, messages, certificate sql.RawBytes
		if err := rows.Scan(&height, &blockSum, &messagesSum, &certificateSum, &block, &messages, &certificate); err != nil {
			return nil, r.file.Explain("read blocks", err)
		}
		h := uint64(height)
		if want := from + uint64(len(out)); h != want {
			return nil, r.file.Corrupt("block %d is missing", want)
		}
		if checksum(h, block) != blockSum || checksum(h, messages) != messagesSum || checksum(h, certificate) != certificateSum {
			return nil, r.file.Corrupt("block %d does not have its checksum", h)
		}
		size += len(block) + len(messages) + len(certificate)
		if size > limit && len(out) > 0 {
			return out, nil
		}
		one := make([]byte, 0, len(block)+len(messages)+len(certificate))
		out = append(out, append(append(append(one, block...), messages...), certificate...))
	}
	return out, r.file.Explain("read blocks", rows.Err())
}

// row reads one row whose first column is the checksum of the second.
func (r reader) row(ctx context.Context, what, query string, height uint64) ([]byte, error) {
	at, err := signed(height)
	if err != nil {
		return nil, err
	}
	var sum int64
	var content []byte
	err = r.db.QueryRowContext(ctx, query, at).Scan(&sum, &content)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, fmt.Errorf("store: %s of height %d: %w", what, height, ErrNotFound)
	}
	if err != nil {
		return nil, r.file.Explain("read "+what, err)
	}
	if sum != checksum(height, content) {
		return nil, r.file.Corrupt("%s of height %d does not have its checksum", what, height)
	}
	return content, nil
}

// decode reads the encoding of a block from the file: what is wrong with it is the file's fault.
func (s *Store) decode(height uint64, encoded []byte) (*chain.FinalBlock, error) {
	// The sum of all messages bounds each of them: what was committed was within max_block_bytes,
	// which decoding allows for.
	f, err := chain.DecodeFinalBlock(encoded, len(encoded))
	if err != nil {
		return nil, s.file.Corrupt("block %d: %w", height, err)
	}
	if f.Header.Height != height {
		return nil, s.file.Corrupt("block %d says it is %d", height, f.Header.Height)
	}
	return f, nil
}

// Block returns a final block; height 0 is genesis, with a zero certificate.
func (s *Store) Block(ctx context.Context, height uint64) (*chain.FinalBlock, error) {
	if height == 0 {
		return s.genesisBlock(), nil
	}
	if height > s.Height() {
		return nil, fmt.Errorf("store: block %d: %w", height, ErrNotFound)
	}
	encoded, err := s.reader().encodedBlocks(ctx, height, 1, 0)
	if err != nil {
		return nil, err
	}
	if len(encoded) == 0 {
		return nil, s.file.Corrupt("no block at height %d", height)
	}
	return s.decode(height, encoded[0])
}

// Header returns the header of a final block without reading its messages.
func (s *Store) Header(ctx context.Context, height uint64) (*chain.Header, error) {
	if height == 0 {
		return &s.genesisBlock().Header, nil
	}
	encoded, err := s.reader().row(ctx, "header", "SELECT block_sum, block FROM blocks WHERE height = ?", height)
	if err != nil {
		return nil, err
	}
	b, err := chain.DecodeBlock(encoded)
	if err != nil {
		return nil, s.file.Corrupt("block %d: %w", height, err)
	}
	return &b.Header, nil
}

// Certificate returns the finalization of a block: the strongest that was written.
func (s *Store) Certificate(ctx context.Context, height uint64) (*chain.Certificate, error) {
	encoded, err := s.reader().row(ctx, "certificate", "SELECT sum, certificate FROM certificates WHERE height = ?", height)
	if err != nil {
		return nil, err
	}
	c, err := chain.DecodeCertificate(encoded)
	if err != nil {
		return nil, s.file.Corrupt("certificate of height %d: %w", height, err)
	}
	return c, nil
}

// Justification returns the encoded proposal of a block decided in a round above 0; others wrap
// ErrNotFound.
func (s *Store) Justification(ctx context.Context, height uint64) ([]byte, error) {
	return s.reader().row(ctx, "justification", "SELECT sum, justification FROM justifications WHERE height = ?", height)
}

// EncodedBlocks returns the encodings (chain.FinalBlock) of consecutive final blocks from a height
// >= 1 on: at most maxCount of them and maxBytes in all, but always the first one. There are none
// above Height.
func (s *Store) EncodedBlocks(ctx context.Context, from uint64, maxCount, maxBytes int) ([][]byte, error) {
	if from == 0 {
		return nil, errors.New("store: block 0 is genesis and has no encoding")
	}
	if from > s.Height() || maxCount <= 0 {
		return nil, nil
	}
	return s.reader().encodedBlocks(ctx, from, maxCount, maxBytes)
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

// Epoch returns what is final of one beacon epoch.
func (s *Store) Epoch(ctx context.Context, number uint64) (chain.Epoch, error) {
	found, err := s.Epochs(ctx, number, 1)
	if err != nil {
		return chain.Epoch{}, err
	}
	if len(found) == 0 || found[0].Number != number {
		return chain.Epoch{}, fmt.Errorf("store: epoch %d: %w", number, ErrNotFound)
	}
	return found[0], nil
}

// EvidencePerValidator is how many pieces of evidence are kept about one validator: one is enough
// to convict it, and it must not be able to fill the disk with more.
const EvidencePerValidator = 64

// AddEvidence keeps evidence, one piece for each validator, rule, height and round. added is false
// if there is one already, or EvidencePerValidator are kept. The caller has verified it.
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

// EvidenceHeld is how many pieces of evidence are held.
func (s *Store) EvidenceHeld() int { return int(s.evidence.Load()) }

// Evidence returns at most limit pieces of evidence held, oldest first.
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

// PutMeta keeps a small value (at most 64 KiB) under a name.
func (s *Store) PutMeta(ctx context.Context, key string, value []byte) error {
	if key == "" || len(key) > maxMetaKey || len(value) > maxMetaValue {
		return fmt.Errorf("store: meta key of %d bytes with a value of %d, allowed are 1 to %d and up to %d",
			len(key), len(value), maxMetaKey, maxMetaValue)
	}
	return s.writer.submit(ctx, len(value), func(tx *transaction) error {
		return tx.exec(putMeta, key, append([]byte{}, value...)) // never NULL
	})
}

// Meta returns the value kept under a name, nil if there is none.
func (s *Store) Meta(ctx context.Context, key string) ([]byte, error) {
	var value []byte
	err := s.reads.QueryRowContext(ctx, "SELECT value FROM meta WHERE key = ?", key).Scan(&value)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	// an empty value is not none
	return append([]byte{}, value...), s.file.Explain("read meta", err)
}
