package consensus

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/diseq/diseq/node/chain"
)

// network plays a transcript of several Cores. Each of them is a transcript of its own; they share
// the names of blocks. A message is in flight until the command deliver.
type network struct {
	t          *testing.T
	validators []*transcript
	flight     []packet
}

// packet is a bundle on its way.
type packet struct {
	from, to int
	bundle   chain.Bundle
}

// command plays one line:
//
//	network n=4 t=3       starts the validators
//	1,2: timer round      plays a command of transcript at some of them, or at all
//	3: crash              kills a process; all that is in flight from it or to it is lost
//	deliver               delivers all that is in flight; the answers wait for the next deliver
//
// Answers begin with the validators that gave them.
func (n *network) command(line string) []string {
	n.t.Helper()
	answers := make([][]string, len(n.validators))
	word, options, _ := strings.Cut(line, " ")
	switch {
	case word == "network":
		n.start(options, &answers)
	case line == "deliver":
		flight := n.flight
		n.flight = nil
		for _, p := range flight {
			tr := n.validators[p.to]
			answers[p.to] = append(answers[p.to], tr.step(Received{From: tr.key(p.from), Bundle: p.bundle})...)
		}
	case strings.HasSuffix(word, ":"):
		for _, i := range n.named(strings.TrimSuffix(word, ":")) {
			if options == "crash" {
				n.crash(i)
			} else {
				answers[i] = n.validators[i].command(options)
			}
		}
	default:
		n.t.Fatalf("unknown command %q", line)
	}
	return n.merge(answers)
}

func (n *network) start(options string, answers *[][]string) {
	n.validators, n.flight = nil, nil
	first := &transcript{t: n.t}
	first.command("start " + options)
	for i := range first.set.Validators {
		tr := &transcript{t: n.t, send: func(to *chain.PublicKey, b chain.Bundle) { n.send(i, to, b) }}
		*answers = append(*answers, tr.command("start "+options+" self="+strconv.Itoa(i)))
		tr.blocks, tr.names = first.blocks, first.names
		n.validators = append(n.validators, tr)
	}
}

func (n *network) send(from int, to *chain.PublicKey, b chain.Bundle) {
	for i, tr := range n.validators {
		if i != from && tr.core != nil && (to == nil || tr.key(i) == *to) {
			n.flight = append(n.flight, packet{from, i, b})
		}
	}
}

func (n *network) crash(i int) {
	n.validators[i].core = nil
	n.flight = slices.DeleteFunc(n.flight, func(p packet) bool { return p.from == i || p.to == i })
}

func (n *network) named(names string) []int {
	if names == "all" {
		return order(len(n.validators))
	}
	return n.validators[0].list(names)
}

// merge writes the answers of those that answer the same once.
func (n *network) merge(answers [][]string) []string {
	var out []string
	done := make([]bool, len(answers))
	for i, of := range answers {
		if done[i] {
			continue
		}
		var same []string
		for j := i; j < len(answers); j++ {
			if slices.Equal(answers[j], of) {
				done[j] = true
				same = append(same, strconv.Itoa(j))
			}
		}
		names := strings.Join(same, ",")
		if len(same) == len(answers) {
			names = "all"
		}
		for _, line := range of {
			out = append(out, names+": "+line)
		}
	}
	return out
}
