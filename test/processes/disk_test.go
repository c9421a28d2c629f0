package processes

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/diseq/diseq/test/system"
)

// fileHashes returns the content of every file below dir by its hash, but for the lock and SQLite's index of its write-ahead
// log, which hold nothing.
func fileHashes(t *testing.T, dir string) map[string][32]byte {
	t.Helper()
	out := map[string][32]byte{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == "LOCK" || strings.HasSuffix(path, "-shm") {
			return err
		}
		b, err := os.ReadFile(path)
		out[path] = sha256.Sum256(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// garble overwrites a part of a file with what was never written there.
func garble(t *testing.T, path string, at int64, length int) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte(strings.Repeat("torn ", length/5)), at); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func size(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

func TestDamagedDatabaseStopsOnlyItsNodeAndIsLeftAsItIs(t *testing.T) {
	n := system.Start(t, system.Options{})
	h := n.Watch()
	load := system.Load{Nodes: n.Nodes, Rate: 1000, Batch: 10, Size: 250}.Start(t)
	awaitRandomMoment(t, h, 40, n.Nodes...)
	load.Stop()
	n.Audit(h, load)
	victim, other := n.Nodes[1], n.Nodes[0]
	// Stopped in order, so that all is in the databases themselves and nothing in their logs.
	victim.Kill()
	victim.Start()
	victim.AwaitReady(soon)
	victim.Terminate()
	healthy := t.TempDir()
	if err := os.CopyFS(healthy, os.DirFS(victim.DataDir())); err != nil {
		t.Fatal(err)
	}
	restore := func() {
		if err := errors.Join(os.RemoveAll(victim.DataDir()), os.CopyFS(victim.DataDir(), os.DirFS(healthy))); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"blocks.db", "votes.db", "state.db"} {
		path := filepath.Join(victim.DataDir(), name)
		for damage, inflict := range map[string]func(){
			"overwritten head":  func() { garble(t, path, 0, 100) },
			"overwritten pages": func() { garble(t, path, size(t, path)/2, int(size(t, path)/2)) },
			"cut in half": func() {
				if err := os.Truncate(path, size(t, path)/2); err != nil {
					t.Fatal(err)
				}
			},
		} {
			restore()
			inflict()
			before := fileHashes(t, victim.DataDir())
			out := victim.Refuses()
			if !strings.Contains(out, name) || strings.Contains(out, "panic") || strings.Contains(out, "goroutine ") {
				t.Errorf("%s, %s: the error does not name the file:\n%s", name, damage, out)
			}
			after := fileHashes(t, victim.DataDir())
			maps.DeleteFunc(after, func(path string, _ [32]byte) bool { _, was := before[path]; return !was })
			if !maps.Equal(before, after) {
				t.Errorf("%s, %s: the failed start changed files", name, damage)
			}
			finalize(t, other, "the others go on: "+name+", "+damage)
		}
	}
	restore()
	victim.Start()
	h.Await(t, soon, h.Highest(), victim)
	n.Audit(h, load)
}

// smallDisk puts a node's data directory on a file system of its own of that many MiB and returns its path.
func smallDisk(t *testing.T, node *system.Node, mib int) string {
	t.Helper()
	disk := t.TempDir()
	if err := unix.Mount("tmpfs", disk, "tmpfs", 0, fmt.Sprintf("size=%dm", mib)); err != nil {
		t.Skipf("a disk cannot be filled here: mounting a small file system: %v", err)
	}
	t.Cleanup(func() {
		// Lazily: the node may end only after this.
		if err := unix.Unmount(disk, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	data := filepath.Join(disk, "data")
	if err := os.CopyFS(data, os.DirFS(node.DataDir())); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.RemoveAll(node.DataDir()), os.Symlink(data, node.DataDir())); err != nil {
		t.Fatal(err)
	}
	return disk
}

// endless is a reader that never ends.
type endless struct{}

func (endless) Read(b []byte) (int, error) { return len(b), nil }

// fill takes all that is left of a disk.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(f, endless{}); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("filling the disk: %v", err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestFullDiskRefusesMessagesAndRecoversWithItsSpace(t *testing.T) {
	n := system.Start(t, system.Options{})
	h := n.Watch()
	full, others := n.Nodes[2], except(n.Nodes, n.Nodes[2])
	full.Kill()
	disk := smallDisk(t, full, 512)
	full.Start()
	full.AwaitReady(soon)
	load := system.Load{Nodes: n.Nodes, Rate: 1000, Batch: 10, Size: 250}.Start(t)
	awaitRandomMoment(t, h, 20, n.Nodes...)

	ballast := filepath.Join(disk, "ballast")
	fill(t, ballast)
	system.Eventually(t, soon, "the node refuses messages for want of space", func() error {
		_, err := full.Submit(t.Context(), http.DefaultClient, "", [][]byte{fmt.Appendf(nil, "to a full disk at height %d", h.Highest())})
		var answer *system.AnswerError
		if !errors.As(err, &answer) || answer.Code != http.StatusServiceUnavailable || !strings.Contains(answer.Body, "storage_low") {
			return fmt.Errorf("it answered %v", err)
		}
		return nil
	})
	if refused, err := full.Metric(`diseq_http_rejected_total{reason="storage_low"}`); err != nil || refused < 1 {
		t.Errorf("the metric of refused input says %v: %v", refused, err)
	}
	h.Await(t, soon, h.Highest()+20, others...)

	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	system.Eventually(t, soon, "the node accepts messages again", func() error {
		_, err := full.Finalize("to a disk with space again")
		return err
	})
	h.Await(t, soon, h.Highest(), full)
	awaitVote(t, others[0], h.Highest(), full.Index)
	load.Stop()
	r := n.Audit(h, load)
	t.Logf("%v; all final in %d blocks", load, r.Height)
}
