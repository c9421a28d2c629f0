package processes

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/diseq/diseq/client"
	"github.com/diseq/diseq/hack/skipped"
	"github.com/diseq/diseq/test/system"
)

// fileHashes returns the content of every file below dir by its hash, but for the lock and SQLite's
// index of its write-ahead log, which hold nothing.
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

// Promise 21.
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
	for _, file := range []string{"blocks.db", "messages-000000000000000.log", "votes.db", "state/checkpoint"} {
		path, name := filepath.Join(victim.DataDir(), file), filepath.Base(file)
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

// disk is a small file system of its own for a node's data directory. Its size changes while the
// node runs: shrinking it is what filling it up looks like from inside, without writing gigabytes.
type disk struct {
	t    *testing.T
	path string
}

const roomy = 2 << 30

func smallDisk(t *testing.T, node *system.Node) *disk {
	t.Helper()
	d := &disk{t: t, path: t.TempDir()}
	if err := unix.Mount("tmpfs", d.path, "tmpfs", 0, fmt.Sprintf("size=%d", roomy)); err != nil {
		skipped.Test(t, "a disk cannot be filled here: mounting a small file system: %v", err)
	}
	t.Cleanup(func() {
		// Lazily: the node ends only after this.
		if err := unix.Unmount(d.path, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	data := filepath.Join(d.path, "data")
	if err := os.CopyFS(data, os.DirFS(node.DataDir())); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.RemoveAll(node.DataDir()), os.Symlink(data, node.DataDir())); err != nil {
		t.Fatal(err)
	}
	return d
}

// leave changes the size so that free bytes are left.
func (d *disk) leave(free uint64) {
	d.t.Helper()
	// The used space may grow between the two calls, and a disk does not shrink below that. Then
	// the test tries again.
	system.Eventually(d.t, soon, fmt.Sprintf("a disk with %d bytes free", free), func() error {
		var fs unix.Statfs_t
		if err := unix.Statfs(d.path, &fs); err != nil {
			return err
		}
		used := (fs.Blocks - fs.Bfree) * uint64(fs.Bsize)
		return unix.Mount("tmpfs", d.path, "tmpfs", unix.MS_REMOUNT, fmt.Sprintf("size=%d", used+free))
	})
}

// Promise 22.
func TestNodeOnAFullDiskRefusesMessagesAndGoesOnOnceThereIsSpace(t *testing.T) {
	n := system.Start(t, system.Options{})
	h := n.Watch()
	full, others := n.Nodes[2], except(n.Nodes, n.Nodes[2])
	full.Kill()
	d := smallDisk(t, full)
	full.Start()
	full.AwaitReady(soon)
	load := system.Load{Nodes: n.Nodes, Rate: 1000, Batch: 10, Size: 250}.Start(t)
	awaitRandomMoment(t, h, 20, n.Nodes...)

	// Nearly full: it takes no messages and keeps what space there is for voting.
	d.leave(64 << 20)
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
	system.Eventually(t, soon, "the node says that it has no room", func() error {
		s, err := full.Status()
		low, metricErr := full.Metric("diseq_storage_low ")
		if err = errors.Join(err, metricErr); err != nil {
			return err
		}
		if s.Ready || !s.CaughtUp || !s.StorageLow || !strings.Contains(s.Reason, "MiB are free on the disk, 512 MiB must be") || low != 1 {
			return fmt.Errorf("status %+v, diseq_storage_low %v", s, low)
		}
		return nil
	})
	h.Await(t, soon, h.Highest()+5, n.Nodes...)
	awaitVote(t, others[0], h.Highest(), full.Index)

	// Full: it cannot keep what it would have to keep in order to vote. It says so and waits; the
	// others go on.
	d.leave(0)
	system.Eventually(t, soon, "the node counts writes that a full disk refuses", func() error {
		n, err := full.Metric("diseq_disk_full_total ")
		if err == nil && n == 0 {
			err = errors.New("diseq_disk_full_total is 0")
		}
		return err
	})
	h.Await(t, soon, h.Highest()+20, others...)
	if out, code, ended := full.Ended(); ended {
		t.Fatalf("it ended with exit code %d:\n%s", code, out)
	}

	d.leave(roomy)
	system.Eventually(t, soon, "the node accepts messages again", func() error {
		_, err := full.Finalize("to a disk with space again")
		return err
	})
	full.AwaitReady(soon)
	h.Await(t, soon, h.Highest(), full)
	awaitVote(t, others[0], h.Highest(), full.Index)
	load.Stop()
	r := n.Audit(h, load)
	t.Logf("%v; all final in %d blocks", load, r.Height)
}

// flipMessage is flip for the segment of the message log that has the bytes.
func flipMessage(t *testing.T, dir string, behind []byte) {
	t.Helper()
	segments, err := filepath.Glob(filepath.Join(dir, "messages-*.log"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range segments {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(b, behind) {
			flip(t, path, behind)
			return
		}
	}
	t.Fatalf("none of %v has %x", segments, behind)
}

// flip changes the bit behind each place in a file that has these bytes: a database may have moved
// a row and left its old bytes where they were.
func flip(t *testing.T, path string, behind []byte) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(b, behind) {
		t.Fatalf("%s does not have %x", path, behind)
	}
	for at := range b {
		if bytes.HasPrefix(b[at:], behind) {
			b[at+len(behind)] ^= 1
		}
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// A bit flips in an old block and one in a page of the state, and nothing looks at either when the
// node starts. Found while it runs, the block is fetched from the others once there are any, and
// the state is computed again: the node serves everything as it was, without a restart.
//
// Promise 21.
func TestDamageThatIsFoundWhileRunningIsRepaired(t *testing.T) {
	n := system.Start(t, system.Options{})
	h := n.Watch()
	load := system.Load{Nodes: n.Nodes, Rate: 1000, Batch: 10, Size: 250}.Start(t)
	h.Await(t, soon, 30, n.Nodes...) // a start reads the newest 8 blocks
	load.Stop()
	n.Audit(h, load)
	victim, other := n.Nodes[1], n.Nodes[0]
	// Stopped in order, so that all is in the databases themselves and nothing in their logs.
	victim.Kill()
	victim.Start()
	victim.AwaitReady(soon)
	victim.Terminate()

	var block client.Block
	for height := uint64(1); len(block.Messages) == 0; height++ {
		if err := other.Get(fmt.Sprintf("/v1/blocks/%d", height), &block); err != nil {
			t.Fatal(err)
		}
	}
	height, message := block.Header.Height, block.Messages[0]
	flipMessage(t, victim.DataDir(), message.Data[:100])
	flip(t, filepath.Join(victim.DataDir(), "state", "pages-00000001"), message.ID[:])

	// Alone, the node has nobody to fetch from: it says so, and answers nothing that it cannot
	// read.
	n.Kill(except(n.Nodes, victim)...)
	victim.Start()
	system.Eventually(t, soon, "the damage is the reason for not being ready", func() error {
		status, err := victim.Status()
		if want := fmt.Sprintf("block %d is damaged", height); err == nil && (status.Ready || !strings.Contains(status.Reason, want)) {
			err = fmt.Errorf("ready %v, reason %q; want %q", status.Ready, status.Reason, want)
		}
		return err
	})
	err := victim.Get(fmt.Sprintf("/v1/blocks/%d", height), nil)
	if refused, ok := errors.AsType[*system.AnswerError](err); !ok || refused.Code != http.StatusServiceUnavailable {
		t.Errorf("the damaged block is answered with %v, want 503", err)
	}
	for _, node := range except(n.Nodes, victim) {
		node.Start()
	}

	system.Eventually(t, soon, "the damage to the state is found and repaired", func() error {
		if err := victim.Get(fmt.Sprintf("/v1/proofs/%v", message.ID), nil); err != nil {
			return err
		}
		if found, err := victim.Metric(`diseq_damage_total{what="state"}`); err != nil || found != 1 {
			return fmt.Errorf("found %v times, want once: %v", found, err)
		}
		return nil
	})
	var again client.Block
	system.Eventually(t, soon, "the damaged block is served", func() error {
		return victim.Get(fmt.Sprintf("/v1/blocks/%d", height), &again)
	})
	if again.HeaderHash != block.HeaderHash || len(again.Messages) != len(block.Messages) {
		t.Errorf("block %d is %v with %d messages, want %v with %d", height, again.HeaderHash, len(again.Messages), block.HeaderHash, len(block.Messages))
	}
	if found, err := victim.Metric(`diseq_damage_total{what="block"}`); err != nil || found != 1 {
		t.Errorf("damaged blocks found: %v, %v; want 1", found, err)
	}
	log, err := os.ReadFile(victim.Log())
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"a final block is damaged on disk", "damaged block replaced by a copy from a peer", "the state trie is computed again"} {
		if !bytes.Contains(log, []byte(line)) {
			t.Errorf("the log does not say %q", line)
		}
	}
	victim.AwaitReady(soon)
	finalize(t, victim, t.Name())
	n.Audit(h, load)
}
