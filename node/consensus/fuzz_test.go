package consensus

import (
	"errors"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/internal/mutation"
)

// FuzzCore feeds one Core with everything that any number of Byzantine validators, a bad network
// and a crashing process can cause: the bytes choose. An oracle checks the core against the rules
// over its whole life, crashes and restarts from its records included. The oracle knows only the
// events and the actions (law_test.go). Nothing may panic; the state stays bounded; and a second
// Core that gets the same events returns the same actions.
//
// Promise 9.
func FuzzCore(f *testing.F) {
	f.Add([]byte{})
	for seed := range uint64(20) {
		f.Add(randomBytes(seed, 600))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := playHostile(data, mutation.Rules{}); err != nil {
			t.Fatal(err)
		}
	})
}

// Promise 9.
// Promise 17.
func TestHostileEvents(t *testing.T) {
	seeds := uint64(3000)
	if testing.Short() {
		seeds = 300
	}
	for seed := range seeds {
		if err := playHostile(randomBytes(seed, 1500), mutation.Rules{}); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}

// TestHostileEventsShowEveryRuleTakenAway is the fuzz target's control: with any one rule taken
// away its oracle must see that rule broken, in the very inputs in which it sees nothing otherwise
// (TestHostileEvents).
//
// Promise 9.
func TestHostileEventsShowEveryRuleTakenAway(t *testing.T) {
	seen := make(map[string]bool)
	for _, c := range []struct{ rule, broken string }{
		{"NotarizeTwice", "E1 or, once it finalizes one of the two, E3"},
		{"NullifyAndFinalize", "E2"},
		{"FinalizeAnother", "E3"},
		{"VotesMissing", "threshold"},
		{"CountTwice", "threshold"},
		{"VoteUnjustified", "justified"},
		{"ForgetCertificates", "rests on"},
		{"KeepSilent", "T_retry"},
		{"Hoard", "R1"},
		{"SendFirst", "durable"},
		{"VoteForgetful", "forgotten"},
		{"AnyBody", "threshold, of what another than the leader passed on"},
		{"AnySet", "threshold, who votes or forgotten: what was checked against another set counts"},
		{"IgnoreAhead", "catch up"},
		{"ForgetEra", "settled"},
		{"NewcomersSettle", "settled"},
		{"MisfitInvalid", "misfit"},
		{"NoRelay", "R2"},
		{"PassOver", "R3"},
		{"VoteInConflict", "R4"},
		{"QuarterWait", "2*Delta"},
		{"FinalizeNullified", "against"},
		{"FinalizeInConflict", "against"},
		{"KeepWaiting", "2*Delta"},
		{"IgnoreHealth", "2*Delta or settled"},
		{"VoteUnsettled", "settled"},
		{"AskNobody", "settled"},
		{"ForgetDrops", "settled"},
	} {
		seen[c.rule] = true
		t.Run(c.rule, func(t *testing.T) {
			t.Parallel()
			var rules mutation.Rules
			switch field := reflect.ValueOf(&rules).Elem().FieldByName(c.rule); field.Kind() {
			case reflect.Bool:
				field.SetBool(true)
			case reflect.Int:
				field.SetInt(1)
			default:
				t.Fatalf("there is no rule %s", c.rule)
			}
			for seed := range uint64(4000) {
				if err := playHostile(randomBytes(seed, 1500), rules); err != nil {
					if !strings.Contains(c.broken, err.rule) {
						t.Fatalf("seed %d shows %v, want %q broken", seed, err, c.broken)
					}
					t.Logf("seed %d: %v", seed, err)
					return
				}
			}
			t.Error("the oracle sees nothing")
		})
	}
	// Rules that the caller of a Core keeps: the simulator's controls show those.
	callers := []string{
		"TimerFirst", "NewcomerStartsEarly", "NoCheckpoint", "CacheWithoutSet", "NoGeneration", "EndorsementsMissing", "OwnSetCertifies",
		"CountLeavers", "UnboundChange", "OrderUnlinked", "SleepAfterChange",
	}
	for field := range reflect.TypeFor[mutation.Rules]().Fields() {
		if !seen[field.Name] && !slices.Contains(callers, field.Name) {
			t.Errorf("nothing shows that the oracle sees %s", field.Name)
		}
	}
}

func randomBytes(seed uint64, n int) []byte {
	rng := rand.New(rand.NewPCG(seed, 3))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

// universe is how many keys there are that may be in a set.
const universe = 8

// hostile drives a core and its double.
type hostile struct {
	data  []byte
	law   *law
	cfg   Config
	delta uint32
	set   *chain.ValidatorSet
	// other are the hashes of two sets: of the one before, and of one that is in force nowhere.
	other  [2]chain.Hash
	cores  [2]*Core
	height uint64
	last   *chain.Certificate
	next   *chain.Certificate
	disk   []chain.Record
	timers []Timer
	checks []CheckBlock
	blocks []*chain.Block
}

// playHostile returns the first rule that is seen broken.
func playHostile(data []byte, rules mutation.Rules) *breach {
	p := &hostile{data: data, height: 1}
	p.delta = []uint32{0, 50}[p.pick(2)]
	keys := testSet(universe, universe)
	p.other[1] = keys.Hash()
	p.cfg = Config{
		ChainID: "test", PublicKey: keys.Validators[p.pick(universe)].PublicKey, VoteFrom: []uint64{0, 0, 0, 2}[p.pick(4)],
		RoundTimeout: 500 * time.Millisecond, MaxRoundTimeout: time.Second, RetryInterval: time.Second,
		MinBlockInterval: []time.Duration{time.Millisecond, 0}[p.pick(2)], Mutation: rules,
	}
	p.law = newLaw(&p.cfg)
	p.cfg.Sign = func(v *chain.Vote) {
		fakeSignature(v)
		p.law.signs(*v)
	}
	p.draw()
	p.restart()
	for len(p.data) > 0 && p.law.broken == nil && !p.law.stopped {
		p.turn()
		p.checkBounds()
	}
	return p.law.broken
}

// pick takes a number below n from the data, 0 when it is used up.
func (p *hostile) pick(n int) int {
	if len(p.data) == 0 {
		return 0
	}
	b := p.data[0]
	p.data = p.data[1:]
	return int(b) % n
}

// draw makes another set: of 1 to 7 validators, mostly with this one among them.
func (p *hostile) draw() {
	keys := testSet(universe, universe).Validators
	n := []int{4, 4, 3, 5, 7, 1, 2, 6}[p.pick(8)]
	first := p.pick(universe)
	set := &chain.ValidatorSet{SynchronyDeltaMS: p.delta, Threshold: uint32(n/2 + 1 + p.pick(n-n/2))}
	for i := range n {
		set.Validators = append(set.Validators, keys[(first+i)%universe])
	}
	if set.Index(p.cfg.PublicKey) < 0 && p.pick(4) != 0 {
		set.Validators[p.pick(n)] = keys[slices.IndexFunc(keys, func(v chain.Validator) bool { return v.PublicKey == p.cfg.PublicKey })]
	}
	if p.set != nil { // a change, even if it names the same members again
		p.other[0], set.Generation = p.set.Hash(), p.set.Generation+1
	}
	p.set = set
}

func (p *hostile) n() int { return len(p.set.Validators) }

func (p *hostile) restart() {
	if p.law.final(p.height) != nil && p.pick(2) == 0 {
		p.climb() // the block was stored before the crash
	}
	p.law.crash()
	for i := range p.cores {
		core, err := New(p.cfg, slices.Clone(p.disk))
		if err != nil {
			p.law.breaks("recovery", "%v", err)
			return
		}
		p.cores[i] = core
	}
	p.begin()
}

// climb goes on above a final block: the records of its height may be removed, and the set may be
// another.
func (p *hostile) climb() {
	p.height, p.last = p.height+1, p.next
	if p.pick(2) == 0 {
		p.disk = slices.DeleteFunc(p.disk, func(r chain.Record) bool { return r.Height < p.height })
	}
	if p.pick(3) == 0 {
		p.draw()
	}
}

func (p *hostile) begin() {
	p.blocks, p.timers, p.checks = nil, nil, nil
	h := Height{Number: p.height, Set: p.set, Last: p.last, Order: rand.New(rand.NewPCG(p.height, 7)).Perm(p.n())}
	if p.last != nil {
		h.Parent = p.last.Block
	}
	for i := range 5 {
		b := &chain.Block{Header: chain.Header{
			ChainID: "test", Height: p.height, ParentHash: h.Parent, Timestamp: uint64(i), Proposer: uint32(h.Order[i%p.n()]),
		}}
		if i == 4 {
			b.Header.ParentHash = chain.Hash{'x'}
		}
		p.blocks = append(p.blocks, b)
	}
	p.law.begins(h)
	p.both(nil, func(c *Core) []Action {
		actions, err := c.StartHeight(h)
		if err != nil {
			p.law.breaks("recovery", "%v", err)
		}
		return actions
	})
}

// both does the same to the core and its double, compares, and carries out what is asked, up to a
// crash.
func (p *hostile) both(e Event, do func(*Core) []Action) {
	p.law.happens(e)
	actions := do(p.cores[0])
	if again := do(p.cores[1]); !reflect.DeepEqual(actions, again) {
		p.law.breaks("deterministic", "the same events gave\n%+v\nand\n%+v", actions, again)
	}
	crash := len(actions)
	if p.pick(64) == 63 {
		crash = p.pick(4)
	}
	p.law.asked(e, actions)
	for i, a := range actions {
		if i == crash {
			break
		}
		p.act(a)
	}
	switch {
	case p.law.broken != nil:
	case p.law.stopped:
		p.stays()
	case crash < len(actions):
		p.restart()
	}
}

// stays checks that a Core which has stopped for a vote that its records lack does not start again.
func (p *hostile) stays() {
	kept := slices.ContainsFunc(p.disk, func(r chain.Record) bool { return r.Kind == chain.RecordMissingVote })
	if _, err := New(p.cfg, slices.Clone(p.disk)); kept && !errors.Is(err, ErrMissingVote) {
		p.law.breaks("forgotten", "it starts again: %v", err)
	}
	if actions := p.cores[0].Step(TimerFired{Timer{Kind: RetryTimer, Height: p.height}}); actions != nil {
		p.law.breaks("forgotten", "it goes on with %+v", actions)
	}
}

func (p *hostile) act(a Action) {
	p.law.done(a)
	switch a := a.(type) {
	case Persist:
		p.disk = append(p.disk, a.Records...)
	case SetTimer:
		p.timers = append(p.timers, a.Timer)
	case CheckBlock:
		p.checks = append(p.checks, a)
	case Commit:
		p.next = a.Finalization
	case Strengthen:
		if a.Finalization.Height == p.height {
			p.next = a.Finalization
		}
	}
}

func (p *hostile) turn() {
	if p.law.final(p.height) != nil && p.pick(2) == 0 {
		p.climb()
		p.begin()
		return
	}
	if p.pick(256) == 0 { // it catches up, at times over the first height of an era
		p.height += 2
		p.last = &chain.Certificate{Kind: chain.Finalize, Height: p.height - 1, Block: chain.Hash{byte(p.height)}}
		for i := range p.set.Threshold {
			p.last.Votes = append(p.last.Votes, chain.VoteSignature{Validator: i})
		}
		p.law.below(p.last, p.set)
		if p.pick(2) == 0 {
			p.draw()
		}
		p.begin()
		return
	}
	e := p.event()
	p.both(e, func(c *Core) []Action { return c.Step(e) })
}

func (p *hostile) checkBounds() {
	c := p.cores[0]
	h := c.height
	if p.law.broken != nil || h == nil {
		return
	}
	certified := 0
	for _, rd := range h.rounds {
		if rd.closed() {
			certified++
		} else if uint64(rd.number) > uint64(h.current)+2*uint64(p.n()) {
			p.law.breaks("bounded", "round %d is held at round %d", rd.number, h.current)
		}
		if len(rd.statements) > 2 {
			p.law.breaks("bounded", "%d statements of a round", len(rd.statements))
		}
	}
	if limit := certified + int(min(h.current, 1000)) + 2*p.n() + 2; len(h.rounds) > 2*limit {
		p.law.breaks("bounded", "%d rounds held at round %d with %d certified", len(h.rounds), h.current, certified)
	}
	if len(h.blocks) > len(h.rounds)+len(p.blocks) || len(c.recent) > RecentHeights || len(c.answered) > universe || len(c.hinted) > universe {
		p.law.breaks("bounded", "%d blocks, %d recent heights, %d answered, %d hinted",
			len(h.blocks), len(c.recent), len(c.answered), len(c.hinted))
	}
	if limit := (4*(2*p.n()+1) + 9) * p.n() * 2; len(c.early.held) > limit || c.early.size > maxEarlyBytes {
		p.law.breaks("bounded", "%d messages of %d bytes held early, want at most %d", len(c.early.held), c.early.size, limit)
	}
}
