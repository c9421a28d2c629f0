package peer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/diseq/diseq/node/chain"
)

// A pong is the end of what was sent before it: that is what the synchrony wait rests on.
//
// Promise 1.
func TestAPongComesBehindAllThatWasSentBeforeIt(t *testing.T) {
	genesis := testGenesis(2)
	a, b := newNode(t, 0, genesis), newNode(t, 1, genesis)
	start(t, a, b)
	for round := range uint64(20) {
		const votes = 200
		for i := range uint64(votes) {
			b.Broadcast(&chain.Bundle{Votes: []chain.Vote{testVote(1, round*votes+i+1)}})
		}
		a.Ping(publicKey(1), round+1)
		p := receive(t, a.pongs)
		if p.number != round+1 || p.from != publicKey(1) || p.lost != 0 {
			t.Fatalf("pong %+v, want number %d with nothing lost", p, round+1)
		}
		heard := 0
		for len(a.bundles) > 0 {
			heard += len(receive(t, a.bundles).value.Votes)
		}
		if heard != votes {
			t.Fatalf("%d votes before the pong, want %d", heard, votes)
		}
	}
	a.Ask()
	if from := receive(t, b.asks); from != publicKey(0) {
		t.Errorf("%v asks, want node 0", from)
	}
}

// A loss on a link that went down is reported with the next pong.
//
// Promise 1.
func TestAPongTellsOfLosses(t *testing.T) {
	genesis := testGenesis(2)
	a, b := newNode(t, 0, genesis), newNode(t, 1, genesis)
	start(t, a, b)
	a.Ping(publicKey(1), 1)
	before := receive(t, a.pongs)
	l, err := b.link(publicKey(0))
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.current()
	if err != nil {
		t.Fatal(err)
	}
	s.end(errors.New("cut for the test"))
	receive(t, b.downs)
	receive(t, b.ups)
	a.Ping(publicKey(1), 2)
	if after := receive(t, a.pongs); after.number != 2 || after.lost != before.lost+1 {
		t.Errorf("pong %+v after %+v, want one loss more", after, before)
	}
}

// A link that is replaced, because the peer's address changed, goes on counting: what was queued on
// the old one is lost, and the peer, whose own link stayed up, learns of it in no other way.
//
// Promise 1.
func TestAPongTellsOfLossesOnALinkThatWasReplaced(t *testing.T) {
	genesis := testGenesis(2)
	a, b := newNode(t, 0, genesis), newNode(t, 1, genesis)
	start(t, a, b)
	a.Ping(publicKey(1), 1)
	before := receive(t, a.pongs)
	renamed := a.peer
	renamed.Name = "moved"
	b.SetPeers([]Peer{renamed, b.peer})
	receive(t, b.downs)
	receive(t, b.ups)
	a.Ping(publicKey(1), 2)
	if after := receive(t, a.pongs); after.number != 2 || after.lost != before.lost+1 {
		t.Errorf("pong %+v after %+v, want one loss more", after, before)
	}
	if len(a.downs) > 0 {
		t.Error("the other link went down: the test shows nothing")
	}
}

// The last endorsement that a peer sends is the newest one. It says whose link it came on.
func TestAnEndorsementComesFromTheEndorsersOwnLink(t *testing.T) {
	a, b := pair(t)
	for i := byte(1); i <= 3; i++ {
		a.Endorse(publicKey(1), &chain.Endorsed{Generation: uint32(i), Next: chain.Hash{i}})
	}
	var last delivery[*chain.Endorsed]
	for last.value == nil || last.value.Generation < 3 {
		last = receive(t, b.endorsed)
		if last.peer != publicKey(0) || last.value.Next != (chain.Hash{byte(last.value.Generation)}) {
			t.Fatalf("endorsement %+v from %v, want one of node 0", last.value, last.peer)
		}
	}
	a.Endorse(publicKey(1), &chain.Endorsed{Generation: 4})
	eventually(t, "the sender of a forged endorsement is put out", func() bool { return b.rejected(t, reasonMalformed) == 1 })
}

func TestFourNodesExchangeBundles(t *testing.T) {
	genesis := testGenesis(4)
	var nodes []*node
	for i := range 4 {
		nodes = append(nodes, newNode(t, i, genesis))
	}
	start(t, nodes...)
	for i, n := range nodes {
		n.Broadcast(&chain.Bundle{
			Certificates: []*chain.Certificate{testCertificate(uint64(i + 1))},
			Proposals:    []*chain.Proposal{testProposal(uint64(i + 1))},
			Votes:        []chain.Vote{testVote(i, uint64(i+1))},
		})
	}
	for i, n := range nodes {
		certificates, proposals, votes := map[chain.PublicKey]uint64{}, map[chain.PublicKey]uint64{}, map[chain.PublicKey]uint64{}
		for len(certificates) < 3 || len(proposals) < 3 || len(votes) < 3 {
			d := receive(t, n.bundles)
			for _, c := range d.value.Certificates {
				certificates[d.peer] = c.Height
			}
			for _, p := range d.value.Proposals {
				proposals[d.peer] = p.Statement.Height
			}
			for _, v := range d.value.Votes {
				if err := v.Verify("test", genesis.Set()); err != nil {
					t.Errorf("vote arrived changed: %v", err)
				}
				votes[d.peer] = v.Height
			}
		}
		for j := range nodes {
			want := uint64(j + 1)
			if j == i {
				want = 0 // a node hears nothing from itself
			}
			key := publicKey(j)
			if certificates[key] != want || proposals[key] != want || votes[key] != want {
				t.Errorf("node %d heard heights %d, %d, %d of node %d, want %d", i, certificates[key], proposals[key], votes[key], j, want)
			}
		}
	}
	for _, info := range nodes[0].Peers() {
		if !info.Up || !info.Inbound || info.LastHeard.IsZero() || info.Version != "test-1" || info.Error != "" {
			t.Errorf("peer %+v, want it up, connected, heard, of version test-1", info)
		}
	}
	if n := len(nodes[0].Peers()); n != 3 {
		t.Errorf("node 0 has %d peers, want 3", n)
	}
	if up := nodes[0].metric(t, "diseq_peer_link_up"); up != 3 {
		t.Errorf("diseq_peer_link_up adds up to %v, want 3", up)
	}
}

func TestVotesKeepTheirOrder(t *testing.T) {
	a, b := pair(t)
	const votes = 3000 // never more than the queue holds
	vote := testVote(0, 1)
	for h := range votes {
		vote.Height = uint64(h + 1)
		a.Send(b.peer.Key, &chain.Bundle{Votes: []chain.Vote{vote}})
	}
	next := uint64(1)
	for next <= votes {
		for _, v := range receive(t, b.bundles).value.Votes {
			if v.Height != next {
				t.Fatalf("vote of height %d, want %d", v.Height, next)
			}
			next++
		}
	}
}

func TestALargeBundleTravelsInPieces(t *testing.T) {
	a, b := pair(t)
	bundle := &chain.Bundle{}
	for h := range 1500 {
		bundle.Certificates = append(bundle.Certificates, testCertificate(uint64(h+1)))
		bundle.Votes = append(bundle.Votes, testVote(0, uint64(h+1)))
	}
	a.Broadcast(bundle)
	certificates, votes, pieces := 0, 0, 0
	for certificates < 1500 || votes < 1500 {
		d := receive(t, b.bundles)
		certificates, votes, pieces = certificates+len(d.value.Certificates), votes+len(d.value.Votes), pieces+1
		if n := len(d.value.Certificates) + len(d.value.Votes); n > maxFrameItems {
			t.Errorf("a frame of %d certificates and votes, at most %d are allowed", n, maxFrameItems)
		}
	}
	if pieces < 2 {
		t.Errorf("%d certificates and %d votes came in %d piece", certificates, votes, pieces)
	}
}

// Promise 19.
func TestABatchIsAcknowledgedWhenTheHandlerSaysSo(t *testing.T) {
	a, b := pair(t)
	durable := make(chan struct{})
	b.guard.Lock()
	b.onBatch = func(context.Context, []byte) error { <-durable; return nil }
	b.guard.Unlock()
	want := map[chain.Hash]bool{}
	var started [][]byte
	for i := range 20 {
		_, hash, encoded := testBatch(0, uint64(i+1), 1000)
		want[hash] = true
		started = append(started, encoded)
		if full := a.PushBatch(hash, encoded); full != nil {
			t.Fatalf("no room at %v", full)
		}
		if full := a.PushBatch(hash, encoded); full != nil { // again: not sent twice
			t.Fatalf("no room at %v", full)
		}
	}
	eventually(t, "all batches are under way at once", func() bool { return b.metric(t, "diseq_peer_frames_total", "direction=in", "kind=batch") == 20 })
	select {
	case d := <-a.acks:
		t.Fatalf("batch %v acknowledged before it is durable", d.value.hash)
	default:
	}
	close(durable)
	for range 20 {
		d := receive(t, a.acks)
		if !want[d.value.hash] || d.value.err != nil || d.peer != b.peer.Key {
			t.Fatalf("acknowledgement %+v of %v", d.value, d.peer)
		}
		delete(want, d.value.hash)
	}
	for range 20 {
		d := receive(t, b.batches)
		if !slices.ContainsFunc(started, func(e []byte) bool { return bytes.Equal(e, d.value) }) {
			t.Fatal("a batch arrived changed")
		}
	}
	if n := b.metric(t, "diseq_peer_frames_total", "direction=in", "kind=batch"); n != 20 {
		t.Errorf("%v batches arrived, want 20: each once", n)
	}
}

// beside is what travels beside batches, and what became of it.
type beside struct {
	sent    []byte
	arrived chan []byte
	fared   chan error
}

func (b *beside) Beside(chain.Hash) []byte { return b.sent }

func (b *beside) Arrived(came []byte) func(error) {
	b.arrived <- came
	return func(err error) { b.fared <- err }
}

// The bytes beside a batch arrive with it, up to a bound. A batch that has more of them counts all
// the same.
func TestTracesTravelBesideBatches(t *testing.T) {
	for length, want := range map[int]int{0: 0, 100: 100, maxTraceBytes: maxTraceBytes, maxTraceBytes + 1: 0} {
		traces := &beside{sent: bytes.Repeat([]byte{7}, length), arrived: make(chan []byte, 1), fared: make(chan error, 1)}
		a, b := pair(t, func(c *Config, _ *settings) { c.Traces = traces })
		refused := errors.New("share is full")
		b.guard.Lock()
		b.onBatch = func(context.Context, []byte) error { return refused }
		b.guard.Unlock()
		_, hash, encoded := testBatch(0, 1, 100)
		a.PushBatch(hash, encoded)
		if came := receive(t, traces.arrived); len(came) != want || want > 0 && !bytes.Equal(came, traces.sent) {
			t.Errorf("of %d bytes beside a batch %d arrive, want %d", length, len(came), want)
		}
		if err := receive(t, traces.fared); !errors.Is(err, refused) {
			t.Errorf("the batch fared as %v", err)
		}
		receive(t, a.acks)
	}
}

func TestARefusedBatchIsReportedWithItsReason(t *testing.T) {
	a, b := pair(t)
	b.guard.Lock()
	b.onBatch = func(context.Context, []byte) error {
		return errors.New("share is full\nlevel=ERROR " + strings.Repeat("x", 1000))
	}
	b.guard.Unlock()
	_, hash, encoded := testBatch(0, 1, 100)
	a.PushBatch(hash, encoded)
	d := receive(t, a.acks)
	if d.value.hash != hash || d.value.err == nil || !strings.Contains(d.value.err.Error(), "share is full?level") {
		t.Fatalf("acknowledgement %+v, want a printable refusal", d.value)
	}
	if n := len(d.value.err.Error()); n > 300 {
		t.Errorf("refusal of %d bytes", n)
	}
	// It may be pushed again.
	b.guard.Lock()
	b.onBatch = nil
	b.guard.Unlock()
	if err := a.Push(t.Context(), b.peer.Key, hash, encoded); err != nil {
		t.Fatal(err)
	}
	if d := receive(t, a.acks); d.value.err != nil {
		t.Fatalf("refused again: %v", d.value.err)
	}
}

func TestAFullPushWindowSaysSoAndPushWaitsForRoom(t *testing.T) {
	a, b := pair(t, func(_ *Config, s *settings) { s.pushCount = 4 })
	durable := make(chan struct{})
	b.guard.Lock()
	b.onBatch = func(context.Context, []byte) error { <-durable; return nil }
	b.guard.Unlock()
	for i := range 4 {
		_, hash, encoded := testBatch(0, uint64(i+1), 100)
		if full := a.PushBatch(hash, encoded); full != nil {
			t.Fatalf("batch %d: no room at %v", i, full)
		}
	}
	_, hash, encoded := testBatch(0, 5, 100)
	if full := a.PushBatch(hash, encoded); !slices.Equal(full, []chain.PublicKey{b.peer.Key}) {
		t.Fatalf("full are %v, want the one peer", full)
	}
	if n := a.metric(t, "diseq_peer_dropped_total", "kind=batch"); n != 1 {
		t.Errorf("diseq_peer_dropped_total is %v, want 1", n)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := a.Push(ctx, b.peer.Key, hash, encoded); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("Push into a full window: %v, want it to wait", err)
	}
	pushed := make(chan error, 1)
	go func() { pushed <- a.Push(t.Context(), b.peer.Key, hash, encoded) }()
	close(durable)
	if err := receive(t, pushed); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		receive(t, a.acks)
	}
}

func TestCommitIsAnswered(t *testing.T) {
	a, b := pair(t)
	c := &chain.Commitment{Epoch: 3, Validator: 1, Output: [32]byte{9}, Proof: []byte("proof")}
	if err := a.Commit(t.Context(), b.peer.Key, c); err != nil {
		t.Fatal(err)
	}
	if d := receive(t, b.commitments); d.peer != a.peer.Key || d.value.Hash() != c.Hash() {
		t.Errorf("commitment %+v of %v", d.value, d.peer)
	}
	err := a.Commit(t.Context(), b.peer.Key, &chain.Commitment{})
	if err == nil || !strings.Contains(err.Error(), "epoch 0 is over") {
		t.Errorf("refused commitment: %v, want the handler's reason", err)
	}
}

// Promise 16.
func TestStatusIsSignedOverTheNonce(t *testing.T) {
	a, b := pair(t)
	s, err := a.Transport.Status(t.Context(), b.peer.Key, chain.Hash{5})
	if err != nil {
		t.Fatal(err)
	}
	if s.Height != 7 || s.Validator != b.peer.Key {
		t.Errorf("status %+v", s)
	}
	b.recorder.key = testKey(9) // as if it passed on another's answer
	if _, err := a.Transport.Status(t.Context(), b.peer.Key, chain.Hash{5}); err == nil {
		t.Error("a status signed by another node is accepted")
	}
	if a.rejected(t, reasonAnswer) != 1 {
		t.Error("the wrong answer is not counted")
	}
}

func TestFetchBlock(t *testing.T) {
	a, b := pair(t)
	block := testBlock(4)
	b.blocks[block.Hash()] = block.Encode()
	got, err := a.Transport.Block(t.Context(), b.peer.Key, block.Hash())
	if err != nil || got.Hash() != block.Hash() {
		t.Fatalf("block %v, %v", got, err)
	}
	if _, err := a.Transport.Block(t.Context(), b.peer.Key, chain.Hash{8}); !errors.Is(err, ErrNotHeld) {
		t.Errorf("unknown block: %v, want ErrNotHeld", err)
	}
	b.guard.Lock()
	b.blocks[chain.Hash{8}] = block.Encode()
	b.guard.Unlock()
	if _, err := a.Transport.Block(t.Context(), b.peer.Key, chain.Hash{8}); err == nil {
		t.Error("a block with another hash is accepted")
	}
}

func TestFetchBatches(t *testing.T) {
	a, b := pair(t)
	var hashes, want []chain.Hash
	for i := range 10 {
		_, hash, encoded := testBatch(1, uint64(i+1), 100)
		hashes = append(hashes, hash)
		if i%3 != 0 { // the peer does not hold all
			b.held[hash] = encoded
			want = append(want, hash)
		}
	}
	fetch := func() (got []chain.Hash, err error) {
		err = a.Batches(t.Context(), b.peer.Key, hashes, func(hash chain.Hash, encoded []byte) error {
			decoded, err := chain.DecodeBatch(encoded, 1<<20)
			if err != nil || decoded.Hash("test") != hash {
				return fmt.Errorf("batch %v: %v", hash, err)
			}
			got = append(got, hash)
			return nil
		})
		return got, err
	}
	got, err := fetch()
	if err != nil || !slices.Equal(got, want) {
		t.Fatalf("fetched %v, %v, want %v", got, err, want)
	}
	_, _, other := testBatch(1, 99, 100)
	b.guard.Lock()
	b.held[hashes[0]] = other
	b.guard.Unlock()
	if _, err := fetch(); err == nil {
		t.Error("a batch that was not asked for is accepted")
	}
	stop := errors.New("stop")
	b.guard.Lock()
	delete(b.held, hashes[0])
	b.guard.Unlock()
	err = a.Batches(t.Context(), b.peer.Key, hashes, func(chain.Hash, []byte) error { return stop })
	if !errors.Is(err, stop) {
		t.Errorf("the error of yield came back as %v", err)
	}
	if err := a.Batches(t.Context(), b.peer.Key, make([]chain.Hash, MaxFetchBatches+1), nil); err == nil {
		t.Error("more batches than allowed may be asked for")
	}
}

func finalBlock(height uint64, size int) []byte {
	f := &chain.FinalBlock{Block: *testBlock(height), Messages: []chain.Message{{Data: make([]byte, size)}}, Certificate: *testCertificate(height)}
	return f.Encode()
}

func TestFetchFinalBlocks(t *testing.T) {
	a, b := pair(t, func(_ *Config, s *settings) { s.fetchBytes = 40_000 })
	for h := uint64(1); h <= 30; h++ {
		b.final[h] = finalBlock(h, 1000)
	}
	var got []uint64
	fetch := func(from uint64, limit int) error {
		got = nil
		return a.Blocks(t.Context(), b.peer.Key, from, limit, func(f *chain.FinalBlock) error {
			got = append(got, f.Header.Height)
			return nil
		})
	}
	if err := fetch(3, 4); err != nil || !slices.Equal(got, []uint64{3, 4, 5, 6}) {
		t.Errorf("blocks from 3, at most 4: %v, %v", got, err)
	}
	if err := fetch(29, 0); err != nil || !slices.Equal(got, []uint64{29, 30}) {
		t.Errorf("blocks from 29: %v, %v: want those that there are", got, err)
	}
	if err := fetch(31, 0); err != nil || got != nil {
		t.Errorf("blocks from above the end: %v, %v", got, err)
	}
	if err := fetch(1, 0); err != nil || len(got) >= 30 || len(got) < 10 {
		t.Errorf("%d blocks, %v: want the answer to end at its byte limit", len(got), err)
	}
	b.guard.Lock()
	b.final[2] = finalBlock(7, 10)
	b.guard.Unlock()
	if err := fetch(1, 0); err == nil || !slices.Equal(got, []uint64{1}) {
		t.Errorf("a gap in the heights is accepted: %v, %v", got, err)
	}
}

func TestAFailingProviderDoesNotTellStrangersWhy(t *testing.T) {
	a, b := pair(t)
	b.guard.Lock()
	b.onBatch = nil
	b.guard.Unlock()
	s := &service{Transport: b.Transport}
	in := &inbound{gate: b.gate, guest: b.gate.guests[a.peer.Key]}
	err := s.failed("blocks", in, errors.New("disk I/O error at /secret/path"))
	if err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("the peer gets %v", err)
	}
	if !b.logged("disk I/O error") {
		t.Error("the operator gets no log line")
	}
}

func TestWithoutALinkCallsFailAtOnce(t *testing.T) {
	a, _ := pair(t)
	stranger := publicKey(9)
	if err := a.Commit(t.Context(), stranger, &chain.Commitment{}); !errors.Is(err, ErrLinkDown) {
		t.Errorf("Commit: %v, want ErrLinkDown", err)
	}
	if err := a.Push(t.Context(), stranger, chain.Hash{}, nil); !errors.Is(err, ErrLinkDown) {
		t.Errorf("Push: %v, want ErrLinkDown", err)
	}
	if _, err := a.Transport.Status(t.Context(), stranger, chain.Hash{}); !errors.Is(err, ErrLinkDown) {
		t.Errorf("Status: %v, want ErrLinkDown", err)
	}
	// lost, like any frame without a link
	a.Send(stranger, &chain.Bundle{Votes: []chain.Vote{testVote(0, 1)}})
}
