package powercut

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/diseq/diseq/node/identity"
	"github.com/diseq/diseq/node/store"
	"github.com/diseq/diseq/test/oracle"
	"github.com/diseq/diseq/test/powercut/disk"
	"github.com/diseq/diseq/test/system"
)

// worker is the variable that makes this program one that works on a disk.
const worker = "POWERCUT_WORKER"

func TestMain(m *testing.M) {
	if dir := os.Getenv(worker); dir != "" {
		if err := work(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(system.Main(m))
}

// rounds returns base, multiplied by POWERCUT_ROUNDS.
func rounds(base int) int {
	n, err := strconv.Atoi(os.Getenv("POWERCUT_ROUNDS"))
	if err != nil || n < 1 {
		return base
	}
	return base * n
}

// smallBlocks and largeBlocks are how many a worker stores in each of its lives, and at the end.
const smallBlocks, largeBlocks, lives = 4, 3, 2

func theScript(tb testing.TB) *script {
	return newScript(tb, lives*rounds(smallBlocks), largeBlocks)
}

// alone is the test of a process that is none.
type alone struct{ oracle.Recorder }

// Helper implements testing.TB.
func (*alone) Helper() {}

// work is the worker: it makes the stores and plays the script, in several lives. It goes on only
// when the test has taken note of each promise.
func work(dir string) (err error) {
	recorder := &alone{}
	s := theScript(recorder)
	if said := recorder.Said(); said != "" {
		return errors.New(said)
	}
	noted := bufio.NewReader(os.Stdin)
	told := func(p promise) {
		line, err := json.Marshal(p)
		if err == nil {
			_, err = fmt.Println(string(line))
		}
		if err == nil {
			_, err = noted.ReadByte()
		}
		if err != nil {
			panic(err) // nobody listens any more
		}
	}
	data := filepath.Join(dir, "data")
	exists, err := store.VotesExist(data)
	if err != nil {
		return err
	}
	if !exists {
		id, err := identity.New()
		if err != nil {
			return err
		}
		if err := id.Write(filepath.Join(dir, "keys"), "v0"); err != nil {
			return err
		}
		told(promise{Keys: true})
		if err := store.CreateVotes(data, s.key); err != nil {
			return err
		}
	}
	told(promise{Votes: true})
	for {
		o, err := openStores(data, s, false)
		if err != nil {
			return err
		}
		next := int(o.Height())
		if err := o.tell(s, told); err != nil {
			return err
		}
		last := next+rounds(smallBlocks) >= lives*rounds(smallBlocks)
		to := next + rounds(smallBlocks)
		if last {
			to = len(s.blocks)
		}
		if err := o.play(s, next, to, told); err != nil || last {
			return err // with everything open
		}
		if err := o.close(); err != nil {
			return err
		}
	}
}

// tell repeats the promises that what is found at a start amounts to: a node sends its votes again,
// acknowledges batches that it has, and serves its blocks.
func (o *stores) tell(s *script, told func(promise)) error {
	found := promise{Votes: true, Blocks: int(o.Height())}
	for found.Batches = found.Blocks; s.checkBatches(o, promise{Batches: found.Batches + 1}) == nil; {
		found.Batches++
	}
	records, err := o.votes.Load()
	if err != nil {
		return err
	}
	if n := len(records); n > 0 {
		// the last one says how far they go
		for k, group := range s.records {
			if last := group[len(group)-1]; last.Height == records[n-1].Height && string(last.Data) == string(records[n-1].Data) {
				found.Records = k + 1
			}
		}
	}
	told(found)
	return nil
}

// A process is a worker of the test.
type process struct {
	*exec.Cmd
	in  io.WriteCloser
	end chan error
}

// startWorker starts a worker in a directory of a disk. Its promises become marks.
func startWorker(t *testing.T, d *disk.Disk) *process {
	t.Helper()
	exe, err := os.Executable()
	must(t, err)
	p := &process{Cmd: exec.Command(exe), end: make(chan error, 1)}
	p.Env = append(os.Environ(), worker+"="+filepath.Join(d.Dir, "net", "v0"))
	p.Stderr = os.Stderr
	p.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := p.StdoutPipe()
	must(t, err)
	p.in, err = p.StdinPipe()
	must(t, err)
	must(t, p.Start())
	t.Cleanup(func() {
		_ = p.Process.Kill() // it may have ended
		for range p.end {    // until it is closed
		}
	})
	go func() {
		lines := json.NewDecoder(out)
		for {
			var what promise
			if err := lines.Decode(&what); err != nil {
				break
			}
			d.Mark(what)
			if _, err := p.in.Write([]byte{'\n'}); err != nil {
				break
			}
		}
		p.end <- p.Wait()
		close(p.end)
	}()
	return p
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// sum joins the promises of a cut.
func sum(marks []any) (out promise) {
	for _, m := range marks {
		p, _ := m.(promise)
		out.Keys, out.Votes = out.Keys || p.Keys, out.Votes || p.Votes
		out.Batches, out.Records, out.Blocks = max(out.Batches, p.Batches), max(out.Records, p.Records), max(out.Blocks, p.Blocks)
	}
	return out
}

// scratch returns a directory in memory where there is one.
func scratch(t *testing.T) string {
	t.Helper()
	if dir, err := os.MkdirTemp("/dev/shm", "diseq-powercut-"); err == nil {
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		return dir
	}
	return t.TempDir()
}
