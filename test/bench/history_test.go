package bench

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/diseq/diseq/hack/bench/record"
	"github.com/diseq/diseq/test/system"
)

var (
	historyDir      = flag.String("history", "", "the directory of a network that is kept, with its messages; a temporary one if empty")
	historyMessages = flag.Int("history-messages", 400_000, "how many messages of history there are at least before the comparison")
	historyFor      = flag.Duration("history-turn", 10*time.Second, "how long each load of the comparison lasts")
	behindFor       = flag.Duration("behind", 15*time.Second, "how long a validator misses messages before it catches up")
)

// enough is the history from which on the goals of a long one count.
const enough = 10_000_000

// BenchmarkHistory fills a network with messages, and sets its speed against that of an empty one.
// With -history the network is kept, and a later run goes on with it.
func BenchmarkHistory(b *testing.B) {
	dir := *historyDir
	if dir == "" {
		dir = b.TempDir()
	}
	var err error
	if dir, err = filepath.Abs(dir); err != nil { // go test runs in the directory of the package
		b.Fatal(err)
	}
	held := openHistory(b, dir)
	n := system.Start(b, system.Options{Dir: dir})
	filled := record.Table{Name: "history", Columns: append(costColumns("messages before"), "memory MB, a node", "file bytes a message, a node")}
	for held.Messages < *historyMessages {
		progress("%s of %s messages of history; as fast as they are answered, requests of 1,000", record.Number(float64(held.Messages)),
			record.Number(float64(*historyMessages)))
		before := held.Messages
		u := measure(b, n, flood(1000, 2**historyFor, "--drain", "2m")...)
		held.add(b, u.Final)
		held.fits(b, dir)
		now, _ := memory(n)
		addCost(&filled, record.Number(float64(before)), u)
		last := len(filled.Rows) - 1
		filled.Rows[last] = append(filled.Rows[last], record.Number(megabytes(now)),
			record.Number(float64(sizeOf(b, dir))/float64(held.Messages)/float64(len(n.Nodes))))
	}
	compared := record.Table{Name: "history-compared", Columns: costColumns("messages of history")}
	var full, none []float64
	for range historyTurns {
		empty := system.Start(b, system.Options{}) // a new one: the last one has a history by now
		load(b, empty, "--rate", "1000", "--duration", "2s")
		for _, side := range []struct {
			network *system.Network
			speeds  *[]float64
			name    string
		}{{empty, &none, "almost none"}, {n, &full, record.Number(float64(held.Messages))}} {
			u := measure(b, side.network, flood(1000, *historyFor, "--drain", "2m")...)
			*side.speeds = append(*side.speeds, u.FinalPerSecond)
			addCost(&compared, side.name, u)
			if side.network == n {
				held.add(b, u.Final)
			}
		}
		empty.Stop()
	}
	keep(b, &filled)
	slices.Sort(full)
	slices.Sort(none)
	ratio := full[historyTurns/2] / none[historyTurns/2]
	now, peak := memory(n)
	proofs := timed(b, n, "/v1/proofs/%s", 300)
	receipts := timed(b, n, "/v1/messages/%s/receipt", 300)
	late := p99(proofs)
	keep(b, &compared)
	reads := record.Table{Name: "history-reads", Columns: []string{"messages of history", "read", "p50 ms", "p99 ms", "most ms"}}
	for _, r := range []struct {
		name  string
		times []time.Duration
	}{{"trie proof", proofs}, {"receipt", receipts}} {
		late := p99(r.times)
		reads.Add(record.Number(float64(held.Messages)), r.name, milliseconds(r.times[len(r.times)/2]), milliseconds(late),
			milliseconds(r.times[len(r.times)-1]))
	}
	keep(b, &reads)
	claim("history: throughput, as a share of that of an empty network", "-", true, "%.2f with %s messages (medians of %d turns)", ratio,
		record.Number(float64(held.Messages)), historyTurns)
	claim("history: memory, each node", "-", true, "%d MiB at most, %d MiB when filled", peak, now)
	whole, at := held.Messages >= enough, fmt.Sprintf("%.1f million", float64(held.Messages)/1e6)
	reach(b, "history", whole, ratio >= 0.9, "%.2f at %s", ratio, at)
	reach(b, "memory-history", whole, peak*mib <= 450e6, "%.0f MB at %s", megabytes(peak), at)
	reach(b, "proof", whole, late <= 5*time.Millisecond, "%.1f ms at %s", milliseconds(late), at)
	b.ReportMetric(ratio, "x-empty")
	b.ReportMetric(milliseconds(late), "proof-p99-ms")
	if *historyDir != "" {
		n.Stop() // so that the next run finds whole files
	}
}

// historyTurns is how often each network of the comparison gets the load.
const historyTurns = 3

// history is how many messages the network in a directory has. It is kept beside the network.
type history struct {
	path     string
	Messages int
}

func openHistory(b *testing.B, dir string) *history {
	b.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		b.Fatal(err)
	}
	h := &history{path: filepath.Join(dir, "history.json")}
	raw, err := os.ReadFile(h.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if _, err := os.Stat(filepath.Join(dir, "genesis.json")); err == nil {
			b.Fatalf("%s holds a network that this benchmark did not make: use another -history", dir)
		}
	case err != nil:
		b.Fatal(err)
	default:
		if err := json.Unmarshal(raw, h); err != nil {
			b.Fatalf("%s: %v", h.path, err)
		}
	}
	return h
}

// fits ends the benchmark if the messages that are still to come will not find room on the disk,
// going by those that are there.
func (h *history) fits(b *testing.B, dir string) {
	b.Helper()
	var disk unix.Statfs_t
	if err := unix.Statfs(dir, &disk); err != nil {
		b.Fatal(err)
	}
	free := float64(disk.Bavail) * float64(disk.Bsize)
	need := float64(sizeOf(b, dir)) / float64(max(1, h.Messages)) * float64(max(0, *historyMessages-h.Messages))
	if need > free {
		b.Fatalf("%s more messages need about %.0f GB in %s, which has %.0f GB: use another -history, or fewer -history-messages",
			record.Number(float64(*historyMessages-h.Messages)), need/1e9, dir, free/1e9)
	}
}

// add counts messages that became final.
func (h *history) add(b *testing.B, messages int) {
	b.Helper()
	h.Messages += messages
	raw, err := json.Marshal(h)
	if err == nil {
		err = os.WriteFile(h.path, append(raw, '\n'), 0o644)
	}
	if err != nil {
		b.Fatal(err)
	}
}

// sizeOf returns the bytes that the files below a directory take on the disk.
func sizeOf(b *testing.B, dir string) (sum int64) {
	b.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // the nodes run
		}
		if err != nil || d.IsDir() {
			return err
		}
		var s unix.Stat_t
		if err := unix.Stat(path, &s); err == nil {
			sum += s.Blocks * 512
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	return sum
}

// timed asks the first node for something about messages at random heights, and returns how long
// each answer took.
func timed(b *testing.B, n *system.Network, path string, count int) []time.Duration {
	b.Helper()
	status, err := n.Nodes[0].Status()
	if err != nil {
		b.Fatal(err)
	}
	var out []time.Duration
	for tries := 0; len(out) < count && tries < 20*count; tries++ {
		id, err := someMessage(n.Nodes[0], 1+rand.Uint64N(status.Height))
		if err != nil {
			b.Fatal(err)
		}
		if id == "" {
			continue
		}
		took, err := fetch(n.Nodes[0].URL + fmt.Sprintf(path, id))
		if err != nil {
			b.Fatal(err)
		}
		out = append(out, took)
	}
	if len(out) == 0 {
		b.Fatal("found no message in the chain")
	}
	return out
}

// someMessage returns the id of a message of a block, "" if the block has none.
func someMessage(node *system.Node, height uint64) (string, error) {
	var block struct {
		Messages []struct{ ID string }
	}
	if err := node.Get(fmt.Sprintf("/v1/blocks/%d", height), &block); err != nil || len(block.Messages) == 0 {
		return "", err
	}
	return block.Messages[rand.IntN(len(block.Messages))].ID, nil
}

// fetch returns how long a GET took, over a connection that stays open.
func fetch(url string) (time.Duration, error) {
	began := time.Now()
	_, err := get(url)
	return time.Since(began), err
}

// BenchmarkReceipts is how long receipts of new messages take while the network is under full load.
func BenchmarkReceipts(b *testing.B) {
	n := system.Start(b, system.Options{})
	progress("20 receipts of new messages a second, at 10,000 messages a second in requests of 100, for %v", *sustainedFor/2)
	type answers struct {
		times []time.Duration
		err   error
	}
	stop, done := make(chan struct{}), make(chan answers, 1)
	go func() {
		var a answers
		for tick := time.NewTicker(50 * time.Millisecond); ; {
			select {
			case <-stop:
				tick.Stop()
				done <- a
				return
			case <-tick.C:
			}
			status, err := n.Nodes[0].Status()
			if err != nil || status.Height == 0 {
				a.err = errors.Join(a.err, err)
				continue
			}
			id, err := someMessage(n.Nodes[0], status.Height)
			if err != nil || id == "" {
				a.err = errors.Join(a.err, err)
				continue
			}
			took, err := fetch(n.Nodes[0].URL + "/v1/messages/" + id + "/receipt")
			if err != nil {
				a.err = errors.Join(a.err, err)
				continue
			}
			a.times = append(a.times, took)
		}
	}()
	load(b, n, "--rate", "10000", "--batch", "100", "--duration", (*sustainedFor / 2).String())
	close(stop)
	a := <-done
	if len(a.times) == 0 {
		b.Fatalf("no receipt was answered: %v", a.err)
	}
	if a.err != nil {
		b.Fatalf("%d receipts were answered, and then: %v", len(a.times), a.err)
	}
	late := p99(a.times)
	claim("receipts under full load: p99", "-", true, "%.1f ms, p50 %.1f ms, of %d", milliseconds(late), milliseconds(a.times[len(a.times)/2]), len(a.times))
	goal(b, "receipt", late <= 5*time.Millisecond, "%.1f ms", milliseconds(late))
	b.ReportMetric(milliseconds(late), "p99-ms")
}

// BenchmarkCatchUp is how fast a validator gets the messages that it missed, once nothing new
// comes.
func BenchmarkCatchUp(b *testing.B) {
	n := system.Start(b, system.Options{})
	victim := n.Nodes[3]
	victim.Kill()
	progress("requests of 1,000, as fast as they are answered, for %v; one of four validators misses them", *behindFor)
	u := load(b, n, flood(1000, *behindFor)...)
	var tip uint64
	for _, node := range n.Running() {
		s, err := node.Status()
		if err != nil {
			b.Fatal(err)
		}
		tip = max(tip, s.Height)
	}
	victim.Start()
	var from time.Time
	system.Eventually(b, 5*time.Minute, "it has caught up", func() error {
		s, err := victim.Status()
		if err != nil {
			return err
		}
		if from.IsZero() {
			from = time.Now()
		}
		if s.Height < tip {
			return fmt.Errorf("it is at height %d of %d", s.Height, tip)
		}
		return nil
	})
	took := time.Since(from)
	speed := float64(u.Final) / max(took.Seconds(), 1e-3)
	claim("catching up when nothing new comes", "-", true, "%s messages/s: %d messages in %.1f s", record.Number(speed), u.Final, took.Seconds())
	goal(b, "catch-up", speed >= 100_000, "%s: %d messages in %.1f s", record.Number(speed), u.Final, took.Seconds())
	b.ReportMetric(speed, "messages/s")
}
