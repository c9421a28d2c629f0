package voter

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/consensus"
)

// endorse returns the change to a set of these members, endorsed by the validators of genesis named
// by their indices.
func (r *room) endorse(threshold uint32, members []chain.NamedValidator, by ...int) *chain.Change {
	c := &chain.Change{Next: chain.NextSet{
		Generation: 1, Threshold: threshold, SynchronyDeltaMS: r.genesis.SynchronyDeltaMS, Validators: members,
	}}
	for _, i := range by {
		e := chain.Endorse(r.keys[i], r.genesis.ChainID, &c.Next)
		c.Endorsements = append(c.Endorsements, chain.Endorsement{Validator: uint32(i), Signature: e.Signature})
	}
	return c
}

// carry puts a change into a block.
func carry(b *chain.Block, c *chain.Change) {
	b.Change, b.Header.ChangeHash, b.Header.NextValidatorsHash = c, c.Hash(), c.Next.Set().Hash()
}

// The verdict rests on the endorsements and the chain. Links and targets have no part in it.
//
// Promise 69.
func TestAChangeIsValidIfAThresholdEndorsedIt(t *testing.T) {
	r := newRoomOf(t, 0, 2, 2, 0)
	reversed := []chain.NamedValidator{r.members[1], r.members[0]}
	stolen := []chain.NamedValidator{r.members[0], {Name: "v1", Validator: chain.Validator{PublicKey: chain.PublicKey{26}, VRFKey: chain.VRFKey{31: 9}}}}
	later := r.endorse(2, reversed)
	later.Next.Generation = 2
	for _, c := range []struct {
		name, want string // empty: valid
		alter      func(*chain.Block)
	}{
		{"endorsed by all", "", func(b *chain.Block) { carry(b, r.endorse(2, reversed, 0, 1)) }},
		{"to one of them", "", func(b *chain.Block) { carry(b, r.endorse(1, r.members[1:], 0, 1)) }},
		{"the same set again", "", func(b *chain.Block) { carry(b, r.endorse(2, r.members, 0, 1)) }},
		{"endorsed by one", "1 endorsements", func(b *chain.Block) { carry(b, r.endorse(2, reversed, 1)) }},
		{"endorsed by one, twice", "indices rise", func(b *chain.Block) { carry(b, r.endorse(2, reversed, 1, 1)) }},
		{"an endorsement of another set", "signature", func(b *chain.Block) {
			change := r.endorse(2, reversed, 0, 1)
			change.Endorsements[0] = r.endorse(1, r.members[1:], 0).Endorsements[0]
			carry(b, change)
		}},
		{"another generation", "generation 2", func(b *chain.Block) { carry(b, later) }},
		{"a name of another key", "named v1", func(b *chain.Block) { carry(b, r.endorse(2, stolen, 0, 1)) }},
		{"a header that names another next set", "next validator set", func(b *chain.Block) {
			carry(b, r.endorse(2, reversed, 0, 1))
			b.Header.NextValidatorsHash = b.Header.ValidatorsHash
		}},
	} {
		b, err := r.newBlock(t.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		c.alter(b)
		b.Header.Timestamp += 7 // not the one that the room holds as its own
		b.Sign(r.keys[0])
		err = r.checkOf(t, b)
		if c.want == "" {
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
		} else if _, ok := errors.AsType[*invalidError](err); !ok || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want an invalidError with %q", c.name, err, c.want)
		}
	}
}

// Promise 69.
func TestAVoteForAChangeIsWithheldUntilTheNextSetIsLinked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(t, 2, 2, 0)
		b, err := r.newBlock(t.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		carry(b, r.endorse(2, r.members, 0, 1))
		b.Sign(r.keys[0])
		order, err := r.cfg.Ledger.Leaders(1)
		if err != nil {
			t.Fatal(err)
		}
		r.deciding, r.checks = t.Context(), map[checkKey]*check{}
		round := uint32(0)
		if order[0] != 0 {
			round = 1
		}
		verdict := func() consensus.Verdict { return r.nextEvent().event.(consensus.BlockChecked).Verdict }
		r.Voter.check(consensus.CheckBlock{Height: 1, Round: round, Block: b, Fresh: true})
		if got := verdict(); got != consensus.Withheld {
			t.Errorf("not linked: verdict %v, want Withheld", got)
		}
		time.Sleep(time.Minute)
		if r.events.size() > 0 {
			t.Errorf("not linked for a minute: %+v", r.nextEvent())
		}
		r.linked.Store(true)
		if got := verdict(); got != consensus.Valid {
			t.Errorf("linked within the round: verdict %v, want Valid", got)
		}
		// A block that is proposed again was certified before: nothing is withheld from it.
		r.linked.Store(false)
		r.Voter.check(consensus.CheckBlock{Height: 1, Round: round + 1, Block: b})
		if got := verdict(); got != consensus.Valid {
			t.Errorf("proposed again: verdict %v, want Valid", got)
		}
	})
}

// An idle chain wakes for a change, and for one height more: it shows that the new set is there.
//
// Promise 69.
func TestAChangeWakesAnIdleChainForTwoHeights(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(t, 1, 1, 0)
		r.linked.Store(true)
		r.start(t, r.votes, 0)
		time.Sleep(time.Minute)
		if h := r.cfg.Ledger.Height(); h != 0 {
			t.Fatalf("height %d with nothing to order", h)
		}
		r.change.Store(r.endorse(1, r.members, 0))
		r.changed <- struct{}{}
		if err := r.cfg.Ledger.Wait(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		r.change.Store(nil) // of an era that is over
		time.Sleep(time.Minute)
		if h := r.cfg.Ledger.Height(); h != 2 {
			t.Errorf("height %d a minute later, want 2", h)
		}
		if open := r.cfg.Ledger.Sets().Open(); open.Generation != 1 {
			t.Errorf("generation %d is in force, want 1", open.Generation)
		}
	})
}

// A change that the chain does not take any more stays out of the block, and the block is built.
func TestALeaderLeavesOutAChangeOfAnotherEra(t *testing.T) {
	r := newRoom(t, 1, 1, 0)
	old := r.endorse(1, r.members, 0)
	old.Next.Generation = 7
	r.change.Store(old)
	if b, err := r.newBlock(t.Context(), 1); err != nil || b.Change != nil || b.Header.NextValidatorsHash != b.Header.ValidatorsHash {
		t.Errorf("block %+v, %v; want one without a change", b, err)
	}
}

// Promise 70.
func TestAMemberThatLeavesSignsNothingAbove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(t, 1, 1, 0)
		r.linked.Store(true)
		other := chain.NamedValidator{Name: "w", Validator: chain.Validator{PublicKey: chain.PublicKey{26}, VRFKey: chain.VRFKey{31: 9}}}
		r.change.Store(r.endorse(1, []chain.NamedValidator{other}, 0))
		r.start(t, r.votes, 0)
		if err := r.cfg.Ledger.Wait(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		r.submit(t, "one")
		time.Sleep(time.Minute)
		for _, entry := range r.journal.all() {
			if strings.HasSuffix(entry, " 2") {
				t.Errorf("%q: the set of height 2 is without this node", entry)
			}
		}
	})
}

// A node that joins has made its vote store as an observer. It votes from the first height of its
// set on, without a restart.
//
// Promise 70.
func TestANewcomerVotesFromTheHeightOfItsSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoomOf(t, 1, 1, 1, 0)
		r.start(t, r.votes, 0)
		header := r.genesis.Header()
		b := &chain.Block{Header: chain.Header{
			ProtocolVersion: chain.ProtocolVersion, ChainID: r.genesis.ChainID, Height: 1, ParentHash: header.Hash(), Timestamp: header.Timestamp + 1,
			MessagesRoot: chain.MessagesRoot(nil), ValidatorsHash: header.NextValidatorsHash, Beacon: r.genesis.Hash(),
		}}
		carry(b, r.endorse(1, r.members[1:], 0))
		b.Sign(r.keys[0])
		vote := chain.Vote{Kind: chain.Finalize, Height: 1, Block: b.Hash()}
		vote.Sign(r.keys[0], r.genesis.ChainID)
		r.finals <- &chain.FinalBlock{Block: *b, Certificate: chain.Certificate{
			Kind: chain.Finalize, Height: 1, Block: b.Hash(), Votes: []chain.VoteSignature{{Signature: vote.Signature}},
		}}
		if err := r.cfg.Ledger.Wait(t.Context(), 2); err != nil {
			t.Fatal(err)
		}
		for _, entry := range r.journal.all() {
			if !strings.HasSuffix(entry, " 2") {
				t.Errorf("%q: the set of height 1 is without this node", entry)
			}
		}
	})
}

// Up to the checkpoint no vote leaves, whether it was there at the start or came later.
//
// Promise 71.
func TestNothingIsSignedUpToTheCheckpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, late := range []bool{false, true} {
			r := newRoom(t, 1, 1, 0)
			if !late {
				r.checkpoint.Store(&chain.Checkpoint{Height: 3})
			}
			r.start(t, r.votes, 0)
			synctest.Wait()
			r.checkpoint.Store(&chain.Checkpoint{Height: 3})
			r.CheckpointMoved()
			synctest.Wait()
			r.submit(t, "one")
			time.Sleep(time.Minute)
			if entries := r.journal.all(); len(entries) > 0 {
				t.Errorf("late %v: %q, the checkpoint is at height 3", late, entries)
			}
			r.checkpoint.Store(&chain.Checkpoint{})
		}
	})
}

// A checkpoint that was a mistake is taken back in the peers file, and the validator votes again
// without a restart.
//
// Promise 71.
func TestACheckpointThatIsTakenBackSilencesNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, late := range []bool{false, true} {
			r := newRoom(t, 1, 1, 0)
			r.start(t, r.votes, 0)
			if late {
				r.submit(t, "one")
				if err := r.cfg.Ledger.Wait(t.Context(), 1); err != nil {
					t.Fatal(err)
				}
			}
			r.checkpoint.Store(&chain.Checkpoint{Height: 1 << 40})
			r.CheckpointMoved()
			synctest.Wait()
			before := r.cfg.Ledger.Height()
			r.checkpoint.Store(&chain.Checkpoint{})
			r.CheckpointMoved()
			r.submit(t, "two")
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			if err := r.cfg.Ledger.Wait(ctx, before+1); err != nil {
				t.Errorf("late %v: no block above height %d after the checkpoint was taken back: %v", late, before, err)
			}
			cancel()
		}
	})
}

// Promise 71.
func TestAChainThatContradictsTheCheckpointEndsTheVoter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(t, 1, 1, 0)
		r.checkpoint.Store(&chain.Checkpoint{Height: 1, Hash: chain.Hash{1}})
		ended := r.start(t, nil, Never)
		b := chain.Block{Header: chain.Header{Height: 1}}
		r.finals <- &chain.FinalBlock{Block: b}
		if err := <-ended; err == nil || !strings.Contains(err.Error(), "contradiction") || r.cfg.Ledger.Height() != 0 {
			t.Errorf("the voter ends with %v at height %d, want a contradiction at 0", err, r.cfg.Ledger.Height())
		}
	})
}

// The peers file may be late: the other chain is at the height of the checkpoint already. The node
// must not vote above it.
//
// Promise 71.
func TestACheckpointThatTheLastBlockContradictsEndsTheVoter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(t, 1, 1, 0)
		ended := r.start(t, r.votes, 0)
		r.submit(t, "one")
		if err := r.cfg.Ledger.Wait(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		tip := r.cfg.Ledger.Tip()
		for _, c := range []chain.Checkpoint{{Height: tip.Height(), Hash: tip.Hash}, {Height: tip.Height(), Hash: chain.Hash{1}}} {
			r.checkpoint.Store(&c)
			r.CheckpointMoved()
			synctest.Wait()
			select {
			case err := <-ended:
				if c.Hash == tip.Hash || err == nil || !strings.Contains(err.Error(), "contradiction") {
					t.Errorf("the voter ends with %v", err)
				}
			default:
				if c.Hash != tip.Hash {
					t.Error("the voter goes on")
				}
			}
		}
		if err := r.Start(r.votes, 0); err == nil || !strings.Contains(err.Error(), "contradiction") {
			t.Errorf("a start: %v", err)
		}
	})
}

// Thieves of old keys can finalize another block at a height that is over. Up to the checkpoint it
// stops nobody.
//
// Promise 71.
func TestAForgeryUpToTheCheckpointStopsNobody(t *testing.T) {
	r := newRoom(t, 1, 1, 0)
	if err := r.Start(r.votes, 0); err != nil {
		t.Fatal(err)
	}
	at := func(heights ...uint64) (certificates []*chain.Certificate) {
		for _, h := range heights {
			certificates = append(certificates, &chain.Certificate{Kind: chain.Finalize, Height: h})
		}
		return certificates
	}
	r.checkpoint.Store(&chain.Checkpoint{Height: 5})
	for _, c := range []struct {
		name         string
		certificates []*chain.Certificate
		stops        bool
	}{
		{"below the checkpoint", at(4, 4), false}, {"at it", at(5, 5), false}, {"above it", at(6, 6), true}, {"a missing vote", nil, true},
	} {
		err := r.execute([]consensus.Action{consensus.Contradiction{Reason: "two final blocks", Certificates: c.certificates}})
		if (err != nil) != c.stops {
			t.Errorf("%s: %v, want an error: %v", c.name, err, c.stops)
		}
	}
}

// The pings of a newcomer, from when it was an observer, count once it is in the set.
//
// Promise 1.
func TestHealthIsJudgedByTheSetOfTheOpenHeight(t *testing.T) {
	r := newRoomOf(t, 0, 3, 2, time.Minute)
	s := r.synchrony
	set := func(members ...chain.NamedValidator) *chain.ValidatorSet {
		return (&chain.NextSet{Threshold: 2, Validators: members}).Set()
	}
	newcomer := r.members[2]
	s.judge(set(r.members[0], r.members[1]))
	s.linkUp(newcomer.PublicKey)
	s.pong(newcomer.PublicKey, s.links[newcomer.PublicKey].number, 0)
	if s.healthy.Load() {
		t.Error("healthy by the answers of a node outside of the set")
	}
	for _, c := range []struct {
		name    string
		set     *chain.ValidatorSet
		healthy bool
	}{
		{"the newcomer is in the set", set(r.members[0], newcomer), true},
		{"it is not", set(r.members[0], r.members[1]), false},
		{"it is in the set, and this node is not", set(r.members[1], newcomer), false},
	} {
		s.judge(c.set)
		<-s.changed
		s.mu.Lock()
		s.report()
		s.mu.Unlock()
		if s.healthy.Load() != c.healthy {
			t.Errorf("%s: healthy %v, want %v", c.name, s.healthy.Load(), c.healthy)
		}
	}
}
