package chain

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

// Every height, time and epoch is at most 2^53 - 1. Parsers of JSON do not agree on larger numbers.
//
// Promise 37.
func TestNumbersBeyondEveryJSONParserAreRefused(t *testing.T) {
	n := newNetwork(t, 4, 3)
	f := n.finalBlock(3)
	withHeader := func(set func(*Header, uint64)) func(uint64) error {
		return func(number uint64) error {
			b := f.Block
			set(&b.Header, number)
			_, err := DecodeBlock(b.Encode())
			return err
		}
	}
	for name, decode := range map[string]func(uint64) error{
		"header's height":       withHeader(func(h *Header, v uint64) { h.Height = v }),
		"header's timestamp":    withHeader(func(h *Header, v uint64) { h.Timestamp = v }),
		"header's state height": withHeader(func(h *Header, v uint64) { h.StateHeight = v }),
		"commitment's epoch": func(v uint64) error {
			c := *f.Commitment
			c.Epoch = v
			_, err := DecodeCommitment(c.Encode())
			return err
		},
		"vote's height": func(v uint64) error {
			vote := n.vote(Notarize, v, 0, Hash{1}, 2)
			_, err := DecodeVote(vote.Encode())
			return err
		},
		"vote, verified": func(v uint64) error {
			vote := n.vote(Notarize, v, 0, Hash{1}, 2)
			return vote.Verify(n.ChainID, n.set)
		},
		"certificate's height": func(v uint64) error {
			c := n.certificate(Notarize, v, 0, Hash{1}, 0, 1, 2)
			_, err := DecodeCertificate(c.Encode())
			return err
		},
		"certificate, verified": func(v uint64) error {
			c := n.certificate(Notarize, v, 0, Hash{1}, 0, 1, 2)
			return c.Verify(n.ChainID, n.set)
		},
		"status's height": func(v uint64) error {
			s := Status{Height: v}
			_, err := DecodeStatus(s.Encode())
			return err
		},
		"final block, verified": func(v uint64) error {
			f := n.finalBlock(3)
			f.Header.Timestamp = v
			f.Certificate = n.certificate(Finalize, 1, 0, f.Hash(), 0, 1, 2)
			return f.Verify(n.ChainID, n.set)
		},
		"receipt": func(v uint64) error {
			f := n.finalBlock(3)
			f.Header.Timestamp = v
			f.Certificate = n.certificate(Finalize, 1, 0, f.Hash(), 0, 1, 2)
			text, err := json.Marshal(n.receipt(t, f, 1))
			if err != nil {
				return err
			}
			r, err := ReadReceipt(bytes.NewReader(text))
			if err != nil {
				return err
			}
			return r.Verify(n.Genesis, 0)
		},
	} {
		if err := decode(MaxNumber); err != nil {
			t.Errorf("%s of 2^53 - 1: %v", name, err)
		}
		for _, v := range []uint64{MaxNumber + 1, 1 << 63, 1<<64 - 1} {
			if err := decode(v); !errors.Is(err, ErrMalformed) {
				t.Errorf("%s of %d: error %v, want ErrMalformed", name, v, err)
			}
		}
	}
	g := newNetwork(t, 4, 3).Genesis
	if g.TimeMS = MaxNumber; g.Validate() != nil {
		t.Error(g.Validate())
	}
	if g.TimeMS++; g.Validate() == nil || !strings.Contains(g.Validate().Error(), "time_ms is 9007199254740992") {
		t.Error(g.Validate())
	}
}
