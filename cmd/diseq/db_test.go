package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/diseq/diseq/internal/clientcmd"
	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/store"
)

// diseq db reads the directory of a node that runs, and that of one that has stopped. It changes no
// file of either.
func TestDBReadsADataDirectory(t *testing.T) {
	genesis, keys := fourValidators("db")
	dir := filepath.Join(t.TempDir(), "data")
	s, err := store.Open(dir, genesis, store.Options{})
	must(t, err)
	batch := func(number uint64, texts ...string) chain.StoredBatch {
		b := chain.Batch{Incarnation: 1, Number: number}
		for _, text := range texts {
			b.Messages = append(b.Messages, chain.Message{Data: []byte(text), Timestamp: 7})
		}
		b.Sign(keys[0], genesis.ChainID)
		return chain.StoredBatch{Hash: b.Hash(genesis.ChainID), Author: b.Author, Incarnation: 1, Number: number, Data: b.Encode()}
	}
	ordered, waits := batch(1, "one", "two"), batch(2, "three")
	must(t, s.AddBatches(t.Context(), []chain.StoredBatch{ordered, waits}))
	f := &chain.FinalBlock{Messages: []chain.Message{{Data: []byte("two"), Timestamp: 7}}}
	f.Header = genesis.Header()
	f.Header.Height, f.Header.ParentHash, f.Header.Timestamp = 1, f.Header.Hash(), 9
	f.Header.MessagesCount, f.Header.MessagesRoot = 1, chain.MessagesRoot(f.Messages)
	f.Body = []chain.BatchRef{{Author: ordered.Author, Hash: ordered.Hash}}
	f.Sign(keys[0])
	f.Certificate = chain.Certificate{Kind: chain.Finalize, Height: 1, Block: f.Hash()}
	for i := range uint32(3) {
		v := chain.Vote{Kind: chain.Finalize, Height: 1, Block: f.Hash(), Validator: i}
		v.Sign(keys[i], genesis.ChainID)
		f.Certificate.Votes = append(f.Certificate.Votes, chain.VoteSignature{Validator: i, Signature: v.Signature})
	}
	must(t, s.Commit(t.Context(), chain.Commit{
		Block: f, Sources: []chain.Source{{Batch: ordered.Hash, Offset: 52 + 8 + 3, Count: 1}}, Remove: []chain.Hash{ordered.Hash},
	}))

	read := func(into any, args ...string) {
		t.Helper()
		must(t, json.Unmarshal([]byte(succeeds(t, append([]string{"db", "-o", "json"}, args...)...)), into))
	}
	check := func() {
		t.Helper()
		before := dirContent(t, dir)
		var summary struct {
			ChainID string `json:"chain_id"`
			Height  uint64 `json:"height"`
			Waiting int    `json:"waiting_batches"`
		}
		read(&summary, "summary", dir)
		if summary.ChainID != genesis.ChainID || summary.Height != 1 || summary.Waiting != 1 {
			t.Errorf("summary %+v", summary)
		}
		var block struct {
			Hash     chain.Hash      `json:"header_hash"`
			Messages []storedMessage `json:"messages"`
		}
		read(&block, "block", dir, "1")
		if want := storedMessages(f.Messages); block.Hash != f.Hash() || !reflect.DeepEqual(block.Messages, want) {
			t.Errorf("block %+v", block)
		}
		var waiting struct {
			Hash     chain.Hash      `json:"hash"`
			Messages []storedMessage `json:"messages"`
		}
		read(&waiting, "waiting", dir)
		if waiting.Hash != waits.Hash || len(waiting.Messages) != 1 || string(waiting.Messages[0].Data) != "three" {
			t.Errorf("waiting %+v", waiting)
		}
		if got := succeeds(t, "db", "waiting", dir, "-o", "yaml"); !strings.HasPrefix(got, "---\nauthor: ") {
			t.Errorf("waiting in YAML is %q", got)
		}
		for command, want := range map[string]string{
			"summary": "waiting_batches ", "block": "messages\nID ", "waiting": waits.Hash.String() + "   " + waits.Author.String() + " ",
		} {
			args := []string{"db", command, dir}
			if command == "block" {
				args = append(args, "1")
			}
			if got := succeeds(t, args...); !strings.Contains(got, want) {
				t.Errorf("the table of db %s is\n%s\nwant %q in it", command, got, want)
			}
		}
		if !reflect.DeepEqual(dirContent(t, dir), before) {
			t.Error("a file has changed")
		}
	}
	check()
	must(t, s.Close())
	check()
	fails(t, clientcmd.ExitFailure, "the directory has 1 to 1", "db", "block", dir, "2")
	fails(t, clientcmd.ExitFailure, "no node has run in", "db", "summary", t.TempDir())
	fails(t, clientcmd.ExitUsage, "height", "db", "block", dir, "x")
}

func dirContent(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	entries, err := os.ReadDir(dir)
	must(t, err)
	for _, e := range entries {
		if filepath.Ext(e.Name()) == ".db-shm" {
			continue // SQLite's locks
		}
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		must(t, err)
		out[e.Name()] = string(b)
	}
	return out
}
