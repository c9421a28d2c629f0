package trie

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"sync"
)

// location is where a record is: the segment's number (24 bits), the offset in it (28) and the
// record's length (12).
type location uint64

const (
	offsetBits, lengthBits = 28, 12
	maxRecord              = 1<<lengthBits - 1

	// segmentBytes is the size from which on records go to a new segment.
	segmentBytes = 32 << 20
	// bufferBytes is how many bytes of records are written at once.
	bufferBytes = 1 << 20
	// headerLen is the length of a segment's header: magic 8, nonce 8, number 4, CRC 4.
	headerLen = 24
)

func locate(segment uint32, offset int64, length int) location {
	return location(segment)<<(offsetBits+lengthBits) | location(offset)<<lengthBits | location(length)
}

func (l location) segment() uint32 { return uint32(l >> (offsetBits + lengthBits)) }
func (l location) offset() int64   { return int64(l >> lengthBits & (1<<offsetBits - 1)) }
func (l location) length() int     { return int(l & maxRecord) }

// segment is one of the append-only files that hold the pages' records.
type segment struct {
	number uint32
	file   *os.File
	size   int64 // bytes of records and header, those in the buffer included
	live   int64 // bytes of the records that entries name
	synced bool
}

// segments are the files with the pages' records. A record is never changed. A segment without live
// records is removed once a checkpoint that does not need it is on disk.
type segments struct {
	dir   string
	nonce uint64 // of this trie: no record of an earlier one in the same directory passes for its own
	bytes int64  // segmentBytes, or fewer in tests

	byNumber map[uint32]*segment
	active   *segment
	last     uint32 // highest number used
	buffer   []byte // the end of active, not written yet
	appended int64  // bytes since the last checkpoint
	total    int64  // bytes since the start
}

func segmentName(number uint32) string { return fmt.Sprintf("pages-%08d", number) }

func segmentHeader(nonce uint64, number uint32) []byte {
	b := binary.LittleEndian.AppendUint64([]byte("DSQTRIEP"), nonce)
	return seal(binary.LittleEndian.AppendUint32(b, number))
}

// sum returns the checksum of the record of a page: it is of this page, at this place, of this
// trie.
func (s *segments) sum(id uint64, at location, record []byte) uint32 {
	var tag [24]byte
	binary.LittleEndian.PutUint64(tag[:], s.nonce)
	binary.LittleEndian.PutUint64(tag[8:], id)
	binary.LittleEndian.PutUint64(tag[16:], uint64(at))
	return crc32.Update(crc32.Checksum(tag[:], castagnoli), castagnoli, record)
}

// append adds the record of a page, which write appends to a slice, and returns where it is.
func (s *segments) append(id uint64, write func(b []byte) []byte) (location, error) {
	if len(s.buffer) >= 4*bufferBytes {
		if err := s.flush(); err != nil {
			return 0, err
		}
	}
	if s.active == nil || s.active.size >= s.bytes {
		if err := s.begin(); err != nil {
			return 0, err
		}
	}
	before := len(s.buffer)
	s.buffer = write(s.buffer)
	record := s.buffer[before:]
	at := locate(s.active.number, s.active.size, len(record)+4)
	s.buffer = binary.LittleEndian.AppendUint32(s.buffer, s.sum(id, at, record))
	n := int64(at.length())
	s.active.size += n
	s.active.live += n
	s.active.synced = false
	s.appended += n
	s.total += n
	return at, nil
}

// begin starts a new segment.
func (s *segments) begin() error {
	if err := s.flush(); err != nil {
		return err
	}
	number := s.last + 1
	f, err := os.OpenFile(filepath.Join(s.dir, segmentName(number)), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	header := segmentHeader(s.nonce, number)
	if _, err := f.Write(header); err != nil {
		return errors.Join(err, f.Close())
	}
	s.last = number
	s.active = &segment{number: number, file: f, size: headerLen}
	s.byNumber[number] = s.active
	return nil
}

// flush writes the buffer. Readers must be kept out.
func (s *segments) flush() error {
	if len(s.buffer) == 0 {
		return nil
	}
	if _, err := s.active.file.WriteAt(s.buffer, s.active.size-int64(len(s.buffer))); err != nil {
		return err
	}
	s.buffer = s.buffer[:0]
	return nil
}

// dead notes that nothing names a record any more.
func (s *segments) dead(at location) {
	if at != 0 {
		s.byNumber[at.segment()].live -= int64(at.length())
	}
}

// room is for records that are read.
var room = sync.Pool{New: func() any { return new([maxRecord]byte) }}

// read calls use with a page's record, without its checksum, which is checked.
func (s *segments) read(id uint64, at location, use func(record []byte) error) error {
	seg := s.byNumber[at.segment()]
	if seg == nil {
		return corrupt(segmentName(at.segment()), "the segment of page %d is missing", id)
	}
	buf := room.Get().(*[maxRecord]byte)
	defer room.Put(buf)
	b := buf[:at.length()]
	if written := seg.size - int64(len(s.buffer)); seg == s.active && at.offset() >= written {
		b = s.buffer[at.offset()-written:][:at.length()]
	} else if _, err := seg.file.ReadAt(b, at.offset()); err != nil {
		return s.failed(seg, id, err)
	}
	if err := s.check(id, at, b); err != nil {
		return err
	}
	if err := use(b[:len(b)-4]); err != nil {
		return corrupt(segmentName(seg.number), "page %d at %d: %w", id, at.offset(), err)
	}
	return nil
}

func (s *segments) check(id uint64, at location, b []byte) error {
	if len(b) < 4 {
		return corrupt(segmentName(at.segment()), "page %d at %d: %w", id, at.offset(), errLength)
	}
	record, want := b[:len(b)-4], binary.LittleEndian.Uint32(b[len(b)-4:])
	if s.sum(id, at, record) != want {
		return corrupt(segmentName(at.segment()), "page %d at %d: %w", id, at.offset(), errChecksum)
	}
	return nil
}

// failed explains why a record was not read.
func (s *segments) failed(seg *segment, id uint64, err error) error {
	return readFailed(segmentName(seg.number), fmt.Sprintf("page %d", id), err)
}

// inOrder returns the segments by number.
func (s *segments) inOrder() []*segment {
	list := make([]*segment, 0, len(s.byNumber))
	for _, seg := range s.byNumber {
		list = append(list, seg)
	}
	slices.SortFunc(list, func(a, b *segment) int { return cmp.Compare(a.number, b.number) })
	return list
}

// named returns the segments that a checkpoint names, by number.
func (s *segments) named() []*segment {
	return slices.DeleteFunc(s.inOrder(), func(seg *segment) bool { return seg.live == 0 && seg != s.active })
}

func (s *segments) close() error {
	errs := make([]error, 0, len(s.byNumber))
	for _, seg := range s.byNumber {
		errs = append(errs, seg.file.Close())
	}
	return errors.Join(errs...)
}

// corrupt returns an error that wraps ErrCorrupt and names the file.
func corrupt(name, format string, args ...any) error {
	return fmt.Errorf("%s: %w: %w", name, ErrCorrupt, fmt.Errorf(format, args...))
}
