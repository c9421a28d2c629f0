package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/internal/appendlog"
)

// inlineBytes is up to which size the messages of a block of which no batch is stored go into the
// block's row. A log entry would cost an fsync of its own.
const inlineBytes = 32 << 10

// body is what the row of a block has of its messages: the encoding itself, or the places in the
// log of what comes behind the count in that encoding.
type body struct {
	messages []byte
	places   []byte
	sum      int64
}

// size is about how much of a transaction the body takes.
func (b *body) size() int { return len(b.messages) + len(b.places) }

// body makes the messages of a block durable, as far as no batch in the log has them, and returns
// what goes into the block's row. A commit that is repeated because the disk was full finds them in
// the log.
func (s *Store) body(ctx context.Context, c *chain.Commit, hash chain.Hash) (*body, error) {
	s.making.Lock()
	defer s.making.Unlock()
	if s.made != nil && s.madeOf == hash {
		return s.made, nil
	}
	made, err := s.makeBody(ctx, c)
	if err == nil {
		s.made, s.madeOf = made, hash
	}
	return made, err
}

func (s *Store) makeBody(ctx context.Context, c *chain.Commit) (*body, error) {
	f := c.Block
	pieces := s.pieces(f.Messages, c.Sources)
	b, err := s.placed(ctx, f, pieces)
	if !errors.Is(err, errOtherBytes) {
		return b, err
	}
	// The caller's fault. Nothing is lost by it: the block gets a copy of its own.
	s.logger.Error("the messages of a block are not where they should be in the log: they are written again",
		"height", f.Header.Height, "err", err)
	return s.placed(ctx, f, []piece{{messages: f.Messages}})
}

// A piece is a run of a block's messages. Its place has no length if the log does not have them.
type piece struct {
	messages []chain.Message
	place    appendlog.Range
}

// pieces finds the messages of a block by the sources that the caller named. Messages without a
// source are not in the log.
func (s *Store) pieces(messages []chain.Message, sources []chain.Source) (out []piece) {
	for _, source := range sources {
		if source.Count <= 0 || source.Count > len(messages) {
			break
		}
		run := messages[:source.Count]
		messages = messages[source.Count:]
		out = append(out, piece{run, s.placeOf(&source, run)})
	}
	if len(messages) > 0 {
		out = append(out, piece{messages: messages})
	}
	return out
}

// placeOf returns where a run is in the log, a place without a length if it is not there.
func (s *Store) placeOf(source *chain.Source, run []chain.Message) appendlog.Range {
	position, length, ok := s.pending.place(source.Batch)
	n := encodedSize(run)
	if !ok || source.Offset < 0 || source.Offset > length-batchHead-n {
		return appendlog.Range{}
	}
	return appendlog.Range{Position: position + appendlog.HeaderBytes + batchHead + int64(source.Offset), Length: n}
}

func encodedSize(messages []chain.Message) (n int) {
	for i := range messages {
		n += messages[i].Size()
	}
	return n
}

// messagesCount is the size of the count before the messages in their encoding.
const messagesCount = 4

// errOtherBytes says that the log has other bytes than the messages of a block.
var errOtherBytes = errors.New("other bytes")

func (s *Store) placed(ctx context.Context, f *chain.FinalBlock, pieces []piece) (*body, error) {
	h := f.Header.Height
	var missing []int
	for i := range pieces {
		if pieces[i].place.Length == 0 {
			missing = append(missing, i)
		}
	}
	if len(missing) == len(pieces) && encodedSize(f.Messages) <= inlineBytes {
		messages := chain.EncodeMessages(f.Messages)
		return &body{messages: messages, sum: checksum(h, messages)}, nil
	}
	if len(missing) > 0 {
		entries := make([]appendlog.Entry, len(missing))
		for i, at := range missing {
			encoded := chain.EncodeMessages(pieces[at].messages)[messagesCount:]
			entries[i] = appendlog.Entry{Kind: recordMessages, Content: [][]byte{encoded}}
		}
		positions, err := s.log.Append(ctx, nil, entries...)
		if err != nil {
			return nil, closedLog(err)
		}
		for i, at := range missing {
			pieces[at].place = appendlog.Range{Position: positions[i] + appendlog.HeaderBytes, Length: entries[i].Size() - appendlog.HeaderBytes}
		}
	}
	ranges := make([]appendlog.Range, len(pieces))
	for i := range pieces {
		ranges[i] = pieces[i].place
	}
	// The row must not refer to anything else than the block's messages: they would be lost. So
	// they are read, from memory, and compared.
	encoded := binary.BigEndian.AppendUint32(make([]byte, 0, messagesCount+encodedSize(f.Messages)), uint32(len(f.Messages)))
	encoded, err := s.log.Reader().Append(encoded, ranges...)
	if err != nil {
		return nil, err
	}
	if err := same(encoded[messagesCount:], f.Messages); err != nil {
		return nil, err
	}
	return &body{messages: []byte{}, places: encodePlaces(len(f.Messages), ranges), sum: checksum(h, encoded)}, nil
}

// same compares the encodings of messages, one behind the other, with the messages.
func same(encoded []byte, messages []chain.Message) error {
	for i := range messages {
		m := &messages[i]
		if len(encoded) < m.Size() || binary.BigEndian.Uint32(encoded) != m.Timestamp ||
			int64(binary.BigEndian.Uint32(encoded[4:])) != int64(len(m.Data)) || !bytes.Equal(encoded[8:m.Size()], m.Data) {
			return fmt.Errorf("%w: message %d", errOtherBytes, i)
		}
		encoded = encoded[m.Size():]
	}
	return nil
}

const (
	placesHead = 4 + 4
	placeSize  = 8 + 4
)

// encodePlaces writes a CRC-32C over what follows, the number of messages as u32, and each place as
// position u64 and length u32.
func encodePlaces(count int, ranges []appendlog.Range) []byte {
	b := binary.BigEndian.AppendUint32(make([]byte, 4, placesHead+len(ranges)*placeSize), uint32(count))
	for _, r := range ranges {
		b = binary.BigEndian.AppendUint64(b, uint64(r.Position))
		b = binary.BigEndian.AppendUint32(b, uint32(r.Length))
	}
	binary.BigEndian.PutUint32(b, crc32.Checksum(b[4:], castagnoli))
	return b
}

// decodePlaces returns the count of the messages as it is encoded, the places of what follows it,
// and the size of both.
func decodePlaces(b []byte) (count []byte, ranges []appendlog.Range, size int, err error) {
	if len(b) < placesHead || (len(b)-placesHead)%placeSize != 0 || binary.BigEndian.Uint32(b) != crc32.Checksum(b[4:], castagnoli) {
		return nil, nil, 0, fmt.Errorf("%d bytes of places do not have their checksum", len(b))
	}
	count, size = b[4:placesHead], messagesCount
	for b = b[placesHead:]; len(b) > 0; b = b[placeSize:] {
		r := appendlog.Range{Position: int64(binary.BigEndian.Uint64(b)), Length: int(binary.BigEndian.Uint32(b[8:]))}
		ranges = append(ranges, r)
		size += r.Length
	}
	return count, ranges, size, nil
}
