package consensus

import (
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/diseq/diseq/node/chain"
)

// FuzzCore feeds one core whatever any number of Byzantine validators, a bad network and a crashing process can: the bytes choose. What
// leaves never breaks E1 to E3 and is on the disk before; nothing panics; what is held stays bounded; and a second core that
// gets the same events asks for the same actions.
func FuzzCore(f *testing.F) {
	f.Add([]byte{})
	for seed := range uint64(20) {
		f.Add(randomBytes(seed, 600))
	}
	f.Fuzz(playHostile)
}

func TestHostileEvents(t *testing.T) {
	for seed := range uint64(1000) {
		playHostile(t, randomBytes(seed, 1500))
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

// hostile drives a core and its double.
type hostile struct {
	t      *testing.T
	data   []byte
	n      int
	cfg    Config
	set    *chain.ValidatorSet
	cores  [2]*Core
	height uint64
	last   *chain.Certificate
	next   *chain.Certificate
	disk   []Record
	sent   []chain.Vote
	timers []Timer
	blocks []*chain.Block
	commit bool
}

func playHostile(t *testing.T, data []byte) {
	p := &hostile{t: t, data: data, height: 1}
	p.n = []int{4, 4, 5, 7, 1}[p.pick(5)]
	p.set = testSet(p.n, p.n/2+1+p.pick(p.n-p.n/2))
	p.cfg = Config{
		ChainID: "test", PublicKey: p.set.Validators[p.pick(p.n)].PublicKey, Sign: fakeSignature,
		RoundTimeout: 500 * time.Millisecond, MaxRoundTimeout: time.Second, RetryInterval: time.Second, MinBlockInterval: time.Millisecond,
	}
	p.restart()
	for len(p.data) > 0 {
		p.turn()
		p.checkBounds()
	}
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

func (p *hostile) restart() {
	for i := range p.cores {
		core, err := New(p.cfg, slices.Clone(p.disk))
		if err != nil {
			p.t.Fatal(err)
		}
		p.cores[i] = core
	}
	p.begin()
}

func (p *hostile) begin() {
	p.commit = false
	p.blocks, p.timers = nil, nil
	h := Height{Height: p.height, Set: p.set, Last: p.last, Order: rand.New(rand.NewPCG(p.height, 7)).Perm(p.n)}
	if p.last != nil {
		h.Parent = p.last.Block
	}
	for i := range 4 {
		p.blocks = append(p.blocks, &chain.Block{Header: chain.Header{
			ChainID: "test", Height: p.height, ParentHash: h.Parent, Timestamp: uint64(i), Proposer: uint32(h.Order[i%p.n]),
		}})
	}
	p.both(func(c *Core) []Action {
		actions, err := c.StartHeight(h)
		if err != nil {
			p.t.Fatal(err)
		}
		return actions
	})
}

// both does the same to the core and its double, compares, and carries out what is asked, up to a crash.
func (p *hostile) both(do func(*Core) []Action) {
	actions := do(p.cores[0])
	if again := do(p.cores[1]); !reflect.DeepEqual(actions, again) {
		p.t.Fatalf("the same events gave\n%+v\nand\n%+v", actions, again)
	}
	crash := p.pick(64) == 63
	for i, a := range actions {
		if crash && i == p.pick(4) {
			p.restart()
			return
		}
		if _, ok := a.(Persist); ok && i != 0 {
			p.t.Fatal("Persist is not the first action")
		}
		p.act(a)
	}
}

func (p *hostile) act(a Action) {
	switch a := a.(type) {
	case Persist:
		p.disk = append(p.disk, a.Records...)
	case Broadcast:
		p.leaves(a.Bundle)
	case Send:
		p.leaves(a.Bundle)
	case SetTimer:
		p.timers = append(p.timers, a.Timer)
	case Commit:
		if a.Finalization.Block != a.Block.Hash() || a.Finalization.Height != p.height || p.commit {
			p.t.Fatalf("commit at height %d: %+v", p.height, a)
		}
		p.commit, p.next = true, a.Finalization
	}
}

func (p *hostile) leaves(b Bundle) {
	votes := slices.Clone(b.Votes)
	for _, proposal := range b.Proposals {
		votes = append(votes, proposal.Statement)
	}
	self := p.set.Index(p.cfg.PublicKey)
	for _, v := range votes {
		if int(v.Validator) != self || slices.Contains(p.sent, v) {
			continue
		}
		if v.Kind == chain.Propose && !slices.ContainsFunc(b.Proposals, func(o *chain.Proposal) bool { return o.Statement == v }) {
			continue // a statement shown to a new link; another may have signed it with our key
		}
		for _, o := range p.sent {
			if rule := chain.Conflict(o, v); rule != "" {
				p.t.Fatalf("%s is broken by %+v and %+v", rule, o, v)
			}
		}
		encoded := v.Encode()
		if !slices.ContainsFunc(p.disk, func(r Record) bool {
			return len(r.Data) >= len(encoded) && slices.Equal(r.Data[:len(encoded)], encoded)
		}) {
			p.t.Fatalf("%+v leaves before it is on the disk", v)
		}
		p.sent = append(p.sent, v)
	}
}

func (p *hostile) round() uint32 {
	if p.pick(32) == 0 {
		return []uint32{1 << 31, 1<<32 - 1, 1<<32 - 2, 1000}[p.pick(4)]
	}
	return p.cores[0].height.current + uint32(p.pick(4)) - min(p.cores[0].height.current, uint32(p.pick(3)))
}

func (p *hostile) at() uint64 {
	switch p.pick(16) {
	case 0:
		return p.height + 1
	case 1:
		return max(1, p.height-1)
	case 2:
		return []uint64{1, p.height + 2, 1<<64 - 1, max(1, p.height-6)}[p.pick(4)]
	}
	return p.height
}

func (p *hostile) vote() chain.Vote {
	v := chain.Vote{
		Kind: chain.Kind(1 + p.pick(4)), Height: p.at(), Round: p.round(), Validator: uint32(p.pick(p.n)),
	}
	if v.Kind != chain.Nullify {
		v.Block = p.block().Hash()
	}
	fakeSignature(&v)
	return v
}

func (p *hostile) block() *chain.Block { return p.blocks[p.pick(len(p.blocks))] }

func (p *hostile) certificate() *chain.Certificate {
	v := p.vote()
	if v.Kind == chain.Propose {
		v.Kind = chain.Notarize
	}
	cert := &chain.Certificate{Kind: v.Kind, Height: v.Height, Round: v.Round, Block: v.Block}
	skip := p.pick(p.n)
	for i := range p.n {
		if i == skip && int(p.set.Threshold) < p.n {
			continue
		}
		o := v
		o.Validator = uint32(i)
		fakeSignature(&o)
		cert.Votes = append(cert.Votes, chain.VoteSignature{Validator: o.Validator, Signature: o.Signature})
	}
	return cert
}

func (p *hostile) bundle() Bundle {
	var b Bundle
	for range 1 + p.pick(3) {
		switch p.pick(5) {
		case 0:
			b.Certificates = append(b.Certificates, p.certificate())
		case 1, 2:
			b.Votes = append(b.Votes, p.vote())
		default:
			r, block := p.round(), p.block()
			s := chain.Vote{
				Kind: chain.Propose, Height: p.at(), Round: r, Block: block.Hash(), Validator: uint32(p.cores[0].height.leader(r)),
			}
			fakeSignature(&s)
			proposal := &chain.Proposal{Statement: s, Block: *block}
			for range p.pick(3) {
				cert := p.certificate()
				if cert.Kind == chain.Notarize {
					proposal.Notarization = cert
				} else {
					proposal.Nullifications = append(proposal.Nullifications, *cert)
				}
			}
			b.Proposals = append(b.Proposals, proposal)
		}
	}
	return b
}

func (p *hostile) event() Event {
	switch p.pick(12) {
	case 0:
		return Pool{Pending: p.pick(2) == 0, Full: p.pick(2) == 0}
	case 1:
		return LinkUp{Peer: p.set.Validators[p.pick(p.n)].PublicKey}
	case 2, 3:
		if len(p.timers) > 0 && p.pick(8) != 0 {
			return TimerFired{p.timers[len(p.timers)-1-p.pick(min(3, len(p.timers)))]}
		}
		return TimerFired{Timer{Kind: TimerKind(p.pick(5)), Height: p.at(), Round: p.round()}}
	case 4:
		return BlockFetched{p.block()}
	case 5, 6, 7:
		return BlockChecked{
			Height: p.height, Round: p.round(), Block: p.block().Hash(), Fresh: p.pick(2) == 0,
			Verdict: []Verdict{Valid, Valid, Valid, Valid, Withheld, Invalid, 0, 9}[p.pick(8)],
		}
	case 8:
		return BlockBuilt{Round: p.round(), Block: p.block()}
	}
	return Received{From: p.set.Validators[p.pick(p.n)].PublicKey, Bundle: p.bundle()}
}

func (p *hostile) turn() {
	if p.commit && p.pick(2) == 0 {
		p.height, p.last = p.height+1, p.next
		p.begin()
		return
	}
	if p.pick(256) == 0 {
		p.height += 2
		p.last = p.certificate()
		p.last.Kind, p.last.Height, p.last.Block = chain.Finalize, p.height-1, chain.Hash{byte(p.height)}
		p.begin()
		return
	}
	e := p.event()
	received, ok := e.(Received)
	if ok && p.pick(2) == 0 {
		p.both(func(c *Core) []Action {
			rest, actions := c.Screen(received.From, received.Bundle)
			e = Received{From: received.From, Bundle: rest}
			return actions
		})
	}
	if p.commit && p.cores[0].height.Height.Height != p.height {
		return
	}
	p.both(func(c *Core) []Action { return c.Step(e) })
}

func (p *hostile) checkBounds() {
	c := p.cores[0]
	h := c.height
	certified := 0
	for _, rd := range h.rounds {
		if rd.closed() {
			certified++
		}
		if len(rd.statements) > 2 {
			p.t.Fatalf("%d statements of a round", len(rd.statements))
		}
	}
	if limit := certified + int(min(h.current, 1000)) + 2*p.n + 2; len(h.rounds) > 2*limit {
		p.t.Fatalf("%d rounds held at round %d with %d certified", len(h.rounds), h.current, certified)
	}
	if len(h.blocks) > len(h.rounds)+len(p.blocks) || len(c.recent) > recentHeights || len(c.answered) > p.n || len(c.hinted) > p.n {
		p.t.Fatalf("%d blocks, %d recent heights, %d answered, %d hinted", len(h.blocks), len(c.recent), len(c.answered), len(c.hinted))
	}
	if limit := (4*(2*p.n+1) + 9) * p.n; len(c.early.held) > limit {
		p.t.Fatalf("%d messages held early, want at most %d", len(c.early.held), limit)
	}
}
