package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/internal/appendlog"
	"github.com/diseq/diseq/node/internal/sqlitefile"
)

// A reader reads final blocks through any pool of connections. Where the rows of a block are
// damaged it returns the copy that Replace has stored, if there is one, and else a
// *DamagedBlockError.
type reader struct {
	db   *sql.DB
	file *sqlitefile.File
	log  appendlog.Reader
	// places is the column with the places of the messages; a constant for a file of an older
	// schema.
	places string
}

func (s *Store) reader() reader {
	return reader{db: s.reads, file: s.file, log: s.log.Reader(), places: "b.places"}
}

// damaged makes a *DamagedBlockError of damage, and leaves other errors as they are.
func damaged(height uint64, err error) error {
	if _, already := errors.AsType[*DamagedBlockError](err); already || !errors.Is(err, ErrCorrupt) {
		return err
	}
	return &DamagedBlockError{Height: height, Err: err}
}

// encodedBlocks returns the encodings of consecutive final blocks, all of which exist, from a
// height on: at most count, and only one if it alone has limit bytes or more.
func (r reader) encodedBlocks(ctx context.Context, from uint64, count, limit int) (out [][]byte, err error) {
	for size := 0; len(out) < count; {
		full, err := r.appendRows(ctx, from, count, limit, &out, &size)
		if err == nil && (full || len(out) == count) {
			break
		}
		height := from + uint64(len(out))
		if err == nil {
			err = r.file.Corrupt("it is missing")
		}
		copied, err := r.copied(ctx, height, damaged(height, err))
		if err != nil {
			return nil, err
		}
		if size += len(copied); size > limit && len(out) > 0 {
			break
		}
		out = append(out, copied)
	}
	return out, nil
}

// appendRows appends the encodings of the blocks that follow in a range, until the range ends, the
// limit is reached (full), or a block is damaged.
func (r reader) appendRows(ctx context.Context, from uint64, count, limit int, out *[][]byte, size *int) (full bool, err error) {
	first := from + uint64(len(*out))
	rows, err := r.db.QueryContext(ctx, `SELECT b.height, b.block_sum, b.messages_sum, c.sum, b.block, b.messages, `+r.places+`, c.certificate
		FROM blocks b JOIN certificates c ON c.height = b.height WHERE b.height >= ? ORDER BY b.height LIMIT ?`, int64(first), count-len(*out))
	if err != nil {
		return false, r.file.Explain("read blocks", err)
	}
	defer func() { err = errors.Join(err, r.file.Explain("read blocks", rows.Close())) }()
	for rows.Next() {
		var height, blockSum, messagesSum, certificateSum int64
		var block, messages, places, certificate sql.RawBytes
		if err := rows.Scan(&height, &blockSum, &messagesSum, &certificateSum, &block, &messages, &places, &certificate); err != nil {
			return false, r.file.Explain("read blocks", err)
		}
		h := uint64(height)
		if h != from+uint64(len(*out)) {
			return false, r.file.Corrupt("it is missing")
		}
		if checksum(h, block) != blockSum || checksum(h, certificate) != certificateSum {
			return false, r.file.Corrupt("it does not have its checksum")
		}
		expand, length, err := r.messages(messages, places)
		if err != nil {
			return false, err
		}
		if *size += len(block) + length + len(certificate); *size > limit && len(*out) > 0 {
			return true, nil
		}
		one := append(make([]byte, 0, len(block)+length+len(certificate)), block...)
		if one, err = expand(one); err != nil {
			return false, err
		}
		if checksum(h, one[len(block):]) != messagesSum {
			return false, r.otherMessages(places)
		}
		*out = append(*out, append(one, certificate...))
	}
	return false, r.file.Explain("read blocks", rows.Err())
}

// messages returns what appends the encoding of a block's messages, from its row or by the places
// there, and the size of that.
func (r reader) messages(row, places []byte) (expand func([]byte) ([]byte, error), size int, err error) {
	if len(places) == 0 {
		return func(b []byte) ([]byte, error) { return append(b, row...), nil }, len(row), nil
	}
	count, ranges, size, err := decodePlaces(places)
	if err != nil {
		return nil, 0, r.file.Corrupt("%w", err)
	}
	return func(b []byte) ([]byte, error) { return r.log.Append(append(b, count...), ranges...) }, size, nil
}

// otherMessages says that the messages of a block do not have their checksum. It names the file
// that has them.
func (r reader) otherMessages(places []byte) error {
	if _, ranges, _, err := decodePlaces(places); err == nil && len(ranges) > 0 {
		return r.log.Corrupt(ranges[0], "the messages of a block, from there on, do not have their checksum")
	}
	return r.file.Corrupt("its messages do not have their checksum")
}

// block returns a final block that exists.
func (r reader) block(ctx context.Context, height uint64) (*chain.FinalBlock, error) {
	encoded, err := r.encodedBlocks(ctx, height, 1, 0)
	if err != nil {
		return nil, err
	}
	f, err := r.decode(height, encoded[0])
	if err == nil {
		return f, nil
	}
	// With its checksum, and yet not what was written.
	copied, err := r.copied(ctx, height, err)
	if err != nil {
		return nil, err
	}
	return r.decode(height, copied)
}

// intact returns nil if the rows of a final block are not damaged, whether there is a copy or not.
func (r reader) intact(ctx context.Context, height uint64) error {
	var out [][]byte
	if _, err := r.appendRows(ctx, height, 1, 0, &out, new(int)); err != nil {
		return damaged(height, err)
	}
	if len(out) == 0 {
		return damaged(height, r.file.Corrupt("it is missing"))
	}
	_, err := r.decode(height, out[0])
	return err
}

// decode decodes a block of the file. Every fault of the encoding is damage.
func (r reader) decode(height uint64, encoded []byte) (*chain.FinalBlock, error) {
	// The sum of all messages bounds each of them: what was committed was within max_block_bytes,
	// which decoding allows for.
	f, err := chain.DecodeFinalBlock(encoded, len(encoded))
	if err == nil {
		err = consistent(f, height)
	}
	if err != nil {
		return nil, damaged(height, r.file.Corrupt("%w", err))
	}
	return f, nil
}

// consistent compares the parts of a stored block as far as that costs no more than one hash. The
// checksums of the rows cover the messages.
func consistent(f *chain.FinalBlock, height uint64) error {
	switch {
	case f.Header.Height != height:
		return fmt.Errorf("its header says height %d", f.Header.Height)
	case int(f.Header.MessagesCount) != len(f.Messages):
		return fmt.Errorf("it has %d messages, its header says %d", len(f.Messages), f.Header.MessagesCount)
	case f.Certificate.Block != f.Hash():
		return fmt.Errorf("its certificate is of block %v, its header has hash %v", f.Certificate.Block, f.Hash())
	}
	return nil
}

// copied returns the encoding that Replace has stored for a damaged block, and the damage if there
// is none or the copy is damaged too.
func (r reader) copied(ctx context.Context, height uint64, damage error) ([]byte, error) {
	if _, ok := errors.AsType[*DamagedBlockError](damage); !ok {
		return nil, damage
	}
	var sum int64
	var encoded []byte
	err := r.db.QueryRowContext(ctx, "SELECT sum, block FROM copies WHERE height = ? ORDER BY arrival DESC LIMIT 1", int64(height)).
		Scan(&sum, &encoded)
	if err != nil || sum != checksum(height, encoded) {
		return nil, damage
	}
	return encoded, nil
}

// part returns the encoding of one part of a final block that exists, by a query for a checksum and
// what it covers.
func (r reader) part(ctx context.Context, query string, height uint64) ([]byte, error) {
	var sum int64
	var content []byte
	err := r.db.QueryRowContext(ctx, query, int64(height)).Scan(&sum, &content)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		err = r.file.Corrupt("it is missing")
	case err != nil:
		err = r.file.Explain("read block", err)
	case sum != checksum(height, content):
		err = r.file.Corrupt("it does not have its checksum")
	}
	return content, damaged(height, err)
}

func (r reader) head(ctx context.Context, height uint64) (*chain.Block, error) {
	encoded, err := r.part(ctx, "SELECT block_sum, block FROM blocks WHERE height = ?", height)
	if err == nil {
		var b *chain.Block
		if b, err = chain.DecodeBlock(encoded); err == nil && b.Header.Height == height {
			return b, nil
		}
		err = damaged(height, r.file.Corrupt("block %d without messages: %w", height, err))
	}
	f, err := r.decodedCopy(ctx, height, err)
	if err != nil {
		return nil, err
	}
	return &f.Block, nil
}

func (r reader) certificate(ctx context.Context, height uint64) (*chain.Certificate, error) {
	encoded, err := r.part(ctx, "SELECT sum, certificate FROM certificates WHERE height = ?", height)
	if err == nil {
		var c *chain.Certificate
		if c, err = chain.DecodeCertificate(encoded); err == nil {
			return c, nil
		}
		err = damaged(height, r.file.Corrupt("certificate: %w", err))
	}
	f, err := r.decodedCopy(ctx, height, err)
	if err != nil {
		return nil, err
	}
	return &f.Certificate, nil
}

// decodedCopy is copied, decoded.
func (r reader) decodedCopy(ctx context.Context, height uint64, damage error) (*chain.FinalBlock, error) {
	encoded, err := r.copied(ctx, height, damage)
	if err != nil {
		return nil, err
	}
	return r.decode(height, encoded)
}

// Block returns a final block; height 0 is genesis, with a zero certificate.
func (s *Store) Block(ctx context.Context, height uint64) (*chain.FinalBlock, error) {
	if height == 0 {
		return s.genesisBlock(), nil
	}
	if err := s.exists(height); err != nil {
		return nil, err
	}
	return s.reader().block(ctx, height)
}

// Head returns a final block without reading its messages.
func (s *Store) Head(ctx context.Context, height uint64) (*chain.Block, error) {
	if height == 0 {
		return &s.genesisBlock().Block, nil
	}
	if err := s.exists(height); err != nil {
		return nil, err
	}
	return s.reader().head(ctx, height)
}

// Certificate returns the finalization of a block: the strongest that was written.
func (s *Store) Certificate(ctx context.Context, height uint64) (*chain.Certificate, error) {
	if err := s.exists(height); err != nil {
		return nil, err
	}
	return s.reader().certificate(ctx, height)
}

// exists returns nil if there is a final block at a height above genesis.
func (s *Store) exists(height uint64) error {
	if _, err := signed(height); err != nil {
		return err
	}
	if height == 0 || height > s.Height() {
		return fmt.Errorf("store: block %d: %w", height, ErrNotFound)
	}
	return nil
}

// EncodedBlocks returns the encodings (chain.FinalBlock) of consecutive final blocks from a height
// >= 1 on: at most maxCount of them and maxBytes in all, but always the first one. There are none
// above Height.
func (s *Store) EncodedBlocks(ctx context.Context, from uint64, maxCount, maxBytes int) ([][]byte, error) {
	if from == 0 {
		return nil, errors.New("store: block 0 is genesis and has no encoding")
	}
	top := s.Height()
	if from > top || maxCount <= 0 {
		return nil, nil
	}
	return s.reader().encodedBlocks(ctx, from, int(min(uint64(maxCount), top-from+1)), maxBytes)
}
