package powercut

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/identity"
	"github.com/diseq/diseq/node/store"
	"github.com/diseq/diseq/node/trie"
	"github.com/diseq/diseq/test/oracle"
)

// A script is what the stores of one node are given, the same in each process that makes it.
type script struct {
	genesis *chain.Genesis
	key     chain.PublicKey
	batches []chain.StoredBatch
	blocks  []*chain.FinalBlock // each takes the batch of its number
	records [][]chain.Record    // appended together, two for each block
	roots   []chain.Hash        // of the state after each block
	// recomputed counts the states that a power cut damaged.
	recomputed int
}

const messagesInBatch = 3

// newScript makes a script of small batches, and of large ones at the end, which move the logs into
// the databases.
func newScript(tb testing.TB, small, large int) *script {
	tb.Helper()
	f := oracle.NewForge(tb)
	s := &script{genesis: f.Genesis, key: f.Genesis.Validators[0].PublicKey}
	for i := range small + large {
		size := 100
		if i >= small {
			size = 400_000
		}
		b := chain.Batch{Author: s.key, Incarnation: 1, Number: uint64(i) + 1}
		for k := range messagesInBatch {
			content := bytes.Repeat([]byte{byte(i), byte(k)}, size/2)
			copy(content, fmt.Sprintf("message %d of batch %d ", k, i))
			b.Messages = append(b.Messages, chain.Message{Data: content})
		}
		hash := b.Hash(s.genesis.ChainID)
		s.batches = append(s.batches, chain.StoredBatch{
			Hash: hash, Author: b.Author, Incarnation: b.Incarnation, Number: b.Number, Data: b.Encode(),
		})
		block := f.Block(s.blocks, b.Messages...)
		block.Body = []chain.BatchRef{{Author: b.Author, Hash: hash}}
		s.blocks = append(s.blocks, block)
		record := func(kind chain.RecordKind, step int) chain.Record {
			return chain.Record{Height: block.Header.Height, Kind: kind, Data: fmt.Appendf(nil, "kind %d, step %d of block %d", kind, step, i)}
		}
		s.records = append(s.records,
			[]chain.Record{record(chain.RecordBlock, 0), record(chain.RecordVote, 0)},
			[]chain.Record{record(chain.RecordCertificate, 1), record(chain.RecordVote, 1)})
	}
	return s
}

// A promise is what a process may tell others at a moment: the numbers of what was stored.
type promise struct {
	Keys, Votes              bool // there are keys, and a vote store
	Batches, Records, Blocks int
}

// stores are the open stores of a node.
type stores struct {
	*store.Store
	votes *store.Votes
	state *trie.Trie
}

func openStores(dir string, s *script, discard bool) (_ *stores, err error) {
	out := &stores{}
	defer func() {
		if err != nil {
			err = errors.Join(err, out.close())
		}
	}()
	if out.Store, err = store.Open(dir, s.genesis, store.Options{}); err != nil {
		return out, err
	}
	if out.votes, err = out.OpenVotes(s.key); err != nil {
		return out, err
	}
	out.state, err = trie.Open(context.Background(), filepath.Join(dir, "state"), trie.Options{
		Chain: s.genesis.Hash(), HistoryHeights: 16, CacheBytes: 16 << 20, FlushLeaves: 5 * messagesInBatch, Discard: discard,
	})
	return out, err
}

func (o *stores) close() error {
	var errs []error
	if o.state != nil {
		errs = append(errs, o.state.Close())
	}
	if o.votes != nil {
		errs = append(errs, o.votes.Close())
	}
	if o.Store != nil {
		errs = append(errs, o.Store.Close())
	}
	return errors.Join(errs...)
}

// indexed appends the blocks that the state lacks, and returns the root after the last.
func (o *stores) indexed() (root chain.Hash, err error) {
	if root, ok := o.state.Root(o.Height()); ok {
		return root, nil
	}
	for height := o.state.Height() + 1; height <= o.Height(); height++ {
		b, err := o.Block(context.Background(), height)
		if err != nil {
			return root, err
		}
		leaves := make([]trie.Leaf, len(b.Messages))
		for i, m := range b.Messages {
			id := m.ID()
			leaves[i] = trie.Leaf{Key: id, Hash: trie.LeafHash(id, m.Data), Index: uint32(i)}
		}
		if root, err = o.state.Append(height, leaves); err != nil {
			return root, err
		}
	}
	return root, nil
}

// play does what a node does between two starts, from block from to block to, and tells each step
// when it is done.
func (o *stores) play(s *script, from, to int, told func(promise)) error {
	ctx := context.Background()
	for i := from; i < to; i++ {
		if err := o.AddBatches(ctx, s.batches[i:i+1]); err != nil {
			return err
		}
		told(promise{Batches: i + 1})
		for k := 2 * i; k < 2*i+2; k++ {
			if err := o.votes.Append(s.records[k]...); err != nil {
				return err
			}
			told(promise{Records: k + 1})
		}
		b := s.batches[i]
		// The block's messages stay in the log, as the end of the batch's encoding.
		source := chain.Source{Batch: b.Hash, Offset: len(b.Data) - encodedSize(s.blocks[i].Messages), Count: messagesInBatch}
		if err := o.Commit(ctx, chain.Commit{Block: s.blocks[i], Sources: []chain.Source{source}, Remove: []chain.Hash{b.Hash}}); err != nil {
			return err
		}
		told(promise{Blocks: i + 1})
		o.votes.Prune(uint64(i)) // the records of block i+1 go with the next block
		if _, err := o.indexed(); err != nil {
			return err
		}
	}
	return nil
}

func encodedSize(messages []chain.Message) (n int) {
	for i := range messages {
		n += messages[i].Size()
	}
	return n
}

// check opens what is left of a node's stores and compares it with what was promised. Then the node
// goes on.
func (s *script) check(dir string, p promise) (err error) {
	if p.Keys {
		if _, err := identity.Load(filepath.Join(dir, "keys")); err != nil {
			return err
		}
	}
	dir = filepath.Join(dir, "data")
	exists, err := store.VotesExist(dir)
	if err != nil {
		return err
	}
	if !exists {
		if p.Votes {
			return errors.New("the vote store is gone")
		}
		first, err := store.Untouched(dir)
		if err != nil || !first {
			return errors.Join(errors.New("there is no vote store, and the directory is not a new one"), err)
		}
		if err := store.CreateVotes(dir, s.key); err != nil {
			return err
		}
	}
	o, err := openStores(dir, s, false)
	if errors.Is(err, trie.ErrCorrupt) { // a node computes it again
		s.recomputed++
		o, err = openStores(dir, s, true)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, o.close()) }()
	return errors.Join(s.checkBlocks(o, p), s.checkBatches(o, p), s.checkRecords(o, p), s.checkState(o), s.goOn(o))
}

func (s *script) checkBlocks(o *stores, p promise) error {
	if o.Height() < uint64(p.Blocks) {
		return fmt.Errorf("height %d, and block %d was final", o.Height(), p.Blocks)
	}
	for i := range int(o.Height()) {
		b, err := o.Block(context.Background(), uint64(i)+1)
		if err != nil {
			return err
		}
		if b.Hash() != s.blocks[i].Hash() || !bytes.Equal(b.Encode(), s.blocks[i].Encode()) {
			return fmt.Errorf("block %d is not what was final", i+1)
		}
	}
	return nil
}

func (s *script) checkBatches(o *stores, p promise) error {
	next := int(o.Height()) // those before are in blocks
	err := o.PendingBatches(context.Background(), func(b chain.StoredBatch) error {
		if next >= len(s.batches) || b.Hash != s.batches[next].Hash || !bytes.Equal(b.Data, s.batches[next].Data) {
			return fmt.Errorf("batch %d, or one in its place, is not what was stored", next+1)
		}
		next++
		return nil
	})
	if err == nil && next < p.Batches {
		err = fmt.Errorf("%d batches, and %d were acknowledged", next, p.Batches)
	}
	return err
}

func (s *script) checkRecords(o *stores, p promise) error {
	records, err := o.votes.Load()
	if err != nil {
		return err
	}
	// Records of final heights may be gone.
	have := map[string]bool{}
	for _, r := range records {
		have[string(r.Data)] = true
	}
	for k, group := range s.records {
		for _, r := range group {
			there := have[string(r.Data)]
			if !there && k < p.Records && r.Height > o.Height() {
				return fmt.Errorf("a vote of height %d that left is gone", r.Height)
			}
		}
	}
	return nil
}

func (s *script) checkState(o *stores) error {
	if o.state.Height() > o.Height() {
		return fmt.Errorf("the state is at height %d, the blocks end at %d", o.state.Height(), o.Height())
	}
	root, err := o.indexed()
	if err != nil {
		return err
	}
	if height := o.Height(); height > 0 && root != s.roots[height-1] {
		return fmt.Errorf("the state of height %d has root %v, want %v", height, root, s.roots[height-1])
	}
	return nil
}

// goOn stores one more block.
func (s *script) goOn(o *stores) error {
	next := int(o.Height())
	if next == len(s.blocks) {
		return nil
	}
	return o.play(s, next, next+1, func(promise) {})
}
