package record

import (
	"strings"
	"time"
)

// A Goal is a figure that is wanted of a network of four validators, of which three must sign,
// unless it says otherwise. Everything runs on one quiet machine with two cores, the load generator
// included.
type Goal struct {
	// ID names the goal for the benchmark that measures it.
	ID string
	// Measure is what is measured, Before the figure before the work on performance began, Wanted
	// the figure that is wanted.
	Measure, Before, Wanted string
}

// Goals are those that docs/performance.md sets the figures against, in its order.
var Goals = []Goal{
	{"most-1000", "final messages a second: 250 bytes, requests of 1,000, nothing lost", "19,000 for 20 s", "50,000 for 60 s"},
	{"most-100", "the same, requests of 100", "12,400", "35,000"},
	{"most-1", "the same, requests of 1", "500", "3,000"},
	{"cpu", "processor time a message, four nodes, requests of 1,000", "84 us", "35 us"},
	{"history", "throughput with 10 million messages of history, as a share of that of an empty chain", "0.6 at 0.7 million", "0.9"},
	{"disk", "bytes written to disk a message of 250 bytes, a node, with the trie", "1,000", "600"},
	{"disk-files", "bytes written to disk a message, a node, without the trie", "-", "350"},
	{"single-p50", "submit to final, p50, 100 single messages a second", "22 to 45 ms, by machine", "8 ms"},
	{"single-p99", "the same, p99", "60 to 200 ms, by machine", "30 ms"},
	{"single-before", "the same, as shares of p50 and p99 of a program from before, in turns", "1", "0.33"},
	{"eighty-p99", "submit to final, p99, at 80 % of the most", "421 ms at 10,000/s", "150 ms"},
	{"sixteen-cpu", "16 validators: processor time a message, a node", "107 us", "45 us"},
	{"sixteen-wire", "16 validators: bytes on the network a message", "44,500", "6,000"},
	{"overload-4", "offered twice the most: throughput as a share of the most", "collapses", "0.95"},
	{"overload-7", "the same, 7 validators", "collapses", "0.95"},
	{"overload-16", "the same, 16 validators", "collapses", "0.95"},
	{"recovery", "4 validators: everything accepted is final after the overload ended, within", "not at all", "5 s"},
	{"memory-idle", "memory, a node, idle", "41 MB", "60 MB"},
	{"memory-load", "memory, a node, under full load", "312 MB", "400 MB"},
	{"memory-history", "memory, a node, with 10 million messages of history", "-", "450 MB"},
	{"catch-up", "catching up, messages a second", "8 times live at 2,000/s", "100,000"},
	{"receipt", "a receipt under load, p99", "5 ms of processor time each", "5 ms"},
	{"proof", "a trie proof with 10 million messages of history, p99", "5 ms of processor time each", "5 ms"},
}

// Known returns the goal of that name.
func Known(id string) (Goal, bool) {
	for _, g := range Goals {
		if g.ID == id {
			return g, true
		}
	}
	return Goal{}, false
}

// Measured is the figure that stands against a goal.
type Measured struct {
	Goal   string `json:"goal"`
	Figure string `json:"figure"`
	Met    bool   `json:"met"`
	// Partial says that the measurement asked less of the network than the goal does: less time or
	// less history. Then it does not count as met.
	Partial bool   `json:"partial,omitempty"`
	Origin  Origin `json:"origin"`
}

// prefix keeps goals apart from tables.
const prefix = "goal-"

// Write keeps the figure in dir, in the place of an earlier one of the same goal.
func (m *Measured) Write(dir string) error { return write(dir, prefix+m.Goal, m) }

// verdict is what stands behind the figure.
func (m *Measured) verdict() string {
	switch {
	case m.Partial:
		return " (not the whole measurement)"
	case !m.Met:
		return " (missed)"
	default:
		return ""
	}
}

// GoalsTable is the table of all goals with the figures in dir. A goal without one says so.
func GoalsTable(dir string) (string, error) {
	var b strings.Builder
	writeRow(&b, []string{"measure", "before", "wanted", "measured", "by", "on"})
	b.WriteString("|---|---|---|---|---|---|\n")
	machines := []string{}
	for _, g := range Goals {
		m, err := read[Measured](dir, prefix+g.ID)
		if err != nil {
			return "", err
		}
		row := []string{g.Measure, g.Before, g.Wanted, "not measured yet", "", ""}
		if m != nil {
			row = []string{g.Measure, g.Before, g.Wanted, m.Figure + m.verdict(), "`" + m.Origin.Command + "`",
				m.Origin.When.UTC().Format(time.DateOnly)}
			machine := m.Origin.Machine + ", commit " + m.Origin.Commit
			if len(machines) == 0 || machines[len(machines)-1] != machine {
				machines = append(machines, machine)
			}
		}
		writeRow(&b, row)
	}
	if len(machines) > 0 {
		b.WriteString("\nMachine: " + strings.Join(machines, "; then ") + ".\n")
	}
	return b.String(), nil
}
