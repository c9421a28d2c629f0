package ledger_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"fmt"
	"strings"
	"testing"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/ledger"
	"github.com/diseq/diseq/node/ledger/ledgertest"
)

// A world is a chain whose validator set changes: every third block carries a change to the next
// two of the keys.
type world struct {
	genesis *chain.Genesis
	keys    []ed25519.PrivateKey
	store   *countingStore
	*ledger.Ledger
}

// countingStore counts what is read of its blocks: all reads, and those of heads.
type countingStore struct {
	*ledgertest.Store
	reads   int
	heads   int
	changes func([]chain.StoredChange) []chain.StoredChange
}

func (s *countingStore) Head(ctx context.Context, height uint64) (*chain.Block, error) {
	s.reads++
	s.heads++
	return s.Store.Head(ctx, height)
}

func (s *countingStore) Certificate(ctx context.Context, height uint64) (*chain.Certificate, error) {
	s.reads++
	return s.Store.Certificate(ctx, height)
}

func (s *countingStore) Block(ctx context.Context, height uint64) (*chain.FinalBlock, error) {
	s.reads++
	return s.Store.Block(ctx, height)
}

func (s *countingStore) Changes(ctx context.Context) ([]chain.StoredChange, error) {
	c, err := s.Store.Changes(ctx)
	if s.changes != nil {
		c = s.changes(c)
	}
	return c, err
}

func newWorld(t *testing.T, heights uint64) *world {
	t.Helper()
	w := &world{genesis: &chain.Genesis{Version: 1, ChainID: "test", Threshold: 2, Parameters: chain.DefaultParameters()}}
	for i := range 20 {
		w.keys = append(w.keys, ed25519.NewKeyFromSeed(bytes.Repeat([]byte{byte(i + 1)}, ed25519.SeedSize)))
	}
	w.genesis.Validators = w.members(0)
	w.store = &countingStore{Store: ledgertest.NewStore(w.genesis)}
	w.open(t)
	for range heights {
		w.extend(t)
	}
	return w
}

func (w *world) open(t *testing.T) {
	t.Helper()
	var err error
	if w.Ledger, err = ledger.Open(t.Context(), w.genesis, w.store); err != nil {
		t.Fatal(err)
	}
}

// members are those of a generation.
func (w *world) members(generation uint32) (out []chain.NamedValidator) {
	for i := range 2 {
		n := int(generation) + i
		out = append(out, chain.NamedValidator{Name: fmt.Sprintf("v%d", n), Validator: chain.Validator{
			PublicKey: chain.PublicKeyOf(w.keys[n]), VRFKey: chain.VRFKey{0, byte(n + 1)},
		}})
	}
	return out
}

func (w *world) extend(t *testing.T) {
	t.Helper()
	set, tip := w.Sets().Open(), w.Tip()
	f := &chain.FinalBlock{Messages: []chain.Message{{Data: []byte{byte(tip.Height())}}}}
	h := &f.Header
	*h = tip.Block.Header
	h.Height, h.ParentHash, h.Timestamp = tip.Height()+1, tip.Hash, h.Timestamp+1
	h.MessagesCount, h.MessagesRoot = 1, chain.MessagesRoot(f.Messages)
	h.ChangeHash, h.ValidatorsHash = chain.Hash{}, set.Hash()
	if h.NextValidatorsHash = set.Hash(); h.Height%3 == 0 {
		f.Change = &chain.Change{Next: chain.NextSet{Generation: set.Generation + 1, Threshold: 2, Validators: w.members(set.Generation + 1)}}
		for i := range set.Validators {
			e := chain.Endorse(w.keys[int(set.Generation)+i], "test", &f.Change.Next)
			f.Change.Endorsements = append(f.Change.Endorsements, chain.Endorsement{Validator: uint32(i), Signature: e.Signature})
		}
		h.ChangeHash, h.NextValidatorsHash = f.Change.Hash(), f.Change.Next.Set().Hash()
		if err := w.Sets().Check(f.Change, h.Height); err != nil {
			t.Fatal(err)
		}
	}
	f.Certificate = w.finalize(h, set, 2)
	ledgertest.Append(t, w.Ledger, f)
}

func (w *world) finalize(h *chain.Header, set *chain.ValidatorSet, votes int) chain.Certificate {
	c := chain.Certificate{Kind: chain.Finalize, Height: h.Height, Block: h.Hash()}
	for i := range votes {
		v := chain.Vote{Kind: chain.Finalize, Height: h.Height, Block: c.Block, Validator: uint32(i)}
		v.Sign(w.keys[int(set.Generation)+i], "test")
		c.Votes = append(c.Votes, chain.VoteSignature{Validator: v.Validator, Signature: v.Signature})
	}
	return c
}

// A restart derives the sets from the stored changes: each height has the set that it had.
func TestTheSetsAreTheSameAfterARestart(t *testing.T) {
	w := newWorld(t, 10)
	live := w.Sets()
	w.open(t)
	for height := range uint64(12) {
		want, _ := live.Named(height)
		got, ok := w.Sets().Named(height)
		if !ok || got.Hash() != want.Hash() {
			t.Errorf("the set of height %d is %v, it was %v", height, got, want)
		}
	}
	if _, ok := w.Sets().At(12); ok {
		t.Error("the set of height 12 is known at tip 10")
	}
}

// The stored changes are of use only if they lead to the set that the newest block names. A node
// does not start with another history.
func TestAHistoryThatDoesNotFitTheBlocksIsRefused(t *testing.T) {
	w := newWorld(t, 10)
	for name, change := range map[string]func([]chain.StoredChange) []chain.StoredChange{
		"none":      func([]chain.StoredChange) []chain.StoredChange { return nil },
		"the last":  func(c []chain.StoredChange) []chain.StoredChange { return c[:2] },
		"the first": func(c []chain.StoredChange) []chain.StoredChange { return c[1:] },
		"another set": func(c []chain.StoredChange) []chain.StoredChange {
			other := *c[2].Change
			other.Next.Threshold = 1
			return append(c[:2:2], chain.StoredChange{Height: c[2].Height, Change: &other})
		},
		"a height above": func(c []chain.StoredChange) []chain.StoredChange {
			return append(c[:2:2], chain.StoredChange{Height: 11, Change: c[2].Change})
		},
	} {
		w.store.changes = change
		if _, err := ledger.Open(t.Context(), w.genesis, w.store); err == nil || !strings.Contains(err.Error(), "blocks.db") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Promise 43.
func TestReceiptsCarryTheChangesThatLeadToTheirBlock(t *testing.T) {
	w := newWorld(t, 13)
	w.open(t) // nothing is kept from when the blocks were appended
	for height := uint64(1); height <= 13; height++ {
		before := int((height - 1) / 3) // the changes below
		for from := range uint32(6) {
			receipts, err := w.Receipts(t.Context(), []ledger.Place{{Height: height}, {}}, from)
			if err != nil {
				t.Fatal(err)
			}
			r := receipts[0]
			if want := max(0, before-int(from)); len(r.ValidatorChanges) != want || receipts[1] != nil {
				t.Errorf("height %d from generation %d: %d changes, want %d", height, from, len(r.ValidatorChanges), want)
			}
			if from > 0 {
				continue
			}
			if err := r.Verify(w.genesis, 2); err != nil {
				t.Errorf("the receipt of height %d: %v", height, err)
			}
		}
	}
	// A receipt reads its own block, and the blocks of the changes once.
	w.store.heads = 0
	if _, err := w.Receipts(t.Context(), []ledger.Place{{Height: 13}}, 0); err != nil || w.store.heads != 0 {
		t.Errorf("%d heads read for a receipt behind 4 changes, %v; want none", w.store.heads, err)
	}
}

func TestChangesAreReadInPages(t *testing.T) {
	w := newWorld(t, 13)
	for _, c := range []struct {
		from        uint32
		limit       int
		generations []uint32
	}{
		{0, 10, []uint32{1, 2, 3, 4}}, {1, 10, []uint32{1, 2, 3, 4}}, {1, 2, []uint32{1, 2}}, {3, 2, []uint32{3, 4}}, {4, 1, []uint32{4}}, {5, 1, nil},
		{1 << 31, 1, nil},
	} {
		page, err := w.Changes(t.Context(), c.from, c.limit)
		if err != nil {
			t.Fatal(err)
		}
		var got []uint32
		for _, change := range page {
			got = append(got, change.Next.Generation)
			next, height, _ := w.Sets().ByGeneration(change.Next.Generation)
			set, _ := w.Sets().At(height)
			if _, err := change.Entry(); err != nil || change.Header.Height != height || change.Next.Hash() != next.Hash() {
				t.Errorf("generation %d: %v", change.Next.Generation, err)
			}
			if err := change.Certificate.VerifyFinal(&change.Header, "test", set, 2); err != nil {
				t.Errorf("generation %d: %v", change.Next.Generation, err)
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(c.generations) {
			t.Errorf("from %d, at most %d: generations %v, want %v", c.from, c.limit, got, c.generations)
		}
	}
}

// The finalization of a change grows after it was first shown, and receipts show the strongest.
func TestReceiptsShowTheStrongestFinalizationOfAChange(t *testing.T) {
	for _, shown := range []bool{false, true} {
		w := newWorld(t, 2)
		set := w.Sets().Open()
		w.extend(t) // the change to generation 1
		carried := w.Tip().Block
		weak := w.finalize(&carried.Header, set, 1)
		carried.Certificate = weak
		w.extend(t)
		strength := func() int {
			t.Helper()
			r, err := w.Receipts(t.Context(), []ledger.Place{{Height: 4}}, 0)
			if err != nil {
				t.Fatal(err)
			}
			return r[0].ValidatorChanges[0].Certificate.Strength
		}
		if shown {
			if s := strength(); s != 1 {
				t.Errorf("strength %d before, want 1", s)
			}
		}
		strong := w.finalize(&carried.Header, set, 2)
		w.Strengthen(&strong)
		w.Strengthen(&weak)
		if s := strength(); s != 2 {
			t.Errorf("shown before %v: strength %d, want 2", shown, s)
		}
	}
}

// Streams, receipts and waiting clients read the newest blocks, all at once and on the way of each
// message: from memory.
func TestTheNewestBlocksAreNotReadFromTheDisk(t *testing.T) {
	w := newWorld(t, 5)
	w.store.reads = 0
	head, err := w.Head(t.Context(), 5)
	if err != nil || head.Hash() != w.Tip().Hash {
		t.Errorf("head %v, %v", head, err)
	}
	if c, err := w.Certificate(t.Context(), 5); err != nil || c.Block != w.Tip().Hash {
		t.Errorf("certificate %v, %v", c, err)
	}
	if f, err := w.Certified(t.Context(), 5); err != nil || f.Hash() != w.Tip().Hash {
		t.Errorf("block %v, %v", f, err)
	}
	if w.store.reads != 0 {
		t.Errorf("%d reads of the newest block, want none", w.store.reads)
	}
	w.open(t) // nothing is kept from when the blocks were appended
	w.store.reads = 0
	if head, err := w.Head(t.Context(), 5); err != nil || head.Hash() != w.Tip().Hash || w.store.reads != 1 {
		t.Errorf("after a start: head %v, %v, %d reads", head, err, w.store.reads)
	}
	if c, err := w.Certificate(t.Context(), 5); err != nil || c.Block != w.Tip().Hash || w.store.reads != 2 {
		t.Errorf("after a start: certificate %v, %v, %d reads", c, err, w.store.reads)
	}
}

// Votes that come after a block make its finalization stronger. A finalization of another block, a
// weaker one, or one of a block that is not in memory changes nothing.
func TestTheNewestBlocksHaveTheirStrongestFinalization(t *testing.T) {
	w := newWorld(t, 0)
	w.extend(t)
	f := w.Tip().Block
	set := w.Sets().Open()
	one, two := w.finalize(&f.Header, set, 1), w.finalize(&f.Header, set, 2)
	foreign := two
	foreign.Block[0]++
	f.Certificate = one // as it was when it became final
	votes := func() int {
		t.Helper()
		c, err := w.Certificate(t.Context(), 1)
		if err != nil || c.Block != f.Hash() {
			t.Fatalf("certificate %v, %v", c, err)
		}
		return len(c.Votes)
	}
	w.Strengthen(&foreign)
	if n := votes(); n != 1 {
		t.Errorf("%d votes at first, want 1", n)
	}
	w.Strengthen(&two)
	w.Strengthen(&one)
	if n := votes(); n != 2 {
		t.Errorf("%d votes after a second one came, want 2", n)
	}
	if f.Certificate.Block != one.Block || len(f.Certificate.Votes) != 1 {
		t.Error("the block itself has changed: others read it")
	}
	above := two
	above.Height = 7
	w.Strengthen(&above) // of a block that is not there
	if _, err := w.Certificate(t.Context(), 7); err == nil {
		t.Error("a certificate without its block")
	}
}

// A final block that does not say truly which set comes next is not made durable.
func TestABlockWhoseChangeLeadsElsewhereIsRefused(t *testing.T) {
	w := newWorld(t, 2)
	for name, spoil := range map[string]func(*chain.FinalBlock){
		"the header names another set": func(f *chain.FinalBlock) { f.Header.NextValidatorsHash = f.Header.ValidatorsHash },
		"the generation does not rise": func(f *chain.FinalBlock) {
			f.Change.Next.Generation = 0
			f.Header.NextValidatorsHash = f.Change.Next.Set().Hash()
		},
	} {
		next := chain.NextSet{Generation: 1, Threshold: 2, Validators: w.members(1)}
		f := &chain.FinalBlock{Block: chain.Block{Header: chain.Header{Height: 3, NextValidatorsHash: next.Set().Hash()}, Change: &chain.Change{Next: next}}}
		spoil(f)
		if _, err := w.Append(t.Context(), f, nil, nil, nil, nil); err == nil || w.store.Height() != 2 || w.Sets().Open().Generation != 0 {
			t.Errorf("%s: %v, height %d, generation %d", name, err, w.store.Height(), w.Sets().Open().Generation)
		}
	}
}
