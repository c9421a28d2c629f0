package simulation

import (
	"math/rand/v2"
	"slices"
	"time"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/consensus"
)

// coalition is the adversary. It has the keys of the Byzantine validators, sees every message the
// moment it leaves, before its receivers do, and delivers its own to any validator at any time. Its
// validators also run as two processes each (world.nodes). Each process behaves correctly towards
// the nodes that it reaches: an equivocation that looks honest from both sides. This file has the
// rest of what the coalition does.
//
// At every height it splits the honest validators into two or three sides and keeps to that,
// because an attack that changes its mind achieves nothing. Each side sees a chain of its own for
// as long as there are votes to show.
type coalition struct {
	w       *world
	victims []*node
	height  uint64
	// era is that of the height, members are the places in its set that the coalition has the keys
	// of.
	era     *era
	members []int
	order   []int
	// sides is the side of each victim, below parts.
	sides []int
	parts int
	// rounds is the coalition's knowledge of the height.
	rounds map[uint32]*scene
	blocks map[chain.Hash]*chain.Block
	top    uint32
	// hoard collects bundles of any height, for replay.
	hoard []chain.Bundle
	// The coalition's character in this run. eagerness is how often it acts on a message, boldness
	// how often it makes a proposal that nothing justifies, unity how often it proposes the same to
	// both sides. If it lies low, its processes do not run, and only the validators to which it
	// shows a signed message know of that message.
	eagerness, boldness, unity float64
	// duplicity is how often it attaches a wrong body to a block. chance decides that, and not the
	// world's, so that the runs without it are the same.
	duplicity float64
	chance    *rand.Rand
	liesLow   bool
	// noisy: under the synchrony wait it also sends garbage, replays and double votes at any
	// moment, although no plot needs them.
	noisy bool
	// schemes are the attacks on the synchrony wait to choose from, scheme is the one at this
	// height. prey is the validator that the scheme aims at, if any. heights counts the heights
	// that the scheme has lasted.
	schemes []scheme
	scheme  scheme
	prey    *node
	heights int
	// sets are the next sets that somebody endorsed, oldest first.
	sets []*proposedSet
	// concludes: the coalition will let the height become final.
	concludes bool
}

// scene is the coalition's knowledge of a round.
type scene struct {
	votes map[chain.Kind]map[chain.Hash]map[uint32]chain.Vote
	// led are the proposals of a Byzantine leader to each side.
	led [maxParts]*chain.Proposal
	// seen are the blocks that were proposed or voted for.
	seen []chain.Hash
	// plotted: the actions in this round have been drawn. passed: the coalition lets the round be
	// nullified.
	plotted, passed bool
}

// maxParts is the largest number of sides. everyone stands for all of them.
const (
	maxParts = 3
	everyone = -1
)

func newCoalition(w *world) *coalition {
	pick := func(values ...float64) float64 { return values[w.rng.IntN(len(values))] }
	c := &coalition{
		w: w, eagerness: pick(0.05, 0.2, 0.6), boldness: pick(0, 0.1, 0.8), unity: pick(0, 0.5, 1), liesLow: w.rng.IntN(3) == 0,
	}
	if w.Delta > 0 {
		// Messages of the coalition's processes would give its plots away.
		c.boldness, c.unity, c.liesLow = pick(0, 0, 0.1), pick(0, 0, 0, 0.5), w.rng.IntN(10) != 0
		c.noisy = w.sound() && w.rng.IntN(4) == 0
	}
	c.chance = rand.New(rand.NewPCG(w.seed, 2))
	switch {
	case w.Delta > 0 && !c.noisy:
	case w.sound() || w.Mutation.MisfitInvalid || w.Mutation.AnyBody || w.Mutation.UnboundChange:
		c.duplicity = []float64{0, 0.4, 1}[c.chance.IntN(3)]
	}
	c.schemes = []scheme{improvise, divide, overtake, ladder, strand}
	if w.Paused+w.Killed > 0 {
		c.schemes = append(c.schemes, ambush, ambush, ambush)
	}
	c.join(w.eraAt(1))
	for _, s := range w.nodes {
		if !s.byzantine {
			c.victims = append(c.victims, s)
		}
	}
	return c
}

// join looks up the coalition's places in a set.
func (c *coalition) join(e *era) {
	c.era, c.members = e, nil
	for i := range e.places {
		if c.owns(uint32(i)) {
			c.members = append(c.members, i)
		}
	}
}

// owns reports whether the coalition has the key of the member at a place.
func (c *coalition) owns(place uint32) bool {
	who := c.era.at(place)
	return who != nil && who.owned()
}

// overhear shows the coalition a message, also one of its own processes.
func (c *coalition) overhear(s *node, b chain.Bundle) {
	if len(c.members) == 0 && c.w.Eras == nil || len(c.victims) == 0 {
		return
	}
	for _, cert := range b.Certificates {
		for i := range cert.Votes {
			c.learn(cert.Vote(i))
		}
	}
	for _, p := range b.Proposals {
		c.learn(p.Statement)
		if p.Statement.Height == c.height {
			c.blocks[p.Statement.Block] = &p.Block
		}
	}
	for _, v := range b.Votes {
		c.learn(v)
	}
	if !s.byzantine {
		c.passOn(b)
	}
	if len(c.hoard) < 64 {
		c.hoard = append(c.hoard, b)
	}
	if !s.byzantine && c.height != 0 && (!c.w.synchronous() || c.noisy) && c.w.rng.Float64() < c.eagerness {
		c.strike()
	}
}

func (c *coalition) learn(v chain.Vote) {
	if v.Height > c.height {
		c.begin(v.Height)
	}
	if v.Height != c.height || v.Round > 64 {
		return
	}
	c.top = max(c.top, v.Round)
	c.scene(v.Round).add(v)
	c.hint(v)
	if v.Kind == chain.Finalize {
		c.exploit()
	}
}

// begin starts a height with new sides.
func (c *coalition) begin(height uint64) {
	c.height, c.top, c.concludes = height, 0, false
	c.join(c.w.eraAt(height))
	c.order = c.w.order(c.era, height)
	c.rounds = make(map[uint32]*scene)
	c.blocks = make(map[chain.Hash]*chain.Block)
	switch {
	case !c.w.synchronous() || len(c.victims) < 2:
		c.split(2)
	case c.scheme == strand && c.heights < strandHeights:
		c.heights++
	case c.scheme == usher && c.heights == 1 && c.changed():
		c.heights++
	case c.ushers():
	default:
		c.scheme, c.heights, c.prey = c.schemes[c.w.rng.IntN(len(c.schemes))], 1, nil
		c.split(2 + c.w.rng.IntN(min(maxParts, len(c.victims))-1))
		switch c.scheme {
		case ambush:
			c.pickPrey(func(s *node) bool { return c.w.pausable(s) || c.w.killable(s) })
		case strand:
			c.pickPrey(func(*node) bool { return true })
		}
	}
	if height > 0 {
		c.plot(0)
	}
}

// began reports that an honest validator is at a height.
func (c *coalition) began(height uint64) {
	if height > c.height && (len(c.members) > 0 || c.w.Eras != nil) {
		c.begin(height)
	}
}

// side returns the side that an honest validator is on.
func (c *coalition) side(s *node) int {
	if i := slices.Index(c.victims, s); i >= 0 && i < len(c.sides) {
		return c.sides[i]
	}
	return everyone
}

// split draws the sides. Under the synchrony wait no side is empty.
func (c *coalition) split(parts int) {
	c.parts = parts
	c.sides = make([]int, len(c.victims))
	for i := range c.sides {
		if c.sides[i] = c.w.rng.IntN(parts); i < parts && c.w.synchronous() {
			c.sides[i] = i
		}
	}
	c.w.rng.Shuffle(len(c.sides), func(i, j int) { c.sides[i], c.sides[j] = c.sides[j], c.sides[i] })
	c.seat()
}

func (c *coalition) scene(r uint32) *scene {
	sc := c.rounds[r]
	if sc == nil {
		sc = &scene{votes: make(map[chain.Kind]map[chain.Hash]map[uint32]chain.Vote)}
		c.rounds[r] = sc
	}
	return sc
}

func (sc *scene) add(v chain.Vote) {
	if sc.votes[v.Kind] == nil {
		sc.votes[v.Kind] = make(map[chain.Hash]map[uint32]chain.Vote)
	}
	if sc.votes[v.Kind][v.Block] == nil {
		sc.votes[v.Kind][v.Block] = make(map[uint32]chain.Vote)
	}
	sc.votes[v.Kind][v.Block][v.Validator] = v
	if v.Kind != chain.Nullify && !slices.Contains(sc.seen, v.Block) {
		sc.seen = append(sc.seen, v.Block)
	}
}

// strike does one thing that no honest validator does.
func (c *coalition) strike() {
	r := c.top
	if r > 0 && c.w.rng.IntN(3) == 0 {
		r--
	}
	if c.w.Eras != nil && c.w.rng.IntN(4) == 0 {
		c.haunt()
		return
	}
	switch c.w.rng.IntN(8) {
	case 0, 1:
		c.lead(r)
	case 2, 3:
		c.vote(r)
	case 4, 5:
		c.release(r)
	case 6:
		c.lead(r + 1)
	case 7:
		if c.w.rng.IntN(2) == 0 {
			c.replay()
		} else {
			c.babble(r)
		}
	}
}

// to delivers a bundle to the victims of a side, or to everyone, now or a little later. Nothing is
// lost on the way.
func (c *coalition) to(side int, b chain.Bundle) {
	if b.Empty() {
		return
	}
	from, ok := c.member()
	if !ok {
		return
	}
	if len(b.Proposals) > 0 {
		from = c.w.signed[b.Proposals[0].Statement].PublicKey
	}
	for i, v := range c.victims {
		if side != everyone && c.sides[i] != side {
			continue
		}
		var d time.Duration
		if !c.w.synchronous() && c.w.rng.IntN(3) == 0 {
			d = time.Duration(c.w.rng.IntN(400)) * time.Millisecond
		}
		c.w.deliver(from, v, c.twist(b), d, -1) // of what arrives at one time, the coalition's comes first
	}
	c.w.trace("coalition to side %d: %v", side, text(b))
}

// member returns the peer key of a member, or of somebody else whose key the coalition has.
func (c *coalition) member() (key chain.PublicKey, ok bool) {
	if len(c.members) > 0 {
		return c.era.places[c.members[c.w.rng.IntN(len(c.members))]].PublicKey, true
	}
	for _, who := range c.w.people {
		if who.owned() {
			return who.PublicKey, true
		}
	}
	return key, false
}

// wrongBody returns a block, at times with a wrong body: one header, two bodies.
func (c *coalition) wrongBody(b *chain.Block) *chain.Block {
	if c.duplicity == 0 || c.chance.Float64() >= c.duplicity {
		return b
	}
	if b.Change != nil && c.chance.IntN(2) == 0 {
		return withOtherChange(b)
	}
	c.w.faults[WrongBody]++
	return withBody(b, [][]chain.BatchRef{misfitting, unknown}[c.chance.IntN(2)])
}

// twist returns a bundle with wrong bodies.
func (c *coalition) twist(b chain.Bundle) chain.Bundle {
	proposals := b.Proposals
	b.Proposals = nil
	for _, p := range proposals {
		other := *p
		other.Block = *c.wrongBody(&p.Block)
		b.Proposals = append(b.Proposals, &other)
	}
	return b
}

// passOn gives the proposals of honest leaders to the victims before their leaders do, with wrong
// bodies.
func (c *coalition) passOn(b chain.Bundle) {
	from, ok := c.first()
	if len(b.Proposals) == 0 || c.duplicity == 0 || !ok {
		return
	}
	for _, v := range c.victims {
		c.w.deliver(from, v, c.twist(chain.Bundle{Proposals: b.Proposals}), 0, -1)
	}
}

// serve answers the request of an honest validator for a block: at once, late or never, with its
// own body or a wrong one. It returns false if the coalition leaves that to its processes.
func (c *coalition) serve(to *node, hash chain.Hash) bool {
	b := c.blocks[hash]
	if b == nil || c.duplicity == 0 {
		return false
	}
	var d time.Duration
	switch c.chance.IntN(4) {
	case 0:
		return true
	case 1:
		d = time.Duration(c.chance.IntN(3000)) * time.Millisecond
	}
	b = c.wrongBody(b)
	if !c.w.decodes(b) {
		return true
	}
	c.w.on(to, d, func() { c.w.step(to, consensus.BlockFetched{Block: b}) })
	return true
}

// certificate makes a certificate of the known votes and those that the coalition can add, or
// returns nil if they are too few.
func (c *coalition) certificate(kind chain.Kind, r uint32, block chain.Hash) *chain.Certificate {
	sc := c.scene(r)
	var votes []chain.VoteSignature
	for v := range uint32(c.era.n()) {
		vote, ok := sc.votes[kind][block][v]
		if !ok && c.signer(v) != nil {
			vote, ok = c.signed(kind, r, block, v), true
		}
		if ok {
			votes = append(votes, chain.VoteSignature{Validator: v, Signature: vote.Signature})
		}
	}
	if len(votes) < c.era.t() {
		return nil
	}
	// A certificate with as few votes as possible leaves the most freedom to the other signers.
	for len(votes) > c.era.t() && c.w.rng.IntN(2) == 0 {
		i := c.w.rng.IntN(len(votes))
		votes = slices.Delete(votes, i, i+1)
	}
	return &chain.Certificate{Kind: kind, Height: c.height, Round: r, Block: block, Votes: votes}
}

func (c *coalition) signed(kind chain.Kind, r uint32, block chain.Hash, v uint32) chain.Vote {
	vote := chain.Vote{Kind: kind, Height: c.height, Round: r, Block: block, Validator: v}
	c.w.sign(c.signer(v), &vote)
	c.scene(r).add(vote)
	return vote
}

// lead proposes in a round that a member leads: another block to each side, with any certificates
// that justify it.
func (c *coalition) lead(r uint32) {
	leader := c.order[int(r)%len(c.order)]
	if !c.owns(uint32(leader)) {
		return
	}
	sc := c.scene(r)
	for side := range c.parts {
		if sc.led[side] == nil {
			if sc.led[side] = sc.led[0]; sc.led[0] == nil || c.w.rng.Float64() >= c.unity {
				sc.led[side] = c.proposal(r, uint32(leader), c.either)
			}
		}
		if p := sc.led[side]; p != nil && c.w.rng.IntN(4) != 0 {
			c.to(side, chain.Bundle{Proposals: []*chain.Proposal{p}})
		}
	}
}

// either decides by chance whether a proposal builds on a notarization.
func (c *coalition) either(uint32, chain.Hash) bool { return c.w.rng.IntN(2) == 0 }

// proposal makes a proposal that can be justified: of a new block, or of a block notarized below
// that on accepts, as far as the known and the possible nullifications reach.
func (c *coalition) proposal(r, leader uint32, on func(r uint32, block chain.Hash) bool) *chain.Proposal {
	p := &chain.Proposal{}
	from := uint32(0)
	unjustified := r > 0 && c.w.rng.Float64() < c.boldness
	if unjustified {
		c.w.faults[Unjustified]++
	}
	for q := r; q > 0 && !unjustified; q-- {
		sc := c.scene(q - 1)
		for _, block := range sc.seen {
			if cert := c.certificate(chain.Notarize, q-1, block); cert != nil && c.blocks[block] != nil && on(q-1, block) {
				p.Notarization, p.Block, from = cert, *c.blocks[block], q
				break
			}
		}
		if p.Notarization != nil {
			break
		}
	}
	for q := from; q < r && !unjustified; q++ {
		cert := c.certificate(chain.Nullify, q, chain.Hash{})
		if cert == nil {
			return nil
		}
		p.Nullifications = append(p.Nullifications, *cert)
	}
	if p.Notarization == nil {
		below, ok := c.below()
		if !ok {
			return nil
		}
		p.Block = *c.newBlock(leader, below)
	}
	hash := p.Block.Hash()
	c.blocks[hash] = &p.Block
	for _, s := range c.w.nodes {
		if s.byzantine {
			s.known[hash] = &p.Block
		}
	}
	p.Statement = c.signed(chain.Propose, r, hash, leader)
	return p
}

// newBlock makes a block of the present, or of a time that no clock shows. Now and then the block
// lacks its commitment, or is invalid.
func (c *coalition) newBlock(leader uint32, below []stored) *chain.Block {
	w := c.w
	if w.synchronous() && !c.noisy {
		return w.newBlock(c.era, c.height, leader, below, uint64(began+w.now.Milliseconds()), c.change(below))
	}
	at := w.now + []time.Duration{0, 0, 0, -time.Hour, 2500 * time.Millisecond, time.Hour}[w.rng.IntN(6)]
	b := w.newBlock(c.era, c.height, leader, below, uint64(began+at.Milliseconds()), c.change(below))
	switch w.rng.IntN(12) {
	case 0, 1:
		b.Header.ProtocolVersion = uncommitted
	case 2:
		w.faults[InvalidBlock]++
		b.Header.ProtocolVersion = badBlock
	}
	return b
}

// below returns a chain up to the height, if a node has one.
func (c *coalition) below() (blocks []stored, ok bool) {
	for _, s := range c.w.nodes {
		if uint64(len(s.store)) >= c.height-1 {
			return s.store, true
		}
	}
	return nil, false
}

// vote casts different votes towards the sides: for a block of the round, or to give it up.
func (c *coalition) vote(r uint32) {
	sc := c.scene(r)
	kinds := []chain.Kind{chain.Notarize, chain.Finalize, chain.Nullify}
	for side := range c.parts {
		kind := kinds[c.w.rng.IntN(len(kinds))]
		block := chain.Hash{}
		if kind != chain.Nullify {
			if len(sc.seen) == 0 {
				continue
			}
			block = sc.seen[(side+c.w.rng.IntN(2))%len(sc.seen)]
			if sc.led[side] != nil {
				block = sc.led[side].Statement.Block
			}
		}
		var b chain.Bundle
		for _, v := range c.members {
			b.Votes = append(b.Votes, c.signed(kind, r, block, uint32(v)))
		}
		c.to(side, b)
	}
}

// release shows one side a certificate that was held back, or that only the coalition's votes
// complete.
func (c *coalition) release(r uint32) {
	sc := c.scene(r)
	kind := chain.Kind(1 + c.w.rng.IntN(3))
	block := chain.Hash{}
	if kind != chain.Nullify {
		if len(sc.seen) == 0 {
			return
		}
		block = sc.seen[c.w.rng.IntN(len(sc.seen))]
	}
	if cert := c.certificate(kind, r, block); cert != nil {
		c.w.faults[Release]++
		c.to(c.anySide(), chain.Bundle{Certificates: []*chain.Certificate{cert}})
	}
}

// anySide returns one of the sides, or everyone.
func (c *coalition) anySide() int { return c.w.rng.IntN(c.parts+1) - 1 }

// replay delivers a message that was sent before.
func (c *coalition) replay() {
	c.w.faults[Replay]++
	c.to(c.anySide(), c.hoard[c.w.rng.IntN(len(c.hoard))])
}

// babble sends messages without meaning: votes of validators that do not exist, of kinds that do
// not exist, with signatures that do not verify.
func (c *coalition) babble(r uint32) {
	v := chain.Vote{
		Kind: chain.Kind(c.w.rng.IntN(7)), Height: c.height + uint64(c.w.rng.IntN(3)), Round: r + uint32(c.w.rng.IntN(1000)),
		Validator: uint32(c.w.rng.IntN(2 * c.era.n())), Block: chain.Hash{byte(c.w.rng.IntN(3))},
	}
	b := chain.Bundle{Votes: []chain.Vote{v}}
	if c.owns(v.Validator) && v.Kind != 0 && v.Kind <= chain.Propose && (v.Kind == chain.Nullify) == v.Block.IsZero() {
		c.w.sign(c.era.places[v.Validator], &v)
		b.Votes = append(b.Votes, v)
	}
	b.Certificates = append(b.Certificates, &chain.Certificate{
		Kind: v.Kind, Height: v.Height, Round: r, Block: v.Block, Votes: []chain.VoteSignature{{Validator: v.Validator}},
	})
	c.w.faults[Garbage]++
	c.to(everyone, b)
}
