package target

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/ledger"
	"github.com/diseq/diseq/node/ledger/ledgertest"
)

const chainID = "target"

func key(i int) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed([]byte(strings.Repeat(string(rune('a'+i)), ed25519.SeedSize)))
}

// member is validator i of every set that it is in.
func member(i int) chain.NamedValidator {
	return chain.NamedValidator{
		Name: fmt.Sprint("v", i), Validator: chain.Validator{PublicKey: chain.PublicKeyOf(key(i)), VRFKey: chain.VRFKey{31: byte(i + 1)}},
	}
}

func members(indexes ...int) (out []chain.NamedValidator) {
	for _, i := range indexes {
		out = append(out, member(i))
	}
	return out
}

// sent is an endorsement on its way to a peer.
type sent struct {
	to chain.PublicKey
	chain.Endorsed
}

// room is the follower of validator 0, with everything around it in memory.
type room struct {
	*Follower
	ledger *ledger.Ledger
	peers  []chain.PublicKey
	heard  map[chain.PublicKey]uint64
	asked  []chain.PublicKey

	mu   sync.Mutex
	sent []sent
}

func (r *room) Connected() []chain.PublicKey { return r.peers }

func (r *room) Endorse(to chain.PublicKey, e *chain.Endorsed) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sent = append(r.sent, sent{to, *e})
}

// takeSent returns the endorsements sent since the last call.
func (r *room) takeSent() []sent {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := r.sent
	r.sent = nil
	return out
}

// newRoom returns a room of a chain of n validators that are linked to one another.
func newRoom(t *testing.T, n int, threshold uint32) *room {
	t.Helper()
	g := &chain.Genesis{Version: 1, ChainID: chainID, Threshold: threshold, Parameters: chain.DefaultParameters()}
	r := &room{heard: map[chain.PublicKey]uint64{}}
	for i := range n {
		g.Validators = append(g.Validators, member(i))
		if i > 0 {
			r.peers = append(r.peers, member(i).PublicKey)
		}
	}
	r.ledger = ledgertest.Open(t, g)
	r.Follower = New(Config{
		ChainID: chainID, Self: member(0).Validator, Key: key(0), Ledger: r.ledger, Network: r,
		Final:  func(peer chain.PublicKey) uint64 { return r.heard[peer] },
		Ask:    func(peer chain.PublicKey) { r.asked = append(r.asked, peer) },
		Logger: slog.New(slog.DiscardHandler),
	})
	return r
}

// endorse has a validator endorse a target over its own link.
func (r *room) endorse(t *testing.T, by int, target *chain.Target) {
	t.Helper()
	e := chain.Endorse(key(by), chainID, target.Next(0))
	if err := r.Receive(member(by).PublicKey, &e); err != nil {
		t.Fatal(err)
	}
}

// follow makes a block the tip: with a change, or an empty one.
func (r *room) follow(t *testing.T, change *chain.Change) {
	t.Helper()
	tip := r.ledger.Tip().Block.Header
	b := chain.Block{Header: chain.Header{Height: tip.Height + 1, ValidatorsHash: tip.NextValidatorsHash, NextValidatorsHash: tip.NextValidatorsHash}}
	if change != nil {
		b.Change, b.Header.ChangeHash, b.Header.NextValidatorsHash = change, change.Hash(), change.Next.Set().Hash()
	}
	ledgertest.Append(t, r.ledger, &chain.FinalBlock{Block: b})
	r.Advance()
}

func TestAChangeNeedsAThresholdOfEndorsementsAndOfLinks(t *testing.T) {
	r := newRoom(t, 4, 3)
	target := &chain.Target{Threshold: 4, Validators: members(0, 1, 2, 3, 4)}
	want := func(when string, want bool) {
		t.Helper()
		change := r.Change()
		if (change != nil) != want {
			t.Errorf("%s: change %+v, want one: %v", when, change, want)
		}
		if change != nil {
			if err := r.ledger.Sets().Check(change, r.ledger.Height()+1); err != nil {
				t.Errorf("%s: %v", when, err)
			}
		}
	}
	r.endorse(t, 1, target)
	r.endorse(t, 2, target)
	r.endorse(t, 3, target)
	want("endorsed by all others, and not declared here", false)
	r.Declare(target)
	want("declared here, and linked to four of the five", true)
	r.peers = r.peers[1:]
	want("linked to three", false)
	r.peers = append(r.peers, member(4).PublicKey)
	want("the newcomer is linked instead", true)
	r.endorse(t, 1, &chain.Target{Threshold: 3, Validators: target.Validators})
	want("one endorses another target since", true)
	r.endorse(t, 2, &chain.Target{Threshold: 3, Validators: target.Validators})
	want("two do", false)
	r.Declare(nil)
	r.endorse(t, 2, target)
	want("not declared here any more", false)
}

func TestAMemberThatIsBehindIsNotLinked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(t, 2, 2)
		for range near + 1 {
			r.follow(t, nil)
		}
		next := (&chain.Target{Threshold: 2, Validators: members(0, 1)}).Next(0)
		for i, c := range []struct {
			says   uint64
			linked bool
			asked  int
		}{{0, false, 1}, {0, false, 1}, {1, true, 1}} {
			r.heard[r.peers[0]] = c.says
			if got := r.Linked(next); got != c.linked || len(r.asked) != c.asked {
				t.Errorf("look %d, at height %d of %d: linked %v, asked %d times", i, c.says, r.ledger.Height(), got, len(r.asked))
			}
		}
		r.heard[r.peers[0]] = 0
		time.Sleep(retryInterval)
		if r.Linked(next) || len(r.asked) != 2 {
			t.Errorf("after T_retry: asked %d times, want 2", len(r.asked))
		}
	})
}

// A target is endorsed if the chain allows it as the next set, and only by a member.
func TestOnlyAValidTargetIsEndorsed(t *testing.T) {
	otherVRF := member(0)
	otherVRF.VRFKey[31] = 99
	for _, c := range []struct {
		name    string
		target  chain.Target
		problem string
	}{
		{"grow", chain.Target{Threshold: 4, Validators: members(0, 1, 2, 3, 4)}, ""},
		{"shrink", chain.Target{Threshold: 1, Validators: members(0)}, ""},
		{"the same again", chain.Target{Threshold: 3, Validators: members(0, 1, 2, 3)}, ""},
		{"without this node", chain.Target{Threshold: 3, Validators: members(1, 2, 3)}, ""},
		{"of another generation", chain.Target{Follows: 1, Threshold: 4, Validators: members(0, 1, 2, 3, 4)}, "it follows generation 1"},
		{"a threshold too low", chain.Target{Threshold: 2, Validators: members(0, 1, 2, 3)}, "threshold 2"},
		{"a name of another key", chain.Target{Threshold: 3, Validators: append(members(1, 2, 3), renamed(4, "v0"))}, "named v0"},
		{"another VRF key of this node", chain.Target{Threshold: 3, Validators: append(members(1, 2, 3), otherVRF)}, "v0"},
		{"nobody", chain.Target{}, "0"},
	} {
		r := newRoom(t, 4, 3)
		r.Declare(&c.target)
		s := r.Status()
		if s.Target.Endorsed != (c.problem == "") || !strings.Contains(s.Target.Problem, c.problem) || (s.Target.Problem == "") != (c.problem == "") {
			t.Errorf("%s: %+v, want a problem with %q", c.name, s.Target, c.problem)
		}
		if want := len(r.peers); c.problem == "" && len(r.sent) != want || c.problem != "" && len(r.sent) != 0 {
			t.Errorf("%s: sent %d endorsements", c.name, len(r.sent))
		}
		for _, e := range r.sent {
			if err := e.Verify(chainID, member(0).PublicKey); err != nil || e.Next != c.target.Next(0).Hash() || e.Generation != 1 {
				t.Errorf("%s: sent %+v: %v", c.name, e, err)
			}
		}
	}
	outside := newRoom(t, 4, 3)
	outside.cfg.Self, outside.cfg.Key = member(7).Validator, key(7)
	outside.Declare(&chain.Target{Threshold: 3, Validators: members(0, 1, 2, 7)})
	if s := outside.Status(); s.Target.Endorsed || s.Target.Problem != "" || len(outside.sent) > 0 {
		t.Errorf("a node that is no member: %+v, sent %v", s.Target, outside.sent)
	}
}

func renamed(i int, name string) chain.NamedValidator {
	v := member(i)
	v.Name = name
	return v
}

// An old endorsement that another node holds cannot be played again, and a member has one.
func TestAnEndorsementIsTakenFromItsMakerAlone(t *testing.T) {
	r := newRoom(t, 4, 3)
	target := &chain.Target{Threshold: 3, Validators: members(0, 1, 2)}
	e := chain.Endorse(key(1), chainID, target.Next(0))
	if err := r.Receive(member(2).PublicKey, &e); !errors.Is(err, chain.ErrSignature) {
		t.Errorf("from another member: %v, want ErrSignature", err)
	}
	stranger := chain.Endorse(key(9), chainID, target.Next(0))
	old := chain.Endorse(key(1), chainID, (&chain.Target{Follows: 5, Threshold: 3, Validators: target.Validators}).Next(0))
	if err := errors.Join(r.Receive(member(9).PublicKey, &stranger), r.Receive(member(1).PublicKey, &old)); err != nil {
		t.Errorf("of a stranger, and of another generation: %v, want them ignored", err)
	}
	if s := r.Status(); len(s.Endorsements) > 0 {
		t.Errorf("holds %+v", s.Endorsements)
	}
	if err := r.Receive(member(1).PublicKey, &e); err != nil {
		t.Fatal(err)
	}
	if s := r.Status(); len(s.Endorsements) != 1 || s.Endorsements[0] != (EndorsementStatus{"v1", member(1).PublicKey, 1, e.Next}) {
		t.Errorf("holds %+v, want that of v1", s.Endorsements)
	}
}

// A member that changes its mind all the time makes this node check no more than a few of its
// endorsements. The others go on.
//
// Promise 50.
func TestAFloodOfEndorsementsIsNotChecked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(t, 4, 3)
		for i := range 10 * endorsementsAtOnce {
			target := &chain.Target{Threshold: uint32(2 + i%2), Validators: members(0, 1, 2)}
			e := chain.Endorse(key(1), chainID, target.Next(0))
			if i > 5*endorsementsAtOnce { // a forged one would be the sender's fault, if it was looked at
				e.Signature[0]++
			}
			if err := r.Receive(member(1).PublicKey, &e); err != nil {
				t.Fatalf("endorsement %d was checked: %v", i, err)
			}
		}
		other := chain.Endorse(key(2), chainID, (&chain.Target{Threshold: 3, Validators: members(0, 1, 2)}).Next(0))
		if err := r.Receive(member(2).PublicKey, &other); err != nil {
			t.Fatal(err)
		}
		if s := r.Status(); len(s.Endorsements) != 2 {
			t.Errorf("holds %+v, want those of v1 and v2", s.Endorsements)
		}
	})
}

// Endorsements of an era that is over do not count again.
func TestASetThatComesIntoForceLeavesEndorsementsBehind(t *testing.T) {
	r := newRoom(t, 4, 3)
	target := &chain.Target{Threshold: 4, Validators: members(0, 1, 2, 3)}
	r.Declare(target)
	for i := 1; i < 4; i++ {
		r.endorse(t, i, target)
	}
	change := r.Change()
	if change == nil {
		t.Fatal("no change")
	}
	r.follow(t, nil)
	if r.Change() == nil {
		t.Error("no change after a block without one")
	}
	r.follow(t, change)
	s := r.Status()
	if r.Change() != nil || len(s.Endorsements) > 0 || s.Target.Problem != "it is in force since height 3, as generation 1" || s.Target.Endorsed {
		t.Errorf("after the change: change %+v, status %+v", r.Change(), s)
	}
}

// This node's endorsement goes out when the target is declared, when a link opens and every
// T_retry. An older one does not.
func TestAnEndorsementIsSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(t, 2, 2)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { r.Run(ctx); close(ended) }()
		want := func(when string, want ...chain.PublicKey) {
			t.Helper()
			synctest.Wait()
			var to []chain.PublicKey
			for _, e := range r.takeSent() {
				to = append(to, e.to)
			}
			if !slices.Equal(to, want) {
				t.Errorf("%s: sent to %v, want %v", when, to, want)
			}
		}
		peer, other := member(1).PublicKey, member(9).PublicKey
		r.Declare(&chain.Target{Threshold: 2, Validators: members(0, 1)})
		want("declared", peer)
		r.LinkUp(other)
		want("a link has opened", other)
		time.Sleep(retryInterval)
		want("after T_retry", peer)
		r.Declare(nil)
		r.LinkUp(other)
		time.Sleep(retryInterval)
		want("withdrawn")
		cancel()
		<-ended
	})
}
