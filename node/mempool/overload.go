package mempool

import "time"

// A node that is offered more than the blocks take refuses the rest soon. It could hold a minute's
// worth before its share is full; each message would then wait as long, and those that came after
// the flood, too.
const (
	// backlogAge is how long a message should wait at most: it is refused if it would wait longer.
	// It is longer than the pause that refused clients are asked for, so that they are back before
	// the backlog is ordered.
	backlogAge = 2 * time.Second
	// backlogBlocks is the same in times of a block: on a slow chain each message waits.
	backlogBlocks = 4
	// smallBacklog is how many messages of this node hold up no others, however long they wait, and
	// smallBacklogs is the same of all nodes together, if one block has room for them.
	smallBacklog  = 100
	smallBacklogs = 2000
)

// overloaded reports whether this node should refuse messages, though its share has room for them:
// blocks are made, and a message would wait for longer than it should. While no block is made, the
// node takes all that its share holds, for the time when blocks are made again.
func (p *Pool) overloaded(now time.Time) bool {
	q := p.own
	if len(q.entries) == 0 || p.small(q) {
		return false
	}
	most := max(backlogAge, backlogBlocks*p.blockTime())
	if now.Sub(p.lastCommit) >= 2*most {
		return false
	}
	// The time since the last block does not count: it may be a pause of the network, such as a
	// round whose leader is silent, after which one block takes all that came in it.
	oldest := q.entries[0]
	waited := p.lastCommit.Sub(oldest.arrived)
	// A node that was held up, by its disk or because it was cut off, commits many blocks in a
	// moment. They were made while it was held up, and the first is older than what came meanwhile:
	// the times of the blocks say how long the others took to come to this message.
	waited = min(waited, p.lastTime.Sub(oldest.sinceTime))
	if waited > most {
		return true
	}
	// The messages ordered since the oldest came were before it. Their number is a measure of the
	// blocks' rate once a block has left the oldest behind: the first was under way when it came,
	// and says how much came before.
	ordered := q.ordered - oldest.before
	if waited < most/4 || p.height < oldest.since+2 || ordered == 0 {
		return false
	}
	return float64(q.messages)/float64(ordered)*waited.Seconds() > most.Seconds()
}

// small reports whether q holds so little that no other message waits for it.
func (p *Pool) small(q *queue) bool {
	size := max(p.size, 1)
	return q.messages <= smallBacklog || q.messages <= smallBacklogs/size && q.bytes <= int64(p.cfg.MaxBlockBytes/size)
}

// blockTime is how long a block may take: the least time between blocks, and with the synchrony
// wait that of a round whose leader is silent.
func (p *Pool) blockTime() time.Duration {
	return p.cfg.BlockInterval + 7*time.Duration(p.cfg.Set.SynchronyDeltaMS)*time.Millisecond
}
