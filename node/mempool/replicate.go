package mempool

import (
	"encoding/binary"
	"time"

	"github.com/diseq/diseq/node/chain"
)

// relayAfter is the age at which a pending batch of a silent author is passed on to the peers that
// are not known to hold it. The members take turns in an order that the batch decides, each
// relayAfter after the one before: when the first passes on what a dead author left, the others
// need not. From the last turn on, all that are left pass it on at once.
const (
	relayAfter = time.Second
	relayTurns = 8
)

// relayAge returns the age at which this node passes a batch of a silent author on.
func (p *Pool) relayAge(e *entry) time.Duration {
	turn := relayTurns
	if p.member {
		first := int(binary.LittleEndian.Uint64(e.hash[:8]) % uint64(p.size))
		turn = min((p.index-first+p.size)%p.size, relayTurns)
	}
	return time.Duration(1+turn) * relayAfter
}

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
// age, and then those of authors that are silent, when it is this node's turn. An author that is
// there pushes its batches itself. If all nodes passed on what waits, each batch would come to
// each node from every other, and the more so the more waits. Nothing is ordered later without: a
// node that holds a batch orders it when it leads, and the others fetch it.
//
// With age 0 it is for a link that has just opened; later it finds the batches that were refused or
// lost, and those that lack holders because members left.
func (p *Pool) Unacknowledged(peer chain.PublicKey, age time.Duration, maxBytes int) []chain.StoredBatch {
	var present map[chain.PublicKey]bool
	if p.cfg.Present != nil {
		present = p.cfg.Present()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	seat, ok := p.seat[peer]
	if !ok || peer == p.public {
		return nil
	}
	var batches []chain.StoredBatch
	now := time.Now()
	collect := func(q *queue, after func(*entry) time.Duration) {
		for _, e := range q.entries {
			if e.drained || e.holders.has(seat) || now.Sub(e.arrived) < after(e) {
				continue
			}
			if len(batches) > 0 && len(e.encoded) > maxBytes {
				return
			}
			maxBytes -= len(e.encoded)
			batches = append(batches, e.asStored())
		}
	}
	if p.own != nil {
		collect(p.own, func(*entry) time.Duration { return age })
	}
	for _, q := range p.queues {
		// Pools take no pushed batches of authors that left and are not in the peers file.
		if q != p.own && p.passesOn(q.author, peer, present[q.author]) && p.pushes(q.author) {
			collect(q, func(e *entry) time.Duration { return max(age, p.relayAge(e)) })
		}
	}
	return batches
}

// passesOn reports whether this node passes batches of another author on to a peer. An author that
// lost a batch in a crash, after it had pushed the batch, gets it with a block that orders it. A
// node that left orders none: it gives the batch to the author.
func (p *Pool) passesOn(author, peer chain.PublicKey, present bool) bool {
	if author == peer {
		return p.left()
	}
	return !present
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
