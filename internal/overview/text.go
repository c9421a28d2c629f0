package overview

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/diseq/diseq/internal/clientcmd"
)

// Headings are those of the columns of [Node.Cells].
var Headings = []string{"NODE", "STATE", "HEIGHT", "BEHIND", "ROUND", "LEADER", "SIGNED", "POOL", "READY"}

// Order are the columns by their importance: a narrow terminal shows the first ones alone.
var Order = []string{"NODE", "STATE", "HEIGHT", "READY", "BEHIND", "POOL", "LEADER", "SIGNED", "ROUND"}

const none = "-"

// Cells are the values of a node, by [Headings].
func (n *Node) Cells() []string {
	cells := []string{n.Name, n.State, none, none, none, none, none, none, none}
	if n.State == Away {
		return cells
	}
	cells[2] = strconv.FormatUint(n.Height, 10)
	cells[8] = "no"
	if n.Ready {
		cells[8] = "yes"
	}
	if n.Behind > 0 {
		cells[3] = strconv.FormatUint(n.Behind, 10)
	}
	if n.State == Hidden {
		return cells
	}
	cells[4], cells[5], cells[7] = strconv.FormatUint(uint64(n.Round), 10), cmp.Or(n.Leader, none), strconv.Itoa(n.Pool)
	if n.Of > 0 {
		cells[6] = fmt.Sprintf("%d/%d", n.Signed, n.Of)
	}
	return cells
}

// Sort puts the nodes into the order of a column; those of the same value stay as they are.
func (n *Network) Sort(column string) {
	by := map[string]func(a, b *Node) int{
		"NODE":  func(a, b *Node) int { return cmp.Compare(a.Name, b.Name) },
		"STATE": func(a, b *Node) int { return cmp.Compare(a.State, b.State) },
		// those that are the matter come first
		"BEHIND": func(a, b *Node) int { return cmp.Compare(b.behind(), a.behind()) },
		"HEIGHT": func(a, b *Node) int { return cmp.Compare(b.Height, a.Height) },
		"POOL":   func(a, b *Node) int { return cmp.Compare(b.Pool, a.Pool) },
	}[column]
	if by != nil {
		slices.SortStableFunc(n.Nodes, func(a, b Node) int { return by(&a, &b) })
	}
}

// behind puts a node that does not answer before all others.
func (n *Node) behind() uint64 {
	if n.State == Away {
		return 1<<64 - 1
	}
	return n.Behind
}

// Answering is the number of nodes that answer.
func (n *Network) Answering() int {
	count := 0
	for i := range n.Nodes {
		if n.Nodes[i].State != Away {
			count++
		}
	}
	return count
}

// Unreachable is an error that says what to do if no node answers, and nil if one does.
func (n *Network) Unreachable() error {
	if n.Answering() > 0 || len(n.Nodes) == 0 {
		return nil
	}
	return fmt.Errorf("no node answers: see that they run, and name them with --url or a context; %s: %s", n.Nodes[0].Name, n.Nodes[0].Problem)
}

// Head are lines about the network as a whole.
func (n *Network) Head() []string {
	answer := n.Answering()
	if answer == 0 {
		return []string{fmt.Sprintf("none of %d nodes answers", len(n.Nodes))}
	}
	lines := []string{
		fmt.Sprintf("chain %s  height %d  %d of %d nodes answer", n.ChainID, n.Height, answer, len(n.Nodes)),
		fmt.Sprintf("messages/s %s  block to final %s  last block %s",
			number(n.MessagesPerSecond, "%.0f"), number(n.Finality, "%.0f ms"), n.since()),
		"now        " + n.Now(),
	}
	if n.Validators > 0 {
		lines = append(lines, "by design  "+n.design())
	}
	return lines
}

func number(v *float64, format string) string {
	if v == nil {
		return none
	}
	return fmt.Sprintf(format, *v)
}

func (n *Network) since() string {
	if n.SinceBlock == nil {
		return none
	}
	since := time.Duration(min(*n.SinceBlock, 1e9) * float64(time.Second))
	if since < 10*time.Second {
		return fmt.Sprintf("%.1f s ago", since.Seconds())
	}
	return since.Round(time.Second).String() + " ago"
}

// Now says how many more validators may fail.
func (n *Network) Now() string {
	switch {
	case n.Spare == nil:
		return "no node says how many more may fail"
	case *n.Spare < 0:
		return fmt.Sprintf("nothing becomes final until %d more of the validators are up", -*n.Spare)
	case *n.Spare == 0:
		return "no more may fail: the next failure stops the chain"
	}
	return fmt.Sprintf("%d more may fail while messages still become final", *n.Spare)
}

func (n *Network) design() string {
	return fmt.Sprintf("%d of %d may be down, %d must sign; no fork with %d Byzantine",
		n.Tolerance.Crash, n.Validators, n.Threshold, n.Tolerance.Byzantine)
}

// Table prints the network once.
func (n *Network) Table(w io.Writer) error {
	for _, line := range n.Head() {
		if _, err := fmt.Fprintln(w, line); err != nil {
			return err
		}
	}
	if _, err := fmt.Fprintln(w); err != nil {
		return err
	}
	rows := make([][]string, len(n.Nodes))
	for i := range n.Nodes {
		rows[i] = n.Nodes[i].Cells()
	}
	if err := clientcmd.PrintTable(w, Headings, rows); err != nil {
		return err
	}
	for i, line := range n.Wrong {
		if i == 0 {
			line = "\n" + line
		}
		if _, err := fmt.Fprintln(w, line); err != nil {
			return err
		}
	}
	return nil
}
