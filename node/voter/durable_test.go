package voter

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/consensus"
)

// The block of height h is durable before the first record of h+1. A newcomer has no record of the
// finalization of h, because it was no member of that set: its vote would rest on nothing.
//
// Promise 12.
func TestABlockIsDurableBeforeTheFirstVoteAboveIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(t, 1, 1, 0)
		apply := r.cfg.Apply
		r.cfg.Apply = func(f *chain.FinalBlock, ids []chain.Hash, justification []*chain.Certificate) error {
			err := apply(f, ids, justification) // the block is on disk when it returns
			r.journal.add("stored %d", f.Header.Height)
			return err
		}
		r.start(t, r.votes, 0)
		for height := range uint64(3) {
			r.submit(t, fmt.Sprint("message ", height))
			if err := r.cfg.Ledger.Wait(t.Context(), height+1); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		entries, above := r.journal.all(), 0
		for i, entry := range entries {
			var kind string
			var height uint64
			if n, _ := fmt.Sscanf(entry, "write %s %d", &kind, &height); n != 2 || height < 2 {
				continue
			}
			above++
			if !slices.Contains(entries[:i], fmt.Sprint("stored ", height-1)) {
				t.Errorf("%q before the block below is stored: %q", entry, entries)
			}
		}
		if above == 0 {
			t.Errorf("no vote above height 1: %q", entries)
		}
	})
}

// A finalization that comes alone is durable with its block: it waits for one disk write, and not
// for two. Anything that this validator signed is durable before.
//
// Promise 12.
func TestAFinalizationAloneIsDurableWithItsBlock(t *testing.T) {
	record := func(kind chain.RecordKind) chain.Record { return chain.Record{Height: 1, Kind: kind} }
	certificate := consensus.Persist{Records: []chain.Record{record(chain.RecordCertificate)}}
	commit, forward := consensus.Commit{}, consensus.Broadcast{}
	with := func(kind chain.RecordKind) consensus.Persist {
		return consensus.Persist{Records: []chain.Record{record(chain.RecordCertificate), record(kind)}}
	}
	for name, tt := range map[string]struct {
		actions         []consensus.Action
		before, instead int
	}{
		"nothing":                         {nil, 0, 0},
		"a finalization":                  {[]consensus.Action{certificate, forward, commit}, 0, 1},
		"two certificates":                {[]consensus.Action{certificate, certificate, commit}, 0, 2},
		"a certificate and no block":      {[]consensus.Action{certificate, forward}, 1, 0},
		"a fork":                          {[]consensus.Action{certificate, consensus.Contradiction{}}, 1, 0},
		"a fork in one bundle":            {[]consensus.Action{certificate, consensus.Contradiction{}, commit}, 1, 0},
		"with a vote":                     {[]consensus.Action{with(chain.RecordVote), forward, commit}, 2, 0},
		"a vote of another event":         {[]consensus.Action{with(chain.RecordVote), forward, certificate, forward, commit}, 3, 0},
		"with a proposal":                 {[]consensus.Action{with(chain.RecordProposal), commit}, 2, 0},
		"with the block of an older vote": {[]consensus.Action{with(chain.RecordBlock), commit}, 2, 0},
		"with a vote that is missing":     {[]consensus.Action{with(chain.RecordMissingVote), commit}, 2, 0},
	} {
		t.Run(name, func(t *testing.T) {
			if before, instead := recordsOf(tt.actions); len(before) != tt.before || len(instead) != tt.instead {
				t.Errorf("%d records before and %d with the block, want %d and %d", len(before), len(instead), tt.before, tt.instead)
			}
		})
	}
}

// The finalization of a block that this node cannot take is kept: it may be evidence.
func TestTheFinalizationOfABlockThatIsNotTakenIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(t, 1, 1, 0)
		if err := r.Start(r.votes, 0); err != nil {
			t.Fatal(err)
		}
		defer r.decided()
		b := &chain.Block{Header: chain.Header{Height: 1}}
		r.prepared.put(&preparedBlock{block: b})
		refused, writtenBefore := errors.New("not this block"), -1
		r.cfg.Apply = func(*chain.FinalBlock, []chain.Hash, []*chain.Certificate) error {
			writtenBefore = len(r.votes.records)
			return refused
		}
		err := r.execute([]consensus.Action{
			consensus.Persist{Records: []chain.Record{{Height: 1, Kind: chain.RecordCertificate, Data: []byte("a finalization")}}},
			consensus.Commit{Block: b, Finalization: &chain.Certificate{Kind: chain.Finalize, Height: 1, Block: b.Hash()}},
		})
		if !errors.Is(err, refused) {
			t.Fatalf("error %v, want %v", err, refused)
		}
		if writtenBefore != 0 || len(r.votes.records) != 1 {
			t.Errorf("%d records before the block and %d after it, want none and one", writtenBefore, len(r.votes.records))
		}
	})
}
