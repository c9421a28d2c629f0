package appendlog

import (
	"errors"
	"os"
	"slices"
)

// A Range is bytes of a log: they may be anywhere within a record.
type Range struct {
	Position int64
	Length   int
}

// A Reader reads a log. It sees no more of it than was durable when it was made.
type Reader struct {
	segments []segment
	path     string
}

// Reader returns a reader of all that is durable.
func (l *Log) Reader() Reader {
	l.reading.RLock()
	defer l.reading.RUnlock()
	return Reader{slices.Clone(l.segments), l.options.fileName(0)}
}

// Reader returns a reader of what was found.
func (f *Found) Reader() Reader { return Reader{f.segments, f.options.fileName(0)} }

// find returns the segment with a range.
func (r Reader) find(at Range) (*segment, error) {
	i, found := slices.BinarySearchFunc(r.segments, at.Position, func(s segment, position int64) int {
		switch {
		case s.base > position:
			return 1
		case s.end() <= position:
			return -1
		}
		return 0
	})
	if !found || at.Length < 0 || int64(at.Length) > r.segments[i].end()-at.Position {
		return nil, corrupt(r.path, "the log has no %d bytes at position %d", at.Length, at.Position)
	}
	return &r.segments[i], nil
}

// Append reads ranges and appends their bytes to b. It fails with ErrCorrupt if the log does not
// have them. It checks no checksum: the caller knows one of what it asked for.
func (r Reader) Append(b []byte, ranges ...Range) (_ []byte, err error) {
	var of *segment
	var file *os.File
	defer func() {
		if file != nil {
			err = errors.Join(err, file.Close())
		}
	}()
	for _, at := range ranges {
		s, err := r.find(at)
		if err != nil {
			return b, err
		}
		if s != of {
			if file != nil {
				if err := file.Close(); err != nil {
					return b, explain(of.path, "close", err)
				}
				file = nil
			}
			if file, err = os.Open(s.path); errors.Is(err, os.ErrNotExist) {
				return b, corrupt(s.path, "it is missing")
			} else if err != nil {
				return b, explain(s.path, "read", err)
			}
			of = s
		}
		n := len(b)
		b = slices.Grow(b, at.Length)[:n+at.Length]
		if _, err := file.ReadAt(b[n:], at.Position-s.base); err != nil {
			return b[:n], explain(s.path, "read", err)
		}
	}
	return b, nil
}

// Corrupt returns an error that wraps ErrCorrupt and names the segment with a range. A caller that
// knows a checksum of the bytes there has found that they are others.
func (r Reader) Corrupt(at Range, what string) error {
	s, err := r.find(at)
	if err != nil {
		return err
	}
	return corrupt(s.path, "%d bytes at position %d: %s", at.Length, at.Position, what)
}

// Record reads the record at a position, whose content has length bytes.
func (r Reader) Record(position int64, length int) (Record, error) {
	at := Range{position, recordBytes + length}
	s, err := r.find(at)
	if err != nil {
		return Record{}, err
	}
	b, err := r.Append(make([]byte, 0, at.Length), at)
	if err != nil {
		return Record{}, err
	}
	record, ok := parse(b, s.salt, position)
	if !ok || len(record.Content) != length {
		return Record{}, corrupt(s.path, "no record of %d bytes at position %d", length, position)
	}
	return record, nil
}
