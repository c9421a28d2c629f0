package peer

import (
	"context"
	"io"
	"testing"

	"google.golang.org/grpc"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/peer/peerpb"
)

// liar answers every call with the same bytes, streams with as many pieces as it is told.
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

// FuzzAnswers has a peer answer anything to everything that is asked of it: nothing comes of it but what was asked for.
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
		}) // what it says of the answer is looked at by the tests of each call
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
