package overview

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/diseq/diseq/client"
	"github.com/diseq/diseq/node/chain"
)

// A node is a source that answers what the test says.
type node struct {
	status *client.Status
	err    error
	silent bool
	blocks []client.Block
	names  []string
}

func (n *node) Status(ctx context.Context) (*client.Status, error) {
	if n.silent {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return n.status, n.err
}

func (n *node) NextValidators(context.Context) (*client.Validators, error) {
	set := &client.Validators{Generation: n.status.Generation, ValidatorsHash: setHash(n.status.Generation)}
	for i, name := range n.names {
		set.Validators = append(set.Validators, client.Validator{Index: uint32(i), Name: name, PublicKey: chain.PublicKey{byte(i + 1)}})
	}
	return set, n.err
}

func (n *node) Headers(_ context.Context, from uint64, limit int) (blocks []client.Block, next uint64, err error) {
	next = from
	for _, b := range n.blocks {
		if b.Header.Height >= from && b.Header.Height <= n.status.Height && len(blocks) < limit {
			blocks, next = append(blocks, b), b.Header.Height+1
		}
	}
	return blocks, next, nil
}

func setHash(generation uint32) chain.Hash { return chain.Hash{byte(generation + 1)} }

// world is four nodes at height 30, of which the test changes some, and a clock.
type world struct {
	nodes []*node
	now   time.Time
	watch *Watch
}

const begun = 1_700_000_000_000 // in Unix milliseconds

func newWorld() *world {
	w := &world{now: time.UnixMilli(begun)}
	var blocks []client.Block
	for h := range uint64(100) {
		b := client.Block{Header: chain.Header{Height: h + 1, MessagesCount: 50, ValidatorsHash: setHash(0)}, Certificate: &chain.ReceiptCertificate{}}
		for _, signer := range []uint32{0, 1, 2, 3} {
			if signer != 3 || h%2 == 0 {
				b.Certificate.Votes = append(b.Certificate.Votes, chain.VoteSignature{Validator: signer})
			}
		}
		blocks = append(blocks, b)
	}
	names := []string{"v0", "v1", "v2", "v3"}
	var urls []string
	var sources []Source
	for i, name := range names {
		votes := uint64(1)
		n := &node{names: names, blocks: blocks, status: &client.Status{
			ChainID: "c", Node: name, PublicKey: chain.PublicKey{byte(i + 1)}, Role: "validator", Ready: true, Height: 30, VotesFromHeight: &votes,
			BlockTimestamp: begun - 2040, FinalizedTimestamp: begun - 2000, Leader: 2, Validators: 4, Threshold: 3, Headroom: 1,
			Tolerance: client.Tolerance{Crash: 1, Byzantine: 1, ByzantineWithSynchrony: 2}, Pool: client.Pool{Messages: 10 * i},
		}}
		w.nodes, sources, urls = append(w.nodes, n), append(sources, n), append(urls, fmt.Sprintf("http://n%d", i))
	}
	w.watch = New(urls, sources)
	w.watch.now = func() time.Time { return w.now }
	return w
}

func (w *world) table(t *testing.T) string {
	t.Helper()
	var out bytes.Buffer
	if err := w.watch.Look(t.Context()).Table(&out); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func expect(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(strings.Join(strings.Fields(text), " "), part) {
			t.Errorf("%q is not in\n%s", part, text)
		}
	}
}

func TestAHealthyNetwork(t *testing.T) {
	w := newWorld()
	expect(t, w.table(t), "chain c height 30 4 of 4 nodes answer", "messages/s - block to final 40 ms last block 2.0 s ago",
		"now 1 more may fail while", "by design 1 of 4 may be down, 3 must sign; no fork with 1 Byzantine",
		"v0 votes 30 - 0 v2 20/20 0 yes", "v3 votes 30 - 0 v2 10/20 30 yes")
	// Ten blocks of 50 messages in two seconds, the last of them half a second ago.
	for _, n := range w.nodes {
		n.status.Height, n.status.BlockTimestamp, n.status.FinalizedTimestamp = 40, begun+1400, begun+1500
	}
	w.now = w.now.Add(1500 * time.Millisecond)
	w.watch.Look(t.Context())
	w.now = w.now.Add(500 * time.Millisecond)
	expect(t, w.table(t), "height 40", "messages/s 250 block to final 100 ms last block 0.5 s ago")
	w.now = w.now.Add(time.Hour)
	expect(t, w.table(t), "messages/s 0", "last block 1h0m1s ago")
}

func TestWhatIsWrongIsSaid(t *testing.T) {
	w := newWorld()
	w.nodes[0].status.Role = "rejoining"
	w.nodes[0].status.Ready, w.nodes[0].status.Reason = false, "it waits for the others"
	w.nodes[1].err = errors.New("dial tcp: connection refused")
	w.nodes[2].status.Height, w.nodes[2].status.Evidence, w.nodes[2].status.StorageLow = 12, 2, true
	w.nodes[3].status.Synchrony = &client.Synchrony{DeltaMS: 50}
	for _, n := range w.nodes {
		n.status.Headroom = 0
	}
	text := w.table(t)
	expect(t, text, "3 of 4 nodes answer", "no more may fail", "v0 rejoining 30 - 0 v2 20/20 0 no", "http://n1 away - - - - - - -",
		"v2 votes 12 18", "v3 abstains 30", "v0 is not ready: it waits for the others", "http://n1 does not answer: dial tcp: connection refused",
		"v2 has no room for messages", "v2 has 2 pieces of evidence of broken rules: diseq get evidence -u http://n2")
	for _, n := range w.nodes {
		n.status.Headroom = -1
	}
	w.nodes[3].status.VotesFromHeight = nil
	w.nodes[0].status.Role, w.nodes[0].status.Ready = "observer", true
	expect(t, w.table(t), "nothing becomes final until 1 more of the validators are up", "v3 cannot vote", "v0 observer")
	for _, n := range w.nodes {
		n.err = errors.New("connection refused")
	}
	n := w.watch.Look(t.Context())
	if err := n.Unreachable(); err == nil || !strings.Contains(err.Error(), "--url") {
		t.Errorf("the error is %v", err)
	}
	var out bytes.Buffer
	if err := n.Table(&out); err != nil {
		t.Fatal(err)
	}
	// the names are remembered, but for the node that has never answered
	expect(t, out.String(), "none of 4 nodes answers", "v0 away", "http://n1 away", "v3 away")
}

// A node that never answers holds up a look no longer than the patience.
func TestASilentNodeIsAway(t *testing.T) {
	w := newWorld()
	w.watch.patience = time.Millisecond
	w.nodes[1].silent = true
	expect(t, w.table(t), "http://n1 away", "http://n1 does not answer: no answer within 2 seconds", "3 of 4 nodes answer")
}

// One node that lies moves its own line and no other, and its bytes do nothing to the terminal.
func TestALiarMovesNothingButItsOwnLine(t *testing.T) {
	w := newWorld()
	s := w.nodes[3].status
	s.Node, s.Reason, s.Ready = "v3\x1b[2J\u202e"+strings.Repeat("x", 1000), "\x1b]0;owned\x07\nline", false
	s.Height, s.Headroom, s.FinalizedTimestamp, s.Evidence = chain.MaxNumber, -1000, chain.MaxNumber, -5
	for range 100 {
		w.watch.Look(t.Context())
	}
	text := w.table(t)
	expect(t, text, "height 30 4 of 4 nodes answer", "block to final 40 ms", "now 1 more may fail", "v0 votes 30 - ", "v3?[2J?xxx")
	if strings.ContainsAny(text, "\x1b\x07\u202e") {
		t.Errorf("the terminal gets %q", text)
	}
	for line := range strings.Lines(text) {
		if len(line) > 250 {
			t.Errorf("a line of %d bytes: %.80s", len(line), line)
		}
	}
	s.ChainID = "other\x1b"
	expect(t, w.table(t), "other chain", "is of chain other?")
	w.nodes[3].status = &client.Status{ChainID: "c", Height: 29} // no right Observe
	expect(t, w.table(t), "v3?[2J?xxx", "hidden 29 1 - - - - no", "lacks the right Observe")
}

// Votes of a former set are those of other validators.
func TestANewSetBeginsWithoutVotes(t *testing.T) {
	w := newWorld()
	expect(t, w.table(t), "v0 votes 30 - 0 v2 20/20")
	w.nodes[0].blocks[30].Header.ValidatorsHash = setHash(1) // all nodes share the blocks
	for _, n := range w.nodes {
		n.status.Generation, n.names = 1, []string{"v3", "v2", "v1", "v0"}
	}
	expect(t, w.table(t), "v0 votes 30 - 0 v1 - 0 yes")
	for _, n := range w.nodes {
		n.status.Height = 31
	}
	expect(t, w.table(t), "v0 votes 31 - 0 v1 1/1")
}

func TestNodesAreSorted(t *testing.T) {
	w := newWorld()
	w.nodes[2].status.Height = 20
	w.nodes[0].err = errors.New("away")
	n := w.watch.Look(t.Context())
	for column, want := range map[string]string{
		"NODE": "http://n0 v1 v2 v3", "BEHIND": "http://n0 v2 v1 v3", "HEIGHT": "v1 v3 v2 http://n0", "POOL": "v3 v2 v1 http://n0",
		"STATE": "http://n0 v1 v2 v3",
	} {
		n.Sort("NODE")
		n.Sort(column)
		var got []string
		for i := range n.Nodes {
			got = append(got, n.Nodes[i].Name)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("by %s: %v, want %s", column, got, want)
		}
	}
}
