package consensus

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/internal/mutation"
)

// A small model, searched in full: one height and two rounds of the very Core that nodes run. Messages are a growing set, of which the
// adversary delivers what it likes to whom it likes in whatever order, and lets T_round fire when it likes. It may assemble every
// certificate that the votes cast amount to, with those that Byzantine validators add to all of them; a Byzantine leader proposes two blocks in
// round 0, and these or another in round 1.
//
// Three validators are searched. Of four, one of them Byzantine, each has too many states of its own for a test; they are the
// simulator's.
//
// Votes travel in certificates alone, since a vote does nothing by itself; blocks that are asked for come at once; nobody crashes.
//
// What one validator does next follows from what it holds, so its states are made once, by running a Core, and numbered; states from which
// the same votes follow, whatever is delivered, count as one. The search is over all honest validators together, in any order among those
// that lead no round.
type model struct {
	t          *testing.T
	n, t0      int
	byzantine  int
	order      []int
	mutation   mutation.Rules
	blocks     map[string]*chain.Block
	names      map[chain.Hash]string
	events     []modelEvent
	validators []*automaton
	// votes that a state of a validator has cast are bits: of each kind, round and block.
	votes map[string]uint
}

// modelEvent is something that the adversary may do to a validator.
type modelEvent struct {
	name  string
	event Event
	// certificate is the votes that it takes, 0 for none; proposal, what an honest leader must have sent.
	certificate, proposal uint64
	kind                  chain.Kind
	round                 uint32
	block                 chain.Hash
}

// automaton is all that an honest validator may come to.
type automaton struct {
	m       *model
	self    int
	ids     map[string]int
	paths   [][]int
	sent    []uint64
	targets [][]int
	// class is the number of what the validator does from a state on, by state.
	class []int
	// votes and next are by class.
	votes []uint64
	next  [][]int
}

const modelRounds = 2

// bit numbers what may be sent: votes and proposals, by kind, round and block.
func (m *model) bit(kind chain.Kind, round uint32, block chain.Hash) uint64 {
	key := fmt.Sprint(kind, round, m.names[block])
	if _, ok := m.votes[key]; !ok {
		m.votes[key] = uint(len(m.votes))
	}
	return 1 << m.votes[key]
}

func newModel(t *testing.T, n, threshold, byzantine int, order []int, rules mutation.Rules) *model {
	m := &model{
		t: t, n: n, t0: threshold, byzantine: byzantine, order: order, mutation: rules,
		blocks: make(map[string]*chain.Block), names: map[chain.Hash]string{{}: "-"}, votes: make(map[string]uint),
	}
	for r := range uint32(modelRounds) {
		names := []string{fmt.Sprintf("%dA", r)}
		if order[r] < byzantine && r == 0 {
			names = append(names, "0B")
		}
		for i, name := range names {
			b := &chain.Block{Header: chain.Header{ChainID: "test", Height: 1, Proposer: uint32(order[r]), Timestamp: uint64(10*r) + uint64(i)}}
			m.blocks[name], m.names[b.Hash()] = b, name
		}
	}
	add := func(name string, e Event, certificate, proposal uint64) {
		m.events = append(m.events, modelEvent{name: name, event: e, certificate: certificate, proposal: proposal})
	}
	names := make([]string, 0, len(m.blocks))
	for name := range m.blocks {
		names = append(names, name)
	}
	slices.Sort(names)
	certificate := func(kind chain.Kind, r uint32, hash chain.Hash) {
		m.events = append(m.events, modelEvent{
			name: fmt.Sprint(kind, r, m.names[hash]), certificate: m.bit(kind, r, hash), kind: kind, round: r, block: hash,
		})
	}
	for r := range uint32(modelRounds) {
		certificate(chain.Nullify, r, chain.Hash{})
		for _, name := range names {
			b := m.blocks[name]
			if name[0] > byte('0'+r) {
				continue
			}
			certificate(chain.Notarize, r, b.Hash())
			m.bit(chain.Finalize, r, b.Hash())
			s := chain.Vote{Kind: chain.Propose, Height: 1, Round: r, Block: b.Hash(), Validator: uint32(order[r])}
			fakeSignature(&s)
			var sent uint64
			if order[r] >= byzantine {
				sent = m.bit(chain.Propose, r, b.Hash())
			}
			add("propose "+fmt.Sprint(r, name), Received{Bundle: Bundle{Proposals: []*chain.Proposal{{Statement: s, Block: *b}}}}, 0, sent)
		}
		add(fmt.Sprint("T_round ", r), TimerFired{Timer{Kind: RoundTimer, Height: 1, Round: r}}, 0, 0)
	}
	var free *automaton
	for v := byzantine; v < n; v++ {
		a := &automaton{m: m, self: v, ids: make(map[string]int)}
		leads := slices.Contains(order[:modelRounds], v)
		if !leads && free != nil {
			m.validators = append(m.validators, free)
			continue
		}
		a.explore()
		if !leads {
			free = a
		}
		m.validators = append(m.validators, a)
	}
	return m
}

// run has a Core live through events.
func (a *automaton) run(path []int) (c *Core, sent uint64) {
	set := testSet(a.m.n, a.m.t0)
	cfg := testConfig(set, a.self)
	cfg.MinBlockInterval, cfg.Mutation = 0, a.m.mutation
	c, err := New(cfg, nil)
	if err != nil {
		a.m.t.Fatal(err)
	}
	c.Step(Pool{Pending: true})
	actions, err := c.StartHeight(Height{Height: 1, Set: set, Order: a.m.order})
	if err != nil {
		a.m.t.Fatal(err)
	}
	do := func(actions []Action) {
		for len(actions) > 0 {
			var next []Action
			switch act := actions[0].(type) {
			case CheckBlock:
				next = c.Step(BlockChecked{Height: 1, Round: act.Round, Block: act.Block.Hash(), Fresh: act.Fresh, Verdict: Valid})
			case FetchBlock:
				next = c.Step(BlockFetched{Block: a.m.blocks[a.m.names[act.Block]]})
			case RequestBlock:
				if act.Round < modelRounds {
					next = c.Step(BlockBuilt{Round: act.Round, Block: a.m.blocks[fmt.Sprintf("%dA", act.Round)]})
				}
			case Broadcast:
				for _, v := range act.Bundle.Votes {
					if v.Round < modelRounds && int(v.Validator) == a.self {
						sent |= a.m.bit(v.Kind, v.Round, v.Block)
					}
				}
				for _, p := range act.Bundle.Proposals {
					if p.Statement.Round < modelRounds {
						sent |= a.m.bit(chain.Propose, p.Statement.Round, p.Statement.Block)
					}
				}
			}
			actions = append(actions[1:], next...)
		}
	}
	do(actions)
	var others []int
	for v := 0; len(others) < a.m.t0; v++ {
		if v != a.self {
			others = append(others, v)
		}
	}
	for _, i := range path {
		e := a.m.events[i]
		if e.certificate != 0 {
			e.event = Received{Bundle: Bundle{Certificates: []*chain.Certificate{fakeCertificate(e.kind, 1, e.round, e.block, others...)}}}
		}
		do(c.Step(e.event))
	}
	return c, sent
}

// state numbers what a validator is after events.
func (a *automaton) state(path []int) int {
	c, sent := a.run(path)
	h := c.height
	var b strings.Builder
	fmt.Fprint(&b, sent, h.current, h.awake, h.final != nil)
	for _, rd := range h.rounds {
		fmt.Fprint(&b, "|", rd.number, rd.timedOut, rd.requested, rd.asked, rd.freshness)
		for _, s := range rd.statements {
			fmt.Fprint(&b, " s", a.m.names[s.Block])
		}
		for kind := range rd.own {
			if v := rd.own[kind]; v != nil {
				fmt.Fprint(&b, " o", kind, a.m.names[v.Block])
			}
			if cert := rd.certificates[kind]; cert != nil {
				fmt.Fprint(&b, " c", kind, a.m.names[cert.Block])
			}
		}
		for _, cert := range rd.others {
			fmt.Fprint(&b, " x", a.m.names[cert.Block])
		}
	}
	for _, name := range []string{"0A", "0B", "1A"} {
		if held := a.m.blocks[name]; held != nil && h.blocks[held.Hash()] != nil {
			fmt.Fprint(&b, " b", name, h.blocks[held.Hash()].Block != nil)
		}
	}
	key := b.String()
	id, ok := a.ids[key]
	if !ok {
		id = len(a.paths)
		a.ids[key] = id
		a.paths, a.sent = append(a.paths, path), append(a.sent, sent)
	}
	return id
}

// explore makes every state that any events lead to, and the classes of those that do the same.
func (a *automaton) explore() {
	a.state(nil)
	for s := 0; s < len(a.paths); s++ {
		targets := make([]int, len(a.m.events))
		for e := range targets {
			targets[e] = a.state(append(slices.Clone(a.paths[s]), e))
		}
		a.targets = append(a.targets, targets)
	}
	a.class = make([]int, len(a.paths))
	for classes := 0; ; {
		numbers := make(map[string]int)
		refined := make([]int, len(a.paths))
		for s := range a.paths {
			key := fmt.Sprint(a.sent[s], a.class[s])
			for _, target := range a.targets[s] {
				key += fmt.Sprint(" ", a.class[target])
			}
			if _, ok := numbers[key]; !ok {
				numbers[key] = len(numbers)
			}
			refined[s] = numbers[key]
		}
		a.class = refined
		if len(numbers) == classes {
			break
		}
		classes = len(numbers)
	}
	a.votes, a.next = make([]uint64, len(a.paths)), make([][]int, len(a.paths))
	for s, class := range a.class {
		a.votes[class], a.next[class] = a.sent[s], make([]int, len(a.m.events))
		for e, target := range a.targets[s] {
			a.next[class][e] = a.class[target]
		}
	}
}

// search visits every state and returns their number and, if there is a fork, how it comes about.
func (m *model) search() (states int, fork string) {
	type joint [4]uint16
	votes := make([]uint64, 0, len(m.votes))
	var finals [][2]uint64
	for a, i := range m.votes {
		for b, j := range m.votes {
			// The last two characters name the block.
			if strings.HasPrefix(a, fmt.Sprint(chain.Finalize)) && strings.HasPrefix(b, fmt.Sprint(chain.Finalize)) && a[len(a)-2:] < b[len(b)-2:] {
				finals = append(finals, [2]uint64{1 << i, 1 << j})
			}
		}
	}
	free := 0 // the first honest validator that leads no round
	for i := range m.validators {
		if slices.Contains(m.order[:modelRounds], i+m.byzantine) {
			free = i + 1
		}
	}
	var start joint
	for i, a := range m.validators {
		start[i] = uint16(a.class[0])
	}
	seen := map[joint]bool{start: true}
	queue := []joint{start}
	for len(queue) > 0 {
		s := queue[len(queue)-1]
		queue = queue[:len(queue)-1]
		votes = votes[:0]
		for i, a := range m.validators {
			votes = append(votes, a.votes[s[i]])
		}
		enough := func(bit uint64) bool {
			count := m.byzantine
			for _, v := range votes {
				if v&bit != 0 {
					count++
				}
			}
			return count >= m.t0
		}
		for _, pair := range finals {
			if enough(pair[0]) && enough(pair[1]) {
				return len(seen), m.explain(s[:len(m.validators)])
			}
		}
		for i, a := range m.validators {
			for e, event := range m.events {
				if event.certificate != 0 && !enough(event.certificate) || event.proposal != 0 && !slices.ContainsFunc(votes, func(v uint64) bool { return v&event.proposal != 0 }) {
					continue
				}
				next := s
				next[i] = uint16(a.next[s[i]][e])
				// The validators that lead no round are alike: sorted, their states stand for every order of them.
				slices.Sort(next[free:len(m.validators)])
				if !seen[next] {
					seen[next] = true
					queue = append(queue, next)
				}
			}
		}
	}
	return len(seen), ""
}

func (m *model) explain(state []uint16) string {
	var b strings.Builder
	for i, a := range m.validators {
		fmt.Fprintf(&b, "validator %d:", a.self)
		for _, e := range a.paths[slices.Index(a.class, int(state[i]))] {
			fmt.Fprintf(&b, " %s;", m.events[e].name)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// TestSmallModelHasNoFork searches the model of three validators, two of which sign, in full. With E2 taken away it finds a fork.
func TestSmallModelHasNoFork(t *testing.T) {
	for _, c := range []struct {
		name  string
		rules mutation.Rules
		forks bool
	}{
		{"all rules", mutation.Rules{}, false},
		{"E2 off", mutation.Rules{NullifyAndFinalize: true}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if testing.Short() {
				t.Skip("the search takes 4 s of a processor, and ten times that under the race detector")
			}
			m := newModel(t, 3, 2, 0, []int{0, 1, 2}, c.rules)
			states, fork := m.search()
			if c.forks != (fork != "") {
				t.Fatalf("fork: %v, want %v\n%s", fork != "", c.forks, fork)
			}
			for _, a := range m.validators {
				t.Logf("validator %d: %d states, %d classes", a.self, len(a.paths), slices.Max(a.class)+1)
			}
			t.Logf("%d states of all together\n%s", states, fork)
		})
	}
}
