package appendlog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/diseq/diseq/node/internal/sqlitefile"
)

// A segment file is a header and records (docs/storage.md):
//
//	magic 8, version u32, base u64, group u64, identity 32, salt u64, CRC-32C of these u32
//
// Numbers are big-endian, as everywhere in a node.
const (
	headerBytes   = 72
	formatVersion = 1
)

var (
	magic      = []byte("DIQSLOG\x00")
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

// A segment is one file of a log.
type segment struct {
	path string
	// base is the position of the file's first byte, size the number of its bytes.
	base, size int64
	// group is the number of the last group before the segment.
	group, salt uint64
}

func (s *segment) end() int64 { return s.base + s.size }

// fileName pads the base so that names sort in the order of the segments.
func (o *Options) fileName(base int64) string {
	return filepath.Join(o.Dir, fmt.Sprintf("%s-%015d.log", o.Name, base))
}

// header returns the first bytes of a segment.
func (o *Options) header(base int64, group, salt uint64) []byte {
	b := append(make([]byte, 0, headerBytes), magic...)
	b = binary.BigEndian.AppendUint32(b, formatVersion)
	b = binary.BigEndian.AppendUint64(b, uint64(base))
	b = binary.BigEndian.AppendUint64(b, group)
	b = append(b, o.Identity[:]...)
	b = binary.BigEndian.AppendUint64(b, salt)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// list finds the segments and reads their headers. unborn is set if the last file is the beginning
// of a segment whose creation was cut off; it is not among the segments then.
func (o *Options) list() (segments []segment, unborn string, err error) {
	names, err := filepath.Glob(filepath.Join(escape(o.Dir), o.Name+"-*.log"))
	if err != nil {
		return nil, "", err
	}
	slices.Sort(names)
	next := int64(0)
	for i, path := range names {
		s, err := o.readHeader(path)
		if i == len(names)-1 && errors.Is(err, errUnborn) {
			return segments, path, nil
		}
		if err != nil {
			return nil, "", err
		}
		if s.base != next {
			return nil, "", corrupt(path, "it begins at position %d, the segment before it ends at %d: a segment is missing or cut short",
				s.base, next)
		}
		segments, next = append(segments, s), s.end()
	}
	return segments, "", nil
}

// escape keeps the directory's own name from being a pattern.
func escape(dir string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(dir)
}

// errUnborn is wrapped when a file may be a segment whose creation was cut off: it has no valid
// header and no record. The header is synced before the first record is written.
var errUnborn = errors.New("no valid header and no record")

func (o *Options) readHeader(path string) (s segment, err error) {
	base, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimPrefix(filepath.Base(path), o.Name+"-"), ".log"), 10, 64)
	if err != nil {
		return s, corrupt(path, "its name has no position: %w", err)
	}
	f, err := os.Open(path)
	if err != nil {
		return s, explain(path, "inspect", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return s, explain(path, "inspect", err)
	}
	if !info.Mode().IsRegular() {
		return s, fmt.Errorf("inspect %s: not a regular file: %s", path, info.Mode().Type())
	}
	s = segment{path: path, base: base, size: info.Size()}
	var b [headerBytes]byte
	if _, err := io.ReadFull(f, b[:]); errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return s, corrupt(path, "%w", errUnborn)
	} else if err != nil {
		return s, explain(path, "inspect", err)
	}
	if binary.BigEndian.Uint32(b[headerBytes-4:]) != crc32.Checksum(b[:headerBytes-4], castagnoli) || !bytes.HasPrefix(b[:], magic) {
		if s.size <= headerBytes {
			return s, corrupt(path, "%w", errUnborn)
		}
		return s, corrupt(path, "its header does not have its checksum")
	}
	version := binary.BigEndian.Uint32(b[8:])
	s.group, s.salt = binary.BigEndian.Uint64(b[20:]), binary.BigEndian.Uint64(b[60:])
	switch identity := b[28:60]; {
	case version > formatVersion:
		return s, fmt.Errorf("%s: %w: format version %d, this program knows up to %d",
			filepath.Base(path), sqlitefile.ErrNewerSchema, version, formatVersion)
	case !bytes.Equal(identity, o.Identity[:]):
		return s, fmt.Errorf("%s: %w: the file is of genesis hash %x, the genesis document has %x",
			filepath.Base(path), sqlitefile.ErrWrongChain, identity, o.Identity)
	case binary.BigEndian.Uint64(b[12:]) != uint64(base):
		return s, corrupt(path, "its header says position %d", binary.BigEndian.Uint64(b[12:]))
	}
	return s, nil
}
