package mempool

import (
	"time"

	"github.com/diseq/diseq/node/chain"
)

// relayAfter is the age at which a pending batch of another author is pushed to the peers that are
// not known to hold it: its author had the time to do so, and may be dead.
const relayAfter = time.Second

// Acknowledge notes that peer holds the batch durably.
func (p *Pool) Acknowledge(peer chain.PublicKey, hash chain.Hash) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e := p.byHash[hash]; e != nil {
		p.addHolder(e, peer)
	}
}

func (p *Pool) addHolder(e *entry, peer chain.PublicKey) {
	seat, ok := p.seat[peer]
	if !ok || peer == p.public {
		return
	}
	e.holders.add(seat)
	p.acknowledge(e)
}

// acknowledge ends the wait for peers of a submission in e, if as many hold it as are needed now.
func (p *Pool) acknowledge(e *entry) {
	if needed := p.needed(); e.queue == p.own && e.stored && e.holders.count() >= needed && e.ack() && needed > 0 {
		p.metrics.ackSeconds.Observe(time.Since(e.arrived).Seconds())
	}
}

// Unacknowledged returns pending batches that peer, a member, is not known to hold, oldest first
// and with at most maxBytes in all (one at least, if there is one): this node's that are older than
// age, then those of other authors that have waited for more than a second as well. With age 0 it
// is for a link that has just opened; later it finds the batches that were refused or lost, and
// those that lack holders because members left.
func (p *Pool) Unacknowledged(peer chain.PublicKey, age time.Duration, maxBytes int) []chain.StoredBatch {
	p.mu.Lock()
	defer p.mu.Unlock()
	seat, ok := p.seat[peer]
	if !ok || peer == p.public {
		return nil
	}
	var batches []chain.StoredBatch
	collect := func(q *queue, before time.Time) {
		for _, e := range q.entries {
			if e.drained || e.holders.has(seat) || e.arrived.After(before) {
				continue
			}
			if len(batches) > 0 && len(e.encoded) > maxBytes {
				return
			}
			maxBytes -= len(e.encoded)
			batches = append(batches, e.asStored())
		}
	}
	now := time.Now()
	if p.own != nil {
		collect(p.own, now.Add(-age))
	}
	for _, q := range p.queues {
		// Pools take no pushed batches of authors that left and are not in the peers file.
		if q != p.own && q.author != peer && p.pushes(q.author) {
			collect(q, now.Add(-max(age, relayAfter)))
		}
	}
	return batches
}

// Batch returns the encoding of a batch that is durable here, for a peer that asks for it.
func (p *Pool) Batch(hash chain.Hash) ([]byte, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e := p.byHash[hash]; e != nil && e.stored {
		return e.encoded, true
	}
	return nil, false
}
