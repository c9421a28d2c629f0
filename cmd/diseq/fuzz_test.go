package main

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"
)

// FuzzParseEvidence reads what `diseq evidence verify` is given: each of its three forms is read as the same evidence.
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
