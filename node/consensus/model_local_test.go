package consensus

import (
	"encoding/binary"
	"maps"
	"slices"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/internal/mutation"
)

// automaton is all that an honest validator may come to, whatever is delivered to it.
type automaton struct {
	m      *model
	self   int
	events []Event
	// steps is how many times a Core was run.
	steps int
	// records are all that were ever made durable, recordIDs their places.
	records   []chain.Record
	recordIDs map[recordKey]int
	ids       map[string]int32
	restarts  map[remains]int32
	stack     []local
	// sent and targets are by state.
	sent    []voteSet
	targets [][]target
	// class is the number of what the validator does from a state on, by state. classSent and moves
	// are by class.
	class     []int32
	classSent []voteSet
	moves     [][]target
}

// recordKey is a Record that can be compared.
type recordKey struct {
	height uint64
	round  uint32
	kind   chain.RecordKind
	data   string
}

// local is a state of a validator.
type local struct {
	id   int32
	core *Core
	remains
}

// remains is what a crash leaves of a validator: the records that are durable, a set of their
// places, and what it has sent, ever.
type remains struct {
	disk uint64
	sent voteSet
}

// target is a state, or a class, that an event leads to.
type target struct {
	event int32
	to    int32
}

func newAutomaton(m *model, self int) *automaton {
	a := &automaton{m: m, self: self, ids: make(map[string]int32), recordIDs: make(map[recordKey]int), restarts: make(map[remains]int32)}
	for i := range m.events {
		if m.events[i].event == nil {
			a.events = append(a.events, nil)
		} else {
			a.events = append(a.events, m.events[i].event(self))
		}
	}
	a.explore()
	a.minimise()
	return a
}

// start begins a validator with what is durable.
func (a *automaton) start(r remains) (next local, crashes []remains) {
	a.steps++
	cfg := testConfig(a.m.set, a.self)
	cfg.Mutation = a.m.rules
	// A validator is looked at alone: what it meets may hold votes of its own that it casts in
	// other runs only.
	cfg.Mutation.VoteForgetful = true
	var disk []chain.Record
	for id, record := range a.records {
		if r.disk>>id&1 != 0 {
			disk = append(disk, record)
		}
	}
	c, err := New(cfg, disk)
	if err != nil {
		a.m.t.Fatal(err)
	}
	c.Step(Pool{Pending: true})
	actions, err := c.StartHeight(Height{Number: 1, Set: a.m.set, Order: a.m.order})
	if err != nil {
		a.m.t.Fatal(err)
	}
	next = local{core: c, remains: r}
	return next, a.carryOut(&next, actions)
}

// step returns what a validator is after an event, and what is left if it crashes before that is
// over.
func (a *automaton) step(v *local, event int) (next local, crashes []remains) {
	if a.events[event] == nil {
		return a.start(v.remains)
	}
	a.steps++
	next = local{core: copyCore(v.core), remains: v.remains}
	return next, a.carryOut(&next, next.core.Step(checked(next.core, a.events[event])))
}

// carryOut does what a Core asks for, in its order: the records of a Persist one by one. A crash
// may come after each of them, and after each message. All blocks are valid. Rounds that are not
// part of the model leave nothing durable: a validator that forgets its votes of them may do in
// those that are all that it might have done, and more.
func (a *automaton) carryOut(v *local, actions []Action) (crashes []remains) {
	for len(actions) > 0 {
		var next []Action
		switch act := actions[0].(type) {
		case Persist:
			for _, r := range act.Records {
				if r.Round < modelRounds {
					v.disk |= 1 << a.record(r)
					crashes = append(crashes, v.remains)
				}
			}
		case Broadcast:
			for _, vote := range act.Bundle.Votes {
				v.sent |= a.m.own(vote, a.self)
			}
			for _, p := range act.Bundle.Proposals {
				v.sent |= a.m.own(p.Statement, a.self)
			}
			crashes = append(crashes, v.remains)
		default:
			next = a.answer(v.core, act)
		}
		actions = append(actions[1:], next...)
	}
	return crashes
}

// record is the place of a record among all.
func (a *automaton) record(r chain.Record) int {
	key := recordKey{r.Height, r.Round, r.Kind, string(r.Data)}
	id, ok := a.recordIDs[key]
	if !ok {
		if id = len(a.records); id == 64 {
			a.m.t.Fatalf("validator %d of %s has more than 64 different records", a.self, a.m.name)
		}
		a.recordIDs[key], a.records = id, append(a.records, r)
	}
	return id
}

// answer tells a Core at once what it asks for, unless answers come late.
func (a *automaton) answer(c *Core, action Action) []Action {
	if a.m.late {
		return nil
	}
	switch act := action.(type) {
	case CheckBlock:
		return c.Step(BlockChecked{Height: 1, Round: act.Round, Block: act.Block, Fresh: act.Fresh, Verdict: Valid})
	case FetchBlock:
		return c.Step(BlockFetched{Block: a.m.blocks[a.m.index[act.Block]]})
	case RequestBlock:
		if act.Round < modelRounds {
			return c.Step(BlockBuilt{Round: act.Round, Block: a.m.blocks[freshBlock(act.Round)]})
		}
	}
	return nil
}

// explore finds every state that any events lead to, with a crash at any point of what an event
// brings about. In a world without forks certificates that contradict each other are not delivered:
// the search shows that they cannot be formed.
func (a *automaton) explore() {
	first, _ := a.start(remains{})
	a.number(first)
	for len(a.stack) > 0 {
		s := a.stack[len(a.stack)-1]
		a.stack = a.stack[:len(a.stack)-1]
		held := a.m.held(s.core.height)
		for e := range a.events {
			if a.m.excluded(held | a.m.events[e].certificates) {
				continue
			}
			next, crashes := a.step(&s, e)
			a.lead(s.id, e, a.number(next))
			if a.m.crashes {
				for _, r := range crashes {
					a.lead(s.id, e, a.restart(r))
				}
			}
		}
	}
}

func (a *automaton) lead(from int32, event int, to int32) {
	if t := (target{int32(event), to}); to != from && !slices.Contains(a.targets[from], t) {
		a.targets[from] = append(a.targets[from], t)
	}
}

// restart is the state that a validator starts in with what a crash has left.
func (a *automaton) restart(r remains) int32 {
	id, ok := a.restarts[r]
	if !ok {
		next, _ := a.start(r)
		id = a.number(next)
		a.restarts[r] = id
	}
	return id
}

// number is the state's, a new one if it was not met before.
func (a *automaton) number(v local) int32 {
	key := a.key(&v)
	if id, ok := a.ids[string(key)]; ok {
		return id
	}
	v.id = int32(len(a.ids))
	a.ids[string(key)] = v.id
	a.sent, a.targets, a.stack = append(a.sent, v.sent), append(a.targets, nil), append(a.stack, v)
	if rule := breaks(v.sent); rule != "" && a.m.rules == (mutation.Rules{}) {
		a.m.t.Fatalf("validator %d of %s breaks %s: %032b", a.self, a.m.name, rule, v.sent)
	}
	return v.id
}

// key names a state: from states with the same key the same follows. It leaves out what makes no
// difference in two rounds of one height: who was heard and who was silent (a leader is skipped
// once it has led twice), that the height is awake, evidence, the votes in certificates, and of the
// rounds above all but that they were entered.
//
// It also leaves out what follows from the rest. Certificates that are held are durable, and so are
// own votes, which have been sent when an event is over. T_round that has fired has left its vote
// to nullify, or the round. A statement counts while its round is not passed, and of two the first.
// Blocks that are held, asked for and valid need not be known while answers come at once and nobody
// crashes: votes leave together or one after the other. A final block ends everything.
// TestSmallModelLeavesOutNothing compares with the whole.
func (a *automaton) key(v *local) []byte {
	h, m := v.core.height, a.m
	b := binary.LittleEndian.AppendUint32(make([]byte, 0, 96), uint32(v.sent))
	if h.committed && !m.whole {
		return b
	}
	current := min(h.current, modelRounds)
	b = append(b, byte(current), truth(h.committed))
	for r := range uint32(modelRounds) {
		rd := h.peek(r)
		b = append(b, '|')
		for kind, cert := range rd.certificates {
			if cert != nil {
				b = append(b, byte(kind), byte(m.index[cert.Block]))
			}
		}
		for _, cert := range rd.others {
			b = append(b, 'o', byte(m.index[cert.Block]))
		}
		for i, s := range rd.statements {
			if m.whole || i == 0 && m.late || r >= current && (i == 0 || m.rules.NotarizeTwice) {
				b = append(b, 's', byte(m.index[s.Block]))
			}
		}
		if m.late && r >= current || m.whole {
			b = append(b, truth(rd.requested, rd.asked), byte(rd.freshness))
		}
		if m.whole {
			b = append(b, truth(rd.timedOut))
		}
		if m.whole || m.rules != (mutation.Rules{}) {
			for kind, vote := range rd.own {
				if vote != nil {
					b = append(b, 'v', byte(kind), byte(m.index[vote.Block]))
				}
			}
		}
		if m.votes {
			b = m.appendTally(b, rd, a.self)
		}
	}
	if m.late || m.whole || m.crashes && m.rules == (mutation.Rules{}) {
		for _, hash := range m.hashes {
			if held := h.blocks[hash]; held != nil {
				b = append(b, truth(true, held.Block != nil, held.fetching, held.checking, held.persisted), byte(held.verdict))
			}
			b = append(b, ';')
		}
	}
	if m.whole {
		b = binary.LittleEndian.AppendUint64(b, v.disk)
	}
	return b
}

func truth(flags ...bool) (b byte) {
	for _, f := range flags {
		b <<= 1
		if f {
			b |= 1
		}
	}
	return b
}

// appendTally adds single votes of others, which count until there is a certificate.
func (m *model) appendTally(b []byte, rd *round, self int) []byte {
	for kind, votes := range rd.votes {
		for v, vote := range votes {
			if v != self && vote.Kind != 0 && rd.certificates[kind] == nil {
				b = append(b, 't', byte(kind), byte(v), byte(m.index[vote.Block]))
			}
		}
	}
	return b
}

// All states of a class have the same moves.
func (a *automaton) minimise() {
	a.class = make([]int32, len(a.targets))
	if a.m.plain {
		for s := range a.class {
			a.class[s] = int32(s)
		}
	}
	for classes := 0; !a.m.plain; {
		numbers := make(map[string]int32)
		refined := make([]int32, len(a.class))
		var b []byte
		for s, class := range a.class {
			b = binary.LittleEndian.AppendUint32(b[:0], uint32(class))
			b = binary.LittleEndian.AppendUint32(b, uint32(a.sent[s]))
			for _, t := range a.outward(s) {
				b = binary.LittleEndian.AppendUint32(b, uint32(t.event))
				b = binary.LittleEndian.AppendUint32(b, uint32(t.to))
			}
			if _, ok := numbers[string(b)]; !ok {
				numbers[string(b)] = int32(len(numbers))
			}
			refined[s] = numbers[string(b)]
		}
		a.class = refined
		if len(numbers) == classes {
			break
		}
		classes = len(numbers)
	}
	n := int(slices.Max(a.class)) + 1
	if n >= 1<<16 {
		a.m.t.Fatalf("validator %d has %d classes, want fewer than %d", a.self, n, 1<<16)
	}
	a.classSent, a.moves = make([]voteSet, n), make([][]target, n)
	for s, class := range a.class {
		a.classSent[class], a.moves[class] = a.sent[s], a.outward(s)
	}
}

// outward returns the other classes that a state's events lead to, in order.
func (a *automaton) outward(s int) []target {
	var out []target
	for _, t := range a.targets[s] {
		if to := a.class[t.to]; to != a.class[s] {
			out = append(out, target{t.event, to})
		}
	}
	slices.SortFunc(out, func(x, y target) int { return int(x.event-y.event)<<16 + int(x.to-y.to) })
	return slices.Compact(out)
}

// copyCore returns a Core that goes on from where c is. The two share only the parts that a Core
// never changes once they are made.
func copyCore(c *Core) *Core {
	d, h := *c, *c.height
	d.height = &h
	d.restored, d.answered, d.hinted = maps.Clone(c.restored), maps.Clone(c.answered), maps.Clone(c.hinted)
	h.presence = slices.Clone(h.presence)
	h.blocks = make(map[chain.Hash]*block, len(c.height.blocks))
	for hash, b := range c.height.blocks {
		again := *b
		h.blocks[hash] = &again
	}
	h.rounds = make([]*round, len(c.height.rounds))
	for i, rd := range c.height.rounds {
		again := *rd
		again.statements, again.others, again.accused = slices.Clone(rd.statements), slices.Clone(rd.others), slices.Clone(rd.accused)
		for kind := range rd.votes {
			again.votes[kind] = slices.Clone(rd.votes[kind])
		}
		h.rounds[i] = &again
	}
	return &d
}
