package client

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"

	"github.com/cenkalti/backoff/v5"

	"github.com/diseq/diseq/internal/document"
	"github.com/diseq/diseq/node/chain"
)

// Block is a final block.
type Block struct {
	Header     chain.Header `json:"header"`
	HeaderHash chain.Hash   `json:"header_hash"`
	// Signature is the proposer's; nil at height 0. Commitment is the VRF commitment that the block
	// reveals, Change the change of the validator set that it carries; nil if it has none.
	Signature  *chain.Signature  `json:"signature"`
	Commitment *chain.Commitment `json:"commitment"`
	Change     *chain.Change     `json:"change"`
	// Certificate is nil at height 0, which is genesis.
	Certificate *chain.ReceiptCertificate `json:"certificate"`
	Messages    []chain.ReceiptMessage    `json:"messages"`
}

// Block returns the final block at a height.
func (c *Client) Block(ctx context.Context, height uint64) (*Block, error) {
	return c.block(ctx, strconv.FormatUint(height, 10))
}

// LatestBlock returns the newest final block.
func (c *Client) LatestBlock(ctx context.Context) (*Block, error) { return c.block(ctx, "latest") }

func (c *Client) block(ctx context.Context, height string) (*Block, error) {
	out := &Block{}
	if err := c.do(ctx, get("/v1/blocks/"+height, out)); err != nil {
		return nil, err
	}
	return out, nil
}

// Blocks returns a page of at most limit final blocks from a height on, and the height at which the
// next page starts.
func (c *Client) Blocks(ctx context.Context, from uint64, limit int) (blocks []Block, next uint64, err error) {
	return c.page(ctx, fmt.Sprintf("/v1/blocks?from=%d&limit=%d", from, limit))
}

func (c *Client) page(ctx context.Context, path string) (blocks []Block, next uint64, err error) {
	var page struct {
		Blocks []Block `json:"blocks"`
		Next   uint64  `json:"next"`
	}
	if err := c.do(ctx, get(path, &page)); err != nil {
		return nil, 0, err
	}
	return page.Blocks, page.Next, nil
}

// Headers is Blocks without the messages.
func (c *Client) Headers(ctx context.Context, from uint64, limit int) (blocks []Block, next uint64, err error) {
	return c.page(ctx, fmt.Sprintf("/v1/blocks?from=%d&limit=%d&messages=false", from, limit))
}

// Live is the height to stream from for new blocks only.
const Live = math.MaxUint64

// Stream calls each with the final blocks from a height on, in order and without a gap, then with
// each new one as it becomes final. It ends with the error of each, or of ctx. A connection that
// breaks is opened again where it broke, at the next node if there are several; but one node must
// answer to begin with, if only with a refusal for the moment. If no node can read a block, the
// error is the node's.
func (c *Client) Stream(ctx context.Context, from uint64, each func(*Block) error) error {
	return c.Lines(ctx, from, func(height uint64, line []byte) error {
		b := &Block{}
		if err := document.UnmarshalAnswer(line, b); err != nil {
			return fmt.Errorf("stream: %w", err)
		}
		if b.Header.Height != height {
			return fmt.Errorf("stream: block %d came where block %d was due", b.Header.Height, height)
		}
		return each(b)
	})
}

// Lines is Stream for readers that take the blocks as the lines of JSON that the node sends,
// without the line feed. A line is only valid until each returns.
func (c *Client) Lines(ctx context.Context, from uint64, each func(height uint64, line []byte) error) error {
	s := &stream{client: c, next: from, each: each, pauses: newPauses()}
	for {
		node := c.current.Load()
		err := s.follow(ctx, c.nodes[node])
		switch {
		case s.err != nil:
			return s.err
		case ctx.Err() != nil:
			return ctx.Err()
		}
		refused, ok := errors.AsType[*Error](err)
		s.reached = s.reached || ok
		if ok && !refused.Temporary() {
			s.refusals++
		}
		c.leave(node)
		if s.failures++; s.failures%len(c.nodes) != 0 {
			continue // another node may do better at once
		}
		if !s.reached || s.refusals >= len(c.nodes) {
			return err
		}
		s.refusals = 0
		wait := s.pauses.NextBackOff()
		if ok {
			wait = max(wait, min(refused.RetryAfter, maxPause))
		}
		if c.Retrying != nil {
			c.Retrying(err, wait)
		}
		if err := pause(ctx, wait); err != nil {
			return err
		}
	}
}

// A stream is where a reader of blocks is.
type stream struct {
	client *Client
	next   uint64
	each   func(uint64, []byte) error
	pauses *backoff.ExponentialBackOff
	// err ends the stream: it is the reader's, or a node did not keep to the order.
	err     error
	reached bool
	// failures counts the connections that ended since the last line, refusals those that the node
	// ended in a way that time does not cure.
	failures, refusals int
}

// positionHeader is where a node says which block a stream begins with, before there is one.
const positionHeader = "Diseq-Stream-From"

// follow reads one connection to its end.
func (s *stream) follow(ctx context.Context, node string) (err error) {
	path := "/v1/stream"
	if s.next != Live {
		path += "?from=" + strconv.FormatUint(s.next, 10)
	}
	response, err := s.client.send(ctx, node, get(path, nil), "application/x-ndjson")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, response.Body.Close()) }()
	s.reached = true
	if s.next == Live {
		if from, err := strconv.ParseUint(response.Header.Get(positionHeader), 10, 64); err == nil {
			s.next = from
		}
	}
	in := bufio.NewReaderSize(response.Body, 64<<10)
	var line []byte
	for {
		if line, err = readLine(in, line[:0]); err != nil {
			return err
		}
		if len(line) == 0 {
			continue
		}
		if failed := streamError(line); failed != nil {
			return failed
		}
		height, err := lineHeight(line)
		if err == nil && s.next != Live && height != s.next {
			err = fmt.Errorf("block %d came where block %d was due", height, s.next)
		}
		if err != nil {
			s.err = fmt.Errorf("stream: %w", err)
			return s.err
		}
		if s.err = s.each(height, line); s.err != nil {
			return s.err
		}
		s.next, s.failures, s.refusals = height+1, 0, 0
		s.pauses.Reset()
	}
}

// streamError returns the error that a node ends a stream with, nil if the line is a block.
func streamError(line []byte) error {
	if bytes.HasPrefix(line, []byte(`{"error":`)) {
		if told := decodeError(line); told != nil {
			return told
		}
	}
	return nil
}

// readLine reads up to a line feed and leaves it out. The end of the connection is an error, also
// inside a line.
func readLine(in *bufio.Reader, line []byte) ([]byte, error) {
	for {
		part, err := in.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case err == nil:
			return line[:len(line)-1], nil
		case !errors.Is(err, bufio.ErrBufferFull):
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		case len(line) > maxAnswer:
			return nil, fmt.Errorf("stream: a line is longer than %d bytes", maxAnswer)
		}
	}
}

// lineHeight finds the height of a block in JSON. A node writes the header first, so that there is
// no need to read on.
func lineHeight(line []byte) (uint64, error) {
	if bytes.HasPrefix(line, []byte(`{"header":{"protocol_version":`)) {
		head := line[:min(len(line), 512)]
		if _, after, ok := bytes.Cut(head, []byte(`,"height":`)); ok {
			if end := bytes.IndexByte(after, ','); end > 0 {
				if height, err := strconv.ParseUint(string(after[:end]), 10, 64); err == nil {
					return height, nil
				}
			}
		}
	}
	var b struct {
		Header *struct {
			Height *uint64 `json:"height"`
		} `json:"header"`
	}
	if err := document.UnmarshalAnswer(line, &b); err != nil {
		return 0, err
	}
	if b.Header == nil || b.Header.Height == nil {
		return 0, errors.New("a line without the height of its block")
	}
	return *b.Header.Height, nil
}
