package chain

import (
	"encoding/binary"
	"slices"
	"testing"
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
