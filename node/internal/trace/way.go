package trace

import (
	"context"
	"slices"
	"time"

	"go.opentelemetry.io/otel/attribute"
	otel "go.opentelemetry.io/otel/trace"

	"github.com/diseq/diseq/node/chain"
)

// idle reports whether no message is on its way.
func (t *Tracer) idle() bool { return t == nil || t.following.Load() == 0 }

// Submit follows the messages of a traced request, from before the pool has them. The caller
// reports when the pool has accepted them: they are durable on enough nodes then.
func (t *Tracer) Submit(ctx context.Context, messages []chain.Message) (accepted func(error)) {
	if t == nil {
		return func(error) {}
	}
	parent := otel.SpanContextFromContext(ctx)
	if !parent.IsSampled() {
		return func(error) {}
	}
	parent = parent.WithTraceState(otel.TraceState{}) // the request's span has it
	now := time.Now()
	followed := make([]*message, 0, min(len(messages), maxPerRequest))
	t.mu.Lock()
	for _, m := range messages[:min(len(messages), maxPerRequest)] {
		id := m.ID()
		if t.forming[id] != nil || t.final[id] != nil || !t.room(now, maxFollowed) {
			continue
		}
		f := &message{id: id, parent: parent, began: now}
		t.forming[id] = f
		t.follow(f)
		followed = append(followed, f)
	}
	t.count()
	t.mu.Unlock()
	return func(err error) {
		now := time.Now()
		t.mu.Lock()
		defer t.mu.Unlock()
		for _, f := range followed {
			if t.forming[f.id] == f { // the pool had it already, or refused it
				t.drop(f)
			} else if f.batch != (chain.Hash{}) {
				t.span(f, spanReplicate, f.held, now, err, batchOf(f))
			}
		}
		t.count()
	}
}

// room reports whether fewer messages than most are followed, and forgets those that have been
// followed for too long. The caller holds mu.
func (t *Tracer) room(now time.Time, most int) bool {
	for len(t.followed) > 0 && (t.followed[0].over || now.Sub(t.followed[0].began) > forgetAfter) {
		t.drop(t.followed[0])
		t.followed = t.followed[1:]
	}
	return t.live < most
}

// follow follows a message. The caller holds mu.
func (t *Tracer) follow(m *message) {
	t.live++
	t.followed = append(t.followed, m)
	if len(t.followed) > 2*maxFollowed { // an old one at the front keeps room from dropping the rest
		t.followed = slices.DeleteFunc(t.followed, func(m *message) bool { return m.over })
	}
}

// drop ceases to follow a message. The caller holds mu.
func (t *Tracer) drop(m *message) {
	if m.over {
		return
	}
	m.over = true
	t.live--
	if t.forming[m.id] == m {
		delete(t.forming, m.id)
		return
	}
	rest := slices.DeleteFunc(t.batches[m.batch], func(other *message) bool { return other == m })
	if t.batches[m.batch] = rest; len(rest) == 0 {
		delete(t.batches, m.batch)
	}
}

// count publishes how many messages there are to follow. The caller holds mu.
func (t *Tracer) count() {
	t.following.Store(int64(t.live))
	t.receipts.Store(int64(len(t.final)))
}

// Formed says which messages a batch of this node has, before the batch leaves for the peers.
func (t *Tracer) Formed(batch chain.Hash, ids []chain.Hash) {
	if t.idle() {
		return
	}
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.forming) == 0 {
		return
	}
	// Most messages of a batch are not followed: a look at one byte tells that of nearly all.
	var first [256]bool
	for id := range t.forming {
		first[id[0]] = true
	}
	for _, id := range ids {
		if !first[id[0]] {
			continue
		}
		m := t.forming[id]
		if m == nil {
			continue
		}
		delete(t.forming, id)
		m.batch, m.held = batch, now
		t.batches[batch] = append(t.batches[batch], m)
		t.span(m, spanBatch, m.began, now, nil, batchOf(m))
	}
	t.count()
}

// The form in which traces travel beside a batch: a version, the batch, and for each followed
// message its id and the span of its request.
const (
	wireVersion = 1
	wireHeader  = 1 + 32
	wireMessage = 32 + 16 + 8
	// maxWireMessages bounds the messages of a batch, MaxWireBytes their encoding.
	maxWireMessages = 64
	MaxWireBytes    = wireHeader + maxWireMessages*wireMessage
)

// Beside returns what travels beside a batch, nil for nothing.
func (t *Tracer) Beside(batch chain.Hash) []byte {
	if t.idle() {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	messages := t.batches[batch]
	if len(messages) == 0 {
		return nil
	}
	messages = messages[:min(len(messages), maxWireMessages)]
	out := make([]byte, 0, wireHeader+len(messages)*wireMessage)
	out = append(append(out, wireVersion), batch[:]...)
	for _, m := range messages {
		trace, span := m.parent.TraceID(), m.parent.SpanID()
		out = append(append(append(out, m.id[:]...), trace[:]...), span[:]...)
	}
	return out
}

// Arrived takes what came beside a batch of a peer, before the batch is taken in. The caller
// reports whether it is durable here. Input of another form is ignored.
func (t *Tracer) Arrived(beside []byte) (durable func(error)) {
	if t == nil || len(beside) < wireHeader+wireMessage || len(beside) > MaxWireBytes || beside[0] != wireVersion ||
		(len(beside)-wireHeader)%wireMessage != 0 {
		return func(error) {}
	}
	now := time.Now()
	batch := chain.Hash(beside[1:wireHeader])
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.batches[batch]) > 0 {
		return func(error) {} // it came before, from its author or from another
	}
	var came []*message
	for rest := beside[wireHeader:]; len(rest) > 0; rest = rest[wireMessage:] {
		parent := otel.NewSpanContext(otel.SpanContextConfig{
			TraceID: otel.TraceID(rest[32:48]), SpanID: otel.SpanID(rest[48:56]), TraceFlags: otel.FlagsSampled, Remote: true,
		})
		if !parent.IsValid() || !t.room(now, maxFromPeers) || !t.arrivals.AllowN(now, 1) {
			continue
		}
		m := &message{id: chain.Hash(rest[:32]), parent: parent, batch: batch, began: now, held: now}
		t.batches[batch] = append(t.batches[batch], m)
		t.follow(m)
		came = append(came, m)
	}
	t.count()
	return func(err error) { t.kept(came, err) }
}

// kept says how a batch fared that came from a peer. A refused one may come again.
func (t *Tracer) kept(came []*message, err error) {
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, m := range came {
		t.span(m, spanReceive, m.began, now, err, batchOf(m))
		m.held = now
		if err != nil {
			t.drop(m)
		}
	}
	t.count()
}

// Received notes the proposals that a peer sent.
func (t *Tracer) Received(b *chain.Bundle) {
	if t == nil || len(b.Proposals) == 0 {
		return
	}
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, p := range b.Proposals {
		t.proposed(p, now)
	}
}

// proposed returns the block of a proposal. The caller holds mu.
func (t *Tracer) proposed(p *chain.Proposal, now time.Time) *block {
	if known := t.block(p.Statement.Block); known != nil {
		return known
	}
	if len(t.blocks) >= maxBlocks {
		t.blocks = slices.Delete(t.blocks, 0, 1) // clears what it leaves behind
	}
	b := &block{
		hash: p.Statement.Block, height: p.Statement.Height, round: p.Statement.Round, body: p.Block.Body, last: now,
		sent: map[chain.Kind]bool{},
	}
	t.blocks = append(t.blocks, b)
	return b
}

// block returns the proposed block of a hash, nil if none is known. The caller holds mu.
func (t *Tracer) block(hash chain.Hash) *block {
	if i := slices.IndexFunc(t.blocks, func(b *block) bool { return b.hash == hash }); i >= 0 {
		return t.blocks[i]
	}
	return nil
}

// Sent notes the proposals and votes that this node sends to all. They are durable here already.
func (t *Tracer) Sent(b *chain.Bundle) {
	if t.idle() || len(b.Proposals)+len(b.Votes) == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	for _, p := range b.Proposals {
		t.stated(t.proposed(p, now), chain.Propose, now)
	}
	for i := range b.Votes {
		if voted := t.block(b.Votes[i].Block); voted != nil {
			t.stated(voted, b.Votes[i].Kind, now)
		}
	}
}

// statements are the spans that end with a statement of this node.
var statements = map[chain.Kind]string{chain.Propose: spanPropose, chain.Notarize: spanNotarize, chain.Finalize: spanFinalize}

// stated notes that this node proposes a block or votes for it. It may say so again later. The
// caller holds mu.
func (t *Tracer) stated(b *block, kind chain.Kind, now time.Time) {
	name := statements[kind]
	if name == "" || b.sent[kind] {
		return
	}
	b.sent[kind] = true
	for _, ref := range b.body {
		for _, m := range t.batches[ref.Hash] {
			from := b.last
			if kind == chain.Propose {
				from = m.held
			}
			t.span(m, name, from, now, nil, b.attributes()...)
		}
	}
	b.last = now
}

// Final says that a block is final and durable here.
func (t *Tracer) Final(height uint64, hash chain.Hash, body []chain.BatchRef) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	b := t.block(hash)
	if b == nil { // this node caught up with it
		b = &block{height: height}
	}
	for _, ref := range body {
		for _, m := range t.batches[ref.Hash] {
			from := b.last
			if from.IsZero() {
				from = m.held
			}
			t.span(m, spanCommit, from, now, nil, b.attributes()...)
			m.over = true
			t.live--
			t.end(m)
		}
		delete(t.batches, ref.Hash)
	}
	t.blocks = slices.DeleteFunc(t.blocks, func(b *block) bool { return b.height <= height })
	t.count()
}

// end keeps a final message for its receipt, in the place of the oldest. The caller holds mu.
func (t *Tracer) end(m *message) {
	if len(t.ended) >= maxFinal {
		if t.final[t.ended[0].id] == t.ended[0] {
			delete(t.final, t.ended[0].id)
		}
		t.ended = t.ended[1:]
	}
	t.final[m.id] = m
	t.ended = append(t.ended, m)
}

// Receipts begins to make the receipts of these messages. The caller reports the end. The first
// receipt of a message at a node belongs to its trace.
func (t *Tracer) Receipts(ids []chain.Hash) (made func(error)) {
	if t == nil || t.receipts.Load() == 0 {
		return func(error) {}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	var asked []*message
	for _, id := range ids {
		if m := t.final[id]; m != nil {
			asked = append(asked, m)
			delete(t.final, id)
		}
	}
	t.count()
	began := time.Now()
	return func(err error) {
		now := time.Now()
		for _, m := range asked {
			t.span(m, spanReceipt, began, now, err)
		}
	}
}

func batchOf(m *message) attribute.KeyValue { return attribute.String("diseq.batch", m.batch.String()) }

func (b *block) attributes() []attribute.KeyValue {
	return []attribute.KeyValue{attribute.Int64("diseq.height", int64(b.height)), attribute.Int64("diseq.round", int64(b.round))}
}
