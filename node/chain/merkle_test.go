package chain

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"github.com/diseq/diseq/node/internal/sha256lanes"
)

// Paths over the kept part of a tree are those over the whole tree, for every shape that there is.
func TestATreeWithoutItsLowestLevelsHasTheSamePaths(t *testing.T) {
	var messages []Message
	for count := range 3*treeGroup + 3 {
		whole, kept := newMessageTree(messages), NewMessageTree(messages)
		for i := range messages {
			if got, want := kept.path(messages, i), whole.path(i); !slices.Equal(got, want) {
				t.Fatalf("message %d of %d: %v, want %v", i, count, got, want)
			}
		}
		messages = append(messages, Message{Data: binary.BigEndian.AppendUint32(nil, uint32(count))})
	}
	if whole, kept := 64*len(messages), NewMessageTree(messages).Size(); kept > whole/4 {
		t.Errorf("it takes %d bytes, the whole %d", kept, whole)
	}
}

func TestATreeMakesReceiptsOfItsOwnBlockAlone(t *testing.T) {
	f := &FinalBlock{Messages: []Message{{Data: []byte("a")}, {Data: []byte("b")}}}
	if _, err := NewMessageTree(f.Messages[:1]).Receipts(f, nil, 0); err == nil {
		t.Error("a tree of one message made receipts of a block of two")
	}
	receipts, err := NewMessageTree(f.Messages).Receipts(f, nil, 1)
	if err != nil {
		t.Fatal(err)
	}
	f.Messages[1].Data[0] = 'c' // the receipt does not share it
	if got := string(receipts[0].Message.Data); got != "b" {
		t.Errorf("the receipt is of %q", got)
	}
}

// BenchmarkReceipt is one receipt of a block of 56,384 messages of 6 bytes, with and without the
// tree of the block.
func BenchmarkReceipt(b *testing.B) {
	f := &FinalBlock{Messages: make([]Message, 56_384)}
	for i := range f.Messages {
		f.Messages[i].Data = binary.BigEndian.AppendUint64(nil, uint64(i))[2:]
	}
	b.Run("alone", func(b *testing.B) {
		for b.Loop() {
			if _, err := NewReceipts(f, nil, 1); err != nil {
				b.Fatal(err)
			}
		}
	})
	tree := NewMessageTree(f.Messages)
	b.Run("with the tree", func(b *testing.B) {
		for b.Loop() {
			if _, err := tree.Receipts(f, nil, 1); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func TestMessagesOfAllLengthsHaveTheSameHashesTogetherAndAlone(t *testing.T) {
	var messages []Message
	for i := range 40 {
		for _, length := range []int{1, 40 + i, 250, 250, sha256lanes.Longest - i, sha256lanes.Longest + i} {
			messages = append(messages, Message{Data: bytes.Repeat([]byte{byte(i)}, length), Timestamp: uint32(length)})
		}
	}
	for i, id := range IDs(messages) {
		if id != messages[i].ID() {
			t.Errorf("message %d of %d bytes: id %v, want %v", i, len(messages[i].Data), id, messages[i].ID())
		}
	}
	tree := newMessageTree(messages)
	if got, want := MessagesRoot(messages), tree[len(tree)-1][0]; got != want {
		t.Errorf("root %v, want %v", got, want)
	}
	if MessagesRoot(nil) != EmptyMessagesRoot() || len(IDs(nil)) != 0 {
		t.Error("no messages have another root than the empty one, or ids")
	}
}
