package mempool

import "time"

// A node that is offered more than the blocks take refuses the rest soon. It could hold a minute's
// worth before its share is full; each message would then wait as long, and those that came after
// the flood, too.
const (
	// backlogAge is how long a message waits at most before others are refused. It is longer than
	// the pause that refused clients are asked for, so that they are back before the backlog is
	// ordered.
	backlogAge = 2 * time.Second
	// backlogBlocks is the same in times of a block: on a slow chain each message waits.
	backlogBlocks = 4
	// smallBacklog is how many messages of this node hold up no others, however long they wait.
	smallBacklog = 100
)

// overloaded reports whether this node should refuse messages, though its share has room for them:
// blocks are made, and the oldest of its messages has waited for long. While no block is made, it
// takes all that its share holds, for the time when blocks are made again.
func (p *Pool) overloaded(now time.Time) bool {
	q := p.own
	if q.messages <= smallBacklog || len(q.entries) == 0 {
		return false
	}
	age := max(backlogAge, backlogBlocks*p.cfg.BlockTime)
	oldest := q.entries[0]
	return now.Sub(oldest.arrived) > age && p.height > oldest.since && now.Sub(p.lastCommit) < 2*age
}
