package peer

import (
	"bytes"
	"context"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/peer/peerpb"
)

// liar answers every call with the same bytes, and streams with as many pieces as it was made for.
type liar struct {
	peerpb.PeerClient
	answer []byte
	pieces int
}

func (l liar) Status(context.Context, *peerpb.StatusRequest, ...grpc.CallOption) (*peerpb.SignedStatus, error) {
	return &peerpb.SignedStatus{Status: l.answer}, nil
}

func (l liar) Block(context.Context, *peerpb.BlockRequest, ...grpc.CallOption) (*peerpb.BlockBody, error) {
	return &peerpb.BlockBody{Block: l.answer}, nil
}

func (l liar) Batches(context.Context, *peerpb.BatchesRequest, ...grpc.CallOption) (grpc.ServerStreamingClient[peerpb.Batch], error) {
	return &pieces[peerpb.Batch]{left: l.pieces, of: &peerpb.Batch{Batch: l.answer}}, nil
}

func (l liar) Blocks(context.Context, *peerpb.BlocksRequest, ...grpc.CallOption) (grpc.ServerStreamingClient[peerpb.FinalBlock], error) {
	return &pieces[peerpb.FinalBlock]{left: l.pieces, of: &peerpb.FinalBlock{Block: l.answer}}, nil
}

// pieces is a stream of the same thing again and again.
type pieces[T any] struct {
	grpc.ServerStreamingClient[T]
	left int
	of   *T
}

func (p *pieces[T]) Recv() (*T, error) {
	if p.left == 0 {
		return nil, io.EOF
	}
	p.left--
	return p.of, nil
}

// FuzzAnswers has a peer answer anything to everything that is asked of it: nothing comes of it but
// what was asked for.
//
// Promise 37.
func FuzzAnswers(f *testing.F) {
	genesis := testGenesis(2)
	asker, err := New(Config{Key: testKey(0), Genesis: genesis}, newRecorder(testKey(0)))
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(asker.Close)
	from := publicKey(1)
	open := &session{ctx: f.Context()}
	l := asker.newLink(Peer{Name: "liar", Key: from}, nil)
	asker.mu.Lock()
	asker.links[from] = l
	asker.mu.Unlock()
	l.mu.Lock()
	l.session = open
	l.mu.Unlock()

	nonce := chain.Hash{9}
	status := &chain.Status{Nonce: nonce, Height: 1, Block: chain.Hash{1}}
	status.Sign(testKey(1), genesis.ChainID)
	block := testBlock(1)
	_, hash, batch := testBatch(1, 1, 10)
	final := finalBlock(3, 10)
	for _, answer := range [][]byte{status.Encode(), block.Encode(), batch, final, nil} {
		f.Add(answer, uint8(1))
		f.Add(answer, uint8(3))
	}
	f.Fuzz(func(t *testing.T, answer []byte, count uint8) {
		open.consensus = liar{answer: answer}
		open.bulk = liar{answer: answer, pieces: int(count)}
		if s, err := asker.Status(t.Context(), from, nonce); err == nil && *s != *status {
			t.Errorf("status %+v, which the peer never signed", s)
		}
		if b, err := asker.Block(t.Context(), from, block.Hash()); err == nil && b.Hash() != block.Hash() {
			t.Errorf("block %v for %v", b.Hash(), block.Hash())
		}
		yielded := 0
		_ = asker.Batches(t.Context(), from, []chain.Hash{{1}, hash, {2}}, func(got chain.Hash, encoded []byte) error {
			// The hash does not cover the signature, which whoever asked has yet to verify.
			b, err := chain.DecodeBatch(encoded, len(encoded))
			if yielded++; got != hash || yielded > 1 || err != nil || b.Hash(genesis.ChainID) != hash {
				t.Errorf("batch %v is given, the %d., asked for was %v: %v", got, yielded, hash, err)
			}
			return nil
		}) // the tests of each call look at its text
		next := uint64(3)
		_ = asker.Blocks(t.Context(), from, next, 2, func(b *chain.FinalBlock) error {
			if b.Header.Height != next || next > 4 {
				t.Errorf("block of height %d, want %d of 3 and 4", b.Header.Height, next)
			}
			next++
			return nil
		}) // as above
	})
}

// wire is a connection of which only the end is seen.
type wire struct {
	net.Conn
	once  sync.Once
	ended chan struct{}
}

func (w *wire) Close() error {
	w.once.Do(func() { close(w.ended) })
	return nil
}

// replies is a stream of answers.
type replies[T any] struct {
	grpc.ServerStream
	ctx context.Context
	got []*T
}

func (a *replies[T]) Context() context.Context { return a.ctx }

func (a *replies[T]) Send(m *T) error {
	a.got = append(a.got, m)
	return nil
}

// pushing is a stream of one batch, which ends when that is acknowledged or the connection ends.
type pushing struct {
	replies[peerpb.Acks]
	batch *peerpb.PushedBatch
	acked chan struct{}
	ended <-chan struct{}
}

func (p *pushing) Send(m *peerpb.Acks) error {
	defer close(p.acked)
	return p.replies.Send(m)
}

func (p *pushing) Recv() (*peerpb.PushedBatch, error) {
	if b := p.batch; b != nil {
		p.batch = nil
		return b, nil
	}
	select {
	case <-p.acked:
	case <-p.ended:
	}
	return nil, io.EOF
}

// taken returns what a handler was given since, nil if nothing was.
func taken[T any](from chan delivery[T]) (value T) {
	select {
	case d := <-from:
		return d.value
	default:
		return value
	}
}

// fuzzedBytes is the least that an answer of a stream holds before it ends.
const fuzzedBytes = 300

// served is what a peer asks the node of FuzzCalls for, and what that holds.
type served struct {
	*recorder
	service *service
}

// call makes a call with those bytes as the request. It reports whether they were fit for it, by
// the protocol's rules, and the call's error.
func (s *served) call(ctx context.Context, t *testing.T, w *wire, call uint8, b []byte) (fit bool, err error) {
	read := func(m proto.Message) bool { return proto.Unmarshal(b, m) == nil }
	hash := func(b []byte) chain.Hash { return chain.Hash(append(b, make([]byte, 32)...)[:32]) }
	same := func(what string, got, want [][]byte) {
		if !slices.EqualFunc(got, want, bytes.Equal) {
			t.Errorf("%s: %d answers %x, want %d %x", what, len(got), got, len(want), want)
		}
	}
	switch call % 7 {
	case 0:
		request := &peerpb.BatchesRequest{}
		if !read(request) {
			return true, nil
		}
		var want [][]byte
		size := 0
		fit = len(request.Hashes) <= MaxFetchBatches
		for _, h := range request.Hashes {
			if !fit || size >= fuzzedBytes {
				break
			}
			if fit = len(h) == 32; fit && s.held[hash(h)] != nil {
				want = append(want, s.held[hash(h)])
				size += len(s.held[hash(h)])
			}
		}
		stream := &replies[peerpb.Batch]{ctx: ctx}
		err = s.service.Batches(request, stream)
		var got [][]byte
		for _, m := range stream.got {
			got = append(got, m.Batch)
		}
		same("batches", got, want)
	case 1:
		request := &peerpb.BlocksRequest{}
		if !read(request) {
			return true, nil
		}
		var want [][]byte
		if fit = request.From > 0 && request.Limit <= MaxFetchBlocks; fit {
			size := 0
			for h := request.From; s.final[h] != nil && size < fuzzedBytes && (request.Limit == 0 || len(want) < int(request.Limit)); h++ {
				want = append(want, s.final[h])
				size += len(s.final[h])
			}
		}
		stream := &replies[peerpb.FinalBlock]{ctx: ctx}
		err = s.service.Blocks(request, stream)
		var got [][]byte
		for _, m := range stream.got {
			got = append(got, m.Block)
		}
		same("blocks", got, want)
	case 2:
		request := &peerpb.BlockRequest{}
		if !read(request) {
			return true, nil
		}
		var body *peerpb.BlockBody
		body, err = s.service.Block(ctx, request)
		fit = len(request.Hash) == 32
		want := s.blocks[hash(request.Hash)]
		if fit && want == nil && status.Code(err) == codes.NotFound {
			return true, nil
		}
		if fit {
			same("block", [][]byte{body.GetBlock()}, [][]byte{want})
		}
	case 3:
		request := &peerpb.StatusRequest{}
		if !read(request) {
			return true, nil
		}
		var signed *peerpb.SignedStatus
		signed, err = s.service.Status(ctx, request)
		if fit = len(request.Nonce) == 32; fit {
			st, decodeErr := chain.DecodeStatus(signed.GetStatus())
			if decodeErr != nil || st.Validator != publicKey(0) || st.Verify("test", hash(request.Nonce)) != nil {
				t.Errorf("status %+v for the nonce %x: %v", st, request.Nonce, decodeErr)
			}
		}
	case 4:
		request := &peerpb.Proposal{}
		if !read(request) {
			return true, nil
		}
		_, err = s.service.Propose(ctx, request)
		_, decodeErr := chain.DecodeProposal(request.Proposal)
		fit = decodeErr == nil
		if got := taken(s.bundles); (got != nil) != fit || fit && !bytes.Equal(got.Proposals[0].Encode(), request.Proposal) {
			t.Errorf("proposal %x is handed over as %+v", request.Proposal, got)
		}
	case 5:
		request := &peerpb.Commitment{}
		if !read(request) {
			return true, nil
		}
		_, err = s.service.Commit(ctx, request)
		c, decodeErr := chain.DecodeCommitment(request.Commitment)
		fit = decodeErr == nil
		if got := taken(s.commitments); (got != nil) != fit || fit && !bytes.Equal(got.Encode(), request.Commitment) {
			t.Errorf("commitment %x is handed over as %+v", request.Commitment, got)
		}
		if fit && c.Epoch == 0 && status.Code(err) == codes.Aborted {
			return true, nil // which the recorder refuses
		}
	case 6:
		request := &peerpb.PushedBatch{}
		if !read(request) {
			return true, nil
		}
		stream := &pushing{replies: replies[peerpb.Acks]{ctx: ctx}, batch: request, acked: make(chan struct{}), ended: w.ended}
		err = s.service.Push(stream)
		_, decodeErr := chain.DecodeBatch(request.Batch, len(request.Batch))
		fit = decodeErr == nil
		if got := taken(s.batches); (got != nil) != fit || !fit && len(stream.got) > 0 || fit && !bytes.Equal(got, request.Batch) {
			t.Errorf("batch %x is handed over as %x, with %d acknowledgements", request.Batch, got, len(stream.got))
		}
		if want := (&peerpb.Acks{Acks: []*peerpb.Ack{{Sequence: request.Sequence}}}); fit && !proto.Equal(stream.got[0], want) {
			t.Errorf("batch %d is acknowledged with %v", request.Sequence, stream.got[0])
		}
		if !fit && err == nil { // the strike alone tells
			err = status.Error(codes.InvalidArgument, "")
		}
	}
	return fit, err
}

// FuzzCalls has a peer call anything with anything: what is unfit puts it out and reaches nobody;
// else it has what it asked for, or what it says is handed over as it was said.
//
// Promise 37.
func FuzzCalls(f *testing.F) {
	s := &served{recorder: newRecorder(testKey(0))}
	s.onBatch = func(_ context.Context, encoded []byte) error {
		_, err := chain.DecodeBatch(encoded, len(encoded))
		return err
	}
	settings := testSettings()
	settings.fetchBytes = fuzzedBytes
	n, err := newTransport(Config{Key: testKey(0), Genesis: testGenesis(2)}, s.recorder, settings)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(n.Close)
	s.service = &service{Transport: n}
	var hashes [][]byte
	for i := range uint64(4) {
		_, hash, encoded := testBatch(1, i+1, 20)
		s.held[hash] = encoded
		hashes = append(hashes, hash[:], make([]byte, 32))
		s.final[i+1] = finalBlock(i+1, 10)
	}
	block := testBlock(1)
	blockHash := block.Hash()
	s.blocks[blockHash] = block.Encode()
	_, _, batch := testBatch(1, 1, 10)
	commitment := &chain.Commitment{Epoch: 1}
	for call, requests := range [][]proto.Message{
		{&peerpb.BatchesRequest{Hashes: hashes}, &peerpb.BatchesRequest{Hashes: [][]byte{hashes[2], {1}}}},
		{&peerpb.BlocksRequest{From: 1}, &peerpb.BlocksRequest{From: 2, Limit: 2}, &peerpb.BlocksRequest{Limit: 300}},
		{&peerpb.BlockRequest{Hash: blockHash[:]}, &peerpb.BlockRequest{Hash: hashes[0]}, &peerpb.BlockRequest{Hash: make([]byte, 33)}},
		{&peerpb.StatusRequest{Nonce: hashes[0]}, &peerpb.StatusRequest{}},
		{&peerpb.Proposal{Proposal: testProposal(1).Encode()}, &peerpb.Proposal{Proposal: testProposal(1).Encode()[1:]}},
		{&peerpb.Commitment{Commitment: commitment.Encode()}, &peerpb.Commitment{Commitment: []byte{1}}},
		{&peerpb.PushedBatch{Sequence: 7, Batch: batch}, &peerpb.PushedBatch{Sequence: 8, Batch: batch[:40]},
			&peerpb.PushedBatch{Sequence: 9, Batch: batch, Trace: make([]byte, maxTraceBytes+1)}},
	} {
		for _, m := range requests {
			b, err := proto.Marshal(m)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(uint8(call), b)
		}
	}
	f.Fuzz(func(t *testing.T, call uint8, b []byte) {
		w := &wire{ended: make(chan struct{})}
		g := newGuest(n.settings)
		g.peer = Peer{Key: publicKey(1), Name: "node-1"}
		in := &inbound{Conn: w, gate: n.gate, key: g.peer.Key, guest: g, deadline: time.NewTimer(time.Hour)}
		in.admitted.Store(true)
		g.connections = []*inbound{in}
		ctx := peer.NewContext(t.Context(), &peer.Peer{AuthInfo: in})
		fit, err := s.call(ctx, t, w, call, b)
		if out := len(g.connections) == 0; fit == out || g.strikes > 1 {
			t.Errorf("call %d with %x: fit %v, put out %v with %d strikes", call, b, fit, out, g.strikes)
		}
		if fit && err != nil || !fit && status.Code(err) != codes.InvalidArgument {
			t.Errorf("call %d with %x: fit %v, error %v", call, b, fit, err)
		}
		if text := status.Convert(err).Message(); text != printable(text, maxRefusalBytes) {
			t.Errorf("call %d with %x: the error %q", call, b, text)
		}
		if len(g.fetches) > 0 {
			t.Errorf("call %d with %x is over and counts as under way", call, b)
		}
	})
}
