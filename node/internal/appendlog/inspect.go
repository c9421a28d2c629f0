package appendlog

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"os"
)

// Options say which log it is.
type Options struct {
	// Dir is the directory, Name the first part of the names of the segments.
	Dir, Name string
	// Identity is of the chain.
	Identity [32]byte
	// SegmentBytes is the size from which on a segment gets no more groups; 0 for the default.
	SegmentBytes int64
}

// segmentBytes is the default of Options.SegmentBytes.
const segmentBytes = 256 << 20

// A Mark is how far a log was durable at a moment.
type Mark struct {
	// End is the position behind the last group.
	End int64
	// Group is the number of the last group: they count from 1.
	Group uint64
}

// Found is a log as Inspect found it.
type Found struct {
	options  Options
	segments []segment
	unborn   string
	mark     Mark
}

// Mark is where the log ends, less what is cut off when it is opened.
func (f *Found) Mark() Mark { return f.mark }

// Inspect reads the records from a position on, which is one of a record or the end of the log, and
// calls visit with each. known is a mark of the log from earlier, of a zero value if there is none:
// everything below it has to be there.
func Inspect(o Options, from int64, known Mark, visit func(Record) error) (*Found, error) {
	if o.SegmentBytes == 0 {
		o.SegmentBytes = segmentBytes
	}
	segments, unborn, err := o.list()
	if err != nil {
		return nil, err
	}
	f := &Found{options: o, segments: segments, unborn: unborn, mark: known}
	end := int64(0)
	if n := len(segments); n > 0 {
		end = segments[n-1].end()
	}
	if end < known.End {
		return nil, corrupt(o.fileName(0), "the log ends at position %d and was at %d: segments are missing, cut short, or of an older copy",
			end, known.End)
	}
	s := scanner{known: known, visit: visit, last: Mark{End: from}, whole: true}
	if from == known.End {
		s.last, s.group = known, known.Group
	}
	for i := range segments {
		if segments[i].end() < from || segments[i].end() == from && i < len(segments)-1 {
			continue
		}
		if err := s.segment(&segments[i], i == len(segments)-1); err != nil {
			return nil, err
		}
	}
	if s.last.End < known.End {
		return nil, corrupt(o.fileName(0), "the last whole group ends at position %d, and the log was at %d", s.last.End, known.End)
	}
	f.mark = s.last
	return f, nil
}

// InspectEnd is Inspect for a caller without a mark that needs no record: it reads the last segment
// alone.
func InspectEnd(o Options) (*Found, error) {
	segments, _, err := o.list()
	if err != nil {
		return nil, err
	}
	from := int64(0)
	if n := len(segments); n > 0 {
		from = segments[n-1].base
	}
	return Inspect(o, from, Mark{}, func(Record) error { return nil })
}

// A scanner reads the records of one segment after the other.
type scanner struct {
	known Mark
	visit func(Record) error
	// last is behind the last whole group, and held are the records behind it.
	last Mark
	held []Record
	// group is that of the last record read, 0 if that is not known yet: then it is below known.
	// whole is set if the record is the last one of its group.
	group uint64
	whole bool
}

func (s *scanner) segment(of *segment, newest bool) (err error) {
	file, err := os.Open(of.path)
	if err != nil {
		return explain(of.path, "inspect", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if s.last.End <= of.base {
		s.group = of.group
	}
	at := min(max(s.last.End, of.base+headerBytes), of.end())
	in := bufio.NewReaderSize(io.NewSectionReader(file, at-of.base, of.end()-at), 1<<20)
	for at < of.end() {
		r, err := read(in, of, at)
		if err == nil {
			err = s.record(&r, of)
		}
		switch {
		case errors.Is(err, errNoRecord):
			if at < s.known.End || !newest {
				return corrupt(of.path, "no record at position %d", at)
			}
			return s.torn(file, of, at)
		case err != nil:
			return err
		}
		at = r.end()
	}
	if !s.whole && (!newest || at <= s.known.End) {
		return corrupt(of.path, "it ends within a group")
	}
	if !newest {
		s.last.End = of.end()
	}
	return nil
}

// record takes note of a record, and hands over those of its group with the last.
func (s *scanner) record(r *Record, of *segment) error {
	if r.Position < s.known.End && r.end() > s.known.End {
		return corrupt(of.path, "the log was at position %d, within the record at %d", s.known.End, r.Position)
	}
	// Groups follow each other without a gap, and a group is in one segment. A record that does
	// not follow is left from a group that was cut off.
	next := s.group
	if s.whole {
		next++
	}
	if s.group != 0 && r.group != next {
		return errNoRecord
	}
	s.group, s.whole = r.group, r.last
	s.held = append(s.held, *r)
	if !r.last {
		return nil
	}
	for _, h := range s.held {
		if err := s.visit(h); err != nil {
			return err
		}
	}
	s.held = s.held[:0]
	s.last = Mark{End: r.end(), Group: r.group}
	return nil
}

// errNoRecord says that there is no record where one could be.
var errNoRecord = errors.New("no record")

// read reads the record at a position of a segment.
func read(in *bufio.Reader, of *segment, at int64) (r Record, err error) {
	head, err := in.Peek(recordBytes)
	if errors.Is(err, io.EOF) {
		return r, errNoRecord
	}
	if err != nil {
		return r, explain(of.path, "inspect", err)
	}
	n := int64(binary.BigEndian.Uint32(head[4:])) + recordBytes
	if n > of.end()-at {
		return r, errNoRecord
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(in, b); err != nil {
		return r, explain(of.path, "inspect", err)
	}
	r, ok := parse(b, of.salt, at)
	if !ok {
		return r, errNoRecord
	}
	return r, nil
}

// lookAhead is how far behind a place without a record others are looked for: more than the largest
// group and a record.
const lookAhead = 3 * groupBytes

// torn is called with a place in the newest segment, above every mark, where a record could be and
// is none. That is what a loss of power leaves of the group that was under way. It is damage if a
// record of a later group follows: a group is written once the one before it is durable.
func (s *scanner) torn(file *os.File, of *segment, at int64) error {
	under := s.group // the group that was under way
	if s.whole {
		under++
	}
	b := make([]byte, min(of.end()-at, lookAhead))
	if _, err := file.ReadAt(b, at-of.base); err != nil {
		return explain(of.path, "inspect", err)
	}
	for i := 1; i+recordBytes <= len(b); i++ {
		group := binary.BigEndian.Uint64(b[i+8:])
		if group <= under || group > under+lookAhead {
			continue
		}
		if _, ok := parse(b[i:], of.salt, at+int64(i)); ok {
			return corrupt(of.path, "no record at position %d, and one of a later group at %d", at, at+int64(i))
		}
	}
	return nil
}
