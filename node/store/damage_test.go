package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/internal/sqlitefile"
)

// FuzzDamagedRows puts anything into a column of a row, with the checksum that fits it or the one
// that was there. Reads of the row then fail with ErrCorrupt, unless the checksum fits. Reads of
// other rows are as ever, and so are those of the row once it is as it was.
//
// Promise 37.
func FuzzDamagedRows(f *testing.F) {
	c := newChain("store")
	s, err := Open(dataDir(f), c.genesis, Options{})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = s.Close() })
	y := [32]byte{5}
	epochs := []chain.Epoch{{Number: 0, Beacon: c.genesis.Hash()}, {Number: 1, Beacon: chain.Hash{1}, Output: &y}}
	must(f, s.Commit(f.Context(), chain.Commit{Block: c.next(payloads(2, 20, 1)...), Epochs: epochs, Justification: []*chain.Certificate{{Kind: chain.Nullify, Height: 1, Votes: make([]chain.VoteSignature, 1)}}}))
	must(f, s.Commit(f.Context(), chain.Commit{Block: c.change(1, 4)}))
	if _, err := s.AddEvidence(f.Context(), chain.Evidence{Rule: "E1", First: chain.Vote{Kind: chain.Notarize, Height: 1, Block: chain.Hash{1}},
		Second: chain.Vote{Kind: chain.Notarize, Height: 1, Block: chain.Hash{2}}}); err != nil {
		f.Fatal(err)
	}

	columns := []struct {
		table, column, key, sum string
		checksum                func([]byte) int64
		readers                 []string // of that row
	}{
		{"blocks", "block", "height = 1", "block_sum", func(b []byte) int64 { return checksum(1, b) }, []string{"block 1", "head 1", "encoded"}},
		{"blocks", "messages", "height = 1", "messages_sum", func(b []byte) int64 { return checksum(1, b) }, []string{"block 1", "encoded"}},
		{"certificates", "certificate", "height = 1", "sum", func(b []byte) int64 { return checksum(1, b) }, []string{"block 1", "certificate 1", "encoded"}},
		{"justifications", "justification", "height = 1", "sum", func(b []byte) int64 { return checksum(1, b) }, []string{"justification 1"}},
		{"blocks", "places", "height = 1", "", nil, []string{"block 1", "encoded"}},
		{"changes", "change", "height = 2", "sum", func(b []byte) int64 { return checksum(2, b) }, []string{"changes"}},
		{"epochs", "beacon", "epoch = 1", "", nil, []string{"epochs"}},
		{"epochs", "output", "epoch = 1", "", nil, []string{"epochs"}},
		{"evidence", "evidence", "arrival = 1", "", nil, []string{"evidence"}},
	}
	type answer struct {
		value string
		err   error
	}
	read := func(t testing.TB) map[string]answer {
		out := map[string]answer{}
		add := func(name string, value any, err error) {
			written, jsonErr := json.Marshal(value)
			if jsonErr != nil {
				written = fmt.Appendf(nil, "%+v", value) // a vote of no kind has no name
			}
			out[name] = answer{string(written), err}
		}
		for h := uint64(1); h <= 2; h++ {
			block, err := s.Block(t.Context(), h)
			add(fmt.Sprint("block ", h), block, err)
			head, err := s.Head(t.Context(), h)
			add(fmt.Sprint("head ", h), head, err)
			certificate, err := s.Certificate(t.Context(), h)
			add(fmt.Sprint("certificate ", h), certificate, err)
		}
		justification, err := s.Justification(t.Context(), 1)
		add("justification 1", justification, err)
		encoded, err := s.EncodedBlocks(t.Context(), 1, 2, 1<<20)
		add("encoded", encoded, err)
		found, err := s.Epochs(t.Context(), 0, 10)
		add("epochs", found, err)
		changes, err := s.Changes(t.Context())
		add("changes", changes, err)
		evidence, err := s.Evidence(t.Context(), 10)
		add("evidence", evidence, err)
		return out
	}
	before := read(f)
	damaging, err := s.file.OpenWriting(1, sqlitefile.Pragmas{"synchronous": "OFF"}) // no crash is looked for
	must(f, err)
	f.Cleanup(func() { _ = damaging.Close() })
	put := func(t *testing.T, i int, content []byte, sum int64) {
		q, args := fmt.Sprintf("UPDATE %s SET %s = ?", columns[i].table, columns[i].column), []any{content}
		if columns[i].sum != "" {
			q, args = q+", "+columns[i].sum+" = ?", append(args, sum)
		}
		_, err := damaging.ExecContext(t.Context(), q+" WHERE "+columns[i].key, args...)
		must(t, err)
	}
	for i := range columns {
		f.Add(uint8(i), []byte{}, true)
		f.Add(uint8(i), []byte("damaged"), false)
		f.Add(uint8(i), make([]byte, 32), true)
	}
	f.Fuzz(func(t *testing.T, column uint8, content []byte, summed bool) {
		i := int(column) % len(columns)
		of := columns[i]
		var was []byte
		var sum int64
		query := "SELECT " + of.column + ", 0"
		if of.sum != "" {
			query = "SELECT " + of.column + ", " + of.sum
		}
		must(t, damaging.QueryRowContext(t.Context(), query+" FROM "+of.table+" WHERE "+of.key).Scan(&was, &sum))
		legible := of.sum == "" || summed // it may then be read as something else
		damagedSum := sum
		if of.sum != "" && summed {
			damagedSum = of.checksum(content)
		}
		put(t, i, append([]byte{}, content...), damagedSum)
		during := read(t)
		put(t, i, was, sum)
		for name, got := range during {
			own := slices.Contains(of.readers, name)
			switch {
			case got.err != nil && own && errors.Is(got.err, ErrCorrupt):
			case got.err == nil && (got.value == before[name].value || own && legible):
			default:
				t.Errorf("%s.%s is %x, summed %v: %s is read as %s, %v; it was %s", of.table, of.column, content, summed, name, got.value, got.err, before[name].value)
			}
		}
		for name, got := range read(t) {
			if got != before[name] {
				t.Errorf("%s is read as %+v afterwards, it was %+v", name, got, before[name])
			}
		}
	})
}
