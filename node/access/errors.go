package access

import (
	"fmt"
	"time"
)

// Reason says in which way a request is refused.
type Reason int

const (
	// Unauthenticated says that a credential is missing, or wrong.
	Unauthenticated Reason = iota
	// Forbidden says that the client is known, and has not the right.
	Forbidden
	// Quota says that the client has the right, and takes too much of the node.
	Quota
	// Reserved says that the rest of the node's disk is for clients with a name.
	Reserved
)

// Refusal is why a request is not admitted. The message is for the client.
type Refusal struct {
	Reason  Reason
	Message string
	// RetryAfter is when a retry makes sense, for Quota and Reserved.
	RetryAfter time.Duration
}

// Error implements error.
func (r *Refusal) Error() string { return r.Message }

func unauthenticated(format string, args ...any) *Refusal {
	return &Refusal{Reason: Unauthenticated, Message: fmt.Sprintf(format, args...)}
}

// String is the reason as metrics show it.
func (r Reason) String() string {
	switch r {
	case Unauthenticated:
		return "unauthenticated"
	case Forbidden:
		return "forbidden"
	case Quota:
		return "quota"
	default:
		return "reserved"
	}
}
