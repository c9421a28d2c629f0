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

// packet is a bundle on its way, or a request to send everything again.
type packet struct {
	from, to int
	bundle   chain.Bundle
	ask      bool
}

// command plays one line:
//
//	network n=4 t=3       starts the validators; with=1: and an observer
//	1,2: timer round      plays a command of transcript at some of them, or at all
//	3: crash              kills a process; all that is in flight from it or to it is lost
//	deliver               delivers all that is in flight; the answers wait for the next deliver
//	deliver 1,2           delivers what is in flight to these
//
// Answers begin with the validators that gave them.
func (n *network) command(line string) []string {
	n.t.Helper()
	answers := make([][]string, len(n.validators))
	word, options, _ := strings.Cut(line, " ")
	switch {
	case word == "network":
		n.start(options, &answers)
	case word == "deliver":
		to := order(len(n.validators))
		if options != "" {
			to = n.validators[0].list(options)
		}
		flight := n.flight
		n.flight = nil
		for _, p := range flight {
			if !slices.Contains(to, p.to) {
				n.flight = append(n.flight, p)
				continue
			}
			answers[p.to] = append(answers[p.to], n.deliver(p)...)
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
	with := 0
	if _, number, ok := strings.Cut(options, "with="); ok {
		with = first.int(number)
	}
	for i := range len(first.set.Validators) + with {
		tr := &transcript{t: n.t, send: func(to *chain.PublicKey, b chain.Bundle) { n.send(packet{from: i, bundle: b}, to) }}
		tr.ask = func() { n.send(packet{from: i, ask: true}, nil) }
		*answers = append(*answers, tr.command("start "+options+" self="+strconv.Itoa(i)))
		tr.blocks, tr.names = first.blocks, first.names
		n.validators = append(n.validators, tr)
	}
}

func (n *network) send(p packet, to *chain.PublicKey) {
	for i, tr := range n.validators {
		if p.to = i; i != p.from && tr.core != nil && (to == nil || tr.cfg.PublicKey == *to) {
			n.flight = append(n.flight, p)
		}
	}
}

// deliver delivers a packet as the caller of a Core does. A message one above the open height
// verifies only if the set of its height is the one that is open here.
func (n *network) deliver(p packet) []string {
	to, sets := n.validators[p.to], n.validators[p.from].sets
	if p.ask {
		return to.step(LinkUp{Peer: n.validators[p.from].cfg.PublicKey})
	}
	lowest, ahead := uint64(0), uint64(0)
	unknown := func(height uint64) bool {
		if height <= to.height || height == to.height+1 && sets[height].Hash() == to.set.Hash() {
			return false
		}
		ahead = max(ahead, height)
		if lowest == 0 || height < lowest {
			lowest = height
		}
		return true
	}
	e := Received{From: n.validators[p.from].cfg.PublicKey, Set: to.set.Hash(), Bundle: chain.Bundle{
		Certificates: slices.DeleteFunc(slices.Clone(p.bundle.Certificates), func(c *chain.Certificate) bool { return unknown(c.Height) }),
		Proposals:    slices.DeleteFunc(slices.Clone(p.bundle.Proposals), func(p *chain.Proposal) bool { return unknown(p.Statement.Height) }),
		Votes:        slices.DeleteFunc(slices.Clone(p.bundle.Votes), func(v chain.Vote) bool { return unknown(v.Height) }),
	}}
	out := to.step(e)
	if ahead > 0 {
		out = append(out, to.step(Ahead{From: e.From, Lowest: lowest, Height: ahead})...)
	}
	return out
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
