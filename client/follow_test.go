package client

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/diseq/diseq/node/chain"
)

// eras is a chain whose set changes at heights 1 and 3, as a node shows it.
type eras struct {
	*world
	changes []*chain.FinalChange
	blocks  map[uint64]*chain.FinalBlock
	// asked counts the pages of changes, hidden keeps the changes from a generation on from
	// readers.
	asked  atomic.Int32
	hidden uint32
}

func newEras(t *testing.T) *eras {
	t.Helper()
	e := &eras{world: newWorld(t), blocks: map[uint64]*chain.FinalBlock{}, hidden: 99}
	first := e.change(e.genesis.Header(), 1, 4, nil)
	second := e.after(first)
	third := e.certify(e.change(second.Header, 2, 3, nil), chain.Finalize, 0, 1, 2, 3)
	fourth := e.block(third.Header, nil, testMessages()...)
	for i, b := range []*chain.FinalBlock{first, second, third, fourth} {
		e.blocks[uint64(i)+1] = b
		if b.Change != nil {
			c, err := chain.NewFinalChange(&b.Block, &b.Certificate)
			must(t, err)
			e.changes = append(e.changes, c)
		}
	}
	return e
}

// serve answers with one change a page.
func (e *eras) serve(t *testing.T) *Client {
	t.Helper()
	return serve(t, map[string]http.HandlerFunc{
		"GET /v1/changes": func(w http.ResponseWriter, r *http.Request) {
			e.asked.Add(1)
			from, err := strconv.Atoi(r.URL.Query().Get("from"))
			if err != nil || from < 1 {
				t.Errorf("asked for %s", r.URL)
			}
			page := map[string]any{"changes": []any{}, "next": nil}
			if from <= len(e.changes) && uint32(from) < e.hidden {
				page["changes"] = e.changes[from-1 : from]
				if from < len(e.changes) {
					page["next"] = from + 1
				}
			}
			answer(w, http.StatusOK, page)
		},
		"GET /v1/messages/{id}/receipt": func(w http.ResponseWriter, r *http.Request) {
			from, _ := strconv.Atoi(r.URL.Query().Get("from")) // absent is 0
			var entries []chain.ValidatorSetChange
			for i := from; i < 2; i++ {
				entries = append(entries, entry(e.blocks[uint64(2*i+1)]))
			}
			answer(w, http.StatusOK, e.receipt(t, e.blocks[4], entries...))
		},
	})
}

// Promise 43.
func TestAFollowerFindsTheChangesByItself(t *testing.T) {
	e := newEras(t)
	c := e.serve(t)
	f := c.Follow(e.genesis)
	for _, height := range []uint64{1, 2, 4, 3, 2, 1} {
		must(t, f.Verify(t.Context(), shown(e.blocks[height]), 0))
	}
	// Block 1 carried its change: the reader had to ask before block 4 only, and twice for two
	// pages.
	if asked := e.asked.Load(); asked > 2 {
		t.Errorf("the reader asked %d times", asked)
	}
	if now := f.Eras().Checkpoint(); now.Set.Generation != 2 || now.Height != 3 {
		t.Errorf("it stands at generation %d, height %d", now.Set.Generation, now.Height)
	}
	id := testMessages()[0].ID()
	r, err := f.Receipt(t.Context(), id, 3)
	must(t, err)
	if len(r.ValidatorChanges) != 0 {
		t.Errorf("the receipt has %d changes that the reader knows", len(r.ValidatorChanges))
	}
	other := f.client.Follow(f.Eras().First())
	_, err = other.Receipt(t.Context(), id, 3)
	must(t, err)
	if now := other.Eras().Checkpoint(); now.Set.Generation != 2 {
		t.Errorf("the receipt's own changes lead to generation %d", now.Set.Generation)
	}
	guilty, ok := chain.NewEvidence(e.genesis.ChainID, e.genesis.Set(), e.vote(2, chain.Finalize, 4, chain.Hash{1}), e.vote(2, chain.Finalize, 4, chain.Hash{2}))
	if !ok {
		t.Fatal("no evidence")
	}
	must(t, c.Follow(e.genesis).VerifyEvidence(t.Context(), guilty.Document(nil)))
	// From a checkpoint, which goes through a file.
	text, err := json.Marshal(f.Eras().Checkpoint())
	must(t, err)
	checkpoint, err := chain.ReadCheckpoint(strings.NewReader(string(text)))
	must(t, err)
	must(t, c.Follow(checkpoint).Verify(t.Context(), shown(e.blocks[4]), 0))
	if err := c.Follow(checkpoint).Verify(t.Context(), shown(e.blocks[2]), 0); err == nil {
		t.Error("a block below the checkpoint verifies")
	}
}

// A node can hide a change, or show one that the set before did not vote for: then the reader does
// not verify what the newer set signed, and goes on once it is shown the change.
//
// Promise 43.
func TestAFollowerBelievesNoSetWithoutTheVotesOfTheSetBefore(t *testing.T) {
	e := newEras(t)
	e.hidden = 2
	f := e.serve(t).Follow(e.genesis)
	if err := f.Verify(t.Context(), shown(e.blocks[4]), 0); err == nil || !strings.Contains(err.Error(), "the set in force is") {
		t.Errorf("with a change hidden: %v", err)
	}
	e.hidden = 99
	votes := e.changes[1].Certificate
	e.changes[1].Certificate.Certificate.Votes, e.changes[1].Certificate.Strength = votes.Votes[:3], 3 // 4 of 4 are needed
	if err := f.Verify(t.Context(), shown(e.blocks[4]), 0); err == nil || !strings.Contains(err.Error(), "3 votes, the threshold is 4") {
		t.Errorf("with a change that lacks a vote: %v", err)
	}
	if now := f.Eras().Checkpoint(); now.Set.Generation != 1 {
		t.Errorf("it stands at generation %d, want 1", now.Set.Generation)
	}
	e.changes[1].Certificate = votes
	must(t, f.Verify(t.Context(), shown(e.blocks[4]), 0))
	if err := f.Verify(t.Context(), shown(e.block(e.blocks[4].Header, func(b *chain.FinalBlock) { b.Header.ValidatorsHash[0]++ })), 0); err == nil {
		t.Error("a block of a set that never was verifies")
	}
}
