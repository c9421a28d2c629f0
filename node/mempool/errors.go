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

// MinFreeDisk is the free disk space, in bytes, below which the pool accepts nothing: the rest of
// the disk is kept for voting.
const MinFreeDisk = 512 << 20

// Errors that callers tell apart. They may be wrapped.
var (
	// ErrEmpty says that a submission has no messages. Every [EmptyError] wraps it.
	ErrEmpty = errors.New("mempool: no message")
	// ErrTooMany says that a submission exceeds MaxSubmitMessages, MaxSubmitBytes or this node's
	// share of the pool. It never fits: the same messages are accepted in smaller requests.
	ErrTooMany = errors.New("mempool: the request is too large")
	// ErrStorageLow says that fewer than MinFreeDisk bytes are free. The node goes on voting.
	ErrStorageLow = errors.New("mempool: storage is low")
	// ErrShare says that the author of a batch has filled its share of the pool. The peer may try
	// again later.
	ErrShare = errors.New("mempool: the author's share of the pool is full")
	// ErrAuthor says that the author of a batch may not push batches: it is not in the set, as far
	// as this node has come, and not one of the peers that left it. The peer may try again later.
	// It also says that this node is not in the set and accepts no messages.
	ErrAuthor = errors.New("mempool: unknown author")
	// ErrLeft says that this node left the set, and that the messages did not become final in time.
	// They may still become final.
	ErrLeft = errors.New("mempool: this node left the validator set, and the messages did not become final in time")
	// ErrEquivocation says that the pool holds two other batches of the same author and number.
	ErrEquivocation = errors.New("mempool: too many batches of one number")
	// ErrHeight says that a call is about another height than the one after the pool's last
	// committed block.
	ErrHeight = errors.New("mempool: wrong height")
	// ErrBody says that no valid block has such a body, by rules that are the same on every node.
	ErrBody = errors.New("mempool: invalid body")
	// ErrClosed says that the pool is closed.
	ErrClosed = errors.New("mempool: closed")
)

// errObserver is an ErrAuthor about this node.
var errObserver = fmt.Errorf("%w: this node is an observer and accepts no messages", ErrAuthor)

// EmptyError says that a submitted message has no data.
type EmptyError struct {
	// Index is the message's place in the request.
	Index int
}

// Error implements error.
func (e *EmptyError) Error() string { return fmt.Sprintf("message %d is empty", e.Index) }

// Unwrap returns [ErrEmpty].
func (e *EmptyError) Unwrap() error { return ErrEmpty }

// TooLargeError says that a submitted message is longer than the chain allows.
type TooLargeError struct {
	// Index is the message's place in the request, Size its length in bytes and Limit the chain's
	// max_message_bytes.
	Index, Size, Limit int
}

// Error implements error.
func (e *TooLargeError) Error() string {
	return fmt.Sprintf("message %d has %d bytes, at most %d are allowed", e.Index, e.Size, e.Limit)
}

// FullError says that this node's share of the pool has no room for the request now, or that what
// it holds has waited for too long already.
type FullError struct {
	// RetryAfter is when a retry makes sense.
	RetryAfter time.Duration
}

// Error implements error.
func (e *FullError) Error() string {
	return fmt.Sprintf("mempool: full, try again in %v", e.RetryAfter)
}
