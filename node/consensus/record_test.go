package consensus

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/diseq/diseq/node/chain"
)

func testConfig(set *chain.ValidatorSet, self int) Config {
	return Config{
		ChainID: "test", PublicKey: set.Validators[self].PublicKey, Sign: fakeSignature,
		RoundTimeout: 500 * time.Millisecond, MaxRoundTimeout: 10 * time.Second, RetryInterval: time.Second,
	}
}

// checked is an event whose signatures were checked against the set of a Core's height.
func checked(c *Core, e Event) Event {
	if r, ok := e.(Received); ok && c.height != nil {
		r.Set = c.height.setHash
		return r
	}
	return e
}

// hears gives a Core a bundle from a stranger.
func hears(c *Core, b chain.Bundle) []Action { return c.Step(checked(c, Received{Bundle: b})) }

// others are all of four validators but one: it has not signed what they have.
func others(self int) []int {
	return slices.DeleteFunc(order(4), func(i int) bool { return i == self })
}

func testSet(n, t int) *chain.ValidatorSet {
	set := &chain.ValidatorSet{Threshold: uint32(t)}
	for i := range n {
		set.Validators = append(set.Validators, chain.Validator{
			PublicKey: chain.PublicKey{0: 'p', 1: byte(i), 2: 1}, VRFKey: chain.VRFKey{0: 'v', 1: byte(i), 2: 1},
		})
	}
	return set
}

func order(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	return out
}

func voteRecord(v chain.Vote) chain.Record {
	fakeSignature(&v)
	return chain.Record{Height: v.Height, Round: v.Round, Kind: chain.RecordVote, Data: v.Encode()}
}

// A validator that has forgotten or mixed up what it voted must not vote.
//
// Promise 17.
func TestUnreadableRecordsAreRefused(t *testing.T) {
	set := testSet(4, 3)
	good := voteRecord(chain.Vote{Kind: chain.Nullify, Height: 1, Round: 2})
	torn, elsewhere, unknown := good, good, good
	torn.Data = good.Data[:50]
	elsewhere.Round = 3
	unknown.Kind = 9
	block := (&chain.Block{Header: chain.Header{Height: 2}}).Encode()
	for name, r := range map[string]chain.Record{
		"torn":                  torn,
		"of another round":      elsewhere,
		"of unknown kind":       unknown,
		"block elsewhere":       {Height: 1, Kind: chain.RecordBlock, Data: block},
		"no certificate":        {Height: 1, Kind: chain.RecordCertificate, Data: block},
		"no proposal":           {Height: 1, Kind: chain.RecordProposal, Data: block},
		"no block, but nothing": {Height: 1, Kind: chain.RecordBlock},
	} {
		if _, err := New(testConfig(set, 0), []chain.Record{good, r}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// Promise 17.
func TestContradictingRecordsAreRefused(t *testing.T) {
	set := testSet(4, 3)
	for name, records := range map[string][]chain.Record{
		"E1": {
			voteRecord(chain.Vote{Kind: chain.Notarize, Height: 1, Block: chain.Hash{1}}),
			voteRecord(chain.Vote{Kind: chain.Notarize, Height: 1, Block: chain.Hash{2}}),
		},
		"E2": {
			voteRecord(chain.Vote{Kind: chain.Nullify, Height: 1}),
			voteRecord(chain.Vote{Kind: chain.Finalize, Height: 1, Block: chain.Hash{2}}),
		},
		"validator 3": {voteRecord(chain.Vote{Kind: chain.Nullify, Height: 1, Validator: 3})},
	} {
		c, err := New(testConfig(set, 0), records)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.StartHeight(Height{Number: 1, Set: set, Order: order(4)}); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

func TestConfigAndHeightAreChecked(t *testing.T) {
	set := testSet(4, 3)
	for name, change := range map[string]func(*Config){
		"no round timeout":  func(c *Config) { c.RoundTimeout = 0 },
		"cap below base":    func(c *Config) { c.MaxRoundTimeout = c.RoundTimeout - 1 },
		"no retry":          func(c *Config) { c.RetryInterval = 0 },
		"negative interval": func(c *Config) { c.MinBlockInterval = -1 },
	} {
		cfg := testConfig(set, 0)
		change(&cfg)
		if _, err := New(cfg, nil); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	c, err := New(testConfig(set, 0), nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, h := range map[string]Height{
		"genesis":           {Number: 0, Set: set, Order: order(4)},
		"no finalization":   {Number: 2, Set: set, Order: order(4)},
		"a nullification":   {Number: 2, Set: set, Order: order(4), Last: fakeCertificate(chain.Nullify, 1, 0, chain.Hash{}, 0, 1, 2)},
		"of another height": {Number: 2, Set: set, Order: order(4), Last: fakeCertificate(chain.Finalize, 2, 0, chain.Hash{}, 0, 1, 2)},
		"of another block":  {Number: 2, Set: set, Order: order(4), Last: fakeCertificate(chain.Finalize, 1, 0, chain.Hash{1}, 0, 1, 2)},
		"short order":       {Number: 1, Set: set, Order: order(3)},
		"no permutation":    {Number: 1, Set: set, Order: []int{0, 1, 1, 3}},
		"threshold of half": {Number: 1, Set: testSet(4, 2), Order: order(4)},
	} {
		if _, err := c.StartHeight(h); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	// A refused height changes nothing.
	if actions := c.Step(Pool{Pending: true}); actions != nil {
		t.Errorf("before the first height: %+v", actions)
	}
	if actions := hears(c, chain.Bundle{Votes: []chain.Vote{{Height: 9}}}); actions != nil {
		t.Errorf("before the first height: %+v", actions)
	}
}

// FuzzRecord restores whatever a disk may return as a record: New or StartHeight refuses it, or the
// Core goes on.
//
// Promise 37.
func FuzzRecord(f *testing.F) {
	for _, r := range []chain.Record{
		voteRecord(chain.Vote{Kind: chain.Nullify, Height: 1, Round: 2}),
		{Height: 2, Kind: chain.RecordBlock, Data: (&chain.Block{Header: chain.Header{Height: 2}}).Encode()},
	} {
		f.Add(r.Height, r.Round, byte(r.Kind), r.Data)
	}
	set := testSet(4, 3)
	f.Fuzz(func(_ *testing.T, height uint64, round uint32, kind byte, data []byte) {
		c, err := New(testConfig(set, 0), []chain.Record{{Height: height, Round: round, Kind: chain.RecordKind(kind), Data: data}})
		if err != nil || height == 0 {
			return
		}
		h := Height{Number: height, Set: set, Order: order(4)}
		if height > 1 {
			h.Last = &chain.Certificate{Kind: chain.Finalize, Height: height - 1, Block: chain.Hash{1}}
			h.Parent = chain.Hash{1}
		}
		if _, err := c.StartHeight(h); err != nil {
			return
		}
		c.Step(TimerFired{Timer{Kind: RetryTimer, Height: height}})
	})
}
