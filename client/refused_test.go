package client

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/diseq/diseq/internal/document"
	"github.com/diseq/diseq/internal/document/documenttest"
	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/trie"
)

var update = flag.Bool("update", false, "write node/chain/testdata/refused.json anew")

const refusedFile = "../node/chain/testdata/refused.json"

// world makes the documents of one small chain.
type world struct {
	genesis *chain.Genesis
	keys    []ed25519.PrivateKey
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{genesis: &chain.Genesis{
		Version: 1, ChainID: "refused", TimeMS: 1_700_000_000_000, Threshold: 3, Parameters: chain.DefaultParameters(),
	}}
	for i := range 4 {
		seed := sha256.Sum256(fmt.Appendf(nil, "validator %d", i))
		key := ed25519.NewKeyFromSeed(seed[:])
		w.keys = append(w.keys, key)
		w.genesis.Validators = append(w.genesis.Validators, chain.NamedValidator{Name: fmt.Sprintf("v%d", i), Validator: chain.Validator{
			PublicKey: chain.PublicKeyOf(key), VRFKey: chain.VRFKey(sha256.Sum256(fmt.Appendf(nil, "vrf %d", i))),
		}})
	}
	if err := w.genesis.Validate(); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) vote(i int, kind chain.Kind, height uint64, block chain.Hash) chain.Vote {
	v := chain.Vote{Kind: kind, Height: height, Block: block, Validator: uint32(i)}
	v.Sign(w.keys[i], w.genesis.ChainID)
	return v
}

// certify signs a block as its proposer, and as its validators.
func (w *world) certify(f *chain.FinalBlock, kind chain.Kind, validators ...int) *chain.FinalBlock {
	f.Sign(w.keys[f.Header.Proposer])
	f.Certificate = chain.Certificate{Kind: kind, Height: f.Header.Height, Block: f.Hash()}
	for _, i := range validators {
		v := w.vote(i, kind, f.Header.Height, f.Hash())
		f.Certificate.Votes = append(f.Certificate.Votes, chain.VoteSignature{Validator: uint32(i), Signature: v.Signature})
	}
	return f
}

// block makes a final block; alter changes its header before it is signed.
func (w *world) block(parent chain.Header, alter func(*chain.FinalBlock), messages ...chain.Message) *chain.FinalBlock {
	f := &chain.FinalBlock{Messages: messages}
	f.Header = chain.Header{
		ProtocolVersion: chain.ProtocolVersion, ChainID: w.genesis.ChainID, Height: parent.Height + 1, ParentHash: parent.Hash(),
		Timestamp: parent.Timestamp + 20, Proposer: 1, MessagesRoot: chain.MessagesRoot(messages), MessagesCount: uint32(len(messages)),
		Beacon: w.genesis.Hash(), ValidatorsHash: parent.NextValidatorsHash, NextValidatorsHash: parent.NextValidatorsHash,
	}
	if alter != nil {
		alter(f)
	}
	return w.certify(f, chain.Finalize, 0, 1, 2)
}

func withCommitment(f *chain.FinalBlock) {
	f.Commitment = &chain.Commitment{Output: chain.VRFOutput{31: 0xab}, Proof: bytes.Repeat([]byte{0xfb, 0xff}, 11)}
	f.Header.CommitmentHash = f.Commitment.Hash()
}

func shown(f *chain.FinalBlock) *Block {
	b := &Block{
		Header: f.Header, HeaderHash: f.Hash(), Signature: &f.Signature, Commitment: f.Commitment, Change: f.Change,
		Certificate: &chain.ReceiptCertificate{Certificate: f.Certificate, Strength: f.Certificate.Strength()},
		Messages:    []chain.ReceiptMessage{},
	}
	for _, m := range f.Messages {
		b.Messages = append(b.Messages, chain.ReceiptMessage{ID: m.ID(), Message: m})
	}
	return b
}

// testMessages have + and / in their base64, and padding.
func testMessages() []chain.Message {
	return []chain.Message{{Data: []byte{0xfb, 0xff}, Timestamp: 9}, {Data: []byte("second one")}, {Data: []byte("third one!")}}
}

func (w *world) receipt(t testing.TB, f *chain.FinalBlock, changes ...chain.ValidatorSetChange) *chain.Receipt {
	t.Helper()
	receipts, err := chain.NewReceipts(f, changes, 0)
	if err != nil {
		t.Fatal(err)
	}
	return receipts[0]
}

// change makes the block that changes the set of a parent; alter changes it before it is signed.
func (w *world) change(parent chain.Header, generation, threshold uint32, alter func(*chain.FinalBlock, *chain.NextSet)) *chain.FinalBlock {
	next := *w.genesis.First()
	next.Generation, next.Threshold, next.Validators = generation, threshold, slices.Clone(next.Validators)
	f := &chain.FinalBlock{}
	f.Header = chain.Header{ProtocolVersion: chain.ProtocolVersion, ChainID: w.genesis.ChainID, Height: parent.Height + 1}
	if alter != nil {
		alter(f, &next)
	}
	return w.block(parent, func(b *chain.FinalBlock) {
		b.Header.ProtocolVersion, b.Header.ChainID, b.Header.Height = f.Header.ProtocolVersion, f.Header.ChainID, f.Header.Height
		b.Change = &chain.Change{Next: next}
		for i := range uint32(3) {
			e := chain.Endorse(w.keys[i], w.genesis.ChainID, &next)
			b.Change.Endorsements = append(b.Change.Endorsements, chain.Endorsement{Validator: i, Signature: e.Signature})
		}
		b.Header.ChangeHash, b.Header.NextValidatorsHash = b.Change.Hash(), next.Set().Hash()
	})
}

// entry is the change that a block carries, as receipts have it.
func entry(f *chain.FinalBlock) chain.ValidatorSetChange {
	return chain.ValidatorSetChange{
		Header: f.Header, Next: *f.Change.Next.Set(),
		Certificate: chain.ReceiptCertificate{Certificate: f.Certificate, Strength: f.Certificate.Strength()},
	}
}

// changed makes a receipt of a block whose set follows from genesis' by one change, which alter
// changes before it is signed.
func (w *world) changed(t testing.TB, alter func(*chain.FinalBlock, *chain.NextSet)) *chain.Receipt {
	t.Helper()
	step := w.change(w.genesis.Header(), 1, 4, alter)
	return w.receipt(t, w.after(step), entry(step))
}

// after makes the block after one with a change: all of its set sign it.
func (w *world) after(step *chain.FinalBlock) *chain.FinalBlock {
	return w.certify(w.block(step.Header, nil, testMessages()...), chain.Finalize, 0, 1, 2, 3)
}

// proofs returns a proof of inclusion and one of absence, in the state that a block certifies.
func (w *world) proofs(t testing.TB) (included, absent *Proof) {
	t.Helper()
	tr, err := trie.Open(t.Context(), filepath.Join(t.TempDir(), "state"), trie.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := tr.Close(); err != nil {
			t.Fatal(err)
		}
	}()
	messages := testMessages()
	var leaves []trie.Leaf
	for i, m := range messages {
		leaves = append(leaves, trie.Leaf{Key: m.ID(), Hash: trie.LeafHash(m.ID(), m.Data), Index: uint32(i)})
	}
	root, err := tr.Append(1, leaves)
	if err != nil {
		t.Fatal(err)
	}
	first := w.block(w.genesis.Header(), nil, messages...)
	f := w.block(first.Header, func(f *chain.FinalBlock) { f.Header.StateHeight, f.Header.StateRoot = 1, root })
	prove := func(m chain.Message) *Proof {
		p, err := tr.Prove(t.Context(), 1, m.ID())
		if err != nil {
			t.Fatal(err)
		}
		if p.Leaf != nil {
			p.Leaf.Data = messages[p.Leaf.Index].Data
		}
		return &Proof{
			ID: m.ID(), Height: 1, Root: root, Included: p.Included(), Proof: p, Certified: true, Header: &f.Header,
			Certificate: &chain.ReceiptCertificate{Certificate: f.Certificate, Strength: 3},
		}
	}
	return prove(messages[0]), prove(chain.Message{Data: []byte("never submitted")})
}

// sampler collects samples, and checks that each refused one differs from an accepted one.
type sampler struct {
	t testing.TB
	documenttest.Samples
}

func (s *sampler) json(v any) []byte {
	s.t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		s.t.Fatal(err)
	}
	return b
}

func (s *sampler) accept(kind, why string, document []byte) []byte {
	s.Accepted = append(s.Accepted, documenttest.Text(kind, why, document))
	return document
}

func (s *sampler) refuse(kind, why string, document []byte) {
	s.t.Helper()
	for _, a := range s.Accepted {
		if a.Kind == kind && bytes.Equal(a.Bytes(), document) {
			s.t.Fatalf("%s: %s: nothing is changed", kind, why)
		}
	}
	s.Refused = append(s.Refused, documenttest.Text(kind, why, document))
}

// change refuses document with one text in the place of another, for each reason.
func (s *sampler) change(kind string, document []byte, changes [][3]string) {
	s.t.Helper()
	for _, c := range changes {
		if !bytes.Contains(document, []byte(c[1])) {
			s.t.Fatalf("%s: %s: there is no %s in %s", kind, c[0], c[1], document)
		}
		s.refuse(kind, c[0], bytes.Replace(document, []byte(c[1]), []byte(c[2]), 1))
	}
}

// syntax refuses text that is not JSON, and a document with something around it.
func (s *sampler) syntax(kind string, document []byte) {
	text := string(document)
	s.refuse(kind, "a byte order mark", []byte("\ufeff"+text))
	s.refuse(kind, "a second document behind the first", []byte(text+"{}"))
	s.refuse(kind, "a character behind the document", []byte(text+"}"))
	s.refuse(kind, "a no-break space behind the document", []byte(text+"\u00a0"))
	s.refuse(kind, "a byte 0 behind the document", []byte(text+"\x00"))
	s.refuse(kind, "the last character is missing", document[:len(document)-1])
	s.refuse(kind, "a comma behind the last member", []byte(text[:len(text)-1]+",}"))
	s.refuse(kind, "a comment", []byte("/**/"+text))
	s.refuse(kind, "a list", []byte("["+text+"]"))
	s.refuse(kind, "null", []byte("null"))
	s.refuse(kind, "nothing", []byte(" "))
	s.refuse(kind, "text in UTF-16", utf16(text))
}

func utf16(text string) (out []byte) {
	out = []byte{0xff, 0xfe}
	for _, c := range []byte(text) {
		out = append(out, c, 0)
	}
	return out
}

// members refuses names that are not exactly those of the format: at the first member, and at
// another one that stands somewhere within.
func (s *sampler) members(kind string, document []byte, first, within string) {
	quote := func(name string) string { return `"` + name + `":` }
	upper := strings.ToUpper(within[:1]) + within[1:]
	s.change(kind, document, [][3]string{
		{"an unknown member", `{"` + first, `{"note":0,"` + first},
		{"an unknown member with an empty name", `{"` + first, `{"":0,"` + first},
		{"a name in other letters in the place of the right one", quote(within), quote(upper)},
		{"a name in other letters before the right one", quote(within), quote(upper) + "0," + quote(within)},
		{"a name in capitals before the right one", quote(within), quote(strings.ToUpper(within)) + "0," + quote(within)},
		{"a name with a blank", quote(within), quote(within + " ")},
	})
}

// twice refuses a member that is named twice, with the same value.
func (s *sampler) twice(kind string, document []byte, name, value string) {
	member := `"` + name + `":` + value
	s.change(kind, document, [][3]string{
		{"a member named twice with one value", member, member + "," + member},
		{"a member named twice, once with an escape", member, fmt.Sprintf(`"\u%04x%s":%s,%s`, name[0], name[1:], value, member)},
	})
}

// numbers refuses other ways to write a small number of a member, and numbers that are too large.
func (s *sampler) numbers(kind string, document []byte, name string, value, limit uint64) {
	member, digits := fmt.Sprintf(`"%s":%d`, name, value), fmt.Sprint(value)
	for _, other := range []struct{ why, text string }{
		{"a fraction", digits + ".0"}, {"an exponent", digits + "e0"}, {"a sign", "-" + digits}, {"a plus sign", "+" + digits},
		{"a leading zero", "0" + digits}, {"a number in a string", `"` + digits + `"`}, {"null for a number", "null"},
		{"true for a number", "true"}, {"a number in a list", "[" + digits + "]"},
		{"a number above its limit", fmt.Sprint(limit + 1)}, {"a number above 2^64", "1844674407370955161" + fmt.Sprint(6+value)},
	} {
		s.change(kind, document, [][3]string{{other.why + ": " + name, member, fmt.Sprintf(`"%s":%s`, name, other.text)}})
	}
}

// base64 refuses other ways to write the data +/8=, which are the bytes fb ff.
func (s *sampler) base64(kind string, document []byte) {
	const data = `"data":"+/8="`
	s.change(kind, document, [][3]string{
		{"base64 with a line break", data, `"data":"+/\n8="`},
		{"base64 with a line break at its end", data, `"data":"+/8=\r\n"`},
		{"base64 with a blank", data, `"data":"+/8= "`},
		{"base64 with unused bits set", data, `"data":"+/9="`},
		{"base64 without padding", data, `"data":"+/8"`},
		{"base64 with padding twice", data, `"data":"+/8=="`},
		{"base64 in the alphabet for URLs", data, `"data":"-_8="`},
		{"data in hex", data, `"data":"fbff"`},
		{"data as a list of numbers", data, `"data":[251,255]`},
		{"null for data", data, `"data":null`},
		{"other data", data, `"data":"+/4="`},
	})
}

func (s *sampler) hex(kind string, document []byte, name string, hash string) {
	member := `"` + name + `":"` + hash + `"`
	s.change(kind, document, [][3]string{
		{"hex in capitals: " + name, member, `"` + name + `":"` + strings.ToUpper(hash) + `"`},
		{"hex that is too short: " + name, member, `"` + name + `":"` + hash[2:] + `"`},
		{"hex that is too long: " + name, member, `"` + name + `":"` + hash + `00"`},
		{"hex with a prefix: " + name, member, `"` + name + `":"0x` + hash[2:] + `"`},
		{"hex with a blank: " + name, member, `"` + name + `":" ` + hash[1:] + `"`},
		{"null for hex: " + name, member, `"` + name + `":null`},
	})
}

func (s *sampler) receipts(w *world) {
	const kind = "receipt"
	block := w.block(w.genesis.Header(), withCommitment, testMessages()...)
	receipt := w.receipt(s.t, block)
	text := s.accept(kind, "", s.json(receipt))
	var indented bytes.Buffer
	if err := json.Indent(&indented, text, "", "\t"); err != nil {
		s.t.Fatal(err)
	}
	s.accept(kind, "white space around and within", append([]byte("\r\n"), append(indented.Bytes(), '\n')...))
	s.accept(kind, "names and strings with escapes", bytes.Replace(text, []byte(`"chain_id":"refused"`), []byte(`"\u0063hain_id":"\u0072efused"`), 1))
	s.accept(kind, "a member that is zero is absent", bytes.Replace(text, []byte(`"index":0,`), nil, 1))
	s.syntax(kind, text)
	s.members(kind, text, "version", "height")
	s.twice(kind, text, "height", "1")
	s.twice(kind, text, "proposer", "1")
	s.twice(kind, text, "strength", "3")
	s.twice(kind, text, "timestamp", "9")
	s.numbers(kind, text, "height", 1, document.MaxNumber)
	s.numbers(kind, text, "index", 0, 1<<32-1)
	s.numbers(kind, text, "strength", 3, document.MaxNumber)
	s.base64(kind, text)
	s.hex(kind, text, "id", receipt.Message.ID.String())
	s.hex(kind, text, "signature", receipt.Certificate.Votes[0].Signature.String())
	s.change(kind, text, [][3]string{
		{"another height beside the true one in other letters", `"height":1,"index"`, `"height":999,"Height":1,"index"`},
		{"another height before the true one", `"height":1,"index"`, `"height":999,"height":1,"index"`},
		{"another height behind the true one", `"height":1,"index"`, `"height":1,"height":999,"index"`},
		{"another message behind the true one", `,"height":1,"index"`, `,"Message":{"data":"AA=="},"height":1,"index"`},
		{"a name with a letter that folds to k", `"block_hash":`, `"bloc\u212a_hash":`},
		{"a name with a letter that folds to s, beside the right one", `"version":1`, `"ver\u017fion":1,"version":1`},
		{"an unknown member in the header", `"header":{`, `"header":{"note":1,`},
		{"an unknown member in the message", `"message":{`, `"message":{"note":1,`},
		{"an unknown member in the certificate", `"certificate":{`, `"certificate":{"note":1,`},
		{"an unknown member in a vote", `"votes":[{`, `"votes":[{"note":1,`},
		{"an unknown member in the inclusion path", `"inclusion":{`, `"inclusion":{"note":1,`},
		{"a lone surrogate", `"chain_id":"refused"`, `"chain_id":"refused","\ud800":0`},
		{"a string that is not UTF-8", `"chain_id":"refused"`, "\"chain_id\":\"refused\",\"\xff\":0"},
		{"an overlong encoding of a letter", `"chain_id":"refused"`, "\"chain_id\":\"\xc1\xb2efused\""},
		{"null for an object", `"inclusion":{`, `"inclusion":null,"x":{`},
		{"null for a list", `"validator_changes":[]`, `"validator_changes":null`},
		{"an object for a list", `"validator_changes":[]`, `"validator_changes":{}`},
		{"null in a list", `"validator_changes":[]`, `"validator_changes":[null]`},
		{"version 2", `"version":1`, `"version":2`},
		{"another chain", `"chain_id":"refused"`, `"chain_id":"other"`},
		{"another index", `"index":0`, `"index":1`},
		{"another timestamp", `"timestamp":9`, `"timestamp":8`},
		{"a longer inclusion path", `"path":["`, `"path":["` + strings.Repeat("0", 64) + `","`},
		{"a strength that is not the number of votes", `"strength":3`, `"strength":4`},
		{"the name of a kind in capitals", `"kind":"finalize"`, `"kind":"Finalize"`},
		{"the number of a kind", `"kind":"finalize"`, `"kind":3`},
		{"another round", `"round":0`, `"round":1`},
	})
	refuse := func(why string, f *chain.FinalBlock) { s.refuse(kind, why, s.json(w.receipt(s.t, f))) }
	fresh := func(alter func(*chain.FinalBlock)) *chain.FinalBlock {
		return w.block(w.genesis.Header(), alter, testMessages()...)
	}
	refuse("two votes of four, the threshold is three", w.certify(fresh(nil), chain.Finalize, 0, 1))
	refuse("a vote twice", w.certify(fresh(nil), chain.Finalize, 0, 1, 1))
	refuse("votes in falling order", w.certify(fresh(nil), chain.Finalize, 2, 1, 0))
	refuse("a notarization", w.certify(fresh(nil), chain.Notarize, 0, 1, 2))
	refuse("a header of another chain, signed", fresh(func(f *chain.FinalBlock) { f.Header.ChainID = "other" }))
	refuse("a header of protocol version 1, signed", fresh(func(f *chain.FinalBlock) { f.Header.ProtocolVersion = 1 }))
	refuse("a header of another validator set, signed", fresh(func(f *chain.FinalBlock) { f.Header.ValidatorsHash[0]++ }))
	refuse("a timestamp of 2^53, signed", fresh(func(f *chain.FinalBlock) { f.Header.Timestamp = 1 << 53 }))
	refuse("a height of 2^53, signed", fresh(func(f *chain.FinalBlock) { f.Header.Height = 1 << 53 }))
	refuse("height 0, signed", fresh(func(f *chain.FinalBlock) { f.Header.Height = 0 }))

	changed := s.accept(kind, "the set of validators has changed, and with it the threshold", s.json(w.changed(s.t, nil)))
	s.change(kind, changed, [][3]string{
		{"an unknown member in a change", `"validator_changes":[{`, `"validator_changes":[{"note":1,`},
		{"an unknown member in the set of a change", `"change":{`, `"change":{"note":1,`},
		{"names in the set of a change", `"change":{"generation":1,"validators":[{`, `"change":{"generation":1,"validators":[{"name":"v0",`},
		{"another generation in a change", `"change":{"generation":1`, `"change":{"generation":2`},
		{"no generation in a change", `"change":{"generation":1,`, `"change":{`},
		{"another threshold in a change", `"threshold":4`, `"threshold":3`},
		{"another Delta in a change", `"synchrony_delta_ms":0`, `"synchrony_delta_ms":100`},
		{"a threshold in other letters beside the right one", `"threshold":4`, `"Threshold":3,"threshold":4`},
	})
	for _, c := range []struct {
		why   string
		alter func(*chain.FinalBlock, *chain.NextSet)
	}{
		{"a change of generation 2 after generation 0, signed", func(_ *chain.FinalBlock, next *chain.NextSet) { next.Generation = 2 }},
		{"a change of generation 0, signed", func(_ *chain.FinalBlock, next *chain.NextSet) { next.Generation = 0 }},
		{"a change to another Delta, signed", func(_ *chain.FinalBlock, next *chain.NextSet) { next.SynchronyDeltaMS = 100 }},
		{"a change of another chain, signed", func(f *chain.FinalBlock, _ *chain.NextSet) { f.Header.ChainID = "other" }},
		{"a change of protocol version 1, signed", func(f *chain.FinalBlock, _ *chain.NextSet) { f.Header.ProtocolVersion = 1 }},
		{"a change above its receipt, signed", func(f *chain.FinalBlock, _ *chain.NextSet) { f.Header.Height = 3 }},
		{"a change to a Delta of 5 ms, signed", func(_ *chain.FinalBlock, next *chain.NextSet) { next.SynchronyDeltaMS = 5 }},
		{"a change to threshold 2 of 4, signed", func(_ *chain.FinalBlock, next *chain.NextSet) { next.Threshold = 2 }},
		{"a change to a set with a key twice, signed", func(_ *chain.FinalBlock, next *chain.NextSet) {
			next.Validators[3].VRFKey = next.Validators[2].VRFKey
		}},
	} {
		r := w.changed(s.t, c.alter)
		if r.ValidatorChanges[0].Header.Height == 3 {
			r.Height, r.Header.Height = 2, 2
		}
		s.refuse(kind, c.why, s.json(r))
	}
	step := w.change(w.genesis.Header(), 1, 4, nil)
	votes := func(f *chain.FinalBlock) chain.ValidatorSetChange { return entry(w.certify(f, chain.Finalize, 0, 1)) }
	s.refuse(kind, "a change with two votes of four, the threshold is three",
		s.json(w.receipt(s.t, w.after(step), votes(w.change(w.genesis.Header(), 1, 4, nil)))))
	s.refuse(kind, "a change twice", s.json(w.receipt(s.t, w.after(step), entry(step), entry(step))))
	bare := w.block(w.genesis.Header(), func(f *chain.FinalBlock) { f.Header.NextValidatorsHash = step.Header.NextValidatorsHash })
	unbound := entry(step)
	unbound.Header, unbound.Certificate.Certificate = bare.Header, bare.Certificate
	s.refuse(kind, "a change in a block that carries none, signed", s.json(w.receipt(s.t, w.after(step), unbound)))
	without := w.changed(s.t, nil)
	without.ValidatorChanges = []chain.ValidatorSetChange{}
	s.refuse(kind, "the change that leads to the set is missing", s.json(without))
}

// checkpoints are checkpoint documents, and receipts for readers that start from the first of them.
func (s *sampler) checkpoints(w *world) {
	const kind, receipts = "checkpoint", "receipt from checkpoint"
	eras := w.genesis.Eras()
	step := w.change(w.genesis.Header(), 1, 4, nil)
	must := func(err error) {
		if err != nil {
			s.t.Fatal(err)
		}
	}
	must(eras.Follow(entry(step)))
	checkpoint := eras.Checkpoint()
	text := s.accept(kind, "", s.json(checkpoint))
	s.accept(kind, "of the genesis document", s.json(w.genesis.Eras().Checkpoint()))
	s.syntax(kind, text)
	s.members(kind, text, "version", "height")
	s.twice(kind, text, "height", "1")
	s.numbers(kind, text, "generation", 1, 1<<32-1)
	s.hex(kind, text, "hash", checkpoint.Hash.String())
	s.change(kind, text, [][3]string{
		{"version 2", `"version":1`, `"version":2`},
		{"a chain id in capitals", `"chain_id":"refused"`, `"chain_id":"Refused"`},
		{"an unknown member in the set", `"set":{`, `"set":{"note":1,`},
		{"names in the set", `"validators":[{`, `"validators":[{"name":"v0",`},
		{"a threshold of half of the validators", `"threshold":4`, `"threshold":2`},
		{"a generation above the height", `"generation":1`, `"generation":2`},
		{"generation 0 above height 0", `"generation":1`, `"generation":0`},
		{"a key twice", checkpoint.Set.Validators[1].PublicKey.String(), checkpoint.Set.Validators[0].PublicKey.String()},
		{"no set", `"set":{`, `"x":{`},
		{"a hash of zeros", checkpoint.Hash.String(), strings.Repeat("0", 64)},
		{"a VRF key outside the field", checkpoint.Set.Validators[1].VRFKey.String(), fieldOrder},
	})
	s.keys(kind, text, checkpoint.Set.Validators[1].PublicKey)

	again := w.change(w.after(step).Header, 2, 3, nil)
	again = w.certify(again, chain.Finalize, 0, 1, 2, 3)
	last := w.block(again.Header, nil, testMessages()...)
	s.accept(receipts, "no change since", s.json(w.receipt(s.t, w.after(step))))
	s.accept(receipts, "one change since", s.json(w.receipt(s.t, last, entry(again))))
	s.accept(receipts, "with the changes up to the checkpoint", s.json(w.receipt(s.t, last, entry(step), entry(again))))
	s.refuse(receipts, "below the checkpoint", s.json(w.receipt(s.t, w.block(w.genesis.Header(), nil, testMessages()...))))
	s.refuse(receipts, "the change since is missing", s.json(w.receipt(s.t, last)))
	fork := w.change(w.genesis.Header(), 1, 4, func(f *chain.FinalBlock, _ *chain.NextSet) { f.Header.Height = 2 })
	s.refuse(receipts, "another final block brings the checkpoint's set", s.json(w.receipt(s.t, last, entry(fork), entry(again))))
	forged := w.certify(w.block(step.Header, nil, testMessages()...), chain.Finalize, 0, 1, 2)
	s.refuse(receipts, "as many votes as the threshold of the set before", s.json(w.receipt(s.t, forged)))
}

// changes are answers of GET /v1/changes.
func (s *sampler) changes(w *world) {
	const kind = "changes"
	type page struct {
		Changes []*chain.FinalChange `json:"changes"`
		Next    *uint32              `json:"next"`
	}
	final := func(f *chain.FinalBlock) *chain.FinalChange {
		c, err := chain.NewFinalChange(&f.Block, &f.Certificate)
		if err != nil {
			s.t.Fatal(err)
		}
		return c
	}
	step := w.change(w.genesis.Header(), 1, 4, nil)
	again := w.certify(w.change(w.after(step).Header, 2, 3, nil), chain.Finalize, 0, 1, 2, 3)
	first, second := final(step), final(again)
	one := s.accept(kind, "one change", s.json(page{Changes: []*chain.FinalChange{first}}))
	s.accept(kind, "two changes", s.json(page{Changes: []*chain.FinalChange{first, second}}))
	s.accept(kind, "none", s.json(page{Changes: []*chain.FinalChange{}}))
	s.accept(kind, "members of a newer node", bytes.Replace(one, []byte(`{"changes":[{`), []byte(`{"note":1,"changes":[{"note":1,`), 1))
	s.syntax(kind, one)
	s.twice(kind, one, "generation", "1")
	s.twice(kind, one, "name", `"v0"`)
	s.numbers(kind, one, "generation", 1, 1<<32-1)
	s.change(kind, one, [][3]string{
		{"names swapped", `"name":"v0"`, `"name":"v1"`},
		{"another name", `"name":"v0"`, `"name":"v7"`},
		{"another generation", `"next":{"generation":1`, `"next":{"generation":2`},
		{"another threshold", `"threshold":4`, `"threshold":3`},
		{"another endorser", `"endorsements":[{"validator":0`, `"endorsements":[{"validator":3`},
		{"an unknown member in the next set", `"next":{"g`, `"next":{"note":1,"g`},
		{"an unknown member in the header", `"header":{`, `"header":{"note":1,`},
		{"no endorsements", `"endorsements":[`, `"endorsements":[],"x":[`},
		{"a strength that is not the number of votes", `"strength":3`, `"strength":4`},
		{"another change hash", step.Header.ChangeHash.String(), strings.Repeat("0", 64)},
	})
	refuse := func(why string, changes ...*chain.FinalChange) { s.refuse(kind, why, s.json(page{Changes: changes})) }
	refuse("the first change is missing", second)
	refuse("in falling order", second, first)
	refuse("to a set with a public key of small order, signed", final(w.change(w.genesis.Header(), 1, 4,
		func(_ *chain.FinalBlock, next *chain.NextSet) { next.Validators[3].PublicKey = chain.PublicKey{1} })))
	refuse("a change twice", first, first)
	altered := func(alter func(*chain.Change)) *chain.FinalChange {
		f := w.change(w.genesis.Header(), 1, 4, nil)
		alter(f.Change)
		return final(f)
	}
	refuse("an endorsement less than the header has", altered(func(c *chain.Change) { c.Endorsements = c.Endorsements[:2] }))
	refuse("an endorsement of another chain in the place of one", altered(func(c *chain.Change) {
		c.Endorsements[0].Signature = chain.Endorse(w.keys[0], "other", &c.Next).Signature
	}))
	refuse("two validators have changed places", altered(func(c *chain.Change) {
		v := c.Next.Validators
		v[0], v[1] = v[1], v[0]
	}))
	refuse("two votes of four, the threshold is three", final(w.certify(w.change(w.genesis.Header(), 1, 4, nil), chain.Finalize, 0, 1)))
	refuse("a change after generation 0 to generation 2, signed", final(w.change(w.genesis.Header(), 2, 4, nil)))
	refuse("the second change with votes that suffice for the set before only", first, final(w.change(w.after(step).Header, 2, 3, nil)))
}

func (s *sampler) evidence(w *world) {
	const kind = "evidence"
	a, b := chain.Hash{1}, chain.Hash{2}
	evidence := func(first, second chain.Vote, changes ...chain.ValidatorSetChange) *chain.EvidenceDocument {
		e, ok := chain.NewEvidence(w.genesis.ChainID, w.genesis.Set(), first, second)
		if !ok {
			s.t.Fatalf("%+v and %+v break no rule", first, second)
		}
		return e.Document(changes)
	}
	for _, pair := range [][2]chain.Vote{
		{w.vote(2, chain.Finalize, 5, a), w.vote(2, chain.Finalize, 5, b)},
		{w.vote(2, chain.Nullify, 5, chain.Hash{}), w.vote(2, chain.Finalize, 5, b)},
		{w.vote(2, chain.Notarize, 5, a), w.vote(2, chain.Finalize, 5, b)},
		{w.vote(2, chain.Propose, 5, a), w.vote(2, chain.Propose, 5, b)},
	} {
		s.accept(kind, "", s.json(evidence(pair[0], pair[1])))
	}
	e := evidence(w.vote(2, chain.Notarize, 5, a), w.vote(2, chain.Notarize, 5, b))
	text := s.accept(kind, "", s.json(e))
	s.syntax(kind, text)
	s.members(kind, text, "chain_id", "first")
	s.twice(kind, text, "rule", `"E1"`)
	s.twice(kind, text, "height", "5")
	s.numbers(kind, text, "height", 5, document.MaxNumber)
	s.numbers(kind, text, "round", 0, 1<<32-1)
	s.hex(kind, text, "public_key", e.PublicKey.String())
	s.hex(kind, text, "signature", e.First.Signature.String())
	s.change(kind, text, [][3]string{
		{"a rule that does not exist", `"rule":"E1"`, `"rule":"E4"`},
		{"another rule", `"rule":"E1"`, `"rule":"E2"`},
		{"a rule in other letters", `"rule":"E1"`, `"rule":"e1"`},
		{"another chain", `"chain_id":"refused"`, `"chain_id":"other"`},
		{"another validator", `"validator":2`, `"validator":1`},
		{"a key of another validator", e.PublicKey.String(), w.genesis.Validators[1].PublicKey.String()},
		{"another round", `"round":0`, `"round":1`},
	})
	same := *e
	same.Second = same.First
	s.refuse(kind, "one vote twice", s.json(same))
	apart := *e
	apart.Second = w.vote(2, chain.Notarize, 6, b)
	s.refuse(kind, "votes at two heights", s.json(apart))
	for why, height := range map[string]uint64{"votes at height 0": 0, "votes at height 2^53": 1 << 53} {
		s.refuse(kind, why, s.json(evidence(w.vote(2, chain.Notarize, height, a), w.vote(2, chain.Notarize, height, b))))
	}
	slices.SortFunc(s.Refused[len(s.Refused)-2:], func(a, b documenttest.Sample) int { return strings.Compare(a.Why, b.Why) })

	step := w.change(w.genesis.Header(), 1, 4, func(_ *chain.FinalBlock, next *chain.NextSet) {
		next.Validators = next.Validators[1:]
		next.Threshold = 2
	})
	first, second := w.vote(2, chain.Finalize, 5, a), w.vote(2, chain.Finalize, 5, b)
	first.Validator, second.Validator = 1, 1 // its place in the new set
	guilty, ok := chain.NewEvidence(w.genesis.ChainID, step.Change.Next.Set(), first, second)
	if !ok {
		s.t.Fatal("the votes break no rule")
	}
	s.accept(kind, "after a change", s.json(guilty.Document([]chain.ValidatorSetChange{entry(step)})))
	s.refuse(kind, "the change that leads to the set of its height is missing", s.json(guilty.Document(nil)))
	early := evidence(w.vote(2, chain.Notarize, 1, a), w.vote(2, chain.Notarize, 1, b), entry(step))
	s.refuse(kind, "a change that is not below its height", s.json(early))
	few := []chain.ValidatorSetChange{entry(w.certify(step, chain.Finalize, 0, 1))}
	s.refuse(kind, "a change with two votes of four, the threshold is three", s.json(guilty.Document(few)))
}

func (s *sampler) genesis(w *world) {
	const kind = "genesis"
	text := s.accept(kind, "", s.json(w.genesis))
	s.syntax(kind, text)
	s.members(kind, text, "version", "threshold")
	s.twice(kind, text, "threshold", "3")
	s.twice(kind, text, "beacon_interval", "128")
	s.numbers(kind, text, "threshold", 3, 4)
	s.numbers(kind, text, "time_ms", w.genesis.TimeMS, document.MaxNumber)
	s.numbers(kind, text, "beacon_interval", 128, 1<<20)
	s.hex(kind, text, "public_key", w.genesis.Validators[0].PublicKey.String())
	s.hex(kind, text, "vrf_key", w.genesis.Validators[0].VRFKey.String())
	s.change(kind, text, [][3]string{
		{"another threshold beside the true one in other letters", `"threshold":3`, `"threshold":3,"Threshold":4`},
		{"an unknown member in a validator", `"validators":[{`, `"validators":[{"weight":1,`},
		{"an unknown member in the parameters", `"parameters":{`, `"parameters":{"note":1,`},
		{"version 2", `"version":1`, `"version":2`},
		{"a chain id in capitals", `"chain_id":"refused"`, `"chain_id":"Refused"`},
		{"a chain id that ends in a line feed", `"chain_id":"refused"`, `"chain_id":"refused\n"`},
		{"a threshold of half of the validators", `"threshold":3`, `"threshold":2`},
		{"a name twice", `"name":"v1"`, `"name":"v0"`},
		{"a validator without a name", `"name":"v1"`, `"name":""`},
		{"a key twice", w.genesis.Validators[1].PublicKey.String(), w.genesis.Validators[0].PublicKey.String()},
		{"a VRF key that is a signing key", w.genesis.Validators[1].VRFKey.String(), w.genesis.Validators[0].PublicKey.String()},
		{"a key of zeros", w.genesis.Validators[1].PublicKey.String(), strings.Repeat("0", 64)},
		{"a Delta of 9 ms", `"synchrony_delta_ms":0`, `"synchrony_delta_ms":9`},
		{"no validators", `"validators":[`, `"validators":[],"x":[`},
		{"null for the validators", `"validators":[`, `"validators":null,"x":[`},
		{"a VRF key outside the field", w.genesis.Validators[1].VRFKey.String(), fieldOrder},
	})
	s.keys(kind, text, w.genesis.Validators[1].PublicKey)
}

// keys refuses public keys that show nothing about who signed, or under which nothing verifies.
func (s *sampler) keys(kind string, text []byte, key chain.PublicKey) {
	s.change(kind, text, [][3]string{
		{"a public key of small order", key.String(), "01" + strings.Repeat("00", 31)},
		{"a public key of order 8", key.String(), "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"},
		{"a public key with y not reduced", key.String(), "ee" + strings.Repeat("ff", 30) + "7f"},
		{"a public key with x = 0 and the sign bit", key.String(), "01" + strings.Repeat("00", 30) + "80"},
		{"a public key that encodes no point", key.String(), "02" + strings.Repeat("00", 31)},
		{"a public key of a point that is not of prime order", key.String(), strings.Repeat("0a", 32)},
	})
}

// fieldOrder is what VRF keys are below.
const fieldOrder = "73eda753299d7d483339d80809a1d80553bda402fffe5bfeffffffff00000001"

func (s *sampler) identities(w *world) {
	const kind = "identity"
	v := chain.ProveIdentity(w.keys[0], w.genesis.Validators[0], "")
	text := s.accept(kind, "", s.json(v))
	s.accept(kind, "for this chain", s.json(chain.ProveIdentity(w.keys[0], w.genesis.Validators[0], w.genesis.ChainID)))
	s.refuse(kind, "for another chain", s.json(chain.ProveIdentity(w.keys[0], w.genesis.Validators[0], "other")))
	s.syntax(kind, text)
	s.members(kind, text, "name", "public_key")
	s.twice(kind, text, "name", `"v0"`)
	s.twice(kind, text, "public_key", `"`+v.PublicKey.String()+`"`)
	s.hex(kind, text, "public_key", v.PublicKey.String())
	s.hex(kind, text, "vrf_key", v.VRFKey.String())
	s.hex(kind, text, "proof", v.Proof.String())
	s.keys(kind, text, v.PublicKey)
	s.change(kind, text, [][3]string{
		{"a chain that the proof is not for", `"name":"v0"`, `"chain_id":"refused","name":"v0"`},
		{"no proof", `,"proof":"` + v.Proof.String() + `"`, ``},
		{"another name than the proof is of", `"name":"v0"`, `"name":"v1"`},
		{"another VRF key than the proof is of", v.VRFKey.String(), w.genesis.Validators[1].VRFKey.String()},
		{"a proof by another key", v.Proof.String(), chain.ProveIdentity(w.keys[1], w.genesis.Validators[0], "").Proof.String()},
		{"a number for a name", `"name":"v0"`, `"name":0`},
		{"null for a name", `"name":"v0"`, `"name":null`},
		{"a name that is not UTF-8", `"name":"v0"`, "\"name\":\"v\xff\""},
	})
}

func (s *sampler) blocks(w *world) {
	const kind = "block"
	first := w.block(w.genesis.Header(), withCommitment, testMessages()...)
	b := shown(first)
	text := s.accept(kind, "", s.json(b))
	genesis := w.genesis.Header()
	zero := s.accept(kind, "block 0", s.json(&Block{Header: genesis, HeaderHash: genesis.Hash(), Messages: []chain.ReceiptMessage{}}))
	s.accept(kind, "a block without messages and commitment", s.json(shown(w.block(first.Header, nil))))
	s.accept(kind, "a member of a newer node", bytes.Replace(text, []byte(`{"header":`), []byte(`{"note":{"x":[1]},"header":`), 1))
	s.syntax(kind, text)
	s.twice(kind, text, "height", "1")
	s.twice(kind, text, "strength", "3")
	s.twice(kind, text, "header_hash", `"`+b.HeaderHash.String()+`"`)
	s.numbers(kind, text, "height", 1, document.MaxNumber)
	s.numbers(kind, text, "proposer", 1, 1<<32-1)
	s.base64(kind, text)
	s.hex(kind, text, "header_hash", b.HeaderHash.String())
	s.hex(kind, text, "signature", b.Signature.String())
	s.hex(kind, text, "output", b.Commitment.Output.String())
	s.change(kind, text, [][3]string{
		{"an unknown member in the header", `"header":{`, `"header":{"note":1,`},
		{"an unknown member in the certificate", `"certificate":{`, `"certificate":{"note":1,`},
		{"another height beside the true one in other letters", `"height":1`, `"Height":999,"height":1`},
		{"a name in other letters in the place of the right one", `"header":{`, `"Header":{`},
		{"a name with a letter that folds to s in the place of the right one", `"messages":[`, `"me\u017fsages":[`},
		{"another header hash", b.HeaderHash.String(), strings.Repeat("0", 64)},
		{"another timestamp in the header", `"timestamp":1700000000020`, `"timestamp":1700000000021`},
		{"no certificate", `"certificate":{`, `"certificate":null,"x":{`},
		{"no proposer's signature", `"signature":"` + b.Signature.String() + `"`, `"signature":null`},
		{"no commitment, the header names one", `"commitment":{`, `"commitment":null,"x":{`},
		{"a commitment of another epoch", `"epoch":0`, `"epoch":1`},
		{"another proof of the commitment", `"proof":"+`, `"proof":"/`},
		{"the messages are missing", `"messages":[`, `"messages":[],"x":[`},
		{"another timestamp of a message", `"timestamp":9`, `"timestamp":8`},
		{"another id of a message", b.Messages[1].ID.String(), b.Messages[2].ID.String()},
		{"a strength that is not the number of votes", `"strength":3`, `"strength":4`},
	})
	refuse := func(why string, f *chain.FinalBlock) { s.refuse(kind, why, s.json(shown(f))) }
	fresh := func(alter func(*chain.FinalBlock)) *chain.FinalBlock {
		return w.block(w.genesis.Header(), alter, testMessages()...)
	}
	refuse("two votes of four, the threshold is three", w.certify(fresh(nil), chain.Finalize, 0, 1))
	refuse("a notarization", w.certify(fresh(nil), chain.Notarize, 0, 1, 2))
	refuse("a header of another chain, signed", fresh(func(f *chain.FinalBlock) { f.Header.ChainID = "other" }))
	refuse("a header of protocol version 1, signed", fresh(func(f *chain.FinalBlock) { f.Header.ProtocolVersion = 1 }))
	refuse("a state height of 2^53, signed", fresh(func(f *chain.FinalBlock) { f.Header.StateHeight = 1 << 53 }))
	signed := fresh(nil)
	signed.Signature = first.Signature
	refuse("a proposer's signature of another block", signed)
	fewer := fresh(nil)
	fewer.Messages = fewer.Messages[:2]
	refuse("a message is missing", fewer)
	swapped := fresh(nil)
	slices.Reverse(swapped.Messages)
	refuse("the messages in another order", swapped)
	added := fresh(nil)
	added.Commitment = first.Commitment
	refuse("a commitment that the header does not name", added)
	changing := w.change(w.genesis.Header(), 1, 4, func(f *chain.FinalBlock, _ *chain.NextSet) { f.Header.Height = 3 })
	text = s.accept(kind, "a change of the validators", s.json(shown(changing)))
	s.change(kind, text, [][3]string{
		{"no change, the header names one", `"change":{`, `"change":null,"x":{`},
		{"another name in the change", `"name":"v0"`, `"name":"v7"`},
		{"another threshold in the change", `"threshold":4`, `"threshold":3`},
		{"an unknown member in the change", `"change":{`, `"change":{"note":1,`},
	})
	unnamed := fresh(nil)
	unnamed.Change = changing.Change
	refuse("a change that the header does not name", unnamed)
	s.change(kind, zero, [][3]string{
		{"another timestamp in block 0", `"timestamp":1700000000000`, `"timestamp":1700000000001`},
		{"a signature in block 0", `"signature":null`, `"signature":"` + first.Signature.String() + `"`},
		{"a message in block 0", `"messages":[]`, `"messages":[` + string(s.json(b.Messages[0])) + `]`},
	})
}

func (s *sampler) proofs(w *world) {
	const kind = "proof"
	included, absent := w.proofs(s.t)
	text := s.accept(kind, "the message is in the state", s.json(included))
	other := s.accept(kind, "the message is not in the state", s.json(absent))
	s.accept(kind, "a member of a newer node", bytes.Replace(text, []byte(`{"id":`), []byte(`{"note":[],"id":`), 1))
	s.syntax(kind, text)
	s.twice(kind, text, "height", "1")
	s.twice(kind, text, "kind", `"inclusion"`)
	s.numbers(kind, text, "height", 1, document.MaxNumber)
	s.base64(kind, text)
	s.hex(kind, text, "id", included.ID.String())
	s.hex(kind, text, "key", included.ID.String())
	root := included.Root.String()
	bit := fmt.Sprintf(`"bit":%d`, included.Proof.Branches[0].Bit)
	s.change(kind, text, [][3]string{
		{"an unknown member in the trie proof", `"proof":{`, `"proof":{"note":1,`},
		{"an unknown member in a node", `"nodes":[{`, `"nodes":[{"note":1,`},
		{"a name in other letters beside the right one", `"kind":"inclusion"`, `"Kind":"absence","kind":"inclusion"`},
		{"an unknown kind", `"kind":"inclusion"`, `"kind":"Inclusion"`},
		{"another kind", `"kind":"inclusion"`, `"kind":"absence"`},
		{"a root with a bit", `"nodes":[{`, `"nodes":[{"bit":1,`},
		{"null for the bit of the root", `"nodes":[{`, `"nodes":[{"bit":null,`},
		{"null for the bit of a branch", bit, `"bit":null`},
		{"a branch without its bit", bit + `,`, ``},
		{"a bit above 255", bit, `"bit":256`},
		{"another bit", bit, `"bit":255`},
		{"zeros for null", `"root":"` + root + `","nodes"`, `"root":"` + strings.Repeat("0", 64) + `","nodes"`},
		{"another root than the trie proof's", `"root":"` + root + `"`, `"root":"` + strings.Repeat("1", 64) + `"`},
		{"a message that is in the state is said not to be", `"included":true`, `"included":false`},
		{"the header is not there", `"header":{`, `"x":{`},
		{"it is not certified", `"certified":true`, `"certified":false`},
		{"another height", `"height":1`, `"height":2`},
		{"an unknown member in the header", `"header":{`, `"header":{"note":1,`},
		{"an unknown member in the certificate", `"certificate":{`, `"certificate":{"note":1,`},
		{"another state root in the header", `"state_root":"` + root, `"state_root":"` + strings.Repeat("1", 64)},
		{"a strength that is not the number of votes", `"strength":3`, `"strength":4`},
	})
	s.change(kind, other, [][3]string{
		{"a message that is not in the state is said to be", `"included":false`, `"included":true`},
		{"another message that is not in the state", `"id":"` + absent.ID.String(), `"id":"` + chain.Message{Data: []byte("x")}.ID().String()},
	})
}

func (s *sampler) files(w *world) {
	key := w.genesis.Validators[0].PublicKey.String()
	const peers, configuration, submission = "peers", "configuration", "submission"
	text := s.accept(peers, "", []byte(`{"peers":[{"name":"v0","public_key":"`+key+`","address":"v0.example:7700"}]}`))
	s.accept(peers, "YAML", []byte("# who is where\npeers:\n- name: v0\n  public_key: "+key+"\n"))
	s.members(peers, text, "peers", "public_key")
	s.twice(peers, text, "name", `"v0"`)
	s.hex(peers, text, "public_key", key)
	s.keys(peers, text, w.genesis.Validators[0].PublicKey)
	s.change(peers, text, [][3]string{
		{"a byte order mark", `{"peers"`, "\ufeff" + `{"peers"`},
		{"a second document behind the first", `]}`, "]}\n---\n{}"},
		{"a number for a name", `"name":"v0"`, `"name":0`},
		{"null for the peers", `"peers":[`, `"peers":null,"x":[`},
		{"a name that is not UTF-8", `"name":"v0"`, "\"name\":\"v\xff\""},
	})
	text = s.accept(configuration, "", []byte("name: v0\nlimits:\n  historyHeights: 128\n  maxPoolBytes: 64Mi\n"))
	s.accept(configuration, "JSON", []byte(`{"name":"v0","limits":{"historyHeights":128}}`))
	s.change(configuration, text, [][3]string{
		{"a byte order mark", "name", "\ufeffname"},
		{"an unknown member", "name: v0", "name: v0\nnote: x"},
		{"a name in other letters", "name: v0", "name: v0\nName: v1"},
		{"a name in other letters within", "historyHeights", "historyheights"},
		{"a member named twice", "name: v0", "name: v0\nname: v0"},
		{"a member named twice within", "  historyHeights: 128\n", "  historyHeights: 128\n  historyHeights: 128\n"},
		{"a second document behind the first", "64Mi\n", "64Mi\n---\nname: v1\n"},
		{"a number for a name", "name: v0", "name: 7"},
		{"a fraction", "128", "128.5"},
		{"a number in a string", "128", "'128'"},
		{"null for an object", "limits:\n  historyHeights: 128\n  maxPoolBytes: 64Mi\n", "limits:\n"},
		{"a name that is not UTF-8", "name: v0", "name: v\xff"},
	})
	text = s.accept(submission, "", []byte(`{"data":"+/8="}`))
	many := s.accept(submission, "", []byte(`{"messages":[{"data":"+/8="},{"d\u0061ta":"AA=="}]}`))
	s.syntax(submission, text)
	s.base64(submission, text)
	s.Refused = slices.DeleteFunc(s.Refused, func(r documenttest.Sample) bool { // any data may be submitted
		return r.Kind == submission && (r.Why == "other data" || r.Why == "data in hex")
	})
	s.members(submission, text, "data", "data")
	s.twice(submission, text, "data", `"+/8="`)
	s.change(submission, many, [][3]string{
		{"the messages twice", `{"messages":`, `{"messages":[{"data":"AA=="}],"messages":`},
		{"a name in other letters", `{"messages":`, `{"Messages":`},
		{"a name with a letter that folds to s", `{"messages":`, `{"me\u017fsages":`},
		{"an unknown member in a message", `{"data"`, `{"timestamp":1,"data"`},
		{"a member of a message in other letters", `{"data"`, `{"Data":"AA==","data"`},
		{"a member of a message twice", `{"data":"+/8="`, `{"data":"+/8=","data":"+/8="`},
		{"one message beside many", `{"messages":`, `{"data":"AA==","messages":`},
		{"null for the messages", `{"messages":[`, `{"messages":null,"x":[`},
		{"null for a message", `{"data":"+/8="}`, `null`},
	})
}

// The file of refused documents is what this test makes of one small chain: go test ./client -run
// Refused -update writes it anew.
func TestTheFileOfRefusedDocuments(t *testing.T) {
	w := newWorld(t)
	s := &sampler{t: t}
	s.genesis(w)
	s.receipts(w)
	s.checkpoints(w)
	s.changes(w)
	s.evidence(w)
	s.identities(w)
	s.blocks(w)
	s.proofs(w)
	s.files(w)
	var got bytes.Buffer
	e := json.NewEncoder(&got)
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	if err := e.Encode(s.Samples); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(refusedFile, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(refusedFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Errorf("%s is not what this test makes", refusedFile)
	}
}

// Promise 43.
func TestRefusedDocumentsAreRefused(t *testing.T) {
	samples := documenttest.Read(t, refusedFile, "block", "proof", "changes")
	genesis := documenttest.Read(t, refusedFile, "genesis").Accepted[0]
	g, err := chain.ReadGenesis(bytes.NewReader(genesis.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	documenttest.Check(t, samples, func(s documenttest.Sample) error {
		if s.Kind == "block" {
			b := &Block{}
			if err := document.UnmarshalAnswer(s.Bytes(), b); err != nil {
				return err
			}
			return b.Verify(g, 0)
		}
		if s.Kind == "changes" {
			var page changesPage
			if err := document.UnmarshalAnswer(s.Bytes(), &page); err != nil {
				return err
			}
			return g.Eras().FollowFinal(page.Changes...)
		}
		p := &Proof{}
		if err := document.UnmarshalAnswer(s.Bytes(), p); err != nil {
			return err
		}
		return p.Verify(g, 0)
	})
}
