package chain

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/diseq/diseq/internal/document"
	"github.com/diseq/diseq/internal/document/documenttest"
)

const refusedFile = "testdata/refused.json"

// The types refuse the same documents within other documents, and when encoding/json reads them.
//
// Promise 43.
func TestRefusedDocumentsAreRefused(t *testing.T) {
	samples := documenttest.Read(t, refusedFile, "receipt", "evidence", "genesis", "identity", "checkpoint", "receipt from checkpoint")
	genesis := documenttest.Read(t, refusedFile, "genesis").Accepted[0]
	g, err := ReadGenesis(bytes.NewReader(genesis.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	checkpoint, err := ReadCheckpoint(strings.NewReader(documenttest.Read(t, refusedFile, "checkpoint").Accepted[0].Text))
	if err != nil {
		t.Fatal(err)
	}
	for _, unmarshal := range []func([]byte, any) error{document.Unmarshal, document.UnmarshalAnswer, json.Unmarshal} {
		documenttest.Check(t, samples, func(s documenttest.Sample) error {
			switch s.Kind {
			case "receipt", "receipt from checkpoint":
				r := &Receipt{}
				if err := unmarshal(s.Bytes(), r); err != nil {
					return err
				}
				if s.Kind != "receipt" {
					return r.Verify(checkpoint, 0)
				}
				return r.Verify(g, 0)
			case "checkpoint":
				c := &ReaderCheckpoint{}
				if err := unmarshal(s.Bytes(), c); err != nil {
					return err
				}
				return c.Validate()
			case "evidence":
				e := &EvidenceDocument{}
				if err := unmarshal(s.Bytes(), e); err != nil {
					return err
				}
				return e.Verify(g)
			case "genesis":
				other := &Genesis{}
				if err := unmarshal(s.Bytes(), other); err != nil {
					return err
				}
				return other.Validate()
			default:
				p := &PublicIdentity{}
				if err := unmarshal(s.Bytes(), p); err != nil {
					return err
				}
				return p.Verify(g.ChainID)
			}
		})
	}
	documenttest.Check(t, documenttest.Read(t, refusedFile, "receipt"), func(s documenttest.Sample) error {
		r, err := ReadReceipt(bytes.NewReader(s.Bytes()))
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Errorf("%s: error %v, want ErrMalformed", s.Why, err)
			}
			return err
		}
		return r.Verify(g, 0)
	})
}
