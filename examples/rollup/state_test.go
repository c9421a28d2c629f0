package main

import (
	"bytes"
	"crypto/ed25519"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/diseq/diseq/client"
	"github.com/diseq/diseq/node/chain"
)

func testKey(seed byte) (ed25519.PrivateKey, chain.PublicKey) {
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize))
	return key, chain.PublicKeyOf(key)
}

// testGenesis is the genesis document of the recorded chain in the test vectors.
func testGenesis(t *testing.T) []byte {
	t.Helper()
	raw, err := os.ReadFile("../../node/chain/testdata/refused.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Accepted []struct{ Kind, Text string }
	}
	if err := json.Unmarshal(raw, &file); err != nil {
		t.Fatal(err)
	}
	for _, s := range file.Accepted {
		if s.Kind == "genesis" {
			return []byte(s.Text)
		}
	}
	t.Fatal("the vectors have no genesis document")
	return nil
}

// testState begins with 100 of the first key.
func testState(t *testing.T) *state {
	t.Helper()
	_, alice := testKey(1)
	s, err := begin(testGenesis(t), fmt.Appendf(nil, `{"%v": {"balance": 100}}`, alice))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func signed(t *testing.T, key ed25519.PrivateKey, chainID string, content any) []byte {
	t.Helper()
	b, err := binary.Append(nil, binary.BigEndian, content)
	if err != nil {
		t.Fatal(err)
	}
	m, err := client.Sign(key, chainID, b)
	if err != nil {
		t.Fatal(err)
	}
	return m.Encode()
}

func TestTransfersMoveBalances(t *testing.T) {
	s := testState(t)
	aliceKey, alice := testKey(1)
	bobKey, bob := testKey(2)
	for _, step := range []struct {
		key    ed25519.PrivateKey
		to     chain.PublicKey
		amount uint64
		nonce  uint64
	}{{aliceKey, bob, 30, 0}, {bobKey, alice, 5, 0}, {aliceKey, alice, 75, 1}, {aliceKey, bob, 75, 2}} {
		if got, err := s.apply(signed(t, step.key, s.Trust.ChainID, transfer{Rollup: s.Rollup, To: step.to, Amount: step.amount, Nonce: step.nonce})); got == nil || err != nil {
			t.Fatalf("%+v: %v, %v", step, got, err)
		}
	}
	if s.Accounts[alice] != (account{0, 3}) || s.Accounts[bob] != (account{100, 1}) {
		t.Errorf("accounts %v", s.Accounts)
	}
}

// A message of somebody else, or a transfer that is refused, leaves the state byte for byte as it
// was.
func TestRefusedTransfersChangeNothing(t *testing.T) {
	s := testState(t)
	aliceKey, alice := testKey(1)
	bobKey, bob := testKey(2)
	good := transfer{Rollup: s.Rollup, To: bob, Amount: 10}
	with := func(change func(*transfer)) transfer {
		t := good
		change(&t)
		return t
	}
	first := signed(t, aliceKey, s.Trust.ChainID, good)
	if _, err := s.apply(first); err != nil {
		t.Fatal(err)
	}
	s.Accounts[bob] = account{Balance: math.MaxUint64 - 5}
	next := with(func(t *transfer) { t.Nonce = 1 })
	forged := signed(t, aliceKey, s.Trust.ChainID, next)
	forged[len(forged)-1]++
	stolen := signed(t, bobKey, s.Trust.ChainID, next)
	at := bytes.Index(stolen, bob[:])
	copy(stolen[at:], alice[:]) // bob signs in the name of alice
	for _, c := range []struct {
		name    string
		data    []byte
		refused string // empty for messages of others, which are no transfers here
	}{
		{"a forged signature", forged, "signature"},
		{"another author", stolen, "signature"},
		{"the same message again", first, "it has nonce 0, and the next transfer of the sender has 1"},
		{"a nonce that was used", signed(t, aliceKey, s.Trust.ChainID, with(func(t *transfer) { t.Amount = 20 })), "it has nonce 0"},
		{"a nonce that is not due", signed(t, aliceKey, s.Trust.ChainID, with(func(t *transfer) { t.Nonce = 2 })), "it has nonce 2"},
		{"an overdraft", signed(t, aliceKey, s.Trust.ChainID, with(func(t *transfer) { t.Nonce, t.Amount = 1, 91 })), "the sender has 90"},
		{"a balance that overflows", signed(t, aliceKey, s.Trust.ChainID, next), "the receiver 18446744073709551610"},
		{"another chain", signed(t, aliceKey, "another", next), `the author signed for chain "another"`},
		{"another rollup", signed(t, aliceKey, s.Trust.ChainID, with(func(t *transfer) { t.Rollup[0]++ })), ""},
		{"a transfer and a byte", signed(t, aliceKey, s.Trust.ChainID, struct {
			T    transfer
			More byte
		}{T: next}), ""},
		{"half a transfer", signed(t, aliceKey, s.Trust.ChainID, next.Rollup), ""},
		{"a word on the state alone", signed(t, aliceKey, s.Trust.ChainID, with(func(t *transfer) { t.Amount = 0 })), ""},
		{"a message of somebody else", []byte("hello"), ""},
	} {
		before := s.encode()
		got, err := s.apply(c.data)
		if c.refused == "" && (got != nil || err != nil) {
			t.Errorf("%s: got %v, %v, want nothing", c.name, got, err)
		}
		if c.refused != "" && (err == nil || !strings.Contains(err.Error(), c.refused)) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.refused)
		}
		if !bytes.Equal(before, s.encode()) {
			t.Errorf("%s: the state changed from %s to %s", c.name, before, s.encode())
		}
	}
}

func TestStateFilesThatAreRefused(t *testing.T) {
	s := testState(t)
	_, bob := testKey(2)
	s.Accounts[bob] = account{Balance: 7}
	dir := t.TempDir()
	whole := filepath.Join(dir, "whole")
	if err := s.save(whole); err != nil {
		t.Fatal(err)
	}
	again := testState(t)
	if err := again.load(whole); err != nil || !bytes.Equal(again.encode(), s.encode()) {
		t.Fatalf("a file that was saved: %v", err)
	}
	if err := again.load(filepath.Join(dir, "none")); err != nil {
		t.Errorf("no file: %v", err)
	}
	document := s.encode()
	other := testState(t)
	other.Rollup[0]++
	for _, c := range []struct {
		name    string
		content []byte
		refused string
	}{
		{"empty", nil, "is damaged or cut off: remove it"},
		{"cut off", document[:len(document)-1], "is damaged or cut off: remove it"},
		{"cut off in the middle", document[:len(document)/2], "is damaged or cut off: remove it"},
		{"a member twice", bytes.Replace(document, []byte(`"height":0`), []byte(`"height":9,"height":0`), 1), "is damaged or cut off: remove it"},
		{"no object", []byte("null"), "is damaged or cut off: remove it"},
		{"another allocation", other.encode(), "is of another chain or allocation"},
	} {
		path := filepath.Join(dir, "state.json")
		if err := os.WriteFile(path, c.content, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := testState(t).load(path); err == nil || !strings.Contains(err.Error(), c.refused) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.refused)
		}
	}
	if _, err := begin(testGenesis(t), []byte(`{"x": {}}`)); err == nil {
		t.Error("an allocation with a wrong key was taken")
	}
}
