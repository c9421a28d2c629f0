package mempool

import (
	"errors"
	"fmt"
	"time"
)

// The limits of one call of [Pool.Submit].
const (
	// MaxSubmitMessages is the largest number of messages.
	MaxSubmitMessages = 10_000
	// MaxSubmitBytes bounds the data of all messages together.
	MaxSubmitBytes = 8 << 20
)

// MinFreeDisk is the free disk space, in bytes, below which nothing is accepted: what is left is
// kept for voting.
const MinFreeDisk = 512 << 20

// Errors that callers tell apart. They may be wrapped.
var (
	// ErrEmpty is wrapped by every [EmptyError]; alone it says that no messages were given. HTTP
	// 400.
	ErrEmpty = errors.New("mempool: no message")
	// ErrTooMany: more than MaxSubmitMessages or MaxSubmitBytes in one call. HTTP 413.
	ErrTooMany = fmt.Errorf("mempool: more than %d messages or %d bytes in one request", MaxSubmitMessages, MaxSubmitBytes)
	// ErrStorageLow: less than MinFreeDisk bytes are free. HTTP 503; the node goes on voting.
	ErrStorageLow = errors.New("mempool: storage is low")
	// ErrShare: the batch's author has filled its share of the pool. The peer may try again later.
	ErrShare = errors.New("mempool: the author's share of the pool is full")
	// ErrAuthor: the batch is of an author that is none of Config.Authors.
	ErrAuthor = errors.New("mempool: unknown author")
	// ErrEquivocation: two other batches with the same author and number are held already.
	ErrEquivocation = errors.New("mempool: too many batches of one number")
	// ErrHeight: the call is about another height than the one after the pool's last committed
	// block.
	ErrHeight = errors.New("mempool: wrong height")
	// ErrBody is wrapped when a body cannot be of a valid block, by rules that are the same on
	// every node.
	ErrBody = errors.New("mempool: invalid body")
	// ErrClosed is returned after Close.
	ErrClosed = errors.New("mempool: closed")
)

// EmptyError says that a submitted message has no data. HTTP 400.
type EmptyError struct {
	// Index is the message's place in the request.
	Index int
}

// Error implements error.
func (e *EmptyError) Error() string { return fmt.Sprintf("message %d is empty", e.Index) }

// Unwrap returns [ErrEmpty].
func (e *EmptyError) Unwrap() error { return ErrEmpty }

// TooLargeError says that a submitted message is longer than the chain allows. HTTP 413.
type TooLargeError struct {
	// Index is the message's place in the request, Size its length in bytes and Limit the chain's
	// max_message_bytes.
	Index, Size, Limit int
}

// Error implements error.
func (e *TooLargeError) Error() string {
	return fmt.Sprintf("message %d has %d bytes, at most %d are allowed", e.Index, e.Size, e.Limit)
}

// FullError says that this node's share of the pool has no room for the request. HTTP 429.
type FullError struct {
	// RetryAfter is when trying again makes sense.
	RetryAfter time.Duration
}

// Error implements error.
func (e *FullError) Error() string {
	return fmt.Sprintf("mempool: full, try again in %v", e.RetryAfter)
}
