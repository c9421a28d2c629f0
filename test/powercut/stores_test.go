package powercut

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/diseq/diseq/node/store"
	"github.com/diseq/diseq/test/powercut/disk"
)

// withRoots computes the states of the script's blocks.
func withRoots(t *testing.T, s *script) *script {
	t.Helper()
	dir := filepath.Join(scratch(t), "data")
	must(t, store.CreateVotes(dir, s.key))
	o, err := openStores(dir, s, false)
	must(t, err)
	for i := range s.blocks {
		must(t, o.play(s, i, i+1, func(promise) {}))
		root, err := o.indexed()
		must(t, err)
		s.roots = append(s.roots, root)
	}
	must(t, o.close())
	return s
}

// left checks a cut with one fate. Its error says what is lost.
func (s *script) left(t *testing.T, c *disk.Cut, where string, fate disk.Fate) error {
	t.Helper()
	must(t, c.Write("net/v0", where, fate))
	err := s.check(where, sum(c.Marks))
	must(t, os.RemoveAll(where))
	return err
}

// recorded returns a disk on which the stores have been at work.
func recorded(t *testing.T) *disk.Disk {
	t.Helper()
	d := disk.Mount(t)
	must(t, <-startWorker(t, d).end)
	return d
}

// fates are those of each cut.
func fates(number int) map[string]disk.Fate {
	out := map[string]disk.Fate{"lost": disk.Lost}
	for i := range rounds(1) {
		seed := uint64(number*1000 + i)
		out[fmt.Sprint("torn ", seed)] = disk.Torn(seed)
	}
	return out
}

// The stores make votes, batches and blocks durable before they say so, the names of their files
// included. They open after every cut, and go on. With the fsyncs of any one file or directory
// taken away they do not.
//
// Promise 12.
// Promise 19.
// Promise 24.
func TestWhatTheStoresPromisedSurvivesAPowerCutInAnyFsync(t *testing.T) {
	d := recorded(t)
	s := withRoots(t, theScript(t))
	where := filepath.Join(scratch(t), "cut")
	cuts := 0
	d.Cuts(nil, func(c *disk.Cut) bool {
		for name, fate := range fates(c.Number) {
			if err := s.left(t, c, where, fate); err != nil {
				t.Errorf("power cut %v, %s: after the promises %+v: %v", c, name, sum(c.Marks), err)
			}
		}
		cuts++
		return !t.Failed()
	})
	t.Logf("%d cuts; the state had to be computed again after %d", cuts, s.recomputed)
	for _, missing := range []string{
		"", "net", "net/v0", "net/v0/data", "net/v0/keys.new", "net/v0/data/votes.db-wal", "net/v0/data/blocks.db-wal", "net/v0/data/blocks.db",
		"net/v0/data/messages-000000000000000.log",
	} {
		t.Run("without the fsyncs of "+missing, func(t *testing.T) {
			var seen []string
			ignored := func(path string) bool { return path == missing }
			d.Cuts(ignored, func(c *disk.Cut) bool {
				if err := s.left(t, c, where, disk.Lost); err != nil {
					seen = append(seen, fmt.Sprintf("%v: %v", c, err))
				}
				return len(seen) == 0
			})
			if len(seen) == 0 {
				t.Error("nothing is lost")
			}
			t.Log(strings.Join(seen, "\n"))
		})
	}
}

// syncedOften returns the files of which a recording has at least so many fsyncs.
func syncedOften(d *disk.Disk, least int) (files []string) {
	fsyncs := map[string]int{}
	d.Cuts(nil, func(c *disk.Cut) bool {
		fsyncs[c.Path]++
		return true
	})
	for path, n := range fsyncs {
		if n >= least && strings.Contains(filepath.Base(path), ".") && !strings.Contains(path, ".new") {
			files = append(files, path)
		}
	}
	slices.Sort(files)
	return files
}

// A process that is killed leaves writes that it never synced, and the next process reads them. It
// must make them durable before it tells others.
//
// Promise 12.
// Promise 19.
func TestWhatIsFoundAtAStartIsDurableBeforeItCounts(t *testing.T) {
	s := withRoots(t, theScript(t))
	const nth = 3 // the first ones are of a new file
	for _, file := range syncedOften(recorded(t), nth) {
		t.Run("killed in an fsync of "+file, func(t *testing.T) {
			d := disk.Mount(t)
			fsyncs := 0
			stall := d.Stall(func(path string) bool {
				if path == file {
					fsyncs++
				}
				return fsyncs == nth
			})
			first := startWorker(t, d)
			select {
			case <-stall.Reached:
			case err := <-first.end:
				t.Fatalf("the worker ended before its fsync was held up: %v", err)
			}
			must(t, first.Process.Kill())
			stall.End()
			if err := <-first.end; err == nil {
				t.Fatal("the worker ended before it was killed")
			}
			must(t, <-startWorker(t, d).end)
			where := filepath.Join(scratch(t), "cut")
			d.Cuts(nil, func(c *disk.Cut) bool {
				if err := s.left(t, c, where, disk.Lost); err != nil {
					t.Errorf("power cut %v: after the promises %+v: %v", c, sum(c.Marks), err)
				}
				return !t.Failed()
			})
		})
	}
}
