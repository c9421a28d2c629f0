package simulation

import (
	"cmp"
	"container/heap"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/consensus"
	"github.com/diseq/diseq/node/internal/mutation"
)

// Options describe a run.
type Options struct {
	// N validators, T of which make a certificate. The first Byzantine ones belong to the
	// coalition.
	N, T, Byzantine int
	// Dead validators, other than the Byzantine ones, do not come back when the network calms down.
	Dead int
	// Partitioned validators, the first honest ones, are at times cut off, paused or down under the
	// synchrony wait. As nodes do, they notice, and count as Byzantine: agreement holds with fewer
	// than T of both together.
	Partitioned int
	// Paused validators, the first honest ones, stand still at times under the synchrony wait. One
	// may be Killed and start again, after its earlier messages have left. They do not count as
	// Byzantine: agreement holds with fewer than T Byzantine ones, because these abstain.
	Paused, Killed int
	// Graded lets a run go on for a while after a fork. It is for readers who want finalizations
	// stronger than T.
	Graded bool
	// Delta is that of the synchrony wait, in whole milliseconds; 0 turns the wait off. The network
	// then keeps to it: there is no storm, and no message between honest validators takes longer.
	Delta time.Duration
	// Lateness, if it is not 0, is the longest delay of messages under the synchrony wait, in
	// hundredths of Delta.
	Lateness int
	// Asynchronous: the network may do anything, also under the synchrony wait.
	Asynchronous bool
	// Amnesia: a crash loses all that a validator persisted. LastWriteLost: a crash loses its last
	// write.
	Amnesia, LastWriteLost bool
	// CrashAt, if not 0, is the step of the storm at which the process that takes it dies, with
	// CrashAll all honest ones. Steps are between any two actions, in writes, and between any two
	// messages.
	CrashAt  int
	CrashAll bool
	// Mutation takes rules away from the honest validators.
	Mutation mutation.Rules
	// Wiped validators, the first honest ones, lose their vote stores at times, and half of the
	// times their blocks too. They rejoin, and vote from the Rejoin-th height above the highest of
	// the t lowest that the others report. Byzantine validators report nothing.
	Wiped  int
	Rejoin uint64
	// Weather, if set, overrides the weather that the seed chooses.
	Weather *Weather
	// Keys signs with real Ed25519 keys. That is slower; the evidence then verifies as anywhere.
	Keys bool
	// Eras, if set, changes the validator set while the chain runs. N, T and Byzantine are those of
	// the first set.
	Eras *Eras
	// Trace keeps the transcript of the run.
	Trace bool
}

// sound reports whether the options promise anything: honest validators have all rules, and the
// Byzantine ones are few enough.
func (o *Options) sound() bool {
	tolerance := consensus.Tolerance(o.N, o.T)
	withstood := tolerance.Byzantine
	if o.synchronous() {
		withstood = tolerance.ByzantineWithSynchrony - o.Partitioned
	}
	return o.intact() && o.Lateness == 0 && o.Killed <= 1 && (o.Killed == 0 || o.Paused == 0) && o.Byzantine <= withstood
}

// intact reports whether honest validators keep all rules that do not depend on others.
func (o *Options) intact() bool {
	return o.Mutation == (mutation.Rules{}) && !o.Amnesia && !o.LastWriteLost
}

// lawful reports whether honest validators never break E1 to E3, whatever else they lack. They then
// leave no evidence.
func (o *Options) lawful() bool {
	m := o.Mutation
	return !m.NotarizeTwice && !m.NullifyAndFinalize && !m.FinalizeAnother && !m.SendFirst && !o.Amnesia && !o.LastWriteLost
}

// judged reports whether forks convict. For that, certificates must be complete, and every proposal
// with a vote must have been justified by some.
func (o *Options) judged() bool {
	m := o.Mutation
	return m.VotesMissing == 0 && !m.CountTwice && !m.VoteUnjustified && o.Byzantine < o.T
}

// synchronous reports whether the network keeps to Delta.
func (o *Options) synchronous() bool { return o.Delta > 0 && !o.Asynchronous }

// Weather is the behaviour of the network and the machines in a run.
type Weather struct {
	// Storm is how long the bad weather lasts.
	Storm time.Duration
	// Loss is the probability that a message is lost, Crash the one that a validator dies before an
	// action.
	Loss, Crash float64
	// RoundTimeout is T_round of round 0.
	RoundTimeout time.Duration
	// Skew is the largest error of a validator's timers, in hundredths; Offset the largest error of
	// its clock.
	Skew   int
	Offset time.Duration
	// Pauses is the mean time between two pauses of a process, 0 for none. PowerCuts stop all
	// validators at once.
	Pauses    time.Duration
	PowerCuts bool
	// SlowLinks is the share of the directed links on which everything takes ten times as long.
	SlowLinks float64
}

// weather draws the weather of a seed.
func weather(rng *rand.Rand) Weather {
	w := Weather{
		Storm:        time.Duration(1+rng.IntN(5)) * time.Second,
		Loss:         []float64{0, 0.05, 0.2, 0.4}[rng.IntN(4)],
		Crash:        []float64{0, 0.002, 0.01}[rng.IntN(3)],
		RoundTimeout: 200 * time.Millisecond,
		Skew:         []int{0, 10, 50}[rng.IntN(3)],
		Offset:       []time.Duration{0, 500 * time.Millisecond, 5 * time.Second}[rng.IntN(3)],
		Pauses:       []time.Duration{0, 0, 3 * time.Second}[rng.IntN(3)],
		PowerCuts:    rng.IntN(5) == 0,
		SlowLinks:    []float64{0, 0, 0.2}[rng.IntN(3)],
	}
	if rng.IntN(5) == 0 {
		// Shorter than a message takes: rounds fail until they have grown long enough.
		w.RoundTimeout = 15 * time.Millisecond
	}
	return w
}

// calmRounds is the number of rounds within which a height is decided in the calm: the promise of
// liveness as the simulator checks it. A leader that is up, and whose clock is not too far ahead,
// comes within n rounds. Eight more leave room for timeouts that begin shorter than a message takes
// and have to grow.
func calmRounds(n int) int { return n + 8 }

// calmHeights is the number of heights that have to be decided in the calm.
const calmHeights = 3

// Result is the outcome of a run.
type Result struct {
	Seed uint64
	// Heights is the number of decided heights, AllRounds that of their rounds. Rounds is the most
	// that one of them took, CalmRounds the same of those that began in the calm.
	Heights, AllRounds, Rounds, CalmRounds int
	// Steps counts the points of the storm at which a process could die. Faults counts the faults.
	Steps  int
	Faults Faults
	// Fork is the height with two final blocks, 0 if there is none.
	Fork uint64
	// Disagreement is the greatest strength at which readers see different blocks final at a
	// height, 0 if there are none. It takes the finalize votes of honest validators and all that
	// the coalition may add.
	Disagreement int
	// Accused are the validators with evidence against them, in rising order.
	Accused []uint32
	// Evidence is the evidence that the nodes found. setAt returns the set of a height.
	Evidence []chain.Evidence
	setAt    func(height uint64) *chain.ValidatorSet
	// Violation is the first violation that the oracle saw, nil if none.
	Violation error
	// Virtual is how long the run took in its own time, Events the number of its events.
	Virtual time.Duration
	Events  int
	// Transcript has a line for each event, if Options.Trace is set.
	Transcript string
}

// Run runs a seed.
func Run(seed uint64, o Options) Result {
	w := newWorld(seed, o)
	w.play()
	if strength := w.disagreement(); strength > 0 && w.sound() && !w.Graded {
		w.violate("%w that nobody was shown: two blocks of a height have %d votes to finalize each", ErrFork, strength)
	}
	r := Result{
		Seed: seed, Heights: len(w.final), AllRounds: w.allRounds, Rounds: w.rounds, CalmRounds: w.calmRounds, Fork: w.forked,
		Steps: w.steps, Faults: w.faults,
		Disagreement: w.disagreement(), Evidence: w.evidence,
		setAt:     func(height uint64) *chain.ValidatorSet { return w.eraAt(height).set },
		Violation: w.violation, Virtual: w.now, Events: w.events, Transcript: w.transcript.String(),
	}
	for who := range w.accused {
		r.Accused = append(r.Accused, uint32(who.number))
	}
	slices.Sort(r.Accused)
	return r
}

// Explain runs a seed again and returns its transcript, at most its last lines.
func Explain(seed uint64, o Options, lines int) string {
	o.Trace = true
	all := strings.SplitAfter(Run(seed, o).Transcript, "\n")
	return strings.Join(all[max(0, len(all)-lines):], "")
}

// world is a run.
type world struct {
	Options
	weather Weather
	seed    uint64
	rng     *rand.Rand
	now     time.Duration
	queue   queue
	serial  uint64
	events  int
	people  []*identity
	byKey   map[chain.PublicKey]*identity
	// first is the era of the first set, eras are the others by the hash of what brought them.
	// chain has the final blocks as an honest validator first had them.
	first      *era
	eras       map[chain.Hash]*era
	chain      []stored
	operator   operator
	nodes      []*node
	links      links
	coalition  *coalition
	oracle     // its record of the run
	calm       bool
	calmFrom   uint64
	stamp      uint64
	steps      int
	faults     Faults
	transcript strings.Builder
}

type timed struct {
	at     time.Duration
	rank   int
	serial uint64
	do     func()
}

// queue orders events by time. Events at one time are ordered by rank, which makes the end of a
// synchrony wait the last, and otherwise by when they were scheduled.
type queue []timed

func (q queue) Len() int { return len(q) }
func (q queue) Less(i, j int) bool {
	a, b := &q[i], &q[j]
	return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.rank, b.rank), cmp.Compare(a.serial, b.serial)) < 0
}
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }

// Push implements heap.Interface.
func (q *queue) Push(x any) { *q = append(*q, x.(timed)) }

// Pop implements heap.Interface.
func (q *queue) Pop() any {
	old := *q
	last := old[len(old)-1]
	*q = old[:len(old)-1]
	return last
}

func newWorld(seed uint64, o Options) *world {
	w := &world{Options: o, seed: seed, rng: rand.New(rand.NewPCG(seed, 1)), oracle: newOracle()}
	if w.weather = weather(w.rng); o.Weather != nil {
		w.weather = *o.Weather
	}
	if o.synchronous() {
		w.weather = Weather{
			Storm: 50 * o.Delta, RoundTimeout: 3 * o.Delta, Skew: []int{0, 0, 10, 20}[w.rng.IntN(4)],
		}
	}
	w.byKey, w.eras = make(map[chain.PublicKey]*identity), make(map[chain.Hash]*era)
	w.first = w.genesis()
	for _, who := range w.people {
		w.nodes = append(w.nodes, w.newNode(who, false))
	}
	for _, who := range w.people[:o.Byzantine] {
		w.nodes = append(w.nodes, w.newNode(who, true))
	}
	w.links = newLinks(w)
	w.coalition = newCoalition(w)
	w.trace("n=%d t=%d b=%d %+v", o.N, o.T, o.Byzantine, w.weather)
	return w
}

// order draws the order in which the validators lead a height. Against the synchrony wait the
// coalition is often lucky.
func (w *world) order(e *era, height uint64) []int {
	rng := rand.New(rand.NewPCG(w.seed, height))
	order := rng.Perm(e.n())
	if w.synchronous() && rng.IntN(2) == 0 {
		first := func(place int) int {
			if e.places[place].byzantine {
				return place
			}
			return e.n()
		}
		slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(first(a), first(b)) })
	}
	return order
}

func (w *world) trace(format string, args ...any) {
	if w.Trace {
		fmt.Fprintf(&w.transcript, "%8.3fs ", w.now.Seconds())
		fmt.Fprintf(&w.transcript, format+"\n", args...)
	}
}

// after schedules an event.
func (w *world) after(d time.Duration, do func()) { w.ranked(d, 0, do) }

func (w *world) ranked(d time.Duration, rank int, do func()) {
	w.serial++
	heap.Push(&w.queue, timed{at: w.now + d, rank: rank, serial: w.serial, do: do})
}

// run lets time pass until then, or until a violation.
func (w *world) run(until time.Duration) bool {
	for len(w.queue) > 0 && w.queue[0].at <= until && w.violation == nil {
		e := heap.Pop(&w.queue).(timed)
		w.now = e.at
		w.events++
		e.do()
	}
	w.now = max(w.now, until)
	return w.violation == nil
}

// startSpread is the time within which the validators start.
const startSpread = 100 * time.Millisecond

// play runs a storm and the calm after it.
func (w *world) play() {
	for _, s := range w.nodes {
		if !s.byzantine || !w.coalition.liesLow {
			w.after(time.Duration(w.rng.Int64N(int64(startSpread))), func() { w.start(s) })
		}
	}
	w.trouble()
	if w.Eras != nil {
		w.after(w.operateInterval(), w.operate)
		w.after(w.operateInterval(), w.coalition.prowl)
	}
	for at := time.Duration(0); at < w.weather.Storm; at += time.Duration(50+w.rng.IntN(400)) * time.Millisecond {
		w.after(at, w.submit)
	}
	for at := time.Duration(0); at < w.weather.Storm && !w.synchronous(); at += time.Duration(100+w.rng.IntN(3000)) * time.Millisecond {
		w.after(at, w.links.shift)
	}
	if !w.run(w.weather.Storm) {
		return
	}
	w.calmDown()
	patience, live := 60*time.Second, w.live()
	if !live {
		// nothing is promised; the coalition's plots may come to their end
		patience = 5 * time.Second
	}
	for at := time.Duration(0); at < patience && (w.Eras == nil || !w.Eras.Idle); at += time.Second {
		w.after(at, w.submit)
	}
	goal := w.calmFrom + calmHeights
	if w.Eras != nil && w.Eras.Idle {
		goal = w.calmFrom
	}
	for end := w.now + patience; w.now < end; {
		if !w.run(w.now + 250*time.Millisecond) {
			return
		}
		if w.height() >= goal && (w.Eras == nil || w.resolved() || !w.live()) {
			return
		}
	}
	if live && w.live() {
		w.violate("%w: height %d %v after the network calmed down at height %d%s", ErrStalled, w.height(), patience, w.calmFrom, w.unresolved())
	}
}

// calmDown ends the storm. Every message arrives, in at most 20 ms, and every validator that is not
// dead comes back.
func (w *world) calmDown() {
	was := w.links
	w.links.cut, w.links.oneWay = 0, false
	w.calm, w.calmFrom = true, uint64(len(w.final))
	dead := w.rng.Perm(w.N - w.Byzantine)[:w.Dead]
	w.trace("calm; dead: %v", dead)
	for _, s := range w.nodes {
		s.away = false
		if !s.byzantine && slices.Contains(dead, s.who.number-w.Byzantine) {
			s.kill()
			s.dead = true
			continue
		}
		w.mend(s)
		w.feel(s, true)
		if !s.byzantine || !w.coalition.liesLow {
			w.start(s)
		}
	}
	for _, a := range w.nodes {
		for _, b := range w.nodes[a.id+1:] {
			if !was.linked(a, b) {
				w.linkUp(a, b)
			}
		}
	}
}

// live reports whether enough honest validators are up for heights to go on.
func (w *world) live() bool {
	if w.Eras != nil {
		return w.lives(w.open())
	}
	return w.N-w.Byzantine-w.Dead-w.Wiped >= w.T && (w.sound() || w.Byzantine == 0 || w.Mutation != mutation.Rules{})
}

// height returns the lowest last final height among the honest validators that are up.
func (w *world) height() uint64 {
	low := ^uint64(0)
	for _, s := range w.nodes {
		if !s.byzantine && !s.dead && !s.off {
			low = min(low, uint64(len(s.store)))
		}
	}
	return low
}

// submit gives the validators something to order. In the storm not all of them receive it.
func (w *world) submit() {
	for _, s := range w.nodes {
		if w.calm || w.rng.IntN(4) != 0 {
			w.after(w.links.delay(), func() {
				s.pending = true
				if w.Eras != nil {
					w.poll(s)
				} else if s.core != nil {
					w.step(s, consensus.Pool{Pending: true})
				}
			})
		}
	}
}
