package system

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/diseq/diseq/node/chain"
)

// Position is where a message stands in the order.
type Position struct {
	Height uint64
	Index  int
}

func (p Position) compare(q Position) int {
	return cmp.Or(cmp.Compare(p.Height, q.Height), cmp.Compare(p.Index, q.Index))
}

// Report is the order that all audited nodes agree on.
type Report struct {
	Height    uint64
	Positions map[chain.Hash]Position
	// Votes counts, for each validator, the finalize votes held by the first node audited.
	Votes []int
}

// settleWithin bounds how long accepted messages may take to become final once the load has ended.
const settleWithin = 90 * time.Second

// receiptsAudited is how many receipts an audit verifies.
const receiptsAudited = 24

// Audit waits until all running nodes are at one height with nothing pending, then reads their
// chains in full and holds them to the history and to the ledgers, whose loads have ended. The test
// fails with every promise that is broken.
func (n *Network) Audit(h *History, ledgers ...*Ledger) *Report {
	n.tb.Helper()
	running := n.Running()
	height := n.settle(running)
	report := &Report{Height: height, Positions: map[chain.Hash]Position{}, Votes: make([]int, len(n.Genesis.Validators))}
	set, parent := n.Genesis.Set(), n.Genesis.Header()
	parentHash := parent.Hash()
	n.readAll(running[0], height, true, func(b *Block) {
		h.compare(running[0].Name, b)
		if err := checkBlock(b, parentHash, n.Genesis.ChainID, set); err != nil {
			h.fail("%s, height %d: %v", running[0].Name, b.Header.Height, err)
		}
		parentHash = b.Hash
		for _, v := range b.Certificate.Votes {
			report.Votes[v.Validator]++
		}
		for i, m := range b.Messages {
			at := Position{Height: b.Header.Height, Index: i}
			if before, ok := report.Positions[m.ID]; ok {
				h.fail("message %v is final twice, at %v and at %v", m.ID, before, at)
			}
			report.Positions[m.ID] = at
			if bytes.HasPrefix(m.Data, loadTag) && !slices.ContainsFunc(ledgers, func(l *Ledger) bool { return l.submitted(m.ID) }) {
				h.fail("message %v is final at %v, no client submitted it", m.ID, at)
			}
		}
	})
	for _, node := range running[1:] {
		n.readAll(node, height, false, func(b *Block) { h.compare(node.Name, b) })
	}
	n.checkTip(h)
	for _, l := range ledgers {
		for _, err := range append(l.Errors, l.check(report)...) {
			h.fail("%v", err)
		}
	}
	n.checkReceipts(h, report, ledgers)
	for _, node := range running {
		var held struct{ Evidence []chain.Evidence }
		if err := node.Get("/v1/evidence", &held); err != nil || len(held.Evidence) > 0 && !n.evidence {
			h.fail("%s holds evidence of equivocation by honest validators: %v %v", node.Name, held.Evidence, err)
		}
	}
	if broken := h.Broken(); len(broken) > 0 {
		for _, b := range broken[:min(len(broken), 20)] {
			n.tb.Error(b)
		}
		n.tb.Fatalf("%d promises broken", len(broken))
	}
	return report
}

// settle waits until nodes are at one height with nothing pending.
func (n *Network) settle(nodes []*Node) uint64 {
	n.tb.Helper()
	var height uint64
	Eventually(n.tb, settleWithin, "all is final everywhere", func() error {
		for i, node := range nodes {
			s, err := node.Status()
			switch {
			case err != nil:
				return err
			case s.Pool.Messages > 0:
				return fmt.Errorf("%s is at height %d with %d messages pending", node.Name, s.Height, s.Pool.Messages)
			case i > 0 && s.Height != height:
				return fmt.Errorf("%s is at height %d, %s at %d", node.Name, s.Height, nodes[0].Name, height)
			}
			height = s.Height
		}
		return nil
	})
	return height
}

// readAll reads heights 1 to height.
func (n *Network) readAll(node *Node, height uint64, messages bool, each func(*Block)) {
	n.tb.Helper()
	if height == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), settleWithin)
	defer cancel()
	next := uint64(1)
	n.must(node.Blocks(ctx, next, messages, func(b *Block) bool {
		if b.Header.Height != next {
			n.tb.Fatalf("%s streamed height %d where %d was next", node.Name, b.Header.Height, next)
		}
		next++
		each(b)
		return next <= height
	}))
}

// checkBlock checks what a reader with the genesis document can check.
func checkBlock(b *Block, parent chain.Hash, chainID string, set *chain.ValidatorSet) error {
	if b.Header.ParentHash != parent {
		return fmt.Errorf("its parent is %v, the block below is %v", b.Header.ParentHash, parent)
	}
	if b.Certificate == nil {
		return fmt.Errorf("it has no certificate")
	}
	f := chain.FinalBlock{Block: chain.Block{Header: b.Header}, Certificate: b.Certificate.Certificate}
	for _, m := range b.Messages {
		if id := m.Message.ID(); id != m.ID {
			return fmt.Errorf("message %v has id %v", m.ID, id)
		}
		f.Messages = append(f.Messages, m.Message)
	}
	return f.Verify(chainID, set)
}

// check returns what was accepted and is not final, and what is final in another order than it was
// accepted in.
func (l *Ledger) check(r *Report) []error {
	var broken []error
	type placed struct {
		place int
		at    Position
	}
	lanes := map[[2]int][]placed{}
	for id, a := range l.accepted {
		at, ok := r.Positions[id]
		if !ok {
			broken = append(broken, fmt.Errorf("LOST: message %v was accepted at %v and is not final", id, a.answered.Format(time.StampMilli)))
			continue
		}
		lanes[a.lane] = append(lanes[a.lane], placed{a.place, at})
	}
	for lane, messages := range lanes {
		slices.SortFunc(messages, func(a, b placed) int { return cmp.Compare(a.place, b.place) })
		for i := range messages[1:] {
			if a, b := messages[i], messages[i+1]; a.at.compare(b.at) >= 0 {
				broken = append(broken, fmt.Errorf("client %d submitted message %d before %d, they are final at %v and %v",
					lane[0], a.place, b.place, a.at, b.at))
			}
		}
	}
	return broken
}

// checkTip holds the nodes to the highest block that was ever seen final: it may not be gone.
func (n *Network) checkTip(h *History) {
	highest, tip := h.Highest(), uint64(0)
	for _, node := range n.Running() {
		if s, err := node.Status(); err == nil {
			tip = max(tip, s.Height)
		}
	}
	if tip < highest {
		h.fail("height %d was seen final, the highest that any node has now is %d", highest, tip)
	}
}

// checkReceipts verifies receipts of random messages, each from a random node, and that all nodes
// agree on them.
func (n *Network) checkReceipts(h *History, r *Report, ledgers []*Ledger) {
	var ids []chain.Hash
	for _, l := range ledgers {
		ids = slices.AppendSeq(ids, maps.Keys(l.accepted))
	}
	if len(ids) == 0 {
		return
	}
	running := n.Running()
	for range receiptsAudited {
		id, node := ids[rand.IntN(len(ids))], running[rand.IntN(len(running))]
		at, ok := r.Positions[id]
		if !ok {
			continue // lost, which was reported
		}
		receipt := &chain.Receipt{}
		if err := node.Get(fmt.Sprintf("/v1/messages/%v/receipt", id), receipt); err != nil {
			h.fail("%s: receipt: %v", node.Name, err)
			continue
		}
		if err := receipt.Verify(n.Genesis, 0); err != nil {
			h.fail("%s: the receipt of %v does not verify: %v", node.Name, id, err)
		}
		if got := (Position{receipt.Height, int(receipt.Index)}); got != at || receipt.Message.ID != id {
			h.fail("%s: the receipt of %v is of %v at %v, it is final at %v", node.Name, id, receipt.Message.ID, got, at)
		}
		for _, node := range running {
			var m struct {
				Status string
				Height uint64
				Index  int
			}
			if err := node.Get(fmt.Sprintf("/v1/messages/%v", id), &m); err != nil || m.Status != "final" || (Position{m.Height, m.Index}) != at {
				h.fail("%s: message %v is %+v, it is final at %v: %v", node.Name, id, m, at, err)
			}
		}
	}
}
