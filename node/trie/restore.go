package trie

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/diseq/diseq/internal/durable"
)

// readCheckpoint returns the checked contents of the checkpoint after its head, or fs.ErrNotExist.
func (t *Trie) readCheckpoint() ([]byte, error) {
	b, err := os.ReadFile(filepath.Join(t.files.dir, checkpointName))
	if err != nil {
		return nil, err
	}
	if len(b) < checkpointHead {
		return nil, corrupt(checkpointName, "%w", errLength)
	}
	head, err := unseal(b[:checkpointHead])
	if err == nil && string(head[:8]) != checkpointMagic {
		err = errors.New("no checkpoint of a trie")
	}
	if err != nil {
		return nil, corrupt(checkpointName, "%w", err)
	}
	if v := binary.LittleEndian.Uint32(head[8:]); v != checkpointVersion {
		return nil, fmt.Errorf("%s: %w: version %d, this program knows %d", checkpointName, ErrNewerSchema, v, checkpointVersion)
	}
	if chain := [32]byte(head[12:]); chain != t.chain {
		return nil, fmt.Errorf("%w: its genesis hash is %x, want %x", ErrWrongChain, chain, t.chain)
	}
	t.store.nonce = binary.LittleEndian.Uint64(head[44:])
	body, err := unseal(b[checkpointHead:])
	if err != nil {
		return nil, corrupt(checkpointName, "%w", err)
	}
	t.files.length = uint64(len(b))
	return body, nil
}

// source reads fields one after the other, and notes whether they were too few.
type source struct {
	b     []byte
	short bool
}

// take returns the next n bytes, which are zero if there are not as many.
func (s *source) take(n int) []byte {
	if len(s.b) < n {
		s.short, s.b = true, nil
		return make([]byte, n)
	}
	b := s.b[:n]
	s.b = s.b[n:]
	return b
}

func (s *source) uint32() uint32 { return binary.LittleEndian.Uint32(s.take(4)) }
func (s *source) uint64() uint64 { return binary.LittleEndian.Uint64(s.take(8)) }

// restore takes over what a checkpoint and the files that it names hold. Nothing is changed before
// all of it is checked.
func (t *Trie) restore(body []byte) error {
	s := &source{b: body}
	t.height, t.leaves = s.uint64(), s.uint64()
	pages := s.uint64()
	for n := s.uint32(); n > 0 && !s.short; n-- {
		if err := t.store.open(s.uint32(), int64(s.uint64())); err != nil {
			return err
		}
	}
	if err := t.restoreHistory(s); err != nil {
		return err
	}
	for i := range t.slots {
		t.slots[i].child = decodeChild(s.take(childRow))
	}
	if s.short || pages > uint64(len(s.b))/8 {
		return corrupt(checkpointName, "%w", errLength)
	}
	t.pages.entries = make([]pageEntry, pages)
	if err := t.restorePages(s); err != nil {
		return err
	}
	if len(s.b) > 0 {
		return corrupt(checkpointName, "%w", errLength)
	}
	for i := range t.slots {
		slot := &t.slots[i]
		if n := len(slot.versions); (n == 0) != (slot.id == 0) || n > 0 && slot.versions[n-1].hash != slot.hash {
			return corrupt(checkpointName, "slot %d is not what its last change says", i)
		}
		t.frontier.set(uint8(i), slot.hash)
	}
	t.frontier.rehashAll()
	return t.adopt()
}

func (t *Trie) restoreHistory(s *source) error {
	h := &history{dir: t.files.dir, nonce: t.store.nonce}
	t.files.history = h
	for n := s.uint32(); n > 0 && !s.short; n-- {
		base, size := s.uint64(), int64(s.uint64())
		err := h.read(base, size, func(height uint64, slot uint8, hash [32]byte) {
			v := &t.slots[slot].versions
			*v = append(*v, version{height, hash})
		})
		if err != nil {
			return err
		}
	}
	if len(h.files) == 0 {
		return corrupt(checkpointName, "it names no history")
	}
	t.floor = h.files[0].base
	return nil
}

func (t *Trie) restorePages(s *source) error {
	for i := range t.pages.entries {
		at := location(s.uint64())
		t.pages.entries[i].at = at
		if at == 0 {
			continue
		}
		seg := t.store.byNumber[at.segment()]
		if seg == nil || at.offset()+int64(at.length()) > seg.size {
			return corrupt(checkpointName, "page %d is in no segment", i+1)
		}
		seg.live += int64(at.length())
	}
	for id := s.uint64(); id != 0; id = s.uint64() {
		n := s.uint32()
		if id > uint64(len(t.pages.entries)) || n > maxEntries || t.pages.entry(id).count > 0 {
			return corrupt(checkpointName, "%d additions to page %d of %d", n, id, len(t.pages.entries))
		}
		t.additions.limit = max(t.additions.limit, t.additions.used+int(n))
		for ; n > 0; n-- {
			var l leaf
			l.decode(s.take(leafLen))
			t.additions.push(t.pages.entry(id), &l)
		}
	}
	if s.short {
		return corrupt(checkpointName, "%w", errLength)
	}
	for i := range t.pages.entries {
		if e := &t.pages.entries[i]; e.at == 0 && e.count == 0 {
			return corrupt(checkpointName, "page %d is nowhere", i+1)
		}
	}
	return nil
}

// open opens a segment that a checkpoint names.
func (s *segments) open(number uint32, size int64) error {
	name := segmentName(number)
	f, err := os.OpenFile(filepath.Join(s.dir, name), os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		return corrupt(name, "%w", err)
	}
	if err != nil {
		return err
	}
	s.byNumber[number] = &segment{number: number, file: f, size: size, synced: true}
	s.last = max(s.last, number)
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if size < headerLen || info.Size() < size {
		return corrupt(name, "%d bytes, want %d", info.Size(), size)
	}
	var head [headerLen]byte
	if _, err := f.ReadAt(head[:], 0); err != nil {
		return readFailed(name, "header", err)
	}
	if string(head[:]) != string(segmentHeader(s.nonce, number)) {
		return corrupt(name, "its header is of another file")
	}
	return nil
}

// adopt makes the directory what the checkpoint says: what was written after it is removed. A
// process that was killed may not have fsynced the checkpoint's name, and the checkpoint before
// names files that are removed here.
func (t *Trie) adopt() error {
	if err := durable.Sync(t.files.dir); err != nil {
		return err
	}
	named := map[string]bool{checkpointName: true, milestonesName: true}
	for _, seg := range t.store.byNumber {
		named[segmentName(seg.number)] = true
	}
	for _, h := range t.files.history.files {
		named[historyName(h.base)] = true
	}
	if err := t.files.remove(func(name string) bool { return !named[name] }); err != nil {
		return err
	}
	last := t.files.history.last()
	if err := last.file.Truncate(last.size); err != nil {
		return err
	}
	if seg := t.store.byNumber[t.store.last]; seg != nil {
		if err := seg.file.Truncate(seg.size); err != nil {
			return err
		}
		t.store.active = seg
	}
	return nil
}
