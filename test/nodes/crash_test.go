package nodes

import (
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing/synctest"
	"time"
)

// kill ends members at one instant, in the midst of their work if they do any: after some writes to
// the wire from now, the last of which does not leave, as nothing does from then on. The copies of
// their files, as the kill left them, are what they start from next.
func (w *world) kill(members ...*member) {
	w.Helper()
	names := make([]string, len(members))
	struck := make(chan struct{})
	strike := func() {
		for _, m := range members {
			m.life.machine.mute()
		}
		// Only now: what comes onto the disks from this moment on, nothing rests on that left the
		// node.
		for _, m := range members {
			m.life.marks = marks(m.config.Data)
		}
		close(struck)
	}
	for i, m := range members {
		names[i] = m.name
	}
	writes := 1 + w.rng.Int64N(300)
	members[0].life.machine.arm(writes, strike)
	select {
	case <-struck:
	case <-time.After(time.Second):
		if members[0].life.machine.disarm() {
			strike()
		} else {
			<-struck
		}
	}
	// They hear and write for a moment yet, so that there is something to tear.
	time.Sleep(time.Duration(w.rng.IntN(400)) * time.Millisecond)
	for _, m := range members {
		m.life.machine.cut()
	}
	synctest.Wait()
	var torn []string
	for _, m := range members {
		torn = append(torn, w.bury(m))
	}
	w.kills += len(members)
	w.note("killed %s; %s", strings.Join(names, ", "), strings.Join(torn, ", "))
}

// bury copies a dead member's files for its next life and ends the last one. It says what the copy
// lacks.
func (w *world) bury(m *member) string {
	w.Helper()
	l, old := m.life, m.config.Data
	m.lives++
	m.config.Data = filepath.Join(w.dir, m.name, fmt.Sprintf("data%d", m.lives))
	cut, err := copyTorn(old, m.config.Data, l.marks, w.rng.IntN(tearings), w.rng.Int64())
	w.must(err)
	m.life = nil
	l.stop()
	<-l.ended
	w.must(os.RemoveAll(old))
	if cut != (cuts{}) {
		w.torn++
	}
	return fmt.Sprintf("cut off the logs of %s: votes %d, state %d, blocks %d, messages %d bytes", m.name, cut[0], cut[1], cut[2], cut[3])
}

// mark is what a database, or the state, was at the moment of a kill.
type mark struct {
	name     string
	size     int64
	modified time.Time
	log      int64 // bytes of its write-ahead log, or of the state's last segment
	head     [32]byte
	sum      uint32
}

// stateDir is the directory of the state: a checkpoint, and segments that only grow.
const stateDir = "state"

// messageLog is the message log: segments that only grow.
const messageLog = "messages"

// databases are in the order in which what is in one may rest on what is in a later one.
var databases = []string{"votes.db", stateDir, "blocks.db", messageLog}

// cuts are the bytes cut off the log of each database.
type cuts [4]int64

// parts returns the file of which a change means that there is nothing to tear, and the one that is
// torn.
func parts(dir, name string) (whole, log string) {
	path := filepath.Join(dir, name)
	pattern := path + "-*.log"
	switch name {
	case stateDir:
		whole, pattern = filepath.Join(path, "checkpoint"), filepath.Join(path, "pages-*")
	case messageLog:
	default:
		return path, path + "-wal"
	}
	segments, err := filepath.Glob(pattern) // in the order of their names
	if err == nil && len(segments) > 0 {
		log = segments[len(segments)-1]
	}
	return whole, log
}

func marks(dir string) []mark {
	var out []mark
	for _, name := range databases {
		m := mark{name: name}
		whole, log := parts(dir, name)
		if in, err := os.Stat(whole); err == nil {
			m.size, m.modified = in.Size(), in.ModTime()
		}
		if log, err := os.ReadFile(log); err == nil {
			m.log, m.sum = int64(len(log)), crc32.ChecksumIEEE(log)
			copy(m.head[:], log)
		}
		out = append(out, m)
	}
	return out
}

// spare returns by how many bytes the log has grown since the mark; 0 if anything else happened to
// it.
func (m *mark) spare(now mark) int64 {
	if m.log == 0 || now.head != m.head || now.size != m.size || !now.modified.Equal(m.modified) {
		return 0
	}
	return now.log - m.log
}

// The effects of a kill on the logs.
const (
	nothingTorn = iota
	votesTorn
	stateTorn
	allTorn
	messagesTorn
	tearings
)

// tear returns how many bytes to cut off the log of each database: some of those written since the
// marks, on which nothing rests that left the node. The votes and the state are never left ahead of
// the blocks, and none of them ahead of the messages.
func tear(before, now []mark, how int, draw int64) (cut cuts) {
	var spare cuts
	back := [len(cuts{})]bool{} // the files that can be put back to their marks
	for i := range before {
		spare[i] = before[i].spare(now[i])
		back[i] = spare[i] > 0 || before[i] == now[i]
	}
	behind := back[0] && back[1]
	part := func(i int) int64 { return draw % (spare[i] + 1) }
	switch {
	case how == votesTorn:
		cut[0] = part(0)
	case how == stateTorn:
		cut[1] = part(1)
	case how == allTorn && behind:
		cut = cuts{spare[0], spare[1], part(2)}
	case how == messagesTorn && behind && back[2]:
		cut = cuts{spare[0], spare[1], spare[2], part(3)}
	}
	return cut
}

// copyTorn copies a data directory that nothing writes to, without what tear cuts off.
func copyTorn(from, to string, before []mark, how int, draw int64) (cut cuts, err error) {
	cut = tear(before, marks(from), how, draw)
	torn := make(map[string]int64)
	for i, name := range databases {
		_, log := parts(from, name)
		torn[log] = cut[i]
	}
	return cut, filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rest, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, rest), 0o700)
		}
		if name := d.Name(); strings.HasSuffix(name, "-shm") || name == "LOCK" {
			return nil
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rest), content[:int64(len(content))-torn[path]], 0o600)
	})
}

// arm makes the machine call strike at a write to the wire, before it leaves.
func (m *machine) arm(writes int64, strike func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fuse, m.strike = writes, strike
}

// disarm reports whether strike was not called and will not be.
func (m *machine) disarm() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	armed := m.strike != nil
	m.strike = nil
	return armed
}

// burn is called before each write.
func (m *machine) burn() {
	m.mu.Lock()
	strike := m.strike
	if m.fuse--; m.fuse > 0 {
		strike = nil
	}
	if strike != nil {
		m.strike = nil
	}
	m.mu.Unlock()
	if strike != nil {
		strike()
	}
}
