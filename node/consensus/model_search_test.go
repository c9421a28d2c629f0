package consensus

import (
	"fmt"
	"math/bits"
	"slices"
	"strings"

	"github.com/diseq/diseq/node/chain"
)

// maxHonest is how many honest validators a model can have: a state of all of them is one word.
const maxHonest = 4

// joint is a class of each honest validator, those that are alike in order.
type joint [maxHonest]uint16

func (s joint) pack() (key uint64) {
	for i, class := range s {
		key |= uint64(class) << (16 * i)
	}
	return key
}

func unpack(key uint64) (s joint) {
	for i := range s {
		s[i] = uint16(key >> (16 * i))
	}
	return s
}

// search visits every state that all validators together can come to, those nearest to the start
// first, and returns their number. It ends early at a state in which certificates can be formed
// that must not be, and tells how it comes about.
func (m *model) search(visit func(s joint, formed voteSet)) (states int, found string) {
	bad := m.contradictions
	if m.forks {
		bad = m.finals
	}
	var start joint
	for i, a := range m.validators {
		start[i] = uint16(a.class[0])
	}
	seen := keySet{}
	seen.add(start.pack())
	queue := []uint64{start.pack()}
	cause := []uint32{0}
	enabled := make([]bool, len(m.events))
	for at := 0; at < len(queue); at++ {
		s := unpack(queue[at])
		formed := m.formed(s)
		visit(s, formed)
		for _, set := range bad {
			if formed&set == set {
				return at + 1, m.replay(queue, cause, at)
			}
		}
		for i, a := range m.validators {
			m.enable(enabled, s, i, formed)
			for _, move := range a.moves[s[i]] {
				if !enabled[move.event] {
					continue
				}
				next := s
				next[i] = uint16(move.to)
				slices.Sort(next[m.alike:len(m.validators)])
				if key := next.pack(); seen.add(key) {
					queue, cause = append(queue, key), append(cause, uint32(at))
				}
			}
		}
	}
	return len(queue), ""
}

// count returns what at least k of the honest validators, except one, have sent.
func (m *model) count(s joint, k, except int) voteSet {
	if k <= 0 {
		return ^voteSet(0)
	}
	var atLeast [maxHonest + 1]voteSet
	atLeast[0] = ^voteSet(0)
	for i, a := range m.validators {
		if i == except {
			continue
		}
		for k := i; k >= 0; k-- {
			atLeast[k+1] |= atLeast[k] & a.classSent[s[i]]
		}
	}
	return atLeast[k]
}

// formed is every certificate that the votes sent amount to, with those of all Byzantine
// validators.
func (m *model) formed(s joint) voteSet {
	return m.certificates & m.count(s, m.threshold-m.rules.VotesMissing-m.byzantine, -1)
}

// enable finds which events may happen to a validator.
func (m *model) enable(enabled []bool, s joint, validator int, formed voteSet) {
	sent := m.count(s, 1, -1)
	votes := m.count(s, m.threshold-1-m.rules.VotesMissing-m.byzantine, validator)
	for i := range m.events {
		e := &m.events[i]
		enabled[i] = e.certificates&^formed == 0 && e.proposals&^sent == 0 && e.votes&^votes == 0
	}
}

// replay has validators, new ones, live through what leads to a state, and tells it.
func (m *model) replay(queue []uint64, cause []uint32, at int) string {
	var way []joint
	for ; at != 0; at = int(cause[at]) {
		way = append(way, unpack(queue[at]))
	}
	slices.Reverse(way)
	cores := make([]local, len(m.validators))
	numbers := make([]int, len(m.validators))
	for i, a := range m.validators {
		cores[i], _ = a.start(remains{})
		numbers[i] = a.self
		if i > m.alike {
			numbers[i] = numbers[i-1] + 1
		}
	}
	var b strings.Builder
	for _, to := range way {
		if !m.follow(&b, cores, numbers, to) {
			m.t.Fatalf("%s: no validator does what the search found\n%s", m.name, b.String())
		}
	}
	fmt.Fprintf(&b, "certificates: %s\n", m.words(m.formed(m.classes(cores))))
	return b.String()
}

// classes is the state that validators are in.
func (m *model) classes(cores []local) (s joint) {
	for i, a := range m.validators {
		s[i] = uint16(a.class[a.ids[string(a.key(&cores[i]))]])
	}
	return s
}

// follow finds the event by which the validators come to a state, and has it happen.
func (m *model) follow(b *strings.Builder, cores []local, numbers []int, to joint) bool {
	from := m.classes(cores)
	enabled := make([]bool, len(m.events))
	for i, a := range m.validators {
		m.enable(enabled, from, i, m.formed(from))
		for e := range m.events {
			if !enabled[e] {
				continue
			}
			before := cores[i]
			next, crashes := a.step(&before, e)
			if !m.crashes {
				crashes = nil
			}
			for crash := -1; crash < len(crashes); crash++ {
				cores[i] = next
				if crash >= 0 {
					cores[i], _ = a.start(crashes[crash])
				}
				s := m.classes(cores)
				slices.Sort(s[m.alike:len(m.validators)])
				if s == to {
					m.tell(b, numbers[i], e, crash, cores[i].sent&^before.sent)
					return true
				}
			}
			cores[i] = before
		}
	}
	return false
}

func (m *model) tell(b *strings.Builder, validator, event, crash int, news voteSet) {
	fmt.Fprintf(b, "validator %d: %s", validator, m.events[event].name)
	if crash >= 0 {
		fmt.Fprintf(b, ", a crash after %d records and messages, a start", crash+1)
	}
	if news != 0 {
		fmt.Fprintf(b, "; sends %s", m.words(news))
	}
	b.WriteByte('\n')
}

func (m *model) words(set voteSet) string {
	var out []string
	for ; set != 0; set &= set - 1 {
		i := bits.TrailingZeros32(uint32(set))
		kind, r := chain.Kind(i/modelBlocks/modelRounds+1), i/modelBlocks%modelRounds
		if kind == chain.Nullify {
			out = append(out, fmt.Sprintf("%v %d", kind, r))
		} else {
			out = append(out, fmt.Sprintf("%v %s in %d", kind, blockName(i%modelBlocks), r))
		}
	}
	return strings.Join(out, ", ")
}

// keySet is a set of words in little memory.
type keySet struct {
	slots []uint64
	size  int
}

// add reports whether the key is new. No key has all bits set.
func (t *keySet) add(key uint64) bool {
	if 2*t.size >= len(t.slots) {
		old := t.slots
		t.slots = make([]uint64, max(1<<12, 2*len(old)))
		for _, slot := range old {
			if slot != 0 {
				t.put(slot)
			}
		}
	}
	if !t.put(key + 1) {
		return false
	}
	t.size++
	return true
}

func (t *keySet) put(slot uint64) bool {
	mask := uint64(len(t.slots) - 1)
	for i := slot * 0x9E3779B97F4A7C15 >> 20 & mask; ; i = (i + 1) & mask {
		switch t.slots[i] {
		case 0:
			t.slots[i] = slot
			return true
		case slot:
			return false
		}
	}
}
