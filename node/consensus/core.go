package consensus

import (
	"fmt"
	"maps"

	"github.com/diseq/diseq/node/chain"
)

// Core is the state machine of one node. Only one goroutine uses it at a time.
type Core struct {
	cfg   Config
	rules rules
	// height is the one being decided, or the one just decided; nil before the first StartHeight.
	height *height
	// recent are the closed heights next below, oldest first.
	recent []*height
	early  early
	pool   Pool
	// restored holds the records of heights that have not started yet.
	restored  map[uint64][]chain.Record
	restoring bool
	// missing is a vote that was signed with this validator's key and is not among its records. The
	// Core stops when it finds one.
	missing *chain.Vote
	// entries counts the rounds entered, of all heights.
	entries uint64
	// The synchrony wait: healthy is the node's last report of its health. settling is set while
	// the 2*Delta after a start or ill health pass, settled once they have passed. settles counts
	// how often they began, settleHeight is where they did last.
	healthy, settled, settling bool
	settles, settleHeight      uint64
	dropped                    dropped
	// answered are the peers that got an answer since the last T_retry or height, hinted those
	// whose messages made this Core ask for CatchUp.
	answered map[chain.PublicKey]bool
	hinted   map[chain.PublicKey]bool
	// out collects the actions of the running call.
	out struct {
		records []chain.Record
		bundle  chain.Bundle
		actions []Action
	}
}

// RecentHeights is the number of closed heights held: late votes still strengthen their blocks.
const RecentHeights = 4

// New returns a Core that has not started a height. records are all that Persist asked for and that
// nobody removed since, in any order. New fails if it cannot read one of them. It fails with
// ErrMissingVote if they are known to lack a vote: such a validator must not vote.
func New(cfg Config, records []chain.Record) (*Core, error) {
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("consensus: %w", err)
	}
	c := &Core{
		cfg: cfg, rules: cfg.rules(), restored: make(map[uint64][]chain.Record),
		answered: make(map[chain.PublicKey]bool), hinted: make(map[chain.PublicKey]bool),
	}
	for _, r := range records {
		if err := checkRecord(r); err != nil {
			return nil, fmt.Errorf("consensus: %w", err)
		}
		if r.Kind == chain.RecordMissingVote {
			v, _ := chain.DecodeVote(r.Data)
			return nil, fmt.Errorf("consensus: %w: %v", ErrMissingVote, missingText(v))
		}
		c.restored[r.Height] = append(c.restored[r.Height], r)
	}
	return c, nil
}

// StartHeight begins a height: after New the height above the last stored block, after Commit the
// next one, or a higher one after catching up. It fails, and changes nothing, if the height does
// not follow or contradicts the restored records.
func (c *Core) StartHeight(p Height) ([]Action, error) {
	if err := p.validate(); err != nil {
		return nil, fmt.Errorf("consensus: %w", err)
	}
	if c.height != nil && p.Number <= c.height.Number {
		return nil, fmt.Errorf("consensus: height %d cannot start: the node is already at height %d", p.Number, c.height.Number)
	}
	h := &height{
		Height: p, setHash: p.Set.Hash(), self: -1, threshold: c.rules.threshold(p.Set), blocks: make(map[chain.Hash]*block),
	}
	if c.cfg.Sign != nil && p.Number >= c.cfg.VoteFrom {
		h.self = p.Set.Index(c.cfg.PublicKey)
	}
	records := c.restored[p.Number]
	own, err := c.readOwn(h, records)
	if err != nil {
		return nil, fmt.Errorf("consensus: %w", err)
	}
	c.close()
	from := c.height
	h.inherit(from)
	c.height = h
	maps.DeleteFunc(c.restored, func(number uint64, _ []chain.Record) bool { return number <= p.Number })
	c.newPeriod()
	c.emit(SetTimer{Timer: Timer{Kind: RetryTimer, Height: p.Number}, After: c.cfg.RetryInterval})
	if c.rules.incomplete(h, c.dropped) {
		c.settled, c.settling = false, false
	}
	if from != nil && from.setHash != h.setHash {
		c.rules.enterEra(c, from, h)
	}
	c.settle(h)
	h.intervalOver = c.cfg.MinBlockInterval == 0
	if !h.intervalOver && h.leader(0) == h.self {
		c.emit(SetTimer{Timer: Timer{Kind: IntervalTimer, Height: p.Number}, After: c.cfg.MinBlockInterval})
	}
	c.restore(h, records, own)
	c.entries++
	h.awake = len(records) > 0 || c.pool.Pending
	c.startRound(h)
	c.replay()
	c.advance()
	if len(records) > 0 && !h.committed {
		c.emit(Broadcast{c.everything(h)})
	}
	return c.flush(), nil
}

// close turns a committed height into a recent one.
func (c *Core) close() {
	if c.height != nil && c.height.committed {
		c.height.blocks = nil
		c.recent = append(c.recent, c.height)
	}
	if len(c.recent) > RecentHeights {
		c.recent = c.recent[1:]
	}
}

// closed returns a committed height that is still held, or nil.
func (c *Core) closed(number uint64) *height {
	for _, h := range c.recent {
		if h.Number == number {
			return h
		}
	}
	return nil
}

// newPeriod begins at every height and every T_retry. Peers may get an answer again, and late votes
// are reported.
func (c *Core) newPeriod() {
	clear(c.answered)
	clear(c.hinted)
	for _, h := range c.recent {
		c.reportStrength(h)
	}
}

// Step handles an event and returns the actions that follow from it. Before the first StartHeight
// only Pool and Health have an effect. After a Contradiction about a missing vote no event has one.
func (c *Core) Step(e Event) []Action {
	if c.missing != nil {
		return nil
	}
	if pool, ok := e.(Pool); ok {
		c.pool = pool
	}
	h := c.height
	if h == nil {
		if health, ok := e.(Health); ok {
			c.healthy = health.OK
		}
		return nil
	}
	switch e := e.(type) {
	case Pool:
		if e.Pending {
			c.wake(h)
		}
	case Received:
		c.received(e.From, e.Bundle, e.Set)
	case Ahead:
		c.rules.ahead(c, e)
	case Behind:
		if e.Height < h.Number {
			c.answer(e.From, e.Height)
		}
	case LinkUp:
		b := c.everything(h)
		b.Votes = append(b.Votes, h.statements()...)
		b.Votes = append(b.Votes, h.votesOf(e.Peer)...)
		if !b.Empty() {
			c.emit(Send{To: e.Peer, Bundle: b})
		}
	case TimerFired:
		c.fired(e.Timer)
	case Health:
		c.onHealth(h, e.OK)
	case BlockFetched:
		c.fetched(e)
	case BlockChecked:
		c.checked(e)
	case BlockBuilt:
		c.built(e)
	}
	c.advance()
	return c.flush()
}

func (c *Core) emit(a Action) { c.out.actions = append(c.out.actions, a) }

// persist adds a record. A node that does not vote needs none.
func (c *Core) persist(h *height, r uint32, kind chain.RecordKind, encode func() []byte) {
	if !c.restoring && h.self >= 0 {
		c.out.records = append(c.out.records, chain.Record{Height: h.Number, Round: r, Kind: kind, Data: encode()})
	}
}

// flush returns the actions of a call. If a vote of this validator is missing, it returns only the
// actions that stop it.
func (c *Core) flush() []Action {
	if c.missing != nil {
		return c.stop()
	}
	actions := c.rules.leave(c.out.records, c.out.bundle, c.out.actions)
	c.out.records, c.out.bundle, c.out.actions = nil, chain.Bundle{}, nil
	return actions
}

// leave puts the records first, because nothing may leave before all that it rests on is durable.
// The messages of a call leave in one bundle.
func (honest) leave(records []chain.Record, bundle chain.Bundle, others []Action) []Action {
	var actions []Action
	if len(records) > 0 {
		actions = append(actions, Persist{records})
	}
	if !bundle.Empty() {
		actions = append(actions, Broadcast{bundle})
	}
	return append(actions, others...)
}
