package ledger

import (
	"encoding/binary"
	"testing"

	"github.com/diseq/diseq/node/chain"
)

func blockOf(height uint64, messages int) *chain.FinalBlock {
	f := &chain.FinalBlock{Messages: make([]chain.Message, messages)}
	f.Header.Height = height
	for i := range f.Messages {
		f.Messages[i].Data = binary.BigEndian.AppendUint64(nil, height<<32|uint64(i))
	}
	f.Header.MessagesCount, f.Header.MessagesRoot = uint32(messages), chain.MessagesRoot(f.Messages)
	return f
}

// The receipts of a block share its tree, also when they are asked for one by one, and the trees
// that are kept are bounded.
func TestTheTreeOfABlockIsComputedOnceAndTreesAreBounded(t *testing.T) {
	var kept trees
	first := blockOf(1, 1000)
	tree := kept.of(first)
	for range 3 {
		if kept.of(first) != tree {
			t.Fatal("the tree was computed again")
		}
	}
	large := blockOf(0, 400_000)
	for height := uint64(2); height < 20; height++ {
		large.Header.Height = height
		kept.of(large)
		if kept.bytes > maxTreeBytes || len(kept.known) != len(kept.heights) {
			t.Fatalf("%d bytes, %d trees, %d heights", kept.bytes, len(kept.known), len(kept.heights))
		}
	}
	if len(kept.known) < 5 || kept.of(first) == tree {
		t.Errorf("%d trees are kept, and the first is still there", len(kept.known))
	}
}

// All clients that waited for a block ask for their receipts in the moment in which it becomes
// final. Their calls share one computation. A tree that is given up before it is computed does not
// count.
func TestCallsInOneMomentShareTheComputationOfATree(t *testing.T) {
	var kept trees
	under := kept.at(1)
	if kept.at(1) != under {
		t.Error("a second call computes the tree as well")
	}
	under.tree = chain.NewMessageTree(blockOf(1, 1).Messages)
	delete(kept.known, 1)
	kept.computed(1, under)
	if kept.bytes != 0 {
		t.Errorf("%d bytes are counted for a tree that no call finds", kept.bytes)
	}
}
