package guests

import (
	"fmt"
	"slices"
	"testing"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/ledger"
	"github.com/diseq/diseq/node/ledger/ledgertest"
	"github.com/diseq/diseq/node/peer"
	"github.com/diseq/diseq/node/peersfile"
)

func member(i byte) chain.NamedValidator {
	return chain.NamedValidator{
		Name: fmt.Sprint("v", i), Validator: chain.Validator{PublicKey: chain.PublicKey{i}, VRFKey: chain.VRFKey{31: i}},
	}
}

// grow makes a block the tip that brings a set with these members into force, or an empty block.
func grow(t *testing.T, l *ledger.Ledger, next ...chain.NamedValidator) {
	t.Helper()
	tip := l.Tip().Block.Header
	b := chain.Block{Header: chain.Header{Height: tip.Height + 1, ValidatorsHash: tip.NextValidatorsHash, NextValidatorsHash: tip.NextValidatorsHash}}
	if len(next) > 0 {
		b.Change = &chain.Change{Next: chain.NextSet{
			Generation: l.Sets().Open().Generation + 1, Threshold: uint32(len(next)), Validators: next,
		}}
		b.Header.ChangeHash, b.Header.NextValidatorsHash = b.Change.Hash(), b.Change.Next.Set().Hash()
	}
	ledgertest.Append(t, l, &chain.FinalBlock{Block: b})
}

// The members of both sets at the tip are let in although the peers file has no entry for them. A
// member that has left stays for as long as the file names it.
//
// Promise 48.
func TestMembersOfBothSetsAtTheTipAreGuests(t *testing.T) {
	g := &chain.Genesis{
		Version: 1, ChainID: "guests", Threshold: 2, Parameters: chain.DefaultParameters(), Validators: []chain.NamedValidator{member(1), member(2)},
	}
	l := ledgertest.Open(t, g)
	file := &peersfile.File{Peers: []peersfile.Entry{
		{Name: "self", PublicKey: chain.PublicKey{1}, Address: "self:1"}, {Name: "guest", PublicKey: chain.PublicKey{7}, Address: "guest:1"},
	}}
	var admitted []peer.Peer
	list := New(chain.PublicKey{1}, l, file, func(peers []peer.Peer) { admitted = peers })
	want := func(when string, want ...peer.Peer) {
		t.Helper()
		if !slices.Equal(admitted, want) || !slices.Equal(list.Peers(), want) {
			t.Errorf("%s: admitted %+v and lists %+v, want %+v", when, admitted, list.Peers(), want)
		}
	}
	guest := peer.Peer{Key: chain.PublicKey{7}, Name: "guest", Address: "guest:1"}
	two, three := peer.Peer{Key: chain.PublicKey{2}, Name: "v2"}, peer.Peer{Key: chain.PublicKey{3}, Name: "v3"}
	list.Read(file)
	want("at genesis", guest, two)
	grow(t, l, member(1), member(3))
	list.Advance()
	want("a change is final", guest, three, two)
	grow(t, l)
	list.Advance()
	want("the height after it is final", guest, three)
	moved := peersfile.Entry{Name: "two", PublicKey: chain.PublicKey{2}, Address: "two:1"}
	list.Read(&peersfile.File{Peers: append(slices.Clone(file.Peers), moved)})
	want("the file names who has left", guest, peer.Peer{Key: chain.PublicKey{2}, Name: "two", Address: "two:1"}, three)
}

// Promise 71.
func TestBelowTheCheckpointThePeersFileAloneIsTrusted(t *testing.T) {
	g := &chain.Genesis{
		Version: 1, ChainID: "guests", Threshold: 1, Parameters: chain.DefaultParameters(), Validators: []chain.NamedValidator{member(2)},
	}
	l := ledgertest.Open(t, g)
	var admitted []peer.Peer
	list := New(chain.PublicKey{1}, l, &peersfile.File{}, func(peers []peer.Peer) { admitted = peers })
	list.Read(&peersfile.File{Checkpoint: &chain.Checkpoint{Height: 2, Hash: chain.Hash{1}}})
	for height := range 3 {
		if got := len(admitted); (got > 0) != (height >= 2) {
			t.Errorf("height %d: %d guests without an entry", height, got)
		}
		grow(t, l)
		list.Advance()
	}
}
