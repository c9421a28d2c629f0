package trie

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"github.com/diseq/diseq/internal/durable"
)

// A checkpoint is the trie at one height, but for the records of pages, the history and the
// milestones, which are in their own files. It is written beside the one before, and takes its
// place once everything that it names is fsynced. After a crash the trie is as at its last
// checkpoint.
//
//	head       magic 8, version 4, chain 32, nonce 8, CRC
//	counts     height 8, leaves 8, pages 8
//	segments   how many 4, then number 4 and size 8 of each
//	history    how many 4, then base 8 and size 8 of each
//	slots      the children of all 256 slots
//	pages      the location of each page's record, 8 each; 0: none
//	additions  page 8, how many 4, then these leaves, for each page that has any; page 0 ends them
//	CRC        of all since the head
type checkpoint struct {
	height uint64
	sync   []*os.File
	dead   []*segment     // removed once it is on disk
	old    []*historyFile // these too
	done   chan error
}

const (
	checkpointName    = "checkpoint"
	newSuffix         = ".new"
	checkpointMagic   = "DSQTRIEC"
	checkpointVersion = 1
	checkpointHead    = 8 + 4 + 32 + 8 + 4
	// smallPages is how many pages a trie may have to be written whole when it is closed: then
	// there are no additions in its checkpoint.
	smallPages = 8192
)

// due reports whether it is time for a checkpoint.
func (t *Trie) due() bool {
	var live int64
	for _, s := range t.store.byNumber {
		live += s.live
	}
	return t.fresh >= t.flushLeaves ||
		t.height-t.captured >= max(flushHeights, t.files.length/heightBytes) ||
		t.store.appended >= max(flushBytes, live)
}

// begin captures the trie at its height and starts to make that durable beside the appends that
// follow. It waits for a checkpoint that is under way.
func (t *Trie) begin() error {
	if err := t.settle(true); err != nil {
		return err
	}
	if err := t.writeStacks(); err != nil {
		return err
	}
	if err := t.writeMilestones(); err != nil {
		return err
	}
	c := &checkpoint{height: t.height, done: make(chan error, 1), sync: []*os.File{t.files.milestones}}
	if err := t.turnHistory(c); err != nil {
		return err
	}
	for _, s := range t.store.inOrder() {
		if s.live == 0 && s != t.store.active {
			c.dead = append(c.dead, s)
		} else if !s.synced {
			c.sync = append(c.sync, s.file)
			s.synced = true
		}
	}
	path := filepath.Join(t.files.dir, checkpointName)
	f, err := os.OpenFile(path+newSuffix, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if t.files.length, err = t.writeCheckpoint(f); err != nil {
		return errors.Join(err, f.Close())
	}
	t.fresh, t.captured, t.store.appended, t.pending = 0, t.height, 0, c
	go func() { c.done <- c.publish(f, path) }()
	return nil
}

// publish makes a checkpoint the newest one.
func (c *checkpoint) publish(f *os.File, path string) error {
	errs := make([]error, 0, len(c.sync)+3)
	for _, file := range c.sync {
		errs = append(errs, file.Sync())
	}
	// The names of new files must be there before the checkpoint that names them.
	errs = append(errs, f.Sync(), f.Close(), durable.Sync(filepath.Dir(path)))
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return durable.Rename(f.Name(), path)
}

// writeStacks writes all stack pages that changed, and the buffer.
func (t *Trie) writeStacks() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for p := t.pages.oldestChanged(); p != nil; p = t.pages.oldestChanged() {
		if err := t.write(p); err != nil {
			return err
		}
	}
	return t.store.flush()
}

// turnHistory starts a new file of the history if the last one covers enough heights.
func (t *Trie) turnHistory(c *checkpoint) error {
	h := t.files.history
	if err := h.flush(); err != nil {
		return err
	}
	c.sync = append(c.sync, h.last().file)
	if t.height-h.last().base < max(historyHeights, t.history/4) {
		return nil
	}
	if err := h.begin(t.height, &t.frontier); err != nil {
		return err
	}
	c.sync = append(c.sync, h.last().file)
	c.old = h.unneeded(t.oldest(t.height))
	return nil
}

// sink writes and sums what is written.
type sink struct {
	w   *bufio.Writer
	n   uint64
	sum uint32
}

func (s *sink) add(b []byte) error {
	s.sum = crc32.Update(s.sum, castagnoli, b)
	s.n += uint64(len(b))
	_, err := s.w.Write(b)
	return err
}

func (t *Trie) writeCheckpoint(f io.Writer) (length uint64, err error) {
	s := &sink{w: bufio.NewWriterSize(f, 1<<18)}
	head := binary.LittleEndian.AppendUint32([]byte(checkpointMagic), checkpointVersion)
	head = binary.LittleEndian.AppendUint64(append(head, t.chain[:]...), t.store.nonce)
	if err := s.add(seal(head)); err != nil {
		return 0, err
	}
	s.sum = 0
	b := make([]byte, 0, 1<<16)
	for _, n := range []uint64{t.height, t.leaves, uint64(len(t.pages.entries))} {
		b = binary.LittleEndian.AppendUint64(b, n)
	}
	list := t.store.named()
	b = binary.LittleEndian.AppendUint32(b, uint32(len(list)))
	for _, seg := range list {
		b = binary.LittleEndian.AppendUint32(b, seg.number)
		b = binary.LittleEndian.AppendUint64(b, uint64(seg.size))
	}
	b = binary.LittleEndian.AppendUint32(b, uint32(len(t.files.history.files)))
	for _, h := range t.files.history.files {
		b = binary.LittleEndian.AppendUint64(b, h.base)
		b = binary.LittleEndian.AppendUint64(b, uint64(h.size))
	}
	for i := range t.slots {
		b = appendChild(b, &t.slots[i].child)
	}
	if err := s.add(b); err != nil {
		return 0, err
	}
	if err := t.writePages(s, b[:0]); err != nil {
		return 0, err
	}
	if err := s.add(binary.LittleEndian.AppendUint32(b[:0], s.sum)); err != nil {
		return 0, err
	}
	return s.n, s.w.Flush()
}

// writePages writes the locations of all pages, and the additions.
func (t *Trie) writePages(s *sink, b []byte) error {
	for i := range t.pages.entries {
		b = binary.LittleEndian.AppendUint64(b, uint64(t.pages.entries[i].at))
		if len(b) >= 1<<15 {
			if err := s.add(b); err != nil {
				return err
			}
			b = b[:0]
		}
	}
	for i := range t.pages.entries {
		e := &t.pages.entries[i]
		if e.count == 0 {
			continue
		}
		b = binary.LittleEndian.AppendUint64(b, uint64(i+1))
		b = binary.LittleEndian.AppendUint32(b, e.count)
		t.additions.each(e, func(l *leaf) { b = appendLeaf(b, l) })
		if len(b) >= 1<<15 {
			if err := s.add(b); err != nil {
				return err
			}
			b = b[:0]
		}
	}
	return s.add(binary.LittleEndian.AppendUint64(b, 0))
}

// settle takes note of a checkpoint that is on disk, and removes what it made superfluous. Unless
// it is to wait, one under way is left alone.
func (t *Trie) settle(wait bool) error {
	c := t.pending
	if c == nil {
		return nil
	}
	select {
	case err := <-c.done:
		c.done <- err
	default:
		if !wait {
			return nil
		}
	}
	t.pending = nil
	if err := <-c.done; err != nil {
		return fmt.Errorf("checkpoint at height %d: %w", c.height, err)
	}
	t.mu.Lock()
	t.flushed = c.height
	for h := range t.milestones {
		if h <= c.height {
			delete(t.milestones, h)
		}
	}
	if t.readers.Load() > 0 {
		c.dead = nil // still read; the next checkpoint finds them dead again
	}
	for _, s := range c.dead {
		delete(t.store.byNumber, s.number)
	}
	t.mu.Unlock()
	var errs []error
	for _, s := range c.dead {
		errs = append(errs, s.file.Close(), os.Remove(s.file.Name()))
	}
	for _, h := range c.old {
		errs = append(errs, h.file.Close(), os.Remove(h.file.Name()))
	}
	return errors.Join(errs...)
}

// flushAll makes everything up to Height durable.
func (t *Trie) flushAll() error {
	if err := t.settle(true); err != nil || t.flushed == t.height {
		return err
	}
	if len(t.pages.entries) <= smallPages {
		if err := t.writeAdditions(); err != nil {
			return err
		}
	}
	if err := t.begin(); err != nil {
		return err
	}
	return t.settle(true)
}

// writeAdditions writes all pages that have additions.
func (t *Trie) writeAdditions() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range t.pages.entries {
		if t.pages.entries[i].count == 0 {
			continue
		}
		p, err := t.page(uint64(i + 1))
		if err != nil {
			return err
		}
		t.joins.leaves(p)
		t.joins.run()
		t.pages.pin(p)
		if err := t.write(p); err != nil {
			return err
		}
	}
	return nil
}

// readFailed explains an error of a read. A disk that does not give back what was written is
// damaged.
func readFailed(name, what string, err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.EIO) {
		return corrupt(name, "read %s: %w", what, err)
	}
	return fmt.Errorf("%s: read %s: %w", name, what, err)
}
