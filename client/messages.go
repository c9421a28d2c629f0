package client

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/diseq/diseq/node/chain"
)

// The bounds of one submit request.
const (
	maxRequestMessages = 10_000
	maxRequestBytes    = 8 << 20
	// maxReceipts is how many receipts an answer has at most.
	maxReceipts = 256
)

const batchType = "application/vnd.diseq.batch"

// Result is the answer to one submitted message.
type Result struct {
	ID chain.Hash `json:"id"`
	// Status is "pending" or "final".
	Status string `json:"status"`
	// Receipt is there if it was waited for and the message is final, unless the answer would have
	// been too long.
	Receipt *chain.Receipt `json:"receipt,omitempty"`
}

// Final reports whether the message has its place in the chain.
func (r *Result) Final() bool { return r.Status == "final" }

// Submit submits messages in their order, result i for messages[i]. When it returns without error
// all of them are durable. As many as fit share a request, and a request is accepted whole or not
// at all: after an error the results are those of the requests before it, and
// messages[len(results):] may be submitted again.
func (c *Client) Submit(ctx context.Context, messages ...[]byte) ([]Result, error) {
	return c.submit(ctx, false, maxRequestMessages, messages)
}

const (
	// waitAtATime is how long one request waits: proxies cut off a longer silence.
	waitAtATime = 20 * time.Second
	// waitMargin is the part of a deadline that is left for the answer: it says that the messages
	// are accepted, which a request that is cut off does not.
	waitMargin = 200 * time.Millisecond
)

// waitFor returns how long a request of ctx may wait.
func waitFor(ctx context.Context) time.Duration {
	if deadline, ok := ctx.Deadline(); ok {
		return min(waitAtATime, time.Until(deadline)-waitMargin).Truncate(time.Millisecond)
	}
	return waitAtATime
}

// SubmitWait submits messages and waits until all are final, or ctx ends. Every result has its
// receipt. After an error the results are the last known ones: those without a receipt are
// accepted, and may be submitted again to wait on.
func (c *Client) SubmitWait(ctx context.Context, messages ...[]byte) ([]Result, error) {
	results, err := c.submit(ctx, true, maxRequestMessages, messages)
	for err == nil {
		var left []int
		var again [][]byte
		for i := range results {
			if results[i].Receipt == nil {
				left, again = append(left, i), append(again, messages[i])
			}
		}
		if len(left) == 0 {
			return results, nil
		}
		if err = ctx.Err(); err == nil && waitFor(ctx) <= 0 {
			err = context.DeadlineExceeded
		}
		if err == nil {
			var later []Result
			later, err = c.submit(ctx, true, maxReceipts, again)
			for i, r := range later {
				results[left[i]] = r
			}
		}
		if err != nil {
			err = fmt.Errorf("all %d messages are accepted, %d not known to be final: %w", len(messages), missing(results), err)
		}
	}
	return results, err
}

// missing returns how many results have no receipt.
func missing(results []Result) (count int) {
	for i := range results {
		if results[i].Receipt == nil {
			count++
		}
	}
	return count
}

// submit submits messages, at most so many in a request.
func (c *Client) submit(ctx context.Context, wait bool, most int, messages [][]byte) ([]Result, error) {
	results := make([]Result, 0, len(messages))
	for len(results) < len(messages) {
		first := len(results)
		body, count := encodeBatch(messages[first:], most)
		var answer struct {
			Results []Result `json:"results"`
		}
		err := c.do(ctx, request{
			method: http.MethodPost, path: "/v1/messages", contentType: batchType, body: body, wait: wait, out: &answer, repeatable: true,
		})
		if refused, ok := errors.AsType[*Error](err); ok && refused.Status == http.StatusRequestEntityTooLarge && count > 1 {
			most = count / 2 // the node's share of its pool is smaller than a request may be
			continue
		}
		if err != nil {
			if first > 0 {
				err = fmt.Errorf("after %d messages: %w", first, err)
			}
			return results, err
		}
		if len(answer.Results) != count {
			return results, fmt.Errorf("submit: the node answered with %d results for %d messages", len(answer.Results), count)
		}
		for i, r := range answer.Results {
			if want := (chain.Message{Data: messages[first+i]}).ID(); r.ID != want {
				return results, fmt.Errorf("submit: message %d has id %v, the node answered %v", first+i, want, r.ID)
			}
		}
		results = append(results, answer.Results...)
	}
	return results, nil
}

// encodeBatch encodes as many messages as fit in a request, at least one and at most so many:
// repeated uvarint length and that many bytes.
func encodeBatch(messages [][]byte, most int) (body []byte, count int) {
	for _, m := range messages {
		if count > 0 && (count == most || len(body)+binary.MaxVarintLen64+len(m) > maxRequestBytes) {
			break
		}
		body = binary.AppendUvarint(body, uint64(len(m)))
		body = append(body, m...)
		count++
	}
	return body, count
}

// Message is the state of a message.
type Message struct {
	ID     chain.Hash `json:"id"`
	Status string     `json:"status"`
	// Height and Index are its place in the chain; nil while it is pending.
	Height    *uint64 `json:"height,omitempty"`
	Index     *uint32 `json:"index,omitempty"`
	Data      []byte  `json:"data"`
	Timestamp uint32  `json:"timestamp"`
}

// Message returns the state of a message; see [NotFound] for one that the node has never seen.
func (c *Client) Message(ctx context.Context, id chain.Hash) (*Message, error) {
	out := &Message{}
	if err := c.do(ctx, get("/v1/messages/"+id.String(), out)); err != nil {
		return nil, err
	}
	return out, nil
}

// Receipt returns the receipt of a final message, not verified. It has every change of the
// validator set since genesis. While the message is pending the error is an [Error] of status 409.
func (c *Client) Receipt(ctx context.Context, id chain.Hash) (*chain.Receipt, error) {
	return c.ReceiptAbove(ctx, id, 0)
}

// ReceiptAbove is Receipt for a reader that has the validator set of a generation: the changes up
// to that set are left out.
func (c *Client) ReceiptAbove(ctx context.Context, id chain.Hash, generation uint32) (*chain.Receipt, error) {
	out := &chain.Receipt{}
	if err := c.do(ctx, get("/v1/messages/"+id.String()+"/receipt"+above(generation), out)); err != nil {
		return nil, err
	}
	return out, nil
}
