package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"

	"github.com/diseq/diseq/client"
	"github.com/diseq/diseq/node/chain"
)

// state follows from the allocation and the blocks up to a height, and from nothing else.
type state struct {
	Rollup   chain.Hash                  `json:"rollup"` // that of the allocation
	Height   uint64                      `json:"height"`
	Block    chain.Hash                  `json:"block"`
	Trust    *chain.ReaderCheckpoint     `json:"trust"` // the validator set of the next block
	Accounts map[chain.PublicKey]account `json:"accounts"`
}

type account struct {
	Balance uint64 `json:"balance"`
	Nonce   uint64 `json:"nonce"` // that of the next transfer
}

// A transfer is the content of a message that the sender signs. It is for one rollup of one chain.
type transfer struct {
	Rollup chain.Hash
	// State is the hash of the state that the sender derived, which is the sender's word for it. A
	// transfer of nothing is that word alone.
	State         chain.Hash
	To            chain.PublicKey
	Amount, Nonce uint64
}

// parse returns the transfer to this rollup in a message; nil for messages of others. Each transfer
// has one encoding.
func (s *state) parse(data []byte) (*client.SignedMessage, *transfer) {
	t, n := &transfer{}, 0
	message, err := client.ParseSigned(data)
	if err == nil {
		n, err = binary.Decode(message.Content, binary.BigEndian, t)
	}
	if err != nil || n != len(message.Content) || t.Rollup != s.Rollup {
		return nil, nil
	}
	return message, t
}

// apply carries out the transfer in a message. After an error the state is as it was.
func (s *state) apply(data []byte) (*transfer, error) {
	message, t := s.parse(data)
	if t == nil || t.Amount == 0 {
		return nil, nil
	}
	if err := message.Verify(s.Trust.ChainID); err != nil {
		return t, err
	}
	from := s.Accounts[message.Author]
	switch {
	case t.Nonce != from.Nonce:
		return t, fmt.Errorf("it has nonce %d, and the next transfer of the sender has %d", t.Nonce, from.Nonce)
	case t.Amount > from.Balance || t.Amount > math.MaxUint64-s.Accounts[t.To].Balance:
		return t, fmt.Errorf("the sender has %d, the receiver %d", from.Balance, s.Accounts[t.To].Balance)
	}
	s.Accounts[message.Author] = account{from.Balance - t.Amount, from.Nonce + 1}
	to := s.Accounts[t.To] // this may be the sender
	s.Accounts[t.To] = account{to.Balance + t.Amount, to.Nonce}
	return t, nil
}

// encode returns the one encoding of the state. A rollup of many accounts signs the root of a tree
// in the place of its hash, so that a proof has a path and not all accounts.
func (s *state) encode() []byte {
	b, _ := json.Marshal(s) // no such value fails, and the keys of maps are sorted
	return b
}

// begin returns the state before the first block.
func begin(document, allocation []byte) (*state, error) {
	genesis, err := chain.ReadGenesis(bytes.NewReader(document))
	if err != nil {
		return nil, err
	}
	first := genesis.Eras().First()
	s := &state{Rollup: sha256.Sum256(allocation), Block: first.Hash, Trust: first}
	if err := json.Unmarshal(allocation, &s.Accounts); err != nil {
		return nil, fmt.Errorf("the allocation: %w", err)
	}
	return s, nil
}

// load goes on from a file of save, if it is there.
func (s *state) load(path string) error {
	document, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	saved := &state{}
	if err != nil || json.Unmarshal(document, saved) != nil || !bytes.Equal(saved.encode(), document) {
		return errors.Join(fmt.Errorf("%s is damaged or cut off: remove it, and the next run derives the state again", path), err)
	}
	if saved.Rollup != s.Rollup || saved.Trust.ChainID != s.Trust.ChainID {
		return fmt.Errorf("%s is of another chain or allocation: name another file with -state", path)
	}
	*s = *saved
	return nil
}

func (s *state) save(path string) error {
	if err := os.WriteFile(path+".new", s.encode(), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
