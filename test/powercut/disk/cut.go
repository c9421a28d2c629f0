package disk

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A Cut is a moment at which the power may go off: an fsync has been asked for and has not
// returned.
type Cut struct {
	// Number counts the fsyncs before, Path is the file or directory whose fsync it is, below the
	// disk's root. The last cut of a disk is after all of them and has no path.
	Number int
	Path   string
	// Marks are those of [Disk.Mark] up to this moment.
	Marks []any

	disk *recording
}

// String says which cut it is.
func (c *Cut) String() string {
	if c.Path == "" {
		return fmt.Sprintf("after fsync %d, the last", c.Number-1)
	}
	return fmt.Sprintf("in fsync %d, of %s", c.Number, c.Path)
}

// Cuts calls visit with each cut in turn, until it returns false. A cut is valid during the call.
// Fsyncs of the paths that ignored matches, if it is not nil, make nothing durable and are no cuts:
// so a test shows that a missing fsync is seen.
func (d *Disk) Cuts(ignored func(path string) bool, visit func(*Cut) bool) {
	d.mu.Lock()
	changes := slices.Clone(d.changes)
	d.mu.Unlock()
	r := newRecording()
	cut := &Cut{disk: r}
	for _, c := range changes {
		switch {
		case c.kind == declared:
			cut.Marks = append(cut.Marks, c.mark)
		case c.kind == synced && ignored != nil && ignored(c.path):
			continue
		case c.kind == synced:
			cut.Path = c.path
			if !visit(cut) {
				return
			}
			cut.Number++
		}
		r.add(c)
	}
	cut.Path = ""
	visit(cut)
}

// A Fate decides what becomes of the changes that are not durable.
type Fate struct {
	keep func() bool
	// grow decides whether a file has the size that a lost write gave it.
	grow func() bool
}

var (
	// Lost leaves nothing that is not durable.
	Lost = Fate{keep: func() bool { return false }, grow: func() bool { return false }}
	// Kept leaves everything, as the death of a process does.
	Kept = Fate{keep: func() bool { return true }, grow: func() bool { return true }}
)

// Torn leaves some of it: each sector and each name with the same likelihood.
func Torn(seed uint64) Fate {
	rng := rand.New(rand.NewPCG(seed, 0))
	likely := []float64{0.05, 0.5, 0.95}[rng.IntN(3)]
	return Fate{keep: func() bool { return rng.Float64() < likely }, grow: func() bool { return rng.IntN(2) == 0 }}
}

// sector is the largest piece of a write that is there whole or not at all.
const sector = 512

// file returns what is left of a file.
func (c *Cut) file(node uint64, fate Fate) []byte {
	content := slices.Clone(c.disk.files[node])
	for _, p := range c.disk.pending[node] {
		if p.kind == resized {
			if fate.keep() {
				content = resize(content, p.offset)
			}
			continue
		}
		for from := 0; from < len(p.data); {
			at := p.offset + int64(from)
			to := min(len(p.data), from+int(sector-at%sector))
			end := p.offset + int64(to)
			switch {
			case fate.keep():
				content = overwrite(content, at, p.data[from:to])
			case end > int64(len(content)) && fate.grow():
				content = resize(content, end)
			}
			from = to
		}
	}
	return content
}

// names returns what is left of a directory.
func (c *Cut) names(node uint64, fate Fate) map[string]uint64 {
	names := maps.Clone(c.disk.directories[node])
	for _, p := range c.disk.pending[node] {
		if !fate.keep() {
			continue
		}
		if p.kind == named {
			rename(names, p)
		} else {
			delete(names, p.name)
		}
	}
	return names
}

// Write writes what is left of a directory of the disk to a new directory of this machine. If
// nothing is left of the directory, the new one is empty.
func (c *Cut) Write(from, to string, fate Fate) error {
	node := uint64(root)
	for name := range strings.SplitSeq(strings.Trim(from, "/"), "/") {
		if name != "" {
			node = c.names(node, fate)[name]
		}
	}
	if err := os.Mkdir(to, 0o700); err != nil {
		return err
	}
	return c.write(node, to, fate)
}

func (c *Cut) write(directory uint64, to string, fate Fate) error {
	names := c.names(directory, fate)
	// In order, so that a fate that draws is the same each time.
	for _, name := range slices.Sorted(maps.Keys(names)) {
		node, at := names[name], filepath.Join(to, name)
		if c.disk.directories[node] != nil {
			if err := os.Mkdir(at, 0o700); err != nil {
				return err
			}
			if err := c.write(node, at, fate); err != nil {
				return err
			}
			continue
		}
		if err := os.WriteFile(at, c.file(node, fate), 0o600); err != nil {
			return err
		}
	}
	return nil
}
