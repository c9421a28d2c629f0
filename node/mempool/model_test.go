package mempool

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/diseq/diseq/node/chain"
)

// network is a model of a chain: what its nodes do, and what must hold whatever they do.
type network struct {
	t     *rapid.T
	nodes []*testNode
	// blocks are final, in their order; a node has committed the first of them up to its height.
	// sets has the set of each height up to the one above them.
	blocks []Body
	sets   []*chain.ValidatorSet
	final  map[string]int
	// accepted are the messages that some node acknowledged.
	accepted map[string]bool
	// delivered counts which of a node's pushes each other node was given.
	delivered map[[2]int]int
	// connections counts a node's starts, sent the messages of its present connection.
	connections, sent []int
}

func newNetwork(t *rapid.T) *network {
	n := &network{t: t, final: map[string]int{}, accepted: map[string]bool{}, delivered: map[[2]int]int{}}
	n.sets = []*chain.ValidatorSet{setOf(0, 1, 2)}
	for range 3 {
		n.join()
	}
	return n
}

// join starts a node at genesis.
func (n *network) join() {
	i := len(n.nodes)
	n.nodes = append(n.nodes, newNode(n.t, i, 3, small))
	n.nodes[i].SetPeers(keys(span(0, maxNodes)...))
	n.connections, n.sent = append(n.connections, 0), append(n.sent, 0)
}

// maxNodes bounds the nodes that were ever members.
const maxNodes = 8

// memberAt reports whether node i is in the set of the height above a height.
func (n *network) memberAt(i int, height uint64) bool { return n.sets[height].Index(author(i)) >= 0 }

// open returns the set of the next height, as all that is final says.
func (n *network) open() *chain.ValidatorSet { return n.sets[len(n.blocks)] }

// small makes batches and blocks of few messages.
func small(c *Config) { c.MaxMessageBytes, c.MaxBlockBytes = 64, 128 }

func (n *network) node(label string) int { return rapid.IntRange(0, len(n.nodes)-1).Draw(n.t, label) }

// member draws a node of the next height's set.
func (n *network) member(label string) int {
	return rapid.SampledFrom(slices.DeleteFunc(span(0, len(n.nodes)), func(i int) bool { return !n.memberAt(i, uint64(len(n.blocks))) })).Draw(n.t, label)
}

// submit sends messages that others send too, and ones that only this connection sends.
func (n *network) submit(*rapid.T) {
	i := n.node("to")
	if !n.memberAt(i, n.nodes[i].height) {
		n.submitToNoMember(i)
		return
	}
	var messages []chain.Message
	for range rapid.IntRange(1, 6).Draw(n.t, "messages") {
		if rapid.Bool().Draw(n.t, "own") {
			messages = append(messages, message("own %d %d %03d", i, n.connections[i], n.sent[i]))
			n.sent[i]++
		} else {
			messages = append(messages, message("common %d", rapid.IntRange(0, 12).Draw(n.t, "text")))
		}
	}
	for j, r := range n.nodes[i].submit(n.t, messages...) {
		text := string(messages[j].Data)
		n.accepted[text] = true
		height, final := n.final[text]
		switch {
		case r.State == Final && (!final || uint64(height) != r.Height):
			n.t.Fatalf("%q is said to be final at %d, it is at %d", text, r.Height, height)
		case r.State != Final && final && uint64(height) <= n.nodes[i].height:
			n.t.Fatalf("%q is final at %d and was taken for new at %d", text, height, n.nodes[i].height)
		}
	}
}

// submitToNoMember is accepted by a node that has just left, and answered without an error only if
// it is final.
func (n *network) submitToNoMember(i int) {
	m := message("common %d", rapid.IntRange(0, 12).Draw(n.t, "text"))
	leaving := n.nodes[i].Leaving()
	var results []Result
	var err error
	// No time passes: leaders would pass over what was not delivered yet.
	ctx, giveUp := context.WithCancel(n.t.Context())
	defer giveUp()
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		results, err = n.nodes[i].Submit(ctx, []chain.Message{m})
	}()
	synctest.Wait()
	giveUp()
	<-answered
	switch {
	case !leaving:
		wantError(n.t, err, ErrAuthor)
	case err != nil:
		wantError(n.t, err, context.Canceled)
	case results[0].State != Final || n.final[string(m.Data)] != int(results[0].Height):
		n.t.Fatalf("%q is accepted as %+v, it is final at %d", m.Data, results[0], n.final[string(m.Data)])
	}
}

// submitToABrokenDisk fails; the batch may be on disk for all that.
func (n *network) submitToABrokenDisk(*rapid.T) {
	i := n.node("to")
	node := n.nodes[i]
	if !n.memberAt(i, node.height) {
		return
	}
	kept := rapid.Bool().Draw(n.t, "kept")
	broken := errors.New("disk broken")
	node.storage.set(func(batches []chain.StoredBatch) error {
		if kept {
			node.storage.mu.Lock()
			node.storage.batches = append(node.storage.batches, batches...)
			node.storage.mu.Unlock()
		}
		return broken
	})
	defer node.storage.set(nil)
	_, err := node.Submit(n.t.Context(), []chain.Message{message("broken %d", rapid.IntRange(0, 3).Draw(n.t, "text"))})
	if err != nil {
		wantError(n.t, err, broken)
	}
}

// deliver gives every node the next batch that each other one pushed, or loses it.
func (n *network) deliver(*rapid.T) {
	for i := range n.nodes {
		pushed := n.nodes[i].pushedBatches()
		for j := range n.nodes {
			link := [2]int{i, j}
			if i == j || n.delivered[link] >= len(pushed) {
				continue
			}
			encoded := pushed[n.delivered[link]]
			n.delivered[link]++
			if rapid.IntRange(0, 3).Draw(n.t, "lost") > 0 {
				n.hand(link, encoded)
			}
		}
	}
}

func (n *network) hand(link [2]int, encoded []byte) {
	from, to := n.nodes[link[0]], n.nodes[link[1]]
	b, err := chain.DecodeBatch(encoded, 1<<20)
	if err != nil {
		n.t.Fatal(err)
	}
	if err := to.Receive(n.t.Context(), author(link[0]), encoded); err != nil {
		// Its author became a member above the receiver's height.
		if early := !to.ever[b.Author]; !early || !errors.Is(err, ErrAuthor) {
			n.t.Fatal(err)
		}
		return
	}
	from.Acknowledge(author(link[1]), b.Hash(testChain))
}

// reopen opens a link: one node gives another what it may lack.
func (n *network) reopen(*rapid.T) {
	link := [2]int{n.node("from"), n.node("to")}
	if link[0] != link[1] {
		for _, b := range n.nodes[link[0]].Unacknowledged(author(link[1]), 0, 1<<20) {
			n.hand(link, b.Data)
		}
	}
}

// decide makes a block final: some node proposes it, another votes for it.
func (n *network) decide(*rapid.T) {
	i, j := n.member("leader"), n.member("voter")
	leader, voter := n.nodes[i], n.nodes[j]
	n.catchUp(leader, len(n.blocks))
	n.catchUp(voter, len(n.blocks))
	block := leader.selected(n.t)
	for _, r := range block.Refs {
		encoded, ok := leader.Batch(r.Hash)
		if !ok {
			n.t.Fatalf("the leader does not hold %v", r)
		}
		if err := voter.ReceiveFetched(n.t.Context(), author(i), encoded); err != nil {
			n.t.Fatal(err)
		}
	}
	got, missing, err := voter.Resolve(n.t.Context(), voter.height, block.Refs)
	if err != nil || missing != nil {
		n.t.Fatalf("the voter misses %v, error %v", missing, err)
	}
	if !slices.Equal(got.IDs, block.IDs) {
		n.t.Fatalf("the leader sees %q, the voter %q", texts(block.Messages), texts(got.Messages))
	}
	n.append(block)
	for _, m := range block.Messages {
		text := string(m.Data)
		if height, twice := n.final[text]; twice {
			n.t.Fatalf("%q is ordered at %d and at %d", text, height, len(n.blocks))
		}
		n.final[text] = len(n.blocks)
	}
}

func (n *network) append(block Body) {
	n.sets = append(n.sets, n.open())
	n.blocks = append(n.blocks, block)
}

// change makes a block final that changes the set: some members stay, newcomers come, also all of
// them at once.
func (n *network) change(*rapid.T) {
	var members []int
	for i := range n.nodes {
		if n.memberAt(i, uint64(len(n.blocks))) && rapid.Bool().Draw(n.t, "stays") {
			members = append(members, i)
		}
	}
	for len(n.nodes) < maxNodes && (len(members) == 0 || len(members) < 4 && rapid.Bool().Draw(n.t, "comes")) {
		members = append(members, len(n.nodes))
		n.join()
	}
	if len(members) > 0 {
		n.append(Body{})
		n.sets[len(n.blocks)] = setOf(members...)
	}
}

func (n *network) catchUp(node *testNode, height int) {
	for node.height < uint64(height) {
		if next := n.sets[node.height+1]; next != n.sets[node.height] {
			node.SetMembers(next)
		}
		node.commit(n.t, n.blocks[node.height])
	}
}

func (n *network) commitOne(*rapid.T) {
	node := n.nodes[n.node("behind")]
	n.catchUp(node, min(int(node.height)+1, len(n.blocks)))
}

func (n *network) letIndexFollow(*rapid.T) {
	node := n.nodes[n.node("indexing")]
	if len(node.recent.blocks) > 0 {
		blocks := rapid.IntRange(1, len(node.recent.blocks)).Draw(n.t, "blocks")
		node.indexed(slices.Clone(node.recent.blocks[:blocks])...)
	}
}

func (n *network) restart(*rapid.T) {
	i := n.node("restarting")
	node := n.nodes[i]
	node.Close()
	height := node.height
	indexed := height - uint64(len(node.recent.blocks))
	n.nodes[i] = openNode(n.t, i, 3, node.storage, node.index, small, func(c *Config) {
		c.Height, c.Set = indexed, n.sets[height]
		for j := range n.nodes {
			if node.ever[author(j)] && !n.memberAt(j, height) {
				c.Former = append(c.Former, author(j))
			}
		}
	})
	n.nodes[i].SetPeers(keys(span(0, maxNodes)...))
	for _, b := range n.blocks[indexed:height] {
		if err := n.nodes[i].Committed(n.nodes[i].height+1, time.Now(), b.Refs, b.IDs); err != nil {
			n.t.Fatal(err)
		}
	}
	// The pushes that were not delivered are lost; a connection ends with the node.
	for j := range n.nodes {
		n.delivered[[2]int{i, j}] = 0
	}
	n.connections[i]++
	n.sent[i] = 0
}

// check compares what a pool keeps several times over.
func (n *network) check(*rapid.T) {
	for i, node := range n.nodes {
		n.checkNode(i, node)
	}
}

func (n *network) checkNode(i int, node *testNode) {
	live, batches, bytes := 0, 0, int64(0)
	s := node.Stats()
	node.Pool.mu.Lock()
	defer node.Pool.mu.Unlock()
	for _, e := range node.pending.slots {
		if e != nil {
			live += e.live
			batches++
			bytes += int64(len(e.encoded))
		}
	}
	if s.Messages != live || s.Batches != batches || s.Bytes != bytes || len(node.byHash) != batches {
		n.t.Fatalf("node %d: counted %d messages in %d batches of %d bytes, told of %+v", i, live, batches, bytes, s)
	}
	held := 0
	for _, e := range node.pending.slots {
		if e != nil && e.held {
			held += e.live
		}
	}
	member := n.memberAt(i, node.height)
	if s.Held != held || s.Left != (node.ever[author(i)] && !member) || member && held > 0 || node.member != member {
		n.t.Fatalf("node %d (a member: %v): %d messages held, told of %+v", i, member, held, s)
	}
	places := len(node.pending.first)
	for _, others := range node.pending.others {
		places += len(others)
	}
	if places != live {
		n.t.Fatalf("node %d: %d places for %d messages", i, places, live)
	}
	for hash := range node.byHash {
		if !node.storage.has(hash) {
			n.t.Fatalf("node %d holds a batch that is not on its disk", i)
		}
	}
}

// finish lets every batch come everywhere, and then checks that everything accepted was ordered, in
// the order of each connection.
func (n *network) finish() {
	for _, node := range n.nodes {
		n.catchUp(node, len(n.blocks))
	}
	sleep((1 + relayTurns) * relayAfter)
	for i := range n.nodes {
		for j := range n.nodes {
			if i != j {
				for _, b := range n.nodes[i].Unacknowledged(author(j), 0, 1<<20) {
					n.hand([2]int{i, j}, b.Data)
				}
			}
		}
	}
	sleep(holeWait)
	for idle := 0; idle < 1; {
		before := len(n.final)
		for i := range n.nodes {
			n.catchUp(n.nodes[i], len(n.blocks))
			if !n.memberAt(i, uint64(len(n.blocks))) {
				continue
			}
			block := n.nodes[i].selected(n.t)
			n.append(block)
			for _, m := range block.Messages {
				if height, twice := n.final[string(m.Data)]; twice {
					n.t.Fatalf("%q is ordered at %d and at %d", m.Data, height, len(n.blocks))
				}
				n.final[string(m.Data)] = len(n.blocks)
			}
		}
		if len(n.final) == before {
			idle++
		}
	}
	for text := range n.accepted {
		if n.final[text] == 0 {
			n.t.Fatalf("%q was accepted and is lost", text)
		}
	}
	last := map[string]string{}
	for _, b := range n.blocks {
		for _, m := range b.Messages {
			var node, connection, number int
			if _, err := fmt.Sscanf(string(m.Data), "own %d %d %d", &node, &connection, &number); err != nil {
				continue
			}
			of := fmt.Sprint(node, connection)
			if last[of] >= string(m.Data) {
				n.t.Fatalf("%q is ordered before %q", last[of], m.Data)
			}
			last[of] = string(m.Data)
		}
	}
	for i, node := range n.nodes {
		n.catchUp(node, len(n.blocks))
		if s := node.Stats(); s.Messages != 0 || s.Held != 0 {
			n.t.Fatalf("node %d is left with %+v", i, s)
		}
		// A block more takes what came when its messages were final already.
		node.commit(n.t, Body{})
		if s := node.Stats(); s.Batches != 0 || s.Bytes != 0 {
			n.t.Fatalf("node %d is left with %+v", i, s)
		}
		node.Close()
	}
}

// Under any actions of nodes, any changes of the set, and any losses between nodes: every message
// accepted is ordered exactly once, every node that resolves a block sees the same messages, and
// each connection's messages keep their order.
//
// Promise 26.
// Promise 28.
// Promise 73.
func TestEveryAcceptedMessageIsOrderedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// Wrapped, since rapid asks a *testing.T for its deadline, which a bubble has none of.
		rapid.Check(struct{ *testing.T }{t}, func(t *rapid.T) {
			n := newNetwork(t)
			t.Repeat(map[string]func(*rapid.T){
				"submit":  n.submit,
				"broken":  n.submitToABrokenDisk,
				"deliver": n.deliver,
				"reopen":  n.reopen,
				"decide":  n.decide,
				"change":  n.change,
				"commit":  n.commitOne,
				"index":   n.letIndexFollow,
				"restart": n.restart,
				"":        n.check,
			})
			n.finish()
		})
	})
}
