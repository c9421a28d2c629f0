package server

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/diseq/diseq/node/chain"
)

type changesPage struct {
	Changes []chain.FinalChange
	Next    *uint32
}

// A reader follows the pages with the genesis document alone, and each change is in its block.
func TestChangesLeadFromGenesisToTheNewestSet(t *testing.T) {
	f := newFake(t)
	h := New(Options{Backend: f}).Public()
	if got := do(t, h, request{path: "/v1/changes"}); got.status != 200 || got.body != `{"changes":[],"next":null}` {
		t.Errorf("of a set that never changed: %+v", got)
	}
	for i := range uint32(5) {
		f.replace(3 + i%2)
		f.finalize()
	}
	eras, from, pages := f.genesis.Eras(), uint32(1), 0
	for {
		page := decode[changesPage](t, do(t, h, request{path: fmt.Sprintf("/v1/changes?from=%d&limit=2", from)}))
		pages++
		for i := range page.Changes {
			entry, err := page.Changes[i].Entry()
			if err == nil {
				err = eras.Follow(entry)
			}
			if err != nil {
				t.Fatal(err)
			}
			b := decode[struct{ Change *chain.Change }](t, do(t, h, request{path: fmt.Sprintf("/v1/blocks/%d", entry.Header.Height)}))
			if b.Change == nil || b.Change.Hash() != entry.Header.ChangeHash {
				t.Errorf("block %d shows change %+v", entry.Header.Height, b.Change)
			}
		}
		if page.Next == nil {
			break
		}
		from = *page.Next
	}
	if now := eras.Checkpoint(); now.Set.Generation != 5 || now.Height != 9 || pages != 3 {
		t.Errorf("%d pages lead to generation %d at height %d, want 3 to 5 at 9", pages, now.Set.Generation, now.Height)
	}
	if got := decode[changesPage](t, do(t, h, request{path: "/v1/changes?from=6"})); len(got.Changes) != 0 || got.Next != nil {
		t.Errorf("above the newest: %+v", got)
	}
	for height, want := range map[int]uint32{0: 0, 1: 0, 2: 1, 3: 1, 4: 2, 11: 5} {
		got := decode[ValidatorsStatus](t, do(t, h, request{path: fmt.Sprintf("/v1/validators?height=%d", height)}))
		if got.Generation != want || got.Threshold != 3+(want+1)%2 && want > 0 {
			t.Errorf("height %d has generation %d and threshold %d, want generation %d", height, got.Generation, got.Threshold, want)
		}
	}
}

func TestParametersOfChangesAreStrict(t *testing.T) {
	f := newFake(t)
	h := New(Options{Backend: f}).Public()
	m := chain.Message{Data: []byte("m")}
	f.finalize(m)
	receipt := "/v1/messages/" + m.ID().String() + "/receipt"
	for _, path := range []string{
		"/v1/changes?from=0", "/v1/changes?from=", "/v1/changes?from=-1", "/v1/changes?from=1.0", "/v1/changes?from=4294967296",
		"/v1/changes?from=1&from=2", "/v1/changes?limit=0", "/v1/changes?limit=101", "/v1/changes?limit=x",
		receipt + "?from=x", receipt + "?from=4294967296", receipt + "?from=1&from=1", "/v1/evidence?from=+1",
	} {
		if got := do(t, h, request{path: path}); got.status != http.StatusBadRequest || got.errorCode(t) != "malformed" {
			t.Errorf("%s: %+v", path, got)
		}
	}
	q := post(octets, "x")
	q.path += "?wait=final&from=x"
	if got := do(t, h, q); got.status != http.StatusBadRequest || len(f.pending) != 0 {
		t.Errorf("submitted with from=x: %+v, %d pending", got, len(f.pending))
	}
}

// Receipts and evidence have the changes above the generation that the reader has, and no others.
//
// Promise 43.
func TestReceiptsAndEvidenceHaveTheChangesThatTheReaderLacks(t *testing.T) {
	f := newFake(t)
	h := New(Options{Backend: f}).Public()
	early, late := chain.Message{Data: []byte("early")}, chain.Message{Data: []byte("late")}
	f.replace(4)
	f.finalize(early)
	f.replace(3)
	f.finalize(late)
	eras := f.genesis.Eras()
	if err := eras.Follow(f.entries(chain.MaxNumber, 0)[:1]...); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		message chain.Message
		query   string
		want    int
		trust   chain.Trust
	}{
		{early, "", 1, f.genesis}, {late, "", 2, f.genesis}, {late, "?from=0", 2, f.genesis}, {late, "?from=1", 1, eras.Checkpoint()},
		{late, "?from=2", 0, nil}, {late, "?from=4294967295", 0, nil},
	} {
		for _, path := range []string{"/v1/messages/" + c.message.ID().String() + "/receipt" + c.query} {
			r, err := chain.ReadReceipt(strings.NewReader(do(t, h, request{path: path}).body))
			if err != nil || len(r.ValidatorChanges) != c.want {
				t.Fatalf("%s: %d changes, want %d: %v", path, len(r.ValidatorChanges), c.want, err)
			}
			if c.trust == nil {
				continue
			}
			if err := r.Verify(c.trust, 0); err != nil {
				t.Errorf("%s: %v", path, err)
			}
		}
		q := post(octets, string(c.message.Data))
		q.path += "?wait=final" + strings.Replace(c.query, "?", "&", 1)
		got := do(t, h, q)
		if r := decode[submitAnswer](t, got).Results[0].Receipt; r == nil || len(r.ValidatorChanges) != c.want {
			t.Errorf("%s: %+v, want %d changes", q.path, got, c.want)
		}
	}

	guilty := func(height uint64) chain.Evidence {
		vote := func(block byte) chain.Vote {
			v := chain.Vote{Kind: chain.Notarize, Height: height, Block: chain.Hash{block}, Validator: 1}
			v.Sign(f.keys[1], "test")
			return v
		}
		e, ok := chain.NewEvidence("test", f.next.Set(), vote(1), vote(2))
		if !ok {
			t.Fatal("the votes break no rule")
		}
		return e
	}
	f.evidence = []chain.Evidence{guilty(1), guilty(2), guilty(4)}
	held := decode[struct{ Evidence []chain.EvidenceDocument }](t, do(t, h, request{path: "/v1/evidence"})).Evidence
	for i, want := range []int{0, 1, 2} {
		if got := len(held[i].ValidatorChanges); got != want {
			t.Errorf("piece %d has %d changes, want %d", i, got, want)
		}
		if err := held[i].Verify(f.genesis); err != nil {
			t.Errorf("piece %d: %v", i, err)
		}
	}
	held = decode[struct{ Evidence []chain.EvidenceDocument }](t, do(t, h, request{path: "/v1/evidence?from=1"})).Evidence
	if len(held[2].ValidatorChanges) != 1 || held[2].Verify(eras) != nil {
		t.Errorf("from generation 1: %+v", held[2].ValidatorChanges)
	}
}

// The receipts of an answer are the same as those that are asked for one by one, over changes of
// the set, and the answer ends them before it is too long.
//
// Promise 51.
func TestReceiptsOfAnAnswerAreBounded(t *testing.T) {
	f := newFake(t)
	h := New(Options{Backend: f}).Public()
	a, b := chain.Message{Data: []byte("a")}, chain.Message{Data: []byte("b")}
	f.finalize(a)
	f.replace(4)
	f.finalize(b)
	q := post(batchType, batchOf("a", "b", "a"))
	q.path += "?wait=final"
	for _, r := range decode[submitAnswer](t, do(t, h, q)).Results {
		got, err := json.Marshal(r.Receipt)
		if err != nil {
			t.Fatal(err)
		}
		if want := do(t, h, request{path: "/v1/messages/" + r.ID.String() + "/receipt"}).body; string(got) != want {
			t.Errorf("the receipt is %s, asked for alone %s", got, want)
		}
	}

	// As many changes as make the receipts of 200 messages longer than an answer may be.
	changes := make([]chain.ValidatorSetChange, 100)
	for i := range changes {
		changes[i] = f.entries(3, 0)[0]
	}
	r, err := chain.NewReceipts(f.blocks[3], changes, 0)
	if err != nil {
		t.Fatal(err)
	}
	w := &discardCounted{discard: discard{header: http.Header{}}}
	out := receiptWriter{pieces: pieces{w: w, status: http.StatusOK}, next: -1}
	for i := range 200 {
		if err := out.result(i, SubmitResult{ID: b.ID(), Final: true}, r[0]); err != nil {
			t.Fatal(err)
		}
	}
	out.flush()
	whole := out.count
	one, err := json.Marshal(r[0])
	if err != nil {
		t.Fatal(err)
	}
	if whole == 0 || whole == 200 || out.next != whole || w.bytes > maxReceiptsBytes+len(one)+200*200 {
		t.Errorf("%d of 200 results have a receipt of %d bytes, %d bytes in all, next %d", whole, len(one), w.bytes, out.next)
	}
}

type discardCounted struct {
	discard
	bytes int
}

func (w *discardCounted) Write(b []byte) (int, error) {
	w.bytes += len(b)
	return w.discard.Write(b)
}
