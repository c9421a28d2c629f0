package nodes

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"
)

var (
	seeds     = flag.Uint64("seeds", 2, "seeds for each test that draws faults; with more than the default the others are longer, too")
	firstSeed = flag.Uint64("first-seed", 1, "the first of them")
)

// long says that the tests are run for long, by make sim: then they tell how far they are, and what
// they did.
func long() bool { return *seeds > 2 }

func TestMain(m *testing.M) {
	flag.Parse()
	if testing.Short() {
		*seeds = 1
	}
	code := m.Run()
	if long() && code == 0 {
		rows.print()
	}
	os.Exit(code)
}

// rows are what the tests did, one for each and each number of nodes.
var rows summary

type summary struct {
	mu   sync.Mutex
	rows []*row
}

type row struct {
	name                                        string
	nodes, runs, accepted, answers, kills, torn int
	heights                                     uint64
	virtual                                     time.Duration
}

// count adds a run to the summary and logs it.
func (w *world) count(l *load, height uint64) {
	name, _, _ := strings.Cut(w.Name(), "/")
	virtual := time.Since(w.began)
	w.Logf("%d heights, %d messages, %d answers, %d kills (%d torn), %v of virtual time",
		height, l.count(), l.answers.Load(), w.kills, w.torn, virtual.Round(time.Second))
	rows.mu.Lock()
	defer rows.mu.Unlock()
	var r *row
	for _, other := range rows.rows {
		if other.name == name && other.nodes == len(w.all) {
			r = other
		}
	}
	if r == nil {
		r = &row{name: name, nodes: len(w.all)}
		rows.rows = append(rows.rows, r)
	}
	r.runs++
	r.accepted += l.count()
	r.answers += int(l.answers.Load())
	r.kills += w.kills
	r.torn += w.torn
	r.heights += height
	r.virtual += virtual
	if long() {
		fmt.Fprintf(os.Stderr, "%s: %d nodes, seed %d\n", name, r.nodes, w.seed)
	}
}

// kills returns how many nodes a test has killed, and of how many something was torn.
func (s *summary) kills(test string) (kills, torn int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.rows {
		if r.name == test {
			kills += r.kills
			torn += r.torn
		}
	}
	return kills, torn
}

func (s *summary) print() {
	s.mu.Lock()
	defer s.mu.Unlock()
	table := tabwriter.NewWriter(os.Stdout, 2, 0, 2, ' ', 0)
	fmt.Fprintln(table, "\ntest\tnodes\truns\theights\tmessages\tanswers\tkills\ttorn\tvirtual time")
	for _, r := range s.rows {
		fmt.Fprintf(table, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%v\n", r.name, r.nodes, r.runs, r.heights, r.accepted, r.answers, r.kills, r.torn,
			r.virtual.Round(time.Second))
	}
	_ = table.Flush() // to standard output
}

// eachSeed runs a test for each seed, until one fails.
func eachSeed(t *testing.T, name string, s spec, test func(*world)) {
	t.Helper()
	for seed := *firstSeed; seed < *firstSeed+*seeds; seed++ {
		if !t.Run(fmt.Sprintf("%s, seed %d", name, seed), func(t *testing.T) { bubble(t, seed, s, test) }) {
			return
		}
	}
}

// unlessShort leaves a test out of the short form, which is for the race detector.
func unlessShort(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("left out of the short form: it takes minutes under the race detector, and no path that the others do not")
	}
}
