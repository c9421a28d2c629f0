package client

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/diseq/diseq/node/chain"
)

func author(seed byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize))
}

func signed(t testing.TB, content string) *SignedMessage {
	t.Helper()
	m, err := Sign(author(1), "demo", []byte(content))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// Promise 82.
func TestASignedMessageShowsItsAuthor(t *testing.T) {
	for _, content := range []string{"", "order 1", strings.Repeat("x", 1<<20)} {
		m := signed(t, content)
		data := m.Encode()
		if len(data) != len(content)+SignedOverhead("demo") {
			t.Errorf("%d bytes for %d of content, the overhead is %d", len(data), len(content), SignedOverhead("demo"))
		}
		read, err := ParseSigned(data)
		must(t, err)
		must(t, read.Verify("demo"))
		if read.Author != chain.PublicKeyOf(author(1)) || string(read.Content) != content || read.ChainID != "demo" {
			t.Errorf("read back as %+.200v", read)
		}
		// Repeating a submission is safe: it is the same message.
		if !bytes.Equal(signed(t, content).Encode(), data) {
			t.Error("the same content signed again is another message")
		}
	}
	m := signed(t, "order 1")
	if err := m.Verify("other"); err == nil || !strings.Contains(err.Error(), `for chain "demo"`) {
		t.Errorf("on another chain: %v", err)
	}
	// Without its chain in the signature, a message could be carried to the other chain.
	m.ChainID = "other"
	if err := m.Verify("other"); !errors.Is(err, chain.ErrSignature) {
		t.Errorf("with the name of another chain written over: %v", err)
	}
	for chainID, key := range map[string]ed25519.PrivateKey{"": author(1), strings.Repeat("x", 65): author(1), "demo": nil} {
		if _, err := Sign(key, chainID, nil); err == nil {
			t.Errorf("signed for chain %q with a key of %d bytes", chainID, len(key))
		}
	}
}

// A signed message cannot be changed into another one that verifies. So what an author signed once
// is in the chain once.
//
// Promise 82.
func TestNobodyMakesASecondMessageOfASignedOne(t *testing.T) {
	m := signed(t, "order 1")
	data := m.Encode()
	try := func(what string, other []byte) {
		t.Helper()
		if read, err := ParseSigned(other); err == nil && read.Author == m.Author && read.Verify("demo") == nil {
			t.Errorf("%s: verifies as a message of the same author", what)
		}
	}
	for i := range data {
		for bit := range 8 {
			other := bytes.Clone(data)
			other[i] ^= 1 << bit
			try("a bit changed", other)
		}
		try("a byte left out", slices.Delete(bytes.Clone(data), i, i+1))
		try("a byte put in", slices.Insert(bytes.Clone(data), i, 0))
	}
	try("a byte behind", append(bytes.Clone(data), 0))
	// The other S of the same signature: S plus the group's order.
	order, _ := new(big.Int).SetString("1000000000000000000000000000000014def9dea2f79cd65812631a5cf5d3ed", 16)
	s := bytes.Clone(m.Signature[32:])
	slices.Reverse(s)
	sum := new(big.Int).Add(new(big.Int).SetBytes(s), order).FillBytes(make([]byte, 32))
	slices.Reverse(sum)
	try("S plus the order of the group", append(bytes.Clone(data[:len(data)-32]), sum...))
	// A key under which a constant signs everything.
	weak := &SignedMessage{ChainID: "demo", Author: chain.PublicKey{1}, Content: []byte("x"), Signature: chain.Signature{1}}
	if !ed25519.Verify(weak.Author[:], weak.signed(), weak.Signature[:]) {
		t.Fatal("the attack does not work, so nothing is tested")
	}
	if err := weak.Verify("demo"); err == nil || !strings.Contains(err.Error(), "small order") {
		t.Errorf("the neutral element as author: %v", err)
	}
}

// signedVector is a message for other implementations.
type signedVector struct {
	Case    string          `json:"case"`
	ChainID string          `json:"chain_id,omitempty"`
	Author  chain.PublicKey `json:"author,omitzero"`
	Content string          `json:"content,omitempty"` // hex
	Data    string          `json:"data"`              // hex
	ID      chain.Hash      `json:"id,omitzero"`
	Valid   bool            `json:"valid"`
}

// TestSignedVectors holds what docs/protocol.md points to. go test ./client -run SignedVectors
// -update writes it anew.
//
// Promise 53.
func TestSignedVectors(t *testing.T) {
	m := signed(t, "order 1")
	data := m.Encode()
	other := signed(t, "order 1")
	other.ChainID = "other"
	shorter := bytes.Clone(data)
	shorter[len(data)-64-len(m.Content)-1]--
	out := []signedVector{
		{"of the author with the seed 01 32 times, on chain demo", m.ChainID, m.Author, hex.EncodeToString(m.Content), hex.EncodeToString(data),
			chain.Message{Data: data}.ID(), true},
		{Case: "the signature is of another chain", Data: hex.EncodeToString(other.Encode())},
		{Case: "the content is cut by a byte", Data: hex.EncodeToString(shorter)},
		{Case: "a byte behind the signature", Data: hex.EncodeToString(append(bytes.Clone(data), 0))},
		{Case: "version 2", Data: strings.Replace(hex.EncodeToString(data), "534d01", "534d02", 1)},
		{Case: "an author of small order", Data: hex.EncodeToString(
			(&SignedMessage{ChainID: "demo", Author: chain.PublicKey{1}, Signature: chain.Signature{1}}).Encode())},
	}
	for _, v := range out {
		raw, err := hex.DecodeString(v.Data)
		must(t, err)
		read, err := ParseSigned(raw)
		if err == nil {
			err = read.Verify("demo")
		}
		if (err == nil) != v.Valid {
			t.Errorf("%s: %v", v.Case, err)
		}
	}
	got, err := json.MarshalIndent(out, "", " ")
	must(t, err)
	got = append(got, '\n')
	path := filepath.Join("testdata", "signed.json")
	if *update {
		must(t, os.WriteFile(path, got, 0o644))
	}
	want, err := os.ReadFile(path)
	must(t, err)
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not what this test makes:\n%s", path, got)
	}
}

// FuzzParseSigned reads whatever somebody submitted: what is taken for a signed message has no
// other encoding, and verifies only if the key of its author signed it.
//
// Promise 37.
func FuzzParseSigned(f *testing.F) {
	m := signed(f, "order 1")
	f.Add(m.Encode())
	f.Add(m.Encode()[:40])
	f.Add([]byte(signedMagic + "\x01\xff\xff\xff\xff"))
	f.Add([]byte("order 1"))
	f.Add((&SignedMessage{ChainID: "demo", Author: chain.PublicKey{1}, Signature: chain.Signature{1}}).Encode())
	f.Fuzz(func(t *testing.T, data []byte) {
		read, err := ParseSigned(data)
		if err != nil {
			if !errors.Is(err, ErrNotSigned) {
				t.Errorf("error %v, want ErrNotSigned", err)
			}
			return
		}
		if !bytes.Equal(read.Encode(), data) {
			t.Errorf("%x is read as the message of %x", data, read.Encode())
		}
		if read.Verify(read.ChainID) == nil && (read.Author != m.Author || !bytes.Equal(data, m.Encode())) {
			t.Errorf("%x verifies: nobody signed it", data)
		}
	})
}
