package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strconv"

	"github.com/diseq/diseq/node/chain"
)

// Block is a final block.
type Block struct {
	Header     chain.Header `json:"header"`
	HeaderHash chain.Hash   `json:"header_hash"`
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
	if err := c.get(ctx, "/v1/blocks/"+height, out); err != nil {
		return nil, err
	}
	return out, nil
}

// Blocks returns a page of at most limit final blocks from a height on, and the height at which the
// next page starts.
func (c *Client) Blocks(ctx context.Context, from uint64, limit int) (blocks []Block, next uint64, err error) {
	var page struct {
		Blocks []Block `json:"blocks"`
		Next   uint64  `json:"next"`
	}
	if err := c.get(ctx, fmt.Sprintf("/v1/blocks?from=%d&limit=%d", from, limit), &page); err != nil {
		return nil, 0, err
	}
	return page.Blocks, page.Next, nil
}

// Live is the height to stream from for new blocks only.
const Live = math.MaxUint64

// Stream calls each with the final blocks from a height on, in order and without a gap, then with
// each new one as it becomes final. It ends with the error of each, or of ctx. A connection that
// breaks is made again, where it broke; but the node must be reached once.
func (c *Client) Stream(ctx context.Context, from uint64, each func(*Block) error) error {
	return c.Lines(ctx, from, func(_ uint64, line []byte) error {
		b := &Block{}
		if err := json.Unmarshal(line, b); err != nil {
			return fmt.Errorf("stream: %w", err)
		}
		return each(b)
	})
}

// Lines is Stream for those who want the blocks as the lines of JSON that they come as, without the
// line feed. A line is only valid until each returns.
func (c *Client) Lines(ctx context.Context, from uint64, each func(height uint64, line []byte) error) error {
	s := &stream{client: c, next: from, each: each}
	for {
		err := s.follow(ctx)
		switch {
		case s.err != nil:
			return s.err
		case ctx.Err() != nil:
			return ctx.Err()
		case !s.reached:
			return err
		}
		wait := backoff(s.failures)
		if refused, ok := errors.AsType[*Error](err); ok {
			if !refused.Temporary() {
				return err
			}
			wait = max(wait, refused.RetryAfter)
		}
		s.failures++
		if err := pause(ctx, wait); err != nil {
			return err
		}
	}
}

// A stream is where a reader of blocks stands.
type stream struct {
	client *Client
	next   uint64
	each   func(uint64, []byte) error
	// err ends the stream: it is the reader's, or the node broke its word.
	err      error
	reached  bool
	failures int // since the last line
}

// follow reads one connection to its end.
func (s *stream) follow(ctx context.Context) (err error) {
	path := "/v1/stream"
	if s.next != Live {
		path += "?from=" + strconv.FormatUint(s.next, 10)
	}
	response, err := s.client.send(ctx, http.MethodGet, path, "", "application/x-ndjson", nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, response.Body.Close()) }()
	s.reached = true
	in := bufio.NewReaderSize(response.Body, 64<<10)
	var line []byte
	for {
		if line, err = readLine(in, line[:0]); err != nil {
			return err
		}
		if len(line) == 0 {
			continue
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
		s.next, s.failures = height+1, 0
	}
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
		Header *struct{ Height *uint64 }
	}
	if err := json.Unmarshal(line, &b); err != nil {
		return 0, err
	}
	if b.Header == nil || b.Header.Height == nil {
		return 0, errors.New("a line without the height of its block")
	}
	return *b.Header.Height, nil
}
