package system

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/diseq/diseq/client"
	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/test/oracle"
)

// settleWithin bounds how long accepted messages may take to become final once the load has ended.
const settleWithin = 90 * time.Second

// receiptsAudited is how many receipts an audit verifies.
const receiptsAudited = 24

// Audit waits until all running nodes are at one height with nothing pending, reads their chains in
// full and compares them with the history and with the ledgers, whose loads have ended. The test
// fails with every promise that is broken.
func (n *Network) Audit(h *History, ledgers ...*Ledger) *oracle.Order {
	n.tb.Helper()
	running := n.Running()
	height := n.settle(running)
	for i, node := range running {
		n.readAll(node, height, i == 0, func(b *client.Block) { h.Show(node.Name, b) })
	}
	books := make([]*oracle.Ledger, len(ledgers))
	for i, l := range ledgers {
		books[i] = l.Ledger
		for _, err := range l.Errors {
			h.Fail("%v", err)
		}
	}
	highest := h.Highest()
	h.Tip(highest, n.tip())
	order := h.Audit(height, books...)
	n.checkReceipts(h, order, books)
	for _, node := range running {
		var held struct{ Evidence []chain.EvidenceDocument }
		if err := node.Get("/v1/evidence", &held); err != nil {
			h.Fail("%s: evidence: %v", node.Name, err)
		}
		if !n.evidence {
			pieces := make([]chain.Evidence, 0, len(held.Evidence))
			for _, e := range held.Evidence {
				pieces = append(pieces, e.Evidence)
			}
			h.Evidence(node.Name, pieces)
		}
	}
	if h.Report(n.tb) > 0 {
		n.tb.FailNow()
	}
	return order
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
func (n *Network) readAll(node *Node, height uint64, messages bool, each func(*client.Block)) {
	n.tb.Helper()
	if height == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), settleWithin)
	defer cancel()
	next := uint64(1)
	n.must(node.Blocks(ctx, next, messages, func(b *client.Block) bool {
		if b.Header.Height != next {
			n.tb.Fatalf("%s streamed height %d where %d was next", node.Name, b.Header.Height, next)
		}
		next++
		each(b)
		return next <= height
	}))
}

// tip returns the highest height that any running node has.
func (n *Network) tip() (tip uint64) {
	for _, node := range n.Running() {
		if s, err := node.Status(); err == nil {
			tip = max(tip, s.Height)
		}
	}
	return tip
}

// checkReceipts verifies receipts of random messages, each from a random node, and that all nodes
// agree on them.
func (n *Network) checkReceipts(h *History, order *oracle.Order, ledgers []*oracle.Ledger) {
	var ids []chain.Hash
	for _, l := range ledgers {
		ids = slices.AppendSeq(ids, maps.Keys(l.All()))
	}
	if len(ids) == 0 {
		return
	}
	running := n.Running()
	for range receiptsAudited {
		id, node := ids[rand.IntN(len(ids))], running[rand.IntN(len(running))]
		at, ok := order.Positions[id]
		if !ok {
			continue // lost, which was reported
		}
		receipt := &chain.Receipt{}
		if err := node.Get(fmt.Sprintf("/v1/messages/%v/receipt", id), receipt); err != nil {
			h.Fail("%s: receipt: %v", node.Name, err)
			continue
		}
		h.Receipt(node.Name, receipt, id, at)
		for _, node := range running {
			var m struct {
				Status string
				Height uint64
				Index  int
			}
			err := node.Get(fmt.Sprintf("/v1/messages/%v", id), &m)
			if place := (oracle.Position{Height: m.Height, Index: m.Index}); err != nil || m.Status != "final" || place != at {
				h.Fail("%s: message %v is %+v, it is final at %v: %v", node.Name, id, m, at, err)
			}
		}
	}
}
