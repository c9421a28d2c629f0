package trie

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// history are the files that say which slots changed at which height. Each begins with the trie's
// top at its base; those that only heights before the window need are removed.
//
//	header  magic 8, nonce 8, base 8, the hashes of all slots, CRC
//	row     height 8, how many slots 2, (slot 1, hash 32) of each, CRC
type history struct {
	dir    string
	nonce  uint64
	files  []*historyFile // by base; rows go to the last one
	buffer []byte         // rows not written yet
}

type historyFile struct {
	base uint64
	size int64 // with the rows in the buffer
	file *os.File
}

const (
	historyMagic     = "DSQTRIEH"
	historyHeaderLen = 8 + 8 + 8 + slotCount*32 + 4
	rowHead          = 8 + 2
	// historyHeights is how many heights a file covers at least, however short the window is.
	historyHeights = 256
)

func historyName(base uint64) string { return fmt.Sprintf("history-%012d", base) }

func (h *history) last() *historyFile { return h.files[len(h.files)-1] }

// begin starts a file with the trie's top at a height.
func (h *history) begin(base uint64, f *frontier) error {
	if len(h.files) > 0 {
		if err := h.flush(); err != nil {
			return err
		}
	}
	file, err := os.OpenFile(filepath.Join(h.dir, historyName(base)), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	b := binary.LittleEndian.AppendUint64([]byte(historyMagic), h.nonce)
	b = binary.LittleEndian.AppendUint64(b, base)
	for i := range slotCount {
		b = append(b, f[slotCount+i][:]...)
	}
	if _, err := file.Write(seal(b)); err != nil {
		return errors.Join(err, file.Close())
	}
	h.files = append(h.files, &historyFile{base: base, size: historyHeaderLen, file: file})
	return nil
}

// note adds the row of a height.
func (h *history) note(height uint64, changed []uint8, f *frontier) {
	if len(changed) == 0 {
		return
	}
	before := len(h.buffer)
	h.buffer = binary.LittleEndian.AppendUint64(h.buffer, height)
	h.buffer = binary.LittleEndian.AppendUint16(h.buffer, uint16(len(changed)))
	for _, slot := range changed {
		h.buffer = append(append(h.buffer, slot), f[slotCount+int(slot)][:]...)
	}
	h.buffer = binary.LittleEndian.AppendUint32(h.buffer, h.sum(h.buffer[before:]))
	h.last().size += int64(len(h.buffer) - before)
}

// sum is the checksum of a row: it is of this trie.
func (h *history) sum(row []byte) uint32 {
	return binary.LittleEndian.Uint32(seal(binary.LittleEndian.AppendUint64(slices.Clip(row), h.nonce))[len(row)+8:])
}

func (h *history) advance() error {
	if len(h.buffer) < bufferBytes {
		return nil
	}
	return h.flush()
}

func (h *history) flush() error {
	if len(h.buffer) == 0 {
		return nil
	}
	last := h.last()
	if _, err := last.file.WriteAt(h.buffer, last.size-int64(len(h.buffer))); err != nil {
		return err
	}
	h.buffer = h.buffer[:0]
	return nil
}

// unneeded takes the files out that no height from oldest on needs.
func (h *history) unneeded(oldest uint64) []*historyFile {
	n := 0
	for n+1 < len(h.files) && h.files[n+1].base <= oldest {
		n++
	}
	out := h.files[:n:n]
	h.files = h.files[n:]
	return out
}

// read opens a file of size bytes and calls note with each slot at each height: all slots at the
// base if it is the first file.
func (h *history) read(base uint64, size int64, note func(height uint64, slot uint8, hash [32]byte)) error {
	name := historyName(base)
	file, err := os.OpenFile(filepath.Join(h.dir, name), os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		return corrupt(name, "%w", err)
	}
	if err != nil {
		return err
	}
	first := len(h.files) == 0
	h.files = append(h.files, &historyFile{base: base, size: size, file: file})
	if size < historyHeaderLen || size > 1<<40 {
		return corrupt(name, "%w", errLength)
	}
	b := make([]byte, size)
	if _, err := file.ReadAt(b, 0); err != nil {
		return readFailed(name, "history", err)
	}
	head, err := unseal(b[:historyHeaderLen])
	if err != nil {
		return corrupt(name, "%w", err)
	}
	if string(head[:8]) != historyMagic || binary.LittleEndian.Uint64(head[8:]) != h.nonce || binary.LittleEndian.Uint64(head[16:]) != base {
		return corrupt(name, "it is of another trie")
	}
	if first {
		for i := range slotCount {
			if hash := [32]byte(head[24+i*32:]); hash != zero {
				note(base, uint8(i), hash)
			}
		}
	}
	for b = b[historyHeaderLen:]; len(b) > 0; {
		n := rowHead
		if len(b) >= n {
			n += int(binary.LittleEndian.Uint16(b[8:])) * slotRow
		}
		if len(b) < n+4 {
			return corrupt(name, "%w", errLength)
		}
		if h.sum(b[:n]) != binary.LittleEndian.Uint32(b[n:]) {
			return corrupt(name, "%w", errChecksum)
		}
		height := binary.LittleEndian.Uint64(b)
		err := decodeFrontier(b[rowHead:n], func(slot uint8, hash [32]byte) { note(height, slot, hash) })
		if err != nil {
			return corrupt(name, "height %d: %w", height, err)
		}
		b = b[n+4:]
	}
	return nil
}

func (h *history) close() error {
	errs := make([]error, 0, len(h.files))
	for _, f := range h.files {
		errs = append(errs, f.file.Close())
	}
	return errors.Join(errs...)
}
