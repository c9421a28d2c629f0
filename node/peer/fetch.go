package peer

import (
	"context"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/peer/peerpb"
)

const (
	// MaxFetchBatches is the largest number of batches that one call may ask for.
	MaxFetchBatches = 1024
	// MaxFetchBlocks is the largest number of final blocks that one call may ask for.
	MaxFetchBlocks = 256

	// maxAnswerBytes bounds an answer that carries neither a batch nor a block with its messages.
	maxAnswerBytes = 2 << 20
)

// Commit hands a VRF commitment to one peer and returns nil once the peer has taken it.
func (t *Transport) Commit(ctx context.Context, to chain.PublicKey, c *chain.Commitment) error {
	s, err := t.session(to)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, t.settings.callTimeout)
	defer cancel()
	encoded := c.Encode()
	if _, err := s.consensus.Commit(ctx, &peerpb.Commitment{Commitment: encoded}); err != nil {
		return answered("commit", to, err)
	}
	t.reports.transferred(directionOut, kindCommitment, len(encoded))
	return nil
}

// Status asks a peer for its signed final height. The answer is verified: it is the peer's own,
// over nonce.
func (t *Transport) Status(ctx context.Context, from chain.PublicKey, nonce chain.Hash) (*chain.Status, error) {
	s, err := t.session(from)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, t.settings.callTimeout)
	defer cancel()
	answer, err := s.consensus.Status(ctx, &peerpb.StatusRequest{Nonce: nonce[:]})
	if err != nil {
		return nil, answered("status", from, err)
	}
	st, err := chain.DecodeStatus(answer.GetStatus())
	if err == nil && st.Validator != from {
		err = fmt.Errorf("signed by %v", st.Validator)
	}
	if err == nil {
		err = st.Verify(t.config.Genesis.ChainID, nonce)
	}
	if err != nil {
		return nil, t.wrong("status", from, err)
	}
	return st, nil
}

// Block fetches a block by its hash, without messages, from a peer; the hash is checked. The error
// wraps ErrNotHeld if the peer does not have it.
func (t *Transport) Block(ctx context.Context, from chain.PublicKey, hash chain.Hash) (*chain.Block, error) {
	s, err := t.session(from)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, t.settings.callTimeout)
	defer cancel()
	answer, err := s.consensus.Block(ctx, &peerpb.BlockRequest{Hash: hash[:]})
	if err != nil {
		return nil, answered("block", from, err)
	}
	b, err := chain.DecodeBlock(answer.GetBlock())
	if err == nil && b.Hash() != hash {
		err = fmt.Errorf("the block has hash %v, want %v", b.Hash(), hash)
	}
	if err != nil {
		return nil, t.wrong("block", from, err)
	}
	return b, nil
}

// Batches fetches those of the named batches that a peer holds and gives the encoding of each to
// yield, in the order asked for. At most MaxFetchBatches may be named; the peer may end the answer
// after 32 MiB. Hashes are checked, signatures are not. An error of yield ends the call and is
// returned.
func (t *Transport) Batches(
	ctx context.Context, from chain.PublicKey, hashes []chain.Hash, yield func(hash chain.Hash, encoded []byte) error,
) error {
	if len(hashes) > MaxFetchBatches {
		return fmt.Errorf("peer: %d batches asked for at once, at most %d allowed", len(hashes), MaxFetchBatches)
	}
	s, err := t.session(from)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, t.settings.fetchTimeout)
	defer cancel()
	request := &peerpb.BatchesRequest{Hashes: make([][]byte, len(hashes))}
	for i := range hashes {
		request.Hashes[i] = hashes[i][:]
	}
	stream, err := s.bulk.Batches(ctx, request, grpc.MaxCallRecvMsgSize(t.maxBatchBytes()+encodingSlackBytes))
	if err != nil {
		return answered("batches", from, err)
	}
	for {
		answer, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return answered("batches", from, err)
		}
		b, err := chain.DecodeBatch(answer.GetBatch(), t.maxBatchBytes())
		if err != nil {
			return t.wrong("batches", from, err)
		}
		hash := b.Hash(t.config.Genesis.ChainID)
		for len(hashes) > 0 && hashes[0] != hash {
			hashes = hashes[1:]
		}
		if len(hashes) == 0 {
			return t.wrong("batches", from, fmt.Errorf("batch %v is not asked for, or out of order", hash))
		}
		hashes = hashes[1:]
		if err := yield(hash, answer.GetBatch()); err != nil {
			return err
		}
	}
}

// Blocks fetches final blocks from a height upwards, at most limit (MaxFetchBlocks if 0), and gives
// each to yield in turn. The peer ends the answer where its chain does, or after 32 MiB. The
// heights follow each other without gaps; nothing else about a block is checked: see
// chain.FinalBlock.Verify. An error of yield ends the call and is returned.
func (t *Transport) Blocks(
	ctx context.Context, from chain.PublicKey, height uint64, limit int, yield func(*chain.FinalBlock) error,
) error {
	s, err := t.session(from)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, t.settings.fetchTimeout)
	defer cancel()
	if limit <= 0 || limit > MaxFetchBlocks {
		limit = MaxFetchBlocks
	}
	stream, err := s.bulk.Blocks(ctx, &peerpb.BlocksRequest{From: height, Limit: uint32(limit)},
		grpc.MaxCallRecvMsgSize(t.maxBatchBytes()+maxAnswerBytes))
	if err != nil {
		return answered("blocks", from, err)
	}
	for range limit {
		answer, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return answered("blocks", from, err)
		}
		b, err := chain.DecodeFinalBlock(answer.GetBlock(), t.maxBatchBytes())
		if err == nil && b.Header.Height != height {
			err = fmt.Errorf("block of height %d, want %d", b.Header.Height, height)
		}
		if err != nil {
			return t.wrong("blocks", from, err)
		}
		if err := yield(b); err != nil {
			return err
		}
		height++
	}
	return nil
}

func (t *Transport) session(with chain.PublicKey) (*session, error) {
	l, err := t.link(with)
	if err != nil {
		return nil, err
	}
	return l.current()
}

// answered wraps the error of a call.
func answered(call string, from chain.PublicKey, err error) error {
	if status.Code(err) == codes.NotFound {
		err = ErrNotHeld
	}
	return fmt.Errorf("peer %v: %s: %w", from, call, err)
}

// wrong reports an answer that does not fit the call.
func (t *Transport) wrong(call string, from chain.PublicKey, err error) error {
	err = fmt.Errorf("peer %v: wrong answer to %s: %w", from, call, err)
	if l, linkErr := t.link(from); linkErr == nil {
		t.reports.reject(reasonAnswer, &l.peer, err)
	}
	return err
}

// serving waits until the peer has fewer than maxFetches calls under way, so that it cannot keep
// the store busy alone.
func (s *service) serving(ctx context.Context) (in *inbound, release func(), err error) {
	in, err = admittedOn(ctx)
	if err != nil {
		return nil, nil, err
	}
	select {
	case in.guest.fetches <- struct{}{}:
		in.heard()
		return in, func() { <-in.guest.fetches }, nil
	case <-ctx.Done():
		return nil, nil, status.FromContextError(ctx.Err()).Err()
	}
}

// failed turns a provider's error into the call's: the text of a disk error is not for strangers.
func (s *service) failed(call string, in *inbound, err error) error {
	if errors.Is(err, ErrNotHeld) {
		return status.Error(codes.NotFound, ErrNotHeld.Error())
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return status.FromContextError(err).Err()
	}
	s.reports.providerFailed(call, in.from(), err)
	return status.Error(codes.Unavailable, call+" cannot be served at the moment")
}

func (s *service) hash(in *inbound, what string, b []byte) (chain.Hash, error) {
	if len(b) != len(chain.Hash{}) {
		return chain.Hash{}, s.malformed(in, fmt.Errorf("%w: %s of %d bytes, want 32", chain.ErrMalformed, what, len(b)))
	}
	return chain.Hash(b), nil
}

// Batches implements peerpb.PeerServer.
func (s *service) Batches(request *peerpb.BatchesRequest, stream grpc.ServerStreamingServer[peerpb.Batch]) error {
	ctx := stream.Context()
	in, release, err := s.serving(ctx)
	if err != nil {
		return err
	}
	defer release()
	if n := len(request.GetHashes()); n > MaxFetchBatches {
		return s.malformed(in, fmt.Errorf("%w: %d batches asked for, at most %d allowed", chain.ErrMalformed, n, MaxFetchBatches))
	}
	sent := 0
	for _, b := range request.GetHashes() {
		hash, err := s.hash(in, "batch hash", b)
		if err != nil {
			return err
		}
		encoded, err := s.handler.Batch(ctx, hash)
		if errors.Is(err, ErrNotHeld) {
			continue
		}
		if err != nil {
			return s.failed("batches", in, err)
		}
		if err := stream.Send(&peerpb.Batch{Batch: encoded}); err != nil {
			return err
		}
		if sent += len(encoded); sent >= s.settings.fetchBytes {
			return nil
		}
	}
	return nil
}

// Blocks implements peerpb.PeerServer.
func (s *service) Blocks(request *peerpb.BlocksRequest, stream grpc.ServerStreamingServer[peerpb.FinalBlock]) error {
	ctx := stream.Context()
	in, release, err := s.serving(ctx)
	if err != nil {
		return err
	}
	defer release()
	height, limit := request.GetFrom(), request.GetLimit()
	if height == 0 || limit > MaxFetchBlocks {
		return s.malformed(in, fmt.Errorf("%w: %d blocks from height %d asked for, at most %d from 1 allowed",
			chain.ErrMalformed, limit, height, MaxFetchBlocks))
	}
	if limit == 0 {
		limit = MaxFetchBlocks
	}
	sent := 0
	for range limit {
		encoded, err := s.handler.FinalBlock(ctx, height)
		if errors.Is(err, ErrNotHeld) {
			return nil
		}
		if err != nil {
			return s.failed("blocks", in, err)
		}
		if err := stream.Send(&peerpb.FinalBlock{Block: encoded}); err != nil {
			return err
		}
		if sent += len(encoded); sent >= s.settings.fetchBytes {
			return nil
		}
		height++
	}
	return nil
}

// Block implements peerpb.PeerServer.
func (s *service) Block(ctx context.Context, request *peerpb.BlockRequest) (*peerpb.BlockBody, error) {
	in, release, err := s.serving(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	hash, err := s.hash(in, "block hash", request.GetHash())
	if err != nil {
		return nil, err
	}
	encoded, err := s.handler.Block(ctx, hash)
	if err != nil {
		return nil, s.failed("block", in, err)
	}
	return &peerpb.BlockBody{Block: encoded}, nil
}

// Status implements peerpb.PeerServer.
func (s *service) Status(ctx context.Context, request *peerpb.StatusRequest) (*peerpb.SignedStatus, error) {
	in, release, err := s.serving(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	nonce, err := s.hash(in, "nonce", request.GetNonce())
	if err != nil {
		return nil, err
	}
	st, err := s.handler.Status(ctx, nonce)
	if err != nil {
		return nil, s.failed("status", in, err)
	}
	return &peerpb.SignedStatus{Status: st.Encode()}, nil
}
