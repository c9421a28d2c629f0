package trie

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/diseq/diseq/internal/durable"
	"github.com/diseq/diseq/node/internal/sqlitefile"
)

const (
	lockName       = "LOCK"
	milestonesName = "milestones"
	// milestoneLen is a frontier with all slots and its checksum.
	milestoneLen = slotCount*32 + 4
)

// files are those of the directory that are not segments.
type files struct {
	dir        string
	lock       *os.File
	history    *history
	milestones *os.File
	length     uint64 // bytes of the last checkpoint
}

// own reports whether a name in the directory is one of the trie's.
func own(name string) bool {
	return name == checkpointName || name == checkpointName+newSuffix || name == milestonesName ||
		strings.HasPrefix(name, "pages-") || strings.HasPrefix(name, "history-")
}

func (t *Trie) open(ctx context.Context, path string, discard bool) (err error) {
	if err := ctx.Err(); err != nil {
		return err
	}
	path, err = filepath.Abs(path)
	if err != nil {
		return err
	}
	switch err := os.Mkdir(path, 0o700); {
	case err == nil:
		if err := durable.Sync(filepath.Dir(path)); err != nil {
			return err
		}
	case !errors.Is(err, fs.ErrExist):
		return err
	}
	t.files = &files{dir: path}
	t.store = &segments{dir: path, bytes: segmentBytes, byNumber: make(map[uint32]*segment)}
	defer func() {
		if err != nil {
			_, _ = t.store.close(), t.files.close() // the first error says more
		}
	}()
	if t.files.lock, err = sqlitefile.Lock(filepath.Join(path, lockName)); err != nil {
		return err
	}
	if discard {
		if err := t.files.remove(func(string) bool { return true }); err != nil {
			return err
		}
	}
	body, err := t.readCheckpoint()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = t.create()
	case err == nil:
		err = t.restore(body)
	}
	if err != nil {
		return err
	}
	t.captured, t.flushed = t.height, t.height
	t.files.milestones, err = os.OpenFile(filepath.Join(path, milestonesName), os.O_RDWR|os.O_CREATE, 0o600)
	return err
}

// create begins an empty trie. It removes the files of a first one that crashed before its first
// checkpoint.
func (t *Trie) create() error {
	if err := t.files.remove(func(string) bool { return true }); err != nil {
		return err
	}
	t.store.nonce = rand.Uint64()
	t.files.history = &history{dir: t.files.dir, nonce: t.store.nonce}
	return t.files.history.begin(0, &t.frontier)
}

// remove deletes files of the trie. The order matters: without a checkpoint all others are nothing.
func (f *files) remove(which func(name string) bool) error {
	entries, err := os.ReadDir(f.dir)
	if err != nil {
		return err
	}
	names := []string{checkpointName}
	for _, e := range entries {
		if own(e.Name()) && e.Name() != checkpointName {
			names = append(names, e.Name())
		}
	}
	for _, name := range slices.DeleteFunc(names, func(name string) bool { return !which(name) }) {
		if err := os.Remove(filepath.Join(f.dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// milestoneSum is the checksum of a milestone: it is of this height, of this trie.
func (t *Trie) milestoneSum(height uint64, b []byte) []byte {
	tag := binary.LittleEndian.AppendUint64(nil, t.store.nonce)
	tag = binary.LittleEndian.AppendUint64(tag, height)
	return seal(append(tag, b...))[len(tag)+len(b):]
}

func milestoneAt(height uint64) int64 { return int64(height/MilestoneHeights-1) * milestoneLen }

// writeMilestones writes those that are not on disk yet.
func (t *Trie) writeMilestones() error {
	for height, f := range t.milestones {
		b := make([]byte, 0, milestoneLen)
		for i := range slotCount {
			b = append(b, f[slotCount+i][:]...)
		}
		b = append(b, t.milestoneSum(height, b)...)
		if _, err := t.files.milestones.WriteAt(b, milestoneAt(height)); err != nil {
			return err
		}
	}
	return nil
}

// milestone reads the trie's top at a height divisible by MilestoneHeights.
func (t *Trie) milestone(height uint64) (*frontier, error) {
	b := make([]byte, milestoneLen)
	if _, err := t.files.milestones.ReadAt(b, milestoneAt(height)); err != nil {
		return nil, readFailed(milestonesName, fmt.Sprintf("milestone %d", height), err)
	}
	slots := b[:slotCount*32]
	if string(t.milestoneSum(height, slots)) != string(b[len(slots):]) {
		return nil, corrupt(milestonesName, "milestone %d: %w", height, errChecksum)
	}
	f := new(frontier)
	for i := range slotCount {
		f.set(uint8(i), [32]byte(slots[i*32:]))
	}
	f.rehashAll()
	return f, nil
}

func (f *files) close() error {
	var errs []error
	if f.history != nil {
		errs = append(errs, f.history.close())
	}
	if f.milestones != nil {
		errs = append(errs, f.milestones.Close())
	}
	if f.lock != nil {
		errs = append(errs, f.lock.Close())
	}
	return errors.Join(errs...)
}
