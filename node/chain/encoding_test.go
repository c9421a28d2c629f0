package chain

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write testdata/vectors.json anew")

// encodings lists every type with a binary encoding: an example, and its decoder followed by its
// encoder.
func encodings(tb testing.TB, n *network) map[string]struct {
	example []byte
	recode  func([]byte) ([]byte, error)
} {
	f := n.finalBlock(3)
	batch := &Batch{Incarnation: 7, Number: 1, Messages: f.Messages}
	batch.Sign(n.keys[2], n.ChainID)
	vote := n.vote(Notarize, 1, 2, f.Hash(), 3)
	notarization := n.certificate(Notarize, 1, 0, f.Hash(), 0, 2, 3)
	proposal := &Proposal{
		Statement: n.vote(Propose, 1, 2, f.Hash(), 1), Block: f.Block, Notarization: &notarization,
		Nullifications: []Certificate{n.certificate(Nullify, 1, 1, Hash{}, 0, 1, 2)},
	}
	evidence, _ := NewEvidence(n.ChainID, n.set, n.vote(Nullify, 1, 2, Hash{}, 3), n.vote(Finalize, 1, 2, f.Hash(), 3))
	next := n.after(tb, 7, 5).named()
	change := n.change(next, 0, 1, 3)
	endorsed := Endorse(n.keys[1], n.ChainID, next)
	changing := f.Block
	changing.Change = change
	changing.Header.ChangeHash, changing.Header.NextValidatorsHash = change.Hash(), next.Set().Hash()
	changing.Sign(n.keys[1])
	status := &Status{Nonce: Hash{9}, Height: 1, Block: f.Hash()}
	status.Sign(n.keys[0], n.ChainID)
	const limit = 1 << 20
	type entry = struct {
		example []byte
		recode  func([]byte) ([]byte, error)
	}
	return map[string]entry{
		"messages": {EncodeMessages(f.Messages), func(b []byte) ([]byte, error) {
			m, err := DecodeMessages(b, limit)
			return EncodeMessages(m), err
		}},
		"batch":               {batch.Encode(), recoder(func(b []byte) (*Batch, error) { return DecodeBatch(b, limit) })},
		"vote":                {vote.Encode(), func(b []byte) ([]byte, error) { v, err := DecodeVote(b); return v.Encode(), err }},
		"certificate":         {f.Certificate.Encode(), recoder(DecodeCertificate)},
		"commitment":          {f.Commitment.Encode(), recoder(DecodeCommitment)},
		"header":              {f.Header.Encode(), recoder(DecodeHeader)},
		"block":               {f.Block.Encode(), recoder(DecodeBlock)},
		"block with a change": {changing.Encode(), recoder(DecodeBlock)},
		"change":              {change.Encode(), recoder(DecodeChange)},
		"endorsed":            {endorsed.Encode(), recoder(DecodeEndorsed)},
		"final block":         {f.Encode(), recoder(func(b []byte) (*FinalBlock, error) { return DecodeFinalBlock(b, limit) })},
		"proposal":            {proposal.Encode(), recoder(DecodeProposal)},
		"evidence":            {evidence.Encode(), recoder(DecodeEvidence)},
		"status":              {status.Encode(), recoder(DecodeStatus)},
	}
}

func recoder[T interface{ Encode() []byte }](decode func([]byte) (T, error)) func([]byte) ([]byte, error) {
	return func(b []byte) ([]byte, error) {
		v, err := decode(b)
		if err != nil {
			return nil, err
		}
		return v.Encode(), nil
	}
}

// Promise 37.
func TestEveryEncodingIsReadBackAndRefusedWhenCutOrExtended(t *testing.T) {
	for name, e := range encodings(t, newNetwork(t, 4, 3)) {
		t.Run(name, func(t *testing.T) {
			got, err := e.recode(e.example)
			if err != nil || !bytes.Equal(got, e.example) {
				t.Fatalf("read back %x, %v; want %x", got, err, e.example)
			}
			for i := range e.example {
				if _, err := e.recode(e.example[:i]); !errors.Is(err, ErrMalformed) {
					t.Fatalf("cut to %d of %d bytes: error %v, want ErrMalformed", i, len(e.example), err)
				}
			}
			if _, err := e.recode(append(bytes.Clone(e.example), 0)); !errors.Is(err, ErrMalformed) {
				t.Fatalf("with a byte more: error %v, want ErrMalformed", err)
			}
		})
	}
}

// FuzzDecode holds that no decoder panics, that each accepts the canonical encoding only, and that
// none takes more memory than what it was given warrants: a length is believed only as far as there
// are bytes behind it.
//
// Promise 37.
func FuzzDecode(f *testing.F) {
	n := newNetwork(f, 4, 3)
	all := encodings(f, n)
	for _, e := range all {
		f.Add(e.example)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		before := allocated()
		for name, e := range all {
			if got, err := e.recode(b); err == nil && !bytes.Equal(got, b) {
				t.Fatalf("%s accepts %x, which it would write as %x", name, b, got)
			}
		}
		if took, limit := allocated()-before, uint64(len(all)*(16<<10+16*len(b))); took > limit {
			t.Errorf("%d bytes allocated to decode %d, want at most %d", took, len(b), limit)
		}
	})
}

// allocated is the number of bytes that were ever allocated.
func allocated() uint64 {
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.TotalAlloc
}

// FuzzReadJSON reads anything as each of the documents that are JSON: none but what was signed
// verifies, and what is read is read again as the same from what is written of it.
//
// Promise 37.
func FuzzReadJSON(f *testing.F) {
	n := newNetwork(f, 4, 3)
	block := n.finalBlock(3)
	receipt, _ := json.Marshal(n.receipt(f, block, 1))
	changed, _ := json.Marshal(changedReceipt(f, n))
	genesis, _ := json.Marshal(n.Genesis)
	guilty, _ := NewEvidence(n.ChainID, n.set, n.vote(Nullify, 1, 2, Hash{}, 3), n.vote(Finalize, 1, 2, block.Hash(), 3))
	evidence, _ := json.Marshal(guilty.Document(nil))
	larger := n.after(f, 7, 5)
	step := n.changeTo(larger, 1)
	eras := n.Genesis.Eras()
	if err := eras.Follow(step.entry(f)); err != nil {
		f.Fatal(err)
	}
	checkpoint, _ := json.Marshal(eras.Checkpoint())
	change, _ := json.Marshal(step.final(f))
	short, _ := json.Marshal(n.receipt(f, larger.blockAt(2, nil), 1))
	for _, document := range [][]byte{receipt, changed, genesis, evidence, checkpoint, change, short, []byte("null"), []byte("{}"), []byte(`{"evidence":[]}`)} {
		f.Add(document)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := ReadReceipt(bytes.NewReader(b)); err == nil {
			again(t, r, func(b []byte) (*Receipt, error) { return ReadReceipt(bytes.NewReader(b)) })
			for _, trust := range []Trust{n.Genesis, eras.Checkpoint(), eras} {
				if r.Verify(trust, 0) == nil && !bytes.Equal(r.Message.Data, block.Messages[1].Data) {
					t.Fatalf("a receipt for %q verifies", r.Message.Data)
				}
			}
		}
		if g, err := ReadGenesis(bytes.NewReader(b)); err == nil {
			if err := g.Set().Validate(); err != nil {
				t.Fatalf("accepted a genesis document with a bad validator set: %v", err)
			}
			other := again(t, g, func(b []byte) (*Genesis, error) { return ReadGenesis(bytes.NewReader(b)) })
			if other != nil && other.Hash() != g.Hash() {
				t.Fatalf("hash %v, read again %v", g.Hash(), other.Hash())
			}
		}
		var e EvidenceDocument
		if json.Unmarshal(b, &e) == nil && e.Verify(n.Genesis) == nil && e.Evidence != guilty {
			t.Fatalf("evidence of what nobody signed verifies: %+v", e)
		}
		if c, err := ReadCheckpoint(bytes.NewReader(b)); err == nil {
			again(t, c, func(b []byte) (*ReaderCheckpoint, error) { return ReadCheckpoint(bytes.NewReader(b)) })
			if now := c.Eras().Checkpoint(); !reflect.DeepEqual(now, c) {
				t.Fatalf("checkpoint %+v became %+v", c, now)
			}
		}
		var c FinalChange
		if json.Unmarshal(b, &c) == nil {
			if entry, err := c.Entry(); err == nil && n.Genesis.Eras().Follow(entry) == nil && c.Next.Hash() != step.Change.Next.Hash() {
				t.Fatalf("a change that nobody signed is followed: %+v", c)
			}
		}
	})
}

// again fails if a document that was read, and can be written, is read otherwise from that.
func again[T any](t *testing.T, document T, read func([]byte) (T, error)) T {
	written, err := json.Marshal(document)
	if err != nil {
		var none T
		return none // a vote of no kind has no name
	}
	other, err := read(written)
	if err != nil || !reflect.DeepEqual(other, document) {
		t.Fatalf("%s is read as %+v, want %+v: %v", written, other, document, err)
	}
	return other
}

// Promise 37.
func TestDecodersRefuseWhatIsNotCanonical(t *testing.T) {
	n := newNetwork(t, 4, 3)
	f := n.finalBlock(3)
	for _, c := range []struct {
		name, want string
		decode     func() error
	}{
		{"signers out of order", "names validator 0 after 1", func() error {
			c := n.certificate(Notarize, 1, 0, f.Hash(), 1, 0)
			_, err := DecodeCertificate(c.Encode())
			return err
		}},
		{"a signer twice", "names validator 1 after 1", func() error {
			c := n.certificate(Notarize, 1, 0, f.Hash(), 1, 1)
			_, err := DecodeCertificate(c.Encode())
			return err
		}},
		{"a certificate of statements", "certificate of propose votes", func() error {
			c := n.certificate(Propose, 1, 0, f.Hash(), 1, 2)
			_, err := DecodeCertificate(c.Encode())
			return err
		}},
		{"a nullification of a block", "nullify vote for block", func() error {
			c := n.certificate(Nullify, 1, 0, f.Hash(), 1, 2)
			_, err := DecodeCertificate(c.Encode())
			return err
		}},
		{"an empty message", "empty message", func() error {
			_, err := DecodeMessages(EncodeMessages([]Message{{}, {Data: []byte("xxx")}}), 100)
			return err
		}},
		{"more bytes than allowed", "at most", func() error {
			_, err := DecodeMessages(EncodeMessages(testMessages(20)), 100)
			return err
		}},
		{"a list longer than the input", "bytes are left", func() error {
			_, err := DecodeMessages([]byte{0, 0, 0, 200}, 1<<20)
			return err
		}},
		{"another commitment than the header's", "header names commitment", func() error {
			b := f.Block
			b.Commitment = nil
			_, err := DecodeBlock(b.Encode())
			return err
		}},
		{"a statement of another block", "statement of another block", func() error {
			p := &Proposal{Statement: n.vote(Propose, 1, 2, Hash{1}, 1), Block: f.Block}
			_, err := DecodeProposal(p.Encode())
			return err
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := c.decode(); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
}

// TestVectors holds the encodings, hashes and signatures that docs/protocol.md points to: a second
// implementation that reproduces them speaks this protocol. go test ./node/chain -run Vectors
// -update writes them anew.
//
// Promise 53.
func TestVectors(t *testing.T) {
	n := newNetwork(t, 4, 3)
	f := n.finalBlock(3)
	receipt := n.receipt(t, f, 1)
	vectors := map[string]any{
		"genesis":               n.Genesis,
		"genesis_encoding":      hexOf(n.Encode()),
		"genesis_hash":          n.Genesis.Hash(),
		"genesis_header_hash":   hashOf(n.Genesis.Header()),
		"validators_hash":       n.set.Hash(),
		"seeds":                 "the Ed25519 seed of validator i is SHA-256(\"validator i\")",
		"message_id_0102030405": Message{Data: []byte{1, 2, 3, 4, 5}}.ID(),
		"batch_hash":            f.Body[0].Hash,
		"commitment_hash":       f.Header.CommitmentHash,
		"messages_root":         f.Header.MessagesRoot,
		"header_hash":           f.Hash(),
		"receipt":               receipt,
		"receipt_after_change":  changedReceipt(t, n),
		"signatures":            signatureVectors(t, n),
		"evidence":              evidenceVectors(t, n),
	}
	for name, e := range encodings(t, n) {
		vectors["encoding of "+name] = hexOf(e.example)
	}
	next := n.after(t, 7, 5).named()
	vectors["next_encoding"], vectors["next_hash"] = hexOf(next.Encode()), next.Hash()
	vectors["next_validators_hash"], vectors["change_hash"] = next.Set().Hash(), n.change(next, 0, 1, 3).Hash()
	maps.Copy(vectors, eraVectors(t, n))
	got, err := json.MarshalIndent(vectors, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	path := filepath.Join("testdata", "vectors.json")
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("the encodings differ from %s:\n%s", path, got)
	}
}

func hashOf(h Header) Hash { return h.Hash() }

func hexOf(b []byte) string {
	const digits = "0123456789abcdef"
	var s strings.Builder
	for _, c := range b {
		s.WriteByte(digits[c>>4])
		s.WriteByte(digits[c&15])
	}
	return s.String()
}
