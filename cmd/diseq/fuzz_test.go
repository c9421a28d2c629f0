package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/diseq/diseq/node/chain"
)

// FuzzParseEvidence reads what `diseq evidence verify` is given: each of its three forms is read as
// the same evidence.
//
// Promise 37.
func FuzzParseEvidence(f *testing.F) {
	const one = `{"chain_id":"a","rule":"E1","first":{"kind":"notarize","height":1},"second":{"kind":"finalize","height":1}}`
	f.Add([]byte(one))
	f.Add([]byte("[" + one + "," + one + "]"))
	f.Add([]byte(`{"evidence":[` + one + `]}`))
	f.Add([]byte(`{"evidence":null}`))
	f.Add([]byte(" [] "))
	f.Fuzz(func(t *testing.T, raw []byte) {
		list, err := parseEvidence(raw)
		if err != nil {
			return
		}
		if !json.Valid(bytes.TrimSpace(raw)) {
			t.Fatalf("%q is no JSON", raw)
		}
		written, err := json.Marshal(list)
		if err != nil {
			return // a vote of no kind has no name
		}
		for _, form := range [][]byte{written, append(append([]byte(`{"evidence":`), written...), '}')} {
			again, err := parseEvidence(form)
			if err != nil || len(again) != len(list) || len(list) > 0 && !reflect.DeepEqual(again, list) {
				t.Fatalf("%s is read as %+v, want %+v: %v", form, again, list, err)
			}
		}
	})
}

// FuzzReadPublic reads what `diseq genesis` is given as a validator's public.json: what is taken is
// one JSON value without any field but those of an identity, and is read again as the same from
// what is written of it.
//
// Promise 37.
func FuzzReadPublic(f *testing.F) {
	one, err := json.Marshal(chain.PublicIdentity{Name: "a", PublicKey: chain.PublicKey{1}, VRFKey: chain.VRFKey{2}, Proof: chain.Signature{3}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(one)
	f.Add(append(one, one...))
	f.Add([]byte(`{"name":"a","extra":1}`))
	f.Add([]byte(`{"NAME":"a","public_key":"00"}`))
	f.Add([]byte(" null\n"))
	path := filepath.Join(f.TempDir(), "public.json")
	f.Fuzz(func(t *testing.T, raw []byte) {
		read := func(raw []byte) (chain.PublicIdentity, error) {
			if err := os.WriteFile(path, raw, 0o600); err != nil {
				t.Fatal(err)
			}
			return readPublic(path)
		}
		v, err := read(raw)
		if err != nil {
			return
		}
		var fields map[string]json.RawMessage
		if err := json.Unmarshal(raw, &fields); err != nil || len(raw) > maxPublicBytes {
			t.Fatalf("%q of %d bytes is taken: %v", raw, len(raw), err)
		}
		for name := range fields {
			if !slices.ContainsFunc([]string{"chain_id", "name", "public_key", "vrf_key", "proof"}, func(known string) bool { return strings.EqualFold(name, known) }) {
				t.Errorf("%q is taken with a field %q", raw, name)
			}
		}
		written, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := read(written); err != nil || again != v {
			t.Errorf("%s is read as %+v, want %+v: %v", written, again, v, err)
		}
	})
}

// FuzzLoadBlock reads what `diseq load` is sent as a block: of its own messages those are final
// whose ids are there, and no other.
//
// Promise 37.
func FuzzLoadBlock(f *testing.F) {
	own := []chain.Hash{{1}, {2}}
	const mark = `"id":"`
	f.Add([]byte(`{"messages":[{` + mark + own[0].String() + `"},{` + mark + strings.Repeat("0a", 32) + `"}]}`))
	f.Add([]byte(mark + own[1].String() + mark + strings.ToUpper(own[0].String())))
	f.Add([]byte(mark + own[0].String()[:60] + mark + own[1].String()))
	f.Add([]byte(mark))
	f.Fuzz(func(t *testing.T, line []byte) {
		l := &load{}
		l.begin()
		for _, id := range own {
			l.open[id] = &sending{at: time.Now(), accepted: true}
		}
		err := l.block(1, bytes.Clone(line))
		final := map[chain.Hash]bool{}
		broken := false
		parts := strings.Split(string(line), mark)
		for i := range parts[1:] {
			rest := strings.Join(parts[i+1:], mark)
			if len(rest) < 64 {
				break
			}
			id, err := hex.DecodeString(rest[:64])
			if broken = err != nil; broken {
				break
			}
			final[chain.Hash(id)] = true
		}
		if (err != nil) != broken {
			t.Errorf("%q: error %v, want one: %v", line, err, broken)
		}
		for _, id := range own {
			if (l.open[id] == nil) != final[id] {
				t.Errorf("%q: message %v is final: %v, want %v", line, id, l.open[id] == nil, final[id])
			}
		}
		if l.counted.final != len(own)-len(l.open) {
			t.Errorf("%q: %d messages count as final, %d of %d are left", line, l.counted.final, len(l.open), len(own))
		}
	})
}
