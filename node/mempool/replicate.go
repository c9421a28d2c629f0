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
	i, ok := p.authors[peer]
	if !ok || i == p.self {
		return
	}
	e.holders.add(i)
	if e.author == p.self && e.stored && e.holders.count() >= p.cfg.Acknowledgements && e.ack() {
		p.metrics.ackSeconds.Observe(time.Since(e.arrived).Seconds())
	}
}

// Unacknowledged returns pending batches that peer is not known to hold, oldest first and with at
// most maxBytes in all (one at least, if there is one): this node's that are older than age, then
// those of other authors that have waited for more than a second as well. With age 0 it is for a
// link that has just opened; later it finds the batches that were refused or lost.
func (p *Pool) Unacknowledged(peer chain.PublicKey, age time.Duration, maxBytes int) []chain.StoredBatch {
	p.mu.Lock()
	defer p.mu.Unlock()
	i, ok := p.authors[peer]
	if !ok || i == p.self {
		return nil
	}
	var batches []chain.StoredBatch
	collect := func(q *queue, before time.Time) {
		for _, e := range q.entries {
			if e.drained || e.holders.has(i) || e.arrived.After(before) {
				continue
			}
			if len(batches) > 0 && len(e.encoded) > maxBytes {
				return
			}
			maxBytes -= len(e.encoded)
			batches = append(batches, e.asStored(p.cfg.Authors[e.author]))
		}
	}
	now := time.Now()
	if p.self >= 0 {
		collect(p.queues[p.self], now.Add(-age))
	}
	for author, q := range p.queues {
		if author != p.self && author != i {
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
