package mempool

import (
	"slices"
	"sync/atomic"
	"time"

	"github.com/diseq/diseq/node/chain"
)

// seats is how many members a set of holders has room for: more than chain.MaxValidators, the most
// at a time. Seats of members that left are given to newcomers.
const seats = 128

// members says who may push batches, how many of them have to hold one, and how much room each has.
// All of it follows from the validator set of the height above the pool's, those before, and the
// peers file.
type members struct {
	// ever are all nodes that are or were in the set: a block may refer to batches of any of them.
	ever map[chain.PublicKey]bool
	// seat has a place in entry.holders for each member, free are the places that nobody has.
	seat map[chain.PublicKey]int
	free []int
	// member says that this node is one. leftAt is when it ceased to be one; zero if it did so
	// before the pool was opened, or never was one.
	member          bool
	leftAt          time.Time
	size, threshold int
	// index is this node's place in the set, -1 if it is not in the set.
	index int
	// peers are in the peers file, leavers those of them that were members and are none any more.
	peers   []chain.PublicKey
	leavers map[chain.PublicKey]bool
	// shareBytes and shareMessages are the room of each author that may push. capacity is that of
	// all of them together. carried is what the pool had beyond it when the shares changed.
	shareBytes, capacity, carried int64
	shareMessages                 int
	// limits are what a submission is checked against before it takes the lock.
	limits atomic.Pointer[limits]
	// held counts the messages of the entries that are marked so.
	held int
}

// limits are those of this node's submissions.
type limits struct {
	member        bool
	leftAt        time.Time
	shareBytes    int64
	shareMessages int
}

// leaverAccepts is for how long a node that left the set goes on accepting messages: clients come
// to it until whatever leads them there has noticed that it is not ready any more.
const leaverAccepts = time.Minute

// accepts reports whether this node accepts messages: it is a member, or ceased to be one a moment
// ago.
func (l *limits) accepts() bool {
	return l.member || !l.leftAt.IsZero() && time.Since(l.leftAt) < leaverAccepts
}

// init names the nodes that were in a set, and are not in the first that SetMembers is called with.
func (m *members) init(former []chain.PublicKey) {
	m.ever, m.seat, m.leavers = map[chain.PublicKey]bool{}, map[chain.PublicKey]int{}, map[chain.PublicKey]bool{}
	for _, key := range former {
		m.ever[key] = true
	}
	for i := range seats {
		m.free = append(m.free, seats-1-i)
	}
}

// pushes reports whether the author's batches are taken when they are pushed.
func (m *members) pushes(author chain.PublicKey) bool {
	_, ok := m.seat[author]
	return ok || m.leavers[author]
}

// needed is the number of other members that have to hold a batch of this node: n-t, so that one
// holds it when n-t members are lost. A node that left does not count as one: one more has to.
func (m *members) needed() int {
	if m.member {
		return m.size - m.threshold
	}
	return m.size - m.threshold + 1
}

func (p *Pool) acknowledgements() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.needed()
}

// left reports whether this node was a member and is none any more.
func (p *Pool) left() bool { return !p.member && p.ever[p.public] }

// SetMembers names the set that decides the height above the next block that is handed over with
// [Pool.Committed]. It comes before that call, once the block is durable. A member that left counts
// no more among those that hold a batch: what then lacks holders is found by [Pool.Unacknowledged].
// Batches of members that left stay until they are ordered.
func (p *Pool) SetMembers(set *chain.ValidatorSet) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var gone nodes
	for key, seat := range p.seat {
		if set.Index(key) < 0 {
			gone.add(seat)
			delete(p.seat, key)
			p.free = append(p.free, seat)
		}
	}
	for _, v := range set.Validators {
		if _, ok := p.seat[v.PublicKey]; !ok {
			last := len(p.free) - 1
			p.seat[v.PublicKey] = p.free[last]
			p.free = p.free[:last]
			p.ever[v.PublicKey] = true
		}
	}
	was := p.member
	p.size, p.threshold, p.index = len(set.Validators), int(set.Threshold), set.Index(p.public)
	p.member = p.index >= 0
	if p.ever[p.public] {
		p.own = p.queue(p.public)
	}
	for _, e := range p.pending.slots {
		if e != nil {
			e.holders.without(gone)
			p.acknowledge(e)
		}
	}
	switch {
	case p.member:
		p.leftAt = time.Time{}
	case was:
		p.leftAt = time.Now()
		p.hold()
	}
	p.divide()
}

// SetPeers names the peers in the peers file. Batches of a peer that was a member are taken also
// after it left, as long as it stands there: its messages are still ordered.
func (p *Pool) SetPeers(peers []chain.PublicKey) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.peers = slices.Clone(peers)
	p.divide()
}

// hold marks what is in the pool when this node leaves the set.
func (p *Pool) hold() {
	for _, e := range p.pending.slots {
		if e != nil && !e.held {
			e.held = true
			p.held += e.live
		}
	}
}

// divide gives each author that may push an equal share of the pool. A share that could not hold
// the largest message would shut its author out.
func (p *Pool) divide() {
	clear(p.leavers)
	for _, key := range p.peers {
		if _, ok := p.seat[key]; !ok && p.ever[key] && len(p.leavers) < chain.MaxValidators {
			p.leavers[key] = true
		}
	}
	authors := len(p.seat) + len(p.leavers)
	p.shareBytes = max(p.cfg.MaxPoolBytes/int64(authors), int64(p.cfg.MaxMessageBytes)+minShareRoom)
	p.shareMessages = max(p.cfg.MaxPoolMessages/authors, 1)
	p.limits.Store(&limits{p.member, p.leftAt, p.shareBytes, p.shareMessages})
	p.capacity = max(p.cfg.MaxPoolBytes, p.shareBytes*int64(authors))
	for key := range p.seat {
		p.queue(key)
	}
	for key := range p.leavers {
		p.queue(key)
	}
	p.carried = 0
	for _, q := range slices.Clone(p.queues) {
		if p.pushes(q.author) {
			p.carried += max(0, q.bytes-p.shareBytes)
		} else {
			p.carried += q.bytes
			p.dropQueue(q)
		}
	}
}

// queue returns the queue of an author, a new one if there is none.
func (p *Pool) queue(author chain.PublicKey) *queue {
	q := p.byAuthor[author]
	if q == nil {
		q = &queue{author: author, byPosition: map[position]*entry{}, bases: map[uint64]uint64{}, own: author == p.public}
		p.byAuthor[author] = q
		p.queues = append(p.queues, q)
	}
	return q
}

// dropQueue forgets an author that may not push any more, once none of its batches is here.
func (p *Pool) dropQueue(q *queue) {
	if q.batches > 0 || q == p.own || p.pushes(q.author) {
		return
	}
	if q.timer != nil {
		q.timer.Stop()
	}
	delete(p.byAuthor, q.author)
	p.queues = slices.DeleteFunc(p.queues, func(o *queue) bool { return o == q })
}
