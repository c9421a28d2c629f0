package node

import (
	"context"
	"crypto/rand"
	"os"
	"time"

	"github.com/diseq/diseq/node/chain"
)

// rejoinSkip is how many heights above the highest reported one a validator that lost its vote
// store stays silent: it voted at most at F+1 (F: the highest final height then), and one honest of
// the t that answer reports at least F-1 (consensus.md, Rejoining).
const rejoinSkip = 3

// rejoin asks the other validators how far they are, until as many as the threshold have answered,
// and gives this node a vote store again that it may use from the third height above the highest
// answer on. Answers are taken only of this one process's question: each carries our fresh nonce.
func (n *Node) rejoin(ctx context.Context) error {
	var nonce chain.Hash
	if _, err := rand.Read(nonce[:]); err != nil {
		return err
	}
	if others := len(n.set.Validators) - 1; others < int(n.set.Threshold) {
		n.log.Error("this validator cannot rejoin: the word of more others is needed than there are",
			"others", others, "wanted", n.set.Threshold)
	}
	heights := map[chain.PublicKey]uint64{}
	highest, shown := uint64(0), 0
	for shown < int(n.set.Threshold) {
		for _, p := range n.transport.Peers() {
			if _, ok := heights[p.Key]; ok || !p.Up || n.set.Index(p.Key) < 0 {
				continue
			}
			asking, cancel := context.WithTimeout(ctx, fetchTimeout)
			s, err := n.transport.Status(asking, p.Key, nonce)
			cancel()
			if err != nil {
				n.log.Debug("status not had", "from", p.Name, "err", err)
				continue
			}
			if s.Validator == p.Key {
				heights[p.Key] = s.Height
				n.sync.hint(s.Height, p.Key)
			}
		}
		// An answer counts once this node has the block that it tells of: one that nobody can show
		// is none, and would silence this validator for ever, or, at the end of the numbers, not at
		// all.
		highest, shown = 0, 0
		for _, h := range heights {
			if h <= n.tip.Load().block.Header.Height {
				highest, shown = max(highest, h), shown+1
			}
		}
		if shown < int(n.set.Threshold) {
			n.log.Info("rejoining", "answers", len(heights), "shown", shown, "wanted", n.set.Threshold)
			t := time.NewTimer(time.Second)
			select {
			case <-ctx.Done():
				t.Stop()
				return nil
			case <-t.C:
			}
		}
	}
	select {
	case n.seq.rejoined <- highest + rejoinSkip:
	case <-ctx.Done():
	}
	return nil
}

// peersInterval is how often the peers file is looked at.
const peersInterval = 2 * time.Second

// watchPeers takes in changes of the peers file without a restart. A file that cannot be read
// changes nothing.
func (n *Node) watchPeers(ctx context.Context) {
	t := time.NewTicker(peersInterval)
	defer t.Stop()
	last := modified(n.cfg.Peers)
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		now := modified(n.cfg.Peers)
		if now.Equal(last) {
			continue
		}
		last = now
		peers, err := LoadPeers(n.cfg.Peers, n.self)
		if err != nil {
			n.log.Error("the peers file changed and is not taken in", "err", err)
			continue
		}
		n.log.Info("the peers file changed", "peers", len(peers))
		n.transport.SetPeers(peers)
	}
}

func modified(path string) time.Time {
	info, err := os.Stat(path)
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}
