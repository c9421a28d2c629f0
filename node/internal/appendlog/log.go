package appendlog

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/diseq/diseq/internal/durable"
)

// groupCalls and groupBytes bound the calls that share one group.
const (
	groupCalls = 256
	groupBytes = 16 << 20
)

// An Entry is a record to be appended.
type Entry struct {
	Kind byte
	// Content is in parts, which are written one behind the other.
	Content [][]byte
}

// Size is how many bytes the entry takes of the log.
func (e *Entry) Size() (n int) {
	n = recordBytes
	for _, p := range e.Content {
		n += len(p)
	}
	return n
}

// A Log is open for writing. Its methods may be called from any goroutine.
type Log struct {
	options Options
	seconds prometheus.Observer
	mark    atomic.Pointer[Mark]

	reading  sync.RWMutex // of segments
	segments []segment

	// These are the goroutine's own.
	file   *os.File // the newest segment; nil if the log has none
	buffer []byte

	queue   chan *call
	sending sync.RWMutex // of closed, and of sending to queue
	closed  bool
	done    sync.WaitGroup
}

// A call is one Append.
type call struct {
	entries   []Entry
	bytes     int
	positions []int64
	durable   func(positions []int64)
	// outcome receives the error once the group is on disk.
	outcome chan error
}

// Open opens a log for writing as Inspect has found it. It cuts off what a loss of power left of a
// group, and makes the rest durable. Nobody else may have written since. seconds takes the time of
// each group.
func (f *Found) Open(seconds prometheus.Observer) (*Log, error) {
	l := &Log{options: f.options, seconds: seconds, segments: f.segments, queue: make(chan *call, groupCalls)}
	l.mark.Store(&f.mark)
	if f.unborn != "" {
		if err := os.Remove(f.unborn); err != nil {
			return nil, explain(f.unborn, "remove", err)
		}
	}
	if n := len(l.segments); n > 0 {
		if err := l.openNewest(&l.segments[n-1]); err != nil {
			return nil, err
		}
	}
	l.done.Go(l.run)
	return l, nil
}

func (l *Log) openNewest(s *segment) (err error) {
	if l.file, err = os.OpenFile(s.path, os.O_RDWR, 0); err != nil {
		return explain(s.path, "open", err)
	}
	size := max(l.Mark().End-s.base, headerBytes)
	if size != s.size {
		err = l.file.Truncate(size)
	}
	// A process that was killed may have left a group, or the whole segment, in the memory of the
	// machine alone. From here on it counts as durable.
	if err == nil {
		err = l.file.Sync()
	}
	if err == nil {
		err = durable.Sync(l.options.Dir)
	}
	if err != nil {
		return errors.Join(explain(s.path, "make what was found durable", err), l.file.Close())
	}
	s.size = size
	return nil
}

// Mark is how far the log is durable.
func (l *Log) Mark() Mark { return *l.mark.Load() }

// Append appends entries as one group, or as a part of one, and returns their positions once they
// are durable. durable is called with the positions before Mark covers them, on the log's own
// goroutine. If ctx ends first, the outcome is unknown, and durable may still be called.
func (l *Log) Append(ctx context.Context, durable func(positions []int64), entries ...Entry) ([]int64, error) {
	c := &call{entries: entries, durable: durable, outcome: make(chan error, 1)}
	for i := range entries {
		c.bytes += entries[i].Size()
	}
	if err := l.enqueue(ctx, c); err != nil {
		return nil, err
	}
	select {
	case err := <-c.outcome:
		return c.positions, err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *Log) enqueue(ctx context.Context, c *call) error {
	l.sending.RLock()
	defer l.sending.RUnlock()
	if l.closed {
		return ErrClosed
	}
	select {
	case l.queue <- c:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l *Log) run() {
	for c := range l.queue {
		group := l.gather(c)
		start := time.Now()
		err := l.write(group)
		if err == nil {
			l.seconds.Observe(time.Since(start).Seconds())
		}
		for _, c := range group {
			c.outcome <- err
		}
	}
}

// gather takes the other calls in the queue. It never waits: the next group collects by itself
// while this one is synced.
func (l *Log) gather(first *call) []*call {
	group, bytes := []*call{first}, first.bytes
	for len(group) < groupCalls && bytes < groupBytes {
		select {
		case c, ok := <-l.queue:
			if !ok {
				return group
			}
			group = append(group, c)
			bytes += c.bytes
		default:
			return group
		}
	}
	return group
}

// write makes a group durable. After an error the log is as it was before.
func (l *Log) write(group []*call) error {
	mark := l.Mark()
	s, err := l.newest(mark)
	if err != nil {
		return err
	}
	at := max(mark.End, s.base+headerBytes)
	mark.Group++
	b := l.encode(group, s.salt, at, mark.Group)
	if len(b) == 0 {
		return nil
	}
	_, err = l.file.WriteAt(b, at-s.base)
	if err == nil {
		err = datasync(l.file)
	}
	if err != nil {
		// The part of the group that was written gives its space back. If that fails, too, the
		// next group overwrites it.
		return errors.Join(explain(s.path, "append", err), explain(s.path, "cut off a failed group", l.file.Truncate(at-s.base)))
	}
	mark.End = at + int64(len(b))
	l.reading.Lock()
	s.size = mark.End - s.base
	l.reading.Unlock()
	for _, c := range group {
		if c.durable != nil {
			c.durable(c.positions)
		}
	}
	l.mark.Store(&mark)
	return nil
}

// keptBuffer is the size from which on the buffer is not kept.
const keptBuffer = 4 << 20

// encode returns the records of a group that begins at a position.
func (l *Log) encode(group []*call, salt uint64, at int64, number uint64) []byte {
	size, left := 0, 0
	for _, c := range group {
		size += c.bytes
		left += len(c.entries)
	}
	b := l.buffer
	if cap(b) < size {
		b = make([]byte, size)
	}
	b = b[:size]
	if size <= keptBuffer {
		l.buffer = b
	}
	offset := 0
	for _, c := range group {
		c.positions = make([]int64, len(c.entries))
		for i := range c.entries {
			left--
			e := &c.entries[i]
			c.positions[i] = at + int64(offset)
			putRecord(b[offset:offset+e.Size()], salt, c.positions[i], e, number, left == 0)
			offset += e.Size()
		}
	}
	return b
}

// newest returns the segment that the next group goes to, and makes it if need be.
func (l *Log) newest(mark Mark) (*segment, error) {
	if n := len(l.segments); n > 0 && l.segments[n-1].size < l.options.SegmentBytes {
		return &l.segments[n-1], nil
	}
	var salt [8]byte
	if _, err := rand.Read(salt[:]); err != nil {
		return nil, err
	}
	s := segment{
		path: l.options.fileName(mark.End), base: mark.End, size: headerBytes, group: mark.Group, salt: binary.BigEndian.Uint64(salt[:]),
	}
	file, err := l.create(&s)
	if err != nil {
		return nil, err
	}
	if l.file != nil {
		err = explain(l.options.fileName(0), "close", l.file.Close())
	}
	l.file = file
	// A new array: readers may have the old one.
	l.reading.Lock()
	l.segments = append(slices.Clip(l.segments), s)
	l.reading.Unlock()
	return &l.segments[len(l.segments)-1], err
}

// create makes a segment, durable with its name.
func (l *Log) create(s *segment) (*os.File, error) {
	file, err := os.OpenFile(s.path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, explain(s.path, "create", err)
	}
	_, err = file.Write(l.options.header(s.base, s.group, s.salt))
	if err == nil {
		err = file.Sync()
	}
	if err == nil {
		err = durable.Sync(l.options.Dir)
	}
	if err != nil {
		return nil, errors.Join(explain(s.path, "create", err), file.Close(), os.Remove(s.path))
	}
	return file, nil
}

// Close writes everything queued and closes the files. Closing again does nothing.
func (l *Log) Close() error {
	l.sending.Lock()
	closed := l.closed
	if !closed {
		l.closed = true
		close(l.queue)
	}
	l.sending.Unlock()
	if closed {
		return nil
	}
	l.done.Wait()
	if l.file == nil {
		return nil
	}
	return l.file.Close()
}
