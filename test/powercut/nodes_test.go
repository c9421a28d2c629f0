package powercut

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/store"
	"github.com/diseq/diseq/test/powercut/disk"
	"github.com/diseq/diseq/test/system"
)

var errNothing = errors.New("a listener takes nothing")

// said is what a node has said so far.
type said struct {
	accepted map[chain.Hash]bool
	// height and hash are of the newest block that it showed.
	height uint64
	hash   chain.Hash
	votes  []chain.Vote // above the newest block
}

// ledger is what all nodes have said up to a cut.
type ledger struct {
	taken int // marks
	nodes [validators]said
}

func newLedger() *ledger {
	l := &ledger{}
	for i := range l.nodes {
		l.nodes[i].accepted = map[chain.Hash]bool{}
	}
	return l
}

// take takes in the marks up to a later cut.
func (l *ledger) take(marks []any) {
	for _, m := range marks[l.taken:] {
		switch m := m.(type) {
		case accepted:
			l.nodes[m.node].accepted[m.id] = true
		case final:
			if s := &l.nodes[m.node]; m.height > s.height {
				s.height, s.hash = m.height, m.hash
			}
		case voted:
			l.nodes[m.node].votes = append(l.nodes[m.node].votes, m.vote)
		}
	}
	l.taken = len(marks)
}

// check opens what is left of the data directory of a node and compares it with what it said.
func (n *network) check(dir string, i int, s *said) (err error) {
	exists, err := store.VotesExist(dir)
	if err != nil {
		return err
	}
	if !exists {
		if len(s.votes) > 0 {
			return errors.New("the vote store is gone, and the node has voted")
		}
		if first, err := store.Untouched(dir); err != nil || !first {
			return errors.Join(errors.New("there is no vote store, and the directory is not a new one"), err)
		}
	}
	blocks, err := store.Open(dir, n.genesis, store.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, blocks.Close()) }()
	if err := n.checkMessages(blocks, s); err != nil || !exists {
		return err
	}
	votes, err := blocks.OpenVotes(n.keys[i])
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(votes.Close(), err) }()
	records, err := votes.Load()
	if err != nil {
		return err
	}
	have := map[string]bool{}
	for _, r := range records {
		if r.Height > blocks.Height()+1 {
			return fmt.Errorf("a vote of height %d, and the blocks end at %d: the node would not start", r.Height, blocks.Height())
		}
		if r.Kind == chain.RecordVote || r.Kind == chain.RecordProposal {
			have[string(r.Data)] = true
		}
	}
	for _, v := range s.votes {
		if v.Height > blocks.Height() && v.Kind != chain.Propose && !have[string(v.Encode())] {
			return fmt.Errorf("the vote to %v at height %d, round %d left and is gone", v.Kind, v.Height, v.Round)
		}
	}
	return nil
}

// checkMessages checks the newest block that the node showed, and that it holds the messages that
// it accepted.
func (n *network) checkMessages(blocks *store.Store, s *said) error {
	ctx := context.Background()
	if blocks.Height() < s.height {
		return fmt.Errorf("height %d, and block %d was shown", blocks.Height(), s.height)
	}
	held := map[chain.Hash]bool{}
	for height := uint64(1); height <= blocks.Height(); height++ {
		b, err := blocks.Block(ctx, height)
		if err != nil {
			return err
		}
		if height == s.height && b.Hash() != s.hash {
			return fmt.Errorf("block %d is not the one that was shown", height)
		}
		for _, m := range b.Messages {
			held[m.ID()] = true
		}
	}
	err := blocks.PendingBatches(ctx, func(stored chain.StoredBatch) error {
		b, err := chain.DecodeBatch(stored.Data, len(stored.Data))
		if err != nil {
			return err
		}
		for _, m := range b.Messages {
			held[m.ID()] = true
		}
		return nil
	})
	if err != nil {
		return err
	}
	for id := range s.accepted {
		if !held[id] {
			return fmt.Errorf("message %v was answered 202 and is gone", id)
		}
	}
	return nil
}

// shortCuts is about how many cuts the short form reads, spread over all.
const shortCuts = 300

// each calls visit with each cut of the disk in an fsync of a node, until it returns false.
func (n *network) each(d *disk.Disk, ignored func(string) bool, visit func(c *disk.Cut, i int, s *said) bool) {
	l := newLedger()
	d.Cuts(ignored, func(c *disk.Cut) bool {
		l.take(c.Marks)
		i, ok := whose(c.Path)
		return !ok || visit(c, i, &l.nodes[i])
	})
}

func (n *network) left(c *disk.Cut, i int, s *said, where string, fate disk.Fate) error {
	n.t.Helper()
	must(n.t, c.Write(name(i), where, fate))
	err := n.check(where, i, s)
	must(n.t, os.RemoveAll(where))
	return err
}

// Four nodes make blocks on a disk of their own each, and one of them is killed and started again.
// After a power cut in any fsync of theirs a node has the messages that it answered 202, the blocks
// that it showed, and the votes that it sent. After a power cut of all at once they go on with the
// same blocks, and all messages that any of them answered 202 become final.
//
// Promise 12.
// Promise 18.
// Promise 24.
func TestWhatNodesSaidSurvivesAPowerCutInAnyFsync(t *testing.T) {
	d := disk.Mount(t)
	n := newNetwork(t)
	n.record(d, uint64(rounds(4)))
	recorded := time.Now()
	where := filepath.Join(scratch(t), "cut")
	cuts, read := 0, 0
	n.each(d, nil, func(*disk.Cut, int, *said) bool { cuts++; return true })
	step := 1
	if rounds(1) == 1 {
		step = max(1, cuts/shortCuts)
	}
	first, at := rand.IntN(step), -1
	n.each(d, nil, func(c *disk.Cut, i int, s *said) bool {
		if at++; at%step != first {
			return true
		}
		read++
		for fate, how := range fates(c.Number) {
			if err := n.left(c, i, s, where, how); err != nil {
				t.Errorf("power cut %v, %s: %v", c, fate, err)
			}
		}
		return !t.Failed()
	})
	if t.Failed() {
		return
	}
	t.Logf("%d of %d cuts, %v after the nodes had ended", read, cuts, time.Since(recorded))
	for _, missing := range []string{"v0/votes.db-wal", "v1/blocks.db-wal"} {
		t.Run("without the fsyncs of "+missing, func(t *testing.T) {
			var seen error
			n.each(d, func(path string) bool { return path == missing }, func(c *disk.Cut, i int, s *said) bool {
				if owner, _ := whose(missing); i == owner {
					seen = n.left(c, i, s, where, disk.Lost)
				}
				return seen == nil
			})
			if seen == nil {
				t.Error("nothing is lost")
			}
			t.Log(seen)
		})
	}
	for k := range rounds(1) {
		n.resume(d, cuts*(k+1)/(rounds(1)+1))
	}
}

// record lets the network make some blocks on a disk, with a kill on the way, and kills it.
func (n *network) record(d *disk.Disk, height uint64) {
	n.t.Helper()
	ctx, stop := context.WithCancel(n.t.Context())
	w, wait := n.watch(ctx, d)
	defer wait()
	defer stop()
	for i := range validators {
		n.start(i, filepath.Join(d.Dir, name(i)))
	}
	w.await(height, 0, 1, 2, 3)
	n.kill(1)
	n.start(1, filepath.Join(d.Dir, name(1)))
	w.await(2*height, 0, 1, 2, 3)
	n.kill()
}

// resume cuts the power of all nodes at one moment, and starts them with what is left.
func (n *network) resume(d *disk.Disk, number int) {
	n.t.Helper()
	dir := scratch(n.t)
	l := newLedger()
	d.Cuts(nil, func(c *disk.Cut) bool {
		if c.Number < number {
			return true
		}
		l.take(c.Marks)
		for i := range validators {
			must(n.t, c.Write(name(i), filepath.Join(dir, name(i)), disk.Torn(uint64(number))))
		}
		n.t.Logf("all nodes are cut off %v", c)
		return false
	})
	ctx, stop := context.WithCancel(n.t.Context())
	w, wait := n.watch(ctx, d) // its marks are of no use any more
	defer wait()
	defer stop()
	var highest uint64
	for i := range validators {
		highest = max(highest, l.nodes[i].height)
		n.start(i, filepath.Join(dir, name(i)))
	}
	w.await(highest+3, 0, 1, 2, 3)
	for i := range validators {
		s, from := &l.nodes[i], n.node((i+1)%validators)
		if s.height > 0 {
			var b struct {
				Hash chain.Hash `json:"header_hash"`
			}
			must(n.t, from.Get(fmt.Sprintf("/v1/blocks/%d", s.height), &b))
			if b.Hash != s.hash {
				n.t.Errorf("%s showed block %v at height %d, and %s has %v after the power cut", name(i), s.hash, s.height, from.Name, b.Hash)
			}
		}
		for id := range s.accepted {
			system.Eventually(n.t, soon, fmt.Sprintf("message %v, which %s answered 202, is final", id, name(i)), func() error {
				var m struct{ Status string }
				if err := from.Get(fmt.Sprintf("/v1/messages/%v", id), &m); err != nil {
					return err
				}
				if m.Status != "final" {
					return errors.New(m.Status)
				}
				return nil
			})
		}
	}
	n.kill()
}
