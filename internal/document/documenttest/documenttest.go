// Package documenttest reads the documents that every reader has to take or to refuse: the file
// node/chain/testdata/refused.json, which verifiers in other languages read too.
package documenttest

import (
	"encoding/json"
	"os"
	"slices"
	"testing"
)

// Sample is one document.
type Sample struct {
	// Kind is receipt, evidence, genesis, checkpoint, receipt from checkpoint (verified with the
	// first checkpoint), identity (public.json), block, proof, changes (an answer of GET
	// /v1/changes), configuration (node.yaml), peers (the peers file) or submission (a body for
	// POST /v1/messages).
	Kind string `json:"kind"`
	// Why says what is wrong with the document, or what is unusual about one that is accepted.
	Why string `json:"why,omitempty"`
	// Text is the document; Base64 is there instead if the document is not UTF-8.
	Text   string `json:"text,omitempty"`
	Base64 []byte `json:"base64,omitempty"`
}

// Bytes returns the document.
func (s *Sample) Bytes() []byte {
	if s.Base64 != nil {
		return s.Base64
	}
	return []byte(s.Text)
}

// Samples is the content of the file.
type Samples struct {
	// Accepted holds documents that are read. Those that prove something verify with the genesis
	// document among them.
	Accepted []Sample `json:"accepted"`
	Refused  []Sample `json:"refused"`
}

// Read reads the samples of the given kinds, and fails if there are none of a kind.
func Read(t testing.TB, path string, kinds ...string) Samples {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var all Samples
	if err := json.Unmarshal(raw, &all); err != nil {
		t.Fatal(err)
	}
	other := func(s Sample) bool { return !slices.Contains(kinds, s.Kind) }
	out := Samples{slices.DeleteFunc(all.Accepted, other), slices.DeleteFunc(all.Refused, other)}
	for _, list := range [][]Sample{out.Accepted, out.Refused} {
		for _, kind := range kinds {
			if !slices.ContainsFunc(list, func(s Sample) bool { return s.Kind == kind }) {
				t.Fatalf("%s has no %s", path, kind)
			}
		}
	}
	return out
}

// Check fails for every sample that is not read as it has to be. read returns an error for what it
// refuses.
func Check(t *testing.T, samples Samples, read func(Sample) error) {
	t.Helper()
	for _, s := range samples.Accepted {
		if err := read(s); err != nil {
			t.Errorf("%s (%s) is refused: %v\n%.300s", s.Kind, s.Why, err, s.Bytes())
		}
	}
	for _, s := range samples.Refused {
		if err := read(s); err == nil {
			t.Errorf("%s is taken: %s\n%s", s.Kind, s.Why, s.Bytes())
		}
	}
}

// Text makes a sample of a document.
func Text(kind, why string, document []byte) Sample {
	s := Sample{Kind: kind, Why: why, Text: string(document)}
	// encoding/json writes other characters for what is not UTF-8
	if b, err := json.Marshal(s.Text); err == nil {
		var again string
		if json.Unmarshal(b, &again) == nil && again == s.Text {
			return s
		}
	}
	return Sample{Kind: kind, Why: why, Base64: document}
}
